/*
 * Registries and workers with every allocation of ours failing in turn: the answer is INSUFFICIENT_MEMORY, nothing
 * leaks, and no change is half made. (SQLite's own allocations are failed in unit/core/registry/test_sqlite.c.)
 */
#include <errno.h>
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
#include "sample_worker.h"
#include "torture.h"

static char folder[64];
static char path[80];
static char sqlite_url[96];

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

static int make_folder(void **state)
{
    (void)state;
    /* In memory where that can be: hundreds of databases are made, and a disk would sync each. */
    snprintf(folder, sizeof folder, "%s/pool-torture-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/pool.db", folder);
    snprintf(sqlite_url, sizeof sqlite_url, "sqlite:%s", path);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    remove_files();
    return rmdir(folder);
}

/* --- a whole life --- */

static enum pool_code live_in(struct pool_worker_registry *registry)
{
    CLEANUP_WORKER struct pool_worker_info *worker = full_worker("life", 2);
    CLEANUP_WORKER struct pool_worker_info *found = NULL;
    CLEANUP_LIST struct pool_worker_list *live = NULL;
    CLEANUP_LIST struct pool_worker_list *history = NULL;
    CLEANUP_FREE char *note = NULL;
    int64_t generation = 0;
    enum pool_code code = worker ? POOL_OK : POOL_INSUFFICIENT_MEMORY;
    if (code == POOL_OK)
        code = pool_worker_registry_register(registry, worker, NULL);
    if (code == POOL_OK)
        code = pool_worker_registry_begin(registry, NULL);
    if (code == POOL_OK)
        code = pool_worker_registry_update(registry, worker, NULL);
    if (code == POOL_OK)
        code = pool_worker_registry_set_note(registry, "epoch", "7", NULL);
    if (code == POOL_OK)
        code = pool_worker_registry_commit(registry, NULL);
    if (code == POOL_OK)
        code = pool_worker_registry_get(registry, "life", &found, NULL);
    if (code == POOL_OK)
        code = pool_worker_registry_list(registry, POOL_REGISTRY_LIVE, &live, NULL);
    if (code == POOL_OK)
        code = pool_worker_registry_unregister(registry, worker, NULL);
    if (code == POOL_OK)
        code = pool_worker_registry_list(registry, POOL_REGISTRY_HISTORY, &history, NULL);
    if (code == POOL_OK)
        code = pool_worker_registry_get_note(registry, "epoch", &note, NULL);
    if (code == POOL_OK)
        code = pool_worker_registry_generation(registry, &generation, NULL);
    return code;
}

static enum pool_code open_and_live(void *ctx)
{
    CLEANUP_REGISTRY struct pool_worker_registry *registry = NULL;
    remove_files();
    enum pool_code code = pool_worker_registry_open(ctx, &registry, NULL);
    return code == POOL_OK ? live_in(registry) : code;
}

static void test_a_life(void **state)
{
    (void)state;
    torture_scenario("a life in memory", open_and_live, (char[]){ "memory:" });
    torture_scenario("a life in SQLite", open_and_live, sqlite_url);
}

/* --- each operation, whole or not at all --- */

struct ground {
    struct pool_worker_registry *registry;
    struct pool_worker_info *changed, *stopped; /* as registered */
};

typedef enum pool_code operation(struct ground *ground, struct pool_error *err);

static enum pool_code register_new(struct ground *ground, struct pool_error *err)
{
    struct pool_worker_info *worker = ground->stopped; /* under another name */
    memcpy(worker->worker_id, "newcome", 7);
    worker->port = 30;
    enum pool_code code = pool_worker_registry_register(ground->registry, worker, err);
    memcpy(worker->worker_id, "stopped", 7);
    return code;
}

static enum pool_code update(struct ground *ground, struct pool_error *err)
{
    ground->changed->port = 31;
    ground->changed->created_wall_ms = 5;
    return pool_worker_registry_update(ground->registry, ground->changed, err);
}

static enum pool_code unregister(struct ground *ground, struct pool_error *err)
{
    return pool_worker_registry_unregister(ground->registry, ground->stopped, err);
}

static enum pool_code set_note(struct ground *ground, struct pool_error *err)
{
    return pool_worker_registry_set_note(ground->registry, "note", "new", err);
}

static struct ground make_ground(const char *url)
{
    struct ground ground = { 0 };
    remove_files();
    assert_int_equal(pool_worker_registry_open(url, &ground.registry, NULL), POOL_OK);
    ground.changed = full_worker("changed", 1);
    ground.stopped = full_worker("stopped", 2);
    assert_true(ground.changed && ground.stopped);
    ground.changed->port = 1;
    ground.stopped->port = 2;
    assert_int_equal(pool_worker_registry_begin(ground.registry, NULL), POOL_OK);
    assert_int_equal(pool_worker_registry_register(ground.registry, ground.changed, NULL), POOL_OK);
    assert_int_equal(pool_worker_registry_register(ground.registry, ground.stopped, NULL), POOL_OK);
    /* Fill up to where the next record makes the tables of the one in memory grow. */
    for (int i = 0; i < 30; i++) {
        char id[16];
        snprintf(id, sizeof id, "w%d", i);
        CLEANUP_WORKER struct pool_worker_info *worker = small_worker(id, 100 + i);
        assert_non_null(worker);
        assert_int_equal(pool_worker_registry_register(ground.registry, worker, NULL), POOL_OK);
    }
    assert_int_equal(pool_worker_registry_commit(ground.registry, NULL), POOL_OK);
    return ground;
}

static void clear_ground(struct ground *ground)
{
    pool_worker_registry_close(ground->registry);
    pool_worker_info_free(ground->changed);
    pool_worker_info_free(ground->stopped);
}

struct picture {
    struct pool_worker_list *live, *history;
    char *note;
    int64_t generation;
};

static struct picture take_picture(struct pool_worker_registry *registry)
{
    struct picture picture = { 0 };
    assert_int_equal(pool_worker_registry_list(registry, POOL_REGISTRY_LIVE, &picture.live, NULL), POOL_OK);
    assert_int_equal(pool_worker_registry_list(registry, POOL_REGISTRY_HISTORY, &picture.history, NULL),
                     POOL_OK);
    assert_int_equal(pool_worker_registry_get_note(registry, "note", &picture.note, NULL), POOL_OK);
    assert_int_equal(pool_worker_registry_generation(registry, &picture.generation, NULL), POOL_OK);
    return picture;
}

static void clear_picture(struct picture *picture)
{
    pool_worker_list_free(picture->live);
    pool_worker_list_free(picture->history);
    free(picture->note);
}

static void assert_same_list(const struct pool_worker_list *a, const struct pool_worker_list *b)
{
    assert_int_equal(a->n_workers, b->n_workers);
    for (size_t i = 0; i < a->n_workers; i++)
        assert_null(differing_field(a->workers[i], b->workers[i]));
}

static void assert_same_picture(const struct picture *a, const struct picture *b)
{
    assert_same_list(a->live, b->live);
    assert_same_list(a->history, b->history);
    assert_true(is_same_text(a->note, b->note));
    assert_int_equal(a->generation, b->generation);
}

/* One operation with its n-th allocation failing; returns whether there was an n-th. */
static bool fail_once(const char *url, operation *operate, long n, bool is_transaction)
{
    struct ground ground = make_ground(url);
    struct picture before = take_picture(ground.registry);
    int64_t revisions = ground.changed->revision + ground.stopped->revision;
    struct pool_error err = POOL_ERROR_INIT;
    if (is_transaction)
        assert_int_equal(pool_worker_registry_begin(ground.registry, NULL), POOL_OK);
    torture_arm(n);
    enum pool_code code = operate(&ground, &err);
    bool has_failed = torture_disarm();
    if (is_transaction)
        assert_int_equal(pool_worker_registry_commit(ground.registry, NULL), POOL_OK);
    struct picture after = take_picture(ground.registry);
    if (has_failed) {
        assert_int_equal(code, POOL_INSUFFICIENT_MEMORY);
        assert_int_equal(err.sys_errno, ENOMEM);
        assert_same_picture(&before, &after);
        assert_int_equal(ground.changed->revision + ground.stopped->revision, revisions);
        assert_int_equal(operate(&ground, &err), POOL_OK); /* with memory it works */
    } else {
        assert_int_equal(code, POOL_OK);
        assert_int_not_equal(after.generation, before.generation);
    }
    clear_picture(&before);
    clear_picture(&after);
    clear_ground(&ground);
    return has_failed;
}

static void test_whole_or_not_at_all(void **state)
{
    (void)state;
    static operation *const operations[] = { register_new, update, unregister, set_note };
    const char *const urls[] = { "memory:", sqlite_url };
    for (size_t i = 0; i < 2; i++) {
        for (size_t j = 0; j < sizeof operations / sizeof operations[0]; j++) {
            for (int is_transaction = 0; is_transaction < 2; is_transaction++) {
                long n_before = torture_live_blocks();
                long n = 1;
                while (fail_once(urls[i], operations[j], n, is_transaction != 0))
                    n++;
                assert_true(n < 1000);
                assert_int_equal(torture_live_blocks(), n_before);
            }
        }
    }
}

/* --- workers as values --- */

static enum pool_code make_and_copy(void *ctx)
{
    (void)ctx;
    CLEANUP_WORKER struct pool_worker_info *worker = full_worker("copied", 3);
    if (!worker)
        return POOL_INSUFFICIENT_MEMORY;
    CLEANUP_WORKER struct pool_worker_info *copy = pool_worker_info_copy(worker);
    if (!copy)
        return POOL_INSUFFICIENT_MEMORY;
    if (differing_field(worker, copy))
        return POOL_INTERNAL;
    size_t n_labels = copy->n_labels;
    enum pool_code code = pool_worker_info_set_label(copy, copy->labels[5].name, "other", NULL);
    return copy->n_labels == n_labels ? code : POOL_INTERNAL;
}

static void test_values(void **state)
{
    (void)state;
    torture_scenario("a worker and its copy", make_and_copy, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_life, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_whole_or_not_at_all, make_folder, remove_folder),
        cmocka_unit_test(test_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
