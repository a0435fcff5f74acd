/*
 * The tensors of a GGUF file: their infos, where their data lie, and the sums by layer that an estimate is made from.
 * The rules are those of ggml's reader (src/gguf.cpp).
 */
#include "core/catalog/gguf.h"

#include <stdlib.h>
#include <string.h>

#define TENSOR_NAME_MAX 63 /* GGML_MAX_NAME with its NUL */
#define TENSOR_DIMS_MAX 4  /* GGML_MAX_DIMS */

static bool round_up(uint64_t value, uint64_t alignment, uint64_t *ret_value)
{
    uint64_t sum;
    if (__builtin_add_overflow(value, alignment - 1, &sum))
        return false;
    *ret_value = sum & ~(alignment - 1);
    return true;
}

/* A tensor info, with the bytes it must have in the data. */
struct tensor {
    struct gguf_name name;
    const struct gguf_tensor_type *type; /* NULL: unknown, n_bytes is 0 */
    int64_t n_elements;
    int64_t row_elements;
    int64_t n_rows; /* of the second dimension */
    uint64_t n_bytes;
    uint64_t offset; /* from the start of the data */
};

/* Elements by dimension, with ggml's check that their product is a positive int64. */
static enum pool_code read_dimensions(struct gguf *gguf, struct tensor *tensor, struct pool_error *err)
{
    struct header_reader *reader = &gguf->reader;
    uint64_t position = reader->position;
    uint32_t n_dims;
    enum pool_code code = header_reader_u32(reader, &n_dims, "the number of dimensions", err);
    if (code != POOL_OK)
        return code;
    if (n_dims > TENSOR_DIMS_MAX)
        return header_corrupt(err, position, "%u dimensions at byte %llu, at most %d are allowed", n_dims,
                              (unsigned long long)position, TENSOR_DIMS_MAX);
    tensor->n_elements = 1;
    tensor->row_elements = 1;
    tensor->n_rows = 1;
    for (uint32_t i = 0; i < n_dims; i++) {
        position = reader->position;
        uint64_t n;
        code = header_reader_u64(reader, &n, "a dimension", err);
        if (code != POOL_OK)
            return code;
        if (n > INT64_MAX || __builtin_mul_overflow(tensor->n_elements, (int64_t)n, &tensor->n_elements))
            return header_corrupt(err, position,
                                  "the dimension at byte %llu is negative or makes the tensor too large",
                                  (unsigned long long)position);
        if (i == 0)
            tensor->row_elements = (int64_t)n;
        else if (i == 1)
            tensor->n_rows = (int64_t)n;
    }
    return POOL_OK;
}

static enum pool_code read_tensor(struct gguf *gguf, struct tensor *tensor, struct pool_error *err)
{
    struct header_reader *reader = &gguf->reader;
    enum pool_code code =
        gguf_read_name(gguf, 0, TENSOR_NAME_MAX, "the name of a tensor", &tensor->name, err);
    if (code == POOL_OK)
        code = read_dimensions(gguf, tensor, err);
    uint32_t type;
    uint64_t position = reader->position;
    if (code == POOL_OK)
        code = header_reader_u32(reader, &type, "the type of a tensor", err);
    if (code == POOL_OK)
        code = header_reader_u64(reader, &tensor->offset, "the offset of a tensor", err);
    if (code != POOL_OK)
        return code;
    if (type > INT32_MAX)
        return header_corrupt(err, position, "the type of a tensor at byte %llu is negative",
                              (unsigned long long)position);
    tensor->type = gguf_tensor_type(type);
    tensor->n_bytes = 0;
    if (!tensor->type)
        return POOL_OK;
    if (tensor->row_elements % tensor->type->block_elements != 0)
        return header_corrupt(err, position,
                              "rows of %lld elements at byte %llu are no whole blocks of %s, %lld elements",
                              (long long)tensor->row_elements, (unsigned long long)position,
                              tensor->type->name, (long long)tensor->type->block_elements);
    int64_t n_bytes;
    if (__builtin_mul_overflow(tensor->n_elements / tensor->type->block_elements, tensor->type->block_bytes,
                               &n_bytes))
        return header_corrupt(err, position, "the tensor at byte %llu is too large",
                              (unsigned long long)tensor->name.position);
    tensor->n_bytes = (uint64_t)n_bytes;
    return POOL_OK;
}

static bool starts_with(const char *text, size_t n, const char *prefix)
{
    size_t n_prefix = strlen(prefix);
    return n >= n_prefix && memcmp(text, prefix, n_prefix) == 0;
}

static bool equals(const char *text, size_t n, const char *name)
{
    return n == strlen(name) && memcmp(text, name, n) == 0;
}

/* The layer of a tensor "blk.N.REST", and REST; NULL when it is none or beyond our limit. When the keys do not say how
 * many layers there are (shards but the first), the names do. */
static enum pool_code find_layer(struct gguf *gguf, const char *name, size_t n,
                                 struct pool_model_layer **ret_layer, size_t *ret_rest,
                                 struct pool_error *err)
{
    struct pool_model_header *header = gguf->header;
    *ret_layer = NULL;
    if (!starts_with(name, n, "blk."))
        return POOL_OK;
    size_t i = 4, index = 0;
    for (; i < n && i < 8 && name[i] >= '0' && name[i] <= '9'; i++)
        index = 10 * index + (size_t)(name[i] - '0');
    if (i == 4 || i >= n || name[i] != '.' || index >= POOL_MODEL_LAYERS_MAX)
        return POOL_OK;
    if (index >= header->n_layers) {
        if (header->block_count.is_present)
            return POOL_OK;
        struct pool_model_layer *layers = realloc(header->layers, (index + 1) * sizeof(*layers));
        if (!layers)
            return pool_error_no_memory(err);
        memset(layers + header->n_layers, 0, (index + 1 - header->n_layers) * sizeof(*layers));
        header->layers = layers;
        header->n_layers = index + 1;
    }
    *ret_layer = &header->layers[index];
    *ret_rest = i + 1;
    return POOL_OK;
}

/* Which layers attend and which are recurrent shows in their tensors, for every architecture (llama.cpp
 * src/llama-arch.cpp, LLM_TENSOR_NAMES): state spaces have ssm_*, RWKV time_mix_*, LFM2 shortconv.*; attention has
 * attn_k, attn_kv_a_mqa and the like, or one attn_qkv, which the delta nets of recurrent layers have as well. */
static void note_layer_kind(struct pool_model_layer *layer, const char *rest, size_t n)
{
    if (starts_with(rest, n, "ssm_") || starts_with(rest, n, "time_mix_") ||
        starts_with(rest, n, "shortconv."))
        layer->is_recurrent = true;
    else if (starts_with(rest, n, "attn_k.") || starts_with(rest, n, "attn_kv") ||
             starts_with(rest, n, "attn_k_b") || starts_with(rest, n, "attn_q."))
        layer->has_attention = true;
}

/* Adds a tensor to the sums of the header. */
static enum pool_code count_tensor(struct gguf *gguf, const struct tensor *tensor, struct pool_error *err)
{
    struct pool_model_header *header = gguf->header;
    const char *name = strbuf_text(&gguf->names) + tensor->name.at;
    size_t n = tensor->name.n;
    int64_t n_bytes = (int64_t)tensor->n_bytes;
    if (__builtin_add_overflow(header->parameter_count.value, tensor->n_elements,
                               &header->parameter_count.value) ||
        __builtin_add_overflow(header->tensor_bytes, n_bytes, &header->tensor_bytes))
        return header_corrupt(err, tensor->name.position, "all tensors together are too large");
    if (tensor->type)
        weight_tally_add(gguf->tally, tensor->type->name, n_bytes);
    else
        header->is_size_known = false;
    if (starts_with(name, n, "token_embd.")) {
        header->token_embedding_bytes += n_bytes;
        if (!header->vocabulary_size.is_present && tensor->n_rows > 1)
            header->vocabulary_size = (struct pool_reading){ true, tensor->n_rows };
    } else if (equals(name, n, "output.weight") || equals(name, n, "output_norm.weight")) {
        header->output_bytes += n_bytes;
    } else if (starts_with(name, n, "per_layer_token_embd.") || starts_with(name, n, "position_embd.") ||
               starts_with(name, n, "token_types.")) {
        header->lookup_bytes += n_bytes;
    }
    struct pool_model_layer *layer;
    size_t rest = 0;
    enum pool_code code = find_layer(gguf, name, n, &layer, &rest, err);
    if (code == POOL_OK && layer) {
        layer->weight_bytes += n_bytes;
        note_layer_kind(layer, name + rest, n - rest);
    }
    return code;
}

/* Where the data of a tensor lie: as ggml has it, one behind the other, each aligned. Behind one whose size we do not
 * know, the next one says. */
static enum pool_code place_tensor(struct gguf *gguf, const struct tensor *tensor, bool is_gap_allowed,
                                   uint64_t *end, struct pool_error *err)
{
    uint64_t expected, position = tensor->name.position;
    if (!round_up(*end, gguf->alignment, &expected))
        return header_corrupt(err, position, "all tensors together are too large");
    bool is_right = is_gap_allowed ? tensor->offset >= expected && tensor->offset % gguf->alignment == 0
                                   : tensor->offset == expected;
    if (!is_right)
        return header_corrupt(
            err, position, "the tensor at byte %llu has its data at offset %llu, not at %llu",
            (unsigned long long)position, (unsigned long long)tensor->offset, (unsigned long long)expected);
    if (__builtin_add_overflow(tensor->offset, tensor->n_bytes, end) || *end > INT64_MAX)
        return header_corrupt(err, position, "the data of the tensor at byte %llu lie beyond any file",
                              (unsigned long long)position);
    return POOL_OK;
}

/* The data must lie within the file: here a download that was cut shows. */
static enum pool_code check_data(struct gguf *gguf, uint64_t data_end, struct pool_error *err)
{
    struct pool_model_header *header = gguf->header;
    uint64_t start, end;
    if (!round_up(gguf->reader.position, gguf->alignment, &start) ||
        __builtin_add_overflow(start, data_end, &end))
        return header_corrupt(err, gguf->reader.position, "all tensors together are too large");
    header->data_offset_bytes = (int64_t)start;
    if (data_end == 0 || end <= (uint64_t)header->file_size_bytes)
        return POOL_OK;
    enum pool_code code =
        header_corrupt(err, (uint64_t)header->file_size_bytes,
                       "the file has %lld bytes, but its tensors reach to byte %llu: it is not complete",
                       (long long)header->file_size_bytes, (unsigned long long)end);
    pool_error_add_number(err, "actual_size_bytes", header->file_size_bytes);
    pool_error_add_number(err, "expected_size_bytes", end > INT64_MAX ? INT64_MAX : (int64_t)end);
    return code;
}

enum pool_code gguf_read_tensors(struct gguf *gguf, uint64_t n, struct pool_error *err)
{
    gguf->tensors = calloc(n > 0 ? (size_t)n : 1, sizeof(*gguf->tensors));
    if (!gguf->tensors)
        return pool_error_no_memory(err);
    uint64_t end = 0;
    bool is_gap_allowed = false, has_output = false;
    for (size_t i = 0; i < n; i++) {
        struct tensor tensor;
        enum pool_code code = read_tensor(gguf, &tensor, err);
        if (code == POOL_OK)
            code = place_tensor(gguf, &tensor, is_gap_allowed, &end, err);
        if (code == POOL_OK)
            code = count_tensor(gguf, &tensor, err);
        if (code != POOL_OK) {
            pool_error_prefix(err, "tensor %zu of %llu", i + 1, (unsigned long long)n);
            return code;
        }
        is_gap_allowed = !tensor.type;
        has_output |= equals(strbuf_text(&gguf->names) + tensor.name.at, tensor.name.n, "output.weight");
        gguf->tensors[i] = tensor.name;
    }
    if (!has_output)
        gguf->header->output_bytes = 0;
    enum pool_code code = check_data(gguf, end, err);
    return code != POOL_OK
               ? code
               : gguf_sort_names(gguf, gguf->tensors, (size_t)n, sizeof(*gguf->tensors), "tensor", err);
}
