/*
 * Nearest names: what a mistyped key is taken for, and when nothing is near enough.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/nearest.h"

static void test_nearest_name(void **state)
{
    (void)state;
    static const char *const names[] = {
        "id", "name", "repo", "file", "files", "size", "sha256", "revision"
    };
    static const struct {
        const char *wanted, *expected;
    } cases[] = {
        { "nmae", "name" },       { "sha", NULL },     { "sha265", "sha256" }, { "revison", "revision" },
        { "File", "file" },       { "filez", "file" }, { "i", "id" },          { "", NULL },
        { "quantization", NULL }, { "repos", "repo" }, { "size", "size" },     { "rev\xc3\xa9", NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *found = nearest_name(cases[i].wanted, names, sizeof names / sizeof *names);
        if (!found != !cases[i].expected || (found && strcmp(found, cases[i].expected) != 0))
            fail_msg("%s: found %s", cases[i].wanted, found ? found : "nothing");
    }
    assert_null(nearest_name("id", names, 0));
}

static void test_long_names_are_left_out(void **state)
{
    (void)state;
    char text[66];
    memset(text, 'a', sizeof text - 1);
    text[65] = '\0';
    const char *const names[] = { text };
    assert_null(nearest_name(text, names, 1));
    text[64] = '\0';
    assert_ptr_equal(nearest_name(text, names, 1), text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nearest_name),
        cmocka_unit_test(test_long_names_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
