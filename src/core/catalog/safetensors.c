/*
 * The header of a safetensors file: JSON that says of each tensor its type, its shape and which bytes are its own.
 * Rules: the format's README and what the reference implementation (safetensors/src/tensor.rs) refuses.
 */
#include "core/catalog/header.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"

#define DIMENSIONS_MAX 64

static const struct {
    const char *name;
    int64_t n_bits;
} types[] = {
    { "BOOL", 8 },        { "F4", 4 },      { "F6_E2M3", 6 }, { "F6_E3M2", 6 }, { "U8", 8 },
    { "I8", 8 },          { "F8_E5M2", 8 }, { "F8_E4M3", 8 }, { "F8_E8M0", 8 }, { "F8_E4M3FNUZ", 8 },
    { "F8_E5M2FNUZ", 8 }, { "I16", 16 },    { "U16", 16 },    { "F16", 16 },    { "BF16", 16 },
    { "I32", 32 },        { "U32", 32 },    { "F32", 32 },    { "I64", 64 },    { "U64", 64 },
    { "F64", 64 },        { "C64", 64 },
};

struct range {
    int64_t begin, end;
};

static int compare_ranges(const void *a, const void *b)
{
    const struct range *left = a, *right = b;
    if (left->begin != right->begin)
        return left->begin < right->begin ? -1 : 1;
    return (left->end > right->end) - (left->end < right->end);
}

static enum pool_code refuse_tensor(const char *name, const char *why, struct pool_error *err)
{
    char printable[128];
    header_copy_printable(name, strlen(name), printable, sizeof printable);
    return header_corrupt(err, 8, "the tensor \"%s\" %s", printable, why);
}

/* Elements of a shape; an empty shape is one element, an empty dimension none. */
static bool count_elements(const json_t *shape, int64_t *ret_count)
{
    if (!json_is_array(shape) || json_array_size(shape) > DIMENSIONS_MAX)
        return false;
    int64_t count = 1;
    for (size_t i = 0; i < json_array_size(shape); i++) {
        const json_t *n = json_array_get(shape, i);
        if (!json_is_integer(n) || json_integer_value(n) < 0 ||
            __builtin_mul_overflow(count, (int64_t)json_integer_value(n), &count))
            return false;
    }
    *ret_count = count;
    return true;
}

static bool get_range(const json_t *offsets, struct range *ret_range)
{
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !json_is_integer(begin) ||
        !json_is_integer(end))
        return false;
    *ret_range = (struct range){ json_integer_value(begin), json_integer_value(end) };
    return ret_range->begin >= 0 && ret_range->begin <= ret_range->end;
}

static enum pool_code read_tensor(const char *name, const json_t *tensor, struct weight_tally *tally,
                                  struct pool_model_header *header, struct range *ret_range,
                                  struct pool_error *err)
{
    const json_t *dtype = json_object_get(tensor, "dtype");
    int64_t n_elements;
    if (!json_is_object(tensor) || json_object_size(tensor) != 3 || !json_is_string(dtype))
        return refuse_tensor(name, "has not exactly dtype, shape and data_offsets", err);
    if (!count_elements(json_object_get(tensor, "shape"), &n_elements))
        return refuse_tensor(name, "has a shape that is none, negative or too large", err);
    if (!get_range(json_object_get(tensor, "data_offsets"), ret_range))
        return refuse_tensor(name, "has data_offsets that are none", err);
    int64_t n_bytes = ret_range->end - ret_range->begin;
    size_t i = 0;
    while (i < sizeof types / sizeof types[0] && strcmp(types[i].name, json_string_value(dtype)) != 0)
        i++;
    if (i < sizeof types / sizeof types[0]) {
        int64_t n_bits;
        if (__builtin_mul_overflow(n_elements, types[i].n_bits, &n_bits) || n_bits % 8 != 0 ||
            n_bits / 8 != n_bytes)
            return refuse_tensor(name, "has another number of bytes than its shape and type need", err);
        weight_tally_add(tally, types[i].name, n_bytes);
    } else {
        header->is_size_known = false;
    }
    header->n_tensors++;
    if (__builtin_add_overflow(header->tensor_bytes, n_bytes, &header->tensor_bytes) ||
        __builtin_add_overflow(header->parameter_count.value, n_elements, &header->parameter_count.value))
        return refuse_tensor(name, "makes the model too large", err);
    return POOL_OK;
}

/* The ranges must cover the bytes behind the header exactly, without holes and without overlap. */
static enum pool_code check_coverage(const struct pool_model_header *header, struct range *ranges, size_t n,
                                     struct pool_error *err)
{
    int64_t end = 0;
    if (n > 1)
        qsort(ranges, n, sizeof(*ranges), compare_ranges);
    for (size_t i = 0; i < n; i++) {
        if (ranges[i].begin != end)
            return header_corrupt(err, 8, "the data of the tensors have a hole or overlap at offset %lld",
                                  (long long)(ranges[i].begin < end ? ranges[i].begin : end));
        end = ranges[i].end;
    }
    int64_t there = header->file_size_bytes - header->data_offset_bytes;
    if (end == there)
        return POOL_OK;
    header_corrupt(err, (uint64_t)header->file_size_bytes,
                   "the tensors have %lld bytes, the file has %lld for them", (long long)end,
                   (long long)there);
    pool_error_add_number(err, "actual_size_bytes", header->file_size_bytes);
    int64_t expected;
    if (!__builtin_add_overflow(header->data_offset_bytes, end, &expected))
        pool_error_add_number(err, "expected_size_bytes", expected);
    return POOL_MODEL_CORRUPT;
}

static enum pool_code read_metadata(const json_t *metadata, struct pool_model_header *header,
                                    struct pool_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return header_corrupt(err, 8, "__metadata__ is no object");
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value) {
        if (!json_is_string(value))
            return header_corrupt(err, 8, "__metadata__ has a value that is no string");
    }
    header->n_keys = (int64_t)json_object_size(metadata);
    return POOL_OK;
}

static enum pool_code read_tensors(json_t *root, struct weight_tally *tally, struct pool_model_header *header,
                                   struct pool_error *err)
{
    size_t n_entries = json_object_size(root), n = 0;
    CLEANUP_FREE struct range *ranges = calloc(n_entries > 0 ? n_entries : 1, sizeof(*ranges));
    if (!ranges)
        return pool_error_no_memory(err);
    const char *name;
    json_t *entry;
    json_object_foreach(root, name, entry) {
        enum pool_code code = strcmp(name, "__metadata__") == 0
                                  ? read_metadata(entry, header, err)
                                  : read_tensor(name, entry, tally, header, &ranges[n++], err);
        if (code != POOL_OK)
            return code;
    }
    return check_coverage(header, ranges, n, err);
}

static enum pool_code read_json(struct header_reader *reader, size_t n, json_t **ret_root,
                                struct pool_error *err)
{
    CLEANUP_FREE char *text = malloc(n > 0 ? n : 1);
    if (!text)
        return pool_error_no_memory(err);
    enum pool_code code = header_reader_bytes(reader, text, n, "the JSON", err);
    if (code != POOL_OK)
        return code;
    struct json_failure failure;
    CLEANUP_JSON json_t *root = json_parse(text, n, &failure);
    if (!root && failure.is_no_memory)
        return pool_error_no_memory(err);
    if (!root) {
        char why[sizeof failure.message];
        header_copy_printable(failure.message, strlen(failure.message), why, sizeof why);
        return header_corrupt(err, 8, "the JSON is no good at line %d, column %d: %s", failure.line,
                              failure.column, why);
    }
    if (!json_is_object(root))
        return header_corrupt(err, 8, "the JSON is no object");
    *ret_root = take_ptr(&root);
    return POOL_OK;
}

enum pool_code safetensors_read(const struct header_source *source, struct weight_tally *tally,
                                struct pool_model_header *header, struct pool_error *err)
{
    CLEANUP(header_reader_done) struct header_reader reader = { .source = NULL };
    enum pool_code code = header_reader_init(&reader, source, source->size_bytes, err);
    if (code != POOL_OK)
        return code;
    uint64_t n = 0;
    code = header_reader_u64(&reader, &n, "the length of the JSON", err);
    if (code == POOL_OK)
        code = header_reader_need(&reader, n, "the JSON", err);
    if (code != POOL_OK)
        return code;
    if (n > POOL_SAFETENSORS_HEADER_MAX_BYTES) {
        pool_error_set(err, POOL_MODEL_INCOMPATIBLE, "a header of %llu bytes is over the limit, %d bytes",
                       (unsigned long long)n, POOL_SAFETENSORS_HEADER_MAX_BYTES);
        pool_error_add_number(err, "limit_bytes", POOL_SAFETENSORS_HEADER_MAX_BYTES);
        return POOL_MODEL_INCOMPATIBLE;
    }
    header->is_size_known = true;
    header->parameter_count.is_present = true;
    header->data_offset_bytes = 8 + (int64_t)n;
    CLEANUP_JSON json_t *root = NULL;
    code = read_json(&reader, (size_t)n, &root, err);
    return code != POOL_OK ? code : read_tensors(root, tally, header, err);
}
