/*
 * The gate of a device: an engine that profiles free memory while it starts (a backend with exclusive_start) must not see
 * others take or give back memory meanwhile. So on its device no other start and no stop begins until it is ready or gone,
 * and its own start waits until nobody else starts, stops or releases memory there. Pure: it asks nobody.
 */
#ifndef LIFECYCLE_GATE_H
#define LIFECYCLE_GATE_H

#include "core/lifecycle/manager.h"

/* Whether a worker waits in the queue of its device: it has no process yet. */
static inline bool gate_is_queued(const struct pool_worker_info *worker)
{
    return worker->status == POOL_WORKER_SPAWNING && worker->queue_position > 0;
}

/* Its processes are being ended, so that its memory is about to come free. */
bool gate_is_ending(const struct pool_worker_info *worker);

struct gate_blocker {
    const struct pool_worker_info *worker; /* borrowed from the list; NULL: memory that is being released */
    const char *reason; /* static: "exclusive_start", "starting", "stopping", "queue", "releasing" */
    char device[POOL_GPU_UUID_MAX]; /* on which */
};

/*
 * Who keeps a start on a device waiting. `self`: its own row when it is queued already, else NULL: then all who are queued
 * there are before it. releasing_bytes: of stopped workers on the device. false: nobody.
 */
bool gate_blocks_start(const struct pool_config *config, const struct pool_worker_list *live,
                       const char *gpu_uuid, bool is_exclusive, const struct pool_worker_info *self,
                       int64_t releasing_bytes, struct gate_blocker *ret_blocker);
/* Who keeps the stop of a worker waiting, on any of its devices. */
bool gate_blocks_stop(const struct pool_config *config, const struct pool_worker_list *live,
                      const struct pool_worker_info *worker, struct gate_blocker *ret_blocker);
/* How many are queued on a device; of `self` only those before it. */
int64_t gate_count_queued(const struct pool_worker_list *live, const char *gpu_uuid,
                          const struct pool_worker_info *self);
/* CONFLICT, retriable, with who is waited for. what: "start" or "stop" */
enum pool_code gate_refuse(const struct gate_blocker *blocker, const char *what, struct pool_error *err);

#endif
