/*
 * Workers that are taken over by a daemon: that they served is what a row of an earlier manager says, and nobody looked
 * since. Before such a worker is called ready its readiness is proven again, as at its start: 200 on its path, and every
 * listener of its port is its own. One that does not answer at once is unhealthy, with a reason that says so, until it
 * has been proven by a watch (pool_start_watch_open) and pool_manager_record_proven.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "core/lifecycle/manager.h"
#include "core/lifecycle/start_watch.h"

/* So many are asked at once: each is a descriptor. */
#define PROVE_AT_ONCE_MAX 128

static const char unproven[] = "adopted: its readiness is not proven again yet";

static bool is_serving(const struct pool_worker_info *worker)
{
    return worker->status == POOL_WORKER_READY || worker->status == POOL_WORKER_BUSY ||
           worker->status == POOL_WORKER_IDLE;
}

bool pool_worker_is_unproven(const struct pool_worker_info *worker)
{
    return is_serving(worker) && !worker->is_healthy && worker->health_reason &&
           strcmp(worker->health_reason, unproven) == 0;
}

/* One that calls back has no path to be asked on: its port is all that can be looked at. */
static bool has_own_port(const struct listeners *listeners, const struct pool_worker_info *worker,
                         enum pool_port_proof *ret_proof)
{
    uint32_t foreign_uid;
    struct port_claim claim = port_claim_of(worker);
    return port_owner_find(listeners, &claim, ret_proof, &foreign_uid) == PORT_OURS;
}

static enum pool_code set_health(struct pool_worker_info *worker, const char *reason, struct pool_error *err)
{
    char *copy = reason ? strdup(reason) : NULL;
    if (reason && !copy)
        return pool_error_no_memory(err);
    free(worker->health_reason);
    worker->health_reason = copy;
    worker->is_healthy = !reason;
    return POOL_OK;
}

/* Writes nothing when there is nothing new. */
static enum pool_code note_proof(struct pool_manager *manager, struct pool_worker_info *worker,
                                 bool is_proven, enum pool_port_proof proof, struct pool_error *err)
{
    bool is_off_gpu = pool_worker_is_off_gpu(worker); /* an answer does not say where it comes from */
    bool is_well = worker->is_healthy || is_off_gpu;
    if (is_proven ? is_well && worker->port_proof == proof : pool_worker_is_unproven(worker))
        return POOL_OK;
    if (is_proven)
        worker->port_proof = proof;
    enum pool_code code =
        is_proven && is_off_gpu ? POOL_OK : set_health(worker, is_proven ? NULL : unproven, err);
    return code != POOL_OK ? code : pool_worker_registry_update(manager->registry, worker, err);
}

struct batch {
    struct pool_worker_info *workers[PROVE_AT_ONCE_MAX]; /* borrowed */
    size_t n_workers;
    bool is_proven[PROVE_AT_ONCE_MAX];
    enum pool_port_proof proofs[PROVE_AT_ONCE_MAX];
};

static void ask_batch(struct batch *batch, int64_t timeout_ms)
{
    CLEANUP(listeners_done) struct listeners listeners = { 0 };
    struct pool_worker_info *asked[PROVE_AT_ONCE_MAX];
    size_t at[PROVE_AT_ONCE_MAX] = { 0 };
    bool is_ready[PROVE_AT_ONCE_MAX] = { false };
    enum pool_port_proof proofs[PROVE_AT_ONCE_MAX] = { 0 };
    struct pool_worker_list list = { .workers = asked };
    bool are_known = listeners_read(&listeners) == 0;
    for (size_t i = 0; i < batch->n_workers; i++) {
        if (!batch->workers[i]->ready_path) {
            batch->is_proven[i] = are_known && has_own_port(&listeners, batch->workers[i], &batch->proofs[i]);
            continue;
        }
        at[list.n_workers] = i;
        asked[list.n_workers++] = batch->workers[i];
    }
    if (list.n_workers > 0)
        ready_probe_all(&list, timeout_ms, is_ready, proofs);
    for (size_t i = 0; i < list.n_workers; i++) {
        batch->is_proven[at[i]] = is_ready[i];
        batch->proofs[at[i]] = proofs[i];
    }
}

static enum pool_code note_batch(struct pool_manager *manager, struct batch *batch, struct pool_error *err)
{
    enum pool_code code = manager_lock(manager, err);
    if (code != POOL_OK)
        return code;
    for (size_t i = 0; code == POOL_OK && i < batch->n_workers; i++)
        code = note_proof(manager, batch->workers[i], batch->is_proven[i], batch->proofs[i], err);
    state_dir_unlock(&manager->state);
    return code;
}

enum pool_code pool_manager_prove_again(struct pool_manager *manager, struct pool_worker_list *list,
                                        struct pool_error *err)
{
    int64_t deadline_ns = clock_boottime_ns() + POOL_SETTLE_PROBE_MAX_MS * NS_PER_MS;
    enum pool_code code = POOL_OK;
    for (size_t i = 0; code == POOL_OK && i < list->n_workers;) {
        struct batch batch = { .n_workers = 0 };
        for (; i < list->n_workers && batch.n_workers < PROVE_AT_ONCE_MAX; i++) {
            if (is_serving(list->workers[i]))
                batch.workers[batch.n_workers++] = list->workers[i];
        }
        int64_t left_ms = (deadline_ns - clock_boottime_ns()) / NS_PER_MS;
        if (batch.n_workers == 0)
            continue;
        ask_batch(&batch, left_ms > 0 ? left_ms : 0);
        code = note_batch(manager, &batch, err);
    }
    if (code == POOL_INSUFFICIENT_DISK) { /* the rows in the list say it, and the next change writes it */
        manager_add_notice(manager, "the disk is full: what was proven of workers could not be recorded");
        return POOL_OK;
    }
    return code;
}

enum pool_code prove_row(struct pool_manager *manager, struct pool_worker_info *worker,
                         enum pool_port_proof proof, struct pool_error *err)
{
    return pool_worker_is_unproven(worker) ? note_proof(manager, worker, true, proof, err) : POOL_OK;
}
