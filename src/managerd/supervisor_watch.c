/*
 * What is waited for of each worker: its readiness while it starts or was taken over, the end of its process always,
 * the end of its grace while it stops; see supervisor.h. Nothing here blocks.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "managerd/log.h"
#include "managerd/supervisor_internal.h"

#define OPEN_AGAIN_MS 5000 /* a process that can not be opened now */
/* A worker that ends so soon after its device reported an error has ended because of it. */
#define GPU_FAULT_NS   (60 * NS_PER_SEC)
#define WATCH_AGAIN_MS 1000 /* a watch that could not be opened, a record that could not be written */

static void drive_watch(struct supervised *supervised);

/* ---- handles ---- */

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

void supervised_stop_probing(struct supervised *supervised)
{
    drop_poll(&supervised->probe_poll);
    uv_timer_stop(supervised->timer);
    pool_start_watch_close(supervised->watch);
    supervised->watch = NULL;
    supervised->is_proving = false;
    supervised->answered_ns = 0;
}

void supervised_stop_watching(struct supervised *supervised)
{
    supervised_stop_probing(supervised);
    drop_poll(&supervised->exit_poll);
    uv_close((uv_handle_t *)supervised->timer, close_handle);
    supervised->timer = NULL;
}

void supervised_forget_process(struct supervised *supervised)
{
    drop_poll(&supervised->exit_poll);
    close_fd(&supervised->pidfd);
    supervised->pidfd = -1;
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

/* ---- events ---- */

static int64_t left_ms(int64_t until_ns)
{
    return (excess_bytes(until_ns, clock_boottime_ns()) + NS_PER_MS - 1) / NS_PER_MS;
}

static bool is_by_gpu(const struct supervised *supervised)
{
    return supervised->gpu_fault_ns > 0 && clock_boottime_ns() - supervised->gpu_fault_ns < GPU_FAULT_NS;
}

/* How a child of ours ended, without taking it from whoever settles it; the others are known a little later. */
static void peek_end(int pidfd, struct pool_worker_info *worker)
{
    siginfo_t end = { 0 };
    if (waitid(P_PIDFD, (id_t)pidfd, &end, WEXITED | WNOHANG | WNOWAIT) != 0 || end.si_pid == 0)
        return;
    struct pool_reading *reading = end.si_code == CLD_EXITED ? &worker->exit_code : &worker->exit_signal;
    *reading = (struct pool_reading){ .is_present = true, .value = end.si_status };
}

static void tell_exit(const struct supervised *supervised)
{
    const struct supervisor_listener *listener = &supervised->supervisor->listener;
    struct pool_worker_info *worker = listener->on_exit ? pool_worker_info_copy(supervised->worker) : NULL;
    if (!worker)
        return;
    peek_end(supervised->pidfd, worker);
    listener->on_exit(worker, listener->context);
    pool_worker_info_free(worker);
}

static void see_exit(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct supervised *supervised = poll->data;
    drop_poll(&supervised->exit_poll); /* once: an ended process stays readable for ever */
    if (supervised->phase != PHASE_ENDING)
        tell_exit(supervised);
    switch (supervised->phase) {
    case PHASE_STARTING: supervised_begin_end(supervised, POOL_STOP_START_FAILED, 0, NULL); return;
    case PHASE_SERVING:
        supervised_begin_end(supervised, is_by_gpu(supervised) ? POOL_STOP_GPU_LOST : POOL_STOP_NONE, 0,
                             NULL);
        return;
    case PHASE_STOPPING: /* what is left of its tree has the rest of the grace */
        supervised_begin_end(supervised, supervised->end_reason, left_ms(supervised->kill_at_ns), NULL);
        return;
    case PHASE_ENDING: return;
    }
}

/* The row says "kill" from now on; the kill itself does not wait for that. */
static void record_kill(struct supervised *supervised)
{
    struct job *job = supervisor_job_new(JOB_STOPPING, supervised->supervisor, supervised);
    if (!job)
        return;
    job->reason = supervised->end_reason;
    job->is_forced = true;
    if (!supervisor_job_submit(job))
        supervisor_job_free(job);
}

/* Whether the turn of a start or of a stop has come. */
static void look_at_turn(struct supervised *supervised)
{
    bool is_queued = pool_worker_is_queued(supervised->worker);
    if (supervised->is_trying)
        return;
    struct job *job =
        supervisor_job_new(is_queued ? JOB_QUEUED : JOB_STOPPING, supervised->supervisor, supervised);
    if (job) {
        job->reason = supervised->worker->stop_reason;
        job->grace_ms =
            supervised->held_grace_ms > 0 ? supervised->held_grace_ms : supervised->worker->stop_grace_ms;
        supervised->is_trying = supervisor_job_submit(job);
        if (supervised->is_trying)
            return;
        supervisor_job_free(job);
    }
    supervised_wake_after(supervised, WATCH_AGAIN_MS);
}

static void see_timer(uv_timer_t *timer)
{
    struct supervised *supervised = timer->data;
    if (supervised->supervisor->is_closing)
        return;
    bool is_waiting = pool_worker_is_queued(supervised->worker) || worker_is_held(supervised->worker);
    if (is_waiting && (supervised->phase == PHASE_STARTING || supervised->phase == PHASE_SERVING)) {
        look_at_turn(supervised);
        return;
    }
    switch (supervised->phase) {
    case PHASE_STARTING:
    case PHASE_SERVING:
        if (supervised->pidfd < 0 || (!supervised->watch && supervised->phase == PHASE_STARTING) ||
            (!supervised->watch && supervised->is_proving))
            supervised_watch(supervised);
        else
            drive_watch(supervised);
        return;
    case PHASE_STOPPING:
        record_kill(supervised);
        supervised_begin_end(supervised, supervised->end_reason, 0, NULL);
        return;
    case PHASE_ENDING:
        if (!supervised->end_job)
            supervised_begin_end(supervised, supervised->end_reason, 0, NULL);
        return;
    }
}

void supervised_wake_after(struct supervised *supervised, int64_t wait_ms)
{
    uv_update_time(supervised->supervisor->loop);
    uv_timer_start(supervised->timer, see_timer, (uint64_t)wait_ms, 0);
}

static void see_probe(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    drive_watch(poll->data);
}

/* ---- readiness ---- */

/* A watch has proven it: of a start, or of one that was taken over. */
static void record_proof(struct supervised *supervised)
{
    enum job_kind kind = supervised->phase == PHASE_STARTING ? JOB_READY : JOB_PROVEN;
    struct job *job = supervisor_job_new(kind, supervised->supervisor, supervised);
    if (job) {
        job->proof = pool_start_watch_proof(supervised->watch);
        job->worker = pool_worker_info_copy(supervised->worker);
    }
    supervised_stop_probing(supervised);
    supervised->phase = PHASE_SERVING;
    if (job && job->worker && supervisor_job_submit(job))
        return;
    if (job)
        supervisor_job_free(job);
    supervised->phase = kind == JOB_READY ? PHASE_STARTING : PHASE_SERVING;
    supervised->is_proving = kind == JOB_PROVEN;
    supervised_wake_after(supervised, WATCH_AGAIN_MS);
}

/* One that calls back has no path: its port is looked at by the library, which reads it all at once. */
static void prove_port_again(struct supervised *supervised)
{
    struct job *job = supervisor_job_new(JOB_PROVE_AGAIN, supervised->supervisor, supervised);
    if (job)
        job->worker = pool_worker_info_copy(supervised->worker);
    if (job && (!job->worker || !supervisor_job_submit(job)))
        supervisor_job_free(job);
    supervised_wake_after(supervised, OPEN_AGAIN_MS);
}

static void arm_watch(struct supervised *supervised)
{
    struct pool_start_poll polled[2];
    int64_t wake_ns;
    size_t n = pool_start_watch_poll(supervised->watch, polled, &wake_ns);
    if (n > 1)
        watch_descriptor(supervised, polled[1].fd, polled[1].events & 4 ? UV_WRITABLE : UV_READABLE,
                         see_probe, &supervised->probe_poll);
    supervised_wake_after(supervised, left_ms(wake_ns));
}

static void drive_watch(struct supervised *supervised)
{
    drop_poll(&supervised->probe_poll);
    if (!supervised->watch)
        return;
    switch (pool_start_watch_step(supervised->watch)) {
    case POOL_START_PENDING: arm_watch(supervised); return;
    case POOL_START_ANSWERED:
        arm_watch(supervised);
        supervised_note_answer(supervised);
        return;
    case POOL_START_READY: record_proof(supervised); return;
    case POOL_START_ENDED: uv_timer_stop(supervised->timer); return; /* the pidfd tells */
    case POOL_START_TIMED_OUT: {
        struct pool_start_progress progress = *pool_start_watch_progress(supervised->watch);
        if (supervised->phase == PHASE_STARTING) {
            supervised_begin_end(supervised, POOL_STOP_START_TIMEOUT, 0, &progress);
            return;
        }
        /* It was ready once: that it does not answer now is reported, not acted on. A new watch goes on. */
        pool_start_watch_close(supervised->watch);
        supervised->watch = NULL;
        supervised_wake_after(supervised, WATCH_AGAIN_MS);
        return;
    }
    }
}

/* ---- what there is to watch ---- */

/* It is asked to stop, and goes on with what it has in flight. */
static bool is_draining(const struct pool_worker_info *worker)
{
    return worker->status == POOL_WORKER_STOPPING && worker->stop_phase &&
           strcmp(worker->stop_phase, "drain") == 0;
}

bool worker_is_held(const struct pool_worker_info *worker)
{
    return worker->status == POOL_WORKER_STOPPING && worker->stop_phase &&
           strcmp(worker->stop_phase, "wait") == 0;
}

static bool is_killing(const struct pool_worker_info *worker)
{
    return worker->stop_phase && strcmp(worker->stop_phase, "kill") == 0;
}

static enum phase phase_of(const struct pool_worker_info *worker)
{
    if (worker->status == POOL_WORKER_SPAWNING)
        return PHASE_STARTING;
    bool is_going_on = is_draining(worker) || worker_is_held(worker);
    return worker->status == POOL_WORKER_STOPPING && !is_going_on ? PHASE_STOPPING : PHASE_SERVING;
}

static void begin_watch(struct supervised *supervised)
{
    struct pool_error why = POOL_ERROR_INIT;
    if (supervised->is_proving && !supervised->worker->ready_path) {
        prove_port_again(supervised);
        return;
    }
    if (pool_start_watch_open(supervised->worker, supervised->pidfd, &supervised->watch, &why) == POOL_OK) {
        supervised_await_presence(supervised);
        drive_watch(supervised);
        return;
    }
    log_tell(LOG_WORKER_UNWATCHED, &(struct log_fields){ .worker_id = supervised->worker->worker_id },
             "%s can not be watched now: %s", supervised->worker->worker_id, why.message);
    supervised_wake_after(supervised, WATCH_AGAIN_MS);
}

/* Goes on with a stop that somebody began: it has what is left of its grace. */
static void go_on_stopping(struct supervised *supervised)
{
    const struct pool_worker_info *worker = supervised->worker;
    int64_t grace_ms = is_killing(worker)                ? 0
                       : worker->kill_at_boottime_ns > 0 ? left_ms(worker->kill_at_boottime_ns)
                                                         : worker->stop_grace_ms;
    supervised->phase = PHASE_SERVING;
    supervised_begin_stop(supervised, worker->stop_reason, grace_ms);
}

void supervised_watch(struct supervised *supervised)
{
    struct pool_error why = POOL_ERROR_INIT;
    const struct pool_worker_info *worker = supervised->worker;
    supervised->phase = phase_of(worker);
    supervised->is_start = supervised->phase == PHASE_STARTING;
    supervised->is_proving = pool_worker_is_unproven(worker);
    if (pool_worker_is_queued(worker)) {
        if (supervised->queued_since_ns == 0)
            supervised->queued_since_ns = clock_boottime_ns();
        supervised_wake_after(supervised, 0);
        return;
    }
    if (supervised->pidfd < 0) {
        enum pool_code code =
            pool_manager_open_process(supervised->supervisor->manager, worker, &supervised->pidfd, &why);
        if (code == POOL_WORKER_NOT_FOUND) {
            enum pool_stop_reason reason = supervised->is_start && worker->process.pid == 0
                                               ? POOL_STOP_START_FAILED
                                               : worker->stop_reason;
            supervised_begin_end(supervised, reason, 0, NULL);
            return;
        }
        if (code == POOL_OK &&
            !watch_descriptor(supervised, supervised->pidfd, UV_READABLE, see_exit, &supervised->exit_poll)) {
            code = pool_error_no_memory(&why);
            close_fd(&supervised->pidfd);
            supervised->pidfd = -1;
        }
        if (code != POOL_OK) {
            log_tell(LOG_WORKER_UNWATCHED, &(struct log_fields){ .worker_id = worker->worker_id },
                     "%s can not be watched now: %s", worker->worker_id, why.message);
            if (supervised->phase == PHASE_STOPPING)
                supervised->phase = PHASE_SERVING;
            supervised_wake_after(supervised, OPEN_AGAIN_MS);
            return;
        }
    }
    if (supervised->phase == PHASE_STOPPING)
        go_on_stopping(supervised);
    else if (worker_is_held(worker))
        supervised_wake_after(supervised, 0);
    else if ((supervised->phase == PHASE_STARTING || supervised->is_proving) && !supervised->watch)
        begin_watch(supervised);
}

/* ---- a stop ---- */

void supervised_begin_stop(struct supervised *supervised, enum pool_stop_reason reason, int64_t grace_ms)
{
    int64_t kill_at_ns = clock_boottime_ns() + grace_ms * NS_PER_MS;
    if (supervised->phase == PHASE_ENDING) {
        if (grace_ms == 0 && supervised->end_job && supervised->end_job->grace_ms > 0)
            supervised_cut_end(supervised);
        return;
    }
    if (grace_ms == 0 || supervised->pidfd < 0) {
        supervised_begin_end(supervised, reason, grace_ms, NULL);
        return;
    }
    if (supervised->phase == PHASE_STOPPING && supervised->kill_at_ns < kill_at_ns)
        return;
    if (supervised->phase != PHASE_STOPPING) {
        supervised_stop_probing(supervised);
        supervised->phase = PHASE_STOPPING;
        supervised->end_reason = reason;
        pidfd_send_signal(supervised->pidfd, (int)supervised->worker->stop_signal, NULL, 0);
        pidfd_send_signal(supervised->pidfd, SIGCONT, NULL, 0); /* a stopped process would not notice */
    }
    supervised->kill_at_ns = kill_at_ns;
    supervised_wake_after(supervised, grace_ms);
}
