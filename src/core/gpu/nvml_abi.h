/*
 * The binary interface of libnvidia-ml.so.1, as far as we use it: structures, return codes and the functions with
 * their exported names. Written from NVIDIA's documentation of NVML and the layout of its header (API 13,
 * x86-64 and AArch64), so that nothing of NVIDIA's is needed to build. All enumerations of NVML are 4-byte
 * integers and all handles are pointers; both are declared as such.
 *
 * The names in NVIDIA's header are macros for the newest versioned symbol. The plain exported name is often the
 * first version, with other structures, so the names below carry the version we mean.
 */
#ifndef GPU_NVML_ABI_H
#define GPU_NVML_ABI_H

#include <stdint.h>

enum nvml_return {
    NVML_SUCCESS = 0,
    NVML_UNINITIALIZED = 1,
    NVML_INVALID_ARGUMENT = 2,
    NVML_NOT_SUPPORTED = 3,
    NVML_NO_PERMISSION = 4,
    NVML_NOT_FOUND = 6,
    NVML_INSUFFICIENT_SIZE = 7,
    NVML_INSUFFICIENT_POWER = 8,
    NVML_DRIVER_NOT_LOADED = 9,
    NVML_TIMEOUT = 10,
    NVML_IRQ_ISSUE = 11,
    NVML_LIBRARY_NOT_FOUND = 12,
    NVML_FUNCTION_NOT_FOUND = 13,
    NVML_CORRUPTED_INFOROM = 14,
    NVML_GPU_IS_LOST = 15,
    NVML_RESET_REQUIRED = 16,
    NVML_OPERATING_SYSTEM = 17,
    NVML_LIB_RM_VERSION_MISMATCH = 18,
    NVML_IN_USE = 19,
    NVML_MEMORY = 20,
    NVML_NO_DATA = 21,
    NVML_INSUFFICIENT_RESOURCES = 23,
    NVML_ARGUMENT_VERSION_MISMATCH = 25,
    NVML_DEPRECATED = 26,
    NVML_NOT_READY = 27,
    NVML_GPU_NOT_FOUND = 28,
    NVML_INVALID_STATE = 29,
    NVML_UNKNOWN = 999,
};

#define NVML_VALUE_NOT_AVAILABLE UINT64_MAX
#define NVML_INSTANCE_NONE       UINT32_MAX

#define NVML_VERSION_TAG(type, version) ((uint32_t)sizeof(type) | ((uint32_t)(version) << 24))

struct nvml_memory_v1 {
    uint64_t total, free, used;
};

struct nvml_memory_v2 {
    uint32_t version;
    uint64_t total, reserved, free, used;
};

struct nvml_pci_info_v3 {
    char bus_id_legacy[16];
    uint32_t domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
};

/* nvmlIntNvLinkDeviceType_t */
enum nvml_link_device { NVML_LINK_GPU = 0, NVML_LINK_CPU = 1, NVML_LINK_SWITCH = 2 };

/* nvmlGpuTopologyLevel_t */
enum nvml_topology_level {
    NVML_TOPOLOGY_INTERNAL = 0,
    NVML_TOPOLOGY_SINGLE = 10,
    NVML_TOPOLOGY_MULTIPLE = 20,
    NVML_TOPOLOGY_HOSTBRIDGE = 30,
    NVML_TOPOLOGY_NODE = 40,
    NVML_TOPOLOGY_SYSTEM = 50,
};

struct nvml_utilization {
    uint32_t gpu, memory;
};

struct nvml_temperature_v1 {
    uint32_t version;
    int32_t sensor;
    int32_t temperature;
};

struct nvml_process_detail_v1 {
    uint32_t pid;
    uint64_t used_gpu_memory;
    uint32_t gpu_instance_id, compute_instance_id;
    uint64_t used_protected_memory;
};

struct nvml_process_detail_list_v1 {
    uint32_t version;
    uint32_t mode;
    uint32_t n_processes;
    struct nvml_process_detail_v1 *processes;
};

struct nvml_event_data {
    void *device;
    unsigned long long type; /* one bit */
    unsigned long long data; /* of an XID its number, 999: not known */
    uint32_t gpu_instance_id, compute_instance_id;
};

enum nvml_process_mode { NVML_PROCESSES_COMPUTE = 0, NVML_PROCESSES_GRAPHICS = 1, NVML_PROCESSES_MPS = 2 };

_Static_assert(sizeof(struct nvml_memory_v1) == 24, "nvmlMemory_t");
_Static_assert(sizeof(struct nvml_memory_v2) == 40, "nvmlMemory_v2_t");
_Static_assert(sizeof(struct nvml_pci_info_v3) == 68, "nvmlPciInfo_t");
_Static_assert(sizeof(struct nvml_utilization) == 8, "nvmlUtilization_t");
_Static_assert(sizeof(struct nvml_event_data) == 32, "nvmlEventData_t");
_Static_assert(sizeof(struct nvml_temperature_v1) == 12, "nvmlTemperature_v1_t");
_Static_assert(sizeof(struct nvml_process_detail_v1) == 32, "nvmlProcessDetail_v1_t");
_Static_assert(sizeof(struct nvml_process_detail_list_v1) == 24, "nvmlProcessDetailList_v1_t");

/* The layout of what it fills differs between drivers: see nvml_processes.c. */
#define NVML_LIST_PROCESSES (void *device, unsigned *count, void *records)
#define NVML_GET_NUMBER     (void *device, unsigned *value)
#define NVML_GET_TEXT       (void *device, char *text, unsigned length)
#define NVML_GET_OF_LINK    (void *device, unsigned link, unsigned *value)

/*
 * X(field, parameters, exported names, the best first). Every function returns an int. A function that the
 * library does not have stays NULL, and is treated as one that answered NVML_FUNCTION_NOT_FOUND.
 */
#define NVML_FUNCTIONS(X)                                                                                   \
    X(init, (void), "nvmlInit_v2")                                                                          \
    X(shutdown, (void), "nvmlShutdown")                                                                     \
    X(get_driver_version, (char *text, unsigned length), "nvmlSystemGetDriverVersion")                      \
    X(get_cuda_version_v2, (int *version), "nvmlSystemGetCudaDriverVersion_v2")                             \
    X(get_cuda_version, (int *version), "nvmlSystemGetCudaDriverVersion")                                   \
    X(get_count, (unsigned *count), "nvmlDeviceGetCount_v2")                                                \
    X(get_handle, (unsigned index, void **device), "nvmlDeviceGetHandleByIndex_v2")                         \
    X(get_uuid, NVML_GET_TEXT, "nvmlDeviceGetUUID")                                                         \
    X(get_name, NVML_GET_TEXT, "nvmlDeviceGetName")                                                         \
    X(get_pci_info, (void *device, struct nvml_pci_info_v3 *info), "nvmlDeviceGetPciInfo_v3")               \
    X(get_memory_v1, (void *device, struct nvml_memory_v1 *memory), "nvmlDeviceGetMemoryInfo")              \
    X(get_memory_v2, (void *device, struct nvml_memory_v2 *memory), "nvmlDeviceGetMemoryInfo_v2")           \
    X(get_compute_capability, (void *device, int *major, int *minor), "nvmlDeviceGetCudaComputeCapability") \
    X(get_minor_number, NVML_GET_NUMBER, "nvmlDeviceGetMinorNumber")                                        \
    X(get_persistence_mode, NVML_GET_NUMBER, "nvmlDeviceGetPersistenceMode")                                \
    X(get_power_usage, NVML_GET_NUMBER, "nvmlDeviceGetPowerUsage")                                          \
    X(get_enforced_power_limit, NVML_GET_NUMBER, "nvmlDeviceGetEnforcedPowerLimit")                         \
    X(get_power_limit, NVML_GET_NUMBER, "nvmlDeviceGetPowerManagementLimit")                                \
    X(get_temperature, (void *device, int sensor, unsigned *celsius), "nvmlDeviceGetTemperature")           \
    X(get_temperature_v1, (void *device, struct nvml_temperature_v1 *temperature),                          \
      "nvmlDeviceGetTemperatureV")                                                                          \
    X(get_utilization, (void *device, struct nvml_utilization *utilization),                                \
      "nvmlDeviceGetUtilizationRates")                                                                      \
    X(get_ecc_mode, (void *device, unsigned *current, unsigned *pending), "nvmlDeviceGetEccMode")           \
    X(get_ecc_errors, (void *device, int type, int counter, unsigned long long *n),                         \
      "nvmlDeviceGetTotalEccErrors")                                                                        \
    X(create_event_set, (void **set), "nvmlEventSetCreate")                                                 \
    X(get_event_types, (void *device, unsigned long long *types), "nvmlDeviceGetSupportedEventTypes")       \
    X(register_events, (void *device, unsigned long long types, void *set), "nvmlDeviceRegisterEvents")     \
    X(wait_event, (void *set, struct nvml_event_data *data, unsigned timeout_ms), "nvmlEventSetWait_v2")    \
    X(free_event_set, (void *set), "nvmlEventSetFree")                                                      \
    X(get_mig_mode, (void *device, unsigned *current, unsigned *pending), "nvmlDeviceGetMigMode")           \
    X(get_mig_count, NVML_GET_NUMBER, "nvmlDeviceGetMaxMigDeviceCount")                                     \
    X(get_mig_handle, (void *device, unsigned index, void **instance),                                      \
      "nvmlDeviceGetMigDeviceHandleByIndex")                                                                \
    X(get_common_ancestor, (void *one, void *other, int *level), "nvmlDeviceGetTopologyCommonAncestor")     \
    X(get_link_state, NVML_GET_OF_LINK, "nvmlDeviceGetNvLinkState")                                         \
    X(get_link_version, NVML_GET_OF_LINK, "nvmlDeviceGetNvLinkVersion")                                     \
    X(get_link_device, NVML_GET_OF_LINK, "nvmlDeviceGetNvLinkRemoteDeviceType")                             \
    X(get_link_pci_info, (void *device, unsigned link, struct nvml_pci_info_v3 *info),                      \
      "nvmlDeviceGetNvLinkRemotePciInfo_v2")                                                                \
    X(list_process_details, (void *device, struct nvml_process_detail_list_v1 *list),                       \
      "nvmlDeviceGetRunningProcessDetailList")                                                              \
    X(list_compute_processes, NVML_LIST_PROCESSES, "nvmlDeviceGetComputeRunningProcesses_v3",               \
      "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses")                    \
    X(list_graphics_processes, NVML_LIST_PROCESSES, "nvmlDeviceGetGraphicsRunningProcesses_v3",             \
      "nvmlDeviceGetGraphicsRunningProcesses_v2", "nvmlDeviceGetGraphicsRunningProcesses")                  \
    X(list_mps_processes, NVML_LIST_PROCESSES, "nvmlDeviceGetMPSComputeRunningProcesses_v3",                \
      "nvmlDeviceGetMPSComputeRunningProcesses_v2", "nvmlDeviceGetMPSComputeRunningProcesses")

#endif
