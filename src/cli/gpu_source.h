/*
 * Where commands learn of GPUs without a daemon. A driver is asked by pool-gpu-probe, once and with a deadline: a call
 * into a driver that hangs can not be ended, and the helper holds nothing that a command or a worker needs. Where the
 * helper is not installed (the library and rbees-pool alone), the driver is asked by the command itself, before it takes
 * any lock; one that hangs then, hangs the command.
 */
#ifndef CLI_GPU_SOURCE_H
#define CLI_GPU_SOURCE_H

#include <pool/config.h>
#include <pool/gpu.h>

/* What a driver has for its answer: the first use of each GPU takes it seconds without persistence mode. */
#define GPU_SOURCE_TIMEOUT_MS INT64_C(60000)

/* Whether the helper is asked: for a driver, where it is installed. */
bool gpu_source_is_helper(const struct pool_config *config);
/* The inventory of a configuration; asks nothing yet. Owner: pool_gpu_inventory_close. */
POOL_MUST_CHECK enum pool_code gpu_source_open(const struct pool_config *config,
                                               struct pool_gpu_inventory **ret_inventory,
                                               struct pool_error *err);

#endif
