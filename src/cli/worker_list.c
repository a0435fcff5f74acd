/*
 * rbees-pool worker list.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>

#include <pool/lifecycle.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/remote.h"
#include "cli/report.h"
#include "cli/table.h"
#include "cli/worker_text.h"

#define WATCH_MS 1000
#define CLEAR    "\033[H\033[J"

struct worker_list_arguments {
    bool all;
    bool is_watching;
};

static void add_row(struct table *table, const struct pool_worker_info *worker, int64_t now_wall_ms)
{
    char text[WORKER_TEXT_MAX];
    char bytes[HUMAN_BYTES_MAX];
    char age[DURATION_TEXT_MAX];
    bool is_stopped = worker->status == POOL_WORKER_STOPPED;
    table_add(table, worker->worker_id);
    if (is_stopped)
        format_worker_end(worker, text);
    else
        format_worker_status(worker, text);
    table_add_styled(table, worker_style(worker), text);
    table_add(table, worker->backend);
    table_add(table, worker_model_name(worker));
    format_worker_device(worker, text);
    table_add(table, text);
    table_printf(table, "%" PRId64, worker->port);
    table_printf(table, "%" PRId64, worker->process.pid);
    format_bytes(worker->observed_bytes.is_present && worker->observed_bytes.value > worker->reserved_bytes
                     ? worker->observed_bytes.value
                     : worker->reserved_bytes,
                 bytes);
    table_add(table, bytes);
    format_duration((is_stopped ? worker->stopped_wall_ms : now_wall_ms) - worker->created_wall_ms, age);
    table_add(table, age);
}

static enum pool_code print_list(const struct cli *cli, const struct pool_worker_list *list,
                                 struct pool_error *err)
{
    static const struct table_column columns[] = {
        { .title = "ID" },
        { .title = "STATUS" },
        { .title = "BACKEND", .may_shrink = true },
        { .title = "MODEL", .may_shrink = true },
        { .title = "GPU" },
        { .title = "PORT", .is_right = true },
        { .title = "PID", .is_right = true },
        { .title = "VRAM/MEM", .is_right = true },
        { .title = "AGE", .is_right = true },
    };
    CLEANUP(table_done) struct table table;
    table_init(&table, &cli->terminal, columns, CLI_COUNT(columns));
    int64_t now_wall_ms = clock_wall_ms();
    for (size_t i = 0; i < list->n_workers; i++)
        add_row(&table, list->workers[i], now_wall_ms);
    return table_print(&table, cli->out) ? POOL_OK : pool_error_no_memory(err);
}

/* The history goes behind the living: what runs now is what is looked for first. */
static enum pool_code append_history(struct pool_manager *manager, struct pool_worker_list *list,
                                     struct pool_error *err)
{
    CLEANUP(release_worker_list) struct pool_worker_list *history = NULL;
    enum pool_code code = pool_manager_list_workers(manager, POOL_REGISTRY_HISTORY, &history, err);
    if (code != POOL_OK)
        return code;
    struct pool_worker_info **workers =
        reallocarray(list->workers, list->n_workers + history->n_workers + 1, sizeof *workers);
    if (!workers)
        return pool_error_no_memory(err);
    list->workers = workers;
    for (size_t i = 0; i < history->n_workers; i++)
        workers[list->n_workers++] = take_ptr(&history->workers[i]);
    history->n_workers = 0;
    return POOL_OK;
}

static enum pool_code get_list(struct cli *cli, bool is_all, struct pool_worker_list **list,
                               struct pool_error *err)
{
    struct remote_http *daemon;
    struct pool_manager *manager;
    enum pool_code code = cli_get_pool(cli, &daemon, &manager, err);
    if (code != POOL_OK)
        return code;
    if (daemon)
        return remote_list_workers(cli, is_all, list, err);
    code = pool_manager_list_workers(manager, POOL_REGISTRY_LIVE, list, err);
    return code == POOL_OK && is_all ? append_history(manager, *list, err) : code;
}

/* Again and again; a daemon that comes or goes meanwhile is nothing to end for. */
static enum pool_code watch_list(struct cli *cli, bool is_all, int cancel_fd, struct pool_error *err)
{
    struct pollfd cancel = { .fd = cancel_fd, .events = POLLIN };
    for (bool is_first = true;; is_first = false) {
        CLEANUP(release_worker_list) struct pool_worker_list *list = NULL;
        enum pool_code code = get_list(cli, is_all, &list, err);
        while (cli_may_run_again(cli, code))
            code = get_list(cli, is_all, &list, err);
        cli_release_manager(cli); /* one that has come meanwhile is asked the next time */
        if (code != POOL_OK)
            return code;
        cli->n_runs = 0;
        cli_forget_daemon(cli);
        if (cli->terminal.is_out_terminal)
            fputs(CLEAR, cli->out);
        else if (!is_first)
            fputc('\n', cli->out);
        code = print_list(cli, list, err);
        if (code != POOL_OK || fflush(cli->out) != 0 || poll(&cancel, 1, WATCH_MS) > 0)
            return code;
    }
}

static enum pool_code run_watch(struct cli *cli, const struct worker_list_arguments *arguments,
                                struct pool_error *err)
{
    CLEANUP(interrupt_close) struct interrupt interrupt = INTERRUPT_INIT;
    if (cli->globals.is_json) {
        pool_error_set(
            err, POOL_INVALID_REQUEST,
            "--watch has no end, so it can not be one JSON document; 'events --json' tells the changes");
        pool_error_set_field(err, "watch");
        return POOL_INVALID_REQUEST;
    }
    enum pool_code code = interrupt_open(&interrupt, err);
    return code == POOL_OK ? watch_list(cli, arguments->all, interrupt.fd, err) : code;
}

static enum pool_code run_list(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct worker_list_arguments *arguments = data;
    if (arguments->is_watching)
        return run_watch(cli, arguments, err);
    CLEANUP(release_worker_list) struct pool_worker_list *list = NULL;
    enum pool_code code = get_list(cli, arguments->all, &list, err);
    if (code != POOL_OK)
        return code;
    if (!cli->globals.is_json)
        return print_list(cli, list, err);
    CLEANUP_FREE char *json = NULL;
    code = pool_worker_list_encode(list, &json, err);
    if (code == POOL_OK)
        print_json(cli, &json);
    return code;
}

static const struct cli_option options[] = {
    { .name = "all",
      .letter = 'a',
      .offset = offsetof(struct worker_list_arguments, all),
      .summary = "Also those that have stopped, newest first, with why" },
    { .name = "watch",
      .letter = 'w',
      .offset = offsetof(struct worker_list_arguments, is_watching),
      .summary = "Print it anew every second, until Ctrl-C" },
};
static const char *const examples[] = { "rbees-pool worker list", "rbees-pool worker list --all --json",
                                        "rbees-pool worker list --watch" };

const struct cli_command worker_list_command = {
    .path = "worker list",
    .summary = "List the workers",
    .description = "Lists the workers of this machine as they are at this moment: one whose process is gone "
                   "is moved to the "
                   "history before the list is printed, and one that has become ready is shown so. Of a "
                   "stopped worker the "
                   "age is how long it lived.",
    CLI_OPTIONS(options),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct worker_list_arguments),
    .run = run_list,
};
