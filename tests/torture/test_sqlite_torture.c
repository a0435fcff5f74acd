/*
 * The registry in a database whose disk, or memory, fails: each write and each allocation of SQLite in turn. What was
 * answered with OK is there, what was refused is not, and the file is sound. (Our own allocations are failed in
 * test_registry_torture.c.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <pool/registry.h>

#include "base/cleanup.h"
#include "failing_sqlite.h"
#include "sample_worker.h"

static char folder[64];
static char path[80];
static char url[112];

static void close_registry(struct pool_worker_registry **registry)
{
    pool_worker_registry_close(*registry);
}
#define CLEANUP_REGISTRY CLEANUP(close_registry)

static void remove_files(void)
{
    static const char *const suffixes[] = { "", "-wal", "-shm", "-journal" };
    for (size_t i = 0; i < 4; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        unlink(name);
    }
}

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/pool-sqlite-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/pool.db", folder);
    snprintf(url, sizeof url, "sqlite:%s", path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    writes_until_failure = -1;
    allocations_until_failure = -1;
    remove_files();
    return rmdir(folder);
}

static struct pool_worker_registry *open_registry(const char *its_url)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_registry *registry = NULL;
    if (pool_worker_registry_open(its_url, &registry, &err) != POOL_OK)
        fail_msg("%s", err.message);
    return registry;
}

static enum pool_code register_small(struct pool_worker_registry *registry, const char *id, int64_t port,
                                     struct pool_error *err)
{
    CLEANUP_WORKER struct pool_worker_info *worker = small_worker(id, port);
    return worker ? pool_worker_registry_register(registry, worker, err) : pool_error_no_memory(err);
}

/* A worker to be changed, one to be stopped. */
static void make_ground(const char *its_url)
{
    remove_files();
    CLEANUP_REGISTRY struct pool_worker_registry *registry = open_registry(its_url);
    assert_int_equal(register_small(registry, "changed", 1, NULL), POOL_OK);
    assert_int_equal(register_small(registry, "stopped", 2, NULL), POOL_OK);
}

struct outcome {
    enum pool_code code[4]; /* register "new", update "changed", unregister "stopped", note */
    enum pool_code commit;  /* with a transaction */
};

static enum pool_code change_port(struct pool_worker_registry *registry)
{
    CLEANUP_WORKER struct pool_worker_info *worker = NULL;
    enum pool_code code = pool_worker_registry_get(registry, "changed", &worker, NULL);
    if (code != POOL_OK)
        return code;
    worker->port = 11;
    return pool_worker_registry_update(registry, worker, NULL);
}

static enum pool_code stop_worker(struct pool_worker_registry *registry)
{
    CLEANUP_WORKER struct pool_worker_info *worker = NULL;
    enum pool_code code = pool_worker_registry_get(registry, "stopped", &worker, NULL);
    return code == POOL_OK ? pool_worker_registry_unregister(registry, worker, NULL) : code;
}

static void change_everything(struct pool_worker_registry *registry, bool is_transaction,
                              struct outcome *outcome)
{
    outcome->commit = is_transaction ? pool_worker_registry_begin(registry, NULL) : POOL_OK;
    if (outcome->commit != POOL_OK) {
        for (int i = 0; i < 4; i++)
            outcome->code[i] = outcome->commit;
        return;
    }
    outcome->code[0] = register_small(registry, "new", 3, NULL);
    outcome->code[1] = change_port(registry);
    outcome->code[2] = stop_worker(registry);
    outcome->code[3] = pool_worker_registry_set_note(registry, "epoch", "1", NULL);
    if (is_transaction)
        outcome->commit = pool_worker_registry_commit(registry, NULL);
}

static int64_t port_of(struct pool_worker_registry *registry, const char *id)
{
    CLEANUP_WORKER struct pool_worker_info *worker = NULL;
    enum pool_code code = pool_worker_registry_get(registry, id, &worker, NULL);
    assert_true(code == POOL_OK || code == POOL_WORKER_NOT_FOUND);
    return code == POOL_OK && worker->status != POOL_WORKER_STOPPED ? worker->port : -1;
}

/* What was answered with OK is there, what was refused is not, and nothing in between. */
static void check_outcome(const char *its_url, const struct outcome *outcome)
{
    char checked_url[160];
    snprintf(checked_url, sizeof checked_url, "%s%scheck=1", its_url, strchr(its_url, '?') ? "&" : "?");
    CLEANUP_REGISTRY struct pool_worker_registry *registry = open_registry(checked_url);
    bool is_done[4];
    int64_t n_done = 2;
    for (int i = 0; i < 4; i++) {
        is_done[i] = outcome->code[i] == POOL_OK && outcome->commit == POOL_OK;
        n_done += is_done[i];
    }
    assert_int_equal(port_of(registry, "new"), is_done[0] ? 3 : -1);
    assert_int_equal(port_of(registry, "changed"), is_done[1] ? 11 : 1);
    assert_int_equal(port_of(registry, "stopped"), is_done[2] ? -1 : 2);
    CLEANUP_LIST struct pool_worker_list *history = NULL;
    assert_int_equal(pool_worker_registry_list(registry, POOL_REGISTRY_HISTORY, &history, NULL), POOL_OK);
    assert_int_equal(history->n_workers, is_done[2]);
    CLEANUP_FREE char *note = NULL;
    assert_int_equal(pool_worker_registry_get_note(registry, "epoch", &note, NULL), POOL_OK);
    assert_int_equal(note != NULL, is_done[3]);
    int64_t generation = 0;
    assert_int_equal(pool_worker_registry_generation(registry, &generation, NULL), POOL_OK);
    assert_int_equal(generation, n_done);
}

static void check_codes(const struct outcome *outcome, enum pool_code a, enum pool_code b)
{
    for (int i = 0; i < 5; i++) {
        enum pool_code code = i < 4 ? outcome->code[i] : outcome->commit;
        if (code != POOL_OK && code != a && code != b)
            fail_msg("%d: %s", i, pool_code_name(code));
    }
}

static void fail_writes(const char *options, int failure, bool is_transaction, enum pool_code expected)
{
    char its_url[128];
    snprintf(its_url, sizeof its_url, "%s%s", url, options);
    long n = 1;
    for (;; n++) {
        struct outcome outcome = { 0 };
        make_ground(its_url);
        struct pool_worker_registry *registry = open_registry(its_url);
        has_write_failed = false;
        write_failure = failure;
        writes_until_failure = n;
        change_everything(registry, is_transaction, &outcome);
        bool is_through = !has_write_failed;
        pool_worker_registry_close(registry); /* the disk still fails */
        writes_until_failure = -1;
        /* A sync that fails is input or output, whatever writes say. */
        check_codes(&outcome, expected, POOL_REGISTRY_UNAVAILABLE);
        check_outcome(its_url, &outcome);
        if (is_through)
            break;
        assert_true(n < 1000);
    }
    assert_true(n > 4);
}

static void test_full_disk(void **state)
{
    (void)state;
    fail_writes("", SQLITE_FULL, false, POOL_INSUFFICIENT_DISK);
    fail_writes("", SQLITE_FULL, true, POOL_INSUFFICIENT_DISK);
    fail_writes("?wal=0", SQLITE_FULL, false, POOL_INSUFFICIENT_DISK);
    fail_writes("?wal=0", SQLITE_FULL, true, POOL_INSUFFICIENT_DISK);
}

static void test_failing_disk(void **state)
{
    (void)state;
    fail_writes("", SQLITE_IOERR_WRITE, false, POOL_REGISTRY_UNAVAILABLE);
    fail_writes("", SQLITE_IOERR_WRITE, true, POOL_REGISTRY_UNAVAILABLE);
    fail_writes("?wal=0", SQLITE_IOERR_WRITE, false, POOL_REGISTRY_UNAVAILABLE);
    fail_writes("?wal=0", SQLITE_IOERR_WRITE, true, POOL_REGISTRY_UNAVAILABLE);
}

/* A new file on a full disk: refused, and once there is room it can be made. */
static void test_full_disk_at_open(void **state)
{
    (void)state;
    for (long n = 1;; n++) {
        remove_files();
        struct pool_worker_registry *registry = NULL;
        has_write_failed = false;
        write_failure = SQLITE_FULL;
        writes_until_failure = n;
        enum pool_code code = pool_worker_registry_open(url, &registry, NULL);
        bool is_through = !has_write_failed;
        writes_until_failure = -1;
        pool_worker_registry_close(registry);
        assert_true(code == POOL_OK || code == POOL_INSUFFICIENT_DISK || code == POOL_REGISTRY_UNAVAILABLE);
        registry = open_registry(url);
        assert_int_equal(register_small(registry, "a", 1, NULL), POOL_OK);
        pool_worker_registry_close(registry);
        if (is_through) {
            assert_int_equal(code, POOL_OK);
            break;
        }
        assert_true(n < 1000);
    }
}

/* SQLite's allocations, one after the other; ours are failed by the torture tests. */
static void fail_allocations(bool is_transaction)
{
    long n = 1;
    for (;; n += n < 60 ? 1 : 11) {
        struct outcome outcome = { 0 };
        struct pool_worker_registry *registry = NULL;
        make_ground(url);
        has_allocation_failed = false;
        allocations_until_failure = n;
        enum pool_code code = pool_worker_registry_open(url, &registry, NULL);
        if (code == POOL_OK) {
            change_everything(registry, is_transaction, &outcome);
            check_codes(&outcome, POOL_INSUFFICIENT_MEMORY, POOL_REGISTRY_UNAVAILABLE);
        } else {
            assert_int_equal(code, POOL_INSUFFICIENT_MEMORY);
            outcome = (struct outcome){ .code = { code, code, code, code }, .commit = code };
        }
        bool is_through = !has_allocation_failed;
        allocations_until_failure = -1;
        /* Whatever failed, this registry is of use again. */
        if (code == POOL_OK)
            assert_int_equal(register_small(registry, "changed", 50, NULL), POOL_ALREADY_EXISTS);
        pool_worker_registry_close(registry);
        check_outcome(url, &outcome);
        if (is_through)
            break;
        assert_true(n < 20000);
    }
    assert_true(n > 50);
}

static void test_no_memory(void **state)
{
    (void)state;
    fail_allocations(false);
    fail_allocations(true);
    assert_int_equal(sqlite3_memory_used(), 0);
}

int main(void)
{
    if (!make_sqlite_fail())
        return 1;
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_full_disk),
        TEST(test_failing_disk),
        TEST(test_full_disk_at_open),
        TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
