/*
 * rbees-pool gpu topology: how the devices are connected with each other.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/device_text.h"
#include "cli/gpu_status.h"
#include "cli/json_document.h"
#include "cli/report.h"
#include "cli/topology_text.h"

#define N_MATRIX_MAX (POOL_GPU_PEERS_MAX + 1)
#define TITLE_MAX    16

/* The devices of a list, without MIG instances. */
struct devices {
    size_t n;
    const struct pool_gpu_info *at[N_MATRIX_MAX];
    size_t n_more; /* than the matrix has room for */
};

static struct devices devices_of(const struct pool_gpu_list *list)
{
    struct devices devices = { .n = 0 };
    for (size_t i = 0; i < list->n_gpus; i++) {
        if (list->gpus[i]->is_mig_instance)
            continue;
        if (devices.n < N_MATRIX_MAX)
            devices.at[devices.n++] = list->gpus[i];
        else
            devices.n_more++;
    }
    return devices;
}

static void format_mark(const struct pool_gpu_info *one, const struct pool_gpu_info *other,
                        char mark[PEER_MARK_MAX])
{
    snprintf(mark, PEER_MARK_MAX, "%s", one == other ? "X" : "-");
    for (size_t i = 0; one != other && i < one->n_peers; i++) {
        if (strcmp(one->peers[i].uuid, other->uuid) == 0 && one->peers[i].gpu_id == other->gpu_id)
            format_peer_mark(&one->peers[i], mark);
    }
}

static enum pool_code print_matrix(const struct cli *cli, const struct devices *devices,
                                   struct pool_error *err)
{
    char titles[N_MATRIX_MAX][TITLE_MAX];
    struct table_column columns[N_MATRIX_MAX + 3] = { { .title = "" } };
    size_t n_columns = 1;
    for (size_t i = 0; i < devices->n; i++) {
        snprintf(titles[i], TITLE_MAX, "GPU %" PRIu32, devices->at[i]->gpu_id);
        columns[n_columns++].title = titles[i];
    }
    columns[n_columns++] = (struct table_column){ .title = "NUMA", .is_right = true };
    columns[n_columns++] = (struct table_column){ .title = "NVLINK", .is_right = true };
    CLEANUP(table_done) struct table table;
    table_init(&table, &cli->terminal, columns, n_columns);
    for (size_t i = 0; i < devices->n; i++) {
        table_add_styled(&table, STYLE_HEAD, titles[i]);
        for (size_t k = 0; k < devices->n; k++) {
            char mark[PEER_MARK_MAX];
            format_mark(devices->at[i], devices->at[k], mark);
            table_add_styled(&table, strncmp(mark, "NV", 2) == 0 ? STYLE_GOOD : STYLE_PLAIN, mark);
        }
        if (devices->at[i]->numa_node.is_present)
            table_printf(&table, "%" PRId64, devices->at[i]->numa_node.value);
        else
            table_add(&table, NULL);
        add_nvlinks_cell(&table, devices->at[i]);
    }
    return table_print(&table, cli->out) ? POOL_OK : pool_error_no_memory(err);
}

static bool is_used(const struct devices *devices, const struct topology_mark *mark)
{
    for (size_t i = 0; i < devices->n; i++) {
        for (size_t k = i + 1; k < devices->n; k++) {
            char text[PEER_MARK_MAX];
            format_mark(devices->at[i], devices->at[k], text);
            if (topology_mark_of(text) == mark)
                return true;
        }
    }
    return false;
}

static bool is_divided(const struct pool_gpu_info *gpu)
{
    return gpu->mig_enabled.is_present && gpu->mig_enabled.value == 1;
}

static void print_legend(const struct cli *cli, const struct devices *devices)
{
    fputc('\n', cli->out);
    for (const struct topology_mark *mark = topology_marks; mark->mark; mark++) {
        if (is_used(devices, mark))
            fprintf(cli->out, "%-4s  %s\n", mark->mark, mark->meaning);
    }
    for (size_t i = 0; i < devices->n; i++) {
        if (is_divided(devices->at[i]))
            fprintf(cli->out, "GPU %" PRIu32 " is divided: its MIG instances can not use these connections\n",
                    devices->at[i]->gpu_id);
    }
    if (devices->n_more > 0)
        fprintf(cli->out, "%zu more GPUs are not shown\n", devices->n_more);
}

static void print_one(const struct cli *cli, const struct pool_gpu_list *list,
                      const struct pool_gpu_info *gpu)
{
    CLEANUP(strbuf_done) struct strbuf links = STRBUF_INIT(256);
    fprintf(cli->out, "one GPU: there is no pair to show\n");
    print_field_format(cli, "gpu", "%" PRIu32, gpu->gpu_id);
    print_field(cli, "name", gpu->name);
    if (gpu->numa_node.is_present)
        print_field_format(cli, "numa node", "%" PRId64, gpu->numa_node.value);
    describe_nvlinks(list, gpu, &links);
    print_field(cli, "nvlinks", links.n > 0 ? strbuf_text(&links) : "not known: the driver does not tell");
}

static enum pool_code print_topology(const struct cli *cli, const struct pool_gpu_list *list,
                                     struct pool_error *err)
{
    struct devices devices = devices_of(list);
    if (devices.n == 0) {
        print_no_gpus(cli, list);
        return POOL_OK;
    }
    report_notice(cli, list->reason);
    if (devices.n == 1) {
        print_one(cli, list, devices.at[0]);
        return POOL_OK;
    }
    enum pool_code code = print_matrix(cli, &devices, err);
    if (code == POOL_OK)
        print_legend(cli, &devices);
    return code;
}

/* Of the objects of 'gpu list' what is about connections. */
static enum pool_code print_topology_document(const struct cli *cli, const struct pool_gpu_list *list,
                                              struct pool_error *err)
{
    static const char *const names[] = { "gpu_id",    "uuid",        "name",    "pci_bus_id",
                                         "numa_node", "mig_enabled", "nvlinks", "peers" };
    char *text = NULL;
    enum pool_code code = pool_gpu_list_encode(list, NULL, 0, &text, err);
    if (code != POOL_OK)
        return code;
    CLEANUP_JSON json_t *whole = json_of_encoded(&text);
    CLEANUP_JSON json_t *gpus = json_array();
    const json_t *all = json_object_get(whole, "gpus");
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *gpu = json_array_get(all, i);
        if (json_is_true(json_object_get(gpu, "mig_instance")))
            continue;
        CLEANUP_JSON json_t *one = json_object();
        for (size_t k = 0; k < CLI_COUNT(names); k++) {
            if (json_object_set(one, names[k], json_object_get(gpu, names[k])) < 0)
                return pool_error_no_memory(err);
        }
        if (json_array_append(gpus, one) < 0)
            return pool_error_no_memory(err);
    }
    CLEANUP_JSON json_t *document =
        whole ? json_pack("{s:O, s:O, s:O}", "gpus", gpus, "source", json_object_get(whole, "source"),
                          "reason", json_object_get(whole, "reason"))
              : NULL;
    return print_document(cli, document, err);
}

static enum pool_code run_topology(struct cli *cli, const void *data, struct pool_error *err)
{
    (void)data;
    CLEANUP(release_gpus) struct pool_gpu_list *list = NULL;
    const struct pool_config *config;
    enum pool_code code = get_gpus(cli, &list, &config, err);
    if (code != POOL_OK)
        return code;
    return cli->globals.is_json ? print_topology_document(cli, list, err) : print_topology(cli, list, err);
}

static const char *const examples[] = { "rbees-pool gpu topology", "rbees-pool gpu topology --json" };

const struct cli_command gpu_topology_command = {
    .path = "gpu topology",
    .summary = "Show how the GPUs are connected",
    .description = "Shows for each pair of devices what connects them, in the marks of 'nvidia-smi topo -m': "
                   "NVLinks and how "
                   "many (direct ones, or over NVSwitches as many as the one with fewer has), else how near "
                   "they are on PCIe. "
                   "NUMA is the node that a device is nearest to, NVLINK how many of its links are active. "
                   "It is how they are "
                   "wired; whether a program may use it is the driver's matter. MIG instances have no way to "
                   "each other but by "
                   "the host, and are not shown. With one GPU there is no pair, and its own links are said; "
                   "without any, why "
                   "there is none.",
    CLI_EXAMPLES(examples),
    .run = run_topology,
};
