/*
 * POST /v2/internal/workers/ready: a worker says that it is ready. Its spawn token says who it is; whether its port is its
 * own is looked at after that, as for every worker.
 */
#include <stdlib.h>

#include "base/cleanup.h"
#include "managerd/daemon.h"

struct call_job {
    struct daemon *daemon;
    struct http_request *request;
    struct pool_worker_ready_callback *call;
    enum pool_code code;
    struct pool_error error;
    struct pool_worker_info *worker;
};

static void work_call(void *context)
{
    struct call_job *job = context;
    job->code = pool_manager_take_ready_call(job->daemon->manager, job->call->worker_id,
                                             job->call->spawn_token, &job->worker, &job->error);
}

static void finish_call(void *context)
{
    struct call_job *job = context;
    if (job->code == POOL_OK) {
        http_respond(job->request, 204, NULL, NULL, 0, HTTP_STATIC);
        supervisor_called(job->daemon->supervisor, job->worker);
    } else {
        http_respond_error(job->request, &job->error);
    }
    pool_worker_info_free(job->worker);
    pool_worker_ready_callback_free(job->call);
    free(job);
}

void handle_worker_ready(struct daemon *daemon, struct http_request *request)
{
    size_t n;
    struct pool_error error = POOL_ERROR_INIT;
    struct call_job *job = calloc(1, sizeof *job);
    if (!job) {
        pool_error_no_memory(&error);
        http_respond_error(request, &error);
        return;
    }
    *job = (struct call_job){ .daemon = daemon, .request = request };
    const char *body = http_request_body(request, &n);
    enum pool_code code = pool_worker_ready_callback_decode(body, n, &job->call, &error);
    if (code == POOL_OK)
        code = executor_submit(daemon->executor, work_call, finish_call, job, &error);
    if (code == POOL_OK)
        return; /* the job is another thread's from here on */
    job->code = code;
    job->error = error;
    finish_call(job);
}
