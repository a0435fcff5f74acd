/*
 * The records of models and the answers to who asks for models; see models.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "managerd/models_internal.h"
#include "managerd/routes.h"

/* ---- records ---- */

struct model_record *model_record_find(const struct models *models, const char *id)
{
    struct model_record *record = models->records;
    while (record && strcmp(record->id, id) != 0)
        record = record->next;
    return record;
}

struct model_record *model_record_demand(struct models *models, const char *id)
{
    struct model_record *record = model_record_find(models, id);
    if (record)
        return record;
    record = calloc(1, sizeof *record);
    char *own_id = strdup(id);
    if (!record || !own_id) {
        free(record);
        free(own_id);
        return NULL;
    }
    record->models = models;
    record->id = own_id;
    record->verification.model_id = own_id;
    record->staging.model_id = own_id;
    record->next = models->records;
    models->records = record;
    return record;
}

bool model_add_waiter(struct model_waiter **waiters, struct http_request *request, bool is_for_drop)
{
    struct model_waiter *waiter = calloc(1, sizeof *waiter);
    if (!waiter)
        return false;
    *waiter = (struct model_waiter){ request, is_for_drop, *waiters };
    *waiters = waiter;
    return true;
}

static void on_tick(uv_timer_t *timer)
{
    const struct models *models = timer->data;
    bool is_busy = false;
    for (struct model_record *record = models->records; record; record = record->next) {
        if (record->verifying)
            verification_tick(record);
        if (record->stage_job)
            staging_tick(record);
        is_busy = is_busy || record->verifying || record->stage_job;
    }
    if (!is_busy)
        uv_timer_stop(timer);
}

void models_tick(struct models *models)
{
    if (!uv_is_active((uv_handle_t *)&models->ticker))
        uv_timer_start(&models->ticker, on_tick, MODEL_PROGRESS_MS, MODEL_PROGRESS_MS);
}

enum pool_code models_open(struct daemon *daemon, struct models **ret_models, struct pool_error *err)
{
    struct models *models = calloc(1, sizeof *models);
    if (!models)
        return pool_error_no_memory(err);
    models->daemon = daemon;
    uv_timer_init(daemon->loop, &models->ticker);
    uv_timer_init(daemon->loop, &models->measurer);
    models->ticker.data = models;
    models->measurer.data = models;
    *ret_models = models;
    return POOL_OK;
}

void models_cancel(struct models *models)
{
    atomic_store(&models->is_cancelled, true);
    for (struct model_record *record = models->records; record; record = record->next)
        staging_cancel(record);
}

static void free_waiters(struct model_waiter *waiter)
{
    while (waiter) {
        struct model_waiter *next = waiter->next;
        free(waiter);
        waiter = next;
    }
}

void models_close(struct models *models)
{
    while (models && models->records) {
        struct model_record *record = models->records;
        models->records = record->next;
        free_waiters(record->verify_waiters);
        free_waiters(record->stage_waiters);
        verification_clear(record);
        staging_clear(record);
        free(record->id);
        free(record);
    }
    free(models);
}

void models_note_start(struct models *models, const struct pool_worker_info *worker)
{
    for (struct model_record *record = models->records; record; record = record->next) {
        if (record->path && worker->model_path && strcmp(record->path, worker->model_path) == 0 &&
            worker->created_wall_ms > record->staging.used_wall_ms)
            record->staging.used_wall_ms = worker->created_wall_ms;
    }
}

int64_t models_staged_bytes(const struct models *models)
{
    int64_t sum_bytes = 0;
    for (const struct model_record *record = models->records; record; record = record->next) {
        const struct pool_model_staging *staging = &record->staging;
        if (staging->state == POOL_STAGE_STAGED)
            sum_bytes +=
                staging->resident_bytes.is_present ? staging->resident_bytes.value : staging->total_bytes;
    }
    return sum_bytes;
}

/* ---- the catalogs in force ---- */

/* In order with everything else that uses the manager: what to tell of the catalogs, and with an unknown model. */
static void look_at_catalog(const struct daemon *daemon, enum pool_code code, struct catalog_sight *sight,
                            struct pool_error *err)
{
    snprintf(sight->fault, sizeof sight->fault, "%s", pool_manager_catalog_fault(daemon->manager));
    if (code == POOL_MODEL_NOT_FOUND && sight->fault[0])
        pool_error_prefix(err, "%s", sight->fault);
}

/* Once for each change. */
static void tell_catalog(struct models *models, const struct catalog_sight *sight)
{
    if (strcmp(models->catalog.fault, sight->fault) == 0)
        return;
    models->catalog = *sight;
    if (sight->fault[0])
        log_tell(LOG_CATALOG_REFUSED, NULL, "%s", sight->fault);
    else
        log_tell(LOG_CATALOG_MENDED, NULL, "the catalogs on the disk are in force");
}

struct reread_job {
    struct models *models;
    struct catalog_sight sight;
    size_t n_models;
    enum pool_code code;
    struct pool_error error;
};

static void work_reread(void *context)
{
    struct reread_job *job = context;
    const struct pool_model_catalog *catalog;
    const struct daemon *daemon = job->models->daemon;
    job->code = pool_manager_catalog(daemon->manager, &catalog, &job->error);
    look_at_catalog(daemon, job->code, &job->sight, &job->error);
    job->n_models = job->code == POOL_OK ? pool_model_catalog_n_models(catalog) : 0;
}

static void finish_reread(void *context)
{
    struct reread_job *job = context;
    tell_catalog(job->models, &job->sight);
    if (job->code != POOL_OK)
        log_tell(LOG_CATALOG_REFUSED, NULL, "%s", job->error.message);
    else if (!job->sight.fault[0])
        log_tell(LOG_CATALOG_LOADED, NULL, "%zu models in the catalogs", job->n_models);
    free(job);
}

void models_reread_catalogs(struct models *models)
{
    struct reread_job *job = calloc(1, sizeof *job);
    if (!job)
        return; /* the next one who asks for a model rereads them */
    job->models = models;
    if (executor_submit(models->daemon->executor, work_reread, finish_reread, job, NULL) != POOL_OK)
        free(job);
}

/* ---- looking one up ---- */

static void free_lookup(struct model_lookup *lookup)
{
    pool_model_free(lookup->model);
    free(lookup->id);
    free(lookup);
}

static void work_lookup(void *context)
{
    struct model_lookup *lookup = context;
    const struct daemon *daemon = lookup->models->daemon;
    const struct pool_model_catalog *catalog;
    const struct pool_model_metadata *metadata;
    lookup->code = pool_manager_catalog(daemon->manager, &catalog, &lookup->error);
    if (lookup->code == POOL_OK)
        lookup->code = pool_model_catalog_get(catalog, lookup->id, &metadata, &lookup->error);
    look_at_catalog(daemon, lookup->code, &lookup->sight, &lookup->error);
    if (lookup->code == POOL_OK && !lookup->is_entry_enough)
        lookup->code = pool_config_resolve_model(daemon->config, daemon->environment, catalog, false,
                                                 lookup->id, &lookup->model, &lookup->error);
}

static void finish_lookup(void *context)
{
    struct model_lookup *lookup = context;
    CLEANUP(log_leave_cause)
    __attribute__((unused)) struct log_cause before = log_enter_cause(lookup->cause.id);
    tell_catalog(lookup->models, &lookup->sight);
    if (lookup->code == POOL_OK)
        lookup->then(lookup);
    else
        http_respond_error(lookup->request, &lookup->error);
    free_lookup(lookup);
}

void model_lookup_begin(const struct model_lookup *wish)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct model_lookup *lookup = calloc(1, sizeof *lookup);
    if (lookup) {
        *lookup = *wish;
        lookup->cause = log_cause();
        lookup->id = strdup(http_request_segment(wish->request, 2));
        if (lookup->id && executor_submit(wish->models->daemon->executor, work_lookup, finish_lookup, lookup,
                                          &error) == POOL_OK)
            return;
        free_lookup(lookup);
    }
    pool_error_no_memory(&error);
    http_respond_error(wish->request, &error);
}

/* ---- GET /v2/models and one of them ---- */

/* What the records said when it was asked; the rest is looked up beside the loop. */
struct known_model {
    char *id;
    struct pool_model_verification verification;
    struct pool_model_staging staging;
};

struct models_job {
    struct daemon *daemon;
    struct http_request *request;
    char *id; /* NULL: all */
    size_t n_known;
    struct known_model *known;
    struct pool_model_catalog *catalog; /* a share of it: another thread may read a changed one meanwhile */
    struct catalog_sight sight;
    enum pool_code code;
    struct pool_error error;
    char *json;
};

static void free_models_job(struct models_job *job)
{
    for (size_t i = 0; i < job->n_known; i++) {
        free(job->known[i].id);
        free(job->known[i].verification.sha256);
        free(job->known[i].verification.error_code);
        free(job->known[i].verification.error_message);
        free(job->known[i].staging.error_code);
        free(job->known[i].staging.error_message);
    }
    free(job->known);
    pool_model_catalog_close(job->catalog);
    free(job->id);
    free(job);
}

static bool copy_record(const struct model_record *record, struct known_model *known)
{
    known->verification = record->verification;
    known->staging = record->staging;
    known->verification.sha256 = known->verification.error_code = known->verification.error_message = NULL;
    known->staging.error_code = known->staging.error_message = NULL;
    return replace_text(&known->id, record->id) &&
           replace_text(&known->verification.sha256, record->verification.sha256) &&
           replace_text(&known->verification.error_code, record->verification.error_code) &&
           replace_text(&known->verification.error_message, record->verification.error_message) &&
           replace_text(&known->staging.error_code, record->staging.error_code) &&
           replace_text(&known->staging.error_message, record->staging.error_message);
}

static bool copy_records(const struct models *models, struct models_job *job)
{
    size_t n = 0;
    for (const struct model_record *record = models->records; record; record = record->next)
        n++;
    job->known = calloc(n + 1, sizeof *job->known);
    for (const struct model_record *record = models->records; job->known && record; record = record->next) {
        if (job->id && strcmp(job->id, record->id) != 0)
            continue;
        if (!copy_record(record, &job->known[job->n_known++]))
            return false;
    }
    return job->known != NULL;
}

/* What proofs say of it now, unless somebody is at it, and what the last try said where they say nothing. */
static void judge(const struct models_job *job, const struct pool_model *model,
                  const struct pool_model_verification *known, struct pool_model_verification *verification,
                  struct pool_verify_result *result, struct pool_error *why)
{
    CLEANUP_FREE char *proof_dir = pool_config_proof_dir(job->daemon->config);
    struct pool_verify_options options = { .struct_size = sizeof options,
                                           .proof_dir = proof_dir,
                                           .only_proof = true };
    char *model_id = verification->model_id;
    if (known)
        *verification = *known;
    verification->model_id = model_id;
    if (verification->state == POOL_VERIFY_VERIFYING || !model || !proof_dir)
        return;
    enum pool_code code = pool_model_verify(model, &options, result, why);
    if (code == POOL_OK) {
        verification->state = result->is_verified ? POOL_VERIFY_VERIFIED : POOL_VERIFY_NO_CHECKSUM;
        verification->sha256 = result->sha256[0] ? result->sha256 : NULL;
        verification->error_code = verification->error_message = NULL;
    } else if (code != POOL_MODEL_UNVERIFIED) {
        verification->state = POOL_VERIFY_FAILED;
        verification->error_code = (char *)(uintptr_t)pool_code_name(code);
        verification->error_message = why->message;
    } else if (verification->state != POOL_VERIFY_FAILED) {
        verification->state = POOL_VERIFY_UNVERIFIED; /* it was changed since */
        verification->sha256 = NULL;
    }
}

static void free_header(struct pool_model_header **header)
{
    pool_model_header_free(*header);
}

static enum pool_code encode_one(const struct models_job *job, const struct pool_model_metadata *metadata,
                                 struct strbuf *out, struct pool_error *err)
{
    CLEANUP(free_model) struct pool_model *model = NULL;
    CLEANUP(free_header) struct pool_model_header *header = NULL;
    CLEANUP_FREE char *json = NULL;
    const struct known_model *known = NULL;
    for (size_t i = 0; i < job->n_known && !known; i++)
        known = strcmp(job->known[i].id, metadata->id) == 0 ? &job->known[i] : NULL;
    /* Not on disk, or not whole: that is shown as null, and said by the routes that need it. */
    (void)!pool_config_resolve_model(job->daemon->config, job->daemon->environment, job->catalog, false,
                                     metadata->id, &model, NULL);
    struct pool_model_verification verification = { .model_id = metadata->id };
    struct pool_verify_result result = { 0 };
    struct pool_error why = POOL_ERROR_INIT;
    judge(job, model, known ? &known->verification : NULL, &verification, &result, &why);
    struct pool_model_staging staging = { .model_id = metadata->id };
    if (known)
        staging = known->staging;
    staging.model_id = metadata->id;
    if (job->id && model) {
        const char *const *paths = (const char *const *)model->file_paths;
        /* Measured before its header is read: that brings a part of it. */
        staging.resident_bytes.is_present =
            stage_measure(paths, model->n_files, &staging.resident_bytes.value);
        (void)!pool_model_header_read_all(paths, model->n_files, &header, NULL);
        staging.total_bytes = model->size_bytes;
    }
    enum pool_code code =
        pool_model_entry_encode(metadata, model, header, &verification, &staging, &json, err);
    if (code == POOL_OK)
        strbuf_add_text(out, json);
    return code;
}

static enum pool_code encode_models(struct models_job *job, struct strbuf *out)
{
    const struct pool_model_metadata *metadata;
    enum pool_code code = POOL_OK;
    if (job->id) {
        code = pool_model_catalog_get(job->catalog, job->id, &metadata, &job->error);
        if (code == POOL_MODEL_NOT_FOUND && job->sight.fault[0])
            pool_error_prefix(&job->error, "%s", job->sight.fault);
        return code == POOL_OK ? encode_one(job, metadata, out, &job->error) : code;
    }
    strbuf_add_text(out, "{\"models\":[");
    for (size_t i = 0; code == POOL_OK && i < pool_model_catalog_n_models(job->catalog); i++) {
        if (i > 0)
            strbuf_add_char(out, ',');
        code = encode_one(job, pool_model_catalog_at(job->catalog, i), out, &job->error);
    }
    strbuf_add_text(out, "]}");
    return code;
}

static void work_models(void *context)
{
    struct models_job *job = context;
    CLEANUP(strbuf_done) struct strbuf out = STRBUF_INIT(POOL_ANSWER_MAX_BYTES);
    job->code = encode_models(job, &out);
    if (job->code == POOL_OK)
        job->json = strbuf_take(&out);
    if (job->code == POOL_OK && !job->json)
        job->code = pool_error_no_memory(&job->error);
}

static void finish_models(void *context)
{
    struct models_job *job = context;
    respond_encoded(job->request, 200, job->code, job->json, &job->error);
    free_models_job(job);
}

static void work_catalog(void *context)
{
    struct models_job *job = context;
    job->code = pool_manager_share_catalog(job->daemon->manager, &job->catalog, &job->error);
    look_at_catalog(job->daemon, job->code, &job->sight, &job->error);
}

/* The disk is looked at beside everything else. */
static void finish_catalog(void *context)
{
    struct models_job *job = context;
    struct pool_error error = POOL_ERROR_INIT;
    tell_catalog(job->daemon->models, &job->sight);
    if (job->code == POOL_OK &&
        executor_run_beside(job->daemon->executor, work_models, finish_models, job, &error) == POOL_OK)
        return; /* the job is another thread's from here on */
    if (job->code == POOL_OK) {
        job->code = error.code;
        job->error = error;
    }
    finish_models(job);
}

static void ask_models(struct daemon *daemon, struct http_request *request, const char *id)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct models_job *job = calloc(1, sizeof *job);
    if (job) {
        *job = (struct models_job){ .daemon = daemon, .request = request, .id = id ? strdup(id) : NULL };
        if ((!id || job->id) && copy_records(daemon->models, job) &&
            executor_submit(daemon->executor, work_catalog, finish_catalog, job, &error) == POOL_OK)
            return;
        free_models_job(job);
    }
    pool_error_no_memory(&error);
    http_respond_error(request, &error);
}

void handle_models(struct daemon *daemon, struct http_request *request)
{
    ask_models(daemon, request, NULL);
}

void handle_model(struct daemon *daemon, struct http_request *request)
{
    ask_models(daemon, request, http_request_segment(request, 2));
}
