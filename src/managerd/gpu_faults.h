/*
 * What is done about a device that reports an error: an event for people and clients, with the workers that are on it,
 * and, when it is serious, a cordon, so that nothing new is placed there until somebody has looked. Errors come from the
 * driver's events; an ECC counter that has grown between two snapshots tells of one that nobody listened to.
 */
#ifndef MANAGERD_GPU_FAULTS_H
#define MANAGERD_GPU_FAULTS_H

#include <pool/crash.h>
#include <pool/gpu_event.h>

struct daemon;
struct gpu_faults; /* opaque */

POOL_MUST_CHECK enum pool_code gpu_faults_open(struct daemon *daemon, struct gpu_faults **ret_faults,
                                               struct pool_error *err);
void gpu_faults_close(struct gpu_faults *faults);
void gpu_faults_take_event(struct gpu_faults *faults, const struct pool_gpu_event *event);
/* Compares a snapshot with the one before it. */
void gpu_faults_take_snapshot(struct gpu_faults *faults, const struct pool_gpu_list *list);
/*
 * What the devices of a worker have reported in the last POOL_CRASH_NEAR_BEFORE_MS, oldest first; the newest n_max when it is
 * more. As struct supervisor_listener wants it: context is the daemon.
 */
size_t gpu_faults_near(const struct pool_worker_info *worker, struct pool_device_fault *found, size_t n_max,
                       void *context);
/* Whether what a device reports concerns a worker: it is on it, or on a MIG instance of it. */
bool gpu_faults_is_hit(const struct gpu_faults *faults, const struct pool_worker_info *worker,
                       const char *uuid);
/* A worker has become history: what its devices report from now on, for a while, goes into its bundle too. */
void gpu_faults_see_end(struct gpu_faults *faults, const struct pool_worker_info *worker);

#endif
