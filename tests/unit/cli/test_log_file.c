/*
 * Logs: the last lines, whatever the ends of the file look like, and files whose beginning is a hole.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "cli/log_file.h"

static char path[64];

static int make_directory(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/pool-test-log-XXXXXX");
    return mkdtemp(path) ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    return rmdir(path);
}

static void write_log(const char *name, const void *text, size_t n)
{
    assert_int_equal(file_replace(name, text, n, 0600), 0);
}

static void expect_tail(const char *name, int64_t n_lines, const char *expected)
{
    static char buffer[LOG_READ_MAX + 1];
    struct log_file log = LOG_FILE_INIT;
    size_t n = 0;
    assert_int_equal(log_file_open(&log, name, n_lines, NULL), POOL_OK);
    assert_int_equal(log_file_read(&log, buffer, &n, NULL), POOL_OK);
    buffer[n] = '\0';
    assert_string_equal(buffer, expected);
    assert_int_equal(log_file_read(&log, buffer, &n, NULL), POOL_OK);
    assert_int_equal(n, 0);
    log_file_close(&log);
}

static void test_tails(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t n_lines;
        const char *expected;
    } cases[] = {
        { "a\nb\nc\n", -1, "a\nb\nc\n" },
        { "a\nb\nc\n", 0, "" },
        { "a\nb\nc\n", 1, "c\n" },
        { "a\nb\nc\n", 2, "b\nc\n" },
        { "a\nb\nc\n", 3, "a\nb\nc\n" },
        { "a\nb\nc\n", 99, "a\nb\nc\n" },
        { "a\nb\nc", 1, "c" },
        { "a\nb\nc", 2, "b\nc" },
        { "", 5, "" },
        { "\n\n\n", 2, "\n\n" },
        { "x", 1, "x" },
        { "\n", 1, "\n" },
    };
    char name[128];
    snprintf(name, sizeof name, "%s/a.log", path);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_log(name, cases[i].text, strlen(cases[i].text));
        expect_tail(name, cases[i].n_lines, cases[i].expected);
    }
    unlink(name);
}

static void test_a_tail_in_several_reads(void **state)
{
    (void)state;
    static char text[3 * LOG_READ_MAX];
    char name[128];
    snprintf(name, sizeof name, "%s/b.log", path);
    memset(text, 'x', sizeof text);
    memcpy(text, "first\n", 6);
    memcpy(text + sizeof text - 5, "\nend\n", 5);
    write_log(name, text, sizeof text);
    expect_tail(name, 1, "end\n");
    struct log_file log = LOG_FILE_INIT;
    assert_int_equal(log_file_open(&log, name, 2, NULL), POOL_OK);
    assert_int_equal(log.offset, 6);
    log_file_close(&log);
    unlink(name);
}

static void test_a_hole(void **state)
{
    (void)state;
    char name[128];
    snprintf(name, sizeof name, "%s/c.log", path);
    write_log(name, "", 0);
    int fd = open(name, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "late\nlast\n", 10, 1 << 20), 10);
    bool has_holes = lseek(fd, 0, SEEK_DATA) == 1 << 20;
    close(fd);
    if (has_holes) { /* else this file system can not tell them */
        expect_tail(name, -1, "late\nlast\n");
        expect_tail(name, 9, "late\nlast\n");
    }
    expect_tail(name, 1, "last\n");
    unlink(name);
}

static void test_refusals(void **state)
{
    (void)state;
    struct pool_error error = POOL_ERROR_INIT;
    struct log_file log = LOG_FILE_INIT;
    char name[128];
    snprintf(name, sizeof name, "%s/missing.log", path);
    assert_int_equal(log_file_open(&log, name, -1, &error), POOL_NOT_FOUND);
    log_file_close(&log);
    assert_int_equal(log_file_open(&log, path, -1, &error), POOL_INTERNAL);
    log_file_close(&log);
    snprintf(name, sizeof name, "%s/pipe", path);
    assert_int_equal(mkfifo(name, 0600), 0);
    assert_int_equal(log_file_open(&log, name, -1, &error), POOL_INTERNAL); /* and does not hang */
    log_file_close(&log);
    unlink(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tails),
        cmocka_unit_test(test_a_tail_in_several_reads),
        cmocka_unit_test(test_a_hole),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
