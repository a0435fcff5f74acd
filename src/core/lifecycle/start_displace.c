/*
 * Displacing: the stops that a start needs are begun, all of them under the lock under which it was planned, so that those who
 * were chosen are those who are stopped. A daemon ends them as it ends any worker; anybody else does it himself.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "core/lifecycle/explain.h"
#include "core/lifecycle/start.h"
#include "core/worker_fields.h"

void displaced_clear(struct pool_manager *manager)
{
    for (size_t i = 0; i < manager->displaced.n_workers; i++)
        pool_worker_info_free(manager->displaced.workers[i]);
    free(manager->displaced.workers);
    manager->displaced = (struct pool_worker_list){ 0 };
}

enum pool_code pool_manager_take_displaced(struct pool_manager *manager, struct pool_worker_list **ret_list,
                                           struct pool_error *err)
{
    struct pool_worker_list *list = calloc(1, sizeof *list);
    if (!list)
        return pool_error_no_memory(err);
    *list = manager->displaced;
    manager->displaced = (struct pool_worker_list){ 0 };
    *ret_list = list;
    return POOL_OK;
}

static void explain(struct pool_manager *manager, const struct pool_plan *plan,
                    const struct pool_displacement *displaced, const struct start_room *room)
{
    struct pool_explanation *record = explain_new(manager, POOL_EXPLAIN_DISPLACEMENT, displaced->worker_id);
    char human[HUMAN_BYTES_MAX], idle[48] = "busy";
    if (!record)
        return;
    format_bytes(displaced->gives_back_bytes, human);
    if (displaced->idle_ms.is_present)
        snprintf(idle, sizeof idle, "idle for %" PRId64 " s", displaced->idle_ms.value / 1000);
    explain_say(record,
                "stopped to make room for worker %s, as its request allows: it had %s of memory and was %s",
                plan->worker_id, human, idle);
    record->required_bytes = (struct pool_reading){ true, plan->reserved_bytes };
    explain_add_text(record, "displaced_for", plan->worker_id);
    explain_add_text(record, "device", plan->ledger.device);
    explain_add_text(record, "status", pool_worker_status_name(displaced->status));
    explain_add_number(record, "gives_back_bytes", displaced->gives_back_bytes);
    if (displaced->idle_ms.is_present)
        explain_add_number(record, "idle_ms", displaced->idle_ms.value);
    explain_add_number(record, "missing_bytes", room->missing_bytes);
    explain_add_number(record, "n_displaced", (int64_t)room->n_displaced);
    explain_add_number(record, "available_bytes", plan->ledger.available_bytes);
    explain_add_number(record, "available_after_bytes", plan->room.ledger_after.available_bytes);
    explain_add_text(record, "spared", room->spared);
    explain_keep(manager, record);
}

void start_explain_room(struct pool_manager *manager, const struct pool_plan *plan,
                        const struct start_room *room)
{
    char ids[sizeof((struct child *)NULL)->displaced];
    start_displaced_ids(room, ids, sizeof ids);
    explain_start_text(manager, "waits_for", room->wait_reason);
    explain_start_text(manager, "displaces", ids);
    explain_start_fact(manager, "missing_bytes", room->missing_bytes);
    explain_start_fact(manager, "available_after_bytes", plan->room.ledger_after.available_bytes);
    explain_start_text(manager, "spared", room->spared);
}

void start_displaced_ids(const struct start_room *room, char *ids, size_t n)
{
    size_t at = 0;
    ids[0] = '\0';
    for (size_t i = 0; i < room->n_displaced && at < n; i++) {
        int more = snprintf(ids + at, n - at, "%s%s", i ? ", " : "", room->displaced[i].worker_id);
        at += more > 0 ? (size_t)more : 0;
    }
}

enum pool_code start_displace(struct pool_manager *manager, const struct pool_plan *plan,
                              const struct start_room *room, struct pool_error *err)
{
    for (size_t i = 0; i < room->n_displaced; i++) {
        CLEANUP(free_worker) struct pool_worker_info *worker = NULL;
        enum pool_code code =
            pool_worker_registry_get(manager->registry, room->displaced[i].worker_id, &worker, err);
        if (code == POOL_OK)
            code = stop_begin(manager, worker, POOL_STOP_REQUESTED, worker->stop_grace_ms, NULL, err);
        if (code != POOL_OK)
            return code;
        if (!manager->is_daemon)
            stop_signal(manager, worker, false);
        explain(manager, plan, &room->displaced[i], room);
        if (!worker_list_append(&manager->displaced, worker))
            return pool_error_no_memory(err);
        worker = NULL;
    }
    return POOL_OK;
}

enum pool_code start_ask_looks(struct pool_manager *manager, struct start_room *room,
                               struct activity_looks *looks, struct pool_error *err)
{
    CLEANUP(free_worker_list) struct pool_worker_list *live = NULL;
    enum pool_code code = manager_list_registry(manager, POOL_REGISTRY_LIVE, &live, err);
    if (code == POOL_OK)
        code = activity_looks_ask(room->may_displace, live, looks, err);
    if (code == POOL_OK)
        room->looks = looks;
    return code;
}

void start_tell_displaced(const char *displaced, struct pool_error *err)
{
    if (!displaced[0] || !err)
        return;
    size_t n = strlen(err->message);
    snprintf(err->message + n, sizeof err->message - n, "; stopped for it already: %s", displaced);
    pool_error_add_text(err, "displaced", displaced);
}
