/*
 * Numbers from text, byte counts from and for people, saturating sums.
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

#include "base/number.h"

static void test_parse_int64(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t min, max;
        bool is_fine;
        int64_t value;
    } cases[] = {
        { "0", 0, 10, true, 0 },
        { "10", 0, 10, true, 10 },
        { "11", 0, 10, false, 0 },
        { "-1", 0, 10, false, 0 },
        { "-1", -1, 10, true, -1 },
        { "9223372036854775807", INT64_MIN, INT64_MAX, true, INT64_MAX },
        { "9223372036854775808", INT64_MIN, INT64_MAX, false, 0 },
        { "-9223372036854775808", INT64_MIN, INT64_MAX, true, INT64_MIN },
        { "-9223372036854775809", INT64_MIN, INT64_MAX, false, 0 },
        { "99999999999999999999999999", INT64_MIN, INT64_MAX, false, 0 },
        { "", INT64_MIN, INT64_MAX, false, 0 },
        { "-", INT64_MIN, INT64_MAX, false, 0 },
        { "+1", INT64_MIN, INT64_MAX, false, 0 },
        { " 1", INT64_MIN, INT64_MAX, false, 0 },
        { "1 ", INT64_MIN, INT64_MAX, false, 0 },
        { "1x", INT64_MIN, INT64_MAX, false, 0 },
        { "0x10", INT64_MIN, INT64_MAX, false, 0 },
        { "1.0", INT64_MIN, INT64_MAX, false, 0 },
        { "--1", INT64_MIN, INT64_MAX, false, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t value = -77;
        if (parse_int64(cases[i].text, cases[i].min, cases[i].max, &value) != cases[i].is_fine)
            fail_msg("'%s'", cases[i].text);
        assert_true(value == (cases[i].is_fine ? cases[i].value : -77));
    }
    int64_t value;
    assert_true(parse_int64_n("123456", 3, 0, 1000, &value));
    assert_true(value == 123);
    assert_false(parse_int64_n("123", 0, 0, 1000, &value));
}

static void test_parse_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes; /* -1: refused */
    } cases[] = {
        { "0", 0 },
        { "17", 17 },
        { "17B", 17 },
        { "1K", 1024 },
        { "1KiB", 1024 },
        { "1KB", 1000 },
        { "512M", INT64_C(512) << 20 },
        { "15.5GiB", INT64_C(31) << 29 },
        { "2 GB", 2000000000 },
        { "1.5TB", 1500000000000 },
        { "0.5K", 512 },
        { "8388607TiB", INT64_C(8388607) << 40 },
        { "8388608TiB", -1 },
        { "9223372036854775807", INT64_MAX },
        { "9223372036854775808", -1 },
        { "", -1 },
        { " 1", -1 },
        { "1 ", -1 },
        { "1  K", -1 },
        { "-1", -1 },
        { "1.5", -1 },
        { "1.", -1 },
        { ".5K", -1 },
        { "1.K", -1 },
        { "1.1234567891K", -1 },
        { "1k", -1 },
        { "1Q", -1 },
        { "1Kx", -1 },
        { "1,5K", -1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t bytes = -1;
        bool is_fine = parse_bytes(cases[i].text, &bytes);
        if (is_fine != (cases[i].bytes >= 0) || bytes != cases[i].bytes)
            fail_msg("'%s' gave %lld", cases[i].text, (long long)bytes);
    }
}

static void test_format_bytes(void **state)
{
    (void)state;
    static const struct {
        int64_t bytes;
        const char *text;
    } cases[] = {
        { 0, "0 B" },
        { 1023, "1023 B" },
        { 1024, "1.0 KiB" },
        { -2048, "-2.0 KiB" },
        { (INT64_C(1) << 20) - 1, "1.0 MiB" },
        { INT64_C(12025908428), "11.2 GiB" },
        { INT64_MAX, "8.0 EiB" },
        { INT64_MIN, "-8.0 EiB" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[HUMAN_BYTES_MAX];
        format_bytes(cases[i].bytes, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void test_sums_saturate(void **state)
{
    (void)state;
    assert_true(add_bytes(1, 2) == 3);
    assert_true(add_bytes(INT64_MAX, 1) == INT64_MAX);
    assert_true(add_bytes(INT64_MIN, -1) == INT64_MIN);
    assert_true(excess_bytes(5, 3) == 2);
    assert_true(excess_bytes(3, 5) == 0);
    assert_true(excess_bytes(INT64_MAX, INT64_MIN) == INT64_MAX);
    assert_true(excess_bytes(INT64_MIN, INT64_MAX) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_int64),
        cmocka_unit_test(test_parse_bytes),
        cmocka_unit_test(test_format_bytes),
        cmocka_unit_test(test_sums_saturate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
