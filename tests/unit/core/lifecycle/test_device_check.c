/*
 * Whether an engine can use a GPU: what its list of devices must say, that a good answer is remembered for this very
 * program, and that an engine without GPU support is refused for a GPU backend.
 */
#include "manager_ground.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "core/lifecycle/plan.h"

GROUND_FIXTURE

static char check_argument[] = "--list-devices";
static char *check_arguments[] = { check_argument };
static struct pool_backend backend = { .name = check_argument + 2, /* "list-devices" */
                                       .n_device_check = 1,
                                       .device_check = check_arguments };

/* Writes the engine as a shell script: it counts its runs and prints. */
static void write_engine(char *path, size_t n, const char *output)
{
    CLEANUP_FREE char *script = NULL;
    assert_true(asprintf(&script,
                         "#!/bin/sh\n[ \"$1\" = --list-devices ] || exit 3\necho run >> %s/runs\n%s\n",
                         ground.tree.root, output) > 0);
    scratch_tree_write_text(&ground.tree, "engine.new", script);
    char fresh[1200];
    SCRATCH_PATH(&ground.tree, "engine.new", fresh);
    scratch_tree_path(&ground.tree, "engine", path, n);
    assert_int_equal(chmod(fresh, 0755), 0);
    assert_int_equal(rename(fresh, path), 0);
    scratch_tree_write_text(&ground.tree, "state/.keep", "");
}

static int count_runs(void)
{
    char path[1200];
    struct stat st = { 0 };
    SCRATCH_PATH(&ground.tree, "runs", path);
    if (stat(path, &st) < 0)
        return 0;
    return (int)(st.st_size / 4);
}

static enum pool_code check(const char *program, struct pool_error *err)
{
    return device_check_run(&backend, program, ground_environment, ground.state_dir, err);
}

static void test_lists_of_devices(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        enum pool_code code;
    } cases[] = {
        { "echo 'Available devices:'; echo '  CUDA0: NVIDIA (24576 MiB, 24000 MiB free)'", POOL_OK },
        { "echo '  ROCm0: AMD'", POOL_OK },
        { "echo '  Vulkan12: X'", POOL_OK },
        { "echo 'CUDA1: without blanks in front'", POOL_OK },
        { "echo noise >&2; echo '  CUDA0: x' >&2", POOL_OK }, /* engines log to either */
        { "echo '  CUDA0: x'; exit 1", POOL_OK },
        { "echo 'Available devices:'; echo '  (none)'", POOL_BACKEND_UNAVAILABLE },
        { "echo 'ggml_cuda_init: no CUDA devices found'", POOL_BACKEND_UNAVAILABLE },
        { "echo 'CUDA: x'; echo 'CUDAx0: y'; echo 'xCUDA0: z'; echo 'CUDA0 : w'", POOL_BACKEND_UNAVAILABLE },
        { "echo '  CPU0: x'", POOL_BACKEND_UNAVAILABLE },
        { ":", POOL_BACKEND_UNAVAILABLE },
        { "kill -SEGV $$", POOL_BACKEND_UNAVAILABLE },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[1200];
        struct pool_error err = POOL_ERROR_INIT;
        write_engine(path, sizeof path, cases[i].script);
        enum pool_code code = check(path, &err);
        if (code != cases[i].code)
            fail_msg("%s: %s", cases[i].script, pool_code_name(code));
        assert_int_equal(count_runs(), (int)i + 1);
    }
}

static void test_a_good_answer_is_remembered_for_this_program(void **state)
{
    (void)state;
    char path[1200];
    write_engine(path, sizeof path, "echo CUDA0: x");
    assert_int_equal(check(path, NULL), POOL_OK);
    assert_int_equal(check(path, NULL), POOL_OK);
    assert_int_equal(count_runs(), 1);
    write_engine(path, sizeof path, "echo none"); /* upgraded to a build without GPU support */
    assert_int_equal(check(path, NULL), POOL_BACKEND_UNAVAILABLE);
    assert_int_equal(check(path, NULL), POOL_BACKEND_UNAVAILABLE);
    assert_int_equal(count_runs(), 3); /* a bad answer is not kept: a driver may be repaired */
}

static void test_more_output_than_is_kept(void **state)
{
    (void)state;
    char path[1200];
    write_engine(path, sizeof path, "echo CUDA0: x; head -c 1000000 /dev/zero | tr '\\0' x");
    assert_int_equal(check(path, NULL), POOL_OK);
}

static void test_a_program_that_is_none(void **state)
{
    (void)state;
    char path[1200];
    struct pool_error err = POOL_ERROR_INIT;
    scratch_tree_write_text(&ground.tree, "state/.keep", "");
    SCRATCH_PATH(&ground.tree, "missing", path);
    assert_int_equal(check(path, &err), POOL_BACKEND_UNAVAILABLE);
    assert_int_equal(err.sys_errno, ENOENT);
}

/* The devices are looked for with all of them visible, whatever workers are given. */
static void test_every_device_is_visible_to_it(void **state)
{
    (void)state;
    char path[1200];
    write_engine(path, sizeof path, "[ -z \"${CUDA_VISIBLE_DEVICES+set}\" ] && echo CUDA0: x");
    assert_int_equal(check(path, NULL), POOL_OK);
}

static void test_an_engine_without_gpu_support_is_refused(void **state)
{
    (void)state;
    static const char *const environments[] = { "env = {}", "env = { FAKE_WORKER_CUDA = \"1\" }" };
    for (size_t i = 0; i < 2; i++) {
        char more[256], inventory[1300];
        struct pool_error err = POOL_ERROR_INIT;
        ground_prepare(&ground);
        snprintf(inventory, sizeof inventory, "static:%s/gpus.toml", ground.tree.root);
        snprintf(more, sizeof more, "device_check = [\"--list-devices\"]\n%s\n",
                 environments[i]); /* of fake_gpu */
        ground_configure(&ground, inventory, more);
        ground_open(&ground);
        struct pool_worker_spawn_request *request = ground_request(&ground, "fake_gpu", "w", "");
        request->gpu_id = strdup("0");
        enum pool_code code = ground_try_spawn(ground.manager, request, &err);
        pool_worker_spawn_request_free(request);
        assert_int_equal(code, i == 0 ? POOL_BACKEND_UNAVAILABLE : POOL_OK);
        assert_int_equal(ground_count(&ground, POOL_REGISTRY_LIVE), i);
        ground_close(&ground);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GROUND_TEST(test_lists_of_devices),
        GROUND_TEST(test_a_good_answer_is_remembered_for_this_program),
        GROUND_TEST(test_more_output_than_is_kept),
        GROUND_TEST(test_a_program_that_is_none),
        GROUND_TEST(test_every_device_is_visible_to_it),
        GROUND_TEST(test_an_engine_without_gpu_support_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
