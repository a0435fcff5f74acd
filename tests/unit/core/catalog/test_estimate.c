/*
 * Estimates: known models by hand, what an estimate refuses, and the properties that hold for every header, sane or
 * not: never negative, the parts make the whole, and never less for more context.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <pool/catalog.h>
#include <cmocka.h>

#define MIB (INT64_C(1) << 20)
#define GIB (INT64_C(1) << 30)
#define SAYS(n)   \
    {             \
        true, (n) \
    }

#define LAYERS_MAX 64

struct model {
    struct pool_model_header header;
    struct pool_model_layer layers[LAYERS_MAX];
};

/* Llama 3 8B as Q4_K_M: 32 layers, 32 heads, 8 of them for keys, 128 wide. */
static void make_llama(struct model *model)
{
    *model = (struct model){
        .header = {
            .format = POOL_MODEL_FORMAT_GGUF,
            .context_length = SAYS(131072),
            .embedding_length = SAYS(4096),
            .feed_forward_length = SAYS(14336),
            .vocabulary_size = SAYS(128256),
            .block_count = SAYS(32),
            .head_count = SAYS(32),
            .is_size_known = true,
            .tensor_bytes = 4685 * MIB,
            .token_embedding_bytes = 281 * MIB,
            .output_bytes = 411 * MIB,
            .shard_count = 1,
            .n_layers = 32,
        },
    };
    static char architecture[] = "llama";
    model->header.architecture = architecture;
    model->header.layers = model->layers;
    for (size_t i = 0; i < 32; i++)
        model->layers[i] = (struct pool_model_layer){ .head_count_kv = 8, .has_attention = true };
}

static struct pool_estimate estimate(const struct model *model, int64_t ctx_size, int64_t parallel,
                                     bool is_on_gpu)
{
    struct pool_estimate_options options = {
        .struct_size = sizeof options, .ctx_size = ctx_size, .parallel = parallel, .is_on_gpu = is_on_gpu
    };
    struct pool_estimate result;
    struct pool_error err = POOL_ERROR_INIT;
    if (pool_model_estimate(&model->header, &options, &result, &err) != POOL_OK)
        fail_msg("%s", err.message);
    return result;
}

static void estimates_llama(void **state)
{
    (void)state;
    struct model model;
    make_llama(&model);
    struct pool_estimate e = estimate(&model, 0, 0, true);
    assert_int_equal(e.ctx_size, 8192);
    assert_int_equal(e.weights_bytes, (4685 - 281) * MIB);
    /* 32 layers * 8192 cells * 8 heads * (128 + 128) * 2 bytes */
    assert_int_equal(e.kv_cache_bytes, GIB);
    assert_int_equal(e.overhead_bytes, 512 * MIB);
    /* llama.cpp itself has 258 MiB with flash attention; logits of a micro-batch alone are 250.5 MiB. */
    assert_in_range(e.compute_bytes, 258 * MIB, 400 * MIB);
    assert_int_equal(e.recurrent_bytes, 0);
    int64_t sum = e.weights_bytes + e.kv_cache_bytes + e.compute_bytes + e.overhead_bytes;
    assert_int_equal(e.margin_bytes, sum / 10 > 512 * MIB ? sum / 10 : 512 * MIB);
    assert_int_equal(e.total_bytes, sum + e.margin_bytes);

    /* On the CPU the embedding is there as well, and no CUDA context. */
    struct pool_estimate cpu = estimate(&model, 0, 0, false);
    assert_int_equal(cpu.weights_bytes, 4685 * MIB);
    assert_int_equal(cpu.kv_cache_bytes, GIB);
    assert_true(cpu.overhead_bytes < e.overhead_bytes);

    assert_int_equal(estimate(&model, 100, 1, true).kv_cache_bytes, GIB / 32); /* padded to 256 cells */
    assert_int_equal(estimate(&model, 256, 1, true).kv_cache_bytes, GIB / 32);
    assert_int_equal(estimate(&model, 257, 1, true).kv_cache_bytes, GIB / 16);
    model.header.context_length = (struct pool_reading)SAYS(2048);
    assert_int_equal(estimate(&model, 0, 1, true).ctx_size, 2048);
    assert_int_equal(estimate(&model, 4096, 1, true).ctx_size, 4096);
    model.header.context_length.is_present = false;
    assert_int_equal(estimate(&model, 0, 1, true).ctx_size, 8192);
}

static void large_models_have_a_larger_margin(void **state)
{
    (void)state;
    struct model model;
    make_llama(&model);
    model.header.tensor_bytes = 40 * GIB;
    struct pool_estimate e = estimate(&model, 0, 0, true);
    assert_int_equal(e.margin_bytes,
                     (e.weights_bytes + e.kv_cache_bytes + e.compute_bytes + e.overhead_bytes) / 10);
}

static void counts_a_tied_embedding_on_the_device(void **state)
{
    (void)state;
    struct model model;
    make_llama(&model);
    model.header.output_bytes = 0;
    assert_int_equal(estimate(&model, 0, 0, true).weights_bytes, 4685 * MIB);
    assert_int_equal(estimate(&model, 0, 0, false).weights_bytes, 4685 * MIB);
    model.header.lookup_bytes = 100 * MIB;
    assert_int_equal(estimate(&model, 0, 0, true).weights_bytes, 4585 * MIB);
}

static void counts_heads_by_layer(void **state)
{
    (void)state;
    struct model model;
    make_llama(&model);
    for (size_t i = 0; i < 16; i++)
        model.layers[i].head_count_kv = 0;
    assert_int_equal(estimate(&model, 8192, 1, true).kv_cache_bytes, GIB / 2);
    model.header.key_length = (struct pool_reading)SAYS(64);
    assert_int_equal(estimate(&model, 8192, 1, true).kv_cache_bytes, GIB / 2 / 4 * 3);
    model.header.shared_kv_layers = (struct pool_reading)SAYS(8);
    assert_int_equal(estimate(&model, 8192, 1, true).kv_cache_bytes, GIB / 4 / 4 * 3);
    model.header.shared_kv_layers.value = 1000;
    assert_int_equal(estimate(&model, 8192, 1, true).kv_cache_bytes, 0);
}

static void counts_sliding_windows(void **state)
{
    (void)state;
    struct model model;
    make_llama(&model);
    model.header.sliding_window = (struct pool_reading)SAYS(1024);
    int64_t layer_cell_bytes = 8 * 256 * 2;
    for (size_t i = 0; i < 32; i++)
        model.layers[i].is_sliding_window = i % 2 == 0;
    /* PAD(1024 + 512, 256) = 1536 cells */
    assert_int_equal(estimate(&model, 8192, 1, true).kv_cache_bytes, 16 * layer_cell_bytes * (8192 + 1536));
    assert_int_equal(estimate(&model, 1024, 1, true).kv_cache_bytes, 32 * layer_cell_bytes * 1024);
    model.header.key_length_swa = (struct pool_reading)SAYS(0);
    assert_int_equal(estimate(&model, 8192, 1, true).kv_cache_bytes,
                     16 * layer_cell_bytes * 8192 + 16 * layer_cell_bytes / 2 * 1536);
}

static void counts_latent_rows(void **state)
{
    (void)state;
    struct model model;
    make_llama(&model);
    model.header.kv_lora_rank = (struct pool_reading)SAYS(512);
    model.header.rope_dimension_count = (struct pool_reading)SAYS(64);
    assert_int_equal(estimate(&model, 8192, 1, true).kv_cache_bytes, GIB); /* converted before MLA */
    model.header.key_length_mla = (struct pool_reading)SAYS(192);
    assert_int_equal(estimate(&model, 8192, 1, true).kv_cache_bytes, 32 * 8192 * INT64_C(576) * 2);
}

static void counts_states_by_slot(void **state)
{
    (void)state;
    struct model model;
    make_llama(&model);
    for (size_t i = 0; i < 32; i++)
        model.layers[i] = (struct pool_model_layer){ .is_recurrent = true };
    model.header.head_count.is_present = false; /* nothing attends, so nobody asks for it */
    model.header.ssm_conv_kernel = (struct pool_reading)SAYS(4);
    model.header.ssm_inner_size = (struct pool_reading)SAYS(8192);
    model.header.ssm_state_size = (struct pool_reading)SAYS(128);
    model.header.ssm_group_count = (struct pool_reading)SAYS(8);
    int64_t state_bytes = 4 * (3 * (8192 + 2 * 8 * 128) + 128 * 8192);
    assert_int_equal(estimate(&model, 4096, 1, true).recurrent_bytes, 32 * state_bytes);
    assert_int_equal(estimate(&model, 4096, 1, true).kv_cache_bytes, 0);
    assert_int_equal(estimate(&model, 65536, 1, true).recurrent_bytes, 32 * state_bytes);
    assert_int_equal(estimate(&model, 4096, 4, true).recurrent_bytes, 4 * 32 * state_bytes);

    /* Falcon-H1 has both in each layer. */
    model.header.head_count = (struct pool_reading)SAYS(32);
    model.layers[0].has_attention = true;
    model.layers[0].head_count_kv = 8;
    assert_int_equal(estimate(&model, 8192, 1, true).recurrent_bytes, 32 * state_bytes);
    assert_int_equal(estimate(&model, 8192, 1, true).kv_cache_bytes, GIB / 32);

    model.layers[0].has_attention = false;
    model.header.wkv_head_size = (struct pool_reading)SAYS(64);
    assert_int_equal(estimate(&model, 8192, 1, true).recurrent_bytes, INT64_C(32) * 4 * 4096 * (64 + 2));
    model.header.wkv_head_size.is_present = false;
    model.header.shortconv_l_cache = (struct pool_reading)SAYS(3);
    assert_int_equal(estimate(&model, 8192, 1, true).recurrent_bytes, INT64_C(32) * 4 * 4096 * 2);
    model.header.shortconv_l_cache.is_present = false;
    model.header.kda_head_dim = (struct pool_reading)SAYS(128);
    assert_int_equal(estimate(&model, 8192, 1, true).recurrent_bytes,
                     INT64_C(32) * 4 * 4096 * (3 * 3 + 128)); /* 32 heads of 128 are 4096 */
}

/* What each option of the engine changes, for a model that has it all: 16 of 32 layers with a window of 1024. */
static void counts_what_the_engine_is_started_with(void **state)
{
    (void)state;
    struct model model;
    make_llama(&model);
    model.header.sliding_window = (struct pool_reading)SAYS(1024);
    for (size_t i = 0; i < 32; i++)
        model.layers[i].is_sliding_window = i % 2 == 0;
    int64_t cell = 16 * 8 * 256 * 2; /* of half of the layers */
    const struct {
        struct pool_estimate_options options;
        int64_t full_cells, window_cells; /* over all slots */
    } cases[] = {
        { { .ctx_size = 8192, .parallel = 1 }, 8192, 1536 },
        { { .ctx_size = 8192, .parallel = 4 }, 8192, 4 * 1536 },
        { { .ctx_size = 8192, .parallel = 3 }, 3 * 2816, 3 * 1536 },
        { { .ctx_size = 1000, .parallel = 3 }, 3 * 512, 3 * 512 },
        { { .ctx_size = 8192, .parallel = 4, .is_kv_unified = true }, 8192, 4 * 1024 + 512 },
        { { .ctx_size = 8192, .parallel = 1, .ubatch = 2048 }, 8192, 3072 },
        { { .ctx_size = 8192, .parallel = 1, .is_window_full = true }, 8192, 8192 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_estimate_options options = cases[i].options;
        struct pool_estimate result;
        options.struct_size = sizeof options;
        assert_int_equal(pool_model_estimate(&model.header, &options, &result, NULL), POOL_OK);
        assert_int_equal(result.kv_cache_bytes, cell * (cases[i].full_cells + cases[i].window_cells));
    }
    struct pool_estimate_options options = { .struct_size = sizeof options, .ctx_size = 8192 };
    struct pool_estimate plain, other;
    options.is_window_full = true;
    assert_int_equal(pool_model_estimate(&model.header, &options, &plain, NULL), POOL_OK);
    options.cache_type_k = options.cache_type_v = "q8_0";
    assert_int_equal(pool_model_estimate(&model.header, &options, &other, NULL), POOL_OK);
    assert_int_equal(other.kv_cache_bytes, plain.kv_cache_bytes / 64 * 34);
    options.cache_type_v = "q4_0";
    assert_int_equal(pool_model_estimate(&model.header, &options, &other, NULL), POOL_OK);
    assert_int_equal(other.kv_cache_bytes, plain.kv_cache_bytes / 64 * (17 + 9));
    options.cache_type_v = "q9_9";
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(pool_model_estimate(&model.header, &options, &other, &err), POOL_INVALID_REQUEST);
    assert_string_equal(err.field, "cache_type_v");
    options.cache_type_v = NULL;
    options.engine_build = 100000; /* it keeps the logits of the last tokens only */
    assert_int_equal(pool_model_estimate(&model.header, &options, &other, NULL), POOL_OK);
    assert_true(other.compute_bytes < plain.compute_bytes);
    plain = other;
    options.is_flash_attention_off = true; /* the scores of 32 heads, and a mask of F32 */
    assert_int_equal(pool_model_estimate(&model.header, &options, &other, NULL), POOL_OK);
    assert_true(other.compute_bytes >= plain.compute_bytes + INT64_C(512) * 8192 * 32 * 4);
}

/* However the layers are shared out, each is somewhere and none twice. */
static void shares_layers_out(void **state)
{
    (void)state;
    struct model model;
    make_llama(&model);
    for (size_t i = 0; i < 32; i++)
        model.layers[i].weight_bytes = 124 * MIB;
    struct pool_estimate whole = estimate(&model, 8192, 2, true);
    for (int64_t cut = 1; cut <= 32; cut++) {
        struct pool_estimate_options options = { .struct_size = sizeof options,
                                                 .ctx_size = 8192,
                                                 .parallel = 2,
                                                 .is_on_gpu = true,
                                                 .end_layer = cut };
        struct pool_estimate low, high;
        assert_int_equal(pool_model_estimate(&model.header, &options, &low, NULL), POOL_OK);
        options.first_layer = cut;
        options.end_layer = 0;
        assert_int_equal(pool_model_estimate(&model.header, &options, &high, NULL), POOL_OK);
        assert_int_equal(low.weights_bytes + high.weights_bytes, whole.weights_bytes);
        assert_int_equal(low.kv_cache_bytes + high.kv_cache_bytes, whole.kv_cache_bytes);
        assert_int_equal(low.weights_bytes, cut * 124 * MIB);
        assert_true(low.compute_bytes < high.compute_bytes); /* the logits are with the output */
    }
}

/* A program built against an older header has a shorter struct; what it does not know is as if not said. */
static void takes_options_of_an_older_program(void **state)
{
    (void)state;
    struct model model;
    make_llama(&model);
    struct pool_estimate_options options;
    memset(&options, 0x5a, sizeof options);
    options.struct_size = offsetof(struct pool_estimate_options, ubatch);
    options.ctx_size = 8192;
    options.parallel = 1;
    options.is_on_gpu = true;
    struct pool_estimate result, expected = estimate(&model, 8192, 1, true);
    assert_int_equal(pool_model_estimate(&model.header, &options, &result, NULL), POOL_OK);
    assert_memory_equal(&result, &expected, sizeof result);
}

static void refuses_what_it_does_not_know(void **state)
{
    (void)state;
    static char mmproj[] = "mmproj", plain[] = "model";
    struct pool_estimate_options options = { .struct_size = sizeof options, .is_on_gpu = true };
    for (int kind = 0;; kind++) {
        struct model model;
        make_llama(&model);
        switch (kind) {
        case 0: model.header.format = POOL_MODEL_FORMAT_SAFETENSORS; break;
        case 1: model.header.format = POOL_MODEL_FORMAT_UNKNOWN; break;
        case 2: model.header.type = mmproj; break;
        case 3: model.header.is_size_known = false; break;
        case 4: model.header.architecture = NULL; break;
        case 5: model.header.block_count.is_present = false; break;
        case 6: model.header.block_count.value = 100000; break;
        case 7: model.header.embedding_length.is_present = false; break;
        case 8: model.header.embedding_length.value = 0; break;
        case 9: model.header.head_count.value = 0; break;
        case 10: model.header.head_count.is_present = false; break;
        case 11:
            model.header.shard_count = 2;
            model.header.n_tensors = 5;
            model.header.split_tensor_count = (struct pool_reading)SAYS(10);
            break;
        default:
            assert_int_equal(kind, 12);
            model.header.type = plain;
            estimate(&model, 0, 0, true);
            return;
        }
        struct pool_estimate result;
        struct pool_error err = POOL_ERROR_INIT;
        memset(&result, 0x5a, sizeof result);
        struct pool_estimate before = result;
        if (pool_model_estimate(&model.header, &options, &result, &err) != POOL_MODEL_INCOMPATIBLE)
            fail_msg("kind %d was estimated", kind);
        assert_int_equal(err.code, POOL_MODEL_INCOMPATIBLE);
        assert_memory_equal(&result, &before, sizeof result);
    }
}

static void refuses_negative_options(void **state)
{
    (void)state;
    struct model model;
    make_llama(&model);
    struct pool_estimate_options options = { .struct_size = sizeof options,
                                             .ctx_size = -1,
                                             .is_on_gpu = true };
    struct pool_estimate result;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(pool_model_estimate(&model.header, &options, &result, &err), POOL_INVALID_REQUEST);
    assert_string_equal(err.field, "ctx_size");
    options.ctx_size = 1;
    options.parallel = INT64_MIN;
    assert_int_equal(pool_model_estimate(&model.header, &options, &result, &err), POOL_INVALID_REQUEST);
    assert_string_equal(err.field, "parallel");
}

/* ---- properties ---- */

static uint64_t seed = 1;

/* Numbers of every size: xorshift (Marsaglia 2003), shifted down by a random number of bits. */
static int64_t random_number(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (int64_t)((seed >> 1) >> ((seed >> 32) % 63));
}

static struct pool_reading random_reading(void)
{
    int64_t value = random_number();
    return (struct pool_reading){ random_number() % 4 != 0, value };
}

static void make_random(struct model *model)
{
    make_llama(model);
    struct pool_model_header *h = &model->header;
    struct pool_reading *readings[] = {
        &h->context_length,
        &h->feed_forward_length,
        &h->vocabulary_size,
        &h->key_length,
        &h->value_length,
        &h->kv_lora_rank,
        &h->rope_dimension_count,
        &h->sliding_window,
        &h->expert_count,
        &h->expert_used_count,
        &h->ssm_conv_kernel,
        &h->ssm_inner_size,
        &h->ssm_state_size,
        &h->ssm_group_count,
        &h->key_length_mla,
        &h->key_length_swa,
        &h->value_length_swa,
        &h->shared_kv_layers,
        &h->expert_feed_forward_length,
        &h->wkv_head_size,
        &h->shortconv_l_cache,
    };
    for (size_t i = 0; i < sizeof readings / sizeof readings[0]; i++)
        *readings[i] = random_reading();
    h->embedding_length.value = random_number() | 1;
    h->head_count.value = random_number() | 1;
    h->tensor_bytes = random_number();
    h->token_embedding_bytes = random_number();
    h->output_bytes = random_number();
    h->lookup_bytes = random_number();
    h->n_layers = 1 + (size_t)random_number() % LAYERS_MAX;
    h->block_count.value = (int64_t)h->n_layers;
    for (size_t i = 0; i < h->n_layers; i++) {
        model->layers[i] = (struct pool_model_layer){
            .head_count_kv = random_number(),
            .is_sliding_window = random_number() % 2,
            .is_recurrent = random_number() % 3 == 0,
            .has_attention = random_number() % 2,
        };
    }
}

static int64_t saturated_sum(const struct pool_estimate *e)
{
    int64_t sum = e->weights_bytes;
    const int64_t parts[] = { e->recurrent_bytes, e->kv_cache_bytes, e->compute_bytes, e->overhead_bytes,
                              e->margin_bytes };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (__builtin_add_overflow(sum, parts[i], &sum))
            return INT64_MAX;
    }
    return sum;
}

static void check_parts(const struct pool_estimate *e)
{
    assert_true(e->ctx_size > 0);
    assert_true(e->weights_bytes >= 0);
    assert_true(e->kv_cache_bytes >= 0);
    assert_true(e->compute_bytes > 0);
    assert_true(e->overhead_bytes > 0);
    assert_true(e->margin_bytes >= 512 * MIB);
    assert_int_equal(e->total_bytes, saturated_sum(e));
}

static void never_shrinks(const struct pool_estimate *less, const struct pool_estimate *more)
{
    assert_true(less->weights_bytes <= more->weights_bytes);
    assert_true(less->kv_cache_bytes <= more->kv_cache_bytes);
    assert_true(less->compute_bytes <= more->compute_bytes);
    assert_true(less->total_bytes <= more->total_bytes);
}

static void holds_for_every_header(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct model model;
        make_random(&model);
        bool is_on_gpu = random_number() % 2;
        int64_t ctx_size = random_number() | 1, parallel = random_number() | 1;
        int64_t more_ctx = ctx_size, more_parallel = parallel;
        if (__builtin_add_overflow(ctx_size, random_number(), &more_ctx))
            more_ctx = INT64_MAX;
        if (__builtin_add_overflow(parallel, random_number(), &more_parallel))
            more_parallel = INT64_MAX;
        struct pool_estimate base = estimate(&model, ctx_size, parallel, is_on_gpu);
        struct pool_estimate wider = estimate(&model, more_ctx, parallel, is_on_gpu);
        struct pool_estimate busier = estimate(&model, ctx_size, more_parallel, is_on_gpu);
        check_parts(&base);
        check_parts(&wider);
        check_parts(&busier);
        never_shrinks(&base, &wider);
        assert_true(base.recurrent_bytes <= busier.recurrent_bytes);
    }
}

/* The same for a real shape and every size one would ask for. */
static void holds_for_llama(void **state)
{
    (void)state;
    struct model model;
    make_llama(&model);
    model.header.sliding_window = (struct pool_reading)SAYS(1000);
    model.layers[3].is_sliding_window = true;
    for (int64_t parallel = 1; parallel <= 40; parallel++) {
        struct pool_estimate last = estimate(&model, 1, parallel, true);
        for (int64_t ctx_size = 2; ctx_size < 4000; ctx_size += 7) {
            struct pool_estimate next = estimate(&model, ctx_size, parallel, true);
            never_shrinks(&last, &next);
            last = next;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(estimates_llama),
        cmocka_unit_test(large_models_have_a_larger_margin),
        cmocka_unit_test(counts_a_tied_embedding_on_the_device),
        cmocka_unit_test(counts_heads_by_layer),
        cmocka_unit_test(counts_sliding_windows),
        cmocka_unit_test(counts_latent_rows),
        cmocka_unit_test(counts_states_by_slot),
        cmocka_unit_test(counts_what_the_engine_is_started_with),
        cmocka_unit_test(shares_layers_out),
        cmocka_unit_test(takes_options_of_an_older_program),
        cmocka_unit_test(refuses_what_it_does_not_know),
        cmocka_unit_test(refuses_negative_options),
        cmocka_unit_test(holds_for_every_header),
        cmocka_unit_test(holds_for_llama),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
