/*
 * What a manager explains: each start, refusal, stop and end leaves one record with its inputs and arithmetic, the text
 * and the JSON of it say the same, and an error names its record.
 */
#include <limits.h>

#include "manager_ground.h"
#include "memory_inventory.h"

#include "base/cleanup.h"

GROUND_FIXTURE

static struct pool_explanation_list *explain(const char *id)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_explanation_list *list = NULL;
    if (pool_manager_explain(ground.manager, id, &list, &err) != POOL_OK)
        fail_msg("%s: %s", id, err.message);
    return list;
}

static const struct pool_fact *fact_of(const struct pool_explanation *explanation, const char *name)
{
    for (size_t i = 0; i < explanation->n_facts; i++) {
        if (strcmp(explanation->facts[i].name, name) == 0)
            return &explanation->facts[i];
    }
    fail_msg("no fact %s", name);
    return NULL;
}

static void test_start_stop_end(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    ground_open(&ground);
    assert_int_equal(pool_manager_set_correlation_id(ground.manager, "request-7", &err), POOL_OK);
    ground_spawn(&ground, "w", "");
    pool_worker_info_free(ground_wait_ready(&ground, "w"));
    assert_int_equal(pool_manager_set_correlation_id(ground.manager, NULL, &err), POOL_OK);
    pool_worker_info_free(ground_stop(&ground, "w"));

    struct pool_explanation_list *list = explain("w");
    assert_int_equal(list->n_explanations, 3);
    const struct pool_explanation *end = list->explanations[0], *stop = list->explanations[1],
                                  *start = list->explanations[2];
    assert_int_equal(start->kind, POOL_EXPLAIN_START);
    assert_string_equal(start->code, "OK");
    assert_string_equal(start->correlation_id, "request-7");
    assert_string_equal(start->backend, "fake");
    assert_int_equal(start->required_bytes.value, GROUND_MIB);
    assert_string_equal(start->required_source, "request");
    assert_int_equal(start->n_candidates, 1);
    assert_true(start->candidates[0].is_chosen);
    const struct pool_ledger *ledger = &start->candidates[0].ledger;
    assert_string_equal(ledger->device, "host");
    assert_int_equal(ledger->available_bytes,
                     ledger->free_bytes - ledger->pending_bytes - ledger->headroom_bytes);
    assert_int_equal(start->candidates[0].left_bytes, ledger->available_bytes - GROUND_MIB);
    assert_int_equal(stop->kind, POOL_EXPLAIN_STOP);
    assert_int_equal(stop->stop_reason, POOL_STOP_REQUESTED);
    assert_null(stop->correlation_id);
    assert_int_equal(end->kind, POOL_EXPLAIN_END);
    assert_int_equal(end->stop_reason, POOL_STOP_REQUESTED);
    assert_true(end->exit_code.is_present);
    assert_string_equal(fact_of(end, "was_ready")->text, "yes");
    pool_explanation_list_free(list);

    list = explain("request-7");
    assert_int_equal(list->n_explanations, 1);
    pool_explanation_list_free(list);
}

/* Of two GPUs the roomier one is too small, and the numbers of both are there. */
static void test_refusal(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    ground_open(&ground);
    struct pool_worker_spawn_request *request = ground_request(&ground, "fake_gpu", "big", "");
    request->gpu_id = strdup("auto");
    request->required_vram_bytes.value = 4096 * GROUND_MIB;
    assert_int_equal(ground_try_spawn(ground.manager, request, &err), POOL_INSUFFICIENT_VRAM);
    pool_worker_spawn_request_free(request);
    const struct pool_detail *id = pool_error_detail(&err, "explain_id");
    assert_non_null(id);

    struct pool_explanation_list *list = explain(id->text);
    assert_int_equal(list->n_explanations, 1);
    const struct pool_explanation *refusal = list->explanations[0];
    assert_int_equal(refusal->kind, POOL_EXPLAIN_REFUSAL);
    assert_string_equal(refusal->record_id, id->text);
    assert_string_equal(refusal->worker_id, "big");
    assert_string_equal(refusal->code, "INSUFFICIENT_VRAM");
    assert_string_equal(refusal->message, err.message);
    assert_string_equal(refusal->asked_gpu, "auto");
    assert_int_equal(refusal->n_candidates, 2);
    assert_string_equal(refusal->candidates[0].ledger.device, GROUND_GPU);
    assert_true(refusal->candidates[0].is_chosen);
    assert_string_equal(refusal->candidates[0].verdict, "too small");
    assert_int_equal(refusal->candidates[0].left_bytes, -3072 * GROUND_MIB);
    assert_false(refusal->candidates[1].is_chosen);
    assert_int_equal(refusal->candidates[1].left_bytes, -3584 * GROUND_MIB);
    assert_int_equal(fact_of(refusal, "required_vram_bytes")->number.value, 4096 * GROUND_MIB);

    CLEANUP_FREE char *text = NULL;
    assert_int_equal(pool_explanation_format(refusal, &text, &err), POOL_OK);
    assert_non_null(strstr(text, "INSUFFICIENT_VRAM"));
    assert_non_null(strstr(text, "3.0 GiB missing"));
    assert_non_null(strstr(text, "3.5 GiB missing"));
    pool_explanation_list_free(list);
}

/* On both devices of 1 GiB and 512 MiB, half of it on each. */
static struct pool_worker_spawn_request *request_both(const char *worker_id, int64_t bytes)
{
    struct pool_worker_spawn_request *request = ground_request(&ground, "fake_gpu", worker_id, "");
    request->gpu_ids = calloc(3, sizeof(char *));
    assert_non_null(request->gpu_ids);
    request->gpu_ids[0] = strdup(GROUND_GPU);
    request->gpu_ids[1] = strdup(GROUND_GPU_2);
    request->n_gpu_ids = 2;
    request->split = strdup("1,1");
    request->required_vram_bytes.value = bytes;
    return request;
}

/* Each of several devices is compared with its part, and not with all of the worker. */
static void test_a_split(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    ground_open(&ground);
    struct pool_worker_spawn_request *fits = request_both("fits", 600 * GROUND_MIB);
    struct pool_worker_spawn_request *big = request_both("big", 600 * GROUND_MIB);
    assert_int_equal(ground_try_spawn(ground.manager, fits, &err), POOL_OK);
    assert_int_equal(ground_try_spawn(ground.manager, big, &err), POOL_INSUFFICIENT_VRAM);
    pool_worker_spawn_request_free(fits);
    pool_worker_spawn_request_free(big);

    /* a part is rounded up to the next byte */
    int64_t part = 300 * GROUND_MIB + 1, left[] = { 1024 * GROUND_MIB - part, 512 * GROUND_MIB - part };
    struct pool_explanation_list *list = explain("fits");
    const struct pool_explanation *start = list->explanations[0];
    assert_int_equal(start->required_bytes.value, 2 * part);
    assert_int_equal(start->n_candidates, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_true(start->candidates[i].is_chosen);
        assert_string_equal(start->candidates[i].verdict, "chosen");
        assert_int_equal(start->candidates[i].left_bytes, left[i]);
    }
    pool_explanation_list_free(list);
    list = explain("big");
    const struct pool_explanation *refusal = list->explanations[0];
    assert_int_equal(refusal->candidates[0].left_bytes, left[0] - part);
    assert_int_equal(refusal->candidates[1].left_bytes, left[1] - part);
    assert_string_equal(refusal->candidates[1].verdict, "too small");
    pool_explanation_list_free(list);
}

/* A device that was lost before it said its name has no ledger, and what is decided beside it is explained all the same. */
static void test_a_device_without_a_name(void **state)
{
    (void)state;
    static struct memory_world world;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_status_response *status = NULL;
    world = (struct memory_world){ .n_gpus = 2,
                                   .gpus = { { .uuid = "",
                                               .total_bytes = GROUND_MIB,
                                               .free_bytes = GROUND_MIB,
                                               .are_processes_known = true },
                                             { .uuid = GROUND_GPU,
                                               .total_bytes = 512 * GROUND_MIB,
                                               .free_bytes = 512 * GROUND_MIB,
                                               .are_processes_known = true } } };
    struct pool_gpu_inventory *inventory = memory_inventory_open(&world);
    struct pool_manager_options options = { .struct_size = sizeof options,
                                            .environment = ground_environment,
                                            .gpu_inventory = inventory,
                                            .is_unrestricted = true };
    ground_prepare(&ground);
    assert_int_equal(pool_manager_open(ground.config, &options, &ground.manager, &err), POOL_OK);
    struct pool_worker_spawn_request *request = ground_request(&ground, "fake_gpu", "w", "");
    request->gpu_id = strdup(GROUND_GPU);
    assert_int_equal(ground_try_spawn(ground.manager, request, &err), POOL_OK);
    pool_worker_spawn_request_free(request);
    struct pool_explanation_list *list = explain("w");
    assert_int_equal(list->explanations[0]->n_candidates, 1);
    assert_true(list->explanations[0]->candidates[0].is_chosen);
    pool_explanation_list_free(list);
    assert_int_equal(pool_manager_status(ground.manager, &status, &err), POOL_OK);
    assert_int_equal(status->n_ledgers, 2);
    assert_string_equal(status->ledgers[0].device, GROUND_GPU);
    assert_string_equal(status->ledgers[1].device, "host");
    pool_status_response_free(status);
    ground_close(&ground);
    pool_gpu_inventory_close(inventory);
}

static void test_a_refusal_before_any_device(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    ground_open(&ground);
    struct pool_worker_spawn_request *request = ground_request(&ground, "no-such", "w", "");
    assert_int_equal(ground_try_spawn(ground.manager, request, &err), POOL_BACKEND_NOT_FOUND);
    pool_worker_spawn_request_free(request);
    struct pool_explanation_list *list = explain("w");
    assert_int_equal(list->n_explanations, 1);
    assert_string_equal(list->explanations[0]->code, "BACKEND_NOT_FOUND");
    assert_int_equal(list->explanations[0]->n_candidates, 0);
    pool_explanation_list_free(list);
}

static void test_unknown_ids(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_explanation_list *list = NULL;
    ground_open(&ground);
    assert_int_equal(pool_manager_explain(ground.manager, "never", &list, &err), POOL_NOT_FOUND);
    assert_int_equal(pool_manager_explain(ground.manager, "../x", &list, &err), POOL_INVALID_REQUEST);
    assert_int_equal(pool_manager_explain(ground.manager, NULL, &list, &err), POOL_OK);
    assert_int_equal(list->n_explanations, 0);
    pool_explanation_list_free(list);
    assert_int_equal(pool_manager_set_correlation_id(ground.manager, "a b", &err), POOL_INVALID_REQUEST);
}

/* A worker that dies unasked, found by the next command. */
static void test_a_crash(void **state)
{
    (void)state;
    ground_open(&ground);
    ground_spawn(&ground, "w", "--exit-at-once --exit-code 3");
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *worker = NULL;
    assert_int_equal(pool_manager_wait_ready(ground.manager, "w", NULL, &worker, &err),
                     POOL_WORKER_START_FAILED);
    struct pool_explanation_list *list = explain("w");
    const struct pool_explanation *end = list->explanations[0];
    assert_int_equal(end->kind, POOL_EXPLAIN_END);
    assert_int_equal(end->stop_reason, POOL_STOP_START_FAILED);
    assert_int_equal(end->exit_code.value, 3);
    assert_string_equal(fact_of(end, "was_ready")->text, "no");
    pool_explanation_list_free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GROUND_TEST(test_start_stop_end),
        GROUND_TEST(test_refusal),
        GROUND_TEST(test_a_split),
        GROUND_TEST(test_a_device_without_a_name),
        GROUND_TEST(test_a_refusal_before_any_device),
        GROUND_TEST(test_unknown_ids),
        GROUND_TEST(test_a_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
