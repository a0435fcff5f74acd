/*
 * Configurations as callers see them: loading in its order of steps, looking up, freeing. The steps are in
 * config_*.c.
 */
#include <pool/config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "core/config_loader.h"

#define KNOWN_MAX 400 /* bytes of the names in a message */

static void free_texts(char **texts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(texts[i]);
    free(texts);
}

void pool_config_free(struct pool_config *config)
{
    if (!config)
        return;
    free_texts(config->models_dirs, config->n_models_dirs);
    free_texts(config->catalogs, config->n_catalogs);
    char *texts[] = { config->pool_id,
                      config->state_dir,
                      config->advertise_host,
                      config->daemon_bind,
                      config->daemon_socket,
                      config->daemon_token_file,
                      config->registry_url,
                      config->orchestrator_url,
                      config->orchestrator_token_file,
                      config->workers_bind_host,
                      config->gpu_inventory,
                      config->gpu_lock_dir,
                      config->log_level,
                      config->file };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        free(texts[i]);
    for (size_t i = 0; i < config->n_backends; i++)
        config_backend_free(config->backends[i]);
    free(config->backends);
    config_values_free(config->values);
    free(config);
}

static void free_loader(struct config_loader *l)
{
    toml_free(l->document);
    toml_free(l->builtin);
    char *texts[] = { l->places.home,     l->places.config_dir,  l->places.state_dir,
                      l->places.data_dir, l->places.runtime_dir, l->file,
                      l->file_dir };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        free(texts[i]);
    free(l->backend_inputs);
    pool_config_free(l->config);
}

/* false: memory is out. */
static bool load(struct config_loader *l)
{
    l->config = calloc(1, sizeof *l->config);
    if (!l->config || !config_find_places(l) || !config_read_file(l))
        return false;
    /* Of a file that is not TOML nothing else can be said. */
    if (l->file && !l->document)
        return true;
    if (!config_merge(l) || !config_load_backends(l))
        return false;
    config_validate(l);
    if (l->n_problems > 0)
        return true;
    if (!config_build_values(l))
        return false;
    l->config->file = take_ptr(&l->file);
    return true;
}

enum pool_code pool_config_check(const struct pool_config_sources *sources, pool_config_problem_fn *report,
                                 void *context, struct pool_config **ret_config, struct pool_error *err)
{
    if (sources->struct_size < sizeof *sources)
        return pool_error_set(err, POOL_INVALID_REQUEST,
                              "struct_size of the sources is %zu, expected at least %zu",
                              sources->struct_size, sizeof *sources);
    CLEANUP(free_loader)
    struct config_loader l = { .sources = sources, .report = report, .context = context, .err = err };
    if (!load(&l))
        return pool_error_no_memory(err);
    if (l.n_problems > 0) {
        pool_error_add_number(err, "n_problems", (int64_t)l.n_problems);
        return POOL_INVALID_CONFIG;
    }
    *ret_config = take_ptr(&l.config);
    return POOL_OK;
}

enum pool_code pool_config_load(const struct pool_config_sources *sources, struct pool_config **ret_config,
                                struct pool_error *err)
{
    return pool_config_check(sources, NULL, NULL, ret_config, err);
}

enum pool_code pool_config_place(const struct pool_config_sources *sources, char **ret_path,
                                 struct pool_error *err)
{
    CLEANUP(free_loader) struct config_loader l = { .sources = sources, .err = err };
    const char *named = sources->file ? sources->file : config_environment(sources, "POOL_CONFIG");
    char *path = NULL;
    if (!config_find_places(&l))
        return pool_error_no_memory(err);
    if (!named && !l.places.config_dir)
        return pool_error_set(err, POOL_NOT_FOUND,
                              "there is no home folder for a default place; name the configuration file");
    if (asprintf(&path, "%s%s", named ? named : l.places.config_dir, named ? "" : "/pool.toml") < 0)
        return pool_error_no_memory(err);
    *ret_path = path;
    return POOL_OK;
}

enum pool_code pool_config_backend(const struct pool_config *config, const char *name,
                                   const struct pool_backend **ret_backend, struct pool_error *err)
{
    CLEANUP(strbuf_done) struct strbuf known = STRBUF_INIT(KNOWN_MAX);
    for (size_t i = 0; i < config->n_backends; i++) {
        if (strcmp(config->backends[i]->name, name) == 0) {
            *ret_backend = config->backends[i];
            return POOL_OK;
        }
        strbuf_printf(&known, "%s%s", i ? ", " : "", config->backends[i]->name);
    }
    pool_error_set(err, POOL_BACKEND_NOT_FOUND, "there is no backend \"%.64s\"; known are %s%s", name,
                   strbuf_text(&known), known.failure == STRBUF_FINE ? "" : ", ...");
    pool_error_add_text(err, "backend", name);
    pool_error_set_field(err, "backend");
    return POOL_BACKEND_NOT_FOUND;
}

const char *pool_device_kind_name(enum pool_device_kind kind)
{
    static const char *const names[] = {
#define KIND_NAME(name, text) [POOL_DEVICE_##name] = text,
        POOL_DEVICE_KINDS(KIND_NAME)
#undef KIND_NAME
    };
    return (size_t)kind < sizeof names / sizeof names[0] ? names[kind] : "unknown";
}
