/*
 * The layout of GGUF: what a right file says, and every way a wrong one is refused: counts, types, names, dimensions,
 * offsets, truncation at each byte, a flip of each byte. What keys mean is in test_gguf_keys.c, files and shards in
 * test_header.c.
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

#include "gguf_reading.h"

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
        cmocka_unit_test(survives_a_source_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
