// Calls about what a device does at the moment: memory, temperature, power, clocks, errors, modes.
#include "claims.h"
#include "driver.h"

#include <string.h>

// Answers one reading into an unsigned, an int or a 64-bit number.
static int answer_reading(enum function function, struct nvml_handle *handle, size_t offset,
                          nvml_u64 *ret_value)
{
    struct call call;
    int code = begin_device_call(function, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    const struct reading *reading = (const struct reading *)((const char *)call.device + offset);
    if (!reading->is_present)
        return end_call(NVML_NOT_SUPPORTED);
    *ret_value = reading->value;
    return end_call(NVML_SUCCESS);
}

static int answer_unsigned(enum function function, struct nvml_handle *handle, size_t offset,
                           unsigned *number)
{
    nvml_u64 value = 0;
    int code = answer_reading(function, handle, offset, &value);
    if (code == NVML_SUCCESS && number == NULL)
        return NVML_INVALID_ARGUMENT;
    if (code == NVML_SUCCESS)
        *number = (unsigned)value;
    return code;
}

static int answer_int(enum function function, struct nvml_handle *handle, size_t offset, int *number)
{
    unsigned value = 0;
    int code = answer_unsigned(function, handle, offset, &value);
    if (code == NVML_SUCCESS && number == NULL)
        return NVML_INVALID_ARGUMENT;
    if (code == NVML_SUCCESS)
        *number = (int)value;
    return code;
}

#define READING(member) offsetof(struct device, member)

// What is allocated: the base of the configuration and the claims, as far as there is room.
static void measure(const struct world *world, const struct device *device, struct nvml_memory_v2 *ret)
{
    const struct claim *claims;
    unsigned n_claims = claims_on(world, device, &claims);
    nvml_u64 room = device->total_bytes - device->reserved_bytes, used = device->used_bytes;
    for (unsigned i = 0; i < n_claims; i++)
        if (__builtin_add_overflow(used, claims[i].bytes, &used))
            used = room;
    if (used > room)
        used = room;
    ret->total = device->total_bytes;
    ret->reserved = device->reserved_bytes;
    ret->used = used;
    ret->free = device->free_bytes.is_present ? device->free_bytes.value : room - used;
}

int nvmlDeviceGetMemoryInfo(struct nvml_handle *handle, struct nvml_memory *memory)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetMemoryInfo, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    if (memory == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    struct nvml_memory_v2 now;
    measure(call.world, call.device, &now);
    // total = free + used: the reserve counts as used here.
    *memory = (struct nvml_memory){ .total = now.total, .free = now.free, .used = now.used + now.reserved };
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetMemoryInfo_v2(struct nvml_handle *handle, struct nvml_memory_v2 *memory)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetMemoryInfo_v2, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    struct reading support = call.world->memory_v2;
    if (support.value != 1)
        return end_call(support.value == 0 ? NVML_FUNCTION_NOT_FOUND : (int)support.value);
    if (memory == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    if (memory->version != NVML_TAG(struct nvml_memory_v2, 2U))
        return end_call(NVML_ARGUMENT_VERSION_MISMATCH);
    unsigned version = memory->version;
    measure(call.world, call.device, memory);
    memory->version = version;
    if (call.world->v2_used_includes_reserved.value != 0)
        memory->used += memory->reserved;
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetUtilizationRates(struct nvml_handle *handle, struct nvml_utilization *utilization)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetUtilizationRates, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    const struct device *device = call.device;
    if (utilization == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    if (!device->utilization_gpu.is_present || !device->utilization_memory.is_present ||
        device->mig.value == 1)
        return end_call(NVML_NOT_SUPPORTED);
    *utilization = (struct nvml_utilization){ .gpu = (unsigned)device->utilization_gpu.value,
                                              .memory = (unsigned)device->utilization_memory.value };
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetTemperature(struct nvml_handle *handle, int sensor, unsigned *celsius)
{
    if (sensor != 0)
        return NVML_INVALID_ARGUMENT;
    return answer_unsigned(F_nvmlDeviceGetTemperature, handle, READING(celsius), celsius);
}

int nvmlDeviceGetTemperatureV(struct nvml_handle *handle, struct nvml_temperature *temperature)
{
    if (temperature == NULL || temperature->sensor != 0)
        return NVML_INVALID_ARGUMENT;
    if (temperature->version != NVML_TAG(struct nvml_temperature, 1U))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    return answer_int(F_nvmlDeviceGetTemperatureV, handle, READING(celsius), &temperature->celsius);
}

int nvmlDeviceGetPowerUsage(struct nvml_handle *handle, unsigned *milliwatts)
{
    return answer_unsigned(F_nvmlDeviceGetPowerUsage, handle, READING(power_mw), milliwatts);
}

int nvmlDeviceGetEnforcedPowerLimit(struct nvml_handle *handle, unsigned *milliwatts)
{
    return answer_unsigned(F_nvmlDeviceGetEnforcedPowerLimit, handle, READING(enforced_power_limit_mw),
                           milliwatts);
}

int nvmlDeviceGetPowerManagementLimit(struct nvml_handle *handle, unsigned *milliwatts)
{
    return answer_unsigned(F_nvmlDeviceGetPowerManagementLimit, handle, READING(power_limit_mw), milliwatts);
}

int nvmlDeviceGetClockInfo(struct nvml_handle *handle, int type, unsigned *mhz)
{
    if (type < 0 || type > 3)
        return NVML_INVALID_ARGUMENT;
    return answer_unsigned(F_nvmlDeviceGetClockInfo, handle, READING(clock_mhz), mhz);
}

int nvmlDeviceGetMaxClockInfo(struct nvml_handle *handle, int type, unsigned *mhz)
{
    if (type < 0 || type > 3)
        return NVML_INVALID_ARGUMENT;
    return answer_unsigned(F_nvmlDeviceGetMaxClockInfo, handle, READING(max_clock_mhz), mhz);
}

int nvmlDeviceGetCurrentClocksEventReasons(struct nvml_handle *handle, nvml_u64 *reasons)
{
    if (reasons == NULL)
        return NVML_INVALID_ARGUMENT;
    return answer_reading(F_nvmlDeviceGetCurrentClocksEventReasons, handle, READING(clock_reasons), reasons);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(struct nvml_handle *handle, nvml_u64 *reasons)
{
    if (reasons == NULL)
        return NVML_INVALID_ARGUMENT;
    return answer_reading(F_nvmlDeviceGetCurrentClocksThrottleReasons, handle, READING(clock_reasons),
                          reasons);
}

int nvmlDeviceGetEccMode(struct nvml_handle *handle, int *current, int *pending)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetEccMode, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    if (current == NULL || pending == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    if (!call.device->ecc.is_present)
        return end_call(NVML_NOT_SUPPORTED);
    *current = (int)call.device->ecc.value;
    *pending = (int)call.device->ecc_pending.value;
    return end_call(NVML_SUCCESS);
}

static int answer_ecc(enum function function, struct nvml_handle *handle, int type, int counter,
                      nvml_u64 *count)
{
    struct call call;
    int code = begin_device_call(function, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    const struct device *device = call.device;
    if (count == NULL || type < 0 || type > 1 || counter < 0 || counter > 1)
        return end_call(NVML_INVALID_ARGUMENT);
    const struct reading *counters[2][2] = { { &device->ecc_corrected, &device->ecc_total_corrected },
                                             { &device->ecc_uncorrected, &device->ecc_total_uncorrected } };
    const struct reading *reading = counters[type][counter];
    if (!device->ecc.is_present || device->ecc.value == 0 || !reading->is_present)
        return end_call(NVML_NOT_SUPPORTED);
    *count = reading->value;
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetTotalEccErrors(struct nvml_handle *handle, int type, int counter, nvml_u64 *count)
{
    return answer_ecc(F_nvmlDeviceGetTotalEccErrors, handle, type, counter, count);
}

int nvmlDeviceGetMemoryErrorCounter(struct nvml_handle *handle, int type, int counter, int location,
                                    nvml_u64 *count)
{
    enum { DRAM = 2, SRAM = 7 };
    if (location < 0 || location > SRAM)
        return NVML_INVALID_ARGUMENT;
    int code = answer_ecc(F_nvmlDeviceGetMemoryErrorCounter, handle, type, counter, count);
    if (code == NVML_SUCCESS && location != DRAM)
        *count = 0; // every error of this world happened in device memory
    return code;
}

int nvmlDeviceGetRemappedRows(struct nvml_handle *handle, unsigned *corrected, unsigned *uncorrected,
                              unsigned *is_pending, unsigned *has_failed)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetRemappedRows, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    const struct device *device = call.device;
    if (corrected == NULL || uncorrected == NULL || is_pending == NULL || has_failed == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    if (!device->remapped_corrected.is_present || device->mig.value == 1)
        return end_call(NVML_NOT_SUPPORTED);
    *corrected = (unsigned)device->remapped_corrected.value;
    *uncorrected = (unsigned)device->remapped_uncorrected.value;
    *is_pending = (unsigned)device->remapped_pending.value;
    *has_failed = (unsigned)device->remapped_failed.value;
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetRetiredPagesPendingStatus(struct nvml_handle *handle, int *is_pending)
{
    return answer_int(F_nvmlDeviceGetRetiredPagesPendingStatus, handle, READING(retired_pending), is_pending);
}

int nvmlDeviceGetCudaComputeCapability(struct nvml_handle *handle, int *major, int *minor)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetCudaComputeCapability, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    if (major == NULL || minor == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    if (!call.device->capability_major.is_present)
        return end_call(NVML_NOT_SUPPORTED);
    *major = (int)call.device->capability_major.value;
    *minor = (int)call.device->capability_minor.value;
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetPersistenceMode(struct nvml_handle *handle, int *mode)
{
    return answer_int(F_nvmlDeviceGetPersistenceMode, handle, READING(persistence), mode);
}

int nvmlDeviceGetComputeMode(struct nvml_handle *handle, int *mode)
{
    return answer_int(F_nvmlDeviceGetComputeMode, handle, READING(compute_mode), mode);
}
