/*
 * Worker logs: the lock that is a worker's life, looking without disturbing, freeing space, and the last lines.
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
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pool/lifecycle.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "core/lifecycle/worker_log.h"
#include "manager_ground.h"

static struct scratch_tree tree;
static char path[1100];

static int make_tree(void **state)
{
    (void)state;
    scratch_tree_make(&tree);
    SCRATCH_PATH(&tree, "w.log", path);
    return prctl(PR_SET_CHILD_SUBREAPER, 1);
}

static int remove_tree(void **state)
{
    (void)state;
    ground_kill_children();
    scratch_tree_remove(&tree);
    return 0;
}

static void test_held_free_and_missing(void **state)
{
    (void)state;
    dev_t device = 0;
    ino_t inode = 0;
    struct stat st;
    assert_int_equal(worker_log_look(path, NULL, NULL), WORKER_LOG_MISSING);
    assert_int_equal(worker_log_look(NULL, NULL, NULL), WORKER_LOG_MISSING);
    assert_int_equal(worker_log_look(tree.root, NULL, NULL), WORKER_LOG_MISSING);
    CLEANUP_CLOSE int fd = -1;
    assert_int_equal(worker_log_create(path, &fd, NULL, NULL), POOL_OK);
    assert_int_equal(worker_log_look(path, &device, &inode), WORKER_LOG_HELD);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_true(device == st.st_dev && inode == st.st_ino);
    close(take_fd(&fd));
    assert_int_equal(worker_log_look(path, NULL, NULL), WORKER_LOG_FREE);
    char pipe_path[1200];
    SCRATCH_PATH(&tree, "pipe.log", pipe_path);
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    assert_int_equal(worker_log_look(pipe_path, NULL, NULL), WORKER_LOG_MISSING); /* and does not block */
}

static void test_creation(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    scratch_tree_write_text(&tree, "w.log", "of an earlier worker\n");
    int fd = -1, other = -1;
    assert_int_equal(worker_log_create(path, &fd, NULL, NULL), POOL_OK);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 0);
    assert_int_equal(write(fd, "kept", 4), 4);
    assert_int_equal(worker_log_create(path, &other, NULL, &err), POOL_ALREADY_EXISTS);
    assert_int_equal(other, -1);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 4); /* what is refused empties nothing */
    close(fd);
    char link_path[1200];
    SCRATCH_PATH(&tree, "link.log", link_path);
    scratch_tree_link(&tree, "link.log", "w.log");
    assert_int_equal(worker_log_create(link_path, &other, NULL, &err), POOL_REGISTRY_UNAVAILABLE);
    assert_int_equal(err.sys_errno, ELOOP);
    SCRATCH_PATH(&tree, "none/w.log", link_path);
    assert_int_equal(worker_log_create(link_path, &other, NULL, &err), POOL_REGISTRY_UNAVAILABLE);
    assert_int_equal(err.sys_errno, ENOENT);
}

/* The manager opens and locks, the worker inherits, its child outlives both: held until the last of them is gone. */
static void test_the_lock_is_passed_on(void **state)
{
    (void)state;
    int report[2];
    assert_int_equal(pipe2(report, O_CLOEXEC), 0);
    pid_t manager = fork();
    assert_true(manager >= 0);
    if (manager == 0) {
        int fd = -1;
        pid_t pid = 0;
        char script[] = "setsid sleep 60 & exit 0";
        char *argv[] = { (char[]){ "/bin/sh" }, (char[]){ "-c" }, script, NULL };
        char *environment[] = { (char[]){ "PATH=/usr/bin:/bin" }, NULL };
        if (worker_log_create(path, &fd, NULL, NULL) != POOL_OK ||
            process_spawn(argv, environment, fd, &pid) != 0)
            _exit(1);
        (void)!write(report[1], &pid, sizeof pid);
        _exit(0);
    }
    pid_t worker = 0;
    assert_int_equal(ground_read(report[0], &worker, sizeof worker), sizeof worker);
    close(report[0]);
    close(report[1]);
    assert_int_equal(ground_wait_child(manager), 0);
    assert_int_equal(ground_wait_child(worker), 0);
    assert_int_equal(worker_log_look(path, NULL, NULL),
                     WORKER_LOG_HELD); /* by the one that left the session */
    ground_kill_children();
    assert_int_equal(worker_log_look(path, NULL, NULL), WORKER_LOG_FREE);
}

static void test_two_who_look_do_not_mislead_each_other(void **state)
{
    (void)state;
    CLEANUP_CLOSE int fd = -1;
    assert_int_equal(worker_log_create(path, &fd, NULL, NULL), POOL_OK);
    close(take_fd(&fd));
    CLEANUP_CLOSE int looking = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(flock(looking, LOCK_SH | LOCK_NB), 0); /* another one, in the midst of it */
    assert_int_equal(worker_log_look(path, NULL, NULL), WORKER_LOG_FREE);
    close(take_fd(&looking));
    enum { LOOKERS = 4, LOOKS = 500 };
    pid_t pids[LOOKERS];
    for (int i = 0; i < LOOKERS; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            for (int k = 0; k < LOOKS; k++) {
                if (worker_log_look(path, NULL, NULL) != WORKER_LOG_FREE)
                    _exit(1);
            }
            _exit(0);
        }
    }
    for (int i = 0; i < LOOKERS; i++)
        assert_int_equal(ground_wait_child(pids[i]), 0);
}

static void test_space_is_freed_and_offsets_stay(void **state)
{
    (void)state;
    static const char last[] = "the last line\n";
    struct stat st;
    static char chunk[1 << 16];
    CLEANUP_CLOSE int fd = -1;
    assert_int_equal(worker_log_create(path, &fd, NULL, NULL), POOL_OK);
    memset(chunk, 'x', sizeof chunk);
    chunk[sizeof chunk - 1] = '\n';
    for (size_t n = 0; n < POOL_WORKER_LOG_MAX_BYTES; n += sizeof chunk)
        assert_int_equal(write(fd, chunk, sizeof chunk), sizeof chunk);
    worker_log_trim(path); /* at its limit: left alone */
    assert_int_equal(fstat(fd, &st), 0);
    blkcnt_t n_full = st.st_blocks;
    assert_true((off_t)n_full * 512 >= POOL_WORKER_LOG_MAX_BYTES);
    for (int i = 0; i < 16; i++)
        assert_int_equal(write(fd, chunk, sizeof chunk), sizeof chunk);
    assert_int_equal(write(fd, last, sizeof last - 1), sizeof last - 1);
    off_t size = POOL_WORKER_LOG_MAX_BYTES + 16 * (off_t)sizeof chunk + (off_t)sizeof last - 1;
    worker_log_trim(path);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, size);
    if ((off_t)st.st_blocks * 512 > POOL_WORKER_LOG_MAX_BYTES) {
        print_message("[  SKIPPED ] the file system of %s makes no holes\n", path);
        skip();
    }
    assert_true((off_t)st.st_blocks * 512 >= POOL_WORKER_LOG_MAX_BYTES / 2);
    CLEANUP(strbuf_done) struct strbuf tail = STRBUF_INIT(64);
    assert_int_equal(file_read_tail(path, 64, &tail), 0);
    assert_string_equal(strbuf_text(&tail), last);
    assert_int_equal(write(fd, last, sizeof last - 1),
                     sizeof last - 1); /* and the worker writes on at the end */
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, size + (off_t)sizeof last - 1);
    worker_log_trim("/nonexistent/log"); /* nothing to do is no trouble */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_held_free_and_missing, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_creation, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_the_lock_is_passed_on, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_two_who_look_do_not_mislead_each_other, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_space_is_freed_and_offsets_stay, make_tree, remove_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
