/*
 * The parts of a start, for the files that make one of them: spawn.c (the whole of it), start_plan.c (what it would do) and
 * start_queue.c (whether its turn has come).
 */
#ifndef LIFECYCLE_START_H
#define LIFECYCLE_START_H

#include "core/lifecycle/manager.h"

static inline void free_plan(struct pool_plan **plan)
{
    pool_plan_free(*plan);
}

/* ---- spawn.c ---- */
/* What is asked before any lock: the disk, the registry as it is, the driver. */
POOL_MUST_CHECK enum pool_code start_prepare(struct pool_manager *manager,
                                             const struct pool_worker_spawn_request *request,
                                             struct start_request *ret_start, struct devices *ret_devices,
                                             struct pool_error *err);
/* Intent, spawn, fact; under the lock. `child` keeps the process as ours. */
POOL_MUST_CHECK enum pool_code start_launch(struct pool_manager *manager, const struct pool_plan *plan,
                                            struct pool_worker_info *worker, struct child *child,
                                            struct pool_error *err);

/* ---- start_plan.c ---- */
/* Under the lock. `again`: the worker exists already and lost its port; only that is chosen anew. Else NULL. */
POOL_MUST_CHECK enum pool_code start_plan(struct pool_manager *manager, const struct start_request *start,
                                          const struct devices *devices, const struct pool_worker_list *live,
                                          const struct pool_worker_info *again, struct pool_plan **ret_plan,
                                          struct pool_error *err);

/* ---- start_queue.c ---- */
/*
 * CONFLICT when it has to wait, with its place in plan->worker. `self`: its row when it waits already. Only an engine that
 * profiles has to know of memory that is being released: for others free is free.
 */
POOL_MUST_CHECK enum pool_code start_pass_gate(struct pool_manager *manager,
                                               const struct start_request *start,
                                               const struct devices *devices,
                                               const struct pool_worker_list *live, struct pool_plan *plan,
                                               const struct pool_worker_info *self, struct pool_error *err);
/* Whether one that has to wait is queued; else it is refused. */
bool start_may_queue(const struct pool_manager *manager, const struct pool_plan *plan);

#endif
