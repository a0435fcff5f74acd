/*
 * From snapshots to records; see usage_watch.h. Only growth is reported, and that by more than a hundredth, so that a worker
 * whose memory wavers costs no write a second.
 */
#include "managerd/usage_watch.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "managerd/daemon.h"
#include "managerd/log.h"

static void collect(const struct pool_worker_info *worker, void *context)
{
    struct pool_worker_list *list = context;
    bool is_serving = worker->status == POOL_WORKER_READY || worker->status == POOL_WORKER_BUSY ||
                      worker->status == POOL_WORKER_IDLE;
    if (is_serving && worker->gpu_uuid)
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

static void report_growth(struct daemon *daemon, const struct pool_worker_list *workers)
{
    for (size_t i = 0; i < workers->n_workers; i++) {
        const struct pool_worker_info *worker = workers->workers[i];
        int64_t bytes = sum_of(daemon->attribution, worker->worker_id);
        if (!has_grown(worker, bytes))
            continue;
        struct pool_worker_sight sight = { .struct_size = sizeof sight,
                                           .is_healthy = worker->is_healthy,
                                           .health_reason = worker->health_reason,
                                           .observed_bytes = { true, bytes } };
        supervisor_report(daemon->supervisor, worker->worker_id, &sight);
    }
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
        report_growth(daemon, &workers);
    }
    free(workers.workers);
}
