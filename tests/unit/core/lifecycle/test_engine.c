/*
 * What engines say of themselves and what they are started with: versions, words and variables.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/lifecycle/engine_options.h"
#include "core/lifecycle/engine_version.h"

static void versions_are_read_in_both_forms(void **state)
{
    (void)state;
    static const struct {
        const char *output;
        const char *text;
        int64_t build;
    } cases[] = {
        { "version: 5432 (abc1234)\nbuilt with cc\n", "5432 (abc1234)", 5432 },
        { "noise\nversion: 0.7.0 (build 11669, commit Debian)\n", "0.7.0 (build 11669, commit Debian)",
          11669 },
        { "version: 0.7.0\n", "0.7.0", 0 },
        { "version: unknown\n", "unknown", 0 },
        { "version: 1\x1b[31m\n", "1?[31m", 1 },
        { "version: 99999999999999999999 (x)", "99999999999999999999 (x)", 0 },
        { "version: (build )", "(build )", 0 },
        { "version: \n", NULL, 0 },
        { "Version: 3\n", NULL, 0 },
        { "", NULL, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct engine_version version = { .build = -1 };
        assert_int_equal(engine_version_parse(cases[i].output, &version), cases[i].text != NULL);
        if (!cases[i].text)
            continue;
        assert_string_equal(version.text, cases[i].text);
        assert_int_equal(version.build, cases[i].build);
    }
    char longest[ENGINE_VERSION_MAX + 32];
    memset(longest, '1', sizeof longest);
    memcpy(longest, "version: ", 9);
    longest[sizeof longest - 1] = '\0';
    struct engine_version version;
    assert_false(engine_version_parse(longest, &version));
}

#define WORDS_MAX 12

static struct engine_options read_options(enum pool_activity activity, const char *const *command,
                                          struct pool_env_var *env, size_t n_env, const char *const *extra)
{
    struct pool_backend backend = {
        .activity = activity, .command = (char **)(uintptr_t)command, .env = env, .n_env = n_env
    };
    struct pool_worker_spawn_request request = { .extra_args = (char **)(uintptr_t)extra };
    while (command[backend.n_command])
        backend.n_command++;
    while (extra[request.n_extra_args])
        request.n_extra_args++;
    struct engine_options options = { .estimate = { .ctx_size = 4096, .parallel = 2 } };
    engine_options_read(&backend, &request, &options);
    return options;
}

static void the_last_word_counts(void **state)
{
    (void)state;
    static const char *const command[] = { "llama-server", "-c",   "{ctx_size}", "-np",
                                           "{parallel}",   "-ngl", "999",        NULL };
    static const char *const none[] = { NULL };
    struct engine_options options = read_options(POOL_ACTIVITY_LLAMA_SERVER, command, NULL, 0, none);
    assert_int_equal(options.estimate.ctx_size, 4096);
    assert_int_equal(options.estimate.parallel, 2);
    assert_int_equal(options.gpu_layers.value, 999);
    assert_null(options.estimate.cache_type_k);

    static const char *const extra[] = { "-c",   "65536",      "--parallel=8", "-ctk", "q8_0", "-ctk",
                                         "q4_0", "--swa-full", "-kvu",         "-ngl", "12",   NULL };
    struct pool_env_var env[] = { { (char[]){ "LLAMA_ARG_CACHE_TYPE_V" }, (char[]){ "q8_0" } },
                                  { (char[]){ "LLAMA_ARG_CTX_SIZE" }, (char[]){ "100" } },
                                  { (char[]){ "OTHER" }, (char[]){ "1" } } };
    options = read_options(POOL_ACTIVITY_LLAMA_SERVER, command, env, 3, extra);
    assert_int_equal(options.estimate.ctx_size, 65536);
    assert_int_equal(options.estimate.parallel, 8);
    assert_string_equal(options.estimate.cache_type_k, "q4_0");
    assert_string_equal(options.estimate.cache_type_v, "q8_0");
    assert_true(options.estimate.is_window_full);
    assert_true(options.estimate.is_kv_unified);
    assert_int_equal(options.gpu_layers.value, 12);
    options = read_options(POOL_ACTIVITY_VLLM, command, env, 3, extra); /* they mean nothing there */
    assert_int_equal(options.estimate.ctx_size, 4096);
}

static void vllm_is_told_how_much_it_may_take(void **state)
{
    (void)state;
    static const char *const told[] = { "vllm", "serve", "--gpu-memory-utilization", "{gpu_memory_fraction}",
                                        NULL };
    static const char *const silent[] = { "vllm", "serve", NULL };
    static const char *const none[] = { NULL };
    assert_false(read_options(POOL_ACTIVITY_VLLM, told, NULL, 0, none).memory_millionths.is_present);
    /* nobody says it to a worker that is on no GPU, and llama.cpp knows no such word */
    assert_false(read_options(POOL_ACTIVITY_VLLM, silent, NULL, 0, none).memory_millionths.is_present);
    static const struct {
        const char *text;
        int64_t millionths; /* 0: not understood, left to the engine */
    } cases[] = { { "0.5", 500000 },       { ".25", 250000 }, { "1", 1000000 }, { "1.0", 1000000 },
                  { "0.1234567", 123456 }, { "0", 0 },        { "1.1", 0 },     { "-0.5", 0 },
                  { "0.5x", 0 },           { "", 0 },         { "nan", 0 },     { "0.000001", 1 },
                  { "0.0000001", 0 },      { "2", 0 },        { "0x1", 0 } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *extra[] = { "--max-model-len",  "2048", "--max-num-seqs=3",
                                "--kv-cache-dtype", "fp8",  "--gpu-memory-utilization",
                                cases[i].text,      NULL };
        struct engine_options options = read_options(POOL_ACTIVITY_VLLM, told, NULL, 0, extra);
        assert_int_equal(options.estimate.ctx_size, 2048);
        assert_int_equal(options.estimate.parallel, 3);
        assert_string_equal(options.estimate.cache_type_k, "fp8");
        assert_int_equal(options.memory_millionths.is_present, cases[i].millionths > 0);
        assert_int_equal(options.memory_millionths.value, cases[i].millionths);
        assert_false(
            read_options(POOL_ACTIVITY_LLAMA_SERVER, told, NULL, 0, extra).memory_millionths.is_present);
    }
    struct pool_backend backend = { .activity = POOL_ACTIVITY_VLLM, .device = POOL_DEVICE_GPU };
    struct engine_options options = { 0 };
    engine_options_read(&backend, &(struct pool_worker_spawn_request){ 0 }, &options);
    assert_int_equal(options.memory_millionths.value, 900000); /* what it takes when nobody says */
}

static void flash_attention_may_be_said_without_a_value(void **state)
{
    (void)state;
    static const char *const command[] = { "llama-server", NULL };
    static const struct {
        const char *words[WORDS_MAX];
        bool is_off;
        int64_t ubatch;
    } cases[] = {
        { { "-fa" }, false, 0 },
        { { "-fa", "-ub", "64" }, false, 64 },
        { { "-fa", "off", "-ub", "64" }, true, 64 },
        { { "--flash-attn=0" }, true, 0 },
        { { "--flash-attn", "auto" }, false, 0 },
        { { "-fa", "off", "-fa", "on" }, false, 0 },
        { { "-ub" }, false, 0 },
        { { "-ub", "-5" }, false, 0 },
        { { "-ub", "many", "--ubatch-size", "32" }, false, 32 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct engine_options options =
            read_options(POOL_ACTIVITY_LLAMA_SERVER, command, NULL, 0, cases[i].words);
        assert_int_equal(options.estimate.is_flash_attention_off, cases[i].is_off);
        assert_int_equal(options.estimate.ubatch, cases[i].ubatch);
    }
}

static void files_beside_the_model_are_counted(void **state)
{
    (void)state;
    char path[] = "/tmp/test_engine.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 12345), 0);
    close(fd);
    const char *const command[] = { "llama-server", "--mmproj", path, NULL };
    const char *const extra[] = { "-md", path, "--lora", "/nonexistent", NULL };
    struct engine_options options = read_options(POOL_ACTIVITY_LLAMA_SERVER, command, NULL, 0, extra);
    unlink(path);
    assert_int_equal(options.extra_files_bytes, 2 * 12345);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_are_read_in_both_forms),
        cmocka_unit_test(the_last_word_counts),
        cmocka_unit_test(vllm_is_told_how_much_it_may_take),
        cmocka_unit_test(flash_attention_may_be_said_without_a_value),
        cmocka_unit_test(files_beside_the_model_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
