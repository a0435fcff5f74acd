/*
 * Answers about why a worker died. Bundles are read beside the loop, in order with the ends that write them.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "managerd/daemon.h"

struct why_job {
    struct daemon *daemon;
    struct http_request *request;
    char *worker_id;
    enum pool_code code;
    struct pool_error error;
    char *json;
};

static void work_why(void *context)
{
    struct why_job *job = context;
    struct pool_worker_why *why = NULL;
    job->code = pool_manager_why(job->daemon->manager, job->worker_id, &why, &job->error);
    if (job->code == POOL_OK)
        job->code = pool_worker_why_encode(why, &job->json, &job->error);
    pool_worker_why_free(why);
}

static void finish_why(void *context)
{
    struct why_job *job = context;
    respond_encoded(job->request, 200, job->code, job->json, &job->error);
    free(job->worker_id);
    free(job);
}

void handle_worker_why(struct daemon *daemon, struct http_request *request)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct why_job *job = calloc(1, sizeof *job);
    if (job) {
        *job = (struct why_job){ .daemon = daemon,
                                 .request = request,
                                 .worker_id = strdup(http_request_segment(request, 2)) };
        if (job->worker_id &&
            executor_submit(daemon->executor, work_why, finish_why, job, &job->error) == POOL_OK)
            return;
        free(job->worker_id);
        free(job);
    }
    pool_error_no_memory(&error);
    http_respond_error(request, &error);
}
