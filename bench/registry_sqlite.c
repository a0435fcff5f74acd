/*
 * The registry in SQLite: register, update, get, and list of all. Beside it SQLite alone, in the same mode, with a row
 * of an id, a port and 1 KiB as one value: what any store of such records pays.
 * Usage: registry_sqlite FOLDER N
 */
#include <sqlite3.h>

#include "records.h"

#define ROW_BYTES 1024

struct bare {
    sqlite3 *db;
    sqlite3_stmt *insert, *update, *get, *list;
};

static void expect_rc(const struct bare *bare, int rc, int expected)
{
    if (rc != expected)
        die("SQLite: %s", sqlite3_errmsg(bare->db));
}

static void open_bare(struct bare *bare, const char *folder)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/bare.db", folder);
    expect_rc(bare, sqlite3_open(path, &bare->db), SQLITE_OK);
    expect_rc(bare,
              sqlite3_exec(bare->db,
                           "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                           "CREATE TABLE row (id TEXT PRIMARY KEY, port INTEGER UNIQUE, value BLOB) STRICT",
                           NULL, NULL, NULL),
              SQLITE_OK);
    expect_rc(bare, sqlite3_prepare_v2(bare->db, "INSERT INTO row VALUES (?, ?, ?)", -1, &bare->insert, NULL),
              SQLITE_OK);
    expect_rc(
        bare,
        sqlite3_prepare_v2(bare->db, "UPDATE row SET value = ?3 WHERE id = ?1", -1, &bare->update, NULL),
        SQLITE_OK);
    expect_rc(bare, sqlite3_prepare_v2(bare->db, "SELECT * FROM row WHERE id = ?", -1, &bare->get, NULL),
              SQLITE_OK);
    expect_rc(bare, sqlite3_prepare_v2(bare->db, "SELECT * FROM row", -1, &bare->list, NULL), SQLITE_OK);
}

static int64_t run_bare(struct bare *bare, sqlite3_stmt *statement, int64_t id, int expected)
{
    static const char value[ROW_BYTES];
    char text[32];
    snprintf(text, sizeof text, "worker-%" PRId64, id);
    int64_t start_ns = clock_boottime_ns();
    if (sqlite3_bind_parameter_count(statement) > 0)
        sqlite3_bind_text(statement, 1, text, -1, SQLITE_STATIC);
    if (statement == bare->insert)
        sqlite3_bind_int64(statement, 2, id + 1);
    if (sqlite3_bind_parameter_count(statement) > 2)
        sqlite3_bind_blob(statement, 3, value, sizeof value, SQLITE_STATIC);
    expect_rc(bare, sqlite3_step(statement), expected);
    if (statement == bare->list) {
        int rc;
        while ((rc = sqlite3_step(statement)) == SQLITE_ROW)
            (void)sqlite3_column_blob(statement, 2);
        expect_rc(bare, rc, SQLITE_DONE);
    }
    sqlite3_reset(statement);
    return clock_boottime_ns() - start_ns;
}

#define TIMED(samples, call)                                    \
    do {                                                        \
        int64_t timed_ns_ = clock_boottime_ns();                \
        enum pool_code timed_code_ = (call);                    \
        add_sample((samples), clock_boottime_ns() - timed_ns_); \
        expect_ok(timed_code_, &err);                           \
    } while (0)

int main(int argc, char **argv)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_registry *registry = NULL;
    struct bare bare = { 0 };
    struct samples samples = { 0 };
    struct samples bare_samples = { 0 };
    char url[1100];
    if (argc != 3)
        die("usage: registry_sqlite FOLDER N");
    int64_t n = count_argument(argv[2]);
    snprintf(url, sizeof url, "sqlite:%s/registry.db", argv[1]);
    expect_ok(pool_worker_registry_open(url, &registry, &err), &err);
    open_bare(&bare, argv[1]);
    struct pool_worker_info **workers = calloc((size_t)n, sizeof(void *));
    for (int64_t i = 0; workers && i < n; i++) {
        workers[i] = make_record(i);
        workers[i]->port = i + 1;
    }
    if (!workers)
        die("out of memory");

    for (int64_t i = 0; i < n; i++) {
        TIMED(&samples, pool_worker_registry_register(registry, workers[i], &err));
        add_sample(&bare_samples, run_bare(&bare, bare.insert, i, SQLITE_DONE));
    }
    report("register", &samples);
    report("bare_register", &bare_samples);
    for (int64_t i = 0; i < n; i++) {
        workers[i]->reserved_bytes++;
        TIMED(&samples, pool_worker_registry_update(registry, workers[i], &err));
        add_sample(&bare_samples, run_bare(&bare, bare.update, i, SQLITE_DONE));
    }
    report("update", &samples);
    report("bare_update", &bare_samples);
    for (int64_t i = 0; i < n; i++) {
        struct pool_worker_info *worker = NULL;
        TIMED(&samples, pool_worker_registry_get(registry, workers[i]->worker_id, &worker, &err));
        pool_worker_info_free(worker);
        add_sample(&bare_samples, run_bare(&bare, bare.get, i, SQLITE_ROW));
    }
    report("get", &samples);
    report("bare_get", &bare_samples);
    for (int i = 0; i < 30; i++) {
        struct pool_worker_list *list = NULL;
        TIMED(&samples, pool_worker_registry_list(registry, POOL_REGISTRY_LIVE, &list, &err));
        if (list->n_workers != (size_t)n)
            die("not all workers are in the list");
        pool_worker_list_free(list);
        add_sample(&bare_samples, run_bare(&bare, bare.list, 0, SQLITE_ROW));
    }
    report("list", &samples);
    report("bare_list", &bare_samples);
    for (int64_t i = 0; i < n; i++)
        pool_worker_info_free(workers[i]);
    free(workers);
    sqlite3_finalize(bare.insert);
    sqlite3_finalize(bare.update);
    sqlite3_finalize(bare.get);
    sqlite3_finalize(bare.list);
    sqlite3_close(bare.db);
    pool_worker_registry_close(registry);
    return 0;
}
