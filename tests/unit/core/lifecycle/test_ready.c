/*
 * Starts that become ready, and all the ways in which they do not, with the fake worker in its moods.
 */
#include "manager_ground.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "core/lifecycle/port.h"
#include "sample_worker.h"

GROUND_FIXTURE

/* Spawns, waits, and expects the start to fail with this code; the worker is in the history then, and nothing runs. */
static struct pool_worker_info *fail_to_start(const char *words, int64_t start_timeout_ms,
                                              enum pool_code wanted, struct pool_error *err)
{
    struct pool_worker_spawn_request *request = ground_request(&ground, "fake", "w", words);
    request->start_timeout_ms = (struct pool_reading){ true, start_timeout_ms };
    enum pool_code code = ground_try_spawn(ground.manager, request, err);
    pool_worker_spawn_request_free(request);
    if (code != POOL_OK)
        fail_msg("%s", err->message);
    struct pool_worker_info *worker = NULL;
    code = pool_manager_wait_ready(ground.manager, "w", NULL, &worker, err);
    if (code != wanted)
        fail_msg("%s: %s", pool_code_name(code), err->message);
    assert_null(worker);
    assert_string_equal(pool_error_detail(err, "worker_id")->text, "w");
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_LIVE), 0);
    assert_int_equal(ground_count_processes(&ground), 0);
    worker = ground_get(&ground, "w");
    assert_int_equal(worker->status, POOL_WORKER_STOPPED);
    assert_true(worker->stopped_wall_ms > 0);
    assert_int_equal(port_test(worker->host, (uint16_t)worker->port), 0);
    return worker;
}

static void test_a_life(void **state)
{
    (void)state;
    ground_open(&ground);
    int64_t pid = ground_spawn(&ground, "w", "--ready-after-ms 30");
    CLEANUP_WORKER struct pool_worker_info *worker = ground_wait_ready(&ground, "w");
    assert_int_equal(worker->status, POOL_WORKER_READY);
    assert_int_equal(worker->process.pid, pid);
    assert_int_equal(worker->port_proof, POOL_PORT_PROOF_PROCESS_TREE);
    assert_true(worker->ready_boottime_ns - worker->created_boottime_ns >= 30 * NS_PER_MS);
    assert_true(worker->ready_wall_ms >= worker->created_wall_ms);
    assert_in_range(worker->port, ground.port_first, ground.port_last);
    assert_true(ground_is_running(pid));
    CLEANUP_WORKER struct pool_worker_info *again = ground_wait_ready(&ground, "w"); /* at once */
    assert_null(differing_field(worker, again));
    CLEANUP_WORKER struct pool_worker_info *stopped = ground_stop(&ground, "w");
    assert_int_equal(stopped->status, POOL_WORKER_STOPPED);
    assert_int_equal(stopped->stop_reason, POOL_STOP_REQUESTED);
    assert_true(stopped->exit_code.is_present && stopped->exit_code.value == 0);
    assert_false(ground_is_running(pid));
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_LIVE), 0);
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_HISTORY), 1);
}

static void test_moods_that_become_ready(void **state)
{
    (void)state;
    static const char *const moods[] = {
        "",
        "--ready-after-ms 80", /* 503, then 200 */
        "--listen-after-ms 80",
        "--listen-after-ms 40 --ready-after-ms 80",
        "--grandchildren 2",
        "--flood-log 3000000",
        "--take-memory 20MiB",
    };
    ground_open(&ground);
    for (size_t i = 0; i < sizeof moods / sizeof moods[0]; i++) {
        char id[16];
        snprintf(id, sizeof id, "w%zu", i);
        ground_spawn(&ground, id, moods[i]);
    }
    for (size_t i = 0; i < sizeof moods / sizeof moods[0]; i++) {
        char id[16];
        snprintf(id, sizeof id, "w%zu", i);
        CLEANUP_WORKER struct pool_worker_info *worker = ground_wait_ready(&ground, id);
        assert_int_equal(worker->status, POOL_WORKER_READY);
    }
    for (size_t i = 0; i < sizeof moods / sizeof moods[0]; i++) {
        char id[16];
        snprintf(id, sizeof id, "w%zu", i);
        CLEANUP_WORKER struct pool_worker_info *worker = ground_stop(&ground, id);
        assert_int_equal(worker->stop_reason, POOL_STOP_REQUESTED);
    }
    assert_int_equal(ground_count_processes(&ground), 0);
}

static void test_never_ready(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    ground_open(&ground);
    CLEANUP_WORKER struct pool_worker_info *worker =
        fail_to_start("--never-ready --say still-loading", 150, POOL_WORKER_START_TIMEOUT, &err);
    assert_int_equal(worker->stop_reason, POOL_STOP_START_TIMEOUT);
    assert_int_equal(pool_error_detail(&err, "start_timeout_ms")->number, 150);
    assert_true(pool_error_detail(&err, "elapsed_ms")->number >= 150);
    assert_int_equal(pool_error_detail(&err, "is_listening")->number, 1);
    assert_int_equal(pool_error_detail(&err, "last_status_code")->number, 503);
    assert_non_null(pool_error_detail(&err, "read_bytes"));
    assert_true(pool_error_detail(&err, "resident_bytes")->number > 0);
    assert_true(pool_error_detail(&err, "log_bytes")->number > 0);
    assert_non_null(strstr(err.log_tail, "still-loading"));
}

static void test_never_listens(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    ground_open(&ground);
    CLEANUP_WORKER struct pool_worker_info *worker =
        fail_to_start("--listen-after-ms 60000 --ignore-sigterm", 150, POOL_WORKER_START_TIMEOUT, &err);
    assert_int_equal(worker->stop_reason, POOL_STOP_START_TIMEOUT);
    assert_int_equal(pool_error_detail(&err, "is_listening")->number, 0);
    assert_null(pool_error_detail(&err, "last_status_code"));
}

static void test_a_timeout_leaves_no_grandchildren(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    ground_open(&ground);
    CLEANUP_WORKER struct pool_worker_info *worker = fail_to_start(
        "--never-ready --grandchildren 3 --grandchildren-leave-session --grandchildren-ignore-sigterm", 150,
        POOL_WORKER_START_TIMEOUT, &err);
    assert_int_equal(worker->stop_reason, POOL_STOP_START_TIMEOUT);
}

static void test_early_ends(void **state)
{
    (void)state;
    static const struct {
        const char *words;
        int64_t exit_code, exit_signal; /* -1: none */
    } cases[] = {
        { "--say last-words --exit-at-once --exit-code 42", 42, -1 },
        { "--say last-words --exit-at-once --exit-code 0", 0, -1 },
        { "--say last-words --never-ready --crash-after-ms 40 --exit-code 7", 7, -1 },
        { "--say last-words --never-ready --crash-after-ms 40 --crash-signal SEGV", -1, SIGSEGV },
        { "--say last-words --exit-at-once --crash-signal KILL", -1, SIGKILL },
        { "--say last-words --listen-after-ms 60000 --crash-after-ms 40 --crash-signal ABRT", -1, SIGABRT },
    };
    ground_open(&ground);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_error err = POOL_ERROR_INIT;
        CLEANUP_WORKER struct pool_worker_info *worker =
            fail_to_start(cases[i].words, 600000, POOL_WORKER_START_FAILED, &err);
        assert_int_equal(worker->stop_reason, POOL_STOP_START_FAILED);
        const struct pool_detail *code = pool_error_detail(&err, "exit_code");
        const struct pool_detail *number = pool_error_detail(&err, "exit_signal");
        assert_int_equal(code ? code->number : -1, cases[i].exit_code);
        assert_int_equal(number ? number->number : -1, cases[i].exit_signal);
        assert_int_equal(worker->exit_code.is_present ? worker->exit_code.value : -1, cases[i].exit_code);
        assert_int_equal(worker->exit_signal.is_present ? worker->exit_signal.value : -1,
                         cases[i].exit_signal);
        assert_non_null(strstr(err.log_tail, "last-words"));
        assert_string_equal(pool_error_detail(&err, "log_path")->text, worker->log_path);
    }
}

static void test_a_main_process_that_ends_early_and_leaves_others(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    ground_open(&ground);
    CLEANUP_WORKER struct pool_worker_info *worker =
        fail_to_start("--never-ready --grandchildren 2 --grandchildren-leave-session --crash-after-ms 100 "
                      "--exit-code 9",
                      60000, POOL_WORKER_START_FAILED, &err);
    assert_int_equal(worker->exit_code.value, 9);
}

/* ---- progress ---- */

static void test_progress_extends_the_deadline(void **state)
{
    (void)state;
    ground_open(&ground);
    /* Its log grows for all of the second that it takes, four times the deadline. */
    struct pool_worker_spawn_request *request = ground_request(
        &ground, "fake", "w", "--ready-after-ms 1200 --flood-log 10MiB --flood-log-rate 1000000");
    struct pool_error err = POOL_ERROR_INIT;
    request->start_timeout_ms = (struct pool_reading){ true, 400 };
    enum pool_code code = ground_try_spawn(ground.manager, request, &err);
    pool_worker_spawn_request_free(request);
    assert_int_equal(code, POOL_OK);
    CLEANUP_WORKER struct pool_worker_info *worker = ground_wait_ready(&ground, "w");
    assert_true(worker->ready_boottime_ns - worker->created_boottime_ns >= 1200 * NS_PER_MS);
}

static void test_progress_does_not_extend_it_for_ever(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    ground_open(&ground);
    CLEANUP_WORKER struct pool_worker_info *worker = fail_to_start(
        "--never-ready --flood-log 100MiB --flood-log-rate 1000000", 300, POOL_WORKER_START_TIMEOUT, &err);
    int64_t elapsed_ms = pool_error_detail(&err, "elapsed_ms")->number;
    assert_true(elapsed_ms >= 300 * (POOL_START_CAP_FACTOR - 1) && worker->stopped_wall_ms > 0);
}

struct seen {
    int n_calls;
    struct pool_start_progress last;
};

static void remember(const struct pool_start_progress *progress, void *context)
{
    struct seen *seen = context;
    assert_true(progress->elapsed_ms >= seen->last.elapsed_ms);
    seen->last = *progress;
    seen->n_calls++;
}

static void test_progress_is_told(void **state)
{
    (void)state;
    struct seen seen = { 0 };
    struct pool_wait_options options = {
        .struct_size = sizeof options, .cancel_fd = -1, .progress = remember, .progress_context = &seen
    };
    ground_open(&ground);
    ground_spawn(&ground, "w", "--ready-after-ms 700 --take-memory 8MiB --say hello");
    CLEANUP_WORKER struct pool_worker_info *worker = NULL;
    assert_int_equal(pool_manager_wait_ready(ground.manager, "w", &options, &worker, NULL), POOL_OK);
    assert_in_range(seen.n_calls, 2, 8);
    assert_true(seen.last.elapsed_ms >= 250);
    assert_true(seen.last.resident_bytes > 8 << 20);
    assert_true(seen.last.log_bytes > 0);
    assert_true(seen.last.is_listening);
}

/* ---- strangers ---- */

static void test_a_stranger_on_the_port_is_never_ready(void **state)
{
    (void)state;
    char words[1300];
    struct pool_error err = POOL_ERROR_INIT;
    ground_open(&ground);
    snprintf(words, sizeof words, "--stranger-port --timestamps %s/times", ground.tree.root);
    struct pool_worker_spawn_request *request = ground_request(&ground, "fake", "w", words);
    request->start_timeout_ms = (struct pool_reading){ true, 400 };
    assert_int_equal(ground_try_spawn(ground.manager, request, &err), POOL_OK);
    pool_worker_spawn_request_free(request);
    GROUND_UNTIL(ground_timestamp(&ground, "times", "stranger_pid") > 0);
    int64_t stranger = ground_timestamp(&ground, "times", "stranger_pid");
    struct pool_worker_info *worker = NULL;
    assert_int_equal(pool_manager_wait_ready(ground.manager, "w", NULL, &worker, &err),
                     POOL_WORKER_START_TIMEOUT);
    assert_int_equal(pool_error_detail(&err, "last_status_code")->number, 200); /* it did answer */
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_LIVE), 0);
    assert_true(ground_is_running(stranger)); /* a stranger is not ours to kill */
    CLEANUP_WORKER struct pool_worker_info *stopped = ground_get(&ground, "w");
    assert_int_equal(stopped->stop_reason, POOL_STOP_START_TIMEOUT);
    assert_int_equal(stopped->ready_wall_ms, 0);
}

static int listen_shared(int64_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 16) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void test_a_port_shared_with_a_stranger_is_not_ready(void **state)
{
    (void)state;
    ground_open(&ground);
    ground_spawn(&ground, "w", "--reuseport --ready-after-ms 200");
    CLEANUP_WORKER struct pool_worker_info *worker = ground_get(&ground, "w");
    CLEANUP_CLOSE int stranger = -1;
    GROUND_UNTIL((stranger = listen_shared(worker->port)) >= 0);
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *ready = NULL;
    int cancel[2];
    assert_int_equal(pipe2(cancel, O_CLOEXEC), 0);
    struct pool_wait_options options = { .struct_size = sizeof options, .cancel_fd = cancel[0] };
    pid_t canceller = ground_fork(); /* gives the start 600 ms, which is long after its readiness */
    if (canceller == 0) {
        poll(NULL, 0, 600);
        _exit(write(cancel[1], "x", 1) == 1 ? 0 : 1);
    }
    enum pool_code code = pool_manager_wait_ready(ground.manager, "w", &options, &ready, &err);
    close(cancel[0]);
    close(cancel[1]);
    assert_int_equal(code, POOL_CANCELLED);
    assert_int_equal(ground_status(&ground, "w"), POOL_WORKER_SPAWNING); /* nor does a list call it ready */
    close(take_fd(&stranger));
    CLEANUP_WORKER struct pool_worker_info *alone = ground_wait_ready(&ground, "w");
    assert_int_equal(alone->status, POOL_WORKER_READY);
}

/* The port is taken by somebody between the plan and the worker's bind: the same start goes on with another one. */
static void test_a_lost_port_is_replaced(void **state)
{
    (void)state;
    ground_open(&ground);
    ground_spawn(&ground, "w", "--listen-after-ms 400");
    CLEANUP_WORKER struct pool_worker_info *first = ground_get(&ground, "w");
    CLEANUP_CLOSE int stranger = listen_shared(first->port);
    assert_true(stranger >= 0);
    CLEANUP_WORKER struct pool_worker_info *worker = ground_wait_ready(&ground, "w");
    assert_int_equal(worker->status, POOL_WORKER_READY);
    assert_int_not_equal(worker->port, first->port);
    assert_int_not_equal(worker->process.pid, first->process.pid);
    assert_in_range(worker->port, ground.port_first, ground.port_last);
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_LIVE), 1);
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_HISTORY), 0);
    assert_int_equal(ground_count_processes(&ground), 1);
}

static void test_a_lost_port_that_was_asked_for_is_a_failure(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    ground_open(&ground);
    struct pool_worker_spawn_request *request = ground_request(&ground, "fake", "w", "--listen-after-ms 300");
    request->port = ground.port_first + 40;
    assert_int_equal(ground_try_spawn(ground.manager, request, &err), POOL_OK);
    pool_worker_spawn_request_free(request);
    CLEANUP_CLOSE int stranger = listen_shared(ground.port_first + 40);
    assert_true(stranger >= 0);
    struct pool_worker_info *worker = NULL;
    assert_int_equal(pool_manager_wait_ready(ground.manager, "w", NULL, &worker, &err),
                     POOL_WORKER_START_FAILED);
    assert_int_equal(pool_error_detail(&err, "exit_code")->number, 98);
    assert_non_null(strstr(err.log_tail, "couldn't bind"));
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_LIVE), 0);
}

/* ---- who waits ---- */

static void test_waiting_can_be_cancelled(void **state)
{
    (void)state;
    int cancel[2];
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *worker = NULL;
    assert_int_equal(pipe2(cancel, O_CLOEXEC), 0);
    assert_int_equal(write(cancel[1], "x", 1), 1);
    struct pool_wait_options options = { .struct_size = sizeof options, .cancel_fd = cancel[0] };
    ground_open(&ground);
    int64_t pid = ground_spawn(&ground, "w", "--ready-after-ms 300");
    assert_int_equal(pool_manager_wait_ready(ground.manager, "w", &options, &worker, &err), POOL_CANCELLED);
    close(cancel[0]);
    close(cancel[1]);
    assert_true(ground_is_running(pid)); /* it goes on, and becomes ready without us */
    GROUND_UNTIL(ground_status(&ground, "w") == POOL_WORKER_READY);
}

static void test_somebody_elses_start_can_be_waited_for(void **state)
{
    (void)state;
    pid_t starter = ground_fork();
    if (starter == 0) { /* a command that starts and ends */
        ground_open(&ground);
        ground_spawn(&ground, "w", "--ready-after-ms 150");
        ground_spawn(&ground, "crash", "--never-ready --crash-after-ms 150 --exit-code 5");
        _exit(0);
    }
    assert_int_equal(ground_wait_child(starter), 0);
    ground_open(&ground);
    CLEANUP_WORKER struct pool_worker_info *worker = ground_wait_ready(&ground, "w");
    assert_int_equal(worker->status, POOL_WORKER_READY);
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *none = NULL;
    assert_int_equal(pool_manager_wait_ready(ground.manager, "crash", NULL, &none, &err),
                     POOL_WORKER_START_FAILED);
    assert_int_equal(pool_manager_wait_ready(ground.manager, "unknown", NULL, &none, &err),
                     POOL_WORKER_NOT_FOUND);
}

static void test_listing_finds_what_became_ready(void **state)
{
    (void)state;
    ground_open(&ground);
    for (int i = 0; i < 5; i++) {
        char id[16];
        snprintf(id, sizeof id, "w%d", i);
        ground_spawn(&ground, id, i == 4 ? "--never-ready" : "--ready-after-ms 20");
    }
    for (int i = 0; i < 4; i++) {
        char id[16];
        snprintf(id, sizeof id, "w%d", i);
        GROUND_UNTIL(ground_status(&ground, id) == POOL_WORKER_READY);
        CLEANUP_WORKER struct pool_worker_info *worker = ground_get(&ground, id);
        assert_int_equal(worker->port_proof, POOL_PORT_PROOF_PROCESS_TREE);
        assert_true(worker->ready_wall_ms > 0);
    }
    assert_int_equal(ground_status(&ground, "w4"), POOL_WORKER_SPAWNING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GROUND_TEST(test_a_life),
        GROUND_TEST(test_moods_that_become_ready),
        GROUND_TEST(test_never_ready),
        GROUND_TEST(test_never_listens),
        GROUND_TEST(test_a_timeout_leaves_no_grandchildren),
        GROUND_TEST(test_early_ends),
        GROUND_TEST(test_a_main_process_that_ends_early_and_leaves_others),
        GROUND_TEST(test_progress_extends_the_deadline),
        GROUND_TEST(test_progress_does_not_extend_it_for_ever),
        GROUND_TEST(test_progress_is_told),
        GROUND_TEST(test_a_stranger_on_the_port_is_never_ready),
        GROUND_TEST(test_a_port_shared_with_a_stranger_is_not_ready),
        GROUND_TEST(test_a_lost_port_is_replaced),
        GROUND_TEST(test_a_lost_port_that_was_asked_for_is_a_failure),
        GROUND_TEST(test_waiting_can_be_cancelled),
        GROUND_TEST(test_somebody_elses_start_can_be_waited_for),
        GROUND_TEST(test_listing_finds_what_became_ready),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
