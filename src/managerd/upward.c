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

#define CLOSE_WAIT_MS 2000

struct upward {
    struct daemon *daemon;
    struct heartbeat *heartbeat;
    struct live_view view; /* lent to the heartbeat, from fill to fill */
};

static void fill(void *context, struct heartbeat_facts *facts)
{
    struct upward *upward = context;
    live_view_done(&upward->view);
    if (!live_view_take(upward->daemon, &upward->view))
        return; /* a heartbeat without workers would say that there are none; without facts it says nothing */
    facts->gpus = upward->view.gpus;
    facts->workers = &upward->view.workers;
    facts->ledgers = upward->view.ledgers;
    facts->n_ledgers = upward->view.n_ledgers;
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
    char endpoint[512];
    const char *port = strrchr(config->daemon_bind, ':');
    snprintf(endpoint, sizeof endpoint, "http://%s%s",
             config->advertise_host ? config->advertise_host : "127.0.0.1", port ? port : "");
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
                                         .vram_released_bytes =
                                             worker->gpu_uuid ? worker->reserved_bytes : 0 };
    heartbeat_worker_failed(daemon->upward->heartbeat, &failure);
}

static void free_upward(void *context)
{
    struct upward *upward = context;
    live_view_done(&upward->view);
    free(upward);
}

void upward_close(struct daemon *daemon, bool is_leaving)
{
    struct upward *upward = daemon->upward;
    daemon->upward = NULL;
    if (upward)
        heartbeat_close(upward->heartbeat, is_leaving, CLOSE_WAIT_MS, free_upward, upward);
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
