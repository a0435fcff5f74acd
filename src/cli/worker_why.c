/*
 * rbees-pool worker why: what is known of the end of a worker.
 */
#include <stdlib.h>

#include <pool/lifecycle.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/crash_text.h"
#include "cli/remote.h"
#include "cli/report.h"

struct worker_why_arguments {
    const char *worker_id;
};

static void release_why(struct pool_worker_why **why)
{
    pool_worker_why_free(*why);
}

static enum pool_code get_why(struct cli *cli, const char *worker_id, struct pool_worker_why **ret_why,
                              struct pool_error *err)
{
    struct remote_http *daemon;
    struct pool_manager *manager;
    enum pool_code code = cli_get_pool(cli, &daemon, &manager, err);
    if (code != POOL_OK)
        return code;
    return daemon ? remote_why(cli, worker_id, ret_why, err)
                  : pool_manager_why(manager, worker_id, ret_why, err);
}

static enum pool_code run_why(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct worker_why_arguments *arguments = data;
    CLEANUP(release_why) struct pool_worker_why *why = NULL;
    CLEANUP_FREE char *json = NULL;
    enum pool_code code = get_why(cli, arguments->worker_id, &why, err);
    if (code != POOL_OK)
        return code;
    if (!cli->globals.is_json) {
        print_why(cli, why);
        return POOL_OK;
    }
    code = pool_worker_why_encode(why, &json, err);
    if (code == POOL_OK)
        print_json(cli, &json);
    return code;
}

static const struct cli_positional positionals[] = {
    { .name = "ID",
      .field = "worker_id",
      .value = CLI_TEXT,
      .offset = offsetof(struct worker_why_arguments, worker_id),
      .summary = "The worker" },
};
static const char *const examples[] = { "rbees-pool worker why worker-1",
                                        "rbees-pool worker why worker-1 --json" };

const struct cli_command worker_why_command = {
    .path = "worker why",
    .summary = "Say why a worker died",
    .description = "Shows the crash bundle that a worker left which ended without being asked to: why, in "
                   "one sentence, and "
                   "the facts behind it: exit code or signal, what the kernel counted of its memory, errors "
                   "of its devices, "
                   "what it held of them over time, how it was started and the last lines of its log. "
                   "Secrets are taken out "
                   "of command line, environment and log as far as they can be told. Of a worker that lives, "
                   "or was stopped "
                   "on request, it says so. The bundles of the last 200 deaths are kept.",
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct worker_why_arguments),
    .run = run_why,
};
