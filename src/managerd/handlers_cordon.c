/*
 * Cordons: devices that no new worker is placed on. People ask for them over the API, the daemon itself when a device
 * reports errors; both are kept by the library and told as events.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "managerd/cordon.h"
#include "managerd/daemon.h"
#include "managerd/log.h"

struct cordon_job {
    struct daemon *daemon;
    struct http_request *request; /* NULL: the daemon's own */
    char *gpu_id;
    char *reason; /* NULL: the library's default */
    bool is_uncordon;
    enum pool_code code;
    struct pool_error error;
    struct pool_gpu_cordon cordon;
    bool is_changed;
    struct log_cause cause;
};

static void free_job(struct cordon_job *job)
{
    free(job->gpu_id);
    free(job->reason);
    free(job);
}

static void work_cordon(void *context)
{
    struct cordon_job *job = context;
    struct pool_manager *manager = job->daemon->manager;
    job->code = job->is_uncordon ? pool_manager_uncordon_gpu(manager, job->gpu_id, &job->cordon,
                                                             &job->is_changed, &job->error)
                                 : pool_manager_cordon_gpu(manager, job->gpu_id, job->reason, &job->cordon,
                                                           &job->is_changed, &job->error);
}

static void tell_change(const struct cordon_job *job)
{
    const char *type = job->is_uncordon ? "gpu.uncordoned" : "gpu.cordoned";
    char *json = NULL;
    if (pool_gpu_cordon_encode(&job->cordon, &json, NULL) != POOL_OK)
        json = NULL;
    state_cache_spoil(job->daemon);
    event_log_publish(job->daemon->events, type, json);
    struct log_fields fields = { .reason = job->is_uncordon ? NULL : job->cordon.reason };
    log_tell(job->is_uncordon ? LOG_GPU_UNCORDONED : LOG_GPU_CORDONED, &fields, "%s", job->cordon.uuid);
}

static void finish_cordon(void *context)
{
    struct cordon_job *job = context;
    CLEANUP(log_leave_cause) __attribute__((unused)) struct log_cause before = log_enter_cause(job->cause.id);
    if (job->code == POOL_OK && job->is_changed)
        tell_change(job);
    if (job->request) {
        char *json = NULL;
        if (job->code == POOL_OK)
            job->code = pool_gpu_cordon_encode(&job->cordon, &json, &job->error);
        respond_encoded(job->request, 200, job->code, json, &job->error);
    } else if (job->code != POOL_OK) {
        log_tell(LOG_GPU_CORDON_FAILED, &(struct log_fields){ .code = pool_code_name(job->code) }, "%s: %s",
                 job->gpu_id, job->error.message);
    }
    free_job(job);
}

static enum pool_code submit(struct daemon *daemon, struct http_request *request, const char *gpu_id,
                             const char *reason, bool is_uncordon, struct pool_error *err)
{
    struct cordon_job *job = calloc(1, sizeof *job);
    if (!job)
        return pool_error_no_memory(err);
    *job = (struct cordon_job){ .daemon = daemon,
                                .request = request,
                                .gpu_id = strdup(gpu_id),
                                .reason = reason ? strdup(reason) : NULL,
                                .is_uncordon = is_uncordon,
                                .cause = log_cause() };
    enum pool_code code = job->gpu_id && (job->reason || !reason) ? POOL_OK : pool_error_no_memory(err);
    if (code == POOL_OK)
        code = executor_submit(daemon->executor, work_cordon, finish_cordon, job, err);
    if (code != POOL_OK)
        free_job(job);
    return code;
}

static void free_request(struct pool_gpu_cordon_request **request)
{
    pool_gpu_cordon_request_free(*request);
}

void handle_gpu_cordon(struct daemon *daemon, struct http_request *request)
{
    size_t n;
    struct pool_error error = POOL_ERROR_INIT;
    CLEANUP(free_request) struct pool_gpu_cordon_request *wanted = NULL;
    const char *body = http_request_body(request, &n);
    enum pool_code code = pool_gpu_cordon_request_decode(body, n, &wanted, &error);
    if (code == POOL_OK)
        code = submit(daemon, request, http_request_segment(request, 2), wanted->reason, false, &error);
    if (code != POOL_OK)
        http_respond_error(request, &error);
}

void handle_gpu_uncordon(struct daemon *daemon, struct http_request *request)
{
    struct pool_error error = POOL_ERROR_INIT;
    if (submit(daemon, request, http_request_segment(request, 2), NULL, true, &error) != POOL_OK)
        http_respond_error(request, &error);
}

void daemon_cordon_gpu(struct daemon *daemon, const char *gpu_uuid, const char *reason)
{
    struct pool_error error = POOL_ERROR_INIT;
    char text[POOL_CORDON_REASON_MAX + 1];
    snprintf(text, sizeof text, "%s", reason);
    if (submit(daemon, NULL, gpu_uuid, text, false, &error) != POOL_OK)
        log_tell(LOG_GPU_CORDON_FAILED, NULL, "%s: %s", gpu_uuid, error.message);
}
