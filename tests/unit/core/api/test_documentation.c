/*
 * docs/api-types.md against the tables: its tables are made from them, its examples are decoded. With
 * POOL_UPDATE_DOCS=1 the tables in the page are written anew.
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

#include "base/file.h"
#include "core/api/tables.h"

static const struct field_table *const tables[] = {
    &worker_spawn_request_table,
    &may_displace_table,
    &displacement_table,
    &start_room_table,
    &worker_spawn_response_table,
    &worker_stop_request_table,
    &worker_drain_request_table,
    &worker_ready_callback_table,
    &gpu_cordon_request_table,
    &gpu_cordon_table,
    &model_verify_request_table,
    &model_verification_table,
    &model_stage_request_table,
    &model_staging_table,
    &worker_table,
    &identity_table,
    &status_table,
    &capacity_table,
    &gpu_list_table,
    &gpu_table,
    &gpu_process_table,
    &nvlink_table,
    &gpu_peer_table,
    &ledger_table,
    &model_table,
    &model_file_table,
    &model_on_disk_table,
    &model_header_table,
    &explanation_table,
    &explain_candidate_table,
    &fact_table,
    &crash_table,
    &crash_device_table,
    &crash_memory_table,
    &crash_progress_table,
    &crash_command_table,
    &vram_sample_table,
    &device_fault_table,
    &worker_why_table,
};

static const char *page_path(void)
{
    static char path[4096];
    const char *source = getenv("POOL_SOURCE_DIR");
    snprintf(path, sizeof path, "%s/docs/api-types.md", source ? source : ".");
    return path;
}

static char *read_page(void)
{
    struct strbuf b = STRBUF_INIT(1 << 20);
    int failure = file_read(page_path(), &b);
    char *page = strbuf_take(&b);
    if (failure || !page)
        fail_msg("%s: %s", page_path(), failure ? strerror(failure) : "no memory");
    return page;
}

/* Grammars have characters that mean something in Markdown. */
static void add_escaped(struct strbuf *b, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (strchr("*_|", *p))
            strbuf_add_char(b, '\\');
        strbuf_add_char(b, *p);
    }
}

static char *render_table(const struct field_table *table)
{
    struct strbuf b = STRBUF_INIT(1 << 20);
    strbuf_add_text(&b, "| field | type | null | meaning |\n| --- | --- | --- | --- |\n");
    for (size_t i = 0; i < table->n_fields; i++) {
        const struct field *field = &table->fields[i];
        struct strbuf type = STRBUF_INIT(4096);
        field_describe(field, &type);
        const char *null_text = field_may_be_null(table, field) ? "yes" : "no";
        if (table->is_request)
            null_text = field->flags & FIELD_REQUIRED ? "required" : "optional";
        strbuf_printf(&b, "| `%s` | ", field->name);
        add_escaped(&b, strbuf_text(&type));
        strbuf_printf(&b, " | %s | %s |\n", null_text, field->about);
        strbuf_done(&type);
    }
    char *text = strbuf_take(&b);
    assert_non_null(text);
    return text;
}

/* The text between the two marks of a table in the page, as offsets. */
static void find_table(const char *page, const struct field_table *table, size_t *ret_begin, size_t *ret_end)
{
    char mark[80];
    snprintf(mark, sizeof mark, "<!-- table: %s -->\n", table->name);
    const char *begin = strstr(page, mark);
    const char *end = begin ? strstr(begin, "<!-- end -->") : NULL;
    if (!begin || !end)
        fail_msg("no table of %s in %s", table->name, page_path());
    *ret_begin = (size_t)(begin - page) + strlen(mark);
    *ret_end = (size_t)(end - page);
}

static void update_page(void)
{
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        char *page = read_page();
        char *text = render_table(tables[i]);
        size_t begin;
        size_t end;
        find_table(page, tables[i], &begin, &end);
        struct strbuf b = STRBUF_INIT(1 << 20);
        strbuf_add(&b, page, begin);
        strbuf_add_text(&b, text);
        strbuf_add_text(&b, page + end);
        assert_int_equal(file_replace(page_path(), strbuf_text(&b), b.n, 0644), 0);
        strbuf_done(&b);
        free(text);
        free(page);
    }
}

static void test_tables_are_those_of_the_code(void **state)
{
    (void)state;
    if (getenv("POOL_UPDATE_DOCS"))
        update_page();
    char *page = read_page();
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        char *expected = render_table(tables[i]);
        size_t begin;
        size_t end;
        find_table(page, tables[i], &begin, &end);
        if (end - begin != strlen(expected) || memcmp(page + begin, expected, end - begin) != 0)
            fail_msg("the table of %s has changed; run this test with POOL_UPDATE_DOCS=1 and look at the "
                     "difference",
                     tables[i]->name);
        free(expected);
    }
    free(page);
}

/* Decodes an example by the name in the mark before it. */
static enum pool_code decode_example(const char *name, const char *json, size_t n, struct pool_error *err)
{
    enum pool_code code = POOL_INTERNAL;
    if (strcmp(name, "WorkerSpawnRequest") == 0) {
        struct pool_worker_spawn_request *request = NULL;
        code = pool_worker_spawn_request_decode(json, n, &request, err);
        pool_worker_spawn_request_free(request);
    } else if (strcmp(name, "WorkerSpawnResponse") == 0) {
        struct pool_worker_spawn_response *response = NULL;
        code = pool_worker_spawn_response_decode(json, n, &response, err);
        pool_worker_spawn_response_free(response);
    } else if (strcmp(name, "WorkerStopRequest") == 0) {
        struct pool_worker_stop_request *request = NULL;
        code = pool_worker_stop_request_decode(json, n, &request, err);
        pool_worker_stop_request_free(request);
    } else if (strcmp(name, "PoolStatusResponse") == 0) {
        struct pool_status_response *response = NULL;
        code = pool_status_response_decode(json, n, &response, err);
        pool_status_response_free(response);
    } else if (strcmp(name, "Error") == 0) {
        struct pool_error error = POOL_ERROR_INIT;
        code = pool_error_decode(json, n, &error, err);
    } else {
        fail_msg("no example can be of %s", name);
    }
    return code;
}

static void test_examples_are_taken(void **state)
{
    (void)state;
    char *page = read_page();
    static const char mark[] = "<!-- example: ";
    static const char fence[] = "```json\n";
    int n_examples = 0;
    for (const char *p = strstr(page, mark); p; p = strstr(p + 1, mark)) {
        char name[64];
        const char *from = p + sizeof mark - 1;
        size_t n_name = strcspn(from, " ");
        assert_in_range(n_name, 1, sizeof name - 1);
        memcpy(name, from, n_name);
        name[n_name] = '\0';
        const char *json = strstr(p, fence);
        assert_non_null(json);
        json += sizeof fence - 1;
        const char *end = strstr(json, "```");
        assert_non_null(end);
        struct pool_error err = POOL_ERROR_INIT;
        if (decode_example(name, json, (size_t)(end - json), &err) != POOL_OK)
            fail_msg("example of %s: %s: %s", name, err.field, err.message);
        n_examples++;
    }
    free(page);
    assert_int_equal(n_examples, 5);
}

static void test_limits_of_the_page_are_those_of_the_header(void **state)
{
    (void)state;
    char *page = read_page();
    static const struct {
        int64_t value;
        const char *text;
    } limits[] = {
        { POOL_REQUEST_MAX_BYTES >> 20, "A request has at most %lld MiB" },
        { POOL_ANSWER_MAX_BYTES >> 20, "an answer at most %lld MiB" },
        { POOL_CORRELATION_ID_MAX, "[A-Za-z0-9-]{1,%lld}" },
    };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        char text[80];
        const char *hole = strstr(limits[i].text, "%lld");
        snprintf(text, sizeof text, "%.*s%lld%s", (int)(hole - limits[i].text), limits[i].text,
                 (long long)limits[i].value, hole + 4);
        if (!strstr(page, text))
            fail_msg("the page does not say: %s", text);
    }
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables_are_those_of_the_code),
        cmocka_unit_test(test_examples_are_taken),
        cmocka_unit_test(test_limits_of_the_page_are_those_of_the_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
