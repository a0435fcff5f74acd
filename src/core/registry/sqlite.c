/*
 * The registry in an SQLite database, which several processes may have open at the same time. Every
 * change is a transaction of its own, or a savepoint inside the caller's; it raises the generation.
 * The file and its schema are in sqlite_database.c, records as rows in sqlite_rows.c.
 */
#include "core/registry/sqlite.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "base/string_list.h"
#include "core/registry/implementations.h"
#include "core/registry/sqlite_learned.h"
#include "core/worker_fields.h"

static enum pool_code sqlite_open(void *self, const char *path, bool is_read_only, struct pool_error *err)
{
    return sqlite_database_open(self, path, is_read_only, err);
}

static void sqlite_close(void *self)
{
    sqlite_database_close(self);
}

/* --- a change, whole or not at all --- */

/* What will be needed to get out of a change is prepared before going in, so that no lack of memory locks us in. */
static enum pool_code prepare_ways_out(struct sqlite_registry *registry, struct pool_error *err)
{
    static const enum sqlite_statement ways_out[] = {
        SQLITE_STATEMENT_COMMIT,
        SQLITE_STATEMENT_ROLLBACK,
        SQLITE_STATEMENT_RELEASE,
        SQLITE_STATEMENT_ROLLBACK_TO,
    };
    enum pool_code code = POOL_OK;
    for (size_t i = 0; i < sizeof ways_out / sizeof ways_out[0] && code == POOL_OK; i++) {
        sqlite3_stmt *statement;
        code = sqlite_take(registry, ways_out[i], &statement, err);
    }
    return code;
}

/*
 * Some failures (full disk, input or output, memory), of reading too, make SQLite roll everything back by itself.
 * Inside the caller's transaction that must be noticed, or what follows would be done alone.
 */
static enum pool_code check_not_undone(const struct sqlite_registry *registry, struct pool_error *err)
{
    if (!registry->in_transaction || !(registry->is_undone || sqlite3_get_autocommit(registry->db)))
        return POOL_OK;
    return pool_error_set(err, POOL_REGISTRY_UNAVAILABLE, "the transaction was undone by an earlier failure");
}

static enum pool_code begin_change(struct sqlite_registry *registry, struct pool_error *err)
{
    enum pool_code code = check_not_undone(registry, err);
    if (code == POOL_OK)
        code = prepare_ways_out(registry, err);
    if (code != POOL_OK)
        return code;
    return sqlite_run(registry,
                      registry->in_transaction ? SQLITE_STATEMENT_SAVEPOINT : SQLITE_STATEMENT_BEGIN, err);
}

static enum pool_code keep_change(struct sqlite_registry *registry, struct pool_error *err)
{
    enum pool_code code = sqlite_run(registry, SQLITE_STATEMENT_RAISE_GENERATION, err);
    if (code != POOL_OK)
        return code;
    if (sqlite3_changes(registry->db) != 1)
        return sqlite_corrupt(registry, err, "its generation is missing");
    return sqlite_run(registry, registry->in_transaction ? SQLITE_STATEMENT_RELEASE : SQLITE_STATEMENT_COMMIT,
                      err);
}

static void undo_change(struct sqlite_registry *registry)
{
    if (!registry->in_transaction) {
        if (!sqlite3_get_autocommit(registry->db))
            (void)sqlite_run(registry, SQLITE_STATEMENT_ROLLBACK, NULL);
        return;
    }
    if (!sqlite3_get_autocommit(registry->db) &&
        sqlite_run(registry, SQLITE_STATEMENT_ROLLBACK_TO, NULL) == POOL_OK &&
        sqlite_run(registry, SQLITE_STATEMENT_RELEASE, NULL) == POOL_OK)
        return;
    if (!sqlite3_get_autocommit(registry->db))
        (void)sqlite_run(registry, SQLITE_STATEMENT_ROLLBACK, NULL);
    registry->is_undone = true;
}

/* The end of every change: kept when code is OK, undone otherwise. */
static enum pool_code end_change(struct sqlite_registry *registry, enum pool_code code,
                                 struct pool_error *err)
{
    if (code == POOL_OK)
        code = keep_change(registry, err);
    if (code != POOL_OK)
        undo_change(registry);
    return code;
}

static enum pool_code sqlite_begin(void *self, struct pool_error *err)
{
    struct sqlite_registry *registry = self;
    enum pool_code code = prepare_ways_out(registry, err);
    if (code == POOL_OK)
        code = sqlite_run(registry, SQLITE_STATEMENT_BEGIN, err);
    registry->in_transaction = code == POOL_OK;
    registry->is_undone = false;
    return code;
}

static void sqlite_rollback(void *self)
{
    struct sqlite_registry *registry = self;
    if (!sqlite3_get_autocommit(registry->db))
        (void)sqlite_run(registry, SQLITE_STATEMENT_ROLLBACK, NULL);
    registry->in_transaction = false;
    registry->is_undone = false;
}

static enum pool_code sqlite_commit(void *self, struct pool_error *err)
{
    struct sqlite_registry *registry = self;
    enum pool_code code = check_not_undone(registry, err);
    if (code == POOL_OK)
        code = sqlite_run(registry, SQLITE_STATEMENT_COMMIT, err);
    if (code != POOL_OK)
        sqlite_rollback(registry);
    registry->in_transaction = false;
    registry->is_undone = false;
    return code;
}

/* --- reading --- */

static enum pool_code bind_id(struct sqlite_registry *registry, sqlite3_stmt *statement,
                              const char *worker_id, struct pool_error *err)
{
    int rc = sqlite3_bind_text(statement, 1, worker_id, -1, SQLITE_STATIC);
    return rc == SQLITE_OK ? POOL_OK : sqlite_failure(registry, rc, err);
}

/* The one integer of a query's one row; *ret_is_there is false when there is no row. `key` NULL: no parameter. */
static enum pool_code read_number(struct sqlite_registry *registry, enum sqlite_statement which,
                                  const char *key, bool *ret_is_there, int64_t *ret_number,
                                  struct pool_error *err)
{
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code = sqlite_take(registry, which, &statement, err);
    if (code == POOL_OK && key)
        code = bind_id(registry, statement, key, err);
    if (code != POOL_OK)
        return code;
    int rc = sqlite3_step(statement);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return sqlite_failure(registry, rc, err);
    *ret_is_there = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW)
        *ret_number = sqlite3_column_int64(statement, 0);
    return POOL_OK;
}

static enum pool_code sqlite_generation(void *self, int64_t *ret_generation, struct pool_error *err)
{
    bool is_there = false;
    int64_t generation = 0;
    enum pool_code code =
        read_number(self, SQLITE_STATEMENT_READ_GENERATION, NULL, &is_there, &generation, err);
    if (code != POOL_OK)
        return code;
    if (!is_there)
        return sqlite_corrupt(self, err, "its generation is missing");
    *ret_generation = generation;
    return POOL_OK;
}

/* *ret_worker is left as it was when there is none. */
static enum pool_code find_in(struct sqlite_registry *registry, enum sqlite_statement which,
                              const char *worker_id, struct pool_worker_info **ret_worker,
                              struct pool_error *err)
{
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code = sqlite_take(registry, which, &statement, err);
    if (code == POOL_OK)
        code = bind_id(registry, statement, worker_id, err);
    if (code != POOL_OK)
        return code;
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_DONE)
        return POOL_OK;
    return rc == SQLITE_ROW ? sqlite_read_worker(registry, statement, ret_worker, err)
                            : sqlite_failure(registry, rc, err);
}

static enum pool_code sqlite_get(void *self, const char *worker_id, struct pool_worker_info **ret_worker,
                                 struct pool_error *err)
{
    /* A worker that another process moves between the two looks is found by the second. */
    struct pool_worker_info *worker = NULL;
    enum pool_code code = find_in(self, SQLITE_STATEMENT_GET_WORKER, worker_id, &worker, err);
    if (code == POOL_OK && !worker)
        code = find_in(self, SQLITE_STATEMENT_GET_HISTORY, worker_id, &worker, err);
    if (code != POOL_OK)
        return code;
    if (!worker)
        return registry_worker_not_found(err, worker_id);
    *ret_worker = worker;
    return POOL_OK;
}

static enum pool_code sqlite_list(void *self, enum pool_registry_scope scope, struct pool_worker_list *list,
                                  struct pool_error *err)
{
    struct sqlite_registry *registry = self;
    bool is_live = scope == POOL_REGISTRY_LIVE;
    size_t n_max = is_live ? POOL_WORKERS_MAX : POOL_HISTORY_MAX;
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code = sqlite_take(
        registry, is_live ? SQLITE_STATEMENT_LIST_WORKERS : SQLITE_STATEMENT_LIST_HISTORY, &statement, err);
    if (code != POOL_OK)
        return code;
    int rc;
    while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
        if (list->n_workers == n_max)
            return sqlite_corrupt(registry, err, "it has more records than can be");
        struct pool_worker_info *worker = NULL;
        code = sqlite_read_worker(registry, statement, &worker, err);
        if (code != POOL_OK)
            return code;
        if (!worker_list_append(list, worker)) {
            pool_worker_info_free(worker);
            return pool_error_no_memory(err);
        }
    }
    return rc == SQLITE_DONE ? POOL_OK : sqlite_failure(registry, rc, err);
}

/* --- changing --- */

/* The id or the port is another's; says which, and whose. */
static enum pool_code report_taken(struct sqlite_registry *registry, const struct pool_worker_info *worker,
                                   bool is_new, struct pool_error *err)
{
    bool is_there = false;
    int64_t revision = 0;
    if (is_new) {
        enum pool_code code = read_number(registry, SQLITE_STATEMENT_FIND_REVISION, worker->worker_id,
                                          &is_there, &revision, err);
        if (code != POOL_OK || is_there)
            return code != POOL_OK ? code : registry_id_taken(err, worker->worker_id);
    }
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code = sqlite_take(registry, SQLITE_STATEMENT_FIND_PORT, &statement, err);
    if (code != POOL_OK)
        return code;
    int rc = sqlite3_bind_int64(statement, 1, worker->port);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(statement);
    if (rc == SQLITE_DONE)
        return sqlite_corrupt(registry, err, "an index does not agree with its table");
    if (rc != SQLITE_ROW)
        return sqlite_failure(registry, rc, err);
    const unsigned char *holder = sqlite3_column_text(statement, 0);
    return registry_port_taken(err, worker->port, holder ? (const char *)holder : "");
}

/* Runs a statement that stores a record. CONFLICT is not its answer: ALREADY_EXISTS says what is taken. */
static enum pool_code store(struct sqlite_registry *registry, enum sqlite_statement which,
                            const struct pool_worker_info *worker, struct pool_error *err)
{
    CLEANUP(strbuf_done) struct strbuf labels = STRBUF_INIT(SQLITE_LABELS_LIMIT);
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code = sqlite_take(registry, which, &statement, err);
    if (code == POOL_OK)
        code = sqlite_bind_worker(registry, statement, worker, &labels, err);
    if (code == POOL_OK && which == SQLITE_STATEMENT_UPDATE_WORKER) {
        int rc =
            sqlite3_bind_text(statement, sqlite_parameter_worker_id, worker->worker_id, -1, SQLITE_STATIC);
        if (rc == SQLITE_OK)
            rc = sqlite3_bind_int64(statement, sqlite_parameter_revision, worker->revision - 1);
        if (rc != SQLITE_OK)
            code = sqlite_failure(registry, rc, err);
    }
    if (code != POOL_OK)
        return code;
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_CONSTRAINT_UNIQUE)
        return report_taken(registry, worker, which == SQLITE_STATEMENT_INSERT_WORKER, err);
    return rc == SQLITE_DONE ? POOL_OK : sqlite_failure(registry, rc, err);
}

static enum pool_code check_room(struct sqlite_registry *registry, struct pool_error *err)
{
    bool is_there = false;
    int64_t n_workers = 0;
    enum pool_code code =
        read_number(registry, SQLITE_STATEMENT_COUNT_WORKERS, NULL, &is_there, &n_workers, err);
    if (code != POOL_OK || n_workers <= POOL_WORKERS_MAX)
        return code;
    return registry_full(err, POOL_WORKERS_MAX);
}

static enum pool_code sqlite_register(void *self, struct pool_worker_info *worker, struct pool_error *err)
{
    struct sqlite_registry *registry = self;
    struct pool_worker_info next = *worker;
    next.revision = 1;
    enum pool_code code = begin_change(registry, err);
    if (code != POOL_OK)
        return code;
    code = store(registry, SQLITE_STATEMENT_INSERT_WORKER, &next, err);
    if (code == POOL_OK)
        code = check_room(registry, err);
    code = end_change(registry, code, err);
    if (code == POOL_OK)
        worker->revision = next.revision;
    return code;
}

/* Nothing was changed: the worker is not there, or not of that revision. */
static enum pool_code report_missed(struct sqlite_registry *registry, const struct pool_worker_info *worker,
                                    struct pool_error *err)
{
    bool is_there = false;
    int64_t revision = 0;
    enum pool_code code =
        read_number(registry, SQLITE_STATEMENT_FIND_REVISION, worker->worker_id, &is_there, &revision, err);
    if (code != POOL_OK)
        return code;
    if (!is_there)
        return registry_worker_not_found(err, worker->worker_id);
    return registry_revision_conflict(err, worker, revision);
}

static enum pool_code sqlite_update(void *self, struct pool_worker_info *worker, struct pool_error *err)
{
    struct sqlite_registry *registry = self;
    struct pool_worker_info next = *worker;
    next.revision++;
    enum pool_code code = begin_change(registry, err);
    if (code != POOL_OK)
        return code;
    code = store(registry, SQLITE_STATEMENT_UPDATE_WORKER, &next, err);
    if (code == POOL_OK && sqlite3_changes(registry->db) != 1)
        code = report_missed(registry, worker, err);
    code = end_change(registry, code, err);
    if (code == POOL_OK)
        worker->revision = next.revision;
    return code;
}

static enum pool_code delete_live(struct sqlite_registry *registry, const struct pool_worker_info *worker,
                                  struct pool_error *err)
{
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code = sqlite_take(registry, SQLITE_STATEMENT_DELETE_WORKER, &statement, err);
    if (code == POOL_OK)
        code = bind_id(registry, statement, worker->worker_id, err);
    if (code != POOL_OK)
        return code;
    int rc = sqlite3_bind_int64(statement, 2, worker->revision);
    if (rc != SQLITE_OK)
        return sqlite_failure(registry, rc, err);
    code = sqlite_finish(registry, statement, err);
    if (code == POOL_OK && sqlite3_changes(registry->db) != 1)
        code = report_missed(registry, worker, err);
    return code;
}

static enum pool_code append_history(struct sqlite_registry *registry, const struct pool_worker_info *worker,
                                     struct pool_error *err)
{
    enum pool_code code = store(registry, SQLITE_STATEMENT_INSERT_HISTORY, worker, err);
    if (code != POOL_OK)
        return code;
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    code = sqlite_take(registry, SQLITE_STATEMENT_SHORTEN_HISTORY, &statement, err);
    if (code != POOL_OK)
        return code;
    int rc = sqlite3_bind_int64(statement, 1, sqlite3_last_insert_rowid(registry->db) - POOL_HISTORY_MAX);
    return rc == SQLITE_OK ? sqlite_finish(registry, statement, err) : sqlite_failure(registry, rc, err);
}

static enum pool_code sqlite_unregister(void *self, struct pool_worker_info *worker, struct pool_error *err)
{
    struct sqlite_registry *registry = self;
    struct pool_worker_info next = *worker;
    next.revision++;
    next.status = POOL_WORKER_STOPPED;
    enum pool_code code = begin_change(registry, err);
    if (code != POOL_OK)
        return code;
    code = delete_live(registry, worker, err);
    if (code == POOL_OK)
        code = append_history(registry, &next, err);
    code = end_change(registry, code, err);
    if (code == POOL_OK) {
        worker->revision = next.revision;
        worker->status = next.status;
    }
    return code;
}

static enum pool_code sqlite_first_to_leave(void *self, char **ret_worker_id, struct pool_error *err)
{
    struct sqlite_registry *registry = self;
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code = sqlite_take(registry, SQLITE_STATEMENT_FIRST_TO_LEAVE, &statement, err);
    if (code != POOL_OK)
        return code;
    int rc = sqlite3_bind_int64(statement, 1, POOL_HISTORY_MAX);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(statement);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return sqlite_failure(registry, rc, err);
    char *id = NULL;
    if (rc == SQLITE_ROW) {
        const unsigned char *stored = sqlite3_column_text(statement, 0);
        id = stored ? strdup((const char *)stored) : NULL;
        if (!id)
            return pool_error_no_memory(err);
    }
    *ret_worker_id = id;
    return POOL_OK;
}

/* --- notes --- */

static enum pool_code sqlite_get_note(void *self, const char *name, char **ret_text, struct pool_error *err)
{
    struct sqlite_registry *registry = self;
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code = sqlite_take(registry, SQLITE_STATEMENT_GET_NOTE, &statement, err);
    if (code == POOL_OK)
        code = bind_id(registry, statement, name, err);
    if (code != POOL_OK)
        return code;
    int rc = sqlite3_step(statement);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return sqlite_failure(registry, rc, err);
    char *text = NULL;
    if (rc == SQLITE_ROW) {
        if (sqlite3_column_type(statement, 0) != SQLITE_TEXT ||
            sqlite3_column_bytes(statement, 0) > REGISTRY_NOTE_TEXT_MAX)
            return sqlite_corrupt(registry, err, "a note can not be read");
        const unsigned char *stored = sqlite3_column_text(statement, 0);
        text = stored ? strdup((const char *)stored) : NULL;
        if (!text)
            return pool_error_no_memory(err);
    }
    *ret_text = text;
    return POOL_OK;
}

static enum pool_code write_note(struct sqlite_registry *registry, const char *name, const char *text,
                                 struct pool_error *err)
{
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code = sqlite_take(
        registry, text ? SQLITE_STATEMENT_PUT_NOTE : SQLITE_STATEMENT_DELETE_NOTE, &statement, err);
    if (code == POOL_OK)
        code = bind_id(registry, statement, name, err);
    if (code != POOL_OK)
        return code;
    int rc = text ? sqlite3_bind_text(statement, 2, text, -1, SQLITE_STATIC) : SQLITE_OK;
    return rc == SQLITE_OK ? sqlite_finish(registry, statement, err) : sqlite_failure(registry, rc, err);
}

static enum pool_code sqlite_set_note(void *self, const char *name, const char *text, struct pool_error *err)
{
    enum pool_code code = begin_change(self, err);
    if (code != POOL_OK)
        return code;
    return end_change(self, write_note(self, name, text, err), err);
}

/* --- explanations --- */

static enum pool_code insert_explanation(struct sqlite_registry *registry,
                                         const struct pool_explanation_key *key, const char *text,
                                         struct pool_error *err)
{
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code = sqlite_take(registry, SQLITE_STATEMENT_PUT_EXPLANATION, &statement, err);
    if (code != POOL_OK)
        return code;
    const char *texts[] = { key->record_id, key->worker_id, key->correlation_id, text };
    int rc = SQLITE_OK;
    for (int i = 0; i < 4 && rc == SQLITE_OK; i++)
        rc = sqlite3_bind_text(statement, i + 1, texts[i], -1, SQLITE_STATIC); /* NULL binds NULL */
    return rc == SQLITE_OK ? sqlite_finish(registry, statement, err) : sqlite_failure(registry, rc, err);
}

/* Not by begin_change and end_change: what is explained is no change of what is. */
static enum pool_code sqlite_put_explanation(void *self, const struct pool_explanation_key *key,
                                             const char *text, struct pool_error *err)
{
    struct sqlite_registry *registry = self;
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code = begin_change(registry, err);
    if (code != POOL_OK)
        return code;
    code = insert_explanation(registry, key, text, err);
    if (code == POOL_OK)
        code = sqlite_take(registry, SQLITE_STATEMENT_SHORTEN_EXPLANATIONS, &statement, err);
    if (code == POOL_OK) {
        int rc =
            sqlite3_bind_int64(statement, 1, sqlite3_last_insert_rowid(registry->db) - POOL_EXPLANATIONS_MAX);
        code = rc == SQLITE_OK ? sqlite_finish(registry, statement, err) : sqlite_failure(registry, rc, err);
    }
    if (code == POOL_OK)
        code = sqlite_run(registry, SQLITE_STATEMENT_COMMIT, err);
    if (code != POOL_OK)
        undo_change(registry);
    return code;
}

static enum pool_code sqlite_find_explanations(void *self, const char *id, size_t n_max, char ***ret_texts,
                                               struct pool_error *err)
{
    struct sqlite_registry *registry = self;
    CLEANUP(string_list_done) struct string_list texts = { 0 };
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code =
        sqlite_take(registry, id ? SQLITE_STATEMENT_FIND_EXPLANATIONS : SQLITE_STATEMENT_LIST_EXPLANATIONS,
                    &statement, err);
    if (code == POOL_OK && id)
        code = bind_id(registry, statement, id, err);
    if (code != POOL_OK)
        return code;
    int rc = sqlite3_bind_int64(statement, 2, (int64_t)n_max);
    if (rc != SQLITE_OK)
        return sqlite_failure(registry, rc, err);
    while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(statement, 0);
        if (!text || !string_list_add(&texts, text))
            return pool_error_no_memory(err);
    }
    if (rc != SQLITE_DONE)
        return sqlite_failure(registry, rc, err);
    *ret_texts = string_list_take(&texts);
    return *ret_texts ? POOL_OK : pool_error_no_memory(err);
}

const struct pool_worker_registry_ops sqlite_registry_ops = {
    .name = "sqlite",
    .private_bytes = sizeof(struct sqlite_registry),
    .is_persistent = true,
    .open = sqlite_open,
    .close = sqlite_close,
    .register_worker = sqlite_register,
    .update = sqlite_update,
    .unregister = sqlite_unregister,
    .get = sqlite_get,
    .list = sqlite_list,
    .generation = sqlite_generation,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .get_note = sqlite_get_note,
    .set_note = sqlite_set_note,
    .put_learned = sqlite_put_learned,
    .list_learned = sqlite_list_learned,
    .forget_learned = sqlite_forget_learned,
    .put_explanation = sqlite_put_explanation,
    .find_explanations = sqlite_find_explanations,
    .first_to_leave = sqlite_first_to_leave,
};
