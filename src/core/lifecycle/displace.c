/*
 * What the stop of a worker gives back, and who may be stopped for a start; see displace.h.
 */
#include "core/lifecycle/displace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "core/lifecycle/gate.h"

/* ---- what a stop gives back ---- */

bool displace_holds(const struct devices *devices, const struct pool_worker_info *worker, const char *device,
                    struct displace_holding *ret_holding)
{
    bool is_there = false;
    struct displace_holding holding = { .reserved_bytes =
                                            pool_worker_info_reserved_on(worker, device, &is_there) };
    if (!is_there)
        return false;
    for (size_t i = 0; i < devices->n_usages; i++) {
        const struct usage *usage = &devices->usages[i];
        if (strcmp(usage->worker_id, worker->worker_id) == 0 &&
            (!usage->device[0] || strcmp(usage->device, device) == 0)) {
            holding.observed_bytes = excess_bytes(usage->observed_bytes, 0);
            break;
        }
    }
    *ret_holding = holding;
    return true;
}

static int64_t gives_bytes(const struct displace_holding *holding)
{
    return holding->reserved_bytes > holding->observed_bytes ? holding->reserved_bytes
                                                             : holding->observed_bytes;
}

/* What is free and not to be had: promised here, promised by other managers, kept back (ledger.c). */
static int64_t spoken_for_bytes(const struct pool_ledger *ledger)
{
    return add_bytes(add_bytes(ledger->pending_bytes, ledger->elsewhere_bytes), ledger->headroom_bytes);
}

static void count_again(struct pool_ledger *ledger)
{
    ledger->available_bytes = excess_bytes(ledger->free_bytes, spoken_for_bytes(ledger));
}

void displace_from_ledger(struct pool_ledger *ledger, const struct displace_holding *holding)
{
    ledger->free_bytes = add_bytes(ledger->free_bytes, holding->observed_bytes);
    ledger->used_bytes = excess_bytes(ledger->used_bytes, holding->observed_bytes);
    ledger->pending_bytes =
        excess_bytes(ledger->pending_bytes, excess_bytes(holding->reserved_bytes, holding->observed_bytes));
    ledger->allocated_bytes = excess_bytes(ledger->allocated_bytes, gives_bytes(holding));
    ledger->n_workers = excess_bytes(ledger->n_workers, 1);
    count_again(ledger);
}

void displace_release(struct pool_ledger *ledger)
{
    ledger->free_bytes = add_bytes(ledger->free_bytes, ledger->releasing_bytes);
    ledger->used_bytes = excess_bytes(ledger->used_bytes, ledger->releasing_bytes);
    ledger->releasing_bytes = 0;
    count_again(ledger);
}

int64_t displace_room_bytes(const struct pool_ledger *ledger)
{
    return ledger->free_bytes - spoken_for_bytes(ledger);
}

/* ---- who may be stopped ---- */

bool displace_names_anybody(const struct pool_may_displace *may_displace)
{
    return may_displace->n_worker_ids > 0 || may_displace->n_labels > 0;
}

bool displace_is_named(const struct pool_may_displace *may_displace, const struct pool_worker_info *worker)
{
    for (size_t i = 0; i < may_displace->n_worker_ids; i++) {
        if (strcmp(may_displace->worker_ids[i], worker->worker_id) == 0)
            return true;
    }
    for (size_t i = 0; i < may_displace->n_labels; i++) {
        const char *value = pool_worker_info_label(worker, may_displace->labels[i].name);
        if (!value || strcmp(value, may_displace->labels[i].value) != 0)
            return false;
    }
    return may_displace->n_labels > 0;
}

static bool is_idle_only(const struct pool_may_displace *may_displace)
{
    return !may_displace->idle_only.is_present || may_displace->idle_only.value != 0;
}

/* Who profiles a device of the start keeps the start waiting too: it is asked again then. */
static bool is_on_one_of(const struct displace_question *question, const struct pool_worker_info *worker)
{
    bool is_there = false;
    for (size_t d = 0; d < question->n_devices && !is_there; d++)
        (void)pool_worker_info_reserved_on(worker, question->ledgers[d]->device, &is_there);
    return is_there;
}

/* Why a named worker can not be taken; "": it can. */
static void find_obstacle(const struct displace_question *question, const struct pool_worker_info *worker,
                          char *text, size_t n)
{
    struct gate_blocker blocker;
    const struct activity_look *look =
        question->looks ? activity_looks_find(question->looks, worker->worker_id) : NULL;
    text[0] = '\0';
    if (worker->status == POOL_WORKER_SPAWNING)
        snprintf(text, n, "is starting");
    else if (worker->status == POOL_WORKER_STOPPING || worker->status == POOL_WORKER_STOPPED)
        snprintf(text, n, "is stopping");
    else if (gate_blocks_stop(question->config, question->live, worker, &blocker) &&
             !is_on_one_of(question, blocker.worker))
        snprintf(text, n, "can not be stopped while %.64s starts", blocker.worker->worker_id);
    else if (!is_idle_only(question->may_displace))
        return;
    else if (!pool_activity_path(worker->activity))
        snprintf(text, n, "does not say whether it works");
    else if (question->looks && (!look || !look->n_requests.is_present))
        snprintf(text, n, "did not say whether it works");
    else if (look && look->n_requests.value > 0)
        snprintf(text, n, "works on %" PRId64 " request%s", look->n_requests.value,
                 look->n_requests.value == 1 ? "" : "s");
}

static void note_spared(struct displace_candidates *found, const struct pool_worker_info *worker,
                        const char *why)
{
    size_t n = strlen(found->spared);
    snprintf(found->spared + n, sizeof found->spared - n, "%s%s: %s", n ? "; " : "", worker->worker_id, why);
}

/* From its last request; of one that had none, from when it was ready. One that is busy, or was a moment ago: now. */
static int64_t idle_since_ns(const struct pool_worker_info *worker, int64_t now_ns)
{
    if (worker->status == POOL_WORKER_BUSY)
        return now_ns;
    int64_t since_ns =
        worker->idle_since_boottime_ns > 0 ? worker->idle_since_boottime_ns : worker->ready_boottime_ns;
    return since_ns > 0 && since_ns < now_ns ? since_ns : now_ns;
}

static int64_t gives_on_all(const struct devices *devices, const struct pool_worker_info *worker)
{
    struct displace_holding holding;
    int64_t sum = 0;
    for (size_t i = 0; devices->gpus && i < devices->gpus->n_gpus; i++) {
        if (displace_holds(devices, worker, devices->gpus->gpus[i]->uuid, &holding))
            sum = add_bytes(sum, gives_bytes(&holding));
    }
    if (displace_holds(devices, worker, "host", &holding))
        sum = add_bytes(sum, gives_bytes(&holding));
    return sum;
}

/* false: it has nothing on any device of the start. */
static bool fill(const struct displace_question *question, const struct pool_worker_info *worker,
                 struct displace_candidate *candidate)
{
    bool is_there = false;
    *candidate = (struct displace_candidate){ .worker = worker,
                                              .idle_since_ns = idle_since_ns(worker, question->now_ns) };
    for (size_t d = 0; d < question->n_devices; d++) {
        struct displace_holding holding;
        if (!displace_holds(question->devices, worker, question->ledgers[d]->device, &holding))
            continue;
        candidate->gives_bytes[d] = gives_bytes(&holding);
        is_there = true;
    }
    candidate->total_bytes = gives_on_all(question->devices, worker);
    return is_there;
}

void displace_candidates_done(struct displace_candidates *candidates)
{
    free(candidates->at);
    candidates->at = NULL;
    candidates->n = 0;
}

enum pool_code displace_find(const struct displace_question *question,
                             struct displace_candidates *ret_candidates, struct pool_error *err)
{
    CLEANUP(displace_candidates_done)
    struct displace_candidates found = { .at = calloc(question->live->n_workers + 1, sizeof *found.at) };
    if (!found.at)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < question->live->n_workers; i++) {
        const struct pool_worker_info *worker = question->live->workers[i];
        char obstacle[128];
        bool is_self = question->self_id && strcmp(worker->worker_id, question->self_id) == 0;
        if (is_self || !displace_is_named(question->may_displace, worker) ||
            !fill(question, worker, &found.at[found.n]))
            continue;
        find_obstacle(question, worker, obstacle, sizeof obstacle);
        if (obstacle[0])
            note_spared(&found, worker, obstacle);
        else
            found.n++;
    }
    *ret_candidates = found;
    found.at = NULL;
    return POOL_OK;
}
