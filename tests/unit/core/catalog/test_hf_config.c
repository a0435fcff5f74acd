/*
 * config.json of models of safetensors: what it says of their shape, what is not believed, and what vLLM needs for them. Expected
 * sizes are worked out here by hand.
 */
#include "scratch_tree.h"

#include "core/catalog/hf_config.h"

#define MIB INT64_C(1048576)
#define GIB (1024 * MIB)

static const char llama[] =
    "{\"model_type\":\"llama\",\"hidden_size\":4096,\"num_attention_heads\":32,"
    "\"num_key_value_heads\":8,\"num_hidden_layers\":32,\"intermediate_size\":14336,"
    "\"vocab_size\":128256,\"max_position_embeddings\":131072,\"rope_theta\":500000.0}";

static struct pool_model_header *parse(const char *text)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_model_header *header = calloc(1, sizeof *header);
    assert_non_null(header);
    header->format = POOL_MODEL_FORMAT_SAFETENSORS;
    enum pool_code code = hf_config_parse(text, strlen(text), header, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(code, POOL_OK);
    return header;
}

static struct pool_estimate estimate(const struct pool_model_header *header,
                                     const struct pool_estimate_options *wish)
{
    struct pool_estimate result = { 0 };
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_estimate_options options = wish ? *wish : (struct pool_estimate_options){ 0 };
    options.struct_size = sizeof options;
    options.is_on_gpu = true;
    assert_int_equal(pool_model_estimate(header, &options, &result, &err), POOL_OK);
    return result;
}

static void test_shape(void **state)
{
    (void)state;
    struct pool_model_header *header = parse(llama);
    assert_string_equal(header->architecture, "llama");
    assert_int_equal(header->block_count.value, 32);
    assert_int_equal(header->n_layers, 32);
    assert_int_equal(header->key_length.value, 128);
    assert_int_equal(header->layers[31].head_count_kv, 8);
    assert_true(header->layers[31].has_attention);
    assert_int_equal(header->context_length.value, 131072);
    assert_int_equal(header->vocabulary_size.value, 128256);
    assert_false(header->sliding_window.is_present);
    assert_false(header->key_length_mla.is_present);
    pool_model_header_free(header);
}

static void test_estimate(void **state)
{
    (void)state;
    struct pool_model_header *header = parse(llama);
    header->tensor_bytes = 15 * GIB;
    struct pool_estimate result = estimate(header, NULL);
    assert_int_equal(result.ctx_size, 8192);
    assert_int_equal(result.weights_bytes, 15 * GIB);
    assert_int_equal(result.kv_cache_bytes, GIB); /* 32 layers x 8192 x 2 x 8 heads x 128 x 2 bytes */
    assert_int_equal(result.compute_bytes, 3 * GIB);
    assert_int_equal(result.overhead_bytes, 2 * GIB);
    assert_int_equal(result.margin_bytes, 21 * GIB / 10);
    assert_int_equal(result.total_bytes, 21 * GIB + 21 * GIB / 10);
    result =
        estimate(header, &(struct pool_estimate_options){ .ctx_size = 8193, .cache_type_k = "fp8_e4m3" });
    assert_int_equal(result.kv_cache_bytes, (GIB + 32 * 16 * 4096) / 2);
    struct pool_estimate_options in_memory = { .struct_size = sizeof in_memory };
    assert_int_equal(pool_model_estimate(header, &in_memory, &result, NULL), POOL_MODEL_INCOMPATIBLE);
    struct pool_estimate half =
        estimate(header, &(struct pool_estimate_options){ .first_layer = 0, .end_layer = 11 });
    assert_int_equal(half.weights_bytes, 5 * GIB); /* 11 of 32 layers and the output */
    pool_model_header_free(header);
}

static void test_kinds_of_attention(void **state)
{
    (void)state;
    struct pool_model_header *header =
        parse("{\"model_type\":\"gemma3\",\"text_config\":{\"num_hidden_layers\":3,\"num_attention_heads\":8,"
              "\"num_key_value_heads\":4,\"hidden_size\":2560,\"head_dim\":256,\"sliding_window\":512,"
              "\"layer_types\":[\"sliding_attention\",\"full_attention\",\"linear_attention\"]}}");
    assert_true(header->layers[0].is_sliding_window && header->layers[0].has_attention);
    assert_false(header->layers[1].is_sliding_window);
    assert_true(header->layers[2].is_recurrent && !header->layers[2].has_attention);
    assert_int_equal(estimate(header, &(struct pool_estimate_options){ .ctx_size = 1024 }).kv_cache_bytes,
                     2 * 1024 * 2 * 4 * 256 * 2);
    pool_model_header_free(header);
    header = parse("{\"num_hidden_layers\":61,\"hidden_size\":7168,\"num_attention_heads\":128,"
                   "\"kv_lora_rank\":512,\"qk_rope_head_dim\":64}");
    assert_int_equal(estimate(header, &(struct pool_estimate_options){ .ctx_size = 1024 }).kv_cache_bytes,
                     INT64_C(61) * 1024 * 576 * 2);
    pool_model_header_free(header);
    header = parse("{\"n_layer\":2,\"n_embd\":64,\"n_head\":4,\"multi_query\":true,\"sliding_window\":128,"
                   "\"use_sliding_window\":false}");
    assert_int_equal(header->layers[1].head_count_kv, 1);
    assert_false(header->layers[1].is_sliding_window);
    assert_null(header->architecture);
    pool_model_header_free(header);
}

static void test_what_is_not_believed(void **state)
{
    (void)state;
    static const char *const texts[] = { "{}", "{\"num_hidden_layers\":null,\"head_dim\":64}",
                                         "{\"num_hidden_layers\":32,\"hidden_size\":64}",
                                         "{\"num_hidden_layers\":32,\"head_dim\":null}" };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct pool_estimate result;
        struct pool_estimate_options options = { .struct_size = sizeof options };
        struct pool_model_header *header = parse(texts[i]);
        assert_int_equal(pool_model_estimate(header, &options, &result, NULL), POOL_MODEL_INCOMPATIBLE);
        pool_model_header_free(header);
    }
}

/* What is there and is no such number would be a lower admission, were it taken as absent. */
static void test_damaged_numbers(void **state)
{
    (void)state;
    static const char *const names[] = { "num_hidden_layers", "hidden_size", "num_attention_heads",
                                         "head_dim", "num_key_value_heads" };
    static const char *const values[] = {
        "0", "-1", "1e3", "\"32\"", "4000000000", "[]", "{}", "true", "1.5"
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        for (size_t k = 0; k < sizeof values / sizeof values[0]; k++) {
            char text[256];
            struct pool_error err = POOL_ERROR_INIT;
            struct pool_model_header *header = calloc(1, sizeof *header);
            assert_non_null(header);
            snprintf(text, sizeof text, "{\"%s\":%s,\"n_layer\":2,\"head_dim_\":64}", names[i], values[k]);
            if (hf_config_parse(text, strlen(text), header, &err) != POOL_MODEL_CORRUPT)
                fail_msg("%s", text);
            assert_non_null(strstr(err.message, names[i]));
            pool_model_header_free(header);
        }
    }
    static const char *const together[] = {
        "{\"num_hidden_layers\":2000000000,\"head_dim\":64}",
        "{\"num_hidden_layers\":2,\"hidden_size\":8,\"num_attention_heads\":16}",
        "{\"text_config\":{\"num_hidden_layers\":-1}}",
    };
    for (size_t i = 0; i < sizeof together / sizeof together[0]; i++) {
        struct pool_model_header *header = calloc(1, sizeof *header);
        assert_non_null(header);
        assert_int_equal(hf_config_parse(together[i], strlen(together[i]), header, NULL), POOL_MODEL_CORRUPT);
        pool_model_header_free(header);
    }
}

static void test_huge_numbers_do_not_overflow(void **state)
{
    (void)state;
    struct pool_model_header *header =
        parse("{\"num_hidden_layers\":4096,\"head_dim\":2147483647,\"num_key_value_heads\":2147483647}");
    header->tensor_bytes = INT64_MAX;
    struct pool_estimate result = estimate(header, &(struct pool_estimate_options){ .ctx_size = INT32_MAX });
    assert_int_equal(result.total_bytes, INT64_MAX);
    pool_model_header_free(header);
}

static void write_weights(const struct scratch_tree *tree, const char *name)
{
    static const char json[] = "{\"a\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]}}";
    char file[8 + sizeof json - 1 + 12] = { (char)(sizeof json - 1) };
    memcpy(file + 8, json, sizeof json - 1);
    scratch_tree_write(tree, name, file, sizeof file);
}

static void test_folder(void **state)
{
    (void)state;
    struct scratch_tree tree;
    char paths[3][PATH_MAX];
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_model_header *header = NULL;
    scratch_tree_make(&tree);
    write_weights(&tree, "model-00001-of-00002.safetensors");
    write_weights(&tree, "model-00002-of-00002.safetensors");
    scratch_tree_write_text(&tree, "config.json", llama);
    SCRATCH_PATH(&tree, "model-00001-of-00002.safetensors", paths[0]);
    SCRATCH_PATH(&tree, "model-00002-of-00002.safetensors", paths[1]);
    SCRATCH_PATH(&tree, "config.json", paths[2]);
    const char *all[] = { paths[0], paths[1], paths[2] };
    assert_int_equal(pool_model_header_read_all(all, 3, &header, &err), POOL_OK);
    assert_int_equal(header->tensor_bytes, 24);
    assert_int_equal(header->n_layers, 32);
    assert_string_equal(header->architecture, "llama");
    pool_model_header_free(header);
    scratch_tree_write_text(&tree, "config.json", "{\"a\":");
    assert_int_equal(pool_model_header_read_all(all, 3, &header, &err), POOL_MODEL_CORRUPT);
    assert_non_null(strstr(err.message, "config.json: is no good JSON at line 1"));
    assert_int_equal(unlink(paths[2]), 0);
    err = (struct pool_error)POOL_ERROR_INIT;
    assert_int_equal(pool_model_header_read_all(all, 3, &header, &err), POOL_MODEL_CORRUPT);
    assert_int_equal(truncate(paths[2], 0), -1);
    scratch_tree_write_text(&tree, "config.json", "{}");
    assert_int_equal(truncate(paths[2], HF_CONFIG_MAX_BYTES + 1), 0);
    err = (struct pool_error)POOL_ERROR_INIT;
    assert_int_equal(pool_model_header_read_all(all, 3, &header, &err), POOL_MODEL_INCOMPATIBLE);
    assert_int_equal(truncate(paths[2], HF_CONFIG_MAX_BYTES), 0); /* NULs behind the object */
    err = (struct pool_error)POOL_ERROR_INIT;
    assert_int_equal(pool_model_header_read_all(all, 3, &header, &err), POOL_MODEL_CORRUPT);
    scratch_tree_remove(&tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shape),
        cmocka_unit_test(test_estimate),
        cmocka_unit_test(test_kinds_of_attention),
        cmocka_unit_test(test_what_is_not_believed),
        cmocka_unit_test(test_damaged_numbers),
        cmocka_unit_test(test_huge_numbers_do_not_overflow),
        cmocka_unit_test(test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
