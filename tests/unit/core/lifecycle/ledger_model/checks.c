/*
 * What the library did, compared with what it had to do.
 */
#include "model.h"

#include "base/number.h"

static int64_t number_of(const struct pool_error *err, const char *name)
{
    const struct pool_detail *detail = pool_error_detail(err, name);
    if (!detail)
        fail_msg("no %s in: %s", name, err->message);
    return detail->number;
}

static const struct pool_explanation *find_explanation(const struct pool_explanation_list *list,
                                                       enum pool_explain_kind kind)
{
    for (size_t i = 0; i < list->n_explanations; i++) {
        if (list->explanations[i]->kind == kind)
            return list->explanations[i];
    }
    return NULL;
}

static int64_t needed_there(const struct model *model, const struct worker *asked, int device)
{
    int64_t parts[N_PLAIN];
    if (!asked->is_split)
        return need_on(model, asked, device);
    split_parts(&asked->asked, parts);
    return parts[device];
}

static int find_device(const struct model *model, const char *uuid)
{
    int device = 0;
    while (device < N_DEVICES && strcmp(model->devices[device].uuid, uuid) != 0)
        device++;
    assert_true(device < N_DEVICES);
    return device;
}

/* The arithmetic of each device that was looked at adds up; those that were taken are those of the worker, with its parts. */
static void check_candidates(const struct model *model, const struct worker *worker,
                             const struct outcome *expected, const struct pool_explanation *start)
{
    int n_chosen = 0;
    for (size_t i = 0; i < start->n_candidates; i++) {
        const struct pool_explain_candidate *candidate = &start->candidates[i];
        const struct pool_ledger *ledger = &candidate->ledger;
        int device = find_device(model, ledger->device);
        bool is_its_own = worker->is_split ? device < N_PLAIN : device == expected->device;
        assert_int_equal(candidate->is_chosen, is_its_own);
        assert_true(ledger->available_bytes ==
                    excess_bytes(ledger->free_bytes,
                                 ledger->pending_bytes + ledger->elsewhere_bytes + ledger->headroom_bytes));
        n_chosen += is_its_own;
        if (!is_its_own)
            continue;
        int64_t need = needed_there(model, worker, device);
        assert_true(candidate->left_bytes == ledger->available_bytes - need);
        assert_true(candidate->left_bytes >= 0 || expected->is_for_room);
    }
    assert_int_equal(n_chosen, worker->is_split ? N_PLAIN : 1);
}

/* required_bytes, code: what the newest record of that kind says too; < 0, NULL: whatever it says. */
static struct pool_explanation_list *check_record(struct model *model, const char *id,
                                                  enum pool_explain_kind kind, int64_t required_bytes,
                                                  const char *code, const struct pool_explanation **ret_found)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_explanation_list *list = NULL;
    if (pool_manager_explain(model->manager, id, &list, &err) != POOL_OK)
        fail_msg("step %" PRId64 ": no %s explains %s: %s", model->step, pool_explain_kind_name(kind), id,
                 err.message);
    const struct pool_explanation *found = find_explanation(list, kind);
    if (!found)
        fail_msg("nothing of that kind (%s) explains %s", pool_explain_kind_name(kind), id);
    if (required_bytes >= 0 && found->required_bytes.value != required_bytes)
        fail_msg("%s is explained with %" PRId64 " bytes, needs %" PRId64, id, found->required_bytes.value,
                 required_bytes);
    if (code && strcmp(found->code, code) != 0)
        fail_msg("%s is explained as %s, was %s", id, found->code, code);
    assert_true(found->message && found->message[0]);
    *ret_found = found;
    return list;
}

void check_explained(struct model *model, const char *id, enum pool_explain_kind kind)
{
    const struct pool_explanation *found;
    pool_explanation_list_free(check_record(model, id, kind, -1, NULL, &found));
}

static void check_number(const struct pool_error *err, const char *name, int64_t expected)
{
    int64_t number = number_of(err, name);
    if (number != expected)
        fail_msg("%s is %" PRId64 " and has to be %" PRId64 ": %s", name, number, expected, err->message);
}

void check_refusal(struct model *model, const struct worker *asked, const struct worker *self,
                   const struct outcome *expected, const struct pool_error *err)
{
    const struct pool_detail *record = pool_error_detail(err, "explain_id");
    if (!record)
        fail_msg("not explained: %s", err->message);
    const struct pool_explanation *found;
    pool_explanation_list_free(
        check_record(model, record->text, POOL_EXPLAIN_REFUSAL, -1, pool_code_name(err->code), &found));
    if (err->code != POOL_INSUFFICIENT_VRAM)
        return;
    struct sums sums;
    sums_of(model, expected->device, self, &sums);
    const struct pool_detail *device = pool_error_detail(err, "device");
    assert_non_null(device);
    assert_string_equal(device->text, model->devices[expected->device].uuid);
    int64_t need = needed_there(model, asked, expected->device);
    check_number(err, "required_vram_bytes", need);
    check_number(err, "available_vram_bytes", sums.available);
    check_number(err, "free_bytes", sums.free);
    check_number(err, "used_bytes", sums.used);
    check_number(err, "total_bytes", sums.total);
    check_number(err, "pending_bytes", sums.pending);
    check_number(err, "headroom_bytes", MODEL_HEADROOM);
    check_number(err, "allocated_bytes", sums.allocated);
    check_number(err, "releasing_bytes", sums.releasing);
    check_number(err, "foreign_bytes", sums.foreign);
    assert_int_equal(err->is_retriable, need <= sums.total - MODEL_HEADROOM);
    if (asked->asked.is_displacing && !asked->asked.has_displaced && model->mode != MODE_DAEMON)
        check_number(err, "displaceable_bytes", expected->displaceable_bytes);
}

/* ---- the record of a worker ---- */

void take_record(struct model *model, struct worker *worker)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *row = NULL;
    if (pool_manager_row(model->manager, worker->id, &row, &err) != POOL_OK)
        fail_msg("%s", err.message);
    worker->pid = row->process.pid;
    worker->created_ns = row->created_boottime_ns;
    worker->free_before_bytes = row->free_before_start_bytes.value;
    worker->queue_position = row->queue_position;
    worker->is_queued = pool_worker_is_queued(row);
    worker->reserved_bytes = row->reserved_bytes;
    int64_t sum = 0;
    for (int i = 0; i < N_DEVICES; i++) {
        worker->share_bytes[i] = pool_worker_info_reserved_on(row, model->devices[i].uuid, NULL);
        sum += worker->share_bytes[i];
    }
    assert_true(sum == worker->reserved_bytes);
    assert_int_equal(row->is_reserve_fixed, worker->asked.bytes >= 0);
    assert_true(row->free_before_start_bytes.is_present);
    pool_worker_info_free(row);
}

void check_admitted(struct model *model, const struct worker *worker, const struct outcome *expected)
{
    for (int i = 0; i < N_DEVICES; i++) {
        bool is_there = worker->is_split ? i < N_PLAIN : i == expected->device;
        int64_t need = is_there ? needed_there(model, worker, i) : 0;
        if (worker->share_bytes[i] != need)
            fail_msg("%s has %" PRId64 " bytes of device %d and needs %" PRId64 " there", worker->id,
                     worker->share_bytes[i], i, need);
    }
    const struct pool_explanation *found;
    struct pool_explanation_list *list =
        check_record(model, worker->id, POOL_EXPLAIN_START, worker->reserved_bytes, "OK", &found);
    check_candidates(model, worker, expected, found);
    pool_explanation_list_free(list);
}

/* ---- what was measured ---- */

/* What the driver says that a worker holds on all of its devices; false: it does not say. */
static bool is_measured(const struct model *model, const struct worker *worker, int64_t *ret_bytes)
{
    int64_t sum = 0;
    for (int i = 0; i < N_DEVICES; i++) {
        struct view view;
        bool is_said;
        if (worker->share_bytes[i] == 0)
            continue;
        driver_view(model, i, &view);
        sum += observed_of(model, worker, i, &view, &is_said);
        if (!is_said)
            return false;
    }
    *ret_bytes = sum;
    return true;
}

bool measured_of(const struct model *model, const struct worker *worker, int64_t *ret_bytes)
{
    return is_measured(model, worker, ret_bytes) && *ret_bytes > 0;
}

/* A worker was seen to hold so much: what is learned by that, and what follows for its own reserve. */
void note_measured(struct model *model, struct worker *worker, int64_t bytes)
{
    if (bytes <= worker->peak_bytes)
        return;
    worker->peak_bytes = worker->observed_bytes = bytes;
    COUNT(model, MEASURED);
    if (worker->is_split)
        return; /* learned for that split, and all splits of the model say how much they need */
    int device = 0;
    while (worker->share_bytes[device] == 0)
        device++;
    int64_t *learned = &model->learned_bytes[worker->way][model->devices[device].product];
    *learned = bytes > *learned ? bytes : *learned;
    int64_t wanted = learned_reserve_of(bytes);
    if (worker->asked.bytes >= 0 || wanted >= worker->reserved_bytes - worker->reserved_bytes / 100)
        return;
    worker->reserved_bytes = worker->share_bytes[device] = wanted;
    COUNT(model, RESERVE_FELL);
}

void check_row(const struct worker *worker, const struct pool_worker_info *row)
{
    if (row->reserved_bytes != worker->reserved_bytes)
        fail_msg("%s has a reserve of %" PRId64 " bytes and should have %" PRId64, worker->id,
                 row->reserved_bytes, worker->reserved_bytes);
    if (row->peak_bytes.is_present != (worker->peak_bytes >= 0) ||
        (row->peak_bytes.is_present && row->peak_bytes.value != worker->peak_bytes))
        fail_msg("%s has a peak of %" PRId64 " bytes and should have %" PRId64, worker->id,
                 row->peak_bytes.value, worker->peak_bytes);
}

static struct worker *find_worker(struct model *model, const char *id)
{
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++) {
        if (model->workers[i].is_there && strcmp(model->workers[i].id, id) == 0)
            return &model->workers[i];
    }
    return NULL;
}

/* Whether it is known to be absent from its device is not this model's to say; from one that is, nothing is learned. */
void check_measured(struct model *model)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_list *rows = NULL;
    if (pool_manager_rows(model->manager, POOL_REGISTRY_LIVE, &rows, &err) != POOL_OK)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < rows->n_workers; i++) {
        const struct pool_worker_info *row = rows->workers[i];
        struct worker *worker = find_worker(model, row->worker_id);
        int64_t bytes;
        if (!worker || !worker->is_ready || worker->is_ending)
            continue;
        if (!pool_worker_is_off_gpu(row) && measured_of(model, worker, &bytes))
            note_measured(model, worker, bytes);
        check_row(worker, row);
    }
    pool_worker_list_free(rows);
}

/* ---- the truth ---- */

/* The excess of what was told over what is so. */
static int64_t lie_of(const struct model *model, int device, const struct sums *sums, const struct view *view)
{
    int64_t excess = excess_bytes(sums->free, true_free(model, device));
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++) {
        const struct worker *worker = &model->workers[i];
        if (worker->is_there && worker->share_bytes[device] > 0)
            excess += excess_bytes(observed_of(model, worker, device, view, NULL),
                                   held(model, device, worker->pid));
    }
    return excess;
}

/* Right after something was admitted on a device: by the truth, all promises can be kept, but for what was a lie. */
/* What comes free for a start that counts on it: by itself, by those who are being ended, and at its turn by those who are not yet. */
static int64_t to_come(const struct sums *sums, const struct outcome *outcome)
{
    int64_t by_itself = outcome->is_for_room ? sums->releasing + sums->ending : 0;
    return by_itself + (outcome->is_for_room && outcome->n_displaced == 0 ? outcome->missing_bytes : 0);
}

void check_not_overcommitted(struct model *model, int device, const struct outcome *outcome, int64_t position)
{
    struct sums sums;
    struct view view;
    sums_of(model, device, NULL, &sums);
    driver_view(model, device, &view);
    int64_t promised = MODEL_HEADROOM;
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++) {
        const struct worker *worker = &model->workers[i];
        bool is_behind = position > 0 && worker->is_queued && worker->queue_position > position;
        if (worker->is_there && worker->share_bytes[device] > 0 && !is_behind)
            promised += excess_bytes(worker->share_bytes[device], held(model, device, worker->pid));
    }
    int64_t there = true_free(model, device) + lie_of(model, device, &sums, &view) + to_come(&sums, outcome);
    if (promised > there)
        fail_msg("step %" PRId64 ": %" PRId64
                 " bytes of device %d are still to be taken, and there are %" PRId64,
                 model->step, promised, device, there);
    if (is_honest(model)) /* of what the driver tells then all is true */
        assert_true(lie_of(model, device, &sums, &view) == 0);
}

static const struct pool_ledger *find_ledger(const struct pool_status_response *status, const char *uuid)
{
    for (size_t i = 0; i < status->n_ledgers; i++) {
        if (strcmp(status->ledgers[i].device, uuid) == 0)
            return &status->ledgers[i];
    }
    return NULL;
}

static void check_figure(const struct model *model, int device, const char *name, int64_t is,
                         int64_t expected)
{
    if (is != expected)
        fail_msg("step %" PRId64 ": %s of device %d is %" PRId64 " and has to be %" PRId64, model->step, name,
                 device, is, expected);
}

/* What the driver tells of a worker, or else what was recorded last. */
static void check_shown(struct model *model, const struct pool_status_response *status)
{
    size_t n = 0;
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++)
        n += model->workers[i].is_there;
    assert_int_equal(status->workers->n_workers, n);
    for (size_t i = 0; i < n; i++) {
        const struct pool_worker_info *row = status->workers->workers[i];
        const struct worker *worker = find_worker(model, row->worker_id);
        int64_t bytes = 0;
        assert_non_null(worker);
        bool is_told = worker->pid > 0 && is_measured(model, worker, &bytes);
        int64_t expected = is_told ? bytes : worker->observed_bytes, shown = row->observed_bytes.value;
        if (row->observed_bytes.is_present != (expected >= 0) || (expected >= 0 && shown != expected))
            fail_msg("step %" PRId64 ": %s is shown to hold %" PRId64 " and holds %" PRId64, model->step,
                     worker->id, shown, expected);
    }
}

/* Of a daemon: a command would ask those who start whether they are ready. */
void check_ledgers(struct model *model)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_status_response *status = NULL;
    driver_show(model);
    if (pool_manager_status(model->manager, &status, &err) != POOL_OK)
        fail_msg("%s", err.message);
    for (int i = 0; i < N_DEVICES; i++) {
        struct sums sums;
        sums_of(model, i, NULL, &sums);
        const struct pool_ledger *ledger = find_ledger(status, model->devices[i].uuid);
        assert_int_equal(ledger != NULL, sums.is_usable);
        if (!sums.is_usable)
            continue;
        check_figure(model, i, "available", ledger->available_bytes, sums.available);
        check_figure(model, i, "free", ledger->free_bytes, sums.free);
        check_figure(model, i, "used", ledger->used_bytes, sums.used);
        check_figure(model, i, "pending", ledger->pending_bytes, sums.pending);
        check_figure(model, i, "allocated", ledger->allocated_bytes, sums.allocated);
        check_figure(model, i, "releasing", ledger->releasing_bytes, sums.releasing);
        check_figure(model, i, "foreign", ledger->foreign_bytes, sums.foreign);
        check_figure(model, i, "elsewhere", ledger->elsewhere_bytes, 0);
        check_figure(model, i, "workers", ledger->n_workers, sums.n_workers);
    }
    check_shown(model, status);
    pool_status_response_free(status);
    COUNT(model, LOOKED_AT_LEDGERS);
}

/* Promises to other managers: files whose names are a state's id and a start. */
static size_t count_promises(const struct model *model)
{
    size_t n = 0;
    DIR *directory = opendir(model->ground->config->gpu_lock_dir);
    struct dirent *entry;
    while (directory && (entry = readdir(directory)))
        n += strlen(entry->d_name) > 36 && entry->d_name[36] == '.';
    if (directory)
        closedir(directory);
    return n;
}

void check_nothing_leaked(struct model *model)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_list *rows = NULL;
    check_ledgers(model);
    for (int i = 0; i < N_DEVICES; i++) {
        const struct device *device = &model->devices[i];
        struct sums sums;
        sums_of(model, i, NULL, &sums);
        /* The sums agree with the library; that they are all of it is what is left to be seen. */
        assert_true(!device->is_placeable || sums.available == device->total_bytes - device->reserved_bytes -
                                                                   device->foreign_bytes - MODEL_HEADROOM);
        assert_true(sums.pending == 0 && sums.releasing == 0 && sums.n_workers == 0 &&
                    sums.foreign == (sums.is_usable ? device->foreign_bytes : 0));
    }
    if (pool_manager_rows(model->manager, POOL_REGISTRY_LIVE, &rows, &err) != POOL_OK)
        fail_msg("%s", err.message);
    assert_int_equal(rows->n_workers, 0);
    pool_worker_list_free(rows);
    assert_int_equal(count_promises(model), 0);
    assert_int_equal(ground_count_processes(model->ground), 0);
    COUNT(model, CHECKED_EMPTY);
}
