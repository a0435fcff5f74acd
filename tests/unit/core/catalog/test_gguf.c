/*
 * The layout and the keys of GGUF: what a right file says, and every way a wrong one is refused: counts, types, names,
 * dimensions, offsets, truncation at each byte, a flip of each byte. Files and shards are in test_header.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pool/catalog.h>
#include <cmocka.h>

#include "core/catalog/header.h"
#include "gguf_writer.h"

static enum pool_code read_bytes(const void *data, size_t n, struct pool_model_header **ret_header,
                                 struct pool_error *err)
{
    struct header_block block = { data, n };
    struct header_source source;
    struct weight_tally tally = { .n = 0 };
    header_source_from_memory(&source, &block);
    return header_read_source(&source, &tally, ret_header, err);
}

static enum pool_code read_writer(const struct gguf_writer *w, struct pool_model_header **ret_header,
                                  struct pool_error *err)
{
    return read_bytes(w->data, w->n, ret_header, err);
}

/* Reads, expects a refusal, and says at which byte. */
static int64_t refused_at(const struct gguf_writer *w, enum pool_code expected)
{
    struct pool_model_header *header = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_code code = read_writer(w, &header, &err);
    if (code != expected)
        fail_msg("expected %s, got %s: %s", pool_code_name(expected), pool_code_name(code), err.message);
    assert_int_equal(err.code, expected);
    assert_null(header);
    assert_true(err.message[0] != '\0');
    const struct pool_detail *offset = pool_error_detail(&err, "offset_bytes");
    return offset ? offset->number : -1;
}

static struct pool_model_header *read_good(const struct gguf_writer *w)
{
    struct pool_model_header *header = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    if (read_writer(w, &header, &err) != POOL_OK)
        fail_msg("%s", err.message);
    assert_int_equal(err.code, POOL_OK);
    assert_non_null(header);
    return header;
}

#define assert_reading(reading, expected)              \
    do {                                               \
        assert_true((reading).is_present);             \
        assert_int_equal((reading).value, (expected)); \
    } while (0)

static void reads_a_small_llama(void **state)
{
    (void)state;
    struct gguf_writer w;
    gguf_writer_init(&w);
    gguf_writer_small_llama(&w, 2);
    size_t data_offset = gguf_writer_finish(&w);
    gguf_writer_add_data(&w);
    struct pool_model_header *header = read_good(&w);

    assert_int_equal(header->format, POOL_MODEL_FORMAT_GGUF);
    assert_string_equal(pool_model_format_name(header->format), "gguf");
    assert_int_equal(header->version, 3);
    assert_string_equal(header->architecture, "llama");
    assert_string_equal(header->name, "small");
    assert_string_equal(header->quantization, "F16");
    assert_null(header->type);
    assert_reading(header->context_length, 512);
    assert_reading(header->embedding_length, 64);
    assert_reading(header->feed_forward_length, 128);
    assert_reading(header->vocabulary_size, 10);
    assert_reading(header->block_count, 2);
    assert_reading(header->head_count, 4);
    assert_false(header->key_length.is_present);
    assert_false(header->kv_lora_rank.is_present);
    assert_true(header->is_size_known);
    assert_true(header->has_chat_template);
    assert_int_equal(header->n_tensors, 1 + 2 * 3 + 2);
    assert_int_equal(header->n_keys, 10);
    int64_t layer_bytes = 64 * 4 + 64 * 32 * 2 + 128 * 64 * 2;
    assert_int_equal(header->tensor_bytes, 1280 + 2 * layer_bytes + 256 + 1280);
    assert_reading(header->parameter_count, 640 + 2 * (64 + 2048 + 8192) + 64 + 640);
    assert_int_equal(header->token_embedding_bytes, 1280);
    assert_int_equal(header->output_bytes, 256 + 1280);
    assert_int_equal(header->lookup_bytes, 0);
    assert_int_equal(header->data_offset_bytes, data_offset);
    assert_int_equal(header->file_size_bytes, w.n);
    assert_int_equal(header->shard_index, 0);
    assert_int_equal(header->shard_count, 1);
    assert_int_equal(header->n_layers, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(header->layers[i].weight_bytes, layer_bytes);
        assert_int_equal(header->layers[i].head_count_kv, 2);
        assert_true(header->layers[i].has_attention);
        assert_false(header->layers[i].is_recurrent);
        assert_false(header->layers[i].is_sliding_window);
    }
    pool_model_header_free(header);
    gguf_writer_done(&w);
}

static void reads_every_prefix_and_every_flip(void **state)
{
    (void)state;
    struct gguf_writer w;
    gguf_writer_init(&w);
    gguf_writer_small_llama(&w, 1);
    size_t data_offset = gguf_writer_finish(&w);
    gguf_writer_add_data(&w);
    for (size_t n = 0; n < w.n; n++) {
        struct pool_model_header *header = NULL;
        /* A block of exactly this size, so that a sanitizer sees a read behind it. */
        unsigned char *copy = malloc(n > 0 ? n : 1);
        assert_non_null(copy);
        memcpy(copy, w.data, n);
        enum pool_code code = read_bytes(copy, n, &header, NULL);
        if (n < 4) {
            assert_int_equal(code, POOL_OK);
            assert_int_equal(header->format, POOL_MODEL_FORMAT_UNKNOWN);
        } else if (n < w.n - 31) { /* the last tensor's padding may be missing */
            assert_int_equal(code, POOL_MODEL_CORRUPT);
            assert_null(header);
        }
        pool_model_header_free(header);
        free(copy);
    }
    static const unsigned char flips[] = { 0x01, 0x80, 0xff };
    for (size_t i = 0; i < data_offset; i++) {
        for (size_t j = 0; j < sizeof flips; j++) {
            struct pool_model_header *header = NULL;
            struct pool_error err = POOL_ERROR_INIT;
            w.data[i] ^= flips[j];
            enum pool_code code = read_writer(&w, &header, &err);
            w.data[i] ^= flips[j];
            assert_true(code == POOL_OK || code == POOL_MODEL_CORRUPT || code == POOL_MODEL_INCOMPATIBLE);
            assert_int_equal(code, err.code);
            assert_true((code == POOL_OK) == (header != NULL));
            pool_model_header_free(header);
        }
    }
    gguf_writer_done(&w);
}

static void refuses_versions(void **state)
{
    (void)state;
    static const struct {
        uint32_t version;
        enum pool_code code;
    } cases[] = {
        { 0, POOL_MODEL_CORRUPT },
        { 1, POOL_MODEL_INCOMPATIBLE },
        { 2, POOL_OK },
        { 3, POOL_OK },
        { 4, POOL_MODEL_INCOMPATIBLE },
        { 0x03000000, POOL_MODEL_INCOMPATIBLE }, /* 3, big-endian */
        { UINT32_MAX, POOL_MODEL_INCOMPATIBLE },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_writer w;
        gguf_writer_init(&w);
        w.version = cases[i].version;
        gguf_writer_finish(&w);
        if (cases[i].code == POOL_OK)
            pool_model_header_free(read_good(&w));
        else
            assert_int_equal(refused_at(&w, cases[i].code), 4);
        gguf_writer_done(&w);
    }
}

static void refuses_counts(void **state)
{
    (void)state;
    static const uint64_t counts[] = {
        1, 65537, 1000001, UINT64_C(1) << 61, INT64_MAX, UINT64_C(1) << 63, UINT64_MAX
    };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        for (size_t at = 8; at <= 16; at += 8) {
            struct gguf_writer w;
            gguf_writer_init(&w);
            gguf_writer_finish(&w);
            gguf_writer_patch(&w, at, counts[i], 8);
            assert_in_range(refused_at(&w, POOL_MODEL_CORRUPT), at, at + 8);
            gguf_writer_done(&w);
        }
    }
}

static void refuses_bad_keys(void **state)
{
    (void)state;
    enum {
        NO_NAME,
        HUGE_NAME,
        LONG_NAME,
        TYPE,
        STRING_LENGTH,
        NESTED,
        ELEMENT_TYPE,
        ARRAY_LENGTH,
        ARRAY_OVERFLOW,
        STRINGS_LENGTH,
        STRING_IN_ARRAY,
        KINDS
    };
    for (int kind = 0; kind < KINDS; kind++) {
        struct gguf_writer w;
        gguf_writer_init(&w);
        gguf_writer_u32(&w, "a.first", 1);
        const int64_t one = 1;
        size_t at = 0, expected = 0;
        switch (kind) {
        case NO_NAME: expected = gguf_writer_u32(&w, "", 1); break;
        case HUGE_NAME:
            expected = at = gguf_writer_u32(&w, "a.b", 1);
            gguf_writer_patch(&w, at, UINT64_MAX, 8);
            break;
        case LONG_NAME: /* allowed, but more than is there */
            at = gguf_writer_u32(&w, "a.b", 1);
            gguf_writer_patch(&w, at, 60000, 8);
            expected = at + 8;
            break;
        case TYPE:
            expected = gguf_writer_u32(&w, "a.b", 1) + 8 + 3;
            gguf_writer_patch(&w, expected, 13, 4);
            break;
        case STRING_LENGTH:
            at = gguf_writer_string(&w, "a.b", "text") + 8 + 3 + 4;
            gguf_writer_patch(&w, at, UINT64_MAX - 7, 8);
            expected = at + 8;
            break;
        case NESTED:
        case ELEMENT_TYPE:
            expected = gguf_writer_array(&w, "a.b", W_U32, &one, 1) + 8 + 3 + 4;
            gguf_writer_patch(&w, expected, kind == NESTED ? W_ARRAY : 77, 4);
            break;
        case ARRAY_LENGTH:
        case ARRAY_OVERFLOW:
            at = gguf_writer_array(&w, "a.b", W_U32, &one, 1) + 8 + 3 + 4;
            gguf_writer_patch(&w, at + 4, kind == ARRAY_LENGTH ? 1000 : UINT64_C(1) << 62, 8);
            expected = at + 12;
            break;
        case STRINGS_LENGTH:
        case STRING_IN_ARRAY:
            at = gguf_writer_tokens(&w, "a.b", 3) + 8 + 3 + 4;
            if (kind == STRINGS_LENGTH)
                gguf_writer_patch(&w, at + 4, UINT64_C(1) << 61, 8);
            else
                gguf_writer_patch(&w, at + 12 + 10, UINT64_MAX, 8);
            expected = kind == STRINGS_LENGTH ? at + 12 : at + 12 + 10 + 8;
            break;
        default: fail();
        }
        gguf_writer_finish(&w);
        assert_int_equal(refused_at(&w, POOL_MODEL_CORRUPT), expected);
        gguf_writer_done(&w);
    }
}

static void refuses_what_is_there_twice(void **state)
{
    (void)state;
    struct gguf_writer w;
    gguf_writer_init(&w);
    gguf_writer_u32(&w, "a.key", 1);
    gguf_writer_u32(&w, "a.ke", 1);
    gguf_writer_u32(&w, "a.keys", 1);
    size_t second = gguf_writer_u32(&w, "a.key", 2);
    gguf_writer_finish(&w);
    assert_int_equal(refused_at(&w, POOL_MODEL_CORRUPT), second);
    gguf_writer_done(&w);

    gguf_writer_init(&w);
    gguf_writer_tensor(&w, "a", 32, 0, 0, 128);
    gguf_writer_tensor(&w, "b", 32, 0, 0, 128);
    second = gguf_writer_tensor(&w, "a", 32, 0, 0, 128);
    gguf_writer_finish(&w);
    gguf_writer_add_data(&w);
    assert_int_equal(refused_at(&w, POOL_MODEL_CORRUPT), second);
    gguf_writer_done(&w);
}

static void refuses_bad_tensors(void **state)
{
    (void)state;
    static const int64_t good[] = { 32, 2, 1, 1 };
    static const int64_t negative[] = { 32, -1, 1, 1 };
    static const int64_t overflow[] = { INT64_MAX / 2, 3, 1, 1 };
    static const int64_t overflow_zero[] = { INT64_MAX, 2, 0, 1 };
    static const int64_t bytes_overflow[] = { INT64_MAX / 2, 1, 1, 1 };
    static const int64_t no_blocks[] = { 33, 2, 1, 1 };
    static const struct {
        const char *name;
        uint32_t n_dims;
        const int64_t *dims;
        uint32_t type;
        uint64_t offset;
    } cases[] = {
        { "012345678901234567890123456789012345678901234567890123456789abcd", 1, good, 0, 0 }, /* 64 bytes */
        { "negative", 2, negative, 0, 0 },
        { "overflow", 2, overflow, 0, 0 },
        { "overflow_zero", 3, overflow_zero, 0, 0 },
        { "bytes_overflow", 1, bytes_overflow, 0, 0 },
        { "no_blocks", 2, no_blocks, 8, 0 },
        { "negative_type", 2, good, UINT32_C(1) << 31, 0 },
        { "offset_1", 2, good, 0, 1 },
        { "offset_32", 2, good, 0, 32 },
        { "offset_huge", 2, good, 0, UINT64_MAX - 31 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_writer w;
        gguf_writer_init(&w);
        gguf_writer_u32(&w, "a.b", 1);
        size_t at = gguf_writer_tensor_raw(&w, cases[i].name, cases[i].n_dims, cases[i].dims, cases[i].type,
                                           cases[i].offset);
        w.data_bytes = 4096;
        size_t end = gguf_writer_finish(&w);
        gguf_writer_add_data(&w);
        assert_in_range(refused_at(&w, POOL_MODEL_CORRUPT), at, end);
        gguf_writer_done(&w);
    }
    struct gguf_writer w;
    gguf_writer_init(&w);
    size_t at = gguf_writer_tensor_raw(&w, "dims", 4, good, 0, 0);
    gguf_writer_finish(&w);
    gguf_writer_patch(&w, at + 8 + 4, 5, 4);
    assert_int_equal(refused_at(&w, POOL_MODEL_CORRUPT), at + 12);
    gguf_writer_done(&w);
}

static void refuses_overlap_and_disorder(void **state)
{
    (void)state;
    static const int64_t dims[] = { 32 };
    static const uint64_t offsets[][2] = { { 0, 0 }, { 0, 96 }, { 0, 160 }, { 128, 0 } };
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        struct gguf_writer w;
        gguf_writer_init(&w);
        gguf_writer_tensor_raw(&w, "a", 1, dims, 0, offsets[i][0]);
        gguf_writer_tensor_raw(&w, "b", 1, dims, 0, offsets[i][1]);
        w.data_bytes = 512;
        gguf_writer_finish(&w);
        gguf_writer_add_data(&w);
        assert_true(refused_at(&w, POOL_MODEL_CORRUPT) > 0);
        gguf_writer_done(&w);
    }
}

static void accepts_odd_but_right_tensors(void **state)
{
    (void)state;
    static const int64_t empty[] = { 32, 0 };
    static const int64_t four[] = { 256, 2, 3, 2 };
    struct gguf_writer w;
    gguf_writer_init(&w);
    gguf_writer_tensor_raw(&w, "scalar", 0, NULL, 0, 0);
    gguf_writer_tensor_raw(&w, "empty", 2, empty, 8, 32);
    gguf_writer_tensor_raw(&w, "four", 4, four, 12, 32);
    w.data_bytes = 32 + 12 * 144;
    gguf_writer_finish(&w);
    gguf_writer_add_data(&w);
    struct pool_model_header *header = read_good(&w);
    assert_int_equal(header->tensor_bytes, 4 + 0 + 12 * 144);
    assert_reading(header->parameter_count, 1 + 256 * 12);
    assert_string_equal(header->quantization, "Q4_K");
    assert_null(header->architecture);
    assert_int_equal(header->output_bytes, 0);
    pool_model_header_free(header);
    gguf_writer_done(&w);
}

/* A file of which we do not know a tensor's type is listed, but its size is not known. */
static void reads_metadata_beside_unknown_types(void **state)
{
    (void)state;
    static const uint32_t unknown[] = { 4, 5, 31, 32, 33, 36, 37, 38, 43, 1000, INT32_MAX };
    static const int64_t dims[] = { 100, 3 };
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        struct gguf_writer w;
        gguf_writer_init(&w);
        gguf_writer_string(&w, "general.architecture", "llama");
        gguf_writer_u32(&w, "llama.block_count", 1);
        gguf_writer_tensor_raw(&w, "a", 2, dims, unknown[i], 0);
        gguf_writer_tensor_raw(&w, "b", 2, dims, 0, 4096);
        w.data_bytes = 4096 + 1216;
        gguf_writer_finish(&w);
        gguf_writer_add_data(&w);
        struct pool_model_header *header = read_good(&w);
        assert_false(header->is_size_known);
        assert_int_equal(header->n_tensors, 2);
        assert_reading(header->block_count, 1);
        pool_model_header_free(header);
        gguf_writer_done(&w);
    }
}

static void checks_the_alignment(void **state)
{
    (void)state;
    static const struct {
        uint32_t type;
        uint64_t bits;
        bool is_good;
    } cases[] = {
        { W_U32, 0, false },      { W_U32, 1, true },
        { W_U32, 33, false },     { W_U32, 64, true },
        { W_I32, 128, true },     { W_I32, UINT32_MAX, false },
        { W_U64, 1 << 20, true }, { W_U64, 1 << 21, false },
        { W_F32, 64, false },     { W_U64, UINT64_C(1) << 63, false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_writer w;
        gguf_writer_init(&w);
        gguf_writer_number(&w, "general.alignment", cases[i].type, cases[i].bits);
        if (cases[i].is_good)
            w.alignment = cases[i].bits;
        gguf_writer_tensor(&w, "a", 32, 0, 0, 128);
        gguf_writer_tensor(&w, "b", 32, 0, 0, 128);
        size_t data_offset = gguf_writer_finish(&w);
        gguf_writer_add_data(&w);
        if (cases[i].is_good) {
            struct pool_model_header *header = read_good(&w);
            assert_int_equal(header->data_offset_bytes, data_offset);
            pool_model_header_free(header);
        } else {
            assert_true(refused_at(&w, POOL_MODEL_CORRUPT) > 0);
        }
        gguf_writer_done(&w);
    }
}

static void says_how_much_of_a_download_is_missing(void **state)
{
    (void)state;
    struct gguf_writer w;
    gguf_writer_init(&w);
    gguf_writer_tensor(&w, "a", 1024, 0, 0, 4096);
    size_t data_offset = gguf_writer_finish(&w);
    gguf_writer_add_data(&w);
    struct pool_model_header *header = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(read_bytes(w.data, w.n - 1, &header, &err), POOL_MODEL_CORRUPT);
    assert_int_equal(pool_error_detail(&err, "actual_size_bytes")->number, w.n - 1);
    assert_int_equal(pool_error_detail(&err, "expected_size_bytes")->number, data_offset + 4096);
    gguf_writer_done(&w);
}

static void takes_integers_of_every_type(void **state)
{
    (void)state;
    static const uint32_t types[] = { W_U8, W_I8, W_U16, W_I16, W_U32, W_I32, W_U64, W_I64 };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct gguf_writer w;
        gguf_writer_init(&w);
        gguf_writer_number(&w, "x.block_count", types[i], 7);
        gguf_writer_string(&w, "general.architecture", "x"); /* behind the key that needs it */
        gguf_writer_finish(&w);
        struct pool_model_header *header = read_good(&w);
        assert_reading(header->block_count, 7);
        assert_int_equal(header->n_layers, 7);
        pool_model_header_free(header);
        gguf_writer_done(&w);
    }
    static const struct {
        uint32_t type;
        uint64_t bits;
    } bad[] = { { W_I8, 0xff },        { W_I16, 0x8000 },     { W_I32, UINT32_MAX }, { W_I64, UINT64_MAX },
                { W_U64, UINT64_MAX }, { W_F32, 0x40000000 }, { W_F64, 0 } };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct gguf_writer w;
        gguf_writer_init(&w);
        gguf_writer_string(&w, "general.architecture", "x");
        size_t at = gguf_writer_number(&w, "x.attention.head_count", bad[i].type, bad[i].bits);
        gguf_writer_finish(&w);
        assert_int_equal(refused_at(&w, POOL_MODEL_CORRUPT), at);
        gguf_writer_done(&w);
    }
}

static void reads_values_by_layer(void **state)
{
    (void)state;
    static const int64_t kv[] = { 4, 0, 8 };
    static const int64_t ff[] = { 10, 30, 20 };
    struct gguf_writer w;
    gguf_writer_init(&w);
    gguf_writer_string(&w, "general.architecture", "x");
    gguf_writer_array(&w, "x.attention.head_count_kv", W_U32, kv, 3);
    gguf_writer_array(&w, "x.feed_forward_length", W_I32, ff, 3);
    gguf_writer_u32(&w, "x.attention.head_count", 8);
    gguf_writer_u32(&w, "x.block_count", 3);
    gguf_writer_finish(&w);
    struct pool_model_header *header = read_good(&w);
    assert_int_equal(header->layers[0].head_count_kv, 4);
    assert_int_equal(header->layers[1].head_count_kv, 0);
    assert_int_equal(header->layers[2].head_count_kv, 8);
    assert_reading(header->feed_forward_length, 30);
    assert_reading(header->head_count, 8);
    pool_model_header_free(header);
    gguf_writer_done(&w);

    static const int64_t negative[] = { 4, -1, 8 };
    for (int kind = 0; kind < 4; kind++) {
        gguf_writer_init(&w);
        gguf_writer_string(&w, "general.architecture", "x");
        gguf_writer_u32(&w, "x.block_count", 3);
        size_t at = kind == 0   ? gguf_writer_array(&w, "x.attention.head_count_kv", W_U32, kv, 2)
                    : kind == 1 ? gguf_writer_array(&w, "x.feed_forward_length", W_U32, kv, 0)
                    : kind == 2 ? gguf_writer_array(&w, "x.attention.head_count_kv", W_I32, negative, 3)
                                : gguf_writer_tokens(&w, "x.attention.head_count_kv", 3);
        gguf_writer_finish(&w);
        assert_int_equal(refused_at(&w, POOL_MODEL_CORRUPT), at);
        gguf_writer_done(&w);
    }
}

/* Absent heads of keys are as many as those of queries. */
static void defaults_heads_of_keys(void **state)
{
    (void)state;
    struct gguf_writer w;
    gguf_writer_init(&w);
    gguf_writer_string(&w, "general.architecture", "x");
    gguf_writer_u32(&w, "x.block_count", 2);
    gguf_writer_u32(&w, "x.attention.head_count", 12);
    gguf_writer_finish(&w);
    struct pool_model_header *header = read_good(&w);
    assert_int_equal(header->layers[1].head_count_kv, 12);
    pool_model_header_free(header);
    gguf_writer_done(&w);
}

static void does_not_believe_every_block_count(void **state)
{
    (void)state;
    static const uint32_t counts[] = { 0, 4097, UINT32_MAX };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct gguf_writer w;
        gguf_writer_init(&w);
        gguf_writer_string(&w, "general.architecture", "x");
        gguf_writer_u32(&w, "x.block_count", counts[i]);
        gguf_writer_u32(&w, "x.attention.head_count", 4);
        gguf_writer_tensor(&w, "blk.3.attn_k.weight", 32, 0, 0, 128);
        gguf_writer_finish(&w);
        gguf_writer_add_data(&w);
        struct pool_model_header *header = read_good(&w);
        assert_reading(header->block_count, counts[i]);
        assert_int_equal(header->n_layers, 0);
        pool_model_header_free(header);
        gguf_writer_done(&w);
    }
}

static void finds_layers_by_their_tensors(void **state)
{
    (void)state;
    static const char *const names[] = {
        "blk.0.ssm_conv1d.weight",
        "blk.0.attn_qkv.weight",
        "blk.1.attn_k.weight",
        "blk.2.time_mix_w1.weight",
        "blk.3.shortconv.conv.weight",
        "blk.5.attn_kv_a_mqa.weight",
        "blk.5.ssm_a",
        "blk.x.ssm_a",
        "blk.4096.ssm_a",
        "blk.99999999.ssm_a",
        "blk..ssm_a",
        "blk.6",
        "per_layer_token_embd.weight",
        "position_embd.weight",
        "output_norm.weight",
    };
    struct gguf_writer w;
    gguf_writer_init(&w);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        gguf_writer_tensor(&w, names[i], 32, 0, 0, 128);
    gguf_writer_finish(&w);
    gguf_writer_add_data(&w);
    struct pool_model_header *header = read_good(&w);
    static const bool is_recurrent[] = { true, false, true, true, false, true };
    static const bool has_attention[] = { false, true, false, false, false, true };
    assert_int_equal(header->n_layers, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(header->layers[i].is_recurrent, is_recurrent[i]);
        assert_int_equal(header->layers[i].has_attention, has_attention[i]);
    }
    assert_int_equal(header->layers[0].weight_bytes, 256);
    assert_int_equal(header->layers[4].weight_bytes, 0);
    assert_int_equal(header->lookup_bytes, 256);
    assert_int_equal(header->output_bytes, 0); /* a norm without output.weight: tied */
    pool_model_header_free(header);
    gguf_writer_done(&w);
}

static void knows_sliding_windows(void **state)
{
    (void)state;
    static const int64_t flags[] = { 1, 1, 0, 1 };
    static const struct {
        const char *architecture;
        int pattern; /* -1 the flags, 0 absent, else a period */
        uint32_t window;
        bool expected[4];
    } cases[] = {
        { "gemma2", 0, 4096, { true, false, true, false } },
        { "gemma2", 4, 4096, { true, true, true, false } },
        { "gemma2", 0, 0, { false, false, false, false } },
        { "llama", 0, 4096, { false, false, false, false } },
        { "llama", 2, 4096, { false, false, false, false } },
        { "new", -1, 512, { true, true, false, true } },
        { "gemma3", 0, 512, { true, true, true, true } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_writer w;
        char name[96];
        gguf_writer_init(&w);
        gguf_writer_string(&w, "general.architecture", cases[i].architecture);
        snprintf(name, sizeof name, "%s.block_count", cases[i].architecture);
        gguf_writer_u32(&w, name, 4);
        snprintf(name, sizeof name, "%s.attention.sliding_window", cases[i].architecture);
        gguf_writer_u32(&w, name, cases[i].window);
        snprintf(name, sizeof name, "%s.attention.sliding_window_pattern", cases[i].architecture);
        if (cases[i].pattern < 0)
            gguf_writer_array(&w, name, W_BOOL, flags, 4);
        else if (cases[i].pattern > 0)
            gguf_writer_u32(&w, name, (uint32_t)cases[i].pattern);
        gguf_writer_finish(&w);
        struct pool_model_header *header = read_good(&w);
        for (size_t j = 0; j < 4; j++)
            assert_int_equal(header->layers[j].is_sliding_window, cases[i].expected[j]);
        pool_model_header_free(header);
        gguf_writer_done(&w);
    }
}

static void refuses_bad_architectures(void **state)
{
    (void)state;
    static const char *const names[] = {
        "", "a b", "a\n", "../x", "0123456789012345678901234567890123456789012345678901234567890123x"
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct gguf_writer w;
        gguf_writer_init(&w);
        size_t at = gguf_writer_string(&w, "general.architecture", names[i]);
        gguf_writer_finish(&w);
        assert_int_equal(refused_at(&w, POOL_MODEL_CORRUPT), at);
        gguf_writer_done(&w);
    }
    struct gguf_writer w;
    gguf_writer_init(&w);
    size_t at = gguf_writer_u32(&w, "general.architecture", 1);
    gguf_writer_finish(&w);
    assert_int_equal(refused_at(&w, POOL_MODEL_CORRUPT), at);
    gguf_writer_done(&w);
}

/* A source that fails or ends early, as a disk or a file that is cut while it is read. */
static int64_t fail_read(void *ctx, void *data, size_t n, int64_t offset_bytes)
{
    const struct gguf_writer *w = ctx;
    if (offset_bytes >= 64)
        return -5; /* EIO */
    n = n < 64 - (size_t)offset_bytes ? n : 64 - (size_t)offset_bytes;
    memcpy(data, w->data + offset_bytes, n);
    return (int64_t)n;
}

static int64_t end_early(void *ctx, void *data, size_t n, int64_t offset_bytes)
{
    int64_t got = fail_read(ctx, data, n, offset_bytes);
    return got < 0 ? 0 : got;
}

static void survives_a_source_that_fails(void **state)
{
    (void)state;
    struct gguf_writer w;
    gguf_writer_init(&w);
    gguf_writer_small_llama(&w, 1);
    gguf_writer_finish(&w);
    struct header_source source = { fail_read, &w, (int64_t)w.n };
    struct weight_tally tally = { .n = 0 };
    struct pool_model_header *header = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(header_read_source(&source, &tally, &header, &err), POOL_INTERNAL);
    assert_int_equal(err.sys_errno, 5);
    source.read_at = end_early;
    assert_int_equal(header_read_source(&source, &tally, &header, &err), POOL_MODEL_CORRUPT);
    assert_null(header);
    gguf_writer_done(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_small_llama),
        cmocka_unit_test(reads_every_prefix_and_every_flip),
        cmocka_unit_test(refuses_versions),
        cmocka_unit_test(refuses_counts),
        cmocka_unit_test(refuses_bad_keys),
        cmocka_unit_test(refuses_what_is_there_twice),
        cmocka_unit_test(refuses_bad_tensors),
        cmocka_unit_test(refuses_overlap_and_disorder),
        cmocka_unit_test(accepts_odd_but_right_tensors),
        cmocka_unit_test(reads_metadata_beside_unknown_types),
        cmocka_unit_test(checks_the_alignment),
        cmocka_unit_test(says_how_much_of_a_download_is_missing),
        cmocka_unit_test(takes_integers_of_every_type),
        cmocka_unit_test(reads_values_by_layer),
        cmocka_unit_test(defaults_heads_of_keys),
        cmocka_unit_test(does_not_believe_every_block_count),
        cmocka_unit_test(finds_layers_by_their_tensors),
        cmocka_unit_test(knows_sliding_windows),
        cmocka_unit_test(refuses_bad_architectures),
        cmocka_unit_test(survives_a_source_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
