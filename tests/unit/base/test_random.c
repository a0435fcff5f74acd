/*
 * Random bytes and UUIDs.
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

#include "base/random.h"

static void test_bytes_are_filled(void **state)
{
    (void)state;
    /* Over 256 bytes, where getrandom may give fewer than asked for. Each byte is 0 in all 16 rounds: 2^-128. */
    unsigned char seen[4096] = { 0 };
    for (int round = 0; round < 16; round++) {
        unsigned char bytes[sizeof seen] = { 0 };
        assert_true(random_bytes(bytes, sizeof bytes));
        for (size_t i = 0; i < sizeof seen; i++)
            seen[i] |= bytes[i];
    }
    for (size_t i = 0; i < sizeof seen; i++)
        assert_true(seen[i] != 0);
    assert_true(random_bytes(seen, 0));
}

static void test_uuids_are_version_4(void **state)
{
    (void)state;
    char last[UUID_TEXT_MAX] = "";
    for (int round = 0; round < 100; round++) {
        char text[UUID_TEXT_MAX];
        assert_true(random_uuid(text));
        assert_int_equal(strlen(text), 36);
        for (size_t i = 0; i < 36; i++) {
            if (i == 8 || i == 13 || i == 18 || i == 23)
                assert_int_equal(text[i], '-');
            else
                assert_non_null(strchr("0123456789abcdef", text[i]));
        }
        assert_int_equal(text[14], '4');
        assert_non_null(strchr("89ab", text[19]));
        assert_string_not_equal(text, last);
        memcpy(last, text, sizeof last);
    }
}

static void test_hex(void **state)
{
    (void)state;
    char text[HEX_TEXT_MAX(4)];
    hex_encode("\x00\x0f\xa5\xff", 4, text);
    assert_string_equal(text, "000fa5ff");
    hex_encode("", 0, text);
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_are_filled),
        cmocka_unit_test(test_uuids_are_version_4),
        cmocka_unit_test(test_hex),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
