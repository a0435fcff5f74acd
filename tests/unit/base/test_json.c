/*
 * JSON with our limits: what is refused and how it is told, and what is printed.
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

#include "base/json.h"

static const struct {
    const char *text;
    bool is_too_deep;
} refused[] = {
    { "", false },
    { " ", false },
    { "{", false },
    { "1", false },
    { "\"text\"", false },
    { "null", false },
    { "{} x", false },
    { "{}{}", false },
    { "{\"a\":1,\"a\":2}", false },
    { "{\"a\":{\"b\":1,\"b\":1}}", false },
    { "{\"a\":\"\\u0000\"}", false },
    { "{\"a\\u0000\":1}", false },
    { "{\"a\":9223372036854775808}", false },
    { "{\"a\":1e400}", false },
    { "{\"a\":\"\xff\"}", false },
    { "{\"a\":\"\xed\xa0\x80\"}", false },
    { "{\"a\":'x'}", false },
    { "{a:1}", false },
    { "{\"a\":01}", false },
    { "{\"a\":+1}", false },
    { "{\"a\":NaN}", false },
    { "{\"a\":1,}", false },
    { "[1,]", false },
    { "\xef\xbb\xbf{}", false },
    { "// no comments\n{}", false },
    { "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", true },
    { "[[[[[[[[[[[[[[[[{\"a\":[[[[[[[[[[[[[[[[", true },
};

static void test_what_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct json_failure failure;
        json_t *value = json_parse(refused[i].text, strlen(refused[i].text), &failure);
        if (value)
            fail_msg("not refused: %s", refused[i].text);
        if (failure.is_too_deep != refused[i].is_too_deep || failure.message[0] == '\0')
            fail_msg("refused for another reason: %s: %s", refused[i].text, failure.message);
        for (const char *p = failure.message; *p; p++)
            assert_in_range(*p, 0x20, 0x7e);
    }
}

static void test_depth_counts_brackets_outside_of_strings(void **state)
{
    (void)state;
    struct json_failure failure;
    const char *brackets = "{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[\\\\\"}";
    json_t *value = json_parse(brackets, strlen(brackets), &failure);
    assert_non_null(value);
    json_decref(value);

    char text[2 * JSON_DEPTH_MAX + 1] = { 0 };
    memset(text, '[', JSON_DEPTH_MAX);
    memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    value = json_parse(text, sizeof text - 1, &failure);
    assert_non_null(value);
    json_decref(value);
}

static void test_position_of_an_error(void **state)
{
    (void)state;
    struct json_failure failure;
    const char *text = "{\n  \"a\": 1,\n  \"a\": 2}";
    assert_null(json_parse(text, strlen(text), &failure));
    assert_int_equal(failure.line, 3);
    assert_true(failure.column > 0);
    assert_false(failure.is_no_memory);
}

static void test_text_is_not_read_behind_its_end(void **state)
{
    (void)state;
    struct json_failure failure;
    json_t *value = json_parse("{}garbage", 2, &failure);
    assert_non_null(value);
    assert_true(json_is_object(value));
    json_decref(value);
    assert_null(json_parse(NULL, 0, &failure));
}

static void test_numbers_are_int64(void **state)
{
    (void)state;
    struct json_failure failure;
    const char *text = "[9223372036854775807,-9223372036854775808,1.0]";
    json_t *value = json_parse(text, strlen(text), &failure);
    assert_non_null(value);
    assert_true(json_integer_value(json_array_get(value, 0)) == INT64_MAX);
    assert_true(json_integer_value(json_array_get(value, 1)) == INT64_MIN);
    assert_true(json_is_real(json_array_get(value, 2)));
    json_decref(value);
}

static void test_print_is_compact_and_keeps_the_order(void **state)
{
    (void)state;
    struct json_failure failure;
    const char *text = "{ \"z\" : 1, \"a\" : [ true, null ], \"m\" : \"\\u00e9\" }";
    json_t *value = json_parse(text, strlen(text), &failure);
    assert_non_null(value);
    char *printed = json_print(value);
    json_decref(value);
    assert_non_null(printed);
    assert_string_equal(printed, "{\"z\":1,\"a\":[true,null],\"m\":\"\xc3\xa9\"}");
    free(printed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_depth_counts_brackets_outside_of_strings),
        cmocka_unit_test(test_position_of_an_error),
        cmocka_unit_test(test_text_is_not_read_behind_its_end),
        cmocka_unit_test(test_numbers_are_int64),
        cmocka_unit_test(test_print_is_compact_and_keeps_the_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
