/*
 * Values with parts: lists of paths, arguments and names, and the table of environment variables.
 */
#include "core/config_loader.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/config_template.h"

#define VARIABLE_MAX    256 /* characters in the name of a variable */
#define PLACEHOLDER_MAX 48  /* characters of an unknown placeholder that are shown */

struct text_list {
    size_t n;
    char **texts;
};

static void text_list_done(struct text_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->texts[i]);
    free(list->texts);
}

/* ---- environment variables ---- */

static bool is_variable_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    size_t n = strspn(name, letters);
    return n > 0 && n <= VARIABLE_MAX && name[n] == '\0' && !(name[0] >= '0' && name[0] <= '9');
}

/* Why nobody but the pool may set a variable of a worker, NULL when everybody may. */
static const char *judge_variable(const char *name)
{
    if (!is_variable_name(name))
        return "expected the name of a variable: letters, digits and _, not a digit first";
    if (strncmp(name, "POOL_", 5) == 0)
        return "variables that start with POOL_ are the pool's own";
    if (strcmp(name, "CUDA_VISIBLE_DEVICES") == 0 || strcmp(name, "CUDA_DEVICE_ORDER") == 0)
        return "the pool sets this variable itself, to the device that it chose";
    return NULL;
}

/* ---- templates ---- */

static void report_placeholder(struct config_loader *l, const char *name, const struct config_input *in,
                               const struct template_piece *piece)
{
    static const char *const names[] = {
#define PLACEHOLDER_NAME(id, placeholder) placeholder,
        POOL_PLACEHOLDERS(PLACEHOLDER_NAME)
#undef PLACEHOLDER_NAME
    };
    char wanted[PLACEHOLDER_MAX];
    char hint[CONFIG_HINT_MAX];
    snprintf(wanted, sizeof wanted, "%.*s", (int)(piece->n < sizeof wanted ? piece->n : sizeof wanted - 1),
             piece->text);
    config_hint_name(wanted, names, sizeof names / sizeof names[0], hint);
    config_problem(l, in, name, "unknown placeholder {%s}%s", wanted, hint);
}

static bool check_template(struct config_loader *l, const char *name, const struct config_input *in,
                           const char *text)
{
    struct template_piece piece;
    for (;;) {
        switch (template_next(&text, &piece)) {
        case TEMPLATE_LITERAL:
        case TEMPLATE_PLACEHOLDER: break;
        case TEMPLATE_UNKNOWN: report_placeholder(l, name, in, &piece); return false;
        case TEMPLATE_STRAY_BRACE:
            config_problem(l, in, name, "a single %c; write %c%c for a brace", *piece.text, *piece.text,
                           *piece.text);
            return false;
        case TEMPLATE_END: return true;
        }
    }
}

/* ---- lists ---- */

static bool check_element(struct config_loader *l, const struct config_key *key, const char *name,
                          size_t index, const struct config_input *in, const char *text)
{
    const char *why = NULL;
    switch (key->type) {
    case CONFIG_COMMAND:
        if (index > 0)
            return check_template(l, name, in, text);
        if (text[0] == '\0' || strpbrk(text, "{}"))
            why = "the program is named plainly, without placeholders";
        break;
    case CONFIG_OPTIONS:
        if (text[0] != '-' || text[1] == '\0' || strchr(text, '='))
            why = "expected an option: it starts with - and has no =";
        break;
    case CONFIG_VARIABLES: why = judge_variable(text); break;
    case CONFIG_WORDS:
        if (config_word_index(key->words, text) == SIZE_MAX) {
            config_problem(l, in, name, "expected one of %s", key->words);
            return false;
        }
        break;
    case CONFIG_PATHS:
    case CONFIG_NAMES: return config_check_text(l, key, name, in, text);
    case CONFIG_ARGUMENTS:
    case CONFIG_TEXT:
    case CONFIG_NAME:
    case CONFIG_PATH:
    case CONFIG_BOOL:
    case CONFIG_MILLISECONDS:
    case CONFIG_BYTES:
    case CONFIG_PORTS:
    case CONFIG_ADDRESS:
    case CONFIG_HOST:
    case CONFIG_REGISTRY:
    case CONFIG_INVENTORY:
    case CONFIG_HTTP_URL:
    case CONFIG_WORD:
    case CONFIG_CHOICE:
    case CONFIG_BACKEND:
    case CONFIG_ENV:
    case CONFIG_HTTP_PATH:
    case CONFIG_SIGNAL: break;
    }
    if (why)
        config_problem(l, in, name, "%s", why);
    return !why;
}

/* Adds one element to a list that has room for it. A path, and a program with a '/' in it, is made absolute. */
static bool add_element(struct config_loader *l, const struct config_key *key, const char *name, size_t index,
                        const struct config_input *in, struct text_list *list)
{
    const char *text = config_text(l, name, in);
    if (!text || !check_element(l, key, name, index, in, text))
        return true;
    char *copy = NULL;
    bool is_program_path = key->type == CONFIG_COMMAND && index == 0 && strchr(text, '/');
    if (key->type == CONFIG_PATHS || is_program_path) {
        if (!config_resolve_path(l, in, name, text, &copy))
            return false;
    } else {
        copy = strdup(text);
        if (!copy)
            return false;
    }
    if (copy)
        list->texts[list->n++] = copy;
    return true;
}

static bool take_array(struct config_loader *l, const struct config_key *key, const char *name,
                       const struct config_input *in, struct text_list *list)
{
    const struct toml_node *array = in->node;
    list->texts = calloc(array->n_children + 1, sizeof *list->texts);
    if (!list->texts)
        return false;
    for (size_t i = 0; i < array->n_children; i++) {
        char element_name[CONFIG_NAME_MAX];
        struct config_input element = *in;
        element.node = &array->children[i];
        snprintf(element_name, sizeof element_name, "%s[%zu]", name, i);
        if (!add_element(l, key, element_name, i, &element, list))
            return false;
    }
    return true;
}

/* Elements with ':' between them, the form of a variable or a flag. Empty ones are left out. */
static bool take_separated(struct config_loader *l, const struct config_key *key, const char *name,
                           const struct config_input *in, struct text_list *list)
{
    size_t n_parts = 1;
    for (const char *c = in->text; *c; c++)
        n_parts += *c == ':';
    list->texts = calloc(n_parts, sizeof *list->texts);
    CLEANUP_FREE char *copy = strdup(in->text);
    if (!list->texts || !copy)
        return false;
    char *rest = copy;
    for (char *part = strsep(&rest, ":"); part; part = strsep(&rest, ":")) {
        struct config_input element = *in;
        element.text = part;
        if (part[0] && !add_element(l, key, name, list->n, &element, list))
            return false;
    }
    return true;
}

bool config_convert_list(struct config_loader *l, const struct config_key *key, const char *name,
                         const struct config_input *in, void *base)
{
    if (in->node && in->node->kind != TOML_ARRAY) {
        config_problem(l, in, name, "expected a list of texts, not %s", toml_kind_name(in->node->kind));
        return true;
    }
    if (in->node && in->node->n_children > (size_t)key->max) {
        config_problem(l, in, name, "more than %" PRId64 " elements", key->max);
        return true;
    }
    CLEANUP(text_list_done) struct text_list list = { 0, NULL };
    size_t n_problems = l->n_problems;
    if (in->node ? !take_array(l, key, name, in, &list) : !take_separated(l, key, name, in, &list))
        return false;
    if (l->n_problems > n_problems)
        return true;
    if (list.n > (size_t)key->max) {
        config_problem(l, in, name, "more than %" PRId64 " elements", key->max);
        return true;
    }
    char ***field = (char ***)(void *)((char *)base + key->offset);
    size_t *count = (size_t *)(void *)((char *)base + key->count_offset);
    struct text_list old = { *count, *field };
    *field = list.n > 0 ? take_ptr(&list.texts) : NULL;
    *count = list.n;
    list.n = 0;
    text_list_done(&old);
    return true;
}

/* ---- tables of variables ---- */

static int compare_variables(const void *a, const void *b)
{
    return strcmp(((const struct pool_env_var *)a)->name, ((const struct pool_env_var *)b)->name);
}

static struct pool_env_var *find_variable(const struct pool_backend *backend, const char *name)
{
    for (size_t i = 0; i < backend->n_env; i++) {
        if (strcmp(backend->env[i].name, name) == 0)
            return &backend->env[i];
    }
    return NULL;
}

/* Sets one variable in an array that has room for one more. */
static bool set_variable(struct pool_backend *backend, const char *name, const char *value)
{
    CLEANUP_FREE char *value_copy = strdup(value);
    if (!value_copy)
        return false;
    struct pool_env_var *variable = find_variable(backend, name);
    if (!variable) {
        char *name_copy = strdup(name);
        if (!name_copy)
            return false;
        variable = &backend->env[backend->n_env++];
        *variable = (struct pool_env_var){ .name = name_copy };
    }
    free(variable->value);
    variable->value = take_ptr(&value_copy);
    return true;
}

bool config_convert_env(struct config_loader *l, const struct config_key *key, const char *name,
                        const struct config_input *in, void *base)
{
    struct pool_backend *backend = base;
    const struct toml_node *table = in->node;
    if (!table)
        return true; /* the default: no variables */
    if (table->kind != TOML_TABLE) {
        config_problem(l, in, name, "expected a table of texts, not %s", toml_kind_name(table->kind));
        return true;
    }
    if (table->n_children + backend->n_env > (size_t)key->max) {
        config_problem(l, in, name, "more than %" PRId64 " variables", key->max);
        return true;
    }
    if (table->n_children == 0)
        return true;
    struct pool_env_var *roomier =
        realloc(backend->env, (backend->n_env + table->n_children) * sizeof *roomier);
    if (!roomier)
        return false;
    backend->env = roomier;
    for (size_t i = 0; i < table->n_children; i++) {
        const struct toml_node *child = &table->children[i];
        char variable_name[CONFIG_NAME_MAX];
        struct config_input value = *in;
        value.node = child;
        snprintf(variable_name, sizeof variable_name, "%s.%s", name, child->key);
        const char *why = judge_variable(child->key);
        const char *text = config_text(l, variable_name, &value);
        if (why)
            config_problem(l, &value, variable_name, "%s", why);
        if (!why && text && check_template(l, variable_name, &value, text) &&
            !set_variable(backend, child->key, text))
            return false;
    }
    qsort(backend->env, backend->n_env, sizeof *backend->env, compare_variables);
    return true;
}
