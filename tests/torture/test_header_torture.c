/*
 * Reading headers when memory runs out: each allocation fails once. Nothing is lost, and nothing half-read is given out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pool/catalog.h>
#include <cmocka.h>

#include "gguf_writer.h"
#include "torture.h"

static char directory[] = "/tmp/test_header_torture.XXXXXX";
static char paths[3][64];

/* A shard: keys in the first, layers in both, those of the second found by their names. */
static void write_shard(size_t index)
{
    struct gguf_writer w;
    gguf_writer_init(&w);
    if (index == 0) {
        static const int64_t heads[] = { 2, 2, 4 };
        gguf_writer_string(&w, "general.architecture", "gemma2");
        gguf_writer_string(&w, "general.name", "two shards");
        gguf_writer_string(&w, "general.type", "model");
        gguf_writer_u32(&w, "gemma2.block_count", 3);
        gguf_writer_u32(&w, "gemma2.embedding_length", 64);
        gguf_writer_u32(&w, "gemma2.attention.head_count", 4);
        gguf_writer_u32(&w, "gemma2.attention.sliding_window", 4096);
        gguf_writer_array(&w, "gemma2.attention.head_count_kv", W_U32, heads, 3);
        gguf_writer_tokens(&w, "tokenizer.ggml.tokens", 100);
    }
    gguf_writer_u32(&w, "split.no", (uint32_t)index);
    gguf_writer_u32(&w, "split.count", 2);
    gguf_writer_u32(&w, "split.tensors.count", 3);
    if (index == 0)
        gguf_writer_tensor(&w, "blk.0.attn_k.weight", 64, 0, 0, 256);
    for (size_t i = 1; index == 1 && i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%zu.attn_k.weight", i);
        gguf_writer_tensor(&w, name, 64, 0, 0, 256);
    }
    gguf_writer_finish(&w);
    gguf_writer_save(&w, paths[index]);
    gguf_writer_done(&w);
}

static int make_files(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    for (size_t i = 0; i < 3; i++)
        snprintf(paths[i], sizeof paths[i], "%s/%zu", directory, i);
    write_shard(0);
    write_shard(1);
    static const char json[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                               "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}";
    FILE *file = fopen(paths[2], "we");
    if (!file)
        return -1;
    const unsigned char length[8] = { sizeof json - 1 };
    fwrite(length, 1, sizeof length, file);
    fwrite(json, 1, sizeof json - 1, file);
    fwrite("data", 1, 4, file);
    return fclose(file);
}

static int remove_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++)
        unlink(paths[i]);
    return rmdir(directory);
}

static enum pool_code read_shards(void *ctx)
{
    (void)ctx;
    const char *const shards[] = { paths[0], paths[1] };
    struct pool_model_header *header = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_code code = pool_model_header_read_all(shards, 2, &header, &err);
    assert_int_equal(code, err.code);
    assert_true((code == POOL_OK) == (header != NULL));
    assert_true(code == POOL_OK || code == POOL_INSUFFICIENT_MEMORY);
    if (code == POOL_OK)
        assert_int_equal(header->n_layers, 3);
    pool_model_header_free(header);
    return code;
}

static enum pool_code read_safetensors(void *ctx)
{
    (void)ctx;
    struct pool_model_header *header = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_code code = pool_model_header_read(paths[2], &header, &err);
    assert_int_equal(code, err.code);
    assert_true((code == POOL_OK) == (header != NULL));
    /* jansson takes a string it has no memory for (load.c, lex_scan_string) for a fault of the text. */
    assert_true(code == POOL_OK || code == POOL_INSUFFICIENT_MEMORY || code == POOL_MODEL_CORRUPT);
    pool_model_header_free(header);
    return code;
}

static void shards(void **state)
{
    (void)state;
    torture_scenario("shards of GGUF", read_shards, NULL);
}

static void safetensors(void **state)
{
    (void)state;
    torture_include_jansson();
    torture_scenario("safetensors", read_safetensors, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards),
        cmocka_unit_test(safetensors),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
