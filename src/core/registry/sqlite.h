/*
 * What the parts of the sqlite registry share: the connection, its prepared statements, what a failure
 * of SQLite means to us (sqlite_database.c), and records as rows (sqlite_rows.c).
 */
#ifndef CORE_REGISTRY_SQLITE_H
#define CORE_REGISTRY_SQLITE_H

#include <sqlite3.h>
#include <stdbool.h>

#include <pool/registry.h>

/* Prepared when first used; SQL in sqlite_database.c. Columns and parameters of records are those of sqlite_rows.c. */
enum sqlite_statement {
    SQLITE_STATEMENT_BEGIN,
    SQLITE_STATEMENT_COMMIT,
    SQLITE_STATEMENT_ROLLBACK,
    SQLITE_STATEMENT_SAVEPOINT,
    SQLITE_STATEMENT_RELEASE,
    SQLITE_STATEMENT_ROLLBACK_TO,
    SQLITE_STATEMENT_READ_GENERATION,
    SQLITE_STATEMENT_RAISE_GENERATION,
    SQLITE_STATEMENT_COUNT_WORKERS,
    SQLITE_STATEMENT_FIND_REVISION,
    SQLITE_STATEMENT_FIND_PORT,
    SQLITE_STATEMENT_INSERT_WORKER,
    SQLITE_STATEMENT_UPDATE_WORKER,
    SQLITE_STATEMENT_DELETE_WORKER,
    SQLITE_STATEMENT_INSERT_HISTORY,
    SQLITE_STATEMENT_SHORTEN_HISTORY,
    SQLITE_STATEMENT_FIRST_TO_LEAVE,
    SQLITE_STATEMENT_GET_WORKER,
    SQLITE_STATEMENT_GET_HISTORY,
    SQLITE_STATEMENT_LIST_WORKERS,
    SQLITE_STATEMENT_LIST_HISTORY,
    SQLITE_STATEMENT_GET_NOTE,
    SQLITE_STATEMENT_PUT_NOTE,
    SQLITE_STATEMENT_DELETE_NOTE,
    SQLITE_STATEMENT_PUT_LEARNED,
    SQLITE_STATEMENT_SHORTEN_LEARNED,
    SQLITE_STATEMENT_LIST_LEARNED,
    SQLITE_STATEMENT_GET_LEARNED,
    SQLITE_STATEMENT_FORGET_LEARNED,
    SQLITE_STATEMENT_PUT_EXPLANATION,
    SQLITE_STATEMENT_SHORTEN_EXPLANATIONS,
    SQLITE_STATEMENT_FIND_EXPLANATIONS,
    SQLITE_STATEMENT_LIST_EXPLANATIONS,
    SQLITE_N_STATEMENTS
};

struct sqlite_registry {
    sqlite3 *db;
    char *path;
    bool is_read_only;
    bool in_transaction;
    bool is_undone; /* the transaction is lost to a failure; nothing may happen until rollback */
    sqlite3_stmt *statements[SQLITE_N_STATEMENTS];
};

/* Opens the file, makes or checks its schema. On failure sqlite_database_close is still due. */
enum pool_code sqlite_database_open(struct sqlite_registry *registry, const char *path, bool is_read_only,
                                    struct pool_error *err);
void sqlite_database_close(struct sqlite_registry *registry);

/* The error of a result code of SQLite's. */
enum pool_code sqlite_failure(const struct sqlite_registry *registry, int rc, struct pool_error *err);
/* REGISTRY_UNAVAILABLE with is_corrupt; the message is set already or said by `what`. */
enum pool_code sqlite_corrupt(const struct sqlite_registry *registry, struct pool_error *err,
                              const char *what);

/* A prepared statement, ready to be bound. Given back by sqlite_give_back, at the end of a scope with USES_STATEMENT. */
enum pool_code sqlite_take(struct sqlite_registry *registry, enum sqlite_statement which,
                           sqlite3_stmt **ret_statement, struct pool_error *err);
void sqlite_give_back(sqlite3_stmt **statement);
#define USES_STATEMENT CLEANUP(sqlite_give_back)
/* Steps a statement that returns no row. */
enum pool_code sqlite_finish(struct sqlite_registry *registry, sqlite3_stmt *statement,
                             struct pool_error *err);
/* Takes and finishes a statement without parameters. */
enum pool_code sqlite_run(struct sqlite_registry *registry, enum sqlite_statement which,
                          struct pool_error *err);

/* SQL of the schema's first version and of the statements on records. */
extern const char sqlite_schema_1[];
extern const char sqlite_insert_worker[], sqlite_insert_history[], sqlite_update_worker[];
extern const char sqlite_first_to_leave_history[];
extern const char sqlite_get_worker[], sqlite_get_history[], sqlite_list_workers[], sqlite_list_history[];

/* The parameters behind those of a record, in sqlite_update_worker. */
extern const int sqlite_parameter_worker_id, sqlite_parameter_revision;

/* Binds a whole record. Its texts are used until the statement is given back; `labels` is filled for it. */
struct strbuf;
enum pool_code sqlite_bind_worker(struct sqlite_registry *registry, sqlite3_stmt *statement,
                                  const struct pool_worker_info *worker, struct strbuf *labels,
                                  struct pool_error *err);
/* The record in the present row. Nothing in the row is trusted. */
enum pool_code sqlite_read_worker(struct sqlite_registry *registry, sqlite3_stmt *statement,
                                  struct pool_worker_info **ret_worker, struct pool_error *err);
/* Room for the labels of one record as text. */
#define SQLITE_LABELS_LIMIT ((size_t)POOL_LABELS_MAX * (POOL_LABEL_NAME_MAX + POOL_LABEL_VALUE_MAX + 2))

#endif
