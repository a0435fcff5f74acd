/*
 * Files: whole reads with a limit, tails in whole lines, replacing at once, making directories.
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

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static char directory[64];

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static int make_directory(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/pool-test-file-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_tree(const char *path)
{
    DIR *entries = opendir(path);
    if (!entries)
        return unlink(path);
    for (const struct dirent *entry = readdir(entries); entry; entry = readdir(entries)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            char below[512];
            snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
            remove_tree(below); /* as deep as the test made it */
        }
    }
    closedir(entries);
    return rmdir(path);
}

static int remove_directory(void **state)
{
    (void)state;
    return remove_tree(directory);
}

static void write_file(const char *name, const char *text)
{
    assert_int_equal(file_replace(path_of(name), text, strlen(text), 0600), 0);
}

static void test_read_whole_with_a_limit(void **state)
{
    (void)state;
    write_file("whole", "0123456789");
    struct strbuf b = STRBUF_INIT(10);
    assert_int_equal(file_read(path_of("whole"), &b), 0);
    assert_string_equal(strbuf_text(&b), "0123456789");
    strbuf_done(&b);
    struct strbuf small = STRBUF_INIT(9);
    assert_int_equal(file_read(path_of("whole"), &small), EFBIG);
    strbuf_done(&small);
}

static void test_read_failures(void **state)
{
    (void)state;
    struct strbuf b = STRBUF_INIT(100);
    assert_int_equal(file_read(path_of("absent"), &b), ENOENT);
    assert_int_equal(file_read(directory, &b), EISDIR);
    assert_int_equal(fd_read_all(-1, &b), EBADF);
    assert_int_equal(fd_write_all(-1, "x", 1), EBADF);
    assert_int_equal(file_read_tail(path_of("absent"), 10, &b), ENOENT);
    assert_int_equal(file_read_tail(directory, 10, &b), EINVAL);
    strbuf_done(&b);
}

static void test_tail_is_whole_lines(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        const char *tail;
    } cases[] = {
        { "", 10, "" },
        { "one\ntwo\n", 100, "one\ntwo\n" },
        { "one\ntwo\n", 8, "one\ntwo\n" },
        { "one\ntwo\n", 7, "two\n" },
        { "one\ntwo\n", 4, "two\n" }, /* begins exactly at a line */
        { "one\ntwo\n", 5, "two\n" },
        { "one\ntwo", 3, "two" },
        { "one\ntwo\n", 3, "wo\n" }, /* no whole line fits */
        { "abcdefgh", 3, "fgh" },
        { "one\ntwo\n", 0, "" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_file("tail", cases[i].text);
        struct strbuf b = STRBUF_INIT(100);
        assert_int_equal(file_read_tail(path_of("tail"), cases[i].n, &b), 0);
        assert_string_equal(strbuf_text(&b), cases[i].tail);
        strbuf_done(&b);
    }
    write_file("tail", "one\ntwo\n");
    struct strbuf small = STRBUF_INIT(2);
    assert_int_equal(file_read_tail(path_of("tail"), 4, &small), EFBIG);
    strbuf_done(&small);
}

static void test_replace_is_whole_and_leaves_nothing_beside(void **state)
{
    (void)state;
    write_file("replaced", "old");
    assert_int_equal(file_replace(path_of("replaced"), "new", 3, 0640), 0);
    struct stat st;
    assert_int_equal(stat(path_of("replaced"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(file_replace(path_of("absent/file"), "x", 1, 0600), ENOENT);

    assert_int_equal(mkdir(path_of("taken"), 0700), 0);
    assert_int_equal(file_replace(path_of("taken"), "x", 1, 0600), EISDIR);
    DIR *entries = opendir(directory);
    assert_non_null(entries);
    int n_temporary = 0;
    for (const struct dirent *entry = readdir(entries); entry; entry = readdir(entries))
        n_temporary += strncmp(entry->d_name, "taken.", 6) == 0;
    closedir(entries);
    assert_int_equal(n_temporary, 0);
}

static void test_make_directories(void **state)
{
    (void)state;
    assert_int_equal(make_directories(path_of("a/b//c/"), 0700), 0);
    struct stat st;
    assert_int_equal(stat(path_of("a/b/c"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(make_directories(path_of("a/b/c"), 0700), 0);
    assert_int_equal(make_directories("/", 0700), 0);
    assert_int_equal(make_directories("", 0700), ENOENT);
    write_file("plain", "x");
    assert_int_equal(make_directories(path_of("plain"), 0700), ENOTDIR);
    assert_int_equal(make_directories(path_of("plain/below"), 0700), ENOTDIR);
    char longer[5000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(make_directories(longer, 0700), ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_whole_with_a_limit),
        cmocka_unit_test(test_read_failures),
        cmocka_unit_test(test_tail_is_whole_lines),
        cmocka_unit_test(test_replace_is_whole_and_leaves_nothing_beside),
        cmocka_unit_test(test_make_directories),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
