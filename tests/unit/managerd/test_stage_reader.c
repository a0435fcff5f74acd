/*
 * Files into the page cache: all of them, cancelled, cut, locked; and what is said of how much is there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "managerd/stage_reader.h"
#include "scratch_tree.h"

#define PAGE 4096

struct ground {
    struct scratch_tree tree;
    char first[1200], second[1200];
    const char *paths[2];
};

static void write_file(const char *path, int64_t n_bytes)
{
    static char block[1 << 16];
    memset(block, 'x', sizeof block);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (int64_t left = n_bytes; left > 0;) {
        ssize_t n = write(fd, block, left < (int64_t)sizeof block ? (size_t)left : sizeof block);
        assert_true(n > 0);
        left -= n;
    }
    assert_int_equal(fsync(fd), 0); /* dirty pages are not dropped */
    close(fd);
}

static int setup(void **state)
{
    static struct ground g;
    memset(&g, 0, sizeof g);
    scratch_tree_make(&g.tree);
    SCRATCH_PATH(&g.tree, "first", g.first);
    SCRATCH_PATH(&g.tree, "second", g.second);
    g.paths[0] = g.first;
    g.paths[1] = g.second;
    *state = &g;
    return 0;
}

static int teardown(void **state)
{
    struct ground *g = *state;
    scratch_tree_remove(&g->tree);
    return 0;
}

static void work(void *context)
{
    stage_reader_work(context);
}

/* By several threads, as the daemon does it. */
static void read_by_threads(struct stage_reader *reader)
{
    uv_thread_t threads[STAGE_THREADS];
    for (int i = 0; i < STAGE_THREADS; i++)
        assert_int_equal(uv_thread_create(&threads[i], work, reader), 0);
    for (int i = 0; i < STAGE_THREADS; i++)
        uv_thread_join(&threads[i]);
}

static struct stage_reader *open_reader(const struct ground *g, size_t n, bool is_locked)
{
    struct stage_reader *reader = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    if (stage_reader_open(g->paths, n, is_locked, &reader, &err) != POOL_OK)
        fail_msg("%s", err.message);
    return reader;
}

static void test_all_is_read_and_seen(void **state)
{
    const struct ground *g = *state;
    int64_t first_bytes = 2 * STAGE_CHUNK_BYTES + 5, second_bytes = PAGE / 2, resident_bytes = -1;
    write_file(g->first, first_bytes);
    write_file(g->second, second_bytes);
    stage_drop(g->paths, 2);
    bool is_told = stage_measure(g->paths, 2, &resident_bytes);
    if (is_told) /* a file system in memory drops nothing */
        assert_in_range(resident_bytes, 0, first_bytes + second_bytes);
    struct stage_reader *reader = open_reader(g, 2, false);
    assert_int_equal(stage_reader_total_bytes(reader), first_bytes + second_bytes);
    assert_int_equal(stage_reader_done_bytes(reader), 0);
    read_by_threads(reader);
    assert_int_equal(stage_reader_result(reader, NULL), POOL_OK);
    assert_int_equal(stage_reader_done_bytes(reader), first_bytes + second_bytes);
    stage_reader_settle(reader);
    stage_reader_close(reader);
    if (is_told) {
        assert_true(stage_measure(g->paths, 2, &resident_bytes));
        assert_int_equal(resident_bytes, first_bytes + second_bytes);
        reader = open_reader(g, 2, false);
        assert_int_equal(stage_reader_missing_bytes(reader), 0);
        stage_reader_close(reader);
    }
}

static void test_an_empty_file_is_read_at_once(void **state)
{
    const struct ground *g = *state;
    int64_t resident_bytes = -1;
    write_file(g->first, 0);
    struct stage_reader *reader = open_reader(g, 1, false);
    stage_reader_work(reader);
    assert_int_equal(stage_reader_result(reader, NULL), POOL_OK);
    stage_reader_close(reader);
    assert_true(stage_measure(g->paths, 1, &resident_bytes));
    assert_int_equal(resident_bytes, 0);
}

static void test_what_cannot_be_staged(void **state)
{
    const struct ground *g = *state;
    struct stage_reader *reader = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    int64_t resident_bytes;
    assert_int_equal(stage_reader_open(g->paths, 1, false, &reader, &err), POOL_MODEL_NOT_FOUND);
    assert_string_equal(pool_error_detail(&err, "path")->text, g->first);
    assert_false(stage_measure(g->paths, 1, &resident_bytes));
    stage_drop(g->paths, 1); /* nothing, and no harm */
    assert_int_equal(mkdir(g->first, 0700), 0);
    assert_int_equal(stage_reader_open(g->paths, 1, false, &reader, NULL), POOL_MODEL_CORRUPT);
    assert_int_equal(mkfifo(g->second, 0600), 0); /* and is not waited for */
    assert_int_equal(stage_reader_open(g->paths + 1, 1, false, &reader, NULL), POOL_MODEL_CORRUPT);
    assert_null(reader);
    stage_reader_close(NULL);
}

static void test_it_can_be_cancelled(void **state)
{
    const struct ground *g = *state;
    write_file(g->first, PAGE);
    struct stage_reader *reader = open_reader(g, 1, false);
    stage_reader_cancel(reader);
    read_by_threads(reader);
    assert_int_equal(stage_reader_done_bytes(reader), 0);
    assert_int_equal(stage_reader_result(reader, NULL), POOL_CANCELLED);
    stage_reader_close(reader);
}

/* Behind the end of a file that was cut there are no pages: that is an error, and no signal. */
static void test_a_file_that_is_cut_meanwhile(void **state)
{
    const struct ground *g = *state;
    struct pool_error err = POOL_ERROR_INIT;
    write_file(g->first, STAGE_CHUNK_BYTES + 10 * PAGE);
    struct stage_reader *reader = open_reader(g, 1, false);
    assert_int_equal(truncate(g->first, PAGE), 0);
    read_by_threads(reader);
    assert_int_equal(stage_reader_result(reader, &err), POOL_CONFLICT);
    assert_string_equal(pool_error_detail(&err, "path")->text, g->first);
    stage_reader_close(reader);
}

static int64_t locked_bytes(void)
{
    char line[256];
    long long kib = -1;
    FILE *file = fopen("/proc/self/status", "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "VmLck:", 6) == 0)
            kib = strtoll(line + 6, NULL, 10);
    }
    fclose(file);
    return kib * 1024;
}

static void test_a_lock_lasts_until_it_is_closed(void **state)
{
    const struct ground *g = *state;
    int64_t limit_bytes;
    int64_t before_bytes = locked_bytes();
    write_file(g->first, 4 * PAGE);
#if defined(__SANITIZE_ADDRESS__)
    skip(); /* AddressSanitizer lets nothing be locked: its shadow would be as well */
#endif
    if (!stage_may_lock(0, 4 * PAGE, &limit_bytes))
        skip();
    struct stage_reader *reader = open_reader(g, 1, true);
    read_by_threads(reader);
    assert_int_equal(stage_reader_result(reader, NULL), POOL_OK);
    stage_reader_settle(reader);
    assert_int_equal(locked_bytes() - before_bytes, 4 * PAGE);
    stage_reader_close(reader);
    assert_int_equal(locked_bytes(), before_bytes);
}

static void test_the_limit_of_locks(void **state)
{
    (void)state;
    int64_t limit_bytes = -2;
    bool may_lock = stage_may_lock(INT64_MAX, INT64_MAX, &limit_bytes);
    if (limit_bytes < 0) {
        assert_true(may_lock); /* we are allowed to lock anything */
        return;
    }
    assert_false(may_lock);
    assert_true(stage_may_lock(0, limit_bytes, &limit_bytes));
    assert_true(stage_may_lock(limit_bytes, 0, &limit_bytes));
    assert_false(stage_may_lock(1, limit_bytes, &limit_bytes));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_all_is_read_and_seen),         TEST(test_an_empty_file_is_read_at_once),
        TEST(test_what_cannot_be_staged),        TEST(test_it_can_be_cancelled),
        TEST(test_a_file_that_is_cut_meanwhile), TEST(test_a_lock_lasts_until_it_is_closed),
        TEST(test_the_limit_of_locks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
