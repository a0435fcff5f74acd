/*
 * Answers about why: the explanations of a worker, a request or one record.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "managerd/daemon.h"

struct explain_job {
    struct daemon *daemon;
    struct http_request *request;
    char *id;
    enum pool_code code;
    struct pool_error error;
    char *json;
};

static void work_explain(void *context)
{
    struct explain_job *job = context;
    struct pool_explanation_list *list = NULL;
    job->code = pool_manager_explain(job->daemon->manager, job->id, &list, &job->error);
    if (job->code == POOL_OK)
        job->code = pool_explanation_list_encode(list, &job->json, &job->error);
    pool_explanation_list_free(list);
}

static void finish_explain(void *context)
{
    struct explain_job *job = context;
    respond_encoded(job->request, 200, job->code, job->json, &job->error);
    free(job->id);
    free(job);
}

void handle_explain(struct daemon *daemon, struct http_request *request)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct explain_job *job = calloc(1, sizeof *job);
    if (job) {
        *job = (struct explain_job){ .daemon = daemon,
                                     .request = request,
                                     .id = strdup(http_request_segment(request, 2)) };
        if (job->id &&
            executor_submit(daemon->executor, work_explain, finish_explain, job, &job->error) == POOL_OK)
            return;
        free(job->id);
        free(job);
    }
    pool_error_no_memory(&error);
    http_respond_error(request, &error);
}
