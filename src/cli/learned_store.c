/*
 * What was learned; see learned_store.h.
 */
#include "cli/learned_store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/json_document.h"

void learned_id(const char *key, char id[LEARNED_ID_MAX])
{
    uint64_t digest = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (const char *c = key; *c; c++)
        digest = (digest ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    snprintf(id, LEARNED_ID_MAX, "%016" PRIx64, digest);
}

/* Whether the file of a sqlite registry is there; the path may have options behind it. */
static bool is_there(const char *url)
{
    static const char scheme[] = "sqlite:";
    if (strncmp(url, scheme, sizeof scheme - 1) != 0)
        return false; /* of "memory:" nothing outlives its process */
    CLEANUP_FREE char *path = strdup(url + sizeof scheme - 1);
    const char *slash = path ? strrchr(path, '/') : NULL;
    char *options = path ? strchr(slash ? slash : path, '?') : NULL;
    if (options)
        *options = '\0';
    return path && access(path, F_OK) == 0;
}

enum pool_code learned_open(struct cli *cli, bool is_read_only, struct pool_worker_registry **ret_registry,
                            struct pool_error *err)
{
    const struct pool_config *config;
    enum pool_code code = cli_get_config(cli, &config, err);
    *ret_registry = NULL;
    if (code != POOL_OK || !is_there(config->registry_url))
        return code;
    return is_read_only ? pool_worker_registry_open_read_only(config->registry_url, ret_registry, err)
                        : pool_worker_registry_open(config->registry_url, ret_registry, err);
}

enum pool_code learned_read(struct cli *cli, struct pool_learned_list **ret_list, struct pool_error *err)
{
    CLEANUP(release_registry) struct pool_worker_registry *registry = NULL;
    enum pool_code code = learned_open(cli, true, &registry, err);
    if (code != POOL_OK)
        return code;
    if (registry)
        return pool_worker_registry_list_learned(registry, NULL, ret_list, err);
    *ret_list = NULL;
    return POOL_OK;
}

static json_t *json_of_use(const struct pool_learned_use *use)
{
    char id[LEARNED_ID_MAX], updated[RFC3339_MAX];
    learned_id(use->key, id);
    clock_format_rfc3339(use->updated_wall_ms, updated);
    return json_pack("{s:s, s:o, s:o, s:I, s:I, s:I, s:I, s:s}", "id", id, "key", json_of_text(use->key),
                     "model_ref", json_of_text(use->model_ref), "estimate_bytes",
                     (json_int_t)use->estimate_bytes, "ready_bytes", (json_int_t)use->ready_bytes,
                     "peak_bytes", (json_int_t)use->peak_bytes, "n_starts", (json_int_t)use->n_starts,
                     "updated_at", updated);
}

json_t *json_of_learned(const struct pool_learned_list *list)
{
    CLEANUP_JSON json_t *uses = json_array();
    for (size_t i = 0; uses && list && i < list->n_uses; i++) {
        if (json_array_append_new(uses, json_of_use(&list->uses[i])) < 0)
            return NULL;
    }
    return uses ? json_pack("{s:O}", "learned", uses) : NULL;
}
