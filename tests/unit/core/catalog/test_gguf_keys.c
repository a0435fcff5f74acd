/*
 * What the keys and the names of tensors of a GGUF file mean: integers of every type, values by layer, sliding windows,
 * kinds of layers, architectures; and which values are refused.
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_integers_of_every_type),  cmocka_unit_test(reads_values_by_layer),
        cmocka_unit_test(defaults_heads_of_keys),        cmocka_unit_test(does_not_believe_every_block_count),
        cmocka_unit_test(finds_layers_by_their_tensors), cmocka_unit_test(knows_sliding_windows),
        cmocka_unit_test(refuses_bad_architectures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
