/*
 * One worker over several devices: which layers of its model lie on which, and what each has to have room for.
 */
#ifndef LIFECYCLE_SPLIT_H
#define LIFECYCLE_SPLIT_H

#include "core/lifecycle/plan.h"

#define SPLIT_DEVICES_MAX POOL_SPLIT_DEVICES_MAX

struct split {
    size_t n; /* 0: the worker has one device */
    struct split_part {
        const struct pool_gpu_info *gpu;
        const struct pool_ledger *ledger;
        int64_t weight; /* as the engine is told */
        int64_t bytes;
    } parts[SPLIT_DEVICES_MAX];
    struct pool_memory_need need; /* of all together */
};

/* Whether a request names several devices. */
bool split_is_asked(const struct pool_worker_spawn_request *request);
/* Shares a start out to the devices that its request names, whether there is room or not. Errors: those of split_plan but for
 * the last. */
POOL_MUST_CHECK enum pool_code split_share_out(const struct placement_input *input, struct split *ret_split,
                                               struct pool_error *err);
/*
 * Shares a start out to the devices that its request names, and admits it on each. Errors: GPU_NOT_FOUND, GPU_UNAVAILABLE,
 * INVALID_REQUEST (one twice, a MIG instance, a split of another length), INSUFFICIENT_VRAM of the device that lacks room.
 */
POOL_MUST_CHECK enum pool_code split_plan(const struct placement_input *input, struct split *ret_split,
                                          struct pool_error *err);
/* The names of the products, for what is learned: "A + B". */
void split_name(const struct pool_worker_spawn_request *request, const struct pool_gpu_list *gpus, char *name,
                size_t n);
void split_name_of(const struct split *split, const char *weights, char *name, size_t n);
/* "UUID,UUID", "3,1" and "UUID=BYTES,UUID=BYTES". Owned by the caller, NULL when memory is out. */
char *split_uuids(const struct split *split);
char *split_weights(const struct split *split);
char *split_shares(const struct split *split);

#endif
