/*
 * Records as rows of the database: one column for each field of worker_fields.h and one for the labels,
 * the same in the tables of live and of stopped workers. The SQL is put together by the compiler.
 *
 * Labels are lines "name=value": neither names nor values can hold a line's end, names no equals sign.
 * That reads back several times faster than JSON or rows of their own would.
 */
#include "core/registry/sqlite.h"
#include "core/registry/sqlite_learned.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "core/worker_fields.h"

#define TYPE_TEXT     "TEXT"
#define TYPE_CHARS    "TEXT NOT NULL"
#define TYPE_INTEGER  "INTEGER NOT NULL"
#define TYPE_UNSIGNED "INTEGER NOT NULL"
#define TYPE_BOOL     "INTEGER NOT NULL"
#define TYPE_CHOICE   "TEXT NOT NULL"
#define TYPE_READING  "INTEGER"

#define DEFINE_COLUMN(kind, name, member, a, b) ", " #name " " TYPE_##kind
#define NAME_COLUMN(kind, name, member, a, b)   ", " #name
#define PARAMETER(kind, name, member, a, b)     ", ?"
#define SET_COLUMN(kind, name, member, a, b)    ", " #name " = ?"

#define COLUMNS    "labels" WORKER_FIELDS(NAME_COLUMN)
#define PARAMETERS "?" WORKER_FIELDS(PARAMETER)

/*
 * The unique indexes are what keeps two processes from getting the same id or port. Positions in the
 * history are without gaps: SQLite gives the greatest plus one, and only the oldest are deleted.
 */
const char sqlite_schema_1[] =
    "CREATE TABLE worker (position INTEGER PRIMARY KEY, labels TEXT" WORKER_FIELDS_1(
        DEFINE_COLUMN) ") STRICT;"
                       "CREATE UNIQUE INDEX worker_id ON worker (worker_id);"
                       "CREATE UNIQUE INDEX worker_port ON worker (port) WHERE port > 0;"
                       "CREATE INDEX worker_order ON worker (created_wall_ms, worker_id);"
                       "CREATE TABLE history (position INTEGER PRIMARY KEY, labels TEXT" WORKER_FIELDS_1(
                           DEFINE_COLUMN) ") STRICT;"
                                          "CREATE INDEX history_id ON history (worker_id);"
                                          "CREATE TABLE note (name TEXT NOT NULL PRIMARY KEY, text TEXT NOT "
                                          "NULL) STRICT, WITHOUT ROWID;"
                                          "CREATE TABLE registry (id INTEGER PRIMARY KEY CHECK (id = 1), "
                                          "generation INTEGER NOT NULL) STRICT;"
                                          "INSERT INTO registry (id, generation) VALUES (1, 0);";

/* A column that is added has a value in the rows that are there: nothing of a TEXT, 0 of a number. */
#define ADDED_TEXT                               "TEXT"
#define ADDED_INTEGER                            "INTEGER NOT NULL DEFAULT 0"
#define ADDED_BOOL                               "INTEGER NOT NULL DEFAULT 0"
#define ADD_TO_WORKER(kind, name, member, a, b)  "ALTER TABLE worker ADD COLUMN " #name " " ADDED_##kind ";"
#define ADD_TO_HISTORY(kind, name, member, a, b) "ALTER TABLE history ADD COLUMN " #name " " ADDED_##kind ";"

const char sqlite_schema_learned[] =
    SQLITE_LEARNED_TABLE WORKER_FIELDS_LEARNED(ADD_TO_WORKER) WORKER_FIELDS_LEARNED(ADD_TO_HISTORY);

const char sqlite_insert_worker[] = "INSERT INTO worker (" COLUMNS ") VALUES (" PARAMETERS ")";
const char sqlite_insert_history[] = "INSERT INTO history (" COLUMNS ") VALUES (" PARAMETERS ")";
const char sqlite_update_worker[] =
    "UPDATE worker SET labels = ?" WORKER_FIELDS(SET_COLUMN) " WHERE worker_id = ? AND revision = ?";
const char sqlite_get_worker[] = "SELECT " COLUMNS " FROM worker WHERE worker_id = ?";
const char sqlite_get_history[] =
    "SELECT " COLUMNS " FROM history WHERE worker_id = ? ORDER BY position DESC LIMIT 1";
const char sqlite_first_to_leave_history[] =
    "SELECT worker_id FROM history WHERE position <= (SELECT max(position) FROM history) + 1 - ?"
    " ORDER BY position LIMIT 1";
const char sqlite_list_workers[] = "SELECT " COLUMNS " FROM worker ORDER BY created_wall_ms, worker_id";
const char sqlite_list_history[] = "SELECT " COLUMNS " FROM history ORDER BY position DESC";

/* Parameters count from 1 and columns from 0; the labels are the first of both, then come the fields. */
#define LABELS_PARAMETER   1
#define FIELD_PARAMETER(i) (2 + (int)(i))
#define LABELS_COLUMN      0
#define FIELD_COLUMN(i)    (1 + (int)(i))

const int sqlite_parameter_worker_id = FIELD_PARAMETER(WORKER_N_FIELDS);
const int sqlite_parameter_revision = FIELD_PARAMETER(WORKER_N_FIELDS) + 1;

static int bind_field(sqlite3_stmt *statement, int parameter, const struct worker_field *field,
                      const void *member)
{
    switch (field->kind) {
    case WORKER_FIELD_TEXT: {
        /* A NULL text binds NULL. */
        return sqlite3_bind_text(statement, parameter, *(const char *const *)member, -1, SQLITE_STATIC);
    }
    case WORKER_FIELD_CHARS: return sqlite3_bind_text(statement, parameter, member, -1, SQLITE_STATIC);
    case WORKER_FIELD_INTEGER:
    case WORKER_FIELD_UNSIGNED:
        /* The signed and the unsigned type may alias each other. */
        return sqlite3_bind_int64(statement, parameter, *(const int64_t *)member);
    case WORKER_FIELD_BOOL: return sqlite3_bind_int64(statement, parameter, *(const bool *)member);
    case WORKER_FIELD_CHOICE:
        return sqlite3_bind_text(statement, parameter, field->choices[*(const unsigned *)member], -1,
                                 SQLITE_STATIC);
    case WORKER_FIELD_READING: {
        const struct pool_reading *reading = member;
        return reading->is_present ? sqlite3_bind_int64(statement, parameter, reading->value)
                                   : sqlite3_bind_null(statement, parameter);
    }
    }
    return SQLITE_MISUSE;
}

static enum pool_code print_labels(const struct pool_worker_info *worker, struct strbuf *text,
                                   struct pool_error *err)
{
    for (size_t i = 0; i < worker->n_labels; i++) {
        strbuf_add_text(text, worker->labels[i].name);
        strbuf_add_char(text, '=');
        strbuf_add_text(text, worker->labels[i].value);
        strbuf_add_char(text, '\n');
    }
    return text->failure == STRBUF_FINE ? POOL_OK : pool_error_no_memory(err);
}

enum pool_code sqlite_bind_worker(struct sqlite_registry *registry, sqlite3_stmt *statement,
                                  const struct pool_worker_info *worker, struct strbuf *labels,
                                  struct pool_error *err)
{
    int rc = SQLITE_OK;
    if (worker->n_labels > 0) {
        enum pool_code code = print_labels(worker, labels, err);
        if (code != POOL_OK)
            return code;
        rc = sqlite3_bind_text(statement, LABELS_PARAMETER, strbuf_text(labels), -1, SQLITE_STATIC);
    }
    for (size_t i = 0; i < WORKER_N_FIELDS && rc == SQLITE_OK; i++) {
        const struct worker_field *field = &worker_fields[i];
        rc = bind_field(statement, FIELD_PARAMETER(i), field, (const char *)worker + field->offset);
    }
    return rc == SQLITE_OK ? POOL_OK : sqlite_failure(registry, rc, err);
}

/* What is wrong with a row is told apart from memory running out while reading it. */
enum reading { READ_FINE, READ_BAD, READ_NO_MEMORY };

/* The text of a column of type TEXT; borrowed until the next step. */
static enum reading read_text(sqlite3_stmt *statement, int column, const char **ret_text, size_t *ret_n)
{
    const char *text = (const char *)sqlite3_column_text(statement, column);
    if (!text)
        return READ_NO_MEMORY;
    size_t n = (size_t)sqlite3_column_bytes(statement, column);
    if (strlen(text) != n)
        return READ_BAD;
    *ret_text = text;
    *ret_n = n;
    return READ_FINE;
}

static enum reading read_choice(const struct worker_field *field, const char *text, unsigned *ret_choice)
{
    for (size_t i = 0; i < field->n_choices; i++) {
        if (strcmp(field->choices[i], text) == 0) {
            *ret_choice = (unsigned)i;
            return READ_FINE;
        }
    }
    return READ_BAD;
}

static enum reading read_text_field(sqlite3_stmt *statement, int column, const struct worker_field *field,
                                    void *member)
{
    const char *text = "";
    size_t n = 0;
    enum reading reading = read_text(statement, column, &text, &n);
    if (reading != READ_FINE)
        return reading;
    if (field->kind == WORKER_FIELD_CHOICE)
        return read_choice(field, text, member);
    if (field->kind == WORKER_FIELD_CHARS) {
        if (n >= field->n_bytes)
            return READ_BAD;
        memcpy(member, text, n + 1);
        return READ_FINE;
    }
    if (n > POOL_WORKER_TEXT_MAX)
        return READ_BAD;
    char *copy = malloc(n + 1);
    if (!copy)
        return READ_NO_MEMORY;
    memcpy(copy, text, n + 1);
    *(char **)member = copy;
    return READ_FINE;
}

static enum reading read_integer_field(sqlite3_stmt *statement, int column, const struct worker_field *field,
                                       void *member)
{
    int64_t value = sqlite3_column_int64(statement, column);
    if (field->kind == WORKER_FIELD_READING) {
        *(struct pool_reading *)member = (struct pool_reading){ .is_present = true, .value = value };
    } else if (field->kind == WORKER_FIELD_BOOL) {
        if (value != 0 && value != 1)
            return READ_BAD;
        *(bool *)member = value == 1;
    } else {
        if (field->kind == WORKER_FIELD_INTEGER && (value < field->min || value > field->max))
            return READ_BAD;
        *(int64_t *)member = value;
    }
    return READ_FINE;
}

static enum reading read_field(sqlite3_stmt *statement, int column, const struct worker_field *field,
                               void *member)
{
    int type = sqlite3_column_type(statement, column);
    bool is_text = field->kind == WORKER_FIELD_TEXT || field->kind == WORKER_FIELD_CHARS ||
                   field->kind == WORKER_FIELD_CHOICE;
    if (type == SQLITE_NULL) /* absent, as the member is already */
        return field->kind == WORKER_FIELD_TEXT || field->kind == WORKER_FIELD_READING ? READ_FINE : READ_BAD;
    if (type == SQLITE_TEXT && is_text)
        return read_text_field(statement, column, field, member);
    if (type == SQLITE_INTEGER && !is_text)
        return read_integer_field(statement, column, field, member);
    return READ_BAD;
}

/* Cuts one line "name=value\n" off *text and sets it. */
static enum reading read_label(char **text, struct pool_worker_info *worker)
{
    char *end = strchr(*text, '\n');
    char *equals = strchr(*text, '=');
    if (!end || !equals || equals > end)
        return READ_BAD;
    *equals = '\0';
    *end = '\0';
    size_t n_before = worker->n_labels;
    enum pool_code code = pool_worker_info_set_label(worker, *text, equals + 1, NULL);
    if (code == POOL_INSUFFICIENT_MEMORY)
        return READ_NO_MEMORY;
    *text = end + 1;
    return code == POOL_OK && worker->n_labels == n_before + 1 ? READ_FINE : READ_BAD;
}

static enum reading read_labels(sqlite3_stmt *statement, struct pool_worker_info *worker)
{
    int type = sqlite3_column_type(statement, LABELS_COLUMN);
    if (type == SQLITE_NULL)
        return READ_FINE;
    if (type != SQLITE_TEXT)
        return READ_BAD;
    const char *text = NULL;
    size_t n = 0;
    enum reading reading = read_text(statement, LABELS_COLUMN, &text, &n);
    if (reading != READ_FINE)
        return reading;
    if (n > SQLITE_LABELS_LIMIT)
        return READ_BAD;
    CLEANUP_FREE char *lines = strdup(text);
    if (!lines)
        return READ_NO_MEMORY;
    for (char *line = lines; *line != '\0' && reading == READ_FINE;)
        reading = read_label(&line, worker);
    return reading;
}

static enum pool_code report_bad_row(const struct sqlite_registry *registry,
                                     const struct pool_worker_info *worker, const char *column,
                                     struct pool_error *err)
{
    sqlite_corrupt(registry, err, "a record can not be read");
    if (worker->worker_id)
        pool_error_add_text(err, "worker_id", worker->worker_id);
    pool_error_add_text(err, "column", column);
    pool_error_prefix(err, "worker %s, %s", worker->worker_id ? worker->worker_id : "without an id", column);
    return POOL_REGISTRY_UNAVAILABLE;
}

static void free_worker(struct pool_worker_info **worker)
{
    pool_worker_info_free(*worker);
}

enum pool_code sqlite_read_worker(struct sqlite_registry *registry, sqlite3_stmt *statement,
                                  struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(free_worker) struct pool_worker_info *worker = pool_worker_info_new();
    if (!worker)
        return pool_error_no_memory(err);
    enum reading reading = READ_FINE;
    const char *column = "labels";
    for (size_t i = 0; i < WORKER_N_FIELDS && reading == READ_FINE; i++) {
        const struct worker_field *field = &worker_fields[i];
        column = field->name;
        reading = read_field(statement, FIELD_COLUMN(i), field, (char *)worker + field->offset);
        if (i == 0 && reading == READ_FINE && !pool_worker_id_is_valid(worker->worker_id))
            reading = READ_BAD;
    }
    if (reading == READ_FINE) {
        column = "labels";
        reading = read_labels(statement, worker);
    }
    if (reading == READ_NO_MEMORY)
        return pool_error_no_memory(err);
    if (reading == READ_BAD)
        return report_bad_row(registry, worker, column, err);
    *ret_worker = take_ptr(&worker);
    return POOL_OK;
}
