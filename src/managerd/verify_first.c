#include "managerd/verify_first.h"

#include <stdlib.h>
#include <string.h>

#include "managerd/models_internal.h"

struct verify_first_job {
    struct daemon *daemon;
    const struct pool_worker_spawn_request *wanted;
    bool is_unrestricted, is_start;
    verify_first_fn *then;
    void *context;
    struct pool_model_catalog *catalog; /* a share of it, for the thread that hashes */
    enum pool_code code;
    struct pool_error error;
    struct log_cause cause;
};

static void finish(struct verify_first_job *job)
{
    CLEANUP(log_leave_cause) __attribute__((unused)) struct log_cause before = log_enter_cause(job->cause.id);
    job->then(job->code, &job->error, job->context);
    pool_model_catalog_close(job->catalog);
    free(job);
}

static void fail(struct verify_first_job *job, const struct pool_error *error)
{
    job->code = error->code;
    job->error = *error;
    finish(job);
}

static void finish_refusal(void *context)
{
    finish(context);
}

static void work_refusal(void *context)
{
    struct verify_first_job *job = context;
    (void)!pool_manager_set_correlation_id(job->daemon->manager, job->cause.id[0] ? job->cause.id : NULL,
                                           NULL);
    pool_manager_refuse_start(job->daemon->manager, job->wanted, &job->error);
}

static bool may_go_on(int64_t done_bytes, int64_t total_bytes, void *context)
{
    const struct verify_first_job *job = context;
    (void)done_bytes;
    (void)total_bytes;
    return !atomic_load(&job->daemon->models->is_cancelled);
}

static void work_verify(void *context)
{
    struct verify_first_job *job = context;
    const struct daemon *daemon = job->daemon;
    CLEANUP(free_model) struct pool_model *model = NULL;
    CLEANUP_FREE char *proof_dir = pool_config_proof_dir(daemon->config);
    struct pool_verify_result result;
    struct pool_verify_options options = {
        .struct_size = sizeof options, .proof_dir = proof_dir, .progress = may_go_on, .progress_context = job
    };
    if (!proof_dir) {
        job->code = pool_error_no_memory(&job->error);
    } else if (pool_config_resolve_model(daemon->config, daemon->environment, job->catalog,
                                         job->is_unrestricted, job->wanted->model_ref, &model,
                                         NULL) == POOL_OK) {
        job->code = pool_model_verify(model, &options, &result, &job->error);
    }
}

static void finish_verify(void *context)
{
    struct verify_first_job *job = context;
    struct pool_error error = POOL_ERROR_INIT;
    if (job->code == POOL_OK || !job->is_start)
        finish(job);
    else if (executor_submit(job->daemon->executor, work_refusal, finish_refusal, job, &error) != POOL_OK)
        fail(job, &error);
}

static void work_catalog(void *context)
{
    struct verify_first_job *job = context;
    /* A catalog that can not be read is what the start fails with. */
    if (pool_manager_share_catalog(job->daemon->manager, &job->catalog, NULL) != POOL_OK)
        job->catalog = NULL;
}

static void finish_catalog(void *context)
{
    struct verify_first_job *job = context;
    struct pool_error error = POOL_ERROR_INIT;
    if (!job->catalog)
        finish(job);
    else if (executor_run_beside(job->daemon->executor, work_verify, finish_verify, job, &error) != POOL_OK)
        fail(job, &error);
}

void verify_first(struct daemon *daemon, const struct pool_worker_spawn_request *wanted, bool is_unrestricted,
                  bool is_start, verify_first_fn *then, void *context)
{
    struct pool_error error = POOL_ERROR_INIT;
    if (!daemon->config->require_verified || !wanted->model_ref) {
        then(POOL_OK, NULL, context);
        return;
    }
    struct verify_first_job *job = calloc(1, sizeof *job);
    if (!job) {
        pool_error_no_memory(&error);
        then(error.code, &error, context);
        return;
    }
    *job = (struct verify_first_job){ .daemon = daemon,
                                      .wanted = wanted,
                                      .is_unrestricted = is_unrestricted,
                                      .is_start = is_start,
                                      .then = then,
                                      .context = context,
                                      .cause = log_cause() };
    if (executor_submit(daemon->executor, work_catalog, finish_catalog, job, &error) != POOL_OK)
        fail(job, &error);
}
