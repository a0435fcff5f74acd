/*
 * What was learned of workers' memory, as the commands show it. It lies in the registry's file and is read and forgotten
 * there, also while a daemon has the state directory: it is no state of a worker, nobody keeps a copy of it, and each change is
 * one statement of the database.
 */
#ifndef CLI_LEARNED_STORE_H
#define CLI_LEARNED_STORE_H

#include <pool/registry.h>

#include "base/json.h"
#include "cli/program.h"

#define LEARNED_ID_MAX 17

/* A short name of a key, 16 hexadecimal digits. */
void learned_id(const char *key, char id[LEARNED_ID_MAX]);
/* NULL: there is no registry yet, and nothing was learned. Owner: the caller. */
POOL_MUST_CHECK enum pool_code learned_open(struct cli *cli, bool is_read_only,
                                            struct pool_worker_registry **ret_registry,
                                            struct pool_error *err);
/* All of it, last measured first. Owner: pool_learned_list_free. */
POOL_MUST_CHECK enum pool_code learned_read(struct cli *cli, struct pool_learned_list **ret_list,
                                            struct pool_error *err);
/* {"learned": […]}. NULL: memory ran out. */
json_t *json_of_learned(const struct pool_learned_list *list);

static inline void release_learned(struct pool_learned_list **list)
{
    pool_learned_list_free(*list);
}
static inline void release_registry(struct pool_worker_registry **registry)
{
    pool_worker_registry_close(*registry);
}

#endif
