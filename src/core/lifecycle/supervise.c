/*
 * For a daemon, which watches by itself: each thing that it sees is one call here, which takes the lock, reads the row
 * as it is, applies the transition and records it. Nothing waits here but for the lock.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "core/lifecycle/explain.h"
#include "core/lifecycle/gate.h"
#include "core/lifecycle/learned.h"
#include "core/lifecycle/log_files.h"
#include "core/lifecycle/manager.h"
#include "core/lifecycle/worker_log.h"

void pool_manager_set_unrestricted(struct pool_manager *manager, bool is_unrestricted)
{
    manager->is_unrestricted = is_unrestricted;
}

enum pool_code pool_manager_settle(struct pool_manager *manager, struct pool_worker_list **ret_list,
                                   struct pool_error *err)
{
    CLEANUP(free_worker_list) struct pool_worker_list *list = NULL;
    enum pool_code code = manager_list_registry(manager, POOL_REGISTRY_LIVE, &list, err);
    if (code == POOL_OK)
        code = settle(manager, false, &list, err);
    if (code == POOL_OK)
        cgroups_sweep(&manager->cgroups, list);
    if (code == POOL_OK && manager_lock(manager, NULL) == POOL_OK) {
        log_files_sweep(manager);
        state_dir_unlock(&manager->state);
    }
    if (code == POOL_OK)
        *ret_list = take_ptr(&list);
    return code;
}

enum pool_code pool_manager_rows(struct pool_manager *manager, enum pool_registry_scope scope,
                                 struct pool_worker_list **ret_list, struct pool_error *err)
{
    return manager_list_registry(manager, scope, ret_list, err);
}

enum pool_code pool_manager_row(struct pool_manager *manager, const char *worker_id,
                                struct pool_worker_info **ret_worker, struct pool_error *err)
{
    return pool_worker_registry_get(manager->registry, worker_id, ret_worker, err);
}

enum pool_code pool_manager_open_process(const struct pool_manager *manager,
                                         const struct pool_worker_info *worker, int *ret_pidfd,
                                         struct pool_error *err)
{
    int pidfd = -1;
    enum process_state state = process_open(&manager->host, &worker->process, &pidfd);
    if (pidfd >= 0) {
        *ret_pidfd = pidfd;
        return POOL_OK;
    }
    bool is_elsewhere = manager->host.pid_namespace != worker->process.pid_namespace;
    if (state == PROCESS_ENDED || (is_elsewhere && worker_log_of(worker, NULL, NULL) != WORKER_LOG_HELD))
        return pool_error_set(err, POOL_WORKER_NOT_FOUND, "the main process of worker %s is gone",
                              worker->worker_id);
    if (is_elsewhere)
        return pool_error_set(err, POOL_CONFLICT, "worker %s lives in another pid namespace",
                              worker->worker_id);
    return pool_error_set(err, POOL_OVERLOADED, "the main process of worker %s can not be looked at now",
                          worker->worker_id);
}

enum pool_code pool_manager_end_processes(const struct pool_manager *manager,
                                          const struct pool_worker_info *worker, int64_t grace_ms,
                                          int cancel_fd, struct pool_process_end *ret_end,
                                          struct pool_error *err)
{
    return stop_processes(manager, worker, grace_ms, cancel_fd, ret_end, err);
}

/* A change of one row, made under the lock; what is needed beside the row is in `what`. */
typedef enum pool_code change_fn(struct pool_manager *manager, struct pool_worker_info *worker,
                                 const void *what, struct pool_error *err);

static enum pool_code change_row(struct pool_manager *manager, const char *worker_id, change_fn *change,
                                 const void *what, struct pool_worker_info **ret_worker,
                                 struct pool_error *err)
{
    CLEANUP(free_worker) struct pool_worker_info *worker = NULL;
    enum pool_code code = manager_lock(manager, err);
    if (code != POOL_OK)
        return code;
    code = pool_worker_registry_get(manager->registry, worker_id, &worker, err);
    if (code == POOL_OK)
        code = change(manager, worker, what, err);
    state_dir_unlock(&manager->state);
    if (code == POOL_OK)
        *ret_worker = take_ptr(&worker);
    return code;
}

struct found_ready {
    const struct pool_worker_info *watched;
    enum pool_port_proof proof;
};

static enum pool_code make_ready(struct pool_manager *manager, struct pool_worker_info *worker,
                                 const void *what, struct pool_error *err)
{
    const struct found_ready *found = what;
    if (worker->status == POOL_WORKER_STOPPING || worker->status == POOL_WORKER_STOPPED ||
        !is_same_start(worker, found->watched))
        return pool_error_set(err, POOL_CONFLICT, "worker %s was stopped while it was starting",
                              worker->worker_id);
    if (worker->status != POOL_WORKER_SPAWNING) /* somebody else's probe was faster */
        return POOL_OK;
    enum pool_code code =
        pool_worker_transition(worker->status, POOL_EVENT_READY_PROVEN, &worker->status, err);
    if (code != POOL_OK)
        return code;
    ready_set(worker, found->proof);
    promise_update(manager, worker);
    return pool_worker_registry_update(manager->registry, worker, err);
}

enum pool_code pool_manager_record_ready(struct pool_manager *manager, const struct pool_worker_info *watched,
                                         enum pool_port_proof proof, struct pool_worker_info **ret_worker,
                                         struct pool_error *err)
{
    struct found_ready found = { watched, proof };
    enum pool_code code = change_row(manager, watched->worker_id, make_ready, &found, ret_worker, err);
    if (code == POOL_OK)
        manager_forget_child(manager, watched->worker_id);
    return code;
}

static enum pool_code make_proven(struct pool_manager *manager, struct pool_worker_info *worker,
                                  const void *what, struct pool_error *err)
{
    const struct found_ready *found = what;
    if (!is_same_start(worker, found->watched))
        return pool_error_set(err, POOL_CONFLICT, "worker %s is another one by now", worker->worker_id);
    return prove_row(manager, worker, found->proof, err);
}

enum pool_code pool_manager_record_proven(struct pool_manager *manager,
                                          const struct pool_worker_info *watched, enum pool_port_proof proof,
                                          struct pool_worker_info **ret_worker, struct pool_error *err)
{
    struct found_ready found = { watched, proof };
    return change_row(manager, watched->worker_id, make_proven, &found, ret_worker, err);
}

struct found_presence {
    const struct pool_worker_info *watched;
    const struct pool_presence *presence;
};

static enum pool_code make_presence(struct pool_manager *manager, struct pool_worker_info *worker,
                                    const void *what, struct pool_error *err)
{
    const struct found_presence *found = what;
    enum pool_not_on_gpu rule = pool_presence_rule(manager->config, worker);
    bool is_absent = found->presence->verdict == POOL_PRESENCE_NOT_ON_GPU;
    if (!is_same_start(worker, found->watched) || !pool_presence_is_news(found->presence, rule, worker))
        return POOL_OK;
    char *reason = is_absent ? strdup(POOL_HEALTH_NOT_ON_GPU) : NULL;
    if (is_absent && !reason)
        return pool_error_no_memory(err);
    free(worker->health_reason);
    worker->health_reason = reason;
    worker->is_healthy = !is_absent || rule == POOL_NOT_ON_GPU_WARN;
    enum pool_code code = pool_worker_registry_update(manager->registry, worker, err);
    if (code == POOL_OK)
        explain_presence(manager, worker, found->presence);
    return code;
}

enum pool_code pool_manager_record_presence(struct pool_manager *manager,
                                            const struct pool_worker_info *watched,
                                            const struct pool_presence *presence,
                                            struct pool_worker_info **ret_worker, struct pool_error *err)
{
    struct found_presence found = { watched, presence };
    return change_row(manager, watched->worker_id, make_presence, &found, ret_worker, err);
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Of a worker that is not on its GPU only a verdict on that says that it is well, and only one says where it is. */
static bool says_health(const struct pool_worker_sight *sight, const struct pool_worker_info *worker)
{
    bool is_about_gpu = sight->health_reason && strcmp(sight->health_reason, POOL_HEALTH_NOT_ON_GPU) == 0;
    return !is_about_gpu && !(sight->is_healthy && pool_worker_is_off_gpu(worker));
}

/* Since when it is idle, of a worker that is about to have a status. */
static void note_idle(struct pool_worker_info *worker, enum pool_worker_status status, bool is_used_now)
{
    if (is_used_now || (status != worker->status && status == POOL_WORKER_IDLE)) {
        worker->idle_since_wall_ms = clock_wall_ms();
        worker->idle_since_boottime_ns = clock_boottime_ns();
    } else if (status == POOL_WORKER_BUSY) {
        worker->idle_since_wall_ms = 0;
        worker->idle_since_boottime_ns = 0;
    }
}

static enum pool_code apply_sight(struct pool_manager *manager, struct pool_worker_info *worker,
                                  const void *what, struct pool_error *err)
{
    const struct pool_worker_sight *sight = what;
    enum pool_worker_status status = worker->status;
    bool is_serving = status == POOL_WORKER_READY || status == POOL_WORKER_BUSY || status == POOL_WORKER_IDLE;
    if (!is_serving)
        return POOL_OK;
    if (sight->n_requests.is_present) {
        enum pool_code code = pool_worker_transition(
            status, sight->n_requests.value > 0 ? POOL_EVENT_REQUEST_SEEN : POOL_EVENT_REQUESTS_DONE, &status,
            err);
        if (code != POOL_OK)
            return code;
    }
    /* Requests that came and went between two looks are not seen, only that they were. */
    bool is_used_now = sight->struct_size > offsetof(struct pool_worker_sight, is_used) && sight->is_used &&
                       status != POOL_WORKER_BUSY && status == worker->status;
    bool is_peak = sight->observed_bytes.is_present &&
                   (!worker->peak_bytes.is_present || sight->observed_bytes.value > worker->peak_bytes.value);
    bool is_health_news =
        says_health(sight, worker) &&
        (sight->is_healthy != worker->is_healthy || !same_text(sight->health_reason, worker->health_reason));
    if (status == worker->status && !is_health_news && !is_peak && !is_used_now)
        return POOL_OK;
    if (is_health_news) {
        char *reason = sight->health_reason ? strdup(sight->health_reason) : NULL;
        if (sight->health_reason && !reason)
            return pool_error_no_memory(err);
        free(worker->health_reason);
        worker->health_reason = reason;
        worker->is_healthy = sight->is_healthy;
    }
    note_idle(worker, status, is_used_now);
    worker->status = status;
    if (sight->observed_bytes.is_present)
        worker->observed_bytes = sight->observed_bytes;
    if (is_peak) {
        bool is_first = !worker->peak_bytes.is_present;
        worker->peak_bytes = sight->observed_bytes;
        int64_t reserved_bytes = worker->reserved_bytes;
        learned_note(manager->registry, worker, is_first);
        if (worker->reserved_bytes != reserved_bytes)
            promise_update(manager, worker);
    }
    return pool_worker_registry_update(manager->registry, worker, err);
}

enum pool_code pool_manager_record_sight(struct pool_manager *manager, const char *worker_id,
                                         const struct pool_worker_sight *sight,
                                         struct pool_worker_info **ret_worker, struct pool_error *err)
{
    return change_row(manager, worker_id, apply_sight, sight, ret_worker, err);
}

struct gone {
    enum pool_stop_reason reason;
    struct pool_process_end end;
};

static enum pool_code make_gone(struct pool_manager *manager, struct pool_worker_info *worker,
                                const void *what, struct pool_error *err)
{
    const struct gone *gone = what;
    enum pool_stop_reason reason = gone->reason;
    if (worker->status == POOL_WORKER_STOPPED)
        return POOL_OK;
    if (reason == POOL_STOP_NONE) /* it ended by itself, and we know how or we do not */
        reason = !gone->end.is_known   ? POOL_STOP_LOST
                 : gone->end.is_signal ? POOL_STOP_SIGNALLED
                                       : POOL_STOP_EXITED;
    return settle_gone(manager, worker, reason, gone->end, err);
}

enum pool_code pool_manager_record_gone(struct pool_manager *manager, const char *worker_id,
                                        enum pool_stop_reason reason, const struct pool_process_end *end,
                                        const struct pool_death_evidence *evidence,
                                        struct pool_worker_info **ret_worker, struct pool_error *bundle_error,
                                        struct pool_error *err)
{
    struct gone gone = { reason, *end };
    manager->crash_failure = (struct pool_error)POOL_ERROR_INIT;
    manager->evidence = evidence;
    enum pool_code code = change_row(manager, worker_id, make_gone, &gone, ret_worker, err);
    manager->evidence = NULL;
    if (bundle_error)
        *bundle_error = manager->crash_failure;
    if (code == POOL_OK)
        manager_forget_child(manager, worker_id);
    return code;
}

static enum pool_code make_draining(struct pool_manager *manager, struct pool_worker_info *worker,
                                    const void *what, struct pool_error *err)
{
    (void)what;
    if (worker->status == POOL_WORKER_STOPPING)
        return POOL_OK;
    if (worker->status == POOL_WORKER_STOPPED)
        return pool_error_set(err, POOL_CONFLICT, "worker %s is stopped already (%s)", worker->worker_id,
                              pool_stop_reason_name(worker->stop_reason));
    char *phase = strdup("drain");
    if (!phase)
        return pool_error_no_memory(err);
    free(worker->stop_phase);
    worker->stop_phase = phase;
    worker->stop_reason = POOL_STOP_REQUESTED;
    enum pool_code code =
        pool_worker_transition(worker->status, POOL_EVENT_STOP_REQUESTED, &worker->status, err);
    return code != POOL_OK ? code : pool_worker_registry_update(manager->registry, worker, err);
}

enum pool_code pool_manager_record_draining(struct pool_manager *manager, const char *worker_id,
                                            struct pool_worker_info **ret_worker, struct pool_error *err)
{
    return change_row(manager, worker_id, make_draining, NULL, ret_worker, err);
}

static enum pool_code make_stuck(struct pool_manager *manager, struct pool_worker_info *worker,
                                 const void *what, struct pool_error *err)
{
    const char *why = what;
    if (worker->status == POOL_WORKER_STOPPED ||
        (worker->status == POOL_WORKER_STOPPING && same_text(worker->health_reason, why)))
        return POOL_OK;
    enum pool_code code =
        pool_worker_transition(worker->status, POOL_EVENT_MAIN_EXITED, &worker->status, err);
    char *reason = code == POOL_OK ? strdup(why) : NULL;
    if (code == POOL_OK && !reason)
        return pool_error_no_memory(err);
    if (code != POOL_OK)
        return code;
    free(worker->health_reason);
    worker->health_reason = reason;
    worker->is_healthy = false;
    return pool_worker_registry_update(manager->registry, worker, err);
}

enum pool_code pool_manager_record_stuck(struct pool_manager *manager, const char *worker_id, const char *why,
                                         struct pool_worker_info **ret_worker, struct pool_error *err)
{
    return change_row(manager, worker_id, make_stuck, why, ret_worker, err);
}

/* An engine profiles the device: the stop is recorded, and begins when it is asked for again after that. */
static enum pool_code stop_wait(struct pool_manager *manager, struct pool_worker_info *worker,
                                enum pool_stop_reason reason, struct pool_error *err)
{
    if (worker->status == POOL_WORKER_STOPPING &&
        !(worker->stop_phase && strcmp(worker->stop_phase, "drain") == 0))
        return POOL_OK; /* it waits already, or is being ended */
    char *phase = strdup("wait");
    if (!phase)
        return pool_error_no_memory(err);
    free(worker->stop_phase);
    worker->stop_phase = phase;
    if (worker->stop_reason == POOL_STOP_NONE)
        worker->stop_reason = reason;
    enum pool_code code =
        pool_worker_transition(worker->status, POOL_EVENT_STOP_REQUESTED, &worker->status, err);
    if (code == POOL_OK)
        code = pool_worker_registry_update(manager->registry, worker, err);
    if (code == POOL_OK)
        explain_stop(manager, worker);
    return code;
}

struct stopping {
    enum pool_stop_reason reason;
    bool is_forced;
    int64_t grace_ms;
};

static enum pool_code make_stopping(struct pool_manager *manager, struct pool_worker_info *worker,
                                    const void *what, struct pool_error *err)
{
    const struct stopping *stopping = what;
    CLEANUP(free_worker_list) struct pool_worker_list *live = NULL;
    struct gate_blocker blocker;
    if (!stopping->is_forced && worker->status != POOL_WORKER_STOPPED && worker->gpu_uuid &&
        manager_list_registry(manager, POOL_REGISTRY_LIVE, &live, NULL) == POOL_OK &&
        gate_blocks_stop(manager->config, live, worker, &blocker))
        return stop_wait(manager, worker, stopping->reason, err);
    /* A stop acts first: a registry that can not be written now must not keep a worker alive. */
    return stop_begin(manager, worker, stopping->reason, stopping->is_forced ? 0 : stopping->grace_ms, NULL,
                      err);
}

enum pool_code pool_manager_record_stopping(struct pool_manager *manager, const char *worker_id,
                                            enum pool_stop_reason reason, int64_t grace_ms, bool is_forced,
                                            struct pool_worker_info **ret_worker, struct pool_error *err)
{
    struct stopping stopping = { reason, is_forced, grace_ms };
    return change_row(manager, worker_id, make_stopping, &stopping, ret_worker, err);
}

enum pool_code pool_manager_start_again(struct pool_manager *manager, const char *worker_id,
                                        struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(free_worker) struct pool_worker_info *worker = NULL;
    struct child *child = manager_find_child(manager, worker_id);
    enum pool_code code = pool_worker_registry_get(manager->registry, worker_id, &worker, err);
    if (code != POOL_OK)
        return code;
    if (!child || gate_is_queued(worker) || child->attempts >= POOL_START_ATTEMPTS_MAX ||
        worker->status != POOL_WORKER_SPAWNING || !worker->is_port_chosen || !is_port_lost(worker))
        return pool_error_set(err, POOL_UNIMPLEMENTED, "worker %s did not lose its port", worker_id);
    code = spawn_again(manager, child, worker, err);
    return code != POOL_OK ? code : pool_worker_registry_get(manager->registry, worker_id, ret_worker, err);
}
