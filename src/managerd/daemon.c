/*
 * The daemon's life: opened in order, run on one loop, closed in the reverse order. Workers go on when it ends.
 */
#include "managerd/daemon.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/string_list.h"
#include "managerd/explain_feed.h"
#include "managerd/first_snapshot.h"
#include "managerd/gpu_faults.h"
#include "managerd/log.h"
#include "managerd/metrics.h"
#include "managerd/models.h"
#include "managerd/reaper.h"
#include "managerd/sights.h"
#include "managerd/usage_watch.h"

#define FAST_INTERVAL_MS 200   /* between two looks at the driver while something starts or stops */
#define STALE_AFTER_MS   10000 /* a driver that is this late hangs */
#define SHUTDOWN_WAIT_MS 5000  /* for answers that are under way */

static void end_when_idle(void *context);
static void stop_on_exit(const struct pool_worker_info *worker, void *context);

/* ---- what happens ---- */

/* With daemon.stop_workers_on_exit: a start that was under way is stopped too, and the last end is that of the daemon. */
static void change_while_stopping(struct daemon *daemon, const struct pool_worker_info *worker)
{
    if (!daemon->config->daemon_stop_workers_on_exit)
        return;
    stop_on_exit(worker, daemon);
    if (daemon->is_quiet)
        executor_on_idle(daemon->executor, end_when_idle, daemon);
}

static void on_change(const char *type, const struct pool_worker_info *worker, void *context)
{
    struct daemon *daemon = context;
    char *json = NULL;
    if (pool_worker_info_encode(worker, &json, NULL) != POOL_OK)
        json = NULL;
    state_cache_spoil(daemon);
    event_log_publish(daemon->events, type, json);
    if (!supervisor_is_proving(daemon->supervisor, worker->worker_id))
        sights_update(daemon->sights, worker);
    models_note_start(daemon->models, worker);
    if (worker->status == POOL_WORKER_STOPPED) {
        release_watch_stopped(daemon, worker);
        gpu_faults_see_end(daemon->gpu_faults, worker);
        metrics_count_stop(daemon->metrics, worker->stop_reason);
        upward_worker_stopped(daemon, worker);
    }
    tell_worker_change(worker);
    gpu_monitor_hurry(daemon->gpu_monitor, supervisor_is_busy(daemon->supervisor));
    if (daemon->is_stopping)
        change_while_stopping(daemon, worker);
}

static void on_exit_seen(const struct pool_worker_info *worker, void *context)
{
    struct daemon *daemon = context;
    char *json = NULL;
    if (pool_worker_info_encode(worker, &json, NULL) != POOL_OK)
        json = NULL;
    event_log_publish(daemon->events, "worker.exited", json);
}

static void report_sight(const char *worker_id, const struct pool_worker_sight *sight, void *context)
{
    struct daemon *daemon = context;
    supervisor_report(daemon->supervisor, worker_id, sight);
}

static void stop_by_sight(const char *worker_id, enum pool_stop_reason reason, void *context)
{
    struct daemon *daemon = context;
    tell_stop_decided(worker_id, reason);
    supervisor_stop(daemon->supervisor, worker_id, reason, -1, false, false, NULL, NULL);
}

static void begin_sight(const struct pool_worker_info *worker, void *context)
{
    struct daemon *daemon = context;
    if (!supervisor_is_proving(daemon->supervisor, worker->worker_id))
        sights_update(daemon->sights, worker);
}

static void on_answered(const struct pool_worker_info *worker, void *context)
{
    usage_watch_answered(context, worker);
}

static void on_start(const char *worker_id, enum pool_code outcome, double seconds, void *context)
{
    struct daemon *daemon = context;
    metrics_count_start(daemon->metrics, outcome, seconds);
    tell_start(worker_id, outcome, seconds);
}

static void on_snapshot(void *context, const struct pool_gpu_list *list)
{
    struct daemon *daemon = context;
    snapshot_inventory_put(daemon->snapshots, list);
    first_snapshot_over(daemon);
    release_watch_snapshot(daemon);
    state_cache_spoil(daemon);
    usage_watch(daemon, list);
    upward_see_gpus(daemon);
    if (daemon->supervisor) /* before that there is nobody to be named */
        gpu_faults_take_snapshot(daemon->gpu_faults, list);
}

static void on_gpu_event(void *context, const struct pool_gpu_event *event)
{
    struct daemon *daemon = context;
    gpu_faults_take_event(daemon->gpu_faults, event);
}

static void on_stale(void *context, const struct pool_gpu_list *list, int64_t age_ms)
{
    log_tell(LOG_GPU_STALE, NULL, "the driver has not answered for %" PRId64 " ms", age_ms);
    on_snapshot(context, list);
}

static void on_trouble(void *context, const char *text)
{
    (void)context;
    log_tell(LOG_GPU_TROUBLE, NULL, "%s", text);
}

void daemon_on_answered(const struct http_request *request, unsigned status, int64_t duration_ns,
                        void *context)
{
    struct daemon *daemon = context;
    metrics_count_request(daemon->metrics, http_request_route(request), status, duration_ns);
    tell_answered(request, status, duration_ns);
}

static void publish_explanation(const char *type, char *json, void *context)
{
    event_log_publish(((struct daemon *)context)->events, type, json);
}

/* ---- opening ---- */

static enum pool_code open_gpus(struct daemon *daemon, const struct daemon_options *options,
                                struct pool_error *err)
{
    struct gpu_monitor_options monitor = { .inventory_url = daemon->config->gpu_inventory,
                                           .probe_path = options->probe_path,
                                           .refresh_interval_ms = daemon->config->gpu_refresh_interval_ms,
                                           .fast_interval_ms = FAST_INTERVAL_MS,
                                           .stale_after_ms = STALE_AFTER_MS,
                                           .on_snapshot = on_snapshot,
                                           .on_stale = on_stale,
                                           .on_event = on_gpu_event,
                                           .on_trouble = on_trouble,
                                           .ctx = daemon };
    if (monitor.fast_interval_ms > monitor.refresh_interval_ms)
        monitor.fast_interval_ms = monitor.refresh_interval_ms;
    enum pool_code code = snapshot_inventory_open(&daemon->snapshots, &daemon->inventory, err);
    if (code == POOL_OK)
        code = gpu_faults_open(daemon, &daemon->gpu_faults, err);
    return code != POOL_OK ? code : gpu_monitor_open(daemon->loop, &monitor, &daemon->gpu_monitor, err);
}

struct wanted_process {
    pid_t pid;
    bool is_found;
};

static void compare_pid(const struct pool_worker_info *worker, void *context)
{
    struct wanted_process *wanted = context;
    wanted->is_found = wanted->is_found || worker->process.pid == wanted->pid;
}

static bool is_awaited(pid_t pid, void *context)
{
    struct daemon *daemon = context;
    struct wanted_process wanted = { .pid = pid };
    supervisor_each(daemon->supervisor, compare_pid, &wanted);
    return wanted.is_found || gpu_monitor_awaits(daemon->gpu_monitor, pid);
}

static enum pool_code open_reaper(struct daemon *daemon, struct pool_error *err)
{
    struct reaper_options options = {
        .loop = daemon->loop, .executor = daemon->executor, .is_awaited = is_awaited, .context = daemon
    };
    return reaper_open(&options, &daemon->reaper, err);
}

/* Each worker and each connection is a descriptor or two: as many as we may have. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)!setrlimit(RLIMIT_NOFILE, &limit);
}

static enum pool_code open_workers(struct daemon *daemon, const struct daemon_options *options,
                                   struct pool_error *err)
{
    struct pool_manager_options manager = { .struct_size = sizeof manager,
                                            .environment = options->environment,
                                            .gpu_inventory = daemon->inventory,
                                            .is_daemon = true,
                                            .on_explanation = explain_feed_put };
    struct supervisor_listener listener = { .queue_timeout_ms = daemon->config->queue_timeout_ms,
                                            .on_change = on_change,
                                            .on_exit = on_exit_seen,
                                            .on_answered = on_answered,
                                            .on_start = on_start,
                                            .faults_near = gpu_faults_near,
                                            .context = daemon };
    struct sights_options sights = {
        .health_interval_ms = daemon->config->health_interval_ms,
        .stops_unhealthy = daemon->config->on_unhealthy == POOL_ON_UNHEALTHY_STOP,
        .report = report_sight,
        .stop = stop_by_sight,
        .context = daemon,
    };
    enum pool_code code =
        explain_feed_open(daemon->loop, publish_explanation, daemon, &daemon->explain_feed, err);
    manager.explanation_context = daemon->explain_feed;
    if (code == POOL_OK)
        code = pool_manager_open(daemon->config, &manager, &daemon->manager, err);
    if (code == POOL_OK && *pool_manager_notice(daemon->manager))
        log_tell(LOG_REGISTRY_NOTICE, NULL, "%s", pool_manager_notice(daemon->manager));
    if (code == POOL_OK)
        raise_descriptor_limit(); /* workers get back what the manager was opened with */
    if (code == POOL_OK)
        code = executor_open(daemon->loop, &daemon->executor, err);
    if (code == POOL_OK)
        code = supervisor_open(daemon->loop, daemon->executor, daemon->manager, &listener,
                               &daemon->supervisor, err);
    if (code == POOL_OK)
        code = supervisor_adopt(daemon->supervisor, err);
    if (code == POOL_OK)
        code = open_reaper(daemon, err);
    if (code == POOL_OK)
        code = sights_open(daemon->loop, &sights, &daemon->sights, err);
    if (code == POOL_OK)
        supervisor_each(daemon->supervisor, begin_sight, daemon);
    if (code == POOL_OK)
        log_tell(LOG_ADOPTED, NULL, "%zu workers", supervisor_n_workers(daemon->supervisor));
    return code;
}

/* Workers first: whoever asks for the state right after the start sees what was adopted. */
static enum pool_code open_daemon(struct daemon *daemon, const struct daemon_options *options,
                                  struct pool_error *err)
{
    uint8_t random[4];
    if (!random_bytes(random, sizeof random))
        return pool_error_set(err, POOL_INTERNAL, "the kernel has no random numbers");
    hex_encode(random, sizeof random, daemon->epoch);
    daemon->started_boottime_ns = clock_boottime_ns();
    enum pool_code code = access_open(daemon->config, &daemon->access, err);
    if (code == POOL_OK)
        code = event_log_open(daemon->epoch, &daemon->events, err);
    if (code == POOL_OK)
        code = metrics_open(&daemon->metrics, err);
    if (code == POOL_OK)
        code = state_cache_open(daemon, err);
    if (code == POOL_OK)
        code = first_snapshot_open(daemon, err);
    if (code == POOL_OK)
        code = open_gpus(daemon, options, err);
    if (code == POOL_OK)
        code = models_open(daemon, &daemon->models, err);
    if (code == POOL_OK)
        code = open_workers(daemon, options, err);
    if (code == POOL_OK)
        code = listening_open(daemon, err);
    if (code == POOL_OK)
        code = upward_open(daemon, err);
    return code;
}

/* ---- stopping ---- */

static void stop_loop(void *context)
{
    uv_stop(((struct daemon *)context)->loop);
}

/* With daemon.stop_workers_on_exit each worker that ends asks again. */
static void end_when_idle(void *context)
{
    struct daemon *daemon = context;
    if (!daemon->config->daemon_stop_workers_on_exit || supervisor_n_workers(daemon->supervisor) == 0)
        stop_loop(daemon);
}

static void on_quiet(void *context)
{
    struct daemon *daemon = context;
    daemon->is_quiet = true;
    executor_on_idle(daemon->executor, end_when_idle, daemon);
}

static void on_late(uv_timer_t *timer)
{
    stop_loop(timer->data);
}

static uv_timer_t late;

/* With daemon.stop_workers_on_exit. */
static void stop_on_exit(const struct pool_worker_info *worker, void *context)
{
    struct daemon *daemon = context;
    if (worker->status == POOL_WORKER_STOPPED)
        return;
    if (worker->stop_grace_ms > daemon->longest_grace_ms)
        daemon->longest_grace_ms = worker->stop_grace_ms;
    if (worker->status == POOL_WORKER_STOPPING &&
        (!worker->stop_phase || strcmp(worker->stop_phase, "drain") != 0))
        return;
    supervisor_stop(daemon->supervisor, worker->worker_id, POOL_STOP_REQUESTED, -1, false, false, NULL, NULL);
}

static const char *fate_of_workers(const struct daemon *daemon)
{
    if (daemon->config->daemon_stop_workers_on_exit)
        return "are stopped";
    return getpid() == 1 ? "end with this pid namespace" : "go on";
}

static void begin_stopping(struct daemon *daemon, const char *why)
{
    bool stops_workers = daemon->config->daemon_stop_workers_on_exit;
    if (daemon->is_stopping)
        return;
    daemon->is_stopping = true;
    service_stopping(daemon->service, why);
    log_tell(LOG_STOPPING, NULL, "%s; %zu workers %s", why, supervisor_n_workers(daemon->supervisor),
             fate_of_workers(daemon));
    if (stops_workers)
        supervisor_each(daemon->supervisor, stop_on_exit, daemon);
    uv_timer_init(daemon->loop, &late);
    late.data = daemon;
    uv_timer_start(
        &late, on_late,
        (uint64_t)(SHUTDOWN_WAIT_MS + daemon->longest_grace_ms + (stops_workers ? POOL_KILL_WAIT_MAX_MS : 0)),
        0);
    models_cancel(daemon->models);
    first_snapshot_over(daemon);
    http_server_quiesce(daemon->http, on_quiet, daemon);
}

/* What was let in by a token that is no longer there is cut off, long streams above all. */
static bool is_revoked(const struct http_request *request, void *context)
{
    return access_is_revoked(((struct daemon *)context)->access, request);
}

static void reload(struct daemon *daemon)
{
    struct pool_error error = POOL_ERROR_INIT;
    if (access_reload(daemon->access, &error) != POOL_OK) {
        log_tell(LOG_TOKENS_REFUSED, NULL, "%s; the tokens read before stay in force", error.message);
        return;
    }
    log_tell(LOG_TOKENS_LOADED, NULL, "%zu tokens in force", access_n_tokens(daemon->access));
    if (daemon->http)
        http_server_drop_if(daemon->http, is_revoked, daemon);
}

static void on_signal(uv_signal_t *handle, int signal_number)
{
    struct daemon *daemon = handle->data;
    if (signal_number == SIGUSR1) {
        log_toggle_debug();
        return;
    }
    if (daemon->is_closing)
        return;
    if (signal_number != SIGHUP) {
        begin_stopping(daemon, strsignal(signal_number));
        return;
    }
    service_reloading(daemon->service);
    reload(daemon);
    models_reread_catalogs(daemon->models);
    service_reloaded(daemon->service);
}

static size_t count_workers(void *context)
{
    return supervisor_n_workers(((struct daemon *)context)->supervisor);
}

static void close_handle(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* Jobs that are still under way use the manager: they are waited for, by running the loop. */
static void finish_jobs(struct daemon *daemon)
{
    while (daemon->executor && executor_n_jobs(daemon->executor) > 0)
        uv_run(daemon->loop, UV_RUN_ONCE);
}

static void note_closed(void *context)
{
    *(bool *)context = true;
}

/* The helper is killed and awaited, for GPU_MONITOR_CLOSE_WAIT_MS at most: it may hang in a driver. */
static void close_gpus(struct daemon *daemon)
{
    bool is_closed = !daemon->gpu_monitor;
    gpu_monitor_close(take_ptr(&daemon->gpu_monitor), note_closed, &is_closed);
    while (!is_closed)
        uv_run(daemon->loop, UV_RUN_ONCE);
}

static void close_daemon(struct daemon *daemon)
{
    daemon->is_closing = true;
    first_snapshot_over(daemon);
    if (daemon->http)
        http_server_close(daemon->http, NULL, NULL);
    sights_close(take_ptr(&daemon->sights), NULL, NULL);
    reaper_close(take_ptr(&daemon->reaper));
    if (daemon->supervisor)
        supervisor_quiesce(daemon->supervisor);
    finish_jobs(daemon);
    if (daemon->supervisor)
        upward_close(daemon, supervisor_n_workers(daemon->supervisor) == 0);
    close_gpus(daemon);
    finish_jobs(daemon); /* of workers that ended meanwhile */
    explain_feed_close(take_ptr(&daemon->explain_feed));
    if (daemon->supervisor)
        supervisor_close(daemon->supervisor, NULL, NULL);
    uv_run(daemon->loop, UV_RUN_NOWAIT);
    uv_walk(daemon->loop, close_handle, NULL);
    while (uv_run(daemon->loop, UV_RUN_ONCE) != 0)
        ;
    executor_close(daemon->executor);
    state_cache_close(daemon);
    event_log_close(daemon->events);
    metrics_close(daemon->metrics);
    models_close(daemon->models);
    free(daemon->openapi);
    pool_manager_close(daemon->manager);
    gpu_faults_close(daemon->gpu_faults);
    pool_attribution_free(take_ptr(&daemon->attribution));
    snapshot_inventory_close(daemon->snapshots, daemon->inventory);
    first_snapshot_close(daemon);
    access_close(daemon->access);
}

int daemon_run(const struct daemon_options *options)
{
    struct daemon daemon = { .loop = uv_default_loop(),
                             .config = options->config,
                             .service = options->service,
                             .environment = options->environment };
    struct pool_error error = POOL_ERROR_INIT;
    static const int numbers[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1 };
    uv_signal_t signals[sizeof numbers / sizeof numbers[0]];
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        uv_signal_init(daemon.loop, &signals[i]);
        signals[i].data = &daemon;
        uv_signal_start(&signals[i], on_signal, numbers[i]);
        uv_unref((uv_handle_t *)&signals[i]);
    }
    enum pool_code code = open_daemon(&daemon, options, &error);
    if (code != POOL_OK) {
        struct log_fields fields = { .code = pool_code_name(code) };
        log_tell(LOG_START_FAILED, &fields, "%s: %s", fields.code, error.message);
    } else {
        log_tell(LOG_STARTED, NULL, "pool-managerd %s, pool %s, epoch %s", pool_version(),
                 daemon.config->pool_id, daemon.epoch);
        service_ready(daemon.service, daemon.loop, count_workers, &daemon);
        uv_run(daemon.loop, UV_RUN_DEFAULT);
    }
    close_daemon(&daemon);
    uv_loop_close(daemon.loop);
    if (code == POOL_OK)
        log_tell(LOG_STOPPED, NULL, "workers %s", fate_of_workers(&daemon));
    return pool_code_exit_status(code);
}
