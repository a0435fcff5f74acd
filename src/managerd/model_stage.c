/*
 * PUT and DELETE /v2/models/{id}/stage: a model's files into the page cache, within staging.max_bytes and the host's memory.
 *
 *   open, map, measure (a thread)  →  admit (the loop, model_stage_admit.c)  →  drop what has to give way (a thread)
 *   →  read (several threads)  →  measure (a thread)  →  staged  →  measured now and then (model_stage_measure.c)
 *
 * Pages in the cache count as available to everybody, so the kernel may take them for something else; that is why what is
 * there is measured, and why what must stay is locked.
 */
#include "managerd/model_stage.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "managerd/log.h"

static void free_job(struct stage_job *job)
{
    stage_reader_close(job->reader);
    stage_reader_close(job->own);
    pool_model_free(job->model);
    for (size_t i = 0; i < job->n_given_up; i++)
        free(job->given_up[i]);
    free(job->given_up);
    free(job);
}

void stage_forget_files(struct model_record *record)
{
    for (size_t i = 0; i < record->n_paths; i++)
        free(record->paths[i]);
    free(record->paths);
    free(record->path);
    record->paths = NULL;
    record->path = NULL;
    record->n_paths = 0;
    stage_reader_close(record->reader);
    record->reader = NULL;
}

void staging_clear(struct model_record *record)
{
    stage_forget_files(record);
    free(record->staging.error_code);
    free(record->staging.error_message);
}

/* ---- telling ---- */

void stage_tell(const struct model_record *record, const char *type)
{
    char *json = NULL;
    if (pool_model_staging_encode(&record->staging, &json, NULL) != POOL_OK)
        json = NULL;
    event_log_publish(record->models->daemon->events, type, json);
}

static void respond(const struct model_record *record, struct http_request *request, unsigned status)
{
    char *json = NULL;
    struct pool_error error = POOL_ERROR_INIT;
    enum pool_code code = pool_model_staging_encode(&record->staging, &json, &error);
    respond_encoded(request, status, code, json, &error);
}

static void answer_waiters(struct model_record *record, enum pool_code code, const struct pool_error *error)
{
    struct model_waiter *waiter = take_ptr(&record->stage_waiters);
    while (waiter) {
        struct model_waiter *next = waiter->next;
        if (code == POOL_OK || waiter->is_for_drop)
            respond(record, waiter->request, 200);
        else
            http_respond_error(waiter->request, error);
        free(waiter);
        waiter = next;
    }
}

void staging_tick(struct model_record *record)
{
    if (!record->stage_job->reader)
        return;
    int64_t done_bytes = stage_reader_done_bytes(record->stage_job->reader);
    if (done_bytes == record->staging.done_bytes)
        return;
    record->staging.done_bytes = done_bytes;
    stage_tell(record, "model.stage.progress");
}
bool stage_paths_copy(char *const *paths, size_t n, char ***ret_copy)
{
    char **copy = calloc(n + 1, sizeof *copy);
    for (size_t i = 0; copy && i < n; i++) {
        copy[i] = strdup(paths[i]);
        if (copy[i])
            continue;
        while (i > 0)
            free(copy[--i]);
        free(copy);
        return false;
    }
    *ret_copy = copy;
    return copy != NULL;
}

/* ---- the end ---- */

static void end_without(struct stage_job *job)
{
    struct model_record *record = job->record;
    struct pool_model_staging *staging = &record->staging;
    bool is_cancelled = job->code == POOL_CANCELLED;
    stage_forget_files(record);
    staging->state = is_cancelled ? POOL_STAGE_NONE : POOL_STAGE_FAILED;
    staging->reason = is_cancelled ? (char *)(uintptr_t) "cancelled" : NULL;
    staging->staged_wall_ms = 0;
    staging->is_locked = false;
    staging->resident_bytes = (struct pool_reading){ 0 };
    (void)replace_text(&staging->error_code, is_cancelled ? NULL : pool_code_name(job->code));
    (void)replace_text(&staging->error_message, is_cancelled ? NULL : job->error.message);
    log_tell(is_cancelled ? LOG_MODEL_UNSTAGED : LOG_MODEL_STAGE_FAILED,
             &(struct log_fields){ .code = pool_code_name(job->code) }, "%s: %s", record->id,
             job->error.message);
    stage_tell(record, is_cancelled ? "model.unstaged" : "model.stage.failed");
}

static void end_with(struct stage_job *job)
{
    struct model_record *record = job->record;
    struct pool_model_staging *staging = &record->staging;
    staging->state = POOL_STAGE_STAGED;
    staging->done_bytes = staging->total_bytes;
    staging->resident_bytes = job->resident_bytes;
    staging->is_locked = job->is_locked;
    staging->staged_wall_ms = clock_wall_ms();
    staging->used_wall_ms = staging->staged_wall_ms;
    stage_reader_close(record->reader);
    record->reader = job->is_locked ? take_ptr(&job->own) : NULL;
    if (!uv_is_active((uv_handle_t *)&record->models->measurer))
        uv_timer_start(&record->models->measurer, staging_measure, MODEL_MEASURE_MS, MODEL_MEASURE_MS);
    log_tell(LOG_MODEL_STAGED, NULL, "%s: %" PRId64 " bytes in RAM%s", record->id, staging->total_bytes,
             staging->is_locked ? ", locked" : "");
    stage_tell(record, "model.staged");
}

static void end_job(struct stage_job *job)
{
    struct model_record *record = job->record;
    CLEANUP(log_leave_cause) __attribute__((unused)) struct log_cause before = log_enter_cause(job->cause.id);
    record->stage_job = NULL;
    if (job->code == POOL_OK)
        end_with(job);
    else
        end_without(job);
    answer_waiters(record, job->code, &job->error);
    free_job(job);
}

static void run(struct stage_job *job, executor_fn *work, executor_fn *done)
{
    struct pool_error error = POOL_ERROR_INIT;
    if (executor_run_beside(job->record->models->daemon->executor, work, done, job, &error) == POOL_OK)
        return; /* the job is another thread's from here on */
    job->code = error.code;
    job->error = error;
    end_job(job);
}

/* What was read for nothing is given back at once. */
static void work_measure(void *context)
{
    struct stage_job *job = context;
    const char *const *paths = (const char *const *)job->model->file_paths;
    job->code = stage_reader_result(job->own, &job->error);
    stage_reader_settle(job->own);
    if (job->code == POOL_OK) {
        job->resident_bytes.is_present =
            stage_measure(paths, job->model->n_files, &job->resident_bytes.value);
        return;
    }
    stage_reader_close(take_ptr(&job->own));
    stage_drop(paths, job->model->n_files);
}

static void work_undo(void *context)
{
    struct stage_job *job = context;
    stage_reader_close(take_ptr(&job->own));
    stage_drop((const char *const *)job->model->file_paths, job->model->n_files);
}

static void finish_undo(void *context)
{
    struct stage_job *job = context;
    job->code = pool_error_set(&job->error, POOL_CANCELLED, "the staging was cancelled");
    end_job(job);
}

/* All was read when somebody did not want it any more. */
static void finish_measure(void *context)
{
    struct stage_job *job = context;
    if (job->code == POOL_OK && job->is_dropped)
        run(job, work_undo, finish_undo);
    else
        end_job(job);
}

/* ---- reading ---- */

static void work_read(void *context)
{
    stage_reader_work(((struct stage_job *)context)->reader);
}

static void finish_read(void *context)
{
    struct stage_job *job = context;
    if (--job->n_threads > 0)
        return;
    job->own = take_ptr(&job->reader);
    run(job, work_measure, finish_measure);
}

static void begin_reading(struct stage_job *job)
{
    struct executor *executor = job->record->models->daemon->executor;
    for (int i = 0; i < STAGE_THREADS; i++) {
        if (executor_run_beside(executor, work_read, finish_read, job, &job->error) == POOL_OK)
            job->n_threads++; /* finish_read comes from the loop, not from in here */
    }
    if (job->n_threads > 0)
        return;
    job->code = pool_error_no_memory(&job->error);
    end_job(job);
}

static void work_give_up(void *context)
{
    const struct stage_job *job = context;
    stage_drop((const char *const *)job->given_up, job->n_given_up);
}

static void finish_give_up(void *context)
{
    begin_reading(context);
}

static void admit_and_read(const struct state_view *view, const struct pool_error *error, void *context)
{
    struct stage_job *job = context;
    struct model_record *record = job->record;
    const struct pool_ledger *host = NULL;
    for (size_t i = 0; view && i < view->status->n_ledgers; i++) {
        if (strcmp(view->status->ledgers[i].device, "host") == 0)
            host = &view->status->ledgers[i];
    }
    if (error) {
        job->code = error->code;
        job->error = *error;
    } else if (job->is_dropped) {
        job->code = pool_error_set(&job->error, POOL_CANCELLED, "the staging was cancelled");
    } else {
        job->code = stage_admit(job, host, &job->error);
    }
    if (job->code != POOL_OK) {
        end_job(job);
        return;
    }
    record->staging.total_bytes = stage_reader_total_bytes(job->reader);
    if (job->n_given_up > 0)
        run(job, work_give_up, finish_give_up);
    else
        begin_reading(job);
}

static void work_open(void *context)
{
    struct stage_job *job = context;
    job->code = stage_reader_open((const char *const *)job->model->file_paths, job->model->n_files,
                                  job->is_locked, &job->own, &job->error);
}

static void finish_open(void *context)
{
    struct stage_job *job = context;
    job->reader = take_ptr(&job->own);
    if (job->code != POOL_OK)
        end_job(job);
    else
        state_cache_read(job->record->models->daemon, admit_and_read, job);
}

/* ---- the beginning ---- */

static size_t count_running(const struct models *models)
{
    size_t n = 0;
    for (const struct model_record *record = models->records; record; record = record->next)
        n += record->stage_job != NULL;
    return n;
}

static enum pool_code begin(struct model_record *record, struct model_lookup *lookup, struct pool_error *err)
{
    struct models *models = record->models;
    if (count_running(models) >= MODEL_STAGINGS_MAX) {
        pool_error_set(err, POOL_OVERLOADED, "%d models are being staged already", MODEL_STAGINGS_MAX);
        return POOL_OVERLOADED;
    }
    struct stage_job *job = calloc(1, sizeof *job);
    if (!job)
        return pool_error_no_memory(err);
    *job = (struct stage_job){ .record = record, .is_locked = lookup->is_locked, .cause = log_cause() };
    stage_forget_files(record);
    bool is_copied = replace_text(&record->path, lookup->model->path) &&
                     stage_paths_copy(lookup->model->file_paths, lookup->model->n_files, &record->paths);
    record->n_paths = is_copied ? lookup->model->n_files : 0;
    job->model = take_ptr(&lookup->model);
    enum pool_code code = is_copied ? POOL_OK : pool_error_no_memory(err);
    if (code == POOL_OK)
        code = executor_run_beside(models->daemon->executor, work_open, finish_open, job, err);
    if (code != POOL_OK) {
        stage_forget_files(record);
        record->staging.state = POOL_STAGE_NONE;
        free_job(job);
        return code;
    }
    record->stage_job = job;
    record->staging.state = POOL_STAGE_STAGING;
    record->staging.reason = NULL;
    record->staging.done_bytes = 0;
    record->staging.total_bytes = job->model->size_bytes;
    record->staging.resident_bytes = (struct pool_reading){ 0 };
    (void)replace_text(&record->staging.error_code, NULL);
    (void)replace_text(&record->staging.error_message, NULL);
    models_tick(models);
    stage_tell(record, "model.stage.progress");
    return POOL_OK;
}

/* Locked already, or only to be unlocked: nothing is to be read. */
static bool is_there(struct model_record *record, const struct model_lookup *lookup)
{
    if (record->staging.state != POOL_STAGE_STAGED || !record->reader || record->stage_job)
        return false;
    if (!lookup->is_locked) {
        stage_reader_close(take_ptr(&record->reader));
        record->staging.is_locked = false;
        stage_tell(record, "model.staged");
    }
    record->staging.used_wall_ms = clock_wall_ms();
    return true;
}

static void stage_found(struct model_lookup *lookup)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct model_record *record = model_record_demand(lookup->models, lookup->id);
    enum pool_code code = record ? POOL_OK : pool_error_no_memory(&error);
    if (code == POOL_OK && atomic_load(&lookup->models->is_cancelled))
        code = pool_error_set(&error, POOL_CONFLICT, "the daemon is stopping");
    else if (code == POOL_OK && record->stage_job && record->stage_job->is_locked != lookup->is_locked)
        code = pool_error_set(&error, POOL_CONFLICT, "%s is being staged %s a lock", record->id,
                              record->stage_job->is_locked ? "with" : "without");
    else if (code == POOL_OK && is_there(record, lookup)) {
        respond(record, lookup->request, 200);
        return;
    }
    if (code == POOL_OK && !record->stage_job)
        code = begin(record, lookup, &error);
    if (code != POOL_OK)
        http_respond_error(lookup->request, &error);
    else if (!lookup->is_waiting || !model_add_waiter(&record->stage_waiters, lookup->request, false))
        respond(record, lookup->request, 202);
}

void handle_model_stage(struct daemon *daemon, struct http_request *request)
{
    size_t n;
    struct pool_error error = POOL_ERROR_INIT;
    struct pool_model_stage_request wanted = { 0 };
    const char *body = http_request_body(request, &n);
    if (pool_model_stage_request_decode(body, n, &wanted, &error) != POOL_OK) {
        http_respond_error(request, &error);
        return;
    }
    struct model_lookup wish = { .models = daemon->models,
                                 .request = request,
                                 .then = stage_found,
                                 .is_waiting = wanted.wait,
                                 .is_locked = wanted.lock };
    model_lookup_begin(&wish);
}

/* ---- giving it up ---- */

struct drop_job {
    struct model_record *record;
    struct http_request *request;
    char **paths;
    size_t n_paths;
};

static void work_drop(void *context)
{
    const struct drop_job *job = context;
    stage_drop((const char *const *)job->paths, job->n_paths);
}

static void finish_drop(void *context)
{
    struct drop_job *job = context;
    respond(job->record, job->request, 200);
    for (size_t i = 0; i < job->n_paths; i++)
        free(job->paths[i]);
    free(job->paths);
    free(job);
}

void staging_cancel(struct model_record *record)
{
    if (!record->stage_job)
        return;
    record->stage_job->is_dropped = true;
    if (record->stage_job->reader)
        stage_reader_cancel(record->stage_job->reader);
}

static void drop_staged(struct model_record *record, struct http_request *request)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct drop_job *job = calloc(1, sizeof *job);
    if (!job) {
        pool_error_no_memory(&error);
        http_respond_error(request, &error);
        return;
    }
    *job = (struct drop_job){ .record = record, .request = request, .n_paths = record->n_paths };
    job->paths = take_ptr(&record->paths);
    record->n_paths = 0;
    log_tell(LOG_MODEL_UNSTAGED, NULL, "%s, on request", record->id);
    stage_leave(record, "requested"); /* unlocks first */
    if (executor_run_beside(record->models->daemon->executor, work_drop, finish_drop, job, &error) != POOL_OK)
        finish_drop(job); /* the kernel drops them when it needs to */
}

static void unstage_found(struct model_lookup *lookup)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct model_record *record = model_record_demand(lookup->models, lookup->id);
    if (!record || (record->stage_job && !model_add_waiter(&record->stage_waiters, lookup->request, true))) {
        pool_error_no_memory(&error);
        http_respond_error(lookup->request, &error);
    } else if (record->stage_job) {
        staging_cancel(record);
    } else if (record->staging.state == POOL_STAGE_STAGED) {
        drop_staged(record, lookup->request);
    } else {
        respond(record, lookup->request, 200);
    }
}

void handle_model_unstage(struct daemon *daemon, struct http_request *request)
{
    struct model_lookup wish = { .models = daemon->models,
                                 .request = request,
                                 .is_entry_enough = true, /* it may be gone from the disk */
                                 .then = unstage_found };
    model_lookup_begin(&wish);
}
