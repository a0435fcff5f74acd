/*
 * The state directory between processes: its two locks, its id, whose it is, and what is refused.
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
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "core/lifecycle/state_dir.h"
#include "manager_ground.h"

static struct scratch_tree tree;
static char path[1100];

static int make_tree(void **state)
{
    (void)state;
    scratch_tree_make(&tree);
    SCRATCH_PATH(&tree, "state", path);
    return prctl(PR_SET_CHILD_SUBREAPER, 1);
}

static int remove_tree(void **state)
{
    (void)state;
    ground_kill_children();
    scratch_tree_remove(&tree);
    return 0;
}

static enum pool_code open_dir(struct state_dir *dir, bool is_daemon, struct pool_error *err)
{
    return state_dir_open(dir, path, false, is_daemon, err);
}

#define CLEANUP_DIR CLEANUP(state_dir_close) struct state_dir

/* Another process that opens the directory, takes `lock` when told, says so, and holds on until it is killed. */
static pid_t hold(bool is_daemon, bool is_locked)
{
    int report[2];
    char byte = 0;
    assert_int_equal(pipe2(report, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct state_dir dir = STATE_DIR_INIT;
        enum pool_code code = open_dir(&dir, is_daemon, NULL);
        if (code == POOL_OK && is_locked)
            code = state_dir_lock(&dir, 1000, NULL);
        byte = code == POOL_OK ? 'y' : 'n';
        (void)!write(report[1], &byte, 1);
        pause();
    }
    close(report[1]);
    assert_int_equal(ground_read(report[0], &byte, 1), 1);
    close(report[0]);
    assert_int_equal(byte, 'y');
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static mode_t mode_of(const char *name)
{
    char file[1200];
    struct stat st;
    SCRATCH_PATH(&tree, name, file);
    assert_int_equal(stat(file, &st), 0);
    return st.st_mode & 07777;
}

static void test_what_is_made(void **state)
{
    (void)state;
    CLEANUP_DIR dir = STATE_DIR_INIT;
    umask(0);
    assert_int_equal(open_dir(&dir, false, NULL), POOL_OK);
    umask(022);
    assert_int_equal(mode_of("state"), 0700);
    assert_int_equal(mode_of("state/logs"), 0700);
    assert_int_equal(mode_of("state/lock"), 0600);
    assert_int_equal(mode_of("state/daemon.lock"), 0600);
    assert_int_equal(mode_of("state/state-id"), 0600);
    assert_int_equal(strlen(dir.state_id), 36);
    CLEANUP_FREE char *file = state_dir_path(&dir, "pool.db");
    assert_non_null(file);
    assert_int_equal(strncmp(file, path, strlen(path)), 0);
    assert_string_equal(file + strlen(path), "/pool.db");
}

static void test_modes_are_repaired(void **state)
{
    (void)state;
    static const mode_t modes[] = { 0755, 0777, 0750, 0701 };
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        CLEANUP_DIR dir = STATE_DIR_INIT;
        mkdir(path, 0700);
        assert_int_equal(chmod(path, modes[i]), 0);
        assert_int_equal(open_dir(&dir, false, NULL), POOL_OK);
        assert_int_equal(mode_of("state"), 0700);
    }
}

static void test_the_lock_between_processes(void **state)
{
    (void)state;
    CLEANUP_DIR dir = STATE_DIR_INIT;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(open_dir(&dir, false, NULL), POOL_OK);
    pid_t other = hold(false, true);
    int64_t started_ns = clock_boottime_ns();
    assert_int_equal(state_dir_lock(&dir, 40, &err), POOL_CONFLICT);
    assert_true(clock_boottime_ns() - started_ns >= 40 * NS_PER_MS);
    assert_true(err.is_retriable);
    assert_false(dir.is_locked);
    assert_int_equal(state_dir_lock(&dir, 0, &err), POOL_CONFLICT);
    end(other); /* the kernel lets go of what a killed process held */
    assert_int_equal(state_dir_lock(&dir, 10000, &err), POOL_OK);
    assert_true(dir.is_locked);
    state_dir_unlock(&dir);
    state_dir_unlock(&dir); /* once more is nothing */
    other = hold(false, true);
    end(other);
}

static void test_a_waiting_process_gets_the_lock(void **state)
{
    (void)state;
    CLEANUP_DIR dir = STATE_DIR_INIT;
    assert_int_equal(open_dir(&dir, false, NULL), POOL_OK);
    assert_int_equal(state_dir_lock(&dir, 0, NULL), POOL_OK);
    pid_t waiting = fork();
    assert_true(waiting >= 0);
    if (waiting == 0) {
        struct state_dir own = STATE_DIR_INIT;
        _exit(open_dir(&own, false, NULL) == POOL_OK && state_dir_lock(&own, 10000, NULL) == POOL_OK ? 0 : 1);
    }
    siginfo_t info = { 0 };
    assert_int_equal(waitid(P_PID, (id_t)waiting, &info, WEXITED | WNOHANG | WNOWAIT), 0);
    state_dir_unlock(&dir);
    assert_int_equal(ground_wait_child(waiting), 0);
}

static void test_a_daemon_is_alone(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    pid_t daemon_process = hold(true, false);
    CLEANUP_DIR dir = STATE_DIR_INIT;
    assert_int_equal(open_dir(&dir, false, &err), POOL_CONFLICT);
    assert_int_equal(dir.fd, -1); /* nothing half-open is given out */
    end(daemon_process);
    assert_int_equal(open_dir(&dir, false, &err), POOL_OK);
}

static void test_a_daemon_waits_for_who_changes_something(void **state)
{
    (void)state;
    pid_t first = hold(false, true);
    pid_t starting = fork();
    assert_true(starting >= 0);
    if (starting == 0) {
        struct state_dir dir = STATE_DIR_INIT;
        _exit((int)open_dir(&dir, true, NULL));
    }
    end(first);
    assert_int_equal(ground_wait_child(starting), POOL_OK);
    first = hold(false, true);
    CLEANUP_DIR dir = STATE_DIR_INIT;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(open_dir(&dir, true, &err), POOL_CONFLICT); /* after a few seconds of patience */
    end(first);
}

static void test_who_only_has_it_open_keeps_no_daemon_out(void **state)
{
    (void)state;
    CLEANUP_DIR dir = STATE_DIR_INIT;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(open_dir(&dir, false, &err), POOL_OK);
    assert_int_equal(state_dir_lock(&dir, 1000, &err), POOL_OK);
    state_dir_unlock(&dir);
    pid_t daemon_process = hold(true, false);
    assert_false(dir.is_superseded); /* it has not been looked for */
    assert_int_equal(state_dir_lock(&dir, 1000, &err), POOL_CONFLICT);
    assert_non_null(strstr(err.message, "a daemon manages"));
    assert_true(dir.is_superseded);
    assert_false(dir.is_locked);
    end(daemon_process);
    assert_int_equal(state_dir_lock(&dir, 1000, NULL), POOL_OK);
    assert_false(dir.is_superseded);
}

static void test_commands_let_a_daemon_go_ahead(void **state)
{
    (void)state;
    pid_t first = hold(false, true);
    pid_t starting = fork();
    assert_true(starting >= 0);
    if (starting == 0) {
        struct state_dir dir = STATE_DIR_INIT;
        _exit((int)open_dir(&dir, true, NULL));
    }
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_code code = POOL_OK;
    for (int i = 0; i < 10000 && code == POOL_OK; i++) { /* until the daemon has come as far as to wait */
        CLEANUP_DIR dir = STATE_DIR_INIT;
        code = open_dir(&dir, false, &err);
    }
    assert_int_equal(code, POOL_CONFLICT);
    assert_true(err.is_retriable);
    end(first);
    assert_int_equal(ground_wait_child(starting), POOL_OK);
    CLEANUP_DIR dir = STATE_DIR_INIT;
    assert_int_equal(open_dir(&dir, false, NULL), POOL_OK);
}

static void test_one_id_for_twenty_at_once(void **state)
{
    (void)state;
    enum { N = 20 };
    int report[2];
    pid_t pids[N];
    assert_int_equal(pipe2(report, O_CLOEXEC), 0);
    for (int i = 0; i < N; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            struct state_dir dir = STATE_DIR_INIT;
            if (open_dir(&dir, false, NULL) != POOL_OK)
                _exit(1);
            (void)!write(report[1], dir.state_id, sizeof dir.state_id);
            _exit(0);
        }
    }
    close(report[1]);
    char first[UUID_TEXT_MAX], id[UUID_TEXT_MAX];
    for (int i = 0; i < N; i++) {
        assert_int_equal(ground_read(report[0], id, sizeof id), sizeof id);
        if (i == 0)
            memcpy(first, id, sizeof first);
        assert_string_equal(id, first);
    }
    close(report[0]);
    for (int i = 0; i < N; i++)
        assert_int_equal(ground_wait_child(pids[i]), 0);
    CLEANUP_DIR dir = STATE_DIR_INIT;
    assert_int_equal(open_dir(&dir, false, NULL), POOL_OK);
    assert_string_equal(dir.state_id, first);
}

static void test_a_broken_id_is_made_anew(void **state)
{
    (void)state;
    static const char *const texts[] = { "",
                                         "short\n",
                                         "0123456789abcdef0123456789abcdef0123/..\n",
                                         "XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX\n",
                                         "00000000-0000-4000-8000-000000000001\nmore\n",
                                         "00000000-0000-4000-8000-000000000001 " };
    char before[UUID_TEXT_MAX] = "";
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        CLEANUP_DIR dir = STATE_DIR_INIT;
        scratch_tree_write_text(&tree, "state/state-id", texts[i]);
        enum pool_code code = open_dir(&dir, false, NULL);
        assert_int_equal(code, POOL_OK);
        assert_int_equal(strspn(dir.state_id, "0123456789abcdef-"), 36);
        if (i < 5) {
            assert_int_not_equal(strncmp(dir.state_id, texts[i], 36), 0);
            assert_string_not_equal(dir.state_id, before);
        }
        memcpy(before, dir.state_id, sizeof before);
        CLEANUP_DIR again = STATE_DIR_INIT;
        assert_int_equal(open_dir(&again, false, NULL), POOL_OK);
        assert_string_equal(again.state_id, before);
    }
}

static void test_links_in_place_of_locks_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = { "state/lock", "state/daemon.lock" };
    scratch_tree_write_text(&tree, "elsewhere", "precious");
    for (size_t i = 0; i < 2; i++) {
        CLEANUP_DIR dir = STATE_DIR_INIT;
        struct pool_error err = POOL_ERROR_INIT;
        char file[1200];
        SCRATCH_PATH(&tree, names[i], file);
        unlink(file);
        scratch_tree_link(&tree, names[i], "../elsewhere");
        assert_int_equal(open_dir(&dir, false, &err), POOL_REGISTRY_UNAVAILABLE);
        assert_int_equal(err.sys_errno, ELOOP);
        assert_string_equal(err.field, "pool.state_dir");
        assert_int_equal(unlink(file), 0);
    }
}

static void test_what_is_no_directory(void **state)
{
    (void)state;
    CLEANUP_DIR dir = STATE_DIR_INIT;
    struct pool_error err = POOL_ERROR_INIT;
    scratch_tree_write_text(&tree, "state", "a file");
    assert_int_equal(open_dir(&dir, false, &err), POOL_REGISTRY_UNAVAILABLE);
    assert_int_equal(err.sys_errno, ENOTDIR);
    assert_int_equal(state_dir_open(&dir, "", false, false, &err), POOL_REGISTRY_UNAVAILABLE);
}

/* Runs as nobody, who has no rights that root has; the exit code is a pool_code. */
static int as_nobody(uid_t owner, mode_t mode)
{
    mkdir(path, 0700);
    assert_int_equal(chmod(tree.root, 0755), 0);
    assert_int_equal(chown(path, owner, owner), 0);
    assert_int_equal(chmod(path, mode), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct state_dir dir = STATE_DIR_INIT;
        struct pool_error err = POOL_ERROR_INIT;
        if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
            _exit(255);
        enum pool_code code = open_dir(&dir, false, &err);
        _exit(code == err.code ? (int)code : 254);
    }
    return ground_wait_child(pid);
}

static void test_whose_it_is(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("[  SKIPPED ] only root can be somebody else\n");
        skip();
    }
    assert_int_equal(as_nobody(0, 0777), POOL_PERMISSION_DENIED);
    assert_int_equal(as_nobody(0, 0700), POOL_PERMISSION_DENIED);
    assert_int_equal(as_nobody(65534, 0500), POOL_PERMISSION_DENIED); /* his own, but not to be written */
    assert_int_equal(as_nobody(65534, 0700), POOL_OK);
    CLEANUP_DIR dir = STATE_DIR_INIT;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(open_dir(&dir, false, &err),
                     POOL_PERMISSION_DENIED); /* root leaves nothing of its own there */
    assert_string_equal(err.field, "pool.state_dir");
}

static void test_a_full_disk(void **state)
{
    (void)state;
    assert_int_equal(mkdir(path, 0700), 0);
    if (mount("none", path, "tmpfs", 0, "size=4k,nr_inodes=4,mode=0700") < 0) {
        print_message("[  SKIPPED ] a small file system can not be mounted here: %s\n", strerror(errno));
        skip();
    }
    struct state_dir dir = STATE_DIR_INIT;
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_code code =
        open_dir(&dir, false, &err); /* logs, daemon.lock, lock; no inode is left for state-id */
    char name[1200];
    snprintf(name, sizeof name, "%s/state-id", path);
    int has_id = access(name, F_OK) == 0;
    state_dir_close(&dir);
    umount2(path, MNT_DETACH);
    assert_int_equal(code, POOL_INSUFFICIENT_DISK);
    assert_int_equal(err.sys_errno, ENOSPC);
    assert_false(has_id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_made, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_modes_are_repaired, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_the_lock_between_processes, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_a_waiting_process_gets_the_lock, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_a_daemon_is_alone, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_commands_let_a_daemon_go_ahead, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_who_only_has_it_open_keeps_no_daemon_out, make_tree,
                                        remove_tree),
        cmocka_unit_test_setup_teardown(test_a_daemon_waits_for_who_changes_something, make_tree,
                                        remove_tree),
        cmocka_unit_test_setup_teardown(test_one_id_for_twenty_at_once, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_a_broken_id_is_made_anew, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_links_in_place_of_locks_are_refused, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_what_is_no_directory, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_whose_it_is, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_a_full_disk, make_tree, remove_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
