/*
 * Workers as values: names, every pair of the transition table, records, labels, ids, and the list of fields.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pool/worker.h>

#include "base/cleanup.h"
#include "core/worker_fields.h"
#include "sample_worker.h"

static void test_names(void **state)
{
    (void)state;
    static const char *const statuses[] = { "spawning", "ready", "busy", "idle", "stopping", "stopped" };
    for (unsigned i = 0; i < 6; i++) {
        enum pool_worker_status status = POOL_WORKER_SPAWNING;
        assert_string_equal(pool_worker_status_name((enum pool_worker_status)i), statuses[i]);
        assert_true(pool_worker_status_from_name(statuses[i], &status));
        assert_int_equal(status, i);
    }
    enum pool_worker_status status = POOL_WORKER_IDLE;
    assert_false(pool_worker_status_from_name("Ready", &status));
    assert_false(pool_worker_status_from_name("", &status));
    assert_false(pool_worker_status_from_name(NULL, &status));
    assert_int_equal(status, POOL_WORKER_IDLE);
    assert_string_equal(pool_worker_status_name((enum pool_worker_status)6), "unknown");

    enum pool_stop_reason reason = POOL_STOP_NONE;
    assert_true(pool_stop_reason_from_name("gpu_lost", &reason));
    assert_int_equal(reason, POOL_STOP_GPU_LOST);
    assert_string_equal(pool_stop_reason_name(POOL_STOP_LOST), "lost");
    assert_false(pool_stop_reason_from_name("gone", &reason));
    enum pool_activity activity = POOL_ACTIVITY_NONE;
    assert_true(pool_activity_from_name("llama-server", &activity));
    assert_int_equal(activity, POOL_ACTIVITY_LLAMA_SERVER);
    assert_false(pool_activity_from_name("llama_server", &activity));
    assert_string_equal(pool_activity_name(POOL_ACTIVITY_VLLM), "vllm");
    assert_string_equal(pool_port_proof_name(POOL_PORT_PROOF_PROCESS_TREE), "process_tree");
    assert_string_equal(pool_worker_event_name(POOL_EVENT_MAIN_EXITED), "main_exited");
    assert_string_equal(pool_worker_event_name((enum pool_worker_event)99), "unknown");
}

/* Rows as in the life of a worker; columns: ready_proven request_seen requests_done stop_requested gone main_exited. */
static const struct {
    const char *from;
    const char *to[6]; /* NULL: CONFLICT */
} expected[] = {
    { "spawning", { "ready", "spawning", "spawning", "stopping", "stopped", "stopping" } },
    { "ready", { "ready", "busy", "ready", "stopping", "stopped", "stopping" } },
    { "busy", { "busy", "busy", "idle", "stopping", "stopped", "stopping" } },
    { "idle", { "idle", "busy", "idle", "stopping", "stopped", "stopping" } },
    { "stopping", { "stopping", "stopping", "stopping", "stopping", "stopped", "stopping" } },
    { "stopped", { NULL, NULL, NULL, NULL, "stopped", NULL } },
};
static const char *const events[] = { "ready_proven",   "request_seen", "requests_done",
                                      "stop_requested", "gone",         "main_exited" };

static void check_transition(enum pool_worker_status from, enum pool_worker_event event, const char *to)
{
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_worker_status next = (enum pool_worker_status)77;
    enum pool_code code = pool_worker_transition(from, event, &next, &err);
    if (to) {
        assert_int_equal(code, POOL_OK);
        assert_string_equal(pool_worker_status_name(next), to);
        assert_int_equal(err.code, POOL_OK);
    } else {
        assert_int_equal(code, POOL_CONFLICT);
        assert_int_equal(err.code, POOL_CONFLICT);
        assert_false(err.is_retriable);
        assert_int_equal(next, 77);
    }
    assert_int_equal(pool_worker_transition(from, event, &next, NULL), code);
}

static void test_every_transition(void **state)
{
    (void)state;
    assert_int_equal(POOL_WORKER_N_STATUSES, 6);
    assert_int_equal(POOL_WORKER_N_EVENTS, 6);
    for (unsigned i = 0; i < 6; i++) {
        assert_string_equal(pool_worker_status_name((enum pool_worker_status)i), expected[i].from);
        for (unsigned j = 0; j < 6; j++) {
            assert_string_equal(pool_worker_event_name((enum pool_worker_event)j), events[j]);
            check_transition((enum pool_worker_status)i, (enum pool_worker_event)j, expected[i].to[j]);
        }
    }
    enum pool_worker_status next;
    assert_int_equal(pool_worker_transition((enum pool_worker_status)6, POOL_EVENT_GONE, &next, NULL),
                     POOL_INVALID_REQUEST);
    assert_int_equal(pool_worker_transition(POOL_WORKER_READY, (enum pool_worker_event)6, &next, NULL),
                     POOL_INVALID_REQUEST);
}

/* Every member but the labels is in the list once: what is left between them is padding, never room for a member. */
static void test_field_list_is_whole(void **state)
{
    (void)state;
    unsigned char covered[sizeof(struct pool_worker_info)] = { 0 };
    for (size_t i = 0; i < WORKER_N_FIELDS; i++) {
        for (size_t j = 0; j < worker_fields[i].n_bytes; j++) {
            assert_int_equal(covered[worker_fields[i].offset + j], 0);
            covered[worker_fields[i].offset + j] = 1;
        }
    }
    memset(covered + offsetof(struct pool_worker_info, n_labels), 1, sizeof(size_t));
    memset(covered + offsetof(struct pool_worker_info, labels), 1, sizeof(void *));
    size_t n_gap = 0;
    for (size_t i = 0; i < sizeof covered; i++) {
        n_gap = covered[i] ? 0 : n_gap + 1;
        assert_true(n_gap < sizeof(int64_t));
    }
    size_t n_texts = 0;
    for (size_t i = 0; i < WORKER_N_FIELDS; i++) {
        if (worker_fields[i].kind == WORKER_FIELD_TEXT) {
            assert_true(n_texts < (size_t)WORKER_N_TEXTS);
            assert_int_equal(worker_text_offsets[n_texts++], worker_fields[i].offset);
        }
    }
    assert_int_equal(n_texts, WORKER_N_TEXTS);
}

static void test_new_and_copy(void **state)
{
    (void)state;
    CLEANUP_WORKER struct pool_worker_info *empty = pool_worker_info_new();
    assert_non_null(empty);
    assert_int_equal(empty->status, POOL_WORKER_SPAWNING);
    assert_int_equal(empty->gpu_id, -1);
    assert_true(empty->is_healthy);
    assert_null(empty->worker_id);
    CLEANUP_WORKER struct pool_worker_info *empty_copy = pool_worker_info_copy(empty);
    assert_non_null(empty_copy);
    assert_null(differing_field(empty, empty_copy));

    CLEANUP_WORKER struct pool_worker_info *full = full_worker("full", 3);
    assert_non_null(full);
    CLEANUP_WORKER struct pool_worker_info *copy = pool_worker_info_copy(full);
    assert_non_null(copy);
    assert_null(differing_field(full, copy));
    for (size_t i = 0; i < WORKER_N_TEXTS; i++)
        assert_ptr_not_equal(*worker_text(full, i), *worker_text(copy, i));
    for (size_t i = 0; i < full->n_labels; i++)
        assert_ptr_not_equal(full->labels[i].value, copy->labels[i].value);
    pool_worker_info_free(NULL);
}

/* The comparison the other tests rest on sees a change of each field. */
static void test_every_field_is_compared(void **state)
{
    (void)state;
    CLEANUP_WORKER struct pool_worker_info *a = full_worker("same", 3);
    assert_non_null(a);
    for (size_t i = 1; i < WORKER_N_FIELDS; i++) {
        CLEANUP_WORKER struct pool_worker_info *b = pool_worker_info_copy(a);
        assert_non_null(b);
        assert_true(fill_field(b, i, 8));
        assert_string_equal(differing_field(a, b), worker_fields[i].name);
    }
}

static void test_labels(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    CLEANUP_WORKER struct pool_worker_info *worker = pool_worker_info_new();
    assert_non_null(worker);
    assert_null(pool_worker_info_label(worker, "team"));
    assert_int_equal(pool_worker_info_set_label(worker, "team", "a", &err), POOL_OK);
    assert_int_equal(pool_worker_info_set_label(worker, "stage", "", &err), POOL_OK);
    assert_int_equal(pool_worker_info_set_label(worker, "team", "b", &err), POOL_OK);
    assert_int_equal(worker->n_labels, 2);
    assert_string_equal(pool_worker_info_label(worker, "team"), "b");
    assert_string_equal(pool_worker_info_label(worker, "stage"), "");
    assert_null(pool_worker_info_label(worker, NULL));
    assert_int_equal(pool_worker_info_set_label(worker, "team", pool_worker_info_label(worker, "team"), &err),
                     POOL_OK);
    assert_string_equal(pool_worker_info_label(worker, "team"), "b");
    for (int i = 2; i < POOL_LABELS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(pool_worker_info_set_label(worker, name, "v", &err), POOL_OK);
    }
    assert_int_equal(pool_worker_info_set_label(worker, "one-more", "v", &err), POOL_INVALID_REQUEST);
    assert_string_equal(err.field, "labels.one-more");
    assert_int_equal(pool_worker_info_set_label(worker, "team", "c", &err), POOL_OK);
    assert_int_equal(worker->n_labels, POOL_LABELS_MAX);
}

static void test_label_limits(void **state)
{
    (void)state;
    char name[POOL_LABEL_NAME_MAX + 2];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    char value[POOL_LABEL_VALUE_MAX + 2];
    memset(value, 'v', sizeof value);
    value[sizeof value - 1] = '\0';
    const struct {
        const char *name, *value;
        bool is_fine;
    } cases[] = {
        { "a", "x", true },
        { "A.b_c/d-9", "with = and space", true },
        { "9", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xed\x9f\xbf\xf4\x8f\xbf\xbf", true },
        { name + 1, value + 1, true },
        { name, "x", false },
        { "a", value, false },
        { "", "x", false },
        { NULL, "x", false },
        { "a", NULL, false },
        { "-a", "x", false },
        { "a=b", "x", false },
        { "a b", "x", false },
        { "a\n", "x", false },
        { "\xc3\xa9", "x", false },
        { "a", "x\n", false },
        { "a", "\x1f", false },
        { "a", "\x7f", false },
        { "a", "\x80", false },
        { "a", "\xc3", false },
        { "a", "\xc0\xaf", false },         /* overlong */
        { "a", "\xe0\x80\xaf", false },     /* overlong */
        { "a", "\xed\xa0\x80", false },     /* surrogate */
        { "a", "\xf4\x90\x80\x80", false }, /* above U+10FFFF */
        { "a", "\xf0\x80\x80\xaf", false }, /* overlong */
        { "a", "\xe2\x82", false },         /* cut */
        { "a", "\xff", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_error err = POOL_ERROR_INIT;
        CLEANUP_WORKER struct pool_worker_info *worker = pool_worker_info_new();
        assert_non_null(worker);
        enum pool_code code = pool_worker_info_set_label(worker, cases[i].name, cases[i].value, &err);
        if ((code == POOL_OK) != cases[i].is_fine)
            fail_msg("case %zu: %s", i, pool_code_name(code));
        assert_int_equal(worker->n_labels, cases[i].is_fine ? 1 : 0);
        assert_true(cases[i].is_fine ||
                    (code == POOL_INVALID_REQUEST && strncmp(err.field, "labels.", 7) == 0));
    }
}

static void test_ids(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        bool is_valid;
    } cases[] = {
        { "a", true },
        { "0", true },
        { "worker-7b0c1f9e-5a80-4b1b-9d53-1c2d3e4f5a6b", true },
        { "A.b_c-d", true },
        { "0123456789012345678901234567890123456789012345678901234567890123", true },
        { "01234567890123456789012345678901234567890123456789012345678901234", false },
        { "", false },
        { NULL, false },
        { ".", false },
        { "..", false },
        { "-a", false },
        { "_a", false },
        { "a/b", false },
        { "a b", false },
        { "a\n", false },
        { "\xc3\xa9", false },
        { "a\xff", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(pool_worker_id_is_valid(cases[i].id), cases[i].is_valid);
}

static void test_check(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    CLEANUP_WORKER struct pool_worker_info *worker = full_worker("fine", 5);
    assert_non_null(worker);
    assert_int_equal(worker_info_check(worker, &err), POOL_OK);
#define REFUSES(member, value, field_name)                                       \
    do {                                                                         \
        __typeof__(worker->member) before_ = worker->member;                     \
        worker->member = (value);                                                \
        assert_int_equal(worker_info_check(worker, &err), POOL_INVALID_REQUEST); \
        assert_string_equal(err.field, field_name);                              \
        worker->member = before_;                                                \
        assert_int_equal(worker_info_check(worker, NULL), POOL_OK);              \
    } while (0)
    REFUSES(port, -1, "port");
    REFUSES(port, 65536, "port");
    REFUSES(gpu_id, -2, "gpu_id");
    REFUSES(status, (enum pool_worker_status)6, "status");
    REFUSES(stop_reason, (enum pool_stop_reason)99, "stop_reason");
    REFUSES(activity, (enum pool_activity)3, "activity");
    REFUSES(reserved_bytes, -1, "reserved_bytes");
    REFUSES(worker_id, NULL, "worker_id");
    REFUSES(n_labels, (size_t)POOL_LABELS_MAX + 1, "labels");
    REFUSES(labels[1].value, (char[]){ "\n" },
            "labels.team.a/b-00000000000000000000000000000000000000000000000000006");
    REFUSES(labels[1].name, worker->labels[0].name,
            "labels.team.a/b-00000000000000000000000000000000000000000000000000005");
    CLEANUP_FREE char *big = malloc(POOL_WORKER_TEXT_MAX + 2);
    assert_non_null(big);
    memset(big, 'b', POOL_WORKER_TEXT_MAX + 1);
    big[POOL_WORKER_TEXT_MAX + 1] = '\0';
    REFUSES(uri, big, "uri");
    REFUSES(worker_id, big, "worker_id");
#undef REFUSES
    memset(worker->process.boot_id, 'x', sizeof worker->process.boot_id);
    assert_int_equal(worker_info_check(worker, &err), POOL_INVALID_REQUEST);
    assert_string_equal(err.field, "boot_id");
}

static void test_list(void **state)
{
    (void)state;
    struct pool_worker_list *list = calloc(1, sizeof *list);
    assert_non_null(list);
    for (int i = 0; i < 100; i++) {
        struct pool_worker_info *worker = pool_worker_info_new();
        assert_non_null(worker);
        worker->port = i;
        assert_true(worker_list_append(list, worker));
    }
    assert_int_equal(list->n_workers, 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(list->workers[i]->port, i);
    pool_worker_list_free(list);
    pool_worker_list_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_every_transition),
        cmocka_unit_test(test_field_list_is_whole),
        cmocka_unit_test(test_new_and_copy),
        cmocka_unit_test(test_every_field_is_compared),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_label_limits),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
