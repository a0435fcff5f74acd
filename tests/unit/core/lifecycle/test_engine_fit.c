/*
 * The engine's own tool: its output, and that it is asked once for each kind of start. The tool is a script here.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/lifecycle/engine_fit.h"
#include "scratch_tree.h"

#define MIB (INT64_C(1) << 20)

static void outputs_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *output;
        bool is_host;
        int64_t model_mib; /* -1: none */
    } cases[] = {
        { "CUDA0 4403 1024 260 \nHost 281 0 12 \n", false, 4403 },
        { "CUDA0 4403 1024 260 \nHost 281 0 12 \n", true, 281 },
        { "some log\nCUDA0 0 0 5\n", false, 0 }, /* nothing is a value, too */
        { "CUDA0\t1\t2\t3\r\n", false, 1 },
        { "Host 281 0 12", true, 281 },
        { "Host 281 0 12", false, -1 },
        { "CUDA0 1 2\n", false, -1 },
        { "CUDA0 1 2 3 4\n", false, -1 },
        { "CUDA0 1 2 -3\n", false, -1 },
        { "CUDA0 1\n2 3\n", false, -1 },
        { " 1 2 3\n", false, -1 },
        { "CUDA0 99999999999999999999 2 3\n", false, -1 },
        { "CUDA0 1073741825 2 3\n", false, -1 },
        { "", false, -1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct engine_fit fit;
        bool is_there = engine_fit_parse(cases[i].output, cases[i].is_host, &fit);
        if (is_there != (cases[i].model_mib >= 0))
            fail_msg("case %zu", i);
        if (is_there)
            assert_int_equal(fit.model_bytes, cases[i].model_mib * MIB);
    }
}

static size_t count_lines(const char *path)
{
    FILE *file = fopen(path, "r");
    size_t n = 0;
    for (int c; file && (c = fgetc(file)) != EOF;)
        n += c == '\n';
    if (file)
        fclose(file);
    return n;
}

static void the_tool_is_asked_once_for_each_kind(void **state)
{
    (void)state;
    struct scratch_tree tree;
    char folder[PATH_MAX], tool[PATH_MAX], server[PATH_MAX], log[PATH_MAX], script[2 * PATH_MAX];
    scratch_tree_make(&tree);
    SCRATCH_PATH(&tree, "state", folder);
    SCRATCH_PATH(&tree, "llama-fit-params", tool);
    SCRATCH_PATH(&tree, "llama-server", server);
    SCRATCH_PATH(&tree, "asked", log);
    assert_int_equal(mkdir(folder, 0700), 0);
    struct pool_backend backend = { .activity = POOL_ACTIVITY_LLAMA_SERVER,
                                    .device = POOL_DEVICE_GPU,
                                    .name = (char[]){ "cuda" } };
    struct pool_worker_spawn_request request = { .ctx_size = 4096 };
    struct pool_model model = { .path = (char[]){ "/m.gguf" }, .size_bytes = 5 };
    struct pool_model_header header = { .format = POOL_MODEL_FORMAT_GGUF };
    struct start_request start = {
        .request = &request, .backend = &backend, .model = &model, .header = &header, .program = server
    };
    const char *const environment[] = { NULL };
    struct start_context context = { .environment = environment, .state_dir = folder };
    start.engine.estimate = (struct pool_estimate_options){ .struct_size = sizeof start.engine.estimate,
                                                            .ctx_size = 4096,
                                                            .parallel = 1,
                                                            .is_on_gpu = true,
                                                            .cache_type_k = "q8_0" };
    start.ctx_size = 4096;
    start.need.source = "estimate";
    assert_false(engine_fit_apply(&context, &start)); /* no tool */

    snprintf(script, sizeof script,
             "#!/bin/sh\necho \"$*\" >> %s\necho 'CUDA0 1000 200 30 '\necho 'Host 9 0 1 '\n", log);
    scratch_tree_write_text(&tree, "llama-fit-params", script);
    assert_int_equal(chmod(tool, 0700), 0);
    for (int i = 0; i < 3; i++) {
        start.need = (struct pool_memory_need){ .source = "estimate" };
        assert_true(engine_fit_apply(&context, &start));
        assert_string_equal(start.need.source, "engine");
        assert_int_equal(start.need.estimate.weights_bytes, 1000 * MIB);
        assert_int_equal(start.need.estimate.kv_cache_bytes, 200 * MIB);
        assert_int_equal(start.need.estimate.compute_bytes, 30 * MIB);
        assert_int_equal(start.need.bytes, (1000 + 200 + 30 + 512 + 512) * MIB);
    }
    assert_int_equal(count_lines(log), 1);
    start.ctx_size = 8192;
    assert_true(engine_fit_apply(&context, &start));
    assert_int_equal(count_lines(log), 2);
    start.need.source = "request";
    assert_false(engine_fit_apply(&context, &start));
    start.need.source = "file_size";
    backend.activity = POOL_ACTIVITY_NONE;
    assert_false(engine_fit_apply(&context, &start));
    assert_int_equal(count_lines(log), 2);

    /* One that does not answer is asked once, too, and the estimate stays. */
    backend.activity = POOL_ACTIVITY_LLAMA_SERVER;
    start.ctx_size = 100;
    snprintf(script, sizeof script, "#!/bin/sh\necho x >> %s\necho nothing\nexit 1\n", log);
    scratch_tree_write_text(&tree, "llama-fit-params", script);
    for (int i = 0; i < 2; i++)
        assert_false(engine_fit_apply(&context, &start));
    assert_int_equal(count_lines(log), 3);
    assert_string_equal(start.need.source, "file_size");
    scratch_tree_remove(&tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_are_read),
        cmocka_unit_test(the_tool_is_asked_once_for_each_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
