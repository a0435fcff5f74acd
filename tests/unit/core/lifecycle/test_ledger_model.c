/*
 * The ledger against a model of it. Random starts (of a size, by estimate, by what was measured; on one device, any, several, and
 * on MIG instances), loads, growth, readiness, stops, crashes, displacement, queues and their turns, strangers, managers that are
 * opened anew, memory that comes back late, and a driver that lies, through the library as it is, with real processes and the fake
 * libnvidia-ml.so.1. At each start: what is available is what the sums say of what the driver tells, to the byte; what fits is
 * admitted, and nothing else; by the truth nothing is over-committed by more than the driver lied; every start, refusal,
 * displacement, stop and end is explained. When all have ended, everything is available again. See ledger_model/model.h.
 *
 * Then two processes at once, on one state directory and on two: what is promised never exceeds what there is (two.h).
 *
 * POOL_MODEL_STEPS (of each of two processes a fifth) and POOL_MODEL_SEED choose how long and which; ./dev soak takes 100,000.
 */
#include "ledger_model/model.h"
#include "ledger_model/two.h"

#include "core/lifecycle/attribution.h"

GROUND_FIXTURE

#define STEPS_BETWEEN_ENDS 500

static void configure(struct ground *where)
{
    ground_prepare(where);
    ground_configure(where, "static:/nonexistent",
                     "[backends.sleeper]\ndevice = \"gpu\"\nready.http = \"/health\"\n"
                     "command = [\"/bin/sleep\", \"3600\"]\n");
    where->config->gpu_vram_headroom_bytes = MODEL_HEADROOM;
    where->config->queue_timeout_ms = 0; /* what does not fit now is refused now, not queued by a daemon */
}

/* The estimates of the model's starts are not its subject; they are asked for once. */
static void ask_estimates(struct model *model)
{
    for (int way = 0; way < MODEL_WAYS; way++) {
        struct pool_error err = POOL_ERROR_INIT;
        struct pool_plan *plan = NULL;
        struct pool_worker_spawn_request *request = ground_request(model->ground, "sleeper", "estimate", "");
        request->ctx_size = INT64_C(256) << way;
        request->required_vram_bytes = (struct pool_reading){ false, 0 };
        request->gpu_id = strdup(model->devices[DEVICE_A].uuid);
        if (pool_manager_check(model->manager, request, &plan, &err) != POOL_OK)
            fail_msg("%s", err.message);
        assert_string_equal(plan->reserved_source, "estimate");
        model->estimate_bytes[way] = plan->reserved_bytes;
        pool_plan_free(plan);
        pool_worker_spawn_request_free(request);
    }
}

static void test_one_process(void **state)
{
    (void)state;
    struct host_identity host;
    assert_int_equal(host_identity_read(&host), 0);
    if (!attribution_sees_drivers_pids(&host))
        skip(); /* whose a process is can not be told there */
    static struct model model;
    memset(&model, 0, sizeof model);
    model.random = model_seed();
    configure(&ground);
    driver_start(&model, &ground);
    step_reopen(&model, MODE_COMMAND);
    ask_estimates(&model);
    int64_t n = model_steps();
    for (int64_t i = 1; i <= n; i++) {
        steps_do(&model);
        if (i % STEPS_BETWEEN_ENDS == 0 || i == n)
            end_everything(&model);
    }
    pool_manager_close(model.manager);
    driver_end(&model);
    model_report(&model, n);
}

static void test_two_processes_on_one_directory(void **state)
{
    (void)state;
    configure(&ground);
    two_run(&ground, &ground);
}

static void test_two_processes_on_two_directories(void **state)
{
    (void)state;
    struct ground other;
    ground_make(&other);
    other.port_first = ground.port_first + 25;
    other.port_last = ground.port_last;
    ground.port_last = other.port_first - 1;
    configure(&ground);
    configure(&other);
    free(other.config->gpu_lock_dir);
    other.config->gpu_lock_dir = strdup(ground.config->gpu_lock_dir);
    assert_non_null(other.config->gpu_lock_dir);
    two_run(&ground, &other);
    ground_end(&other);
}

/* In memory where that can be had: what a model does to a disk is not its subject, and would be most of its time. */
static void choose_place(void)
{
    if (!getenv("TMPDIR") && access("/dev/shm", W_OK | X_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GROUND_TEST(test_one_process),
        GROUND_TEST(test_two_processes_on_one_directory),
        GROUND_TEST(test_two_processes_on_two_directories),
    };
    choose_place();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
