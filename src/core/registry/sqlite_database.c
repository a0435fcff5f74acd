/*
 * The database file behind the sqlite registry: opening it, its schema and version, its prepared
 * statements, and what a failure of SQLite means. Knows nothing of what a worker is.
 *
 * Source: https://www.sqlite.org/rescode.html, /pragma.html, /wal.html.
 */
#include "core/registry/sqlite.h"
#include "core/registry/sqlite_learned.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define APPLICATION_ID  0x504f4f4c /* "POOL" */
#define SCHEMA_VERSION  6
#define BUSY_TIMEOUT_MS 10000
/* Longer than any row of ours; what a damaged or hostile file can make SQLite allocate for one value. */
#define VALUE_BYTES_MAX (4 * 1024 * 1024)

/* Positions are without gaps, as those of the history. */
static const char schema_explanations[] =
    "CREATE TABLE explanation (position INTEGER PRIMARY KEY, record_id TEXT NOT NULL, worker_id TEXT, "
    "correlation_id TEXT, text TEXT NOT NULL) STRICT;"
    "CREATE INDEX explanation_record ON explanation (record_id);"
    "CREATE INDEX explanation_worker ON explanation (worker_id) WHERE worker_id IS NOT NULL;"
    "CREATE INDEX explanation_request ON explanation (correlation_id) WHERE correlation_id IS NOT NULL;";

/* The fields of WORKER_FIELDS_QUEUE. */
#define QUEUE_COLUMNS(table)                                                      \
    "ALTER TABLE " table " ADD COLUMN queue_position INTEGER NOT NULL DEFAULT 0;" \
    "ALTER TABLE " table " ADD COLUMN queue_reason TEXT;"
static const char schema_queue[] = QUEUE_COLUMNS("worker") QUEUE_COLUMNS("history");

/* The fields of WORKER_FIELDS_IDLE. */
#define IDLE_COLUMNS(table)                                                           \
    "ALTER TABLE " table " ADD COLUMN idle_since_wall_ms INTEGER NOT NULL DEFAULT 0;" \
    "ALTER TABLE " table " ADD COLUMN idle_since_boottime_ns INTEGER NOT NULL DEFAULT 0;"
static const char schema_idle[] = IDLE_COLUMNS("worker") IDLE_COLUMNS("history");

/* The field of WORKER_FIELDS_STOP. */
#define STOP_COLUMNS(table) "ALTER TABLE " table " ADD COLUMN kill_at_boottime_ns INTEGER NOT NULL DEFAULT 0;"
static const char schema_stop[] = STOP_COLUMNS("worker") STOP_COLUMNS("history");

/* migrations[v] leads from schema v to v + 1. They stay as they are once released; a new schema is a new line. */
static const char *const migrations[SCHEMA_VERSION] = { sqlite_schema_1,     sqlite_schema_learned,
                                                        schema_explanations, schema_queue,
                                                        schema_idle,         schema_stop };

static const char find_explanations[] =
    "SELECT text FROM explanation WHERE record_id = ?1 OR worker_id = ?1 OR correlation_id = ?1 "
    "ORDER BY position DESC LIMIT ?2";

static const char *const statements[SQLITE_N_STATEMENTS] = {
    [SQLITE_STATEMENT_BEGIN] = "BEGIN IMMEDIATE",
    [SQLITE_STATEMENT_COMMIT] = "COMMIT",
    [SQLITE_STATEMENT_ROLLBACK] = "ROLLBACK",
    [SQLITE_STATEMENT_SAVEPOINT] = "SAVEPOINT change",
    [SQLITE_STATEMENT_RELEASE] = "RELEASE change",
    [SQLITE_STATEMENT_ROLLBACK_TO] = "ROLLBACK TO change",
    [SQLITE_STATEMENT_READ_GENERATION] = "SELECT generation FROM registry",
    [SQLITE_STATEMENT_RAISE_GENERATION] = "UPDATE registry SET generation = generation + 1",
    [SQLITE_STATEMENT_COUNT_WORKERS] = "SELECT count(*) FROM worker",
    [SQLITE_STATEMENT_FIND_REVISION] = "SELECT revision FROM worker WHERE worker_id = ?",
    [SQLITE_STATEMENT_FIND_PORT] = "SELECT worker_id FROM worker WHERE port = ? AND port > 0",
    [SQLITE_STATEMENT_INSERT_WORKER] = sqlite_insert_worker,
    [SQLITE_STATEMENT_UPDATE_WORKER] = sqlite_update_worker,
    [SQLITE_STATEMENT_DELETE_WORKER] = "DELETE FROM worker WHERE worker_id = ? AND revision = ?",
    [SQLITE_STATEMENT_INSERT_HISTORY] = sqlite_insert_history,
    [SQLITE_STATEMENT_SHORTEN_HISTORY] = "DELETE FROM history WHERE position <= ?",
    [SQLITE_STATEMENT_FIRST_TO_LEAVE] = sqlite_first_to_leave_history,
    [SQLITE_STATEMENT_GET_WORKER] = sqlite_get_worker,
    [SQLITE_STATEMENT_GET_HISTORY] = sqlite_get_history,
    [SQLITE_STATEMENT_LIST_WORKERS] = sqlite_list_workers,
    [SQLITE_STATEMENT_LIST_HISTORY] = sqlite_list_history,
    [SQLITE_STATEMENT_GET_NOTE] = "SELECT text FROM note WHERE name = ?",
    [SQLITE_STATEMENT_PUT_NOTE] = "INSERT OR REPLACE INTO note (name, text) VALUES (?, ?)",
    [SQLITE_STATEMENT_DELETE_NOTE] = "DELETE FROM note WHERE name = ?",
    [SQLITE_STATEMENT_PUT_LEARNED] = sqlite_learned_put,
    [SQLITE_STATEMENT_SHORTEN_LEARNED] = sqlite_learned_shorten,
    [SQLITE_STATEMENT_LIST_LEARNED] = sqlite_learned_list,
    [SQLITE_STATEMENT_GET_LEARNED] = sqlite_learned_get,
    [SQLITE_STATEMENT_FORGET_LEARNED] = sqlite_learned_forget,
    [SQLITE_STATEMENT_PUT_EXPLANATION] =
        "INSERT INTO explanation (record_id, worker_id, correlation_id, text) VALUES (?, ?, ?, ?)",
    [SQLITE_STATEMENT_SHORTEN_EXPLANATIONS] = "DELETE FROM explanation WHERE position <= ?",
    [SQLITE_STATEMENT_FIND_EXPLANATIONS] = find_explanations,
    [SQLITE_STATEMENT_LIST_EXPLANATIONS] = "SELECT text FROM explanation ORDER BY position DESC LIMIT ?2",
};

static enum pool_code unavailable(const struct sqlite_registry *registry, struct pool_error *err,
                                  int sys_errno, bool is_retriable, const char *what)
{
    if (sys_errno != 0)
        pool_error_set_errno(err, POOL_REGISTRY_UNAVAILABLE, sys_errno, "the registry %s: %s", registry->path,
                             what);
    else
        pool_error_set(err, POOL_REGISTRY_UNAVAILABLE, "the registry %s: %s", registry->path, what);
    pool_error_add_text(err, "path", registry->path);
    if (err)
        err->is_retriable = is_retriable;
    return POOL_REGISTRY_UNAVAILABLE;
}

enum pool_code sqlite_corrupt(const struct sqlite_registry *registry, struct pool_error *err,
                              const char *what)
{
    unavailable(registry, err, 0, false, what);
    pool_error_add_bool(err, "is_corrupt", true);
    return POOL_REGISTRY_UNAVAILABLE;
}

static enum pool_code no_space(const struct sqlite_registry *registry, struct pool_error *err, int sys_errno)
{
    pool_error_set_errno(err, POOL_INSUFFICIENT_DISK, sys_errno, "the registry %s can not be written",
                         registry->path);
    pool_error_add_text(err, "path", registry->path);
    return POOL_INSUFFICIENT_DISK;
}

enum pool_code sqlite_failure(const struct sqlite_registry *registry, int rc, struct pool_error *err)
{
    int sys_errno = registry->db ? sqlite3_system_errno(registry->db) : 0;
    switch (rc & 0xff) { /* the upper bits tell more of the same */
    case SQLITE_NOMEM: return pool_error_no_memory(err);
    case SQLITE_FULL: return no_space(registry, err, ENOSPC);
    case SQLITE_IOERR:
        if (rc == SQLITE_IOERR_NOMEM)
            return pool_error_no_memory(err);
        if (sys_errno == ENOSPC || sys_errno == EDQUOT)
            return no_space(registry, err, sys_errno);
        return unavailable(registry, err, sys_errno, true, sqlite3_errstr(rc));
    case SQLITE_CANTOPEN:
        return unavailable(registry, err, sys_errno, sys_errno != EACCES && sys_errno != EPERM,
                           sqlite3_errstr(rc));
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        pool_error_set(err, POOL_CONFLICT, "the registry %s is held by another process", registry->path);
        pool_error_add_text(err, "path", registry->path);
        return POOL_CONFLICT;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CONSTRAINT: /* every one that a sound database can give is answered where it is met */
    case SQLITE_MISMATCH:
    case SQLITE_ERROR: /* tables or columns that the version promises are not there */
    case SQLITE_SCHEMA:
        return sqlite_corrupt(registry, err, registry->db ? sqlite3_errmsg(registry->db) : "damaged");
    default: return unavailable(registry, err, 0, false, sqlite3_errstr(rc));
    }
}

enum pool_code sqlite_take(struct sqlite_registry *registry, enum sqlite_statement which,
                           sqlite3_stmt **ret_statement, struct pool_error *err)
{
    sqlite3_stmt **statement = &registry->statements[which];
    if (!*statement) {
        int rc = sqlite3_prepare_v3(registry->db, statements[which], -1, SQLITE_PREPARE_PERSISTENT, statement,
                                    NULL);
        if (rc != SQLITE_OK)
            return sqlite_failure(registry, rc, err);
    }
    *ret_statement = *statement;
    return POOL_OK;
}

void sqlite_give_back(sqlite3_stmt **statement)
{
    if (*statement) {
        sqlite3_reset(*statement); /* tells the failure of the last step again, which has been seen */
        sqlite3_clear_bindings(*statement);
    }
}

enum pool_code sqlite_finish(struct sqlite_registry *registry, sqlite3_stmt *statement,
                             struct pool_error *err)
{
    int rc = sqlite3_step(statement);
    return rc == SQLITE_DONE ? POOL_OK : sqlite_failure(registry, rc, err);
}

enum pool_code sqlite_run(struct sqlite_registry *registry, enum sqlite_statement which,
                          struct pool_error *err)
{
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code = sqlite_take(registry, which, &statement, err);
    return code != POOL_OK ? code : sqlite_finish(registry, statement, err);
}

static void finalize(sqlite3_stmt **statement)
{
    sqlite3_finalize(*statement);
}

/* One value of a query that is asked once; a text goes into `text` (cut at its end), a number into *number. */
static int ask_once(sqlite3 *db, const char *sql, int64_t *number, char *text, size_t n_text)
{
    CLEANUP(finalize) sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(statement);
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE ? SQLITE_CORRUPT : rc;
    if (number)
        *number = sqlite3_column_int64(statement, 0);
    if (text) {
        const unsigned char *value = sqlite3_column_text(statement, 0);
        snprintf(text, n_text, "%s", value ? (const char *)value : "");
    }
    return SQLITE_OK;
}

struct version {
    int64_t application_id;
    int64_t schema;
    int64_t n_objects; /* tables and indexes */
};

static int read_version(sqlite3 *db, struct version *version)
{
    int rc = ask_once(db, "PRAGMA application_id", &version->application_id, NULL, 0);
    if (rc == SQLITE_OK)
        rc = ask_once(db, "PRAGMA user_version", &version->schema, NULL, 0);
    if (rc == SQLITE_OK && version->schema == 0)
        rc = ask_once(db, "SELECT count(*) FROM sqlite_schema", &version->n_objects, NULL, 0);
    return rc;
}

/* All of it as of one moment: another process may be making the schema meanwhile. */
static int read_version_at_once(sqlite3 *db, struct version *version)
{
    int rc = sqlite3_exec(db, "BEGIN", NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return rc;
    rc = read_version(db, version);
    int rc_end = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    return rc != SQLITE_OK ? rc : rc_end;
}

static enum pool_code check_version(const struct sqlite_registry *registry, const struct version *version,
                                    struct pool_error *err)
{
    bool is_new = version->application_id == 0 && version->schema == 0 && version->n_objects == 0;
    if (!is_new && version->application_id != APPLICATION_ID)
        return unavailable(registry, err, 0, false, "this is a database of another program");
    if (version->schema > SCHEMA_VERSION) {
        unavailable(registry, err, 0, false, "made by a newer version of this program");
        pool_error_add_number(err, "schema_version", version->schema);
        pool_error_add_number(err, "known_schema_version", SCHEMA_VERSION);
        return POOL_REGISTRY_UNAVAILABLE;
    }
    if (version->schema < 0)
        return sqlite_corrupt(registry, err, "its version is out of range");
    if (version->schema < SCHEMA_VERSION && registry->is_read_only) {
        unavailable(registry, err, 0, true, "not made yet, or by an older version; open it for writing once");
        pool_error_add_number(err, "schema_version", version->schema);
        return POOL_REGISTRY_UNAVAILABLE;
    }
    return POOL_OK;
}

/* Inside a write transaction, so that of several processes that find an old schema one changes it. */
static enum pool_code migrate_inside(struct sqlite_registry *registry, struct pool_error *err)
{
    struct version version = { 0 };
    int rc = read_version(registry->db, &version);
    if (rc != SQLITE_OK)
        return sqlite_failure(registry, rc, err);
    enum pool_code code = check_version(registry, &version, err);
    if (code != POOL_OK || version.schema == SCHEMA_VERSION)
        return code;
    for (int64_t i = version.schema; i < SCHEMA_VERSION && rc == SQLITE_OK; i++)
        rc = sqlite3_exec(registry->db, migrations[i], NULL, NULL, NULL);
    if (rc == SQLITE_OK) {
        char sql[96];
        snprintf(sql, sizeof sql, "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION_ID,
                 SCHEMA_VERSION);
        rc = sqlite3_exec(registry->db, sql, NULL, NULL, NULL);
    }
    return rc == SQLITE_OK ? POOL_OK : sqlite_failure(registry, rc, err);
}

static enum pool_code migrate(struct sqlite_registry *registry, struct pool_error *err)
{
    enum pool_code code = sqlite_run(registry, SQLITE_STATEMENT_BEGIN, err);
    if (code != POOL_OK)
        return code;
    code = migrate_inside(registry, err);
    if (code == POOL_OK)
        code = sqlite_run(registry, SQLITE_STATEMENT_COMMIT, err);
    /* After a failure nothing is rolled back here: open fails, and closing does it. */
    return code;
}

/*
 * Write-ahead log, where the file system can have it; SQLite answers with the mode it got. The change of mode
 * needs the file alone and can end in BUSY without a wait (two that open a new file at the same time).
 */
static enum pool_code set_journal(struct sqlite_registry *registry, bool is_wal_wanted,
                                  struct pool_error *err)
{
    const char *sql = is_wal_wanted ? "PRAGMA journal_mode = WAL" : "PRAGMA journal_mode = DELETE";
    char mode[16] = "";
    int64_t deadline_ns = clock_boottime_ns() + BUSY_TIMEOUT_MS * NS_PER_MS;
    int rc;
    for (;;) {
        rc = ask_once(registry->db, sql, NULL, mode, sizeof mode);
        if ((rc & 0xff) != SQLITE_BUSY || clock_boottime_ns() > deadline_ns)
            break;
        sqlite3_sleep(2);
    }
    if (rc != SQLITE_OK)
        return sqlite_failure(registry, rc, err);
    /* With a write-ahead log NORMAL can lose the last commits in a power cut, after which no worker lives; without
     * one it could damage the file. */
    bool is_wal = strcmp(mode, "wal") == 0;
    rc = sqlite3_exec(registry->db, is_wal ? "PRAGMA synchronous = NORMAL" : "PRAGMA synchronous = FULL",
                      NULL, NULL, NULL);
    return rc == SQLITE_OK ? POOL_OK : sqlite_failure(registry, rc, err);
}

/* The file is not to be trusted with more than data: no views, triggers or functions of its own. */
static int harden(sqlite3 *db, bool is_wal_wanted)
{
    static const int switches[][2] = {
        { SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0 },
        { SQLITE_DBCONFIG_DEFENSIVE, 1 },
        { SQLITE_DBCONFIG_ENABLE_TRIGGER, 0 },
        { SQLITE_DBCONFIG_ENABLE_VIEW, 0 },
    };
    for (size_t i = 0; i < sizeof switches / sizeof switches[0]; i++) {
        int rc = sqlite3_db_config(db, switches[i][0], switches[i][1], (int *)NULL);
        if (rc != SQLITE_OK)
            return rc;
    }
    sqlite3_limit(db, SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX);
    sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_busy_timeout(db, BUSY_TIMEOUT_MS);
    /*
     * The log and its index stay, empty, when the last handle is closed. On a full disk they could not be made again,
     * and SQLite removes them by name: a handle on a database that was set aside would take those of its successor.
     */
    int is_persistent = is_wal_wanted;
    int rc = sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &is_persistent);
    if (rc != SQLITE_OK)
        return rc;
    return sqlite3_exec(
        db, "PRAGMA journal_size_limit = 0; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY", NULL,
        NULL, NULL);
}

/*
 * Makes the file, if there is none, with a mode that SQLite would not choose. With O_EXCL an existing file is not
 * opened: closing it again would drop the locks that another handle of this process may have on it.
 */
static enum pool_code create_file(const struct sqlite_registry *registry, struct pool_error *err)
{
    CLEANUP_CLOSE int fd = open(registry->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0 || errno == EEXIST)
        return POOL_OK;
    int sys_errno = errno;
    if (sys_errno == ENOSPC || sys_errno == EDQUOT)
        return no_space(registry, err, sys_errno);
    return unavailable(registry, err, sys_errno, true, "can not be made");
}

struct options {
    bool is_wal_wanted;
    bool is_check_wanted;
};

static enum pool_code bad_url(struct pool_error *err, const char *path)
{
    pool_error_set(err, POOL_INVALID_CONFIG,
                   "\"sqlite:%s\": behind sqlite: comes a path, and then ?wal=0 or ?check=1 if wanted", path);
    pool_error_set_field(err, "registry.url");
    return POOL_INVALID_CONFIG;
}

/* Keeps the path without the options behind it. */
static enum pool_code take_path(struct sqlite_registry *registry, const char *path, struct options *options,
                                struct pool_error *err)
{
    static const struct {
        const char *text;
        bool is_wal_wanted, is_check_wanted;
    } known[] = { { "wal=0", false, false },
                  { "wal=1", true, false },
                  { "check=0", true, false },
                  { "check=1", true, true } };
    *options = (struct options){ .is_wal_wanted = true };
    /* Behind the last '/': a folder may have a '?' in its name. */
    const char *slash = strrchr(path, '/');
    size_t n_path = slash ? (size_t)(slash - path) + strcspn(slash, "?") : strcspn(path, "?");
    if (n_path == 0)
        return bad_url(err, path);
    for (const char *option = path + n_path; *option != '\0';) {
        option++; /* the ? or & */
        size_t n = strcspn(option, "&");
        size_t i = 0;
        size_t n_known = sizeof known / sizeof known[0];
        while (i < n_known && (strlen(known[i].text) != n || strncmp(known[i].text, option, n) != 0))
            i++;
        if (i == n_known)
            return bad_url(err, path);
        options->is_wal_wanted = options->is_wal_wanted && known[i].is_wal_wanted;
        options->is_check_wanted = options->is_check_wanted || known[i].is_check_wanted;
        option += n;
    }
    /* SQLite takes "file:x" for a URI and ":memory:" for something else; neither begins with "./". */
    if (asprintf(&registry->path, "%s%.*s", path[0] == '/' ? "" : "./", (int)n_path, path) < 0) {
        registry->path = NULL;
        return pool_error_no_memory(err);
    }
    return POOL_OK;
}

static enum pool_code check_whole(const struct sqlite_registry *registry, struct pool_error *err)
{
    char answer[160] = "";
    int rc = ask_once(registry->db, "PRAGMA quick_check(1)", NULL, answer, sizeof answer);
    if (rc != SQLITE_OK)
        return sqlite_failure(registry, rc, err);
    return strcmp(answer, "ok") == 0 ? POOL_OK : sqlite_corrupt(registry, err, answer);
}

enum pool_code sqlite_database_open(struct sqlite_registry *registry, const char *path, bool is_read_only,
                                    struct pool_error *err)
{
    struct options options;
    registry->is_read_only = is_read_only;
    enum pool_code code = take_path(registry, path, &options, err);
    if (code == POOL_OK && !is_read_only)
        code = create_file(registry, err);
    if (code != POOL_OK)
        return code;

    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE;
    flags |= is_read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    int rc = sqlite3_open_v2(registry->path, &registry->db, flags, NULL);
    if (rc == SQLITE_OK)
        rc = harden(registry->db, options.is_wal_wanted);
    /* Nothing is written before it is known whose file this is. */
    struct version version = { 0 };
    if (rc == SQLITE_OK)
        rc = read_version_at_once(registry->db, &version);
    if (rc != SQLITE_OK)
        return sqlite_failure(registry, rc, err);
    code = check_version(registry, &version, err);
    /* SQLite opens a file that it may not write for reading, without a word. */
    if (code == POOL_OK && !is_read_only && sqlite3_db_readonly(registry->db, "main") != 0)
        code = unavailable(registry, err, EACCES, false, "can not be written");
    if (code == POOL_OK && options.is_check_wanted)
        code = check_whole(registry, err);
    if (code == POOL_OK && !is_read_only)
        code = set_journal(registry, options.is_wal_wanted, err);
    if (code == POOL_OK && !is_read_only && version.schema < SCHEMA_VERSION)
        code = migrate(registry, err);
    return code;
}

void sqlite_database_close(struct sqlite_registry *registry)
{
    for (size_t i = 0; i < SQLITE_N_STATEMENTS; i++)
        sqlite3_finalize(registry->statements[i]);
    sqlite3_close(registry->db);
    free(registry->path);
}
