/*
 * The state of the pool as commands about GPUs use it: devices, ledgers, and whose the processes on them are.
 */
#ifndef CLI_GPU_STATUS_H
#define CLI_GPU_STATUS_H

#include <pool/api.h>

#include "cli/program.h"

static inline void release_status(struct pool_status_response **status)
{
    pool_status_response_free(*status);
}

/* Of the daemon, or asked of the driver and the registry. Owner: the caller. */
POOL_MUST_CHECK enum pool_code get_status(struct cli *cli, struct pool_status_response **ret_status,
                                          struct pool_error *err);
/* By index or UUID. Errors: GPU_NOT_FOUND, which names what there is. Borrowed from the status. */
POOL_MUST_CHECK enum pool_code find_gpu(const struct pool_status_response *status, const char *gpu_id,
                                        const struct pool_gpu_info **ret_gpu, struct pool_error *err);

#define PROCESS_COMMAND_MAX 256
#define PROCESS_USER_MAX    64

/* What can be said of a process that holds memory of a device. */
struct gpu_process_owner {
    const char *worker_id;             /* NULL: none of ours; borrowed from the status */
    char command[PROCESS_COMMAND_MAX]; /* "" when it is not ours to see, or on another machine */
    char user[PROCESS_USER_MAX];       /* name, else uid; "" likewise */
};

/*
 * Whose a process is: a worker's when it is its main process or, on this machine, of its session or below it. The driver
 * tells pids of the host's pid namespace; in another one the numbers mean others, so what /proc says is left alone there.
 */
void find_process_owner(const struct cli *cli, const struct pool_status_response *status,
                        const struct pool_gpu_process *process, struct gpu_process_owner *ret_owner);

#endif
