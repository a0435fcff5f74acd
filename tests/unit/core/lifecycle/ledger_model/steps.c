/*
 * What happens: one step at a time, drawn from a deck that is shuffled again and again, so that each kind comes round.
 */
#include "model.h"

#include "base/number.h"

/* ---- workers ---- */

struct worker *worker_pick(struct model *model, bool (*is_fit)(const struct worker *worker))
{
    size_t at = (size_t)random_below(model, MODEL_WORKERS_MAX);
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++) {
        struct worker *worker = &model->workers[(at + i) % MODEL_WORKERS_MAX];
        if (worker->is_there && is_fit(worker))
            return worker;
    }
    return NULL;
}

struct worker *worker_new(struct model *model)
{
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++) {
        struct worker *worker = &model->workers[i];
        if (worker->is_there)
            continue;
        *worker = (struct worker){ .peak_bytes = -1,
                                   .observed_bytes = -1,
                                   .asked = { .bytes = -1, .weights = { 1, 1 } } };
        snprintf(worker->id, sizeof worker->id, "w%" PRId64, model->n_ids++);
        worker->way = (int)random_below(model, MODEL_WAYS);
        worker->may_go = random_below(model, 2) == 0;
        return worker;
    }
    return NULL;
}

static bool has_process(const struct worker *worker)
{
    return !worker->is_queued && !worker->is_ending;
}

static bool is_loading(const struct worker *worker)
{
    return has_process(worker) && !worker->is_ready;
}

static bool is_serving(const struct worker *worker)
{
    return has_process(worker) && worker->is_ready;
}

/* ---- memory ---- */

static void step_load(struct model *model)
{
    struct worker *worker = worker_pick(model, has_process);
    for (int i = 0; worker && i < N_DEVICES; i++) {
        int64_t share = worker->share_bytes[i], before = held(model, i, worker->pid);
        if (share == 0 || before >= share)
            continue;
        hold(model, i, worker->pid, before + 1 + random_below(model, share - before));
        if (before > 0)
            COUNT(model, GREW);
        else
            COUNT(model, LOADED);
    }
}

static void step_shrink(struct model *model)
{
    struct worker *worker = worker_pick(model, is_serving);
    for (int i = 0; worker && i < N_DEVICES; i++) {
        int64_t before = held(model, i, worker->pid);
        if (before < 2)
            continue;
        hold(model, i, worker->pid, random_below(model, before));
        COUNT(model, SHRANK);
    }
}

static void step_overgrow(struct model *model)
{
    struct worker *worker = worker_pick(model, has_process);
    for (int i = 0; worker && i < N_DEVICES; i++) {
        int64_t share = worker->share_bytes[i];
        if (share > 0 && hold(model, i, worker->pid, share + share / 4) > share)
            COUNT(model, OVERGREW);
    }
}

static void step_foreign(struct model *model)
{
    int device = (int)random_below(model, N_DEVICES);
    struct device *at = &model->devices[device];
    if (!at->is_placeable)
        return;
    int64_t before = at->foreign_bytes, there = true_free(model, device) + before;
    if (foreign_take(model, device, random_below(model, 3) == 0 ? 0 : random_below(model, there / 2 + 1)) >
        before)
        COUNT(model, FOREIGN_TOOK);
    else if (at->foreign_bytes < before)
        COUNT(model, FOREIGN_GAVE);
}

/* ---- the driver ---- */

/* A command waits for memory that comes free, so before one the driver has to be able to tell that it is. */
static bool may_lie(const struct model *model, enum lie lie)
{
    return model->mode != MODE_COMMAND || (lie != LIE_STALE && lie != LIE_NO_LIST);
}

/* The one of those that it may tell now that was told least often. */
static enum lie choose_lie(const struct model *model)
{
    enum lie least = LIE_FREE_LOW;
    for (int i = LIE_NONE + 1; i < N_LIES; i++) {
        if (may_lie(model, (enum lie)i) && model->n_lies[i] < model->n_lies[least])
            least = (enum lie)i;
    }
    return least;
}

static void step_lie(struct model *model)
{
    int device = (int)random_below(model, N_DEVICES);
    if (model->fault != FAULT_NONE)
        return;
    /* That in MIG mode can only be lost, with its instances. */
    enum lie which = device == DEVICE_MIG ? LIE_LOST : choose_lie(model);
    lie(model, device, which, (1 + random_below(model, 1024)) * GROUND_MIB + random_below(model, 1000));
    COUNT(model, LIED);
}

static void step_fault(struct model *model)
{
    tell_the_truth(model);
    model->fault = (enum fault)(1 + model->n_events[EVENT_FAULT] % (N_FAULTS - 1));
    model->n_faults[model->fault]++;
    model->is_dirty = true;
    COUNT(model, FAULT);
}

static void step_truth(struct model *model)
{
    if (is_honest(model))
        return;
    tell_the_truth(model);
    COUNT(model, LIE_ENDED);
}

/* ---- ends ---- */

static bool is_ending(const struct worker *worker)
{
    return worker->is_ending;
}

static void step_end_some(struct model *model, bool is_crash)
{
    struct worker *worker = worker_pick(model, has_process);
    if (worker)
        step_end(model, worker, is_crash);
}

static void step_give_one_back(struct model *model)
{
    if (model->n_dead == 0)
        return;
    step_give_back(model, (size_t)random_below(model, (int64_t)model->n_dead));
    COUNT(model, GIVEN_BACK_LATE);
}

/* ---- readiness, and what is measured ---- */

void worker_become_ready(struct model *model, struct worker *worker)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *row = NULL, *ready = NULL;
    assert_int_equal(pool_manager_row(model->manager, worker->id, &row, &err), POOL_OK);
    if (pool_manager_record_ready(model->manager, row, POOL_PORT_PROOF_UID, &ready, &err) != POOL_OK)
        fail_msg("%s", err.message);
    worker->is_ready = true;
    pool_worker_info_free(row);
    pool_worker_info_free(ready);
    COUNT(model, READY);
}

static void step_ready(struct model *model)
{
    struct worker *worker = worker_pick(model, is_loading);
    if (worker)
        worker_become_ready(model, worker);
}

/* As the monitor of a daemon does it; commands do it themselves when they start something. */
static void step_measure(struct model *model)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct worker *worker = worker_pick(model, is_serving);
    struct pool_worker_info *row = NULL, *seen = NULL;
    int64_t bytes;
    if (!worker || model->mode == MODE_COMMAND || !measured_of(model, worker, &bytes))
        return;
    assert_int_equal(pool_manager_row(model->manager, worker->id, &row, &err), POOL_OK);
    struct pool_worker_sight sight = { .struct_size = sizeof sight,
                                       .is_healthy = row->is_healthy,
                                       .health_reason = row->health_reason,
                                       .observed_bytes = { true, bytes } };
    bool is_off = pool_worker_is_off_gpu(row);
    if (!is_off && pool_manager_record_sight(model->manager, worker->id, &sight, &seen, &err) != POOL_OK)
        fail_msg("%s", err.message);
    if (!is_off) {
        note_measured(model, worker, bytes);
        check_row(worker, seen);
    }
    pool_worker_info_free(row);
    pool_worker_info_free(seen);
}

/* ---- managers ---- */

static void drop_queue(struct model *model)
{
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++) {
        struct worker *worker = &model->workers[i];
        if (!worker->is_there || !worker->is_queued)
            continue;
        check_explained(model, worker->id, POOL_EXPLAIN_END);
        worker->is_there = false;
        COUNT(model, QUEUE_DROPPED);
    }
}

/* Whoever comes next finds what is there: starts that waited without a process are dropped, the others go on. */
void step_reopen(struct model *model, enum mode mode)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_list *live = NULL;
    size_t n = 0;
    if (mode == MODE_COMMAND) {
        tell_the_truth(model);
        give_all_back(model);
    }
    pool_manager_close(model->manager);
    model->manager = NULL;
    model->mode = mode;
    model->ground->config->queue_timeout_ms = mode == MODE_QUEUE ? 60000 : 0;
    struct pool_manager_options options = { .struct_size = sizeof options,
                                            .environment = ground_environment,
                                            .gpu_inventory = model->inventory,
                                            .is_daemon = mode != MODE_COMMAND,
                                            .is_unrestricted = true };
    driver_show(model);
    if (pool_manager_open(model->ground->config, &options, &model->manager, &err) != POOL_OK ||
        pool_manager_settle(model->manager, &live, &err) != POOL_OK)
        fail_msg("%s", err.message);
    drop_queue(model);
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++)
        n += model->workers[i].is_there;
    assert_int_equal(live->n_workers, n);
    pool_worker_list_free(live);
    static const enum event counted[N_MODES] = { [MODE_COMMAND] = EVENT_OPENED_AS_COMMAND,
                                                 [MODE_DAEMON] = EVENT_OPENED_AS_DAEMON,
                                                 [MODE_QUEUE] = EVENT_OPENED_AS_QUEUE };
    model->n_events[counted[mode]]++;
}

/* ---- the deck ---- */

enum card {
    CARD_START,
    CARD_TURN,
    CARD_DISPLACE,
    CARD_LOAD,
    CARD_SHRINK,
    CARD_OVERGROW,
    CARD_READY,
    CARD_MEASURE,
    CARD_STOP,
    CARD_CRASH,
    CARD_END_DISPLACED,
    CARD_GIVE_BACK,
    CARD_RELEASES,
    CARD_FOREIGN,
    CARD_LIE,
    CARD_FAULT,
    CARD_TRUTH,
    CARD_LEDGERS,
    CARD_REOPEN,
    N_CARDS
};
static const int n_of_card[N_CARDS] = {
    [CARD_START] = 30,   [CARD_TURN] = 9,     [CARD_DISPLACE] = 4,      [CARD_LOAD] = 12,
    [CARD_SHRINK] = 2,   [CARD_OVERGROW] = 1, [CARD_READY] = 10,        [CARD_MEASURE] = 7,
    [CARD_STOP] = 6,     [CARD_CRASH] = 5,    [CARD_END_DISPLACED] = 4, [CARD_GIVE_BACK] = 4,
    [CARD_RELEASES] = 2, [CARD_FOREIGN] = 3,  [CARD_LIE] = 4,           [CARD_FAULT] = 1,
    [CARD_TRUTH] = 4,    [CARD_LEDGERS] = 4,  [CARD_REOPEN] = 3,
};
#define DECK_MAX 128

static enum card draw(struct model *model)
{
    static int8_t deck[DECK_MAX];
    static int64_t n_left;
    if (model->step == 1)
        n_left = 0;
    for (int card = 0; n_left == 0 || card > 0; card = (card + 1) % N_CARDS) {
        for (int i = 0; i < n_of_card[card]; i++)
            deck[n_left++] = (int8_t)card;
    }
    int64_t at = random_below(model, n_left);
    enum card drawn = (enum card)deck[at];
    deck[at] = deck[--n_left];
    return drawn;
}

void steps_do(struct model *model)
{
    struct worker *worker;
    model->step++;
    bound_releases(model);
    switch (draw(model)) {
    case CARD_START: step_start(model); return;
    case CARD_TURN: step_turn(model); return;
    case CARD_DISPLACE: step_displace(model); return;
    case CARD_LOAD: step_load(model); return;
    case CARD_SHRINK: step_shrink(model); return;
    case CARD_OVERGROW: step_overgrow(model); return;
    case CARD_READY: step_ready(model); return;
    case CARD_MEASURE: step_measure(model); return;
    case CARD_STOP: step_end_some(model, false); return;
    case CARD_CRASH: step_end_some(model, true); return;
    case CARD_END_DISPLACED:
        worker = worker_pick(model, is_ending);
        if (worker)
            step_end(model, worker, true);
        return;
    case CARD_GIVE_BACK: step_give_one_back(model); return;
    case CARD_RELEASES:
        if (model->mode != MODE_COMMAND)
            look_at_releases(model);
        return;
    case CARD_FOREIGN: step_foreign(model); return;
    case CARD_LIE: step_lie(model); return;
    case CARD_FAULT: step_fault(model); return;
    case CARD_TRUTH: step_truth(model); return;
    case CARD_LEDGERS:
        if (model->mode != MODE_COMMAND && model->fault != FAULT_NO_COUNT && model->fault != FAULT_NO_DRIVER)
            check_ledgers(model);
        return;
    case CARD_REOPEN:
        step_reopen(model, (enum mode)((model->mode + 1 + random_below(model, 2)) % N_MODES));
        return;
    case N_CARDS: return;
    }
}

/* ---- the end ---- */

/* As `models learned forget` does it: the next starts are by their estimates again. */
static void forget_learned(struct model *model)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_registry *registry = NULL;
    int64_t n;
    if (pool_worker_registry_open(model->ground->config->registry_url, &registry, &err) != POOL_OK ||
        pool_worker_registry_forget_learned(registry, NULL, &n, &err) != POOL_OK)
        fail_msg("%s", err.message);
    pool_worker_registry_close(registry);
    memset(model->learned_bytes, 0, sizeof model->learned_bytes);
}

void end_everything(struct model *model)
{
    tell_the_truth(model);
    step_reopen(model, MODE_DAEMON); /* which drops who waits */
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++) {
        if (model->workers[i].is_there)
            step_end(model, &model->workers[i], true);
    }
    give_all_back(model);
    look_at_releases(model);
    assert_int_equal(model->n_releases, 0);
    check_nothing_leaked(model);
    forget_learned(model);
}
