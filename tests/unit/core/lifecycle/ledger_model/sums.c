/*
 * The model of the ledger: from what the driver says, who was promised what and who is ready, to what has to be available, and from
 * that to what has to come of a start. Source: DESIGN, "The ledger of one device", and docs/architecture.md, "Room that has to be
 * made". It shares no code with the library.
 */
#include "model.h"

#include "base/number.h"

#define MEASURED_MARGIN_MIN (256 * GROUND_MIB)

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

int64_t learned_reserve_of(int64_t peak_bytes)
{
    return peak_bytes + larger(peak_bytes / 20, MEASURED_MARGIN_MIN);
}

int64_t need_on(const struct model *model, const struct worker *worker, int device)
{
    int64_t learned = model->learned_bytes[worker->way][model->devices[device].product];
    if (worker->asked.bytes >= 0)
        return worker->asked.bytes;
    return learned > 0 ? learned_reserve_of(learned) : model->estimate_bytes[worker->way];
}

void split_parts(const struct asked *asked, int64_t ret_bytes[N_PLAIN])
{
    for (int i = 0; i < N_PLAIN; i++) /* each a byte more than its part, so that no part is cut */
        ret_bytes[i] = asked->bytes * asked->weights[i] / (asked->weights[0] + asked->weights[1]) + 1;
}

/* ---- what workers have taken ---- */

static bool is_of_a_worker(const struct model *model, int64_t pid)
{
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++) {
        if (model->workers[i].is_there && model->workers[i].pid == pid)
            return true;
    }
    return false;
}

static bool is_last_started(const struct model *model, const struct worker *worker, int device)
{
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++) {
        const struct worker *other = &model->workers[i];
        if (other != worker && other->is_there && other->share_bytes[device] > 0 &&
            other->created_ns >= worker->created_ns)
            return false;
    }
    return true;
}

int64_t observed_of(const struct model *model, const struct worker *worker, int device,
                    const struct view *view, bool *ret_is_measured)
{
    bool is_complete = view->is_listed, is_told = false, is_unsaid = false;
    int64_t told = 0;
    for (size_t i = 0; i < view->n_entries; i++) {
        const struct holding *entry = &view->entries[i];
        bool is_its_own = worker->pid > 0 && entry->pid == worker->pid;
        if (entry->bytes < 0) {
            is_unsaid = is_unsaid || is_its_own;
            is_complete = is_complete && !is_of_a_worker(model, entry->pid);
        } else if (is_its_own) {
            is_told = true;
            told += entry->bytes;
        }
    }
    is_told = is_told || (is_complete && worker->pid > 0);
    if (ret_is_measured)
        *ret_is_measured = is_told && !is_unsaid;
    if (is_told)
        return told;
    if (!worker->is_ready)
        return 0;
    if (worker->is_split || !view->is_usable || !is_last_started(model, worker, device))
        return worker->share_bytes[device];
    int64_t drop = excess_bytes(worker->free_before_bytes, view->free_bytes);
    return drop < worker->share_bytes[device] ? drop : worker->share_bytes[device];
}

/* ---- what ended workers hold ---- */

static int64_t listed_of(const struct view *view, int64_t pid) /* -1: it is not there; unsaid is 0 */
{
    for (size_t i = 0; i < view->n_entries; i++) {
        if (view->entries[i].pid == pid)
            return larger(view->entries[i].bytes, 0);
    }
    return -1;
}

static void add_releases(const struct model *model, int device, const struct view *view, struct sums *sums)
{
    int64_t listed_sum = 0, all = 0, sum = 0;
    for (size_t i = 0; i < view->n_entries; i++)
        all += larger(view->entries[i].bytes, 0);
    for (size_t i = 0; i < model->n_releases; i++) {
        const struct release *release = &model->releases[i];
        if (release->device != device)
            continue;
        int64_t listed = listed_of(view, release->pid);
        listed_sum += larger(listed, 0);
        if (listed > 0)
            sum += listed;
        else if (listed == 0 || !view->is_listed)
            sum += release->held_bytes;
    }
    int64_t contradiction = excess_bytes(all, view->used_bytes);
    sums->held_back = contradiction < listed_sum ? contradiction : listed_sum;
    sums->releasing = sum;
}

/* ---- the ledger ---- */

static bool is_set_aside(const struct worker *worker, const struct worker *self)
{
    return self && (worker == self || (worker->is_queued && worker->queue_position > self->queue_position));
}

void sums_of(const struct model *model, int device, const struct worker *self, struct sums *ret_sums)
{
    struct view view;
    driver_view(model, device, &view);
    if (!view.is_usable) /* nothing is known of its memory */
        view.total_bytes = view.free_bytes = view.used_bytes = 0;
    struct sums sums = { .is_there = view.is_there, .is_usable = view.is_usable, .total = view.total_bytes };
    add_releases(model, device, &view, &sums);
    sums.free = excess_bytes(view.free_bytes, sums.held_back);
    sums.used = view.used_bytes + sums.held_back;
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++) {
        const struct worker *worker = &model->workers[i];
        int64_t share = worker->share_bytes[device];
        if (!worker->is_there || share == 0 || is_set_aside(worker, self))
            continue;
        int64_t observed = observed_of(model, worker, device, &view, NULL);
        sums.observed += observed;
        sums.pending += excess_bytes(share, observed);
        sums.allocated += larger(share, observed);
        sums.ending += worker->is_ending ? larger(share, observed) : 0;
        sums.n_workers++;
    }
    int64_t others = excess_bytes(sums.used, sums.observed);
    sums.releasing = sums.releasing < others ? sums.releasing : others;
    sums.foreign = others - sums.releasing;
    sums.available = excess_bytes(sums.free, sums.pending + MODEL_HEADROOM);
    sums.room_after = sums.free + sums.releasing - sums.pending - MODEL_HEADROOM;
    *ret_sums = sums;
}

/* ---- what has to come of a start ---- */

struct question {
    const struct model *model;
    const struct worker *asked, *self;
    struct sums at[N_DEVICES];
    bool can_wait, is_any_there, is_any_releasing;
};

static int64_t room_of(const struct question *q, int device)
{
    return q->at[device].room_after + (q->asked->asked.is_displacing ? q->at[device].ending : 0);
}

static const char *reason_of(const struct question *q)
{
    if (q->asked->asked.has_displaced)
        return "displacing";
    return q->is_any_releasing ? "releasing" : "stopping";
}

static bool wait_for_room(const struct question *q, struct outcome *outcome)
{
    outcome->code = POOL_OK;
    outcome->is_queued = outcome->is_for_room = true;
    outcome->reason = reason_of(q);
    return true;
}

bool may_be_displaced(const struct worker *worker, int device)
{
    return worker->is_there && worker->may_go && worker->is_ready && !worker->is_ending &&
           worker->share_bytes[device] > 0;
}

int64_t gives_back(const struct model *model, const struct worker *worker, int device)
{
    struct view view;
    driver_view(model, device, &view);
    return larger(worker->share_bytes[device], observed_of(model, worker, device, &view, NULL));
}

/* As few as give back what is missing: those that give most. */
static void find_displaced(const struct question *q, int device, struct outcome *outcome)
{
    int64_t gives[MODEL_WORKERS_MAX], left = outcome->missing_bytes;
    size_t n = 0;
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++) {
        if (&q->model->workers[i] == q->self || !may_be_displaced(&q->model->workers[i], device))
            continue;
        gives[n] = gives_back(q->model, &q->model->workers[i], device);
        outcome->displaceable_bytes += gives[n++];
    }
    if (outcome->displaceable_bytes < outcome->missing_bytes)
        return;
    while (left > 0) {
        size_t most = 0;
        for (size_t i = 1; i < n; i++)
            most = gives[i] > gives[most] ? i : most;
        left -= gives[most];
        gives[most] = 0;
        outcome->n_displaced++;
    }
}

static void judge_device(const struct question *q, int device, struct outcome *outcome)
{
    int64_t need = need_on(q->model, q->asked, device);
    outcome->device = device;
    if (!q->at[device].is_there)
        outcome->code = q->is_any_there ? POOL_GPU_NOT_FOUND : POOL_GPU_UNAVAILABLE;
    else if (!q->at[device].is_usable)
        outcome->code = POOL_GPU_UNAVAILABLE;
    else if (need <= q->at[device].available)
        outcome->code = POOL_OK;
    else if (q->can_wait && need <= room_of(q, device))
        wait_for_room(q, outcome);
    else
        outcome->code = POOL_INSUFFICIENT_VRAM;
    if (outcome->code != POOL_INSUFFICIENT_VRAM || !q->can_wait || !q->asked->asked.is_displacing ||
        q->asked->asked.has_displaced)
        return;
    outcome->missing_bytes = need - room_of(q, device);
    find_displaced(q, device, outcome);
    if (outcome->n_displaced > 0) {
        wait_for_room(q, outcome);
        outcome->reason = "displacing";
    }
}

/* The tightest that fits; else, the one that fits most tightly once what is released is free; else the roomiest explains it. */
static void judge_any(const struct question *q, struct outcome *outcome)
{
    int best = -1, waits = -1, roomiest = -1;
    int64_t left[N_DEVICES], left_after[N_DEVICES];
    for (int i = 0; i < N_DEVICES; i++) {
        int64_t need = need_on(q->model, q->asked, i);
        if (!q->at[i].is_usable)
            continue;
        left[i] = q->at[i].available - need;
        left_after[i] = room_of(q, i) - need;
        if (left[i] >= 0 && (best < 0 || left[i] < left[best]))
            best = i;
        if (left_after[i] >= 0 && (waits < 0 || left_after[i] < left_after[waits]))
            waits = i;
        if (roomiest < 0 || left[i] > left[roomiest])
            roomiest = i;
    }
    outcome->device = best >= 0 ? best : roomiest;
    if (roomiest < 0)
        outcome->code = POOL_GPU_UNAVAILABLE;
    else if (best < 0)
        outcome->code = POOL_INSUFFICIENT_VRAM;
    if (outcome->code == POOL_INSUFFICIENT_VRAM && q->can_wait && waits >= 0) {
        outcome->device = waits;
        wait_for_room(q, outcome);
    }
}

static void judge_split(const struct question *q, struct outcome *outcome)
{
    int64_t parts[N_PLAIN];
    bool fits_after = q->can_wait;
    split_parts(&q->asked->asked, parts);
    for (int i = 0; i < N_PLAIN && outcome->code == POOL_OK; i++) {
        outcome->device = i;
        outcome->code = !q->at[i].is_there    ? POOL_GPU_NOT_FOUND
                        : !q->at[i].is_usable ? POOL_GPU_UNAVAILABLE
                                              : POOL_OK;
    }
    for (int i = 0; i < N_PLAIN && outcome->code == POOL_OK; i++) {
        outcome->device = i;
        if (parts[i] > q->at[i].available)
            outcome->code = POOL_INSUFFICIENT_VRAM;
    }
    for (int i = 0; i < N_PLAIN; i++)
        fits_after = fits_after && parts[i] <= room_of(q, i);
    if (outcome->code == POOL_INSUFFICIENT_VRAM && fits_after)
        wait_for_room(q, outcome);
}

static bool is_behind_somebody(const struct question *q, const struct outcome *outcome)
{
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++) {
        const struct worker *other = &q->model->workers[i];
        bool is_before = other->is_there && other->is_queued && other != q->self &&
                         (!q->self || other->queue_position < q->self->queue_position);
        for (int d = 0; is_before && d < N_DEVICES; d++) {
            bool is_on = q->asked->is_split ? d < N_PLAIN : d == outcome->device;
            if (is_on && other->share_bytes[d] > 0)
                return true;
        }
    }
    return false;
}

void expect_start(const struct model *model, const struct worker *asked, const struct worker *self,
                  struct outcome *ret_outcome)
{
    struct question q = {
        .model = model, .asked = asked, .self = self, .can_wait = model->mode != MODE_DAEMON
    };
    struct outcome outcome = { .code = POOL_OK, .device = -1 };
    for (int i = 0; i < N_DEVICES; i++) {
        sums_of(model, i, self, &q.at[i]);
        q.is_any_there = q.is_any_there || q.at[i].is_there;
        q.is_any_releasing = q.is_any_releasing || q.at[i].releasing > 0;
    }
    if (asked->is_split)
        judge_split(&q, &outcome);
    else if (asked->asked.device < 0)
        judge_any(&q, &outcome);
    else
        judge_device(&q, asked->asked.device, &outcome);
    if (outcome.code == POOL_OK && is_behind_somebody(&q, &outcome)) {
        outcome.is_queued = true;
        outcome.reason = "queue";
        outcome.n_displaced = 0;
    }
    *ret_outcome = outcome;
}
