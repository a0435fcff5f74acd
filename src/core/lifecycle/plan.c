/*
 * Placement and plan: pure functions from facts to what will be executed. The ledger says what fits
 * (ledger.c), the templates say how it is written (command.c).
 */
#include "core/lifecycle/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "core/lifecycle/learned.h"
#include "core/lifecycle/port.h"
#include "core/lifecycle/split.h"

void pool_plan_free(struct pool_plan *plan)
{
    if (!plan)
        return;
    free(plan->worker_id);
    free(plan->program);
    string_array_free(plan->argv);
    string_array_free(plan->environment);
    free(plan->gpu_uuid);
    free(plan->engine_version);
    pool_worker_info_free(plan->worker);
    pool_start_room_done(&plan->room);
    free(plan);
}

static void free_plan(struct pool_plan **plan)
{
    pool_plan_free(*plan);
}

/* ---- placement ---- */

enum pool_code placement_check_gpu(const struct pool_gpu_info *gpu, struct pool_error *err)
{
    enum pool_code code = POOL_OK;
    if (!gpu->is_placeable)
        code = pool_error_set(err, POOL_GPU_UNAVAILABLE,
                              "GPU %u (%s) is in MIG mode: name one of its instances by UUID", gpu->gpu_id,
                              gpu->uuid);
    else if (gpu->is_cordoned)
        code = pool_error_set(err, POOL_GPU_UNAVAILABLE, "GPU %u (%s) is cordoned: %s", gpu->gpu_id,
                              gpu->uuid, gpu->cordon_reason);
    else if (gpu->health != POOL_GPU_HEALTHY)
        code = pool_error_set(err, POOL_GPU_UNAVAILABLE, "GPU %u (%s) is unhealthy: %s", gpu->gpu_id,
                              gpu->uuid, gpu->health_reason);
    else if (!gpu->is_vram_known)
        code = pool_error_set(err, POOL_GPU_UNAVAILABLE, "GPU %u (%s) does not tell how much memory is free",
                              gpu->gpu_id, gpu->uuid);
    if (code != POOL_OK) {
        pool_error_set_field(err, "gpu_id");
        pool_error_add_number(err, "gpu_id", gpu->gpu_id);
        pool_error_add_text(err, "gpu_uuid", gpu->uuid);
        if (gpu->is_cordoned)
            pool_error_add_text(err, "cordon_reason", gpu->cordon_reason);
    }
    return code;
}

static size_t index_of(const struct pool_gpu_list *gpus, const struct pool_gpu_info *gpu)
{
    size_t i = 0;
    while (i < gpus->n_gpus && gpus->gpus[i] != gpu)
        i++;
    return i;
}

/*
 * "auto": of the devices on which it fits, the one that has least left afterwards. When it fits nowhere, the roomiest
 * explains why; when none can be used at all, the first does.
 */
static const struct pool_gpu_info *choose_tightest(const struct placement_input *input)
{
    const struct pool_gpu_info *best = NULL, *roomiest = NULL;
    int64_t best_left = 0, most_left = 0;
    for (size_t i = 0; i < input->gpus->n_gpus; i++) {
        const struct pool_gpu_info *gpu = input->gpus->gpus[i];
        int64_t left = input->ledgers[i].available_bytes - start_need_at(input->start, i)->bytes;
        if (placement_check_gpu(gpu, NULL) != POOL_OK)
            continue;
        if (left >= 0 && (!best || left < best_left)) {
            best = gpu;
            best_left = left;
        }
        if (!roomiest || left > most_left) {
            roomiest = gpu;
            most_left = left;
        }
    }
    if (!best && !roomiest && input->gpus->n_gpus > 0)
        return input->gpus->gpus[0];
    return best ? best : roomiest;
}

void placement_explain(const struct placement_input *input, const struct pool_gpu_info *gpu, char *text,
                       size_t n)
{
    const char *asked = input->start->request->gpu_id;
    char left[HUMAN_BYTES_MAX];
    size_t n_fitting = 0;
    text[0] = '\0';
    if (!gpu || !asked || strcmp(asked, "auto") != 0)
        return;
    for (size_t i = 0; i < input->gpus->n_gpus; i++)
        n_fitting += placement_check_gpu(input->gpus->gpus[i], NULL) == POOL_OK &&
                     input->ledgers[i].available_bytes >= start_need_at(input->start, i)->bytes;
    size_t index = index_of(input->gpus, gpu);
    format_bytes(
        excess_bytes(input->ledgers[index].available_bytes, start_need_at(input->start, index)->bytes), left);
    snprintf(text, n, "of %zu GPU%s with room for it, GPU %u (%s) has least left: %s", n_fitting,
             n_fitting == 1 ? "" : "s", gpu->gpu_id, gpu->uuid, left);
}

static enum pool_code refuse_without_gpu(const struct placement_input *input, struct pool_error *err)
{
    size_t n = input->gpus->n_gpus;
    if (n == 0) {
        pool_error_set(err, POOL_GPU_UNAVAILABLE, "backend %s needs a GPU and this host has none: %s",
                       input->start->backend->name,
                       input->gpus->reason[0] ? input->gpus->reason : "the inventory is empty");
        if (err)
            err->is_retriable = false;
    } else {
        pool_error_set(err, POOL_INVALID_REQUEST, "this host has %zu GPUs: name one with gpu_id, or \"auto\"",
                       n);
    }
    pool_error_set_field(err, "gpu_id");
    return n == 0 ? POOL_GPU_UNAVAILABLE : POOL_INVALID_REQUEST;
}

enum pool_code placement_choose(const struct placement_input *input, const struct pool_gpu_info **ret_gpu,
                                const struct pool_ledger **ret_ledger, struct pool_error *err)
{
    const struct pool_gpu_list *gpus = input->gpus;
    const char *asked = input->start->request->gpu_id;
    const struct pool_gpu_info *gpu = NULL;
    if (input->start->backend->device != POOL_DEVICE_GPU) {
        *ret_gpu = NULL;
        *ret_ledger = &input->ledgers[input->n_ledgers - 1];
        return POOL_OK;
    }
    if (asked && strcmp(asked, "auto") != 0) {
        gpu = pool_gpu_list_find(gpus, asked);
        if (!gpu) {
            enum pool_code code =
                gpus->n_gpus > 0 || !gpus->reason[0] ? POOL_GPU_NOT_FOUND : POOL_GPU_UNAVAILABLE;
            pool_error_set(err, code, "no GPU %s: this host has %zu%s%s", asked, gpus->n_gpus,
                           gpus->reason[0] ? "; " : "", gpus->reason);
            pool_error_set_field(err, "gpu_id");
            return code;
        }
    } else if (asked) {
        gpu = choose_tightest(input);
    } else if (gpus->n_gpus == 1) {
        gpu = gpus->gpus[0];
    }
    if (!gpu)
        return refuse_without_gpu(input, err);
    enum pool_code code = placement_check_gpu(gpu, err);
    if (code != POOL_OK)
        return code;
    *ret_gpu = gpu;
    *ret_ledger = &input->ledgers[index_of(gpus, gpu)];
    return POOL_OK;
}

enum pool_code plan_check_unique(const struct pool_worker_list *live,
                                 const struct pool_worker_spawn_request *request, struct pool_error *err)
{
    for (size_t i = 0; i < live->n_workers; i++) {
        const struct pool_worker_info *worker = live->workers[i];
        if (request->worker_id && strcmp(worker->worker_id, request->worker_id) == 0) {
            pool_error_set(err, POOL_ALREADY_EXISTS, "worker %s exists already (%s)", worker->worker_id,
                           pool_worker_status_name(worker->status));
            pool_error_set_field(err, "worker_id");
            return POOL_ALREADY_EXISTS;
        }
        if (request->port != 0 && worker->port == request->port) {
            pool_error_set(err, POOL_ALREADY_EXISTS, "port %" PRId64 " is held by our worker %s",
                           request->port, worker->worker_id);
            pool_error_set_field(err, "port");
            return POOL_ALREADY_EXISTS;
        }
    }
    return POOL_OK;
}

/* ---- the record ---- */

static bool copy_text(char **ret, const char *text)
{
    *ret = text ? strdup(text) : NULL;
    return *ret || !text;
}

static char *join(char *const *words, size_t n)
{
    struct strbuf text = STRBUF_INIT(65536);
    for (size_t i = 0; i < n; i++)
        strbuf_printf(&text, "%s%s", i ? "," : "", words[i]);
    return strbuf_take(&text);
}

/* Where clients go: on loopback nowhere else; a wildcard is no address, so it is the advertised name. */
static const char *uri_host(const struct pool_config *config)
{
    struct bind_address address;
    if (!bind_address_parse(config->workers_bind_host, 0, &address))
        return config->workers_bind_host;
    bool is_wildcard = memcmp(&address.bind, &address.reach, sizeof address.bind) != 0;
    if (!is_wildcard && address.is_loopback)
        return config->workers_bind_host;
    if (config->advertise_host)
        return config->advertise_host;
    return is_wildcard ? "127.0.0.1" : config->workers_bind_host;
}

/* Under what its use is learned; nothing of a worker in host memory, where a mapped model is no part of it. */
static bool fill_learned_key(struct pool_worker_info *worker, const struct plan_input *input)
{
    if (input->split) {
        char name[POOL_GPU_NAME_MAX * 4];
        worker->shares = split_shares(input->split);
        split_name_of(input->split, input->start->request->split, name, sizeof name);
        worker->learned_key = input->start->header ? learned_key(input->start, name) : NULL;
        return worker->shares && (worker->learned_key || !input->start->header);
    }
    if (!input->gpu || !input->start->header)
        return true;
    worker->learned_key = learned_key(input->start, input->gpu->name);
    return worker->learned_key != NULL;
}

static bool fill_record_texts(struct pool_worker_info *worker, const struct plan_input *input)
{
    const struct start_request *start = input->start;
    const struct pool_backend *backend = start->backend;
    const char *host = input->config->workers_bind_host;
    const char *advertised = uri_host(input->config);
    if (asprintf(&worker->uri, strchr(advertised, ':') ? "http://[%s]:%" PRId64 : "http://%s:%" PRId64,
                 advertised, input->port) < 0)
        worker->uri = NULL;
    if (asprintf(&worker->log_path, "%s/%s.log", input->log_dir, input->worker_id) < 0)
        worker->log_path = NULL;
    worker->capabilities = join(backend->capabilities, backend->n_capabilities);
    return worker->uri && worker->log_path && worker->capabilities &&
           copy_text(&worker->worker_id, input->worker_id) && copy_text(&worker->backend, backend->name) &&
           copy_text(&worker->model_ref, start->model->ref) &&
           copy_text(&worker->model_path, start->model->path) &&
           copy_text(&worker->gpu_uuid, input->gpu ? input->gpu->uuid : NULL) &&
           copy_text(&worker->host, host) && copy_text(&worker->program, start->program) &&
           copy_text(&worker->ready_path, backend->ready_http) &&
           copy_text(&worker->protocol, backend->protocol) && fill_learned_key(worker, input);
}

static int64_t value_or(struct pool_reading reading, int64_t otherwise)
{
    return reading.is_present ? reading.value : otherwise;
}

static const struct pool_memory_need *need_of(const struct plan_input *input)
{
    return input->need ? input->need : &input->start->need;
}

static enum pool_code make_record(const struct plan_input *input, struct pool_worker_info **ret_worker,
                                  struct pool_error *err)
{
    const struct start_request *start = input->start;
    const struct pool_worker_spawn_request *request = start->request;
    struct pool_worker_info *worker = pool_worker_info_new();
    if (!worker || !fill_record_texts(worker, input)) {
        pool_worker_info_free(worker);
        return pool_error_no_memory(err);
    }
    worker->gpu_id = input->gpu ? (int64_t)input->gpu->gpu_id : -1;
    worker->port = input->port;
    worker->is_port_chosen = request->port == 0;
    const struct pool_memory_need *need = need_of(input);
    worker->reserved_bytes = need->bytes;
    worker->estimated_bytes = excess_bytes(need->estimate.total_bytes, need->estimate.margin_bytes);
    worker->is_reserve_fixed = need->source && strcmp(need->source, "request") == 0;
    worker->free_before_start_bytes = (struct pool_reading){ true, input->ledger->free_bytes };
    worker->created_wall_ms = input->wall_ms;
    worker->created_boottime_ns = input->boottime_ns;
    worker->stop_signal = start->backend->stop_signal;
    worker->activity = start->backend->activity;
    worker->ctx_size = start->ctx_size;
    worker->parallel = start->parallel;
    worker->start_timeout_ms = value_or(request->start_timeout_ms, input->config->start_timeout_ms);
    worker->idle_timeout_ms = value_or(request->idle_timeout_ms, 0);
    worker->stop_grace_ms = value_or(request->stop_grace_ms, input->config->stop_grace_ms);
    for (size_t i = 0; i < request->n_labels; i++) {
        enum pool_code code =
            pool_worker_info_set_label(worker, request->labels[i].name, request->labels[i].value, err);
        if (code != POOL_OK) {
            pool_worker_info_free(worker);
            return code;
        }
    }
    *ret_worker = worker;
    return POOL_OK;
}

/* ---- the plan ---- */

static int64_t fraction_of(int64_t bytes, const struct pool_gpu_info *gpu)
{
    if (!gpu || gpu->vram_total_bytes < FRACTION_ONE)
        return 0;
    int64_t fraction = bytes / (gpu->vram_total_bytes / FRACTION_ONE + 1);
    return fraction < 1 ? 1 : fraction > FRACTION_ONE ? FRACTION_ONE : fraction;
}

/*
 * The part of its device that a worker may take, rounded down; of several devices the least. The margin over an estimate is
 * for what engines do not count: vLLM's graphs lie beside what it was allowed (vllm/v1/worker/gpu_worker.py).
 */
static int64_t fraction_of_device(const struct plan_input *input)
{
    const struct pool_memory_need *need = need_of(input);
    bool is_estimate = need->source && strcmp(need->source, "estimate") == 0;
    int64_t margin = is_estimate ? need->estimate.margin_bytes : 0;
    if (!input->split)
        return fraction_of(excess_bytes(need->bytes, margin), input->gpu);
    int64_t least = FRACTION_ONE;
    for (size_t i = 0; i < input->split->n; i++) {
        const struct split_part *part = &input->split->parts[i];
        int64_t bytes = excess_bytes(part->bytes, margin / (int64_t)input->split->n);
        int64_t fraction = fraction_of(bytes, part->gpu);
        least = fraction < least ? fraction : least;
    }
    return least;
}

static enum pool_code build_command(struct pool_plan *plan, const struct plan_input *input,
                                    struct pool_error *err)
{
    const struct start_request *start = input->start;
    CLEANUP_FREE char *uuids = input->split ? split_uuids(input->split) : NULL;
    CLEANUP_FREE char *weights = input->split ? split_weights(input->split) : NULL;
    if (input->split && (!uuids || !weights))
        return pool_error_no_memory(err);
    struct command_values values = { .model_path = start->model->path,
                                     .host = input->config->workers_bind_host,
                                     .worker_id = input->worker_id,
                                     .gpu_uuid = uuids        ? uuids
                                                 : input->gpu ? input->gpu->uuid
                                                              : "",
                                     .callback_url = input->callback_url ? input->callback_url : "",
                                     .port = input->port,
                                     .gpu_index = input->gpu ? (int64_t)input->gpu->gpu_id : -1,
                                     .ctx_size = start->ctx_size,
                                     .parallel = start->parallel,
                                     .gpu_memory_fraction = fraction_of_device(input) };
    CLEANUP(string_list_done) struct string_list argv = { 0 };
    CLEANUP(string_list_done) struct string_list environment = { 0 };
    enum pool_code code = command_build(start->backend, start->program, start->request, &values, &argv, err);
    if (input->split && engine_is_vllm(start->backend)) { /* vllm/engine/arg_utils.py */
        string_list_add(&argv, "--tensor-parallel-size");
        string_list_printf(&argv, "%zu", input->split->n);
    }
    if (code == POOL_OK)
        code =
            environment_build(input->environment, start->backend, start->request, &values, &environment, err);
    if (code != POOL_OK)
        return code;
    CLEANUP_FREE char *spec = worker_spec_encode(plan->worker);
    if (!spec)
        return pool_error_no_memory(err);
    char start_id[24];
    snprintf(start_id, sizeof start_id, "%" PRId64, plan->worker->created_boottime_ns);
    if (weights &&
        engine_is_llama_server(start->backend)) { /* llama.cpp common/arg.cpp, in the order of the devices */
        environment_set(&environment, "LLAMA_ARG_SPLIT_MODE", "layer");
        environment_set(&environment, "LLAMA_ARG_TENSOR_SPLIT", weights);
    }
    environment_set(&environment, "POOL_STATE_ID", input->state_id);
    environment_set(&environment, "POOL_WORKER_START", start_id);
    environment_set(&environment, "POOL_WORKER_SPEC", spec);
    plan->argv = string_list_take(&argv);
    plan->environment = string_list_take(&environment);
    return plan->argv && plan->environment ? POOL_OK : pool_error_no_memory(err);
}

enum pool_code plan_make(const struct plan_input *input, struct pool_plan **ret_plan, struct pool_error *err)
{
    const struct start_request *start = input->start;
    const struct pool_memory_need *need = need_of(input);
    enum pool_code code = input->split ? POOL_OK : pool_ledger_admit(input->ledger, need->bytes, err);
    if (code != POOL_OK) {
        if (input->gpu)
            pool_error_add_number(err, "gpu_id", input->gpu->gpu_id);
        pool_error_add_text(err, "required_source", need->source);
        return code;
    }
    CLEANUP(free_plan) struct pool_plan *plan = calloc(1, sizeof *plan);
    if (!plan || !copy_text(&plan->worker_id, input->worker_id) ||
        !copy_text(&plan->program, start->program) ||
        !copy_text(&plan->gpu_uuid, input->gpu ? input->gpu->uuid : NULL) ||
        !copy_text(&plan->engine_version, start->version.text[0] ? start->version.text : NULL))
        return pool_error_no_memory(err);
    plan->gpu_id = input->gpu ? (int64_t)input->gpu->gpu_id : -1;
    plan->port = input->port;
    plan->reserved_bytes = need->bytes;
    plan->reserved_source = need->source;
    plan->estimate = need->estimate;
    plan->need = *need;
    snprintf(plan->placement, sizeof plan->placement, "%s", input->placement ? input->placement : "");
    plan->ledger = *input->ledger;
    code = make_record(input, &plan->worker, err);
    if (code == POOL_OK)
        code = build_command(plan, input, err);
    if (code != POOL_OK)
        return code;
    *ret_plan = take_ptr(&plan);
    return POOL_OK;
}
