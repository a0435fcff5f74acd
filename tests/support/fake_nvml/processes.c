// The process lists. Drivers wrote records of 16, 24 and 32 bytes through the same _v3 symbol; which one is
// configured. A record is written up to its length and not a byte further: who reads another length sees
// rubbish.
#include "claims.h"
#include "driver.h"

#include <stdlib.h>
#include <string.h>

enum { STRIDE_V1 = 16, STRIDE_V2 = 24, MODE_ALL = 3 };

static bool is_wanted(unsigned mode, enum process_kind kind)
{
    return mode == MODE_ALL || mode == (unsigned)kind;
}

// Writes the records of one mode as far as there is room; returns how many there are.
static unsigned list(const struct world *world, const struct device *device, unsigned mode, unsigned stride,
                     unsigned room, char *records)
{
    unsigned n = 0;
    bool is_hidden = world->process_bytes.value == NVML_NOT_AVAILABLE;
    const struct claim *claims = NULL;
    unsigned n_claims = is_wanted(mode, PROCESS_COMPUTE) ? claims_on(world, device, &claims) : 0;
    for (unsigned i = 0; i < n_claims; i++) {
        if (!claims[i].is_alive)
            continue;
        struct nvml_process record = { .pid = claims[i].pid + (unsigned)world->pid_offset.value,
                                       .used_bytes = is_hidden ? NVML_NOT_AVAILABLE : claims[i].bytes,
                                       .gpu_instance = NVML_NO_INSTANCE,
                                       .compute_instance = NVML_NO_INSTANCE };
        if (device->is_mig) {
            record.gpu_instance = (unsigned)device->gpu_instance.value;
            record.compute_instance = (unsigned)device->compute_instance.value;
        }
        if (n++ < room)
            memcpy(records + (size_t)(n - 1) * stride, &record, stride);
    }
    for (unsigned d = 0; d < world->n_devices; d++) {
        const struct device *owner = &world->devices[d];
        if (owner != device && (device->is_mig || !owner->is_mig || owner->gpu != device->index))
            continue;
        for (unsigned i = 0; i < owner->n_processes; i++) {
            struct nvml_process record = owner->processes[i].record;
            if (!is_wanted(mode, owner->processes[i].kind))
                continue;
            if (is_hidden)
                record.used_bytes = NVML_NOT_AVAILABLE;
            if (n++ < room)
                memcpy(records + (size_t)(n - 1) * stride, &record, stride);
        }
    }
    return n;
}

// stride 0: the configured one.
static int answer_list(enum function function, struct nvml_handle *handle, enum process_kind kind,
                       unsigned stride, unsigned *count, void *records)
{
    struct call call;
    int code = begin_device_call(function, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    if (count == NULL || (*count > 0 && records == NULL))
        return end_call(NVML_INVALID_ARGUMENT);
    if (stride == 0)
        stride = (unsigned)call.world->process_stride.value;
    unsigned room = *count;
    *count = list(call.world, call.device, (unsigned)kind, stride, room, records);
    return end_call(*count > room ? NVML_INSUFFICIENT_SIZE : NVML_SUCCESS);
}

int nvmlDeviceGetComputeRunningProcesses(struct nvml_handle *handle, unsigned *count, void *records)
{
    return answer_list(F_nvmlDeviceGetComputeRunningProcesses, handle, PROCESS_COMPUTE, STRIDE_V1, count,
                       records);
}

int nvmlDeviceGetComputeRunningProcesses_v2(struct nvml_handle *handle, unsigned *count, void *records)
{
    return answer_list(F_nvmlDeviceGetComputeRunningProcesses_v2, handle, PROCESS_COMPUTE, STRIDE_V2, count,
                       records);
}

int nvmlDeviceGetComputeRunningProcesses_v3(struct nvml_handle *handle, unsigned *count, void *records)
{
    return answer_list(F_nvmlDeviceGetComputeRunningProcesses_v3, handle, PROCESS_COMPUTE, 0, count, records);
}

int nvmlDeviceGetGraphicsRunningProcesses(struct nvml_handle *handle, unsigned *count, void *records)
{
    return answer_list(F_nvmlDeviceGetGraphicsRunningProcesses, handle, PROCESS_GRAPHICS, STRIDE_V1, count,
                       records);
}

int nvmlDeviceGetGraphicsRunningProcesses_v2(struct nvml_handle *handle, unsigned *count, void *records)
{
    return answer_list(F_nvmlDeviceGetGraphicsRunningProcesses_v2, handle, PROCESS_GRAPHICS, STRIDE_V2, count,
                       records);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(struct nvml_handle *handle, unsigned *count, void *records)
{
    return answer_list(F_nvmlDeviceGetGraphicsRunningProcesses_v3, handle, PROCESS_GRAPHICS, 0, count,
                       records);
}

int nvmlDeviceGetMPSComputeRunningProcesses(struct nvml_handle *handle, unsigned *count, void *records)
{
    return answer_list(F_nvmlDeviceGetMPSComputeRunningProcesses, handle, PROCESS_MPS, STRIDE_V1, count,
                       records);
}

int nvmlDeviceGetMPSComputeRunningProcesses_v2(struct nvml_handle *handle, unsigned *count, void *records)
{
    return answer_list(F_nvmlDeviceGetMPSComputeRunningProcesses_v2, handle, PROCESS_MPS, STRIDE_V2, count,
                       records);
}

int nvmlDeviceGetMPSComputeRunningProcesses_v3(struct nvml_handle *handle, unsigned *count, void *records)
{
    return answer_list(F_nvmlDeviceGetMPSComputeRunningProcesses_v3, handle, PROCESS_MPS, 0, count, records);
}

int nvmlDeviceGetRunningProcessDetailList(struct nvml_handle *handle, struct nvml_process_details *details)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetRunningProcessDetailList, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    if (details == NULL || details->mode > MODE_ALL || (details->count > 0 && details->records == NULL))
        return end_call(NVML_INVALID_ARGUMENT);
    if (details->version != NVML_TAG(struct nvml_process_details, 1U))
        return end_call(NVML_ARGUMENT_VERSION_MISMATCH);
    unsigned room = details->count;
    details->count = list(call.world, call.device, details->mode, sizeof(struct nvml_process), room,
                          (char *)details->records);
    return end_call(details->count > room ? NVML_INSUFFICIENT_SIZE : NVML_SUCCESS);
}
