/*
 * POST /v2/models/{id}/verify: one verification of a model at once, on a thread beside the loop, with its progress told as
 * events. Hashing, sums and proofs are the library's.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "managerd/log.h"
#include "managerd/models_internal.h"

struct verify_job {
    struct model_record *record;
    struct pool_model *model;
    char *proof_dir;
    bool ignores_proof;
    const atomic_bool *is_cancelled;
    _Atomic int64_t done_bytes, total_bytes; /* written by the thread, read by the loop */
    enum pool_code code;
    struct pool_error error;
    struct pool_verify_result result;
    struct log_cause cause;
};

static void free_job(struct verify_job *job)
{
    pool_model_free(job->model);
    free(job->proof_dir);
    free(job);
}

void verification_clear(struct model_record *record)
{
    free(record->verification.sha256);
    free(record->verification.error_code);
    free(record->verification.error_message);
}

static void tell(const struct model_record *record, const char *type)
{
    char *json = NULL;
    if (pool_model_verification_encode(&record->verification, &json, NULL) != POOL_OK)
        json = NULL;
    event_log_publish(record->models->daemon->events, type, json);
}

static void respond(const struct model_record *record, struct http_request *request, unsigned status)
{
    char *json = NULL;
    struct pool_error error = POOL_ERROR_INIT;
    enum pool_code code = pool_model_verification_encode(&record->verification, &json, &error);
    respond_encoded(request, status, code, json, &error);
}

void verification_tick(struct model_record *record)
{
    struct pool_model_verification *verification = &record->verification;
    int64_t done_bytes = atomic_load(&record->verifying->done_bytes);
    int64_t total_bytes = atomic_load(&record->verifying->total_bytes);
    if (done_bytes == verification->done_bytes && total_bytes == verification->total_bytes)
        return;
    verification->done_bytes = done_bytes;
    verification->total_bytes = total_bytes;
    tell(record, "model.verify.progress");
}

/* ---- on the thread ---- */

static bool on_progress(int64_t done_bytes, int64_t total_bytes, void *context)
{
    struct verify_job *job = context;
    atomic_store(&job->done_bytes, done_bytes);
    atomic_store(&job->total_bytes, total_bytes);
    return !atomic_load(job->is_cancelled);
}

static void work_verify(void *context)
{
    struct verify_job *job = context;
    struct pool_verify_options options = { .struct_size = sizeof options,
                                           .proof_dir = job->proof_dir,
                                           .ignore_proof = job->ignores_proof,
                                           .progress = on_progress,
                                           .progress_context = job };
    job->code = pool_model_verify(job->model, &options, &job->result, &job->error);
}

/* ---- its end ---- */

static void answer_waiters(struct model_record *record, enum pool_code code, const struct pool_error *error)
{
    struct model_waiter *waiter = take_ptr(&record->verify_waiters);
    while (waiter) {
        struct model_waiter *next = waiter->next;
        if (code == POOL_OK)
            respond(record, waiter->request, 200);
        else
            http_respond_error(waiter->request, error);
        free(waiter);
        waiter = next;
    }
}

static void finish_verify(void *context)
{
    struct verify_job *job = context;
    struct model_record *record = job->record;
    struct pool_model_verification *verification = &record->verification;
    bool is_good = job->code == POOL_OK;
    CLEANUP(log_leave_cause) __attribute__((unused)) struct log_cause before = log_enter_cause(job->cause.id);
    record->verifying = NULL;
    verification->state = !is_good                  ? POOL_VERIFY_FAILED
                          : job->result.is_verified ? POOL_VERIFY_VERIFIED
                                                    : POOL_VERIFY_NO_CHECKSUM;
    if (job->code == POOL_CANCELLED)
        verification->state = POOL_VERIFY_UNVERIFIED;
    verification->ended_wall_ms = clock_wall_ms();
    verification->total_bytes = atomic_load(&job->total_bytes);
    verification->done_bytes = is_good ? verification->total_bytes : atomic_load(&job->done_bytes);
    /* A text that there is no memory for is missing: the state is told all the same. */
    (void)replace_text(&verification->sha256, is_good && job->result.sha256[0] ? job->result.sha256 : NULL);
    (void)replace_text(&verification->error_code, is_good ? NULL : pool_code_name(job->code));
    (void)replace_text(&verification->error_message, is_good ? NULL : job->error.message);
    log_tell(is_good ? LOG_MODEL_VERIFIED : LOG_MODEL_UNVERIFIED,
             &(struct log_fields){ .code = is_good ? NULL : pool_code_name(job->code) }, "%s: %s", record->id,
             is_good ? "done" : job->error.message);
    tell(record, is_good ? "model.verified" : "model.verify.failed");
    answer_waiters(record, job->code, &job->error);
    free_job(job);
}

/* ---- its beginning ---- */

static size_t count_running(const struct models *models)
{
    size_t n = 0;
    for (const struct model_record *record = models->records; record; record = record->next)
        n += record->verifying != NULL;
    return n;
}

static enum pool_code begin(struct model_record *record, struct model_lookup *lookup, struct pool_error *err)
{
    struct models *models = record->models;
    if (count_running(models) >= MODEL_VERIFICATIONS_MAX) {
        pool_error_set(err, POOL_OVERLOADED, "%d models are being verified already", MODEL_VERIFICATIONS_MAX);
        return POOL_OVERLOADED;
    }
    struct verify_job *job = calloc(1, sizeof *job);
    if (!job)
        return pool_error_no_memory(err);
    job->record = record;
    job->model = take_ptr(&lookup->model);
    job->proof_dir = pool_config_proof_dir(models->daemon->config);
    job->ignores_proof = lookup->ignores_proof;
    job->is_cancelled = &models->is_cancelled;
    job->cause = log_cause();
    enum pool_code code = job->proof_dir ? POOL_OK : pool_error_no_memory(err);
    if (code == POOL_OK)
        code = executor_run_beside(models->daemon->executor, work_verify, finish_verify, job, err);
    if (code != POOL_OK) {
        free_job(job);
        return code;
    }
    record->verifying = job;
    record->verification.state = POOL_VERIFY_VERIFYING;
    record->verification.done_bytes = record->verification.total_bytes = 0;
    models_tick(models);
    tell(record, "model.verify.progress");
    return POOL_OK;
}

static void verify_found(struct model_lookup *lookup)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct model_record *record = model_record_demand(lookup->models, lookup->id);
    enum pool_code code = record ? POOL_OK : pool_error_no_memory(&error);
    if (code == POOL_OK && atomic_load(&lookup->models->is_cancelled))
        code = pool_error_set(&error, POOL_CONFLICT, "the daemon is stopping");
    if (code == POOL_OK && !record->verifying)
        code = begin(record, lookup, &error);
    if (code != POOL_OK)
        http_respond_error(lookup->request, &error);
    else if (!lookup->is_waiting || !model_add_waiter(&record->verify_waiters, lookup->request, false))
        respond(record, lookup->request, 202);
}

void handle_model_verify(struct daemon *daemon, struct http_request *request)
{
    size_t n;
    struct pool_error error = POOL_ERROR_INIT;
    struct pool_model_verify_request wanted = { 0 };
    const char *body = http_request_body(request, &n);
    if (pool_model_verify_request_decode(body, n, &wanted, &error) != POOL_OK) {
        http_respond_error(request, &error);
        return;
    }
    struct model_lookup wish = { .models = daemon->models,
                                 .request = request,
                                 .then = verify_found,
                                 .is_waiting = wanted.wait,
                                 .ignores_proof = wanted.ignore_proof };
    model_lookup_begin(&wish);
}
