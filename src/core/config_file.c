/*
 * The configuration file: which one it is, reading it, and refusing keys that do not exist. What the values
 * mean is not looked at here.
 */
#include "core/config_loader.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"

#define BACKEND_NAME_MAX 64

bool config_is_backend_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return n > 0 && n <= BACKEND_NAME_MAX && name[n] == '\0' && name[0] != '-' && name[0] != '_';
}

enum key_match { KEY_UNKNOWN, KEY_SECTION, KEY_VALUE };

static enum key_match match_key(const char *name, const struct config_key *keys, size_t n_keys)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < n_keys; i++) {
        if (strncmp(keys[i].name, name, n) != 0)
            continue;
        if (keys[i].name[n] == '\0')
            return KEY_VALUE;
        if (keys[i].name[n] == '.')
            return KEY_SECTION;
    }
    return KEY_UNKNOWN;
}

/*
 * Checks the keys below a table whose own name is `prefix` ("" or "workers." or "ready."); `shown` comes
 * before that in messages. It goes down only where a known key has another part, so its depth is that of the
 * known keys.
 */
static void check_keys(struct config_loader *l, const struct toml_node *table, const char *shown,
                       const char *prefix, const struct config_key *keys, size_t n_keys)
{
    bool is_root = keys == config_global_keys;
    for (size_t i = 0; i < table->n_children; i++) {
        const struct toml_node *child = &table->children[i];
        char name[CONFIG_NAME_MAX];
        char full[CONFIG_NAME_MAX];
        char hint[CONFIG_HINT_MAX];
        snprintf(name, sizeof name, "%s%s", prefix, child->key);
        snprintf(full, sizeof full, "%s%s", shown, name);
        if (is_root && strcmp(name, "backends") == 0)
            continue;
        switch (match_key(name, keys, n_keys)) {
        case KEY_VALUE: break;
        case KEY_SECTION:
            if (child->kind == TOML_TABLE) {
                char deeper[CONFIG_NAME_MAX];
                snprintf(deeper, sizeof deeper, "%.*s.", (int)sizeof deeper - 2, name);
                check_keys(l, child, shown, deeper, keys, n_keys);
            } else {
                config_key_problem(l, child, full, "this is a section: write [%s] and its keys below", full);
            }
            break;
        case KEY_UNKNOWN:
            config_hint_key(name, keys, n_keys, hint);
            config_key_problem(l, child, full, "unknown key%s", hint);
            break;
        }
    }
}

static void check_backends(struct config_loader *l, const struct toml_node *backends)
{
    if (backends->kind != TOML_TABLE) {
        config_key_problem(l, backends, "backends", "expected tables [backends.NAME], not %s",
                           toml_kind_name(backends->kind));
        return;
    }
    for (size_t i = 0; i < backends->n_children; i++) {
        const struct toml_node *backend = &backends->children[i];
        char name[CONFIG_NAME_MAX];
        snprintf(name, sizeof name, "backends.%s", backend->key);
        if (!config_is_backend_name(backend->key)) {
            config_key_problem(l, backend, name, "a backend's name is 1 to %d letters, digits, _ and -",
                               BACKEND_NAME_MAX);
        } else if (backend->kind != TOML_TABLE) {
            config_key_problem(l, backend, name, "expected a table [%s], not %s", name,
                               toml_kind_name(backend->kind));
        } else {
            char shown[CONFIG_NAME_MAX];
            snprintf(shown, sizeof shown, "%.*s.", (int)sizeof shown - 2, name);
            check_keys(l, backend, shown, "", config_backend_keys, CONFIG_N_BACKEND_KEYS);
        }
    }
}

/* Which file; *ret_is_default when nobody named one, so that it may be missing. */
static bool choose_file(struct config_loader *l, bool *ret_is_default)
{
    struct config_input in = { .source = CONFIG_FROM_FLAG, .name = "--config", .text = l->sources->file };
    *ret_is_default = false;
    if (!in.text) {
        in = (struct config_input){ .source = CONFIG_FROM_ENVIRONMENT,
                                    .name = "POOL_CONFIG",
                                    .text = config_environment(l->sources, "POOL_CONFIG") };
    }
    if (in.text)
        return config_resolve_path(l, &in, "", in.text, &l->file);
    *ret_is_default = true;
    return !l->places.config_dir || asprintf(&l->file, "%s/pool.toml", l->places.config_dir) >= 0;
}

static bool parse_file(struct config_loader *l, const struct strbuf *text)
{
    struct toml_error error = { 0 };
    l->document = toml_parse(strbuf_text(text), text->n, &error);
    if (!l->document) {
        if (error.is_no_memory)
            return false;
        config_file_problem(l, error.line, error.column, "%s", error.message);
        return true;
    }
    const struct toml_node *root = toml_root(l->document);
    check_keys(l, root, "", "", config_global_keys, CONFIG_N_GLOBAL_KEYS);
    const struct toml_node *backends = toml_child(root, "backends");
    if (backends)
        check_backends(l, backends);
    return true;
}

bool config_read_file(struct config_loader *l)
{
    bool is_default;
    if (!choose_file(l, &is_default)) {
        l->file = NULL;
        return false;
    }
    if (!l->file)
        return true;
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(POOL_CONFIG_FILE_MAX_BYTES);
    int failure = file_read(l->file, &text);
    if (failure == ENOMEM)
        return false;
    if (is_default && (failure == ENOENT || failure == ENOTDIR)) {
        free(take_ptr(&l->file));
        return true;
    }
    const char *slash = strrchr(l->file, '/');
    l->file_dir = strndup(l->file, slash == l->file ? 1 : (size_t)(slash - l->file));
    if (!l->file_dir)
        return false;
    if (failure == EFBIG)
        config_file_problem(l, 0, 0, "is larger than %d bytes", POOL_CONFIG_FILE_MAX_BYTES);
    else if (failure != 0)
        config_file_problem(l, 0, 0, "can not be read: %s", strerrordesc_np(failure));
    else
        return parse_file(l, &text);
    return true;
}
