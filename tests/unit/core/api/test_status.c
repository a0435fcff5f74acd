/*
 * GPUs, models and the state of the pool as answers: there and back, readings a driver does not give, what readers refuse.
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

#include <jansson.h>

#include "samples.h"

/* Every name of the table is in the text, and none of them as null. */
static void assert_all_shown(const char *json, const struct field_table *table)
{
    for (size_t i = 0; i < table->n_fields; i++) {
        const struct field *field = &table->fields[i];
        char key[80];
        snprintf(key, sizeof key, "\"%s\":", field->name);
        if (!strstr(json, key))
            fail_msg("%s is not in %s", key, json);
        snprintf(key, sizeof key, "\"%s\":null", field->name);
        if (!field->applies && strstr(json, key))
            fail_msg("%s in %s", key, json);
    }
}

static void test_gpus_there_and_back(void **state)
{
    (void)state;
    struct pool_gpu_list *list = sample_gpus(2);
    struct pool_gpu_list *read = NULL;
    char *first = NULL;
    char *second = NULL;
    assert_int_equal(pool_gpu_list_encode(list, NULL, 0, &first, NULL), POOL_OK);
    assert_all_shown(first, &gpu_table);
    assert_all_shown(first, &gpu_list_table);
    assert_all_shown(first, &gpu_process_table);
    assert_null(strstr(first, "\"ledger\""));
    assert_int_equal(pool_gpu_list_decode(first, strlen(first), &read, NULL), POOL_OK);
    assert_int_equal(read->n_gpus, 2);
    assert_int_equal(read->gpus[1]->n_processes, 2);
    assert_true(read->gpus[1]->is_vram_known && read->gpus[1]->are_processes_known);
    assert_int_equal(pool_gpu_list_encode(read, NULL, 0, &second, NULL), POOL_OK);
    assert_string_equal(first, second);
    free(first);
    free(second);

    struct pool_ledger ledger = { .device = "GPU-1", .available_bytes = 42 };
    assert_int_equal(pool_gpu_list_encode(list, &ledger, 1, &first, NULL), POOL_OK);
    assert_non_null(strstr(first, "\"ledger\":null"));
    assert_non_null(strstr(first, "\"ledger\":{\"device\":\"GPU-1\""));
    assert_non_null(strstr(first, "\"available_bytes\":42"));
    free(first);
    pool_gpu_list_free(list);
    pool_gpu_list_free(read);
}

static void test_readings_a_driver_does_not_give(void **state)
{
    (void)state;
    struct pool_gpu_list *list = calloc(1, sizeof *list);
    struct pool_gpu_list *read = NULL;
    assert_non_null(list);
    struct pool_gpu_info *gpu = pool_gpu_list_append(list);
    assert_non_null(gpu);
    snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-x");
    memset(gpu->name, 0xff, sizeof gpu->name - 1); /* each byte becomes three, the room does not grow */
    gpu->vram_total_bytes = 5;                     /* means nothing */
    gpu->health = POOL_GPU_UNHEALTHY;
    char *first = NULL;
    char *second = NULL;
    assert_int_equal(pool_gpu_list_encode(list, NULL, 0, &first, NULL), POOL_OK);
    static const char *const nulls[] = { "vram_total_bytes", "vram_free_bytes", "temperature_celsius",
                                         "ecc_enabled",      "pci_bus_id",      "processes",
                                         "health_reason",    "parent_uuid" };
    for (size_t i = 0; i < sizeof nulls / sizeof nulls[0]; i++) {
        char member[64];
        snprintf(member, sizeof member, "\"%s\":null", nulls[i]);
        if (!strstr(first, member))
            fail_msg("no %s in %s", member, first);
    }
    assert_non_null(strstr(first, "\"healthy\":false"));
    assert_int_equal(pool_gpu_list_decode(first, strlen(first), &read, NULL), POOL_OK);
    assert_false(read->gpus[0]->is_vram_known || read->gpus[0]->are_processes_known);
    assert_int_equal(read->gpus[0]->health, POOL_GPU_UNHEALTHY);
    assert_int_equal(strlen(read->gpus[0]->name), (sizeof gpu->name - 1) / 3 * 3);
    assert_int_equal(pool_gpu_list_encode(read, NULL, 0, &second, NULL), POOL_OK);
    assert_string_equal(first, second);
    pool_gpu_list_free(list);
    pool_gpu_list_free(read);
    free(first);
    free(second);
}

static void test_processes_known_to_be_none(void **state)
{
    (void)state;
    struct pool_gpu_list *read = NULL;
    const char *json =
        "{\"gpus\":[{\"uuid\":\"GPU-x\",\"processes\":[],\"vram_total_bytes\":1,\"vram_free_bytes\":1}]}";
    assert_int_equal(pool_gpu_list_decode(json, strlen(json), &read, NULL), POOL_OK);
    assert_true(read->gpus[0]->are_processes_known);
    assert_false(read->gpus[0]->is_vram_known); /* one of the sizes is missing */
    pool_gpu_list_free(read);
}

static void test_long_text_of_another_version_is_cut_at_a_character(void **state)
{
    (void)state;
    struct pool_gpu_list *read = NULL;
    struct strbuf b = STRBUF_INIT(4096);
    strbuf_add_text(&b, "{\"gpus\":[{\"uuid\":\"GPU-x\",\"pci_bus_id\":\"");
    for (int i = 0; i < 40; i++)
        strbuf_add_text(&b, "\xc3\xa9");
    strbuf_add_text(&b, "\"}]}");
    char *json = strbuf_take(&b);
    assert_non_null(json);
    enum pool_code code = pool_gpu_list_decode(json, strlen(json), &read, NULL);
    free(json);
    assert_int_equal(code, POOL_OK);
    assert_int_equal(strlen(read->gpus[0]->pci_bus_id), 30);
    pool_gpu_list_free(read);
}

static void test_state_there_and_back(void **state)
{
    (void)state;
    struct pool_status_response *status = sample_status();
    struct pool_status_response *read = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    char *first = NULL;
    char *second = NULL;
    assert_int_equal(pool_status_response_encode(status, &first, NULL), POOL_OK);
    assert_all_shown(first, &status_table);
    assert_all_shown(first, &capacity_table);
    assert_all_shown(first, &ledger_table);
    if (pool_status_response_decode(first, strlen(first), &read, &err) != POOL_OK)
        fail_msg("%s: %s", err.field, err.message);
    assert_int_equal(read->n_ledgers, 3);
    assert_string_equal(read->ledgers[0].device, "GPU-1");
    assert_string_equal(read->ledgers[1].device, "host");
    assert_string_equal(read->ledgers[2].device, "GPU-lost");
    assert_true(read->ledgers[0].n_workers == status->ledgers[2].n_workers);
    assert_int_equal(read->gpus->n_gpus, 2);
    assert_int_equal(read->workers->n_workers, 2);
    assert_true(read->n_ports_free == status->n_ports_free && read->n_workers_max == status->n_workers_max);
    assert_int_equal(pool_status_response_encode(read, &second, NULL), POOL_OK);
    assert_string_equal(first, second);
    pool_status_response_free(status);
    pool_status_response_free(read);
    free(first);
    free(second);
    pool_status_response_free(NULL);
}

static void test_empty_state(void **state)
{
    (void)state;
    struct pool_status_response empty = { 0 };
    struct pool_status_response *read = NULL;
    char *first = NULL;
    char *second = NULL;
    assert_int_equal(pool_status_response_encode(&empty, &first, NULL), POOL_OK);
    assert_string_equal(first,
                        "{\"pool_id\":null,\"timestamp\":null,\"generation\":null,\"gpus\":[],"
                        "\"gpu_inventory\":null,\"host_memory\":null,\"lost_ledgers\":[],\"workers\":[],"
                        "\"gpu_locks\":{\"directory\":null,\"shared\":false,\"reason\":null},"
                        "\"capacity\":{\"workers\":0,\"workers_max\":0,\"ports_free\":0}}");
    free(first);
    struct pool_gpu_list no_gpus = { .reason = "there is no driver" };
    struct pool_worker_list no_workers = { 0 };
    empty.gpus = &no_gpus;
    empty.workers = &no_workers;
    assert_int_equal(pool_status_response_encode(&empty, &first, NULL), POOL_OK);
    assert_int_equal(pool_status_response_decode(first, strlen(first), &read, NULL), POOL_OK);
    assert_string_equal(read->gpus->reason, "there is no driver");
    assert_int_equal(pool_status_response_encode(read, &second, NULL), POOL_OK);
    assert_string_equal(first, second);
    pool_status_response_free(read);
    free(first);
    free(second);
}

static void test_readers_of_the_state(void **state)
{
    (void)state;
    static const char *const refused[][2] = {
        { "[]", "" },
        { "{\"pool_id\":1}", "pool_id" },
        { "{\"timestamp\":1}", "timestamp" },
        { "{\"gpus\":1}", "gpus" },
        { "{\"gpus\":[{\"uuid\":1}]}", "gpus[0].uuid" },
        { "{\"gpus\":[{\"uuid\":\"a\"},{\"uuid\":\"b\",\"processes\":[{},{\"pid\":\"x\"}]}]}",
          "gpus[1].processes[1].pid" },
        { "{\"gpus\":[{\"uuid\":\"a\",\"gpu_id\":4294967296}]}", "gpus[0].gpu_id" },
        { "{\"gpus\":[{\"uuid\":\"a\",\"gpu_id\":-1}]}", "gpus[0].gpu_id" },
        { "{\"gpus\":[{\"uuid\":\"a\",\"ledger\":{}}]}", "gpus[0].ledger.device" },
        { "{\"gpus\":[{\"uuid\":\"a\",\"ledger\":1}]}", "gpus[0].ledger" },
        { "{\"gpu_inventory\":[]}", "gpu_inventory" },
        { "{\"gpu_inventory\":{\"source\":1}}", "gpu_inventory.source" },
        { "{\"host_memory\":{\"device\":\"host\",\"free_bytes\":1.5}}", "host_memory.free_bytes" },
        { "{\"host_memory\":[]}", "host_memory" },
        { "{\"lost_ledgers\":{}}", "lost_ledgers" },
        { "{\"lost_ledgers\":[{\"device\":\"a\"},{\"device\":1}]}", "lost_ledgers[1].device" },
        { "{\"lost_ledgers\":[1]}", "lost_ledgers[0]" },
        { "{\"workers\":[{}]}", "workers[0].worker_id" },
        { "{\"capacity\":1}", "capacity" },
        { "{\"capacity\":{\"ports_free\":\"1\"}}", "capacity.ports_free" },
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct pool_error err = POOL_ERROR_INIT;
        struct pool_status_response *read = NULL;
        enum pool_code code = pool_status_response_decode(refused[i][0], strlen(refused[i][0]), &read, &err);
        if (code != POOL_INVALID_REQUEST || strcmp(err.field, refused[i][1]) != 0)
            fail_msg("%s: %s, field '%s', %s", refused[i][0], pool_code_name(code), err.field, err.message);
        assert_null(read);
    }
}

static void test_models(void **state)
{
    (void)state;
    struct pool_model_metadata metadata = { 0 };
    struct pool_model model = { 0 };
    struct pool_model_header header = { 0 };
    fill_fields(&model_table, &metadata, 1);
    fill_fields(&model_on_disk_table, &model, 2);
    fill_fields(&model_header_table, &header, 3);
    char *json = NULL;
    assert_int_equal(pool_model_encode(&metadata, &model, &header, &json, NULL), POOL_OK);
    assert_all_shown(json, &model_table);
    assert_all_shown(json, &model_file_table);
    assert_all_shown(json, &model_on_disk_table);
    assert_all_shown(json, &model_header_table);
    json_t *parsed = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(parsed);
    assert_true(json_is_array(json_object_get(parsed, "files")));
    assert_true(json_is_object(json_object_get(parsed, "on_disk")));
    json_decref(parsed);
    free(json);

    header.is_size_known = false;
    metadata.size_bytes = -1;
    assert_int_equal(pool_model_encode(&metadata, NULL, &header, &json, NULL), POOL_OK);
    assert_non_null(strstr(json, "\"size_bytes\":null"));
    assert_non_null(strstr(json, "\"on_disk\":null"));
    assert_non_null(strstr(json, "\"tensor_bytes\":null"));
    free(json);
    fields_clear(&model_table, &metadata);
    fields_clear(&model_on_disk_table, &model);
    fields_clear(&model_header_table, &header);

    assert_int_equal(pool_model_encode(NULL, NULL, NULL, &json, NULL), POOL_OK);
    parsed = json_loads(json, 0, NULL);
    assert_non_null(parsed);
    assert_true(json_is_null(json_object_get(parsed, "id")));
    assert_true(json_is_null(json_object_get(parsed, "size_bytes")));
    json_decref(parsed);
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpus_there_and_back),
        cmocka_unit_test(test_readings_a_driver_does_not_give),
        cmocka_unit_test(test_processes_known_to_be_none),
        cmocka_unit_test(test_long_text_of_another_version_is_cut_at_a_character),
        cmocka_unit_test(test_state_there_and_back),
        cmocka_unit_test(test_empty_state),
        cmocka_unit_test(test_readers_of_the_state),
        cmocka_unit_test(test_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
