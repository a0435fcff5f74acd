/*
 * Workers, watched; see supervisor.h. What a worker goes through here:
 *
 *   STARTING  its start watch is driven until it is ready, over its deadline, or its process has ended
 *   SERVING   its pidfd is watched; one that was taken over and did not answer at once is proven again by a watch
 *   STOPPING  it was asked to stop, and has its grace: a timer and its pidfd
 *   ENDING    its process ended, or is to be killed: what is left of it is ended beside the loop, then recorded
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "managerd/supervisor_internal.h"

/* ---- telling ---- */

static const char *change_type(enum pool_worker_status status)
{
    switch (status) {
    case POOL_WORKER_SPAWNING: return "worker.spawning";
    case POOL_WORKER_READY: return "worker.ready";
    case POOL_WORKER_BUSY: return "worker.busy";
    case POOL_WORKER_IDLE: return "worker.idle";
    case POOL_WORKER_STOPPING: return "worker.stopping";
    case POOL_WORKER_STOPPED: return "worker.stopped";
    }
    return "worker.changed";
}

void supervisor_tell_change(const struct supervisor *supervisor, const struct pool_worker_info *worker)
{
    if (supervisor->listener.on_change)
        supervisor->listener.on_change(change_type(worker->status), worker, supervisor->listener.context);
    supervisor_wake_waiting(supervisor);
}

void supervisor_wake_waiting(const struct supervisor *supervisor)
{
    for (struct supervised *supervised = supervisor->workers; supervised; supervised = supervised->next) {
        bool is_waiting = pool_worker_is_queued(supervised->worker) || worker_is_held(supervised->worker);
        if (is_waiting && supervised->phase != PHASE_ENDING && !supervised->is_trying &&
            !supervisor->is_closing)
            supervised_wake_after(supervised, 0);
    }
}

void supervised_tell_start(const struct supervised *supervised, enum pool_code outcome)
{
    const struct supervisor_listener *listener = &supervised->supervisor->listener;
    int64_t elapsed_ns = clock_boottime_ns() - supervised->worker->created_boottime_ns;
    if (listener->on_start)
        listener->on_start(supervised->worker->worker_id, outcome, (double)elapsed_ns / (double)NS_PER_SEC,
                           listener->context);
}

/* Answers those who wait: all of them, or those for readiness only. */
void supervised_answer_waiters(struct supervised *supervised, bool is_end, enum pool_code code,
                               const struct pool_error *error)
{
    struct waiter *stay = NULL;
    struct waiter *waiter = take_ptr(&supervised->waiters);
    while (waiter) {
        struct waiter *next = waiter->next;
        if (waiter->is_for_end && !is_end) {
            waiter->next = stay;
            stay = waiter;
        } else {
            /* Who waits for its end is content with that, whatever became of its start. */
            bool is_gone = supervised->worker->status == POOL_WORKER_STOPPED;
            bool is_good = code == POOL_OK || (waiter->is_for_end && is_gone);
            waiter->answer(is_good ? POOL_OK : code, is_good ? supervised->worker : NULL, error,
                           waiter->context);
            free(waiter);
        }
        waiter = next;
    }
    supervised->waiters = stay;
}

enum pool_code supervised_add_waiter(struct supervised *supervised, bool is_for_end,
                                     supervisor_answer *answer, void *context, struct pool_error *err)
{
    struct waiter *waiter = calloc(1, sizeof *waiter);
    if (!waiter)
        return pool_error_no_memory(err);
    *waiter = (struct waiter){ answer, context, is_for_end, supervised->waiters };
    supervised->waiters = waiter;
    return POOL_OK;
}

/* ---- the table ---- */

struct supervised *supervised_find(const struct supervisor *supervisor, const char *worker_id)
{
    struct supervised *supervised = supervisor->workers;
    while (supervised && strcmp(supervised->worker->worker_id, worker_id) != 0)
        supervised = supervised->next;
    return supervised;
}

void supervised_remove(struct supervised *supervised)
{
    struct supervisor *supervisor = supervised->supervisor;
    struct supervised **at = &supervisor->workers;
    while (*at && *at != supervised)
        at = &(*at)->next;
    if (*at) {
        *at = supervised->next;
        supervisor->n_workers--;
    }
    supervised_stop_watching(supervised);
    close_fd(&supervised->pidfd);
    free(supervised->start_error);
    timelines_free(supervised->timelines);
    pool_worker_info_free(supervised->worker);
    free(supervised);
}

struct supervised *supervised_add(struct supervisor *supervisor, struct pool_worker_info *worker)
{
    struct supervised *supervised = calloc(1, sizeof *supervised);
    uv_timer_t *timer = calloc(1, sizeof *timer);
    if (!supervised || !timer) {
        free(supervised);
        free(timer);
        return NULL;
    }
    *supervised = (struct supervised){ .supervisor = supervisor, .worker = worker, .pidfd = -1 };
    uv_timer_init(supervisor->loop, timer); /* can not fail */
    timer->data = supervised;
    supervised->timer = timer;
    supervised->next = supervisor->workers;
    supervisor->workers = supervised;
    supervisor->n_workers++;
    return supervised;
}

void supervised_replace_row(struct supervised *supervised, struct pool_worker_info **worker)
{
    bool is_changed = (*worker)->revision != supervised->worker->revision;
    pool_worker_info_free(supervised->worker);
    supervised->worker = take_ptr(worker);
    if (is_changed)
        supervisor_tell_change(supervised->supervisor, supervised->worker);
}

/* ---- the public side ---- */

enum pool_code supervisor_open(uv_loop_t *loop, struct executor *executor, struct pool_manager *manager,
                               const struct supervisor_listener *listener, struct supervisor **ret_supervisor,
                               struct pool_error *err)
{
    struct supervisor *supervisor = calloc(1, sizeof *supervisor);
    if (!supervisor)
        return pool_error_no_memory(err);
    supervisor->loop = loop;
    supervisor->executor = executor;
    supervisor->manager = manager;
    supervisor->listener = *listener;
    supervisor->queue_timeout_ms = listener->queue_timeout_ms;
    *ret_supervisor = supervisor;
    return POOL_OK;
}

enum pool_code supervisor_adopt(struct supervisor *supervisor, struct pool_error *err)
{
    struct pool_worker_list *list = NULL;
    enum pool_code code = pool_manager_settle(supervisor->manager, &list, err);
    if (code == POOL_OK)
        code = pool_manager_prove_again(supervisor->manager, list, err);
    for (size_t i = 0; code == POOL_OK && i < list->n_workers; i++) {
        struct supervised *supervised = supervised_add(supervisor, list->workers[i]);
        if (!supervised) {
            code = pool_error_no_memory(err);
            break;
        }
        list->workers[i] = NULL;
        supervised_watch(supervised);
    }
    pool_worker_list_free(list);
    return code;
}

void supervisor_quiesce(struct supervisor *supervisor)
{
    supervisor->is_closing = true;
    for (struct supervised *supervised = supervisor->workers; supervised; supervised = supervised->next)
        supervised_cut_end(supervised);
}

void supervisor_close(struct supervisor *supervisor, void (*on_closed)(void *context), void *context)
{
    struct pool_error ending = POOL_ERROR_INIT;
    pool_error_set(&ending, POOL_CANCELLED, "the daemon is ending; the worker goes on");
    supervisor->is_closing = true;
    while (supervisor->workers) {
        supervised_answer_waiters(supervisor->workers, true, POOL_CANCELLED, &ending);
        supervised_remove(supervisor->workers);
    }
    free(supervisor);
    if (on_closed)
        on_closed(context);
}

static void answer_failure(supervisor_answer *answer, void *context, struct pool_error *error)
{
    if (answer)
        answer(error->code, NULL, error, context);
}

void supervisor_start(struct supervisor *supervisor, struct pool_worker_spawn_request *request,
                      bool is_waiting, bool is_unrestricted, supervisor_answer *answer, void *context)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct job *job = supervisor_job_new(JOB_START, supervisor, NULL);
    if (!job) {
        pool_worker_spawn_request_free(request);
        pool_error_no_memory(&error);
        answer_failure(answer, context, &error);
        return;
    }
    job->request = request;
    job->is_waiting = is_waiting;
    job->is_unrestricted = is_unrestricted;
    job->answer = answer;
    job->context = context;
    if (!supervisor_job_submit(job)) {
        answer_failure(answer, context, &job->error);
        supervisor_job_free(job);
    }
}

void supervisor_wait(struct supervisor *supervisor, const char *worker_id, supervisor_answer *answer,
                     void *context)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct supervised *supervised = supervised_find(supervisor, worker_id);
    if (!supervised)
        pool_error_set(&error, POOL_WORKER_NOT_FOUND, "there is no worker %s", worker_id);
    else if (supervised->worker->status != POOL_WORKER_SPAWNING) {
        answer(POOL_OK, supervised->worker, NULL, context);
        return;
    } else {
        (void)!supervised_add_waiter(supervised, false, answer, context, &error);
    }
    if (error.code != POOL_OK)
        answer_failure(answer, context, &error);
}

void supervisor_drain(struct supervisor *supervisor, const char *worker_id, bool is_waiting,
                      supervisor_answer *answer, void *context)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct job *job = supervisor_job_new(JOB_DRAINING, supervisor, NULL);
    if (!job) {
        pool_error_no_memory(&error);
        answer_failure(answer, context, &error);
        return;
    }
    strncpy(job->worker_id, worker_id, POOL_WORKER_ID_MAX);
    job->is_waiting = is_waiting;
    job->answer = answer;
    job->context = context;
    if (!supervisor_job_submit(job)) {
        answer_failure(answer, context, &job->error);
        supervisor_job_free(job);
    }
}

void supervisor_stop(struct supervisor *supervisor, const char *worker_id, enum pool_stop_reason reason,
                     int64_t grace_ms, bool is_forced, bool is_waiting, supervisor_answer *answer,
                     void *context)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct job *job = supervisor_job_new(JOB_STOPPING, supervisor, NULL);
    struct supervised *supervised = supervised_find(supervisor, worker_id);
    if (!answer && reason != POOL_STOP_REQUESTED && supervised && supervised->phase == PHASE_ENDING) {
        supervisor_job_free(job); /* it ended by itself meanwhile, and that is the reason */
        return;
    }
    if (!job) {
        pool_error_no_memory(&error);
        answer_failure(answer, context, &error);
        return;
    }
    strncpy(job->worker_id, worker_id, POOL_WORKER_ID_MAX);
    job->reason = reason;
    job->grace_ms = grace_ms >= 0 ? grace_ms : supervised ? supervised->worker->stop_grace_ms : 0;
    job->is_forced = is_forced;
    job->is_waiting = is_waiting;
    job->answer = answer;
    job->context = context;
    if (!supervisor_job_submit(job)) {
        answer_failure(answer, context, &job->error);
        supervisor_job_free(job);
    }
}

void supervisor_note_gpu_fault(struct supervisor *supervisor, const char *gpu_uuid)
{
    for (struct supervised *supervised = supervisor->workers; supervised; supervised = supervised->next) {
        bool is_on_it = false;
        (void)pool_worker_info_reserved_on(supervised->worker, gpu_uuid, &is_on_it);
        if (is_on_it)
            supervised->gpu_fault_ns = clock_boottime_ns();
    }
}

const struct pool_worker_info *supervisor_find(const struct supervisor *supervisor, const char *worker_id)
{
    const struct supervised *supervised = supervised_find(supervisor, worker_id);
    return supervised ? supervised->worker : NULL;
}

void supervisor_called(struct supervisor *supervisor, const struct pool_worker_info *worker)
{
    struct supervised *supervised = supervised_find(supervisor, worker->worker_id);
    bool is_same_start = supervised && supervised->worker->created_boottime_ns == worker->created_boottime_ns;
    if (!is_same_start || !supervised->watch)
        return; /* it ended meanwhile */
    pool_start_watch_called(supervised->watch);
    supervised_wake_after(supervised, 0);
}

bool supervisor_is_proving(const struct supervisor *supervisor, const char *worker_id)
{
    const struct supervised *supervised = supervised_find(supervisor, worker_id);
    return supervised && supervised->is_proving;
}

size_t supervisor_n_workers(const struct supervisor *supervisor)
{
    return supervisor->n_workers;
}

bool supervisor_is_busy(const struct supervisor *supervisor)
{
    for (const struct supervised *supervised = supervisor->workers; supervised;
         supervised = supervised->next) {
        if (supervised->phase != PHASE_SERVING)
            return true;
    }
    return false;
}

void supervisor_each(const struct supervisor *supervisor, supervisor_visit *visit, void *context)
{
    for (const struct supervised *supervised = supervisor->workers; supervised; supervised = supervised->next)
        visit(supervised->worker, context);
}

void supervisor_report(struct supervisor *supervisor, const char *worker_id,
                       const struct pool_worker_sight *sight)
{
    struct supervised *supervised = supervised_find(supervisor, worker_id);
    struct job *job = supervised ? supervisor_job_new(JOB_SIGHT, supervisor, supervised) : NULL;
    if (!job)
        return;
    job->sight = *sight;
    job->health_reason = sight->health_reason ? strdup(sight->health_reason) : NULL;
    if ((sight->health_reason && !job->health_reason) || !supervisor_job_submit(job))
        supervisor_job_free(job);
}
