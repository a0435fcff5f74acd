/*
 * What stopped workers held of GPUs until it is free: one entry for each device of a worker in a note of the registry, from
 * its end until the driver lists none of its processes there any more, at most POOL_RELEASE_WAIT_MAX_MS. Each end of an entry
 * is explained, with the time that it took and with what is left over.
 */
#ifndef LIFECYCLE_RELEASE_H
#define LIFECYCLE_RELEASE_H

#include "core/lifecycle/gpu_processes.h"
#include "core/lifecycle/manager.h"

#define RELEASES_MAX 256 /* entries; the oldest go first */

struct release {
    char worker_id[POOL_WORKER_ID_MAX + 1];
    char gpu_uuid[POOL_GPU_UUID_MAX];
    size_t n_pids; /* at least its main process, the first */
    int64_t pids[1 + GPU_PROCESSES_MAX];
    int64_t start_boottime_ns;   /* of the worker, which tells it from others of its id */
    int64_t held_bytes;          /* as was observed; 0: not known */
    int64_t stopped_boottime_ns; /* CLOCK_BOOTTIME */
};

struct releases {
    size_t n;
    struct release at[RELEASES_MAX];
};

/* A worker with a process on a GPU is gone. The caller holds the lock. Without memory nothing is released: the driver's
 * word on free memory is what counts. */
void release_begin(struct pool_manager *manager, const struct pool_worker_info *worker);
/* The entries, none when they can not be read. Freed with free(); NULL: no memory. */
struct releases *releases_read(struct pool_manager *manager);
/*
 * What stopped workers still hold of a device, as a snapshot shows it. *ret_held_back_bytes: how much of it the driver
 * calls free at the same time; that is not free. asked_ns, now_ns: CLOCK_BOOTTIME, of the snapshot and of now.
 */
int64_t releases_bytes(const struct releases *releases, const struct pool_gpu_info *gpu, int64_t asked_ns,
                       int64_t now_ns, int64_t *ret_held_back_bytes);
/* After a stop: waits until the worker's memory is free, at most POOL_RELEASE_WAIT_MAX_MS. */
void release_wait(struct pool_manager *manager, const struct pool_worker_info *worker, int cancel_fd);

#endif
