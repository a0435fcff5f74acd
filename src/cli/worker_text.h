/*
 * Workers as people read them.
 */
#ifndef CLI_WORKER_TEXT_H
#define CLI_WORKER_TEXT_H

#include <pool/worker.h>

#include "cli/program.h"

static inline void release_worker(struct pool_worker_info **worker)
{
    pool_worker_info_free(*worker);
}

static inline void release_worker_list(struct pool_worker_list **list)
{
    pool_worker_list_free(*list);
}

#define WORKER_TEXT_MAX 160

enum terminal_style worker_style(const struct pool_worker_info *worker);
/* "ready", "ready, unhealthy", "stopping (term)" */
void format_worker_status(const struct pool_worker_info *worker, char text[WORKER_TEXT_MAX]);
/* "0" or "cpu" */
void format_worker_device(const struct pool_worker_info *worker, char text[WORKER_TEXT_MAX]);
/* Why it ended: "exited, code 3", "signalled, SIGKILL" */
void format_worker_end(const struct pool_worker_info *worker, char text[WORKER_TEXT_MAX]);
/* The last part of the model's name, which is what tells models apart. Borrowed. */
const char *worker_model_name(const struct pool_worker_info *worker);
/* One worker as it is, asked of whoever manages it; also one of the history. */
POOL_MUST_CHECK enum pool_code get_worker(struct cli *cli, const char *worker_id,
                                          struct pool_worker_info **ret_worker, struct pool_error *err);
/* Until it is ready or has failed, with a progress line where there is something to tell. */
POOL_MUST_CHECK enum pool_code wait_for_worker(struct cli *cli, const char *worker_id, int cancel_fd,
                                               struct pool_worker_info **ret_worker, struct pool_error *err);
/* What became of one that was stopped, in a line, or its JSON. */
POOL_MUST_CHECK enum pool_code print_worker_end(const struct cli *cli, const struct pool_worker_info *worker,
                                                struct pool_error *err);
/* All of a worker, or its JSON. */
POOL_MUST_CHECK enum pool_code print_worker_info(const struct cli *cli, const struct pool_worker_info *worker,
                                                 struct pool_error *err);

#endif
