/*
 * What the daemon tells its orchestrator, when it has one: the facts for each heartbeat, and the workers that died. The
 * protocol itself is in heartbeat.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "managerd/daemon.h"
#include "managerd/heartbeat.h"
#include "managerd/live_view.h"
#include "managerd/log.h"
#include "managerd/metrics.h"
#include "managerd/metrics_text.h"

#define CLOSE_WAIT_MS      2000
#define FIRST_LOOK_WAIT_MS 5000 /* for the GPUs: a registration without them would say that there are none */
#define HOST_MAX           256
#define ENDPOINT_MAX       (HOST_MAX + 32)

struct upward {
    struct daemon *daemon;
    struct heartbeat *heartbeat;
    struct live_view view; /* lent to the heartbeat, from fill to fill */
    bool *is_closed;       /* of who waits for the end */
};

static bool fill(void *context, struct heartbeat_facts *facts)
{
    struct upward *upward = context;
    live_view_done(&upward->view);
    if (!live_view_take(upward->daemon, &upward->view))
        return false;
    facts->gpus = upward->view.gpus;
    facts->workers = &upward->view.workers;
    facts->ledgers = upward->view.ledgers;
    facts->n_ledgers = upward->view.n_ledgers;
    return true;
}

/* Where the API is reached: on loopback there and nowhere else, otherwise under the advertised name. */
static void make_endpoint(const struct daemon *daemon, char endpoint[ENDPOINT_MAX])
{
    const char *bind = daemon->config->daemon_bind;
    const char *colon = strrchr(bind, ':');
    const char *advertised = daemon->config->advertise_host;
    bool is_loopback = strncmp(bind, "127.", 4) == 0 || strncmp(bind, "[::1]", 5) == 0;
    char host[HOST_MAX];
    if (is_loopback || !advertised || !*advertised)
        snprintf(host, sizeof host, "%.*s", (int)(colon ? colon - bind : 0), bind);
    else
        snprintf(host, sizeof host, strchr(advertised, ':') ? "[%s]" : "%s", advertised);
    snprintf(endpoint, ENDPOINT_MAX, "http://%s:%u", host, (unsigned)http_server_port(daemon->http, 0));
}

static void on_outcome(void *context, enum heartbeat_kind kind, enum heartbeat_outcome outcome,
                       const char *problem)
{
    (void)context;
    log_tell(outcome == HEARTBEAT_OUTCOME_OK ? LOG_ORCHESTRATOR_ANSWERED : LOG_ORCHESTRATOR_FAILED, NULL,
             "%s: %s%s%s", heartbeat_kind_name(kind), heartbeat_outcome_name(outcome), problem[0] ? ", " : "",
             problem);
}

enum pool_code upward_open(struct daemon *daemon, struct pool_error *err)
{
    const struct pool_config *config = daemon->config;
    if (!config->orchestrator_url)
        return POOL_OK;
    char endpoint[ENDPOINT_MAX] = "";
    if (config->daemon_bind[0])
        make_endpoint(daemon, endpoint);
    struct upward *upward = calloc(1, sizeof *upward);
    if (!upward)
        return pool_error_no_memory(err);
    upward->daemon = daemon;
    struct heartbeat_options options = { .url = config->orchestrator_url,
                                         .token_file = config->orchestrator_token_file,
                                         .pool_id = config->pool_id,
                                         .epoch = daemon->epoch,
                                         .endpoint = endpoint,
                                         .interval_ms = config->orchestrator_heartbeat_interval_ms,
                                         .first_after_ms = FIRST_LOOK_WAIT_MS,
                                         .fill = fill,
                                         .on_outcome = on_outcome,
                                         .ctx = upward };
    enum pool_code code = heartbeat_open(daemon->loop, &options, &upward->heartbeat, err);
    if (code != POOL_OK) {
        free(upward);
        return code;
    }
    daemon->upward = upward;
    return POOL_OK;
}

/* What its GPU gets back: what it held, or was promised when that is more. */
static int64_t released_bytes(const struct pool_worker_info *worker)
{
    if (!worker->gpu_uuid)
        return 0;
    bool has_more =
        worker->observed_bytes.is_present && worker->observed_bytes.value > worker->reserved_bytes;
    return has_more ? worker->observed_bytes.value : worker->reserved_bytes;
}

/* A death is what nobody asked for; a stop that was requested is seen in the next heartbeat. */
void upward_worker_stopped(struct daemon *daemon, const struct pool_worker_info *worker)
{
    if (!daemon->upward || worker->stop_reason == POOL_STOP_REQUESTED ||
        worker->stop_reason == POOL_STOP_IDLE_TIMEOUT)
        return;
    struct heartbeat_failure failure = { .worker_id = worker->worker_id,
                                         .reason = worker->stop_reason,
                                         .exit_code = worker->exit_code,
                                         .exit_signal = worker->exit_signal,
                                         .vram_released_bytes = released_bytes(worker) };
    heartbeat_worker_failed(daemon->upward->heartbeat, &failure);
}

void upward_see_gpus(const struct daemon *daemon)
{
    if (daemon->upward)
        heartbeat_begin(daemon->upward->heartbeat);
}

static void free_upward(void *context)
{
    struct upward *upward = context;
    bool *is_closed = upward->is_closed;
    live_view_done(&upward->view);
    free(upward);
    *is_closed = true;
}

void upward_close(struct daemon *daemon, bool is_leaving)
{
    struct upward *upward = daemon->upward;
    bool is_closed = !upward;
    daemon->upward = NULL;
    if (upward) {
        upward->is_closed = &is_closed;
        heartbeat_close(upward->heartbeat, is_leaving, CLOSE_WAIT_MS, free_upward, upward);
    }
    while (!is_closed)
        uv_run(daemon->loop, UV_RUN_ONCE);
}

void upward_add_metrics(const struct daemon *daemon, struct strbuf *out)
{
    if (!daemon->upward)
        return;
    struct heartbeat_counters counters = heartbeat_counters(daemon->upward->heartbeat);
    metrics_text_family(out, METRICS_PREFIX "heartbeats_total", "counter", "Heartbeats to the orchestrator.");
    for (int outcome = 0; outcome < HEARTBEAT_N_OUTCOMES; outcome++)
        metrics_text_integer(out, METRICS_PREFIX "heartbeats_total", "outcome",
                             heartbeat_outcome_name((enum heartbeat_outcome)outcome),
                             (int64_t)counters.n[HEARTBEAT_BEAT][outcome]);
    metrics_text_family(out, METRICS_PREFIX "orchestrator_requests_total", "counter",
                        "All requests to the orchestrator, by kind.");
    for (int kind = 0; kind < HEARTBEAT_N_KINDS; kind++) {
        for (int outcome = 0; outcome < HEARTBEAT_N_OUTCOMES; outcome++)
            strbuf_printf(
                out, METRICS_PREFIX "orchestrator_requests_total{kind=\"%s\",outcome=\"%s\"} %" PRIu64 "\n",
                heartbeat_kind_name((enum heartbeat_kind)kind),
                heartbeat_outcome_name((enum heartbeat_outcome)outcome), counters.n[kind][outcome]);
    }
    metrics_text_family(out, METRICS_PREFIX "orchestrator_registered", "gauge",
                        "1 while the orchestrator knows this pool, as far as it said.");
    metrics_text_integer(out, METRICS_PREFIX "orchestrator_registered", NULL, NULL, counters.is_registered);
    metrics_text_family(out, METRICS_PREFIX "orchestrator_reports_dropped_total", "counter",
                        "Reports of deaths that were refused, or for which there was no room.");
    metrics_text_integer(out, METRICS_PREFIX "orchestrator_reports_dropped_total", NULL, NULL,
                         (int64_t)counters.n_reports_dropped);
}
