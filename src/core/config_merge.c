/*
 * Which source wins for each key: flag, then variable, then file, then default. Backends are merged elsewhere
 * (config_backends.c); they come from the file and the built-in ones only.
 */
#include "core/config_loader.h"

#include <stdio.h>
#include <string.h>

#define VARIABLE_MAX 128 /* characters of a POOL_ variable's name that are looked at */
#define DEFAULT_MAX  64

/* POOL_ variables that are no keys: of the command line, and those that the pool gives its workers. */
static const char *const other_variables[] = { "POOL_CONFIG",     "POOL_URL",       "POOL_TOKEN",
                                               "POOL_TOKEN_FILE", "POOL_WORKER_ID", "POOL_STATE_ID",
                                               "POOL_WORKER_SPEC" };
#define N_OTHER_VARIABLES (sizeof other_variables / sizeof other_variables[0])

/* An unknown POOL_ variable may be a typing error, but Kubernetes makes such names for any service called "pool". */
static void check_variables(struct config_loader *l)
{
    const char *known[CONFIG_N_GLOBAL_KEYS + N_OTHER_VARIABLES];
    size_t n_known = 0;
    for (size_t i = 0; i < CONFIG_N_GLOBAL_KEYS; i++)
        known[n_known++] = config_global_keys[i].shown.environment;
    for (size_t i = 0; i < N_OTHER_VARIABLES; i++)
        known[n_known++] = other_variables[i];
    for (const char *const *at = l->sources->environment; at && *at; at++) {
        char name[VARIABLE_MAX];
        char hint[CONFIG_HINT_MAX];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(*at, "="), *at);
        bool is_known = strncmp(name, "POOL_", 5) != 0;
        for (size_t i = 0; i < n_known && !is_known; i++)
            is_known = strcmp(known[i], name) == 0;
        if (is_known)
            continue;
        config_hint_name(name, known, n_known, hint);
        config_warning(l, NULL, "", "environment %s: unknown variable%s", name, hint);
    }
}

static void check_overrides(struct config_loader *l)
{
    for (size_t i = 0; i < l->sources->n_overrides; i++) {
        const struct pool_config_override *override = &l->sources->overrides[i];
        bool is_known = false;
        for (size_t k = 0; k < CONFIG_N_GLOBAL_KEYS && !is_known; k++)
            is_known = strcmp(config_global_keys[k].name, override->key) == 0;
        if (is_known)
            continue;
        char hint[CONFIG_HINT_MAX];
        struct config_input in = { .source = CONFIG_FROM_FLAG,
                                   .name = override->flag,
                                   .text = override->value };
        config_hint_key(override->key, config_global_keys, CONFIG_N_GLOBAL_KEYS, hint);
        config_problem(l, &in, override->key, "no key that a flag could set%s", hint);
    }
}

static const struct toml_node *find_in_file(const struct config_loader *l, const char *name)
{
    const struct toml_node *node = l->document ? toml_root(l->document) : NULL;
    while (node) {
        char part[CONFIG_NAME_MAX];
        size_t n = strcspn(name, ".");
        snprintf(part, sizeof part, "%.*s", (int)n, name);
        node = toml_child(node, part);
        if (name[n] == '\0')
            return node;
        name += n + 1;
    }
    return NULL;
}

static struct config_input choose_input(const struct config_loader *l, const struct config_key *key)
{
    for (size_t i = l->sources->n_overrides; i > 0; i--) {
        const struct pool_config_override *override = &l->sources->overrides[i - 1];
        if (strcmp(override->key, key->name) == 0)
            return (struct config_input){ .source = CONFIG_FROM_FLAG,
                                          .name = override->flag,
                                          .text = override->value };
    }
    const char *value = config_environment(l->sources, key->shown.environment);
    if (value)
        return (struct config_input){ .source = CONFIG_FROM_ENVIRONMENT,
                                      .name = key->shown.environment,
                                      .text = value };
    const struct toml_node *node = find_in_file(l, key->name);
    if (node)
        return (struct config_input){ .source = CONFIG_FROM_FILE, .name = l->file, .node = node };
    return (struct config_input){ .source = CONFIG_FROM_DEFAULT };
}

/* The default is TOML in the table; without its quotes it has the form of a variable's value. */
static bool convert_default(struct config_loader *l, const struct config_key *key, void *base)
{
    char text[DEFAULT_MAX];
    const char *toml = key->shown.default_value;
    if (!toml)
        return config_default(l, key, base);
    if (toml[0] == '"')
        snprintf(text, sizeof text, "%.*s", (int)strlen(toml) - 2, toml + 1);
    else
        snprintf(text, sizeof text, "%s", toml);
    struct config_input in = { .source = CONFIG_FROM_DEFAULT, .text = text };
    return config_convert(l, key, key->name, &in, base);
}

bool config_merge(struct config_loader *l)
{
    check_variables(l);
    check_overrides(l);
    for (size_t i = 0; i < CONFIG_N_GLOBAL_KEYS; i++) {
        const struct config_key *key = &config_global_keys[i];
        struct config_input *in = &l->inputs[i];
        *in = choose_input(l, key);
        if (in->source == CONFIG_FROM_DEFAULT ? !convert_default(l, key, l->config)
                                              : !config_convert(l, key, key->name, in, l->config))
            return false;
        if (key->offset == offsetof(struct pool_config, state_dir))
            l->config->is_state_dir_explicit = in->source != CONFIG_FROM_DEFAULT;
    }
    return config_complete_paths(l);
}
