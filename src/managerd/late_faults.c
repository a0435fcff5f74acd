/*
 * See late_faults.h. The library writes, beside the loop, in the order in which things happened.
 */
#include "managerd/late_faults.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "managerd/daemon.h"
#include "managerd/gpu_faults.h"
#include "managerd/log.h"

struct late_faults {
    struct daemon *daemon;
    size_t next;
    struct pool_worker_info *dead[LATE_FAULTS_WORKERS_MAX]; /* a ring; NULL: none yet */
    int64_t died_ns[LATE_FAULTS_WORKERS_MAX];               /* CLOCK_BOOTTIME */
};

struct note {
    struct daemon *daemon;
    struct pool_worker_info *worker;
    struct pool_device_fault fault;
    enum pool_code code;
    struct pool_error error;
};

enum pool_code late_faults_open(struct daemon *daemon, struct late_faults **ret_late, struct pool_error *err)
{
    struct late_faults *late = calloc(1, sizeof *late);
    if (!late)
        return pool_error_no_memory(err);
    late->daemon = daemon;
    *ret_late = late;
    return POOL_OK;
}

void late_faults_close(struct late_faults *late)
{
    if (!late)
        return;
    for (size_t i = 0; i < LATE_FAULTS_WORKERS_MAX; i++)
        pool_worker_info_free(late->dead[i]);
    free(late);
}

/* ---- writing it down ---- */

static void work_note(void *context)
{
    struct note *note = context;
    note->code =
        pool_manager_note_late_fault(note->daemon->manager, note->worker, &note->fault, &note->error);
}

static void finish_note(void *context)
{
    struct note *note = context;
    if (note->code != POOL_OK && note->code != POOL_NOT_FOUND) /* no bundle: that was told when it was due */
        log_tell(LOG_WORKER_BUNDLE_FAILED, &(struct log_fields){ .worker_id = note->worker->worker_id },
                 "%s: %s", note->fault.text, note->error.message);
    pool_worker_info_free(note->worker);
    free(note);
}

/* Without memory it is not in the bundle; it is in the log and was an event. */
static void begin_note(struct late_faults *late, const struct pool_worker_info *worker,
                       const struct pool_device_fault *fault)
{
    struct note *note = calloc(1, sizeof *note);
    if (!note)
        return;
    note->daemon = late->daemon;
    note->fault = *fault;
    note->worker = pool_worker_info_copy(worker);
    if (note->worker &&
        executor_submit(late->daemon->executor, work_note, finish_note, note, &note->error) == POOL_OK)
        return;
    pool_worker_info_free(note->worker);
    free(note);
}

/* ---- what happens ---- */

static bool leaves_bundle(const struct pool_worker_info *worker)
{
    return worker->gpu_uuid && worker->stop_reason != POOL_STOP_REQUESTED &&
           worker->stop_reason != POOL_STOP_IDLE_TIMEOUT;
}

void late_faults_see_end(struct late_faults *late, const struct pool_worker_info *worker)
{
    struct pool_device_fault faults[POOL_CRASH_FAULTS_MAX];
    if (!leaves_bundle(worker))
        return;
    size_t n = gpu_faults_near(worker, faults, POOL_CRASH_FAULTS_MAX, late->daemon);
    for (size_t i = 0; i < n; i++)
        begin_note(late, worker, &faults[i]);
    struct pool_worker_info *copy = pool_worker_info_copy(worker);
    if (!copy)
        return;
    pool_worker_info_free(late->dead[late->next]);
    late->dead[late->next] = copy;
    late->died_ns[late->next] = clock_boottime_ns();
    late->next = (late->next + 1) % LATE_FAULTS_WORKERS_MAX;
}

void late_faults_see_fault(struct late_faults *late, const struct pool_device_fault *fault)
{
    int64_t now_ns = clock_boottime_ns();
    for (size_t i = 0; i < LATE_FAULTS_WORKERS_MAX; i++) {
        if (late->dead[i] && now_ns - late->died_ns[i] <= POOL_CRASH_NEAR_AFTER_MS * NS_PER_MS &&
            gpu_faults_is_hit(late->daemon->gpu_faults, late->dead[i], fault->gpu_uuid))
            begin_note(late, late->dead[i], fault);
    }
}
