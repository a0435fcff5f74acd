/*
 * Requests at their limits: size and depth of the body, number of items, length of texts, ranges of numbers.
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

#include "samples.h"

static enum pool_code decode(const char *json, struct pool_worker_spawn_request **ret_request,
                             struct pool_error *err)
{
    return pool_worker_spawn_request_decode(json, strlen(json), ret_request, err);
}

static struct pool_worker_spawn_request *decode_fine(const char *json)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_spawn_request *request = NULL;
    if (decode(json, &request, &err) != POOL_OK)
        fail_msg("%s: %s", json, err.message);
    return request;
}

#define START "{\"backend\":\"cpu\",\"model_ref\":\"m\""

static void test_unknown_long_field_is_cut_and_named(void **state)
{
    (void)state;
    char json[2000];
    char name[1000];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    snprintf(json, sizeof json, START ",\"%s\":1}", name);
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_spawn_request *request = NULL;
    assert_int_equal(decode(json, &request, &err), POOL_INVALID_REQUEST);
    assert_int_equal(strlen(err.field), sizeof err.field - 1);
    assert_int_equal(decode(json, &request, NULL), POOL_INVALID_REQUEST);
}

static void test_size_of_the_body(void **state)
{
    (void)state;
    size_t n = POOL_REQUEST_MAX_BYTES + 1;
    char *json = malloc(n + 1);
    assert_non_null(json);
    memset(json, ' ', n);
    json[n] = '\0';
    memcpy(json, START "}", strlen(START "}"));
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_spawn_request *request = NULL;
    enum pool_code too_large = pool_worker_spawn_request_decode(json, n, &request, &err);
    enum pool_code fine = pool_worker_spawn_request_decode(json, n - 1, &request, NULL);
    free(json);
    assert_int_equal(too_large, POOL_PAYLOAD_TOO_LARGE);
    assert_true(pool_error_detail(&err, "limit_bytes")->number == POOL_REQUEST_MAX_BYTES);
    assert_int_equal(fine, POOL_OK);
    pool_worker_spawn_request_free(request);
}

static void test_depth_of_the_body(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_spawn_request *request = NULL;
    char json[256] = START ",\"x\":";
    size_t n = strlen(json);
    memset(json + n, '[', 32);
    memset(json + n + 32, ']', 32);
    memcpy(json + n + 64, "}", 2);
    assert_int_equal(decode(json, &request, &err), POOL_INVALID_REQUEST);
    assert_string_equal(err.field, ""); /* refused before its fields were looked at */
    assert_null(request);
}

/* A request with n items of one field, each made by `format` from its number. */
static char *request_with(const char *open, size_t n, const char *format, const char *close)
{
    struct strbuf b = STRBUF_INIT(POOL_REQUEST_MAX_BYTES);
    strbuf_printf(&b, START ",%s", open);
    for (size_t i = 0; i < n; i++) {
        char item[64];
        snprintf(item, sizeof item, "%zu", i);
        const char *hole = strchr(format, '#');
        strbuf_printf(&b, "%s%.*s%s%s", i ? "," : "", (int)(hole - format), format, item, hole + 1);
    }
    strbuf_add_text(&b, close);
    char *json = strbuf_take(&b);
    assert_non_null(json);
    return json;
}

static void test_number_of_items(void **state)
{
    (void)state;
    static const struct {
        const char *open, *format, *close, *field;
        size_t max;
    } cases[] = {
        { "\"extra_args\":[", "\"#\"", "]}", "extra_args", POOL_EXTRA_ARGS_MAX },
        { "\"env\":{", "\"V#\":\"\"", "}}", "env", POOL_REQUEST_ENV_MAX },
        { "\"labels\":{", "\"l#\":\"\"", "}}", "labels", POOL_LABELS_MAX },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_error err = POOL_ERROR_INIT;
        struct pool_worker_spawn_request *request = NULL;
        char *json = request_with(cases[i].open, cases[i].max, cases[i].format, cases[i].close);
        assert_int_equal(decode(json, &request, &err), POOL_OK);
        free(json);
        pool_worker_spawn_request_free(request);
        json = request_with(cases[i].open, cases[i].max + 1, cases[i].format, cases[i].close);
        request = NULL;
        assert_int_equal(decode(json, &request, &err), POOL_INVALID_REQUEST);
        free(json);
        assert_string_equal(err.field, cases[i].field);
        assert_true(pool_error_detail(&err, "limit")->number == (int64_t)cases[i].max);
        assert_null(request);
    }
}

static void test_length_of_texts(void **state)
{
    (void)state;
    static const struct {
        const char *before, *after, *field;
        size_t max;
    } cases[] = {
        { "{\"model_ref\":\"m\",\"backend\":\"", "\"}", "backend", POOL_BACKEND_NAME_MAX },
        { "{\"backend\":\"b\",\"model_ref\":\"", "\"}", "model_ref", POOL_MODEL_REF_MAX },
        { START ",\"gpu_id\":\"", "\"}", "gpu_id", POOL_GPU_UUID_MAX - 1 },
        { START ",\"worker_id\":\"", "\"}", "worker_id", POOL_WORKER_ID_MAX },
        { START ",\"extra_args\":[\"", "\"]}", "extra_args[0]", POOL_ARGUMENT_MAX_BYTES },
        { START ",\"env\":{\"A\":\"", "\"}}", "env.A", POOL_ARGUMENT_MAX_BYTES },
        { START ",\"env\":{\"", "\":\"\"}}", NULL, POOL_ENV_NAME_MAX },
        { START ",\"labels\":{\"a\":\"", "\"}}", "labels.a", POOL_LABEL_VALUE_MAX },
        { START ",\"labels\":{\"", "\":\"\"}}", NULL, POOL_LABEL_NAME_MAX },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t n = cases[i].max; n <= cases[i].max + 1; n++) {
            char json[POOL_ARGUMENT_MAX_BYTES + 200];
            int n_before = snprintf(json, sizeof json, "%s", cases[i].before);
            memset(json + n_before, 'x', n);
            snprintf(json + (size_t)n_before + n, sizeof json - (size_t)n_before - n, "%s", cases[i].after);
            struct pool_error err = POOL_ERROR_INIT;
            struct pool_worker_spawn_request *request = NULL;
            enum pool_code code = decode(json, &request, &err);
            pool_worker_spawn_request_free(request);
            if (code != (n > cases[i].max ? POOL_INVALID_REQUEST : POOL_OK))
                fail_msg("case %zu with %zu: %s", i, n, err.message);
            if (code != POOL_OK && cases[i].field)
                assert_string_equal(err.field, cases[i].field);
        }
    }
}

static void test_numbers_to_the_last_unit(void **state)
{
    (void)state;
    struct pool_worker_spawn_request *r = decode_fine(
        START ",\"port\":65535,\"required_vram_bytes\":9223372036854775807,\"ctx_size\":2147483647,"
              "\"parallel\":1024,"
              "\"start_timeout_ms\":604800000,\"idle_timeout_ms\":604800000,\"stop_grace_ms\":604800000}");
    assert_true(r->required_vram_bytes.value == INT64_MAX);
    assert_true(r->start_timeout_ms.value == POOL_TIMEOUT_MAX_MS);
    pool_worker_spawn_request_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size_of_the_body),
        cmocka_unit_test(test_depth_of_the_body),
        cmocka_unit_test(test_number_of_items),
        cmocka_unit_test(test_length_of_texts),
        cmocka_unit_test(test_numbers_to_the_last_unit),
        cmocka_unit_test(test_unknown_long_field_is_cut_and_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
