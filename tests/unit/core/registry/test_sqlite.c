/*
 * What only the registry in a database has: its file, schemas of others, rows that nobody may have written, damage,
 * and waiting for locks. Failing disks and memory: torture/test_sqlite_torture.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
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
    remove_files();
    return rmdir(folder);
}

#define SCHEMA_BEFORE_LEARNED "1"

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

/* Does to the file what the registry never would. */
static void tamper(const char *sql)
{
    sqlite3 *db = NULL;
    char *message = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static size_t read_bytes(unsigned char **ret_bytes)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    assert_true(fd >= 0 && fstat(fd, &status) == 0);
    unsigned char *bytes = malloc((size_t)status.st_size + 1);
    assert_non_null(bytes);
    assert_int_equal(read(fd, bytes, (size_t)status.st_size), status.st_size);
    *ret_bytes = bytes;
    return (size_t)status.st_size;
}

static void write_bytes(const void *bytes, size_t n)
{
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
}

/* --- the file --- */

static void test_files_are_private(void **state)
{
    (void)state;
    mode_t mask = umask(0);
    struct pool_worker_registry *registry = open_registry(url);
    assert_int_equal(register_small(registry, "a", 1, NULL), POOL_OK);
    static const char *const suffixes[] = { "", "-wal", "-shm" };
    for (size_t i = 0; i < 3; i++) {
        char name[96];
        struct stat status;
        snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        assert_int_equal(stat(name, &status), 0);
        assert_int_equal(status.st_mode & 0777, 0600);
    }
    pool_worker_registry_close(registry);
    umask(mask);
}

static void test_without_wal(void **state)
{
    (void)state;
    char plain_url[128];
    snprintf(plain_url, sizeof plain_url, "%s?wal=0&check=1", url);
    for (int i = 0; i < 2; i++) { /* new, then changed from a write-ahead log to none */
        struct pool_worker_registry *registry = open_registry(plain_url);
        char name[96];
        snprintf(name, sizeof name, "%s-wal", path);
        assert_int_equal(register_small(registry, i == 0 ? "a" : "b", i + 1, NULL), POOL_OK);
        assert_int_not_equal(access(name, F_OK), 0);
        pool_worker_registry_close(registry);
        registry = open_registry(url);
        assert_int_equal(register_small(registry, i == 0 ? "c" : "d", i + 3, NULL), POOL_OK);
        assert_int_equal(access(name, F_OK), 0);
        pool_worker_registry_close(registry);
    }
}

static void test_odd_paths(void **state)
{
    (void)state;
    CLEANUP_CLOSE int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(here >= 0);
    assert_int_equal(chdir(folder), 0);
    static const char *const names[] = { "file:odd.db", ":memory:", "x&y#z%41 \xc3\xa4.db" };
    for (size_t i = 0; i < 3; i++) {
        char odd[64];
        snprintf(odd, sizeof odd, "sqlite:%s", names[i]);
        struct pool_worker_registry *registry = NULL;
        assert_int_equal(pool_worker_registry_open(odd, &registry, NULL), POOL_OK);
        pool_worker_registry_close(registry);
        assert_int_equal(access(names[i], F_OK), 0);
        static const char *const suffixes[] = { "", "-wal", "-shm" };
        for (size_t k = 0; k < 3; k++) {
            snprintf(odd, sizeof odd, "%s%s", names[i], suffixes[k]);
            assert_int_equal(unlink(odd), 0);
        }
    }
    assert_int_equal(fchdir(here), 0);
}

static void test_places_that_can_not_be(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_registry *registry = NULL;
    char bad[160];
    snprintf(bad, sizeof bad, "sqlite:%s/none/pool.db", folder);
    assert_int_equal(pool_worker_registry_open(bad, &registry, &err), POOL_REGISTRY_UNAVAILABLE);
    assert_int_equal(err.sys_errno, ENOENT);
    snprintf(bad, sizeof bad, "sqlite:%s", folder);
    assert_int_equal(pool_worker_registry_open(bad, &registry, &err), POOL_REGISTRY_UNAVAILABLE);
    assert_null(registry);
}

/* In a child, which is nobody when we are root: root may write everything. */
static void test_a_file_without_write_permission(void **state)
{
    (void)state;
    pool_worker_registry_close(open_registry(url));
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(chmod(folder, 0777), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct pool_worker_registry *registry = NULL;
        struct pool_error err = POOL_ERROR_INIT;
        if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
            _exit(100);
        enum pool_code code = pool_worker_registry_open(url, &registry, &err);
        _exit(code == POOL_REGISTRY_UNAVAILABLE && !err.is_retriable && err.sys_errno == EACCES ? 0 : 101);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- what is in it --- */

/* Opens a file that must be refused, and looks that not a byte of it changed. */
static void assert_refused(struct pool_error *err)
{
    CLEANUP_FREE unsigned char *before = NULL;
    size_t n_before = read_bytes(&before);
    struct pool_worker_registry *registry = NULL;
    assert_int_equal(pool_worker_registry_open(url, &registry, err), POOL_REGISTRY_UNAVAILABLE);
    assert_null(registry);
    assert_false(err->is_retriable);
    CLEANUP_FREE unsigned char *after = NULL;
    assert_int_equal(read_bytes(&after), n_before);
    assert_memory_equal(before, after, n_before);
}

static void test_newer_schema(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    pool_worker_registry_close(open_registry(url));
    tamper("PRAGMA user_version = 1000");
    assert_refused(&err);
    assert_int_equal(pool_error_detail(&err, "schema_version")->number, 1000);
    assert_null(pool_error_detail(&err, "is_corrupt"));
    tamper("PRAGMA user_version = -1");
    assert_refused(&err);
}

/* A database as it was before anything was learned: its rows are there afterwards, with nothing in what was added. */
static void test_schema_without_learned(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_registry *registry = open_registry(url);
    assert_int_equal(register_small(registry, "w", 8001, &err), POOL_OK);
    pool_worker_registry_close(registry);
    tamper("DROP TABLE learned; DROP TABLE explanation");
    static const char *const tables[] = { "worker", "history" };
    static const char *const columns[] = { "learned_key",        "estimated_bytes",
                                           "is_reserve_fixed",   "shares",
                                           "queue_position",     "queue_reason",
                                           "idle_since_wall_ms", "idle_since_boottime_ns",
                                           "kill_at_boottime_ns" };
    for (size_t i = 0; i < 2; i++) {
        for (size_t k = 0; k < sizeof columns / sizeof columns[0]; k++) {
            char sql[128];
            snprintf(sql, sizeof sql, "ALTER TABLE %s DROP COLUMN %s", tables[i], columns[k]);
            tamper(sql);
        }
    }
    tamper("PRAGMA user_version = " SCHEMA_BEFORE_LEARNED);
    registry = open_registry(url);
    CLEANUP_WORKER struct pool_worker_info *worker = NULL;
    assert_int_equal(pool_worker_registry_get(registry, "w", &worker, &err), POOL_OK);
    assert_null(worker->learned_key);
    assert_null(worker->shares);
    assert_int_equal(worker->estimated_bytes, 0);
    assert_false(worker->is_reserve_fixed);
    struct pool_learned_list *list = NULL;
    assert_int_equal(pool_worker_registry_list_learned(registry, NULL, &list, &err), POOL_OK);
    assert_int_equal(list->n_uses, 0);
    pool_learned_list_free(list);
    struct pool_explanation_key key = { "x-1", "w", NULL };
    char **texts = NULL;
    assert_int_equal(pool_worker_registry_put_explanation(registry, &key, "{}", &err), POOL_OK);
    assert_int_equal(pool_worker_registry_find_explanations(registry, "w", 9, &texts, &err), POOL_OK);
    assert_string_equal(texts[0], "{}");
    assert_null(texts[1]);
    free(texts[0]);
    free(texts);
    pool_worker_registry_close(registry);
}

static void test_database_of_another(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    tamper("CREATE TABLE theirs (x)");
    assert_refused(&err);
    assert_null(pool_error_detail(&err, "is_corrupt"));
    tamper("DROP TABLE theirs; PRAGMA application_id = 1");
    assert_refused(&err);
}

static void test_not_a_database(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    char text[4096];
    memset(text, 'x', sizeof text);
    write_bytes(text, sizeof text);
    assert_refused(&err);
    assert_true(pool_error_detail(&err, "is_corrupt")->number);
    assert_string_equal(pool_error_detail(&err, "path")->text, path);
}

static void test_an_empty_file_is_new(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_registry *registry = NULL;
    write_bytes("", 0);
    assert_int_equal(pool_worker_registry_open_read_only(url, &registry, &err), POOL_REGISTRY_UNAVAILABLE);
    assert_true(err.is_retriable);
    registry = open_registry(url);
    assert_int_equal(register_small(registry, "a", 1, NULL), POOL_OK);
    pool_worker_registry_close(registry);
}

static void test_check_finds_damage(void **state)
{
    (void)state;
    struct pool_worker_registry *registry = open_registry(url);
    for (int i = 0; i < 40; i++) {
        char id[16];
        snprintf(id, sizeof id, "w%d", i);
        assert_int_equal(register_small(registry, id, i + 1, NULL), POOL_OK);
    }
    pool_worker_registry_close(registry);
    CLEANUP_FREE unsigned char *bytes = NULL;
    size_t n = read_bytes(&bytes);
    for (size_t page = 1; page < n / 4096; page++) {
        if (memmem(bytes + 4096 * page, 4096, "w3", 2)) /* records are there, and not the schema */
            memset(bytes + 4096 * page, 0xee, 64);      /* the header of the page */
    }
    write_bytes(bytes, n);
    struct pool_error err = POOL_ERROR_INIT;
    char checked_url[128];
    snprintf(checked_url, sizeof checked_url, "%s?check=1", url);
    assert_int_equal(pool_worker_registry_open(checked_url, &registry, &err), POOL_REGISTRY_UNAVAILABLE);
    assert_true(pool_error_detail(&err, "is_corrupt")->number);
    /* Without the check the damage is met later. */
    registry = open_registry(url);
    struct pool_worker_list *list = NULL;
    assert_int_equal(pool_worker_registry_list(registry, POOL_REGISTRY_LIVE, &list, &err),
                     POOL_REGISTRY_UNAVAILABLE);
    assert_true(pool_error_detail(&err, "is_corrupt")->number);
    assert_null(list);
    pool_worker_registry_close(registry);
}

/* Without STRICT and NOT NULL, so that anything can be put in. */
#define LOOSEN \
    "CREATE TABLE loose AS SELECT * FROM worker; DROP TABLE worker; ALTER TABLE loose RENAME TO worker;"

static void test_bad_rows(void **state)
{
    (void)state;
    static const struct {
        const char *column, *value;
    } cases[] = {
        { "worker_id", "NULL" },
        { "worker_id", "'../etc'" },
        { "worker_id", "x'61'" },
        { "backend", "x'6370'" },
        { "uri", "'a' || char(0) || 'b'" },
        { "log_path", "hex(zeroblob(40000))" },
        { "port", "70000" },
        { "port", "-1" },
        { "port", "'http'" },
        { "port", "8001.5" },
        { "port", "NULL" },
        { "status", "'flying'" },
        { "status", "0" },
        { "status", "NULL" },
        { "revision", "-1" },
        { "is_healthy", "2" },
        { "is_healthy", "NULL" },
        { "boot_id", "NULL" },
        { "boot_id", "'0123456789012345678901234567890123456'" },
        { "observed_bytes", "'many'" },
        { "exit_code", "1.5" },
        { "stop_reason", "'none '" },
        { "labels", "'no end'" },
        { "labels", "'a=b' || char(10) || 'a=c' || char(10)" },
        { "labels", "'=x' || char(10)" },
        { "labels", "char(10)" },
        { "labels", "5" },
        { "labels", "hex(zeroblob(6000)) || '=' || char(10)" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        remove_files();
        CLEANUP_REGISTRY struct pool_worker_registry *registry = open_registry(url);
        assert_int_equal(register_small(registry, "good", 8000, NULL), POOL_OK);
        assert_int_equal(register_small(registry, "bad", 8001, NULL), POOL_OK);
        char sql[512];
        snprintf(sql, sizeof sql, LOOSEN "UPDATE worker SET %s = %s WHERE worker_id = 'bad'", cases[i].column,
                 cases[i].value);
        tamper(sql);
        struct pool_error err = POOL_ERROR_INIT;
        struct pool_worker_list *list = NULL;
        enum pool_code code = pool_worker_registry_list(registry, POOL_REGISTRY_LIVE, &list, &err);
        if (code != POOL_REGISTRY_UNAVAILABLE)
            fail_msg("%s = %s: %s", cases[i].column, cases[i].value, pool_code_name(code));
        assert_null(list);
        assert_true(pool_error_detail(&err, "is_corrupt")->number);
        assert_string_equal(pool_error_detail(&err, "column")->text, cases[i].column);
        if (strcmp(cases[i].column, "worker_id") != 0)
            assert_string_equal(pool_error_detail(&err, "worker_id")->text, "bad");
        /* Asked for alone, the good one is still there. */
        CLEANUP_WORKER struct pool_worker_info *good = NULL;
        assert_int_equal(pool_worker_registry_get(registry, "good", &good, NULL), POOL_OK);
        assert_int_equal(good->port, 8000);
    }
}

static void test_missing_parts(void **state)
{
    (void)state;
    static const char *const damages[] = { "DELETE FROM registry", "DROP TABLE registry",
                                           "DROP TABLE history", "ALTER TABLE history DROP COLUMN backend",
                                           "DROP TABLE worker" };
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        remove_files();
        CLEANUP_REGISTRY struct pool_worker_registry *registry = open_registry(url);
        CLEANUP_WORKER struct pool_worker_info *worker = small_worker("a", 1);
        assert_non_null(worker);
        assert_int_equal(pool_worker_registry_register(registry, worker, NULL), POOL_OK);
        tamper(damages[i]);
        struct pool_error err = POOL_ERROR_INIT;
        assert_int_equal(pool_worker_registry_unregister(registry, worker, &err), POOL_REGISTRY_UNAVAILABLE);
        assert_true(pool_error_detail(&err, "is_corrupt")->number);
        assert_int_equal(worker->revision, 1);
        assert_int_equal(worker->status, POOL_WORKER_SPAWNING);
    }
}

static void test_too_many_rows(void **state)
{
    (void)state;
    CLEANUP_REGISTRY struct pool_worker_registry *registry = open_registry(url);
    assert_int_equal(register_small(registry, "a", 0, NULL), POOL_OK);
    tamper(LOOSEN "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4100)"
                  "INSERT INTO worker SELECT w.* FROM worker w, n");
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_list *list = NULL;
    assert_int_equal(pool_worker_registry_list(registry, POOL_REGISTRY_LIVE, &list, &err),
                     POOL_REGISTRY_UNAVAILABLE);
    assert_null(list);
}

/* Reads everything there is; the answers do not matter, that there are some does. */
static void read_everything(void)
{
    struct pool_worker_registry *registry = NULL;
    if (pool_worker_registry_open(url, &registry, NULL) != POOL_OK)
        return;
    CLEANUP_LIST struct pool_worker_list *live = NULL;
    CLEANUP_LIST struct pool_worker_list *history = NULL;
    CLEANUP_WORKER struct pool_worker_info *worker = NULL;
    CLEANUP_FREE char *note = NULL;
    int64_t generation = 0;
    unsigned n_fine = 0;
    n_fine += pool_worker_registry_list(registry, POOL_REGISTRY_LIVE, &live, NULL) == POOL_OK;
    n_fine += pool_worker_registry_list(registry, POOL_REGISTRY_HISTORY, &history, NULL) == POOL_OK;
    n_fine += pool_worker_registry_get(registry, "w3", &worker, NULL) == POOL_OK;
    n_fine += pool_worker_registry_get_note(registry, "epoch", &note, NULL) == POOL_OK;
    n_fine += pool_worker_registry_generation(registry, &generation, NULL) == POOL_OK;
    n_fine += register_small(registry, "more", 9999, NULL) == POOL_OK;
    assert_true(n_fine <= 6);
    pool_worker_registry_close(registry);
}

static void test_flipped_bits(void **state)
{
    (void)state;
    struct pool_worker_registry *registry = open_registry(url);
    for (int i = 0; i < 10; i++) {
        char id[16];
        snprintf(id, sizeof id, "w%d", i);
        CLEANUP_WORKER struct pool_worker_info *worker =
            i % 2 ? full_worker(id, (unsigned)i) : small_worker(id, i + 1);
        assert_non_null(worker);
        worker->port = i + 1;
        assert_int_equal(pool_worker_registry_register(registry, worker, NULL), POOL_OK);
        if (i < 4)
            assert_int_equal(pool_worker_registry_unregister(registry, worker, NULL), POOL_OK);
    }
    assert_int_equal(pool_worker_registry_set_note(registry, "epoch", "1", NULL), POOL_OK);
    pool_worker_registry_close(registry);
    CLEANUP_FREE unsigned char *bytes = NULL;
    size_t n = read_bytes(&bytes);
    uint32_t random = 7;
    for (int i = 0; i < 300; i++) {
        CLEANUP_FREE unsigned char *damaged = malloc(n);
        assert_non_null(damaged);
        memcpy(damaged, bytes, n);
        for (int flips = 1 << (i % 5); flips > 0; flips--) {
            random = random * 1664525u + 1013904223u;
            /* Every other one in the first bytes of a page, where the structure is. */
            size_t at = flips % 2 ? random % n : (random >> 8) % (n / 4096) * 4096 + (random & 127);
            damaged[at] ^= (unsigned char)(1u << (random >> 29));
        }
        remove_files();
        write_bytes(damaged, i % 50 == 49 ? n / 2 + random % 4096 : n);
        read_everything();
    }
}

/* --- locks --- */

static void test_held_by_another(void **state)
{
    (void)state;
    CLEANUP_REGISTRY struct pool_worker_registry *holder = open_registry(url);
    CLEANUP_REGISTRY struct pool_worker_registry *other = open_registry(url);
    assert_int_equal(register_small(holder, "a", 1, NULL), POOL_OK);
    assert_int_equal(pool_worker_registry_begin(holder, NULL), POOL_OK);
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(register_small(other, "b", 2, &err), POOL_CONFLICT);
    assert_true(err.is_retriable);
    assert_int_equal(pool_worker_registry_begin(other, &err), POOL_CONFLICT);
    CLEANUP_WORKER struct pool_worker_info *worker = NULL;
    assert_int_equal(pool_worker_registry_get(other, "a", &worker, NULL), POOL_OK); /* reading goes on */
    pool_worker_registry_rollback(holder);
    assert_int_equal(register_small(other, "b", 2, &err), POOL_OK);
}

int main(void)
{
    if (!make_sqlite_fail())
        return 1;
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_files_are_private),
        TEST(test_without_wal),
        TEST(test_odd_paths),
        TEST(test_places_that_can_not_be),
        TEST(test_a_file_without_write_permission),
        TEST(test_newer_schema),
        TEST(test_schema_without_learned),
        TEST(test_database_of_another),
        TEST(test_not_a_database),
        TEST(test_an_empty_file_is_new),
        TEST(test_check_finds_damage),
        TEST(test_bad_rows),
        TEST(test_missing_parts),
        TEST(test_too_many_rows),
        TEST(test_flipped_bits),
        TEST(test_held_by_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
