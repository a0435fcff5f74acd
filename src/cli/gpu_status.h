/*
 * The state of the pool as commands about GPUs use it: devices, ledgers, and whose the processes on them are.
 */
#ifndef CLI_GPU_STATUS_H
#define CLI_GPU_STATUS_H

#include <pool/api.h>
#include <pool/lifecycle.h>

#include "cli/program.h"

static inline void release_status(struct pool_status_response **status)
{
    pool_status_response_free(*status);
}

/* Of the daemon, or asked of the driver and the registry. Owner: the caller. */
POOL_MUST_CHECK enum pool_code get_status(struct cli *cli, struct pool_status_response **ret_status,
                                          struct pool_error *err);
static inline void release_gpus(struct pool_gpu_list **list)
{
    pool_gpu_list_free(*list);
}

/*
 * The devices alone, of the daemon, or of the inventory itself, for which no state directory is needed. *ret_config is
 * NULL when a daemon was asked, and borrowed from the program. Owner: the caller.
 */
POOL_MUST_CHECK enum pool_code get_gpus(struct cli *cli, struct pool_gpu_list **ret_list,
                                        const struct pool_config **ret_config, struct pool_error *err);
/* By index or UUID. Errors: GPU_NOT_FOUND, which names what there is. Borrowed from the status. */
POOL_MUST_CHECK enum pool_code find_gpu(const struct pool_status_response *status, const char *gpu_id,
                                        const struct pool_gpu_info **ret_gpu, struct pool_error *err);

#define PROCESS_COMMAND_MAX 256
#define PROCESS_USER_MAX    64

/* What can be said of a process that holds memory of a device. */
struct gpu_process_owner {
    const char *worker_id;             /* NULL: none of ours; borrowed from status or attribution */
    char command[PROCESS_COMMAND_MAX]; /* "" when it is not ours to see, or on another machine */
    char user[PROCESS_USER_MAX];       /* name, else uid; "" likewise */
};

static inline void release_attribution(struct pool_attribution **attribution)
{
    pool_attribution_free(*attribution);
}

/*
 * Whose the processes on all devices are, as the library tells it. NULL on another machine, and where the driver's pids,
 * which are those of the host's pid namespace, mean other processes here. Owner: the caller.
 */
POOL_MUST_CHECK enum pool_code attribute_processes(const struct cli *cli,
                                                   const struct pool_status_response *status,
                                                   struct pool_attribution **ret_attribution,
                                                   struct pool_error *err);
/* Without an attribution: a worker's main process at most, and nothing of /proc. */
void find_process_owner(const struct pool_status_response *status, const struct pool_attribution *attribution,
                        const struct pool_gpu_info *gpu, const struct pool_gpu_process *process,
                        struct gpu_process_owner *ret_owner);

#endif
