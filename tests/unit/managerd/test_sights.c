/*
 * What is seen of workers, against a server in the same loop that answers as the test says; and the reading of what
 * engines say about their requests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#include "managerd/http_server.h"
#include "managerd/sights.h"

/* ---- reading ---- */

static void test_activities_are_read(void **state)
{
    (void)state;
    static const struct {
        enum pool_activity activity;
        const char *body;
        bool is_good;
        int64_t n_requests;
        double mark;
    } cases[] = {
        { POOL_ACTIVITY_LLAMA_SERVER, "[]", true, 0, 0 },
        { POOL_ACTIVITY_LLAMA_SERVER, "[{\"is_processing\":false}]", true, 0, 0 },
        { POOL_ACTIVITY_LLAMA_SERVER, "[{\"is_processing\":true,\"id_task\":0}]", true, 1, 1 },
        { POOL_ACTIVITY_LLAMA_SERVER,
          "[{\"is_processing\":true,\"id_task\":41},{\"is_processing\":false,\"id_task\":7},"
          "{\"is_processing\":true,\"id_task\":-1}]",
          true, 2, 42 },
        { POOL_ACTIVITY_LLAMA_SERVER, "[{\"is_processing\":1}]", false, 0, 0 },
        { POOL_ACTIVITY_LLAMA_SERVER, "[1]", false, 0, 0 },
        { POOL_ACTIVITY_LLAMA_SERVER, "{}", false, 0, 0 },
        { POOL_ACTIVITY_LLAMA_SERVER, "[", false, 0, 0 },
        { POOL_ACTIVITY_LLAMA_SERVER, "", false, 0, 0 },
        { POOL_ACTIVITY_VLLM, "vllm:num_requests_running 0\n", true, 0, 0 },
        { POOL_ACTIVITY_VLLM,
          "# HELP vllm:num_requests_running x\n# TYPE vllm:num_requests_running gauge\n"
          "vllm:num_requests_running{engine=\"0\",model_name=\"a} \\\" 7\"} 2.0\n"
          "vllm:num_requests_running{engine=\"1\"}\t1.0 1700000000\r\n"
          "vllm:num_requests_waiting{engine=\"0\"} 4\n"
          "vllm:num_requests_waiting_by_reason{reason=\"x\"} 99\n"
          "vllm:request_success_total{finished_reason=\"stop\"} 5\n"
          "vllm:request_success_total{finished_reason=\"length\"} 3.0",
          true, 7, 8 },
        { POOL_ACTIVITY_VLLM, "vllm:request_success_total 5\n", false, 0, 0 },
        { POOL_ACTIVITY_VLLM, "vllm:num_requests_running NaN\n", false, 0, 0 },
        { POOL_ACTIVITY_VLLM, "vllm:num_requests_running -1\n", false, 0, 0 },
        { POOL_ACTIVITY_VLLM, "vllm:num_requests_running 1e300\n", false, 0, 0 },
        { POOL_ACTIVITY_VLLM, "vllm:num_requests_running{a=\"\n1", false, 0, 0 },
        { POOL_ACTIVITY_VLLM, "vllm:num_requests_running", false, 0, 0 },
        { POOL_ACTIVITY_VLLM, "vllm:num_requests_running ", false, 0, 0 },
        { POOL_ACTIVITY_VLLM, "vllm:num_requests_running{", false, 0, 0 },
        { POOL_ACTIVITY_VLLM, "", false, 0, 0 },
        { POOL_ACTIVITY_NONE, "[]", false, 0, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_activity_report activity = { -7, -7 };
        size_t n = strlen(cases[i].body);
        char *body = malloc(n + 1); /* so that a sanitizer sees a byte too many */
        assert_non_null(body);
        memcpy(body, cases[i].body, n);
        char *exact = realloc(body, n ? n : 1);
        bool is_good = pool_activity_read(cases[i].activity, exact ? exact : body, n, &activity);
        free(exact ? exact : body);
        if (is_good != cases[i].is_good)
            print_error("case %zu\n", i);
        assert_int_equal(is_good, cases[i].is_good);
        assert_int_equal(activity.n_requests, is_good ? cases[i].n_requests : -7);
        assert_true(!is_good || (activity.mark >= cases[i].mark && activity.mark <= cases[i].mark));
    }
}

/* ---- the ground ---- */

#define DEADLINE_MS 60000

struct ground {
    uv_loop_t loop;
    uv_timer_t deadline;
    bool is_over, is_closed;
    struct http_server *server;
    struct sights *sights;
    struct pool_worker_info *worker;
    /* what the server answers */
    unsigned health_status, slots_status;
    bool is_mute; /* slots are not answered */
    const char *slots;
    struct http_request *held;
    /* what was asked and what came of it */
    unsigned n_health, n_slots, n_reports, n_stops;
    bool is_healthy;
    bool has_reason;
    struct pool_reading n_requests;
    int64_t requests_seen[64]; /* of each report, -1: absent */
    enum pool_stop_reason reason;
    int64_t stopped_ns;
};

static void serve(struct http_request *request, void *context)
{
    struct ground *ground = context;
    if (strcmp(http_request_path(request), "/health") == 0) {
        ground->n_health++;
        http_respond(request, ground->health_status, NULL, NULL, 0, HTTP_STATIC);
        return;
    }
    assert_string_equal(http_request_path(request), "/slots");
    ground->n_slots++;
    if (ground->is_mute && !ground->held)
        ground->held = request;
    else
        http_respond(request, ground->slots_status, "application/json", ground->slots, strlen(ground->slots),
                     HTTP_STATIC);
}

static void note_report(const char *worker_id, const struct pool_worker_sight *sight, void *context)
{
    struct ground *ground = context;
    assert_string_equal(worker_id, "w");
    if (ground->n_reports < 64)
        ground->requests_seen[ground->n_reports] =
            sight->n_requests.is_present ? sight->n_requests.value : -1;
    ground->n_reports++;
    ground->is_healthy = sight->is_healthy;
    ground->has_reason = sight->health_reason != NULL;
    ground->n_requests = sight->n_requests;
    /* As the registry would. */
    ground->worker->is_healthy = sight->is_healthy;
    if (sight->n_requests.is_present && sight->n_requests.value > 0)
        ground->worker->status = POOL_WORKER_BUSY;
    else if (sight->n_requests.is_present && ground->worker->status == POOL_WORKER_BUSY)
        ground->worker->status = POOL_WORKER_IDLE;
}

static void note_stop(const char *worker_id, enum pool_stop_reason reason, void *context)
{
    struct ground *ground = context;
    assert_string_equal(worker_id, "w");
    ground->n_stops++;
    ground->reason = reason;
    ground->stopped_ns = clock_boottime_ns();
}

static void note_deadline(uv_timer_t *timer)
{
    ((struct ground *)timer->data)->is_over = true;
}

static void note_closed(void *context)
{
    ((struct ground *)context)->is_closed = true;
}

/* Until is_true, or the deadline; what was reported is told back, as the daemon does. */
static bool run_until(struct ground *ground, bool (*is_true)(const struct ground *))
{
    ground->is_over = false;
    uv_timer_start(&ground->deadline, note_deadline, DEADLINE_MS, 0);
    unsigned n_told = ground->n_reports;
    while (!is_true(ground) && !ground->is_over) {
        uv_run(&ground->loop, UV_RUN_ONCE);
        if (ground->n_reports != n_told)
            sights_update(ground->sights, ground->worker);
        n_told = ground->n_reports;
    }
    uv_timer_stop(&ground->deadline);
    return !ground->is_over;
}

static void open_ground(struct ground *ground, int64_t idle_timeout_ms, bool stops_unhealthy)
{
    static const char *const binds[] = { "127.0.0.1:0" };
    struct pool_error error = POOL_ERROR_INIT;
    *ground = (struct ground){
        .health_status = 200, .slots_status = 200, .slots = "[{\"is_processing\":false}]", .is_healthy = true
    };
    struct http_server_options server = {
        .binds = binds, .n_binds = 1, .on_request = serve, .context = ground
    };
    struct sights_options options = { .health_interval_ms = 20,
                                      .stops_unhealthy = stops_unhealthy,
                                      .report = note_report,
                                      .stop = note_stop,
                                      .context = ground };
    assert_int_equal(uv_loop_init(&ground->loop), 0);
    uv_timer_init(&ground->loop, &ground->deadline);
    ground->deadline.data = ground;
    assert_int_equal(http_server_open(&ground->loop, &server, &ground->server, &error), POOL_OK);
    assert_int_equal(sights_open(&ground->loop, &options, &ground->sights, &error), POOL_OK);
    struct pool_worker_info *worker = pool_worker_info_new();
    assert_non_null(worker);
    worker->worker_id = strdup("w");
    worker->host = strdup("0.0.0.0"); /* reached over loopback */
    worker->ready_path = strdup("/health");
    worker->port = http_server_port(ground->server, 0);
    worker->status = POOL_WORKER_READY;
    worker->activity = POOL_ACTIVITY_LLAMA_SERVER;
    worker->idle_timeout_ms = idle_timeout_ms;
    ground->worker = worker;
    sights_update(ground->sights, worker);
}

static bool is_closed(const struct ground *ground)
{
    return ground->is_closed;
}

static void close_ground(struct ground *ground)
{
    sights_close(ground->sights, note_closed, ground);
    ground->sights = NULL;
    assert_true(run_until(ground, is_closed));
    ground->is_closed = false;
    http_server_close(ground->server, note_closed, ground);
    if (ground->held)
        http_respond(ground->held, 200, NULL, NULL, 0, HTTP_STATIC);
    assert_true(run_until(ground, is_closed));
    uv_close((uv_handle_t *)&ground->deadline, NULL);
    assert_int_equal(uv_run(&ground->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&ground->loop), 0);
    pool_worker_info_free(ground->worker);
}

static void set_drain(struct ground *ground, int64_t timeout_ms)
{
    ground->worker->status = POOL_WORKER_STOPPING;
    ground->worker->stop_phase = strdup("drain");
    if (timeout_ms >= 0)
        sights_limit_drain(ground->sights, "w", timeout_ms);
    sights_update(ground->sights, ground->worker);
}

/* ---- what a test waits for ---- */

static bool has_some_looks(const struct ground *ground)
{
    return ground->n_slots >= 10 && ground->n_health >= 10;
}

static bool has_report(const struct ground *ground)
{
    return ground->n_reports > 0;
}

static bool is_unhealthy(const struct ground *ground)
{
    return !ground->is_healthy;
}

static bool is_healthy(const struct ground *ground)
{
    return ground->is_healthy;
}

static bool is_idle(const struct ground *ground)
{
    return ground->worker->status == POOL_WORKER_IDLE;
}

static bool is_stopped(const struct ground *ground)
{
    return ground->n_stops > 0;
}

static bool is_held(const struct ground *ground)
{
    return ground->held != NULL;
}

static bool has_one_slot_look_more(const struct ground *ground)
{
    return ground->n_slots > 1;
}

/* ---- tests ---- */

static void test_nothing_new_is_not_reported(void **state)
{
    (void)state;
    struct ground ground;
    open_ground(&ground, 0, true);
    assert_true(run_until(&ground, has_some_looks));
    assert_int_equal(ground.n_reports, 0);
    assert_int_equal(ground.n_stops, 0);
    close_ground(&ground);
}

static void test_busy_and_idle_are_reported_once(void **state)
{
    (void)state;
    struct ground ground;
    open_ground(&ground, 0, true);
    ground.slots = "[{\"is_processing\":true,\"id_task\":3}]";
    assert_true(run_until(&ground, has_report));
    assert_int_equal(ground.n_requests.value, 1);
    ground.n_slots = ground.n_health = 0;
    assert_true(run_until(&ground, has_some_looks));
    assert_int_equal(ground.n_reports, 1);
    ground.slots = "[{\"is_processing\":false,\"id_task\":3}]";
    assert_true(run_until(&ground, is_idle));
    ground.n_slots = ground.n_health = 0;
    assert_true(run_until(&ground, has_some_looks));
    assert_int_equal(ground.n_reports, 2);
    close_ground(&ground);
}

static void test_a_request_between_two_looks_counts(void **state)
{
    (void)state;
    struct ground ground;
    open_ground(&ground, 0, true);
    assert_true(run_until(&ground, has_some_looks));
    ground.slots = "[{\"is_processing\":false,\"id_task\":3}]";
    assert_true(run_until(&ground, is_idle));
    assert_int_equal(ground.n_reports, 2);
    assert_int_equal(ground.requests_seen[0], 1);
    assert_int_equal(ground.requests_seen[1], 0);
    close_ground(&ground);
}

static void test_three_misses_in_a_row(void **state)
{
    (void)state;
    struct ground ground;
    open_ground(&ground, 0, false);
    ground.health_status = 503;
    assert_true(run_until(&ground, is_unhealthy));
    assert_int_equal(ground.n_health, 3);
    assert_true(ground.has_reason);
    ground.health_status = 200;
    assert_true(run_until(&ground, is_healthy));
    assert_int_equal(ground.n_health, 4);
    assert_false(ground.has_reason);
    assert_int_equal(ground.n_stops, 0);
    close_ground(&ground);
}

static void test_unhealthy_is_stopped_where_asked_for(void **state)
{
    (void)state;
    struct ground ground;
    open_ground(&ground, 0, true);
    ground.health_status = 404;
    assert_true(run_until(&ground, is_stopped));
    assert_int_equal(ground.reason, POOL_STOP_UNHEALTHY);
    assert_false(ground.is_healthy);
    /* It is told to stop: nothing is asked any more, whatever is under way. */
    ground.worker->status = POOL_WORKER_STOPPING;
    sights_update(ground.sights, ground.worker);
    assert_false(sights_are_told_requests(ground.sights, "w"));
    close_ground(&ground);
}

static void test_idle_timeout(void **state)
{
    (void)state;
    struct ground ground;
    int64_t began_ns = clock_boottime_ns();
    open_ground(&ground, 200, true);
    assert_true(run_until(&ground, is_stopped));
    assert_int_equal(ground.reason, POOL_STOP_IDLE_TIMEOUT);
    assert_true(ground.stopped_ns - began_ns >= 200 * NS_PER_MS);
    close_ground(&ground);
}

static void test_requests_put_the_idle_timeout_off(void **state)
{
    (void)state;
    struct ground ground;
    open_ground(&ground, 400, true);
    ground.slots = "[{\"is_processing\":true}]";
    assert_true(run_until(&ground, has_some_looks));
    ground.slots = "[{\"is_processing\":false}]";
    int64_t began_ns = clock_boottime_ns();
    assert_true(run_until(&ground, is_stopped));
    assert_true(ground.stopped_ns - began_ns >= 400 * NS_PER_MS);
    close_ground(&ground);
}

/* Nobody knows whether it is idle. */
static void test_no_idle_timeout_without_slots(void **state)
{
    (void)state;
    struct ground ground;
    open_ground(&ground, 20, true);
    ground.slots_status = 501;
    ground.n_slots = 9; /* it will be asked once */
    assert_true(run_until(&ground, has_some_looks));
    assert_int_equal(ground.n_slots, 10);
    assert_int_equal(ground.n_stops, 0);
    assert_int_equal(ground.n_reports, 0);
    assert_false(sights_are_told_requests(ground.sights, "w"));
    set_drain(&ground, -1); /* there is nothing to wait for */
    assert_true(run_until(&ground, is_stopped));
    close_ground(&ground);
}

static void test_a_drain_ends_after_two_quiet_looks(void **state)
{
    (void)state;
    struct ground ground;
    open_ground(&ground, 0, true);
    set_drain(&ground, 60000);
    assert_true(run_until(&ground, is_stopped));
    assert_int_equal(ground.n_slots, 2);
    assert_int_equal(ground.n_health, 0);
    assert_int_equal(ground.reason, POOL_STOP_REQUESTED);
    close_ground(&ground);
}

static void test_a_drain_that_is_late_ends_at_its_deadline(void **state)
{
    (void)state;
    struct ground ground;
    open_ground(&ground, 0, true);
    ground.slots = "[{\"is_processing\":true}]";
    int64_t began_ns = clock_boottime_ns();
    set_drain(&ground, 300);
    assert_true(run_until(&ground, is_stopped));
    assert_true(ground.stopped_ns - began_ns >= 300 * NS_PER_MS);
    assert_true(ground.n_slots > 2);
    close_ground(&ground);
}

/* One that does not answer in time is looked at again, and may have much to do. */
static void test_a_late_answer_is_no_quiet(void **state)
{
    (void)state;
    struct ground ground;
    open_ground(&ground, 100, true);
    ground.is_mute = true;
    assert_true(run_until(&ground, is_held));
    ground.n_slots = 1;
    int64_t began_ns = clock_boottime_ns();
    assert_true(run_until(&ground, has_one_slot_look_more));
    assert_true(clock_boottime_ns() - began_ns >= 1900 * NS_PER_MS);
    assert_int_equal(ground.n_stops, 0);
    assert_int_equal(ground.n_reports, 0);
    close_ground(&ground);
}

static void test_closing_ends_looks_under_way(void **state)
{
    (void)state;
    struct ground ground;
    open_ground(&ground, 0, true);
    ground.is_mute = true;
    assert_true(run_until(&ground, is_held));
    close_ground(&ground);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_activities_are_read),
        cmocka_unit_test(test_nothing_new_is_not_reported),
        cmocka_unit_test(test_busy_and_idle_are_reported_once),
        cmocka_unit_test(test_a_request_between_two_looks_counts),
        cmocka_unit_test(test_three_misses_in_a_row),
        cmocka_unit_test(test_unhealthy_is_stopped_where_asked_for),
        cmocka_unit_test(test_idle_timeout),
        cmocka_unit_test(test_requests_put_the_idle_timeout_off),
        cmocka_unit_test(test_no_idle_timeout_without_slots),
        cmocka_unit_test(test_a_drain_ends_after_two_quiet_looks),
        cmocka_unit_test(test_a_drain_that_is_late_ends_at_its_deadline),
        cmocka_unit_test(test_a_late_answer_is_no_quiet),
        cmocka_unit_test(test_closing_ends_looks_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
