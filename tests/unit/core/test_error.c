/*
 * The table of codes against contract section 2, and the error value.
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

#include <errno.h>
#include <pool/error.h>

/* Contract, section 2, row by row. INVALID_CONFIG never travels over HTTP. */
static const struct {
    enum pool_code code;
    const char *name;
    int http;
    int exit;
    bool is_retriable;
} rows[] = {
    { POOL_OK, "OK", 200, 0, false },
    { POOL_INVALID_REQUEST, "INVALID_REQUEST", 400, 2, false },
    { POOL_INVALID_CONFIG, "INVALID_CONFIG", 500, 2, false },
    { POOL_UNAUTHENTICATED, "UNAUTHENTICATED", 401, 4, false },
    { POOL_PERMISSION_DENIED, "PERMISSION_DENIED", 403, 4, false },
    { POOL_NOT_FOUND, "NOT_FOUND", 404, 3, false },
    { POOL_MODEL_NOT_FOUND, "MODEL_NOT_FOUND", 404, 3, false },
    { POOL_WORKER_NOT_FOUND, "WORKER_NOT_FOUND", 404, 3, false },
    { POOL_GPU_NOT_FOUND, "GPU_NOT_FOUND", 404, 3, false },
    { POOL_BACKEND_NOT_FOUND, "BACKEND_NOT_FOUND", 404, 3, false },
    { POOL_METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", 405, 2, false },
    { POOL_UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", 415, 2, false },
    { POOL_ALREADY_EXISTS, "ALREADY_EXISTS", 409, 5, false },
    { POOL_CONFLICT, "CONFLICT", 409, 5, true },
    { POOL_PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", 413, 2, false },
    { POOL_CANCELLED, "CANCELLED", 499, 130, true },
    { POOL_MODEL_INCOMPATIBLE, "MODEL_INCOMPATIBLE", 422, 6, false },
    { POOL_MODEL_UNVERIFIED, "MODEL_UNVERIFIED", 422, 6, false },
    { POOL_MODEL_CORRUPT, "MODEL_CORRUPT", 422, 6, false },
    { POOL_INSUFFICIENT_VRAM, "INSUFFICIENT_VRAM", 507, 7, true },
    { POOL_INSUFFICIENT_MEMORY, "INSUFFICIENT_MEMORY", 507, 7, true },
    { POOL_INSUFFICIENT_DISK, "INSUFFICIENT_DISK", 507, 7, true },
    { POOL_GPU_UNAVAILABLE, "GPU_UNAVAILABLE", 503, 7, true },
    { POOL_PORT_UNAVAILABLE, "PORT_UNAVAILABLE", 503, 7, true },
    { POOL_RATE_LIMITED, "RATE_LIMITED", 429, 7, true },
    { POOL_OVERLOADED, "OVERLOADED", 503, 7, true },
    { POOL_BACKEND_UNAVAILABLE, "BACKEND_UNAVAILABLE", 503, 7, false },
    { POOL_WORKER_START_FAILED, "WORKER_START_FAILED", 502, 8, true },
    { POOL_WORKER_START_TIMEOUT, "WORKER_START_TIMEOUT", 504, 8, true },
    { POOL_DOWNLOAD_FAILED, "DOWNLOAD_FAILED", 502, 8, true },
    { POOL_REGISTRY_UNAVAILABLE, "REGISTRY_UNAVAILABLE", 503, 7, true },
    { POOL_DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", 504, 8, true },
    { POOL_UNIMPLEMENTED, "UNIMPLEMENTED", 501, 9, false },
    { POOL_INTERNAL, "INTERNAL", 500, 1, false },
};

static void test_table_of_the_contract(void **state)
{
    (void)state;
    size_t n_codes = 0;
#define COUNT(name, http, exit_code, retriable) n_codes++;
    POOL_CODES(COUNT)
#undef COUNT
    assert_int_equal(n_codes, sizeof rows / sizeof rows[0]);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_string_equal(pool_code_name(rows[i].code), rows[i].name);
        assert_int_equal(pool_code_http_status(rows[i].code), rows[i].http);
        assert_int_equal(pool_code_exit_status(rows[i].code), rows[i].exit);
        assert_int_equal(pool_code_is_retriable(rows[i].code), rows[i].is_retriable);
        enum pool_code code = POOL_OK;
        assert_true(pool_code_from_name(rows[i].name, &code));
        assert_int_equal(code, rows[i].code);
    }
}

static void test_strange_codes_and_names(void **state)
{
    (void)state;
    assert_string_equal(pool_code_name((enum pool_code)9999), "INTERNAL");
    assert_int_equal(pool_code_http_status((enum pool_code)9999), 500);
    enum pool_code code = POOL_CONFLICT;
    assert_false(pool_code_from_name("", &code));
    assert_false(pool_code_from_name("ok", &code));
    assert_false(pool_code_from_name("POOL_OK", &code));
    assert_int_equal(code, POOL_CONFLICT);
}

static void test_set_clears_what_was_there(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(pool_error_set_errno(&err, POOL_REGISTRY_UNAVAILABLE, ENOSPC, "writing %s", "it"),
                     POOL_REGISTRY_UNAVAILABLE);
    assert_string_equal(err.message, "writing it: No space left on device");
    assert_int_equal(err.sys_errno, ENOSPC);
    assert_true(err.is_retriable);
    pool_error_set_field(&err, "a.%s", "b");
    pool_error_add_number(&err, "n", 1);
    snprintf(err.log_tail, sizeof err.log_tail, "last words");
    assert_int_equal(pool_error_set(&err, POOL_INTERNAL, "again: %s", err.message), POOL_INTERNAL);
    assert_string_equal(err.message, "again: writing it: No space left on device");
    assert_int_equal(err.sys_errno, 0);
    assert_false(err.is_retriable);
    assert_int_equal(err.n_details, 0);
    assert_string_equal(err.field, "");
    assert_string_equal(err.log_tail, "");
}

static void test_strange_errno(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    pool_error_set_errno(&err, POOL_INTERNAL, 12345, "strange");
    assert_string_equal(err.message, "strange: errno 12345");
}

static void test_no_memory(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(pool_error_no_memory(&err), POOL_INSUFFICIENT_MEMORY);
    assert_int_equal(err.sys_errno, ENOMEM);
}

static void test_without_an_error_to_fill(void **state)
{
    (void)state;
    assert_int_equal(pool_error_set(NULL, POOL_CONFLICT, "x"), POOL_CONFLICT);
    assert_int_equal(pool_error_set_errno(NULL, POOL_CONFLICT, ENOENT, "x"), POOL_CONFLICT);
    assert_int_equal(pool_error_no_memory(NULL), POOL_INSUFFICIENT_MEMORY);
    pool_error_prefix(NULL, "x");
    pool_error_set_field(NULL, "x");
    pool_error_add_number(NULL, "x", 1);
    pool_error_add_text(NULL, "x", "y");
    pool_error_add_bool(NULL, "x", true);
}

static void test_prefix(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    pool_error_prefix(&err, "nothing is set");
    assert_string_equal(err.message, "");
    pool_error_set(&err, POOL_INTERNAL, "cause");
    pool_error_prefix(&err, "worker %d", 7);
    pool_error_prefix(&err, "start");
    assert_string_equal(err.message, "start: worker 7: cause");
    assert_int_equal(err.code, POOL_INTERNAL);
}

static void test_long_texts_are_cut(void **state)
{
    (void)state;
    char text[4000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct pool_error err = POOL_ERROR_INIT;
    pool_error_set_errno(&err, POOL_INTERNAL, EIO, "%s", text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    pool_error_prefix(&err, "prefix");
    assert_memory_equal(err.message, "prefix: xxx", 11);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    pool_error_prefix(&err, "%s", text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    pool_error_set_field(&err, "%s", text);
    assert_int_equal(strlen(err.field), sizeof err.field - 1);
    pool_error_add_text(&err, "long", text);
    assert_int_equal(strlen(err.details[0].text), sizeof err.details[0].text - 1);
    pool_error_add_number(&err, text, 1);
    assert_int_equal(strlen(err.details[1].name), sizeof err.details[1].name - 1);
}

static void test_details(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    pool_error_set(&err, POOL_INSUFFICIENT_VRAM, "no room");
    pool_error_add_number(&err, "a", 1);
    pool_error_add_text(&err, "b", "two");
    pool_error_add_bool(&err, "c", true);
    pool_error_add_number(&err, "b", 3);
    assert_int_equal(err.n_details, 3);
    const struct pool_detail *detail = pool_error_detail(&err, "b");
    assert_non_null(detail);
    assert_int_equal(detail->kind, POOL_DETAIL_NUMBER);
    assert_true(detail->number == 3);
    assert_null(pool_error_detail(&err, "d"));
    for (int i = 0; i < 2 * POOL_ERROR_DETAILS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        pool_error_add_number(&err, name, i);
    }
    assert_int_equal(err.n_details, POOL_ERROR_DETAILS_MAX);
    pool_error_add_number(&err, "a", 9);
    assert_true(pool_error_detail(&err, "a")->number == 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_of_the_contract),
        cmocka_unit_test(test_strange_codes_and_names),
        cmocka_unit_test(test_set_clears_what_was_there),
        cmocka_unit_test(test_strange_errno),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_without_an_error_to_fill),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_long_texts_are_cut),
        cmocka_unit_test(test_details),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
