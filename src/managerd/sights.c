/*
 * Which workers are looked at, and where they are reached; see sights.h. The looks themselves are sights_look.c.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "base/strbuf.h"
#include "managerd/log.h"
#include "managerd/sights_internal.h"

#define BEATS         10 /* an interval of health: looks begin at these */
#define URL_MAX_BYTES 4096

/* ---- workers come and go ---- */

static void let_go(struct sights *sights)
{
    if (--sights->n_handles > 0 || !sights->is_closing)
        return;
    void (*on_closed)(void *) = sights->on_closed;
    void *context = sights->closed_context;
    free(sights);
    if (on_closed)
        on_closed(context);
}

static void take_closed_client(void *context)
{
    let_go(context);
}

static void take_closed_timer(uv_handle_t *handle)
{
    struct sight *sight = handle->data;
    struct sights *sights = sight->sights;
    free(sight->health_url);
    free(sight->activity_url);
    free(sight);
    let_go(sights);
}

static void remove_sight(struct sight *sight)
{
    struct sights *sights = sight->sights;
    if (sight->is_waiting)
        TAILQ_REMOVE(&sights->waiting, sight, turn);
    if (sight->is_looking)
        sights->n_looking--;
    http_client_cancel(sight->call);
    LIST_REMOVE(sight, link);
    uv_close((uv_handle_t *)&sight->timer, take_closed_timer);
    sights_begin_turns(sights);
}

/* Where a worker of this host is reached: a wildcard is no address. NULL: no memory, or not an address. */
static char *url_of(const struct pool_worker_info *worker, const char *path)
{
    CLEANUP(strbuf_done) struct strbuf url = STRBUF_INIT(URL_MAX_BYTES);
    struct in6_addr v6;
    const char *host = worker->host;
    if (strcmp(host, "0.0.0.0") == 0 || strcmp(host, "localhost") == 0)
        host = "127.0.0.1";
    bool is_v6 = inet_pton(AF_INET6, host, &v6) == 1;
    if (is_v6 && IN6_IS_ADDR_UNSPECIFIED(&v6))
        host = "::1";
    bool is_whole = strbuf_printf(&url, is_v6 ? "http://[%s]:%" PRId64 "%s" : "http://%s:%" PRId64 "%s", host,
                                  worker->port, path);
    return is_whole ? strbuf_take(&url) : NULL;
}

/*
 * Phases of n workers are as far from each other as can be, for any n: multiples of the golden ratio. A few looks share a
 * beat: most of the cost of a look alone is that of waking up.
 */
static void choose_phase(struct sight *sight)
{
    struct sights *sights = sight->sights;
    uint32_t fraction = ++sights->n_phases * UINT32_C(2654435769);
    int64_t interval_ns = sights->options.health_interval_ms * NS_PER_MS;
    int64_t phase_ns = (int64_t)((double)interval_ns * ((double)fraction / 4294967296.0));
    int64_t now_ns = clock_boottime_ns();
    int64_t beat_ns = interval_ns / BEATS + 1;
    int64_t start_ns = now_ns - now_ns % beat_ns + beat_ns; /* the same for everybody */
    sight->next_health_ns = start_ns + phase_ns - phase_ns % beat_ns;
    sight->next_activity_ns = start_ns + (phase_ns - phase_ns % beat_ns) % sight_activity_interval_ns(sight);
    sight->quiet_since_ns = now_ns;
}

/* Whether it is healthy as far as looks at it tell: where it is, they do not. */
static bool answers(const struct pool_worker_info *worker)
{
    return worker->is_healthy || pool_worker_is_off_gpu(worker);
}

static struct sight *add_sight(struct sights *sights, const struct pool_worker_info *worker)
{
    const char *path = pool_activity_path(worker->activity);
    struct sight *sight = calloc(1, sizeof *sight);
    if (!sight)
        return NULL;
    sight->sights = sights;
    sight->activity = worker->activity;
    sight->idle_timeout_ms = worker->idle_timeout_ms;
    sight->is_healthy = answers(worker);
    snprintf(sight->worker_id, sizeof sight->worker_id, "%s", worker->worker_id);
    snprintf(sight->health_reason, sizeof sight->health_reason, "%s",
             worker->health_reason && !sight->is_healthy ? worker->health_reason : "");
    sight->health_url = worker->ready_path ? url_of(worker, worker->ready_path) : NULL;
    sight->activity_url = path ? url_of(worker, path) : NULL;
    if ((worker->ready_path && !sight->health_url) || (path && !sight->activity_url)) {
        free(sight->health_url);
        free(sight->activity_url);
        free(sight);
        return NULL;
    }
    uv_timer_init(sights->loop, &sight->timer); /* can not fail */
    sight->timer.data = sight;
    sights->n_handles++;
    LIST_INSERT_HEAD(&sights->all, sight, link);
    choose_phase(sight);
    return sight;
}

static struct sight *find(const struct sights *sights, const char *worker_id)
{
    struct sight *sight = LIST_FIRST(&sights->all);
    while (sight && strcmp(sight->worker_id, worker_id) != 0)
        sight = LIST_NEXT(sight, link);
    return sight;
}

static bool is_draining(const struct pool_worker_info *worker)
{
    return worker->status == POOL_WORKER_STOPPING && worker->stop_phase &&
           strcmp(worker->stop_phase, "drain") == 0;
}

/* Asks at once: what was seen before it may be of requests that came since. */
static void begin_drain(struct sight *sight)
{
    int64_t now_ns = clock_boottime_ns();
    sight->is_draining = true;
    sight->n_quiet = 0;
    sight->next_activity_ns = now_ns;
    if (!sight->activity_url)
        sight->drain_deadline_ns = now_ns;
    else if (sight->drain_deadline_ns == 0) /* one that an earlier daemon began */
        sight->drain_deadline_ns = now_ns + SIGHTS_DRAIN_TIMEOUT_MS * NS_PER_MS;
}

void sights_update(struct sights *sights, const struct pool_worker_info *worker)
{
    if (!sights || sights->is_closing)
        return;
    struct sight *sight = find(sights, worker->worker_id);
    bool is_drain = is_draining(worker);
    bool is_serving = worker->status == POOL_WORKER_READY || worker->status == POOL_WORKER_BUSY ||
                      worker->status == POOL_WORKER_IDLE;
    if (!is_serving && !is_drain) {
        if (sight)
            remove_sight(sight);
        return;
    }
    if (!sight)
        sight = add_sight(sights, worker);
    if (!sight) {
        log_tell(LOG_WORKER_UNWATCHED, &(struct log_fields){ .worker_id = worker->worker_id },
                 "no memory to look at %s; its next change tries again", worker->worker_id);
        return;
    }
    sight->status = worker->status;
    sight->is_row_healthy = answers(worker);
    if (is_drain && !sight->is_draining)
        begin_drain(sight);
    sight_schedule(sight);
}

bool sights_are_told_requests(const struct sights *sights, const char *worker_id)
{
    const struct sight *sight = find(sights, worker_id);
    return sight && sight->activity_url;
}

void sights_limit_drain(struct sights *sights, const char *worker_id, int64_t timeout_ms)
{
    struct sight *sight = find(sights, worker_id);
    if (!sight)
        return;
    sight->drain_deadline_ns = clock_boottime_ns() + timeout_ms * NS_PER_MS;
    sight_schedule(sight);
}

/* ---- opening and closing ---- */

enum pool_code sights_open(uv_loop_t *loop, const struct sights_options *options, struct sights **ret_sights,
                           struct pool_error *err)
{
    CLEANUP_FREE struct sights *sights = calloc(1, sizeof *sights);
    if (!sights)
        return pool_error_no_memory(err);
    sights->loop = loop;
    sights->options = *options;
    LIST_INIT(&sights->all);
    TAILQ_INIT(&sights->waiting);
    enum pool_code code = http_client_open(loop, &sights->client, err);
    if (code != POOL_OK)
        return code;
    sights->n_handles = 1;
    *ret_sights = take_ptr(&sights);
    return POOL_OK;
}

void sights_close(struct sights *sights, void (*on_closed)(void *context), void *context)
{
    if (!sights || sights->is_closing)
        return;
    sights->is_closing = true;
    sights->on_closed = on_closed;
    sights->closed_context = context;
    for (struct sight *sight; (sight = LIST_FIRST(&sights->all));)
        remove_sight(sight);
    http_client_close(sights->client, take_closed_client, sights);
}
