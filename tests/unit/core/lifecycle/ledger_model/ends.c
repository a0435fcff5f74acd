/*
 * Ends, and what the driver does with the memory of who has ended.
 */
#include "model.h"

/* Steps that the driver may keep the memory of an ended worker, and milliseconds after which the library might give it up. */
#define KEPT_STEPS_MAX 40
#define KEPT_MS_MAX    (POOL_RELEASE_WAIT_MAX_MS / 3)

static int64_t taken(const struct model *model, const struct worker *worker)
{
    int64_t sum = 0;
    for (int i = 0; i < N_DEVICES; i++)
        sum += held(model, i, worker->pid);
    return sum;
}

void step_give_back(struct model *model, size_t at)
{
    for (int i = 0; i < N_DEVICES; i++)
        hold(model, i, model->dead[at].pid, 0);
    model->dead[at] = model->dead[--model->n_dead];
}

void give_all_back(struct model *model)
{
    while (model->n_dead > 0)
        step_give_back(model, 0);
}

/* As the library notes it when a worker is gone. */
void release_note(struct model *model, const struct worker *worker)
{
    for (int i = 0; i < N_DEVICES; i++) {
        int64_t share = worker->share_bytes[i];
        if (share == 0 || worker->pid == 0)
            continue;
        assert_true(model->n_releases < RELEASES_KEPT_MAX);
        int64_t held_bytes = worker->observed_bytes >= 0 ? worker->observed_bytes
                             : worker->is_ready          ? share
                                                         : 0;
        if (worker->observed_bytes >= 0 && worker->is_split)
            held_bytes = (int64_t)((double)held_bytes * ((double)share / (double)worker->reserved_bytes));
        model->releases[model->n_releases++] =
            (struct release){ i, worker->pid, held_bytes, clock_boottime_ns() };
    }
}

/* What a daemon does until nothing is released any more. */
void look_at_releases(struct model *model)
{
    struct pool_error err = POOL_ERROR_INIT;
    size_t n_left, n = 0;
    struct view views[N_DEVICES];
    driver_show(model);
    for (int i = 0; i < N_DEVICES; i++)
        driver_view(model, i, &views[i]);
    for (size_t i = 0; i < model->n_releases; i++) {
        struct release release = model->releases[i];
        const struct view *view = &views[release.device];
        bool is_listed = false;
        for (size_t k = 0; k < view->n_entries; k++)
            is_listed = is_listed || view->entries[k].pid == release.pid;
        if (is_listed || !view->is_listed)
            model->releases[n++] = release;
    }
    model->n_releases = n;
    if (pool_manager_check_releases(model->manager, &n_left, &err) != POOL_OK)
        fail_msg("%s", err.message);
    assert_int_equal(n_left, n);
    COUNT(model, RELEASES_LOOKED_AT);
}

/* Nothing is kept for so long, by steps or on a slow machine by the clock, that the library would stop waiting for it. */
void bound_releases(struct model *model)
{
    bool is_long = model->n_releases > RELEASES_KEPT_MAX / 2;
    for (size_t i = 0; i < model->n_releases; i++)
        is_long = is_long || clock_boottime_ns() - model->releases[i].ended_ns > KEPT_MS_MAX * NS_PER_MS;
    for (size_t i = model->n_dead; i > 0; i--) {
        if (model->dead[i - 1].step + KEPT_STEPS_MAX < model->step)
            step_give_back(model, i - 1);
    }
    if (!is_long)
        return;
    tell_the_truth(model);
    give_all_back(model);
    look_at_releases(model);
    assert_int_equal(model->n_releases, 0);
}

static void record_gone(struct model *model, struct worker *worker)
{
    struct pool_error err = POOL_ERROR_INIT;
    driver_show(model);
    if (model->mode == MODE_COMMAND) {
        struct pool_worker_list *live = NULL;
        if (pool_manager_settle(model->manager, &live, &err) != POOL_OK)
            fail_msg("%s", err.message);
        pool_worker_list_free(live);
    } else {
        struct pool_process_end end = { 0 };
        struct pool_worker_info *gone = NULL;
        if (pool_manager_record_gone(model->manager, worker->id, POOL_STOP_NONE, &end, NULL, &gone, NULL,
                                     &err) != POOL_OK)
            fail_msg("%s", err.message);
        pool_worker_info_free(gone);
    }
    check_explained(model, worker->id, POOL_EXPLAIN_END);
}

/* It is gone for the manager at once; its memory is the driver's to give back. */
void step_end(struct model *model, struct worker *worker, bool is_crash)
{
    struct pool_error err = POOL_ERROR_INIT;
    siginfo_t info;
    if (worker->is_ending)
        COUNT(model, DISPLACED_ENDED);
    else if (is_crash)
        COUNT(model, CRASHED);
    if (!is_crash && !worker->is_ending) {
        driver_show(model);
        if (ground_stop_as(model->manager, worker->id, 0, false, false, -1, NULL, &err) != POOL_OK)
            fail_msg("%s", err.message);
        check_explained(model, worker->id, POOL_EXPLAIN_STOP);
        COUNT(model, STOPPED);
    }
    assert_true(worker->pid > 1);
    kill((pid_t)worker->pid, SIGKILL);
    assert_int_equal(waitid(P_PID, (id_t)worker->pid, &info, WEXITED), 0);
    bool is_kept = model->mode != MODE_COMMAND && taken(model, worker) > 0 &&
                   model->n_dead < sizeof model->dead / sizeof model->dead[0] && random_below(model, 4) > 0;
    release_note(model, worker);
    worker->is_there = false;
    if (is_kept) {
        model->dead[model->n_dead++] = (struct dead){ worker->pid, model->step };
        COUNT(model, KEPT_BY_DRIVER);
    }
    for (int i = 0; !is_kept && i < N_DEVICES; i++)
        hold(model, i, worker->pid, 0);
    record_gone(model, worker);
}
