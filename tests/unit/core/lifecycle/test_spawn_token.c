/*
 * Spawn tokens: who may say that a worker is ready, once; and the watch that waits for it.
 */
#include "manager_ground.h"

#include "core/lifecycle/manager.h"
#include "core/lifecycle/spawn_token.h"

#define CALLBACK_BACKENDS                                                              \
    "[backends.calls]\nextends = \"fake\"\nready.http = \"\"\nready.callback = true\n" \
    "[backends.both]\nextends = \"fake\"\nready.callback = true\n"

static int setup(void **state)
{
    static struct ground ground;
    ground_make(&ground);
    ground_write_model(&ground);
    ground_configure(&ground, "static:/nonexistent", CALLBACK_BACKENDS);
    *state = &ground;
    return 0;
}

static int teardown(void **state)
{
    ground_end(*state);
    return 0;
}

static void open_as_daemon(struct ground *g)
{
    struct pool_error err = POOL_ERROR_INIT;
    if (ground_open_as(g, true, true, &g->manager, &err) != POOL_OK)
        fail_msg("%s", err.message);
    assert_int_equal(pool_manager_set_callback_url(g->manager, "http://127.0.0.1:1/ready", &err), POOL_OK);
}

static enum pool_code start(struct ground *g, const char *backend, const char *worker_id,
                            struct pool_error *err)
{
    struct pool_worker_spawn_request *request = ground_request(g, backend, worker_id, "");
    struct pool_worker_spawn_response *response = NULL;
    enum pool_code code = pool_manager_spawn(g->manager, request, &response, err);
    pool_worker_spawn_response_free(response);
    pool_worker_spawn_request_free(request);
    return code;
}

/* What the worker was given, as it has it. Freed by the caller. */
static char *token_of(struct ground *g, const char *worker_id)
{
    struct pool_worker_info *worker = NULL;
    assert_int_equal(pool_manager_row(g->manager, worker_id, &worker, NULL), POOL_OK);
    char *token = NULL; /* until it has called exec, its environment is ours */
    GROUND_UNTIL((token = process_environment_value((pid_t)worker->process.pid, SPAWN_TOKEN_VARIABLE)));
    pool_worker_info_free(worker);
    return token;
}

static enum pool_code call(struct ground *g, const char *worker_id, const char *token)
{
    struct pool_worker_info *worker = NULL;
    enum pool_code code = pool_manager_take_ready_call(g->manager, worker_id, token, &worker, NULL);
    if (code == POOL_OK)
        assert_string_equal(worker->spawn_token_sha256, POOL_SPAWN_TOKEN_USED);
    pool_worker_info_free(worker);
    return code;
}

static void test_a_token_is_good_once_and_for_one(void **state)
{
    struct ground *g = *state;
    struct pool_error err = POOL_ERROR_INIT;
    open_as_daemon(g);
    assert_int_equal(start(g, "calls", "a", &err), POOL_OK);
    assert_int_equal(start(g, "calls", "b", &err), POOL_OK);
    assert_int_equal(start(g, "fake", "c", &err), POOL_OK);
    char *a = token_of(g, "a");
    char *b = token_of(g, "b");
    assert_int_equal(strlen(a), 2 * SPAWN_TOKEN_BYTES);
    assert_string_not_equal(a, b);
    assert_int_equal(call(g, "a", b), POOL_UNAUTHENTICATED);
    assert_int_equal(call(g, "a", ""), POOL_UNAUTHENTICATED);
    assert_int_equal(call(g, "a", POOL_SPAWN_TOKEN_USED), POOL_UNAUTHENTICATED);
    assert_int_equal(call(g, "c", a), POOL_UNAUTHENTICATED); /* it was given none */
    assert_int_equal(call(g, "nobody", a), POOL_UNAUTHENTICATED);
    assert_int_equal(call(g, "../a", a), POOL_UNAUTHENTICATED);
    assert_int_equal(call(g, "a", a), POOL_OK);
    assert_int_equal(call(g, "a", a), POOL_UNAUTHENTICATED);
    assert_int_equal(call(g, "b", b), POOL_OK);
    free(a);
    free(b);
}

static void test_the_sum_alone_is_recorded(void **state)
{
    struct ground *g = *state;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *worker = NULL;
    open_as_daemon(g);
    assert_int_equal(start(g, "both", "a", &err), POOL_OK);
    char *token = token_of(g, "a");
    assert_int_equal(pool_manager_row(g->manager, "a", &worker, NULL), POOL_OK);
    assert_int_equal(strlen(worker->spawn_token_sha256), 64);
    assert_null(strstr(worker->spawn_token_sha256, token));
    assert_true(spawn_token_is_awaited(worker));
    pool_worker_info_free(worker);
    free(token);
}

static void test_without_a_listener_who_only_calls_is_refused(void **state)
{
    struct ground *g = *state;
    struct pool_error err = POOL_ERROR_INIT;
    if (ground_open_as(g, true, true, &g->manager, &err) != POOL_OK)
        fail_msg("%s", err.message);
    assert_int_equal(start(g, "calls", "a", &err), POOL_BACKEND_UNAVAILABLE);
    err = (struct pool_error)POOL_ERROR_INIT;
    assert_int_equal(start(g, "both", "b", &err), POOL_OK); /* its path is enough */
    struct pool_worker_info *worker = NULL;
    assert_int_equal(pool_manager_row(g->manager, "b", &worker, NULL), POOL_OK);
    assert_null(worker->spawn_token_sha256);
    pool_worker_info_free(worker);
}

static enum pool_start_state step_for(struct pool_start_watch *watch, int n_listening_steps)
{
    enum pool_start_state state = POOL_START_PENDING;
    int n = 0;
    int64_t until_ns = clock_boottime_ns() + GROUND_WAIT_S * NS_PER_SEC;
    while (state == POOL_START_PENDING && n < n_listening_steps && clock_boottime_ns() < until_ns) {
        poll(NULL, 0, 1);
        state = pool_start_watch_step(watch);
        n += pool_start_watch_progress(watch)->is_listening;
    }
    return state;
}

/* It listens and answers 200; that alone is not enough until it has called. */
static void check_watch(struct ground *g, const char *backend)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *worker = NULL;
    struct pool_start_watch *watch = NULL;
    int pidfd = -1;
    open_as_daemon(g);
    assert_int_equal(start(g, backend, "a", &err), POOL_OK);
    assert_int_equal(pool_manager_row(g->manager, "a", &worker, NULL), POOL_OK);
    assert_int_equal(pool_manager_open_process(g->manager, worker, &pidfd, &err), POOL_OK);
    assert_int_equal(pool_start_watch_open(worker, pidfd, &watch, &err), POOL_OK);
    assert_int_equal(step_for(watch, 100), POOL_START_PENDING);
    assert_true(pool_start_watch_progress(watch)->is_listening);
    pool_start_watch_called(watch);
    assert_int_equal(step_for(watch, INT32_MAX), POOL_START_READY);
    assert_int_equal(pool_start_watch_proof(watch), POOL_PORT_PROOF_PROCESS_TREE);
    pool_start_watch_close(watch);
    close(pidfd);
    pool_worker_info_free(worker);
}

static void test_a_watch_waits_for_the_call(void **state)
{
    check_watch(*state, "calls");
}

static void test_a_watch_waits_for_both(void **state)
{
    check_watch(*state, "both");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_token_is_good_once_and_for_one),
        TEST(test_the_sum_alone_is_recorded),
        TEST(test_without_a_listener_who_only_calls_is_refused),
        TEST(test_a_watch_waits_for_the_call),
        TEST(test_a_watch_waits_for_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
