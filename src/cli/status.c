/*
 * rbees-pool status: everything at one moment.
 */
#include <inttypes.h>
#include <stdlib.h>

#include <pool/lifecycle.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/device_text.h"
#include "cli/gpu_status.h"
#include "cli/remote.h"
#include "cli/report.h"

static void add_bytes_cell(struct table *table, int64_t bytes)
{
    char text[HUMAN_BYTES_MAX];
    format_bytes(bytes, text);
    table_add(table, text);
}

static void add_ledger(struct table *table, const char *device, const char *name,
                       const struct pool_ledger *ledger)
{
    char bar[LEDGER_BAR_MAX];
    table_add(table, device);
    table_add(table, name);
    if (!ledger) {
        for (int i = 0; i < 6; i++)
            table_add(table, NULL);
        return;
    }
    format_ledger_bar(table->terminal, ledger, bar);
    table_add(table, bar);
    add_bytes_cell(table, ledger->total_bytes);
    add_bytes_cell(table, ledger->allocated_bytes);
    add_bytes_cell(table, ledger->foreign_bytes);
    add_bytes_cell(table, ledger->available_bytes);
    table_printf(table, "%" PRId64, ledger->n_workers);
}

static bool print_devices(const struct cli *cli, const struct pool_status_response *status)
{
    static const struct table_column columns[] = {
        { .title = "DEVICE" },
        { .title = "NAME", .may_shrink = true },
        { .title = "MEMORY" },
        { .title = "TOTAL", .is_right = true },
        { .title = "OURS", .is_right = true },
        { .title = "OTHERS", .is_right = true },
        { .title = "AVAILABLE", .is_right = true },
        { .title = "WORKERS", .is_right = true },
    };
    CLEANUP(table_done) struct table table;
    table_init(&table, &cli->terminal, columns, CLI_COUNT(columns));
    for (size_t i = 0; status->gpus && i < status->gpus->n_gpus; i++) {
        const struct pool_gpu_info *gpu = status->gpus->gpus[i];
        char device[32];
        snprintf(device, sizeof device, "gpu %" PRIu32, gpu->gpu_id);
        add_ledger(&table, device, gpu->health == POOL_GPU_HEALTHY ? gpu->name : gpu->health_reason,
                   ledger_of_device(status, gpu->uuid));
    }
    add_ledger(&table, "host", "memory", ledger_of_device(status, "host"));
    return table_print(&table, cli->out);
}

static void print_workers(const struct cli *cli, const struct pool_worker_list *workers)
{
    size_t n_of[POOL_WORKER_N_STATUSES] = { 0 };
    size_t n_unhealthy = 0;
    for (size_t i = 0; i < workers->n_workers; i++) {
        n_of[workers->workers[i]->status]++;
        n_unhealthy += !workers->workers[i]->is_healthy;
    }
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(1024);
    strbuf_printf(&text, "%zu", workers->n_workers);
    const char *separator = " (";
    for (int i = 0; i < POOL_WORKER_N_STATUSES; i++) {
        if (n_of[i] == 0)
            continue;
        strbuf_printf(&text, "%s%zu %s", separator, n_of[i],
                      pool_worker_status_name((enum pool_worker_status)i));
        separator = ", ";
    }
    if (n_unhealthy > 0)
        strbuf_printf(&text, ", %zu unhealthy", n_unhealthy);
    if (workers->n_workers > 0)
        strbuf_add_char(&text, ')');
    print_field(cli, "workers", strbuf_text(&text));
}

/* What pools of other state directories have promised of the same devices. */
static void print_elsewhere(const struct cli *cli, const struct pool_status_response *status)
{
    char bytes[HUMAN_BYTES_MAX];
    for (size_t i = 0; i < status->n_ledgers; i++) {
        const struct pool_ledger *ledger = &status->ledgers[i];
        if (ledger->elsewhere_bytes <= 0)
            continue;
        format_bytes(ledger->elsewhere_bytes, bytes);
        print_field_format(cli, "elsewhere", "%s of %s promised by another manager (state %.8s)", bytes,
                           ledger->device, ledger->elsewhere_state_id);
    }
}

static enum pool_code print_status(struct cli *cli, const struct pool_status_response *status,
                                   struct pool_error *err)
{
    const struct pool_config *config = NULL;
    bool is_ours = !cli->daemon || cli_shares_state(cli); /* else its configuration is not known */
    enum pool_code code = is_ours ? cli_get_config(cli, &config, err) : POOL_OK;
    if (code != POOL_OK)
        return code;
    print_field(cli, "pool", status->pool_id);
    if (config)
        print_field(cli, "state", config->state_dir);
    else
        print_field(cli, "daemon", remote_http_address(cli->daemon)->name);
    print_workers(cli, status->workers);
    if (config)
        print_field_format(cli, "free ports", "%" PRId64 " of %" PRId64 "-%" PRId64, status->n_ports_free,
                           config->port_first, config->port_last);
    else
        print_field_format(cli, "free ports", "%" PRId64, status->n_ports_free);
    if (status->gpus && status->gpus->reason[0])
        print_field(cli, "GPUs", status->gpus->reason);
    if (status->gpus && status->gpus->n_gpus > 0 && status->gpu_locks.reason[0])
        print_field(cli, status->gpu_locks.is_shared ? "other pools" : "others unseen",
                    status->gpu_locks.reason);
    print_elsewhere(cli, status);
    fputc('\n', cli->out);
    return print_devices(cli, status) ? POOL_OK : pool_error_no_memory(err);
}

static enum pool_code run_status(struct cli *cli, const void *data, struct pool_error *err)
{
    (void)data;
    CLEANUP(release_status) struct pool_status_response *status = NULL;
    CLEANUP_FREE char *json = NULL;
    enum pool_code code = get_status(cli, &status, err);
    if (code != POOL_OK)
        return code;
    if (!cli->globals.is_json)
        return print_status(cli, status, err);
    code = pool_status_response_encode(status, &json, err);
    if (code == POOL_OK)
        print_json(cli, &json);
    return code;
}

static const char *const examples[] = { "rbees-pool status", "rbees-pool status --json" };

const struct cli_command status_command = {
    .path = "status",
    .summary = "Show the pool: devices, memory, workers",
    .description =
        "Shows how the memory of each device and of the host is divided: what our workers hold or were "
        "promised, what others hold, and what is available for the next worker (free, less what is "
        "promised but not taken yet, here and by other pools of this host, less the headroom).",
    CLI_EXAMPLES(examples),
    .run = run_status,
};
