/*
 * UTF-8: what is well formed, by the table of RFC 3629 and its edges.
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

#include "base/utf8.h"

static void test_lengths(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
    } cases[] = {
        { "", 1 },
        { "a", 1 },
        { "\x7f", 1 },
        { "\x80", 0 },
        { "\xbf", 0 },
        { "\xc0\x80", 0 },
        { "\xc1\xbf", 0 },
        { "\xc2\x80", 2 },
        { "\xc2", 0 },
        { "\xc2\x41", 0 },
        { "\xdf\xbf", 2 },
        { "\xe0\x9f\xbf", 0 },
        { "\xe0\xa0\x80", 3 },
        { "\xe2\x82", 0 },
        { "\xe2\x82\xac", 3 },
        { "\xe2\x82\x41", 0 },
        { "\xed\x9f\xbf", 3 },
        { "\xed\xa0\x80", 0 },
        { "\xed\xbf\xbf", 0 },
        { "\xee\x80\x80", 3 },
        { "\xef\xbf\xbf", 3 },
        { "\xf0\x8f\xbf\xbf", 0 },
        { "\xf0\x90\x80\x80", 4 },
        { "\xf0\x9f\x98", 0 },
        { "\xf0\x9f\x98\x41", 0 },
        { "\xf4\x8f\xbf\xbf", 4 },
        { "\xf4\x90\x80\x80", 0 },
        { "\xf5\x80\x80\x80", 0 },
        { "\xff", 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (utf8_length(cases[i].text) != cases[i].n)
            fail_msg("case %zu: %zu", i, utf8_length(cases[i].text));
    }
}

static void test_whole_texts(void **state)
{
    (void)state;
    assert_true(utf8_is_valid(""));
    assert_true(utf8_is_valid("gr\xc3\xbc\xc3\x9f dich \xf0\x9f\x98\x80"));
    assert_false(utf8_is_valid("ab\xff"));
    assert_false(utf8_is_valid("ab\xe2\x82"));
    assert_false(utf8_has_control("plain \xc3\xa9 \xc2\xa0"));
    assert_true(utf8_has_control("a\nb"));
    assert_true(utf8_has_control("\x1b[31m"));
    assert_true(utf8_has_control("a\x7f"));
    assert_true(utf8_has_control("\xc2\x9b"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_whole_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
