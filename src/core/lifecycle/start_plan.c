/*
 * What a start would do, by the facts of this moment: its device, its port, its command. Under the state directory's lock, so
 * that nobody else plans with the same bytes meanwhile.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "base/random.h"
#include "core/lifecycle/cordon.h"
#include "core/lifecycle/explain.h"
#include "core/lifecycle/gate.h"
#include "core/lifecycle/port.h"
#include "core/lifecycle/release.h"
#include "core/lifecycle/spawn_token.h"
#include "core/lifecycle/split.h"
#include "core/lifecycle/start.h"
#include "core/lifecycle/start_room.h"

#define PORTS 65536

/* ---- ports ---- */

static bool is_in_range(const struct pool_config *config, int64_t port)
{
    return port >= config->port_first && port <= config->port_last;
}

static enum pool_code take_asked_port(const struct pool_config *config, int64_t port, struct pool_error *err)
{
    enum pool_code code = POOL_OK;
    if (!is_in_range(config, port)) {
        code = pool_error_set(err, POOL_INVALID_REQUEST,
                              "port %" PRId64 " is outside workers.port_range %" PRId64 "-%" PRId64, port,
                              config->port_first, config->port_last);
    } else {
        int failure = port_test(config->workers_bind_host, (uint16_t)port);
        if (failure)
            code = pool_error_set_errno(err, POOL_PORT_UNAVAILABLE, failure, "port %" PRId64, port);
    }
    if (code != POOL_OK) {
        pool_error_set_field(err, "port");
        pool_error_add_number(err, "port", port);
    }
    return code;
}

/* The lowest free port of the range that no live worker has; under the lock. `avoid`: one that was lost just now. */
static enum pool_code choose_port(const struct pool_config *config, const struct pool_worker_list *live,
                                  int64_t avoid, int64_t *ret_port, struct pool_error *err)
{
    CLEANUP_FREE bool *is_taken = calloc(PORTS, sizeof *is_taken);
    if (!is_taken)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < live->n_workers; i++) {
        if (live->workers[i]->port > 0 && live->workers[i]->port < PORTS)
            is_taken[live->workers[i]->port] = true;
    }
    int last_failure = 0;
    for (int64_t port = config->port_first; port <= config->port_last; port++) {
        if (is_taken[port] || port == avoid)
            continue;
        int failure = port_test(config->workers_bind_host, (uint16_t)port);
        if (!failure) {
            *ret_port = port;
            return POOL_OK;
        }
        last_failure = failure;
        if (failure != EADDRINUSE && failure != EACCES)
            break;
    }
    pool_error_set_errno(err, POOL_PORT_UNAVAILABLE, last_failure,
                         "no free port in workers.port_range %" PRId64 "-%" PRId64 " on %s",
                         config->port_first, config->port_last, config->workers_bind_host);
    pool_error_add_number(err, "port_first", config->port_first);
    pool_error_add_number(err, "port_last", config->port_last);
    return POOL_PORT_UNAVAILABLE;
}

/* ---- plan, under the lock ---- */

static enum pool_code compute_ledgers(struct pool_manager *manager, const struct devices *devices,
                                      const struct pool_worker_list *live, struct ledgers *ret_ledgers,
                                      struct pool_error *err)
{
    size_t n_gpus = devices->gpus ? devices->gpus->n_gpus : 0;
    CLEANUP(ledgers_done)
    struct ledgers ledgers = { .n = n_gpus + 1, .at = calloc(n_gpus + 1, sizeof *ledgers.at) };
    if (!ledgers.at)
        return pool_error_no_memory(err);
    CLEANUP_FREE struct releases *releases = n_gpus > 0 ? releases_read(manager) : NULL;
    for (size_t i = 0; i <= n_gpus; i++) {
        const struct pool_gpu_info *gpu = i < n_gpus ? devices->gpus->gpus[i] : NULL;
        int64_t headroom = gpu ? manager->config->gpu_vram_headroom_bytes : 0;
        enum pool_code code = devices_ledger(devices, gpu, live, releases, manager->gpu_locks.promised,
                                             headroom, &ledgers.at[i], err);
        if (code != POOL_OK)
            return code;
    }
    *ret_ledgers = ledgers;
    ledgers.at = NULL;
    return POOL_OK;
}

static enum pool_code make_worker_id(const struct pool_worker_spawn_request *request,
                                     char id[POOL_WORKER_ID_MAX + 1], struct pool_error *err)
{
    char uuid[UUID_TEXT_MAX];
    if (request->worker_id) {
        snprintf(id, POOL_WORKER_ID_MAX + 1, "%s", request->worker_id);
        return POOL_OK;
    }
    if (!random_uuid(uuid))
        return pool_error_set(err, POOL_INTERNAL, "the kernel has no random numbers");
    snprintf(id, POOL_WORKER_ID_MAX + 1, "worker-%s", uuid);
    return POOL_OK;
}

/* Before a port is looked for: what does not fit needs none. */
static enum pool_code place_one(const struct placement_input *placement, struct plan_input *input,
                                struct pool_error *err)
{
    enum pool_code code = placement_choose(placement, &input->gpu, &input->ledger, err);
    if (code != POOL_OK)
        return code;
    input->need = start_need_at(placement->start, (size_t)(input->ledger - placement->ledgers));
    code = pool_ledger_admit(input->ledger, input->need->bytes, err);
    if (code != POOL_OK && input->gpu)
        pool_error_add_number(err, "gpu_id", input->gpu->gpu_id);
    return code;
}

static enum pool_code place_split(const struct placement_input *placement, struct split *split,
                                  struct plan_input *input, struct pool_error *err)
{
    enum pool_code code = split_plan(placement, split, err);
    if (code != POOL_OK)
        return code;
    input->split = split;
    input->gpu = split->parts[0].gpu;
    input->ledger = split->parts[0].ledger;
    input->need = &split->need;
    return POOL_OK;
}

static bool is_too_full(enum pool_code code, const struct pool_error *why)
{
    return (code == POOL_INSUFFICIENT_VRAM || code == POOL_INSUFFICIENT_MEMORY) && why->sys_errno == 0;
}

/* What is said of a start that does not fit, and would not with all that may be done for it. */
static void tell_room(const struct start_room *room, struct pool_error *why)
{
    char more[HUMAN_BYTES_MAX];
    if (!room || !room->may_displace)
        return;
    size_t n = strlen(why->message);
    format_bytes(room->displaceable_bytes, more);
    snprintf(why->message + n, sizeof why->message - n, "; whom it may displace would give back %s there%s%s",
             more, room->spared[0] ? ", and not " : "", room->spared);
    pool_error_add_number(why, "displaceable_bytes", room->displaceable_bytes);
    pool_error_add_text(why, "spared", room->spared);
}

/* One on several devices is explained by its parts, also when they do not fit. */
static void explain_places(struct pool_manager *manager, const struct placement_input *placement,
                           const struct pool_gpu_info *gpu, bool is_split)
{
    struct split split;
    bool is_shared_out = is_split && split_share_out(placement, &split, NULL) == POOL_OK;
    explain_start_places(manager, placement, gpu, is_shared_out ? &split : NULL);
}

/* Where it goes: now, or once there is room. *ret_after is filled in the latter case. */
static enum pool_code find_place(struct pool_manager *manager, const struct start_room_question *question,
                                 struct start_room *room, struct plan_input *input, struct start_place *place,
                                 struct ledgers *ret_after, struct pool_error *err)
{
    const struct start_request *start = question->placement->start;
    bool is_split = split_is_asked(start->request) && start->backend->device == POOL_DEVICE_GPU;
    struct pool_error why = POOL_ERROR_INIT;
    enum pool_code code = is_split ? place_split(question->placement, &place->split, input, &why)
                                   : place_one(question->placement, input, &why);
    explain_places(manager, question->placement, input->gpu, is_split);
    if (code == POOL_OK)
        return POOL_OK;
    if (room && is_too_full(code, &why) && start_room_find(room, question, place, ret_after)) {
        input->gpu = place->gpu;
        input->ledger = &ret_after->at[place->index];
        input->split = is_split ? &place->split : NULL;
        input->need = is_split ? &place->split.need : start_need_at(start, place->index);
        explain_start_places(manager, question->placement, input->gpu, input->split);
        return POOL_OK;
    }
    if (is_too_full(code, &why))
        tell_room(room, &why);
    if (err)
        *err = why;
    return code;
}

/* What the plan says of the room that it needs. */
static enum pool_code add_room(struct pool_plan *plan, struct start_room *room, const struct ledgers *before,
                               const struct ledgers *after, size_t index, struct pool_error *err)
{
    struct pool_start_room *needs = &plan->room;
    plan->ledger = before->at[index];
    needs->ledger_after = after->at[index];
    snprintf(needs->wait_reason, sizeof needs->wait_reason, "%s", room->wait_reason);
    needs->displaces = calloc(room->n_displaced + 1, sizeof *needs->displaces);
    if (!needs->displaces)
        return pool_error_no_memory(err);
    needs->n_displaces = room->n_displaced;
    memcpy(needs->displaces, room->displaced, room->n_displaced * sizeof *needs->displaces);
    return POOL_OK;
}

/* With its place: its port, its command, its record. `avoid`: a port that was lost just now. */
static enum pool_code make_plan(struct pool_manager *manager, struct plan_input *input,
                                const struct pool_worker_list *live, int64_t avoid,
                                struct pool_plan **ret_plan, struct pool_error *err)
{
    const struct start_request *start = input->start;
    CLEANUP(free_plan) struct pool_plan *plan = NULL;
    enum pool_code code = input->port ? take_asked_port(manager->config, input->port, err)
                                      : choose_port(manager->config, live, avoid, &input->port, err);
    if (code == POOL_OK)
        code = plan_make(input, &plan, err);
    if (code == POOL_OK && start->backend->ready_callback && manager->callback_url)
        code = spawn_token_give(plan, err);
    if (code == POOL_OK)
        *ret_plan = take_ptr(&plan);
    return code;
}

enum pool_code start_plan(struct pool_manager *manager, const struct start_request *start,
                          const struct devices *devices, const struct pool_worker_list *live,
                          const struct pool_worker_info *again, struct start_room *room,
                          struct pool_plan **ret_plan, struct pool_error *err)
{
    const struct pool_worker_spawn_request *request = start->request;
    /* One that waited for its turn begins only now. */
    bool is_same_start_again = again && !gate_is_queued(again);
    CLEANUP(ledgers_done) struct ledgers ledgers = { 0 };
    CLEANUP_FREE char *log_dir = state_dir_path(&manager->state, "logs");
    char worker_id[POOL_WORKER_ID_MAX + 1];
    if (!log_dir)
        return pool_error_no_memory(err);
    if (live->n_workers >= POOL_WORKERS_MAX && !again)
        return pool_error_set(err, POOL_OVERLOADED, "this host has %d workers already", POOL_WORKERS_MAX);
    enum pool_code code = again ? POOL_OK : plan_check_unique(live, request, err);
    if (code == POOL_OK)
        code = make_worker_id(request, worker_id, err);
    if (code == POOL_OK) /* under the lock, so that none that was set before is missed */
        code = cordons_apply(manager, devices->gpus, err);
    if (code == POOL_OK)
        code = compute_ledgers(manager, devices, live, &ledgers, err);
    if (code != POOL_OK)
        return code;
    static const struct pool_gpu_list no_gpus = { 0 };
    struct placement_input placement = { .start = start,
                                         .gpus = devices->gpus ? devices->gpus : &no_gpus,
                                         .n_ledgers = ledgers.n,
                                         .ledgers = ledgers.at };
    struct plan_input input = { .config = manager->config,
                                .start = start,
                                .environment = manager->environment,
                                .callback_url = manager->callback_url,
                                .state_id = manager->state.state_id,
                                .log_dir = log_dir,
                                .worker_id = worker_id,
                                .port = request->port,
                                /* it is the same start, told from others of its id by when it began */
                                .wall_ms = is_same_start_again ? again->created_wall_ms : clock_wall_ms(),
                                .boottime_ns =
                                    is_same_start_again ? again->created_boottime_ns : clock_boottime_ns() };
    struct start_room_question question = {
        .manager = manager, .placement = &placement, .devices = devices, .live = live, .self_id = worker_id
    };
    CLEANUP(ledgers_done) struct ledgers after = { 0 };
    struct start_place place = { 0 };
    char why[256] = "";
    code = find_place(manager, &question, room, &input, &place, &after, err);
    if (code != POOL_OK)
        return code;
    if (!after.at)
        placement_explain(&placement, input.split ? NULL : input.gpu, why, sizeof why);
    input.placement = why;
    explain_start_text(manager, "placement", why);
    CLEANUP(free_plan) struct pool_plan *plan = NULL;
    code = make_plan(manager, &input, live, is_same_start_again ? again->port : 0, &plan, err);
    if (code == POOL_OK && after.at)
        code = add_room(plan, room, &ledgers, &after, place.index, err);
    if (code == POOL_OK)
        *ret_plan = take_ptr(&plan);
    return code;
}
