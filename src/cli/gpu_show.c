/*
 * rbees-pool gpu show: all that is known of one device, and who has what of it.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/device_text.h"
#include "cli/gpu_status.h"
#include "cli/json_document.h"
#include "cli/report.h"
#include "cli/topology_text.h"

struct gpu_show_arguments {
    const char *gpu;
};

static void print_bytes(const struct cli *cli, const char *name, bool is_known, int64_t bytes)
{
    if (is_known)
        print_field_bytes(cli, name, bytes);
}

static void print_reading(const struct cli *cli, const char *name, struct pool_reading reading,
                          const char *unit)
{
    if (reading.is_present)
        print_field_format(cli, name, "%" PRId64 "%s", reading.value, unit);
}

static void print_switch(const struct cli *cli, const char *name, struct pool_reading reading)
{
    if (reading.is_present)
        print_field(cli, name, reading.value ? "on" : "off");
}

/* Unknown when the cordons could not be read. */
static void print_cordoned_since(const struct cli *cli, int64_t wall_ms)
{
    char text[RFC3339_MAX];
    if (wall_ms == 0)
        return;
    clock_format_rfc3339(wall_ms, text);
    print_field(cli, "since", text);
}

static void print_identity(const struct cli *cli, const struct pool_gpu_info *gpu)
{
    print_field_format(cli, "gpu", "%" PRIu32, gpu->gpu_id);
    print_field(cli, "uuid", gpu->uuid);
    print_field(cli, "name", gpu->name);
    if (gpu->is_mig_instance)
        print_field(cli, "part of", gpu->parent_uuid);
    if (gpu->pci_bus_id[0])
        print_field(cli, "bus", gpu->pci_bus_id);
    if (gpu->driver_version[0])
        print_field(cli, "driver", gpu->driver_version);
    if (gpu->cuda_version.is_present)
        print_field_format(cli, "cuda", "%" PRId64 ".%" PRId64, gpu->cuda_version.value / 1000,
                           gpu->cuda_version.value / 10 % 100);
    if (gpu->compute_capability_major.is_present && gpu->compute_capability_minor.is_present)
        print_field_format(cli, "capability", "%" PRId64 ".%" PRId64, gpu->compute_capability_major.value,
                           gpu->compute_capability_minor.value);
    print_field(cli, "health", gpu->health == POOL_GPU_HEALTHY ? "healthy" : gpu->health_reason);
    if (gpu->is_cordoned) {
        print_field(cli, "cordoned", gpu->cordon_reason);
        print_cordoned_since(cli, gpu->cordoned_wall_ms);
    }
    if (!gpu->is_placeable)
        print_field(cli, "placeable", "no: it is divided, its instances are");
}

static void print_readings(const struct cli *cli, const struct pool_gpu_info *gpu)
{
    print_reading(cli, "temperature", gpu->temperature_celsius, cli->terminal.is_utf8 ? " °C" : " C");
    if (gpu->power_usage_mw.is_present)
        print_field_format(cli, "power", "%" PRId64 " W", gpu->power_usage_mw.value / 1000);
    if (gpu->power_limit_mw.is_present)
        print_field_format(cli, "power limit", "%" PRId64 " W", gpu->power_limit_mw.value / 1000);
    print_reading(cli, "load", gpu->utilization_percent, " %");
    print_reading(cli, "memory load", gpu->memory_utilization_percent, " %");
    print_switch(cli, "ecc", gpu->ecc_enabled);
    print_reading(cli, "ecc fixed", gpu->ecc_corrected_errors, "");
    print_reading(cli, "ecc lost", gpu->ecc_uncorrected_errors, "");
    print_switch(cli, "mig", gpu->mig_enabled);
    print_switch(cli, "persistence", gpu->persistence_enabled);
}

static void print_connections(const struct cli *cli, const struct pool_gpu_list *list,
                              const struct pool_gpu_info *gpu)
{
    CLEANUP(strbuf_done) struct strbuf links = STRBUF_INIT(256);
    char name[32];
    char mark[PEER_MARK_MAX];
    print_reading(cli, "numa node", gpu->numa_node, "");
    describe_nvlinks(list, gpu, &links);
    if (links.n > 0)
        print_field(cli, "nvlinks", strbuf_text(&links));
    for (size_t i = 0; i < gpu->n_peers; i++) {
        const struct pool_gpu_peer *peer = &gpu->peers[i];
        format_peer_mark(peer, mark);
        if (strcmp(mark, "-") == 0)
            continue;
        snprintf(name, sizeof name, "to GPU %" PRIu32, peer->gpu_id);
        if (peer->nvlinks.value > 0)
            print_field_format(cli, name, "%s (%" PRId64 " NVLink%s%s)", mark, peer->nvlinks.value,
                               peer->nvlinks.value == 1 ? "" : "s",
                               peer->is_through_nvswitch ? " through NVSwitches" : "");
        else
            print_field_format(cli, name, "%s (%s)", mark, topology_mark_of(mark)->meaning);
    }
}

static void print_memory(const struct cli *cli, const struct pool_gpu_info *gpu,
                         const struct pool_ledger *ledger)
{
    print_bytes(cli, "vram", gpu->is_vram_known, gpu->vram_total_bytes);
    print_bytes(cli, "used", gpu->is_vram_known, gpu->vram_used_bytes);
    print_bytes(cli, "free", gpu->is_vram_known, gpu->vram_free_bytes);
    if (!ledger)
        return;
    print_field_bytes(cli, "ours", ledger->allocated_bytes);
    print_field_bytes(cli, "promised", ledger->pending_bytes);
    if (ledger->elsewhere_bytes > 0)
        print_field_bytes(cli, "elsewhere", ledger->elsewhere_bytes);
    if (ledger->releasing_bytes > 0)
        print_field_bytes(cli, "releasing", ledger->releasing_bytes);
    print_field_bytes(cli, "others", ledger->foreign_bytes);
    print_field_bytes(cli, "headroom", ledger->headroom_bytes);
    print_field_bytes(cli, "available", ledger->available_bytes);
    print_field_format(cli, "workers", "%" PRId64, ledger->n_workers);
}

/* The object that the list of devices has for it. */
static enum pool_code print_gpu_document(const struct cli *cli, const struct pool_status_response *status,
                                         const struct pool_gpu_info *gpu, struct pool_error *err)
{
    char *text = NULL;
    enum pool_code code = pool_gpu_list_encode(status->gpus, status->ledgers, status->n_ledgers, &text, err);
    if (code != POOL_OK)
        return code;
    CLEANUP_JSON json_t *document = json_of_encoded(&text);
    const json_t *list = json_object_get(document, "gpus");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        const char *uuid = json_string_value(json_object_get(one, "uuid"));
        if (uuid && strcmp(uuid, gpu->uuid) == 0)
            return print_document(cli, one, err);
    }
    return pool_error_no_memory(err);
}

static enum pool_code run_show(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct gpu_show_arguments *arguments = data;
    CLEANUP(release_status) struct pool_status_response *status = NULL;
    const struct pool_gpu_info *gpu = NULL;
    enum pool_code code = get_status(cli, &status, err);
    if (code == POOL_OK)
        code = find_gpu(status, arguments->gpu, &gpu, err);
    if (code != POOL_OK)
        return code;
    if (cli->globals.is_json)
        return print_gpu_document(cli, status, gpu, err);
    print_identity(cli, gpu);
    print_memory(cli, gpu, ledger_of_device(status, gpu->uuid));
    print_readings(cli, gpu);
    print_connections(cli, status->gpus, gpu);
    return POOL_OK;
}

static const struct cli_positional positionals[] = {
    { .name = "GPU",
      .value = CLI_TEXT,
      .offset = offsetof(struct gpu_show_arguments, gpu),
      .summary = "The device by its index or UUID" },
};
static const char *const examples[] = { "rbees-pool gpu show 0", "rbees-pool gpu show 0 --json" };

const struct cli_command gpu_show_command = {
    .path = "gpu show",
    .summary = "Show all that is known of a GPU",
    .description =
        "Shows one device: what it is, how it is, and how its memory is divided: what our workers hold or "
        "were "
        "promised, what others hold, and what is available for the next worker, and how it is connected with "
        "the others, by the marks of 'gpu topology'. What the driver does not tell is left out.",
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct gpu_show_arguments),
    .run = run_show,
};
