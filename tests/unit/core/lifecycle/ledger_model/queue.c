/*
 * Starts: at once, in a queue, and by displacing others.
 */
#include "model.h"

#include "base/number.h"

static const char displaced_label[] = "may-go", displaced_value[] = "yes";

static struct pool_label *make_label(void)
{
    struct pool_label *label = calloc(1, sizeof *label);
    assert_non_null(label);
    label->name = strdup(displaced_label);
    label->value = strdup(displaced_value);
    assert_true(label->name && label->value);
    return label;
}

static void place_request(const struct model *model, const struct worker *worker,
                          struct pool_worker_spawn_request *request, int second)
{
    if (!worker->is_split) {
        int device = worker->asked.device;
        request->gpu_id = strdup(device < 0 ? "auto" : model->devices[device].uuid);
        return;
    }
    char split[16];
    snprintf(split, sizeof split, "%d,%d", worker->asked.weights[0], worker->asked.weights[1]);
    request->gpu_ids = calloc(3, sizeof(char *));
    assert_non_null(request->gpu_ids);
    request->gpu_ids[0] = strdup(model->devices[DEVICE_A].uuid);
    request->gpu_ids[1] = strdup(model->devices[second].uuid);
    request->n_gpu_ids = 2;
    request->split = strdup(split);
}

/* second: of a split, its second device. */
static struct pool_worker_spawn_request *make_request(const struct model *model, const struct worker *worker,
                                                      int second)
{
    struct pool_worker_spawn_request *request = ground_request(model->ground, "sleeper", worker->id, "");
    request->ctx_size = INT64_C(256) << worker->way;
    request->required_vram_bytes =
        (struct pool_reading){ worker->asked.bytes >= 0, excess_bytes(worker->asked.bytes, 0) };
    place_request(model, worker, request, second);
    if (worker->may_go) {
        request->labels = make_label();
        request->n_labels = 1;
    }
    if (worker->asked.is_displacing) {
        request->may_displace.labels = make_label();
        request->may_displace.n_labels = 1;
        request->may_displace.idle_only = (struct pool_reading){ true, 0 };
    }
    return request;
}

/* ---- what came of a start ---- */

/* The library says whom it stops; they are all among those who may be, and no fewer would do. */
static void take_displaced(struct model *model, const struct worker *starter, const struct outcome *expected)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_list *list = NULL;
    int64_t gives = 0;
    assert_int_equal(pool_manager_take_displaced(model->manager, &list, &err), POOL_OK);
    if ((int64_t)list->n_workers != expected->n_displaced)
        fail_msg("step %" PRId64 ": %zu workers are stopped for %s, and %" PRId64 " would do", model->step,
                 list->n_workers, starter->id, expected->n_displaced);
    for (size_t i = 0; i < list->n_workers; i++) {
        struct worker *worker = NULL;
        for (size_t k = 0; k < MODEL_WORKERS_MAX && !worker; k++) {
            if (model->workers[k].is_there && strcmp(model->workers[k].id, list->workers[i]->worker_id) == 0)
                worker = &model->workers[k];
        }
        assert_non_null(worker);
        assert_true(worker != starter && may_be_displaced(worker, expected->device));
        gives += gives_back(model, worker, expected->device);
        worker->is_ending = true;
        check_explained(model, worker->id, POOL_EXPLAIN_DISPLACEMENT);
        check_explained(model, worker->id, POOL_EXPLAIN_STOP);
    }
    assert_true(expected->n_displaced == 0 || gives >= expected->missing_bytes);
    if (list->n_workers > 0)
        COUNT(model, DISPLACED);
    if (list->n_workers > 1)
        COUNT(model, DISPLACED_SEVERAL);
    pool_worker_list_free(list);
}

static void check_code(const struct model *model, const struct worker *worker, const struct outcome *expected,
                       enum pool_code code, const struct pool_error *err)
{
    if (code != expected->code)
        fail_msg("step %" PRId64 ": %s of %" PRId64 " bytes on device %d%s: %s, and has to be %s: %s",
                 model->step, worker->id, worker->asked.bytes, worker->asked.device,
                 worker->is_split ? " (split)" : "", pool_code_name(code), pool_code_name(expected->code),
                 err->message);
}

static void count_start(struct model *model, const struct worker *worker, const struct outcome *outcome)
{
    COUNT(model, STARTED);
    if (worker->is_split)
        COUNT(model, STARTED_SPLIT);
    else if (worker->asked.device < 0)
        COUNT(model, STARTED_ON_ANY);
    if (!worker->is_split && model->devices[outcome->device].is_mig)
        COUNT(model, STARTED_ON_MIG);
    if (worker->asked.bytes >= 0)
        return;
    if (model->learned_bytes[worker->way][model->devices[outcome->device].product] > 0)
        COUNT(model, STARTED_BY_MEASURE);
    else
        COUNT(model, STARTED_BY_ESTIMATE);
}

static void count_refusal(struct model *model, const struct worker *worker, enum pool_code code)
{
    if (code == POOL_INSUFFICIENT_VRAM)
        COUNT(model, REFUSED_FULL);
    else if (code == POOL_GPU_NOT_FOUND)
        COUNT(model, REFUSED_ABSENT_DEVICE);
    else if (worker->asked.device == DEVICE_MIG)
        COUNT(model, REFUSED_MIG_PARENT);
    else
        COUNT(model, REFUSED_BAD_DEVICE);
    if (worker->asked.is_displacing && code == POOL_INSUFFICIENT_VRAM)
        COUNT(model, DISPLACED_TOO_LITTLE);
}

static void check_balance(struct model *model, const struct worker *worker, const struct outcome *outcome,
                          int64_t position)
{
    for (int i = 0; i < N_DEVICES; i++) {
        if (worker->share_bytes[i] > 0)
            check_not_overcommitted(model, i, outcome, position);
    }
}

/* It waits: registered, promised, without a process, behind all who wait on its devices. */
static void take_queued(struct model *model, struct worker *worker, const struct outcome *expected)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *row = NULL;
    assert_true(worker->is_queued && worker->pid == 0 && worker->queue_position > 0);
    assert_int_equal(pool_manager_row(model->manager, worker->id, &row, &err), POOL_OK);
    assert_string_equal(row->queue_reason, expected->reason);
    pool_worker_info_free(row);
    worker->asked.has_displaced = expected->n_displaced > 0;
    if (strcmp(expected->reason, "queue") == 0)
        COUNT(model, QUEUED_BEHIND);
    else
        COUNT(model, QUEUED_FOR_MEMORY);
}

void start_and_check(struct model *model, struct worker *worker)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_spawn_response *response = NULL;
    struct outcome expected;
    struct pool_worker_spawn_request *request = make_request(model, worker, DEVICE_B);
    driver_show(model);
    enum pool_code code = pool_manager_spawn(model->manager, request, &response, &err);
    pool_worker_spawn_request_free(request);
    pool_worker_spawn_response_free(response);
    if (model->mode == MODE_COMMAND) /* it has looked before it decided */
        check_measured(model);
    expect_start(model, worker, NULL, &expected);
    check_code(model, worker, &expected, code, &err);
    if (code != POOL_OK) {
        check_refusal(model, worker, NULL, &expected, &err);
        take_displaced(model, worker, &expected);
        count_refusal(model, worker, code);
        return;
    }
    take_displaced(model, worker, &expected);
    worker->is_there = true;
    take_record(model, worker);
    check_admitted(model, worker, &expected);
    if (worker->is_queued != expected.is_queued)
        fail_msg("step %" PRId64 ": %s %s", model->step, worker->id,
                 worker->is_queued ? "waits" : "does not wait");
    if (worker->is_queued)
        take_queued(model, worker, &expected);
    else
        count_start(model, worker, &expected);
    check_balance(model, worker, &expected, 0);
    if (worker->is_queued && !worker->is_split)
        worker->asked.device = expected.device; /* it waits for that one */
}

/* An instance can not be one of several devices. */
static void refuse_mig_split(struct model *model, struct worker *worker)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_spawn_response *response = NULL;
    worker->is_split = true;
    struct pool_worker_spawn_request *request = make_request(model, worker, DEVICE_M0);
    tell_the_truth(model);
    driver_show(model);
    assert_int_equal(pool_manager_spawn(model->manager, request, &response, &err), POOL_INVALID_REQUEST);
    pool_worker_spawn_request_free(request);
    if (model->mode == MODE_COMMAND)
        check_measured(model);
    check_explained(model, pool_error_detail(&err, "explain_id")->text, POOL_EXPLAIN_REFUSAL);
    COUNT(model, REFUSED_MIG_SPLIT);
}

static void choose_place(struct model *model, struct worker *worker)
{
    int64_t what = random_below(model, 16);
    worker->asked.device = what < 5 ? -1 : (int)(what - 5) % N_DEVICES;
    worker->is_split = what == 15;
    if (worker->asked.device == DEVICE_MIG && random_below(model, 3) > 0)
        worker->asked.device = DEVICE_A;
    if (worker->is_split)
        worker->asked.device = -1;
    for (int i = 0; i < 2; i++)
        worker->asked.weights[i] = 1 + (int)random_below(model, 3);
}

/* One that fits when memory of ended workers is free, and not before; or one behind those who wait already. */
static bool choose_to_wait(struct model *model, struct worker *worker)
{
    int device = (int)random_below(model, N_PLAIN);
    bool is_awaited = false;
    struct sums sums;
    sums_of(model, device, NULL, &sums);
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++)
        is_awaited = is_awaited || (model->workers[i].is_there && model->workers[i].is_queued &&
                                    model->workers[i].share_bytes[device] > 0);
    int64_t least = sums.available + 1;
    if (model->mode != MODE_QUEUE || !sums.is_usable || (sums.room_after < least && !is_awaited))
        return false;
    worker->asked.device = device;
    worker->asked.bytes = sums.room_after < least ? random_below(model, least)
                                                  : least + random_below(model, sums.room_after - least + 1);
    worker->asked.bytes += worker->asked.bytes == 0;
    return true;
}

void step_start(struct model *model)
{
    struct worker *worker = worker_new(model);
    if (!worker)
        return;
    if (random_below(model, 3) == 0 && choose_to_wait(model, worker)) {
        start_and_check(model, worker);
        return;
    }
    choose_place(model, worker);
    if (worker->is_split && random_below(model, 6) == 0) {
        worker->asked.bytes = GROUND_MIB;
        refuse_mig_split(model, worker);
        return;
    }
    if (worker->is_split || random_below(model, 2) > 0)
        worker->asked.bytes =
            (1 + random_below(model, worker->is_split ? 4000 : 2500)) * GROUND_MIB + random_below(model, 7);
    start_and_check(model, worker);
}

/* ---- displacing ---- */

void step_displace(struct model *model)
{
    int device = (int)random_below(model, N_PLAIN);
    struct worker *worker = worker_new(model);
    int64_t gives = 0, most = 0;
    struct sums sums;
    if (!worker)
        return;
    if (model->mode != MODE_QUEUE)
        step_reopen(model, MODE_QUEUE);
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++) {
        struct worker *other = &model->workers[i];
        if (!other->is_there || other->share_bytes[device] == 0 || other->is_queued || other->is_ending)
            continue;
        if (!other->is_ready)
            worker_become_ready(model, other);
        int64_t its = may_be_displaced(other, device) ? gives_back(model, other, device) : 0;
        gives += its;
        most = its > most ? its : most;
    }
    sums_of(model, device, NULL, &sums);
    worker->asked.is_displacing = true;
    worker->asked.device = device;
    /* Often more than any one of them would give back, and sometimes more than all. */
    if (gives > most && random_below(model, 2) == 0)
        worker->asked.bytes = sums.available + most + 1 + random_below(model, gives - most);
    else
        worker->asked.bytes = sums.available + 1 + random_below(model, gives + gives / 4 + GROUND_MIB);
    start_and_check(model, worker);
}

/* ---- turns ---- */

static bool is_queued(const struct worker *worker)
{
    return worker->is_queued;
}

/* It can not be started, and a daemon ends it. */
static void end_in_vain(struct model *model, struct worker *worker)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_process_end end = { 0 };
    struct pool_worker_info *gone = NULL;
    if (pool_manager_record_gone(model->manager, worker->id, POOL_STOP_START_FAILED, &end, NULL, &gone, NULL,
                                 &err) != POOL_OK)
        fail_msg("%s", err.message);
    pool_worker_info_free(gone);
    check_explained(model, worker->id, POOL_EXPLAIN_END);
    worker->is_there = false;
    COUNT(model, TURN_IN_VAIN);
}

static void take_turn(struct model *model, struct worker *worker, const struct outcome *expected)
{
    int64_t position = worker->queue_position;
    take_record(model, worker);
    assert_true(!worker->is_queued && worker->pid > 1);
    check_admitted(model, worker, expected);
    count_start(model, worker, expected);
    check_balance(model, worker, expected, position);
    COUNT(model, TURN_CAME);
}

void step_turn(struct model *model)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct worker *worker = worker_pick(model, is_queued);
    struct pool_worker_info *row = NULL;
    struct outcome expected;
    if (!worker)
        return;
    if (random_below(model, 2) == 0)
        give_all_back(model);
    driver_show(model);
    expect_start(model, worker, worker, &expected);
    enum pool_code code = pool_manager_start_queued(model->manager, worker->id, &row, &err);
    pool_worker_info_free(row);
    if (expected.code == POOL_OK && expected.is_queued)
        expected.code = POOL_CONFLICT;
    check_code(model, worker, &expected, code, &err);
    if (code == POOL_OK) {
        take_turn(model, worker, &expected);
    } else if (code == POOL_CONFLICT) {
        assert_true(err.is_retriable);
        assert_string_equal(pool_error_detail(&err, "wait_reason")->text, expected.reason);
        take_record(model, worker);
        take_displaced(model, worker, &expected);
        worker->asked.has_displaced = worker->asked.has_displaced || expected.n_displaced > 0;
        COUNT(model, TURN_WAITS);
    } else {
        check_refusal(model, worker, worker, &expected, &err);
        take_displaced(model, worker, &expected);
        end_in_vain(model, worker);
    }
}
