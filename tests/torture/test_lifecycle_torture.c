/*
 * The lifecycle when memory runs out: each piece alone, then whole managers with real workers, with every single
 * allocation failing in turn. No crash, no leak; a start that failed leaves no process and no live row.
 */
#include "manager_ground.h"

#include <errno.h>

#include "base/cleanup.h"
#include "core/lifecycle/plan.h"
#include "core/lifecycle/port.h"
#include "core/lifecycle/state_dir.h"
#include "core/lifecycle/worker_log.h"
#include "sample_worker.h"
#include "torture.h"

GROUND_FIXTURE

/* ---- pure pieces ---- */

static void free_plan(struct pool_plan **plan)
{
    pool_plan_free(*plan);
}

static const char *const environment[] = { "PATH=/bin", "LANG=C", "CUDA_CACHE_PATH=/c", NULL };

static enum pool_code make_plan(void *ctx)
{
    static char text[][16] = { "engine",  "{model_path}", "{host}:{port}", "completion", "chat",
                               "/health", "openai",       "EXTRA",         "{ctx_size}", "team",
                               "a",       "--say",        "hello",         "b" };
    char *command[] = { text[0], text[1], text[2] };
    char *capabilities[] = { text[3], text[4] };
    struct pool_env_var env[] = { { text[7], text[8] } };
    struct pool_label labels[] = { { text[9], text[10] } };
    char *extra[] = { text[11], text[12] };
    const struct pool_backend backend = { .name = text[13],
                                          .device = POOL_DEVICE_GPU,
                                          .n_command = 3,
                                          .command = command,
                                          .n_env = 1,
                                          .env = env,
                                          .ready_http = text[5],
                                          .protocol = text[6],
                                          .n_capabilities = 2,
                                          .capabilities = capabilities,
                                          .stop_signal = SIGTERM };
    const struct pool_worker_spawn_request request = {
        .n_labels = 1, .labels = labels, .n_extra_args = 2, .extra_args = extra
    };
    struct pool_config config = { .workers_bind_host = (char[]){ "127.0.0.1" } };
    struct pool_model model = { .ref = (char[]){ "file:/m" }, .path = (char[]){ "/m" } };
    const struct start_request start = { .request = &request,
                                         .backend = &backend,
                                         .model = &model,
                                         .program = (char[]){ "/opt/engine" },
                                         .need = { .source = "request" } };
    struct pool_gpu_info gpu = { .gpu_id = 0 };
    struct pool_ledger ledger = { .available_bytes = 1 };
    snprintf(gpu.uuid, sizeof gpu.uuid, "%s", GROUND_GPU);
    const struct plan_input input = { .config = &config,
                                      .start = &start,
                                      .gpu = &gpu,
                                      .ledger = &ledger,
                                      .environment = environment,
                                      .state_id = "id",
                                      .log_dir = "/logs",
                                      .worker_id = "w",
                                      .port = 8001 };
    CLEANUP(free_plan) struct pool_plan *plan = NULL;
    CLEANUP_WORKER struct pool_worker_info *worker = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_code code = plan_make(&input, &plan, &err);
    if (code != POOL_OK) {
        if (plan || err.code != POOL_INSUFFICIENT_MEMORY || err.sys_errno != ENOMEM)
            *(bool *)ctx = true;
        return code;
    }
    const char *spec = environment_get((const char *const *)plan->environment, "POOL_WORKER_SPEC");
    return spec ? worker_spec_decode(spec, &worker, &err) : POOL_INTERNAL;
}

static void test_plans_and_copies_of_records(void **state)
{
    (void)state;
    bool is_wrong = false;
    torture_include_jansson();
    torture_scenario("a plan, and its record read back", make_plan, &is_wrong);
    assert_false(is_wrong);
}

static enum pool_code look_at_ports(void *ctx)
{
    CLEANUP(listeners_done) struct listeners list = { 0 };
    struct port_claim claim = { .host = "127.0.0.1", .port = 1, .pid = getpid() };
    enum pool_port_proof proof;
    uint32_t uid;
    (void)ctx;
    int failure = listeners_read(&list);
    if (failure)
        return failure == ENOMEM ? POOL_INSUFFICIENT_MEMORY : POOL_INTERNAL;
    return port_owner_find(&list, &claim, &proof, &uid) == PORT_NOBODY ? POOL_OK : POOL_INTERNAL;
}

static enum pool_code look_at_processes(void *ctx)
{
    CLEANUP(process_set_done) struct process_set set = { 0 };
    struct process_tree_query query = { .root = 1, .worker_id = "x", .state_id = "y" };
    (void)ctx;
    int failure = process_tree_find(&query, &set);
    return failure == 0 ? POOL_OK : failure == ENOMEM ? POOL_INSUFFICIENT_MEMORY : POOL_INTERNAL;
}

static void test_looking(void **state)
{
    (void)state;
    torture_scenario("listeners", look_at_ports, NULL);
    torture_scenario("a process tree", look_at_processes, NULL);
}

/* ---- managers ---- */

static enum pool_code open_state_dir(void *ctx)
{
    struct state_dir dir = STATE_DIR_INIT;
    (void)ctx;
    enum pool_code code = state_dir_open(&dir, ground.state_dir, true, false, NULL);
    if (code == POOL_OK)
        code = state_dir_lock(&dir, 1000, NULL);
    state_dir_close(&dir);
    return code;
}

/* The first open of all, with everything to be made. */
static enum pool_code make_state_dir(void *ctx)
{
    char path[1200];
    static const char *const names[] = { "state-id", "lock", "daemon.lock", "logs" };
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", ground.state_dir, names[i]);
        remove(path);
    }
    return open_state_dir(ctx);
}

static void test_the_state_directory(void **state)
{
    (void)state;
    torture_scenario("making a state directory", make_state_dir, NULL);
    torture_scenario("opening a state directory", open_state_dir, NULL);
}

static enum pool_code open_and_look(void *ctx)
{
    struct pool_manager *manager = NULL;
    struct pool_worker_list *list = NULL;
    struct pool_status_response *status = NULL;
    struct pool_plan *plan = NULL;
    enum pool_code code = ground_open_as(&ground, false, true, &manager, NULL);
    if (code == POOL_OK)
        code = pool_manager_list_workers(manager, POOL_REGISTRY_LIVE, &list, NULL);
    if (code == POOL_OK)
        code = pool_manager_status(manager, &status, NULL);
    if (code == POOL_OK)
        code = pool_manager_check(manager, ctx, &plan, NULL);
    pool_plan_free(plan);
    pool_status_response_free(status);
    pool_worker_list_free(list);
    pool_manager_close(manager);
    return code;
}

static void test_a_manager_that_looks(void **state)
{
    (void)state;
    ground_open(&ground);
    ground_spawn(&ground, "live", "");
    pool_worker_info_free(ground_wait_ready(&ground, "live"));
    ground_spawn(&ground, "dead", "");
    pool_worker_info_free(ground_stop(&ground, "dead"));
    ground_close(&ground);
    struct pool_worker_spawn_request *request = ground_request(&ground, "fake_gpu", "w", "--say hello");
    request->gpu_id = strdup("auto");
    torture_scenario("open, list, status, check", open_and_look, request);
    pool_worker_spawn_request_free(request);
    ground_open(&ground);
    assert_int_equal(ground_status(&ground, "live"), POOL_WORKER_READY);
}

/*
 * The state is looked at where ctx is not NULL: jansson 2.14 loses a byte of a text when its buffer can not grow, so that with
 * failing allocations a cordon can be read as that of another GPU.
 */
static enum pool_code cordon_and_look(void *ctx)
{
    struct pool_gpu_cordon cordon;
    struct pool_status_response *status = NULL;
    bool is_changed;
    enum pool_code code = pool_manager_cordon_gpu(ground.manager, "0", "fan", &cordon, &is_changed, NULL);
    if (code == POOL_OK)
        code = pool_manager_status(ground.manager, &status, NULL);
    if (code == POOL_OK)
        assert_true(!ctx || status->gpus->gpus[0]->is_cordoned);
    pool_status_response_free(status);
    if (code == POOL_OK)
        code = pool_manager_uncordon_gpu(ground.manager, GROUND_GPU, &cordon, &is_changed, NULL);
    if (code == POOL_OK)
        assert_false(cordon.is_cordoned);
    return code;
}

static void test_cordons(void **state)
{
    (void)state;
    ground_open(&ground);
    assert_int_equal(cordon_and_look(&ground), POOL_OK); /* what is opened at the first use stays */
    torture_scenario("cordon, status, uncordon", cordon_and_look, NULL);
}

/* ---- a whole life ---- */

/*
 * One step of a life with its n-th allocation failing; whether there was an n-th. Whatever came of it, afterwards
 * registry and processes agree, and the worker can be stopped.
 */
enum step { SPAWN, WAIT, STOP };

static bool fail_once(enum step step, long n)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *worker = NULL;
    struct pool_worker_spawn_response *response = NULL;
    enum pool_code code = POOL_OK;
    long n_blocks = torture_live_blocks();
    ground_open(&ground);
    struct pool_worker_spawn_request *request = ground_request(&ground, "fake", "w", "");
    struct pool_worker_stop_request *stop = pool_worker_stop_request_new();
    assert_non_null(stop);
    stop->worker_id = strdup("w");
    stop->wait = true;
    assert_non_null(stop->worker_id);
    if (step != SPAWN)
        assert_int_equal(pool_manager_spawn(ground.manager, request, &response, &err), POOL_OK);
    pool_worker_spawn_response_free(response);
    response = NULL;
    if (step == STOP)
        pool_worker_info_free(ground_wait_ready(&ground, "w"));
    torture_arm(n);
    if (step == SPAWN)
        code = pool_manager_spawn(ground.manager, request, &response, &err);
    else if (step == WAIT)
        code = pool_manager_wait_ready(ground.manager, "w", NULL, &worker, &err);
    else
        code = pool_manager_stop(ground.manager, stop, -1, &worker, &err);
    bool has_failed = torture_disarm();
    if (code != POOL_OK && (!has_failed || worker || response))
        fail_msg("step %d, allocation %ld: %s: %s", (int)step, n, pool_code_name(code), err.message);
    pool_worker_info_free(worker);
    pool_worker_spawn_response_free(response);
    pool_worker_stop_request_free(stop);
    pool_worker_spawn_request_free(request);

    /* Asked again, for a process has no environment to see in the first moment of its program. */
    size_t n_live = 0;
    GROUND_UNTIL((n_live = ground_count(&ground, POOL_REGISTRY_LIVE)) == ground_count_processes(&ground));
    if (step == SPAWN && code != POOL_OK && n_live != 0)
        fail_msg("allocation %ld: %s, and yet a worker runs", n, pool_code_name(code));
    if (n_live > 0)
        assert_int_equal(ground_stop_as(ground.manager, "w", 0, true, true, -1, NULL, &err), POOL_OK);
    assert_int_equal(ground_count_processes(&ground), 0);
    ground_close(&ground);
    long n_left = torture_live_blocks() - n_blocks;
    if (n_left != 0)
        fail_msg("step %d, allocation %ld: %ld blocks left behind", (int)step, n, n_left);
    return has_failed;
}

static void live_through(enum step step)
{
    long n = 1;
    ground_prepare(&ground);
    fail_once(step, 1000000); /* sets up what lives as long as the program */
    while (fail_once(step, n) && n < 5000)
        n++;
    assert_in_range(n, 2, 4999);
}

static void test_spawn(void **state)
{
    (void)state;
    live_through(SPAWN);
}

static void test_wait_until_ready(void **state)
{
    (void)state;
    live_through(WAIT);
}

static void test_stop(void **state)
{
    (void)state;
    live_through(STOP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plans_and_copies_of_records),
        cmocka_unit_test(test_looking),
        GROUND_TEST(test_the_state_directory),
        GROUND_TEST(test_a_manager_that_looks),
        GROUND_TEST(test_cordons),
        GROUND_TEST(test_spawn),
        GROUND_TEST(test_wait_until_ready),
        GROUND_TEST(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
