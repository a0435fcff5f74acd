/*
 * rbees-pool gpu processes: who holds which bytes.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/gpu_status.h"
#include "cli/json_document.h"
#include "cli/report.h"
#include "cli/table.h"

struct gpu_processes_arguments {
    const char *gpu;
};

static bool is_wanted(const struct pool_gpu_info *gpu, const struct pool_gpu_info *only)
{
    return !only || only == gpu;
}

static void add_row(struct table *table, const struct pool_gpu_info *gpu,
                    const struct pool_gpu_process *process, const struct gpu_process_owner *owner)
{
    char bytes[HUMAN_BYTES_MAX];
    table_printf(table, "%" PRIu32, gpu->gpu_id);
    if (process->pid > 0)
        table_printf(table, "%" PRId64, process->pid);
    else
        table_add(table, "hidden");
    if (process->used_vram_bytes.is_present)
        format_bytes(process->used_vram_bytes.value, bytes);
    table_add(table, process->used_vram_bytes.is_present ? bytes : NULL);
    table_add_styled(table, owner->worker_id ? STYLE_GOOD : STYLE_PLAIN, owner->worker_id);
    table_add(table, owner->user[0] ? owner->user : NULL);
    table_add(table, owner->command[0] ? owner->command : NULL);
}

static void notice_unknown(const struct cli *cli, const struct pool_gpu_info *gpu)
{
    char bytes[HUMAN_BYTES_MAX];
    char text[160];
    if (gpu->is_vram_known && gpu->vram_used_bytes == 0)
        return; /* nobody does */
    snprintf(bytes, sizeof bytes, "memory");
    if (gpu->is_vram_known)
        format_bytes(gpu->vram_used_bytes, bytes);
    snprintf(text, sizeof text, "the driver does not tell who holds %s of GPU %" PRIu32, bytes, gpu->gpu_id);
    report_notice(cli, text);
}

static enum pool_code print_table(const struct cli *cli, const struct pool_status_response *status,
                                  const struct pool_attribution *attribution,
                                  const struct pool_gpu_info *only, struct pool_error *err)
{
    static const struct table_column columns[] = {
        { .title = "GPU", .is_right = true },    { .title = "PID", .is_right = true },
        { .title = "VRAM", .is_right = true },   { .title = "WORKER" },
        { .title = "USER", .may_shrink = true }, { .title = "COMMAND", .may_shrink = true },
    };
    CLEANUP(table_done) struct table table;
    table_init(&table, &cli->terminal, columns, CLI_COUNT(columns));
    for (size_t i = 0; i < status->gpus->n_gpus; i++) {
        const struct pool_gpu_info *gpu = status->gpus->gpus[i];
        if (!is_wanted(gpu, only))
            continue;
        if (!gpu->are_processes_known && gpu->is_placeable)
            notice_unknown(cli, gpu);
        for (size_t k = 0; k < gpu->n_processes; k++) {
            struct gpu_process_owner owner;
            find_process_owner(status, attribution, gpu, &gpu->processes[k], &owner);
            add_row(&table, gpu, &gpu->processes[k], &owner);
        }
    }
    return table_print(&table, cli->out) ? POOL_OK : pool_error_no_memory(err);
}

static json_t *json_of_process(const struct pool_gpu_info *gpu, const struct pool_gpu_process *process,
                               const struct gpu_process_owner *owner)
{
    json_t *bytes =
        process->used_vram_bytes.is_present ? json_integer(process->used_vram_bytes.value) : json_null();
    json_t *pid = process->pid > 0 ? json_integer(process->pid) : json_null();
    return json_pack("{s:I, s:o, s:o, s:o, s:b, s:o, s:o, s:o}", "gpu_id", (json_int_t)gpu->gpu_id,
                     "gpu_uuid", json_of_text(gpu->uuid), "pid", pid, "used_vram_bytes", bytes, "graphics",
                     process->is_graphics, "worker_id", json_of_text(owner->worker_id), "user",
                     json_of_text(owner->user[0] ? owner->user : NULL), "command",
                     json_of_text(owner->command[0] ? owner->command : NULL));
}

static enum pool_code print_processes_document(const struct cli *cli,
                                               const struct pool_status_response *status,
                                               const struct pool_attribution *attribution,
                                               const struct pool_gpu_info *only, struct pool_error *err)
{
    CLEANUP_JSON json_t *processes = json_array();
    CLEANUP_JSON json_t *silent = json_array();
    for (size_t i = 0; i < status->gpus->n_gpus; i++) {
        const struct pool_gpu_info *gpu = status->gpus->gpus[i];
        if (!is_wanted(gpu, only))
            continue;
        if (!gpu->are_processes_known && gpu->is_placeable &&
            json_array_append_new(silent, json_of_text(gpu->uuid)) < 0)
            return pool_error_no_memory(err);
        for (size_t k = 0; k < gpu->n_processes; k++) {
            struct gpu_process_owner owner;
            find_process_owner(status, attribution, gpu, &gpu->processes[k], &owner);
            if (json_array_append_new(processes, json_of_process(gpu, &gpu->processes[k], &owner)) < 0)
                return pool_error_no_memory(err);
        }
    }
    CLEANUP_JSON json_t *document = json_pack("{s:O, s:O}", "processes", processes, "silent_gpus", silent);
    return print_document(cli, document, err);
}

static enum pool_code run_processes(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct gpu_processes_arguments *arguments = data;
    CLEANUP(release_status) struct pool_status_response *status = NULL;
    CLEANUP(release_attribution) struct pool_attribution *attribution = NULL;
    const struct pool_gpu_info *only = NULL;
    enum pool_code code = get_status(cli, &status, err);
    if (code == POOL_OK && arguments->gpu)
        code = find_gpu(status, arguments->gpu, &only, err);
    if (code == POOL_OK && !status->gpus)
        code = pool_error_set(err, POOL_GPU_UNAVAILABLE, "the daemon does not know the GPUs");
    if (code == POOL_OK)
        code = attribute_processes(cli, status, &attribution, err);
    if (code != POOL_OK)
        return code;
    return cli->globals.is_json ? print_processes_document(cli, status, attribution, only, err)
                                : print_table(cli, status, attribution, only, err);
}

static const struct cli_positional positionals[] = {
    { .name = "GPU",
      .value = CLI_TEXT,
      .offset = offsetof(struct gpu_processes_arguments, gpu),
      .is_optional = true,
      .summary = "Only of this device, by its index or UUID" },
};
static const char *const examples[] = { "rbees-pool gpu processes", "rbees-pool gpu processes 0 --json" };

const struct cli_command gpu_processes_command = {
    .path = "gpu processes",
    .summary = "Show who holds memory of the GPUs",
    .description = "Lists the processes that the driver tells of: those of our workers by the worker's name, "
                   "others by user and "
                   "command where they can be seen. A driver tells the pids of the host; inside of a "
                   "container they mean nothing, "
                   "and only what the driver says is shown. With --json 'silent_gpus' are those whose driver "
                   "does not tell.",
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct gpu_processes_arguments),
    .run = run_processes,
};
