/*
 * Headers of safetensors files: what a right one says, and what is refused, with truncation at each byte and a flip of
 * each byte.
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

/* A file of this JSON, padded with n_spaces, and n_data bytes behind it. */
struct file {
    unsigned char *bytes;
    size_t n;
};

static struct file make_file(const char *json, size_t n_spaces, size_t n_data)
{
    size_t n_json = strlen(json), n = n_json + n_spaces;
    struct file file = { calloc(1, 8 + n + n_data), 8 + n + n_data };
    assert_non_null(file.bytes);
    for (size_t i = 0; i < 8; i++)
        file.bytes[i] = (unsigned char)((uint64_t)n >> (8 * i));
    memcpy(file.bytes + 8, json, n_json);
    memset(file.bytes + 8 + n_json, ' ', n_spaces);
    return file;
}

static enum pool_code read_bytes(const void *data, size_t n, struct pool_model_header **ret_header,
                                 struct pool_error *err)
{
    struct header_block block = { data, n };
    struct header_source source;
    struct weight_tally tally = { .n = 0 };
    header_source_from_memory(&source, &block);
    return header_read_source(&source, &tally, ret_header, err);
}

static const char two_tensors[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                                  "\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[12,16]},"
                                  "\"a\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]}}";

static void reads_a_small_file(void **state)
{
    (void)state;
    for (size_t n_spaces = 0; n_spaces < 9; n_spaces += 8) {
        struct file file = make_file(two_tensors, n_spaces, 16);
        struct pool_model_header *header = NULL;
        struct pool_error err = POOL_ERROR_INIT;
        assert_int_equal(read_bytes(file.bytes, file.n, &header, &err), POOL_OK);
        assert_int_equal(header->format, POOL_MODEL_FORMAT_SAFETENSORS);
        assert_string_equal(pool_model_format_name(header->format), "safetensors");
        assert_string_equal(header->quantization, "BF16");
        assert_int_equal(header->n_tensors, 2);
        assert_int_equal(header->n_keys, 1);
        assert_true(header->parameter_count.is_present);
        assert_int_equal(header->parameter_count.value, 7);
        assert_int_equal(header->tensor_bytes, 16);
        assert_int_equal(header->data_offset_bytes, file.n - 16);
        assert_true(header->is_size_known);
        assert_null(header->architecture);
        assert_false(header->block_count.is_present);
        assert_int_equal(header->shard_count, 1);
        pool_model_header_free(header);
        free(file.bytes);
    }
}

static void reads_every_type(void **state)
{
    (void)state;
    static const struct {
        const char *dtype;
        size_t n_bytes; /* of eight elements */
    } cases[] = {
        { "BOOL", 8 },        { "F4", 4 },      { "F6_E2M3", 6 }, { "F6_E3M2", 6 }, { "U8", 8 },
        { "I8", 8 },          { "F8_E5M2", 8 }, { "F8_E4M3", 8 }, { "F8_E8M0", 8 }, { "F8_E4M3FNUZ", 8 },
        { "F8_E5M2FNUZ", 8 }, { "I16", 16 },    { "U16", 16 },    { "F16", 16 },    { "BF16", 16 },
        { "I32", 32 },        { "U32", 32 },    { "F32", 32 },    { "I64", 64 },    { "U64", 64 },
        { "F64", 64 },        { "C64", 64 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char json[256];
        snprintf(json, sizeof json, "{\"a\":{\"dtype\":\"%s\",\"shape\":[2,4],\"data_offsets\":[0,%zu]}}",
                 cases[i].dtype, cases[i].n_bytes);
        struct file file = make_file(json, 0, cases[i].n_bytes);
        struct pool_model_header *header = NULL;
        struct pool_error err = POOL_ERROR_INIT;
        if (read_bytes(file.bytes, file.n, &header, &err) != POOL_OK)
            fail_msg("%s: %s", cases[i].dtype, err.message);
        assert_string_equal(header->quantization, cases[i].dtype);
        assert_int_equal(header->tensor_bytes, cases[i].n_bytes);
        pool_model_header_free(header);
        free(file.bytes);
    }
}

/* A type of tomorrow is listed, its size is not known; the ranges still must cover the file. */
static void reads_unknown_types(void **state)
{
    (void)state;
    struct file file = make_file("{\"a\":{\"dtype\":\"F3\",\"shape\":[8],\"data_offsets\":[0,3]}}", 0, 3);
    struct pool_model_header *header = NULL;
    assert_int_equal(read_bytes(file.bytes, file.n, &header, NULL), POOL_OK);
    assert_false(header->is_size_known);
    assert_int_equal(header->tensor_bytes, 3);
    assert_null(header->quantization);
    pool_model_header_free(header);
    free(file.bytes);
}

#define TENSOR(shape, offsets) "{\"a\":{\"dtype\":\"U8\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void refuses_bad_files(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        size_t n_data;
    } cases[] = {
        { "{", 0 },
        { "{\"a\":1}", 0 },
        { "{\"a\":{}}", 0 },
        { "{} x", 0 },
        { "{\"__metadata__\":[]}", 0 },
        { "{\"__metadata__\":{\"a\":1}}", 0 },
        { "{\"a\\u0000\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1 },
        { "{\"\xff\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1 },
        { TENSOR("[4]", "[0,4]") "x", 4 },
        { TENSOR("[4]", "[0,4]"), 3 },  /* cut */
        { TENSOR("[4]", "[0,4]"), 5 },  /* bytes that are nobody's */
        { TENSOR("[4]", "[1,5]"), 5 },  /* a hole at the start */
        { TENSOR("[4]", "[0,3]"), 3 },  /* not as many as the shape says */
        { TENSOR("[4]", "[4,0]"), 4 },  /* backwards */
        { TENSOR("[4]", "[-4,0]"), 4 }, /* negative */
        { TENSOR("[4]", "[0]"), 4 },
        { TENSOR("[4]", "[0,4,4]"), 4 },
        { TENSOR("[4]", "[0,4.0]"), 4 },
        { TENSOR("[4]", "{}"), 4 },
        { TENSOR("4", "[0,4]"), 4 },
        { TENSOR("[-4]", "[0,4]"), 4 },
        { TENSOR("[4.0]", "[0,4]"), 4 },
        { TENSOR("[4294967296,4294967296]", "[0,0]"), 0 },                        /* the product is 2^64 */
        { TENSOR("[9223372036854775807]", "[0,9223372036854775807]"), 0 },        /* bits overflow */
        { "{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2 }, /* half a byte */
        { "{\"a\":{\"dtype\":\"X1\",\"shape\":[1],\"data_offsets\":[0,9223372036854775807]},"
          "\"b\":{\"dtype\":\"X1\",\"shape\":[1],\"data_offsets\":[0,9223372036854775807]}}",
          4 },
        { "{\"a\":{\"dtype\":1,\"shape\":[4],\"data_offsets\":[0,4]}}", 4 },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"x\":1}}", 4 },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
          "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
          8 }, /* twice */
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
          "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
          6 }, /* overlap */
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
          "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[6,10]}}",
          10 }, /* a hole */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct file file = make_file(cases[i].json, 0, cases[i].n_data);
        struct pool_model_header *header = NULL;
        struct pool_error err = POOL_ERROR_INIT;
        enum pool_code code = read_bytes(file.bytes, file.n, &header, &err);
        if (code != POOL_MODEL_CORRUPT)
            fail_msg("%s: %s", cases[i].json, pool_code_name(code));
        assert_int_equal(err.code, code);
        assert_non_null(pool_error_detail(&err, "offset_bytes"));
        assert_null(header);
        free(file.bytes);
    }
}

static void refuses_deep_nesting(void **state)
{
    (void)state;
    enum { DEPTH = 100000 };
    char *json = malloc(DEPTH + 16);
    assert_non_null(json);
    memcpy(json, "{\"a\":", 5);
    memset(json + 5, '[', DEPTH);
    json[5 + DEPTH] = '\0';
    struct file file = make_file(json, 0, 0);
    struct pool_model_header *header = NULL;
    assert_int_equal(read_bytes(file.bytes, file.n, &header, NULL), POOL_MODEL_CORRUPT);
    free(file.bytes);
    free(json);
}

/* More than a mebibyte of JSON is usual for models of many experts; more than our limit is refused unread. */
static void has_a_limit(void **state)
{
    (void)state;
    struct file file = make_file(two_tensors, 2 << 20, 16);
    struct pool_model_header *header = NULL;
    assert_int_equal(read_bytes(file.bytes, file.n, &header, NULL), POOL_OK);
    pool_model_header_free(header);
    header = NULL;
    free(file.bytes);

    file = make_file(two_tensors, POOL_SAFETENSORS_HEADER_MAX_BYTES, 16);
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(read_bytes(file.bytes, file.n, &header, &err), POOL_MODEL_INCOMPATIBLE);
    assert_non_null(pool_error_detail(&err, "limit_bytes"));
    assert_null(header);
    free(file.bytes);

    /* Over what the format allows: no safetensors at all. */
    static const unsigned char other[16] = { 0, 0, 0, 0, 1, 0, 0, 0, '{' };
    assert_int_equal(read_bytes(other, sizeof other, &header, NULL), POOL_OK);
    assert_int_equal(header->format, POOL_MODEL_FORMAT_UNKNOWN);
    pool_model_header_free(header);
}

static void reads_every_prefix_and_every_flip(void **state)
{
    (void)state;
    struct file file = make_file(two_tensors, 3, 16);
    for (size_t n = 0; n < file.n; n++) {
        struct pool_model_header *header = NULL;
        unsigned char *copy = malloc(n > 0 ? n : 1);
        assert_non_null(copy);
        memcpy(copy, file.bytes, n);
        enum pool_code code = read_bytes(copy, n, &header, NULL);
        assert_int_equal(code, n < 9 ? POOL_OK : POOL_MODEL_CORRUPT);
        assert_true((code == POOL_OK) == (header != NULL));
        pool_model_header_free(header);
        free(copy);
    }
    for (size_t i = 0; i < file.n; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            struct pool_model_header *header = NULL;
            file.bytes[i] ^= (unsigned char)(1U << bit);
            enum pool_code code = read_bytes(file.bytes, file.n, &header, NULL);
            file.bytes[i] ^= (unsigned char)(1U << bit);
            assert_true(code == POOL_OK || code == POOL_MODEL_CORRUPT || code == POOL_MODEL_INCOMPATIBLE);
            assert_true((code == POOL_OK) == (header != NULL));
            pool_model_header_free(header);
        }
    }
    free(file.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_small_file),
        cmocka_unit_test(reads_every_type),
        cmocka_unit_test(reads_unknown_types),
        cmocka_unit_test(refuses_bad_files),
        cmocka_unit_test(refuses_deep_nesting),
        cmocka_unit_test(has_a_limit),
        cmocka_unit_test(reads_every_prefix_and_every_flip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
