/*
 * How the devices of a host are connected, as NVML tells it: the NVLinks of each, and for pairs of devices what their
 * ways on PCIe have in common. See nvml_topology.c.
 */
#ifndef GPU_NVML_TOPOLOGY_H
#define GPU_NVML_TOPOLOGY_H

#include <pool/gpu.h>

#include "core/gpu/nvml_device.h"
#include "core/gpu/nvml_library.h"

/* Hosts have 16 at most; that of more only the first are asked keeps a snapshot small, since pairs grow by the square. */
#define NVML_TOPOLOGY_DEVICES_MAX (POOL_GPU_PEERS_MAX + 1)

/*
 * How long an answer is believed while nobody comes or goes. Wires do not change, but links come up when the fabric
 * manager of NVSwitches starts, which may be after us, and go down by an error.
 */
#define NVML_TOPOLOGY_AGE_NS (INT64_C(300) * 1000 * 1000 * 1000)

/* What is known of one device. */
struct nvml_links {
    bool is_asked; /* since it came, and not too long ago */
    bool are_known;
    char uuid[POOL_GPU_UUID_MAX]; /* whose they are; "" for nobody's */
    struct pool_reading mig_enabled;
    size_t n;
    struct pool_nvlink links[POOL_NVLINKS_MAX];
};

/* All zero: nothing is known. */
struct nvml_topology {
    int64_t asked_boottime_ns;                            /* when everything was asked; 0: never */
    struct nvml_links devices[NVML_TOPOLOGY_DEVICES_MAX]; /* by index */
    /* enum pool_gpu_ancestor, by two indices, the lower first */
    unsigned char ancestors[NVML_TOPOLOGY_DEVICES_MAX][NVML_TOPOLOGY_DEVICES_MAX];
};

/*
 * Writes links and peers into the devices of a list that has everything else, and asks the driver before for what is
 * not known yet: of devices that are healthy, where no answer is kept. `devices` has n_devices, by index. A driver that
 * does not answer, or nonsense, leaves it untold; no device becomes unhealthy by it. Errors: INSUFFICIENT_MEMORY.
 */
enum pool_code nvml_topology_read(struct nvml_topology *topology, const struct nvml_library *nvml,
                                  const struct nvml_device *devices, size_t n_devices,
                                  struct pool_gpu_list *list, struct pool_error *err);

#endif
