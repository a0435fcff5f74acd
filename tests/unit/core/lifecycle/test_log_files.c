/*
 * Logs of ended workers: they go with their record, and those that no record names are swept; what is not surely ours stays.
 */
#include "manager_ground.h"

#include <sys/file.h>
#include <sys/stat.h>

#include <pool/registry.h>

#include "base/cleanup.h"
#include "core/lifecycle/worker_log.h"
#include "sample_worker.h"

GROUND_FIXTURE

static void path_of(const char *name, char path[1300])
{
    snprintf(path, 1300, "%s/logs/%s", ground.state_dir, name);
}

static void write_log(const char *name)
{
    char path[1300];
    path_of(name, path);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs("a line\n", file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static bool is_there(const char *name)
{
    char path[1300];
    struct stat st;
    path_of(name, path);
    return lstat(path, &st) == 0;
}

static struct pool_worker_registry *open_registry(void)
{
    struct pool_worker_registry *registry = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    if (pool_worker_registry_open(ground.config->registry_url, &registry, &err) != POOL_OK)
        fail_msg("%s", err.message);
    return registry;
}

/* Records of n ended workers: h-0 is the oldest. */
static void fill_history(int n)
{
    struct pool_worker_registry *registry = open_registry();
    assert_int_equal(pool_worker_registry_begin(registry, NULL), POOL_OK);
    for (int i = 0; i < n; i++) {
        char id[16];
        snprintf(id, sizeof id, "h-%d", i);
        CLEANUP_WORKER struct pool_worker_info *worker = small_worker(id, 1000);
        assert_non_null(worker);
        assert_int_equal(pool_worker_registry_register(registry, worker, NULL), POOL_OK);
        assert_int_equal(pool_worker_registry_unregister(registry, worker, NULL), POOL_OK);
    }
    assert_int_equal(pool_worker_registry_commit(registry, NULL), POOL_OK);
    pool_worker_registry_close(registry);
}

/* One worker that dies, and somebody who sees that. */
static void live_and_die(const char *worker_id)
{
    ground_spawn(&ground, worker_id, "--crash-after-ms 20");
    GROUND_UNTIL(ground_status(&ground, worker_id) == POOL_WORKER_STOPPED);
}

static void test_a_log_goes_with_its_record(void **state)
{
    (void)state;
    char held[1300], bundles[1300];
    struct stat st;
    ground_open(&ground);
    live_and_die("first"); /* what is swept is swept here */
    fill_history(POOL_HISTORY_MAX);
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "h-%d.log", i);
        write_log(name);
        snprintf(name, sizeof name, "h-%d.log.start", i);
        write_log(name);
    }
    path_of("h-1.log", held);
    CLEANUP_CLOSE int lock = open(held, O_RDONLY | O_CLOEXEC);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    live_and_die("a"); /* h-0 leaves */
    assert_false(is_there("h-0.log") || is_there("h-0.log.start"));
    assert_true(is_there("h-1.log") && is_there("h-2.log") && is_there("h-3.log") && is_there("a.log"));
    live_and_die("b"); /* h-1: somebody of it lives after all */
    assert_true(is_there("h-1.log") && is_there("h-1.log.start"));
    live_and_die("h-2"); /* its older record leaves, and the newer one has the log */
    assert_true(is_there("h-2.log"));
    assert_false(is_there("h-2.log.start"));
    live_and_die("c");
    assert_false(is_there("h-3.log") || is_there("h-3.log.start"));
    snprintf(bundles, sizeof bundles, "%s/crashes", ground.state_dir);
    assert_int_equal(stat(bundles, &st), 0); /* they have a bound of their own */
}

/* A command sweeps only where there are more files than the history has records; these are nobody's. */
static void crowd(void)
{
    for (int i = 0; i < POOL_HISTORY_MAX; i++) {
        char name[32];
        snprintf(name, sizeof name, "crowd-%d.txt", i);
        write_log(name);
    }
}

static const char *const ours[] = { "gone.log", "gone.log.start", "h-0.log.start", "alone.log.start" };
static const char *const others[] = { "h-0.log",  "held.log", "held.log.start", "folder.log", "link.log",
                                      "-bad.log", ".log",     ".hidden.log",    "x.log.1",    "notes.txt" };

static void plant(int *ret_lock)
{
    char path[1300];
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        write_log(ours[i]);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        path_of(others[i], path);
        if (strcmp(others[i], "folder.log") == 0)
            assert_int_equal(mkdir(path, 0700), 0);
        else if (strcmp(others[i], "link.log") == 0)
            assert_int_equal(symlink("notes.txt", path), 0);
        else
            write_log(others[i]);
    }
    path_of("held.log", path);
    *ret_lock = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(flock(*ret_lock, LOCK_EX), 0);
    path_of("foreign.log", path);
    write_log("foreign.log");
    if (geteuid() == 0)
        assert_int_equal(chown(path, 65534, 65534), 0);
}

static void assert_swept(void)
{
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        if (is_there(ours[i]))
            fail_msg("%s", ours[i]);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (!is_there(others[i]))
            fail_msg("%s", others[i]);
    }
    assert_int_equal(is_there("foreign.log"), geteuid() == 0);
}

static void test_a_command_sweeps_with_the_end_that_it_records(void **state)
{
    (void)state;
    CLEANUP_CLOSE int lock = -1;
    ground_open(&ground);
    fill_history(1);
    ground_spawn(&ground, "living", "");
    plant(&lock);
    crowd();
    live_and_die("w");
    assert_swept();
    assert_true(is_there("crowd-0.txt"));
    assert_true(is_there("living.log") && is_there("living.log.start") && is_there("w.log"));
    write_log("later.log");
    live_and_die("v"); /* not at every end */
    assert_true(is_there("later.log"));
}

static void test_a_daemon_sweeps_when_it_starts(void **state)
{
    (void)state;
    CLEANUP_CLOSE int lock = -1;
    CLEANUP_LIST struct pool_worker_list *list = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    ground_open(&ground);
    fill_history(1);
    ground_spawn(&ground, "living", "");
    plant(&lock);
    ground_close(&ground);
    assert_int_equal(ground_open_as(&ground, true, true, &ground.manager, &err), POOL_OK);
    assert_int_equal(pool_manager_settle(ground.manager, &list, &err), POOL_OK);
    assert_int_equal(list->n_workers, 1);
    assert_swept();
    assert_true(is_there("living.log") && is_there("living.log.start"));
}

/* As old as in the year of 1970. */
static void write_old_logs(int n)
{
    for (int i = 0; i < n; i++) {
        char name[32], path[1300];
        struct timespec times[2] = { { 100000 + i, 0 }, { 100000 + i, 0 } };
        snprintf(name, sizeof name, "old-%d.log", i);
        write_log(name);
        path_of(name, path);
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    }
}

static void test_logs_of_a_lost_registry_take_the_room_of_the_history(void **state)
{
    (void)state;
    ground_open(&ground);
    fill_history(POOL_HISTORY_MAX - 3);
    write_old_logs(5);
    crowd();
    live_and_die("w"); /* there is room for two more */
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "old-%d.log", i);
        if (is_there(name) != (i >= 3))
            fail_msg("%s", name);
    }
}

static void test_a_registry_that_does_not_say_when_it_began(void **state)
{
    (void)state;
    ground_open(&ground);
    struct pool_worker_registry *registry = open_registry();
    assert_int_equal(pool_worker_registry_set_note(registry, "whole", "1", NULL), POOL_OK);
    pool_worker_registry_close(registry);
    write_old_logs(2);
    crowd();
    live_and_die("w");
    assert_false(is_there("old-0.log") || is_there("old-1.log"));
}

static void test_a_command_reads_no_history_for_a_few_files(void **state)
{
    (void)state;
    ground_open(&ground);
    write_log("gone.log");
    live_and_die("w");
    assert_true(is_there("gone.log"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GROUND_TEST(test_a_log_goes_with_its_record),
        GROUND_TEST(test_a_command_sweeps_with_the_end_that_it_records),
        GROUND_TEST(test_a_command_reads_no_history_for_a_few_files),
        GROUND_TEST(test_a_daemon_sweeps_when_it_starts),
        GROUND_TEST(test_logs_of_a_lost_registry_take_the_room_of_the_history),
        GROUND_TEST(test_a_registry_that_does_not_say_when_it_began),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
