/*
 * Secrets out of command lines and environments; see redact.h.
 */
#include <ctype.h>
#include <pool/crash.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "core/lifecycle/redact.h"

/* One text without its secrets may be longer than it was, by marks. */
#define WORK_MAX_BYTES ((size_t)1 << 20)
#define CUT_MARK       "…"

static bool is_number(const char *value)
{
    return *value && value[strspn(value, "0123456789.,+-eE")] == '\0';
}

static bool is_secret(enum redact_name kind, const char *value)
{
    return kind >= REDACT_NAME_SECRET || (kind == REDACT_NAME_COUNT && !is_number(value));
}

static void learn_value(const char *value, struct string_list *known)
{
    if (strlen(value) < REDACT_KNOWN_MIN || known->n >= REDACT_KNOWN_MAX)
        return;
    for (size_t i = 0; i < known->n; i++) {
        if (strcmp(known->at[i], value) == 0)
            return;
    }
    string_list_add(known, value);
}

void redact_learn(const char *name, const char *value, struct string_list *known)
{
    if (value && is_secret(redact_name_kind(name, strcspn(name, "=")), value))
        learn_value(value, known);
}

/* The name of an option without its dashes, up to "="; NULL when it is none. */
static const char *option_name(const char *argument, size_t *ret_n)
{
    if (argument[0] != '-')
        return NULL;
    const char *name = argument + strspn(argument, "-");
    *ret_n = strcspn(name, "=");
    return isalpha((unsigned char)*name) ? name : NULL;
}

/*
 * How many arguments behind the i-th are the values of a secret option: one, whatever it looks like, and more as long as
 * they are no options ("--api-key A B" is taken by vLLM). 0: it is no such option, or has its value in it.
 */
static size_t count_values(char *const *argv, size_t n, size_t i)
{
    size_t n_name = 0;
    const char *name = option_name(argv[i], &n_name);
    enum redact_name kind = name ? redact_name_kind(name, n_name) : REDACT_NAME_PLAIN;
    if (kind == REDACT_NAME_PLAIN || name[n_name] == '=' || i + 1 >= n || !is_secret(kind, argv[i + 1]))
        return 0;
    size_t n_values = 1;
    while (i + n_values + 1 < n && argv[i + n_values + 1][0] != '-')
        n_values++;
    return n_values;
}

/* The value that stands behind "=" of a secret option, NULL: there is none. */
static const char *value_inside(const char *argument)
{
    size_t n_name = 0;
    const char *name = option_name(argument, &n_name);
    if (!name || name[n_name] != '=')
        return NULL;
    const char *value = name + n_name + 1;
    return is_secret(redact_name_kind(name, n_name), value) ? value : NULL;
}

void redact_learn_arguments(char *const *argv, size_t n, struct string_list *known)
{
    for (size_t i = 0; i < n; i++) {
        size_t n_values = count_values(argv, n, i);
        for (size_t k = 1; k <= n_values; k++)
            learn_value(argv[i + k], known);
        const char *inside = value_inside(argv[i]);
        if (inside)
            learn_value(inside, known);
        i += n_values;
    }
}

/* ---- lists that are cut ---- */

struct cut_list {
    struct string_list *list;
    bool is_whole; /* nothing is cut */
    size_t n_bytes;
    size_t n_left_out;
    bool has_failed;
};

/* Whole characters, as far as there are any. */
static size_t cut_at(const char *text, size_t n, size_t n_max)
{
    size_t at = 0;
    while (at < n) {
        size_t n_char = utf8_length(text + at);
        n_char = n_char == 0 ? 1 : n_char;
        if (at + n_char > n_max)
            break;
        at += n_char;
    }
    return at;
}

static void add_cut(struct cut_list *cut, const struct strbuf *text)
{
    if (cut->is_whole) {
        string_list_add(cut->list, strbuf_text(text));
        return;
    }
    if (cut->n_left_out > 0 || cut->n_bytes + text->n > POOL_CRASH_COMMAND_MAX_BYTES) {
        cut->n_left_out++;
        return;
    }
    size_t n = cut_at(strbuf_text(text), text->n, POOL_CRASH_TEXT_MAX);
    string_list_printf(cut->list, "%.*s%s", (int)n, strbuf_text(text), n < text->n ? CUT_MARK : "");
    cut->n_bytes += n;
}

static bool end_cut(struct cut_list *cut)
{
    if (cut->n_left_out > 0)
        string_list_printf(cut->list, CUT_MARK " %zu more", cut->n_left_out);
    return !cut->list->has_failed && !cut->has_failed;
}

/* ---- command lines ---- */

static size_t count(char *const *list)
{
    size_t n = 0;
    while (list[n])
        n++;
    return n;
}

static void add_argument(struct cut_list *cut, const char *argument, bool is_value,
                         const struct string_list *known)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(WORK_MAX_BYTES);
    const char *inside = is_value ? NULL : value_inside(argument);
    if (is_value) {
        strbuf_add_text(&text, REDACTED);
    } else if (inside) {
        strbuf_add(&text, argument, (size_t)(inside - argument));
        strbuf_add_text(&text, *inside ? REDACTED : "");
    } else {
        redact_text(argument, strlen(argument), known, &text);
    }
    cut->has_failed = cut->has_failed || text.failure == STRBUF_NO_MEMORY;
    add_cut(cut, &text);
}

static bool add_arguments(char *const *argv, const struct string_list *known, bool is_whole,
                          struct string_list *ret_argv)
{
    struct cut_list cut = { .list = ret_argv, .is_whole = is_whole };
    size_t n = count(argv);
    for (size_t i = 0; i < n; i++) {
        size_t n_values = count_values(argv, n, i);
        add_argument(&cut, argv[i], false, known);
        for (size_t k = 1; k <= n_values; k++)
            add_argument(&cut, argv[i + k], true, known);
        i += n_values;
    }
    return end_cut(&cut);
}

/* ---- environments ---- */

static const char *value_of(const char *variable)
{
    size_t n_name = strcspn(variable, "=");
    return variable + n_name + (variable[n_name] == '=');
}

static void add_variable(struct cut_list *cut, const char *variable, const struct string_list *known)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(WORK_MAX_BYTES);
    size_t n_name = strcspn(variable, "=");
    const char *value = value_of(variable);
    strbuf_add(&text, variable, (size_t)(value - variable));
    if (is_secret(redact_name_kind(variable, n_name), value))
        strbuf_add_text(&text, *value ? REDACTED : "");
    else
        redact_text(value, strlen(value), known, &text);
    cut->has_failed = cut->has_failed || text.failure == STRBUF_NO_MEMORY;
    add_cut(cut, &text);
}

static bool add_variables(char *const *environment, const struct string_list *known,
                          struct string_list *ret_environment)
{
    /* Ours, and no news: the record of the worker, which is shown beside; it would fill what room there is. */
    static const char spec[] = "POOL_WORKER_SPEC=";
    struct cut_list cut = { .list = ret_environment };
    for (size_t i = 0; environment[i]; i++) {
        if (strncmp(environment[i], spec, sizeof spec - 1) != 0)
            add_variable(&cut, environment[i], known);
    }
    return end_cut(&cut);
}

static bool learn_command(char *const *argv, char *const *environment, struct string_list *known)
{
    redact_learn_arguments(argv, count(argv), known);
    for (size_t i = 0; environment[i]; i++)
        redact_learn(environment[i], value_of(environment[i]), known);
    return !known->has_failed;
}

bool redact_command(char *const *argv, char *const *environment, struct string_list *known,
                    struct string_list *ret_argv, struct string_list *ret_environment)
{
    return learn_command(argv, environment, known) && add_arguments(argv, known, false, ret_argv) &&
           add_variables(environment, known, ret_environment);
}

bool redact_arguments(char *const *argv, char *const *environment, struct string_list *ret_argv)
{
    CLEANUP(string_list_done) struct string_list known = { 0 };
    return learn_command(argv, environment, &known) && add_arguments(argv, &known, true, ret_argv);
}
