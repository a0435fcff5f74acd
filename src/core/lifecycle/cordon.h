/*
 * Cordons: devices that no new worker is placed on until somebody says otherwise, each with its reason. They are kept in
 * the registry, so that they outlive the daemon and bind the command line too; workers on the device go on.
 */
#ifndef LIFECYCLE_CORDON_H
#define LIFECYCLE_CORDON_H

#include "core/lifecycle/manager.h"

/*
 * Marks the devices of a list that are cordoned; an instance is when its device is. When what was kept cannot be read,
 * all of them are. Errors: REGISTRY_UNAVAILABLE, INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code cordons_apply(struct pool_manager *manager, struct pool_gpu_list *gpus,
                                             struct pool_error *err);

#endif
