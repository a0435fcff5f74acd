/*
 * What the library does for one worker beside the loop, and what follows from it on the loop; see supervisor.h.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "managerd/supervisor_internal.h"

static void free_worker(struct pool_worker_info **worker)
{
    pool_worker_info_free(*worker);
}

void supervisor_job_free(struct job *job)
{
    pool_worker_info_free(job->worker);
    pool_worker_spawn_request_free(job->request);
    free(job->health_reason);
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
    if (supervised)
        memcpy(job->worker_id, supervised->worker->worker_id, strlen(supervised->worker->worker_id) + 1);
    return job;
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
}

static void work_ready(struct job *job)
{
    CLEANUP(free_worker) struct pool_worker_info *watched = take_ptr(&job->worker);
    job->code =
        pool_manager_record_ready(job->supervisor->manager, watched, job->proof, &job->worker, &job->error);
}

static void work(void *context)
{
    struct job *job = context;
    struct pool_manager *manager = job->supervisor->manager;
    switch (job->kind) {
    case JOB_START: work_start(job); return;
    case JOB_READY: work_ready(job); return;
    case JOB_DRAINING:
        job->code = pool_manager_record_draining(manager, job->worker_id, &job->worker, &job->error);
        return;
    case JOB_STOPPING:
        job->code = pool_manager_record_stopping(manager, job->worker_id, job->reason, job->is_forced,
                                                 &job->worker, &job->error);
        return;
    case JOB_END:
        job->code =
            pool_manager_end_processes(manager, job->worker, job->grace_ms, -1, &job->end, &job->error);
        return;
    case JOB_AGAIN:
        pool_worker_info_free(take_ptr(&job->worker));
        job->code = pool_manager_start_again(manager, job->worker_id, &job->worker, &job->error);
        return;
    case JOB_GONE:
        pool_worker_info_free(take_ptr(&job->worker));
        job->code = pool_manager_record_gone(manager, job->worker_id, job->reason, &job->end, &job->worker,
                                             &job->error);
        return;
    case JOB_SIGHT:
        job->sight.health_reason = job->health_reason;
        job->code =
            pool_manager_record_sight(manager, job->worker_id, &job->sight, &job->worker, &job->error);
        return;
    }
}

static void finish(void *context);

/* Without memory for a job the worker stays as it is, and the next event tries again. */
bool supervisor_job_submit(struct job *job)
{
    enum pool_code code = job->kind == JOB_END
                              ? executor_run_beside(job->supervisor->executor, work, finish, job, &job->error)
                              : executor_submit(job->supervisor->executor, work, finish, job, &job->error);
    return code == POOL_OK;
}

/* ---- ends ---- */

/* Ends what is left of a worker beside the loop; JOB_GONE follows. */
void supervised_begin_end(struct supervised *supervised, enum pool_stop_reason reason, int64_t grace_ms,
                          const struct pool_start_progress *timed_out)
{
    struct job *job = supervisor_job_new(JOB_END, supervised->supervisor, supervised);
    enum phase phase = supervised->phase;
    supervised->phase = PHASE_ENDING;
    supervised_stop_probing(supervised);
    if (job) {
        job->reason = reason;
        job->grace_ms = grace_ms;
        job->failure = phase == PHASE_STARTING ? POOL_WORKER_START_FAILED : POOL_OK;
        job->is_timed_out = timed_out != NULL;
        if (timed_out)
            job->progress = *timed_out;
        job->worker = pool_worker_info_copy(supervised->worker);
        if (job->worker && supervisor_job_submit(job))
            return;
        supervisor_job_free(job);
    }
    supervised->phase = phase;
}

/* What those who wait for readiness are told. */
static void make_failure(struct job *job, const struct supervised *supervised)
{
    if (job->failure == POOL_OK)
        return;
    if (job->reason == POOL_STOP_START_FAILED || job->reason == POOL_STOP_START_TIMEOUT)
        job->failure = pool_worker_start_error(
            supervised->worker, &job->end, job->is_timed_out ? &job->progress : NULL, &job->failure_error);
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

/* What was left is ended: perhaps it only lost its port; else it is gone. true: the job went on. */
static bool finish_end(struct job *job, struct supervised *supervised)
{
    if (job->code != POOL_OK) { /* it can not be killed: the row stays, and its memory stays reserved */
        struct pool_worker_info *copy = pool_worker_info_copy(supervised->worker);
        if (copy)
            supervised_replace_row(supervised, &copy);
        supervised_answer_waiters(supervised, true, job->code, &job->error);
        return false;
    }
    make_failure(job, supervised);
    bool may_be_lost_port =
        job->failure != POOL_OK && !job->is_timed_out && job->reason == POOL_STOP_START_FAILED;
    return go_on(job, may_be_lost_port ? JOB_AGAIN : JOB_GONE);
}

static bool finish_again(struct job *job, struct supervised *supervised)
{
    if (job->code != POOL_OK)
        return go_on(job, JOB_GONE);
    supervised_replace_row(supervised, &job->worker);
    supervised_forget_process(supervised);
    (void)!supervised_watch(supervised, NULL);
    return false;
}

static bool finish_gone(struct job *job, struct supervised *supervised)
{
    if (job->code == POOL_OK) {
        supervised_replace_row(supervised, &job->worker);
        if (job->failure != POOL_OK)
            supervised_tell_start(supervised, job->failure);
    }
    supervised_answer_waiters(supervised, true, job->failure, &job->failure_error);
    supervised_remove(supervised);
    return false;
}

/* ---- the other jobs ---- */

static void finish_start(struct job *job)
{
    struct supervisor *supervisor = job->supervisor;
    struct supervised *supervised = job->code == POOL_OK ? supervised_add(supervisor, job->worker) : NULL;
    if (job->code == POOL_OK && !supervised)
        job->code = pool_error_no_memory(&job->error);
    if (!supervised) {
        if (supervisor->listener.on_start)
            supervisor->listener.on_start(job->code, 0, supervisor->listener.context);
        if (job->answer)
            job->answer(job->code, NULL, &job->error, job->context);
        return;
    }
    job->worker = NULL;
    supervisor_tell_change(supervisor, supervised->worker);
    if (job->answer && !job->is_waiting)
        job->answer(POOL_OK, supervised->worker, NULL, job->context);
    else if (job->answer &&
             supervised_add_waiter(supervised, false, job->answer, job->context, &job->error) != POOL_OK)
        job->answer(POOL_INSUFFICIENT_MEMORY, NULL, &job->error, job->context);
    (void)!supervised_watch(supervised, NULL);
}

static void finish_ready(struct job *job, struct supervised *supervised)
{
    if (job->code != POOL_OK)
        return; /* stopped meanwhile: its end answers */
    supervised_replace_row(supervised, &job->worker);
    supervised_tell_start(supervised, POOL_OK);
    supervised_answer_waiters(supervised, false, POOL_OK, NULL);
}

/* The same for a drain, which is only recorded, and a stop, which then begins. */
static void finish_stopping(struct job *job, struct supervised *supervised)
{
    if (job->code != POOL_OK) {
        if (job->answer)
            job->answer(job->code, NULL, &job->error, job->context);
        return;
    }
    supervised_replace_row(supervised, &job->worker);
    if (job->answer && !job->is_waiting)
        job->answer(POOL_OK, supervised->worker, NULL, job->context);
    else if (job->answer &&
             supervised_add_waiter(supervised, true, job->answer, job->context, &job->error) != POOL_OK)
        job->answer(POOL_INSUFFICIENT_MEMORY, NULL, &job->error, job->context);
    if (job->kind == JOB_STOPPING && supervised->phase != PHASE_ENDING)
        supervised_begin_end(supervised, job->reason, job->is_forced ? 0 : job->grace_ms, NULL);
}

static void finish(void *context)
{
    struct job *job = context;
    /* The row may have gone while the job was queued: look it up anew, by id. */
    struct supervised *supervised =
        job->kind == JOB_START ? NULL : supervised_find(job->supervisor, job->worker_id);
    bool is_kept = false;
    if (job->kind == JOB_START)
        finish_start(job);
    else if ((job->kind == JOB_STOPPING || job->kind == JOB_DRAINING) && !supervised && job->answer)
        job->answer(job->code, job->code == POOL_OK ? job->worker : NULL, &job->error, job->context);
    else if (supervised && job->kind == JOB_READY)
        finish_ready(job, supervised);
    else if (supervised && (job->kind == JOB_STOPPING || job->kind == JOB_DRAINING))
        finish_stopping(job, supervised);
    else if (supervised && job->kind == JOB_END)
        is_kept = finish_end(job, supervised);
    else if (supervised && job->kind == JOB_AGAIN)
        is_kept = finish_again(job, supervised);
    else if (supervised && job->kind == JOB_GONE)
        is_kept = finish_gone(job, supervised);
    else if (supervised && job->kind == JOB_SIGHT && job->code == POOL_OK)
        supervised_replace_row(supervised, &job->worker);
    if (!is_kept)
        supervisor_job_free(job);
}
