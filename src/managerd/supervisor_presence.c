/*
 * Whether workers are on their GPUs, as snapshots of the devices tell; see supervisor.h. The verdict is the library's
 * (pool/presence.h), when it counts is decided here: for a start, when the snapshot was asked for after it answered; for
 * one that serves, when several in a row say the same.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "managerd/supervisor_internal.h"

/* In a row, as with looks at its health: a driver may leave somebody out once. */
#define ABSENT_MAX        3
#define PRESENCE_TEXT_MAX 600

static enum pool_not_on_gpu rule_of(const struct supervised *supervised)
{
    return pool_presence_rule(pool_manager_config(supervised->supervisor->manager), supervised->worker);
}

void supervised_await_presence(struct supervised *supervised)
{
    if (supervised->phase == PHASE_STARTING && supervised->supervisor->listener.on_answered &&
        rule_of(supervised) == POOL_NOT_ON_GPU_FAIL)
        pool_start_watch_await_presence(supervised->watch);
}

void supervised_note_answer(struct supervised *supervised)
{
    const struct supervisor_listener *listener = &supervised->supervisor->listener;
    if (supervised->answered_ns != 0)
        return;
    supervised->answered_ns = clock_boottime_ns();
    listener->on_answered(supervised->worker, listener->context);
}

void supervised_tell_presence(const struct supervised *supervised, bool was_off,
                              const struct pool_presence *presence)
{
    char where[PRESENCE_TEXT_MAX];
    const char *worker_id = supervised->worker->worker_id;
    bool is_off = pool_worker_is_off_gpu(supervised->worker);
    struct log_fields fields = { .worker_id = worker_id, .reason = POOL_HEALTH_NOT_ON_GPU };
    if (is_off == was_off)
        return;
    pool_presence_format(presence, where, sizeof where);
    log_tell(is_off ? LOG_WORKER_NOT_ON_GPU : LOG_WORKER_ON_GPU, &fields, "%s: %s", worker_id, where);
}

static void record(struct supervised *supervised, const struct pool_presence *presence)
{
    if (supervised->is_presence_told ||
        !pool_presence_is_news(presence, rule_of(supervised), supervised->worker))
        return;
    struct job *job = supervisor_job_new(JOB_PRESENCE, supervised->supervisor, supervised);
    if (!job)
        return; /* the next snapshot tells again */
    job->worker = pool_worker_info_copy(supervised->worker);
    job->presence = malloc(sizeof *job->presence);
    if (job->presence)
        *job->presence = *presence;
    supervised->is_presence_told = job->worker && job->presence && supervisor_job_submit(job);
    if (!supervised->is_presence_told)
        supervisor_job_free(job);
}

static void take_of_start(struct supervised *supervised, const struct pool_presence *presence,
                          int64_t asked_boottime_ns)
{
    if (!supervised->watch || supervised->answered_ns == 0)
        return;
    /* What was listed before its start is another one's of its name; what was not listed when it answered may be by now. */
    int64_t since_ns = presence->verdict == POOL_PRESENCE_ON_GPU ? supervised->worker->created_boottime_ns
                                                                 : supervised->answered_ns;
    if (asked_boottime_ns < since_ns)
        return;
    pool_start_watch_take_presence(supervised->watch, presence);
    record(supervised, presence);
    supervised_wake_after(supervised, 0);
}

void supervisor_take_presence(struct supervisor *supervisor, const char *worker_id,
                              const struct pool_presence *presence, int64_t asked_boottime_ns)
{
    struct supervised *supervised = supervised_find(supervisor, worker_id);
    if (!supervised || supervisor->is_closing)
        return;
    if (supervised->phase == PHASE_STARTING) {
        take_of_start(supervised, presence, asked_boottime_ns);
        return;
    }
    if (supervised->phase != PHASE_SERVING || supervised->is_proving ||
        supervised->worker->ready_boottime_ns == 0 ||
        asked_boottime_ns < supervised->worker->ready_boottime_ns)
        return;
    if (presence->verdict == POOL_PRESENCE_ON_GPU)
        supervised->n_absent = 0;
    else if (presence->verdict == POOL_PRESENCE_NOT_ON_GPU && supervised->n_absent < ABSENT_MAX)
        supervised->n_absent++;
    if (presence->verdict != POOL_PRESENCE_NOT_ON_GPU || supervised->n_absent >= ABSENT_MAX)
        record(supervised, presence);
}
