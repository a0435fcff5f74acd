/*
 * Answers about workers: every field there and back byte by byte, broken texts, what a reader puts up with.
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

#include "core/worker_fields.h"
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

static char *encode_worker(const struct pool_worker_info *worker)
{
    char *json = NULL;
    assert_int_equal(pool_worker_info_encode(worker, &json, NULL), POOL_OK);
    return json;
}

/* Encodes, decodes, encodes; the two texts must be the same. Gives the text. */
static char *worker_there_and_back(const struct pool_worker_info *worker, struct pool_worker_info **ret_read)
{
    struct pool_error err = POOL_ERROR_INIT;
    char *first = encode_worker(worker);
    if (pool_worker_info_decode(first, strlen(first), ret_read, &err) != POOL_OK)
        fail_msg("%s: %s: %s", first, err.field, err.message);
    char *second = encode_worker(*ret_read);
    assert_string_equal(first, second);
    free(second);
    return first;
}

/* Every member of the record that the registry keeps is the same on both sides. */
static void assert_same_worker(const struct pool_worker_info *a, const struct pool_worker_info *b)
{
    for (size_t i = 0; i < WORKER_N_FIELDS; i++) {
        const struct worker_field *field = &worker_fields[i];
        const void *one = field_at(a, field->offset);
        const void *other = field_at(b, field->offset);
        if (strcmp(field->name, "spawn_token_sha256") == 0)
            continue;
        bool is_same = memcmp(one, other, field->n_bytes) == 0;
        if (field->kind == WORKER_FIELD_TEXT)
            is_same = strcmp(*(char *const *)one, *(char *const *)other) == 0;
        else if (field->kind == WORKER_FIELD_CHARS)
            is_same = strcmp(one, other) == 0;
        else if (field->kind == WORKER_FIELD_READING)
            is_same =
                ((const struct pool_reading *)one)->is_present ==
                    ((const struct pool_reading *)other)->is_present &&
                ((const struct pool_reading *)one)->value == ((const struct pool_reading *)other)->value;
        if (!is_same)
            fail_msg("%s is not the same", field->name);
    }
    assert_int_equal(a->n_labels, b->n_labels);
    for (size_t i = 0; i < a->n_labels; i++) {
        assert_string_equal(a->labels[i].name, b->labels[i].name);
        assert_string_equal(a->labels[i].value, b->labels[i].value);
    }
}

static void test_worker_there_and_back(void **state)
{
    (void)state;
    struct pool_worker_info *worker = sample_worker(0);
    struct pool_worker_info *read = NULL;
    char *json = worker_there_and_back(worker, &read);
    assert_all_shown(json, &worker_table);
    assert_same_worker(worker, read);
    pool_worker_info_free(read);
    pool_worker_info_free(worker);
    free(json);
}

static void test_every_member_of_a_worker_has_a_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < WORKER_N_FIELDS; i++) {
        bool is_shown = false;
        for (size_t at = 0; at < worker_table.n_fields; at++) {
            const struct field *field = &worker_table.fields[at];
            is_shown |= field->offset == worker_fields[i].offset;
            for (size_t part = 0; field->table && part < field->table->n_fields; part++)
                is_shown |= field->offset + field->table->fields[part].offset == worker_fields[i].offset;
        }
        bool is_secret = strcmp(worker_fields[i].name, "spawn_token_sha256") == 0;
        if (is_shown == is_secret)
            fail_msg("%s", worker_fields[i].name);
    }
}

static void test_worker_on_the_cpu(void **state)
{
    (void)state;
    struct pool_worker_info *worker = sample_worker(1);
    struct pool_worker_info *read = NULL;
    worker->reserved_bytes = 77;
    worker->observed_bytes = (struct pool_reading){ true, 78 };
    char *json = worker_there_and_back(worker, &read);
    assert_non_null(strstr(json, "\"gpu_id\":null,\"gpu_index\":null"));
    assert_non_null(strstr(json, "\"reserved_vram_bytes\":0,\"reserved_memory_bytes\":77"));
    assert_non_null(strstr(json, "\"observed_vram_bytes\":null,\"observed_memory_bytes\":78"));
    assert_true(read->reserved_bytes == 77 && read->observed_bytes.value == 78);
    assert_null(read->gpu_uuid);
    assert_true(read->gpu_id == -1);
    pool_worker_info_free(read);
    pool_worker_info_free(worker);
    free(json);
}

static void test_empty_worker(void **state)
{
    (void)state;
    struct pool_worker_info *worker = pool_worker_info_new();
    struct pool_worker_info *read = NULL;
    assert_non_null(worker);
    worker->worker_id = strdup("w");
    char *json = worker_there_and_back(worker, &read);
    static const char *const nulls[] = { "exit_code",     "exit_signal", "exit_signal_name", "stop_reason",
                                         "port_proof",    "pid",         "created_at",       "ready_at",
                                         "stopped_at",    "gpu_index",   "stop_phase",       "log_path",
                                         "health_reason", "boot_id",     "pidfd_inode" };
    for (size_t i = 0; i < sizeof nulls / sizeof nulls[0]; i++) {
        char member[64];
        snprintf(member, sizeof member, "\"%s\":null", nulls[i]);
        if (!strstr(json, member))
            fail_msg("no %s in %s", member, json);
    }
    assert_non_null(strstr(json, "\"capabilities\":[]"));
    assert_non_null(strstr(json, "\"labels\":{}"));
    assert_non_null(strstr(json, "\"healthy\":true"));
    pool_worker_info_free(read);
    pool_worker_info_free(worker);
    free(json);
}

static void test_how_a_worker_ended(void **state)
{
    (void)state;
    static const struct {
        int64_t number;
        const char *member;
    } cases[] = {
        { 9, "\"exit_signal\":9,\"exit_signal_name\":\"SIGKILL\"" },
        { 15, "\"exit_signal\":15,\"exit_signal_name\":\"SIGTERM\"" },
        { 0, "\"exit_signal\":0,\"exit_signal_name\":null" },
        { 9999, "\"exit_signal\":9999,\"exit_signal_name\":null" },
        { INT64_MIN, "\"exit_signal_name\":null" },
    };
    struct pool_worker_info *worker = pool_worker_info_new();
    assert_non_null(worker);
    worker->worker_id = strdup("w");
    worker->status = POOL_WORKER_STOPPED;
    worker->stop_reason = POOL_STOP_SIGNALLED;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        worker->exit_signal = (struct pool_reading){ true, cases[i].number };
        char *json = encode_worker(worker);
        assert_non_null(strstr(json, cases[i].member));
        assert_non_null(strstr(json, "\"stop_reason\":\"signalled\""));
        free(json);
    }
    pool_worker_info_free(worker);
}

static void test_the_token_is_not_shown(void **state)
{
    (void)state;
    struct pool_worker_info *worker = pool_worker_info_new();
    assert_non_null(worker);
    worker->worker_id = strdup("w");
    worker->spawn_token_sha256 = strdup("0123456789abcdef");
    char *json = encode_worker(worker);
    assert_null(strstr(json, "0123456789abcdef"));
    assert_null(strstr(json, "token"));
    pool_worker_info_free(worker);
    free(json);
}

static void test_broken_texts_are_replaced(void **state)
{
    (void)state;
    struct pool_worker_info *worker = pool_worker_info_new();
    struct pool_worker_info *read = NULL;
    assert_non_null(worker);
    worker->worker_id = strdup("w");
    worker->health_reason = strdup("a\xff"
                                   "b\xc3\xa9\xe2\x82\xed\xa0\x80\"\\\x01\x1b[0m\xf0\x9f\x98");
    char *json = worker_there_and_back(worker, &read);
#define R "\xef\xbf\xbd"
    assert_non_null(
        strstr(json, "\"health_reason\":\"a" R "b\xc3\xa9" R R R R R "\\\"\\\\\\u0001\\u001b[0m" R R R "\""));
#undef R
    json_t *parsed = json_loads(json, JSON_REJECT_DUPLICATES, NULL); /* valid in the eyes of others too */
    assert_non_null(parsed);
    json_decref(parsed);
    pool_worker_info_free(read);
    pool_worker_info_free(worker);
    free(json);
}

static void test_strange_values_do_not_stop_the_encoder(void **state)
{
    (void)state;
    struct pool_worker_info *worker = pool_worker_info_new();
    struct pool_worker_info *read = NULL;
    assert_non_null(worker);
    worker->worker_id = strdup("w");
    worker->created_wall_ms = INT64_MAX;
    worker->ready_wall_ms = INT64_MIN;
    worker->process.pid_namespace = UINT64_MAX;
    worker->process.pidfd_inode = (uint64_t)INT64_MAX + 1;
    worker->stop_reason = (enum pool_stop_reason)4711;
    worker->capabilities = strdup(",, a,b,, ,");
    char *json = worker_there_and_back(worker, &read);
    assert_non_null(strstr(json, "\"created_at\":null"));
    assert_non_null(strstr(json, "\"ready_at\":null"));
    assert_non_null(strstr(json, "\"pid_namespace\":null,\"pidfd_inode\":null"));
    assert_non_null(strstr(json, "\"stop_reason\":null"));
    assert_non_null(strstr(json, "\"capabilities\":[\"a\",\"b\"]"));
    pool_worker_info_free(read);
    pool_worker_info_free(worker);
    free(json);
}

static void test_readers_of_workers(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        const char *field; /* NULL: fine */
    } cases[] = {
        { "{\"worker_id\":\"w\",\"status\":\"ready\"}", NULL },
        { "{\"worker_id\":\"w\",\"status\":\"ready\",\"of_a_later_version\":{\"a\":[1.5]}}", NULL },
        { "{\"worker_id\":\"w\",\"status\":\"ready\",\"identity\":null,\"labels\":null}", NULL },
        { "{\"status\":\"ready\"}", "worker_id" },
        { "{\"worker_id\":\"w\"}", "status" },
        { "{\"worker_id\":\"w\",\"status\":\"sleeping\"}", "status" },
        { "{\"worker_id\":\"w\",\"status\":1}", "status" },
        { "{\"worker_id\":\"w\",\"status\":\"ready\",\"port\":\"1\"}", "port" },
        { "{\"worker_id\":\"w\",\"status\":\"ready\",\"created_at\":\"yesterday\"}", "created_at" },
        { "{\"worker_id\":\"w\",\"status\":\"ready\",\"created_at\":0}", "created_at" },
        { "{\"worker_id\":\"w\",\"status\":\"ready\",\"healthy\":\"yes\"}", "healthy" },
        { "{\"worker_id\":\"w\",\"status\":\"ready\",\"capabilities\":\"a\"}", "capabilities" },
        { "{\"worker_id\":\"w\",\"status\":\"ready\",\"capabilities\":[1]}", "capabilities" },
        { "{\"worker_id\":\"w\",\"status\":\"ready\",\"identity\":[]}", "identity" },
        { "{\"worker_id\":\"w\",\"status\":\"ready\",\"identity\":{\"boot_id\":1}}", "identity.boot_id" },
        { "{\"worker_id\":\"w\",\"status\":\"ready\",\"identity\":{\"pidfd_inode\":-1}}",
          "identity.pidfd_inode" },
        { "{\"worker_id\":\"w\",\"status\":\"ready\",\"exit_code\":1.0}", "exit_code" },
        { "{\"worker_id\":\"w\",\"status\":\"ready\",\"labels\":{\"a\":{}}}", "labels.a" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_error err = POOL_ERROR_INIT;
        struct pool_worker_info *worker = NULL;
        enum pool_code code = pool_worker_info_decode(cases[i].json, strlen(cases[i].json), &worker, &err);
        if ((code == POOL_OK) != !cases[i].field ||
            (cases[i].field && strcmp(err.field, cases[i].field) != 0))
            fail_msg("%s: field '%s', %s", cases[i].json, err.field, err.message);
        if (!cases[i].field)
            assert_true(worker->is_healthy && worker->gpu_id == -1);
        pool_worker_info_free(worker);
    }
}

static void test_lists_of_workers(void **state)
{
    (void)state;
    struct pool_worker_list *list = sample_workers(3);
    struct pool_worker_list *read = NULL;
    char *first = NULL;
    char *second = NULL;
    assert_int_equal(pool_worker_list_encode(list, &first, NULL), POOL_OK);
    assert_int_equal(pool_worker_list_decode(first, strlen(first), &read, NULL), POOL_OK);
    assert_int_equal(read->n_workers, 3);
    assert_int_equal(pool_worker_list_encode(read, &second, NULL), POOL_OK);
    assert_string_equal(first, second);
    pool_worker_list_free(list);
    pool_worker_list_free(read);
    free(first);
    free(second);

    struct pool_worker_list empty = { 0 };
    assert_int_equal(pool_worker_list_encode(&empty, &first, NULL), POOL_OK);
    assert_string_equal(first, "{\"workers\":[]}");
    assert_int_equal(pool_worker_list_decode(first, strlen(first), &read, NULL), POOL_OK);
    assert_int_equal(read->n_workers, 0);
    pool_worker_list_free(read);
    free(first);

    static const char *const refused[][2] = {
        { "{\"workers\":{}}", "workers" },
        { "{\"workers\":[1]}", "workers" },
        { "{\"workers\":[{\"worker_id\":\"w\",\"status\":\"ready\"},{\"worker_id\":\"w\"}]}",
          "workers[1].status" },
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct pool_error err = POOL_ERROR_INIT;
        read = NULL;
        assert_int_equal(pool_worker_list_decode(refused[i][0], strlen(refused[i][0]), &read, &err),
                         POOL_INVALID_REQUEST);
        assert_string_equal(err.field, refused[i][1]);
        assert_null(read);
    }
}

static void test_spawn_response_there_and_back(void **state)
{
    (void)state;
    struct pool_worker_spawn_response *filled = pool_worker_spawn_response_new();
    struct pool_worker_spawn_response *read = NULL;
    assert_non_null(filled);
    fill_fields(&worker_spawn_response_table, filled, 1);
    char *first = NULL;
    char *second = NULL;
    assert_int_equal(pool_worker_spawn_response_encode(filled, &first, NULL), POOL_OK);
    assert_all_shown(first, &worker_spawn_response_table);
    assert_int_equal(pool_worker_spawn_response_decode(first, strlen(first), &read, NULL), POOL_OK);
    assert_int_equal(pool_worker_spawn_response_encode(read, &second, NULL), POOL_OK);
    assert_string_equal(first, second);
    pool_worker_spawn_response_free(filled);
    pool_worker_spawn_response_free(read);
    free(first);
    free(second);

    char id[] = "w";
    struct pool_worker_spawn_response early = { .worker_id = id, .port = 8001 };
    assert_int_equal(pool_worker_spawn_response_encode(&early, &first, NULL), POOL_OK);
    assert_string_equal(
        first, "{\"worker_id\":\"w\",\"status\":\"spawning\",\"pid\":null,\"port\":8001,\"uri\":null,"
               "\"gpu_id\":null,\"reserved_vram_bytes\":0,\"reserved_memory_bytes\":0,"
               "\"log_path\":null}");
    free(first);
    pool_worker_spawn_response_free(NULL);
}

static void test_answers_have_a_limit(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *worker = NULL;
    char *json = calloc(POOL_ANSWER_MAX_BYTES + 1, 1);
    assert_non_null(json);
    enum pool_code code = pool_worker_info_decode(json, POOL_ANSWER_MAX_BYTES + 1, &worker, &err);
    assert_int_equal(code, POOL_PAYLOAD_TOO_LARGE);
    memset(json, 'x', POOL_ANSWER_MAX_BYTES);
    char id[] = "w";
    struct pool_worker_spawn_response response = { .worker_id = id, .uri = json };
    char *encoded = NULL;
    code = pool_worker_spawn_response_encode(&response, &encoded, &err);
    free(json);
    assert_int_equal(code, POOL_INTERNAL);
    assert_null(encoded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worker_there_and_back),
        cmocka_unit_test(test_every_member_of_a_worker_has_a_field),
        cmocka_unit_test(test_worker_on_the_cpu),
        cmocka_unit_test(test_empty_worker),
        cmocka_unit_test(test_how_a_worker_ended),
        cmocka_unit_test(test_the_token_is_not_shown),
        cmocka_unit_test(test_broken_texts_are_replaced),
        cmocka_unit_test(test_strange_values_do_not_stop_the_encoder),
        cmocka_unit_test(test_readers_of_workers),
        cmocka_unit_test(test_lists_of_workers),
        cmocka_unit_test(test_spawn_response_there_and_back),
        cmocka_unit_test(test_answers_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
