/*
 * Looking whether workers are on their GPUs, for commands: they ask the driver themselves and may wait for it. A daemon is
 * given snapshots instead. The verdict is that of presence.c.
 */
#include "core/lifecycle/presence.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/lifecycle/manager.h"

static void free_attribution(struct pool_attribution **attribution)
{
    pool_attribution_free(*attribution);
}

/* The driver's devices, and whose their processes are. false: it does not tell. */
static bool ask(struct pool_manager *manager, const struct pool_worker_list *workers,
                struct devices *ret_devices, struct pool_attribution **ret_attribution)
{
    struct pool_gpu_inventory *inventory = NULL;
    return manager_inventory(manager, &inventory, NULL) == POOL_OK &&
           devices_ask(inventory, ret_devices, NULL) == POOL_OK &&
           pool_attribution_make(ret_devices->gpus, workers, ret_attribution, NULL) == POOL_OK;
}

void presence_look(struct pool_manager *manager, const struct pool_worker_info *worker,
                   struct pool_presence *ret_presence)
{
    CLEANUP(devices_done) struct devices devices = { 0 };
    CLEANUP(free_attribution) struct pool_attribution *attribution = NULL;
    CLEANUP(free_worker) struct pool_worker_info *copy = pool_worker_info_copy(worker);
    struct pool_worker_list one = { .n_workers = 1, .workers = &copy };
    *ret_presence = (struct pool_presence){ .verdict = POOL_PRESENCE_UNKNOWN };
    if (copy && ask(manager, &one, &devices, &attribution))
        pool_presence_judge(worker, devices.gpus, attribution, ret_presence);
}

void presence_note(struct pool_manager *manager, struct pool_worker_info *worker,
                   const struct pool_presence *presence)
{
    CLEANUP(free_worker) struct pool_worker_info *changed = NULL;
    if (!pool_presence_is_news(presence, pool_presence_rule(manager->config, worker), worker) ||
        pool_manager_record_presence(manager, worker, presence, &changed, NULL) != POOL_OK)
        return;
    worker->is_healthy = changed->is_healthy;
    worker->revision = changed->revision;
    free(worker->health_reason);
    worker->health_reason = take_ptr(&changed->health_reason);
}

static bool must_be_there(const struct pool_manager *manager, const struct pool_worker_info *worker)
{
    return worker->gpu_uuid && pool_presence_rule(manager->config, worker) == POOL_NOT_ON_GPU_FAIL;
}

void presence_sift(struct pool_manager *manager, const struct pool_worker_list *answering, bool *is_ready)
{
    CLEANUP(devices_done) struct devices devices = { 0 };
    CLEANUP(free_attribution) struct pool_attribution *attribution = NULL;
    size_t n = 0;
    for (size_t i = 0; i < answering->n_workers; i++)
        n += is_ready[i] && must_be_there(manager, answering->workers[i]);
    if (n == 0 || !ask(manager, answering, &devices, &attribution))
        return;
    for (size_t i = 0; i < answering->n_workers; i++) {
        struct pool_worker_info *worker = answering->workers[i];
        struct pool_presence presence;
        if (!is_ready[i] || !must_be_there(manager, worker))
            continue;
        pool_presence_judge(worker, devices.gpus, attribution, &presence);
        presence_note(manager, worker, &presence);
        /* Known to be absent before, it stays so until it is seen. */
        is_ready[i] = presence.verdict == POOL_PRESENCE_ON_GPU ||
                      (presence.verdict == POOL_PRESENCE_UNKNOWN && !pool_worker_is_off_gpu(worker));
    }
}

void presence_note_all(struct pool_manager *manager, const struct pool_gpu_list *gpus,
                       int64_t asked_boottime_ns, const struct pool_worker_list *live)
{
    CLEANUP(free_attribution) struct pool_attribution *attribution = NULL;
    bool is_any = false;
    for (size_t i = 0; i < live->n_workers; i++)
        is_any = is_any || (live->workers[i]->gpu_uuid && live->workers[i]->ready_boottime_ns != 0);
    if (manager->is_daemon || !gpus || !is_any ||
        pool_attribution_make(gpus, live, &attribution, NULL) != POOL_OK)
        return;
    for (size_t i = 0; i < live->n_workers; i++) {
        struct pool_worker_info *worker = live->workers[i];
        struct pool_presence presence;
        if (!worker->gpu_uuid || worker->ready_boottime_ns == 0 ||
            worker->ready_boottime_ns >= asked_boottime_ns)
            continue;
        pool_presence_judge(worker, gpus, attribution, &presence);
        presence_note(manager, worker, &presence);
    }
}
