/*
 * How much memory a llama.cpp worker takes on its device, from the header of its model alone: all layers on one
 * device, keys and values in f16, flash attention on, micro-batches of 512, which are the engine's defaults. The
 * engine is not asked and nothing is read. Every sum saturates, and none shrinks when context or slots grow.
 */
#include <pool/catalog.h>

#include <string.h>

#include "base/number.h"

#define MIB (INT64_C(1) << 20)

#define CTX_DEFAULT      8192
#define UBATCH           512 /* llama.cpp include/llama.h, llama_context_default_params */
#define CELLS_STEP       256 /* llama.cpp src/llama-context.cpp pads the context of each sequence to this */
#define F16_BYTES        2
#define F32_BYTES        4
#define GRAPH_BASE_BYTES (64 * MIB) /* small buffers of the graph, and what the terms below leave out */

/* A CUDA context with cuBLAS' workspaces: 457 MiB is what Ollama reserves for each device. */
#define GPU_OVERHEAD_BYTES (512 * MIB)
/* The program itself without model: code, threads, HTTP server, tables of the tokenizer. */
#define CPU_OVERHEAD_BYTES (128 * MIB)
#define MARGIN_MIN_BYTES   (512 * MIB)

/* A recurrent layer whose header does not say how large its state is: heads of up to 128 and a few shifted tokens of
 * the embedding's size, as in RWKV and delta nets. */
#define STATE_ROWS_UNKNOWN (128 + 8)

static int64_t multiply(int64_t a, int64_t b)
{
    int64_t product;
    return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t value_or(struct pool_reading reading, int64_t otherwise)
{
    return reading.is_present ? reading.value : otherwise;
}

static int64_t round_up_cells(int64_t n)
{
    return add_bytes(n, CELLS_STEP - 1) / CELLS_STEP * CELLS_STEP;
}

/* llama.cpp src/llama-model.cpp: token_embd and the tables that are only looked up in stay in host memory, all other
 * tensors go to the device with the layers. A model without output.weight uses token_embd for the output, too, and has
 * a copy of it on the device. On the CPU there is one memory and no copy. */
static int64_t weights_of(const struct pool_model_header *header, bool is_on_gpu)
{
    if (!is_on_gpu)
        return header->tensor_bytes;
    int64_t bytes = excess_bytes(header->tensor_bytes, header->lookup_bytes);
    return header->output_bytes > 0 ? excess_bytes(bytes, header->token_embedding_bytes) : bytes;
}

/* What the cache of one attention layer holds for one token, in bytes. */
static int64_t cell_bytes(const struct pool_model_header *header, const struct pool_model_layer *layer)
{
    int64_t head_count = value_or(header->head_count, 0);
    int64_t head_size = head_count > 0 ? value_or(header->embedding_length, 0) / head_count : 0;
    int64_t key_length = value_or(header->key_length, head_size);
    int64_t value_length = value_or(header->value_length, head_size);
    if (layer->is_sliding_window) {
        key_length = value_or(header->key_length_swa, key_length);
        value_length = value_or(header->value_length_swa, value_length);
    }
    /* MLA (llama.cpp src/models/deepseek2.cpp): the cache holds one latent row a token, the compressed keys and values
     * and the rotated part of the key; values are not stored apart. Files converted before MLA have no key_length_mla,
     * and the engine keeps full heads for them. */
    if (header->key_length_mla.is_present && header->kv_lora_rank.is_present) {
        int64_t latent = add_bytes(header->kv_lora_rank.value, value_or(header->rope_dimension_count, 0));
        return multiply(larger(latent, 0), F16_BYTES);
    }
    return multiply(multiply(layer->head_count_kv, add_bytes(key_length, value_length)), F16_BYTES);
}

/* llama.cpp src/llama-hparams.cpp, n_embd_r and n_embd_s: the convolution's last inputs and the state, F32, for each
 * sequence, whatever the context. */
static int64_t state_bytes(const struct pool_model_header *header)
{
    int64_t embedding = value_or(header->embedding_length, 0);
    int64_t elements;
    if (header->wkv_head_size.is_present) {
        elements = multiply(embedding, add_bytes(header->wkv_head_size.value, 2));
    } else if (header->shortconv_l_cache.is_present) {
        elements = multiply(embedding, header->shortconv_l_cache.value);
    } else if (header->ssm_inner_size.is_present && header->ssm_state_size.is_present) {
        int64_t inner = header->ssm_inner_size.value, state = header->ssm_state_size.value;
        int64_t groups = multiply(multiply(2, value_or(header->ssm_group_count, 0)), state);
        int64_t shifted =
            multiply(excess_bytes(value_or(header->ssm_conv_kernel, 4), 1), add_bytes(inner, groups));
        elements = add_bytes(shifted, multiply(state, inner));
    } else {
        elements = multiply(embedding, STATE_ROWS_UNKNOWN);
    }
    return multiply(elements, F32_BYTES);
}

/* llama.cpp src/llama-kv-cache.cpp and llama-kv-cache-iswa.cpp. The context is shared out to the slots and padded for
 * each, so with several it takes up to a step more for each slot; with a shared cache (kv_unified) less. A layer with a
 * sliding window keeps the window and a micro-batch for each slot, when that is less. */
static int64_t kv_cache_of(const struct pool_model_header *header, int64_t ctx_size, int64_t parallel)
{
    int64_t cells = add_bytes(round_up_cells(ctx_size), multiply(CELLS_STEP, parallel - 1));
    int64_t window = round_up_cells(add_bytes(value_or(header->sliding_window, 0), UBATCH));
    int64_t window_cells = smaller(cells, multiply(window, parallel));
    int64_t n_cached = excess_bytes((int64_t)header->n_layers, value_or(header->shared_kv_layers, 0));
    int64_t bytes = 0;
    for (size_t i = 0; i < header->n_layers; i++) {
        const struct pool_model_layer *layer = &header->layers[i];
        if (layer->is_recurrent)
            bytes = add_bytes(bytes, multiply(state_bytes(header), parallel));
        if ((layer->is_recurrent && !layer->has_attention) || (int64_t)i >= n_cached)
            continue;
        bytes = add_bytes(
            bytes, multiply(cell_bytes(header, layer), layer->is_sliding_window ? window_cells : cells));
    }
    return bytes;
}

/* The largest step of the graph, in F32 for a micro-batch: the logits (u * vocabulary), or a feed-forward (its gate and
 * up, and the embedding; of the experts in use), or attention's queries and results; then the mask, u * context, once in
 * F32 and once in F16 for flash attention (llama.cpp src/llama-graph.cpp). ggml's allocator reuses the memory of one
 * step for the next, so it is the largest and not the sum. */
static int64_t compute_of(const struct pool_model_header *header, int64_t ctx_size, int64_t parallel,
                          bool is_on_gpu)
{
    int64_t embedding = value_or(header->embedding_length, 0);
    int64_t vocabulary = value_or(header->vocabulary_size, 0);
    int64_t feed_forward = value_or(header->feed_forward_length, 0);
    int64_t experts = multiply(value_or(header->expert_used_count, 0),
                               value_or(header->expert_feed_forward_length, feed_forward));
    int64_t head_size = larger(value_or(header->key_length, 0), value_or(header->value_length, 0));
    int64_t heads = multiply(value_or(header->head_count, 0), head_size);
    int64_t step = add_bytes(multiply(2, larger(feed_forward, experts)), embedding);
    step = larger(step, add_bytes(multiply(3, larger(heads, embedding)), embedding));
    step = larger(step, add_bytes(vocabulary, embedding));
    int64_t cells = add_bytes(round_up_cells(ctx_size), multiply(CELLS_STEP, parallel - 1));
    int64_t bytes = add_bytes(multiply(multiply(step, UBATCH), F32_BYTES),
                              multiply(multiply(cells, UBATCH), F32_BYTES + F16_BYTES));
    /* The logits of each sequence's last token are kept in host memory (llama-context.cpp, output_reserve). */
    if (!is_on_gpu)
        bytes = add_bytes(bytes, multiply(multiply(vocabulary, F32_BYTES), parallel));
    return add_bytes(bytes, GRAPH_BASE_BYTES);
}

/* Whether some layer attends, so that the size of its heads must be known. */
static bool has_attention(const struct pool_model_header *header)
{
    for (size_t i = 0; i < header->n_layers; i++) {
        const struct pool_model_layer *layer = &header->layers[i];
        if (!layer->is_recurrent || layer->has_attention)
            return true;
    }
    return false;
}

static enum pool_code refuse(const char *why, struct pool_error *err)
{
    return pool_error_set(err, POOL_MODEL_INCOMPATIBLE, "the memory of the model can not be estimated: %s",
                          why);
}

static enum pool_code check_header(const struct pool_model_header *header, struct pool_error *err)
{
    if (header->format != POOL_MODEL_FORMAT_GGUF)
        return refuse("its file is no GGUF", err);
    if (header->type && header->type[0] != '\0' && strcmp(header->type, "model") != 0)
        return refuse("its file is no model, but a part of one (general.type)", err);
    if (!header->is_size_known)
        return refuse("a tensor has a type of unknown size", err);
    if (header->split_tensor_count.is_present && header->shard_count > 1 &&
        header->n_tensors < header->split_tensor_count.value)
        return refuse("it is in several files, and not all of them were read", err);
    if (!header->architecture)
        return refuse("its header does not say general.architecture", err);
    if (!header->block_count.is_present || header->n_layers != (size_t)header->block_count.value)
        return refuse("its header does not say block_count, or one we do not believe", err);
    if (!header->embedding_length.is_present || header->embedding_length.value == 0)
        return refuse("its header does not say embedding_length", err);
    if (has_attention(header) && (!header->head_count.is_present || header->head_count.value == 0))
        return refuse("its header does not say attention.head_count", err);
    return POOL_OK;
}

static enum pool_code refuse_option(const char *field, struct pool_error *err)
{
    pool_error_set(err, POOL_INVALID_REQUEST, "%s must not be negative", field);
    pool_error_set_field(err, "%s", field);
    return POOL_INVALID_REQUEST;
}

enum pool_code pool_model_estimate(const struct pool_model_header *header,
                                   const struct pool_estimate_options *options,
                                   struct pool_estimate *ret_estimate, struct pool_error *err)
{
    if (options->ctx_size < 0)
        return refuse_option("ctx_size", err);
    if (options->parallel < 0)
        return refuse_option("parallel", err);
    enum pool_code code = check_header(header, err);
    if (code != POOL_OK)
        return code;
    int64_t parallel = larger(options->parallel, 1);
    int64_t trained = value_or(header->context_length, CTX_DEFAULT);
    int64_t ctx_size = options->ctx_size > 0 ? options->ctx_size : smaller(larger(trained, 1), CTX_DEFAULT);

    struct pool_estimate estimate = {
        .ctx_size = ctx_size,
        .weights_bytes = weights_of(header, options->is_on_gpu),
        .kv_cache_bytes = kv_cache_of(header, ctx_size, parallel),
        .compute_bytes = compute_of(header, ctx_size, parallel, options->is_on_gpu),
        .overhead_bytes = options->is_on_gpu ? GPU_OVERHEAD_BYTES : CPU_OVERHEAD_BYTES,
    };
    int64_t sum = add_bytes(add_bytes(estimate.weights_bytes, estimate.kv_cache_bytes),
                            add_bytes(estimate.compute_bytes, estimate.overhead_bytes));
    estimate.margin_bytes = larger(sum / 10, MARGIN_MIN_BYTES);
    estimate.total_bytes = add_bytes(sum, estimate.margin_bytes);
    *ret_estimate = estimate;
    return POOL_OK;
}
