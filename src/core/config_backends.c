/*
 * Backends: which there are, whom each takes its fields from, and the merged result. A field is looked for in
 * the file's table of the backend, in the built-in one of that name, then along `extends`. A file that says
 * `extends` for a built-in name starts over: the built-in fields of that name are out. What a field means is
 * in config_convert.c.
 */
#include "core/config_loader.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "core/config_template.h"

#define BUILTIN_MAX 32768 /* bytes of the built-in backends' text */

/* One table that a backend's fields may come from, the nearest first. */
struct layer {
    const struct toml_node *table;
    bool is_builtin;
    bool is_own; /* of the backend itself, not of one that it extends */
};

struct layers {
    size_t n;
    struct layer at[2 * (CONFIG_EXTENDS_MAX + 1)];
};

void config_backend_free(struct pool_backend *backend)
{
    if (!backend)
        return;
    struct {
        size_t n;
        char **texts;
    } lists[] = {
        { backend->n_command, backend->command },
        { backend->n_capabilities, backend->capabilities },
        { backend->n_allow_args, backend->allow_args },
        { backend->n_allow_env, backend->allow_env },
        { backend->n_model_formats, backend->model_formats },
        { backend->n_device_check, backend->device_check },
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        for (size_t k = 0; k < lists[i].n; k++)
            free(lists[i].texts[k]);
        free(lists[i].texts);
    }
    for (size_t i = 0; i < backend->n_env; i++) {
        free(backend->env[i].name);
        free(backend->env[i].value);
    }
    free(backend->env);
    free(backend->name);
    free(backend->extends);
    free(backend->ready_http);
    free(backend->protocol);
    free(backend);
}

/* The file's table of a backend, NULL when there is none or what is there was reported. */
static const struct toml_node *file_table(const struct config_loader *l, const char *name)
{
    const struct toml_node *backends = l->document ? toml_child(toml_root(l->document), "backends") : NULL;
    const struct toml_node *table = backends ? toml_child(backends, name) : NULL;
    return table && table->kind == TOML_TABLE && config_is_backend_name(name) ? table : NULL;
}

static const struct toml_node *builtin_table(const struct config_loader *l, const char *name)
{
    return toml_child(toml_root(l->builtin), name);
}

static struct config_input input_of(const struct config_loader *l, const struct layer *layer,
                                    const struct toml_node *node)
{
    return (struct config_input){ .source = layer->is_builtin ? CONFIG_FROM_DEFAULT : CONFIG_FROM_FILE,
                                  .name = layer->is_builtin ? NULL : l->file,
                                  .node = node };
}

static const struct toml_node *find_field(const struct toml_node *table, const char *name)
{
    const char *dot = strchr(name, '.');
    if (!dot)
        return toml_child(table, name);
    char section[CONFIG_NAME_MAX];
    snprintf(section, sizeof section, "%.*s", (int)(dot - name), name);
    const struct toml_node *child = toml_child(table, section);
    return child && child->kind == TOML_TABLE ? toml_child(child, dot + 1) : NULL;
}

/* The name that a table extends, NULL for none. */
static const char *extended_by(const struct toml_node *table)
{
    const struct toml_node *extends = toml_child(table, "extends");
    return extends && extends->kind == TOML_STRING && extends->n_text > 0 ? extends->text : NULL;
}

static void report_unknown(struct config_loader *l, const char *key, const struct config_input *in)
{
    const char *names[2 * POOL_BACKENDS_MAX];
    size_t n_names = 0;
    for (size_t i = 0; i < l->config->n_backends; i++)
        names[n_names++] = l->config->backends[i]->name;
    char hint[CONFIG_HINT_MAX];
    config_hint_name(in->node->text, names, n_names, hint);
    config_problem(l, in, key, "there is no such backend%s", hint);
}

static bool is_listed(const struct layers *layers, const struct toml_node *table)
{
    for (size_t i = 0; i < layers->n; i++) {
        if (layers->at[i].table == table)
            return true;
    }
    return false;
}

/*
 * Lists whom `name` takes its fields from. A fault in a chain is reported for the backend whose own `extends`
 * is at fault, once: the unknown name where it is written, a circle for each of its members.
 */
static void list_layers(struct config_loader *l, const char *name, struct layers *layers)
{
    const char *at = name;
    struct layer fault = { .is_builtin = false };
    char key[CONFIG_NAME_MAX];
    snprintf(key, sizeof key, "backends.%s.extends", name);
    layers->n = 0;
    for (size_t depth = 0; at; depth++) {
        const struct toml_node *file = file_table(l, at);
        const struct toml_node *builtin = builtin_table(l, at);
        struct config_input in = { 0 };
        if (fault.table)
            in = input_of(l, &fault, toml_child(fault.table, "extends"));
        if (depth > 0 && strcmp(at, name) == 0) {
            config_problem(l, &in, key, "the backends extend each other in a circle");
            return;
        }
        if (depth > CONFIG_EXTENDS_MAX) {
            config_problem(l, &in, key, "more than %d backends extend each other in a row",
                           CONFIG_EXTENDS_MAX);
            return;
        }
        if (is_listed(layers, file ? file : builtin))
            return; /* a circle that `name` only leads into */
        if (!file && !builtin) {
            if (depth == 1 && config_is_backend_name(at))
                report_unknown(l, key, &in);
            return;
        }
        if (file)
            layers->at[layers->n++] = (struct layer){ file, false, depth == 0 };
        bool starts_over = file && toml_child(file, "extends");
        if (builtin && !starts_over)
            layers->at[layers->n++] = (struct layer){ builtin, true, depth == 0 };
        const struct toml_node *last = layers->at[layers->n - 1].table;
        at = extended_by(last);
        if (depth == 0)
            fault = layers->at[layers->n - 1];
    }
}

/* Converts a field from a layer; what was inherited has been reported where it was written. */
static bool convert_from(struct config_loader *l, const struct config_key *key, const char *name,
                         const struct layer *layer, const struct toml_node *node,
                         struct pool_backend *backend, struct config_input *ret_input)
{
    *ret_input = input_of(l, layer, node);
    l->is_muted = !layer->is_own;
    bool is_done = config_convert(l, key, name, ret_input, backend);
    l->is_muted = false;
    return is_done;
}

static bool load_field(struct config_loader *l, const struct config_key *key, const struct layers *layers,
                       struct pool_backend *backend, struct config_input *ret_input)
{
    char name[CONFIG_NAME_MAX];
    snprintf(name, sizeof name, "backends.%s.%s", backend->name, key->name);
    /* Variables add up along the chain, the nearest last; of everything else the nearest wins. */
    if (key->type == CONFIG_ENV) {
        for (size_t i = layers->n; i > 0; i--) {
            const struct toml_node *node = find_field(layers->at[i - 1].table, key->name);
            if (node && !convert_from(l, key, name, &layers->at[i - 1], node, backend, ret_input))
                return false;
        }
        return true;
    }
    for (size_t i = 0; i < layers->n; i++) {
        const struct toml_node *node = find_field(layers->at[i].table, key->name);
        bool is_passed_on = key->type != CONFIG_BACKEND || layers->at[i].is_own;
        if (node && is_passed_on)
            return convert_from(l, key, name, &layers->at[i], node, backend, ret_input);
    }
    return true;
}

/* The set of placeholders in command and env. */
static unsigned used_placeholders(const struct pool_backend *backend)
{
    unsigned used = 0;
    for (size_t i = 1; i < backend->n_command; i++)
        used |= template_placeholders(backend->command[i]);
    for (size_t i = 0; i < backend->n_env; i++)
        used |= template_placeholders(backend->env[i].value);
    return used;
}

static size_t row_of(const char *name)
{
    size_t i = 0;
    while (strcmp(config_backend_keys[i].name, name) != 0)
        i++;
    return i;
}

/* What only shows when all fields are there. */
static void check_backend(struct config_loader *l, const struct pool_backend *backend,
                          const struct config_input *inputs)
{
    char name[CONFIG_NAME_MAX];
    unsigned used = used_placeholders(backend);
    const struct toml_node *table = file_table(l, backend->name);
    struct layer own = { table ? table : builtin_table(l, backend->name), !table, true };
    struct config_input whole = input_of(l, &own, own.table);
    const struct config_input *command = &inputs[row_of("command")];
    const struct config_input *device = &inputs[row_of("device")];
    if (backend->n_command == 0) {
        snprintf(name, sizeof name, "backends.%s.command", backend->name);
        config_problem(l, command->node ? command : &whole, name, "a backend needs a program to run");
        return;
    }
    if (!backend->ready_http && !backend->ready_callback) {
        snprintf(name, sizeof name, "backends.%s.ready", backend->name);
        config_problem(l, &whole, name,
                       "nothing says when a worker is ready: set ready.http or ready.callback");
    }
    if (backend->device == POOL_DEVICE_CPU && (used & TEMPLATE_GPU_BITS)) {
        /* Where a person wrote it: at the device, or at the command that meets a built-in device. */
        const struct config_input *at = device->source == CONFIG_FROM_FILE ? device : command;
        snprintf(name, sizeof name, "backends.%s.%s", backend->name, at == device ? "device" : "command");
        config_problem(l, at, name,
                       "there is a {gpu_...} placeholder in command or env, but the device is cpu");
    }
    if (!(used & TEMPLATE_BIT(POOL_PLACEHOLDER_PORT))) {
        snprintf(name, sizeof name, "backends.%s.command", backend->name);
        config_warning(l, command, name, "neither command nor env tells the worker its {port}");
    }
}

enum backend_state {
    BACKEND_FAULTY,
    BACKEND_SOUND, /* all its fields are its own, and right */
    BACKEND_HEIR   /* its own are right; those that it inherits, nobody knows yet */
};

static bool load_backend(struct config_loader *l, struct pool_backend *backend, struct config_input *inputs,
                         enum backend_state *ret_state)
{
    struct layers layers;
    size_t n_problems = l->n_problems;
    list_layers(l, backend->name, &layers);
    /* The values of a backend from scratch; those of lists and of the rest are zero. */
    backend->stop_signal = config_signal_number("SIGTERM");
    backend->protocol = strdup("");
    if (!backend->protocol)
        return false;
    for (size_t i = 0; i < CONFIG_N_BACKEND_KEYS; i++) {
        if (!load_field(l, &config_backend_keys[i], &layers, backend, &inputs[i]))
            return false;
    }
    if (!inputs[row_of("device")].node && (used_placeholders(backend) & TEMPLATE_GPU_BITS))
        backend->device = POOL_DEVICE_GPU;
    *ret_state = l->n_problems > n_problems       ? BACKEND_FAULTY
                 : layers.at[layers.n - 1].is_own ? BACKEND_SOUND
                                                  : BACKEND_HEIR;
    return true;
}

static int compare_backends(const void *a, const void *b)
{
    return strcmp((*(struct pool_backend *const *)a)->name, (*(struct pool_backend *const *)b)->name);
}

/* Adds an empty backend; the list has room. */
static bool add_name(struct config_loader *l, const char *name)
{
    struct pool_backend *backend = calloc(1, sizeof *backend);
    if (!backend)
        return false;
    l->config->backends[l->config->n_backends++] = backend;
    backend->is_builtin = builtin_table(l, name) != NULL;
    backend->name = strdup(name);
    return backend->name != NULL;
}

static bool list_backends(struct config_loader *l)
{
    const struct toml_node *builtin = toml_root(l->builtin);
    const struct toml_node *backends = l->document ? toml_child(toml_root(l->document), "backends") : NULL;
    size_t n_file = backends && backends->kind == TOML_TABLE ? backends->n_children : 0;
    if (n_file + builtin->n_children > POOL_BACKENDS_MAX) {
        config_key_problem(l, backends, "backends", "more than %zu backends beside the built-in ones",
                           POOL_BACKENDS_MAX - builtin->n_children);
        n_file = 0;
    }
    l->config->backends = calloc(n_file + builtin->n_children, sizeof(struct pool_backend *));
    l->backend_inputs = calloc(n_file + builtin->n_children, sizeof *l->backend_inputs);
    if (!l->config->backends || !l->backend_inputs)
        return false;
    for (size_t i = 0; i < builtin->n_children; i++) {
        if (!add_name(l, builtin->children[i].key))
            return false;
    }
    for (size_t i = 0; i < n_file; i++) {
        const char *name = backends->children[i].key;
        if (file_table(l, name) && !builtin_table(l, name) && !add_name(l, name))
            return false;
    }
    qsort(l->config->backends, l->config->n_backends, sizeof *l->config->backends, compare_backends);
    return true;
}

static bool parse_builtin(struct config_loader *l)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(BUILTIN_MAX);
    for (size_t i = 0; i < CONFIG_N_BUILTIN_BACKENDS; i++)
        strbuf_add_text(&text, config_builtin_backends[i]);
    if (text.failure != STRBUF_FINE)
        return false;
    struct toml_error error = { 0 };
    l->builtin = toml_parse(strbuf_text(&text), text.n, &error);
    if (!l->builtin && !error.is_no_memory)
        config_problem(l, NULL, "backends", "the built-in ones: %s", error.message);
    return l->builtin || !error.is_no_memory;
}

bool config_load_backends(struct config_loader *l)
{
    if (!parse_builtin(l))
        return false;
    if (!l->builtin)
        return true;
    if (!list_backends(l))
        return false;
    enum backend_state states[POOL_BACKENDS_MAX];
    bool is_one_faulty = false;
    for (size_t i = 0; i < l->config->n_backends; i++) {
        if (!load_backend(l, l->config->backends[i], l->backend_inputs[i], &states[i]))
            return false;
        is_one_faulty = is_one_faulty || states[i] == BACKEND_FAULTY;
    }
    /* A fault leaves holes in whoever inherits it, and these are no problems of their own. */
    for (size_t i = 0; i < l->config->n_backends; i++) {
        if (states[i] == BACKEND_SOUND || (states[i] == BACKEND_HEIR && !is_one_faulty))
            check_backend(l, l->config->backends[i], l->backend_inputs[i]);
    }
    return true;
}
