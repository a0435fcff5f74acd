/*
 * What ready workers hold of their devices, recorded in passing.
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "core/lifecycle/manager.h"

static bool is_serving(const struct pool_worker_info *worker)
{
    return worker->status == POOL_WORKER_READY || worker->status == POOL_WORKER_BUSY ||
           worker->status == POOL_WORKER_IDLE;
}

/* The sum over its devices, if the driver tells of each. */
static bool sum_of(const struct devices *devices, size_t worker, int64_t *ret_bytes)
{
    int64_t sum = 0;
    for (size_t i = 0; i < devices->n_usages; i++) {
        if (devices->usages[i].worker != worker)
            continue;
        if (!devices->usages[i].is_attributed || devices->usages[i].is_partial)
            return false;
        sum = add_bytes(sum, devices->usages[i].observed_bytes);
    }
    *ret_bytes = sum;
    return sum > 0;
}

/* Of trees only: what a main process holds needs no note. */
static void note_processes(struct pool_manager *manager, const struct devices *devices,
                           const struct pool_worker_list *live)
{
    struct pool_attribution *attribution = NULL;
    size_t n = 0;
    for (size_t i = 0; devices->gpus && i < devices->gpus->n_gpus; i++)
        n += devices->gpus->gpus[i]->n_processes;
    if (n == 0 || live->n_workers == 0 ||
        pool_attribution_make(devices->gpus, live, &attribution, NULL) != POOL_OK)
        return;
    (void)!pool_manager_note_processes(manager, attribution, NULL);
    pool_attribution_free(attribution);
}

void usage_note(struct pool_manager *manager, const struct devices *devices,
                const struct pool_worker_list *live)
{
    if (manager->is_daemon)
        return;
    note_processes(manager, devices, live);
    for (size_t i = 0; i < live->n_workers; i++) {
        const struct pool_worker_info *worker = live->workers[i];
        int64_t bytes;
        if (!worker->gpu_uuid || !is_serving(worker) ||
            worker->ready_boottime_ns >= devices->asked_boottime_ns || !sum_of(devices, i, &bytes) ||
            (worker->peak_bytes.is_present && bytes <= worker->peak_bytes.value) ||
            pool_worker_is_off_gpu(worker)) /* what it takes elsewhere is no measure of the next one */
            continue;
        CLEANUP(free_worker) struct pool_worker_info *changed = NULL;
        struct pool_worker_sight sight = { .struct_size = sizeof sight,
                                           .is_healthy = worker->is_healthy,
                                           .health_reason = worker->health_reason,
                                           .observed_bytes = { true, bytes } };
        (void)!pool_manager_record_sight(manager, worker->worker_id, &sight, &changed, NULL);
    }
}
