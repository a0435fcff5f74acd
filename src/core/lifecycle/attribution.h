/*
 * Whose a process of the driver's list is.
 */
#ifndef LIFECYCLE_ATTRIBUTION_H
#define LIFECYCLE_ATTRIBUTION_H

#include <pool/lifecycle.h>

#include "core/lifecycle/process.h"

/* Whether pids of the driver, which are the host's, mean in this pid namespace what they mean there. */
bool attribution_sees_drivers_pids(const struct host_identity *host);
/* The worker whose tree a process belongs to, by its place in the list. false: none of ours. */
bool attribution_find_owner(const struct host_identity *host, const struct pool_worker_list *live,
                            int64_t pid, size_t *ret_index);
/* Whether the driver says how much a process holds, and not more than there is. */
bool attribution_is_said(const struct pool_gpu_info *gpu, const struct pool_gpu_process *process);
/* The last number of the line "NSpid:" of /proc/PID/status: the pid in the innermost namespace. */
bool attribution_parse_nspid(const char *status, int64_t *ret_pid);

#endif
