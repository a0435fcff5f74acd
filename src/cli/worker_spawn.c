/*
 * rbees-pool worker spawn: starts a worker, and waits for it when asked to. The request is made in
 * worker_spawn_request.c, a dry run is shown by worker_plan.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <pool/lifecycle.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/worker_plan.h"
#include "cli/worker_spawn_request.h"
#include "cli/worker_text.h"

static void release_response(struct pool_worker_spawn_response **response)
{
    pool_worker_spawn_response_free(*response);
}

/* The answer to a start that was waited for has the same shape, with what is true by then. */
static enum pool_code update_response(struct pool_worker_spawn_response *response,
                                      const struct pool_worker_info *worker, struct pool_error *err)
{
    char *uri = strdup(worker->uri ? worker->uri : "");
    if (!uri)
        return pool_error_no_memory(err);
    free(response->uri);
    response->uri = uri;
    response->status = worker->status;
    response->pid = worker->process.pid;
    response->port = worker->port;
    return POOL_OK;
}

static enum pool_code print_response(const struct cli *cli, const struct pool_worker_spawn_response *response,
                                     const struct pool_worker_info *worker, struct pool_error *err)
{
    if (cli->globals.is_json) {
        CLEANUP_FREE char *json = NULL;
        enum pool_code code = pool_worker_spawn_response_encode(response, &json, err);
        if (code == POOL_OK)
            print_json(cli, &json);
        return code;
    }
    print_field(cli, "id", response->worker_id);
    print_field(cli, "status", pool_worker_status_name(response->status));
    print_field_format(cli, "pid", "%" PRId64, response->pid);
    print_field_format(cli, "port", "%" PRId64, response->port);
    print_field(cli, "uri", response->uri);
    print_field(cli, "gpu", response->gpu_id);
    if (response->gpu_id)
        print_field_bytes(cli, "vram", response->reserved_vram_bytes);
    else
        print_field_bytes(cli, "memory", response->reserved_memory_bytes);
    print_field(cli, "log", response->log_path);
    if (worker && worker->ready_boottime_ns > worker->created_boottime_ns)
        print_field_format(cli, "ready after", "%" PRId64 " ms",
                           (worker->ready_boottime_ns - worker->created_boottime_ns) / 1000000);
    return POOL_OK;
}

/* Starts, and waits when asked. An interrupted wait leaves the worker, so the person learns its name. */
static enum pool_code start(const struct cli *cli, struct pool_manager *manager,
                            const struct pool_worker_spawn_request *request, int cancel_fd,
                            struct pool_error *err)
{
    CLEANUP(release_response) struct pool_worker_spawn_response *response = NULL;
    CLEANUP(release_worker) struct pool_worker_info *worker = NULL;
    enum pool_code code = pool_manager_spawn(manager, request, &response, err);
    if (code == POOL_OK && request->wait) {
        struct progress_line line = { .cli = cli, .subject = response->worker_id };
        struct pool_wait_options options = { .struct_size = sizeof options,
                                             .cancel_fd = cancel_fd,
                                             .progress = progress_of_start,
                                             .progress_context = &line };
        code = pool_manager_wait_ready(manager, response->worker_id, &options, &worker, err);
        progress_clear(&line);
        if (code == POOL_CANCELLED)
            pool_error_add_text(err, "worker_id", response->worker_id);
        if (code == POOL_OK)
            code = update_response(response, worker, err);
    }
    return code == POOL_OK ? print_response(cli, response, worker, err) : code;
}

static enum pool_code check(const struct cli *cli, struct pool_manager *manager,
                            const struct pool_worker_spawn_request *request, struct pool_error *err)
{
    CLEANUP(release_plan) struct pool_plan *plan = NULL;
    enum pool_code code = pool_manager_check(manager, request, &plan, err);
    return code == POOL_OK ? print_plan(cli, plan, err) : code;
}

static enum pool_code run_spawn(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct worker_spawn_arguments *arguments = data;
    CLEANUP(release_spawn_request) struct pool_worker_spawn_request *request = NULL;
    CLEANUP(interrupt_close) struct interrupt interrupt = INTERRUPT_INIT;
    struct pool_manager *manager = NULL;
    enum pool_code code = make_spawn_request(arguments, &request, err);
    if (code == POOL_OK)
        code = cli_get_manager(cli, &manager, err);
    if (code == POOL_OK && arguments->is_dry_run)
        return check(cli, manager, request, err);
    if (code == POOL_OK)
        code = interrupt_open(&interrupt, err);
    return code == POOL_OK ? start(cli, manager, request, interrupt.fd, err) : code;
}

#define AT(field) .offset = offsetof(struct worker_spawn_arguments, field)

static const struct cli_option options[] = {
    { .name = "model",
      .letter = 'm',
      .value = CLI_TEXT,
      .unit = "REF",
      AT(model),
      .is_required = true,
      .summary = "The model: an id of the catalog, file:/path or hf:ORG/REPO[@REV][::file=PATH]" },
    { .name = "gpu",
      .letter = 'g',
      .value = CLI_TEXT,
      .unit = "GPU",
      AT(gpu),
      .default_text = "the only one",
      .summary = "The device by its index or UUID; 'auto' takes the one with most room" },
    { .name = "port",
      .letter = 'p',
      .value = CLI_INTEGER,
      .unit = "PORT",
      AT(port),
      .max = 65535,
      .default_text = "chosen from workers.port_range",
      .summary = "The TCP port it listens on; 0 is chosen" },
    { .name = "id",
      .value = CLI_TEXT,
      .unit = "ID",
      AT(worker_id),
      .default_text = "worker- and a UUID",
      .summary = "The name of the worker" },
    { .name = "vram",
      .value = CLI_BYTES,
      .unit = "BYTES",
      AT(vram_bytes),
      .max = INT64_MAX,
      .default_text = "estimated from the model",
      .summary = "What to keep for it on its device, as 6GiB or in bytes" },
    { .name = "ctx",
      .letter = 'c',
      .value = CLI_INTEGER,
      .unit = "TOKENS",
      AT(ctx_size),
      .max = POOL_CTX_SIZE_MAX,
      .default_text = "as trained, 8192 at most",
      .summary = "Context size over all slots" },
    { .name = "parallel",
      .value = CLI_INTEGER,
      .unit = "N",
      AT(parallel),
      .max = POOL_PARALLEL_MAX,
      .default_text = "1",
      .summary = "Requests that it works on at once" },
    { .name = "arg",
      .letter = 'a',
      .value = CLI_TEXTS,
      .unit = "ARG",
      AT(extra_args),
      .summary = "One more argument for its program" },
    { .name = "env",
      .letter = 'e',
      .value = CLI_TEXTS,
      .unit = "NAME=VALUE",
      AT(env),
      .summary = "A variable of its environment" },
    { .name = "label",
      .letter = 'l',
      .value = CLI_TEXTS,
      .unit = "NAME=VALUE",
      AT(labels),
      .summary = "A label that stays with the worker" },
    { .name = "start-timeout",
      .value = CLI_INTEGER,
      .unit = "MS",
      AT(start_timeout_ms),
      .min = 1,
      .max = POOL_TIMEOUT_MAX_MS,
      .default_text = "workers.start_timeout_ms",
      .summary = "How long it may take to become ready without any progress" },
    { .name = "grace",
      .value = CLI_INTEGER,
      .unit = "MS",
      AT(grace_ms),
      .max = POOL_TIMEOUT_MAX_MS,
      .default_text = "workers.stop_grace_ms",
      .summary = "What a stop gives it between asking and killing" },
    { .name = "wait",
      .letter = 'w',
      AT(wait),
      .summary = "Return when it is ready or has failed; Ctrl-C leaves it starting" },
    { .name = "dry-run",
      .letter = 'n',
      AT(is_dry_run),
      .summary = "Check and plan everything, show the command line and the arithmetic, start nothing" },
};
static const struct cli_positional positionals[] = {
    { .name = "BACKEND",
      .value = CLI_TEXT,
      AT(backend),
      .summary = "The engine: cpu, cuda, vllm, native, or one of the configuration" },
};
static const struct cli_positional rest = {
    .name = "ARG",
    .value = CLI_TEXTS,
    AT(extra_args),
    .summary = "Behind '--': more arguments for its program",
};
static const char *const examples[] = {
    "rbees-pool worker spawn cpu --model file:/srv/models/tiny.gguf --wait",
    "rbees-pool worker spawn cuda --model qwen2.5-0.5b --gpu auto --ctx 4096 --label team=search",
    "rbees-pool worker spawn cpu --model qwen2.5-0.5b --dry-run -- --threads 4",
};

const struct cli_command worker_spawn_command = {
    .path = "worker spawn",
    .summary = "Start a worker",
    .description = "Checks that the model, the device and the port are good for it, starts the worker and "
                   "prints where it is. "
                   "It lives on when this program ends. Without --wait it is still starting then: 'worker "
                   "list' shows when it "
                   "is ready.\n\n"
                   "The exit status is 8 when it could not be started or did not become ready; the last "
                   "lines of its log are "
                   "shown.",
    CLI_OPTIONS(options),
    CLI_POSITIONALS(positionals),
    .rest = &rest,
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct worker_spawn_arguments),
    .run = run_spawn,
};
