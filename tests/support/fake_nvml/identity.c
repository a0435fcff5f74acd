// Calls about which device is which: handles, names, bus addresses, MIG devices, and how devices are
// connected.
#include "driver.h"

#include <stdio.h>
#include <string.h>

static int answer_handle(enum function function, const struct target *target, struct nvml_handle **handle)
{
    struct call call;
    int code = begin_call(function, target, &call);
    if (code != NVML_SUCCESS)
        return code;
    if (handle == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    struct nvml_handle *found = handle_of(call.device);
    if (found == NULL)
        return end_call(NVML_MEMORY);
    *handle = found;
    return end_call(NVML_SUCCESS);
}

// Writes a number about a device: the reading, or NOT_SUPPORTED when there is none.
static int answer_unsigned(struct reading reading, unsigned *number)
{
    if (number == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    if (!reading.is_present)
        return end_call(NVML_NOT_SUPPORTED);
    *number = (unsigned)reading.value;
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    struct call call;
    int code = begin_call(F_nvmlDeviceGetCount_v2, &(struct target){ .kind = TARGET_NONE }, &call);
    if (code != NVML_SUCCESS)
        return code;
    return answer_unsigned((struct reading){ true, call.world->n_gpus }, count);
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct nvml_handle **handle)
{
    struct target target = { .kind = TARGET_INDEX, .index = index };
    return answer_handle(F_nvmlDeviceGetHandleByIndex_v2, &target, handle);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, struct nvml_handle **handle)
{
    struct target target = { .kind = TARGET_UUID, .text = uuid };
    return answer_handle(F_nvmlDeviceGetHandleByUUID, &target, handle);
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, struct nvml_handle **handle)
{
    struct target target = { .kind = TARGET_PCI, .text = bus_id };
    return answer_handle(F_nvmlDeviceGetHandleByPciBusId_v2, &target, handle);
}

int nvmlDeviceGetIndex(struct nvml_handle *handle, unsigned *index)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetIndex, handle, &call);
    return code != NVML_SUCCESS ? code : answer_unsigned((struct reading){ true, call.device->index }, index);
}

int nvmlDeviceGetMinorNumber(struct nvml_handle *handle, unsigned *minor)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetMinorNumber, handle, &call);
    return code != NVML_SUCCESS ? code : answer_unsigned(call.device->minor, minor);
}

int nvmlDeviceGetName(struct nvml_handle *handle, char *text, unsigned size)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetName, handle, &call);
    return code != NVML_SUCCESS ? code : end_call(answer_text(call.device->name, text, size));
}

int nvmlDeviceGetUUID(struct nvml_handle *handle, char *text, unsigned size)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetUUID, handle, &call);
    return code != NVML_SUCCESS ? code : end_call(answer_text(call.device->uuid, text, size));
}

void fill_pci_info(struct nvml_pci_info *info, unsigned domain, unsigned bus, unsigned device)
{
    memset(info, 0, sizeof *info);
    info->domain = domain;
    info->bus = bus;
    info->device = device;
    info->device_id = 0x268410DE; // low half: NVIDIA's vendor number
    (void)snprintf(info->bus_id, sizeof info->bus_id, "%08X:%02X:%02X.0", domain, bus, device);
    (void)snprintf(info->bus_id_legacy, sizeof info->bus_id_legacy, "%04X:%02X:%02X.0", domain & 0xFFFFU,
                   bus & 0xFFU, device & 0xFFU);
}

int nvmlDeviceGetPciInfo_v3(struct nvml_handle *handle, struct nvml_pci_info *info)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetPciInfo_v3, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    if (info == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    const struct device *device = call.device;
    if (device->is_mig)
        device = find_gpu(call.world, device->gpu);
    fill_pci_info(info, device->pci_domain, device->pci_bus, device->pci_device);
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetCpuAffinity(struct nvml_handle *handle, unsigned n_longs, unsigned long *set)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetCpuAffinity, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    if (set == NULL || n_longs == 0)
        return end_call(NVML_INVALID_ARGUMENT);
    if (!call.device->cpu_affinity.is_present)
        return end_call(NVML_NOT_SUPPORTED);
    memset(set, 0, n_longs * sizeof *set);
    set[0] = (unsigned long)call.device->cpu_affinity.value;
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetNumaNodeId(struct nvml_handle *handle, unsigned *node)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetNumaNodeId, handle, &call);
    return code != NVML_SUCCESS ? code : answer_unsigned(call.device->numa_node, node);
}

int nvmlDeviceGetTopologyCommonAncestor(struct nvml_handle *one, struct nvml_handle *other, int *level)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetTopologyCommonAncestor, one, &call);
    if (code != NVML_SUCCESS)
        return code;
    const struct device *peer = device_of(call.world, other, &code);
    if (peer == NULL || level == NULL)
        return end_call(peer == NULL ? code : NVML_INVALID_ARGUMENT);
    enum { SAME_BOARD = 0, SAME_HOST_BRIDGE = 30 };
    unsigned a = call.device->gpu, b = peer->gpu;
    *level = a == b ? SAME_BOARD : SAME_HOST_BRIDGE;
    for (unsigned i = 0; i < call.world->n_topologies; i++) {
        const struct topology *pair = &call.world->topologies[i];
        if ((pair->one == a && pair->other == b) || (pair->one == b && pair->other == a))
            *level = pair->level;
    }
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetP2PStatus(struct nvml_handle *one, struct nvml_handle *other, int index, int *status)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetP2PStatus, one, &call);
    if (code != NVML_SUCCESS)
        return code;
    const struct device *peer = device_of(call.world, other, &code);
    if (peer == NULL || status == NULL || index < 0 || index > 4)
        return end_call(peer == NULL ? code : NVML_INVALID_ARGUMENT);
    *status = 0;
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetMigMode(struct nvml_handle *handle, unsigned *current, unsigned *pending)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetMigMode, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    if (current == NULL || pending == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    if (!call.device->mig.is_present)
        return end_call(NVML_NOT_SUPPORTED);
    *current = (unsigned)call.device->mig.value;
    *pending = call.device->mig_pending.is_present ? (unsigned)call.device->mig_pending.value : *current;
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetMaxMigDeviceCount(struct nvml_handle *handle, unsigned *count)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetMaxMigDeviceCount, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    struct reading max = call.device->max_mig_devices;
    if (call.device->mig.value == 0)
        max.value = 0;
    return answer_unsigned(max, count);
}

int nvmlDeviceGetMigDeviceHandleByIndex(struct nvml_handle *handle, unsigned index, struct nvml_handle **mig)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetMigDeviceHandleByIndex, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    const struct device *gpu = call.device;
    if (gpu->is_mig || mig == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    if (!gpu->mig.is_present || gpu->mig.value == 0)
        return end_call(NVML_NOT_SUPPORTED);
    if (index >= gpu->max_mig_devices.value)
        return end_call(NVML_INVALID_ARGUMENT);
    const struct device *found = find_mig(call.world, gpu->index, index);
    if (found == NULL)
        return end_call(NVML_NOT_FOUND);
    struct nvml_handle *found_handle = handle_of(found);
    if (found_handle == NULL)
        return end_call(NVML_MEMORY);
    *mig = found_handle;
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceIsMigDeviceHandle(struct nvml_handle *handle, unsigned *is_mig)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceIsMigDeviceHandle, handle, &call);
    return code != NVML_SUCCESS ? code
                                : answer_unsigned((struct reading){ true, call.device->is_mig }, is_mig);
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(struct nvml_handle *mig, struct nvml_handle **handle)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetDeviceHandleFromMigDeviceHandle, mig, &call);
    if (code != NVML_SUCCESS)
        return code;
    if (!call.device->is_mig || handle == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    struct nvml_handle *parent = handle_of(find_gpu(call.world, call.device->gpu));
    if (parent == NULL)
        return end_call(NVML_MEMORY);
    *handle = parent;
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetGpuInstanceId(struct nvml_handle *mig, unsigned *id)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetGpuInstanceId, mig, &call);
    return code != NVML_SUCCESS ? code : answer_unsigned(call.device->gpu_instance, id);
}

int nvmlDeviceGetComputeInstanceId(struct nvml_handle *mig, unsigned *id)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetComputeInstanceId, mig, &call);
    return code != NVML_SUCCESS ? code : answer_unsigned(call.device->compute_instance, id);
}

int nvmlDeviceGetAttributes_v2(struct nvml_handle *mig, struct nvml_attributes *attributes)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetAttributes_v2, mig, &call);
    if (code != NVML_SUCCESS)
        return code;
    if (!call.device->is_mig || attributes == NULL)
        return end_call(attributes == NULL ? NVML_INVALID_ARGUMENT : NVML_NOT_SUPPORTED);
    *attributes = (struct nvml_attributes){ .multiprocessors = (unsigned)call.device->multiprocessors.value,
                                            .copy_engines = 1,
                                            .gpu_slices = 1,
                                            .compute_slices = 1,
                                            .memory_mib = call.device->total_bytes >> 20 };
    return end_call(NVML_SUCCESS);
}
