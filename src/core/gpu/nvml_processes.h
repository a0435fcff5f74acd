/*
 * Who holds memory of a device, as the driver tells it, with the defences that the unclear layout of its answer
 * needs. See nvml_processes.c.
 */
#ifndef GPU_NVML_PROCESSES_H
#define GPU_NVML_PROCESSES_H

#include <pool/gpu.h>

#include "core/gpu/nvml_library.h"

/* What a device has been found not to have; remembered by the caller between refreshes. */
struct nvml_process_support {
    bool lacks_details; /* nvmlDeviceGetRunningProcessDetailList */
    bool lacks_mode[3]; /* by enum nvml_process_mode */
};

/*
 * Fills info->processes and are_processes_known. *ret_code is NVML_SUCCESS, or what the driver answered when the
 * list is not known. Errors: INSUFFICIENT_MEMORY.
 */
enum pool_code nvml_processes_read(const struct nvml_library *nvml, void *device,
                                   struct nvml_process_support *support, struct pool_gpu_info *info,
                                   int *ret_code, struct pool_error *err);

#define NVML_RECORD_BYTES_MAX 32
#define NVML_RECORD_POISON    0xA5

/*
 * The length of one record in a buffer of `capacity` times NVML_RECORD_BYTES_MAX bytes that was filled with
 * NVML_RECORD_POISON before a driver wrote n records into it (n from 1 to capacity); 0 when it can not be told.
 */
size_t nvml_record_bytes(const unsigned char *buffer, size_t capacity, size_t n);

#endif
