/*
 * What every registry of workers must do. The whole suite runs on each implementation; what needs several
 * handles or processes runs on those whose records outlive one.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <pool/registry.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/random.h"
#include "sample_worker.h"

struct fixture {
    const char *scheme;
    bool is_persistent;
    char folder[32];
    char url[96];
    struct pool_worker_registry *registry;
};

static void assert_ok(enum pool_code code, const struct pool_error *err)
{
    if (code != POOL_OK)
        fail_msg("%s: %s", pool_code_name(code), err->message);
}
#define OK(call)                                  \
    do {                                          \
        struct pool_error why_ = POOL_ERROR_INIT; \
        struct pool_error *why = &why_;           \
        enum pool_code code_ = (call);            \
        assert_ok(code_, why);                    \
        assert_int_equal(why_.code, POOL_OK);     \
    } while (0)

static int set_up_url(struct fixture *fixture)
{
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/pool-registry-XXXXXX");
    if (!mkdtemp(fixture->folder))
        return -1;
    snprintf(fixture->url, sizeof fixture->url, "%s", fixture->scheme);
    if (fixture->is_persistent)
        snprintf(fixture->url, sizeof fixture->url, "%s%s/pool.db", fixture->scheme, fixture->folder);
    return 0;
}

static void reopen(struct fixture *fixture)
{
    pool_worker_registry_close(fixture->registry);
    fixture->registry = NULL;
    OK(pool_worker_registry_open(fixture->url, &fixture->registry, why));
}

static int set_up(void **state, const char *scheme)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (!fixture)
        return -1;
    *state = fixture;
    fixture->scheme = scheme;
    fixture->is_persistent = strcmp(scheme, "memory:") != 0;
    if (set_up_url(fixture) != 0 ||
        pool_worker_registry_open(fixture->url, &fixture->registry, NULL) != POOL_OK)
        return -1;
    return 0;
}

static int set_up_memory(void **state)
{
    return set_up(state, "memory:");
}

static int set_up_sqlite(void **state)
{
    return set_up(state, "sqlite:");
}

static int tear_down(void **state)
{
    static const char *const names[] = { "pool.db", "pool.db-wal", "pool.db-shm", "pool.db-journal" };
    struct fixture *fixture = *state;
    pool_worker_registry_close(fixture->registry);
    for (size_t i = 0; i < 4; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", fixture->folder, names[i]);
        unlink(path);
    }
    int rc = rmdir(fixture->folder);
    free(fixture);
    return rc;
}

static enum pool_code register_small(struct pool_worker_registry *registry, const char *id, int64_t port,
                                     struct pool_error *err)
{
    CLEANUP_WORKER struct pool_worker_info *worker = small_worker(id, port);
    return worker ? pool_worker_registry_register(registry, worker, err) : pool_error_no_memory(err);
}

static int64_t generation_of(struct pool_worker_registry *registry)
{
    int64_t generation = -1;
    OK(pool_worker_registry_generation(registry, &generation, why));
    return generation;
}

static size_t count(struct pool_worker_registry *registry, enum pool_registry_scope scope)
{
    CLEANUP_LIST struct pool_worker_list *list = NULL;
    OK(pool_worker_registry_list(registry, scope, &list, why));
    return list->n_workers;
}

static struct pool_worker_info *get(struct pool_worker_registry *registry, const char *id)
{
    struct pool_worker_info *worker = NULL;
    OK(pool_worker_registry_get(registry, id, &worker, why));
    return worker;
}

static void assert_not_found(struct pool_worker_registry *registry, const char *id)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *worker = NULL;
    assert_int_equal(pool_worker_registry_get(registry, id, &worker, &err), POOL_WORKER_NOT_FOUND);
    assert_int_equal(err.code, POOL_WORKER_NOT_FOUND);
    assert_null(worker);
}

static void test_empty(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(count(fixture->registry, POOL_REGISTRY_LIVE), 0);
    assert_int_equal(count(fixture->registry, POOL_REGISTRY_HISTORY), 0);
    assert_not_found(fixture->registry, "nobody");
    const char *name = pool_worker_registry_name(fixture->registry);
    assert_memory_equal(name, fixture->scheme, strlen(name));
    pool_worker_registry_close(NULL);
}

static void test_every_field_survives(void **state)
{
    struct fixture *fixture = *state;
    for (unsigned seed = 0; seed < 12; seed++) {
        char id[16];
        snprintf(id, sizeof id, "full-%u", seed);
        CLEANUP_WORKER struct pool_worker_info *worker = full_worker(id, seed);
        assert_non_null(worker);
        worker->port = 9000 + seed;
        OK(pool_worker_registry_register(fixture->registry, worker, why));
        assert_int_equal(worker->revision, 1);
    }
    if (fixture->is_persistent)
        reopen(fixture);
    for (unsigned seed = 0; seed < 12; seed++) {
        char id[16];
        snprintf(id, sizeof id, "full-%u", seed);
        CLEANUP_WORKER struct pool_worker_info *expected = full_worker(id, seed);
        assert_non_null(expected);
        expected->port = 9000 + seed;
        expected->revision = 1;
        CLEANUP_WORKER struct pool_worker_info *worker = get(fixture->registry, id);
        assert_null(differing_field(worker, expected));

        /* The history keeps them all as well. */
        worker->stop_reason = POOL_STOP_SIGNALLED;
        worker->exit_signal = (struct pool_reading){ true, 9 };
        OK(pool_worker_registry_unregister(fixture->registry, worker, why));
        expected->revision = 2;
        expected->status = POOL_WORKER_STOPPED;
        expected->stop_reason = POOL_STOP_SIGNALLED;
        expected->exit_signal = (struct pool_reading){ true, 9 };
        assert_null(differing_field(worker, expected));
        CLEANUP_WORKER struct pool_worker_info *stopped = get(fixture->registry, id);
        assert_null(differing_field(stopped, expected));
    }
}

/* Written out by hand, independent of the list of fields. */
static void test_some_fields_by_hand(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_WORKER struct pool_worker_info *worker = small_worker("hand", 8001);
    assert_non_null(worker);
    worker->gpu_id = 3;
    worker->process.pid = 4711;
    worker->process.pid_namespace = UINT64_MAX;
    worker->process.pidfd_inode = UINT64_C(1) << 63;
    snprintf(worker->process.boot_id, sizeof worker->process.boot_id, "5a80b1c2-0000-4000-8000-0123456789ab");
    worker->observed_bytes = (struct pool_reading){ true, 0 };
    worker->reserved_bytes = INT64_MAX;
    worker->is_healthy = false;
    worker->port_proof = POOL_PORT_PROOF_UID;
    worker->activity = POOL_ACTIVITY_VLLM;
    OK(pool_worker_info_set_label(worker, "team", "x", why));
    OK(pool_worker_registry_register(fixture->registry, worker, why));
    CLEANUP_WORKER struct pool_worker_info *found = get(fixture->registry, "hand");
    assert_string_equal(found->worker_id, "hand");
    assert_string_equal(found->backend, "cpu");
    assert_null(found->model_ref);
    assert_null(found->stop_phase);
    assert_int_equal(found->gpu_id, 3);
    assert_int_equal(found->port, 8001);
    assert_int_equal(found->process.pid, 4711);
    assert_true(found->process.pid_namespace == UINT64_MAX);
    assert_true(found->process.pidfd_inode == UINT64_C(1) << 63);
    assert_string_equal(found->process.boot_id, "5a80b1c2-0000-4000-8000-0123456789ab");
    assert_true(found->observed_bytes.is_present && found->observed_bytes.value == 0);
    assert_false(found->peak_bytes.is_present);
    assert_true(found->reserved_bytes == INT64_MAX);
    assert_false(found->is_healthy);
    assert_int_equal(found->port_proof, POOL_PORT_PROOF_UID);
    assert_int_equal(found->activity, POOL_ACTIVITY_VLLM);
    assert_int_equal(found->n_labels, 1);
    assert_string_equal(pool_worker_info_label(found, "team"), "x");
}

static void test_copies_in_and_out(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_WORKER struct pool_worker_info *worker = small_worker("copy", 0);
    assert_non_null(worker);
    OK(pool_worker_registry_register(fixture->registry, worker, why));
    worker->backend[0] = 'X';
    CLEANUP_WORKER struct pool_worker_info *found = get(fixture->registry, "copy");
    assert_string_equal(found->backend, "cpu");
    found->backend[0] = 'Y';
    CLEANUP_WORKER struct pool_worker_info *again = get(fixture->registry, "copy");
    assert_string_equal(again->backend, "cpu");
}

static void test_an_id_is_used_once(void **state)
{
    struct fixture *fixture = *state;
    OK(register_small(fixture->registry, "one", 8001, why));
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(register_small(fixture->registry, "one", 8002, &err), POOL_ALREADY_EXISTS);
    assert_string_equal(err.field, "worker_id");
    assert_false(err.is_retriable);
    assert_int_equal(register_small(fixture->registry, "One", 8002, NULL), POOL_OK); /* case counts */
    assert_int_equal(count(fixture->registry, POOL_REGISTRY_LIVE), 2);

    CLEANUP_WORKER struct pool_worker_info *worker = get(fixture->registry, "one");
    OK(pool_worker_registry_unregister(fixture->registry, worker, why));
    OK(register_small(fixture->registry, "one", 8001, why));
    CLEANUP_WORKER struct pool_worker_info *live = get(fixture->registry, "one");
    assert_int_equal(live->status, POOL_WORKER_SPAWNING);
    assert_int_equal(live->revision, 1);
}

static void test_a_port_is_used_once(void **state)
{
    struct fixture *fixture = *state;
    OK(register_small(fixture->registry, "one", 8001, why));
    OK(register_small(fixture->registry, "two", 8002, why));
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(register_small(fixture->registry, "three", 8001, &err), POOL_ALREADY_EXISTS);
    assert_string_equal(err.field, "port");
    assert_int_equal(pool_error_detail(&err, "port")->number, 8001);
    assert_string_equal(pool_error_detail(&err, "worker_id")->text, "one");

    CLEANUP_WORKER struct pool_worker_info *two = get(fixture->registry, "two");
    two->port = 8001;
    assert_int_equal(pool_worker_registry_update(fixture->registry, two, &err), POOL_ALREADY_EXISTS);
    assert_string_equal(err.field, "port");
    assert_int_equal(two->revision, 1);
    two->port = 65535;
    OK(pool_worker_registry_update(fixture->registry, two, why));
    OK(pool_worker_registry_update(fixture->registry, two, why)); /* its own port is no obstacle */
    OK(register_small(fixture->registry, "three", 8002, why));
    CLEANUP_WORKER struct pool_worker_info *one = get(fixture->registry, "one");
    OK(pool_worker_registry_unregister(fixture->registry, one, why));
    OK(register_small(fixture->registry, "four", 8001, why));
    /* No port yet: as many as want. */
    OK(register_small(fixture->registry, "five", 0, why));
    OK(register_small(fixture->registry, "six", 0, why));
}

static void test_update_compares_revisions(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_WORKER struct pool_worker_info *first = small_worker("cas", 8001);
    assert_non_null(first);
    assert_int_equal(pool_worker_registry_update(fixture->registry, first, NULL), POOL_WORKER_NOT_FOUND);
    OK(pool_worker_registry_register(fixture->registry, first, why));
    CLEANUP_WORKER struct pool_worker_info *second = get(fixture->registry, "cas");
    first->status = POOL_WORKER_READY;
    first->ready_wall_ms = 17;
    OK(pool_worker_registry_update(fixture->registry, first, why));
    assert_int_equal(first->revision, 2);

    struct pool_error err = POOL_ERROR_INIT;
    second->status = POOL_WORKER_STOPPING;
    assert_int_equal(pool_worker_registry_update(fixture->registry, second, &err), POOL_CONFLICT);
    assert_true(err.is_retriable);
    assert_int_equal(second->revision, 1);
    assert_int_equal(pool_worker_registry_unregister(fixture->registry, second, &err), POOL_CONFLICT);
    assert_int_equal(second->status, POOL_WORKER_STOPPING);
    CLEANUP_WORKER struct pool_worker_info *found = get(fixture->registry, "cas");
    assert_int_equal(found->status, POOL_WORKER_READY);
    assert_int_equal(found->ready_wall_ms, 17);
    assert_int_equal(found->revision, 2);

    first->revision = 3; /* of the future */
    assert_int_equal(pool_worker_registry_update(fixture->registry, first, &err), POOL_CONFLICT);
    OK(pool_worker_registry_unregister(fixture->registry, found, why));
    assert_int_equal(found->revision, 3);
    assert_int_equal(pool_worker_registry_update(fixture->registry, first, &err), POOL_WORKER_NOT_FOUND);
    assert_int_equal(pool_worker_registry_unregister(fixture->registry, first, &err), POOL_WORKER_NOT_FOUND);
    assert_int_equal(count(fixture->registry, POOL_REGISTRY_HISTORY), 1);
}

static void test_bad_arguments(void **state)
{
    struct fixture *fixture = *state;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *none = NULL;
    CLEANUP_WORKER struct pool_worker_info *worker = small_worker("x", 8001);
    assert_non_null(worker);
    worker->port = 70000;
    assert_int_equal(pool_worker_registry_register(fixture->registry, worker, &err), POOL_INVALID_REQUEST);
    assert_string_equal(err.field, "port");
    worker->port = 8001;
    worker->status = POOL_WORKER_STOPPED;
    assert_int_equal(pool_worker_registry_register(fixture->registry, worker, &err), POOL_INVALID_REQUEST);
    assert_string_equal(err.field, "status");
    assert_int_equal(pool_worker_registry_update(fixture->registry, worker, &err), POOL_INVALID_REQUEST);
    worker->status = POOL_WORKER_READY;
    worker->worker_id[0] = '-';
    assert_int_equal(pool_worker_registry_register(fixture->registry, worker, &err), POOL_INVALID_REQUEST);
    assert_int_equal(pool_worker_registry_get(fixture->registry, "../x", &none, &err), POOL_INVALID_REQUEST);
    assert_int_equal(pool_worker_registry_get(fixture->registry, NULL, &none, &err), POOL_INVALID_REQUEST);
    assert_int_equal(pool_worker_registry_set_note(fixture->registry, "", "x", &err), POOL_INVALID_REQUEST);
    struct pool_worker_list *list = NULL;
    assert_int_equal(pool_worker_registry_list(fixture->registry, (enum pool_registry_scope)9, &list, &err),
                     POOL_INVALID_REQUEST);
    assert_null(list);
    assert_int_equal(count(fixture->registry, POOL_REGISTRY_LIVE), 0);
}

static void test_order_of_live(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *id;
        int64_t created_wall_ms;
    } cases[] = { { "e", 5 }, { "b", 2 }, { "d", 4 }, { "a2", 1 }, { "a1", 1 }, { "A", 1 }, { "c", 3 } };
    for (size_t i = 0; i < 7; i++) {
        CLEANUP_WORKER struct pool_worker_info *worker = small_worker(cases[i].id, 0);
        assert_non_null(worker);
        worker->created_wall_ms = cases[i].created_wall_ms;
        OK(pool_worker_registry_register(fixture->registry, worker, why));
    }
    static const char *const order[] = { "A", "a1", "a2", "b", "c", "d", "e" };
    CLEANUP_LIST struct pool_worker_list *list = NULL;
    OK(pool_worker_registry_list(fixture->registry, POOL_REGISTRY_LIVE, &list, why));
    assert_int_equal(list->n_workers, 7);
    for (size_t i = 0; i < 7; i++)
        assert_string_equal(list->workers[i]->worker_id, order[i]);

    /* A changed time moves it; one less leaves the rest in order. */
    list->workers[6]->created_wall_ms = 0;
    OK(pool_worker_registry_update(fixture->registry, list->workers[6], why));
    OK(pool_worker_registry_unregister(fixture->registry, list->workers[3], why));
    static const char *const later[] = { "e", "A", "a1", "a2", "c", "d" };
    CLEANUP_LIST struct pool_worker_list *again = NULL;
    OK(pool_worker_registry_list(fixture->registry, POOL_REGISTRY_LIVE, &again, why));
    assert_int_equal(again->n_workers, 6);
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(again->workers[i]->worker_id, later[i]);
}

/* Stops as many workers as asked for, "h-0" first, all with the id's number as their exit code. */
static void stop_many(struct fixture *fixture, int n)
{
    OK(pool_worker_registry_begin(fixture->registry, why));
    for (int i = 0; i < n; i++) {
        char id[16];
        snprintf(id, sizeof id, "h-%d", i);
        CLEANUP_WORKER struct pool_worker_info *worker = small_worker(id, 8001);
        assert_non_null(worker);
        OK(pool_worker_registry_register(fixture->registry, worker, why));
        worker->exit_code = (struct pool_reading){ true, i };
        OK(pool_worker_registry_unregister(fixture->registry, worker, why));
    }
    OK(pool_worker_registry_commit(fixture->registry, why));
}

static void test_history_is_bounded(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_FREE char *nobody = NULL;
    CLEANUP_FREE char *leaving = NULL;
    stop_many(fixture, POOL_HISTORY_MAX - 1);
    OK(pool_worker_registry_first_to_leave(fixture->registry, &nobody, why));
    assert_null(nobody);
    stop_many(fixture, POOL_HISTORY_MAX + 3);
    if (fixture->is_persistent)
        reopen(fixture);
    CLEANUP_LIST struct pool_worker_list *list = NULL;
    OK(pool_worker_registry_list(fixture->registry, POOL_REGISTRY_HISTORY, &list, why));
    assert_int_equal(list->n_workers, POOL_HISTORY_MAX);
    for (int i = 0; i < POOL_HISTORY_MAX; i++) {
        assert_int_equal(list->workers[i]->exit_code.value, POOL_HISTORY_MAX + 2 - i); /* newest first */
        assert_int_equal(list->workers[i]->status, POOL_WORKER_STOPPED);
    }
    assert_not_found(fixture->registry, "h-2");
    CLEANUP_WORKER struct pool_worker_info *oldest = get(fixture->registry, "h-3");
    assert_int_equal(oldest->exit_code.value, 3);
    OK(pool_worker_registry_first_to_leave(fixture->registry, &leaving, why));
    assert_string_equal(leaving, "h-3");
    CLEANUP_WORKER struct pool_worker_info *next = small_worker("next", 8001);
    assert_non_null(next);
    OK(pool_worker_registry_register(fixture->registry, next, why));
    OK(pool_worker_registry_unregister(fixture->registry, next, why));
    assert_not_found(fixture->registry, "h-3");
}

static void test_get_finds_the_newest(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < 3; i++) {
        CLEANUP_WORKER struct pool_worker_info *worker = small_worker("again", 8001);
        assert_non_null(worker);
        worker->exit_code = (struct pool_reading){ true, i };
        OK(pool_worker_registry_register(fixture->registry, worker, why));
        OK(pool_worker_registry_unregister(fixture->registry, worker, why));
    }
    CLEANUP_WORKER struct pool_worker_info *stopped = get(fixture->registry, "again");
    assert_int_equal(stopped->exit_code.value, 2);
    assert_int_equal(count(fixture->registry, POOL_REGISTRY_HISTORY), 3);
}

static void test_too_many_workers(void **state)
{
    struct fixture *fixture = *state;
    OK(pool_worker_registry_begin(fixture->registry, why));
    for (int i = 0; i < POOL_WORKERS_MAX; i++) {
        char id[16];
        snprintf(id, sizeof id, "w-%d", i);
        OK(register_small(fixture->registry, id, i + 1, why));
    }
    OK(pool_worker_registry_commit(fixture->registry, why));
    int64_t generation = generation_of(fixture->registry);
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(register_small(fixture->registry, "one-more", 0, &err), POOL_OVERLOADED);
    assert_true(err.is_retriable);
    assert_int_equal(register_small(fixture->registry, "w-7", 0, &err), POOL_ALREADY_EXISTS);
    assert_int_equal(generation_of(fixture->registry), generation);
    assert_int_equal(count(fixture->registry, POOL_REGISTRY_LIVE), POOL_WORKERS_MAX);
    assert_not_found(fixture->registry, "one-more");
    /* One leaves, one fits. */
    CLEANUP_WORKER struct pool_worker_info *worker = get(fixture->registry, "w-4000");
    OK(pool_worker_registry_unregister(fixture->registry, worker, why));
    OK(register_small(fixture->registry, "one-more", 0, why));
    for (int i = 0; i < POOL_WORKERS_MAX; i += 97) {
        char id[16];
        snprintf(id, sizeof id, "w-%d", i);
        CLEANUP_WORKER struct pool_worker_info *found = get(fixture->registry, id);
        assert_int_equal(found->port, i + 1);
    }
}

static void test_generation(void **state)
{
    struct fixture *fixture = *state;
    int64_t seen[6];
    seen[0] = generation_of(fixture->registry);
    CLEANUP_WORKER struct pool_worker_info *worker = small_worker("g", 8001);
    assert_non_null(worker);
    OK(pool_worker_registry_register(fixture->registry, worker, why));
    seen[1] = generation_of(fixture->registry);
    OK(pool_worker_registry_update(fixture->registry, worker, why));
    seen[2] = generation_of(fixture->registry);
    OK(pool_worker_registry_unregister(fixture->registry, worker, why));
    seen[3] = generation_of(fixture->registry);
    OK(pool_worker_registry_set_note(fixture->registry, "epoch", "1", why));
    seen[4] = generation_of(fixture->registry);
    OK(pool_worker_registry_begin(fixture->registry, why));
    OK(register_small(fixture->registry, "g2", 8002, why));
    OK(pool_worker_registry_commit(fixture->registry, why));
    seen[5] = generation_of(fixture->registry);
    for (int i = 0; i < 6; i++) {
        for (int j = 0; j < i; j++)
            assert_int_not_equal(seen[i], seen[j]);
    }
    /* What changes nothing leaves it. */
    assert_int_equal(register_small(fixture->registry, "g2", 0, NULL), POOL_ALREADY_EXISTS);
    assert_int_equal(count(fixture->registry, POOL_REGISTRY_LIVE), 1);
    assert_int_equal(generation_of(fixture->registry), seen[5]);
}

static void test_rollback(void **state)
{
    struct fixture *fixture = *state;
    stop_many(fixture, POOL_HISTORY_MAX);
    OK(register_small(fixture->registry, "kept", 8001, why));
    OK(register_small(fixture->registry, "stopped", 8002, why));
    OK(pool_worker_registry_set_note(fixture->registry, "old", "text", why));
    CLEANUP_LIST struct pool_worker_list *live_before = NULL;
    CLEANUP_LIST struct pool_worker_list *history_before = NULL;
    OK(pool_worker_registry_list(fixture->registry, POOL_REGISTRY_LIVE, &live_before, why));
    OK(pool_worker_registry_list(fixture->registry, POOL_REGISTRY_HISTORY, &history_before, why));
    int64_t generation = generation_of(fixture->registry);

    OK(pool_worker_registry_begin(fixture->registry, why));
    for (int i = 0; i < 100; i++) {
        char id[16];
        snprintf(id, sizeof id, "new-%d", i);
        OK(register_small(fixture->registry, id, 9000 + i, why));
    }
    CLEANUP_WORKER struct pool_worker_info *kept = get(fixture->registry, "kept");
    kept->port = 8003;
    kept->created_wall_ms = 0;
    OK(pool_worker_registry_update(fixture->registry, kept, why));
    OK(pool_worker_registry_update(fixture->registry, kept, why));
    CLEANUP_WORKER struct pool_worker_info *stopped = get(fixture->registry, "stopped");
    OK(pool_worker_registry_unregister(fixture->registry, stopped, why));
    CLEANUP_WORKER struct pool_worker_info *fresh = get(fixture->registry, "new-50");
    OK(pool_worker_registry_unregister(fixture->registry, fresh, why));
    OK(register_small(fixture->registry, "on-old-port", 8001, why));
    OK(pool_worker_registry_set_note(fixture->registry, "old", NULL, why));
    OK(pool_worker_registry_set_note(fixture->registry, "new", "text", why));
    /* A failure inside leaves the rest as it is. */
    assert_int_equal(register_small(fixture->registry, "kept", 0, NULL), POOL_ALREADY_EXISTS);
    assert_int_equal(count(fixture->registry, POOL_REGISTRY_LIVE), 101);
    pool_worker_registry_rollback(fixture->registry);

    assert_int_equal(generation_of(fixture->registry), generation);
    CLEANUP_LIST struct pool_worker_list *live = NULL;
    CLEANUP_LIST struct pool_worker_list *history = NULL;
    OK(pool_worker_registry_list(fixture->registry, POOL_REGISTRY_LIVE, &live, why));
    OK(pool_worker_registry_list(fixture->registry, POOL_REGISTRY_HISTORY, &history, why));
    assert_int_equal(live->n_workers, live_before->n_workers);
    assert_int_equal(history->n_workers, history_before->n_workers);
    for (size_t i = 0; i < live->n_workers; i++)
        assert_null(differing_field(live->workers[i], live_before->workers[i]));
    for (size_t i = 0; i < history->n_workers; i++)
        assert_null(differing_field(history->workers[i], history_before->workers[i]));
    CLEANUP_FREE char *old = NULL;
    CLEANUP_FREE char *new = NULL;
    OK(pool_worker_registry_get_note(fixture->registry, "old", &old, why));
    OK(pool_worker_registry_get_note(fixture->registry, "new", &new, why));
    assert_string_equal(old, "text");
    assert_null(new);
    /* And everything works on. */
    OK(register_small(fixture->registry, "after", 9000, why));
    assert_int_equal(register_small(fixture->registry, "after2", 8001, NULL), POOL_ALREADY_EXISTS);
}

static void test_transactions_do_not_nest(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(pool_worker_registry_commit(fixture->registry, NULL), POOL_INTERNAL);
    pool_worker_registry_rollback(fixture->registry);
    OK(pool_worker_registry_begin(fixture->registry, why));
    OK(register_small(fixture->registry, "in", 8001, why));
    assert_int_equal(pool_worker_registry_begin(fixture->registry, NULL), POOL_INTERNAL);
    OK(pool_worker_registry_commit(fixture->registry, why));
    assert_int_equal(pool_worker_registry_commit(fixture->registry, NULL), POOL_INTERNAL);
    CLEANUP_WORKER struct pool_worker_info *worker = get(fixture->registry, "in");
    assert_non_null(worker);
    OK(pool_worker_registry_begin(fixture->registry, why)); /* left open: close rolls it back */
    OK(register_small(fixture->registry, "open", 8002, why));
    if (fixture->is_persistent) {
        reopen(fixture);
        assert_not_found(fixture->registry, "open");
    }
}

static struct pool_learned_list *learned(struct fixture *fixture, const char *key)
{
    struct pool_learned_list *list = NULL;
    OK(pool_worker_registry_list_learned(fixture->registry, key, &list, why));
    assert_non_null(list);
    return list;
}

static void put_learned(struct fixture *fixture, const char *key, int64_t ready, int64_t peak,
                        int64_t n_starts, int64_t wall_ms)
{
    struct pool_learned_use use = { .key = (char *)(uintptr_t)key,
                                    .model_ref = (char[]){ "file:/m" },
                                    .estimate_bytes = 77,
                                    .ready_bytes = ready,
                                    .peak_bytes = peak,
                                    .n_starts = n_starts,
                                    .updated_wall_ms = wall_ms };
    OK(pool_worker_registry_put_learned(fixture->registry, &use, why));
}

static void test_what_is_learned(void **state)
{
    struct fixture *fixture = *state;
    int64_t generation, after, n;
    OK(pool_worker_registry_generation(fixture->registry, &generation, why));
    struct pool_learned_list *list = learned(fixture, NULL);
    assert_int_equal(list->n_uses, 0);
    pool_learned_list_free(list);

    put_learned(fixture, "a|b", 10, 100, 1, 1000);
    put_learned(fixture, "c", 5, 50, 1, 2000);
    put_learned(fixture, "a|b", 20, 90, 1, 3000); /* the most of both, the sum of the starts */
    list = learned(fixture, NULL);
    assert_int_equal(list->n_uses, 2);
    assert_string_equal(list->uses[0].key, "a|b"); /* measured last */
    assert_string_equal(list->uses[0].model_ref, "file:/m");
    assert_int_equal(list->uses[0].estimate_bytes, 77);
    assert_int_equal(list->uses[0].ready_bytes, 20);
    assert_int_equal(list->uses[0].peak_bytes, 100);
    assert_int_equal(list->uses[0].n_starts, 2);
    assert_int_equal(list->uses[0].updated_wall_ms, 3000);
    pool_learned_list_free(list);
    list = learned(fixture, "c");
    assert_int_equal(list->n_uses, 1);
    assert_int_equal(list->uses[0].peak_bytes, 50);
    pool_learned_list_free(list);
    OK(pool_worker_registry_generation(fixture->registry, &after, why));
    assert_int_equal(after, generation);

    OK(pool_worker_registry_forget_learned(fixture->registry, "nobody", &n, why));
    assert_int_equal(n, 0);
    OK(pool_worker_registry_forget_learned(fixture->registry, "c", &n, why));
    assert_int_equal(n, 1);
    OK(pool_worker_registry_forget_learned(fixture->registry, NULL, &n, why));
    assert_int_equal(n, 1);

    struct pool_learned_use bad = { .key = (char[]){ "k" }, .model_ref = (char[]){ "m" }, .peak_bytes = -1 };
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(pool_worker_registry_put_learned(fixture->registry, &bad, &err), POOL_INVALID_REQUEST);
    bad.peak_bytes = 1;
    bad.key = (char[]){ "" };
    assert_int_equal(pool_worker_registry_put_learned(fixture->registry, &bad, &err), POOL_INVALID_REQUEST);
}

/* The one that was not measured for longest goes, however often the others come again. */
static void test_what_is_learned_is_bounded(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < POOL_LEARNED_MAX + 3; i++) {
        char key[32];
        snprintf(key, sizeof key, "key-%d", i);
        put_learned(fixture, key, 1, 1, 1, 1000 + i);
        if (i == 10)
            put_learned(fixture, "key-0", 1, 1, 1, 1000000);
    }
    struct pool_learned_list *list = learned(fixture, NULL);
    assert_int_equal(list->n_uses, POOL_LEARNED_MAX);
    pool_learned_list_free(list);
    list = learned(fixture, "key-1");
    assert_int_equal(list->n_uses, 0);
    pool_learned_list_free(list);
    list = learned(fixture, "key-0");
    assert_int_equal(list->n_uses, 1);
    pool_learned_list_free(list);
}

static void test_notes(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_FREE char *none = NULL;
    OK(pool_worker_registry_get_note(fixture->registry, "state-id", &none, why));
    assert_null(none);
    OK(pool_worker_registry_set_note(fixture->registry, "state-id", "first", why));
    OK(pool_worker_registry_set_note(fixture->registry, "state-id", "second \xc3\xa4\n'", why));
    OK(pool_worker_registry_set_note(fixture->registry, "epoch", "", why));
    if (fixture->is_persistent)
        reopen(fixture);
    CLEANUP_FREE char *text = NULL;
    OK(pool_worker_registry_get_note(fixture->registry, "state-id", &text, why));
    assert_string_equal(text, "second \xc3\xa4\n'");
    CLEANUP_FREE char *empty = NULL;
    OK(pool_worker_registry_get_note(fixture->registry, "epoch", &empty, why));
    assert_string_equal(empty, "");
    OK(pool_worker_registry_set_note(fixture->registry, "state-id", NULL, why));
    OK(pool_worker_registry_set_note(fixture->registry, "never-there", NULL, why));
    CLEANUP_FREE char *gone = NULL;
    OK(pool_worker_registry_get_note(fixture->registry, "state-id", &gone, why));
    assert_null(gone);
}

/* Texts found by an id, joined by blanks, newest first. */
static void assert_found(struct pool_worker_registry *registry, const char *id, size_t n_max,
                         const char *wanted)
{
    char **texts = NULL;
    char joined[256] = "";
    OK(pool_worker_registry_find_explanations(registry, id, n_max, &texts, why));
    for (char **text = texts; *text; text++) {
        strncat(joined, text == texts ? "" : " ", sizeof joined - strlen(joined) - 1);
        strncat(joined, *text, sizeof joined - strlen(joined) - 1);
        free(*text);
    }
    free(texts);
    assert_string_equal(joined, wanted);
}

static void test_explanations(void **state)
{
    struct fixture *fixture = *state;
    struct pool_explanation_key start = { "x-1", "worker", "request-1" };
    struct pool_explanation_key stop = { "x-2", "worker", NULL };
    struct pool_explanation_key refusal = { "x-3", NULL, "request-1" };
    int64_t generation = generation_of(fixture->registry);
    OK(pool_worker_registry_put_explanation(fixture->registry, &start, "start", why));
    OK(pool_worker_registry_put_explanation(fixture->registry, &stop, "stop", why));
    OK(pool_worker_registry_put_explanation(fixture->registry, &refusal, "refusal", why));
    assert_int_equal(generation_of(fixture->registry), generation);
    if (fixture->is_persistent)
        reopen(fixture);
    assert_found(fixture->registry, "worker", 9, "stop start");
    assert_found(fixture->registry, "worker", 1, "stop");
    assert_found(fixture->registry, "request-1", 9, "refusal start");
    assert_found(fixture->registry, "x-2", 9, "stop");
    assert_found(fixture->registry, "nobody", 9, "");
    assert_found(fixture->registry, NULL, 2, "refusal stop");
}

static void test_explanations_are_bounded(void **state)
{
    struct fixture *fixture = *state;
    char id[32];
    for (int i = 0; i < POOL_EXPLANATIONS_MAX + 3; i++) {
        snprintf(id, sizeof id, "x-%d", i);
        struct pool_explanation_key key = { id, i == 3 ? "third" : "other", NULL };
        OK(pool_worker_registry_put_explanation(fixture->registry, &key, id, why));
    }
    assert_found(fixture->registry, "x-2", 9, "");
    assert_found(fixture->registry, "third", 9, "x-3");
    snprintf(id, sizeof id, "x-%d", POOL_EXPLANATIONS_MAX + 2);
    assert_found(fixture->registry, NULL, 1, id);
}

static void test_explanations_that_can_not_be(void **state)
{
    struct fixture *fixture = *state;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_explanation_key nameless = { "", NULL, NULL };
    struct pool_explanation_key fine = { "x-1", NULL, NULL };
    CLEANUP_FREE char *long_text = calloc(POOL_WORKER_TEXT_MAX + 2, 1);
    assert_non_null(long_text);
    memset(long_text, 'x', POOL_WORKER_TEXT_MAX + 1);
    assert_int_equal(pool_worker_registry_put_explanation(fixture->registry, &nameless, "x", &err),
                     POOL_INVALID_REQUEST);
    assert_int_equal(pool_worker_registry_put_explanation(fixture->registry, &fine, long_text, &err),
                     POOL_INVALID_REQUEST);
    OK(pool_worker_registry_begin(fixture->registry, why));
    assert_int_equal(pool_worker_registry_put_explanation(fixture->registry, &fine, "x", &err),
                     POOL_INTERNAL);
    pool_worker_registry_rollback(fixture->registry);
    assert_found(fixture->registry, NULL, 9, "");
}

/* --- several handles and processes --- */

static void test_two_handles(void **state)
{
    struct fixture *fixture = *state;
    struct pool_worker_registry *a = fixture->registry;
    struct pool_worker_registry *b = NULL;
    OK(pool_worker_registry_open(fixture->url, &b, why));
    int64_t generation = generation_of(b);
    OK(register_small(a, "one", 8001, why));
    assert_int_not_equal(generation_of(b), generation);
    CLEANUP_WORKER struct pool_worker_info *of_b = get(b, "one");
    CLEANUP_WORKER struct pool_worker_info *of_a = get(a, "one");
    of_b->status = POOL_WORKER_READY;
    OK(pool_worker_registry_update(b, of_b, why));
    of_a->status = POOL_WORKER_STOPPING;
    assert_int_equal(pool_worker_registry_update(a, of_a, NULL), POOL_CONFLICT);
    assert_int_equal(register_small(b, "two", 8001, NULL), POOL_ALREADY_EXISTS);

    /* Nothing of a transaction is seen before its commit. */
    generation = generation_of(b);
    OK(pool_worker_registry_begin(a, why));
    OK(register_small(a, "hidden", 8002, why));
    assert_not_found(b, "hidden");
    assert_int_equal(count(b, POOL_REGISTRY_LIVE), 1);
    assert_int_equal(generation_of(b), generation);
    OK(pool_worker_registry_commit(a, why));
    assert_int_equal(count(b, POOL_REGISTRY_LIVE), 2);
    assert_int_not_equal(generation_of(b), generation);
    pool_worker_registry_close(b);
}

static void test_read_only(void **state)
{
    struct fixture *fixture = *state;
    OK(register_small(fixture->registry, "one", 8001, why));
    struct pool_worker_registry *reader = NULL;
    OK(pool_worker_registry_open_read_only(fixture->url, &reader, why));
    CLEANUP_WORKER struct pool_worker_info *worker = get(reader, "one");
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(register_small(reader, "two", 8002, &err), POOL_REGISTRY_UNAVAILABLE);
    assert_false(err.is_retriable);
    assert_int_equal(pool_worker_registry_update(reader, worker, &err), POOL_REGISTRY_UNAVAILABLE);
    assert_int_equal(pool_worker_registry_unregister(reader, worker, &err), POOL_REGISTRY_UNAVAILABLE);
    assert_int_equal(pool_worker_registry_set_note(reader, "a", "b", &err), POOL_REGISTRY_UNAVAILABLE);
    assert_int_equal(pool_worker_registry_begin(reader, &err), POOL_REGISTRY_UNAVAILABLE);
    OK(register_small(fixture->registry, "two", 8002, why));
    assert_int_equal(count(reader, POOL_REGISTRY_LIVE), 2);
    pool_worker_registry_close(reader);

    /* Alone as well, when no writer has it open. */
    pool_worker_registry_close(fixture->registry);
    fixture->registry = NULL;
    OK(pool_worker_registry_open_read_only(fixture->url, &reader, why));
    assert_int_equal(count(reader, POOL_REGISTRY_LIVE), 2);
    pool_worker_registry_close(reader);

    char missing[128];
    snprintf(missing, sizeof missing, "%s-missing", fixture->url);
    assert_int_equal(pool_worker_registry_open_read_only(missing, &reader, &err), POOL_REGISTRY_UNAVAILABLE);
    assert_int_equal(err.sys_errno, ENOENT);
    assert_int_not_equal(access(missing + strlen(fixture->scheme), F_OK), 0);
}

#define N_RACERS 50

/* Starts N processes that wait for each other, run `race` and end with its exit code; counts the codes. */
static void run_race(struct fixture *fixture, int (*race)(const char *url, int number), int counts[256])
{
    pid_t pids[N_RACERS];
    int gate[2];
    pool_worker_registry_close(fixture->registry); /* SQLite does not live across fork */
    fixture->registry = NULL;
    assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
    fflush(NULL);
    for (int i = 0; i < N_RACERS; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            char byte;
            close(gate[1]);
            if (read(gate[0], &byte, 1) != 0) /* the end of the pipe is the start of the race */
                _exit(255);
            _exit(race(fixture->url, i));
        }
    }
    close(gate[1]);
    close(gate[0]);
    for (int i = 0; i < N_RACERS; i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status));
        counts[WEXITSTATUS(status)]++;
    }
    reopen(fixture);
}

static int race_for_port(const char *url, int number)
{
    char id[16];
    snprintf(id, sizeof id, "racer-%d", number);
    struct pool_worker_registry *registry = NULL;
    enum pool_code code = pool_worker_registry_open(url, &registry, NULL);
    if (code == POOL_OK)
        code = register_small(registry, id, 8001, NULL);
    pool_worker_registry_close(registry);
    return (int)code;
}

static int race_for_id(const char *url, int number)
{
    struct pool_worker_registry *registry = NULL;
    enum pool_code code = pool_worker_registry_open(url, &registry, NULL);
    if (code == POOL_OK)
        code = register_small(registry, "winner", 8100 + number, NULL);
    pool_worker_registry_close(registry);
    return (int)code;
}

static void test_race_for_a_port(void **state)
{
    int counts[256] = { 0 };
    run_race(*state, race_for_port, counts);
    assert_int_equal(counts[POOL_OK], 1);
    assert_int_equal(counts[POOL_ALREADY_EXISTS], N_RACERS - 1);
    assert_int_equal(count(((struct fixture *)*state)->registry, POOL_REGISTRY_LIVE), 1);
}

static void test_race_for_an_id(void **state)
{
    int counts[256] = { 0 };
    run_race(*state, race_for_id, counts);
    assert_int_equal(counts[POOL_OK], 1);
    assert_int_equal(counts[POOL_ALREADY_EXISTS], N_RACERS - 1);
    assert_int_equal(count(((struct fixture *)*state)->registry, POOL_REGISTRY_LIVE), 1);
}

/* The same on a file that does not exist: whoever comes first makes it. */
static void test_race_for_a_new_file(void **state)
{
    struct fixture *fixture = *state;
    int counts[256] = { 0 };
    pool_worker_registry_close(fixture->registry);
    fixture->registry = NULL;
    assert_int_equal(unlink(fixture->url + strlen(fixture->scheme)), 0);
    run_race(fixture, race_for_port, counts);
    assert_int_equal(counts[POOL_OK], 1);
    assert_int_equal(counts[POOL_ALREADY_EXISTS], N_RACERS - 1);
}

/* Each adds 1 to a number in a record until it got through: none may be lost. */
static int race_to_update(const char *url, int number)
{
    (void)number;
    struct pool_worker_registry *registry = NULL;
    enum pool_code code = pool_worker_registry_open(url, &registry, NULL);
    bool is_through = false;
    for (int i = 0; i < 10 * N_RACERS && code == POOL_OK && !is_through; i++) {
        CLEANUP_WORKER struct pool_worker_info *worker = NULL;
        code = pool_worker_registry_get(registry, "counter", &worker, NULL);
        if (code != POOL_OK)
            break;
        worker->reserved_bytes++;
        code = pool_worker_registry_update(registry, worker, NULL);
        is_through = code == POOL_OK;
        if (code == POOL_CONFLICT)
            code = POOL_OK;
    }
    pool_worker_registry_close(registry);
    return is_through ? (int)POOL_OK : code != POOL_OK ? (int)code : (int)POOL_CONFLICT;
}

static void test_race_to_update(void **state)
{
    struct fixture *fixture = *state;
    int counts[256] = { 0 };
    OK(register_small(fixture->registry, "counter", 0, why));
    run_race(fixture, race_to_update, counts);
    assert_int_equal(counts[POOL_OK], N_RACERS);
    CLEANUP_WORKER struct pool_worker_info *worker = get(fixture->registry, "counter");
    assert_int_equal(worker->reserved_bytes, N_RACERS);
    assert_int_equal(worker->revision, 1 + N_RACERS);
}

/*
 * Writes for ever, in transactions that leave the pair "left" and "right" with equal numbers and both or none of them
 * live, and tells of each through the pipe.
 */
static void write_for_ever(const char *url, int progress)
{
    struct pool_worker_registry *registry = NULL;
    if (pool_worker_registry_open(url, &registry, NULL) != POOL_OK)
        _exit(1);
    for (int64_t i = 0;; i++) {
        CLEANUP_WORKER struct pool_worker_info *left = small_worker("left", 8001);
        CLEANUP_WORKER struct pool_worker_info *right = small_worker("right", 8002);
        if (!left || !right || pool_worker_registry_begin(registry, NULL) != POOL_OK)
            _exit(2);
        left->reserved_bytes = right->reserved_bytes = i;
        if (pool_worker_registry_register(registry, left, NULL) != POOL_OK ||
            pool_worker_registry_register(registry, right, NULL) != POOL_OK ||
            pool_worker_registry_commit(registry, NULL) != POOL_OK || write(progress, "+", 1) != 1 ||
            pool_worker_registry_begin(registry, NULL) != POOL_OK ||
            pool_worker_registry_unregister(registry, left, NULL) != POOL_OK ||
            pool_worker_registry_unregister(registry, right, NULL) != POOL_OK ||
            pool_worker_registry_commit(registry, NULL) != POOL_OK || write(progress, "-", 1) != 1)
            _exit(3);
    }
}

/* Kills the writer a random while after a random number of steps. */
static void kill_a_writer(struct fixture *fixture)
{
    unsigned random[2];
    int progress[2];
    assert_true(random_bytes(random, sizeof random));
    assert_int_equal(pipe2(progress, O_CLOEXEC), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(progress[0]);
        write_for_ever(fixture->url, progress[1]);
    }
    close(progress[1]);
    char step;
    for (unsigned i = 0; i <= random[0] % 20; i++)
        assert_int_equal(read(progress[0], &step, 1), 1);
    for (int64_t end_ns = clock_boottime_ns() + random[1] % 300000; clock_boottime_ns() < end_ns;)
        ;
    int status = 0;
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    close(progress[0]);
}

static void test_killed_writers(void **state)
{
    struct fixture *fixture = *state;
    pool_worker_registry_close(fixture->registry);
    fixture->registry = NULL;
    char checked_url[112];
    snprintf(checked_url, sizeof checked_url, "%s?check=1", fixture->url);
    for (int i = 0; i < 50; i++) {
        kill_a_writer(fixture);
        struct pool_worker_registry *registry = NULL;
        OK(pool_worker_registry_open(checked_url, &registry, why));
        CLEANUP_LIST struct pool_worker_list *live = NULL;
        OK(pool_worker_registry_list(registry, POOL_REGISTRY_LIVE, &live, why));
        assert_true(live->n_workers == 0 || live->n_workers == 2);
        if (live->n_workers == 2) {
            assert_int_equal(live->workers[0]->reserved_bytes, live->workers[1]->reserved_bytes);
            for (size_t j = 0; j < 2; j++)
                OK(pool_worker_registry_unregister(registry, live->workers[j], why));
        }
        assert_int_equal(count(registry, POOL_REGISTRY_HISTORY) % 2, 0);
        pool_worker_registry_close(registry);
    }
}

/* --- opening --- */

static void test_urls(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "memory",
        "Memory:",
        "postgres://x",
        "sqlite:",
        "sqlite:?wal=0",
        "sqlite:/nowhere/x?wal=2",
        "sqlite:/nowhere/x?",
        "sqlite:/nowhere/x?wal=0&",
        "sqlite:/nowhere/x?wal=0&nonsense=1",
        "memory:x",
        "memory:?max_workers=",
        "memory:?max_workers=0",
        "memory:?max_workers=1000001",
        "memory:?max_workers=1x",
        NULL,
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct pool_error err = POOL_ERROR_INIT;
        struct pool_worker_registry *registry = NULL;
        assert_int_equal(pool_worker_registry_open(bad[i], &registry, &err), POOL_INVALID_CONFIG);
        assert_string_equal(err.field, "registry.url");
        assert_null(registry);
    }
    assert_int_not_equal(access("/nowhere/x", F_OK), 0);
}

static void test_memory_limit(void **state)
{
    (void)state;
    struct pool_worker_registry *registry = NULL;
    OK(pool_worker_registry_open("memory:?max_workers=2", &registry, why));
    OK(register_small(registry, "a", 0, why));
    OK(register_small(registry, "b", 0, why));
    assert_int_equal(register_small(registry, "c", 0, NULL), POOL_OVERLOADED);
    pool_worker_registry_close(registry);
}

#define EVERY(test)                                              \
    { #test " (memory)", test, set_up_memory, tear_down, NULL }, \
    {                                                            \
#test " (sqlite)", test, set_up_sqlite, tear_down, NULL  \
    }
#define PERSISTENT(test)                                        \
    {                                                           \
#test " (sqlite)", test, set_up_sqlite, tear_down, NULL \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First, while there is little memory for fork to copy. */
        PERSISTENT(test_race_for_a_port),
        PERSISTENT(test_race_for_an_id),
        PERSISTENT(test_race_for_a_new_file),
        PERSISTENT(test_race_to_update),
        PERSISTENT(test_killed_writers),
        EVERY(test_empty),
        EVERY(test_every_field_survives),
        EVERY(test_some_fields_by_hand),
        EVERY(test_copies_in_and_out),
        EVERY(test_an_id_is_used_once),
        EVERY(test_a_port_is_used_once),
        EVERY(test_update_compares_revisions),
        EVERY(test_bad_arguments),
        EVERY(test_order_of_live),
        EVERY(test_history_is_bounded),
        EVERY(test_get_finds_the_newest),
        EVERY(test_too_many_workers),
        EVERY(test_generation),
        EVERY(test_rollback),
        EVERY(test_transactions_do_not_nest),
        EVERY(test_notes),
        EVERY(test_what_is_learned),
        EVERY(test_what_is_learned_is_bounded),
        EVERY(test_explanations),
        EVERY(test_explanations_are_bounded),
        EVERY(test_explanations_that_can_not_be),
        PERSISTENT(test_two_handles),
        PERSISTENT(test_read_only),
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_memory_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
