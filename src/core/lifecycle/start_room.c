/*
 * Looking for room; see start_room.h. First everything that comes free by itself is counted as free. What is missing then is
 * what displaced workers have to give back.
 */
#include "core/lifecycle/start_room.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "core/lifecycle/gate.h"

struct start_room start_room_of(const struct pool_worker_spawn_request *request, const char *displaced)
{
    bool is_anybody = displace_names_anybody(&request->may_displace);
    return (struct start_room){ .waits_for_stops = is_anybody,
                                .has_displaced = displaced[0] != '\0',
                                .may_displace = is_anybody && !displaced[0] ? &request->may_displace : NULL };
}

void start_room_done(struct start_room *room)
{
    free(room->displaced);
    room->displaced = NULL;
    room->n_displaced = 0;
}

/* A way to make room on some devices. */
struct option {
    size_t index; /* of the ledger, where it is one device */
    int64_t left_bytes;
    size_t n_chosen;
    int64_t total_bytes;
    int64_t used_last_ns; /* of those chosen */
    struct displace_candidates candidates;
    bool *is_chosen;
};

static void option_done(struct option *option)
{
    displace_candidates_done(&option->candidates);
    free(option->is_chosen);
    option->is_chosen = NULL;
}

static void take_from_all(const struct devices *devices, const struct pool_worker_info *worker,
                          const struct ledgers *ledgers)
{
    for (size_t i = 0; i < ledgers->n; i++) {
        struct displace_holding holding;
        if (displace_holds(devices, worker, ledgers->at[i].device, &holding))
            displace_from_ledger(&ledgers->at[i], &holding);
    }
}

/* What comes free by itself. */
static bool project(const struct start_room *room, const struct start_room_question *question,
                    struct ledgers *ret_after)
{
    size_t n = question->placement->n_ledgers;
    struct ledgers after = { .n = n, .at = calloc(n + 1, sizeof *after.at) };
    if (!after.at)
        return false;
    memcpy(after.at, question->placement->ledgers, n * sizeof *after.at);
    for (size_t i = 0; i < n; i++)
        displace_release(&after.at[i]);
    for (size_t i = 0; room->waits_for_stops && i < question->live->n_workers; i++) {
        if (gate_is_ending(question->live->workers[i]))
            take_from_all(question->devices, question->live->workers[i], &after);
    }
    *ret_after = after;
    return true;
}

/* Whom to stop so that so much comes free on each of the devices. false: nobody who may be stopped makes it enough. */
static bool choose(struct start_room *room, const struct start_room_question *question,
                   const struct pool_ledger *const *ledgers, const int64_t *missing_bytes, size_t n_devices,
                   struct option *ret_option)
{
    bool is_no_memory;
    CLEANUP(option_done) struct option option = { 0 };
    struct displace_question who = { .config = question->manager->config,
                                     .may_displace = room->may_displace,
                                     .live = question->live,
                                     .devices = question->devices,
                                     .looks = room->looks,
                                     .self_id = question->self_id,
                                     .now_ns = clock_boottime_ns(),
                                     .ledgers = ledgers,
                                     .n_devices = n_devices };
    if (!room->may_displace || displace_find(&who, &option.candidates, NULL) != POOL_OK)
        return false;
    if (option.candidates.spared[0])
        memcpy(room->spared, option.candidates.spared, sizeof room->spared);
    int64_t all_bytes = 0;
    for (size_t i = 0; i < option.candidates.n; i++) {
        for (size_t d = 0; d < n_devices; d++)
            all_bytes = add_bytes(all_bytes, option.candidates.at[i].gives_bytes[d]);
    }
    room->displaceable_bytes = all_bytes > room->displaceable_bytes ? all_bytes : room->displaceable_bytes;
    option.is_chosen = calloc(option.candidates.n + 1, sizeof *option.is_chosen);
    if (!option.is_chosen || !displace_choose(option.candidates.at, option.candidates.n, missing_bytes,
                                              n_devices, option.is_chosen, &is_no_memory))
        return false;
    for (size_t i = 0; i < option.candidates.n; i++) {
        if (!option.is_chosen[i])
            continue;
        const struct displace_candidate *chosen = &option.candidates.at[i];
        option.n_chosen++;
        option.total_bytes = add_bytes(option.total_bytes, chosen->total_bytes);
        if (chosen->idle_since_ns > option.used_last_ns)
            option.used_last_ns = chosen->idle_since_ns;
    }
    *ret_option = option;
    option.is_chosen = NULL;
    option.candidates.at = NULL;
    return true;
}

static bool is_better(const struct option *option, const struct option *than)
{
    if (option->n_chosen != than->n_chosen)
        return option->n_chosen < than->n_chosen;
    if (option->n_chosen == 0) /* as "auto" does where it fits */
        return option->left_bytes < than->left_bytes;
    if (option->total_bytes != than->total_bytes)
        return option->total_bytes < than->total_bytes;
    return option->used_last_ns < than->used_last_ns;
}

/* ---- one device ---- */

static bool try_device(struct start_room *room, const struct start_room_question *question,
                       const struct ledgers *after, size_t index, struct option *ret_option)
{
    const struct pool_ledger *ledger = &after->at[index];
    int64_t missing = start_need_at(question->placement->start, index)->bytes - displace_room_bytes(ledger);
    *ret_option = (struct option){ .index = index, .left_bytes = -missing };
    if (missing <= 0)
        return true;
    if (room->missing_bytes == 0 || missing < room->missing_bytes)
        room->missing_bytes = missing;
    bool is_found = choose(room, question, &ledger, &missing, 1, ret_option);
    ret_option->index = index;
    return is_found;
}

static bool is_auto(const struct pool_worker_spawn_request *request)
{
    return request->gpu_id && strcmp(request->gpu_id, "auto") == 0;
}

static bool find_on_one(struct start_room *room, const struct start_room_question *question,
                        const struct ledgers *after, struct start_place *place, struct option *ret_option)
{
    const struct placement_input *placement = question->placement;
    const struct pool_gpu_info *gpu = NULL;
    const struct pool_ledger *ledger = NULL;
    if (placement_choose(placement, &gpu, &ledger, NULL) != POOL_OK)
        return false;
    size_t only = (size_t)(ledger - placement->ledgers);
    bool is_any = gpu && is_auto(placement->start->request), is_found = false;
    for (size_t i = is_any ? 0 : only; i < (is_any ? placement->gpus->n_gpus : only + 1); i++) {
        CLEANUP(option_done) struct option option = { 0 };
        if ((is_any && placement_check_gpu(placement->gpus->gpus[i], NULL) != POOL_OK) ||
            !try_device(room, question, after, i, &option) || (is_found && !is_better(&option, ret_option)))
            continue;
        option_done(ret_option);
        *ret_option = option;
        option = (struct option){ 0 };
        is_found = true;
    }
    if (!is_found)
        return false;
    place->index = ret_option->index;
    place->gpu = gpu ? placement->gpus->gpus[place->index] : NULL;
    return true;
}

/* ---- several devices ---- */

static bool copy_ledgers(const struct ledgers *ledgers, struct ledgers *ret_copy)
{
    *ret_copy = (struct ledgers){ ledgers->n, calloc(ledgers->n + 1, sizeof *ledgers->at) };
    if (ret_copy->at)
        memcpy(ret_copy->at, ledgers->at, ledgers->n * sizeof *ledgers->at);
    return ret_copy->at;
}

/* Whether it fits, shared out anew, when those of the option are gone. */
static bool fits_without(const struct start_room_question *question, const struct ledgers *after,
                         const struct option *option)
{
    CLEANUP(ledgers_done) struct ledgers ledgers = { 0 };
    struct split split;
    if (!copy_ledgers(after, &ledgers))
        return false;
    for (size_t i = 0; i < option->candidates.n; i++) {
        if (option->is_chosen[i])
            take_from_all(question->devices, option->candidates.at[i].worker, &ledgers);
    }
    struct placement_input placement = *question->placement;
    placement.ledgers = ledgers.at;
    return split_plan(&placement, &split, NULL) == POOL_OK;
}

/*
 * Without weights a worker is shared out by the room that there is, which changes with whom is stopped: so it is shared out as
 * if all were gone, and where the choice for that is not enough, all are taken but for those without whom it fits too.
 */
static bool choose_until_it_fits(const struct start_room_question *question, const struct ledgers *after,
                                 struct option *option)
{
    size_t n = option->candidates.n;
    if (fits_without(question, after, option))
        return true;
    memset(option->is_chosen, true, n * sizeof *option->is_chosen);
    if (!fits_without(question, after, option))
        return false;
    for (size_t i = 0; i < n; i++) {
        option->is_chosen[i] = false;
        if (!fits_without(question, after, option))
            option->is_chosen[i] = true;
    }
    return true;
}

static bool find_on_several(struct start_room *room, const struct start_room_question *question,
                            const struct ledgers *after, struct option *ret_option)
{
    CLEANUP(ledgers_done) struct ledgers all_gone = { 0 };
    struct placement_input placement = *question->placement;
    struct split split;
    if (!copy_ledgers(after, &all_gone))
        return false;
    for (size_t i = 0; room->may_displace && i < question->live->n_workers; i++) {
        const struct pool_worker_info *worker = question->live->workers[i];
        if (displace_is_named(room->may_displace, worker) && !gate_is_ending(worker))
            take_from_all(question->devices, worker, &all_gone);
    }
    placement.ledgers = after->at;
    if (split_plan(&placement, &split, NULL) == POOL_OK)
        return true; /* it only has to wait */
    placement.ledgers = all_gone.at;
    if (split_share_out(&placement, &split, NULL) != POOL_OK)
        return false;
    const struct pool_ledger *ledgers[SPLIT_DEVICES_MAX];
    int64_t missing[SPLIT_DEVICES_MAX];
    for (size_t i = 0; i < split.n; i++) {
        ledgers[i] = &after->at[split.parts[i].ledger - all_gone.at];
        missing[i] = split.parts[i].bytes - displace_room_bytes(ledgers[i]);
        room->missing_bytes = add_bytes(room->missing_bytes, excess_bytes(missing[i], 0));
    }
    return choose(room, question, ledgers, missing, split.n, ret_option) &&
           choose_until_it_fits(question, after, ret_option);
}

/* ---- the whole of it ---- */

static int compare_idle(const void *a, const void *b)
{
    const struct displace_candidate *one = *(const struct displace_candidate *const *)a;
    const struct displace_candidate *other = *(const struct displace_candidate *const *)b;
    if (one->idle_since_ns != other->idle_since_ns)
        return one->idle_since_ns < other->idle_since_ns ? -1 : 1;
    return strcmp(one->worker->worker_id, other->worker->worker_id);
}

/* Who has been idle longest goes first. false: no memory. */
static bool take_chosen(struct start_room *room, const struct start_room_question *question,
                        const struct option *option, const struct ledgers *after)
{
    size_t n = 0;
    int64_t now_ns = clock_boottime_ns();
    CLEANUP_FREE const struct displace_candidate **chosen =
        calloc(option->candidates.n + 1, sizeof(struct displace_candidate *));
    room->displaced = calloc(option->candidates.n + 1, sizeof *room->displaced);
    if (!chosen || !room->displaced)
        return false;
    for (size_t i = 0; i < option->candidates.n; i++) {
        if (option->is_chosen[i])
            chosen[n++] = &option->candidates.at[i];
    }
    qsort(chosen, n, sizeof(struct displace_candidate *), compare_idle);
    for (size_t i = 0; i < n; i++) {
        struct pool_displacement *displaced = &room->displaced[room->n_displaced++];
        const struct pool_worker_info *worker = chosen[i]->worker;
        snprintf(displaced->worker_id, sizeof displaced->worker_id, "%s", worker->worker_id);
        displaced->status = worker->status;
        displaced->gives_back_bytes = chosen[i]->total_bytes;
        if (worker->status != POOL_WORKER_BUSY)
            displaced->idle_ms =
                (struct pool_reading){ true, excess_bytes(now_ns, chosen[i]->idle_since_ns) / NS_PER_MS };
        take_from_all(question->devices, worker, after);
    }
    return true;
}

static bool is_idle_asked(const struct pool_may_displace *may_displace)
{
    return !may_displace->idle_only.is_present || may_displace->idle_only.value != 0;
}

static const char *reason_of(const struct start_room *room, const struct ledgers *after,
                             const struct start_room_question *question)
{
    if (room->n_displaced > 0 || room->has_displaced)
        return "displacing";
    for (size_t i = 0; i < after->n; i++) {
        if (question->placement->ledgers[i].releasing_bytes > 0)
            return "releasing";
    }
    return "stopping";
}

bool start_room_find(struct start_room *room, const struct start_room_question *question,
                     struct start_place *ret_place, struct ledgers *ret_after)
{
    CLEANUP(ledgers_done) struct ledgers after = { 0 };
    CLEANUP(option_done) struct option option = { 0 };
    struct start_place place = { 0 };
    const struct start_request *start = question->placement->start;
    bool is_split = split_is_asked(start->request) && start->backend->device == POOL_DEVICE_GPU;
    start_room_done(room);
    room->is_needed = room->is_look_needed = false;
    room->missing_bytes = room->displaceable_bytes = 0;
    room->spared[0] = '\0';
    if (!project(room, question, &after))
        return false;
    if (is_split ? !find_on_several(room, question, &after, &option)
                 : !find_on_one(room, question, &after, &place, &option))
        return false;
    if (!take_chosen(room, question, &option, &after))
        return false;
    if (is_split) {
        struct placement_input placement = *question->placement;
        placement.ledgers = after.at;
        if (split_plan(&placement, &place.split, NULL) != POOL_OK)
            return false;
        place.gpu = place.split.parts[0].gpu;
        place.index = (size_t)(place.split.parts[0].ledger - after.at);
    }
    room->is_needed = true;
    room->is_look_needed = room->n_displaced > 0 && !room->looks && is_idle_asked(room->may_displace);
    room->wait_reason = reason_of(room, &after, question);
    *ret_place = place;
    *ret_after = after;
    after.at = NULL;
    return true;
}
