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
#include "base/clock.h"
#include "base/random.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/remote.h"
#include "cli/report.h"
#include "cli/worker_plan.h"
#include "cli/worker_spawn_request.h"
#include "cli/worker_text.h"

static void release_response(struct pool_worker_spawn_response **response)
{
    pool_worker_spawn_response_free(*response);
}

static void release_remote_plan(struct pool_plan **plan)
{
    remote_plan_free(*plan);
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

/* What a row says of a start, in the shape of the answer to one; its strings are lent. */
static struct pool_worker_spawn_response response_of(const struct pool_worker_info *worker)
{
    return (struct pool_worker_spawn_response){ .worker_id = worker->worker_id,
                                                .status = worker->status,
                                                .pid = worker->process.pid,
                                                .port = worker->port,
                                                .uri = worker->uri,
                                                .gpu_id = worker->gpu_uuid,
                                                .reserved_vram_bytes =
                                                    worker->gpu_uuid ? worker->reserved_bytes : 0,
                                                .reserved_memory_bytes =
                                                    worker->gpu_uuid ? 0 : worker->reserved_bytes,
                                                .log_path = worker->log_path };
}

/* Its starter went away between the intent and the process: nothing of it ever ran, and nothing is doubled by another start. */
static bool is_undone(const struct pool_worker_info *worker)
{
    return worker->status == POOL_WORKER_STOPPED && worker->stop_reason == POOL_STOP_START_FAILED &&
           worker->process.pid == 0;
}

/*
 * A start whose daemon went away before it answered may have happened. Its worker is known by an id that was chosen
 * before, and by being younger than this command.
 */
static enum pool_code find_earlier_start(struct cli *cli, struct pool_worker_info **ret_worker,
                                         struct pool_error *err)
{
    CLEANUP(release_worker) struct pool_worker_info *worker = NULL;
    if (cli->n_runs == 0)
        return POOL_OK;
    enum pool_code code = get_worker(cli, cli->spawn_id, &worker, err);
    if (code == POOL_OK && worker->created_wall_ms >= cli->began_wall_ms && !is_undone(worker))
        *ret_worker = take_ptr(&worker);
    return code == POOL_WORKER_NOT_FOUND ? POOL_OK : code;
}

static enum pool_code spawn(struct cli *cli, const struct pool_worker_spawn_request *request, int cancel_fd,
                            struct pool_worker_spawn_response **ret_response, struct pool_error *err)
{
    struct remote_http *daemon;
    struct pool_manager *manager;
    enum pool_code code = cli_get_pool(cli, &daemon, &manager, err);
    if (code != POOL_OK)
        return code;
    if (daemon)
        return remote_spawn(cli, request, cancel_fd, ret_response, err);
    interrupt_end_program(true);
    code = pool_manager_spawn(manager, request, ret_response, err);
    interrupt_end_program(false);
    return code;
}

/* Waits for the worker of this command. *ret_is_undone: its start was, by who came after a daemon that went away. */
static enum pool_code wait_for_start(struct cli *cli, int cancel_fd, bool *ret_is_undone,
                                     struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(release_worker) struct pool_worker_info *worker = NULL;
    enum pool_code code = wait_for_worker(cli, cli->spawn_id, cancel_fd, ret_worker, err);
    *ret_is_undone = code == POOL_WORKER_START_FAILED && cli->n_runs > 0 &&
                     get_worker(cli, cli->spawn_id, &worker, NULL) == POOL_OK && is_undone(worker);
    return code;
}

/* Starts, and waits when asked. An interrupted wait leaves the worker, so the person learns its name. */
static enum pool_code start(struct cli *cli, const struct pool_worker_spawn_request *request, int cancel_fd,
                            struct pool_error *err)
{
    CLEANUP(release_response) struct pool_worker_spawn_response *response = NULL;
    CLEANUP(release_worker) struct pool_worker_info *worker = NULL;
    enum pool_code code = find_earlier_start(cli, &worker, err);
    bool is_earlier = worker != NULL;
    if (code == POOL_OK && !is_earlier)
        code = spawn(cli, request, cancel_fd, &response, err);
    if (code == POOL_OK && request->wait) {
        bool is_undone = false;
        pool_worker_info_free(take_ptr(&worker));
        code = wait_for_start(cli, cancel_fd, &is_undone, &worker, err);
        if (is_earlier && is_undone) {
            if (err)
                *err = (struct pool_error){ 0 };
            code = spawn(cli, request, cancel_fd, &response, err);
            if (code == POOL_OK)
                code = wait_for_start(cli, cancel_fd, &is_undone, &worker, err);
        }
        if (code == POOL_CANCELLED)
            pool_error_add_text(err, "worker_id", cli->spawn_id);
    }
    if (code != POOL_OK)
        return code;
    if (worker) {
        struct pool_worker_spawn_response now = response_of(worker);
        return print_response(cli, &now, worker, err);
    }
    return response ? print_response(cli, response, NULL, err)
                    : pool_error_set(err, POOL_INTERNAL, "a start without an answer");
}

static enum pool_code check(struct cli *cli, const struct pool_worker_spawn_request *request, int cancel_fd,
                            struct pool_error *err)
{
    CLEANUP(release_plan) struct pool_plan *plan = NULL;
    struct remote_http *daemon;
    struct pool_manager *manager;
    enum pool_code code = cli_get_pool(cli, &daemon, &manager, err);
    if (code == POOL_OK && daemon) {
        CLEANUP(release_remote_plan) struct pool_plan *told = NULL;
        code = remote_check(cli, request, cancel_fd, &told, err);
        return code == POOL_OK ? print_plan(cli, told, err) : code;
    }
    if (code == POOL_OK)
        code = pool_manager_check(manager, request, &plan, err);
    return code == POOL_OK ? print_plan(cli, plan, err) : code;
}

/* The id is chosen here, once, so that a worker can be found again whatever becomes of the answer to its start. */
static enum pool_code choose_id(struct cli *cli, struct pool_worker_spawn_request *request,
                                struct pool_error *err)
{
    char uuid[UUID_TEXT_MAX];
    if (cli->n_runs == 0) {
        cli->began_wall_ms = clock_wall_ms();
        if (!request->worker_id && !random_uuid(uuid))
            return pool_error_set(err, POOL_INTERNAL, "the kernel has no random numbers");
        if (request->worker_id)
            snprintf(cli->spawn_id, sizeof cli->spawn_id, "%s", request->worker_id);
        else
            snprintf(cli->spawn_id, sizeof cli->spawn_id, "worker-%s", uuid);
    }
    if (!request->worker_id)
        request->worker_id = strdup(cli->spawn_id);
    return request->worker_id ? POOL_OK : pool_error_no_memory(err);
}

static enum pool_code run_spawn(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct worker_spawn_arguments *arguments = data;
    CLEANUP(release_spawn_request) struct pool_worker_spawn_request *request = NULL;
    CLEANUP(interrupt_close) struct interrupt interrupt = INTERRUPT_INIT;
    enum pool_code code = make_spawn_request(arguments, &request, err);
    if (code == POOL_OK)
        code = choose_id(cli, request, err);
    if (code == POOL_OK && arguments->is_dry_run)
        return check(cli, request, -1, err);
    if (code == POOL_OK)
        code = interrupt_open(&interrupt, err);
    return code == POOL_OK ? start(cli, request, interrupt.fd, err) : code;
}

#define AT(field) .offset = offsetof(struct worker_spawn_arguments, field)

static const struct cli_option options[] = {
    { .name = "model",
      .field = "model_ref",
      .letter = 'm',
      .value = CLI_TEXT,
      .unit = "REF",
      AT(model),
      .is_required = true,
      .summary = "The model: an id of the catalog, file:/path or hf:ORG/REPO[@REV][::file=PATH]" },
    { .name = "gpu",
      .field = "gpu_id",
      .letter = 'g',
      .value = CLI_TEXT,
      .unit = "GPU",
      AT(gpu),
      .default_text = "the only one",
      .summary = "The device by its index or UUID; 'auto' takes the one that it fits most tightly, and 'A,B' "
                 "is one worker over several" },
    { .name = "split",
      .value = CLI_TEXT,
      .unit = "N,N",
      AT(split),
      .default_text = "by how much room each has",
      .summary = "How much of it goes to each of several devices" },
    { .name = "port",
      .field = "port",
      .letter = 'p',
      .value = CLI_INTEGER,
      .unit = "PORT",
      AT(port),
      .max = 65535,
      .default_text = "chosen from workers.port_range",
      .summary = "The TCP port it listens on; 0 is chosen" },
    { .name = "id",
      .field = "worker_id",
      .value = CLI_TEXT,
      .unit = "ID",
      AT(worker_id),
      .default_text = "worker- and a UUID",
      .summary = "The name of the worker" },
    { .name = "vram",
      .field = "required_vram_bytes",
      .value = CLI_BYTES,
      .unit = "BYTES",
      AT(vram_bytes),
      .max = INT64_MAX,
      .default_text = "estimated from the model",
      .summary = "What to keep for it on its device, as 6GiB or in bytes" },
    { .name = "ctx",
      .field = "ctx_size",
      .letter = 'c',
      .value = CLI_INTEGER,
      .unit = "TOKENS",
      AT(ctx_size),
      .max = POOL_CTX_SIZE_MAX,
      .default_text = "as trained, 8192 at most",
      .summary = "Context size over all slots" },
    { .name = "parallel",
      .field = "parallel",
      .value = CLI_INTEGER,
      .unit = "N",
      AT(parallel),
      .max = POOL_PARALLEL_MAX,
      .default_text = "1",
      .summary = "Requests that it works on at once" },
    { .name = "arg",
      .field = "extra_args",
      .letter = 'a',
      .value = CLI_TEXTS,
      .unit = "ARG",
      AT(extra_args),
      .summary = "One more argument for its program" },
    { .name = "env",
      .field = "env",
      .letter = 'e',
      .value = CLI_TEXTS,
      .unit = "NAME=VALUE",
      AT(env),
      .summary = "A variable of its environment" },
    { .name = "label",
      .field = "labels",
      .letter = 'l',
      .value = CLI_TEXTS,
      .unit = "NAME=VALUE",
      AT(labels),
      .summary = "A label that stays with the worker" },
    { .name = "may-displace",
      .field = "may_displace",
      .value = CLI_TEXTS,
      .unit = "ID|NAME=VALUE",
      AT(may_displace),
      .summary =
          "A worker that may be stopped to make room: by its id, or all that have these labels; no more "
          "of them than it takes" },
    { .name = "displace-busy",
      AT(may_displace_busy),
      .summary = "With --may-displace: also workers that have requests, or do not say" },
    { .name = "start-timeout",
      .field = "start_timeout_ms",
      .value = CLI_INTEGER,
      .unit = "MS",
      AT(start_timeout_ms),
      .min = 1,
      .max = POOL_TIMEOUT_MAX_MS,
      .default_text = "workers.start_timeout_ms",
      .summary = "How long it may take to become ready without any progress" },
    { .name = "grace",
      .field = "stop_grace_ms",
      .value = CLI_INTEGER,
      .unit = "MS",
      AT(grace_ms),
      .max = POOL_TIMEOUT_MAX_MS,
      .default_text = "workers.stop_grace_ms",
      .summary = "What a stop gives it between asking and killing" },
    { .name = "idle-timeout",
      .field = "idle_timeout_ms",
      .value = CLI_INTEGER,
      .unit = "MS",
      AT(idle_timeout_ms),
      .max = POOL_TIMEOUT_MAX_MS,
      .default_text = "0, never",
      .summary = "Stop it after so long without a request; a daemon has to watch it" },
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
      .field = "backend",
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
    "rbees-pool worker spawn cuda --model qwen2.5-0.5b --may-displace team=batch --dry-run",
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
