/*
 * From snapshots to records; see usage_watch.h. Of what workers hold only growth is reported, and that by more than a
 * hundredth, so that a worker whose memory wavers costs no write a second.
 */
#include "managerd/usage_watch.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "managerd/daemon.h"
#include "managerd/log.h"

static bool is_serving(const struct pool_worker_info *worker)
{
    return worker->status == POOL_WORKER_READY || worker->status == POOL_WORKER_BUSY ||
           worker->status == POOL_WORKER_IDLE;
}

static void collect(const struct pool_worker_info *worker, void *context)
{
    struct pool_worker_list *list = context;
    if (worker->status != POOL_WORKER_STOPPED && worker->gpu_uuid)
        list->workers[list->n_workers++] = (struct pool_worker_info *)(uintptr_t)worker; /* read only */
}

/* What a worker's processes hold together. 0: the driver does not list them, or not how much. */
static int64_t sum_of(const struct pool_attribution *attribution, const char *worker_id)
{
    int64_t sum = 0;
    for (size_t i = 0; i < attribution->n_processes; i++) {
        const struct pool_attributed_process *process = &attribution->processes[i];
        if (strcmp(process->worker_id, worker_id) != 0)
            continue;
        if (!process->used_vram_bytes.is_present)
            return 0;
        sum = add_bytes(sum, process->used_vram_bytes.value);
    }
    return sum;
}

static bool has_grown(const struct pool_worker_info *worker, int64_t bytes)
{
    int64_t peak = worker->peak_bytes.value;
    return bytes > 0 && (!worker->peak_bytes.is_present || bytes > peak + peak / 100);
}

static void report_growth(struct daemon *daemon, const struct pool_worker_info *worker)
{
    int64_t bytes = sum_of(daemon->attribution, worker->worker_id);
    if (!is_serving(worker) || !has_grown(worker, bytes))
        return;
    struct pool_worker_sight sight = { .struct_size = sizeof sight,
                                       .is_healthy = worker->is_healthy,
                                       .health_reason = worker->health_reason,
                                       .observed_bytes = { true, bytes } };
    supervisor_report(daemon->supervisor, worker->worker_id, &sight);
}

/* Its row says already that it is not there. As after looks at its health: again, until its row says that it stops. */
static void stop_if_asked(struct daemon *daemon, const struct pool_worker_info *worker)
{
    if (daemon->config->on_unhealthy != POOL_ON_UNHEALTHY_STOP || !is_serving(worker) || worker->is_healthy ||
        !pool_worker_is_off_gpu(worker))
        return;
    tell_stop_decided(worker->worker_id, POOL_STOP_UNHEALTHY);
    supervisor_stop(daemon->supervisor, worker->worker_id, POOL_STOP_UNHEALTHY, -1, false, false, NULL, NULL);
}

/* From when on a list says nothing but what it says: one that is stale says at any moment that nothing is known. */
static int64_t holds_since(struct daemon *daemon, const struct pool_gpu_list *gpus)
{
    return gpu_monitor_snapshot(daemon->gpu_monitor).is_stale ? clock_boottime_ns() : gpus->taken_boottime_ns;
}

static void look_at(struct daemon *daemon, const struct pool_gpu_list *gpus,
                    const struct pool_worker_info *worker)
{
    struct pool_presence presence;
    pool_presence_judge(worker, gpus, daemon->attribution, &presence);
    /* Of one that is not where it should be nothing is learned. */
    if (presence.verdict != POOL_PRESENCE_NOT_ON_GPU)
        report_growth(daemon, worker);
    supervisor_take_presence(daemon->supervisor, worker->worker_id, &presence, holds_since(daemon, gpus));
    if (presence.verdict == POOL_PRESENCE_NOT_ON_GPU)
        stop_if_asked(daemon, worker);
}

/* ---- which processes they are ---- */

struct note_job {
    struct daemon *daemon;
    struct pool_attribution *attribution; /* those of workers */
};

static void work_note(void *context)
{
    struct note_job *job = context;
    (void)!pool_manager_note_processes(job->daemon->manager, job->attribution, NULL);
}

static void finish_note(void *context)
{
    struct note_job *job = context;
    job->daemon->is_noting_processes = false;
    pool_attribution_free(job->attribution);
    free(job);
}

/* Of the workers' processes alone. NULL: no memory. */
static struct pool_attribution *copy_owned(const struct pool_attribution *attribution)
{
    struct pool_attribution *copy = calloc(1, sizeof *copy);
    if (copy)
        copy->processes = calloc(attribution->n_processes + 1, sizeof *copy->processes);
    if (!copy || !copy->processes) {
        pool_attribution_free(copy);
        return NULL;
    }
    for (size_t i = 0; i < attribution->n_processes; i++) {
        if (attribution->processes[i].worker_id[0])
            copy->processes[copy->n_processes++] = attribution->processes[i];
    }
    return copy;
}

static uint64_t digest_of(const struct pool_attribution *owned)
{
    uint64_t digest = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < owned->n_processes; i++) {
        const struct pool_attributed_process *process = &owned->processes[i];
        digest = (digest ^ (uint64_t)process->pid) * UINT64_C(0x100000001b3);
        for (const char *c = process->worker_id; *c; c++)
            digest = (digest ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    }
    return digest;
}

/* So that it is known whose they were when they have ended. Only when they are others than at the last snapshot. */
static void note_processes(struct daemon *daemon)
{
    if (daemon->is_noting_processes || daemon->is_stopping || !daemon->executor)
        return;
    struct note_job *job = calloc(1, sizeof *job);
    struct pool_attribution *owned = copy_owned(daemon->attribution);
    uint64_t digest = owned ? digest_of(owned) : 0;
    if (job && owned && owned->n_processes > 0 && digest != daemon->noted_processes) {
        *job = (struct note_job){ daemon, owned };
        daemon->is_noting_processes =
            executor_submit(daemon->executor, work_note, finish_note, job, NULL) == POOL_OK;
    }
    if (daemon->is_noting_processes) {
        daemon->noted_processes = digest;
        return;
    }
    pool_attribution_free(owned);
    free(job);
}

void usage_watch(struct daemon *daemon, const struct pool_gpu_list *gpus)
{
    struct pool_worker_list workers = { 0 };
    struct pool_attribution *attribution = NULL;
    size_t n = daemon->supervisor ? supervisor_n_workers(daemon->supervisor) : 0;
    workers.workers = calloc(n + 1, sizeof *workers.workers);
    if (!workers.workers)
        return; /* the next snapshot tries again */
    if (daemon->supervisor)
        supervisor_each(daemon->supervisor, collect, &workers);
    if (pool_attribution_make(gpus, &workers, &attribution, NULL) == POOL_OK) {
        pool_attribution_free(daemon->attribution);
        daemon->attribution = attribution;
        for (size_t i = 0; i < workers.n_workers; i++)
            look_at(daemon, gpus, workers.workers[i]);
        note_processes(daemon);
    }
    /* An old answer that is told again is no new sample. */
    if (daemon->supervisor && daemon->gpu_monitor && !gpu_monitor_snapshot(daemon->gpu_monitor).is_stale)
        supervisor_note_memory(daemon->supervisor, gpus, daemon->attribution);
    free(workers.workers);
}

void usage_watch_answered(struct daemon *daemon, const struct pool_worker_info *worker)
{
    const struct pool_gpu_list *gpus = gpu_monitor_snapshot(daemon->gpu_monitor).list;
    struct pool_presence presence;
    if (!daemon->attribution)
        return; /* the first snapshot tells */
    /* The last one may show it there already; for all else one is asked for that comes after its answer. */
    pool_presence_judge(worker, gpus, daemon->attribution, &presence);
    supervisor_take_presence(daemon->supervisor, worker->worker_id, &presence, holds_since(daemon, gpus));
    gpu_monitor_ask(daemon->gpu_monitor);
}
