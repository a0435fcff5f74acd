/*
 * The fields of GPUs, their processes, their ledgers, and of the state of the whole pool.
 */
#include <pool/api.h>

#include "core/api/tables.h"

#define AT(member) offsetof(struct pool_gpu_process, member)
static const struct field gpu_process_fields[] = {
    { "pid", FIELD_INTEGER, AT(pid), FIELD_ZERO_IS_NULL,
      .about = "the process, in the host's pid namespace; null: hidden from us" },
    { "used_vram_bytes", FIELD_READING, AT(used_vram_bytes), 0,
      .about = "what it holds; null: the driver does not tell" },
    { "gpu_instance_id", FIELD_READING, AT(gpu_instance_id), 0, .about = "the MIG instance it runs on" },
    { "graphics", FIELD_BOOL, AT(is_graphics), 0, .about = "it draws rather than computes" },
};
#undef AT
FIELD_TABLE(gpu_process_table, struct pool_gpu_process, "GpuProcess", false, gpu_process_fields);

#define NAME_ROW(name, text) text,
static const char *const remote_names[] = { POOL_NVLINK_REMOTES(NAME_ROW) };
static const char *const ancestor_names[] = { POOL_GPU_ANCESTORS(NAME_ROW) };
#undef NAME_ROW
#define NAMES(list) .names = (list), .n_names = sizeof(list) / sizeof(list)[0]

_Static_assert(sizeof(enum pool_nvlink_remote) == sizeof(unsigned),
               "an ENUM is read and written as unsigned");
_Static_assert(sizeof(enum pool_gpu_ancestor) == sizeof(unsigned), "an ENUM is read and written as unsigned");

#define AT(member) offsetof(struct pool_nvlink, member)
static const struct field nvlink_fields[] = {
    { "link", FIELD_UINT32, AT(link), 0, .about = "its number on the device" },
    { "active", FIELD_BOOL, AT(is_active), 0, .about = "false: nothing is plugged in, or it is down" },
    { "version", FIELD_READING, AT(version), 0,
      .about = "as the driver numbers it; older and newer ones do differently" },
    { "remote", FIELD_ENUM, AT(remote), FIELD_ZERO_IS_NULL,
      .about = "what an active one leads to; null: the driver does not tell", NAMES(remote_names) },
    { "remote_pci_bus_id", FIELD_CHARS, AT(remote_pci_bus_id), 0,
      .about = "where that sits, which may be a GPU that is not listed",
      .capacity = sizeof(((struct pool_nvlink *)0)->remote_pci_bus_id) },
};
#undef AT
FIELD_TABLE(nvlink_table, struct pool_nvlink, "NvLink", false, nvlink_fields);

#define AT(member) offsetof(struct pool_gpu_peer, member)
static const struct field gpu_peer_fields[] = {
    { "gpu_id", FIELD_UINT32, AT(gpu_id), 0, .about = "index of the other device" },
    { "uuid", FIELD_CHARS, AT(uuid), 0, .about = "what the other device is", .capacity = POOL_GPU_UUID_MAX },
    { "common_ancestor", FIELD_ENUM, AT(common_ancestor), FIELD_ZERO_IS_NULL,
      .about = "what their ways on PCIe have in common, the nearest first; null: the driver does not tell",
      NAMES(ancestor_names) },
    { "nvlinks", FIELD_READING, AT(nvlinks), 0,
      .about = "active NVLinks between the two, direct or over NVSwitches; null: the driver does not tell" },
    { "nvswitch", FIELD_BOOL, AT(is_through_nvswitch), 0, .about = "they go over NVSwitches" },
};
#undef AT
FIELD_TABLE(gpu_peer_table, struct pool_gpu_peer, "GpuPeer", false, gpu_peer_fields);
#undef NAMES

#define AT(member)   offsetof(struct pool_gpu_info, member)
#define SIZE(member) sizeof(((struct pool_gpu_info *)0)->member)
#define VRAM         .known_offset = AT(is_vram_known)
static const struct field gpu_fields[] = {
    { "gpu_id", FIELD_UINT32, AT(gpu_id), 0,
      .about = "index in the driver's order, for people; may change at a reboot" },
    { "uuid", FIELD_CHARS, AT(uuid), 0, .about = "what the device is; null: it does not say",
      .capacity = SIZE(uuid) },
    { "name", FIELD_CHARS, AT(name), 0, .about = "the product", .capacity = SIZE(name) },
    { "vram_total_bytes", FIELD_INTEGER, AT(vram_total_bytes), FIELD_IF_KNOWN, .about = "all of its memory",
      VRAM },
    { "vram_free_bytes", FIELD_INTEGER, AT(vram_free_bytes), FIELD_IF_KNOWN,
      .about = "free, as the driver says", VRAM },
    { "vram_used_bytes", FIELD_INTEGER, AT(vram_used_bytes), FIELD_IF_KNOWN,
      .about = "allocated by processes", VRAM },
    { "vram_reserved_bytes", FIELD_READING, AT(vram_reserved_bytes), 0,
      .about = "taken by driver and firmware" },
    { "pci_bus_id", FIELD_CHARS, AT(pci_bus_id), 0, .about = "where it sits", .capacity = SIZE(pci_bus_id) },
    { "driver_version", FIELD_CHARS, AT(driver_version), 0, .about = "version of the driver",
      .capacity = SIZE(driver_version) },
    { "cuda_version", FIELD_READING, AT(cuda_version), 0,
      .about = "newest CUDA of the driver, 1000 * major + 10 * minor" },
    { "compute_capability_major", FIELD_READING, AT(compute_capability_major), 0, .about = "8 of 8.9" },
    { "compute_capability_minor", FIELD_READING, AT(compute_capability_minor), 0, .about = "9 of 8.9" },
    { "temperature_celsius", FIELD_READING, AT(temperature_celsius), 0, .about = "of the chip" },
    { "power_usage_mw", FIELD_READING, AT(power_usage_mw), 0, .about = "what it draws" },
    { "power_limit_mw", FIELD_READING, AT(power_limit_mw), 0, .about = "what it may draw" },
    { "utilization_percent", FIELD_READING, AT(utilization_percent), 0,
      .about = "time its compute units were busy" },
    { "memory_utilization_percent", FIELD_READING, AT(memory_utilization_percent), 0,
      .about = "time its memory was accessed, not occupancy" },
    { "ecc_enabled", FIELD_FLAG_READING, AT(ecc_enabled), 0, .about = "its memory corrects errors" },
    { "ecc_corrected_errors", FIELD_READING, AT(ecc_corrected_errors), 0,
      .about = "since the driver was loaded" },
    { "ecc_uncorrected_errors", FIELD_READING, AT(ecc_uncorrected_errors), 0,
      .about = "since the driver was loaded" },
    { "mig_enabled", FIELD_FLAG_READING, AT(mig_enabled), 0, .about = "it is split into MIG instances" },
    { "mig_instance", FIELD_BOOL, AT(is_mig_instance), 0, .about = "it is a MIG instance" },
    { "parent_uuid", FIELD_CHARS, AT(parent_uuid), 0, .about = "of a MIG instance: its device",
      .capacity = SIZE(parent_uuid) },
    { "placeable", FIELD_BOOL, AT(is_placeable), 0,
      .about = "workers can be placed on it; not on a device in MIG mode" },
    { "persistence_enabled", FIELD_FLAG_READING, AT(persistence_enabled), 0,
      .about = "the driver stays loaded without users" },
    { "minor_number", FIELD_READING, AT(minor_number), 0, .about = "N of /dev/nvidiaN" },
    { "numa_node", FIELD_READING, AT(numa_node), 0, .about = "the NUMA node it is nearest to" },
    { "healthy", FIELD_IS_FIRST, AT(health), 0, .about = "false: lost, needs a reset, or can not be read" },
    { "health_reason", FIELD_CHARS, AT(health_reason), 0, .about = "why it is not healthy",
      .capacity = SIZE(health_reason) },
    { "processes", FIELD_OBJECTS, AT(processes), FIELD_IF_KNOWN,
      .about = "who holds memory of it; null: the driver does not tell", .n_offset = AT(n_processes),
      .known_offset = AT(are_processes_known), .table = &gpu_process_table },
    { "cordoned", FIELD_BOOL, AT(is_cordoned), 0, .about = "no new worker is placed on it" },
    { "cordon_reason", FIELD_CHARS, AT(cordon_reason), 0, .about = "why it is cordoned",
      .capacity = SIZE(cordon_reason) },
    { "cordoned_at", FIELD_TIME, AT(cordoned_wall_ms), 0, .about = "since when it is cordoned" },
    { "nvlinks", FIELD_OBJECTS, AT(nvlinks), FIELD_IF_KNOWN,
      .about = "the NVLinks it has; null: the driver does not tell", .n_offset = AT(n_nvlinks),
      .known_offset = AT(are_nvlinks_known), .table = &nvlink_table },
    { "peers", FIELD_OBJECTS, AT(peers), 0,
      .about = "how it is connected with the other devices; none: it is the only one, a MIG instance, or "
               "nothing is known",
      .n_offset = AT(n_peers), .table = &gpu_peer_table },
};
#undef VRAM
#undef SIZE
#undef AT
FIELD_TABLE(gpu_table, struct pool_gpu_info, "Gpu", false, gpu_fields);

#define AT(member) offsetof(struct pool_gpu_cordon_request, member)
static const struct field cordon_request_fields[] = {
    { "reason", FIELD_TEXT, AT(reason), 0, .about = "why, for people; absent: \"requested\"",
      .grammar = GRAMMAR_LINE, .max_bytes = POOL_CORDON_REASON_MAX },
};
#undef AT
FIELD_TABLE(gpu_cordon_request_table, struct pool_gpu_cordon_request, "GpuCordonRequest", true,
            cordon_request_fields);

#define AT(member)   offsetof(struct pool_gpu_cordon, member)
#define SIZE(member) sizeof(((struct pool_gpu_cordon *)0)->member)
static const struct field cordon_fields[] = {
    { "gpu_id", FIELD_INTEGER, AT(gpu_id), FIELD_NEGATIVE_IS_NULL,
      .about = "index, for people; null: the driver does not list it" },
    { "uuid", FIELD_CHARS, AT(uuid), FIELD_REQUIRED, .about = "the device", .capacity = SIZE(uuid) },
    { "cordoned", FIELD_BOOL, AT(is_cordoned), 0, .about = "no new worker is placed on it" },
    { "reason", FIELD_CHARS, AT(reason), 0, .about = "why", .capacity = SIZE(reason) },
    { "cordoned_at", FIELD_TIME, AT(since_wall_ms), 0, .about = "since when" },
};
#undef SIZE
#undef AT
FIELD_TABLE(gpu_cordon_table, struct pool_gpu_cordon, "GpuCordon", false, cordon_fields);

#define AT(member)   offsetof(struct pool_gpu_list, member)
#define SIZE(member) sizeof(((struct pool_gpu_list *)0)->member)
static const struct field gpu_list_fields[] = {
    { "source", FIELD_CHARS, AT(source), 0, .about = "where the facts come from: \"nvml\" or \"static\"",
      .capacity = SIZE(source) },
    { "reason", FIELD_CHARS, AT(reason), 0, .about = "why the list is empty or part of it is missing",
      .capacity = SIZE(reason) },
    { "taken_boottime_ns", FIELD_INTEGER, AT(taken_boottime_ns), FIELD_ZERO_IS_NULL,
      .about = "when they were taken, by CLOCK_BOOTTIME of the host" },
};
#undef SIZE
#undef AT
FIELD_TABLE(gpu_list_table, struct pool_gpu_list, "GpuInventory", false, gpu_list_fields);

#define AT(member) offsetof(struct pool_ledger, member)
static const struct field ledger_fields[] = {
    { "device", FIELD_CHARS, AT(device), FIELD_REQUIRED,
      .about = "UUID of the device, or \"host\" for the host's memory", .capacity = POOL_GPU_UUID_MAX },
    { "total_bytes", FIELD_INTEGER, AT(total_bytes), 0, .about = "all there is" },
    { "used_bytes", FIELD_INTEGER, AT(used_bytes), 0, .about = "in use by anybody" },
    { "free_bytes", FIELD_INTEGER, AT(free_bytes), 0, .about = "free, as the driver (or the kernel) says" },
    { "pending_bytes", FIELD_INTEGER, AT(pending_bytes), 0,
      .about = "promised to workers, not yet taken by them" },
    { "releasing_bytes", FIELD_INTEGER, AT(releasing_bytes), 0,
      .about = "of stopped workers, not yet shown as free" },
    { "headroom_bytes", FIELD_INTEGER, AT(headroom_bytes), 0, .about = "never given away" },
    { "available_bytes", FIELD_INTEGER, AT(available_bytes), 0,
      .about = "free - pending - elsewhere - headroom: what a start may need" },
    { "allocated_bytes", FIELD_INTEGER, AT(allocated_bytes), 0,
      .about = "what our workers hold or were promised" },
    { "foreign_bytes", FIELD_INTEGER, AT(foreign_bytes), 0, .about = "what everybody else holds" },
    { "workers", FIELD_INTEGER, AT(n_workers), 0, .about = "how many of our workers are on it" },
    { "elsewhere_bytes", FIELD_INTEGER, AT(elsewhere_bytes), 0,
      .about = "promised to workers of other managers of this host, not yet taken by them" },
    { "elsewhere_state_id", FIELD_CHARS, AT(elsewhere_state_id), 0,
      .about = "the manager that promised most of it",
      .capacity = sizeof(((struct pool_ledger *)0)->elsewhere_state_id) },
};
#undef AT
FIELD_TABLE(ledger_table, struct pool_ledger, "Ledger", false, ledger_fields);

#define AT(member)   offsetof(struct pool_gpu_locks, member)
#define SIZE(member) sizeof(((struct pool_gpu_locks *)0)->member)
static const struct field gpu_locks_fields[] = {
    { "directory", FIELD_CHARS, AT(directory), 0, .about = "where the pools of this host see each other",
      .capacity = SIZE(directory) },
    { "shared", FIELD_BOOL, AT(is_shared), 0,
      .about = "false: it can not be had, and what others promise is not seen" },
    { "reason", FIELD_CHARS, AT(reason), 0, .about = "why not, or what else is to be known of it",
      .capacity = SIZE(reason) },
};
#undef SIZE
#undef AT
FIELD_TABLE(gpu_locks_table, struct pool_gpu_locks, "GpuLocks", false, gpu_locks_fields);

#define AT(member) offsetof(struct pool_status_response, member)
static const struct field status_fields[] = {
    { "pool_id", FIELD_TEXT, AT(pool_id), 0, .about = "the pool" },
    { "timestamp", FIELD_TIME, AT(timestamp_wall_ms), 0, .about = "when this was true" },
    { "generation", FIELD_TEXT, AT(generation), 0,
      .about = "EPOCH-REVISION: the same as long as nothing has changed" },
};
static const struct field capacity_fields[] = {
    { "workers_max", FIELD_INTEGER, AT(n_workers_max), 0, .about = "workers there can be" },
    { "ports_free", FIELD_INTEGER, AT(n_ports_free), 0, .about = "ports of the range that no worker has" },
};
#undef AT
FIELD_TABLE(status_table, struct pool_status_response, "PoolStatusResponse", false, status_fields);
FIELD_TABLE(capacity_table, struct pool_status_response, "Capacity", false, capacity_fields);
