/*
 * Process lists of NVML. Owns nothing but the buffer of one call.
 *
 * The trap: nvmlDeviceGet*RunningProcesses_v3 has written records of 24 bytes (R510 to R530, and again since
 * R535.98), of 32 bytes (R535.43 to R535.86), and by one report of 16, all under the same name; the older names
 * write 24 (_v2) and 16 (no suffix). Nothing in the answer says which. (Field reports: nvitop #79, #89, #226;
 * gpustat #161.) nvmlDeviceGetRunningProcessDetailList has a version tag and no such doubt, so it comes first where
 * the driver has it (R535 and later). For the others the buffer has room for the longest record and is filled
 * with a pattern that no record contains; which bytes were overwritten tells the length.
 */
#include "core/gpu/nvml_processes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "core/gpu/inventories.h"

#define CAPACITY_FIRST 32
#define CAPACITY_MAX   8192    /* processes of one device: above it the count is a lie */
#define ATTEMPTS_MAX   8       /* the list may grow between two calls, but not for ever */
#define PID_MAX        4194304 /* PID_MAX_LIMIT of Linux on 64-bit machines */

/* Every layout begins so; what comes after is used when the record is long enough. */
struct record {
    uint32_t pid;
    uint64_t used_gpu_memory;
    uint32_t gpu_instance_id, compute_instance_id;
};

static struct record record_at(const unsigned char *buffer, size_t record_bytes, size_t i)
{
    struct record record = { .gpu_instance_id = NVML_INSTANCE_NONE,
                             .compute_instance_id = NVML_INSTANCE_NONE };
    size_t n = record_bytes < sizeof record ? record_bytes : sizeof record;
    memcpy(&record, buffer + i * record_bytes, n);
    return record;
}

static bool is_poison(const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != NVML_RECORD_POISON)
            return false;
    }
    return true;
}

/* Whether n records of this length are there: each with a pid that Linux can have and with its memory written. */
static bool are_records(const unsigned char *buffer, size_t record_bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char *at = buffer + i * record_bytes;
        struct record record = record_at(buffer, record_bytes, i);
        if (record.pid > PID_MAX ||
            is_poison(at + offsetof(struct record, used_gpu_memory), sizeof(uint64_t)))
            return false;
    }
    return true;
}

static bool do_pids_exist(const unsigned char *buffer, size_t record_bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char path[32];
        snprintf(path, sizeof path, "/proc/%u", record_at(buffer, record_bytes, i).pid);
        if (access(path, F_OK) != 0)
            return false;
    }
    return true;
}

size_t nvml_record_bytes(const unsigned char *buffer, size_t capacity, size_t n)
{
    static const size_t lengths[] = { 24, 32, 16 };
    static const size_t n_lengths = sizeof lengths / sizeof lengths[0];
    /*
     * With the right length the n-th record is written and nothing lies behind it. With a shorter one something
     * does; with a longer one the last record ends in untouched bytes. Where more than one length passes (one
     * record, or two of 24 bytes), the first reads the right pid and memory.
     */
    for (size_t i = 0; i < n_lengths; i++) {
        size_t end = n * lengths[i];
        if (are_records(buffer, lengths[i], n) &&
            is_poison(buffer + end, capacity * NVML_RECORD_BYTES_MAX - end))
            return lengths[i];
    }
    /* A library that cleans the whole buffer leaves no such trace. Then pids that exist must do, if for one length. */
    size_t found = 0;
    for (size_t i = 0; i < n_lengths; i++) {
        if (!are_records(buffer, lengths[i], n) || !do_pids_exist(buffer, lengths[i], n))
            continue;
        if (n == 1)
            return lengths[i];
        if (found != 0)
            return 0;
        found = lengths[i];
    }
    return found;
}

/* One device being asked. */
struct reader {
    const struct nvml_library *nvml;
    void *device;
    struct nvml_process_support *support;
    struct pool_gpu_info *info;
    struct pool_error *err;
};

/* One call for one list into a buffer for *n records; *n becomes what the driver says. */
static int call_driver(const struct reader *r, unsigned mode, bool with_details, void *buffer, unsigned *n)
{
    const struct nvml_library *nvml = r->nvml;
    if (with_details) {
        struct nvml_process_detail_list_v1 list = {
            .version = NVML_VERSION_TAG(struct nvml_process_detail_list_v1, 1),
            .mode = mode,
            .n_processes = *n,
            .processes = buffer,
        };
        int rc = nvml->list_process_details ? nvml->list_process_details(r->device, &list)
                                            : NVML_FUNCTION_NOT_FOUND;
        *n = list.n_processes;
        return rc;
    }
    int(*const lists[]) NVML_LIST_PROCESSES = {
        [NVML_PROCESSES_COMPUTE] = nvml->list_compute_processes,
        [NVML_PROCESSES_GRAPHICS] = nvml->list_graphics_processes,
        [NVML_PROCESSES_MPS] = nvml->list_mps_processes,
    };
    return lists[mode] ? lists[mode](r->device, n, buffer) : NVML_FUNCTION_NOT_FOUND;
}

/* The same process in an earlier list: a process that computes and draws is in both, each with all its bytes. */
static struct pool_gpu_process *find_earlier(const struct reader *r, size_t n_earlier,
                                             const struct pool_gpu_process *process)
{
    for (size_t i = 0; process->pid != 0 && i < n_earlier; i++) {
        struct pool_gpu_process *earlier = &r->info->processes[i];
        if (earlier->pid == process->pid &&
            earlier->gpu_instance_id.is_present == process->gpu_instance_id.is_present &&
            earlier->gpu_instance_id.value == process->gpu_instance_id.value)
            return earlier;
    }
    return NULL;
}

static enum pool_code add_records(const struct reader *r, unsigned mode, const unsigned char *buffer,
                                  size_t record_bytes, size_t n)
{
    static const uint32_t poison = NVML_RECORD_POISON * 0x01010101U;
    struct pool_gpu_info *info = r->info;
    bool has_instances = info->is_mig_instance || (info->mig_enabled.is_present && info->mig_enabled.value);
    size_t n_earlier = info->n_processes;
    for (size_t i = 0; i < n; i++) {
        struct record record = record_at(buffer, record_bytes, i);
        struct pool_gpu_process process = { .pid = record.pid,
                                            .is_graphics = mode == NVML_PROCESSES_GRAPHICS };
        /* More than there is: NVML_VALUE_NOT_AVAILABLE, or nonsense. */
        int64_t total = info->is_vram_known ? info->vram_total_bytes : INT64_MAX;
        if (record.used_gpu_memory <= (uint64_t)total)
            process.used_vram_bytes = (struct pool_reading){ true, (int64_t)record.used_gpu_memory };
        if (has_instances && record.gpu_instance_id != NVML_INSTANCE_NONE && record.gpu_instance_id != poison)
            process.gpu_instance_id = (struct pool_reading){ true, record.gpu_instance_id };
        struct pool_gpu_process *earlier = find_earlier(r, n_earlier, &process);
        if (earlier) {
            earlier->is_graphics = earlier->is_graphics || process.is_graphics;
            if (process.used_vram_bytes.is_present &&
                process.used_vram_bytes.value > earlier->used_vram_bytes.value)
                earlier->used_vram_bytes = process.used_vram_bytes;
        } else if (!gpu_info_add_process(info, &process)) {
            return pool_error_no_memory(r->err);
        }
    }
    return POOL_OK;
}

/* Reads one list into r->info. *ret_code is the driver's answer; NVML_UNKNOWN for one that makes no sense. */
static enum pool_code read_list(const struct reader *r, unsigned mode, bool with_details, int *ret_code)
{
    CLEANUP_FREE unsigned char *buffer = NULL;
    size_t capacity = CAPACITY_FIRST;
    *ret_code = NVML_INSUFFICIENT_SIZE;
    for (int attempt = 0; attempt < ATTEMPTS_MAX && capacity <= CAPACITY_MAX; attempt++) {
        free(buffer);
        buffer = malloc(capacity * NVML_RECORD_BYTES_MAX);
        if (!buffer)
            return pool_error_no_memory(r->err);
        memset(buffer, NVML_RECORD_POISON, capacity * NVML_RECORD_BYTES_MAX);
        unsigned n = (unsigned)capacity;
        *ret_code = call_driver(r, mode, with_details, buffer, &n);
        if (*ret_code == NVML_INSUFFICIENT_SIZE) {
            /* Some more than it asks for: the list can grow before the next call. */
            capacity = n > capacity ? (size_t)n + 8 : 2 * capacity;
            continue;
        }
        if (*ret_code != NVML_SUCCESS || n == 0)
            return POOL_OK;
        size_t record_bytes = 0;
        if (n <= capacity)
            record_bytes = with_details ? NVML_RECORD_BYTES_MAX : nvml_record_bytes(buffer, capacity, n);
        if (record_bytes == 0 || !are_records(buffer, record_bytes, n)) {
            *ret_code = NVML_UNKNOWN;
            return POOL_OK;
        }
        return add_records(r, mode, buffer, record_bytes, n);
    }
    return POOL_OK;
}

static bool is_lack(int rc)
{
    return rc == NVML_NOT_SUPPORTED || rc == NVML_FUNCTION_NOT_FOUND ||
           rc == NVML_ARGUMENT_VERSION_MISMATCH || rc == NVML_DEPRECATED;
}

/* The compute list must be told; that of graphics and of MPS clients are what a driver may not have. */
static enum pool_code read_lists(const struct reader *r, bool with_details, int *ret_code)
{
    static const unsigned modes[] = { NVML_PROCESSES_COMPUTE, NVML_PROCESSES_GRAPHICS, NVML_PROCESSES_MPS };
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        unsigned mode = modes[i];
        int rc = NVML_NOT_SUPPORTED;
        bool is_first = mode == NVML_PROCESSES_COMPUTE;
        if (!r->support->lacks_mode[mode] || (is_first && with_details)) {
            enum pool_code code = read_list(r, mode, with_details, &rc);
            if (code != POOL_OK)
                return code;
        }
        if (is_first && with_details)
            r->support->lacks_details = is_lack(rc) || rc == NVML_INVALID_ARGUMENT;
        else
            r->support->lacks_mode[mode] = is_lack(rc);
        *ret_code = rc;
        if (rc == NVML_GPU_IS_LOST || rc == NVML_RESET_REQUIRED || (is_first && rc != NVML_SUCCESS))
            return POOL_OK;
    }
    *ret_code = NVML_SUCCESS;
    return POOL_OK;
}

enum pool_code nvml_processes_read(const struct nvml_library *nvml, void *device,
                                   struct nvml_process_support *support, struct pool_gpu_info *info,
                                   int *ret_code, struct pool_error *err)
{
    struct reader reader = { nvml, device, support, info, err };
    int rc = NVML_NOT_SUPPORTED;
    if (!support->lacks_details) {
        enum pool_code code = read_lists(&reader, true, &rc);
        if (code != POOL_OK)
            return code;
    }
    if (rc != NVML_SUCCESS && rc != NVML_GPU_IS_LOST && rc != NVML_RESET_REQUIRED) {
        enum pool_code code = read_lists(&reader, false, &rc);
        if (code != POOL_OK)
            return code;
    }
    info->are_processes_known = rc == NVML_SUCCESS;
    *ret_code = rc;
    return POOL_OK;
}
