/*
 * How much memory a llama.cpp worker takes on a device, from the header of its model alone: the weights of the layers
 * that lie there, keys and values or recurrent states of these layers, the buffers of a micro-batch, and what the device's
 * context takes. The engine is not asked and nothing is read. Every sum saturates. docs/estimates.md compares each part
 * with what a real engine reserves (tests/support/compare-estimates).
 */
#include <pool/catalog.h>

#include <string.h>

#include "base/number.h"
#include "core/catalog/estimate_vllm.h"
#include "core/catalog/gguf_types.h"

#define MIB (INT64_C(1) << 20)

#define CTX_DEFAULT    8192
#define UBATCH_DEFAULT 512 /* llama.cpp include/llama.h, llama_context_default_params */
#define CELLS_STEP     256 /* llama.cpp src/llama-context.cpp and llama-kv-cache.cpp pad to this */
#define F16_BYTES      2
#define F32_BYTES      4
#define GRAPH_BASE     (4 * MIB) /* positions, sequence ids, and what does not pack */

/* The oldest build that was seen to reserve logits for the last token of each sequence only; older ones may reserve them
 * for a whole micro-batch. */
#define BUILD_WITH_FEW_LOGITS 11669
/* llama.cpp ggml/src/ggml-backend.cpp, GGML_SCHED_MAX_COPIES: inputs are there so many times when layers lie on several
 * devices, which then work on different micro-batches. */
#define PIPELINE_COPIES 4

/* A CUDA context with cuBLAS' workspaces: 457 MiB is what Ollama reserves for each device. */
#define GPU_OVERHEAD_BYTES (512 * MIB)
/* The program itself without model: code, threads, HTTP server, tables of the tokenizer. */
#define CPU_OVERHEAD_BYTES (128 * MIB)
#define MARGIN_MIN_BYTES   (512 * MIB)

/* A recurrent layer whose header does not say how large its state is: heads of up to 128 and a few shifted tokens of
 * the embedding's size. */
#define STATE_ROWS_UNKNOWN (128 + 8)
/* llama.cpp src/llama-hparams.h, token_shift_count: RWKV mixes in the last input of both its halves. */
#define TOKEN_SHIFTS 2

/* What is estimated: the header, and the options with their defaults filled in. */
struct shape {
    const struct pool_model_header *header;
    int64_t ctx_size, parallel, ubatch;
    int64_t n_streams;    /* caches of their own: one for each slot, or one for all */
    int64_t stream_cells; /* of each, of layers without a window */
    int64_t window_cells; /* of each, of layers with one */
    const struct gguf_tensor_type *type_k, *type_v;
    size_t first_layer, end_layer; /* on this device */
    bool has_output;
    bool is_on_gpu, is_flash, is_partial, are_logits_few;
};

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
static int64_t weights_of(const struct shape *shape)
{
    const struct pool_model_header *header = shape->header;
    if (!shape->is_on_gpu)
        return header->tensor_bytes;
    int64_t bytes = excess_bytes(header->tensor_bytes, header->lookup_bytes);
    if (header->output_bytes > 0)
        bytes = excess_bytes(bytes, header->token_embedding_bytes);
    if (!shape->is_partial)
        return bytes;
    int64_t here = 0, all = 0;
    for (size_t i = 0; i < header->n_layers; i++) {
        all = add_bytes(all, header->layers[i].weight_bytes);
        if (i >= shape->first_layer && i < shape->end_layer)
            here = add_bytes(here, header->layers[i].weight_bytes);
    }
    /* What is in no layer goes with the output. */
    return shape->has_output ? add_bytes(here, excess_bytes(bytes, all)) : here;
}

static int64_t row_bytes(const struct gguf_tensor_type *type, int64_t n_elements)
{
    int64_t blocks = add_bytes(n_elements, type->block_elements - 1) / type->block_elements;
    return multiply(blocks, type->block_bytes);
}

/* What the cache of one attention layer holds for one token, in bytes. */
static int64_t cell_bytes(const struct shape *shape, const struct pool_model_layer *layer)
{
    const struct pool_model_header *header = shape->header;
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
    if (header->key_length_mla.is_present && header->kv_lora_rank.is_present)
        return row_bytes(shape->type_k,
                         add_bytes(header->kv_lora_rank.value, value_or(header->rope_dimension_count, 0)));
    return add_bytes(row_bytes(shape->type_k, multiply(layer->head_count_kv, key_length)),
                     row_bytes(shape->type_v, multiply(layer->head_count_kv, value_length)));
}

/* llama.cpp src/llama-hparams.cpp, n_embd_r and n_embd_s: the convolution's last inputs and the state, F32, for each
 * sequence, whatever the context. */
static int64_t state_bytes(const struct pool_model_header *header)
{
    int64_t embedding = value_or(header->embedding_length, 0);
    int64_t convolved = excess_bytes(value_or(header->ssm_conv_kernel, 4), 1);
    int64_t elements;
    if (header->wkv_head_size.is_present) {
        elements = multiply(embedding, add_bytes(header->wkv_head_size.value, TOKEN_SHIFTS));
    } else if (header->shortconv_l_cache.is_present) {
        elements = multiply(embedding, excess_bytes(header->shortconv_l_cache.value, 1));
    } else if (header->kda_head_dim.is_present) {
        int64_t row = multiply(value_or(header->head_count, 0), header->kda_head_dim.value);
        elements =
            add_bytes(multiply(multiply(3, convolved), row), multiply(row, header->kda_head_dim.value));
    } else if (header->ssm_inner_size.is_present && header->ssm_state_size.is_present) {
        int64_t inner = header->ssm_inner_size.value, state = header->ssm_state_size.value;
        int64_t groups = multiply(multiply(2, value_or(header->ssm_group_count, 0)), state);
        elements = add_bytes(multiply(convolved, add_bytes(inner, groups)), multiply(state, inner));
    } else {
        elements = multiply(embedding, STATE_ROWS_UNKNOWN);
    }
    return multiply(elements, F32_BYTES);
}

/* llama.cpp src/llama-kv-cache.cpp and llama-kv-cache-iswa.cpp: cells of every stream, for each layer that has keys. The
 * last layers of some models use the cache of earlier ones. */
static int64_t kv_cache_of(const struct shape *shape)
{
    const struct pool_model_header *header = shape->header;
    int64_t n_cached = excess_bytes((int64_t)header->n_layers, value_or(header->shared_kv_layers, 0));
    int64_t bytes = 0;
    for (size_t i = shape->first_layer; i < shape->end_layer; i++) {
        const struct pool_model_layer *layer = &header->layers[i];
        if ((layer->is_recurrent && !layer->has_attention) || (int64_t)i >= n_cached)
            continue;
        int64_t cells = layer->is_sliding_window ? shape->window_cells : shape->stream_cells;
        bytes = add_bytes(bytes, multiply(cell_bytes(shape, layer), multiply(cells, shape->n_streams)));
    }
    return bytes;
}

/* llama.cpp src/llama-memory-recurrent.cpp: a state for each slot in every recurrent layer. */
static int64_t recurrent_of(const struct shape *shape)
{
    int64_t n_layers = 0;
    for (size_t i = shape->first_layer; i < shape->end_layer; i++)
        n_layers += shape->header->layers[i].is_recurrent;
    return multiply(multiply(state_bytes(shape->header), shape->parallel), n_layers);
}

/*
 * The largest step of the graph, in rows of F32 for each token. ggml's allocator reuses the memory of one step for the
 * next, so it is the largest and not the sum. What is alive together in each (llama.cpp src/llama-graph.cpp, build_ffn,
 * build_moe_ffn, build_attn; src/models/mamba-base.cpp), as fitted to the buffers of the real engine:
 *   feed-forward     gate, up and their product, 3 F, with 5 E around it; of mixtures all experts in use
 *   attention        queries, rotated and normed, 3 Q, and keys and values, 2 K, with E
 *   the same in MLA  queries plain and absorbed, joined with the rotated part, and the result, all of the latent size
 *   state spaces     input and gate, 2 I, and the convolution's input and results, 5 C, with 2 E
 */
static int64_t graph_rows(const struct pool_model_header *header)
{
    int64_t embedding = value_or(header->embedding_length, 0);
    int64_t feed_forward = value_or(header->feed_forward_length, 0);
    int64_t experts = multiply(value_or(header->expert_used_count, 0),
                               value_or(header->expert_feed_forward_length, feed_forward));
    int64_t rows = add_bytes(multiply(3, larger(feed_forward, experts)), multiply(5, embedding));

    int64_t heads = value_or(header->head_count, 0), heads_kv = 0;
    int64_t head_size = heads > 0 ? embedding / heads : 0;
    for (size_t i = 0; i < header->n_layers; i++)
        heads_kv = larger(heads_kv, header->layers[i].head_count_kv);
    if (header->key_length_mla.is_present && header->kv_lora_rank.is_present) {
        int64_t rank = header->kv_lora_rank.value;
        int64_t row = add_bytes(header->key_length_mla.value,
                                add_bytes(multiply(3, rank), value_or(header->rope_dimension_count, 0)));
        rows = larger(rows, add_bytes(multiply(heads, row), embedding));
    } else {
        int64_t key =
            larger(value_or(header->key_length, head_size), value_or(header->value_length, head_size));
        int64_t queries = multiply(multiply(3, heads), key), keys = multiply(multiply(2, heads_kv), key);
        rows = larger(rows, add_bytes(add_bytes(queries, keys), embedding));
    }
    int64_t inner = value_or(header->ssm_inner_size, 0);
    int64_t groups =
        multiply(multiply(2, value_or(header->ssm_group_count, 0)), value_or(header->ssm_state_size, 0));
    int64_t convolved = add_bytes(inner, groups);
    int64_t mixed = add_bytes(multiply(2, inner), multiply(5, convolved));
    return larger(rows, add_bytes(mixed, multiply(2, embedding)));
}

/*
 * The buffers of a micro-batch: the largest step, the mask of each cache, u * cells in F16 (F32 without flash attention),
 * and the scores, u * cells * heads in F32, which flash attention does without (llama.cpp src/llama-graph.cpp,
 * build_attn_mha). The device with the output has the logits, too.
 */
static int64_t compute_of(const struct shape *shape)
{
    const struct pool_model_header *header = shape->header;
    int64_t embedding = value_or(header->embedding_length, 0);
    int64_t vocabulary = value_or(header->vocabulary_size, 0);
    int64_t cells = 0, window_cells = 0;
    for (size_t i = 0; i < header->n_layers; i++) {
        const struct pool_model_layer *layer = &header->layers[i];
        if (layer->is_sliding_window)
            window_cells = shape->window_cells;
        else if (!layer->is_recurrent || layer->has_attention)
            cells = shape->stream_cells;
    }
    int64_t masks = multiply(multiply(add_bytes(cells, window_cells), shape->ubatch),
                             shape->is_flash ? F16_BYTES : F32_BYTES);
    int64_t rows = multiply(multiply(graph_rows(header), shape->ubatch), F32_BYTES);
    if (!shape->is_flash)
        rows = add_bytes(rows, multiply(multiply(multiply(larger(cells, window_cells), shape->ubatch),
                                                 value_or(header->head_count, 0)),
                                        F32_BYTES));
    if (shape->has_output && !shape->are_logits_few)
        rows = larger(rows, multiply(multiply(add_bytes(vocabulary, embedding), shape->ubatch), F32_BYTES));
    else if (shape->has_output)
        rows = add_bytes(rows, multiply(multiply(vocabulary, shape->parallel), F32_BYTES));
    if (shape->is_partial) {
        int64_t input = multiply(multiply(embedding, shape->ubatch), F32_BYTES);
        masks = multiply(add_bytes(masks, input), PIPELINE_COPIES);
    }
    int64_t bytes = add_bytes(add_bytes(rows, masks), GRAPH_BASE);
    /* The logits of each sequence's last token are kept in host memory (llama-context.cpp, output_reserve). */
    if (!shape->is_on_gpu)
        bytes = add_bytes(bytes, multiply(multiply(vocabulary, F32_BYTES), shape->parallel));
    return bytes;
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
        return refuse("its file is neither GGUF nor safetensors", err);
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

static enum pool_code refuse_option(const char *field, const char *why, struct pool_error *err)
{
    pool_error_set(err, POOL_INVALID_REQUEST, "%s %s", field, why);
    pool_error_set_field(err, "%s", field);
    return POOL_INVALID_REQUEST;
}

/* The types a cache can have (llama.cpp common/arg.cpp, kv_cache_types); NULL: none of them. */
static const struct gguf_tensor_type *cache_type(const char *name)
{
    static const struct {
        const char *name;
        uint32_t type;
    } types[] = { { "f32", 0 },  { "f16", 1 },  { "bf16", 30 }, { "q8_0", 8 },   { "q4_0", 2 },
                  { "q4_1", 3 }, { "q5_0", 6 }, { "q5_1", 7 },  { "iq4_nl", 20 } };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(name ? name : "f16", types[i].name) == 0)
            return gguf_tensor_type(types[i].type);
    }
    return NULL;
}

/* The context is shared out to the slots and padded for each; with one cache for all it is not. A window is kept for each
 * sequence, and a micro-batch beside it (llama.cpp src/llama-context.cpp, n_ctx_seq; llama-kv-cache-iswa.cpp). */
static void count_cells(struct shape *shape, bool is_unified, bool is_window_full)
{
    int64_t n_slots = shape->parallel, all = round_up_cells(shape->ctx_size);
    shape->n_streams = is_unified ? 1 : n_slots;
    shape->stream_cells = is_unified ? all : round_up_cells(larger(all / n_slots, 1));
    int64_t window = multiply(value_or(shape->header->sliding_window, 0), is_unified ? n_slots : 1);
    int64_t kept = round_up_cells(add_bytes(window, shape->ubatch));
    shape->window_cells = is_window_full ? shape->stream_cells : smaller(shape->stream_cells, kept);
}

/* Options as the caller's version of the struct has them; what it does not know is zero. */
static void take_options(const struct pool_estimate_options *from, struct pool_estimate_options *to)
{
    size_t n = from->struct_size < sizeof *to ? from->struct_size : sizeof *to;
    *to = (struct pool_estimate_options){ 0 };
    memcpy(to, from, n);
}

static enum pool_code make_shape(const struct pool_model_header *header,
                                 const struct pool_estimate_options *options, struct shape *shape,
                                 struct pool_error *err)
{
    const int64_t numbers[] = { options->ctx_size, options->parallel, options->ubatch, options->first_layer,
                                options->end_layer };
    static const char *const names[] = { "ctx_size", "parallel", "ubatch", "first_layer", "end_layer" };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (numbers[i] < 0)
            return refuse_option(names[i], "must not be negative", err);
    }
    int64_t trained = value_or(header->context_length, CTX_DEFAULT), n_layers = (int64_t)header->n_layers;
    int64_t end = options->end_layer > 0 ? smaller(options->end_layer, n_layers + 1) : n_layers + 1;
    int64_t first = smaller(options->first_layer, end);
    *shape = (struct shape){
        .header = header,
        .ctx_size = options->ctx_size > 0 ? options->ctx_size : smaller(larger(trained, 1), CTX_DEFAULT),
        .parallel = larger(options->parallel, 1),
        .ubatch = options->ubatch > 0 ? options->ubatch : UBATCH_DEFAULT,
        .type_k = cache_type(options->cache_type_k),
        .type_v = cache_type(options->cache_type_v),
        .first_layer = (size_t)smaller(first, n_layers),
        .end_layer = (size_t)smaller(end, n_layers),
        .has_output = end > n_layers,
        .is_on_gpu = options->is_on_gpu,
        .is_partial = first > 0 || end <= n_layers,
        .is_flash = !options->is_flash_attention_off,
        .are_logits_few = options->engine_build >= BUILD_WITH_FEW_LOGITS,
    };
    if (!shape->type_k || !shape->type_v)
        return refuse_option(shape->type_k ? "cache_type_v" : "cache_type_k", "is no type of a cache", err);
    count_cells(shape, options->is_kv_unified, options->is_window_full);
    return POOL_OK;
}

enum pool_code pool_model_estimate(const struct pool_model_header *header,
                                   const struct pool_estimate_options *options,
                                   struct pool_estimate *ret_estimate, struct pool_error *err)
{
    struct pool_estimate_options known;
    struct shape shape;
    take_options(options, &known);
    if (header->format == POOL_MODEL_FORMAT_SAFETENSORS)
        return estimate_vllm(header, &known, ret_estimate, err);
    enum pool_code code = check_header(header, err);
    if (code == POOL_OK)
        code = make_shape(header, &known, &shape, err);
    if (code != POOL_OK)
        return code;
    struct pool_estimate estimate = {
        .ctx_size = shape.ctx_size,
        .weights_bytes = weights_of(&shape),
        .kv_cache_bytes = kv_cache_of(&shape),
        .recurrent_bytes = recurrent_of(&shape),
        .compute_bytes = compute_of(&shape),
        .overhead_bytes = shape.is_on_gpu ? GPU_OVERHEAD_BYTES : CPU_OVERHEAD_BYTES,
    };
    int64_t sum = add_bytes(
        add_bytes(estimate.weights_bytes, estimate.kv_cache_bytes),
        add_bytes(estimate.recurrent_bytes, add_bytes(estimate.compute_bytes, estimate.overhead_bytes)));
    estimate.margin_bytes = larger(sum / 10, MARGIN_MIN_BYTES);
    estimate.total_bytes = add_bytes(sum, estimate.margin_bytes);
    *ret_estimate = estimate;
    return POOL_OK;
}
