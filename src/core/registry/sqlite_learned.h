/*
 * What was learned, in SQLite: the schema, the statements and the slots.
 */
#ifndef CORE_REGISTRY_SQLITE_LEARNED_H
#define CORE_REGISTRY_SQLITE_LEARNED_H

#include "core/registry/sqlite.h"

#define SQLITE_LEARNED_TABLE                                                                       \
    "CREATE TABLE learned (key TEXT NOT NULL PRIMARY KEY, model_ref TEXT NOT NULL, "               \
    "estimate_bytes INTEGER NOT NULL, ready_bytes INTEGER NOT NULL, peak_bytes INTEGER NOT NULL, " \
    "n_starts INTEGER NOT NULL, updated_wall_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;"          \
    "CREATE INDEX learned_age ON learned (updated_wall_ms);"

extern const char sqlite_schema_learned[];
extern const char sqlite_learned_put[], sqlite_learned_shorten[], sqlite_learned_list[], sqlite_learned_get[],
    sqlite_learned_forget[];

enum pool_code sqlite_put_learned(void *self, const struct pool_learned_use *use, struct pool_error *err);
enum pool_code sqlite_list_learned(void *self, const char *key, struct pool_learned_list *list,
                                   struct pool_error *err);
enum pool_code sqlite_forget_learned(void *self, const char *key, int64_t *ret_n, struct pool_error *err);

#endif
