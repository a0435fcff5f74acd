/*
 * The table of keys as data, and the search for the name that somebody meant. The rows are in config_keys.h.
 */
#include "core/config_keys.h"

#include <stdio.h>
#include <string.h>

#include "base/nearest.h"

#define KEY(prefix, owner, text, variable, kind, field, count, least, most, default_toml, note, the_words, \
            about)                                                                                         \
    {                                                                                                      \
        .shown = { .name = prefix text,                                                                    \
                   .environment = variable,                                                                \
                   CONFIG_SHOW_##kind(the_words),                                                          \
                   .default_value = default_toml,                                                          \
                   .default_note = note,                                                                   \
                   .summary = about },                                                                     \
        .name = text,                                                                                      \
        .type = CONFIG_##kind,                                                                             \
        .offset = offsetof(struct owner, field),                                                           \
        .count_offset = offsetof(struct owner, count),                                                     \
        .min = least,                                                                                      \
        .max = most,                                                                                       \
        .words = the_words,                                                                                \
    },
#define GLOBAL_KEY(...)  KEY("", pool_config, __VA_ARGS__)
#define BACKEND_KEY(...) KEY("backends.NAME.", pool_backend, __VA_ARGS__)

const struct config_key config_global_keys[CONFIG_N_GLOBAL_KEYS] = { CONFIG_GLOBAL_KEYS(GLOBAL_KEY) };
const struct config_key config_backend_keys[CONFIG_N_BACKEND_KEYS] = { CONFIG_BACKEND_KEYS(BACKEND_KEY) };

size_t pool_config_n_keys(void)
{
    return CONFIG_N_GLOBAL_KEYS + CONFIG_N_BACKEND_KEYS;
}

const struct pool_config_key *pool_config_key_at(size_t index)
{
    if (index < CONFIG_N_GLOBAL_KEYS)
        return &config_global_keys[index].shown;
    index -= CONFIG_N_GLOBAL_KEYS;
    return index < CONFIG_N_BACKEND_KEYS ? &config_backend_keys[index].shown : NULL;
}

/* ---- what was meant ---- */

#define NAMES_MAX   64
#define SECTION_MAX 32
_Static_assert(2 * CONFIG_N_GLOBAL_KEYS + 1 <= NAMES_MAX && 2 * CONFIG_N_BACKEND_KEYS + 1 <= NAMES_MAX,
               "room for every key, its section, and backends");

void config_hint_name(const char *name, const char *const *names, size_t n_names, char hint[CONFIG_HINT_MAX])
{
    const char *nearest = nearest_name(name, names, n_names);
    hint[0] = '\0';
    if (nearest)
        snprintf(hint, CONFIG_HINT_MAX, "; did you mean %s?", nearest);
}

/* The part behind the last dot. */
static const char *last_part(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

/* Lists what the section of `name` has, each once: of "workers.x" the keys of [workers], of "x" the sections. */
static void list_section(const char *name, const struct config_key *keys, size_t n_keys,
                         char hint[CONFIG_HINT_MAX])
{
    size_t n_section = (size_t)(last_part(name) - name);
    size_t n = (size_t)snprintf(hint, CONFIG_HINT_MAX, "; known are");
    const char *last = "";
    size_t n_last = 0;
    for (size_t i = 0; i < n_keys && n < CONFIG_HINT_MAX; i++) {
        const char *part = keys[i].name + n_section;
        size_t n_part = strncmp(keys[i].name, name, n_section) == 0 ? strcspn(part, ".") : 0;
        if (n_part == 0 || (n_part == n_last && memcmp(part, last, n_part) == 0))
            continue;
        n += (size_t)snprintf(hint + n, CONFIG_HINT_MAX - n, "%s %.*s", n_last ? "," : "", (int)n_part, part);
        last = part;
        n_last = n_part;
    }
}

void config_hint_key(const char *name, const struct config_key *keys, size_t n_keys,
                     char hint[CONFIG_HINT_MAX])
{
    char sections[NAMES_MAX][SECTION_MAX];
    const char *names[NAMES_MAX];
    size_t n_names = 0;
    for (size_t i = 0; i < n_keys; i++) {
        /* The right name in the wrong section is nearer than a wrong name in the right one. */
        if (strcmp(last_part(keys[i].name), last_part(name)) == 0) {
            config_hint_name(keys[i].name, &keys[i].name, 1, hint);
            return;
        }
        snprintf(sections[i], SECTION_MAX, "%.*s", (int)strcspn(keys[i].name, "."), keys[i].name);
        names[n_names++] = keys[i].name;
        names[n_names++] = sections[i];
    }
    if (keys == config_global_keys)
        names[n_names++] = "backends";
    config_hint_name(name, names, n_names, hint);
    if (!hint[0])
        list_section(name, keys, n_keys, hint);
}
