// The C ABI of libnvidia-ml.so.1 as far as the fake speaks it: return codes, record layouts, prototypes.
// Written from the public documentation of NVML (nvml.h, API 13); sizes are asserted at the end.
#ifndef FAKE_NVML_ABI_H
#define FAKE_NVML_ABI_H

#include <stddef.h>

#include "functions.h"

typedef unsigned long long nvml_u64;

enum {
    NVML_SUCCESS = 0,
    NVML_UNINITIALIZED = 1,
    NVML_INVALID_ARGUMENT = 2,
    NVML_NOT_SUPPORTED = 3,
    NVML_NOT_FOUND = 6,
    NVML_INSUFFICIENT_SIZE = 7,
    NVML_DRIVER_NOT_LOADED = 9,
    NVML_TIMEOUT = 10,
    NVML_FUNCTION_NOT_FOUND = 13,
    NVML_GPU_IS_LOST = 15,
    NVML_MEMORY = 20,
    NVML_ARGUMENT_VERSION_MISMATCH = 25,
    NVML_UNKNOWN = 999,
};

#define NVML_NOT_AVAILABLE 0xFFFFFFFFFFFFFFFFULL // memory of a process: unknown
#define NVML_NO_INSTANCE   0xFFFFFFFFu           // MIG instance ids where there is no MIG

// Version tag of a versioned record: its size in the low bits, the version in the high byte.
#define NVML_TAG(type, version) ((unsigned)(sizeof(type) | ((version) << 24)))

struct nvml_handle;
struct nvml_event_set;

struct nvml_memory {
    nvml_u64 total, free, used;
};

struct nvml_memory_v2 {
    unsigned version;
    nvml_u64 total, reserved, free, used;
};

struct nvml_pci_info {
    char bus_id_legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
};

struct nvml_utilization {
    unsigned gpu, memory;
};

struct nvml_temperature {
    unsigned version;
    int sensor, celsius;
};

struct nvml_attributes {
    unsigned multiprocessors, copy_engines, decoders, encoders, jpeg, ofa, gpu_slices, compute_slices;
    nvml_u64 memory_mib;
};

// The longest record any driver wrote through a process list; the 16 and the 24 byte ones are its beginnings.
struct nvml_process {
    unsigned pid;
    nvml_u64 used_bytes;
    unsigned gpu_instance, compute_instance;
    nvml_u64 protected_bytes;
};

struct nvml_process_details {
    unsigned version, mode, count;
    struct nvml_process *records;
};

struct nvml_event_data {
    struct nvml_handle *device;
    nvml_u64 type, data;
    unsigned gpu_instance, compute_instance;
};

_Static_assert(sizeof(struct nvml_memory) == 24, "nvmlMemory_t");
_Static_assert(sizeof(struct nvml_memory_v2) == 40, "nvmlMemory_v2_t");
_Static_assert(sizeof(struct nvml_pci_info) == 68, "nvmlPciInfo_t");
_Static_assert(sizeof(struct nvml_utilization) == 8, "nvmlUtilization_t");
_Static_assert(sizeof(struct nvml_temperature) == 12, "nvmlTemperature_v1_t");
_Static_assert(sizeof(struct nvml_attributes) == 40, "nvmlDeviceAttributes_t");
_Static_assert(sizeof(struct nvml_process) == 32, "nvmlProcessDetail_v1_t");
_Static_assert(offsetof(struct nvml_process, used_bytes) == 8, "nvmlProcessInfo_t");
_Static_assert(sizeof(struct nvml_process_details) == 24, "nvmlProcessDetailList_v1_t");
_Static_assert(sizeof(struct nvml_event_data) == 32, "nvmlEventData_t");

#pragma GCC visibility push(default)

int nvmlInit_v2(void);
int nvmlInitWithFlags(unsigned flags);
int nvmlShutdown(void);
const char *nvmlErrorString(int code);
int nvmlSystemGetDriverVersion(char *text, unsigned size);
int nvmlSystemGetNVMLVersion(char *text, unsigned size);
int nvmlSystemGetCudaDriverVersion(int *version);
int nvmlSystemGetCudaDriverVersion_v2(int *version);
int nvmlSystemGetProcessName(unsigned pid, char *text, unsigned size);

int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct nvml_handle **handle);
int nvmlDeviceGetHandleByUUID(const char *uuid, struct nvml_handle **handle);
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, struct nvml_handle **handle);
int nvmlDeviceGetIndex(struct nvml_handle *handle, unsigned *index);
int nvmlDeviceGetMinorNumber(struct nvml_handle *handle, unsigned *minor);
int nvmlDeviceGetName(struct nvml_handle *handle, char *text, unsigned size);
int nvmlDeviceGetUUID(struct nvml_handle *handle, char *text, unsigned size);
int nvmlDeviceGetPciInfo_v3(struct nvml_handle *handle, struct nvml_pci_info *info);
int nvmlDeviceGetCpuAffinity(struct nvml_handle *handle, unsigned n_longs, unsigned long *set);
int nvmlDeviceGetNumaNodeId(struct nvml_handle *handle, unsigned *node);
int nvmlDeviceGetTopologyCommonAncestor(struct nvml_handle *one, struct nvml_handle *other, int *level);
int nvmlDeviceGetP2PStatus(struct nvml_handle *one, struct nvml_handle *other, int index, int *status);
int nvmlDeviceGetNvLinkState(struct nvml_handle *handle, unsigned link, int *is_active);
int nvmlDeviceGetNvLinkVersion(struct nvml_handle *handle, unsigned link, unsigned *version);
int nvmlDeviceGetNvLinkRemotePciInfo_v2(struct nvml_handle *handle, unsigned link,
                                        struct nvml_pci_info *info);
int nvmlDeviceGetNvLinkRemoteDeviceType(struct nvml_handle *handle, unsigned link, int *type);

int nvmlDeviceGetMemoryInfo(struct nvml_handle *handle, struct nvml_memory *memory);
int nvmlDeviceGetMemoryInfo_v2(struct nvml_handle *handle, struct nvml_memory_v2 *memory);
int nvmlDeviceGetUtilizationRates(struct nvml_handle *handle, struct nvml_utilization *utilization);
int nvmlDeviceGetTemperature(struct nvml_handle *handle, int sensor, unsigned *celsius);
int nvmlDeviceGetTemperatureV(struct nvml_handle *handle, struct nvml_temperature *temperature);
int nvmlDeviceGetPowerUsage(struct nvml_handle *handle, unsigned *milliwatts);
int nvmlDeviceGetEnforcedPowerLimit(struct nvml_handle *handle, unsigned *milliwatts);
int nvmlDeviceGetPowerManagementLimit(struct nvml_handle *handle, unsigned *milliwatts);
int nvmlDeviceGetClockInfo(struct nvml_handle *handle, int type, unsigned *mhz);
int nvmlDeviceGetMaxClockInfo(struct nvml_handle *handle, int type, unsigned *mhz);
int nvmlDeviceGetCurrentClocksEventReasons(struct nvml_handle *handle, nvml_u64 *reasons);
int nvmlDeviceGetCurrentClocksThrottleReasons(struct nvml_handle *handle, nvml_u64 *reasons);
int nvmlDeviceGetEccMode(struct nvml_handle *handle, int *current, int *pending);
int nvmlDeviceGetTotalEccErrors(struct nvml_handle *handle, int type, int counter, nvml_u64 *count);
int nvmlDeviceGetMemoryErrorCounter(struct nvml_handle *handle, int type, int counter, int location,
                                    nvml_u64 *count);
int nvmlDeviceGetRemappedRows(struct nvml_handle *handle, unsigned *corrected, unsigned *uncorrected,
                              unsigned *is_pending, unsigned *has_failed);
int nvmlDeviceGetRetiredPagesPendingStatus(struct nvml_handle *handle, int *is_pending);
int nvmlDeviceGetCudaComputeCapability(struct nvml_handle *handle, int *major, int *minor);
int nvmlDeviceGetPersistenceMode(struct nvml_handle *handle, int *mode);
int nvmlDeviceGetComputeMode(struct nvml_handle *handle, int *mode);

int nvmlDeviceGetMigMode(struct nvml_handle *handle, unsigned *current, unsigned *pending);
int nvmlDeviceGetMaxMigDeviceCount(struct nvml_handle *handle, unsigned *count);
int nvmlDeviceGetMigDeviceHandleByIndex(struct nvml_handle *handle, unsigned index, struct nvml_handle **mig);
int nvmlDeviceIsMigDeviceHandle(struct nvml_handle *handle, unsigned *is_mig);
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(struct nvml_handle *mig, struct nvml_handle **handle);
int nvmlDeviceGetGpuInstanceId(struct nvml_handle *mig, unsigned *id);
int nvmlDeviceGetComputeInstanceId(struct nvml_handle *mig, unsigned *id);
int nvmlDeviceGetAttributes_v2(struct nvml_handle *mig, struct nvml_attributes *attributes);

int nvmlDeviceGetComputeRunningProcesses(struct nvml_handle *handle, unsigned *count, void *records);
int nvmlDeviceGetComputeRunningProcesses_v2(struct nvml_handle *handle, unsigned *count, void *records);
int nvmlDeviceGetComputeRunningProcesses_v3(struct nvml_handle *handle, unsigned *count, void *records);
int nvmlDeviceGetGraphicsRunningProcesses(struct nvml_handle *handle, unsigned *count, void *records);
int nvmlDeviceGetGraphicsRunningProcesses_v2(struct nvml_handle *handle, unsigned *count, void *records);
int nvmlDeviceGetGraphicsRunningProcesses_v3(struct nvml_handle *handle, unsigned *count, void *records);
int nvmlDeviceGetMPSComputeRunningProcesses(struct nvml_handle *handle, unsigned *count, void *records);
int nvmlDeviceGetMPSComputeRunningProcesses_v2(struct nvml_handle *handle, unsigned *count, void *records);
int nvmlDeviceGetMPSComputeRunningProcesses_v3(struct nvml_handle *handle, unsigned *count, void *records);
int nvmlDeviceGetRunningProcessDetailList(struct nvml_handle *handle, struct nvml_process_details *list);

int nvmlEventSetCreate(struct nvml_event_set **set);
int nvmlDeviceGetSupportedEventTypes(struct nvml_handle *handle, nvml_u64 *types);
int nvmlDeviceRegisterEvents(struct nvml_handle *handle, nvml_u64 types, struct nvml_event_set *set);
int nvmlEventSetWait(struct nvml_event_set *set, struct nvml_event_data *data, unsigned timeout_ms);
int nvmlEventSetWait_v2(struct nvml_event_set *set, struct nvml_event_data *data, unsigned timeout_ms);
int nvmlEventSetFree(struct nvml_event_set *set);

#pragma GCC visibility pop

#endif
