/*
 * Answers about the pool as a whole: health, state, GPUs, models, metrics.
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

#define METRICS_MAX_BYTES (8 << 20)

void handle_health(struct daemon *daemon, struct http_request *request)
{
    CLEANUP_JSON json_t *document =
        json_pack("{s:s, s:s, s:s, s:s, s:I}", "status", "ok", "version", pool_version(), "pool_id",
                  daemon->config->pool_id, "epoch", daemon->epoch, "uptime_ms",
                  (json_int_t)((clock_boottime_ns() - daemon->started_boottime_ns) / NS_PER_MS));
    respond_json(request, 200, document ? json_print(document) : NULL);
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
        http_respond(request, 200, "application/json", view->json, view->n_json, HTTP_COPY);
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

/* ---- metrics ---- */

static void add_family(struct strbuf *out, const char *name, const char *type, const char *help)
{
    strbuf_printf(out, "# HELP pool_mgr_%s %s\n# TYPE pool_mgr_%s %s\n", name, help, name, type);
}

/* A reading of every GPU that has it, in base units. */
static void add_gpu_gauge(struct strbuf *out, const struct pool_gpu_list *gpus, const char *name,
                          const char *help,
                          double (*read)(const struct pool_gpu_info *gpu, bool *ret_is_present))
{
    add_family(out, name, "gauge", help);
    for (size_t i = 0; i < gpus->n_gpus; i++) {
        bool is_present = true;
        double value = read(gpus->gpus[i], &is_present);
        if (is_present)
            strbuf_printf(out, "pool_mgr_%s{gpu=\"%s\"} %.17g\n", name, gpus->gpus[i]->uuid, value);
    }
}

static double read_total(const struct pool_gpu_info *gpu, bool *ret_is_present)
{
    *ret_is_present = gpu->is_vram_known;
    return (double)gpu->vram_total_bytes;
}

static double read_used(const struct pool_gpu_info *gpu, bool *ret_is_present)
{
    *ret_is_present = gpu->is_vram_known;
    return (double)gpu->vram_used_bytes;
}

static double read_temperature(const struct pool_gpu_info *gpu, bool *ret_is_present)
{
    *ret_is_present = gpu->temperature_celsius.is_present;
    return (double)gpu->temperature_celsius.value;
}

static double read_power(const struct pool_gpu_info *gpu, bool *ret_is_present)
{
    *ret_is_present = gpu->power_usage_mw.is_present;
    return (double)gpu->power_usage_mw.value / 1000;
}

static double read_utilization(const struct pool_gpu_info *gpu, bool *ret_is_present)
{
    *ret_is_present = gpu->utilization_percent.is_present;
    return (double)gpu->utilization_percent.value / 100;
}

static double read_health(const struct pool_gpu_info *gpu, bool *ret_is_present)
{
    *ret_is_present = true;
    return gpu->health == POOL_GPU_HEALTHY;
}

static void add_workers(struct strbuf *out, const struct pool_status_response *status)
{
    int64_t n[POOL_WORKER_N_STATUSES] = { 0 };
    for (size_t i = 0; i < status->workers->n_workers; i++)
        n[status->workers->workers[i]->status]++;
    add_family(out, "workers", "gauge", "Live workers by status.");
    for (int i = 0; i < POOL_WORKER_N_STATUSES; i++)
        strbuf_printf(out, "pool_mgr_workers{status=\"%s\"} %" PRId64 "\n",
                      pool_worker_status_name((enum pool_worker_status)i), n[i]);
    add_family(out, "worker_vram_bytes", "gauge", "Bytes admitted for a worker on its GPU.");
    for (size_t i = 0; i < status->workers->n_workers; i++) {
        const struct pool_worker_info *worker = status->workers->workers[i];
        if (worker->gpu_uuid)
            strbuf_printf(out, "pool_mgr_worker_vram_bytes{worker_id=\"%s\"} %" PRId64 "\n",
                          worker->worker_id, worker->reserved_bytes);
    }
}

static void answer_metrics(const struct state_view *view, const struct pool_error *error, void *context)
{
    struct http_request *request = context;
    struct daemon *daemon = http_request_context(request);
    if (error) {
        http_respond_error(request, error);
        return;
    }
    struct strbuf out = STRBUF_INIT(METRICS_MAX_BYTES);
    const struct pool_gpu_list *gpus = view->status->gpus;
    add_family(&out, "build_info", "gauge", "The version that runs, as a label; always 1.");
    strbuf_printf(&out, "pool_mgr_build_info{version=\"%s\"} 1\n", pool_version());
    add_family(&out, "gpus", "gauge", "GPUs in the inventory.");
    strbuf_printf(&out, "pool_mgr_gpus %zu\n", gpus->n_gpus);
    add_gpu_gauge(&out, gpus, "gpu_vram_total_bytes", "Memory of the GPU.", read_total);
    add_gpu_gauge(&out, gpus, "gpu_vram_used_bytes", "Memory that the driver says is used.", read_used);
    add_family(&out, "gpu_vram_allocated_bytes", "gauge", "Memory admitted for or held by workers.");
    for (size_t i = 0; i < view->status->n_ledgers; i++) {
        if (strcmp(view->status->ledgers[i].device, "host") != 0)
            strbuf_printf(&out, "pool_mgr_gpu_vram_allocated_bytes{gpu=\"%s\"} %" PRId64 "\n",
                          view->status->ledgers[i].device, view->status->ledgers[i].allocated_bytes);
    }
    add_gpu_gauge(&out, gpus, "gpu_temperature_celsius", "Temperature of the GPU.", read_temperature);
    add_gpu_gauge(&out, gpus, "gpu_power_watts", "Power that the GPU draws.", read_power);
    add_gpu_gauge(&out, gpus, "gpu_utilization_ratio", "Time in which the compute units worked.",
                  read_utilization);
    add_gpu_gauge(&out, gpus, "gpu_healthy", "1 when new workers may be placed on it.", read_health);
    add_workers(&out, view->status);
    add_family(&out, "worker_starts_total", "counter", "Starts that became ready, or failed.");
    strbuf_printf(&out,
                  "pool_mgr_worker_starts_total{outcome=\"ready\"} %" PRIu64
                  "\npool_mgr_worker_starts_total{outcome=\"failed\"} %" PRIu64 "\n",
                  daemon->n_starts[1], daemon->n_starts[0]);
    upward_add_metrics(daemon, &out);
    size_t n = out.n;
    char *text = strbuf_take(&out);
    struct pool_error why = POOL_ERROR_INIT;
    if (text)
        http_respond(request, 200, "text/plain; version=0.0.4; charset=utf-8", text, n, HTTP_TAKE);
    else {
        pool_error_no_memory(&why);
        http_respond_error(request, &why);
    }
}

void handle_metrics(struct daemon *daemon, struct http_request *request)
{
    http_request_set_context(request, daemon);
    state_cache_read(daemon, answer_metrics, request);
}
