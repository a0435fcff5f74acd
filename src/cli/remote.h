/*
 * Who does the work: a daemon that is asked over HTTP, or this program on the state directory itself.
 *
 * A daemon that was named (--url, POOL_URL) is asked, whatever comes of it. Else the lock of the state directory says
 * whether a daemon manages it; only then its socket is tried, and else that of the system's daemon. A daemon that is just starting or stopping holds the lock
 * without answering: that is waited for, a few seconds. With --local nobody is asked.
 *
 * Every command asks in the same way: cli_get_pool, then the library, or the function below of the same name. A daemon
 * that goes away in the middle makes the command run once more (program.c), so a command prints nothing before it has
 * all, and says what it wants in a way that can be said twice.
 */
#ifndef CLI_REMOTE_H
#define CLI_REMOTE_H

#include <pool/lifecycle.h>

#include "cli/program.h"
#include "cli/remote_http.h"

/* *ret_daemon is NULL when there is none to be asked. Both are borrowed from the program. */
POOL_MUST_CHECK enum pool_code cli_find_daemon(struct cli *cli, struct remote_http **ret_daemon,
                                               struct pool_error *err);
/* One of the two: the other is NULL. */
POOL_MUST_CHECK enum pool_code cli_get_pool(struct cli *cli, struct remote_http **ret_daemon,
                                            struct pool_manager **ret_manager, struct pool_error *err);
/* Whether a daemon manages our state directory and does not answer at its socket. */
POOL_MUST_CHECK enum pool_code cli_is_daemon_silent(struct cli *cli, bool *ret_is_silent,
                                                    struct pool_error *err);
/*
 * Whether the command failed only because its daemon went away, or because one came while it worked without: running it once
 * more helps then, and who is to be asked is looked for anew.
 */
bool cli_may_run_again(struct cli *cli, enum pool_code code);
/* Looks for a daemon anew at the next call: the one that was found is gone. */
void cli_forget_daemon(struct cli *cli);
/* Whether the daemon that is asked has our own state directory, so that its paths are ours. */
bool cli_shares_state(const struct cli *cli);

/* ---- what is asked: each as the function of the library ---- */

POOL_MUST_CHECK enum pool_code remote_list_workers(struct cli *cli, bool is_all,
                                                   struct pool_worker_list **ret_list,
                                                   struct pool_error *err);
POOL_MUST_CHECK enum pool_code remote_get_worker(struct cli *cli, const char *worker_id,
                                                 struct pool_worker_info **ret_worker,
                                                 struct pool_error *err);
/* With request->wait the answer comes when it is ready. The request has an id. */
POOL_MUST_CHECK enum pool_code remote_spawn(struct cli *cli, const struct pool_worker_spawn_request *request,
                                            int cancel_fd, struct pool_worker_spawn_response **ret_response,
                                            struct pool_error *err);
/* As much of a plan as people are shown. Owner: remote_plan_free. */
POOL_MUST_CHECK enum pool_code remote_check(struct cli *cli, const struct pool_worker_spawn_request *request,
                                            int cancel_fd, struct pool_plan **ret_plan,
                                            struct pool_error *err);
void remote_plan_free(struct pool_plan *plan);
POOL_MUST_CHECK enum pool_code remote_plan_decode(const char *json, size_t n, struct pool_plan **ret_plan,
                                                  struct pool_error *err);
/* Is told about four times a second that a start is still under way. */
typedef void remote_start_fn(int64_t pid, int64_t elapsed_ms, void *context);
POOL_MUST_CHECK enum pool_code remote_wait_ready(struct cli *cli, const char *worker_id, int cancel_fd,
                                                 remote_start_fn *progress, void *context,
                                                 struct pool_worker_info **ret_worker,
                                                 struct pool_error *err);
POOL_MUST_CHECK enum pool_code remote_stop(struct cli *cli, const struct pool_worker_stop_request *request,
                                           int cancel_fd, struct pool_worker_info **ret_worker,
                                           struct pool_error *err);
POOL_MUST_CHECK enum pool_code remote_drain(struct cli *cli, const char *worker_id, int64_t timeout_ms,
                                            bool is_waiting, int cancel_fd,
                                            struct pool_worker_info **ret_worker, struct pool_error *err);
POOL_MUST_CHECK enum pool_code remote_why(struct cli *cli, const char *worker_id,
                                          struct pool_worker_why **ret_why, struct pool_error *err);
POOL_MUST_CHECK enum pool_code remote_explain(struct cli *cli, const char *id,
                                              struct pool_explanation_list **ret_list,
                                              struct pool_error *err);
POOL_MUST_CHECK enum pool_code remote_status(struct cli *cli, struct pool_status_response **ret_status,
                                             struct pool_error *err);
POOL_MUST_CHECK enum pool_code remote_list_gpus(struct cli *cli, struct pool_gpu_list **ret_list,
                                                struct pool_error *err);
/* A reason that is NULL is the library's default. The GPU is by index or UUID. */
POOL_MUST_CHECK enum pool_code remote_cordon_gpu(struct cli *cli, const char *gpu_id, const char *reason,
                                                 struct pool_gpu_cordon *ret_cordon, struct pool_error *err);
POOL_MUST_CHECK enum pool_code remote_uncordon_gpu(struct cli *cli, const char *gpu_id,
                                                   struct pool_gpu_cordon *ret_cordon,
                                                   struct pool_error *err);
struct event_stream;
/* Feeds the events behind last_id ("": from now on) to the stream, until it wants no more, the answer ends (the daemon
 * ends) or breaks, or the person interrupts (CANCELLED). *ret_is_answered, set in any case: a daemon was there. */
POOL_MUST_CHECK enum pool_code remote_follow_events(struct cli *cli, const char *last_id, int cancel_fd,
                                                    struct event_stream *stream, bool *ret_is_answered,
                                                    struct pool_error *err);
#define REMOTE_LOG_LINES_MAX INT64_C(10000) /* that a daemon gives at once */
/* The last n_lines of a log, -1: as many as the daemon gives; with is_followed also what comes after. */
POOL_MUST_CHECK enum pool_code remote_read_log(struct cli *cli, const char *worker_id, int64_t n_lines,
                                               bool is_followed, int cancel_fd, remote_sink *sink,
                                               void *context, struct pool_error *err);

#endif
