/*
 * The layout of a GGUF file: its version, its counts and its metadata keys. Layout and rules: the GGUF specification
 * (ggml docs/gguf.md) and what ggml's own reader (src/gguf.cpp) refuses, so that a file the engine will not load is
 * refused here, with the byte at which it goes wrong. Tensors are in gguf_tensors.c, what keys mean in gguf_keys.c.
 */
#define _GNU_SOURCE
#include "core/catalog/gguf.h"

#include <stdlib.h>
#include <string.h>

#define KEY_MAX_BYTES    65535        /* GGUF specification */
#define NAMES_MAX_BYTES  (128U << 20) /* the longest list of tensors, and keys as long again */
#define ALIGNMENT        32
#define ALIGNMENT_MAX    (1U << 20)
#define KEY_MIN_BYTES    14 /* length, one letter, type, value of one byte */
#define TENSOR_MIN_BYTES 24 /* length, number of dimensions, type, offset */

static int compare_names(const void *a, const void *b, void *ctx)
{
    const struct gguf_name *left = a, *right = b;
    const char *text = ctx;
    int order = memcmp(text + left->at, text + right->at, left->n < right->n ? left->n : right->n);
    if (order != 0)
        return order;
    return (left->n > right->n) - (left->n < right->n);
}

enum pool_code gguf_sort_names(const struct gguf *gguf, void *list, size_t n, size_t item_bytes,
                               const char *what, struct pool_error *err)
{
    if (n < 2)
        return POOL_OK;
    const char *text = strbuf_text(&gguf->names);
    qsort_r(list, n, item_bytes, compare_names, (void *)(uintptr_t)text);
    for (size_t i = 1; i < n; i++) {
        const struct gguf_name *previous = (const void *)((const char *)list + (i - 1) * item_bytes);
        const struct gguf_name *name = (const void *)((const char *)list + i * item_bytes);
        if (compare_names(previous, name, (void *)(uintptr_t)text) != 0)
            continue;
        uint64_t second = previous->position > name->position ? previous->position : name->position;
        char printable[128];
        header_copy_printable(text + name->at, name->n, printable, sizeof printable);
        return header_corrupt(err, second, "the %s \"%s\" at byte %llu is there twice", what, printable,
                              (unsigned long long)second);
    }
    return POOL_OK;
}

const struct gguf_key *gguf_find_key(const struct gguf *gguf, const char *name, size_t n_name)
{
    const char *text = strbuf_text(&gguf->names);
    size_t low = 0, high = gguf->n_keys;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct gguf_name *key = &gguf->keys[middle].name;
        int order = memcmp(text + key->at, name, key->n < n_name ? key->n : n_name);
        if (order == 0)
            order = (key->n > n_name) - (key->n < n_name);
        if (order == 0)
            return &gguf->keys[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

enum pool_code gguf_read_name(struct gguf *gguf, uint64_t min_bytes, uint64_t max_bytes, const char *what,
                              struct gguf_name *ret_name, struct pool_error *err)
{
    struct header_reader *reader = &gguf->reader;
    uint64_t position = reader->position, n;
    enum pool_code code = header_reader_u64(reader, &n, what, err);
    if (code != POOL_OK)
        return code;
    if (n < min_bytes || n > max_bytes)
        return header_corrupt(err, position, "%s at byte %llu has %llu bytes, %llu to %llu are allowed", what,
                              (unsigned long long)position, (unsigned long long)n,
                              (unsigned long long)min_bytes, (unsigned long long)max_bytes);
    code = header_reader_need(reader, n, what, err);
    size_t at = gguf->names.n;
    while (code == POOL_OK && n > 0) {
        char chunk[1024];
        size_t n_here = n < sizeof chunk ? (size_t)n : sizeof chunk;
        code = header_reader_bytes(reader, chunk, n_here, what, err);
        if (code == POOL_OK && !strbuf_add(&gguf->names, chunk, n_here))
            return gguf->names.failure == STRBUF_NO_MEMORY
                       ? pool_error_no_memory(err)
                       : pool_error_set(err, POOL_MODEL_INCOMPATIBLE,
                                        "all names together have more than %u bytes", NAMES_MAX_BYTES);
        n -= n_here;
    }
    if (code == POOL_OK)
        *ret_name = (struct gguf_name){ (uint32_t)at, (uint32_t)(gguf->names.n - at), position };
    return code;
}

static enum pool_code skip_strings(struct header_reader *reader, uint64_t n, struct pool_error *err)
{
    uint64_t n_bytes;
    if (__builtin_mul_overflow(n, sizeof(uint64_t), &n_bytes))
        n_bytes = UINT64_MAX;
    enum pool_code code = header_reader_need(reader, n_bytes, "an array of strings", err);
    if (code != POOL_OK)
        return code;
    for (uint64_t i = 0; i < n; i++) {
        code = header_reader_u64(reader, &n_bytes, "the length of a string in an array", err);
        if (code == POOL_OK)
            code = header_reader_skip(reader, n_bytes, "a string in an array", err);
        if (code != POOL_OK)
            return code;
    }
    return POOL_OK;
}

/* Arrays of arrays are refused by ggml, too, so nothing here nests. */
static enum pool_code read_array(struct gguf *gguf, struct gguf_key *key, struct pool_error *err)
{
    struct header_reader *reader = &gguf->reader;
    uint64_t position = reader->position;
    enum pool_code code = header_reader_u32(reader, &key->element_type, "the type of an array", err);
    if (code == POOL_OK)
        code = header_reader_u64(reader, &key->n, "the length of an array", err);
    if (code != POOL_OK)
        return code;
    key->position = reader->position;
    if (key->element_type == GGUF_STRING)
        return skip_strings(reader, key->n, err);
    uint32_t n_bytes = gguf_value_bytes(key->element_type);
    if (n_bytes == 0)
        return header_corrupt(err, position, "an array at byte %llu has elements of type %u, which is %s",
                              (unsigned long long)position, key->element_type,
                              key->element_type == GGUF_ARRAY ? "an array" : "none");
    uint64_t n_all;
    if (__builtin_mul_overflow(key->n, n_bytes, &n_all))
        n_all = UINT64_MAX;
    return header_reader_skip(reader, n_all, "an array", err);
}

static enum pool_code read_key(struct gguf *gguf, struct gguf_key *key, struct pool_error *err)
{
    struct header_reader *reader = &gguf->reader;
    enum pool_code code = gguf_read_name(gguf, 1, KEY_MAX_BYTES, "the name of a key", &key->name, err);
    if (code != POOL_OK)
        return code;
    uint64_t position = reader->position;
    code = header_reader_u32(reader, &key->type, "the type of a value", err);
    if (code != POOL_OK)
        return code;
    if (key->type == GGUF_ARRAY)
        return read_array(gguf, key, err);
    if (key->type == GGUF_STRING) {
        code = header_reader_u64(reader, &key->n, "the length of a string", err);
        key->position = reader->position;
        return code != POOL_OK ? code : header_reader_skip(reader, key->n, "a string", err);
    }
    uint32_t n_bytes = gguf_value_bytes(key->type);
    if (n_bytes == 0)
        return header_corrupt(err, position, "a value at byte %llu has the type %u, which is none",
                              (unsigned long long)position, key->type);
    unsigned char bytes[8];
    key->position = reader->position;
    code = header_reader_bytes(reader, bytes, n_bytes, "a value", err);
    for (uint32_t i = 0; code == POOL_OK && i < n_bytes; i++)
        key->bits |= (uint64_t)bytes[i] << (8 * i);
    return code;
}

static enum pool_code read_keys(struct gguf *gguf, uint64_t n, struct pool_error *err)
{
    gguf->keys = calloc(n > 0 ? (size_t)n : 1, sizeof(*gguf->keys));
    if (!gguf->keys)
        return pool_error_no_memory(err);
    for (; gguf->n_keys < n; gguf->n_keys++) {
        enum pool_code code = read_key(gguf, &gguf->keys[gguf->n_keys], err);
        if (code != POOL_OK) {
            pool_error_prefix(err, "key %zu of %llu", gguf->n_keys + 1, (unsigned long long)n);
            return code;
        }
    }
    return gguf_sort_names(gguf, gguf->keys, gguf->n_keys, sizeof(*gguf->keys), "key", err);
}

/* general.alignment must be a power of two; ggml has no upper limit, but no file has a reason for more than a MiB. */
static enum pool_code read_alignment(struct gguf *gguf, struct pool_error *err)
{
    static const char name[] = "general.alignment";
    const struct gguf_key *key = gguf_find_key(gguf, name, sizeof name - 1);
    gguf->alignment = ALIGNMENT;
    if (!key)
        return POOL_OK;
    int64_t value;
    if (!gguf_value_integer(key->type, key->bits, &value) || value < 1 || value > ALIGNMENT_MAX ||
        (value & (value - 1)) != 0)
        return header_corrupt(err, key->position,
                              "general.alignment at byte %llu is no power of two up to %u",
                              (unsigned long long)key->position, ALIGNMENT_MAX);
    gguf->alignment = (uint64_t)value;
    return POOL_OK;
}

/* Versions 2 and 3 have the same layout; 1 had counts of 32 bits and is read by no engine any more. */
static enum pool_code check_version(uint32_t version, struct pool_error *err)
{
    if (version == 2 || version == 3)
        return POOL_OK;
    enum pool_code code;
    if (version == 0)
        code = pool_error_set(err, POOL_MODEL_CORRUPT, "GGUF version 0 at byte 4 is none");
    else if ((version & 0xffff) == 0)
        code = pool_error_set(err, POOL_MODEL_INCOMPATIBLE, "this GGUF file is big-endian");
    else
        code = pool_error_set(err, POOL_MODEL_INCOMPATIBLE, "GGUF version %u is not known, 2 and 3 are",
                              version);
    pool_error_add_number(err, "offset_bytes", 4);
    return code;
}

static enum pool_code read_count(struct header_reader *reader, uint64_t max, uint64_t min_bytes,
                                 const char *what, uint64_t *ret_count, struct pool_error *err)
{
    uint64_t position = reader->position, n;
    enum pool_code code = header_reader_u64(reader, &n, what, err);
    if (code != POOL_OK)
        return code;
    if (n > max) {
        code = header_corrupt(err, position, "%s at byte %llu is %lld; 0 to %llu are allowed", what,
                              (unsigned long long)position, (long long)n, (unsigned long long)max);
        pool_error_add_number(err, "limit", (int64_t)max);
        return code;
    }
    code = header_reader_need(reader, n * min_bytes, what, err);
    if (code == POOL_OK)
        *ret_count = n;
    return code;
}

static enum pool_code read_all(struct gguf *gguf, struct pool_error *err)
{
    struct pool_model_header *header = gguf->header;
    struct header_reader *reader = &gguf->reader;
    header_reader_seek(reader, 4);
    enum pool_code code = header_reader_u32(reader, &header->version, "the version", err);
    if (code == POOL_OK)
        code = check_version(header->version, err);
    uint64_t n_tensors = 0, n_keys = 0;
    if (code == POOL_OK)
        code = read_count(reader, POOL_GGUF_TENSORS_MAX, TENSOR_MIN_BYTES, "the number of tensors",
                          &n_tensors, err);
    if (code == POOL_OK)
        code = read_count(reader, POOL_GGUF_KEYS_MAX, KEY_MIN_BYTES, "the number of keys", &n_keys, err);
    if (code == POOL_OK)
        code = read_keys(gguf, n_keys, err);
    if (code == POOL_OK)
        code = read_alignment(gguf, err);
    uint64_t tensors_start = reader->position;
    if (code == POOL_OK)
        code = gguf_read_metadata(gguf, err);
    if (code != POOL_OK)
        return code;
    header_reader_seek(reader, tensors_start);
    header->n_keys = (int64_t)n_keys;
    header->n_tensors = (int64_t)n_tensors;
    header->is_size_known = true;
    header->parameter_count.is_present = true;
    return gguf_read_tensors(gguf, n_tensors, err);
}

enum pool_code gguf_read(const struct header_source *source, struct weight_tally *tally,
                         struct pool_model_header *header, struct pool_error *err)
{
    struct gguf gguf = { .names = STRBUF_INIT(NAMES_MAX_BYTES), .header = header, .tally = tally };
    enum pool_code code = header_reader_init(&gguf.reader, source, POOL_GGUF_HEADER_MAX_BYTES, err);
    if (code == POOL_OK)
        code = read_all(&gguf, err);
    header_reader_done(&gguf.reader);
    strbuf_done(&gguf.names);
    free(gguf.keys);
    free(gguf.tensors);
    return code;
}
