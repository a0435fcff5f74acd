/*
 * The wiring between devices. It is asked for once and remembered, since it does not change from one refresh to the
 * next and costs a hundred calls a device: again when a device comes, comes back or changes its mode, and for links
 * once in a while. What both ends of a link must say is believed as far as both say it.
 *
 * Source: nvml.h (API 13): links are numbered from 0 to NVML_NVLINK_MAX_LINKS (6 at first, 36 today; drivers answer
 * INVALID_ARGUMENT beyond their own), the remote's PCI info lacks the subsystem's id, and a remote may be an NVSwitch.
 */
#include "core/gpu/nvml_topology.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/gpu/inventories.h"

/* One device that is asked. */
struct question {
    const struct nvml_library *nvml;
    void *handle;
    bool is_lost;
};

static bool is_answered(struct question *q, int rc)
{
    q->is_lost = q->is_lost || rc == NVML_GPU_IS_LOST || rc == NVML_RESET_REQUIRED;
    return rc == NVML_SUCCESS;
}

/* ---- links ---- */

static enum pool_nvlink_remote read_remote(struct question *q, unsigned link)
{
    unsigned device = UINT32_MAX;
    if (!q->nvml->get_link_device || q->is_lost ||
        !is_answered(q, q->nvml->get_link_device(q->handle, link, &device)))
        return POOL_NVLINK_UNKNOWN;
    switch (device) {
    case NVML_LINK_GPU: return POOL_NVLINK_GPU;
    case NVML_LINK_CPU: return POOL_NVLINK_CPU;
    case NVML_LINK_SWITCH: return POOL_NVLINK_SWITCH;
    default: return POOL_NVLINK_UNKNOWN;
    }
}

static void read_remote_bus_id(struct question *q, struct pool_nvlink *link)
{
    union {
        struct nvml_pci_info_v3 info;
        char room[512]; /* for a library with a longer structure */
    } pci = { .room = "" };
    if (!q->nvml->get_link_pci_info || q->is_lost ||
        !is_answered(q, q->nvml->get_link_pci_info(q->handle, link->link, &pci.info)))
        return;
    pci.info.bus_id[sizeof pci.info.bus_id - 1] = '\0';
    nvml_text_clean(pci.info.bus_id);
    memcpy(link->remote_pci_bus_id, pci.info.bus_id, sizeof link->remote_pci_bus_id);
}

static void read_far_end(struct question *q, struct pool_nvlink *link)
{
    unsigned version = 0;
    if (q->nvml->get_link_version && !q->is_lost &&
        is_answered(q, q->nvml->get_link_version(q->handle, link->link, &version)) && version > 0 &&
        version <= UINT8_MAX)
        link->version = (struct pool_reading){ true, version };
    link->remote = read_remote(q, link->link);
    read_remote_bus_id(q, link);
}

/* The answers that mean that there is no such link, as against those that mean nothing. */
static bool is_no_link(int rc)
{
    return rc == NVML_NOT_SUPPORTED || rc == NVML_INVALID_ARGUMENT;
}

/*
 * Every number is asked, since a link that is not there may come before one that is (bridges of PCIe boards). What is
 * remembered stays when the device is lost on the way.
 */
static void read_links(struct question *q, struct nvml_links *links)
{
    struct nvml_links fresh = { .is_asked = true, .are_known = true };
    for (unsigned number = 0; q->nvml->get_link_state && number < POOL_NVLINKS_MAX && !q->is_lost; number++) {
        unsigned state = UINT32_MAX;
        int rc = q->nvml->get_link_state(q->handle, number, &state);
        if (is_answered(q, rc) && state <= 1) {
            struct pool_nvlink *link = &fresh.links[fresh.n++];
            *link = (struct pool_nvlink){ .link = number, .is_active = state == 1 };
            if (link->is_active)
                read_far_end(q, link);
        } else if (!is_no_link(rc)) {
            fresh.are_known = false;
        }
    }
    if (q->is_lost)
        return;
    fresh.are_known = q->nvml->get_link_state && (fresh.are_known || fresh.n > 0);
    memcpy(fresh.uuid, links->uuid, sizeof fresh.uuid);
    fresh.mig_enabled = links->mig_enabled;
    *links = fresh;
}

/* ---- pairs ---- */

static enum pool_gpu_ancestor ancestor_of_level(int level)
{
    switch (level) {
    case NVML_TOPOLOGY_INTERNAL: return POOL_GPU_ANCESTOR_INTERNAL;
    case NVML_TOPOLOGY_SINGLE: return POOL_GPU_ANCESTOR_SINGLE;
    case NVML_TOPOLOGY_MULTIPLE: return POOL_GPU_ANCESTOR_MULTIPLE;
    case NVML_TOPOLOGY_HOSTBRIDGE: return POOL_GPU_ANCESTOR_HOSTBRIDGE;
    case NVML_TOPOLOGY_NODE: return POOL_GPU_ANCESTOR_NODE;
    case NVML_TOPOLOGY_SYSTEM: return POOL_GPU_ANCESTOR_SYSTEM;
    default: return POOL_GPU_ANCESTOR_UNKNOWN;
    }
}

static enum pool_gpu_ancestor read_ancestor(const struct nvml_library *nvml, void *one, void *other)
{
    int level = -1;
    if (!nvml->get_common_ancestor || nvml->get_common_ancestor(one, other, &level) != NVML_SUCCESS)
        return POOL_GPU_ANCESTOR_UNKNOWN;
    return ancestor_of_level(level);
}

/* ---- what is asked ---- */

/* The devices of a list by index, without MIG instances; NULL for those that are not in it. */
struct shown {
    struct pool_gpu_info *gpus[NVML_TOPOLOGY_DEVICES_MAX];
};

static struct shown show(const struct pool_gpu_list *list)
{
    struct shown shown = { { NULL } };
    for (size_t i = 0; i < list->n_gpus; i++) {
        struct pool_gpu_info *gpu = list->gpus[i];
        if (!gpu->is_mig_instance && gpu->gpu_id < NVML_TOPOLOGY_DEVICES_MAX)
            shown.gpus[gpu->gpu_id] = gpu;
    }
    return shown;
}

static bool is_same_reading(struct pool_reading a, struct pool_reading b)
{
    return a.is_present == b.is_present && (!a.is_present || a.value == b.value);
}

/* Forgets what is remembered of another device under this index, or of the same in another mode. */
static void recognise(struct nvml_topology *topology, size_t index, const struct pool_gpu_info *gpu)
{
    struct nvml_links *links = &topology->devices[index];
    if (gpu && strcmp(links->uuid, gpu->uuid) == 0) {
        links->is_asked = links->is_asked && is_same_reading(links->mig_enabled, gpu->mig_enabled);
        links->mig_enabled = gpu->mig_enabled;
        return;
    }
    if (!gpu && links->uuid[0] == '\0')
        return;
    *links = (struct nvml_links){ .is_asked = false };
    if (gpu) {
        memcpy(links->uuid, gpu->uuid, sizeof links->uuid);
        links->mig_enabled = gpu->mig_enabled;
    }
    for (size_t i = 0; i < NVML_TOPOLOGY_DEVICES_MAX; i++)
        topology->ancestors[i][index] = topology->ancestors[index][i] = POOL_GPU_ANCESTOR_UNKNOWN;
}

static void grow_old(struct nvml_topology *topology, int64_t now_ns)
{
    if (topology->asked_boottime_ns != 0 && now_ns - topology->asked_boottime_ns < NVML_TOPOLOGY_AGE_NS)
        return;
    topology->asked_boottime_ns = now_ns;
    for (size_t i = 0; i < NVML_TOPOLOGY_DEVICES_MAX; i++)
        topology->devices[i].is_asked = false;
}

static void ask(struct nvml_topology *topology, const struct nvml_library *nvml,
                const struct nvml_device *devices, size_t n, const struct shown *shown)
{
    bool is_asked[NVML_TOPOLOGY_DEVICES_MAX] = { false }; /* now */
    bool may_ask[NVML_TOPOLOGY_DEVICES_MAX] = { false };
    for (size_t i = 0; i < n; i++) {
        const struct pool_gpu_info *gpu = shown->gpus[i];
        may_ask[i] = gpu && gpu->health == POOL_GPU_HEALTHY && devices[i].has_handle;
        if (!may_ask[i] || topology->devices[i].is_asked)
            continue;
        struct question q = { .nvml = nvml, .handle = devices[i].handle };
        read_links(&q, &topology->devices[i]);
        is_asked[i] = may_ask[i] = !q.is_lost;
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t k = i + 1; k < n; k++) {
            if (may_ask[i] && may_ask[k] && (is_asked[i] || is_asked[k]))
                topology->ancestors[i][k] =
                    (unsigned char)read_ancestor(nvml, devices[i].handle, devices[k].handle);
        }
    }
}

/* ---- what is told ---- */

/* To a GPU, as far as is told. */
static bool is_direct(const struct pool_nvlink *link)
{
    return link->is_active && (link->remote == POOL_NVLINK_GPU || link->remote == POOL_NVLINK_UNKNOWN);
}

static bool leads_to(const struct pool_nvlink *link, const struct pool_gpu_info *gpu)
{
    return is_direct(link) && gpu->pci_bus_id[0] != '\0' &&
           strcasecmp(link->remote_pci_bus_id, gpu->pci_bus_id) == 0;
}

/* Whether a device tells how many of its links lead to another: not with links to nobody knows where. */
static bool tells_direct(const struct pool_gpu_info *from, const struct pool_gpu_info *to, int64_t *ret_n)
{
    int64_t n = 0;
    for (size_t i = 0; i < from->n_nvlinks; i++) {
        const struct pool_nvlink *link = &from->nvlinks[i];
        if (is_direct(link) && (link->remote == POOL_NVLINK_UNKNOWN || link->remote_pci_bus_id[0] == '\0' ||
                                to->pci_bus_id[0] == '\0'))
            return false;
        n += leads_to(link, to);
    }
    *ret_n = n;
    return from->are_nvlinks_known;
}

static int64_t count_switched(const struct pool_gpu_info *gpu)
{
    int64_t n = 0;
    for (size_t i = 0; i < gpu->n_nvlinks; i++)
        n += gpu->nvlinks[i].is_active && gpu->nvlinks[i].remote == POOL_NVLINK_SWITCH;
    return n;
}

static int64_t fewer(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Links of which only one end tells are believed; of two that disagree, the one with fewer is. */
static void set_links(const struct pool_gpu_info *from, const struct pool_gpu_info *to,
                      struct pool_gpu_peer *peer)
{
    int64_t there = 0;
    int64_t back = 0;
    int64_t switched = fewer(count_switched(from), count_switched(to));
    bool is_told_there = tells_direct(from, to, &there);
    bool is_told_back = tells_direct(to, from, &back);
    if (!is_told_there && !is_told_back && switched == 0)
        return;
    if (is_told_there && is_told_back)
        there = fewer(there, back);
    else if (is_told_back)
        there = back;
    peer->nvlinks = (struct pool_reading){ true, there + switched };
    peer->is_through_nvswitch = switched > 0;
}

static bool tell_links(const struct nvml_links *links, struct pool_gpu_info *gpu)
{
    gpu->are_nvlinks_known = links->are_known;
    if (links->n == 0)
        return true;
    gpu->nvlinks = calloc(links->n, sizeof *gpu->nvlinks);
    if (!gpu->nvlinks)
        return false;
    memcpy(gpu->nvlinks, links->links, links->n * sizeof *gpu->nvlinks);
    gpu->n_nvlinks = links->n;
    return true;
}

/* A library that does not tell what a link leads to: to one of our devices, if it has the address of one. */
static void name_remotes(const struct shown *shown, struct pool_gpu_info *gpu)
{
    for (size_t i = 0; i < gpu->n_nvlinks; i++) {
        for (size_t k = 0; k < NVML_TOPOLOGY_DEVICES_MAX; k++) {
            if (shown->gpus[k] && leads_to(&gpu->nvlinks[i], shown->gpus[k]))
                gpu->nvlinks[i].remote = POOL_NVLINK_GPU;
        }
    }
}

static bool tell_peers(const struct nvml_topology *topology, const struct shown *shown,
                       struct pool_gpu_info *gpu)
{
    size_t n = 0;
    for (size_t i = 0; i < NVML_TOPOLOGY_DEVICES_MAX; i++)
        n += shown->gpus[i] && shown->gpus[i] != gpu;
    gpu->peers = n > 0 ? calloc(n, sizeof *gpu->peers) : NULL;
    if (n > 0 && !gpu->peers)
        return false;
    for (size_t i = 0; i < NVML_TOPOLOGY_DEVICES_MAX; i++) {
        const struct pool_gpu_info *other = shown->gpus[i];
        if (!other || other == gpu)
            continue;
        size_t low = fewer(gpu->gpu_id, other->gpu_id) == gpu->gpu_id ? gpu->gpu_id : other->gpu_id;
        size_t high = low == gpu->gpu_id ? other->gpu_id : gpu->gpu_id;
        struct pool_gpu_peer *peer = &gpu->peers[gpu->n_peers++];
        peer->gpu_id = other->gpu_id;
        memcpy(peer->uuid, other->uuid, sizeof peer->uuid);
        peer->common_ancestor = topology->ancestors[low][high];
        set_links(gpu, other, peer);
    }
    return true;
}

static bool tell(const struct nvml_topology *topology, const struct shown *shown,
                 const struct pool_gpu_list *list)
{
    bool has_memory = true;
    for (size_t i = 0; i < NVML_TOPOLOGY_DEVICES_MAX; i++) {
        if (shown->gpus[i])
            has_memory = has_memory && tell_links(&topology->devices[i], shown->gpus[i]);
    }
    for (size_t i = 0; i < NVML_TOPOLOGY_DEVICES_MAX; i++) {
        if (shown->gpus[i])
            name_remotes(shown, shown->gpus[i]);
    }
    for (size_t i = 0; i < NVML_TOPOLOGY_DEVICES_MAX; i++) {
        if (shown->gpus[i])
            has_memory = has_memory && tell_peers(topology, shown, shown->gpus[i]);
    }
    for (size_t i = 0; i < list->n_gpus; i++) /* NVIDIA, MIG User Guide: no peer-to-peer, no NVLink */
        list->gpus[i]->are_nvlinks_known = list->gpus[i]->are_nvlinks_known || list->gpus[i]->is_mig_instance;
    return has_memory;
}

enum pool_code nvml_topology_read(struct nvml_topology *topology, const struct nvml_library *nvml,
                                  const struct nvml_device *devices, size_t n_devices,
                                  struct pool_gpu_list *list, struct pool_error *err)
{
    struct shown shown = show(list);
    size_t n = n_devices < NVML_TOPOLOGY_DEVICES_MAX ? n_devices : NVML_TOPOLOGY_DEVICES_MAX;
    grow_old(topology, list->taken_boottime_ns);
    for (size_t i = 0; i < NVML_TOPOLOGY_DEVICES_MAX; i++)
        recognise(topology, i, shown.gpus[i]);
    ask(topology, nvml, devices, n, &shown);
    return tell(topology, &shown, list) ? POOL_OK : pool_error_no_memory(err);
}
