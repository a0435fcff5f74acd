/*
 * Blocking calls off the loop, on libuv's threads. Two ways: in order, one after the other (everything that uses the
 * manager, which is one thread's at a time), and beside each other (ending processes, which may take minutes).
 * `work` runs on a thread, `done` afterwards on the loop.
 */
#ifndef MANAGERD_EXECUTOR_H
#define MANAGERD_EXECUTOR_H

#include <pool/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct executor;

/* Of libuv's threads, so that one is left for what is done in order. */
#define EXECUTOR_BESIDE_MAX 56

typedef void executor_fn(void *job);

POOL_MUST_CHECK enum pool_code executor_open(uv_loop_t *loop, struct executor **ret_executor,
                                             struct pool_error *err);
/* Frees it; nothing may be under way. */
void executor_close(struct executor *executor);
/* In order. INSUFFICIENT_MEMORY: the job was not taken, neither function is called. */
POOL_MUST_CHECK enum pool_code executor_submit(struct executor *executor, executor_fn *work,
                                               executor_fn *done, void *job, struct pool_error *err);
/* Beside everything else: at once, unless EXECUTOR_BESIDE_MAX are running. */
POOL_MUST_CHECK enum pool_code executor_run_beside(struct executor *executor, executor_fn *work,
                                                   executor_fn *done, void *job, struct pool_error *err);
/* Jobs that are queued or running, of both kinds. */
size_t executor_n_jobs(const struct executor *executor);
/* Called once, on the loop, when no job is left. */
void executor_on_idle(struct executor *executor, executor_fn *on_idle, void *context);

#endif
