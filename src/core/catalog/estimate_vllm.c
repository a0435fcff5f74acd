/*
 * vLLM is told how much of the device it may take and fills that with its cache of keys and values. What it cannot do without
 * is estimated here: the weights, a cache for as many tokens as the context has, what a profiling run with the largest batch
 * needs, and the device's context with its graphs. It is more than it needs, not less: vLLM refuses to start with too little.
 * Every sum saturates.
 */
#include "core/catalog/estimate_vllm.h"

#include <string.h>

#include "base/number.h"

#define MIB (INT64_C(1) << 20)

#define CTX_DEFAULT  8192
#define BLOCK_TOKENS 16 /* vllm/config/cache.py: a block of the cache on CUDA holds at least so many */
/* Weights in float32 are cast to float16, and the cache has the type of the model (vllm/config/model.py, dtype "auto"). */
#define CACHE_BYTES     2
#define CACHE_BYTES_FP8 1
/* GPUStack's rule for vLLM: 20 % of the weights and 2 GiB beside them (gpustack, its estimate for vLLM). */
#define ACTIVATION_PARTS   5
#define GPU_OVERHEAD_BYTES (2048 * MIB)
#define MARGIN_MIN_BYTES   (512 * MIB)

static int64_t multiply(int64_t a, int64_t b)
{
    int64_t product;
    return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

static enum pool_code refuse(const char *why, struct pool_error *err)
{
    return pool_error_set(err, POOL_MODEL_INCOMPATIBLE, "the memory of the model can not be estimated: %s",
                          why);
}

static enum pool_code check_shape(const struct pool_model_header *header, struct pool_error *err)
{
    if (!header->block_count.is_present || header->n_layers != (size_t)header->block_count.value)
        return refuse("there is no config.json with it, or one that does not say num_hidden_layers", err);
    if (!header->key_length.is_present)
        return refuse("its config.json does not say head_dim, or hidden_size and num_attention_heads", err);
    return POOL_OK;
}

/* Of every layer that attends, for the whole context: layers with a window may keep less, in versions that know how. */
static int64_t cache_of(const struct pool_model_header *header, int64_t ctx_size, int64_t element_bytes)
{
    int64_t bytes = 0;
    int64_t tokens = add_bytes(ctx_size, BLOCK_TOKENS - 1) / BLOCK_TOKENS * BLOCK_TOKENS;
    for (size_t i = 0; i < header->n_layers; i++) {
        const struct pool_model_layer *layer = &header->layers[i];
        int64_t elements = header->key_length_mla.is_present
                               ? header->key_length_mla.value
                               : multiply(multiply(2, layer->head_count_kv), header->key_length.value);
        if (layer->has_attention)
            bytes = add_bytes(bytes, multiply(multiply(elements, element_bytes), tokens));
    }
    return bytes;
}

/* Over several devices every layer is divided (tensor parallel), so a device has a part of everything. */
static int64_t part_of(int64_t bytes, int64_t n, int64_t n_all)
{
    return add_bytes(bytes / n_all * n, bytes % n_all * n / n_all);
}

enum pool_code estimate_vllm(const struct pool_model_header *header,
                             const struct pool_estimate_options *options, struct pool_estimate *ret_estimate,
                             struct pool_error *err)
{
    if (!options->is_on_gpu)
        return refuse("what is known of safetensors is what vLLM takes of a GPU", err);
    enum pool_code code = check_shape(header, err);
    if (code != POOL_OK)
        return code;
    int64_t n_parts = (int64_t)header->n_layers + 1;
    int64_t n_here = options->end_layer > 0 ? options->end_layer - options->first_layer : n_parts;
    int64_t trained = header->context_length.is_present ? header->context_length.value : CTX_DEFAULT;
    int64_t ctx_size = options->ctx_size > 0   ? options->ctx_size
                       : trained < CTX_DEFAULT ? trained
                                               : CTX_DEFAULT;
    bool is_fp8 = options->cache_type_k && strncmp(options->cache_type_k, "fp8", 3) == 0;
    struct pool_estimate estimate = {
        .ctx_size = ctx_size,
        .weights_bytes = part_of(header->tensor_bytes, n_here, n_parts),
        .kv_cache_bytes =
            part_of(cache_of(header, ctx_size, is_fp8 ? CACHE_BYTES_FP8 : CACHE_BYTES), n_here, n_parts),
        .compute_bytes = part_of(header->tensor_bytes / ACTIVATION_PARTS, n_here, n_parts),
        .overhead_bytes = GPU_OVERHEAD_BYTES,
    };
    int64_t sum = add_bytes(add_bytes(estimate.weights_bytes, estimate.kv_cache_bytes),
                            add_bytes(estimate.compute_bytes, estimate.overhead_bytes));
    estimate.margin_bytes = sum / 10 > MARGIN_MIN_BYTES ? sum / 10 : MARGIN_MIN_BYTES;
    estimate.total_bytes = add_bytes(sum, estimate.margin_bytes);
    *ret_estimate = estimate;
    return POOL_OK;
}
