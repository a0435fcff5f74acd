/*
 * rbees-pool worker show.
 */
#include <inttypes.h>
#include <stdlib.h>

#include <pool/lifecycle.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/commands.h"
#include "cli/remote.h"
#include "cli/report.h"
#include "cli/worker_text.h"

struct worker_show_arguments {
    const char *worker_id;
};

static void print_time(const struct cli *cli, const char *name, int64_t wall_ms)
{
    char text[RFC3339_MAX];
    if (wall_ms == 0)
        return;
    clock_format_rfc3339(wall_ms, text);
    print_field(cli, name, text);
}

static void print_optional_bytes(const struct cli *cli, const char *name, struct pool_reading bytes)
{
    if (bytes.is_present)
        print_field_bytes(cli, name, bytes.value);
}

static void print_place(const struct cli *cli, const struct pool_worker_info *worker)
{
    if (worker->gpu_uuid)
        print_field_format(cli, "gpu", "%" PRId64 " (%s)", worker->gpu_id, worker->gpu_uuid);
    else
        print_field(cli, "device", "host memory");
    print_field_bytes(cli, "reserved", worker->reserved_bytes);
    print_optional_bytes(cli, "observed", worker->observed_bytes);
    print_optional_bytes(cli, "peak", worker->peak_bytes);
    print_field(cli, "uri", worker->uri);
    print_field_format(cli, "port", "%" PRId64 "%s", worker->port, worker->is_port_chosen ? " (chosen)" : "");
    print_field(cli, "port proof", pool_port_proof_name(worker->port_proof));
    print_field_format(cli, "pid", "%" PRId64, worker->process.pid);
}

static void print_life(const struct cli *cli, const struct pool_worker_info *worker)
{
    print_time(cli, "created", worker->created_wall_ms);
    print_time(cli, "ready", worker->ready_wall_ms);
    if (worker->ready_boottime_ns > worker->created_boottime_ns)
        print_field_format(cli, "ready after", "%" PRId64 " ms",
                           (worker->ready_boottime_ns - worker->created_boottime_ns) / NS_PER_MS);
    print_time(cli, "stopped", worker->stopped_wall_ms);
    if (worker->status == POOL_WORKER_STOPPED) {
        char text[WORKER_TEXT_MAX];
        format_worker_end(worker, text);
        print_field(cli, "why", text);
        if (worker->stop_reason != POOL_STOP_REQUESTED && worker->stop_reason != POOL_STOP_IDLE_TIMEOUT)
            print_field_format(cli, "more", CLI_PROGRAM_NAME " worker why %s", worker->worker_id);
    }
}

static void print_worker(const struct cli *cli, const struct pool_worker_info *worker)
{
    char text[WORKER_TEXT_MAX];
    format_worker_status(worker, text);
    print_field(cli, "id", worker->worker_id);
    print_field(cli, "status", text);
    print_field(cli, "health", worker->health_reason);
    print_field(cli, "backend", worker->backend);
    print_field(cli, "model", worker->model_ref);
    print_field(cli, "file", worker->model_path);
    print_place(cli, worker);
    print_field(cli, "program", worker->program);
    print_field_format(cli, "context", "%" PRId64 " tokens, %" PRId64 " at once", worker->ctx_size,
                       worker->parallel);
    print_life(cli, worker);
    print_field(cli, "log", worker->log_path);
    for (size_t i = 0; i < worker->n_labels; i++)
        print_field_format(cli, "label", "%s=%s", worker->labels[i].name, worker->labels[i].value);
}

enum pool_code print_worker_info(const struct cli *cli, const struct pool_worker_info *worker,
                                 struct pool_error *err)
{
    if (!cli->globals.is_json) {
        print_worker(cli, worker);
        return POOL_OK;
    }
    CLEANUP_FREE char *json = NULL;
    enum pool_code code = pool_worker_info_encode(worker, &json, err);
    if (code == POOL_OK)
        print_json(cli, &json);
    return code;
}

enum pool_code get_worker(struct cli *cli, const char *worker_id, struct pool_worker_info **ret_worker,
                          struct pool_error *err)
{
    struct remote_http *daemon;
    struct pool_manager *manager;
    enum pool_code code = cli_get_pool(cli, &daemon, &manager, err);
    if (code != POOL_OK)
        return code;
    return daemon ? remote_get_worker(cli, worker_id, ret_worker, err)
                  : pool_manager_get_worker(manager, worker_id, ret_worker, err);
}

static enum pool_code run_show(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct worker_show_arguments *arguments = data;
    CLEANUP(release_worker) struct pool_worker_info *worker = NULL;
    enum pool_code code = get_worker(cli, arguments->worker_id, &worker, err);
    return code == POOL_OK ? print_worker_info(cli, worker, err) : code;
}

static const struct cli_positional positionals[] = {
    { .name = "ID",
      .field = "worker_id",
      .value = CLI_TEXT,
      .offset = offsetof(struct worker_show_arguments, worker_id),
      .summary = "The worker" },
};
static const char *const examples[] = { "rbees-pool worker show worker-1",
                                        "rbees-pool worker show worker-1 --json" };

const struct cli_command worker_show_command = {
    .path = "worker show",
    .summary = "Show all that is known of a worker",
    .description = "Shows one worker as it is at this moment, also one that has stopped, with why it did.",
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct worker_show_arguments),
    .run = run_show,
};
