// The keys of the configuration, one row each, and how their values are read.
#include "keys.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum key_kind {
    KEY_TEXT,
    KEY_PATH,
    KEY_BYTES,
    KEY_READING, // number, on/off/yes/no, a size, or none
    KEY_PROCESS,
    KEY_GRAPHICS_PROCESS,
    KEY_MPS_PROCESS,
    KEY_PCI,
    KEY_CAPABILITY,
    KEY_REMAPPED,
    KEY_EVENT,
    KEY_TOPOLOGY,
    KEY_NVLINK,
};

struct key {
    const char *name;
    enum key_kind kind;
    size_t offset;
};

#define IN_WORLD(member)  offsetof(struct world, member)
#define IN_DEVICE(member) offsetof(struct device, member)

static const struct key world_keys[] = {
    { "version", KEY_TEXT, IN_WORLD(driver_version) },
    { "nvml_version", KEY_TEXT, IN_WORLD(nvml_version) },
    { "cuda", KEY_READING, IN_WORLD(cuda_version) },
    { "process_stride", KEY_READING, IN_WORLD(process_stride) },
    { "process_bytes", KEY_READING, IN_WORLD(process_bytes) },
    { "pid_offset", KEY_READING, IN_WORLD(pid_offset) },
    { "memory_v2", KEY_READING, IN_WORLD(memory_v2) },
    { "v2_used_includes_reserved", KEY_READING, IN_WORLD(v2_used_includes_reserved) },
    { "claims", KEY_PATH, IN_WORLD(claims_dir) },
    { "release_delay_ms", KEY_READING, IN_WORLD(release_delay_ms) },
    { "event", KEY_EVENT, 0 },
    { "topology", KEY_TOPOLOGY, 0 },
};

static const struct key device_keys[] = {
    { "uuid", KEY_TEXT, IN_DEVICE(uuid) },
    { "name", KEY_TEXT, IN_DEVICE(name) },
    { "pci", KEY_PCI, 0 },
    { "total", KEY_BYTES, IN_DEVICE(total_bytes) },
    { "reserved", KEY_BYTES, IN_DEVICE(reserved_bytes) },
    { "used", KEY_BYTES, IN_DEVICE(used_bytes) },
    { "free", KEY_READING, IN_DEVICE(free_bytes) },
    { "lost", KEY_READING, IN_DEVICE(is_lost) },
    { "minor", KEY_READING, IN_DEVICE(minor) },
    { "compute_capability", KEY_CAPABILITY, 0 },
    { "temperature", KEY_READING, IN_DEVICE(celsius) },
    { "power_mw", KEY_READING, IN_DEVICE(power_mw) },
    { "power_limit_mw", KEY_READING, IN_DEVICE(power_limit_mw) },
    { "enforced_power_limit_mw", KEY_READING, IN_DEVICE(enforced_power_limit_mw) },
    { "util_gpu", KEY_READING, IN_DEVICE(utilization_gpu) },
    { "util_memory", KEY_READING, IN_DEVICE(utilization_memory) },
    { "clock_mhz", KEY_READING, IN_DEVICE(clock_mhz) },
    { "max_clock_mhz", KEY_READING, IN_DEVICE(max_clock_mhz) },
    { "clock_reasons", KEY_READING, IN_DEVICE(clock_reasons) },
    { "ecc", KEY_READING, IN_DEVICE(ecc) },
    { "ecc_pending", KEY_READING, IN_DEVICE(ecc_pending) },
    { "ecc_volatile_corrected", KEY_READING, IN_DEVICE(ecc_corrected) },
    { "ecc_volatile_uncorrected", KEY_READING, IN_DEVICE(ecc_uncorrected) },
    { "ecc_aggregate_corrected", KEY_READING, IN_DEVICE(ecc_total_corrected) },
    { "ecc_aggregate_uncorrected", KEY_READING, IN_DEVICE(ecc_total_uncorrected) },
    { "remapped_rows", KEY_REMAPPED, 0 },
    { "retired_pending", KEY_READING, IN_DEVICE(retired_pending) },
    { "persistence", KEY_READING, IN_DEVICE(persistence) },
    { "compute_mode", KEY_READING, IN_DEVICE(compute_mode) },
    { "mig", KEY_READING, IN_DEVICE(mig) },
    { "mig_pending", KEY_READING, IN_DEVICE(mig_pending) },
    { "max_mig_devices", KEY_READING, IN_DEVICE(max_mig_devices) },
    { "numa_node", KEY_READING, IN_DEVICE(numa_node) },
    { "cpu_affinity", KEY_READING, IN_DEVICE(cpu_affinity) },
    { "gi", KEY_READING, IN_DEVICE(gpu_instance) },
    { "ci", KEY_READING, IN_DEVICE(compute_instance) },
    { "multiprocessors", KEY_READING, IN_DEVICE(multiprocessors) },
    { "process", KEY_PROCESS, 0 },
    { "graphics_process", KEY_GRAPHICS_PROCESS, 0 },
    { "mps_process", KEY_MPS_PROCESS, 0 },
    { "nvlink", KEY_NVLINK, 0 },
};

void *append(void *array_pointer, unsigned *count, size_t size)
{
    void **array = array_pointer;
    void *grown = realloc(*array, (*count + 1U) * size);
    if (grown == NULL)
        return NULL;
    *array = grown;
    void *element = (char *)grown + *count * size;
    memset(element, 0, size);
    (*count)++;
    return element;
}

struct reading present(nvml_u64 value)
{
    return (struct reading){ .is_present = true, .value = value };
}

bool read_number(const char *text, nvml_u64 *ret)
{
    if (!isdigit((unsigned char)text[0]))
        return false;
    char *end;
    errno = 0;
    nvml_u64 value = strtoull(text, &end, 0);
    if (errno != 0)
        return false;
    nvml_u64 unit = 1;
    if (strcmp(end, "KiB") == 0)
        unit = 1024;
    else if (strcmp(end, "MiB") == 0)
        unit = MIB;
    else if (strcmp(end, "GiB") == 0)
        unit = 1024 * MIB;
    else if (*end != '\0')
        return false;
    return !__builtin_mul_overflow(value, unit, ret);
}

static bool read_reading(const char *text, struct reading *ret)
{
    static const struct {
        const char *word;
        struct reading reading;
    } words[] = {
        { "none", { false, 0 } },
        { "on", { true, 1 } },
        { "yes", { true, 1 } },
        { "off", { true, 0 } },
        { "no", { true, 0 } },
        { "known", { true, 0 } },
        { "unknown", { true, NVML_NOT_AVAILABLE } },
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(text, words[i].word) == 0) {
            *ret = words[i].reading;
            return true;
        }
    ret->is_present = true;
    return read_number(text, &ret->value);
}

// Splits text at blanks into at most n_max words; the count, or n_max + 1 when there are more.
static unsigned split_words(char *text, char *words[], unsigned n_max)
{
    unsigned n = 0;
    for (char *at = text;;) {
        while (isspace((unsigned char)*at))
            *at++ = '\0';
        if (*at == '\0')
            return n;
        if (n == n_max)
            return n_max + 1;
        words[n++] = at;
        while (*at != '\0' && !isspace((unsigned char)*at))
            at++;
    }
}

bool read_numbers(char *text, nvml_u64 values[], unsigned n_min, unsigned n_max)
{
    char *words[8];
    unsigned n = split_words(text, words, n_max);
    if (n < n_min || n > n_max)
        return false;
    for (unsigned i = 0; i < n; i++) {
        struct reading reading;
        if (!read_reading(words[i], &reading) || !reading.is_present)
            return false;
        values[i] = reading.value;
    }
    return true;
}

static bool add_process(struct device *device, enum process_kind kind, char *text)
{
    nvml_u64 values[4] = { 0, 0, NVML_NO_INSTANCE, NVML_NO_INSTANCE };
    if (device->is_mig) {
        values[2] = device->gpu_instance.value;
        values[3] = device->compute_instance.value;
    }
    if (!read_numbers(text, values, 2, 4))
        return false;
    struct process *process = append(&device->processes, &device->n_processes, sizeof *process);
    if (process == NULL)
        return false;
    process->kind = kind;
    process->record = (struct nvml_process){ .pid = (unsigned)values[0],
                                             .used_bytes = values[1],
                                             .gpu_instance = (unsigned)values[2],
                                             .compute_instance = (unsigned)values[3] };
    return true;
}

// DOMAIN:BUS:DEVICE.FUNCTION or BUS:DEVICE.FUNCTION, hexadecimal.
static bool read_pci(const char *text, unsigned *domain, unsigned *bus, unsigned *device)
{
    unsigned long parts[4] = { 0 };
    unsigned n = 0;
    const char *at = text;
    for (; n < 4 && isxdigit((unsigned char)*at); n++) {
        char *end;
        parts[n] = strtoul(at, &end, 16);
        if (parts[n] > 0xFFFFFFFFUL)
            return false;
        at = *end == ':' || *end == '.' ? end + 1 : end;
    }
    if (*at != '\0' || n < 3)
        return false;
    *domain = n == 4 ? (unsigned)parts[0] : 0;
    *bus = (unsigned)parts[n - 3];
    *device = (unsigned)parts[n - 2];
    return true;
}

// NUMBER STATE [REMOTE-PCI|none [TYPE [VERSION|none]]]
static bool add_nvlink(struct device *device, char *text)
{
    char *words[5];
    unsigned n = split_words(text, words, 5);
    struct nvlink link = { .type = 0, .version = present(6) };
    if (n < 2 || n > 5 || !read_number(words[0], &link.number) || !read_number(words[1], &link.state))
        return false;
    link.has_remote = n > 2 && strcmp(words[2], "none") != 0;
    if (link.has_remote && !read_pci(words[2], &link.pci_domain, &link.pci_bus, &link.pci_device))
        return false;
    if ((n > 3 && !read_number(words[3], &link.type)) || (n > 4 && !read_reading(words[4], &link.version)))
        return false;
    struct nvlink *added = append(&device->nvlinks, &device->n_nvlinks, sizeof *added);
    if (added != NULL)
        *added = link;
    return added != NULL;
}

static bool read_capability(const char *text, struct device *device)
{
    if (strcmp(text, "none") == 0) {
        device->capability_major.is_present = device->capability_minor.is_present = false;
        return true;
    }
    char *end;
    unsigned long major = strtoul(text, &end, 10);
    if (end == text || *end != '.' || !isdigit((unsigned char)end[1]))
        return false;
    device->capability_major = present(major);
    device->capability_minor = present(strtoul(end + 1, &end, 10));
    return *end == '\0';
}

static bool read_remapped(char *text, struct device *device)
{
    nvml_u64 rows[4] = { 0 };
    bool is_present = strcmp(text, "none") != 0;
    if (is_present && !read_numbers(text, rows, 4, 4))
        return false;
    device->remapped_corrected = (struct reading){ is_present, rows[0] };
    device->remapped_uncorrected = (struct reading){ is_present, rows[1] };
    device->remapped_pending = (struct reading){ is_present, rows[2] };
    device->remapped_failed = (struct reading){ is_present, rows[3] };
    return true;
}

static bool add_event(struct world *world, char *text)
{
    nvml_u64 values[4] = { 0 };
    if (!read_numbers(text, values, 4, 4))
        return false;
    struct event *event = append(&world->events, &world->n_events, sizeof *event);
    if (event == NULL)
        return false;
    *event = (struct event){
        .number = values[0], .gpu = (unsigned)values[1], .type = values[2], .data = values[3]
    };
    return true;
}

static bool add_topology(struct world *world, char *text)
{
    nvml_u64 values[3] = { 0 };
    if (!read_numbers(text, values, 3, 3))
        return false;
    struct topology *topology = append(&world->topologies, &world->n_topologies, sizeof *topology);
    if (topology == NULL)
        return false;
    *topology = (struct topology){ (unsigned)values[0], (unsigned)values[1], (int)values[2] };
    return true;
}

static bool copy_text(char *target, size_t size, const char *text)
{
    size_t length = strlen(text);
    if (length >= size)
        return false;
    memcpy(target, text, length + 1);
    return true;
}

bool set_key(const struct key *key, void *record, char *value)
{
    char *member = (char *)record + key->offset;
    struct reading reading = { 0 };
    switch (key->kind) {
    case KEY_TEXT: return copy_text(member, TEXT_SIZE, value);
    case KEY_PATH: return copy_text(member, sizeof((struct world *)0)->claims_dir, value);
    case KEY_BYTES:
        if (!read_number(value, &reading.value))
            return false;
        memcpy(member, &reading.value, sizeof reading.value);
        return true;
    case KEY_READING:
        if (!read_reading(value, &reading))
            return false;
        memcpy(member, &reading, sizeof reading);
        return true;
    case KEY_PROCESS: return add_process(record, PROCESS_COMPUTE, value);
    case KEY_GRAPHICS_PROCESS: return add_process(record, PROCESS_GRAPHICS, value);
    case KEY_MPS_PROCESS: return add_process(record, PROCESS_MPS, value);
    case KEY_PCI: {
        struct device *device = record;
        return read_pci(value, &device->pci_domain, &device->pci_bus, &device->pci_device);
    }
    case KEY_CAPABILITY: return read_capability(value, record);
    case KEY_REMAPPED: return read_remapped(value, record);
    case KEY_EVENT: return add_event(record, value);
    case KEY_TOPOLOGY: return add_topology(record, value);
    case KEY_NVLINK: return add_nvlink(record, value);
    }
    return false;
}

bool find_key(const char *name, bool is_device, const struct key **ret)
{
    const struct key *keys = is_device ? device_keys : world_keys;
    size_t n_keys =
        is_device ? sizeof device_keys / sizeof device_keys[0] : sizeof world_keys / sizeof world_keys[0];
    for (size_t i = 0; i < n_keys; i++)
        if (strcmp(keys[i].name, name) == 0) {
            *ret = &keys[i];
            return true;
        }
    return false;
}
