/*
 * Command lines and environments of workers, from a backend's templates. No shell, no word splitting: an
 * argument stays one argument whatever is put into it.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/config_template.h"
#include "core/lifecycle/plan.h"

/* What Linux takes for one argument, MAX_ARG_STRLEN: 32 pages. */
#define ARGUMENT_MAX_BYTES (128 * 1024 - 1)

/* Names that a worker may inherit from whoever starts it; a final '*' stands for any rest. Tokens never. */
static const char *const inherited_names[] = { "PATH", "HOME",   "USER",     "LANG",  "LC_*",
                                               "TZ",   "TMPDIR", "NVIDIA_*", "CUDA_*" };

/* What a placeholder stands for; every one of config_template.h is here, which -Wswitch-enum checks. */
static void add_value(enum pool_placeholder placeholder, const struct command_values *values,
                      struct strbuf *out)
{
    switch (placeholder) {
    case POOL_PLACEHOLDER_MODEL_PATH: strbuf_add_text(out, values->model_path); return;
    case POOL_PLACEHOLDER_PORT: strbuf_printf(out, "%" PRId64, values->port); return;
    case POOL_PLACEHOLDER_HOST: strbuf_add_text(out, values->host); return;
    case POOL_PLACEHOLDER_GPU_ORDINAL: strbuf_printf(out, "%" PRId64, values->gpu_ordinal); return;
    case POOL_PLACEHOLDER_GPU_INDEX: strbuf_printf(out, "%" PRId64, values->gpu_index); return;
    case POOL_PLACEHOLDER_GPU_UUID: strbuf_add_text(out, values->gpu_uuid); return;
    case POOL_PLACEHOLDER_WORKER_ID: strbuf_add_text(out, values->worker_id); return;
    case POOL_PLACEHOLDER_CALLBACK_URL: strbuf_add_text(out, values->callback_url); return;
    case POOL_PLACEHOLDER_CTX_SIZE: strbuf_printf(out, "%" PRId64, values->ctx_size); return;
    case POOL_PLACEHOLDER_PARALLEL: strbuf_printf(out, "%" PRId64, values->parallel); return;
    case POOL_PLACEHOLDER_GPU_MEMORY_FRACTION:
        strbuf_printf(out, "%" PRId64 ".%04" PRId64, values->gpu_memory_fraction / FRACTION_ONE,
                      values->gpu_memory_fraction % FRACTION_ONE);
        return;
    }
}

static enum pool_code report_failure(const struct strbuf *out, struct pool_error *err)
{
    if (out->failure == STRBUF_NO_MEMORY)
        return pool_error_no_memory(err);
    return pool_error_set(err, POOL_INVALID_REQUEST, "an argument is longer than %d bytes",
                          ARGUMENT_MAX_BYTES);
}

enum pool_code command_expand(const char *text, const struct command_values *values, struct strbuf *out,
                              struct pool_error *err)
{
    const char *at = text;
    struct template_piece piece;
    while (template_next(&at, &piece) != TEMPLATE_END) {
        if (piece.kind == TEMPLATE_LITERAL)
            strbuf_add(out, piece.text, piece.n);
        else if (piece.kind == TEMPLATE_PLACEHOLDER)
            add_value(piece.placeholder, values, out);
        else
            return pool_error_set(err, POOL_INVALID_CONFIG,
                                  "unknown placeholder or stray brace at \"%.40s\" in \"%s\"", piece.text,
                                  text);
    }
    return out->failure != STRBUF_FINE ? report_failure(out, err) : POOL_OK;
}

enum pool_code command_build(const struct pool_backend *backend, const char *program,
                             const struct pool_worker_spawn_request *request,
                             const struct command_values *values, struct string_list *argv,
                             struct pool_error *err)
{
    string_list_add(argv, program);
    for (size_t i = 1; i < backend->n_command; i++) {
        CLEANUP(strbuf_done) struct strbuf argument = STRBUF_INIT(ARGUMENT_MAX_BYTES);
        enum pool_code code = command_expand(backend->command[i], values, &argument, err);
        if (code != POOL_OK) {
            pool_error_set_field(err, "backends.%s.command[%zu]", backend->name, i);
            return code;
        }
        string_list_add(argv, strbuf_text(&argument));
    }
    for (size_t i = 0; i < request->n_extra_args; i++)
        string_list_add(argv, request->extra_args[i]);
    return argv->has_failed ? pool_error_no_memory(err) : POOL_OK;
}

bool environment_set(struct string_list *environment, const char *name, const char *value)
{
    size_t n_name = strlen(name);
    char *entry = NULL;
    if (asprintf(&entry, "%s=%s", name, value) < 0) {
        environment->has_failed = true;
        return false;
    }
    for (size_t i = 0; i < environment->n; i++) {
        if (strncmp(environment->at[i], name, n_name) == 0 && environment->at[i][n_name] == '=') {
            free(environment->at[i]);
            environment->at[i] = entry;
            return true;
        }
    }
    return string_list_adopt(environment, entry);
}

const char *environment_inherited_name(size_t i)
{
    return i < sizeof inherited_names / sizeof inherited_names[0] ? inherited_names[i] : NULL;
}

static bool is_inherited(const char *entry)
{
    size_t n_name = strcspn(entry, "=");
    for (size_t i = 0; i < sizeof inherited_names / sizeof inherited_names[0]; i++) {
        const char *allowed = inherited_names[i];
        size_t n = strlen(allowed);
        if (allowed[n - 1] == '*' ? n_name >= n - 1 && strncmp(entry, allowed, n - 1) == 0
                                  : n_name == n && strncmp(entry, allowed, n) == 0)
            return entry[n_name] == '=';
    }
    return false;
}

/* The first of a name counts, as for getenv(3): a second one would outlive the value that replaces it. */
static void inherit(struct string_list *environment, const char *entry)
{
    size_t n = strcspn(entry, "=") + 1;
    for (size_t i = 0; i < environment->n; i++) {
        if (strncmp(environment->at[i], entry, n) == 0)
            return;
    }
    string_list_add(environment, entry);
}

enum pool_code environment_build(const char *const *inherited, const struct pool_backend *backend,
                                 const struct pool_worker_spawn_request *request,
                                 const struct command_values *values, struct string_list *environment,
                                 struct pool_error *err)
{
    for (const char *const *entry = inherited; entry && *entry; entry++) {
        if (is_inherited(*entry))
            inherit(environment, *entry);
    }
    for (size_t i = 0; i < backend->n_env; i++) {
        CLEANUP(strbuf_done) struct strbuf value = STRBUF_INIT(ARGUMENT_MAX_BYTES);
        enum pool_code code = command_expand(backend->env[i].value, values, &value, err);
        if (code != POOL_OK) {
            pool_error_set_field(err, "backends.%s.env.%s", backend->name, backend->env[i].name);
            return code;
        }
        environment_set(environment, backend->env[i].name, strbuf_text(&value));
    }
    for (size_t i = 0; i < request->n_env; i++)
        environment_set(environment, request->env[i].name, request->env[i].value);
    /* Last, so that nothing moves a worker off its device. By UUID: an index may mean another device to CUDA than to the driver. Empty hides every device. */
    if (!values->is_every_device_visible)
        environment_set(environment, "CUDA_VISIBLE_DEVICES", values->gpu_uuid);
    environment_set(environment, "CUDA_DEVICE_ORDER", "PCI_BUS_ID");
    environment_set(environment, "POOL_WORKER_ID", values->worker_id);
    return environment->has_failed ? pool_error_no_memory(err) : POOL_OK;
}

static bool is_listed(const char *name, size_t n, char *const *list, size_t n_list)
{
    for (size_t i = 0; i < n_list; i++) {
        if (strlen(list[i]) == n && strncmp(list[i], name, n) == 0)
            return true;
    }
    return false;
}

enum pool_code command_check_allowed(const struct pool_backend *backend,
                                     const struct pool_worker_spawn_request *request, struct pool_error *err)
{
    /* An argument that does not begin with '-' is the value of the option before it, and options take one at most. */
    bool may_be_value = false;
    for (size_t i = 0; i < request->n_extra_args; i++) {
        const char *argument = request->extra_args[i];
        bool is_number = argument[0] == '-' && (isdigit((unsigned char)argument[1]) || argument[1] == '.');
        if (may_be_value && (argument[0] != '-' || is_number)) {
            may_be_value = false;
            continue;
        }
        size_t n = strcspn(argument, "=");
        if (argument[0] != '-' || !is_listed(argument, n, backend->allow_args, backend->n_allow_args)) {
            /* Without its value, which may be a secret: of what is no option not a word. */
            pool_error_set(err, POOL_INVALID_REQUEST, "backend %s does not allow the argument %.*s",
                           backend->name, argument[0] == '-' ? (int)n : 0, argument);
            if (argument[0] != '-')
                pool_error_set(err, POOL_INVALID_REQUEST,
                               "backend %s does not allow an argument that is no option", backend->name);
            pool_error_set_field(err, "extra_args[%zu]", i);
            return POOL_INVALID_REQUEST;
        }
        may_be_value = argument[n] == '\0';
    }
    for (size_t i = 0; i < request->n_env; i++) {
        const char *name = request->env[i].name;
        if (!is_listed(name, strlen(name), backend->allow_env, backend->n_allow_env)) {
            pool_error_set(err, POOL_INVALID_REQUEST, "backend %s does not allow the variable %s",
                           backend->name, name);
            pool_error_set_field(err, "env.%s", name);
            return POOL_INVALID_REQUEST;
        }
    }
    return POOL_OK;
}
