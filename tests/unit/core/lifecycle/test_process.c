/*
 * Processes: the stat line, identity and liveness of real children, their ends, trees and environments.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "core/lifecycle/process.h"

#define REST " 1 2 3 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"

static void test_stat_lines(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        bool is_good;
        char stat_state;
        int64_t session, start;
    } cases[] = {
        { "42 (sleep) S" REST, true, 'S', 3, 4711 },
        { "42 (a (b) c) Z 9 8 7 0) R" REST, true, 'R', 3, 4711 },
        { "42 () S" REST, true, 'S', 3, 4711 },
        { "42 (x\ny) S" REST, true, 'S', 3, 4711 },
        { "42 (sleep) S 1 2 3", false, 0, 0, 0 },
        { "42 (sleep) SS" REST, false, 0, 0, 0 },
        { "42 sleep S" REST, false, 0, 0, 0 },
        { "x (sleep) S" REST, false, 0, 0, 0 },
        { "(sleep) S" REST, false, 0, 0, 0 },
        { "42 (sleep) S one" REST, false, 0, 0, 0 },
        { "42 (sleep)", false, 0, 0, 0 },
        { ") (", false, 0, 0, 0 },
        { "", false, 0, 0, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct process_stat stat = { 0 };
        assert_int_equal(process_stat_parse(cases[i].line, strlen(cases[i].line), &stat), cases[i].is_good);
        if (!cases[i].is_good)
            continue;
        assert_int_equal(stat.pid, 42);
        assert_int_equal(stat.state, cases[i].stat_state);
        assert_int_equal(stat.ppid, 1);
        assert_int_equal(stat.process_group, 2);
        assert_int_equal(stat.session, cases[i].session);
        assert_int_equal(stat.start_time_ticks, cases[i].start);
    }
}

static pid_t spawn_sleeper(const char *marker)
{
    char variable[64];
    snprintf(variable, sizeof variable, "MARKER=%s", marker);
    char *argv[] = { (char[]){ "/bin/sleep" }, (char[]){ "60" }, NULL };
    char *environment[] = { (char[]){ "FIRST=1" }, variable, (char[]){ "MARKER_LATER=no" }, NULL };
    CLEANUP_CLOSE int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    pid_t pid;
    assert_int_equal(process_spawn(argv, environment, null_fd, &pid), 0);
    return pid;
}

static void test_spawn_makes_a_session_with_clean_signals(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    pid_t pid = spawn_sleeper("clean");
    signal(SIGPIPE, SIG_DFL);
    struct process_stat stat;
    assert_int_equal(process_stat_read(pid, &stat), 0);
    assert_int_equal(stat.session, pid);
    assert_int_equal(stat.process_group, pid);
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    int n_seen = 0;
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "SigBlk:", 7) == 0 || strncmp(line, "SigIgn:", 7) == 0) {
            /* 32 and 33 are glibc's own; its posix_spawn ignores them in the child, and programs set them anew */
            uint64_t mask = strtoull(line + 7, NULL, 16) & ~UINT64_C(0x180000000);
            assert_int_equal(mask, 0);
            n_seen++;
        }
    }
    fclose(file);
    assert_int_equal(n_seen, 2);
    kill(-pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void test_spawn_reports_what_exec_says(void **state)
{
    (void)state;
    char *environment[] = { NULL };
    char *missing[] = { (char[]){ "/nonexistent/program" }, NULL };
    char *folder[] = { (char[]){ "/tmp" }, NULL };
    pid_t pid;
    assert_int_equal(process_spawn(missing, environment, STDERR_FILENO, &pid), ENOENT);
    assert_int_equal(process_spawn(folder, environment, STDERR_FILENO, &pid), EACCES);
}

static void test_identity_and_end(void **state)
{
    (void)state;
    struct host_identity host;
    struct pool_process_identity identity, other;
    assert_int_equal(host_identity_read(&host), 0);
    assert_int_equal(strlen(host.boot_id), 36);
    pid_t pid = spawn_sleeper("identity");
    CLEANUP_CLOSE int pidfd = pidfd_open(pid, 0);
    assert_int_equal(process_identify(&host, pid, pidfd, &identity), 0);
    assert_int_equal(identity.pid, pid);
    assert_true(identity.start_time_ticks > 0);

    CLEANUP_CLOSE int found = -1;
    assert_int_equal(process_open(&host, &identity, &found), PROCESS_RUNNING);
    assert_true(found >= 0);
    assert_int_equal(pidfd_wait(found, -1, 0), PIDFD_TIMEOUT);
    int none = -1;
    other = identity; /* another process that got the same pid */
    other.start_time_ticks++;
    other.pidfd_inode = 0;
    assert_int_equal(process_open(&host, &other, &none), PROCESS_ENDED);
    assert_int_equal(none, -1);
    other = identity;
    if (identity.pidfd_inode != 0) {
        other.pidfd_inode++;
        assert_int_equal(process_open(&host, &other, &none), PROCESS_ENDED);
    }
    other = identity; /* before a reboot */
    other.boot_id[0] ^= 1;
    assert_int_equal(process_open(&host, &other, &none), PROCESS_ENDED);
    other = identity; /* in another container */
    other.pid_namespace++;
    assert_int_equal(process_open(&host, &other, &none), PROCESS_UNKNOWN);

    kill(pid, SIGTERM);
    assert_int_equal(pidfd_wait(pidfd, -1, 10000), PIDFD_ENDED);
    CLEANUP_CLOSE int zombie = -1;
    assert_int_equal(process_open(&host, &identity, &zombie), PROCESS_ENDED);
    struct pool_process_end end = process_end_read(pidfd, pid);
    assert_true(end.is_known && end.is_signal);
    assert_int_equal(end.value, SIGTERM);
}

static void test_end_of_a_process_that_is_not_our_child(void **state)
{
    (void)state;
    int told[2], go[2];
    assert_int_equal(pipe2(told, O_CLOEXEC), 0);
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    pid_t middle = fork();
    assert_true(middle >= 0);
    if (middle == 0) { /* the parent of the one that is looked at; it never waits, so that a zombie stays */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pid_t child = fork();
        if (child == 0) {
            char nothing;
            close(go[1]);
            _exit(read(go[0], &nothing, 1) == 0 ? 7 : 1);
        }
        (void)!write(told[1], &child, sizeof child);
        close(go[1]);
        pause();
        _exit(0);
    }
    pid_t child;
    assert_int_equal(read(told[0], &child, sizeof child), sizeof child);
    CLEANUP_CLOSE int pidfd = pidfd_open(child, 0);
    assert_true(pidfd >= 0);
    close(go[1]); /* the last writer is gone: the child exits with 7 */
    assert_int_equal(pidfd_wait(pidfd, -1, 10000), PIDFD_ENDED);
    struct pool_process_end end = process_end_read(pidfd, child); /* a zombie of somebody else's */
    assert_true(end.is_known && !end.is_signal);
    assert_int_equal(end.value, 7);
    kill(middle, SIGKILL);
    waitpid(middle, NULL, 0);
    close(told[0]);
    close(told[1]);
    close(go[0]);
}

static void test_wait_can_be_cancelled(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = spawn_sleeper("cancel");
    CLEANUP_CLOSE int pidfd = pidfd_open(pid, 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(pidfd_wait(pidfd, fds[0], 10000), PIDFD_CANCELLED);
    kill(pid, SIGKILL);
    assert_int_equal(pidfd_wait(pidfd, -1, 10000), PIDFD_ENDED);
    process_end_read(pidfd, pid);
    close(fds[0]);
    close(fds[1]);
}

static void test_trees_logs_and_environments(void **state)
{
    (void)state;
    char name[] = "/tmp/test_process.XXXXXX";
    CLEANUP_CLOSE int log = mkostemp(name, O_CLOEXEC);
    struct stat st;
    assert_int_equal(fstat(log, &st), 0);
    assert_int_equal(flock(log, LOCK_EX | LOCK_NB), 0);
    /* Another open file of the same log, for writing even, is a stranger's. */
    CLEANUP_CLOSE int other = open(name, O_RDWR | O_CLOEXEC);
    char *reader[] = { (char[]){ "/bin/sleep" }, (char[]){ "60" }, NULL };
    char *nothing[] = { NULL };
    pid_t stranger;
    assert_int_equal(process_spawn(reader, nothing, other, &stranger), 0);
    char *argv[] = { (char[]){ "/bin/sh" }, (char[]){ "-c" }, (char[]){ "setsid sleep 60 & sleep 60" },
                     NULL };
    char *environment[] = { (char[]){ "PATH=/usr/bin:/bin" }, (char[]){ "POOL_WORKER_ID=tree" },
                            (char[]){ "POOL_STATE_ID=mine" }, (char[]){ "POOL_WORKER_START=7" }, NULL };
    pid_t pid;
    assert_int_equal(process_spawn(argv, environment, log, &pid), 0);
    struct process_tree_query by_log = { .log_device = st.st_dev, .log_inode = st.st_ino };
    struct process_tree_query by_ids = { .worker_id = "tree", .state_id = "mine", .start_id = 7 };
    struct process_tree_query by_root = { .root = pid };
    struct process_tree_query strangers = { .worker_id = "tree", .state_id = "theirs", .start_id = 7 };
    struct process_tree_query another_start = { .worker_id = "tree", .state_id = "mine", .start_id = 8 };
    struct process_set set = { 0 };
    for (int tries = 0; tries < 2000 && set.n < 3; tries++) { /* until the shell has started both */
        set.n = 0;
        assert_int_equal(process_tree_find(&by_log, &set), 0);
        sched_yield();
    }
    assert_int_equal(set.n, 3);
    assert_true(process_set_has(&set, pid));
    assert_false(process_set_has(&set, stranger));
    struct process_set again = { 0 };
    assert_int_equal(process_tree_find(&by_ids, &again), 0);
    assert_int_equal(again.n, 3);
    again.n = 0;
    assert_int_equal(process_tree_find(&by_root, &again), 0);
    assert_int_equal(again.n, 3); /* the one that left the session still descends from it */
    again.n = 0;
    assert_int_equal(process_tree_find(&strangers, &again), 0);
    assert_int_equal(process_tree_find(&another_start, &again), 0);
    assert_int_equal(again.n, 0);
    char *value = process_environment_value(pid, "POOL_STATE_ID");
    assert_string_equal(value, "mine");
    free(value);
    assert_null(process_environment_value(pid, "POOL_STATE"));
    for (size_t i = 0; i < set.n; i++)
        kill(set.pids[i], SIGKILL);
    waitpid(pid, NULL, 0);
    kill(stranger, SIGKILL);
    waitpid(stranger, NULL, 0);
    process_set_done(&set);
    process_set_done(&again);
    unlink(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stat_lines),
        cmocka_unit_test(test_spawn_makes_a_session_with_clean_signals),
        cmocka_unit_test(test_spawn_reports_what_exec_says),
        cmocka_unit_test(test_identity_and_end),
        cmocka_unit_test(test_end_of_a_process_that_is_not_our_child),
        cmocka_unit_test(test_wait_can_be_cancelled),
        cmocka_unit_test(test_trees_logs_and_environments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
