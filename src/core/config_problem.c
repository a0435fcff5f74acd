/*
 * How problems of a configuration are said: "WHERE: [section].key: value: why". The first one becomes the
 * error, all of them go to the caller's function. It judges nothing itself.
 */
#include "core/config_loader.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WHERE_MAX   600
#define SHOWN_MAX   80 /* of a value, bytes */
#define WHY_MAX     400
#define MESSAGE_MAX POOL_ERROR_MESSAGE_MAX

struct problem_place {
    const char *file; /* NULL: in no file */
    uint32_t line, column;
};

static struct problem_place describe_place(const struct config_input *in, char where[WHERE_MAX])
{
    struct problem_place place = { NULL, 0, 0 };
    where[0] = '\0';
    if (!in)
        return place;
    switch (in->source) {
    case CONFIG_FROM_DEFAULT:
        if (in->node)
            snprintf(where, WHERE_MAX, "built in:%" PRIu32 ":%" PRIu32, in->node->line, in->node->column);
        else
            snprintf(where, WHERE_MAX, "default");
        break;
    case CONFIG_FROM_FILE:
        place = (struct problem_place){ in->name, in->node->line, in->node->column };
        if (place.line > 0)
            snprintf(where, WHERE_MAX, "%s:%" PRIu32 ":%" PRIu32, in->name, place.line, place.column);
        else
            snprintf(where, WHERE_MAX, "%s", in->name);
        break;
    case CONFIG_FROM_ENVIRONMENT: snprintf(where, WHERE_MAX, "environment %s", in->name); break;
    case CONFIG_FROM_FLAG: snprintf(where, WHERE_MAX, "flag %s", in->name); break;
    }
    return place;
}

/* "pool.id" as "[pool].id", "backends.cpu.ready.http" as "[backends.cpu].ready.http", "log_level" as it is. */
static void describe_key(const char *key, char shown[CONFIG_NAME_MAX + 2])
{
    size_t n_section = strcspn(key, ".");
    if (strncmp(key, "backends.", 9) == 0)
        n_section = 9 + strcspn(key + 9, ".");
    if (key[n_section] == '\0')
        snprintf(shown, CONFIG_NAME_MAX + 2, "%s", key);
    else
        snprintf(shown, CONFIG_NAME_MAX + 2, "[%.*s]%s", (int)n_section, key, key + n_section);
}

static void quote(const char *text, char shown[SHOWN_MAX])
{
    size_t n = 0;
    shown[n++] = '"';
    for (; *text && n < SHOWN_MAX - 6; text++) {
        unsigned char c = (unsigned char)*text;
        shown[n++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    if (*text) {
        /* Never end inside a UTF-8 sequence. */
        while (n > 1 && ((unsigned char)shown[n - 1] & 0xc0) == 0x80)
            n--;
        if (n > 1 && ((unsigned char)shown[n - 1] & 0xc0) == 0xc0)
            n--;
        memcpy(shown + n, "...", 3);
        n += 3;
    }
    shown[n++] = '"';
    shown[n] = '\0';
}

static void describe_value(const struct config_input *in, char shown[SHOWN_MAX])
{
    shown[0] = '\0';
    if (!in)
        return;
    if (!in->node) {
        quote(in->text, shown);
        return;
    }
    switch (in->node->kind) {
    case TOML_STRING: quote(in->node->text, shown); break;
    case TOML_INTEGER: snprintf(shown, SHOWN_MAX, "%" PRId64, in->node->integer); break;
    case TOML_REAL: snprintf(shown, SHOWN_MAX, "%g", in->node->real); break;
    case TOML_BOOL: snprintf(shown, SHOWN_MAX, "%s", in->node->boolean ? "true" : "false"); break;
    case TOML_TABLE:
    case TOML_ARRAY:
    case TOML_DATE: snprintf(shown, SHOWN_MAX, "%s", toml_kind_name(in->node->kind)); break;
    }
}

static void count_problem(struct config_loader *l, const struct problem_place *place, const char *key,
                          const char *message)
{
    l->n_problems++;
    if (l->report)
        l->report(false, message, l->context);
    if (l->n_problems > 1)
        return;
    pool_error_set(l->err, POOL_INVALID_CONFIG, "%s", message);
    pool_error_set_field(l->err, "%s", key);
    if (key[0])
        pool_error_add_text(l->err, "key", key);
    if (!place->file)
        return;
    pool_error_add_text(l->err, "path", place->file);
    if (place->line > 0) {
        pool_error_add_number(l->err, "line", place->line);
        pool_error_add_number(l->err, "column", place->column);
    }
}

static __attribute__((format(printf, 6, 0))) void say(struct config_loader *l, bool is_warning,
                                                      const struct config_input *in, bool with_value,
                                                      const char *key, const char *why, va_list args)
{
    if (l->is_muted)
        return;
    char where[WHERE_MAX];
    char shown_key[CONFIG_NAME_MAX + 2];
    char value[SHOWN_MAX];
    char reason[WHY_MAX];
    char message[MESSAGE_MAX];
    struct problem_place place = describe_place(in, where);
    describe_key(key, shown_key);
    describe_value(with_value ? in : NULL, value);
    vsnprintf(reason, sizeof reason, why, args);
    const char *parts[] = { where, shown_key, value, reason };
    size_t n = 0;
    message[0] = '\0';
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && n < sizeof message; i++) {
        if (parts[i][0])
            n += (size_t)snprintf(message + n, sizeof message - n, "%s%s", n ? ": " : "", parts[i]);
    }
    if (!is_warning)
        count_problem(l, &place, key, message);
    else if (l->report)
        l->report(true, message, l->context);
}

void config_problem(struct config_loader *l, const struct config_input *in, const char *key, const char *why,
                    ...)
{
    va_list args;
    va_start(args, why);
    say(l, false, in, true, key, why, args);
    va_end(args);
}

void config_warning(struct config_loader *l, const struct config_input *in, const char *key, const char *why,
                    ...)
{
    va_list args;
    va_start(args, why);
    say(l, true, in, true, key, why, args);
    va_end(args);
}

void config_key_problem(struct config_loader *l, const struct toml_node *node, const char *key,
                        const char *why, ...)
{
    struct toml_node at_key = *node;
    at_key.line = node->key_line;
    at_key.column = node->key_column;
    struct config_input in = { .source = CONFIG_FROM_FILE, .node = &at_key, .name = l->file };
    va_list args;
    va_start(args, why);
    say(l, false, &in, false, key, why, args);
    va_end(args);
}

void config_file_problem(struct config_loader *l, uint32_t line, uint32_t column, const char *why, ...)
{
    const struct toml_node at = { .line = line, .column = column };
    struct config_input in = { .source = CONFIG_FROM_FILE, .node = &at, .name = l->file };
    va_list args;
    va_start(args, why);
    say(l, false, &in, false, "", why, args);
    va_end(args);
}
