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
#include "managerd/log.h"

#define CLOSE_WAIT_MS 2000

struct upward {
    struct daemon *daemon;
    struct heartbeat *heartbeat;
    struct pool_worker_list workers; /* lent to the heartbeat, from fill to fill */
};

static void collect(const struct pool_worker_info *worker, void *context)
{
    struct pool_worker_list *list = context;
    list->workers[list->n_workers++] = (struct pool_worker_info *)(uintptr_t)worker; /* read only */
}

static void fill(void *context, struct heartbeat_facts *facts)
{
    struct upward *upward = context;
    struct supervisor *supervisor = upward->daemon->supervisor;
    struct pool_worker_info **room =
        reallocarray(upward->workers.workers, supervisor_n_workers(supervisor) + 1, sizeof *room);
    facts->gpus = gpu_monitor_snapshot(upward->daemon->gpu_monitor).list;
    if (!room)
        return; /* a heartbeat without workers would say that there are none; without facts it says nothing */
    upward->workers = (struct pool_worker_list){ .workers = room };
    supervisor_each(supervisor, collect, &upward->workers);
    facts->workers = &upward->workers;
    state_cache_ledgers(upward->daemon, &facts->ledgers, &facts->n_ledgers);
}

static void on_outcome(void *context, enum heartbeat_kind kind, enum heartbeat_outcome outcome,
                       const char *problem)
{
    (void)context;
    log_event(outcome == HEARTBEAT_OUTCOME_OK ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING, "orchestrator",
              "%s: %s%s%s", heartbeat_kind_name(kind), heartbeat_outcome_name(outcome),
              problem[0] ? ", " : "", problem);
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
    free(upward->workers.workers);
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
    strbuf_printf(out, "# HELP pool_mgr_heartbeats_total Requests to the orchestrator.\n"
                       "# TYPE pool_mgr_heartbeats_total counter\n");
    for (int outcome = 0; outcome < HEARTBEAT_N_OUTCOMES; outcome++)
        strbuf_printf(out, "pool_mgr_heartbeats_total{outcome=\"%s\"} %" PRIu64 "\n",
                      heartbeat_outcome_name((enum heartbeat_outcome)outcome),
                      counters.n[HEARTBEAT_BEAT][outcome]);
}
