/*
 * Devices and their memory as people read them.
 */
#include "cli/device_text.h"

#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/topology_text.h"

static void add_bytes_cell(struct table *table, bool is_known, int64_t bytes)
{
    char text[HUMAN_BYTES_MAX];
    if (is_known)
        format_bytes(bytes, text);
    table_add(table, is_known ? text : NULL);
}

static void add_reading(struct table *table, struct pool_reading reading, const char *unit)
{
    if (reading.is_present)
        table_printf(table, "%" PRId64 "%s", reading.value, unit);
    else
        table_add(table, NULL);
}

static void add_power(struct table *table, const struct pool_gpu_info *gpu)
{
    if (!gpu->power_usage_mw.is_present)
        table_add(table, NULL);
    else if (gpu->power_limit_mw.is_present)
        table_printf(table, "%" PRId64 "/%" PRId64 " W", gpu->power_usage_mw.value / 1000,
                     gpu->power_limit_mw.value / 1000);
    else
        table_printf(table, "%" PRId64 " W", gpu->power_usage_mw.value / 1000);
}

/* An unhealthy one that somebody cordoned says both. */
static void add_health(struct table *table, const struct pool_gpu_info *gpu)
{
    if (gpu->is_cordoned) {
        table_printf(table, "%s%scordoned: %s", gpu->health_reason, gpu->health_reason[0] ? "; " : "",
                     gpu->cordon_reason);
        return;
    }
    if (gpu->health != POOL_GPU_HEALTHY)
        table_add_styled(table, STYLE_BAD, gpu->health_reason[0] ? gpu->health_reason : "unhealthy");
    else if (!gpu->is_placeable)
        table_add_styled(table, STYLE_DIM, "divided");
    else
        table_add_styled(table, STYLE_GOOD, "healthy");
}

void print_no_gpus(const struct cli *cli, const struct pool_gpu_list *list)
{
    fputs("no GPUs", cli->out);
    if (list->reason[0]) {
        fputs(": ", cli->out);
        terminal_print(&cli->terminal, cli->out, list->reason);
    }
    fputc('\n', cli->out);
}

enum pool_code print_gpu_table(const struct cli *cli, const struct pool_gpu_list *list, bool verbose,
                               struct pool_error *err)
{
    static const struct table_column columns[] = {
        { .title = "GPU", .is_right = true },
        { .title = "NAME", .may_shrink = true },
        { .title = "VRAM", .is_right = true },
        { .title = "USED", .is_right = true },
        { .title = "FREE", .is_right = true },
        { .title = "TEMP", .is_right = true },
        { .title = "POWER", .is_right = true },
        { .title = "LOAD", .is_right = true },
        { .title = "HEALTH", .may_shrink = true },
        { .title = "UUID" },
        { .title = "BUS" },
        { .title = "DRIVER" },
        { .title = "NUMA", .is_right = true },
        { .title = "NVLINK", .is_right = true },
    };
    CLEANUP(table_done) struct table table;
    table_init(&table, &cli->terminal, columns, verbose ? CLI_COUNT(columns) : CLI_COUNT(columns) - 5);
    for (size_t i = 0; i < list->n_gpus; i++) {
        const struct pool_gpu_info *gpu = list->gpus[i];
        table_printf(&table, "%" PRIu32, gpu->gpu_id);
        table_add(&table, gpu->name);
        add_bytes_cell(&table, gpu->is_vram_known, gpu->vram_total_bytes);
        add_bytes_cell(&table, gpu->is_vram_known, gpu->vram_used_bytes);
        add_bytes_cell(&table, gpu->is_vram_known, gpu->vram_free_bytes);
        add_reading(&table, gpu->temperature_celsius, cli->terminal.is_utf8 ? " °C" : " C");
        add_power(&table, gpu);
        add_reading(&table, gpu->utilization_percent, " %");
        add_health(&table, gpu);
        if (verbose) {
            table_add(&table, gpu->uuid);
            table_add(&table, gpu->pci_bus_id);
            table_add(&table, gpu->driver_version);
            add_reading(&table, gpu->numa_node, "");
            add_nvlinks_cell(&table, gpu);
        }
    }
    return table_print(&table, cli->out) ? POOL_OK : pool_error_no_memory(err);
}

/* Cells for a share of the whole; what is there at all gets one. */
static int64_t cells_of(int64_t bytes, int64_t total_bytes)
{
    if (bytes <= 0 || total_bytes <= 0)
        return 0;
    if (bytes >= total_bytes)
        return LEDGER_BAR_CELLS;
    int64_t cells = bytes / (total_bytes / LEDGER_BAR_CELLS + 1);
    return cells > 0 ? cells : 1;
}

void format_ledger_bar(const struct terminal *terminal, const struct pool_ledger *ledger,
                       char text[LEDGER_BAR_MAX])
{
    const char *const *marks =
        terminal->is_utf8 ? (const char *const[]){ "█", "▒", "░" } : (const char *const[]){ "#", "+", "." };
    int64_t ours = cells_of(ledger->allocated_bytes, ledger->total_bytes);
    int64_t foreign = cells_of(ledger->foreign_bytes, ledger->total_bytes);
    text[0] = '\0';
    for (int64_t i = 0; i < LEDGER_BAR_CELLS; i++)
        strncat(text, marks[i < ours ? 0 : i < ours + foreign ? 1 : 2], LEDGER_BAR_MAX - strlen(text) - 1);
}

const struct pool_ledger *ledger_of_device(const struct pool_status_response *status, const char *device)
{
    for (size_t i = 0; i < status->n_ledgers; i++) {
        if (strcmp(status->ledgers[i].device, device) == 0)
            return &status->ledgers[i];
    }
    return NULL;
}
