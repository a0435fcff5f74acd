/*
 * See gate.h. Source of the need: reference: users-ask, ask 13: two engines that start on one GPU at once mis-size each
 * other, and memory that is freed while one profiles makes it abort.
 */
#include "core/lifecycle/gate.h"

#include <stdio.h>
#include <string.h>

#include "core/worker_shares.h"

static bool is_on(const struct pool_worker_info *worker, const char *gpu_uuid)
{
    bool is_there = false; /* on one of its devices, when it has several */
    (void)pool_worker_info_reserved_on(worker, gpu_uuid, &is_there);
    return is_there;
}

/* It has, or is about to have, a process that is not ready yet. */
static bool is_starting(const struct pool_worker_info *worker)
{
    return worker->status == POOL_WORKER_SPAWNING && worker->queue_position == 0;
}

static bool is_exclusive(const struct pool_config *config, const struct pool_worker_info *worker)
{
    const struct pool_backend *backend = NULL;
    return worker->backend && pool_config_backend(config, worker->backend, &backend, NULL) == POOL_OK &&
           backend->exclusive_start;
}

bool gate_is_ending(const struct pool_worker_info *worker)
{
    return worker->status == POOL_WORKER_STOPPING && worker->stop_phase &&
           strcmp(worker->stop_phase, "drain") != 0 && strcmp(worker->stop_phase, "wait") != 0;
}

static bool is_same(const struct pool_worker_info *a, const struct pool_worker_info *b)
{
    return b && strcmp(a->worker_id, b->worker_id) == 0;
}

int64_t gate_count_queued(const struct pool_worker_list *live, const char *gpu_uuid,
                          const struct pool_worker_info *self)
{
    int64_t n = 0;
    for (size_t i = 0; i < live->n_workers; i++) {
        const struct pool_worker_info *worker = live->workers[i];
        n += is_on(worker, gpu_uuid) && gate_is_queued(worker) && !is_same(worker, self) &&
             (!self || worker->queue_position < self->queue_position);
    }
    return n;
}

bool gate_blocks_start(const struct pool_config *config, const struct pool_worker_list *live,
                       const char *gpu_uuid, bool is_exclusive_start, const struct pool_worker_info *self,
                       int64_t releasing_bytes, struct gate_blocker *ret_blocker)
{
    struct gate_blocker found = { NULL, NULL, "" };
    for (size_t i = 0; i < live->n_workers; i++) {
        const struct pool_worker_info *worker = live->workers[i];
        const char *reason = NULL;
        if (!is_on(worker, gpu_uuid) || is_same(worker, self))
            continue;
        if (gate_is_queued(worker) && (!self || worker->queue_position < self->queue_position))
            reason = "queue";
        else if (is_starting(worker) && is_exclusive(config, worker))
            reason = "exclusive_start";
        else if (is_exclusive_start && is_starting(worker))
            reason = "starting";
        else if (is_exclusive_start && gate_is_ending(worker))
            reason = "stopping";
        /* Who is before it in the queue waits himself: the one who holds the gate is named when there is one. */
        if (reason && (!found.reason || strcmp(found.reason, "queue") == 0))
            found = (struct gate_blocker){ worker, reason, "" };
    }
    if (!found.reason && is_exclusive_start && releasing_bytes > 0)
        found.reason = "releasing";
    if (!found.reason)
        return false;
    snprintf(found.device, sizeof found.device, "%s", gpu_uuid);
    *ret_blocker = found;
    return true;
}

static bool share_a_device(const struct pool_worker_info *a, const struct pool_worker_info *b,
                           char device[POOL_GPU_UUID_MAX])
{
    int64_t ignored;
    for (size_t i = 0; worker_share_at(a, i, device, &ignored); i++) {
        if (is_on(b, device))
            return true;
    }
    return false;
}

bool gate_blocks_stop(const struct pool_config *config, const struct pool_worker_list *live,
                      const struct pool_worker_info *worker, struct gate_blocker *ret_blocker)
{
    /* One that has no process, or is about to be profiled itself, gives nothing back to others. */
    if (!worker->gpu_uuid || gate_is_queued(worker))
        return false;
    for (size_t i = 0; i < live->n_workers; i++) {
        const struct pool_worker_info *other = live->workers[i];
        struct gate_blocker blocker = { .worker = other, .reason = "exclusive_start" };
        if (!is_same(other, worker) && is_starting(other) && is_exclusive(config, other) &&
            share_a_device(worker, other, blocker.device)) {
            *ret_blocker = blocker;
            return true;
        }
    }
    return false;
}

enum pool_code gate_refuse(const struct gate_blocker *blocker, const char *what, struct pool_error *err)
{
    const char *id = blocker->worker ? blocker->worker->worker_id : NULL;
    if (id)
        pool_error_set(err, POOL_CONFLICT, "the %s has to wait for worker %s on GPU %s (%s)", what, id,
                       blocker->device, blocker->reason);
    else
        pool_error_set(err, POOL_CONFLICT,
                       "the %s has to wait until memory of stopped workers is free on GPU %s", what,
                       blocker->device);
    pool_error_add_text(err, "wait_reason", blocker->reason);
    if (id)
        pool_error_add_text(err, "blocking_worker_id", id);
    pool_error_add_text(err, "device", blocker->device);
    return POOL_CONFLICT;
}
