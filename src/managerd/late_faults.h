/*
 * Errors of devices that are reported after a worker on them has died: a driver tells of them a little later than the kernel
 * does of the end. They are added to the worker's crash bundle. The last LATE_FAULTS_WORKERS_MAX that died are watched for
 * POOL_CRASH_NEAR_AFTER_MS each.
 */
#ifndef MANAGERD_LATE_FAULTS_H
#define MANAGERD_LATE_FAULTS_H

#include <pool/crash.h>

#define LATE_FAULTS_WORKERS_MAX 64

struct daemon;
struct late_faults; /* opaque */

POOL_MUST_CHECK enum pool_code late_faults_open(struct daemon *daemon, struct late_faults **ret_late,
                                                struct pool_error *err);
void late_faults_close(struct late_faults *late);
/* A worker has become history; `worker` is its last record. What was reported while that was under way is added now. */
void late_faults_see_end(struct late_faults *late, const struct pool_worker_info *worker);
/* A device reported an error. */
void late_faults_see_fault(struct late_faults *late, const struct pool_device_fault *fault);

#endif
