/*
 * The marks of nvidia-smi topo -m and links in words; see topology_text.h.
 */
#include "cli/topology_text.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

const struct topology_mark topology_marks[] = {
    { "NV#", "# NVLinks, direct or through NVSwitches" },
    { "PIX", "one board, or one PCIe switch" },
    { "PXB", "several PCIe switches, no host bridge" },
    { "PHB", "the PCIe host bridge of a processor" },
    { "NODE", "several PCIe host bridges of one NUMA node" },
    { "SYS", "PCIe and what connects the NUMA nodes" },
    { "-", "the driver does not tell" },
    { NULL, NULL },
};

static const char *const ancestor_marks[] = {
    [POOL_GPU_ANCESTOR_UNKNOWN] = "-",      [POOL_GPU_ANCESTOR_INTERNAL] = "PIX",
    [POOL_GPU_ANCESTOR_SINGLE] = "PIX",     [POOL_GPU_ANCESTOR_MULTIPLE] = "PXB",
    [POOL_GPU_ANCESTOR_HOSTBRIDGE] = "PHB", [POOL_GPU_ANCESTOR_NODE] = "NODE",
    [POOL_GPU_ANCESTOR_SYSTEM] = "SYS",
};

void format_peer_mark(const struct pool_gpu_peer *peer, char text[PEER_MARK_MAX])
{
    if (peer->nvlinks.is_present && peer->nvlinks.value > 0)
        snprintf(text, PEER_MARK_MAX, "NV%" PRId64, peer->nvlinks.value);
    else
        snprintf(text, PEER_MARK_MAX, "%s", ancestor_marks[peer->common_ancestor]);
}

const struct topology_mark *topology_mark_of(const char *mark)
{
    const struct topology_mark *row = topology_marks;
    if (strncmp(mark, "NV", 2) == 0)
        return row;
    while (row[1].mark && strcmp(row->mark, mark) != 0)
        row++;
    return row;
}

size_t count_active_nvlinks(const struct pool_gpu_info *gpu)
{
    size_t n = 0;
    for (size_t i = 0; i < gpu->n_nvlinks; i++)
        n += gpu->nvlinks[i].is_active;
    return n;
}

void add_nvlinks_cell(struct table *table, const struct pool_gpu_info *gpu)
{
    if (!gpu->are_nvlinks_known)
        table_add(table, NULL);
    else if (gpu->n_nvlinks == 0)
        table_add(table, "0");
    else
        table_printf(table, "%zu/%zu", count_active_nvlinks(gpu), gpu->n_nvlinks);
}

static bool is_listed(const struct pool_gpu_list *list, const char *pci_bus_id)
{
    for (size_t i = 0; i < list->n_gpus; i++) {
        if (strcasecmp(list->gpus[i]->pci_bus_id, pci_bus_id) == 0)
            return true;
    }
    return false;
}

void describe_nvlinks(const struct pool_gpu_list *list, const struct pool_gpu_info *gpu, struct strbuf *text)
{
    size_t n_switched = 0;
    size_t n_elsewhere = 0;
    if (!gpu->are_nvlinks_known)
        return;
    if (gpu->n_nvlinks == 0) {
        strbuf_add_text(text, gpu->is_mig_instance ? "none: a MIG instance can not use those of its device"
                                                   : "none");
        return;
    }
    for (size_t i = 0; i < gpu->n_nvlinks; i++) {
        const struct pool_nvlink *link = &gpu->nvlinks[i];
        n_switched += link->is_active && link->remote == POOL_NVLINK_SWITCH;
        n_elsewhere +=
            link->is_active && link->remote == POOL_NVLINK_GPU && !is_listed(list, link->remote_pci_bus_id);
    }
    strbuf_printf(text, "%zu of %zu active", count_active_nvlinks(gpu), gpu->n_nvlinks);
    if (n_switched > 0)
        strbuf_printf(text, ", %zu to NVSwitches", n_switched);
    if (n_elsewhere > 0)
        strbuf_printf(text, ", %zu to GPUs that are not listed", n_elsewhere);
}
