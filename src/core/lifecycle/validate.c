/*
 * What must be right before a start is planned: the backend, its program, the model and its file. Asks the disk,
 * never the driver, and needs no lock. Devices are checked in plan.c, ports in spawn.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "core/lifecycle/plan.h"

void start_request_done(struct start_request *start)
{
    pool_model_free(start->model);
    free(start->program);
    free(start->needs);
    *start = (struct start_request)START_REQUEST_INIT;
}

const char *environment_get(const char *const *environment, const char *name)
{
    size_t n = strlen(name);
    for (; environment && *environment; environment++) {
        if (strncmp(*environment, name, n) == 0 && (*environment)[n] == '=')
            return *environment + n + 1;
    }
    return NULL;
}

static bool is_program(const char *path, int *ret_errno)
{
    struct stat st;
    if (stat(path, &st) < 0 || access(path, X_OK) < 0) {
        *ret_errno = errno;
        return false;
    }
    *ret_errno = EACCES;
    return S_ISREG(st.st_mode);
}

enum pool_code program_find(const char *name, const char *const *environment, char **ret_path,
                            struct pool_error *err)
{
    int why = ENOENT;
    if (strchr(name, '/')) {
        CLEANUP_FREE char *path = name[0] == '/' ? strdup(name) : realpath(name, NULL);
        if (!path && errno == ENOMEM)
            return pool_error_no_memory(err);
        if (path && is_program(path, &why)) {
            *ret_path = take_ptr(&path);
            return POOL_OK;
        }
        return pool_error_set_errno(err, POOL_BACKEND_UNAVAILABLE, why, "program %s", name);
    }
    const char *path_list = environment_get(environment, "PATH");
    for (const char *p = path_list ? path_list : "/usr/local/bin:/usr/bin:/bin"; *p;) {
        size_t n = strcspn(p, ":");
        CLEANUP_FREE char *path = NULL;
        if (n > 0 && p[0] == '/') { /* a relative entry means another folder tomorrow */
            if (asprintf(&path, "%.*s/%s", (int)n, p, name) < 0)
                return pool_error_no_memory(err);
            int failure;
            if (is_program(path, &failure)) {
                *ret_path = take_ptr(&path);
                return POOL_OK;
            }
        }
        p += n + (p[n] == ':');
    }
    return pool_error_set(
        err, POOL_BACKEND_UNAVAILABLE,
        "program %s is not installed (not on PATH): install it, or name it in backends.NAME.command", name);
}

static enum pool_code check_backend(const struct start_context *context, const struct pool_backend *backend,
                                    const struct pool_worker_spawn_request *request, struct pool_error *err)
{
    if (backend->device == POOL_DEVICE_METAL)
        return pool_error_set(err, POOL_BACKEND_UNAVAILABLE,
                              "backend %s needs Metal, which Linux does not have", backend->name);
    if (!context->takes_calls && backend->ready_callback && !backend->ready_http)
        return pool_error_set(
            err, POOL_BACKEND_UNAVAILABLE,
            "backend %s reports readiness to a daemon, and there is none that listens on TCP", backend->name);
    if ((request->n_gpu_ids > 0 && request->gpu_id) || request->n_gpu_ids == 1 ||
        (request->split && request->n_gpu_ids == 0)) {
        const char *field = request->split && request->n_gpu_ids == 0 ? "split" : "gpu_ids";
        pool_error_set(err, POOL_INVALID_REQUEST,
                       "one device is gpu_id, several are gpu_ids, and a split belongs to several");
        pool_error_set_field(err, "%s", field);
        return POOL_INVALID_REQUEST;
    }
    if (backend->device == POOL_DEVICE_CPU && (request->gpu_id || request->n_gpu_ids > 0)) {
        pool_error_set(err, POOL_INVALID_REQUEST, "backend %s runs on the CPU and takes no GPU",
                       backend->name);
        pool_error_set_field(err, "gpu_id");
        return POOL_INVALID_REQUEST;
    }
    return context->is_unrestricted ? POOL_OK : command_check_allowed(backend, request, err);
}

static bool is_backend_listed(const struct pool_model_metadata *metadata, const struct pool_backend *backend)
{
    for (size_t i = 0; i < metadata->n_backends; i++) {
        if (strcmp(metadata->backends[i], backend->name) == 0 ||
            (backend->extends && strcmp(metadata->backends[i], backend->extends) == 0))
            return true;
    }
    return metadata->n_backends == 0;
}

static enum pool_code check_format(const struct pool_backend *backend, const struct pool_model *model,
                                   const struct pool_model_header *header, struct pool_error *err)
{
    const char *format = pool_model_format_name(header->format);
    bool is_fine = backend->n_model_formats == 0;
    for (size_t i = 0; i < backend->n_model_formats; i++)
        is_fine = is_fine || strcmp(backend->model_formats[i], format) == 0;
    if (!is_fine) {
        pool_error_set(err, POOL_MODEL_INCOMPATIBLE, "backend %s does not run this file: its format is %s",
                       backend->name, format);
        pool_error_add_text(err, "format", format);
        pool_error_add_text(err, "path", model->path);
        return POOL_MODEL_INCOMPATIBLE;
    }
    if (header->type && strcmp(header->type, "model") != 0)
        return pool_error_set(err, POOL_MODEL_INCOMPATIBLE, "%s is a %s, not a model", model->path,
                              header->type);
    return POOL_OK;
}

static enum pool_code check_verified(const struct start_context *context, const struct pool_model *model,
                                     struct pool_error *err)
{
    if (!context->config->require_verified)
        return POOL_OK;
    CLEANUP_FREE char *proof_dir = pool_config_proof_dir(context->config);
    if (!proof_dir)
        return pool_error_no_memory(err);
    struct pool_verify_options options = { .struct_size = sizeof options, .proof_dir = proof_dir };
    struct pool_verify_result result;
    enum pool_code code = pool_model_verify(model, &options, &result, err);
    if (code != POOL_OK)
        return code;
    if (!result.is_verified)
        return pool_error_set(
            err, POOL_MODEL_UNVERIFIED,
            "%s has no known SHA-256, and workers.require_verified asks for one: add it to a catalog",
            model->ref);
    return POOL_OK;
}

static enum pool_code check_model(const struct start_context *context, struct start_request *start,
                                  struct pool_error *err)
{
    const struct pool_worker_spawn_request *request = start->request;
    enum pool_code code =
        pool_config_resolve_model(context->config, context->environment, context->catalog,
                                  context->is_unrestricted, request->model_ref, &start->model, err);
    if (code != POOL_OK)
        return code;
    if (start->model->metadata && !is_backend_listed(start->model->metadata, start->backend))
        return pool_error_set(err, POOL_MODEL_INCOMPATIBLE,
                              "the catalog does not list backend %s for model %s", start->backend->name,
                              start->model->id);
    const struct pool_model_header *header = NULL;
    code = header_cache_read(context->headers, (const char *const *)start->model->file_paths,
                             start->model->n_files, &header, err);
    if (code == POOL_OK)
        code = check_format(start->backend, start->model, header, err);
    if (code == POOL_OK)
        code = check_verified(context, start->model, err);
    if (code != POOL_OK)
        return code;
    start_take_header(start, header);
    return POOL_OK;
}

enum pool_code start_request_prepare(const struct start_context *context,
                                     const struct pool_worker_spawn_request *request,
                                     struct start_request *ret_start, struct pool_error *err)
{
    CLEANUP(start_request_done) struct start_request start = START_REQUEST_INIT;
    start.request = request;
    enum pool_code code = pool_worker_spawn_request_validate(request, err);
    if (code == POOL_OK)
        code = pool_config_backend(context->config, request->backend, &start.backend, err);
    if (code == POOL_OK)
        code = check_backend(context, start.backend, request, err);
    if (code == POOL_OK)
        code = check_model(context, &start, err);
    if (code == POOL_OK)
        code = program_find(start.backend->command[0], context->environment, &start.program, err);
    if (code == POOL_BACKEND_UNAVAILABLE && start.backend)
        pool_error_prefix(err, "backend %s", start.backend->name);
    if (code == POOL_OK && start.backend->n_device_check > 0)
        code = device_check_run(start.backend, start.program, context->environment, context->state_dir, err);
    if (code == POOL_OK)
        code = start_find_need(context, &start, err);
    if (code != POOL_OK)
        return code;
    *ret_start = start;
    start = (struct start_request)START_REQUEST_INIT;
    return POOL_OK;
}
