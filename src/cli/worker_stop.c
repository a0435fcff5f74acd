/*
 * rbees-pool worker stop.
 */
#include <stdlib.h>
#include <string.h>

#include <pool/lifecycle.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/remote.h"
#include "cli/report.h"
#include "cli/worker_text.h"

struct worker_stop_arguments {
    const char *worker_id;
    struct pool_reading grace_ms;
    bool is_forced;
    bool has_no_wait;
};

static void release_request(struct pool_worker_stop_request **request)
{
    pool_worker_stop_request_free(*request);
}

enum pool_code print_worker_end(const struct cli *cli, const struct pool_worker_info *worker,
                                struct pool_error *err)
{
    char text[WORKER_TEXT_MAX];
    if (cli->globals.is_json) {
        CLEANUP_FREE char *json = NULL;
        enum pool_code code = pool_worker_info_encode(worker, &json, err);
        if (code == POOL_OK)
            print_json(cli, &json);
        return code;
    }
    terminal_print(&cli->terminal, cli->out, worker->worker_id);
    if (worker->status == POOL_WORKER_STOPPED) {
        format_worker_end(worker, text);
        fprintf(cli->out, ": stopped (%s)\n", text);
    } else {
        fprintf(cli->out, ": %s\n", pool_worker_status_name(worker->status));
    }
    return POOL_OK;
}

/* A stop whose daemon went away, or that a daemon took over, may have come to its end: that is what was wanted. */
static enum pool_code find_earlier_stop(struct cli *cli, const char *worker_id,
                                        struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(release_worker) struct pool_worker_info *worker = NULL;
    enum pool_code code = cli->n_runs > 0 ? get_worker(cli, worker_id, &worker, err) : POOL_OK;
    if (worker && worker->status == POOL_WORKER_STOPPED)
        *ret_worker = take_ptr(&worker);
    return code;
}

static enum pool_code stop(struct cli *cli, const struct pool_worker_stop_request *request, int cancel_fd,
                           struct pool_worker_info **ret_worker, struct pool_error *err)
{
    struct remote_http *daemon;
    struct pool_manager *manager;
    enum pool_code code = cli_get_pool(cli, &daemon, &manager, err);
    if (code == POOL_OK)
        code = find_earlier_stop(cli, request->worker_id, ret_worker, err);
    if (code != POOL_OK || *ret_worker)
        return code;
    code = daemon ? remote_stop(cli, request, cancel_fd, ret_worker, err)
                  : pool_manager_stop(manager, request, cancel_fd, ret_worker, err);
    if (code == POOL_CONFLICT && cli->n_runs > 0 && /* it came between the look and the stop */
        find_earlier_stop(cli, request->worker_id, ret_worker, NULL) == POOL_OK && *ret_worker)
        code = POOL_OK;
    return code;
}

static enum pool_code run_stop(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct worker_stop_arguments *arguments = data;
    CLEANUP(release_request) struct pool_worker_stop_request *request = pool_worker_stop_request_new();
    CLEANUP(release_worker) struct pool_worker_info *worker = NULL;
    CLEANUP(interrupt_close) struct interrupt interrupt = INTERRUPT_INIT;
    if (!request || !(request->worker_id = strdup(arguments->worker_id)))
        return pool_error_no_memory(err);
    request->grace_ms = arguments->grace_ms;
    request->force = arguments->is_forced;
    request->wait = !arguments->has_no_wait;
    enum pool_code code = interrupt_open(&interrupt, err);
    if (code == POOL_OK)
        code = stop(cli, request, interrupt.fd, &worker, err);
    return code == POOL_OK ? print_worker_end(cli, worker, err) : code;
}

#define AT(field) .offset = offsetof(struct worker_stop_arguments, field)

static const struct cli_option options[] = {
    { .name = "grace",
      .value = CLI_INTEGER,
      .unit = "MS",
      AT(grace_ms),
      .max = POOL_TIMEOUT_MAX_MS,
      .default_text = "what it was started with",
      .summary = "Time between asking and killing" },
    { .name = "force", .letter = 'f', AT(is_forced), .summary = "Kill it at once" },
    { .name = "no-wait",
      AT(has_no_wait),
      .summary = "Ask it to stop and return; once its grace is over, the next command or a daemon kills it" },
};
static const struct cli_positional positionals[] = {
    { .name = "ID", .field = "worker_id", .value = CLI_TEXT, AT(worker_id), .summary = "The worker" },
};
static const char *const examples[] = {
    "rbees-pool worker stop worker-1",
    "rbees-pool worker stop worker-1 --grace 5000",
    "rbees-pool worker stop worker-1 --force",
};

const struct cli_command worker_stop_command = {
    .path = "worker stop",
    .summary = "Stop a worker",
    .description = "Asks the worker to stop, gives it time, then kills what is left of it, and returns when "
                   "no process of it "
                   "is left. Ctrl-C ends the waiting, not the stopping.",
    CLI_OPTIONS(options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct worker_stop_arguments),
    .run = run_stop,
};
