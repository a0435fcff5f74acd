/*
 * Which processes of live workers were seen to hold memory of GPUs, beside their main ones: a note of the registry, because
 * a process that has ended can not be asked any more whose it was. What a worker held is released when none of them is
 * listed by the driver.
 */
#ifndef LIFECYCLE_GPU_PROCESSES_H
#define LIFECYCLE_GPU_PROCESSES_H

#include "core/lifecycle/manager.h"

#define GPU_PROCESSES_MAX 64 /* of one worker; the newest are kept */

/* A stop begins: every process of the worker's tree may be one. The caller holds the lock. Best effort. */
void gpu_processes_note_tree(struct pool_manager *manager, const struct pool_worker_info *worker);
/* The pids that were noted, and forgets them. The caller holds the lock. Returns how many. */
size_t gpu_processes_take(struct pool_manager *manager, const struct pool_worker_info *worker,
                          int64_t pids[GPU_PROCESSES_MAX]);

#endif
