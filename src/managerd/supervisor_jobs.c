/*
 * What the library does for one worker beside the loop, and what follows from it on the loop; see supervisor.h.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "managerd/log.h"
#include "managerd/supervisor_internal.h"

/* After an end that could not be brought about, recorded or even tried. */
#define END_AGAIN_MS 5000
/* Those who wait for their turn look when something changes; and so often at least. */
#define QUEUE_LOOK_MS 1000

static void free_worker(struct pool_worker_info **worker)
{
    pool_worker_info_free(*worker);
}

void supervisor_job_free(struct job *job)
{
    if (!job)
        return;
    pool_worker_info_free(job->worker);
    pool_worker_spawn_request_free(job->request);
    pool_worker_list_free(job->displaced);
    free(job->health_reason);
    evidence_free(job->evidence);
    free(job->presence);
    close_fd(&job->cancel_fd);
    free(job);
}

struct job *supervisor_job_new(enum job_kind kind, struct supervisor *supervisor,
                               const struct supervised *supervised)
{
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    job->kind = kind;
    job->supervisor = supervisor;
    job->cancel_fd = -1;
    job->cause = log_cause();
    if (supervised && !job->cause.id[0])
        job->cause = supervised->cause;
    if (supervised)
        memcpy(job->worker_id, supervised->worker->worker_id, strlen(supervised->worker->worker_id) + 1);
    return job;
}

/* Without memory they are recorded as stopping, and the next daemon stops them. */
static void take_displaced(struct job *job)
{
    pool_worker_list_free(take_ptr(&job->displaced));
    (void)!pool_manager_take_displaced(job->supervisor->manager, &job->displaced, NULL);
}

static void work_start(struct job *job)
{
    struct pool_worker_spawn_response *response = NULL;
    pool_manager_set_unrestricted(job->supervisor->manager, job->is_unrestricted);
    job->code = pool_manager_spawn(job->supervisor->manager, job->request, &response, &job->error);
    if (job->code == POOL_OK)
        job->code =
            pool_manager_row(job->supervisor->manager, response->worker_id, &job->worker, &job->error);
    pool_worker_spawn_response_free(response);
    take_displaced(job);
}

static void work_queued(struct job *job)
{
    pool_worker_info_free(take_ptr(&job->worker));
    job->code =
        pool_manager_start_queued(job->supervisor->manager, job->worker_id, &job->worker, &job->error);
    take_displaced(job);
}

static void work_ready(struct job *job)
{
    CLEANUP(free_worker) struct pool_worker_info *watched = take_ptr(&job->worker);
    job->code =
        pool_manager_record_ready(job->supervisor->manager, watched, job->proof, &job->worker, &job->error);
}

static void work_proven(struct job *job)
{
    CLEANUP(free_worker) struct pool_worker_info *watched = take_ptr(&job->worker);
    job->code =
        pool_manager_record_proven(job->supervisor->manager, watched, job->proof, &job->worker, &job->error);
}

static void work_prove_again(struct job *job)
{
    struct pool_worker_list list = { .workers = &job->worker, .n_workers = 1 };
    job->code = pool_manager_prove_again(job->supervisor->manager, &list, &job->error);
}

static void work_presence(struct job *job)
{
    CLEANUP(free_worker) struct pool_worker_info *watched = take_ptr(&job->worker);
    job->code = pool_manager_record_presence(job->supervisor->manager, watched, job->presence, &job->worker,
                                             &job->error);
}

/* What those who wait for readiness are told of a start that failed, with its last lines: before its end is recorded. */
static void work_failure(struct job *job)
{
    if (!job->is_failure_due)
        return;
    job->is_failure_due = false;
    job->failure = pool_manager_start_error(job->supervisor->manager, job->worker, &job->end,
                                            job->is_timed_out ? &job->progress : NULL, &job->failure_error);
}

static void work(void *context)
{
    struct job *job = context;
    struct pool_manager *manager = job->supervisor->manager;
    if (job->kind != JOB_END) /* that one runs beside others, and explains nothing */
        (void)!pool_manager_set_correlation_id(manager, job->cause.id[0] ? job->cause.id : NULL, NULL);
    switch (job->kind) {
    case JOB_START: work_start(job); return;
    case JOB_QUEUED: work_queued(job); return;
    case JOB_READY: work_ready(job); return;
    case JOB_PROVEN: work_proven(job); return;
    case JOB_PROVE_AGAIN: work_prove_again(job); return;
    case JOB_DRAINING:
        job->code = pool_manager_record_draining(manager, job->worker_id, &job->worker, &job->error);
        return;
    case JOB_STOPPING:
        job->code = pool_manager_record_stopping(manager, job->worker_id, job->reason, job->grace_ms,
                                                 job->is_forced, &job->worker, &job->error);
        return;
    case JOB_END:
        job->code = pool_manager_end_processes(manager, job->worker, job->grace_ms, job->cancel_fd, &job->end,
                                               &job->error);
        return;
    case JOB_STUCK:
        pool_worker_info_free(take_ptr(&job->worker));
        job->code =
            pool_manager_record_stuck(manager, job->worker_id, job->health_reason, &job->worker, &job->error);
        return;
    case JOB_AGAIN:
        work_failure(job);
        pool_worker_info_free(take_ptr(&job->worker));
        job->code = pool_manager_start_again(manager, job->worker_id, &job->worker, &job->error);
        return;
    case JOB_GONE:
        work_failure(job);
        pool_worker_info_free(take_ptr(&job->worker));
        job->code = pool_manager_record_gone(manager, job->worker_id, job->reason, &job->end,
                                             evidence_of(job->evidence), &job->worker, &job->bundle_error,
                                             &job->error);
        return;
    case JOB_SIGHT:
        job->sight.health_reason = job->health_reason;
        job->code =
            pool_manager_record_sight(manager, job->worker_id, &job->sight, &job->worker, &job->error);
        return;
    case JOB_PRESENCE: work_presence(job); return;
    }
}

static void finish(void *context);

bool supervisor_job_submit(struct job *job)
{
    enum pool_code code = job->kind == JOB_END
                              ? executor_run_beside(job->supervisor->executor, work, finish, job, &job->error)
                              : executor_submit(job->supervisor->executor, work, finish, job, &job->error);
    return code == POOL_OK;
}

/* ---- ends ---- */

void supervised_cut_end(struct supervised *supervised)
{
    uint64_t one = 1;
    if (supervised->end_job && supervised->end_job->cancel_fd >= 0)
        (void)!write(supervised->end_job->cancel_fd, &one, sizeof one);
}

void supervised_begin_end(struct supervised *supervised, enum pool_stop_reason reason, int64_t grace_ms,
                          const struct pool_start_progress *timed_out)
{
    if (supervised->supervisor->is_closing)
        return;
    struct job *job = supervisor_job_new(JOB_END, supervised->supervisor, supervised);
    supervised_stop_probing(supervised);
    supervised->phase = PHASE_ENDING;
    supervised->end_reason = reason;
    if (job) {
        job->reason = reason;
        job->grace_ms = grace_ms;
        job->failure = supervised->is_start ? POOL_WORKER_START_FAILED : POOL_OK;
        job->is_timed_out = timed_out != NULL;
        if (timed_out)
            job->progress = *timed_out;
        job->cancel_fd = eventfd(0, EFD_CLOEXEC); /* without one it is not cut short */
        job->worker = pool_worker_info_copy(supervised->worker);
        if (job->worker && supervisor_job_submit(job)) {
            supervised->end_job = job;
            return;
        }
        supervisor_job_free(job);
    }
    supervised_wake_after(supervised, END_AGAIN_MS);
}

/* What those who wait for readiness are told; of a start that failed its worker tells, which is read beside the loop. */
static void make_failure(struct job *job, const struct supervised *supervised)
{
    if (job->failure == POOL_OK)
        return;
    if (supervised->start_error) {
        job->failure = supervised->start_error->code;
        job->failure_error = *supervised->start_error;
    } else if (job->reason == POOL_STOP_START_FAILED || job->reason == POOL_STOP_START_TIMEOUT)
        job->is_failure_due = true;
    else
        job->failure =
            pool_error_set(&job->failure_error, POOL_WORKER_START_FAILED,
                           "worker %s was stopped before it was ready", supervised->worker->worker_id);
}

static bool go_on(struct job *job, enum job_kind kind)
{
    job->kind = kind;
    job->code = POOL_OK;
    return supervisor_job_submit(job);
}

/*
 * It can not be killed: the row stays and says so, and what is reserved for it stays reserved. It is tried again, for
 * what is stuck in a driver may come free. true: the job went on.
 */
static bool note_stuck(struct job *job, struct supervised *supervised)
{
    log_tell(LOG_WORKER_STUCK, &(struct log_fields){ .worker_id = job->worker_id }, "%s", job->error.message);
    supervised_answer_waiters(supervised, true, job->code, &job->error);
    supervised_wake_after(supervised, END_AGAIN_MS);
    free(job->health_reason);
    job->health_reason = strdup(job->error.message);
    return job->health_reason && go_on(job, JOB_STUCK);
}

/* What was left is ended: perhaps it only lost its port; else it is gone. true: the job went on. */
static bool finish_end(struct job *job, struct supervised *supervised)
{
    supervised->end_job = NULL;
    if (job->code == POOL_CANCELLED) { /* somebody forces it, or the daemon ends */
        supervised_begin_end(supervised, job->reason, 0, NULL);
        return false;
    }
    if (job->code != POOL_OK)
        return note_stuck(job, supervised);
    if (job->end.is_known) /* a second end of the same processes is not told how they ended */
        supervised->end = job->end;
    job->end = supervised->end;
    make_failure(job, supervised);
    evidence_free(job->evidence);
    job->evidence = supervised_gather_evidence(supervised, job->is_timed_out ? &job->progress : NULL);
    bool may_be_lost_port = job->failure != POOL_OK && !job->is_timed_out &&
                            job->reason == POOL_STOP_START_FAILED && !supervised->start_error;
    if (go_on(job, may_be_lost_port ? JOB_AGAIN : JOB_GONE))
        return true;
    supervised_wake_after(supervised, END_AGAIN_MS);
    return false;
}

static bool finish_again(struct job *job, struct supervised *supervised)
{
    if (job->code != POOL_OK) {
        if (go_on(job, JOB_GONE))
            return true;
        supervised_wake_after(supervised, END_AGAIN_MS);
        return false;
    }
    supervised->end = (struct pool_process_end){ 0 };
    supervised_replace_row(supervised, &job->worker);
    supervised_forget_process(supervised);
    supervised_watch(supervised);
    return false;
}

static void finish_gone(struct job *job, struct supervised *supervised)
{
    if (job->bundle_error.code != POOL_OK)
        log_tell(LOG_WORKER_BUNDLE_FAILED, &(struct log_fields){ .worker_id = job->worker_id }, "%s",
                 job->bundle_error.message);
    if (job->code != POOL_OK && job->code != POOL_WORKER_NOT_FOUND) { /* it acted; to be recorded later */
        log_tell(LOG_RECORD_FAILED, &(struct log_fields){ .worker_id = job->worker_id },
                 "worker %s is gone, and that could not be recorded: %s", job->worker_id, job->error.message);
        supervised_answer_waiters(supervised, true, job->code, &job->error);
        supervised_wake_after(supervised, END_AGAIN_MS);
        return;
    }
    if (job->code == POOL_OK) {
        supervised_replace_row(supervised, &job->worker);
        if (job->failure != POOL_OK)
            supervised_tell_start(supervised,
                                  job->reason == POOL_STOP_REQUESTED ? POOL_CANCELLED : job->failure);
    }
    supervised_answer_waiters(supervised, true, job->failure, &job->failure_error);
    supervised_remove(supervised);
}

/* ---- the other jobs ---- */

/* Who asked is told now, or when it is ready or gone. */
static void answer_or_wait(struct job *job, struct supervised *supervised, bool is_for_end)
{
    if (!job->answer)
        return;
    if (!job->is_waiting)
        job->answer(POOL_OK, supervised->worker, NULL, job->context);
    else if (supervised_add_waiter(supervised, is_for_end, job->answer, job->context, &job->error) != POOL_OK)
        job->answer(POOL_INSUFFICIENT_MEMORY, NULL, &job->error, job->context);
}

/* Their stop is recorded, and begins now. */
static void stop_displaced(struct job *job)
{
    for (size_t i = 0; job->displaced && i < job->displaced->n_workers; i++) {
        struct pool_worker_info **worker = &job->displaced->workers[i];
        struct supervised *supervised = supervised_find(job->supervisor, (*worker)->worker_id);
        if (!supervised || (*worker)->created_boottime_ns != supervised->worker->created_boottime_ns)
            continue; /* it has ended meanwhile */
        enum pool_stop_reason reason = (*worker)->stop_reason;
        int64_t grace_ms = (*worker)->stop_grace_ms;
        if (job->cause.id[0])
            supervised->cause = job->cause;
        supervised_replace_row(supervised, worker);
        supervised_begin_stop(supervised, reason, grace_ms);
    }
    pool_worker_list_free(take_ptr(&job->displaced));
}

static void finish_start(struct job *job)
{
    struct supervisor *supervisor = job->supervisor;
    struct supervised *supervised = job->code == POOL_OK ? supervised_add(supervisor, job->worker) : NULL;
    if (job->code == POOL_OK && !supervised)
        job->code = pool_error_no_memory(&job->error);
    if (!supervised) {
        if (supervisor->listener.on_start)
            supervisor->listener.on_start(job->request->worker_id, job->code, 0,
                                          supervisor->listener.context);
        if (job->answer)
            job->answer(job->code, NULL, &job->error, job->context);
        return;
    }
    job->worker = NULL;
    supervised->cause = job->cause;
    supervisor_tell_change(supervisor, supervised->worker);
    answer_or_wait(job, supervised, false);
    supervised_watch(supervised);
}

/* A start that waited for its turn: it runs now, waits on, or has waited for too long or in vain. */
static void finish_queued(struct job *job, struct supervised *supervised)
{
    int64_t waited_ms = (clock_boottime_ns() - supervised->queued_since_ns) / NS_PER_MS;
    bool is_late = waited_ms >= supervised->supervisor->queue_timeout_ms;
    supervised->is_trying = false;
    if (job->code == POOL_OK) {
        supervised_replace_row(supervised, &job->worker);
        supervised_watch(supervised);
        return;
    }
    if (job->worker)
        supervised_replace_row(supervised, &job->worker);
    if (supervised->phase != PHASE_STARTING) /* it is being stopped */
        return;
    if (job->code == POOL_CONFLICT && job->error.is_retriable && !is_late) {
        supervised_wake_after(supervised, QUEUE_LOOK_MS);
        return;
    }
    pool_error_add_number(&job->error, "queued_ms", waited_ms);
    pool_error_add_text(&job->error, "worker_id", job->worker_id);
    supervised->start_error = malloc(sizeof *supervised->start_error);
    if (supervised->start_error)
        *supervised->start_error = job->error;
    supervised_begin_end(supervised, is_late ? POOL_STOP_START_TIMEOUT : POOL_STOP_START_FAILED, 0, NULL);
}

static void finish_ready(struct job *job, struct supervised *supervised)
{
    if (job->code == POOL_OK) {
        supervised->is_start = false;
        supervised->cause = (struct log_cause){ 0 };
        supervised_replace_row(supervised, &job->worker);
        supervised_tell_start(supervised, POOL_OK);
        supervised_answer_waiters(supervised, false, POOL_OK, NULL);
    } else if (job->code != POOL_CONFLICT && supervised->phase == PHASE_SERVING) {
        /* It could not be recorded now: it is proven again. In a conflict it was stopped meanwhile: its end answers. */
        log_tell(LOG_RECORD_FAILED, &(struct log_fields){ .worker_id = job->worker_id },
                 "worker %s is ready, and that could not be recorded: %s", job->worker_id,
                 job->error.message);
        supervised->phase = PHASE_STARTING;
        supervised_wake_after(supervised, END_AGAIN_MS);
    }
}

static void finish_proven(struct job *job, struct supervised *supervised)
{
    if (job->code == POOL_OK && job->worker) {
        if (supervised->phase == PHASE_SERVING && !pool_worker_is_unproven(job->worker))
            supervised_stop_probing(supervised);
        supervised_replace_row(supervised, &job->worker);
    } else if (supervised->phase == PHASE_SERVING && job->code != POOL_CONFLICT) {
        supervised->is_proving = true;
        supervised_wake_after(supervised, END_AGAIN_MS);
    }
}

/*
 * The same for a drain, which is only recorded, and a stop, which then begins. A stop acts also when it could not be
 * recorded.
 */
static void finish_stopping(struct job *job, struct supervised *supervised)
{
    supervised->is_trying = false;
    bool is_refused = job->code == POOL_CONFLICT || job->code == POOL_WORKER_NOT_FOUND;
    if (is_refused || (job->code != POOL_OK && job->kind == JOB_DRAINING)) {
        if (job->answer)
            job->answer(job->code, NULL, &job->error, job->context);
        return;
    }
    if (job->cause.id[0])
        supervised->cause = job->cause;
    if (job->code == POOL_OK)
        supervised_replace_row(supervised, &job->worker);
    answer_or_wait(job, supervised, true);
    if (job->kind == JOB_STOPPING && job->code == POOL_OK && worker_is_held(supervised->worker)) {
        supervised->held_grace_ms = job->grace_ms; /* asked for again when the device is free */
        supervised_wake_after(supervised, QUEUE_LOOK_MS);
        return;
    }
    if (job->kind == JOB_STOPPING)
        supervised_begin_stop(supervised, job->reason, job->is_forced ? 0 : job->grace_ms);
}

static void finish_presence(struct job *job, struct supervised *supervised)
{
    bool was_off = pool_worker_is_off_gpu(supervised->worker);
    supervised->is_presence_told = false; /* what could not be recorded now, the next snapshot tells again */
    if (job->code != POOL_OK)
        return;
    supervised_replace_row(supervised, &job->worker);
    supervised_tell_presence(supervised, was_off, job->presence);
}

/* true: the job went on as another one. */
static bool finish_for(struct job *job, struct supervised *supervised)
{
    switch (job->kind) {
    case JOB_START: return false;
    case JOB_QUEUED: finish_queued(job, supervised); return false;
    case JOB_READY: finish_ready(job, supervised); return false;
    case JOB_PROVEN:
    case JOB_PROVE_AGAIN: finish_proven(job, supervised); return false;
    case JOB_DRAINING:
    case JOB_STOPPING: finish_stopping(job, supervised); return false;
    case JOB_END: return finish_end(job, supervised);
    case JOB_AGAIN: return finish_again(job, supervised);
    case JOB_GONE: finish_gone(job, supervised); return false;
    case JOB_PRESENCE: finish_presence(job, supervised); return false;
    case JOB_STUCK:
    case JOB_SIGHT:
        if (job->code == POOL_OK)
            supervised_replace_row(supervised, &job->worker);
        return false;
    }
    return false;
}

static void finish(void *context)
{
    struct job *job = context;
    CLEANUP(log_leave_cause) __attribute__((unused)) struct log_cause before = log_enter_cause(job->cause.id);
    /* The row may have gone while the job was queued: look it up anew, by id. */
    struct supervised *supervised =
        job->kind == JOB_START ? NULL : supervised_find(job->supervisor, job->worker_id);
    bool is_kept = false;
    stop_displaced(job);
    if (job->kind == JOB_START)
        finish_start(job);
    else if (supervised)
        is_kept = finish_for(job, supervised);
    else if (job->answer)
        job->answer(job->code, job->code == POOL_OK ? job->worker : NULL, &job->error, job->context);
    if (!is_kept)
        supervisor_job_free(job);
}
