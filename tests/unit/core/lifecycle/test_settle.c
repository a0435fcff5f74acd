/*
 * Settling, row by row of the table in settle.c: registry rows, logs and processes are put together by hand, then
 * somebody looks.
 */
#include "manager_ground.h"

#include <errno.h>
#include <sys/stat.h>

#include <pool/registry.h>

#include "base/cleanup.h"
#include "core/lifecycle/worker_log.h"
#include "sample_worker.h"

GROUND_FIXTURE

enum log { LOG_HELD, LOG_FREE, LOG_MISSING };

/* A row as a start leaves it, with its log; *ret_log_fd is the held log, -1 otherwise. */
static struct pool_worker_info *make_row(const char *worker_id, int64_t port, enum log log, int *ret_log_fd)
{
    char path[1300];
    struct pool_worker_info *worker = small_worker(worker_id, port);
    assert_non_null(worker);
    snprintf(path, sizeof path, "%s/logs/%s.log", ground.state_dir, worker_id);
    worker->log_path = strdup(path);
    worker->host = strdup("127.0.0.1");
    worker->ready_path = strdup("/health");
    worker->uri = strdup("http://127.0.0.1:1");
    worker->model_ref = strdup(ground.model_ref);
    worker->stop_signal = SIGTERM;
    worker->stop_grace_ms = 5000;
    assert_true(worker->log_path && worker->host && worker->ready_path && worker->uri && worker->model_ref);
    *ret_log_fd = -1;
    if (log == LOG_MISSING)
        return worker;
    assert_int_equal(worker_log_create(path, ret_log_fd, NULL, NULL), POOL_OK);
    if (log == LOG_FREE)
        close(take_fd(ret_log_fd));
    return worker;
}

static void register_row(struct pool_worker_info *worker)
{
    struct pool_worker_registry *registry = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    if (pool_worker_registry_open(ground.config->registry_url, &registry, &err) != POOL_OK)
        fail_msg("%s", err.message);
    enum pool_code code = pool_worker_registry_register(registry, worker, &err);
    pool_worker_registry_close(registry);
    if (code != POOL_OK)
        fail_msg("%s", err.message);
}

/* A shell script as a worker would be run, with ids in its environment when worker_id is given. */
static pid_t run_script(const char *script, const char *worker_id, int out_fd)
{
    char id[128], state[128], path[1300], state_id[64] = "";
    snprintf(path, sizeof path, "%s/state-id", ground.state_dir);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_non_null(fgets(state_id, sizeof state_id, file));
    fclose(file);
    state_id[strcspn(state_id, "\n")] = '\0';
    snprintf(id, sizeof id, "POOL_WORKER_ID=%s", worker_id ? worker_id : "");
    snprintf(state, sizeof state, "POOL_STATE_ID=%s", worker_id ? state_id : "");
    char *argv[] = { (char[]){ "/bin/sh" }, (char[]){ "-c" }, (char *)(uintptr_t)script, NULL };
    char start[] = "POOL_WORKER_START=0"; /* as in a row that was made without a time */
    char *environment[] = { (char[]){ "PATH=/usr/bin:/bin" }, id, state, start, NULL };
    CLEANUP_CLOSE int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    pid_t pid;
    assert_int_equal(process_spawn(argv, environment, out_fd >= 0 ? out_fd : null_fd, &pid), 0);
    return pid;
}

static void identify(struct pool_worker_info *worker, pid_t pid)
{
    struct host_identity host;
    CLEANUP_CLOSE int pidfd = pidfd_open(pid, 0);
    assert_true(pidfd >= 0);
    assert_int_equal(host_identity_read(&host), 0);
    assert_int_equal(process_identify(&host, pid, pidfd, &worker->process), 0);
}

/* Waits until it is a zombie, which it stays: we are its parent and do not reap it. */
static void await_end(pid_t pid)
{
    CLEANUP_CLOSE int pidfd = pidfd_open(pid, 0);
    assert_true(pidfd >= 0);
    assert_int_equal(pidfd_wait(pidfd, -1, GROUND_WAIT_S * 1000), PIDFD_ENDED);
}

enum main_process { RUNS, ENDED, NONE };

/* The table of settle.c, the simple rows. */
static void test_the_table(void **state)
{
    (void)state;
    static const struct {
        enum log log;
        enum main_process process;
        enum pool_worker_status status;
        enum pool_stop_reason reason;
    } rows[] = {
        { LOG_HELD, RUNS, POOL_WORKER_SPAWNING, POOL_STOP_NONE },
        { LOG_FREE, RUNS, POOL_WORKER_SPAWNING, POOL_STOP_NONE },
        { LOG_MISSING, RUNS, POOL_WORKER_SPAWNING, POOL_STOP_NONE },
        { LOG_FREE, ENDED, POOL_WORKER_STOPPED, POOL_STOP_LOST },
        { LOG_MISSING, ENDED, POOL_WORKER_STOPPED, POOL_STOP_LOST },
        { LOG_FREE, NONE, POOL_WORKER_STOPPED, POOL_STOP_START_FAILED },
        { LOG_MISSING, NONE, POOL_WORKER_STOPPED, POOL_STOP_START_FAILED },
    };
    enum { N = sizeof rows / sizeof rows[0] };
    ground_open(&ground);
    for (int i = 0; i < N; i++) {
        char id[16];
        int log_fd;
        snprintf(id, sizeof id, "row%d", i);
        CLEANUP_WORKER struct pool_worker_info *worker = make_row(id, 1000 + i, rows[i].log, &log_fd);
        if (rows[i].process != NONE) {
            pid_t pid = run_script(rows[i].process == RUNS ? "exec sleep 60" : "exit 33", NULL, log_fd);
            identify(worker, pid);
            if (rows[i].process == ENDED)
                await_end(pid);
        }
        if (log_fd >= 0)
            close(log_fd);
        register_row(worker);
    }
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_LIVE), 3);
    for (int i = 0; i < N; i++) {
        char id[16];
        snprintf(id, sizeof id, "row%d", i);
        CLEANUP_WORKER struct pool_worker_info *worker = ground_get(&ground, id);
        if (worker->status != rows[i].status || worker->stop_reason != rows[i].reason)
            fail_msg("row %d: %s, %s", i, pool_worker_status_name(worker->status),
                     pool_stop_reason_name(worker->stop_reason));
        assert_int_equal(worker->exit_code.is_present, rows[i].process == ENDED);
        if (rows[i].process == ENDED)
            assert_int_equal(worker->exit_code.value, 33);
        assert_int_equal(worker->stopped_wall_ms > 0, worker->status == POOL_WORKER_STOPPED);
    }
}

static void test_how_it_ended_is_told(void **state)
{
    (void)state;
    int log_fd;
    ground_open(&ground);
    CLEANUP_WORKER struct pool_worker_info *worker = make_row("w", 1000, LOG_FREE, &log_fd);
    worker->status = POOL_WORKER_READY;
    pid_t pid = run_script("kill -SEGV $$", NULL, -1);
    identify(worker, pid);
    await_end(pid);
    register_row(worker);
    CLEANUP_WORKER struct pool_worker_info *found = ground_get(&ground, "w");
    assert_int_equal(found->stop_reason, POOL_STOP_LOST);
    assert_true(found->exit_signal.is_present);
    assert_int_equal(found->exit_signal.value, SIGSEGV);
    assert_false(found->exit_code.is_present);
}

static void test_our_own_child_that_died_unwatched(void **state)
{
    (void)state;
    ground_open(&ground);
    int64_t pid = ground_spawn(&ground, "w", "--crash-after-ms 50 --exit-code 21");
    await_end((pid_t)pid);
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_LIVE), 0);
    CLEANUP_WORKER struct pool_worker_info *found = ground_get(&ground, "w");
    assert_int_equal(found->stop_reason, POOL_STOP_LOST);
    assert_true(found->exit_code.is_present);
    assert_int_equal(found->exit_code.value, 21);
}

static void test_an_identity_that_is_not_this_process(void **state)
{
    (void)state;
    static const char *const what[] = { "another start", "another boot", "another pid namespace",
                                        "another pid namespace, log free" };
    ground_open(&ground);
    pid_t pid = run_script("exec sleep 60", NULL, -1);
    for (int i = 0; i < 4; i++) {
        char id[16];
        int log_fd;
        snprintf(id, sizeof id, "id%d", i);
        CLEANUP_WORKER struct pool_worker_info *worker =
            make_row(id, 1000 + i, i == 3 ? LOG_FREE : LOG_MISSING, &log_fd);
        identify(worker, pid);
        if (i == 0) {
            worker->process.start_time_ticks++;
            worker->process.pidfd_inode += worker->process.pidfd_inode != 0;
        } else if (i == 1) {
            worker->process.boot_id[0] = worker->process.boot_id[0] == '0' ? '1' : '0';
        } else {
            worker->process.pid_namespace++;
        }
        register_row(worker);
        enum pool_worker_status wanted = i == 2 ? POOL_WORKER_SPAWNING : POOL_WORKER_STOPPED;
        if (ground_status(&ground, id) != wanted)
            fail_msg("%s", what[i]);
    }
    assert_true(ground_is_running(pid));
}

/* The main process is gone, somebody it started holds on: said so, and a stop ends them. */
static void test_leftovers_are_named_and_stopped(void **state)
{
    (void)state;
    int log_fd;
    char name[32], pid_path[1200];
    ground_open(&ground);
    SCRATCH_PATH(&ground.tree, "left", pid_path);
    CLEANUP_FREE char *script = NULL;
    assert_true(asprintf(&script,
                         "setsid sh -c 'echo left $$ > %s.new; mv %s.new %s; exec sleep 60' & exit 4",
                         pid_path, pid_path, pid_path) > 0);
    CLEANUP_WORKER struct pool_worker_info *worker = make_row("w", 1000, LOG_HELD, &log_fd);
    worker->status = POOL_WORKER_READY;
    pid_t pid = run_script(script, "w", log_fd);
    close(log_fd);
    identify(worker, pid);
    await_end(pid);
    GROUND_UNTIL(ground_timestamp(&ground, "left", "left") > 0);
    int64_t left = ground_timestamp(&ground, "left", "left");
    register_row(worker);
    CLEANUP_WORKER struct pool_worker_info *found = ground_get(&ground, "w");
    assert_int_equal(found->status, POOL_WORKER_STOPPING);
    assert_false(found->is_healthy);
    assert_int_equal(found->stop_reason, POOL_STOP_LOST);
    assert_int_equal(found->exit_code.value, 4);
    snprintf(name, sizeof name, " %d", (int)left);
    assert_non_null(strstr(found->health_reason, name));
    int64_t revision = found->revision;
    CLEANUP_WORKER struct pool_worker_info *again = ground_get(&ground, "w");
    assert_int_equal(again->revision, revision); /* said once, not at every look */
    CLEANUP_WORKER struct pool_worker_info *stopped = ground_stop(&ground, "w");
    assert_int_equal(stopped->status, POOL_WORKER_STOPPED);
    assert_int_equal(stopped->stop_reason, POOL_STOP_LOST);
    assert_false(ground_is_running(left));
}

/* Leftovers that end by themselves take the worker with them. */
static void test_leftovers_that_end_are_gone(void **state)
{
    (void)state;
    int log_fd;
    ground_open(&ground);
    CLEANUP_WORKER struct pool_worker_info *worker = make_row("w", 1000, LOG_HELD, &log_fd);
    worker->status = POOL_WORKER_READY;
    pid_t pid = run_script("exit 4", "w", log_fd); /* the test itself holds the log on */
    identify(worker, pid);
    await_end(pid);
    register_row(worker);
    assert_int_equal(ground_status(&ground, "w"), POOL_WORKER_STOPPING);
    close(log_fd);
    assert_int_equal(ground_status(&ground, "w"), POOL_WORKER_STOPPED);
}

/* The starter died between spawn and record. */
static void test_a_half_made_start_is_finished(void **state)
{
    (void)state;
    int log_fd;
    ground_open(&ground);
    CLEANUP_WORKER struct pool_worker_info *worker = make_row("w", 1000, LOG_HELD, &log_fd);
    pid_t pid = run_script("setsid sleep 60 & exec sleep 60", "w", log_fd);
    close(log_fd);
    register_row(worker);
    CLEANUP_WORKER struct pool_worker_info *found = ground_get(&ground, "w");
    assert_int_equal(found->status, POOL_WORKER_SPAWNING);
    assert_int_equal(found->process.pid, pid);
    assert_true(found->process.start_time_ticks > 0);
    CLEANUP_WORKER struct pool_worker_info *stopped = ground_stop(&ground, "w");
    assert_int_equal(stopped->status, POOL_WORKER_STOPPED);
    assert_int_equal(ground_count_processes(&ground), 0);
}

static void test_a_half_made_start_whose_process_is_not_found_waits(void **state)
{
    (void)state;
    int log_fd;
    ground_open(&ground);
    CLEANUP_WORKER struct pool_worker_info *worker = make_row("w", 1000, LOG_HELD, &log_fd);
    pid_t pid = run_script("exec sleep 60", NULL, log_fd); /* holds the log, and does not say whose it is */
    close(log_fd);
    register_row(worker);
    CLEANUP_WORKER struct pool_worker_info *found = ground_get(&ground, "w");
    assert_int_equal(found->status, POOL_WORKER_SPAWNING);
    assert_int_equal(found->process.pid, 0);
    assert_true(ground_is_running(pid));
    pidfd_signal(pidfd_open(pid, 0), SIGKILL);
    await_end(pid);
    assert_int_equal(ground_status(&ground, "w"), POOL_WORKER_STOPPED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GROUND_TEST(test_the_table),
        GROUND_TEST(test_how_it_ended_is_told),
        GROUND_TEST(test_our_own_child_that_died_unwatched),
        GROUND_TEST(test_an_identity_that_is_not_this_process),
        GROUND_TEST(test_leftovers_are_named_and_stopped),
        GROUND_TEST(test_leftovers_that_end_are_gone),
        GROUND_TEST(test_a_half_made_start_is_finished),
        GROUND_TEST(test_a_half_made_start_whose_process_is_not_found_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
