/*
 * Bounded byte strings: growth, the limit, failures that stick, handing over.
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

#include "base/strbuf.h"

static void test_grows_and_stays_terminated(void **state)
{
    (void)state;
    struct strbuf b = STRBUF_INIT(1 << 20);
    assert_string_equal(strbuf_text(&b), "");
    for (int i = 0; i < 1000; i++)
        assert_true(strbuf_printf(&b, "%d,", i));
    assert_int_equal(b.n, strlen(strbuf_text(&b)));
    assert_memory_equal(strbuf_text(&b), "0,1,2,3,", 8);
    assert_true(strbuf_add(&b, "a\0b", 3));
    assert_int_equal(b.data[b.n], '\0');
    assert_int_equal(b.data[b.n - 2], '\0');
    strbuf_done(&b);
    assert_string_equal(strbuf_text(&b), "");
}

static void test_limit_is_exact_and_failure_sticks(void **state)
{
    (void)state;
    struct strbuf b = STRBUF_INIT(4);
    assert_true(strbuf_add_text(&b, "abcd"));
    assert_false(strbuf_add_char(&b, 'e'));
    assert_int_equal(b.failure, STRBUF_FULL);
    assert_string_equal(strbuf_text(&b), "abcd");
    assert_false(strbuf_add(&b, "", 0));
    assert_false(strbuf_printf(&b, "%s", ""));
    strbuf_reset(&b);
    assert_string_equal(strbuf_text(&b), "");
    assert_true(strbuf_printf(&b, "%d", 1234));
    assert_false(strbuf_printf(&b, "%d", 5));
    assert_string_equal(strbuf_text(&b), "1234");
    strbuf_done(&b);
}

static void test_take_hands_over(void **state)
{
    (void)state;
    struct strbuf b = STRBUF_INIT(16);
    char *empty = strbuf_take(&b);
    assert_non_null(empty);
    assert_string_equal(empty, "");
    free(empty);
    assert_true(strbuf_add_text(&b, "text"));
    char *text = strbuf_take(&b);
    assert_non_null(text);
    assert_string_equal(text, "text");
    assert_string_equal(strbuf_text(&b), "");
    free(text);
    strbuf_done(&b);
}

static void test_take_after_a_failure_gives_nothing(void **state)
{
    (void)state;
    struct strbuf b = STRBUF_INIT(3);
    assert_true(strbuf_add_text(&b, "abc"));
    assert_false(strbuf_add_text(&b, "d"));
    assert_null(strbuf_take(&b));
    assert_int_equal(b.failure, STRBUF_FULL);
    assert_null(b.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows_and_stays_terminated),
        cmocka_unit_test(test_limit_is_exact_and_failure_sticks),
        cmocka_unit_test(test_take_hands_over),
        cmocka_unit_test(test_take_after_a_failure_gives_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
