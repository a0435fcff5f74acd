/*
 * rbees-pool worker wait.
 */
#include <stdlib.h>

#include <pool/lifecycle.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/remote.h"
#include "cli/worker_text.h"

struct worker_wait_arguments {
    const char *worker_id;
};

enum pool_code wait_for_worker(struct cli *cli, const char *worker_id, int cancel_fd,
                               struct pool_worker_info **ret_worker, struct pool_error *err)
{
    struct remote_http *daemon;
    struct pool_manager *manager;
    enum pool_code code = cli_get_pool(cli, &daemon, &manager, err);
    if (code != POOL_OK)
        return code;
    struct progress_line line = { .cli = cli, .subject = worker_id };
    if (daemon) {
        code = remote_wait_ready(cli, worker_id, cancel_fd, progress_of_told_start, &line, ret_worker, err);
        progress_clear(&line);
        return code;
    }
    struct pool_wait_options options = { .struct_size = sizeof options,
                                         .cancel_fd = cancel_fd,
                                         .progress = progress_of_start,
                                         .progress_context = &line };
    code = pool_manager_wait_ready(manager, worker_id, &options, ret_worker, err);
    progress_clear(&line);
    return code;
}

static enum pool_code run_wait(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct worker_wait_arguments *arguments = data;
    CLEANUP(release_worker) struct pool_worker_info *worker = NULL;
    CLEANUP(interrupt_close) struct interrupt interrupt = INTERRUPT_INIT;
    enum pool_code code = interrupt_open(&interrupt, err);
    if (code == POOL_OK)
        code = wait_for_worker(cli, arguments->worker_id, interrupt.fd, &worker, err);
    return code == POOL_OK ? print_worker_info(cli, worker, err) : code;
}

static const struct cli_positional positionals[] = {
    { .name = "ID",
      .field = "worker_id",
      .value = CLI_TEXT,
      .offset = offsetof(struct worker_wait_arguments, worker_id),
      .summary = "The worker" },
};
static const char *const examples[] = { "rbees-pool worker wait worker-1" };

const struct cli_command worker_wait_command = {
    .path = "worker wait",
    .summary = "Wait until a worker is ready",
    .description =
        "Returns when the worker is ready, at once when it is, and fails with the last lines of its log "
        "when it ends before or makes no progress for its start timeout. Ctrl-C leaves it starting.",
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct worker_wait_arguments),
    .run = run_wait,
};
