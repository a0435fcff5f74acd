/*
 * The GPU monitor's snapshots as an inventory: the loop puts them in, the thread that plans takes them out. An answer
 * is never older than the monitor's last word, which says itself when it is stale (every GPU is unhealthy then).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "managerd/daemon.h"

struct snapshot_inventory {
    uv_mutex_t mutex;
    char *json; /* the last snapshot; NULL before the first */
    int64_t taken_boottime_ns;
};

struct private_part {
    struct snapshot_inventory *snapshots;
};

/* An implementation is opened with a text; ours is the address of what the loop writes to. */
static enum pool_code open_snapshots(void *self, const char *source, struct pool_error *err)
{
    (void)err;
    struct private_part *part = self;
    part->snapshots = (struct snapshot_inventory *)(uintptr_t)strtoumax(source, NULL, 16);
    return POOL_OK;
}

static enum pool_code refresh_snapshots(void *self, struct pool_gpu_list *list, struct pool_error *err)
{
    struct snapshot_inventory *snapshots = ((struct private_part *)self)->snapshots;
    struct pool_gpu_list *taken = NULL;
    uv_mutex_lock(&snapshots->mutex);
    CLEANUP_FREE char *json = snapshots->json ? strdup(snapshots->json) : NULL;
    bool is_there = snapshots->json != NULL;
    uv_mutex_unlock(&snapshots->mutex);
    if (!is_there)
        return pool_error_set(err, POOL_GPU_UNAVAILABLE, "the driver has not answered yet");
    if (!json)
        return pool_error_no_memory(err);
    enum pool_code code = pool_gpu_list_decode(json, strlen(json), &taken, err);
    if (code != POOL_OK)
        return code;
    list->n_gpus = taken->n_gpus;
    list->gpus = take_ptr(&taken->gpus);
    taken->n_gpus = 0;
    memcpy(list->source, taken->source, sizeof list->source);
    memcpy(list->reason, taken->reason, sizeof list->reason);
    list->taken_boottime_ns = taken->taken_boottime_ns;
    pool_gpu_list_free(taken);
    return POOL_OK;
}

static void close_snapshots(void *self)
{
    (void)self;
}

static const struct pool_gpu_inventory_ops snapshot_ops = {
    .name = "monitor",
    .private_bytes = sizeof(struct private_part),
    .open = open_snapshots,
    .refresh = refresh_snapshots,
    .close = close_snapshots,
};

enum pool_code snapshot_inventory_open(struct snapshot_inventory **ret_snapshots,
                                       struct pool_gpu_inventory **ret_inventory, struct pool_error *err)
{
    struct snapshot_inventory *snapshots = calloc(1, sizeof *snapshots);
    if (!snapshots || uv_mutex_init(&snapshots->mutex) != 0) {
        free(snapshots);
        return pool_error_no_memory(err);
    }
    char source[32];
    snprintf(source, sizeof source, "%" PRIxPTR, (uintptr_t)snapshots);
    enum pool_code code = pool_gpu_inventory_open_ops(&snapshot_ops, source, ret_inventory, err);
    if (code != POOL_OK) {
        snapshot_inventory_close(snapshots, NULL);
        return code;
    }
    *ret_snapshots = snapshots;
    return POOL_OK;
}

void snapshot_inventory_close(struct snapshot_inventory *snapshots, struct pool_gpu_inventory *inventory)
{
    pool_gpu_inventory_close(inventory);
    if (!snapshots)
        return;
    uv_mutex_destroy(&snapshots->mutex);
    free(snapshots->json);
    free(snapshots);
}

void snapshot_inventory_put(struct snapshot_inventory *snapshots, const struct pool_gpu_list *list)
{
    char *json = NULL;
    if (pool_gpu_list_encode(list, NULL, 0, &json, NULL) != POOL_OK)
        return; /* without memory the one before stays */
    uv_mutex_lock(&snapshots->mutex);
    char *old = snapshots->json;
    snapshots->json = json;
    uv_mutex_unlock(&snapshots->mutex);
    free(old);
}
