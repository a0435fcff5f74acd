/*
 * Cordons: what they keep off, what they say, how they are kept.
 */
#include "manager_ground.h"

#include "core/lifecycle/cordon.h"

static int setup(void **state)
{
    static struct ground ground;
    ground_make(&ground);
    *state = &ground;
    return 0;
}

static int teardown(void **state)
{
    ground_end(*state);
    return 0;
}

static struct pool_gpu_cordon cordon(struct ground *g, const char *gpu_id, const char *reason,
                                     bool is_change_expected)
{
    struct pool_gpu_cordon cordon = { 0 };
    struct pool_error err = POOL_ERROR_INIT;
    bool is_changed = !is_change_expected;
    if (pool_manager_cordon_gpu(g->manager, gpu_id, reason, &cordon, &is_changed, &err) != POOL_OK)
        fail_msg("%s", err.message);
    assert_int_equal(is_changed, is_change_expected);
    return cordon;
}

static void uncordon(struct ground *g, const char *gpu_id, bool is_change_expected)
{
    struct pool_gpu_cordon cordon = { 0 };
    struct pool_error err = POOL_ERROR_INIT;
    bool is_changed = !is_change_expected;
    if (pool_manager_uncordon_gpu(g->manager, gpu_id, &cordon, &is_changed, &err) != POOL_OK)
        fail_msg("%s", err.message);
    assert_int_equal(is_changed, is_change_expected);
    assert_false(cordon.is_cordoned);
}

/* *ret_gpu_id (may be NULL): where it would go. */
static enum pool_code check_on(struct ground *g, const char *gpu_id, int64_t *ret_gpu_id,
                               struct pool_error *err)
{
    struct pool_plan *plan = NULL;
    struct pool_worker_spawn_request *request = ground_request(g, "fake_gpu", NULL, "");
    request->gpu_id = strdup(gpu_id);
    assert_non_null(request->gpu_id);
    enum pool_code code = pool_manager_check(g->manager, request, &plan, err);
    if (code == POOL_OK && ret_gpu_id)
        *ret_gpu_id = plan->gpu_id;
    pool_plan_free(plan);
    pool_worker_spawn_request_free(request);
    return code;
}

static enum pool_code check(struct ground *g, const char *gpu_id, struct pool_error *err)
{
    return check_on(g, gpu_id, NULL, err);
}

static void test_what_is_cordoned_takes_no_start(void **state)
{
    struct ground *g = *state;
    struct pool_error err = POOL_ERROR_INIT;
    ground_open(g);
    struct pool_gpu_cordon first = cordon(g, "0", "fan fails", true);
    assert_string_equal(first.uuid, GROUND_GPU);
    assert_string_equal(first.reason, "fan fails");
    assert_int_equal(first.gpu_id, 0);
    assert_true(first.is_cordoned && first.since_wall_ms > 0);
    assert_int_equal(check(g, "0", &err), POOL_GPU_UNAVAILABLE);
    assert_true(err.is_retriable);
    assert_string_equal(pool_error_detail(&err, "cordon_reason")->text, "fan fails");
    err = (struct pool_error)POOL_ERROR_INIT;
    int64_t gpu_id = -1;
    assert_int_equal(check_on(g, "auto", &gpu_id, &err), POOL_OK);
    assert_int_equal(gpu_id, 1);
    cordon(g, "1", NULL, true);
    assert_int_equal(check(g, "auto", &err), POOL_GPU_UNAVAILABLE);
    uncordon(g, GROUND_GPU, true);
    err = (struct pool_error)POOL_ERROR_INIT;
    assert_int_equal(check(g, "0", &err), POOL_OK);
}

static void test_both_can_be_repeated(void **state)
{
    struct ground *g = *state;
    ground_open(g);
    uncordon(g, "1", false);
    struct pool_gpu_cordon first = cordon(g, "1", NULL, true);
    assert_string_equal(first.reason, "requested");
    struct pool_gpu_cordon again = cordon(g, GROUND_GPU_2, NULL, false);
    assert_int_equal(again.since_wall_ms, first.since_wall_ms);
    struct pool_gpu_cordon other = cordon(g, "1", "another", true);
    assert_string_equal(other.reason, "another");
    assert_int_equal(other.since_wall_ms, first.since_wall_ms);
    uncordon(g, "1", true);
    uncordon(g, "1", false);
}

static void test_it_is_in_the_status_and_outlives_the_manager(void **state)
{
    struct ground *g = *state;
    struct pool_status_response *status = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    ground_open(g);
    cordon(g, "1", "reserved", true);
    ground_close(g);
    ground_open(g);
    assert_int_equal(pool_manager_status(g->manager, &status, &err), POOL_OK);
    assert_false(status->gpus->gpus[0]->is_cordoned);
    assert_true(status->gpus->gpus[1]->is_cordoned);
    assert_string_equal(status->gpus->gpus[1]->cordon_reason, "reserved");
    pool_status_response_free(status);
}

static void test_an_instance_is_cordoned_with_its_device(void **state)
{
    struct ground *g = *state;
    struct pool_error err = POOL_ERROR_INIT;
    char inventory[1200];
    ground_write_model(g);
    scratch_tree_write_text(&g->tree, "mig.toml",
                            "[[gpus]]\nuuid = \"" GROUND_GPU "\"\nvram_total_bytes = \"1 GiB\"\n"
                            "[[gpus.instances]]\nuuid = \"MIG-1\"\nvram_total_bytes = \"512 MiB\"\n");
    snprintf(inventory, sizeof inventory, "static:%s/mig.toml", g->tree.root);
    ground_configure(g, inventory, "");
    ground_open(g);
    cordon(g, "0", "all of it", true);
    assert_int_equal(check(g, "MIG-1", &err), POOL_GPU_UNAVAILABLE);
    assert_string_equal(pool_error_detail(&err, "cordon_reason")->text, "all of it");
    uncordon(g, "0", true);
    err = (struct pool_error)POOL_ERROR_INIT;
    cordon(g, "MIG-1", NULL, true);
    assert_int_equal(check(g, "MIG-1", &err), POOL_GPU_UNAVAILABLE);
}

static void test_refusals(void **state)
{
    struct ground *g = *state;
    char long_reason[POOL_CORDON_REASON_MAX + 2];
    struct pool_gpu_cordon cordon;
    bool is_changed;
    struct pool_error err = POOL_ERROR_INIT;
    memset(long_reason, 'x', sizeof long_reason - 1);
    long_reason[sizeof long_reason - 1] = '\0';
    ground_open(g);
    const char *const bad_reasons[] = { "", "a\nb", "\x80", long_reason };
    for (size_t i = 0; i < sizeof bad_reasons / sizeof bad_reasons[0]; i++) {
        assert_int_equal(pool_manager_cordon_gpu(g->manager, "0", bad_reasons[i], &cordon, &is_changed, &err),
                         POOL_INVALID_REQUEST);
        assert_string_equal(err.field, "reason");
        err = (struct pool_error)POOL_ERROR_INIT;
    }
    assert_int_equal(pool_manager_cordon_gpu(g->manager, "2", NULL, &cordon, &is_changed, &err),
                     POOL_GPU_NOT_FOUND);
    assert_int_equal(pool_manager_uncordon_gpu(g->manager, "GPU-none", &cordon, &is_changed, NULL),
                     POOL_GPU_NOT_FOUND);
    long_reason[POOL_CORDON_REASON_MAX] = '\0';
    assert_int_equal(pool_manager_cordon_gpu(g->manager, "0", long_reason, &cordon, &is_changed, NULL),
                     POOL_OK);
    assert_string_equal(cordon.reason, long_reason);
}

/* Nobody knows then what was cordoned: nothing is started until somebody says it anew. */
static void test_what_cannot_be_read_keeps_starts_off(void **state)
{
    struct ground *g = *state;
    struct pool_error err = POOL_ERROR_INIT;
    static const char *const broken[] = { "{", "[]", "7" };
    ground_open(g);
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        assert_int_equal(pool_worker_registry_set_note(g->manager->registry, "cordons", broken[i], &err),
                         POOL_OK);
        assert_int_equal(check(g, "0", &err), POOL_GPU_UNAVAILABLE);
        err = (struct pool_error)POOL_ERROR_INIT;
        assert_int_equal(check(g, "1", &err), POOL_GPU_UNAVAILABLE);
        uncordon(g, "1", true);
        err = (struct pool_error)POOL_ERROR_INIT;
        assert_int_equal(check(g, "0", &err), POOL_OK);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_cordoned_takes_no_start),
        TEST(test_both_can_be_repeated),
        TEST(test_it_is_in_the_status_and_outlives_the_manager),
        TEST(test_an_instance_is_cordoned_with_its_device),
        TEST(test_refusals),
        TEST(test_what_cannot_be_read_keeps_starts_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
