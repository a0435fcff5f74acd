/*
 * The conversation with the orchestrator; see heartbeat.h. Owns its beginning and its end; what goes on between is
 * heartbeat_lanes.c.
 */
#include "managerd/heartbeat.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "managerd/heartbeat_internal.h"

#define INTERVAL_MIN_MS INT64_C(10)
#define INTERVAL_MAX_MS (INT64_C(3600) * 1000)

void heartbeat_begin(struct heartbeat *heartbeat)
{
    if (heartbeat->sequence == 0)
        heartbeat_schedule_pool(heartbeat, 0);
}

struct heartbeat_counters heartbeat_counters(const struct heartbeat *heartbeat)
{
    struct heartbeat_counters counters = heartbeat->counters;
    counters.n_reports_queued = heartbeat->n_queued;
    return counters;
}

/* ---- the end ---- */

static void free_heartbeat(struct heartbeat **at)
{
    struct heartbeat *heartbeat = *at;
    if (!heartbeat)
        return;
    while (heartbeat->n_queued > 0)
        heartbeat_drop_first_report(heartbeat);
    heartbeat_token_done(&heartbeat->token);
    char *const texts[] = { heartbeat->register_url, heartbeat->beat_url,   heartbeat->pool_url,
                            heartbeat->failed_url,   heartbeat->token_file, heartbeat->pool_id,
                            heartbeat->epoch,        heartbeat->endpoint };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        free(texts[i]);
    free(heartbeat);
}

static void take_closed_part(void *ctx)
{
    struct heartbeat *heartbeat = ctx;
    if (--heartbeat->n_handles > 0)
        return;
    void (*on_closed)(void *) = heartbeat->on_closed;
    void *closed_ctx = heartbeat->closed_ctx;
    free_heartbeat(&heartbeat);
    if (on_closed)
        on_closed(closed_ctx);
}

static void take_closed_lane(uv_handle_t *handle)
{
    take_closed_part(((struct lane *)handle->data)->heartbeat);
}

static void take_closed_patience(uv_handle_t *handle)
{
    take_closed_part(handle->data);
}

static void let_go(struct heartbeat *heartbeat)
{
    if (heartbeat->has_let_go)
        return;
    heartbeat->has_let_go = true;
    heartbeat->n_handles = 4;
    uv_close((uv_handle_t *)&heartbeat->pool.timer, take_closed_lane);
    uv_close((uv_handle_t *)&heartbeat->reports.timer, take_closed_lane);
    uv_close((uv_handle_t *)&heartbeat->patience, take_closed_patience);
    http_client_close(heartbeat->client, take_closed_part, heartbeat);
}

static void take_end_of_patience(uv_timer_t *timer)
{
    let_go(timer->data);
}

/* Reports, then the good-bye, then nothing. */
void heartbeat_go_on_closing(struct heartbeat *heartbeat)
{
    struct lane *lane = &heartbeat->reports;
    if (lane->call || heartbeat->has_let_go)
        return;
    while (heartbeat->n_queued > 0 && !lane->call)
        heartbeat_send_report(heartbeat);
    if (lane->call)
        return;
    if (heartbeat->is_leaving && heartbeat->was_announced && heartbeat_send_leave(heartbeat))
        return;
    let_go(heartbeat);
}

void heartbeat_close(struct heartbeat *heartbeat, bool is_leaving, int64_t wait_ms,
                     void (*on_closed)(void *ctx), void *ctx)
{
    if (!heartbeat || heartbeat->is_closing)
        return;
    heartbeat->is_closing = true;
    heartbeat->is_leaving = is_leaving;
    heartbeat->on_closed = on_closed;
    heartbeat->closed_ctx = ctx;
    uv_update_time(heartbeat->loop);
    uv_timer_stop(&heartbeat->pool.timer);
    uv_timer_stop(&heartbeat->reports.timer);
    http_client_cancel(take_ptr(&heartbeat->pool.call));
    if (wait_ms <= 0) {
        let_go(heartbeat);
        return;
    }
    uv_timer_start(&heartbeat->patience, take_end_of_patience, (uint64_t)wait_ms, 0);
    heartbeat_go_on_closing(heartbeat);
}

/* ---- the beginning ---- */

static enum pool_code check_options(const struct heartbeat_options *options, struct pool_error *err)
{
    if (!http_client_url_is_usable(options->url) || strpbrk(options->url, "?#"))
        return pool_error_set(err, POOL_INVALID_CONFIG,
                              "%.200s: not a URL of an orchestrator (http or https, no user, no query)",
                              options->url);
    if (options->interval_ms < INTERVAL_MIN_MS || options->interval_ms > INTERVAL_MAX_MS)
        return pool_error_set(err, POOL_INVALID_CONFIG, "%" PRId64 " ms between heartbeats",
                              options->interval_ms);
    return POOL_OK;
}

static int64_t min_ms(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void set_times(struct heartbeat_options *options)
{
    if (options->timeout_ms <= 0)
        options->timeout_ms = HEARTBEAT_TIMEOUT_MS;
    if (options->backoff_min_ms <= 0)
        options->backoff_min_ms = min_ms(HEARTBEAT_BACKOFF_MIN_MS, options->interval_ms);
    if (options->backoff_max_ms <= 0)
        options->backoff_max_ms =
            options->interval_ms > HEARTBEAT_BACKOFF_MAX_MS ? options->interval_ms : HEARTBEAT_BACKOFF_MAX_MS;
}

/* A URL below the orchestrator's; NULL when memory is out. */
static char *make_url(const char *base, const char *path, const char *pool_id, const char *rest)
{
    int n_base = (int)strlen(base);
    while (n_base > 0 && base[n_base - 1] == '/')
        n_base--;
    char *id = curl_easy_escape(NULL, pool_id, 0);
    char *url = NULL;
    if (!id || asprintf(&url, "%.*s%s%s%s", n_base, base, path, id, rest) < 0)
        url = NULL;
    curl_free(id);
    return url;
}

static bool copy_texts(struct heartbeat *heartbeat, const struct heartbeat_options *options)
{
    heartbeat->register_url = make_url(options->url, "/v2/pools/register", "", "");
    heartbeat->failed_url = make_url(options->url, "/v2/internal/workers/failed", "", "");
    heartbeat->beat_url = make_url(options->url, "/v2/pools/", options->pool_id, "/heartbeat");
    heartbeat->pool_url = make_url(options->url, "/v2/pools/", options->pool_id, "");
    heartbeat->pool_id = strdup(options->pool_id);
    heartbeat->epoch = strdup(options->epoch);
    heartbeat->endpoint = strdup(options->endpoint);
    if (options->token_file)
        heartbeat->token_file = strdup(options->token_file);
    return heartbeat->register_url && heartbeat->failed_url && heartbeat->beat_url && heartbeat->pool_url &&
           heartbeat->pool_id && heartbeat->epoch && heartbeat->endpoint &&
           (!options->token_file || heartbeat->token_file);
}

static void open_lane(struct heartbeat *heartbeat, struct lane *lane)
{
    lane->heartbeat = heartbeat;
    uv_timer_init(heartbeat->loop, &lane->timer); /* can not fail */
    lane->timer.data = lane;
}

enum pool_code heartbeat_open(uv_loop_t *loop, const struct heartbeat_options *options,
                              struct heartbeat **ret_heartbeat, struct pool_error *err)
{
    enum pool_code code = check_options(options, err);
    if (code != POOL_OK)
        return code;
    CLEANUP(free_heartbeat) struct heartbeat *heartbeat = calloc(1, sizeof *heartbeat);
    if (!heartbeat || !copy_texts(heartbeat, options))
        return pool_error_no_memory(err);
    heartbeat->loop = loop;
    heartbeat->options = *options;
    set_times(&heartbeat->options);
    code = http_client_open(loop, &heartbeat->client, err);
    if (code != POOL_OK)
        return code;
    open_lane(heartbeat, &heartbeat->pool);
    open_lane(heartbeat, &heartbeat->reports);
    uv_timer_init(loop, &heartbeat->patience);
    heartbeat->patience.data = heartbeat;
    heartbeat_schedule_pool(heartbeat, options->first_after_ms);
    *ret_heartbeat = take_ptr(&heartbeat);
    return POOL_OK;
}
