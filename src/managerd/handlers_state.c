/*
 * Answers about the pool as a whole: health, state, GPUs, models.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/strbuf.h"
#include "managerd/daemon.h"

#define HEALTH_MAX 512

/* Asked more often than anything else, and by those who want to know how soon: written without a tree. None of the texts
 * has anything to escape: a version, a name of letters, digits and ". _ -", hex digits. */
void handle_health(struct daemon *daemon, struct http_request *request)
{
    char body[HEALTH_MAX];
    int64_t up_ms = (clock_boottime_ns() - daemon->started_boottime_ns) / NS_PER_MS;
    int n = snprintf(
        body, sizeof body,
        "{\"status\":\"ok\",\"version\":\"%s\",\"pool_id\":\"%s\",\"epoch\":\"%s\",\"uptime_ms\":%" PRId64
        "}",
        pool_version(), daemon->config->pool_id, daemon->epoch, up_ms);
    http_respond(request, 200, "application/json", body, (size_t)n, HTTP_COPY);
}

/* ---- state ---- */

static void answer_state(const struct state_view *view, const struct pool_error *error, void *context)
{
    struct http_request *request = context;
    if (error) {
        http_respond_error(request, error);
        return;
    }
    const char *known = http_request_header(request, "If-None-Match");
    http_request_add_header(request, "ETag", view->etag);
    if (known && strcmp(known, view->etag) == 0)
        http_respond(request, 304, NULL, NULL, 0, HTTP_STATIC);
    else
        http_respond_shared(request, 200, "application/json", view->json, view->n_json, state_text_release,
                            state_text_share(view->text));
}

void handle_state(struct daemon *daemon, struct http_request *request)
{
    state_cache_read(daemon, answer_state, request);
}

static void answer_gpus(const struct state_view *view, const struct pool_error *error, void *context)
{
    char *json = NULL;
    struct pool_error why = POOL_ERROR_INIT;
    if (error) {
        http_respond_error(context, error);
        return;
    }
    enum pool_code code =
        pool_gpu_list_encode(view->status->gpus, view->status->ledgers, view->status->n_ledgers, &json, &why);
    respond_encoded(context, 200, code, json, &why);
}

void handle_gpus(struct daemon *daemon, struct http_request *request)
{
    state_cache_read(daemon, answer_gpus, request);
}

static void answer_gpu(const struct state_view *view, const struct pool_error *error, void *context)
{
    struct http_request *request = context;
    struct pool_error why = POOL_ERROR_INIT;
    if (error) {
        http_respond_error(request, error);
        return;
    }
    const char *id = http_request_segment(request, 2);
    const struct pool_gpu_info *gpu = pool_gpu_list_find(view->status->gpus, id);
    if (!gpu) {
        pool_error_set(&why, POOL_GPU_NOT_FOUND, "there is no GPU %.100s", id);
        http_respond_error(request, &why);
        return;
    }
    struct pool_gpu_info *one = (struct pool_gpu_info *)(uintptr_t)gpu; /* a list of one, of the same GPU */
    struct pool_gpu_list list = *view->status->gpus;
    list.n_gpus = 1;
    list.gpus = &one;
    char *json = NULL;
    enum pool_code code =
        pool_gpu_list_encode(&list, view->status->ledgers, view->status->n_ledgers, &json, &why);
    respond_encoded(request, 200, code, json, &why);
}

void handle_gpu(struct daemon *daemon, struct http_request *request)
{
    state_cache_read(daemon, answer_gpu, request);
}

/* ---- models ---- */

struct models_job {
    struct daemon *daemon;
    struct http_request *request;
    char *id; /* NULL: all */
    enum pool_code code;
    struct pool_error error;
    char *json;
};

static enum pool_code encode_one(const struct pool_model_metadata *model, struct strbuf *out,
                                 struct pool_error *err)
{
    CLEANUP_FREE char *json = NULL;
    enum pool_code code = pool_model_encode(model, NULL, NULL, &json, err);
    if (code == POOL_OK)
        strbuf_add_text(out, json);
    return code;
}

static void work_models(void *context)
{
    struct models_job *job = context;
    const struct pool_model_catalog *catalog;
    CLEANUP(strbuf_done) struct strbuf out = STRBUF_INIT(POOL_ANSWER_MAX_BYTES);
    job->code = pool_manager_catalog(job->daemon->manager, &catalog, &job->error);
    if (job->code == POOL_OK && job->id) {
        const struct pool_model_metadata *model;
        job->code = pool_model_catalog_get(catalog, job->id, &model, &job->error);
        if (job->code == POOL_OK)
            job->code = encode_one(model, &out, &job->error);
    } else if (job->code == POOL_OK) {
        strbuf_add_text(&out, "{\"models\":[");
        for (size_t i = 0; job->code == POOL_OK && i < pool_model_catalog_n_models(catalog); i++) {
            if (i > 0)
                strbuf_add_char(&out, ',');
            job->code = encode_one(pool_model_catalog_at(catalog, i), &out, &job->error);
        }
        strbuf_add_text(&out, "]}");
    }
    if (job->code == POOL_OK)
        job->json = strbuf_take(&out);
    if (job->code == POOL_OK && !job->json)
        job->code = pool_error_no_memory(&job->error);
}

static void finish_models(void *context)
{
    struct models_job *job = context;
    respond_encoded(job->request, 200, job->code, job->json, &job->error);
    free(job->id);
    free(job);
}

static void ask_models(struct daemon *daemon, struct http_request *request, const char *id)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct models_job *job = calloc(1, sizeof *job);
    if (job) {
        *job = (struct models_job){ .daemon = daemon, .request = request, .id = id ? strdup(id) : NULL };
        if ((!id || job->id) &&
            executor_submit(daemon->executor, work_models, finish_models, job, &error) == POOL_OK)
            return;
        free(job->id);
        free(job);
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
