/*
 * The pool as of now; see live_view.h.
 */
#include "managerd/live_view.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "managerd/daemon.h"

void live_view_done(struct live_view *view)
{
    free(view->workers.workers);
    free(view->ledgers);
    *view = (struct live_view){ 0 };
}

static void collect(const struct pool_worker_info *worker, void *context)
{
    struct pool_worker_list *list = context;
    list->workers[list->n_workers++] = (struct pool_worker_info *)(uintptr_t)worker; /* read only */
}

/* Of a worker over several devices each holds its share of what was seen, in proportion to what is reserved there. */
static void add_shares(const struct pool_worker_info *worker, const struct pool_gpu_list *gpus,
                       struct pool_worker_usage *usages, size_t *n)
{
    for (size_t i = 0; i < gpus->n_gpus && worker->reserved_bytes > 0; i++) {
        bool is_there;
        int64_t share = pool_worker_info_reserved_on(worker, gpus->gpus[i]->uuid, &is_there);
        if (is_there)
            usages[(*n)++] =
                (struct pool_worker_usage){ .worker_id = worker->worker_id,
                                            .observed_bytes =
                                                (int64_t)((double)worker->observed_bytes.value *
                                                          (double)share / (double)worker->reserved_bytes),
                                            .device = gpus->gpus[i]->uuid };
    }
}

/* What workers were seen to hold. NULL: no memory. */
static struct pool_worker_usage *make_usages(const struct daemon *daemon, const struct pool_gpu_list *gpus,
                                             size_t *ret_n)
{
    const struct pool_status_response *last = state_cache_last(daemon);
    size_t n = last ? last->workers->n_workers : 0, n_max = 1;
    for (size_t i = 0; i < n; i++)
        n_max += last->workers->workers[i]->shares ? gpus->n_gpus : 1;
    struct pool_worker_usage *usages = calloc(n_max, sizeof *usages);
    if (!usages)
        return NULL;
    *ret_n = 0;
    for (size_t i = 0; i < n; i++) {
        const struct pool_worker_info *worker = last->workers->workers[i];
        if (!worker->gpu_uuid || !worker->observed_bytes.is_present)
            continue;
        if (worker->shares)
            add_shares(worker, gpus, usages, ret_n);
        else
            usages[(*ret_n)++] = (struct pool_worker_usage){ .worker_id = worker->worker_id,
                                                             .observed_bytes = worker->observed_bytes.value };
    }
    return usages;
}

static bool make_ledgers(struct daemon *daemon, struct live_view *view)
{
    size_t n_usages = 0;
    CLEANUP_FREE struct pool_worker_usage *usages = make_usages(daemon, view->gpus, &n_usages);
    view->ledgers = calloc(view->gpus->n_gpus + 1, sizeof *view->ledgers);
    if (!usages || !view->ledgers)
        return false;
    for (size_t i = 0; i < view->gpus->n_gpus; i++) {
        const struct pool_gpu_info *gpu = view->gpus->gpus[i];
        if (!gpu->is_placeable || !gpu->is_vram_known)
            continue;
        struct pool_ledger_input input = {
            .struct_size = sizeof input,
            .device = gpu->uuid,
            .total_bytes = gpu->vram_total_bytes,
            .used_bytes = gpu->vram_used_bytes,
            .free_bytes = gpu->vram_free_bytes,
            .headroom_bytes = daemon->config->gpu_vram_headroom_bytes,
            .workers = &view->workers,
            .n_usages = n_usages,
            .usages = usages,
        };
        pool_ledger_compute(&input, &view->ledgers[view->n_ledgers++]);
    }
    return true;
}

bool live_view_take(struct daemon *daemon, struct live_view *ret_view)
{
    CLEANUP(live_view_done) struct live_view view = { 0 };
    view.gpus = gpu_monitor_snapshot(daemon->gpu_monitor).list;
    view.workers.workers = calloc(supervisor_n_workers(daemon->supervisor) + 1, sizeof *view.workers.workers);
    if (!view.workers.workers)
        return false;
    supervisor_each(daemon->supervisor, collect, &view.workers);
    if (!make_ledgers(daemon, &view))
        return false;
    *ret_view = view;
    view = (struct live_view){ 0 };
    return true;
}
