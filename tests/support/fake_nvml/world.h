// The world the fake shows: what the configuration file says, as one value that is replaced whole when the
// file changes. Reading the file is here (config.c); who asks and what is answered is not.
#ifndef FAKE_NVML_WORLD_H
#define FAKE_NVML_WORLD_H

#include <stdbool.h>
#include <stddef.h>

#include "nvml_abi.h"

#pragma GCC visibility push(hidden)

#define MIB          (1024ULL * 1024ULL)
#define TEXT_SIZE    96
#define HANG_FOREVER (-1)

// A reading the driver may not have ("none" in the file): the call answers NOT_SUPPORTED.
struct reading {
    bool is_present;
    nvml_u64 value;
};

// What calls answer instead of the truth. code < 0: nothing.
struct overrides {
    int code[N_FUNCTIONS];
    long long hang_ms[N_FUNCTIONS];
};

enum process_kind { PROCESS_COMPUTE, PROCESS_GRAPHICS, PROCESS_MPS };

struct process {
    enum process_kind kind;
    struct nvml_process record;
};

// An NVLink of a GPU, with what the driver says of its far end.
struct nvlink {
    nvml_u64 number, state, type;
    struct reading version;
    bool has_remote;
    unsigned pci_domain, pci_bus, pci_device;
};

// A GPU, or a MIG device of one.
struct device {
    bool is_mig;
    unsigned gpu;   // index of the GPU, its own or its parent's
    unsigned index; // among the GPUs, or among the MIG devices of one
    char uuid[TEXT_SIZE];
    char name[TEXT_SIZE];
    unsigned pci_domain, pci_bus, pci_device;
    nvml_u64 total_bytes, reserved_bytes, used_bytes;
    struct reading free_bytes; // present: said instead of what the arithmetic gives
    struct reading is_lost, minor, capability_major, capability_minor;
    struct reading celsius, power_mw, power_limit_mw, enforced_power_limit_mw;
    struct reading utilization_gpu, utilization_memory, clock_mhz, max_clock_mhz, clock_reasons;
    struct reading ecc, ecc_pending, ecc_corrected, ecc_uncorrected, ecc_total_corrected,
        ecc_total_uncorrected;
    struct reading remapped_corrected, remapped_uncorrected, remapped_pending, remapped_failed;
    struct reading retired_pending, persistence, compute_mode, mig, mig_pending, max_mig_devices;
    struct reading numa_node, cpu_affinity;
    struct reading gpu_instance, compute_instance, multiprocessors;
    struct process *processes;
    unsigned n_processes;
    struct nvlink *nvlinks;
    unsigned n_nvlinks;
    struct overrides overrides;
};

// An event of the world: delivered once to each set that was registered before its number appeared.
struct event {
    nvml_u64 number, type, data;
    unsigned gpu;
};

struct topology {
    unsigned one, other;
    int level;
};

struct world {
    char driver_version[TEXT_SIZE], nvml_version[TEXT_SIZE];
    char claims_dir[4096]; // "" without
    struct reading cuda_version, process_stride, memory_v2, v2_used_includes_reserved;
    struct reading release_delay_ms, process_bytes, pid_offset;
    struct device *devices;
    unsigned n_devices, n_gpus;
    struct event *events;
    unsigned n_events;
    struct topology *topologies;
    unsigned n_topologies;
    struct overrides overrides;
};

// Parses text (NUL-terminated, changed on the way). NULL, after one line on stderr that names path, when it
// is wrong or memory is short.
struct world *parse_world(const char *path, char *text);
void free_world(struct world *world);

#pragma GCC visibility pop

#endif
