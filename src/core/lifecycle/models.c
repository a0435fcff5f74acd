/*
 * Models as a configuration sees them: its catalogs, its directories, the Hub's own cache, and where proofs of
 * verification are remembered.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/lifecycle/plan.h"

enum pool_code pool_config_open_catalog(const struct pool_config *config,
                                        struct pool_model_catalog **ret_catalog, struct pool_error *err)
{
    return pool_model_catalog_open((const char *const *)config->catalogs, config->n_catalogs, ret_catalog,
                                   NULL, NULL, err);
}

/* HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME or ~/.cache, huggingface/hub (reference: hub, section 5). */
char *pool_hub_cache_dir(const char *const *environment)
{
    char *path = NULL;
    const char *value;
    int n;
    if ((value = environment_get(environment, "HF_HUB_CACHE")) && *value)
        return strdup(value);
    if ((value = environment_get(environment, "HF_HOME")) && *value)
        n = asprintf(&path, "%s/hub", value);
    else if ((value = environment_get(environment, "XDG_CACHE_HOME")) && *value)
        n = asprintf(&path, "%s/huggingface/hub", value);
    else
        n = asprintf(&path, "%s/.cache/huggingface/hub",
                     (value = environment_get(environment, "HOME")) && *value ? value : "/nonexistent");
    return n < 0 ? NULL : path;
}

enum pool_code pool_config_resolve_model(const struct pool_config *config, const char *const *environment,
                                         const struct pool_model_catalog *catalog, bool is_unrestricted,
                                         const char *model_ref, struct pool_model **ret_model,
                                         struct pool_error *err)
{
    CLEANUP_FREE char *hub_cache = pool_hub_cache_dir(environment);
    if (!hub_cache)
        return pool_error_no_memory(err);
    struct pool_model_paths paths = { .struct_size = sizeof paths,
                                      .n_models_dirs = config->n_models_dirs,
                                      .models_dirs = (const char *const *)config->models_dirs,
                                      .hf_cache_dir = hub_cache,
                                      .allow_any_file = is_unrestricted };
    return pool_model_resolve(catalog, &paths, model_ref, ret_model, err);
}

char *pool_config_proof_dir(const struct pool_config *config)
{
    char *path = NULL;
    return asprintf(&path, "%s/proofs", config->state_dir) < 0 ? NULL : path;
}
