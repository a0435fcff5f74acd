/*
 * Clocks go forward; RFC 3339 is written and read back.
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

#include <time.h>

#include "base/clock.h"

static void test_clocks_go_forward(void **state)
{
    (void)state;
    int64_t before = clock_boottime_ns();
    int64_t after = clock_boottime_ns();
    assert_true(before > 0 && after >= before);
    assert_true(llabs(clock_wall_ms() - (int64_t)time(NULL) * 1000) < 60000);
}

static const struct {
    int64_t wall_ms;
    const char *text;
} times[] = {
    { 0, "1970-01-01T00:00:00.000Z" },
    { 1, "1970-01-01T00:00:00.001Z" },
    { -1, "1969-12-31T23:59:59.999Z" },
    { -1000, "1969-12-31T23:59:59.000Z" },
    { INT64_C(1760011200123), "2025-10-09T12:00:00.123Z" },
    { INT64_C(951825600000), "2000-02-29T12:00:00.000Z" },
    { RFC3339_MAX_WALL_MS, "9999-12-31T23:59:59.999Z" },
    { RFC3339_MIN_WALL_MS, "0001-01-01T00:00:00.000Z" },
};

static void test_rfc3339_both_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        char text[RFC3339_MAX];
        clock_format_rfc3339(times[i].wall_ms, text);
        assert_string_equal(text, times[i].text);
        int64_t wall_ms = -77;
        assert_true(clock_parse_rfc3339(text, &wall_ms));
        assert_true(wall_ms == times[i].wall_ms);
    }
}

static void test_out_of_range_is_the_epoch(void **state)
{
    (void)state;
    static const int64_t strange[] = { RFC3339_MAX_WALL_MS + 1, RFC3339_MIN_WALL_MS - 1, INT64_MAX,
                                       INT64_MIN };
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        char text[RFC3339_MAX];
        clock_format_rfc3339(strange[i], text);
        assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    }
}

static void test_fractions(void **state)
{
    (void)state;
    int64_t wall_ms = -77;
    assert_true(clock_parse_rfc3339("1970-01-01T00:00:01Z", &wall_ms) && wall_ms == 1000);
    assert_true(clock_parse_rfc3339("1970-01-01T00:00:01.5Z", &wall_ms) && wall_ms == 1500);
    assert_true(clock_parse_rfc3339("1970-01-01T00:00:01.05Z", &wall_ms) && wall_ms == 1050);
    assert_true(clock_parse_rfc3339("1970-01-01T00:00:01.123999999Z", &wall_ms) && wall_ms == 1123);
}

static void test_what_is_refused(void **state)
{
    (void)state;
    static const char *const refused[] = {
        "",
        "1970",
        "1970-01-01",
        "1970-01-01T00:00:00",
        "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00.000",
        "1970-01-01T00:00:00.000z",
        "1970-01-01T00:00:00.000Zx",
        "1970-01-01T00:00:00+00:00",
        "1970-01-01 00:00:00Z",
        "1970-13-01T00:00:00Z",
        "1970-00-01T00:00:00Z",
        "1970-01-00T00:00:00Z",
        "1970-02-30T00:00:00Z",
        "1970-01-32T00:00:00Z",
        "1970-01-01T24:00:00Z",
        "1970-01-01T00:60:00Z",
        "1970-01-01T00:00:60Z",
        "0000-01-01T00:00:00Z",
        "-970-01-01T00:00:00Z",
        "19700101T000000Z",
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        int64_t wall_ms = -77;
        if (clock_parse_rfc3339(refused[i], &wall_ms) || wall_ms != -77)
            fail_msg("'%s' was taken", refused[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clocks_go_forward),         cmocka_unit_test(test_rfc3339_both_ways),
        cmocka_unit_test(test_out_of_range_is_the_epoch), cmocka_unit_test(test_fractions),
        cmocka_unit_test(test_what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
