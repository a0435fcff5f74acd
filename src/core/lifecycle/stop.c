/*
 * Stopping, in three steps: the stop signal to the main process; SIGTERM to what is left of its tree when it has
 * ended; SIGKILL to all of it when the grace is over. It is done when no process of the worker is left: its main
 * process has ended and its log's lock is free. Signals go through pidfds, to processes proven to be the worker's.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "core/lifecycle/explain.h"
#include "core/lifecycle/gate.h"
#include "core/lifecycle/gpu_processes.h"
#include "core/lifecycle/manager.h"
#include "core/lifecycle/release.h"
#include "core/lifecycle/worker_log.h"

/* While leftovers end: how often they are looked for again. Each is waited for by its pidfd in between. */
#define LOOK_AGAIN_MS 50
#define UNSEEN_MS     5

static bool is_gone(const struct pool_manager *manager, const struct pool_worker_info *worker)
{
    CLEANUP_CLOSE int pidfd = -1;
    enum worker_log_state log = worker_log_of(worker, NULL, NULL);
    if (log == WORKER_LOG_HELD || process_open(&manager->host, &worker->process, &pidfd) == PROCESS_RUNNING)
        return false;
    /* Its main process has ended and nobody holds its log; one that closed its output is known by its environment. */
    return !worker_has_processes(manager, worker);
}

/*
 * Signals everything that can be found of a worker. *ret_one is a pidfd of one of them, -1 when there is none. The
 * pid is looked at again after its pidfd is open: it is the one that was found, or it has ended and nothing happens.
 */
static void signal_tree(const struct pool_manager *manager, const struct pool_worker_info *worker,
                        int signal_number, struct process_set *found, int *ret_one)
{
    CLEANUP(process_set_done) struct process_set again = { 0 };
    found->n = 0;
    *ret_one = -1;
    worker_processes_find(manager, worker, found);
    CLEANUP_FREE int *pidfds = calloc(found->n + 1, sizeof *pidfds);
    if (!pidfds)
        return;
    for (size_t i = 0; i < found->n; i++)
        pidfds[i] = pidfd_open(found->pids[i], 0);
    if (found->n > 0)
        worker_processes_find(manager, worker, &again);
    for (size_t i = 0; i < found->n; i++) {
        if (pidfds[i] >= 0 && process_set_has(&again, found->pids[i]))
            pidfd_signal(pidfds[i], signal_number);
        if (pidfds[i] >= 0 && *ret_one < 0)
            *ret_one = take_fd(&pidfds[i]);
        close_fd(&pidfds[i]);
    }
}

/* Signals the tree again and again until nothing of it is left. false: the time is over, `left` names them. */
static bool end_tree(const struct pool_manager *manager, const struct pool_worker_info *worker,
                     int signal_number, int64_t timeout_ms, int cancel_fd, bool *ret_is_cancelled,
                     struct process_set *left)
{
    int64_t deadline_ns = clock_boottime_ns() + timeout_ms * NS_PER_MS;
    bool is_first = true;
    while (!is_gone(manager, worker)) {
        CLEANUP_CLOSE int one = -1;
        if (signal_number == SIGKILL)
            cgroup_kill(&manager->cgroups, worker);
        /* A process is asked once to end, but killed as often as it is found: it may have forked meanwhile. */
        signal_tree(manager, worker, is_first || signal_number == SIGKILL ? signal_number : 0, left, &one);
        is_first = false;
        int64_t left_ms = (deadline_ns - clock_boottime_ns()) / NS_PER_MS;
        if (left_ms <= 0)
            return is_gone(manager, worker);
        int64_t wait_ms = left_ms < LOOK_AGAIN_MS ? left_ms : LOOK_AGAIN_MS;
        if (one < 0) /* nobody can be seen who could be waited for */
            wait_ms = wait_ms < UNSEEN_MS ? wait_ms : UNSEEN_MS;
        if (pidfd_wait(one, cancel_fd, wait_ms) == PIDFD_CANCELLED) {
            *ret_is_cancelled = true;
            return false;
        }
    }
    return true;
}

static enum pool_code refuse_to_end(const struct pool_worker_info *worker, const struct process_set *left,
                                    struct pool_error *err)
{
    CLEANUP(strbuf_done) struct strbuf pids = STRBUF_INIT(240);
    for (size_t i = 0; i < left->n; i++)
        strbuf_printf(&pids, "%s%d", i ? " " : "", left->pids[i]);
    pool_error_set(err, POOL_DEADLINE_EXCEEDED, "worker %s: %s%s", worker->worker_id,
                   left->n ? "these processes can not be killed (stuck in the driver, or another user's): "
                           : "a process that can not be seen from here still holds its log ",
                   left->n ? strbuf_text(&pids) : worker->log_path);
    pool_error_add_text(err, "worker_id", worker->worker_id);
    pool_error_add_text(err, "pids", strbuf_text(&pids));
    return POOL_DEADLINE_EXCEEDED;
}

static enum pool_code end_processes(const struct pool_manager *manager, const struct pool_worker_info *worker,
                                    bool is_asked_already, int64_t grace_ms, int cancel_fd,
                                    struct pool_process_end *ret_end, struct pool_error *err)
{
    CLEANUP(process_set_done) struct process_set left = { 0 };
    CLEANUP_CLOSE int pidfd = -1;
    bool is_cancelled = false;
    int64_t started_ns = clock_boottime_ns();
    *ret_end = (struct pool_process_end){ 0 };
    enum process_state state = process_open(&manager->host, &worker->process, &pidfd);
    if (state == PROCESS_RUNNING && grace_ms > 0) {
        if (!is_asked_already)
            pidfd_signal(pidfd, (int)worker->stop_signal);
        pidfd_signal(pidfd, SIGCONT); /* a stopped process would not notice */
        is_cancelled = pidfd_wait(pidfd, cancel_fd, grace_ms) == PIDFD_CANCELLED;
    }
    int64_t used_ms = (clock_boottime_ns() - started_ns) / NS_PER_MS;
    if (!is_cancelled && grace_ms > used_ms)
        end_tree(manager, worker, SIGTERM, grace_ms - used_ms, cancel_fd, &is_cancelled, &left);
    bool is_ended = !is_cancelled && end_tree(manager, worker, SIGKILL, POOL_KILL_WAIT_MAX_MS, cancel_fd,
                                              &is_cancelled, &left);
    if (pidfd >= 0 && is_ended)
        *ret_end = process_end_read(pidfd, worker->process.pid);
    if (is_cancelled)
        return pool_error_set(err, POOL_CANCELLED,
                              "worker %s goes on stopping; when its grace is over and it has not ended, the "
                              "next command or a daemon kills it",
                              worker->worker_id);
    return is_ended ? POOL_OK : refuse_to_end(worker, &left, err);
}

enum pool_code stop_processes(const struct pool_manager *manager, const struct pool_worker_info *worker,
                              int64_t grace_ms, int cancel_fd, struct pool_process_end *ret_end,
                              struct pool_error *err)
{
    return end_processes(manager, worker, false, grace_ms, cancel_fd, ret_end, err);
}

/* ---- the command ---- */

bool stop_is_late(const struct pool_worker_info *worker)
{
    return worker->status == POOL_WORKER_STOPPING && worker->kill_at_boottime_ns > 0 &&
           worker->kill_at_boottime_ns < clock_boottime_ns();
}

void stop_kill(const struct pool_manager *manager, const struct pool_worker_info *worker)
{
    CLEANUP(process_set_done) struct process_set found = { 0 };
    CLEANUP_CLOSE int one = -1;
    cgroup_kill(&manager->cgroups, worker);
    signal_tree(manager, worker, SIGKILL, &found, &one);
}

enum pool_code stop_begin(struct pool_manager *manager, struct pool_worker_info *worker,
                          enum pool_stop_reason reason, int64_t grace_ms, struct pool_error *record_error,
                          struct pool_error *err)
{
    int64_t kill_at_ns = add_bytes(clock_boottime_ns(), grace_ms * NS_PER_MS);
    if (worker->status == POOL_WORKER_STOPPED) {
        pool_error_set(err, POOL_CONFLICT, "worker %s is stopped already (%s)", worker->worker_id,
                       pool_stop_reason_name(worker->stop_reason));
        if (err)
            err->is_retriable = false;
        return POOL_CONFLICT;
    }
    enum pool_code code =
        pool_worker_transition(worker->status, POOL_EVENT_STOP_REQUESTED, &worker->status, err);
    if (code != POOL_OK)
        return code;
    if (worker->stop_reason == POOL_STOP_NONE)
        worker->stop_reason = reason;
    free(worker->stop_phase);
    worker->stop_phase = strdup(grace_ms == 0 ? "kill" : "term");
    if (worker->kill_at_boottime_ns == 0 || kill_at_ns < worker->kill_at_boottime_ns)
        worker->kill_at_boottime_ns = kill_at_ns;
    gpu_processes_note_tree(manager, worker);
    if (pool_worker_registry_update(manager->registry, worker, record_error) == POOL_OK)
        explain_stop(manager, worker);
    return POOL_OK;
}

static int64_t grace_of(const struct pool_worker_stop_request *request, const struct pool_worker_info *worker)
{
    return request->force                 ? 0
           : request->grace_ms.is_present ? request->grace_ms.value
                                          : worker->stop_grace_ms;
}

static enum pool_code begin_stop(struct pool_manager *manager, const struct pool_worker_stop_request *request,
                                 struct pool_worker_info **ret_worker, struct pool_error *err,
                                 struct pool_error *record_error)
{
    CLEANUP(free_worker) struct pool_worker_info *worker = NULL;
    CLEANUP(free_worker_list) struct pool_worker_list *live = NULL;
    enum pool_code code = settle_locked(manager, &live, record_error);
    if (code == POOL_INSUFFICIENT_MEMORY)
        return pool_error_no_memory(err);
    if (!manager->registry) { /* damaged, and could not be mended: nobody knows what the worker was */
        if (err)
            *err = *record_error;
        return code;
    }
    code = pool_worker_registry_get(manager->registry, request->worker_id, &worker, err);
    struct gate_blocker blocker;
    if (code == POOL_OK && live && !request->force && worker->status != POOL_WORKER_STOPPED &&
        gate_blocks_stop(manager->config, live, worker, &blocker))
        code = gate_refuse(&blocker, "stop", err);
    if (code == POOL_OK)
        code = stop_begin(manager, worker, POOL_STOP_REQUESTED, grace_of(request, worker), record_error, err);
    if (code == POOL_OK)
        *ret_worker = take_ptr(&worker);
    return code;
}

/* The row of this very start; it may have been settled meanwhile, and its id be used again. */
static enum pool_code end_stop(struct pool_manager *manager, struct pool_worker_info **stopped,
                               struct pool_process_end end, struct pool_worker_info **ret_worker,
                               struct pool_error *err)
{
    CLEANUP(free_worker) struct pool_worker_info *worker = NULL;
    const char *worker_id = (*stopped)->worker_id;
    enum pool_code code = manager_lock(manager, err);
    if (code != POOL_OK)
        return code;
    code = pool_worker_registry_get(manager->registry, worker_id, &worker, err);
    bool is_same = code == POOL_OK && is_same_start(worker, *stopped);
    if (is_same && worker->status != POOL_WORKER_STOPPED)
        code = settle_gone(manager, worker, POOL_STOP_REQUESTED, end, err);
    state_dir_unlock(&manager->state);
    if (code != POOL_OK && code != POOL_WORKER_NOT_FOUND) {
        pool_error_prefix(err, "worker %s is stopped, but that could not be recorded", worker_id);
        return code;
    }
    if (is_same) {
        *ret_worker = take_ptr(&worker);
        return POOL_OK;
    }
    (*stopped)->status = POOL_WORKER_STOPPED;
    *ret_worker = take_ptr(stopped);
    return POOL_OK;
}

void stop_signal(const struct pool_manager *manager, const struct pool_worker_info *worker, bool is_forced)
{
    CLEANUP_CLOSE int pidfd = -1;
    if (process_open(&manager->host, &worker->process, &pidfd) == PROCESS_RUNNING)
        pidfd_signal(pidfd, is_forced ? SIGKILL : (int)worker->stop_signal);
}

enum pool_code pool_manager_stop(struct pool_manager *manager, const struct pool_worker_stop_request *request,
                                 int cancel_fd, struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(free_worker) struct pool_worker_info *worker = NULL;
    struct pool_error record_error = POOL_ERROR_INIT;
    struct pool_process_end end;
    enum pool_code code = pool_worker_stop_request_validate(request, err);
    if (code == POOL_OK)
        code = manager_lock(manager, err);
    if (code != POOL_OK)
        return code;
    code = begin_stop(manager, request, &worker, err, &record_error);
    state_dir_unlock(&manager->state);
    if (code != POOL_OK || !worker)
        return code;
    if (!request->wait) {
        stop_signal(manager, worker, request->force);
        *ret_worker = take_ptr(&worker);
        return POOL_OK;
    }
    code = stop_processes(manager, worker, grace_of(request, worker), cancel_fd, &end, err);
    if (code == POOL_OK)
        code = end_stop(manager, &worker, end, ret_worker, err);
    if (code == POOL_OK)
        release_wait(manager, *ret_worker, cancel_fd);
    return code;
}

void stop_displaced(struct pool_manager *manager)
{
    for (size_t i = 0; i < manager->displaced.n_workers; i++) {
        CLEANUP(free_worker) struct pool_worker_info *stopped = NULL;
        struct pool_worker_info **worker = &manager->displaced.workers[i];
        struct pool_process_end end;
        /* One that can not be ended, or recorded, is seen by the plan that is made afterwards: it does not fit then. */
        if (end_processes(manager, *worker, true, (*worker)->stop_grace_ms, -1, &end, NULL) == POOL_OK &&
            end_stop(manager, worker, end, &stopped, NULL) == POOL_OK)
            release_wait(manager, stopped, -1);
    }
    displaced_clear(manager);
}
