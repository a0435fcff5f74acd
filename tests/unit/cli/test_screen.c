/*
 * Keys from the bytes of a terminal: whole, in parts, and what is none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/screen.h"

static void check(const char *bytes, uint32_t key, size_t n_expected)
{
    size_t n = 99;
    uint32_t found = screen_parse_key(bytes, strlen(bytes), &n);
    if (found != key || n != n_expected)
        fail_msg("'%s' (%02x): key %x of %zu bytes", bytes, (unsigned char)bytes[0], found, n);
}

static void test_characters(void **state)
{
    (void)state;
    check("q", 'q', 1);
    check("qx", 'q', 1);
    check("\r", '\n', 1);
    check("\n", '\n', 1);
    check(" ", ' ', 1);
    check("\x7f", 0x7f, 1);
    size_t n = 0;
    assert_int_equal(screen_parse_key("\0", 1, &n), SCREEN_KEY_NONE);
    assert_int_equal(n, 1);
    /* each byte of a longer character is passed over */
    check("\xc3\xa4", SCREEN_KEY_NONE, 1);
    check("\xff", SCREEN_KEY_NONE, 1);
}

static void test_sequences(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        uint32_t key;
    } cases[] = {
        { "\033[A", SCREEN_KEY_UP },           { "\033OA", SCREEN_KEY_UP },
        { "\033[B", SCREEN_KEY_DOWN },         { "\033OB", SCREEN_KEY_DOWN },
        { "\033[H", SCREEN_KEY_HOME },         { "\033OH", SCREEN_KEY_HOME },
        { "\033[1~", SCREEN_KEY_HOME },        { "\033[7~", SCREEN_KEY_HOME },
        { "\033[F", SCREEN_KEY_END },          { "\033[4~", SCREEN_KEY_END },
        { "\033[8~", SCREEN_KEY_END },         { "\033[5~", SCREEN_KEY_PAGE_UP },
        { "\033[6~", SCREEN_KEY_PAGE_DOWN },   { "\033[1;5A", SCREEN_KEY_UP },
        { "\033[C", SCREEN_KEY_NONE },         { "\033[15~", SCREEN_KEY_NONE },
        { "\033[~", SCREEN_KEY_NONE },         { "\033[200~", SCREEN_KEY_NONE },
        { "\033[<0;10;10M", SCREEN_KEY_NONE },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char more[32];
        size_t n_bytes = strlen(cases[i].bytes);
        size_t n = 99;
        check(cases[i].bytes, cases[i].key, n_bytes);
        snprintf(more, sizeof more, "%sq", cases[i].bytes);
        check(more, cases[i].key, n_bytes);
        for (size_t k = 1; k < n_bytes; k++) { /* no part of it is taken for a key */
            assert_int_equal(screen_parse_key(cases[i].bytes, k, &n), SCREEN_KEY_NONE);
            assert_int_equal(n, 0);
        }
    }
}

static void test_escape(void **state)
{
    (void)state;
    check("\033", SCREEN_KEY_NONE, 0); /* more may come */
    check("\033q", '\033', 1);
    check("\033\033", '\033', 1);
    check("\033\033[A", '\033', 1);
}

/* A sequence that never ends is given up, long before the room for what is pending is full. */
static void test_endless_sequence(void **state)
{
    (void)state;
    struct screen screen;
    char bytes[sizeof screen.pending];
    memset(bytes, '1', sizeof bytes);
    memcpy(bytes, "\033[", 2);
    for (size_t n_bytes = 1; n_bytes <= sizeof bytes; n_bytes++) {
        size_t n = 99;
        assert_int_equal(screen_parse_key(bytes, n_bytes, &n), SCREEN_KEY_NONE);
        assert_true(n <= n_bytes);
        if (n_bytes >= sizeof bytes / 2)
            assert_true(n > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_characters),
        cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_endless_sequence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
