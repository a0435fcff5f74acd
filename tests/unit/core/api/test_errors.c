/*
 * Errors as JSON: the shape of the contract, there and back, logs, and foreign answers.
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

#include <pool/api.h>

static char *encode(const struct pool_error *error, const char *correlation_id)
{
    char *json = NULL;
    assert_int_equal(pool_error_encode(error, correlation_id, &json, NULL), POOL_OK);
    return json;
}

/* Encodes, decodes, encodes. Gives the text and what was read. */
static char *there_and_back(const struct pool_error *error, struct pool_error *ret_read)
{
    struct pool_error err = POOL_ERROR_INIT;
    char *first = encode(error, "id-1");
    if (pool_error_decode(first, strlen(first), ret_read, &err) != POOL_OK)
        fail_msg("%s: %s", first, err.message);
    char *second = encode(ret_read, "id-1");
    assert_string_equal(first, second);
    free(second);
    return first;
}

static void test_the_example_of_the_contract(void **state)
{
    (void)state;
    struct pool_error error = POOL_ERROR_INIT;
    struct pool_error read = POOL_ERROR_INIT;
    pool_error_set(&error, POOL_INSUFFICIENT_VRAM, "GPU 0 has 11.2 GiB available, the worker needs 15.9 GiB");
    pool_error_add_number(&error, "gpu_id", 0);
    pool_error_add_number(&error, "available_vram_bytes", INT64_C(12025908428));
    pool_error_add_number(&error, "required_vram_bytes", INT64_C(17072495820));
    char *json = there_and_back(&error, &read);
    assert_string_equal(json,
                        "{\"error\":{\"code\":\"INSUFFICIENT_VRAM\","
                        "\"message\":\"GPU 0 has 11.2 GiB available, the worker needs 15.9 GiB\","
                        "\"retriable\":true,\"details\":{\"gpu_id\":0,\"available_vram_bytes\":12025908428,"
                        "\"required_vram_bytes\":17072495820},\"correlation_id\":\"id-1\"}}");
    assert_int_equal(read.code, POOL_INSUFFICIENT_VRAM);
    assert_true(pool_error_detail(&read, "required_vram_bytes")->number == INT64_C(17072495820));
    free(json);
}

static void test_every_code(void **state)
{
    (void)state;
    static const enum pool_code codes[] = {
#define ROW(name, http, exit_code, retriable) POOL_##name,
        POOL_CODES(ROW)
#undef ROW
    };
    for (size_t i = 1; i < sizeof codes / sizeof codes[0]; i++) {
        struct pool_error error = POOL_ERROR_INIT;
        struct pool_error read = POOL_ERROR_INIT;
        pool_error_set(&error, codes[i], "message");
        error.is_retriable = !error.is_retriable; /* said per instance */
        char *json = there_and_back(&error, &read);
        assert_int_equal(read.code, codes[i]);
        assert_int_equal(read.is_retriable, error.is_retriable);
        free(json);
    }
}

static void test_everything_filled(void **state)
{
    (void)state;
    struct pool_error error = POOL_ERROR_INIT;
    struct pool_error read = POOL_ERROR_INIT;
    char text[1000];
    memset(text, 0xff, sizeof text - 1); /* each byte becomes three: the longest there is */
    text[sizeof text - 1] = '\0';
    pool_error_set(&error, POOL_WORKER_START_FAILED, "%s", text);
    pool_error_set_field(&error, "%s", text);
    pool_error_add_bool(&error, "yes", true);
    pool_error_add_bool(&error, "no", false);
    pool_error_add_number(&error, "least", INT64_MIN);
    pool_error_add_number(&error, "most", INT64_MAX);
    pool_error_add_text(&error, "field", "hidden by the real one");
    pool_error_add_text(&error, "log_tail", "hidden by the real one");
    for (int i = 0; error.n_details < POOL_ERROR_DETAILS_MAX; i++) {
        char name[64];
        snprintf(name, sizeof name, "detail_%030d", i);
        pool_error_add_text(&error, name, text);
    }
    memset(error.log_tail, 'x', sizeof error.log_tail - 1);
    char *json = there_and_back(&error, &read);
    assert_null(strstr(json, "hidden"));
    assert_int_equal(read.n_details, POOL_ERROR_DETAILS_MAX - 2);
    assert_true(pool_error_detail(&read, "yes")->kind == POOL_DETAIL_BOOL);
    assert_int_equal(strlen(read.log_tail), sizeof read.log_tail - 1);
    free(json);
}

static void test_field_comes_first(void **state)
{
    (void)state;
    struct pool_error error = POOL_ERROR_INIT;
    struct pool_error read = POOL_ERROR_INIT;
    pool_error_set(&error, POOL_INVALID_REQUEST, "no");
    pool_error_set_field(&error, "labels.team");
    pool_error_add_number(&error, "limit", 3);
    char *json = there_and_back(&error, &read);
    assert_non_null(strstr(json, "\"details\":{\"field\":\"labels.team\",\"limit\":3}"));
    assert_string_equal(read.field, "labels.team");
    assert_int_equal(read.n_details, 1);
    free(json);
}

static void test_logs(void **state)
{
    (void)state;
    static const struct {
        const char *log;
        const char *json; /* NULL: left out */
        const char *read;
    } cases[] = {
        { "", NULL, "" },
        { "\n\n", NULL, "" },
        { "one", "[\"one\"]", "one" },
        { "one\n", "[\"one\"]", "one" },
        { "one\ntwo\n\n", "[\"one\",\"two\"]", "one\ntwo" },
        { "\none\n\ntwo", "[\"\",\"one\",\"\",\"two\"]", "\none\n\ntwo" },
        { "\x1b[31mred\r\n", "[\"\\u001b[31mred\\r\"]", "\x1b[31mred\r" },
        { "a\xe2\x82\nb", "[\"a\xef\xbf\xbd\xef\xbf\xbd\",\"b\"]", "a\xef\xbf\xbd\xef\xbf\xbd\nb" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_error error = POOL_ERROR_INIT;
        struct pool_error read = POOL_ERROR_INIT;
        pool_error_set(&error, POOL_WORKER_START_FAILED, "died");
        snprintf(error.log_tail, sizeof error.log_tail, "%s", cases[i].log);
        char *json = there_and_back(&error, &read);
        if (cases[i].json ? !strstr(json, cases[i].json) : strstr(json, "log_tail") != NULL)
            fail_msg("case %zu: %s", i, json);
        assert_string_equal(read.log_tail, cases[i].read);
        free(json);
    }
}

static void test_end_of_a_broken_log_is_kept(void **state)
{
    (void)state;
    struct pool_error error = POOL_ERROR_INIT;
    struct pool_error read = POOL_ERROR_INIT;
    pool_error_set(&error, POOL_WORKER_START_FAILED, "died");
    memset(error.log_tail, 0xff, sizeof error.log_tail - 1);
    memcpy(error.log_tail + sizeof error.log_tail - 6, "\nlast", 6);
    char *json = there_and_back(&error, &read);
    assert_non_null(strstr(json, ",\"last\"]"));
    assert_in_range(strlen(read.log_tail), sizeof read.log_tail - 4, sizeof read.log_tail - 1);
    free(json);
}

static void test_correlation_ids(void **state)
{
    (void)state;
    assert_true(pool_correlation_id_is_valid("a"));
    assert_true(pool_correlation_id_is_valid("0b5f6c1e-1111-4222-8333-444455556666"));
    assert_true(
        pool_correlation_id_is_valid("0123456789012345678901234567890123456789012345678901234567890-AZ"));
    assert_false(
        pool_correlation_id_is_valid("0123456789012345678901234567890123456789012345678901234567890-AZx"));
    static const char *const refused[] = { "", "a b", "a_b", "a.b", "a\n", "\xc3\xa9", "a\"b" };
    struct pool_error error = POOL_ERROR_INIT;
    pool_error_set(&error, POOL_INTERNAL, "x");
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_false(pool_correlation_id_is_valid(refused[i]));
        char *json = encode(&error, refused[i]);
        assert_null(strstr(json, "correlation_id"));
        free(json);
    }
    assert_false(pool_correlation_id_is_valid(NULL));
    char *json = encode(&error, NULL);
    assert_string_equal(
        json, "{\"error\":{\"code\":\"INTERNAL\",\"message\":\"x\",\"retriable\":false,\"details\":{}}}");
    free(json);
}

static void test_no_error_is_not_told(void **state)
{
    (void)state;
    struct pool_error none = POOL_ERROR_INIT;
    struct pool_error err = POOL_ERROR_INIT;
    char *json = NULL;
    assert_int_equal(pool_error_encode(&none, NULL, &json, &err), POOL_INTERNAL);
    assert_null(json);
}

static void test_foreign_shapes(void **state)
{
    (void)state;
    static const char *const refused[][2] = {
        { "<html>", "" },
        { "[]", "" },
        { "{}", "error" },
        { "{\"error\":\"no\"}", "error" },
        { "{\"error\":{}}", "error.code" },
        { "{\"error\":{\"code\":1,\"message\":\"x\",\"retriable\":true}}", "error.code" },
        { "{\"error\":{\"code\":\"OK\",\"message\":\"x\",\"retriable\":true}}", "error.code" },
        { "{\"error\":{\"code\":\"INTERNAL\",\"retriable\":true}}", "error.message" },
        { "{\"error\":{\"code\":\"INTERNAL\",\"message\":\"x\"}}", "error.retriable" },
        { "{\"error\":{\"code\":\"INTERNAL\",\"message\":\"x\",\"retriable\":1}}", "error.retriable" },
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct pool_error read = POOL_ERROR_INIT;
        struct pool_error err = POOL_ERROR_INIT;
        assert_int_equal(pool_error_decode(refused[i][0], strlen(refused[i][0]), &read, &err),
                         POOL_INVALID_REQUEST);
        assert_string_equal(err.field, refused[i][1]);
        assert_int_equal(read.code, POOL_OK);
    }
}

static void test_answers_of_a_later_version(void **state)
{
    (void)state;
    const char *json =
        "{\"error\":{\"code\":\"SOLAR_FLARE\",\"message\":\"100% s\",\"retriable\":true,\"more\":[1],"
        "\"details\":{\"a\":1.5,\"b\":[1],\"c\":null,\"d\":4,\"log_tail\":[\"x\",7,\"y\"]}},\"x\":1}";
    struct pool_error read = POOL_ERROR_INIT;
    assert_int_equal(pool_error_decode(json, strlen(json), &read, NULL), POOL_OK);
    assert_int_equal(read.code, POOL_INTERNAL);
    assert_true(read.is_retriable);
    assert_string_equal(read.message, "100% s");
    assert_string_equal(pool_error_detail(&read, "unknown_code")->text, "SOLAR_FLARE");
    assert_int_equal(read.n_details, 2);
    assert_string_equal(read.log_tail, "x\n\ny");

    json = "{\"error\":{\"code\":\"CONFLICT\",\"message\":\"x\",\"retriable\":false,\"details\":[]}}";
    assert_int_equal(pool_error_decode(json, strlen(json), &read, NULL), POOL_OK);
    assert_int_equal(read.code, POOL_CONFLICT);
    assert_int_equal(read.n_details, 0);
}

static void test_long_log_is_read_as_far_as_there_is_room(void **state)
{
    (void)state;
    char json[8192];
    int n = snprintf(json, sizeof json,
                     "{\"error\":{\"code\":\"CONFLICT\",\"message\":\"x\",\"retriable\":false,"
                     "\"details\":{\"log_tail\":[\"first\",\"");
    memset(json + n, 'x', 4000);
    snprintf(json + n + 4000, sizeof json - (size_t)n - 4000, "\"]}}}");
    struct pool_error read = POOL_ERROR_INIT;
    assert_int_equal(pool_error_decode(json, strlen(json), &read, NULL), POOL_OK);
    assert_string_equal(read.log_tail, "first");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_example_of_the_contract),
        cmocka_unit_test(test_every_code),
        cmocka_unit_test(test_everything_filled),
        cmocka_unit_test(test_field_comes_first),
        cmocka_unit_test(test_logs),
        cmocka_unit_test(test_end_of_a_broken_log_is_kept),
        cmocka_unit_test(test_correlation_ids),
        cmocka_unit_test(test_no_error_is_not_told),
        cmocka_unit_test(test_foreign_shapes),
        cmocka_unit_test(test_answers_of_a_later_version),
        cmocka_unit_test(test_long_log_is_read_as_far_as_there_is_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
