/*
 * Requests, answers and errors with each allocation failing in turn, jansson's included: nothing leaks, nothing crashes.
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

#include "torture.h"

#include "../unit/core/api/samples.h"

/* jansson 2.14 ignores that it finds no memory while it collects a token and goes on with what it has, so a text may be
 * refused as malformed, or even come out shorter: what is asserted here is that nothing is lost and all is consistent. */

struct scenario {
    const char *json;
    const void *object;
};

static enum pool_code run_spawn_request(void *ctx)
{
    const struct scenario *scenario = ctx;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_spawn_request *request = NULL;
    char *json = NULL;
    enum pool_code code =
        pool_worker_spawn_request_decode(scenario->json, strlen(scenario->json), &request, &err);
    assert_true((code == POOL_OK) == (request != NULL));
    if (code == POOL_OK)
        code = pool_worker_spawn_request_validate(request, &err);
    if (code == POOL_OK)
        code = pool_worker_spawn_request_encode(request, &json, &err);
    assert_true((code == POOL_OK) == (json != NULL));
    free(json);
    pool_worker_spawn_request_free(request);
    return code;
}

static enum pool_code run_stop_request(void *ctx)
{
    (void)ctx;
    static const char json[] = "{\"worker_id\":\"w\",\"grace_ms\":5,\"force\":true}";
    struct pool_worker_stop_request *request = NULL;
    char *text = NULL;
    enum pool_code code = pool_worker_stop_request_decode(json, sizeof json - 1, &request, NULL);
    if (code == POOL_OK)
        code = pool_worker_stop_request_encode(request, &text, NULL);
    free(text);
    pool_worker_stop_request_free(request);
    return code;
}

/* The requests that are small; the letter says which. */
static enum pool_code run_small_request(void *ctx)
{
    const char *json = (const char *)ctx + 1;
    size_t n = strlen(json);
    char *text = NULL;
    enum pool_code code = POOL_INTERNAL;
    struct pool_worker_drain_request *drain = NULL;
    struct pool_gpu_cordon_request *cordon = NULL;
    struct pool_worker_ready_callback *callback = NULL;
    struct pool_model_verify_request verify = { 0 };
    struct pool_model_stage_request stage = { 0 };
    switch (*(const char *)ctx) {
    case 'd':
        code = pool_worker_drain_request_decode(json, n, &drain, NULL);
        if (code == POOL_OK)
            code = pool_worker_drain_request_encode(drain, &text, NULL);
        break;
    case 'c':
        code = pool_gpu_cordon_request_decode(json, n, &cordon, NULL);
        if (code == POOL_OK)
            code = pool_gpu_cordon_request_encode(cordon, &text, NULL);
        break;
    case 'r': code = pool_worker_ready_callback_decode(json, n, &callback, NULL); break;
    case 'v':
        code = pool_model_verify_request_decode(json, n, &verify, NULL);
        if (code == POOL_OK)
            code = pool_model_verify_request_encode(&verify, &text, NULL);
        break;
    default:
        code = pool_model_stage_request_decode(json, n, &stage, NULL);
        if (code == POOL_OK)
            code = pool_model_stage_request_encode(&stage, &text, NULL);
        break;
    }
    free(text);
    pool_worker_drain_request_free(drain);
    pool_gpu_cordon_request_free(cordon);
    pool_worker_ready_callback_free(callback);
    return code;
}

static enum pool_code run_cordon(void *ctx)
{
    struct pool_gpu_cordon read = { 0 };
    char *json = NULL;
    enum pool_code code = pool_gpu_cordon_encode(ctx, &json, NULL);
    if (code == POOL_OK)
        code = pool_gpu_cordon_decode(json, strlen(json), &read, NULL);
    free(json);
    return code;
}

static enum pool_code run_schemas(void *ctx)
{
    (void)ctx;
    char *json = NULL;
    enum pool_code code = pool_api_schemas_encode(&json, NULL);
    assert_true((code == POOL_OK) == (json != NULL));
    free(json);
    return code;
}

static enum pool_code run_spawn_response(void *ctx)
{
    (void)ctx;
    static const char json[] =
        "{\"worker_id\":\"w\",\"status\":\"ready\",\"uri\":\"http://h\",\"log_path\":\"/l\"}";
    struct pool_worker_spawn_response *response = NULL;
    char *text = NULL;
    enum pool_code code = pool_worker_spawn_response_decode(json, sizeof json - 1, &response, NULL);
    if (code == POOL_OK)
        code = pool_worker_spawn_response_encode(response, &text, NULL);
    free(text);
    pool_worker_spawn_response_free(response);
    return code;
}

static enum pool_code run_status(void *ctx)
{
    const struct scenario *scenario = ctx;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_status_response *read = NULL;
    char *json = NULL;
    enum pool_code code = pool_status_response_encode(scenario->object, &json, &err);
    assert_true((code == POOL_OK) == (json != NULL));
    if (code == POOL_OK)
        code = pool_status_response_decode(scenario->json, strlen(scenario->json), &read, &err);
    assert_true((code == POOL_OK) == (read != NULL));
    free(json);
    pool_status_response_free(read);
    return code;
}

static enum pool_code run_lists(void *ctx)
{
    const struct scenario *scenario = ctx;
    const struct pool_status_response *status = scenario->object;
    struct pool_gpu_list *gpus = NULL;
    struct pool_worker_list *workers = NULL;
    struct pool_worker_info *worker = NULL;
    char *json[3] = { NULL };
    enum pool_code code =
        pool_gpu_list_encode(status->gpus, status->ledgers, status->n_ledgers, &json[0], NULL);
    if (code == POOL_OK)
        code = pool_worker_list_encode(status->workers, &json[1], NULL);
    if (code == POOL_OK)
        code = pool_worker_info_encode(status->workers->workers[0], &json[2], NULL);
    /* The state has the members of both lists. */
    if (code == POOL_OK)
        code = pool_gpu_list_decode(scenario->json, strlen(scenario->json), &gpus, NULL);
    if (code == POOL_OK)
        code = pool_worker_list_decode(scenario->json, strlen(scenario->json), &workers, NULL);
    if (code == POOL_OK)
        code = pool_worker_info_decode(json[2], strlen(json[2]), &worker, NULL);
    for (size_t i = 0; i < 3; i++)
        free(json[i]);
    pool_gpu_list_free(gpus);
    pool_worker_list_free(workers);
    pool_worker_info_free(worker);
    return code;
}

static enum pool_code run_errors(void *ctx)
{
    (void)ctx;
    static const char refused[] = "{\"backend\":\"cpu\",\"model_ref\":\"m\",\"extra_args\":[1]}";
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_error read = POOL_ERROR_INIT;
    struct pool_worker_spawn_request *request = NULL;
    char *json = NULL;
    enum pool_code refusal = pool_worker_spawn_request_decode(refused, sizeof refused - 1, &request, &err);
    assert_int_not_equal(refusal, POOL_OK);
    assert_int_equal(refusal, err.code);
    snprintf(err.log_tail, sizeof err.log_tail, "one\ntwo\n");
    enum pool_code code = pool_error_encode(&err, "id", &json, NULL);
    if (code == POOL_OK)
        code = pool_error_decode(json, strlen(json), &read, NULL);
    free(json);
    return code;
}

static enum pool_code run_explanation(void *ctx)
{
    struct pool_explanation *read = NULL;
    struct pool_explanation_list *list = NULL;
    char *json = NULL, *text = NULL, *several = NULL;
    enum pool_code code = pool_explanation_encode(ctx, &json, NULL);
    assert_true((code == POOL_OK) == (json != NULL));
    if (code == POOL_OK)
        code = pool_explanation_decode(json, strlen(json), &read, NULL);
    assert_true((code == POOL_OK) == (read != NULL));
    if (code == POOL_OK)
        code = pool_explanation_format(read, &text, NULL);
    if (code == POOL_OK) {
        struct pool_explanation *both[] = { read, read };
        struct pool_explanation_list two = { .n_explanations = 2, .explanations = both };
        code = pool_explanation_list_encode(&two, &several, NULL);
    }
    if (code == POOL_OK)
        code = pool_explanation_list_decode(several, strlen(several), &list, NULL);
    free(json);
    free(text);
    free(several);
    pool_explanation_free(read);
    pool_explanation_list_free(list);
    return code;
}

static enum pool_code run_room(void *ctx)
{
    struct pool_start_room read = { 0 };
    char *json = NULL;
    enum pool_code code = pool_start_room_encode(ctx, &json, NULL);
    if (code == POOL_OK)
        code = pool_start_room_decode(json, strlen(json), &read, NULL);
    free(json);
    pool_start_room_done(&read);
    return code;
}

static enum pool_code run_model(void *ctx)
{
    char *json = NULL;
    enum pool_code code = pool_model_encode(ctx, NULL, NULL, &json, NULL);
    free(json);
    json = NULL;
    static struct pool_model_verification verification = { .model_id = "m", .sha256 = "00" };
    static struct pool_model_staging staging = { .model_id = "m" };
    if (code == POOL_OK)
        code = pool_model_entry_encode(ctx, NULL, NULL, &verification, &staging, &json, NULL);
    free(json);
    return code;
}

static void test_requests(void **state)
{
    (void)state;
    struct scenario scenario = {
        .json = "{\"backend\":\"cuda\",\"model_ref\":\"hf:a/b\",\"gpu_id\":1,\"worker_id\":\"w\","
                "\"extra_args\":[\"--a\",\"b\"],\"env\":{\"A\":\"1\",\"B\":\"2\"},\"labels\":{\"a\":\"1\","
                "\"b\":\"2\"},\"may_displace\":{\"worker_ids\":[\"x\"],\"labels\":{\"t\":\"1\"},\"idle_"
                "only\":false}}",
    };
    torture_scenario("spawn request", run_spawn_request, &scenario);
    torture_scenario("stop request", run_stop_request, NULL);
    static char small[][96] = { "d{\"timeout_ms\":5,\"wait\":true}",
                                "c{\"reason\":\"fan\"}",
                                "r{\"worker_id\":\"w\",\"spawn_token\":\"00\",\"more\":[1]}",
                                "v{\"ignore_proof\":true}",
                                "s{\"lock\":true}",
                                "d",
                                "c" };
    for (size_t i = 0; i < sizeof small / sizeof small[0]; i++)
        torture_scenario("small request", run_small_request, small[i]);
}

static void test_answers(void **state)
{
    (void)state;
    struct pool_status_response *status = sample_status();
    char *json = NULL;
    assert_int_equal(pool_status_response_encode(status, &json, NULL), POOL_OK);
    struct scenario scenario = { .json = json, .object = status };
    torture_scenario("state", run_status, &scenario);
    torture_scenario("lists", run_lists, &scenario);
    torture_scenario("spawn response", run_spawn_response, NULL);
    struct pool_gpu_cordon cordon = { .uuid = "GPU-1", .is_cordoned = true, .reason = "fan" };
    torture_scenario("cordon", run_cordon, &cordon);
    torture_scenario("schemas", run_schemas, NULL);
    free(json);
    pool_status_response_free(status);
}

static void test_errors(void **state)
{
    (void)state;
    torture_scenario("errors", run_errors, NULL);
}

static void test_explanations(void **state)
{
    (void)state;
    struct pool_explanation *explanation = pool_explanation_new();
    struct pool_start_room room = { 0 };
    assert_non_null(explanation);
    fill_fields(&explanation_table, explanation, 1);
    fill_fields(&start_room_table, &room, 1);
    torture_scenario("explanation", run_explanation, explanation);
    torture_scenario("room of a start", run_room, &room);
    pool_start_room_done(&room);
    pool_explanation_free(explanation);
}

static void test_models(void **state)
{
    (void)state;
    struct pool_model_metadata metadata = { 0 };
    fill_fields(&model_table, &metadata, 1);
    torture_scenario("model", run_model, &metadata);
    fields_clear(&model_table, &metadata);
}

static int include_jansson(void **state)
{
    (void)state;
    torture_include_jansson();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),     cmocka_unit_test(test_answers), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_explanations), cmocka_unit_test(test_models),
    };
    return cmocka_run_group_tests(tests, include_jansson, NULL);
}
