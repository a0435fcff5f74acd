/*
 * What was learned, as rows. Each change is one statement, and so whole or not at all; it is no change of what the
 * registry's generation counts.
 */
#include "core/registry/sqlite_learned.h"

#include "base/cleanup.h"
#include "core/registry/learned.h"

#define COLUMNS "key, model_ref, estimate_bytes, ready_bytes, peak_bytes, n_starts, updated_wall_ms"

const char sqlite_learned_put[] =
    "INSERT INTO learned (" COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (key) DO UPDATE SET "
    "model_ref = excluded.model_ref, estimate_bytes = excluded.estimate_bytes, "
    "ready_bytes = max(ready_bytes, excluded.ready_bytes), peak_bytes = max(peak_bytes, "
    "excluded.peak_bytes), "
    "n_starts = n_starts + excluded.n_starts, updated_wall_ms = excluded.updated_wall_ms";
const char sqlite_learned_shorten[] = "DELETE FROM learned WHERE key IN (SELECT key FROM learned ORDER BY "
                                      "updated_wall_ms DESC, key LIMIT -1 OFFSET ?1)";
const char sqlite_learned_list[] = "SELECT " COLUMNS " FROM learned WHERE ?1 IS NULL OR key = ?1 ORDER BY "
                                   "updated_wall_ms DESC, key";
const char sqlite_learned_get[] = "SELECT " COLUMNS " FROM learned WHERE key = ?1";
const char sqlite_learned_forget[] = "DELETE FROM learned WHERE ?1 IS NULL OR key = ?1";

static int bind_use(sqlite3_stmt *statement, const struct pool_learned_use *use)
{
    int rc = sqlite3_bind_text(statement, 1, use->key, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_text(statement, 2, use->model_ref, -1, SQLITE_STATIC);
    const int64_t numbers[] = { use->estimate_bytes, use->ready_bytes, use->peak_bytes, use->n_starts,
                                use->updated_wall_ms };
    for (int i = 0; i < 5 && rc == SQLITE_OK; i++)
        rc = sqlite3_bind_int64(statement, 3 + i, numbers[i]);
    return rc;
}

static enum pool_code run_put(struct sqlite_registry *registry, const struct pool_learned_use *use,
                              struct pool_error *err)
{
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code = sqlite_take(registry, SQLITE_STATEMENT_PUT_LEARNED, &statement, err);
    if (code != POOL_OK)
        return code;
    int rc = bind_use(statement, use);
    return rc == SQLITE_OK ? sqlite_finish(registry, statement, err) : sqlite_failure(registry, rc, err);
}

enum pool_code sqlite_put_learned(void *self, const struct pool_learned_use *use, struct pool_error *err)
{
    struct sqlite_registry *registry = self;
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code = run_put(registry, use, err);
    if (code == POOL_OK)
        code = sqlite_take(registry, SQLITE_STATEMENT_SHORTEN_LEARNED, &statement, err);
    if (code != POOL_OK)
        return code;
    int rc = sqlite3_bind_int64(statement, 1, POOL_LEARNED_MAX);
    return rc == SQLITE_OK ? sqlite_finish(registry, statement, err) : sqlite_failure(registry, rc, err);
}

static enum pool_code read_use(struct sqlite_registry *registry, sqlite3_stmt *statement,
                               struct pool_learned_list *list, struct pool_error *err)
{
    struct pool_learned_use use = { 0 };
    int64_t *const numbers[] = { &use.estimate_bytes, &use.ready_bytes, &use.peak_bytes, &use.n_starts,
                                 &use.updated_wall_ms };
    for (int i = 0; i < 2; i++) {
        if (sqlite3_column_type(statement, i) != SQLITE_TEXT ||
            sqlite3_column_bytes(statement, i) > POOL_WORKER_TEXT_MAX)
            return sqlite_corrupt(registry, err, "something learned can not be read");
    }
    /* The list copies them. */
    use.key = (char *)(uintptr_t)sqlite3_column_text(statement, 0);
    use.model_ref = (char *)(uintptr_t)sqlite3_column_text(statement, 1);
    if (!use.key || !use.model_ref)
        return pool_error_no_memory(err);
    for (int i = 0; i < 5; i++) {
        *numbers[i] = sqlite3_column_int64(statement, 2 + i);
        if (sqlite3_column_type(statement, 2 + i) != SQLITE_INTEGER || *numbers[i] < 0)
            return sqlite_corrupt(registry, err, "something learned can not be read");
    }
    return learned_list_append(list, &use) ? POOL_OK : pool_error_no_memory(err);
}

enum pool_code sqlite_list_learned(void *self, const char *key, struct pool_learned_list *list,
                                   struct pool_error *err)
{
    struct sqlite_registry *registry = self;
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code = sqlite_take(
        registry, key ? SQLITE_STATEMENT_GET_LEARNED : SQLITE_STATEMENT_LIST_LEARNED, &statement, err);
    if (code != POOL_OK)
        return code;
    int rc = sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC); /* NULL binds NULL */
    while (rc == SQLITE_OK && code == POOL_OK) {
        int step = sqlite3_step(statement);
        if (step == SQLITE_DONE)
            return POOL_OK;
        if (step != SQLITE_ROW)
            rc = step;
        else
            code = read_use(registry, statement, list, err);
    }
    return code != POOL_OK ? code : sqlite_failure(registry, rc, err);
}

enum pool_code sqlite_forget_learned(void *self, const char *key, int64_t *ret_n, struct pool_error *err)
{
    struct sqlite_registry *registry = self;
    USES_STATEMENT sqlite3_stmt *statement = NULL;
    enum pool_code code = sqlite_take(registry, SQLITE_STATEMENT_FORGET_LEARNED, &statement, err);
    if (code != POOL_OK)
        return code;
    int rc = sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
    if (rc != SQLITE_OK)
        return sqlite_failure(registry, rc, err);
    code = sqlite_finish(registry, statement, err);
    if (code == POOL_OK)
        *ret_n = sqlite3_changes(registry->db);
    return code;
}
