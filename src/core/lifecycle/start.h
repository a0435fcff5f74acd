/*
 * The parts of a start, for the files that make one of them: spawn.c (the whole of it), start_plan.c (what it would do) and
 * start_queue.c (whether its turn has come).
 */
#ifndef LIFECYCLE_START_H
#define LIFECYCLE_START_H

#include "core/lifecycle/manager.h"
#include "core/lifecycle/start_room.h"

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

/* Whether one that does not fit now may wait for room. */
static inline bool start_can_wait(const struct pool_manager *manager)
{
    return !manager->is_daemon || manager->config->queue_timeout_ms > 0;
}

/* ---- start_plan.c ---- */
/*
 * Under the lock. `again`: the worker exists already and lost its port; only that is chosen anew. Else NULL.
 * room: what may be done for a start that does not fit (NULL: nothing). Where that helps, the plan is made as for afterwards, so
 * that everything else is checked now: it has a wait_reason then, and must not be launched.
 */
POOL_MUST_CHECK enum pool_code start_plan(struct pool_manager *manager, const struct start_request *start,
                                          const struct devices *devices, const struct pool_worker_list *live,
                                          const struct pool_worker_info *again, struct start_room *room,
                                          struct pool_plan **ret_plan, struct pool_error *err);

/* ---- start_displace.c ---- */
/*
 * Begins the stops that a plan needs; they are in manager->displaced then, also those that were begun when another failed.
 * Under the lock.
 */
POOL_MUST_CHECK enum pool_code start_displace(struct pool_manager *manager, const struct pool_plan *plan,
                                              const struct start_room *room, struct pool_error *err);
/* Asks those who are named what they are at; room->looks are these then. Blocks: as activity_looks_ask. */
POOL_MUST_CHECK enum pool_code start_ask_looks(struct pool_manager *manager, struct start_room *room,
                                               struct activity_looks *looks, struct pool_error *err);
/* A refusal says who was stopped in vain. displaced: "": nobody. */
void start_tell_displaced(const char *displaced, struct pool_error *err);
/* "a, b", cut at the end when it is too long. */
void start_displaced_ids(const struct start_room *room, char *ids, size_t n);
/* What the start under way needs, in its explanation. */
void start_explain_room(struct pool_manager *manager, const struct pool_plan *plan,
                        const struct start_room *room);

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
/* CONFLICT, with its place in plan->worker: it has to wait for the room that its plan needs. */
POOL_MUST_CHECK enum pool_code start_wait_for_room(struct pool_plan *plan,
                                                   const struct pool_worker_list *live,
                                                   const struct pool_worker_info *self,
                                                   struct pool_error *err);
/* Whether one that has to wait is queued; else it is refused. */
bool start_may_queue(const struct pool_manager *manager, const struct pool_plan *plan);

#endif
