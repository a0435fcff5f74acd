/*
 * What git says of a checkout (porcelain v2, -z), and what is no such thing.
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

#include "cli/git.h"

#define HASH "0123456789abcdef0123456789abcdef01234567"
#define HEAD "# branch.oid " HASH "\0# branch.head main\0"
#define MODE "100644 100644 100644"

static enum pool_code parse(const char *bytes, size_t n, struct git_status *status)
{
    struct pool_error err = POOL_ERROR_INIT;
    char *text = malloc(n + 1);
    assert_non_null(text);
    memcpy(text, bytes, n);
    text[n] = '\0';
    *status = (struct git_status){ 0 };
    return git_parse_status(text, n, status, &err);
}

/* A literal with its NULs; the compiler's own at the end is that of the last entry. */
#define PARSE(literal, status) parse(literal, sizeof(literal), status)

static void test_head(void **state)
{
    (void)state;
    struct git_status status;
    assert_int_equal(PARSE(HEAD "# branch.upstream origin/main\0# branch.ab +3 -12", &status), POOL_OK);
    assert_string_equal(status.commit, HASH);
    assert_string_equal(status.branch, "main");
    assert_string_equal(status.upstream, "origin/main");
    assert_true(status.is_compared && status.n_ahead == 3 && status.n_behind == 12);
    assert_int_equal(status.n_changes, 0);
    git_status_done(&status);

    assert_int_equal(
        PARSE("# branch.oid (initial)\0# branch.head (detached)\0# stash 4\0# of later", &status), POOL_OK);
    assert_string_equal(status.commit, "");
    assert_null(status.branch);
    assert_null(status.upstream);
    assert_false(status.is_compared);
    git_status_done(&status);

    assert_int_equal(parse("", 0, &status), POOL_OK);
    assert_int_equal(status.n_changes, 0);
    git_status_done(&status);
}

static void test_comparison_that_is_none(void **state)
{
    (void)state;
    static const char *const texts[] = { "# branch.ab +",      "# branch.ab + -",
                                         "# branch.ab +1",     "# branch.ab +1 2",
                                         "# branch.ab +x -1",  "# branch.ab +1 -",
                                         "# branch.ab +-1 -1", "# branch.ab +1 -99999999999999999999" };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct git_status status;
        assert_int_equal(parse(texts[i], strlen(texts[i]) + 1, &status), POOL_OK);
        if (status.is_compared)
            fail_msg("%s was read as %lld and %lld", texts[i], (long long)status.n_ahead,
                     (long long)status.n_behind);
        git_status_done(&status);
    }
}

static void check_change(const struct git_change *change, const char *path, const char *from,
                         const char *letters, bool is_submodule)
{
    assert_string_equal(change->path, path);
    if (from)
        assert_string_equal(change->from, from);
    else
        assert_null(change->from);
    assert_int_equal(change->index, letters[0]);
    assert_int_equal(change->work_tree, letters[1]);
    assert_int_equal(change->is_submodule, is_submodule);
}

static void test_changes(void **state)
{
    (void)state;
    struct git_status status;
    assert_int_equal(PARSE(HEAD "1 .M N... " MODE " " HASH " " HASH " a file\n with \t all\0"
                                "1 AM SC.. 160000 160000 160000 " HASH " " HASH " sub/module\0"
                                "2 R. N... " MODE " " HASH " " HASH " R100 new name\0# old name\0"
                                "u UU N... " MODE " 100644 " HASH " " HASH " " HASH " both of us\0"
                                "? 1 untracked\0! ignored\0? -",
                           &status),
                     POOL_OK);
    assert_int_equal(status.n_changes, 6);
    check_change(&status.changes[0], "a file\n with \t all", NULL, ".M", false);
    check_change(&status.changes[1], "sub/module", NULL, "AM", true);
    check_change(&status.changes[2], "new name", "# old name", "R.", false);
    check_change(&status.changes[3], "both of us", NULL, "UU", false);
    check_change(&status.changes[4], "1 untracked", NULL, "??", false);
    check_change(&status.changes[5], "-", NULL, "??", false);
    git_status_done(&status);
}

static void test_many(void **state)
{
    (void)state;
    enum { N = 1000 };
    static char text[N * 8];
    struct git_status status;
    size_t n = 0;
    for (int i = 0; i < N; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "? %d", i) + 1;
    assert_int_equal(parse(text, n, &status), POOL_OK);
    assert_int_equal(status.n_changes, N);
    assert_string_equal(status.changes[N - 1].path, "999");
    git_status_done(&status);
}

static void test_other_forms(void **state)
{
    (void)state;
    struct git_status status;
    assert_int_equal(parse("? a", 3, &status), POOL_INTERNAL); /* its end is missing */
    assert_int_equal(parse("\0", 1, &status), POOL_INTERNAL);
    assert_int_equal(PARSE("?", &status), POOL_INTERNAL);
    assert_int_equal(PARSE("? ", &status), POOL_INTERNAL);
    assert_int_equal(PARSE(" M a file", &status), POOL_INTERNAL); /* version 1 */
    assert_int_equal(PARSE("3 .M", &status), POOL_INTERNAL);
    assert_int_equal(PARSE("1 .M N... " MODE " " HASH " a", &status), POOL_INTERNAL);
    assert_int_equal(PARSE("1 .M N... " MODE " " HASH " " HASH " ", &status), POOL_INTERNAL);
    assert_int_equal(PARSE("1 ", &status), POOL_INTERNAL);
    assert_int_equal(PARSE("2 R. N... " MODE " " HASH " " HASH " R100 new", &status), POOL_INTERNAL);
    assert_int_equal(PARSE("? fine\0x", &status), POOL_INTERNAL);
    assert_null(status.text); /* nothing is left to be freed */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head),        cmocka_unit_test(test_comparison_that_is_none),
        cmocka_unit_test(test_changes),     cmocka_unit_test(test_many),
        cmocka_unit_test(test_other_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
