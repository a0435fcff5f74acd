/*
 * What is waited for of each worker: its readiness while it starts, the end of its process always; see supervisor.h.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "managerd/supervisor_internal.h"

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

void supervised_stop_probing(struct supervised *supervised)
{
    drop_poll(&supervised->probe_poll);
    drop_timer(&supervised->timer);
    pool_start_watch_close(supervised->watch);
    supervised->watch = NULL;
}

void supervised_stop_watching(struct supervised *supervised)
{
    supervised_stop_probing(supervised);
    drop_poll(&supervised->exit_poll);
}

void supervised_forget_process(struct supervised *supervised)
{
    drop_poll(&supervised->exit_poll);
    close_fd(&supervised->pidfd);
    supervised->pidfd = -1;
}

static void drive_watch(struct supervised *supervised);

static void see_exit(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct supervised *supervised = poll->data;
    drop_poll(&supervised->exit_poll); /* once: an ended process stays readable for ever */
    if (supervised->phase != PHASE_ENDING)
        supervised_begin_end(supervised,
                             supervised->phase == PHASE_STARTING ? POOL_STOP_START_FAILED : POOL_STOP_NONE, 0,
                             NULL);
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
    struct job *job = supervisor_job_new(JOB_READY, supervised->supervisor, supervised);
    pool_start_watch_close(supervised->watch);
    supervised->watch = NULL;
    if (!job)
        return;
    job->proof = proof;
    job->worker = pool_worker_info_copy(supervised->worker);
    supervised->phase = PHASE_SERVING;
    if (!job->worker || !supervisor_job_submit(job))
        supervisor_job_free(job);
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
        supervised_begin_end(supervised, POOL_STOP_START_TIMEOUT, 0, &progress);
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
enum pool_code supervised_watch(struct supervised *supervised, struct pool_error *err)
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
        supervised_begin_end(
            supervised, worker->stop_reason,
            worker->status == POOL_WORKER_STOPPING && supervised->pidfd >= 0 ? worker->stop_grace_ms : 0,
            NULL);
    else if (supervised->watch)
        drive_watch(supervised);
    return POOL_OK;
}
