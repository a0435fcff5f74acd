/*
 * How much of its device a start needs, and why: as the request says, else from the header of the model and what the
 * engine is started with, else from the size of its files.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "core/lifecycle/engine_fit.h"
#include "core/lifecycle/learned.h"
#include "core/lifecycle/plan.h"
#include "core/lifecycle/split.h"

/* Default context of a worker whose request names none, unless the model was trained with less (DESIGN). */
#define CTX_SIZE_DEFAULT 8192
#define MILLION          1000000
/* Margin over a file's size where its header does not say enough: as over an estimate, max(10 %, 512 MiB). */
#define SIZE_MARGIN_MIN_BYTES (INT64_C(512) << 20)

void start_take_header(struct start_request *start, const struct pool_model_header *header)
{
    int64_t trained = header->context_length.is_present ? header->context_length.value : CTX_SIZE_DEFAULT;
    start->header = header;
    start->parallel = start->request->parallel > 0 ? start->request->parallel : 1;
    start->ctx_size = start->request->ctx_size;
    if (start->ctx_size == 0)
        start->ctx_size = trained > 0 && trained < CTX_SIZE_DEFAULT ? trained : CTX_SIZE_DEFAULT;
}

enum pool_code start_estimate(const struct start_request *start, int64_t first_layer, int64_t end_layer,
                              struct pool_estimate *ret_estimate, struct pool_error *err)
{
    struct pool_estimate_options options = start->engine.estimate;
    options.first_layer = first_layer;
    options.end_layer = end_layer;
    const struct pool_reading *gpu_layers = &start->engine.gpu_layers;
    int64_t n_all = (int64_t)start->header->n_layers + 1;
    if (options.is_on_gpu && gpu_layers->is_present && gpu_layers->value < n_all && first_layer == 0)
        options.first_layer = n_all - gpu_layers->value; /* the last ones, with the output */
    enum pool_code code = pool_model_estimate(start->header, &options, ret_estimate, err);
    if (code == POOL_OK && start->engine.extra_files_bytes > 0) {
        int64_t extra = start->engine.extra_files_bytes;
        ret_estimate->weights_bytes = add_bytes(ret_estimate->weights_bytes, extra);
        ret_estimate->total_bytes = add_bytes(ret_estimate->total_bytes, extra);
    }
    return code;
}

/* What a worker needs on one device: as asked for, else estimated from the header, else from the file's size. The estimate
 * is there in any case, to be compared. */
static enum pool_code find_need(struct start_request *start, struct pool_error *err)
{
    struct pool_memory_need *need = &start->need;
    const struct pool_reading *asked = &start->request->required_vram_bytes;
    struct pool_error why = POOL_ERROR_INIT;
    enum pool_code code = start_estimate(start, 0, 0, &need->estimate, &why);
    if (code == POOL_OK) {
        need->bytes = need->estimate.total_bytes;
        need->source = "estimate";
    } else if (code == POOL_MODEL_INCOMPATIBLE) {
        int64_t margin = start->model->size_bytes / 10;
        need->bytes = add_bytes(start->model->size_bytes,
                                margin > SIZE_MARGIN_MIN_BYTES ? margin : SIZE_MARGIN_MIN_BYTES);
        need->source = "file_size";
    } else if (!asked->is_present) {
        if (err)
            *err = why;
        return code;
    }
    if (asked->is_present) {
        need->bytes = asked->value;
        need->source = "request";
    }
    return POOL_OK;
}

enum pool_code start_find_need(const struct start_context *context, struct start_request *start,
                               struct pool_error *err)
{
    if (start->program)
        engine_version_read(start->backend, start->program, context->environment, context->state_dir,
                            &start->version);
    start->engine.estimate =
        (struct pool_estimate_options){ .struct_size = sizeof start->engine.estimate,
                                        .ctx_size = start->ctx_size,
                                        .parallel = start->parallel,
                                        .is_on_gpu = start->backend->device != POOL_DEVICE_CPU,
                                        .engine_build = start->version.build };
    engine_options_read(start->backend, start->request, &start->engine);
    enum pool_code code = find_need(start, err);
    if (code == POOL_OK)
        engine_fit_apply(context, start);
    return code;
}

const struct pool_memory_need *start_need_at(const struct start_request *start, size_t index)
{
    return index < start->n_needs ? &start->needs[index] : &start->need;
}

/*
 * An engine that is told by us which part of its device it may take, takes what is reserved. Were that what was measured
 * with its margin, each start would be told a little more than the one before.
 */
static void find_measured(const struct start_request *start, struct pool_worker_registry *registry,
                          const char *key, struct pool_memory_need *need)
{
    learned_apply(registry, key, need);
    if (engine_takes_fraction(start->backend)) {
        need->bytes = start->need.bytes;
        need->source = start->need.source;
    }
}

/* An engine that was told so takes that part of the device, whatever it would need. */
static void apply_fraction(const struct start_request *start, const struct pool_gpu_info *gpu,
                           struct pool_memory_need *need)
{
    const struct pool_reading *millionths = &start->engine.memory_millionths;
    if (millionths->is_present) {
        need->bytes = (gpu->vram_total_bytes / MILLION + 1) * millionths->value;
        need->source = "gpu_memory_utilization";
    }
}

enum pool_code start_find_measured(struct start_request *start, struct pool_worker_registry *registry,
                                   const struct pool_gpu_list *gpus, struct pool_error *err)
{
    size_t n = (gpus ? gpus->n_gpus : 0) + 1;
    start->needs = calloc(n, sizeof *start->needs);
    if (!start->needs)
        return pool_error_no_memory(err);
    start->n_needs = n;
    for (size_t i = 0; i < n; i++) {
        start->needs[i] = start->need;
        if (i == n - 1) /* of the host's memory a mapped model is no part that could be measured */
            continue;
        CLEANUP_FREE char *key = learned_key(start, gpus->gpus[i]->name);
        if (!key)
            return pool_error_no_memory(err);
        find_measured(start, registry, key, &start->needs[i]);
        apply_fraction(start, gpus->gpus[i], &start->needs[i]);
    }
    if (split_is_asked(start->request)) {
        char name[POOL_GPU_NAME_MAX * 4];
        split_name(start->request, gpus, name, sizeof name);
        CLEANUP_FREE char *key = learned_key(start, name);
        if (!key)
            return pool_error_no_memory(err);
        start->split_need = start->need;
        find_measured(start, registry, key, &start->split_need);
    }
    return POOL_OK;
}

static void free_learned(struct pool_learned_list **list)
{
    pool_learned_list_free(*list);
}

static void close_registry(struct pool_worker_registry **registry)
{
    pool_worker_registry_close(*registry);
}

/* The most that was measured on any device, without saying which. */
static enum pool_code apply_measured(const struct pool_config *config, struct start_request *start,
                                     struct pool_error *err)
{
    CLEANUP(close_registry) struct pool_worker_registry *registry = NULL;
    CLEANUP(free_learned) struct pool_learned_list *list = NULL;
    CLEANUP_FREE char *prefix = learned_key(start, "");
    if (!prefix)
        return pool_error_no_memory(err);
    /* A registry that is not there yet, or can not be read, knows nothing. */
    if (pool_worker_registry_open_read_only(config->registry_url, &registry, NULL) != POOL_OK ||
        pool_worker_registry_list_learned(registry, NULL, &list, NULL) != POOL_OK)
        return POOL_OK;
    for (size_t i = 0; i < list->n_uses; i++) {
        struct pool_memory_need need = start->need;
        if (strncmp(list->uses[i].key, prefix, strlen(prefix)) != 0)
            continue;
        learned_apply(registry, list->uses[i].key, &need);
        if (!start->need.measured_bytes.is_present ||
            need.measured_bytes.value > start->need.measured_bytes.value)
            start->need = need;
    }
    return POOL_OK;
}

static void close_cache(struct header_cache **cache)
{
    header_cache_close(*cache);
}

enum pool_code pool_config_estimate(const struct pool_config *config, const char *const *environment,
                                    const struct pool_model_catalog *catalog,
                                    const struct pool_worker_spawn_request *request,
                                    struct pool_memory_need *ret_need, struct pool_error *err)
{
    CLEANUP(start_request_done) struct start_request start = START_REQUEST_INIT;
    CLEANUP_FREE char *folder = pool_config_proof_dir(config);
    CLEANUP(close_cache) struct header_cache *headers = NULL;
    const struct pool_model_header *header = NULL;
    if (!folder)
        return pool_error_no_memory(err);
    start.request = request;
    enum pool_code code = pool_config_backend(config, request->backend, &start.backend, err);
    if (code == POOL_OK)
        code = pool_config_resolve_model(config, environment, catalog, true, request->model_ref, &start.model,
                                         err);
    if (code == POOL_OK)
        code = header_cache_open(folder, &headers, err);
    if (code == POOL_OK)
        code = header_cache_read(headers, (const char *const *)start.model->file_paths, start.model->n_files,
                                 &header, err);
    if (code != POOL_OK)
        return code;
    start_take_header(&start, header);
    if (program_find(start.backend->command[0], environment, &start.program, NULL) != POOL_OK)
        start.program = NULL; /* an engine that is not there is estimated as any */
    struct start_context context = {
        .config = config, .environment = environment, .headers = headers, .state_dir = config->state_dir
    };
    code = start_find_need(&context, &start, err);
    if (code == POOL_OK && start.backend->device != POOL_DEVICE_CPU)
        code = apply_measured(config, &start, err);
    if (code == POOL_OK)
        *ret_need = start.need;
    return code;
}
