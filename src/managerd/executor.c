/*
 * Blocking calls off the loop; see executor.h. The order is kept by giving libuv one job at a time.
 */
#include "managerd/executor.h"

#include <stdlib.h>

struct job {
    uv_work_t request;
    struct executor *executor;
    executor_fn *work;
    executor_fn *done;
    void *context;
    bool is_ordered;
    struct job *next;
};

struct executor {
    uv_loop_t *loop;
    struct job *first, *last;               /* ordered jobs; the first is running */
    struct job *first_beside, *last_beside; /* that wait for a thread */
    size_t n_beside;                        /* running */
    size_t n_jobs;
    executor_fn *on_idle;
    void *idle_context;
};

enum pool_code executor_open(uv_loop_t *loop, struct executor **ret_executor, struct pool_error *err)
{
    struct executor *executor = calloc(1, sizeof *executor);
    if (!executor)
        return pool_error_no_memory(err);
    executor->loop = loop;
    *ret_executor = executor;
    return POOL_OK;
}

void executor_close(struct executor *executor)
{
    free(executor);
}

static void run_job(uv_work_t *request)
{
    struct job *job = request->data;
    job->work(job->context);
}

static void finish_job(uv_work_t *request, int status);

static void start_job(struct job *job)
{
    job->request.data = job;
    /* uv_queue_work fails for a missing callback only. */
    uv_queue_work(job->executor->loop, &job->request, run_job, finish_job);
}

static void start_waiting(struct executor *executor)
{
    while (executor->first_beside && executor->n_beside < EXECUTOR_BESIDE_MAX) {
        struct job *job = executor->first_beside;
        executor->first_beside = job->next;
        if (!executor->first_beside)
            executor->last_beside = NULL;
        executor->n_beside++;
        start_job(job);
    }
}

static void finish_job(uv_work_t *request, int status)
{
    (void)status; /* jobs are never cancelled */
    struct job *job = request->data;
    struct executor *executor = job->executor;
    if (job->is_ordered) {
        executor->first = job->next;
        if (executor->first)
            start_job(executor->first);
        else
            executor->last = NULL;
    } else {
        executor->n_beside--;
        start_waiting(executor);
    }
    job->done(job->context);
    free(job);
    executor->n_jobs--;
    if (executor->n_jobs == 0 && executor->on_idle) {
        executor_fn *on_idle = executor->on_idle;
        executor->on_idle = NULL;
        on_idle(executor->idle_context);
    }
}

static struct job *new_job(struct executor *executor, executor_fn *work, executor_fn *done, void *context)
{
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    job->executor = executor;
    job->work = work;
    job->done = done;
    job->context = context;
    executor->n_jobs++;
    return job;
}

enum pool_code executor_submit(struct executor *executor, executor_fn *work, executor_fn *done, void *context,
                               struct pool_error *err)
{
    struct job *job = new_job(executor, work, done, context);
    if (!job)
        return pool_error_no_memory(err);
    job->is_ordered = true;
    if (executor->last)
        executor->last->next = job;
    else
        executor->first = job;
    executor->last = job;
    if (executor->first == job)
        start_job(job);
    return POOL_OK;
}

enum pool_code executor_run_beside(struct executor *executor, executor_fn *work, executor_fn *done,
                                   void *context, struct pool_error *err)
{
    struct job *job = new_job(executor, work, done, context);
    if (!job)
        return pool_error_no_memory(err);
    if (executor->last_beside)
        executor->last_beside->next = job;
    else
        executor->first_beside = job;
    executor->last_beside = job;
    start_waiting(executor);
    return POOL_OK;
}

size_t executor_n_jobs(const struct executor *executor)
{
    return executor->n_jobs;
}

void executor_on_idle(struct executor *executor, executor_fn *on_idle, void *context)
{
    if (executor->n_jobs == 0) {
        on_idle(context);
        return;
    }
    executor->on_idle = on_idle;
    executor->idle_context = context;
}
