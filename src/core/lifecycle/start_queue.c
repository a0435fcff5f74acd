/*
 * The turn of a start on its device: who has to wait is registered without a process by a daemon, and is started when its turn
 * has come.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/lifecycle/explain.h"
#include "core/lifecycle/gate.h"
#include "core/lifecycle/release.h"
#include "core/lifecycle/split.h"
#include "core/lifecycle/start.h"
#include "core/worker_shares.h"

static enum pool_code ledger_of(struct pool_manager *manager, const struct devices *devices,
                                const struct pool_worker_list *live, const char *device,
                                struct pool_ledger *ret_ledger, struct pool_error *err)
{
    CLEANUP_FREE struct releases *releases = releases_read(manager);
    return devices_ledger(devices, pool_gpu_list_find(devices->gpus, device), live, releases, NULL,
                          manager->config->gpu_vram_headroom_bytes, ret_ledger, err);
}

/* Behind the longest queue of its devices. */
static void take_position(struct pool_worker_info *worker, const struct pool_worker_list *live,
                          const struct pool_worker_info *self)
{
    char device[POOL_GPU_UUID_MAX];
    int64_t ignored;
    worker->queue_position = 1;
    for (size_t i = 0; worker_share_at(worker, i, device, &ignored); i++) {
        int64_t position = 1 + gate_count_queued(live, device, self);
        if (position > worker->queue_position)
            worker->queue_position = position;
    }
}

enum pool_code start_pass_gate(struct pool_manager *manager, const struct start_request *start,
                               const struct devices *devices, const struct pool_worker_list *live,
                               struct pool_plan *plan, const struct pool_worker_info *self,
                               struct pool_error *err)
{
    struct gate_blocker blocker;
    char device[POOL_GPU_UUID_MAX];
    int64_t ignored;
    bool is_blocked = false, is_exclusive = start->backend->exclusive_start;
    if (!plan->gpu_uuid)
        return POOL_OK;
    for (size_t i = 0; !is_blocked && worker_share_at(plan->worker, i, device, &ignored); i++) {
        struct pool_ledger ledger = { 0 };
        enum pool_code code =
            is_exclusive ? ledger_of(manager, devices, live, device, &ledger, err) : POOL_OK;
        if (code != POOL_OK)
            return code;
        is_blocked = gate_blocks_start(manager->config, live, device, is_exclusive, self,
                                       ledger.releasing_bytes, &blocker);
    }
    if (!is_blocked)
        return POOL_OK;
    take_position(plan->worker, live, self);
    free(plan->worker->queue_reason);
    plan->worker->queue_reason = strdup(blocker.reason);
    if (!plan->worker->queue_reason)
        return pool_error_no_memory(err);
    gate_refuse(&blocker, "start", err);
    pool_error_add_number(err, "queue_position", plan->worker->queue_position);
    return POOL_CONFLICT;
}

enum pool_code start_wait_for_room(struct pool_plan *plan, const struct pool_worker_list *live,
                                   const struct pool_worker_info *self, struct pool_error *err)
{
    const char *device = plan->ledger.device;
    char *reason = strdup(plan->room.wait_reason);
    if (!reason)
        return pool_error_no_memory(err);
    free(plan->worker->queue_reason);
    plan->worker->queue_reason = reason;
    take_position(plan->worker, live, self);
    pool_error_set(err, POOL_CONFLICT, "the start has to wait until memory is free on %s (%s)", device,
                   reason);
    pool_error_add_text(err, "wait_reason", reason);
    pool_error_add_text(err, "device", device);
    pool_error_add_number(err, "queue_position", plan->worker->queue_position);
    return POOL_CONFLICT;
}

bool start_may_queue(const struct pool_manager *manager, const struct pool_plan *plan)
{
    return manager->is_daemon && manager->config->queue_timeout_ms > 0 && plan && plan->worker->queue_reason;
}

bool pool_worker_is_queued(const struct pool_worker_info *worker)
{
    return gate_is_queued(worker);
}

static void set_aside(struct pool_worker_info *worker)
{
    worker->reserved_bytes = 0;
    free(worker->shares);
    worker->shares = NULL;
}

/*
 * Its own reserve and port are given back for the plan: it is the same start. So is what was promised to those behind it in the
 * queue: they may count on room that is not made before their own turn.
 */
static struct pool_worker_info *set_self_aside(struct pool_worker_list *live, const char *worker_id)
{
    struct pool_worker_info *self = NULL;
    for (size_t i = 0; i < live->n_workers && !self; i++) {
        if (strcmp(live->workers[i]->worker_id, worker_id) == 0)
            self = live->workers[i];
    }
    if (!self)
        return NULL;
    for (size_t i = 0; i < live->n_workers; i++) {
        if (gate_is_queued(live->workers[i]) && live->workers[i]->queue_position > self->queue_position)
            set_aside(live->workers[i]);
    }
    set_aside(self);
    self->port = 0;
    return self;
}

/* Its place may have changed since. */
static enum pool_code record_place(struct pool_manager *manager, const struct pool_plan *plan,
                                   struct pool_worker_info **ret_worker)
{
    CLEANUP(free_worker) struct pool_worker_info *row = NULL;
    const char *reason = plan->worker->queue_reason;
    if (pool_worker_registry_get(manager->registry, plan->worker_id, &row, NULL) != POOL_OK)
        return POOL_OK;
    if (row->queue_position == plan->worker->queue_position && row->queue_reason &&
        strcmp(row->queue_reason, reason) == 0)
        return POOL_OK;
    char *copy = strdup(reason);
    if (!copy)
        return POOL_OK;
    free(row->queue_reason);
    row->queue_reason = copy;
    row->queue_position = plan->worker->queue_position;
    if (pool_worker_registry_update(manager->registry, row, NULL) == POOL_OK)
        *ret_worker = take_ptr(&row);
    return POOL_OK;
}

/* Its turn has come, but for the room that it needs: those who give it are stopped, once. */
static enum pool_code wait_for_room(struct pool_manager *manager, struct child *child, struct pool_plan *plan,
                                    const struct pool_worker_list *live, const struct pool_worker_info *self,
                                    const struct start_room *room, struct pool_worker_info **ret_worker,
                                    struct pool_error *err)
{
    enum pool_code code = start_wait_for_room(plan, live, self, err);
    if (code != POOL_CONFLICT)
        return code;
    (void)!record_place(manager, plan, ret_worker);
    if (room->n_displaced == 0)
        return code;
    start_explain_room(manager, plan, room);
    start_displaced_ids(room, child->displaced, sizeof child->displaced);
    explain_start_text(manager, "queued_for", plan->worker->queue_reason);
    explain_start_end(manager, POOL_OK, plan->worker, NULL);
    (void)!start_displace(manager, plan, room, NULL);
    return code;
}

static enum pool_code start_queued_locked(struct pool_manager *manager, struct child *child,
                                          const struct start_request *start, const struct devices *devices,
                                          struct start_room *room, struct pool_worker_info **ret_worker,
                                          struct pool_error *err)
{
    CLEANUP(free_worker_list) struct pool_worker_list *live = NULL;
    CLEANUP(free_worker) struct pool_worker_info *row = NULL;
    CLEANUP(free_plan) struct pool_plan *plan = NULL;
    enum pool_code code = manager_list_registry(manager, POOL_REGISTRY_LIVE, &live, err);
    if (code == POOL_OK)
        code = pool_worker_registry_get(manager->registry, child->worker_id, &row, err);
    struct pool_worker_info *self = code == POOL_OK ? set_self_aside(live, child->worker_id) : NULL;
    if (code == POOL_OK && (!self || !gate_is_queued(row))) {
        code = pool_error_set(err, POOL_CONFLICT, "worker %s does not wait for its turn", child->worker_id);
        if (err)
            err->is_retriable = false;
    }
    if (code == POOL_OK)
        code = gpu_locks_take(manager, live, err);
    if (code == POOL_OK)
        code = start_plan(manager, start, devices, live, row, room, &plan, err);
    if (code == POOL_OK)
        code = start_pass_gate(manager, start, devices, live, plan, self, err);
    if (code == POOL_CONFLICT && plan && plan->worker->queue_reason)
        (void)!record_place(manager, plan, ret_worker);
    room->is_look_needed = room->is_look_needed && code == POOL_OK; /* not before its turn */
    if (code != POOL_OK || room->is_look_needed)
        return code;
    if (plan->room.wait_reason[0])
        return wait_for_room(manager, child, plan, live, self, room, ret_worker, err);
    /* Its start begins now: deadlines count from here. */
    plan->worker->revision = row->revision;
    code = start_launch(manager, plan, plan->worker, child, err);
    if (code == POOL_OK)
        promise_remove(manager, row); /* it has a new one, of the start that begins now */
    if (code == POOL_OK)
        explain_start_end(manager, POOL_OK, plan->worker, NULL);
    return code != POOL_OK ? code
                           : pool_worker_registry_get(manager->registry, child->worker_id, ret_worker, err);
}

/* The request names what was decided when it was queued: its id and its device. */
static enum pool_code name_place(struct pool_manager *manager, struct child *child, struct pool_error *err)
{
    CLEANUP(free_worker) struct pool_worker_info *row = NULL;
    enum pool_code code = pool_worker_registry_get(manager->registry, child->worker_id, &row, err);
    if (code != POOL_OK)
        return code;
    char *worker_id = strdup(child->worker_id);
    char *gpu_id = row->gpu_uuid ? strdup(row->gpu_uuid) : NULL;
    if (!worker_id || (row->gpu_uuid && !gpu_id)) {
        free(worker_id);
        free(gpu_id);
        return pool_error_no_memory(err);
    }
    free(child->request->worker_id);
    child->request->worker_id = worker_id;
    if (gpu_id && !split_is_asked(child->request)) {
        free(child->request->gpu_id);
        child->request->gpu_id = take_ptr(&gpu_id);
    }
    free(gpu_id);
    return POOL_OK;
}

static enum pool_code try_turn(struct pool_manager *manager, struct child *child,
                               const struct start_request *start, const struct devices *devices,
                               struct start_room *room, struct pool_worker_info **ret_worker,
                               struct pool_error *err)
{
    enum pool_code code = manager_lock(manager, err);
    if (code == POOL_OK)
        code = start_queued_locked(manager, child, start, devices, room, ret_worker, err);
    gpu_locks_release(manager);
    state_dir_unlock(&manager->state);
    return code;
}

static enum pool_code start_queued(struct pool_manager *manager, struct child *child,
                                   struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(start_request_done) struct start_request start = START_REQUEST_INIT;
    CLEANUP(devices_done) struct devices devices = { 0 };
    CLEANUP(activity_looks_done) struct activity_looks looks = { 0 };
    bool was_unrestricted = manager->is_unrestricted;
    manager->is_unrestricted = child->is_unrestricted;
    enum pool_code code = name_place(manager, child, err);
    if (code == POOL_OK)
        code = start_prepare(manager, child->request, &start, &devices, err);
    manager->is_unrestricted = was_unrestricted;
    if (code != POOL_OK)
        return code;
    CLEANUP(start_room_done) struct start_room room = start_room_of(child->request, child->displaced);
    explain_start_needs(manager, &start);
    explain_start_text(manager, "displaced", child->displaced);
    code = try_turn(manager, child, &start, &devices, &room, ret_worker, err);
    if (code == POOL_OK && room.is_look_needed) {
        code = start_ask_looks(manager, &room, &looks, err);
        if (code == POOL_OK)
            code = try_turn(manager, child, &start, &devices, &room, ret_worker, err);
    }
    return code;
}

enum pool_code pool_manager_start_queued(struct pool_manager *manager, const char *worker_id,
                                         struct pool_worker_info **ret_worker, struct pool_error *err)
{
    struct pool_error why = POOL_ERROR_INIT;
    struct child *child = manager_find_child(manager, worker_id);
    if (!child)
        return pool_error_set(err, POOL_WORKER_NOT_FOUND, "worker %s does not wait for its turn here",
                              worker_id);
    explain_start_begin(manager, child->request);
    enum pool_code code = start_queued(manager, child, ret_worker, &why);
    if (code == POOL_OK)
        return POOL_OK;
    bool is_waiting = code == POOL_CONFLICT && why.is_retriable;
    start_tell_displaced(child->displaced, &why);
    if (is_waiting)
        explain_start_drop(manager);
    else
        explain_start_end(manager, code, NULL, &why);
    if (err)
        *err = why;
    return code;
}
