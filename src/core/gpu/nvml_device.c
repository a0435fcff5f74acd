/*
 * Reading one device, or one MIG instance, through NVML. Every call stands alone: one that fails makes its reading
 * absent and hinders no other, except that a lost device is asked nothing more. Owns no list and no library.
 */
#include "core/gpu/nvml_device.h"

#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/number.h"
#include "core/gpu/inventories.h"

enum feature {
    FEATURE_UUID,
    FEATURE_NAME,
    FEATURE_PCI,
    FEATURE_MEMORY_V1,
    FEATURE_MEMORY_V2,
    FEATURE_COMPUTE_CAPABILITY,
    FEATURE_MINOR_NUMBER,
    FEATURE_PERSISTENCE,
    FEATURE_POWER_USAGE,
    FEATURE_ENFORCED_POWER_LIMIT,
    FEATURE_POWER_LIMIT,
    FEATURE_TEMPERATURE,
    FEATURE_TEMPERATURE_V1,
    FEATURE_UTILIZATION,
    FEATURE_ECC_MODE,
    FEATURE_ECC_CORRECTED,
    FEATURE_ECC_UNCORRECTED,
    FEATURE_MIG_MODE,
};

/* A device being asked. */
struct question {
    const struct nvml_library *nvml;
    void *handle;
    struct nvml_support *support;
    struct pool_gpu_info *info;
    bool is_lost;
};

/* NVML's limits of a text; the buffers below have room for a library that does not keep to them. */
#define TEXT_BUFFER_BYTES 512

#define TOTAL_BYTES_MAX   (INT64_C(1) << 50)
#define SLACK_BYTES       (INT64_C(1) << 20)
#define MIG_INSTANCES_MAX 64  /* seven on today's devices */
#define CELSIUS_MAX       250 /* of readings: above, it is not one */
#define POWER_MW_MAX      10000000

static bool may_ask(const struct question *q, enum feature feature)
{
    return !q->is_lost && !(q->support->lacks & (1U << feature));
}

/* Judges what a call returned: whether there is an answer, and what to remember when not. */
static bool is_answered(struct question *q, enum feature feature, int rc)
{
    switch (rc) {
    case NVML_SUCCESS: return true;
    case NVML_GPU_IS_LOST:
    case NVML_RESET_REQUIRED:
        q->is_lost = true;
        gpu_info_set_unhealthy(q->info, "%s", nvml_code_text(rc));
        return false;
    case NVML_NOT_SUPPORTED:
    case NVML_FUNCTION_NOT_FOUND:
    case NVML_ARGUMENT_VERSION_MISMATCH:
    case NVML_DEPRECATED: q->support->lacks |= 1U << feature; return false;
    default: return false;
    }
}

static void set_reading(struct pool_reading *reading, int64_t value, int64_t min, int64_t max)
{
    if (value >= min && value <= max)
        *reading = (struct pool_reading){ true, value };
}

typedef int get_text_function(void *device, char *text, unsigned length);

/* Returns false when there is no answer; a text without its end inside `size` is cut and *ret_is_whole false. */
static bool read_text(struct question *q, enum feature feature, get_text_function *get, char *text,
                      size_t size, bool *ret_is_whole)
{
    char buffer[TEXT_BUFFER_BYTES] = "";
    if (!get || !may_ask(q, feature) || !is_answered(q, feature, get(q->handle, buffer, (unsigned)size)))
        return false;
    *ret_is_whole = memchr(buffer, '\0', size) != NULL;
    buffer[size - 1] = '\0';
    nvml_text_clean(buffer);
    memcpy(text, buffer, size);
    return true;
}

static void read_number(struct question *q, enum feature feature, int (*get)(void *device, unsigned *value),
                        int64_t max, struct pool_reading *reading)
{
    unsigned value = 0;
    if (get && may_ask(q, feature) && is_answered(q, feature, get(q->handle, &value)))
        set_reading(reading, value, 0, max);
}

/* false when the driver has no UUID for it that could name it. */
static bool read_uuid(struct question *q, char uuid[POOL_GPU_UUID_MAX])
{
    char text[POOL_GPU_UUID_MAX] = "";
    bool is_whole = false;
    if (!read_text(q, FEATURE_UUID, q->nvml->get_uuid, text, sizeof text, &is_whole))
        return false;
    if (!is_whole || !gpu_uuid_is_usable(text))
        return false;
    memcpy(uuid, text, sizeof text);
    return true;
}

/* ---- memory ---- */

struct memory {
    uint64_t total, free, used, reserved;
    bool has_reserved;
};

static bool ask_memory(struct question *q, struct memory *ret_memory)
{
    const struct nvml_library *nvml = q->nvml;
    if (nvml->get_memory_v2 && may_ask(q, FEATURE_MEMORY_V2)) {
        struct nvml_memory_v2 v2 = { .version = NVML_VERSION_TAG(struct nvml_memory_v2, 2) };
        if (is_answered(q, FEATURE_MEMORY_V2, nvml->get_memory_v2(q->handle, &v2))) {
            *ret_memory = (struct memory){ v2.total, v2.free, v2.used, v2.reserved, true };
            return true;
        }
    }
    if (nvml->get_memory_v1 && may_ask(q, FEATURE_MEMORY_V1)) {
        struct nvml_memory_v1 v1 = { .total = 0 };
        if (is_answered(q, FEATURE_MEMORY_V1, nvml->get_memory_v1(q->handle, &v1))) {
            *ret_memory = (struct memory){ .total = v1.total, .free = v1.free, .used = v1.used };
            return true;
        }
    }
    return false;
}

/* Whether the figures can be true together. Devices whose memory is a NUMA node count loosely: 1/64 is let pass. */
static bool is_plausible(const struct memory *m)
{
    if (m->total == 0 || m->total > (uint64_t)TOTAL_BYTES_MAX || m->free > m->total || m->used > m->total)
        return false;
    if (m->has_reserved && m->reserved > m->total)
        return false;
    return m->free + m->used <= m->total + (uint64_t)SLACK_BYTES + m->total / 64;
}

static bool is_near(int64_t a, int64_t b)
{
    return a - b <= SLACK_BYTES && b - a <= SLACK_BYTES;
}

static void read_memory(struct question *q)
{
    struct pool_gpu_info *info = q->info;
    struct memory m = { .total = 0 };
    if (!ask_memory(q, &m)) {
        /* A device in MIG mode shows its own memory only to the privileged, and nothing is placed on it. */
        if (info->is_placeable)
            gpu_info_set_unhealthy(info, "the driver does not tell its memory");
        return;
    }
    if (!is_plausible(&m)) {
        gpu_info_set_unhealthy(info,
                               "the driver's figures of its memory contradict each other: total %llu, "
                               "free %llu, used %llu bytes",
                               (unsigned long long)m.total, (unsigned long long)m.free,
                               (unsigned long long)m.used);
        return;
    }
    info->is_vram_known = true;
    info->vram_total_bytes = (int64_t)m.total;
    info->vram_free_bytes = (int64_t)m.free;
    info->vram_used_bytes = (int64_t)m.used;
    if (!m.has_reserved)
        return;
    int64_t reserved = (int64_t)m.reserved;
    info->vram_reserved_bytes = (struct pool_reading){ true, reserved };
    /*
     * The header of NVML says both that `used` of the second version has the reserved bytes in it and that it has
     * not. The sum decides; it says "not" on devices of today.
     */
    int64_t free_and_used = info->vram_free_bytes + info->vram_used_bytes;
    if (!is_near(free_and_used + reserved, info->vram_total_bytes) &&
        is_near(free_and_used, info->vram_total_bytes))
        info->vram_used_bytes = excess_bytes(info->vram_used_bytes, reserved);
}

/* ---- readings ---- */

static void read_mig_mode(struct question *q, struct nvml_device *device)
{
    unsigned current = 0;
    unsigned pending = 0;
    if (q->nvml->get_mig_mode && may_ask(q, FEATURE_MIG_MODE) &&
        is_answered(q, FEATURE_MIG_MODE, q->nvml->get_mig_mode(q->handle, &current, &pending)))
        set_reading(&q->info->mig_enabled, current, 0, 1);
    bool is_enabled = q->info->mig_enabled.is_present && q->info->mig_enabled.value == 1;
    bool was_enabled = device->mig_enabled.is_present && device->mig_enabled.value == 1;
    if (is_enabled != was_enabled) {
        /* The mode decides what is supported (utilisation is not, with MIG on). */
        device->support = (struct nvml_support){ .lacks = 0 };
        device->instance_support = (struct nvml_support){ .lacks = 0 };
    }
    device->mig_enabled = q->info->mig_enabled;
    q->info->is_placeable = !is_enabled;
}

static void read_temperature(struct question *q)
{
    const struct nvml_library *nvml = q->nvml;
    struct pool_reading *reading = &q->info->temperature_celsius;
    unsigned celsius = 0;
    if (nvml->get_temperature && may_ask(q, FEATURE_TEMPERATURE) &&
        is_answered(q, FEATURE_TEMPERATURE, nvml->get_temperature(q->handle, 0, &celsius))) {
        set_reading(reading, celsius, 0, CELSIUS_MAX);
        return;
    }
    struct nvml_temperature_v1 v1 = { .version = NVML_VERSION_TAG(struct nvml_temperature_v1, 1) };
    if (nvml->get_temperature_v1 && may_ask(q, FEATURE_TEMPERATURE_V1) &&
        is_answered(q, FEATURE_TEMPERATURE_V1, nvml->get_temperature_v1(q->handle, &v1)))
        set_reading(reading, v1.temperature, -CELSIUS_MAX, CELSIUS_MAX);
}

static void read_utilization(struct question *q)
{
    struct nvml_utilization utilization = { .gpu = 0 };
    if (!q->nvml->get_utilization || !may_ask(q, FEATURE_UTILIZATION) ||
        !is_answered(q, FEATURE_UTILIZATION, q->nvml->get_utilization(q->handle, &utilization)))
        return;
    set_reading(&q->info->utilization_percent, utilization.gpu, 0, 100);
    set_reading(&q->info->memory_utilization_percent, utilization.memory, 0, 100);
}

static void read_ecc_errors(struct question *q, enum feature feature, int type, struct pool_reading *reading)
{
    unsigned long long n = 0;
    if (q->nvml->get_ecc_errors && may_ask(q, feature) &&
        is_answered(q, feature, q->nvml->get_ecc_errors(q->handle, type, 0 /* volatile */, &n)) &&
        n <= INT64_MAX)
        *reading = (struct pool_reading){ true, (int64_t)n };
}

static void read_ecc(struct question *q)
{
    unsigned current = 0;
    unsigned pending = 0;
    if (q->nvml->get_ecc_mode && may_ask(q, FEATURE_ECC_MODE) &&
        is_answered(q, FEATURE_ECC_MODE, q->nvml->get_ecc_mode(q->handle, &current, &pending)))
        set_reading(&q->info->ecc_enabled, current, 0, 1);
    read_ecc_errors(q, FEATURE_ECC_CORRECTED, 0, &q->info->ecc_corrected_errors);
    read_ecc_errors(q, FEATURE_ECC_UNCORRECTED, 1, &q->info->ecc_uncorrected_errors);
}

static void read_readings(struct question *q)
{
    const struct nvml_library *nvml = q->nvml;
    struct pool_gpu_info *info = q->info;
    read_temperature(q);
    read_number(q, FEATURE_POWER_USAGE, nvml->get_power_usage, POWER_MW_MAX, &info->power_usage_mw);
    read_number(q, FEATURE_ENFORCED_POWER_LIMIT, nvml->get_enforced_power_limit, POWER_MW_MAX,
                &info->power_limit_mw);
    if (!info->power_limit_mw.is_present)
        read_number(q, FEATURE_POWER_LIMIT, nvml->get_power_limit, POWER_MW_MAX, &info->power_limit_mw);
    read_number(q, FEATURE_PERSISTENCE, nvml->get_persistence_mode, 1, &info->persistence_enabled);
    read_utilization(q);
    read_ecc(q);
}

/* ---- facts that do not change ---- */

static void read_pci_bus_id(struct question *q, struct nvml_device *device)
{
    union {
        struct nvml_pci_info_v3 info;
        char room[TEXT_BUFFER_BYTES]; /* for a library with a longer structure */
    } pci = { .room = "" };
    if (!q->nvml->get_pci_info || !may_ask(q, FEATURE_PCI) ||
        !is_answered(q, FEATURE_PCI, q->nvml->get_pci_info(q->handle, &pci.info)))
        return;
    pci.info.bus_id[sizeof pci.info.bus_id - 1] = '\0';
    nvml_text_clean(pci.info.bus_id);
    memcpy(device->pci_bus_id, pci.info.bus_id, sizeof device->pci_bus_id);
}

/* From the kernel, not from NVML: -1 there means that the machine has no such thing. */
static void read_numa_node(struct nvml_device *device)
{
    /* NVML's domain has eight digits, that of the kernel four. */
    const char *bus_id = device->pci_bus_id;
    size_t n = strlen(bus_id);
    if (n == strlen("00000000:00:00.0") && strncmp(bus_id, "0000", 4) == 0)
        bus_id += 4;
    if (n == 0 || strspn(bus_id, "0123456789abcdefABCDEF:.") != strlen(bus_id) || strstr(bus_id, ".."))
        return;
    char path[96];
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/numa_node", bus_id);
    for (char *c = path; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(64);
    int64_t node = -1;
    if (file_read(path, &text) == 0 &&
        parse_int64_n(strbuf_text(&text), strcspn(strbuf_text(&text), "\n"), -1, INT32_MAX, &node))
        set_reading(&device->numa_node, node, 0, INT32_MAX);
}

static void read_facts(struct question *q, struct nvml_device *device)
{
    bool is_whole = false;
    if (device->name[0] == '\0')
        read_text(q, FEATURE_NAME, q->nvml->get_name, device->name, sizeof device->name, &is_whole);
    if (device->pci_bus_id[0] == '\0') {
        read_pci_bus_id(q, device);
        read_numa_node(device);
    }
    int major = 0;
    int minor = 0;
    if (!device->compute_capability_major.is_present && q->nvml->get_compute_capability &&
        may_ask(q, FEATURE_COMPUTE_CAPABILITY) &&
        is_answered(q, FEATURE_COMPUTE_CAPABILITY,
                    q->nvml->get_compute_capability(q->handle, &major, &minor))) {
        set_reading(&device->compute_capability_major, major, 0, INT32_MAX);
        set_reading(&device->compute_capability_minor, minor, 0, INT32_MAX);
    }
    if (!device->minor_number.is_present)
        read_number(q, FEATURE_MINOR_NUMBER, q->nvml->get_minor_number, INT32_MAX, &device->minor_number);
}

void nvml_device_recall(const struct nvml_device *device, struct pool_gpu_info *info)
{
    memcpy(info->uuid, device->uuid, sizeof info->uuid);
    memcpy(info->name, device->name, sizeof info->name);
    memcpy(info->pci_bus_id, device->pci_bus_id, sizeof info->pci_bus_id);
    info->compute_capability_major = device->compute_capability_major;
    info->compute_capability_minor = device->compute_capability_minor;
    info->minor_number = device->minor_number;
    info->numa_node = device->numa_node;
    info->is_placeable = true;
}

/* Another device answers under this index than the one that is remembered: forget that one. */
static void replace_identity(struct nvml_device *device, const char uuid[POOL_GPU_UUID_MAX])
{
    if (strcmp(device->uuid, uuid) == 0)
        return;
    struct nvml_device fresh = { .has_handle = true, .handle = device->handle };
    /* What the first question told about the device that answers now stays. */
    if (device->uuid[0] == '\0')
        fresh.support = device->support;
    memcpy(fresh.uuid, uuid, sizeof fresh.uuid);
    *device = fresh;
}

static enum pool_code read_processes(struct question *q, struct pool_error *err)
{
    if (q->is_lost)
        return POOL_OK;
    int rc = NVML_SUCCESS;
    enum pool_code code = nvml_processes_read(q->nvml, q->handle, &q->support->processes, q->info, &rc, err);
    if (rc == NVML_GPU_IS_LOST || rc == NVML_RESET_REQUIRED) {
        q->is_lost = true;
        gpu_info_set_unhealthy(q->info, "%s", nvml_code_text(rc));
    }
    return code;
}

/*
 * The memory is read once more behind the processes (it was read before them to judge their figures by): what a
 * process takes in between is then missing from its own bytes, and never shown as free as well.
 */
static enum pool_code read_processes_and_memory(struct question *q, struct pool_error *err)
{
    enum pool_code code = read_processes(q, err);
    if (code == POOL_OK && !q->is_lost && q->info->is_vram_known)
        read_memory(q);
    return code;
}

enum pool_code nvml_device_read(const struct nvml_library *nvml, struct nvml_device *device,
                                struct pool_gpu_info *info, struct pool_error *err)
{
    struct question q = { .nvml = nvml, .handle = device->handle, .support = &device->support, .info = info };
    char uuid[POOL_GPU_UUID_MAX] = "";
    if (read_uuid(&q, uuid))
        replace_identity(device, uuid);
    read_facts(&q, device);
    nvml_device_recall(device, info);
    if (info->uuid[0] == '\0')
        gpu_info_set_unhealthy(info, "the driver gives no UUID to name it by");
    read_mig_mode(&q, device);
    read_memory(&q);
    read_readings(&q);
    enum pool_code code = read_processes_and_memory(&q, err);
    if (q.is_lost)
        info->is_vram_known = false;
    /* A lost device, or a handle that the driver does not know any more: look it up again next time. */
    if (info->health == POOL_GPU_UNHEALTHY)
        device->has_handle = false;
    return code;
}

/* ---- MIG ---- */

static enum pool_code read_instance(const struct nvml_library *nvml, struct nvml_device *device, void *handle,
                                    const struct pool_gpu_info *parent, struct pool_gpu_info *info,
                                    struct pool_error *err)
{
    struct question q = {
        .nvml = nvml, .handle = handle, .support = &device->instance_support, .info = info
    };
    info->gpu_id = parent->gpu_id;
    info->is_mig_instance = true;
    info->is_placeable = true;
    memcpy(info->parent_uuid, parent->uuid, sizeof info->parent_uuid);
    memcpy(info->pci_bus_id, parent->pci_bus_id, sizeof info->pci_bus_id);
    memcpy(info->driver_version, parent->driver_version, sizeof info->driver_version);
    info->cuda_version = parent->cuda_version;
    info->compute_capability_major = parent->compute_capability_major;
    info->compute_capability_minor = parent->compute_capability_minor;
    info->minor_number = parent->minor_number;
    info->numa_node = parent->numa_node;
    info->persistence_enabled = parent->persistence_enabled;
    info->ecc_enabled = parent->ecc_enabled;

    bool is_whole = false;
    if (!read_uuid(&q, info->uuid))
        gpu_info_set_unhealthy(info, "the driver gives no UUID to name it by");
    read_text(&q, FEATURE_NAME, nvml->get_name, info->name, sizeof info->name, &is_whole);
    read_memory(&q);
    enum pool_code code = read_processes_and_memory(&q, err);
    if (q.is_lost)
        info->is_vram_known = false;
    if (parent->health == POOL_GPU_UNHEALTHY)
        gpu_info_set_unhealthy(info, "its device: %s", parent->health_reason);
    return code;
}

/*
 * Asked about its processes as a whole, a device in MIG mode answers the privileged alone; others get an empty list
 * or a refusal. Its instances tell theirs to everybody.
 */
static enum pool_code gather_processes(struct pool_gpu_info *parent, const struct pool_gpu_list *list,
                                       size_t first, struct pool_error *err)
{
    if (parent->n_processes > 0)
        return POOL_OK;
    parent->are_processes_known = true;
    for (size_t i = first; i < list->n_gpus; i++) {
        const struct pool_gpu_info *instance = list->gpus[i];
        parent->are_processes_known = parent->are_processes_known && instance->are_processes_known;
        for (size_t k = 0; k < instance->n_processes; k++) {
            if (!gpu_info_add_process(parent, &instance->processes[k]))
                return pool_error_no_memory(err);
        }
    }
    return POOL_OK;
}

enum pool_code nvml_device_read_instances(const struct nvml_library *nvml, struct nvml_device *device,
                                          struct pool_gpu_info *parent, struct pool_gpu_list *list,
                                          struct pool_error *err)
{
    if (!parent->mig_enabled.is_present || parent->mig_enabled.value != 1 || !nvml->get_mig_handle)
        return POOL_OK;
    unsigned n = 0;
    int rc = nvml->get_mig_count ? nvml->get_mig_count(device->handle, &n) : NVML_FUNCTION_NOT_FOUND;
    if (rc != NVML_SUCCESS) {
        gpu_list_add_reason(list, "MIG instances of GPU %u: %s", parent->gpu_id, nvml_code_text(rc));
        return POOL_OK;
    }
    size_t first = list->n_gpus;
    for (unsigned i = 0; i < n && i < MIG_INSTANCES_MAX; i++) {
        void *handle = NULL;
        rc = nvml->get_mig_handle(device->handle, i, &handle);
        if (rc == NVML_NOT_FOUND)
            continue; /* a hole: there may be more behind it */
        if (rc != NVML_SUCCESS) {
            gpu_list_add_reason(list, "MIG instance %u of GPU %u: %s", i, parent->gpu_id, nvml_code_text(rc));
            if (rc == NVML_GPU_IS_LOST || rc == NVML_RESET_REQUIRED || rc == NVML_INVALID_ARGUMENT)
                break;
            continue;
        }
        if (list->n_gpus == POOL_GPUS_MAX) {
            gpu_list_add_reason(list, "more than %d devices, the rest is not shown", POOL_GPUS_MAX);
            break;
        }
        struct pool_gpu_info *info = pool_gpu_list_append(list);
        if (!info)
            return pool_error_no_memory(err);
        enum pool_code code = read_instance(nvml, device, handle, parent, info, err);
        if (code != POOL_OK)
            return code;
    }
    return gather_processes(parent, list, first, err);
}
