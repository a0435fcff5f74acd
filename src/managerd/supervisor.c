/*
 * Workers, watched; see supervisor.h. What a worker goes through here:
 *
 *   STARTING  its start watch is driven until it is ready, over its deadline, or its process has ended
 *   SERVING   its pidfd is watched
 *   ENDING    its process ended, or it is being stopped: what is left of it is ended beside the loop, then recorded
 */
#include "managerd/supervisor.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"

enum phase { PHASE_STARTING, PHASE_SERVING, PHASE_ENDING };

struct waiter {
    supervisor_answer *answer; /* never NULL */
    void *context;
    bool is_for_end; /* else for readiness */
    struct waiter *next;
};

struct supervised {
    struct supervisor *supervisor;
    struct pool_worker_info *worker;
    enum phase phase;
    int pidfd;
    struct pool_start_watch *watch;
    uv_poll_t *exit_poll;  /* on the pidfd; NULL after its first event */
    uv_poll_t *probe_poll; /* on the watch's probe */
    uv_timer_t *timer;     /* the watch's wake time */
    struct waiter *waiters;
    struct supervised *next;
};

struct supervisor {
    uv_loop_t *loop;
    struct executor *executor;
    struct pool_manager *manager;
    struct supervisor_listener listener;
    struct supervised *workers;
    size_t n_workers;
    bool is_closing;
};

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

static void tell_change(const struct supervisor *supervisor, const struct pool_worker_info *worker)
{
    if (supervisor->listener.on_change)
        supervisor->listener.on_change(change_type(worker->status), worker, supervisor->listener.context);
}

static void tell_start(const struct supervised *supervised, enum pool_code outcome)
{
    const struct supervisor_listener *listener = &supervised->supervisor->listener;
    int64_t elapsed_ns = clock_boottime_ns() - supervised->worker->created_boottime_ns;
    if (listener->on_start)
        listener->on_start(outcome, (double)elapsed_ns / (double)NS_PER_SEC, listener->context);
}

/* Answers those who wait: all of them, or those for readiness only. */
static void answer_waiters(struct supervised *supervised, bool is_end, enum pool_code code,
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
            bool is_good = waiter->is_for_end || code == POOL_OK;
            waiter->answer(is_good ? POOL_OK : code, is_good ? supervised->worker : NULL, error,
                           waiter->context);
            free(waiter);
        }
        waiter = next;
    }
    supervised->waiters = stay;
}

static enum pool_code add_waiter(struct supervised *supervised, bool is_for_end, supervisor_answer *answer,
                                 void *context, struct pool_error *err)
{
    struct waiter *waiter = calloc(1, sizeof *waiter);
    if (!waiter)
        return pool_error_no_memory(err);
    *waiter = (struct waiter){ answer, context, is_for_end, supervised->waiters };
    supervised->waiters = waiter;
    return POOL_OK;
}

/* ---- the table ---- */

static struct supervised *find(const struct supervisor *supervisor, const char *worker_id)
{
    struct supervised *supervised = supervisor->workers;
    while (supervised && strcmp(supervised->worker->worker_id, worker_id) != 0)
        supervised = supervised->next;
    return supervised;
}

static void close_handle(uv_handle_t *handle)
{
    free(handle);
}

static void drop_poll(uv_poll_t **poll)
{
    if (!*poll)
        return;
    uv_poll_stop(*poll);
    uv_close((uv_handle_t *)*poll, close_handle);
    *poll = NULL;
}

static void drop_timer(uv_timer_t **timer)
{
    if (*timer)
        uv_close((uv_handle_t *)*timer, close_handle);
    *timer = NULL;
}

/* Before anything else closes a descriptor: libuv must not watch one that is somebody else's by then. */
static void stop_watching(struct supervised *supervised)
{
    drop_poll(&supervised->probe_poll);
    drop_poll(&supervised->exit_poll);
    drop_timer(&supervised->timer);
    pool_start_watch_close(supervised->watch);
    supervised->watch = NULL;
}

static void remove_supervised(struct supervised *supervised)
{
    struct supervisor *supervisor = supervised->supervisor;
    struct supervised **at = &supervisor->workers;
    while (*at && *at != supervised)
        at = &(*at)->next;
    if (*at) {
        *at = supervised->next;
        supervisor->n_workers--;
    }
    stop_watching(supervised);
    close_fd(&supervised->pidfd);
    pool_worker_info_free(supervised->worker);
    free(supervised);
}

static struct supervised *add_supervised(struct supervisor *supervisor, struct pool_worker_info *worker)
{
    struct supervised *supervised = calloc(1, sizeof *supervised);
    if (!supervised)
        return NULL;
    *supervised = (struct supervised){ .supervisor = supervisor, .worker = worker, .pidfd = -1 };
    supervised->next = supervisor->workers;
    supervisor->workers = supervised;
    supervisor->n_workers++;
    return supervised;
}

static void replace_row(struct supervised *supervised, struct pool_worker_info **worker)
{
    bool is_changed = (*worker)->revision != supervised->worker->revision;
    pool_worker_info_free(supervised->worker);
    supervised->worker = take_ptr(worker);
    if (is_changed)
        tell_change(supervised->supervisor, supervised->worker);
}

/* ---- jobs: what the library does for one worker, off the loop ---- */

enum job_kind { JOB_START, JOB_READY, JOB_DRAINING, JOB_STOPPING, JOB_END, JOB_AGAIN, JOB_GONE, JOB_SIGHT };

struct job {
    enum job_kind kind;
    struct supervisor *supervisor;
    struct supervised *supervised; /* NULL for JOB_START */
    char worker_id[POOL_WORKER_ID_MAX + 1];
    enum pool_code code;
    struct pool_error error;
    struct pool_worker_info *worker; /* in: a copy for JOB_END; out: the row as it is */
    /* JOB_START */
    struct pool_worker_spawn_request *request;
    bool is_waiting;
    bool is_unrestricted;
    /* who asked, for JOB_START, JOB_DRAINING and JOB_STOPPING */
    supervisor_answer *answer;
    void *context;
    /* JOB_READY */
    enum pool_port_proof proof;
    /* JOB_STOPPING, JOB_END, JOB_AGAIN, JOB_GONE */
    enum pool_stop_reason reason;
    int64_t grace_ms;
    bool is_forced;
    bool is_timed_out;
    struct pool_start_progress progress;
    struct pool_process_end end;
    enum pool_code
        failure; /* what those who wait for readiness are told at the end, POOL_OK: nothing failed */
    struct pool_error failure_error;
    /* JOB_SIGHT */
    struct pool_worker_sight sight;
    char *health_reason;
};

static void free_worker(struct pool_worker_info **worker)
{
    pool_worker_info_free(*worker);
}

static void free_job(struct job *job)
{
    pool_worker_info_free(job->worker);
    pool_worker_spawn_request_free(job->request);
    free(job->health_reason);
    free(job);
}

static struct job *new_job(enum job_kind kind, struct supervisor *supervisor, struct supervised *supervised)
{
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    job->kind = kind;
    job->supervisor = supervisor;
    job->supervised = supervised;
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
static bool submit(struct job *job)
{
    enum pool_code code = job->kind == JOB_END
                              ? executor_run_beside(job->supervisor->executor, work, finish, job, &job->error)
                              : executor_submit(job->supervisor->executor, work, finish, job, &job->error);
    return code == POOL_OK;
}

/* ---- watching ---- */

static void begin_end(struct supervised *supervised, enum pool_stop_reason reason, int64_t grace_ms,
                      const struct pool_start_progress *timed_out);
static void drive_watch(struct supervised *supervised);

static void see_exit(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct supervised *supervised = poll->data;
    drop_poll(&supervised->exit_poll); /* once: an ended process stays readable for ever */
    if (supervised->phase != PHASE_ENDING)
        begin_end(supervised, supervised->phase == PHASE_STARTING ? POOL_STOP_START_FAILED : POOL_STOP_NONE,
                  0, NULL);
}

static void see_timer(uv_timer_t *timer)
{
    drive_watch(timer->data);
}

static void see_probe(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    drive_watch(poll->data);
}

static bool watch_descriptor(struct supervised *supervised, int fd, int events, uv_poll_cb seen,
                             uv_poll_t **ret_poll)
{
    uv_poll_t *poll = calloc(1, sizeof *poll);
    if (!poll)
        return false;
    if (uv_poll_init(supervised->supervisor->loop, poll, fd) != 0) {
        free(poll);
        return false;
    }
    poll->data = supervised;
    uv_poll_start(poll, events, seen);
    *ret_poll = poll;
    return true;
}

static void record_ready(struct supervised *supervised)
{
    enum pool_port_proof proof = pool_start_watch_proof(supervised->watch);
    struct job *job = new_job(JOB_READY, supervised->supervisor, supervised);
    pool_start_watch_close(supervised->watch);
    supervised->watch = NULL;
    if (!job)
        return;
    job->proof = proof;
    job->worker = pool_worker_info_copy(supervised->worker);
    supervised->phase = PHASE_SERVING;
    if (!job->worker || !submit(job))
        free_job(job);
}

static void arm_watch(struct supervised *supervised)
{
    struct pool_start_poll polled[2];
    int64_t wake_ns;
    size_t n = pool_start_watch_poll(supervised->watch, polled, &wake_ns);
    if (n > 1)
        watch_descriptor(supervised, polled[1].fd, polled[1].events & 4 ? UV_WRITABLE : UV_READABLE,
                         see_probe, &supervised->probe_poll);
    if (!supervised->timer) {
        supervised->timer = calloc(1, sizeof *supervised->timer);
        if (!supervised->timer)
            return;
        uv_timer_init(supervised->supervisor->loop, supervised->timer);
        supervised->timer->data = supervised;
    }
    int64_t left_ms = (excess_bytes(wake_ns, clock_boottime_ns()) + NS_PER_MS - 1) / NS_PER_MS;
    uv_update_time(supervised->supervisor->loop);
    uv_timer_start(supervised->timer, see_timer, (uint64_t)left_ms, 0);
}

static void drive_watch(struct supervised *supervised)
{
    drop_poll(&supervised->probe_poll);
    if (!supervised->watch || supervised->phase != PHASE_STARTING)
        return;
    switch (pool_start_watch_step(supervised->watch)) {
    case POOL_START_PENDING: arm_watch(supervised); return;
    case POOL_START_READY:
        drop_timer(&supervised->timer);
        record_ready(supervised);
        return;
    case POOL_START_ENDED: drop_timer(&supervised->timer); return; /* the pidfd tells */
    case POOL_START_TIMED_OUT: {
        struct pool_start_progress progress = *pool_start_watch_progress(supervised->watch);
        begin_end(supervised, POOL_STOP_START_TIMEOUT, 0, &progress);
        return;
    }
    }
}

/* It is asked to stop, and goes on with what it has in flight. */
static bool is_draining(const struct pool_worker_info *worker)
{
    return worker->status == POOL_WORKER_STOPPING && worker->stop_phase &&
           strcmp(worker->stop_phase, "drain") == 0;
}

/* Opens what is to be watched of a row. A worker whose process is gone already is ended at once. */
static enum pool_code watch_worker(struct supervised *supervised, struct pool_error *err)
{
    struct supervisor *supervisor = supervised->supervisor;
    const struct pool_worker_info *worker = supervised->worker;
    supervised->phase = worker->status == POOL_WORKER_SPAWNING                           ? PHASE_STARTING
                        : worker->status == POOL_WORKER_STOPPING && !is_draining(worker) ? PHASE_ENDING
                                                                                         : PHASE_SERVING;
    enum pool_code code = pool_manager_open_process(supervisor->manager, worker, &supervised->pidfd, NULL);
    if (code == POOL_OK && supervised->phase == PHASE_STARTING && worker->ready_path)
        code = pool_start_watch_open(worker, supervised->pidfd, &supervised->watch, err);
    if (code != POOL_OK && code != POOL_WORKER_NOT_FOUND)
        return code;
    if (supervised->pidfd >= 0 &&
        !watch_descriptor(supervised, supervised->pidfd, UV_READABLE, see_exit, &supervised->exit_poll))
        return pool_error_no_memory(err);
    if (supervised->phase == PHASE_ENDING ||
        supervised->pidfd < 0) /* go on with a stop that somebody began */
        begin_end(supervised, worker->stop_reason,
                  worker->status == POOL_WORKER_STOPPING && supervised->pidfd >= 0 ? worker->stop_grace_ms
                                                                                   : 0,
                  NULL);
    else if (supervised->watch)
        drive_watch(supervised);
    return POOL_OK;
}

/* ---- ends ---- */

/* Ends what is left of a worker beside the loop; JOB_GONE follows. */
static void begin_end(struct supervised *supervised, enum pool_stop_reason reason, int64_t grace_ms,
                      const struct pool_start_progress *timed_out)
{
    struct job *job = new_job(JOB_END, supervised->supervisor, supervised);
    enum phase phase = supervised->phase;
    supervised->phase = PHASE_ENDING;
    drop_poll(&supervised->probe_poll);
    drop_timer(&supervised->timer);
    pool_start_watch_close(supervised->watch);
    supervised->watch = NULL;
    if (job) {
        job->reason = reason;
        job->grace_ms = grace_ms;
        job->failure = phase == PHASE_STARTING ? POOL_WORKER_START_FAILED : POOL_OK;
        job->is_timed_out = timed_out != NULL;
        if (timed_out)
            job->progress = *timed_out;
        job->worker = pool_worker_info_copy(supervised->worker);
        if (job->worker && submit(job))
            return;
        free_job(job);
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
    return submit(job);
}

/* What was left is ended: perhaps it only lost its port; else it is gone. true: the job went on. */
static bool finish_end(struct job *job, struct supervised *supervised)
{
    if (job->code != POOL_OK) { /* it can not be killed: the row stays, and its memory stays reserved */
        struct pool_worker_info *copy = pool_worker_info_copy(supervised->worker);
        if (copy)
            replace_row(supervised, &copy);
        answer_waiters(supervised, true, job->code, &job->error);
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
    replace_row(supervised, &job->worker);
    drop_poll(&supervised->exit_poll);
    close_fd(&supervised->pidfd);
    supervised->pidfd = -1;
    watch_worker(supervised, NULL);
    return false;
}

static bool finish_gone(struct job *job, struct supervised *supervised)
{
    if (job->code == POOL_OK) {
        replace_row(supervised, &job->worker);
        if (job->failure != POOL_OK)
            tell_start(supervised, job->reason == POOL_STOP_REQUESTED ? POOL_CANCELLED : job->failure);
    }
    answer_waiters(supervised, true, job->failure, &job->failure_error);
    remove_supervised(supervised);
    return false;
}

/* ---- the other jobs ---- */

static void finish_start(struct job *job)
{
    struct supervisor *supervisor = job->supervisor;
    struct supervised *supervised = job->code == POOL_OK ? add_supervised(supervisor, job->worker) : NULL;
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
    tell_change(supervisor, supervised->worker);
    if (job->answer && !job->is_waiting)
        job->answer(POOL_OK, supervised->worker, NULL, job->context);
    else if (job->answer && add_waiter(supervised, false, job->answer, job->context, &job->error) != POOL_OK)
        job->answer(POOL_INSUFFICIENT_MEMORY, NULL, &job->error, job->context);
    watch_worker(supervised, NULL);
}

static void finish_ready(struct job *job, struct supervised *supervised)
{
    if (job->code != POOL_OK)
        return; /* stopped meanwhile: its end answers */
    replace_row(supervised, &job->worker);
    tell_start(supervised, POOL_OK);
    answer_waiters(supervised, false, POOL_OK, NULL);
}

/* The same for a drain, which is only recorded, and a stop, which then begins. */
static void finish_stopping(struct job *job, struct supervised *supervised)
{
    if (job->code != POOL_OK) {
        if (job->answer)
            job->answer(job->code, NULL, &job->error, job->context);
        return;
    }
    replace_row(supervised, &job->worker);
    if (job->answer && !job->is_waiting)
        job->answer(POOL_OK, supervised->worker, NULL, job->context);
    else if (job->answer && add_waiter(supervised, true, job->answer, job->context, &job->error) != POOL_OK)
        job->answer(POOL_INSUFFICIENT_MEMORY, NULL, &job->error, job->context);
    if (job->kind == JOB_STOPPING && supervised->phase != PHASE_ENDING)
        begin_end(supervised, job->reason, job->is_forced ? 0 : job->grace_ms, NULL);
}

static void finish(void *context)
{
    struct job *job = context;
    /* The row may have gone while the job was queued: look it up anew, by id. */
    struct supervised *supervised = job->kind == JOB_START ? NULL : find(job->supervisor, job->worker_id);
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
        replace_row(supervised, &job->worker);
    if (!is_kept)
        free_job(job);
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
    *ret_supervisor = supervisor;
    return POOL_OK;
}

enum pool_code supervisor_adopt(struct supervisor *supervisor, struct pool_error *err)
{
    struct pool_worker_list *list = NULL;
    enum pool_code code = pool_manager_settle(supervisor->manager, &list, err);
    for (size_t i = 0; code == POOL_OK && i < list->n_workers; i++) {
        struct supervised *supervised = add_supervised(supervisor, list->workers[i]);
        if (!supervised) {
            code = pool_error_no_memory(err);
            break;
        }
        list->workers[i] = NULL;
        code = watch_worker(supervised, err);
    }
    pool_worker_list_free(list);
    return code;
}

void supervisor_close(struct supervisor *supervisor, void (*on_closed)(void *context), void *context)
{
    struct pool_error ending = POOL_ERROR_INIT;
    pool_error_set(&ending, POOL_CANCELLED, "the daemon is ending; the worker goes on");
    supervisor->is_closing = true;
    while (supervisor->workers) {
        answer_waiters(supervisor->workers, true, POOL_CANCELLED, &ending);
        remove_supervised(supervisor->workers);
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
    struct job *job = new_job(JOB_START, supervisor, NULL);
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
    if (!submit(job)) {
        answer_failure(answer, context, &job->error);
        free_job(job);
    }
}

void supervisor_wait(struct supervisor *supervisor, const char *worker_id, supervisor_answer *answer,
                     void *context)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct supervised *supervised = find(supervisor, worker_id);
    if (!supervised)
        pool_error_set(&error, POOL_WORKER_NOT_FOUND, "there is no worker %s", worker_id);
    else if (supervised->worker->status != POOL_WORKER_SPAWNING) {
        answer(POOL_OK, supervised->worker, NULL, context);
        return;
    } else {
        add_waiter(supervised, false, answer, context, &error);
    }
    if (error.code != POOL_OK)
        answer_failure(answer, context, &error);
}

void supervisor_drain(struct supervisor *supervisor, const char *worker_id, bool is_waiting,
                      supervisor_answer *answer, void *context)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct job *job = new_job(JOB_DRAINING, supervisor, NULL);
    if (!job) {
        pool_error_no_memory(&error);
        answer_failure(answer, context, &error);
        return;
    }
    strncpy(job->worker_id, worker_id, POOL_WORKER_ID_MAX);
    job->is_waiting = is_waiting;
    job->answer = answer;
    job->context = context;
    if (!submit(job)) {
        answer_failure(answer, context, &job->error);
        free_job(job);
    }
}

void supervisor_stop(struct supervisor *supervisor, const char *worker_id, enum pool_stop_reason reason,
                     int64_t grace_ms, bool is_forced, bool is_waiting, supervisor_answer *answer,
                     void *context)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct job *job = new_job(JOB_STOPPING, supervisor, NULL);
    struct supervised *supervised = find(supervisor, worker_id);
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
    if (!submit(job)) {
        answer_failure(answer, context, &job->error);
        free_job(job);
    }
}

const struct pool_worker_info *supervisor_find(const struct supervisor *supervisor, const char *worker_id)
{
    const struct supervised *supervised = find(supervisor, worker_id);
    return supervised ? supervised->worker : NULL;
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
    struct supervised *supervised = find(supervisor, worker_id);
    struct job *job = supervised ? new_job(JOB_SIGHT, supervisor, supervised) : NULL;
    if (!job)
        return;
    job->sight = *sight;
    job->health_reason = sight->health_reason ? strdup(sight->health_reason) : NULL;
    if ((sight->health_reason && !job->health_reason) || !submit(job))
        free_job(job);
}
