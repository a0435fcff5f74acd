/*
 * Every value as TOML with its origin, for `config show`. Made from the loaded configuration, so that what is
 * shown is what is used; reading it back gives the same configuration.
 */
#include "core/config_loader.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"

#define VALUES_TEXT_MAX ((size_t)64 << 20)

/* Three texts in a row in `text`: key, value, origin. */
struct pool_config_values {
    size_t n;
    struct value_place {
        size_t key, value, origin;
    } * places;
    struct strbuf text;
};

void config_values_free(struct pool_config_values *values)
{
    if (!values)
        return;
    strbuf_done(&values->text);
    free(values->places);
    free(values);
}

static void add_text(struct strbuf *out, const char *text, size_t n)
{
    strbuf_add_char(out, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            strbuf_printf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            strbuf_printf(out, "\\u%04X", c);
        else
            strbuf_add_char(out, (char)c);
    }
    strbuf_add_char(out, '"');
}

static void add_list(struct strbuf *out, char *const *texts, size_t n)
{
    strbuf_add_char(out, '[');
    for (size_t i = 0; i < n; i++) {
        strbuf_add_text(out, i ? ", " : "");
        add_text(out, texts[i], strlen(texts[i]));
    }
    strbuf_add_char(out, ']');
}

static void add_env(struct strbuf *out, const struct pool_backend *backend)
{
    strbuf_add_char(out, '{');
    for (size_t i = 0; i < backend->n_env; i++) {
        strbuf_printf(out, "%s%s = ", i ? ", " : " ", backend->env[i].name);
        add_text(out, backend->env[i].value, strlen(backend->env[i].value));
    }
    strbuf_add_text(out, backend->n_env ? " }" : "}");
}

static void add_value(struct strbuf *out, const struct config_key *key, const void *base)
{
    const void *field = (const char *)base + key->offset;
    const void *count = (const char *)base + key->count_offset;
    const char *text;
    size_t n;
    switch (key->type) {
    case CONFIG_TEXT:
    case CONFIG_NAME:
    case CONFIG_PATH:
    case CONFIG_ADDRESS:
    case CONFIG_HOST:
    case CONFIG_REGISTRY:
    case CONFIG_INVENTORY:
    case CONFIG_HTTP_URL:
    case CONFIG_WORD:
    case CONFIG_BACKEND:
    case CONFIG_HTTP_PATH:
        text = *(char *const *)field;
        add_text(out, text ? text : "", text ? strlen(text) : 0);
        break;
    case CONFIG_SIGNAL:
        text = config_signal_name(*(const int *)field);
        add_text(out, text, strlen(text));
        break;
    case CONFIG_CHOICE:
        text = config_word_at(key->words, *(const unsigned *)field, &n);
        add_text(out, text, n);
        break;
    case CONFIG_BOOL: strbuf_add_text(out, *(const bool *)field ? "true" : "false"); break;
    case CONFIG_MILLISECONDS:
    case CONFIG_BYTES: strbuf_printf(out, "%" PRId64, *(const int64_t *)field); break;
    case CONFIG_PORTS:
        strbuf_printf(out, "\"%" PRId64 "-%" PRId64 "\"", *(const int64_t *)field, *(const int64_t *)count);
        break;
    case CONFIG_PATHS:
    case CONFIG_COMMAND:
    case CONFIG_ARGUMENTS:
    case CONFIG_OPTIONS:
    case CONFIG_VARIABLES:
    case CONFIG_NAMES:
    case CONFIG_WORDS: add_list(out, *(char *const *const *)field, *(const size_t *)count); break;
    case CONFIG_ENV: add_env(out, base); break;
    }
}

static void add_origin(struct strbuf *out, const struct config_input *in)
{
    switch (in->source) {
    case CONFIG_FROM_DEFAULT: strbuf_add_text(out, "default"); break;
    case CONFIG_FROM_FILE: strbuf_printf(out, "%s:%" PRIu32, in->name, in->node->line); break;
    case CONFIG_FROM_ENVIRONMENT: strbuf_printf(out, "environment %s", in->name); break;
    case CONFIG_FROM_FLAG: strbuf_printf(out, "flag %s", in->name); break;
    }
}

static void add_entry(struct pool_config_values *values, const char *section, const struct config_key *key,
                      const void *base, const struct config_input *in)
{
    struct strbuf *text = &values->text;
    struct value_place *place = &values->places[values->n++];
    place->key = text->n;
    strbuf_printf(text, "%s%s", section, key->name);
    strbuf_add_char(text, '\0');
    place->value = text->n;
    add_value(text, key, base);
    strbuf_add_char(text, '\0');
    place->origin = text->n;
    add_origin(text, in);
    strbuf_add_char(text, '\0');
}

bool config_build_values(struct config_loader *l)
{
    struct pool_config *config = l->config;
    CLEANUP_FREE struct pool_config_values *values = calloc(1, sizeof *values);
    if (!values)
        return false;
    values->text.limit = VALUES_TEXT_MAX;
    values->places =
        calloc(CONFIG_N_GLOBAL_KEYS + config->n_backends * CONFIG_N_BACKEND_KEYS, sizeof *values->places);
    if (!values->places)
        return false;
    for (size_t i = 0; i < CONFIG_N_GLOBAL_KEYS; i++)
        add_entry(values, "", &config_global_keys[i], config, &l->inputs[i]);
    for (size_t i = 0; i < config->n_backends; i++) {
        char section[CONFIG_NAME_MAX];
        snprintf(section, sizeof section, "backends.%s.", config->backends[i]->name);
        for (size_t k = 0; k < CONFIG_N_BACKEND_KEYS; k++)
            add_entry(values, section, &config_backend_keys[k], config->backends[i],
                      &l->backend_inputs[i][k]);
    }
    bool is_done = values->text.failure == STRBUF_FINE;
    config->values = take_ptr(&values);
    return is_done;
}

size_t pool_config_n_values(const struct pool_config *config)
{
    return config->values ? config->values->n : 0;
}

struct pool_config_value pool_config_value_at(const struct pool_config *config, size_t index)
{
    if (index >= pool_config_n_values(config))
        return (struct pool_config_value){ NULL, NULL, NULL };
    const struct value_place *place = &config->values->places[index];
    const char *text = config->values->text.data;
    return (struct pool_config_value){ text + place->key, text + place->value, text + place->origin };
}

const char *pool_config_origin(const struct pool_config *config, const char *key)
{
    for (size_t i = 0; i < pool_config_n_values(config); i++) {
        struct pool_config_value value = pool_config_value_at(config, i);
        if (strcmp(value.key, key) == 0)
            return value.origin;
    }
    return NULL;
}
