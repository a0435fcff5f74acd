/*
 * The managers of one host, of other state directories and users, and the bytes of its GPUs: gpu.lock_dir.
 *
 *   the directory itself   locked (flock, exclusive) while a start is planned and its promise made
 *   STATE-ID.START         what one worker was promised, from the plan of its start to its end; see promise.h
 *   .new-…                 one that is being made
 *
 * A promise counts while it lives: its file is locked through an open file that the worker inherits (as descriptor 3), as with
 * its log, or its main process runs. So one that was killed at any moment leaves nothing that counts, and a worker that loads is
 * never forgotten. Each manager looks at its own snapshot of the driver for what the workers of others have taken of their
 * promises, as for its own. Order of locks: the state directory's, then this one. It is not held while the driver is asked
 * or anything is waited for, but for the exec of the worker's program.
 */
#ifndef LIFECYCLE_GPU_LOCKS_H
#define LIFECYCLE_GPU_LOCKS_H

#include <pool/lifecycle.h>

#define GPU_LOCKS_WAIT_MAX_MS 10000 /* how long the directory's lock is tried for */
#define GPU_LOCKS_FILES_MAX \
    16384 /* looked at; whoever fills the directory keeps others from starting, no more */

struct pool_manager;

struct gpu_locks {
    int fd;                            /* of the directory while it is locked, else -1 */
    struct pool_worker_list *promised; /* to workers of others, while it is locked */
};
#define GPU_LOCKS_INIT \
    {                  \
        .fd = -1       \
    }

/*
 * Takes the lock, and reads what workers of others are promised. Where the directory can not be had, nothing is locked and the
 * list stays NULL: status and doctor say so. `live`: our own, whose promises are made anew where they are missing.
 * Errors: CONFLICT (held by others for too long), OVERLOADED (too many files), INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code gpu_locks_take(struct pool_manager *manager,
                                              const struct pool_worker_list *live, struct pool_error *err);
void gpu_locks_release(struct pool_manager *manager);
/*
 * Shows what a worker is promised, under the lock. *ret_fd is for the worker to inherit, and is to be closed when it has; -1
 * where nothing is locked. Errors: INSUFFICIENT_DISK, PERMISSION_DENIED, INTERNAL: nothing may be started then.
 */
POOL_MUST_CHECK enum pool_code promise_make(struct pool_manager *manager,
                                            const struct pool_worker_info *worker, int *ret_fd,
                                            struct pool_error *err);
/* Its process, its readiness or its reserve has changed. Best effort, without the lock. */
void promise_update(struct pool_manager *manager, const struct pool_worker_info *worker);
/* Its worker is gone. Best effort, without the lock. */
void promise_remove(struct pool_manager *manager, const struct pool_worker_info *worker);
/* What workers of others are promised now, without the lock: for those who look. NULL when it can not be told. */
struct pool_worker_list *promises_look(struct pool_manager *manager);

#endif
