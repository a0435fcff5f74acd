/*
 * From arguments to a request. What the values may be is the library's matter; here is only their form.
 */
#include "cli/worker_spawn_request.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* false: memory ran out. NULL is copied as NULL. */
static bool copy_text(const char *text, char **ret_copy)
{
    if (!text)
        return true;
    *ret_copy = strdup(text);
    return *ret_copy != NULL;
}

static enum pool_code split_pair(const char *option, const char *text, char **ret_name, char **ret_value,
                                 struct pool_error *err)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text) {
        pool_error_set(err, POOL_INVALID_REQUEST, "--%s: '%.100s' is not NAME=VALUE", option, text);
        pool_error_set_field(err, "%s", option);
        return POOL_INVALID_REQUEST;
    }
    char *name = strndup(text, (size_t)(equals - text));
    char *value = strdup(equals + 1);
    if (!name || !value) {
        free(name);
        free(value);
        return pool_error_no_memory(err);
    }
    *ret_name = name;
    *ret_value = value;
    return POOL_OK;
}

static enum pool_code copy_lists(const struct worker_spawn_arguments *arguments,
                                 struct pool_worker_spawn_request *request, struct pool_error *err)
{
    request->extra_args = calloc(arguments->extra_args.n + 1, sizeof *request->extra_args);
    request->env = calloc(arguments->env.n + 1, sizeof *request->env);
    request->labels = calloc(arguments->labels.n + 1, sizeof *request->labels);
    if (!request->extra_args || !request->env || !request->labels)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < arguments->extra_args.n; i++) {
        if (!copy_text(arguments->extra_args.at[i], &request->extra_args[i]))
            return pool_error_no_memory(err);
        request->n_extra_args = i + 1;
    }
    for (size_t i = 0; i < arguments->env.n; i++) {
        enum pool_code code =
            split_pair("env", arguments->env.at[i], &request->env[i].name, &request->env[i].value, err);
        if (code != POOL_OK)
            return code;
        request->n_env = i + 1;
    }
    for (size_t i = 0; i < arguments->labels.n; i++) {
        enum pool_code code = split_pair("label", arguments->labels.at[i], &request->labels[i].name,
                                         &request->labels[i].value, err);
        if (code != POOL_OK)
            return code;
        request->n_labels = i + 1;
    }
    return POOL_OK;
}

/* "ID" is a worker, "NAME=VALUE" is those that have this label. */
static enum pool_code copy_displaced(const struct worker_spawn_arguments *arguments,
                                     struct pool_may_displace *may_displace, struct pool_error *err)
{
    size_t n = arguments->may_displace.n;
    may_displace->worker_ids = calloc(n + 1, sizeof *may_displace->worker_ids);
    may_displace->labels = calloc(n + 1, sizeof *may_displace->labels);
    if (!may_displace->worker_ids || !may_displace->labels)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const char *text = arguments->may_displace.at[i];
        if (strchr(text, '=')) {
            struct pool_label *label = &may_displace->labels[may_displace->n_labels];
            enum pool_code code = split_pair("may-displace", text, &label->name, &label->value, err);
            if (code != POOL_OK)
                return code;
            may_displace->n_labels++;
            continue;
        }
        if (!pool_worker_id_is_valid(text)) {
            pool_error_set(err, POOL_INVALID_REQUEST,
                           "--may-displace: '%.100s' is neither a worker's id nor NAME=VALUE", text);
            pool_error_set_field(err, "may-displace");
            return POOL_INVALID_REQUEST;
        }
        if (!copy_text(text, &may_displace->worker_ids[may_displace->n_worker_ids]))
            return pool_error_no_memory(err);
        may_displace->n_worker_ids++;
    }
    if (arguments->may_displace_busy)
        may_displace->idle_only = (struct pool_reading){ .is_present = true, .value = 0 };
    return POOL_OK;
}

/* "0" and "auto" are one device, "0,1" several. */
static enum pool_code copy_devices(const char *text, struct pool_worker_spawn_request *request,
                                   struct pool_error *err)
{
    if (!text || !strchr(text, ','))
        return copy_text(text, &request->gpu_id) ? POOL_OK : pool_error_no_memory(err);
    size_t n = 1;
    for (const char *c = text; *c; c++)
        n += *c == ',';
    request->gpu_ids = calloc(n, sizeof *request->gpu_ids);
    if (!request->gpu_ids)
        return pool_error_no_memory(err);
    for (const char *word = text; word; word = strchr(word, ',') ? strchr(word, ',') + 1 : NULL) {
        char *id = strndup(word, strcspn(word, ","));
        if (!id)
            return pool_error_no_memory(err);
        request->gpu_ids[request->n_gpu_ids++] = id;
    }
    return POOL_OK;
}

enum pool_code make_spawn_request(const struct worker_spawn_arguments *arguments,
                                  struct pool_worker_spawn_request **ret_request, struct pool_error *err)
{
    CLEANUP(release_spawn_request)
    struct pool_worker_spawn_request *request = pool_worker_spawn_request_new();
    if (!request || !copy_text(arguments->backend, &request->backend) ||
        !copy_text(arguments->model, &request->model_ref) || !copy_text(arguments->split, &request->split) ||
        !copy_text(arguments->worker_id, &request->worker_id))
        return pool_error_no_memory(err);
    request->port = arguments->port.value; /* absent: 0, chosen */
    request->required_vram_bytes = arguments->vram_bytes;
    request->ctx_size = arguments->ctx_size.value;
    request->parallel = arguments->parallel.value;
    request->start_timeout_ms = arguments->start_timeout_ms;
    request->stop_grace_ms = arguments->grace_ms;
    request->idle_timeout_ms = arguments->idle_timeout_ms;
    request->wait = arguments->wait;
    enum pool_code code = copy_devices(arguments->gpu, request, err);
    if (code == POOL_OK)
        code = copy_lists(arguments, request, err);
    if (code == POOL_OK)
        code = copy_displaced(arguments, &request->may_displace, err);
    if (code == POOL_OK)
        *ret_request = take_ptr(&request);
    return code;
}
