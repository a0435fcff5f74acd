/*
 * Sharing a worker out to several devices; see split.h. Layers go to devices as llama.cpp does it (src/llama-model.cpp,
 * load_tensors): layer i of n, the output being the last, lies on the first device whose part of the sum of all weights,
 * with those before it, is more than i / n.
 */
#include "core/lifecycle/split.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

#define WEIGHT_MAX INT64_C(1000000000)

bool split_is_asked(const struct pool_worker_spawn_request *request)
{
    return request->n_gpu_ids > 1;
}

static bool is_from(const struct pool_memory_need *need, const char *source)
{
    return need->source && strcmp(need->source, source) == 0;
}

static enum pool_code refuse(const char *field, const char *why, struct pool_error *err)
{
    pool_error_set(err, POOL_INVALID_REQUEST, "%s: %s", field, why);
    pool_error_set_field(err, "%s", field);
    return POOL_INVALID_REQUEST;
}

static size_t index_of(const struct pool_gpu_list *gpus, const struct pool_gpu_info *gpu)
{
    size_t i = 0;
    while (i < gpus->n_gpus && gpus->gpus[i] != gpu)
        i++;
    return i;
}

static enum pool_code find_parts(const struct placement_input *input, struct split *split,
                                 struct pool_error *err)
{
    const struct pool_worker_spawn_request *request = input->start->request;
    if (request->n_gpu_ids > SPLIT_DEVICES_MAX)
        return refuse("gpu_ids", "more devices than a worker can have", err);
    for (size_t i = 0; i < request->n_gpu_ids; i++) {
        const struct pool_gpu_info *gpu = pool_gpu_list_find(input->gpus, request->gpu_ids[i]);
        if (!gpu) {
            pool_error_set(err, POOL_GPU_NOT_FOUND, "no GPU %s: this host has %zu", request->gpu_ids[i],
                           input->gpus->n_gpus);
            pool_error_set_field(err, "gpu_ids[%zu]", i);
            return POOL_GPU_NOT_FOUND;
        }
        enum pool_code code = placement_check_gpu(gpu, err);
        if (code != POOL_OK)
            return code;
        if (gpu->is_mig_instance) /* CUDA: a process sees the first instance only */
            return refuse("gpu_ids", "a MIG instance can not be one of several devices", err);
        for (size_t k = 0; k < i; k++) {
            if (split->parts[k].gpu == gpu)
                return refuse("gpu_ids", "a device is there twice", err);
        }
        split->parts[i].gpu = gpu;
        split->parts[i].ledger = &input->ledgers[index_of(input->gpus, gpu)];
    }
    split->n = request->n_gpu_ids;
    return POOL_OK;
}

/* As asked for, "3,1"; else as much of each as it has room, or the same of each where the engine has no choice. */
static enum pool_code weigh(const struct start_request *start, struct split *split, struct pool_error *err)
{
    const char *text = start->request->split;
    bool is_even = engine_is_vllm(start->backend);
    if (text && is_even)
        return refuse("split", "vLLM divides a model evenly", err);
    for (size_t i = 0; i < split->n; i++) {
        struct split_part *part = &split->parts[i];
        if (is_even) {
            part->weight = 1;
            continue;
        }
        if (!text) {
            int64_t mib = part->ledger->available_bytes >> 20;
            part->weight = mib < 1 ? 1 : mib > WEIGHT_MAX ? WEIGHT_MAX : mib;
            continue;
        }
        size_t n = strspn(text, "0123456789");
        bool is_last = i == split->n - 1;
        if (!parse_int64_n(text, n, 1, WEIGHT_MAX, &part->weight) || text[n] != (is_last ? '\0' : ','))
            return refuse("split", "one number from 1 for each of gpu_ids, as \"3,1\"", err);
        text += n + 1;
    }
    return POOL_OK;
}

/* The first layer that is not on the first n devices. */
static int64_t end_of(const struct split *split, size_t n, int64_t n_layers)
{
    int64_t sum = 0, all = 0;
    for (size_t i = 0; i < split->n; i++) {
        sum += i < n ? split->parts[i].weight : 0;
        all += split->parts[i].weight;
    }
    /* the least i with i / n_layers >= sum / all */
    return n == split->n ? n_layers : (sum * n_layers + all - 1) / all;
}

/* By the layers that each has, where the header says what they take. */
static enum pool_code estimate_parts(const struct start_request *start, struct split *split,
                                     struct pool_error *err)
{
    int64_t n_layers = (int64_t)start->header->n_layers + 1, sum = 0;
    struct pool_estimate whole = { 0 };
    for (size_t i = 0; i < split->n; i++) {
        int64_t first = end_of(split, i, n_layers), end = end_of(split, i + 1, n_layers);
        struct pool_estimate part = { 0 };
        if (first < end) {
            enum pool_code code = start_estimate(start, first, end, &part, err);
            if (code != POOL_OK)
                return code;
        } else { /* a device that gets no layer has a context all the same */
            part.overhead_bytes = split->need.estimate.overhead_bytes;
            part.total_bytes = part.overhead_bytes;
        }
        split->parts[i].bytes = part.total_bytes;
        sum = add_bytes(sum, part.total_bytes);
        whole.ctx_size = part.ctx_size ? part.ctx_size : whole.ctx_size;
        whole.weights_bytes = add_bytes(whole.weights_bytes, part.weights_bytes);
        whole.kv_cache_bytes = add_bytes(whole.kv_cache_bytes, part.kv_cache_bytes);
        whole.recurrent_bytes = add_bytes(whole.recurrent_bytes, part.recurrent_bytes);
        whole.compute_bytes = add_bytes(whole.compute_bytes, part.compute_bytes);
        whole.overhead_bytes = add_bytes(whole.overhead_bytes, part.overhead_bytes);
        whole.margin_bytes = add_bytes(whole.margin_bytes, part.margin_bytes);
        whole.total_bytes = sum;
    }
    split->need.estimate = whole;
    if (is_from(&split->need, "estimate"))
        split->need.bytes = sum;
    return POOL_OK;
}

/* Shares `need.bytes` in the proportion of what is in the parts. */
static void scale_parts(struct split *split)
{
    double sum = 0;
    for (size_t i = 0; i < split->n; i++)
        sum += (double)split->parts[i].bytes;
    int64_t all = 0;
    for (size_t i = 0; i < split->n; i++) {
        double part = (double)split->need.bytes * (double)split->parts[i].bytes / sum;
        split->parts[i].bytes = (int64_t)part + 1;
        all = add_bytes(all, split->parts[i].bytes);
    }
    split->need.bytes = all;
}

enum pool_code split_share_out(const struct placement_input *input, struct split *ret_split,
                               struct pool_error *err)
{
    const struct start_request *start = input->start;
    struct split split = { .need = start->split_need.source ? start->split_need : start->need };
    /* The tool of the engine was asked about one device. */
    if (is_from(&split.need, "engine"))
        split.need.source = "estimate";
    bool is_estimated = split.need.estimate.total_bytes > 0;
    if (start->engine.memory_millionths.is_present)
        return refuse("gpu_ids",
                      "over several devices an engine has to be told how much it may take of each by "
                      "{gpu_memory_fraction}, not by --gpu-memory-utilization",
                      err);
    enum pool_code code = find_parts(input, &split, err);
    if (code == POOL_OK)
        code = weigh(start, &split, err);
    if (code == POOL_OK && is_estimated)
        code = estimate_parts(start, &split, err);
    if (code != POOL_OK)
        return code;
    /* A size that was asked for is shared out as asked for; one that was measured as it is estimated to lie. */
    bool is_asked = is_from(&split.need, "request");
    for (size_t i = 0; (is_asked || !is_estimated) && i < split.n; i++)
        split.parts[i].bytes = split.parts[i].weight;
    if (!is_estimated || !is_from(&split.need, "estimate"))
        scale_parts(&split);
    *ret_split = split;
    return POOL_OK;
}

enum pool_code split_plan(const struct placement_input *input, struct split *ret_split,
                          struct pool_error *err)
{
    struct split split;
    enum pool_code code = split_share_out(input, &split, err);
    for (size_t i = 0; code == POOL_OK && i < split.n; i++) {
        code = pool_ledger_admit(split.parts[i].ledger, split.parts[i].bytes, err);
        if (code == POOL_OK)
            continue;
        pool_error_add_number(err, "gpu_id", split.parts[i].gpu->gpu_id);
        pool_error_add_text(err, "required_source", split.need.source);
    }
    if (code == POOL_OK)
        *ret_split = split;
    return code;
}

static void add_name(struct strbuf *text, size_t i, const struct pool_gpu_info *gpu)
{
    strbuf_printf(text, "%s%s", i ? " + " : "", gpu ? gpu->name : "?");
}

static void finish_name(struct strbuf *text, const char *weights, char *name, size_t n)
{
    snprintf(name, n, "%s%s%s", strbuf_text(text), weights ? " " : "", weights ? weights : "");
    strbuf_done(text);
}

void split_name(const struct pool_worker_spawn_request *request, const struct pool_gpu_list *gpus, char *name,
                size_t n)
{
    struct strbuf text = STRBUF_INIT(n);
    for (size_t i = 0; i < request->n_gpu_ids; i++)
        add_name(&text, i, gpus ? pool_gpu_list_find(gpus, request->gpu_ids[i]) : NULL);
    finish_name(&text, request->split, name, n);
}

void split_name_of(const struct split *split, const char *weights, char *name, size_t n)
{
    struct strbuf text = STRBUF_INIT(n);
    for (size_t i = 0; i < split->n; i++)
        add_name(&text, i, split->parts[i].gpu);
    finish_name(&text, weights, name, n);
}

#define TEXT_MAX 65536

char *split_uuids(const struct split *split)
{
    struct strbuf text = STRBUF_INIT(TEXT_MAX);
    for (size_t i = 0; i < split->n; i++)
        strbuf_printf(&text, "%s%s", i ? "," : "", split->parts[i].gpu->uuid);
    return strbuf_take(&text);
}

char *split_weights(const struct split *split)
{
    struct strbuf text = STRBUF_INIT(TEXT_MAX);
    for (size_t i = 0; i < split->n; i++)
        strbuf_printf(&text, "%s%" PRId64, i ? "," : "", split->parts[i].weight);
    return strbuf_take(&text);
}

char *split_shares(const struct split *split)
{
    struct strbuf text = STRBUF_INIT(TEXT_MAX);
    for (size_t i = 0; i < split->n; i++)
        strbuf_printf(&text, "%s%s=%" PRId64, i ? "," : "", split->parts[i].gpu->uuid, split->parts[i].bytes);
    return strbuf_take(&text);
}
