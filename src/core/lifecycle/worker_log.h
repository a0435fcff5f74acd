/*
 * A worker's log, which is also the proof of its life: the file is opened and locked (flock, exclusive) before
 * the spawn, and the worker inherits that open file as its output. The lock lives as long as any process of
 * the worker does: through the moment between vfork and exec, in grandchildren that left the session, in other
 * pid namespaces, and in programs whose /proc is closed to us.
 */
#ifndef LIFECYCLE_WORKER_LOG_H
#define LIFECYCLE_WORKER_LOG_H

#include <pool/error.h>
#include <pool/worker.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * Makes the file, a new one for each start, and locks it. The descriptor is for the worker; close it after the spawn.
 * ret_identity may be NULL.
 * Errors: ALREADY_EXISTS (an earlier worker's process holds its log still), REGISTRY_UNAVAILABLE, INSUFFICIENT_DISK.
 */
POOL_MUST_CHECK enum pool_code worker_log_create(const char *path, int *ret_fd, uint64_t *ret_identity,
                                                 struct pool_error *err);

enum worker_log_state {
    WORKER_LOG_HELD,    /* a process of the worker lives */
    WORKER_LOG_FREE,    /* none holds it */
    WORKER_LOG_MISSING, /* the file is gone or can not be opened: nothing can be told */
};
/* Looks without disturbing others who look: shared, non-blocking, through a descriptor of its own. */
enum worker_log_state worker_log_look(const char *path, dev_t *ret_device, ino_t *ret_inode);
/* The same for the log of one start: that of a later start of the same id is MISSING for it. */
enum worker_log_state worker_log_of(const struct pool_worker_info *worker, dev_t *ret_device,
                                    ino_t *ret_inode);
/* What tells the file from others of its name, 0 when it is not there. */
uint64_t worker_log_identity(const char *path);
/* Frees disk space of a log that is larger than the limit by punching a hole at its beginning; offsets stay valid. */
void worker_log_trim(const char *path);

#endif
