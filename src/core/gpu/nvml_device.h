/*
 * One device of NVML: what is remembered of it between refreshes, and reading its facts. See nvml_device.c.
 */
#ifndef GPU_NVML_DEVICE_H
#define GPU_NVML_DEVICE_H

#include <pool/gpu.h>

#include "core/gpu/nvml_library.h"
#include "core/gpu/nvml_processes.h"

/* What the driver has said that it does not have for a device: not asked for again. */
struct nvml_support {
    uint32_t lacks; /* a bit for each enum feature of nvml_device.c */
    struct nvml_process_support processes;
};

struct nvml_device {
    bool has_handle;
    void *handle; /* opaque; NULL may be a valid one */
    struct nvml_support support;
    struct nvml_support instance_support; /* of its MIG instances, all together */
    /* Facts that do not change, and that a lost device can not tell any more. */
    char uuid[POOL_GPU_UUID_MAX];
    char name[POOL_GPU_NAME_MAX];
    char pci_bus_id[32];
    struct pool_reading compute_capability_major, compute_capability_minor;
    struct pool_reading minor_number;
    struct pool_reading numa_node;
    struct pool_reading mig_enabled; /* as of the last refresh */
};

/* Writes the remembered facts into info: for a device that does not answer. */
void nvml_device_recall(const struct nvml_device *device, struct pool_gpu_info *info);
/*
 * Asks for everything about a device whose handle is known. What is not told stays absent; a lost device is marked
 * unhealthy and gives up its handle. Errors: INSUFFICIENT_MEMORY.
 */
enum pool_code nvml_device_read(const struct nvml_library *nvml, struct nvml_device *device,
                                struct pool_gpu_info *info, struct pool_error *err);
/*
 * Appends the MIG instances of a device that nvml_device_read has just filled `parent` from; none when it is not
 * in MIG mode. Errors: INSUFFICIENT_MEMORY.
 */
enum pool_code nvml_device_read_instances(const struct nvml_library *nvml, struct nvml_device *device,
                                          struct pool_gpu_info *parent, struct pool_gpu_list *list,
                                          struct pool_error *err);

#endif
