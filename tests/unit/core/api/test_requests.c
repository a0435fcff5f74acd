/*
 * Requests: what is taken, what is refused and by which field, limits to the last unit, and the way there and back.
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

static void test_the_least_and_its_defaults(void **state)
{
    (void)state;
    struct pool_worker_spawn_request *r = decode_fine(START "}");
    assert_string_equal(r->backend, "cpu");
    assert_string_equal(r->model_ref, "m");
    assert_null(r->gpu_id);
    assert_null(r->worker_id);
    assert_true(r->port == 0 && r->ctx_size == 0 && r->parallel == 0);
    assert_false(r->required_vram_bytes.is_present);
    assert_false(r->start_timeout_ms.is_present || r->idle_timeout_ms.is_present ||
                 r->stop_grace_ms.is_present);
    assert_true(r->n_extra_args == 0 && r->n_env == 0 && r->n_labels == 0);
    assert_false(r->wait);
    pool_worker_spawn_request_free(r);
}

static void test_everything(void **state)
{
    (void)state;
    struct pool_worker_spawn_request *r = decode_fine(
        START ",\"gpu_id\":\"GPU-1\",\"port\":8001,\"worker_id\":\"w1\",\"required_vram_bytes\":5,\"ctx_"
              "size\":4096,"
              "\"parallel\":2,\"extra_args\":[\"--flag\",\"\"],\"env\":{\"A_1\":\"x\\ny\",\"_b\":\"\"},"
              "\"start_timeout_ms\":1,\"idle_timeout_ms\":0,\"stop_grace_ms\":0,"
              "\"labels\":{\"team/a\":\"red\",\"empty\":\"\"},\"wait\":true}");
    assert_string_equal(r->gpu_id, "GPU-1");
    assert_true(r->port == 8001 && r->ctx_size == 4096 && r->parallel == 2);
    assert_string_equal(r->worker_id, "w1");
    assert_true(r->required_vram_bytes.is_present && r->required_vram_bytes.value == 5);
    assert_int_equal(r->n_extra_args, 2);
    assert_string_equal(r->extra_args[0], "--flag");
    assert_string_equal(r->extra_args[1], "");
    assert_int_equal(r->n_env, 2);
    assert_string_equal(r->env[0].name, "A_1");
    assert_string_equal(r->env[0].value, "x\ny");
    assert_true(r->start_timeout_ms.is_present && r->start_timeout_ms.value == 1);
    assert_true(r->idle_timeout_ms.is_present && r->idle_timeout_ms.value == 0);
    assert_true(r->stop_grace_ms.is_present && r->stop_grace_ms.value == 0);
    assert_int_equal(r->n_labels, 2);
    assert_string_equal(r->labels[0].name, "team/a");
    assert_string_equal(r->labels[1].value, "");
    assert_true(r->wait);
    pool_worker_spawn_request_free(r);
}

static void test_gpu_as_a_number_or_a_word(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { "0", "0" }, { "17", "17" }, { "\"3\"", "3" }, { "\"auto\"", "auto" }
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char json[128];
        snprintf(json, sizeof json, START ",\"gpu_id\":%s}", cases[i][0]);
        struct pool_worker_spawn_request *r = decode_fine(json);
        assert_string_equal(r->gpu_id, cases[i][1]);
        pool_worker_spawn_request_free(r);
    }
}

static void test_null_is_not_given(void **state)
{
    (void)state;
    struct pool_worker_spawn_request *r =
        decode_fine(START ",\"gpu_id\":null,\"port\":null,\"env\":null,\"labels\":null,\"wait\":null,"
                          "\"stop_grace_ms\":null,\"extra_args\":null}");
    assert_null(r->gpu_id);
    assert_false(r->stop_grace_ms.is_present);
    pool_worker_spawn_request_free(r);
}

/* Behind START and a comma, what makes the request one to refuse, and the field that is named. */
static const char *const refused[][2] = {
    { "\"model\":1", "model" },
    { "\"Port\":1", "Port" },
    { "\"backend\":\"x\"", "" }, /* given twice */
    { "\"port\":\"8001\"", "port" },
    { "\"port\":8001.0", "port" },
    { "\"port\":8e3", "port" },
    { "\"port\":-1", "port" },
    { "\"port\":65536", "port" },
    { "\"port\":true", "port" },
    { "\"port\":[]", "port" },
    { "\"port\":9223372036854775808", "" },
    { "\"gpu_id\":\"\"", "gpu_id" },
    { "\"gpu_id\":-1", "gpu_id" },
    { "\"gpu_id\":0.0", "gpu_id" },
    { "\"gpu_id\":false", "gpu_id" },
    { "\"gpu_id\":\"GPU 1\"", "gpu_id" },
    { "\"gpu_id\":\"--id\"", "gpu_id" },
    { "\"worker_id\":\"\"", "worker_id" },
    { "\"worker_id\":\"-w\"", "worker_id" },
    { "\"worker_id\":\"..\"", "worker_id" },
    { "\"worker_id\":\"a/b\"", "worker_id" },
    { "\"worker_id\":\"a b\"", "worker_id" },
    { "\"worker_id\":\"a\\n\"", "worker_id" },
    { "\"worker_id\":\"a\\u0000b\"", "" },
    { "\"worker_id\":\"0123456789012345678901234567890123456789012345678901234567890123x\"", "worker_id" },
    { "\"worker_id\":7", "worker_id" },
    { "\"required_vram_bytes\":-1", "required_vram_bytes" },
    { "\"required_vram_bytes\":1.5", "required_vram_bytes" },
    { "\"required_vram_bytes\":\"1\"", "required_vram_bytes" },
    { "\"ctx_size\":-1", "ctx_size" },
    { "\"ctx_size\":2147483648", "ctx_size" },
    { "\"parallel\":1025", "parallel" },
    { "\"parallel\":-1", "parallel" },
    { "\"extra_args\":\"--x\"", "extra_args" },
    { "\"extra_args\":{}", "extra_args" },
    { "\"extra_args\":[\"a\",1]", "extra_args[1]" },
    { "\"extra_args\":[\"a\",\"b\",null]", "extra_args[2]" },
    { "\"env\":[]", "env" },
    { "\"env\":{\"A\":1}", "env.A" },
    { "\"env\":{\"A\":null}", "env.A" },
    { "\"env\":{\"\":\"x\"}", "env." },
    { "\"env\":{\"1A\":\"x\"}", "env.1A" },
    { "\"env\":{\"A-B\":\"x\"}", "env.A-B" },
    { "\"env\":{\"A=B\":\"x\"}", "env.A=B" },
    { "\"start_timeout_ms\":0", "start_timeout_ms" },
    { "\"start_timeout_ms\":604800001", "start_timeout_ms" },
    { "\"idle_timeout_ms\":-1", "idle_timeout_ms" },
    { "\"idle_timeout_ms\":604800001", "idle_timeout_ms" },
    { "\"stop_grace_ms\":-1", "stop_grace_ms" },
    { "\"stop_grace_ms\":1e3", "stop_grace_ms" },
    { "\"labels\":[]", "labels" },
    { "\"labels\":{\"team\":1}", "labels.team" },
    { "\"labels\":{\"team\":\"a\\nb\"}", "labels.team" },
    { "\"labels\":{\"team\":\"\\u009b\"}", "labels.team" },
    { "\"labels\":{\"\":\"x\"}", "labels." },
    { "\"labels\":{\"-a\":\"x\"}", "labels.-a" },
    { "\"labels\":{\"a b\":\"x\"}", "labels.a b" },
    { "\"labels\":{\"\xc3\xa9\":\"x\"}", "labels.\xc3\xa9" },
    { "\"may_displace\":[]", "may_displace" },
    { "\"may_displace\":\"w\"", "may_displace" },
    { "\"may_displace\":{\"ids\":[\"w\"]}", "may_displace.ids" },
    { "\"may_displace\":{\"worker_ids\":\"w\"}", "may_displace.worker_ids" },
    { "\"may_displace\":{\"worker_ids\":[\"w\",\"-\"]}", "may_displace.worker_ids[1]" },
    { "\"may_displace\":{\"worker_ids\":[1]}", "may_displace.worker_ids[0]" },
    { "\"may_displace\":{\"labels\":{\"team\":1}}", "may_displace.labels.team" },
    { "\"may_displace\":{\"labels\":{\"a b\":\"x\"}}", "may_displace.labels.a b" },
    { "\"may_displace\":{\"worker_ids\":[\"w\"],\"idle_only\":0}", "may_displace.idle_only" },
    { "\"may_displace\":{\"idle_only\":true}", "may_displace" },
    { "\"may_displace\":{\"idle_only\":false,\"worker_ids\":[]}", "may_displace" },
    { "\"wait\":1", "wait" },
    { "\"wait\":\"true\"", "wait" },
};

static void test_what_is_refused_and_by_which_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        char json[512];
        snprintf(json, sizeof json, START ",%s}", refused[i][0]);
        struct pool_error err = POOL_ERROR_INIT;
        struct pool_worker_spawn_request *request = NULL;
        enum pool_code code = decode(json, &request, &err);
        if (code != POOL_INVALID_REQUEST || strcmp(err.field, refused[i][1]) != 0)
            fail_msg("%s: %s, field '%s', %s", refused[i][0], pool_code_name(code), err.field, err.message);
        assert_null(request);
        assert_false(err.is_retriable);
        assert_true(err.message[0] != '\0');
    }
}

static void test_what_must_be_there(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { "{}", "backend" },
        { "{\"model_ref\":\"m\"}", "backend" },
        { "{\"backend\":null,\"model_ref\":\"m\"}", "backend" },
        { "{\"backend\":\"\",\"model_ref\":\"m\"}", "backend" },
        { "{\"backend\":1,\"model_ref\":\"m\"}", "backend" },
        { "{\"backend\":\"cpu\"}", "model_ref" },
        { "{\"backend\":\"cpu\",\"model_ref\":\"\"}", "model_ref" },
        { "{\"backend\":\"cpu\",\"model_ref\":\"a\\u0001\"}", "model_ref" },
        { "[]", "" },
        { "[{}]", "" },
        { "\"x\"", "" },
        { "1", "" },
        { "null", "" },
        { "", "" },
        { "{", "" },
        { "{} {}", "" },
        { START ",\"labels\":{\"a\":\"\xff\"}}", "" },
        { START ",\"labels\":{\"a\":\"1\",\"a\":\"2\"}}", "" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_error err = POOL_ERROR_INIT;
        struct pool_worker_spawn_request *request = NULL;
        if (decode(cases[i][0], &request, &err) != POOL_INVALID_REQUEST ||
            strcmp(err.field, cases[i][1]) != 0)
            fail_msg("%s: %s, field '%s'", cases[i][0], pool_code_name(err.code), err.field);
        assert_null(request);
    }
}

static void test_validate_says_the_same_of_a_struct(void **state)
{
    (void)state;
    struct pool_worker_spawn_request request = { 0 };
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(pool_worker_spawn_request_validate(&request, &err), POOL_INVALID_REQUEST);
    assert_string_equal(err.field, "backend");
    char backend[] = "cpu";
    char model_ref[] = "m";
    char broken[] = "\xff";
    request.backend = backend;
    request.model_ref = model_ref;
    assert_int_equal(pool_worker_spawn_request_validate(&request, &err), POOL_OK);

    request.port = 65536;
    assert_int_equal(pool_worker_spawn_request_validate(&request, &err), POOL_INVALID_REQUEST);
    assert_string_equal(err.field, "port");
    request.port = 0;
    request.start_timeout_ms = (struct pool_reading){ true, 0 };
    assert_int_equal(pool_worker_spawn_request_validate(&request, &err), POOL_INVALID_REQUEST);
    assert_string_equal(err.field, "start_timeout_ms");
    request.start_timeout_ms.is_present = false;

    char *arguments[] = { model_ref, broken };
    request.extra_args = arguments;
    request.n_extra_args = 2;
    assert_int_equal(pool_worker_spawn_request_validate(&request, &err), POOL_INVALID_REQUEST);
    assert_string_equal(err.field, "extra_args[1]");
    request.n_extra_args = POOL_EXTRA_ARGS_MAX + 1; /* refused before any is looked at */
    assert_int_equal(pool_worker_spawn_request_validate(&request, &err), POOL_INVALID_REQUEST);
    assert_string_equal(err.field, "extra_args");
    request.n_extra_args = 0;

    char name[] = "team";
    char value[] = "red";
    struct pool_label labels[] = { { name, value }, { name, value } };
    request.labels = labels;
    request.n_labels = 1;
    assert_int_equal(pool_worker_spawn_request_validate(&request, &err), POOL_OK);
    request.n_labels = 2;
    assert_int_equal(pool_worker_spawn_request_validate(&request, &err), POOL_INVALID_REQUEST);
    assert_string_equal(err.field, "labels.team");
    labels[0].value = NULL;
    assert_int_equal(pool_worker_spawn_request_validate(&request, NULL), POOL_INVALID_REQUEST);
}

static void test_stop_requests(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        const char *field; /* NULL: fine */
    } cases[] = {
        { "{\"worker_id\":\"w\"}", NULL },
        { "{\"worker_id\":\"w\",\"grace_ms\":0,\"force\":true,\"wait\":true}", NULL },
        { "{\"worker_id\":\"w\",\"grace_ms\":604800000}", NULL },
        { "{\"worker_id\":\"w\",\"grace_ms\":604800001}", "grace_ms" },
        { "{\"worker_id\":\"w\",\"grace_ms\":-1}", "grace_ms" },
        { "{\"worker_id\":\"w\",\"grace_ms\":1.0}", "grace_ms" },
        { "{\"worker_id\":\"w\",\"force\":0}", "force" },
        { "{\"worker_id\":\"../w\"}", "worker_id" },
        { "{\"worker_id\":\"w\",\"grace\":1}", "grace" },
        { "{}", "worker_id" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_error err = POOL_ERROR_INIT;
        struct pool_worker_stop_request *request = NULL;
        enum pool_code code =
            pool_worker_stop_request_decode(cases[i].json, strlen(cases[i].json), &request, &err);
        if ((code == POOL_OK) != !cases[i].field ||
            (cases[i].field && strcmp(err.field, cases[i].field) != 0))
            fail_msg("%s: %s", cases[i].json, err.message);
        if (request)
            assert_int_equal(pool_worker_stop_request_validate(request, &err), POOL_OK);
        pool_worker_stop_request_free(request);
    }
    struct pool_worker_stop_request *made = pool_worker_stop_request_new();
    assert_non_null(made);
    assert_int_equal(pool_worker_stop_request_validate(made, NULL), POOL_INVALID_REQUEST);
    pool_worker_stop_request_free(made);
}

static void test_encoded_form(void **state)
{
    (void)state;
    struct pool_worker_spawn_request *r =
        decode_fine("{\"wait\":true,\"labels\":{\"z\":\"1\",\"a\":\"2\"},\"gpu_id\":1,\"stop_grace_ms\":0,"
                    "\"model_ref\":\"m\",\"backend\":\"cpu\"}");
    char *json = NULL;
    assert_int_equal(pool_worker_spawn_request_encode(r, &json, NULL), POOL_OK);
    pool_worker_spawn_request_free(r);
    assert_string_equal(json, "{\"backend\":\"cpu\",\"model_ref\":\"m\",\"gpu_id\":\"1\",\"stop_grace_ms\":0,"
                              "\"labels\":{\"z\":\"1\",\"a\":\"2\"},\"wait\":true}");
    free(json);
}

/* As many ids as there may be, and one more; nothing at all is nobody, and not written. */
static void test_whom_it_may_displace(void **state)
{
    (void)state;
    for (size_t n = POOL_DISPLACE_IDS_MAX; n <= POOL_DISPLACE_IDS_MAX + 1; n++) {
        char json[2048] = START ",\"may_displace\":{\"worker_ids\":[";
        for (size_t i = 0; i < n; i++)
            strcat(json, i ? ",\"w\"" : "\"w\"");
        strcat(json, "]}}");
        struct pool_error err = POOL_ERROR_INIT;
        struct pool_worker_spawn_request *request = NULL;
        enum pool_code code = decode(json, &request, &err);
        assert_int_equal(code, n <= POOL_DISPLACE_IDS_MAX ? POOL_OK : POOL_INVALID_REQUEST);
        if (code == POOL_OK)
            assert_int_equal(request->may_displace.n_worker_ids, n);
        else
            assert_string_equal(err.field, "may_displace.worker_ids");
        pool_worker_spawn_request_free(request);
    }
    struct pool_worker_spawn_request *nobody = decode_fine(START ",\"may_displace\":{}}");
    char *json = NULL;
    assert_false(nobody->may_displace.idle_only.is_present);
    assert_int_equal(pool_worker_spawn_request_encode(nobody, &json, NULL), POOL_OK);
    assert_null(strstr(json, "may_displace"));
    free(json);
    char dash[] = "-", *ids[] = { dash };
    nobody->may_displace.n_worker_ids = 1;
    nobody->may_displace.worker_ids = ids;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(pool_worker_spawn_request_validate(nobody, &err), POOL_INVALID_REQUEST);
    assert_string_equal(err.field, "may_displace.worker_ids[0]");
    nobody->may_displace = (struct pool_may_displace){ 0 };
    pool_worker_spawn_request_free(nobody);
}

static void test_spawn_request_there_and_back(void **state)
{
    (void)state;
    struct pool_worker_spawn_request *filled = pool_worker_spawn_request_new();
    assert_non_null(filled);
    fill_fields(&worker_spawn_request_table, filled, 1);
    assert_int_equal(pool_worker_spawn_request_validate(filled, NULL), POOL_OK);
    char *first = NULL;
    char *second = NULL;
    assert_int_equal(pool_worker_spawn_request_encode(filled, &first, NULL), POOL_OK);
    pool_worker_spawn_request_free(filled);
    for (size_t i = 0; i < worker_spawn_request_table.n_fields; i++) {
        char key[64];
        snprintf(key, sizeof key, "\"%s\":", worker_spawn_request_table.fields[i].name);
        assert_non_null(strstr(first, key));
    }
    struct pool_worker_spawn_request *read = decode_fine(first);
    assert_int_equal(pool_worker_spawn_request_encode(read, &second, NULL), POOL_OK);
    pool_worker_spawn_request_free(read);
    assert_string_equal(first, second);
    free(first);
    free(second);
}

static void test_stop_request_there_and_back(void **state)
{
    (void)state;
    struct pool_worker_stop_request *filled = pool_worker_stop_request_new();
    struct pool_worker_stop_request *read = NULL;
    assert_non_null(filled);
    fill_fields(&worker_stop_request_table, filled, 1);
    char *first = NULL;
    char *second = NULL;
    assert_int_equal(pool_worker_stop_request_encode(filled, &first, NULL), POOL_OK);
    pool_worker_stop_request_free(filled);
    assert_int_equal(pool_worker_stop_request_decode(first, strlen(first), &read, NULL), POOL_OK);
    assert_int_equal(pool_worker_stop_request_encode(read, &second, NULL), POOL_OK);
    pool_worker_stop_request_free(read);
    assert_string_equal(first, second);
    free(first);
    free(second);
}

static void test_free_takes_null(void **state)
{
    (void)state;
    pool_worker_spawn_request_free(NULL);
    pool_worker_stop_request_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_least_and_its_defaults),
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_gpu_as_a_number_or_a_word),
        cmocka_unit_test(test_null_is_not_given),
        cmocka_unit_test(test_what_is_refused_and_by_which_field),
        cmocka_unit_test(test_what_must_be_there),
        cmocka_unit_test(test_validate_says_the_same_of_a_struct),
        cmocka_unit_test(test_stop_requests),
        cmocka_unit_test(test_encoded_form),
        cmocka_unit_test(test_whom_it_may_displace),
        cmocka_unit_test(test_spawn_request_there_and_back),
        cmocka_unit_test(test_stop_request_there_and_back),
        cmocka_unit_test(test_free_takes_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
