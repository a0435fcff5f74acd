// Reads the configuration text into a world: lines, sections, defaults, messages; the keys themselves are
// keys.c's. Whatever it does not understand is an error with its line, because a misspelt key would make a
// test pass for the wrong reason.
#include "keys.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_GPUS 4096

static const char *const function_names[N_FUNCTIONS] = {
#define X(name) #name,
    NVML_FUNCTIONS(X)
#undef X
};

struct parser {
    const char *path;
    unsigned line;
    struct world *world;
    bool in_driver;
    bool in_device; // the last device of the world
};

static bool __attribute__((format(printf, 2, 3))) refuse(const struct parser *parser, const char *format, ...)
{
    char reason[256];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    fprintf(stderr, "fake-nvml: %s:%u: %s\n", parser->path, parser->line, reason);
    return false;
}

static bool set_override(const struct parser *parser, struct overrides *overrides, const char *key,
                         const char *value)
{
    const char *function = strchr(key, '.') + 1;
    unsigned at = 0;
    while (at < N_FUNCTIONS && strcmp(function_names[at], function) != 0)
        at++;
    if (at == N_FUNCTIONS)
        return refuse(parser, "%s: no such function", key);
    nvml_u64 number = 0;
    bool is_forever = strcmp(value, "forever") == 0;
    if (key[0] == 'r' ? !read_number(value, &number) || number > 100000
                      : !is_forever && !read_number(value, &number))
        return refuse(parser, "%s: %s: wrong value", key, value);
    if (key[0] == 'r')
        overrides->code[at] = (int)number;
    else
        overrides->hang_ms[at] = is_forever ? HANG_FOREVER : (long long)number;
    return true;
}

static bool set_value(const struct parser *parser, const char *name, char *value)
{
    struct world *world = parser->world;
    if (!parser->in_driver && !parser->in_device)
        return refuse(parser, "%s: before the first section", name);
    struct device *device = parser->in_device ? &world->devices[world->n_devices - 1] : NULL;
    if (strncmp(name, "return.", 7) == 0 || strncmp(name, "hang.", 5) == 0)
        return set_override(parser, device != NULL ? &device->overrides : &world->overrides, name, value);
    const struct key *key;
    if (!find_key(name, device != NULL, &key))
        return refuse(parser, "%s: no such key here", name);
    if (!set_key(key, device != NULL ? (void *)device : (void *)world, value))
        return refuse(parser, "%s: wrong value", name);
    return true;
}

static void clear_overrides(struct overrides *overrides)
{
    for (unsigned i = 0; i < N_FUNCTIONS; i++) {
        overrides->code[i] = -1;
        overrides->hang_ms[i] = 0;
    }
}

// A healthy datacenter GPU; the section then says what is different.
static void set_gpu_defaults(struct device *gpu, unsigned index)
{
    gpu->gpu = gpu->index = index;
    (void)snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-fa4e0000-0000-4000-8000-%012x", index);
    (void)snprintf(gpu->name, sizeof gpu->name, "NVIDIA Fake 24GB");
    gpu->pci_bus = index + 1;
    gpu->total_bytes = 24576 * MIB;
    gpu->reserved_bytes = 512 * MIB;
    gpu->is_lost = gpu->clock_reasons = gpu->retired_pending = gpu->compute_mode = present(0);
    gpu->minor = present(index);
    gpu->capability_major = present(8);
    gpu->capability_minor = present(9);
    gpu->celsius = present(40);
    gpu->power_mw = present(30000);
    gpu->power_limit_mw = gpu->enforced_power_limit_mw = present(300000);
    gpu->utilization_gpu = gpu->utilization_memory = gpu->numa_node = present(0);
    gpu->clock_mhz = present(1200);
    gpu->max_clock_mhz = present(2500);
    gpu->ecc = gpu->ecc_pending = gpu->persistence = gpu->cpu_affinity = present(1);
    gpu->ecc_corrected = gpu->ecc_uncorrected = gpu->ecc_total_corrected = gpu->ecc_total_uncorrected =
        present(0);
    gpu->remapped_corrected = gpu->remapped_uncorrected = gpu->remapped_pending = gpu->remapped_failed =
        present(0);
    gpu->multiprocessors = present(100);
    gpu->max_mig_devices = present(7);
    clear_overrides(&gpu->overrides);
}

static void set_mig_defaults(struct device *mig, const struct device *gpu, unsigned index)
{
    mig->is_mig = true;
    mig->gpu = gpu->index;
    mig->index = index;
    (void)snprintf(mig->uuid, sizeof mig->uuid, "MIG-fa4e0000-0000-4000-8000-%06x%06x", gpu->index, index);
    (void)snprintf(mig->name, sizeof mig->name, "%.80s MIG", gpu->name);
    mig->total_bytes = 4096 * MIB;
    mig->is_lost = gpu->is_lost;
    mig->capability_major = gpu->capability_major;
    mig->capability_minor = gpu->capability_minor;
    mig->gpu_instance = present(index + 1);
    mig->compute_instance = present(0);
    mig->multiprocessors = present(14);
    clear_overrides(&mig->overrides);
}

static bool add_device(struct parser *parser, char *arguments, bool is_mig)
{
    struct world *world = parser->world;
    for (char *at = arguments; *at != '\0'; at++)
        if (*at == '.')
            *at = ' ';
    nvml_u64 numbers[2] = { 0 };
    unsigned n = is_mig ? 2 : 1;
    if (!read_numbers(arguments, numbers, n, n) || numbers[1] > 1000)
        return refuse(parser, "say [gpu N] or [mig GPU.N]");
    if (is_mig ? numbers[0] >= world->n_gpus : numbers[0] != world->n_gpus || numbers[0] >= MAX_GPUS)
        return refuse(parser, is_mig ? "[mig %llu.N] before its GPU" : "[gpu %llu]: number them 0, 1, 2, ...",
                      numbers[0]);
    struct device *device = append(&world->devices, &world->n_devices, sizeof *device);
    if (device == NULL)
        return refuse(parser, "out of memory");
    parser->in_device = true;
    if (!is_mig) {
        set_gpu_defaults(device, world->n_gpus++);
        return true;
    }
    const struct device *gpu = world->devices;
    while (gpu->is_mig || gpu->index != numbers[0])
        gpu++;
    set_mig_defaults(device, gpu, (unsigned)numbers[1]);
    return true;
}

static bool begin_section(struct parser *parser, char *line)
{
    char *end = strchr(line, ']');
    if (end == NULL || end[1] != '\0')
        return refuse(parser, "a section is [driver], [gpu N] or [mig GPU.N]");
    *end = '\0';
    parser->in_driver = parser->in_device = false;
    if (strcmp(line, "[driver") == 0) {
        parser->in_driver = true;
        return true;
    }
    if (strncmp(line, "[gpu ", 5) == 0)
        return add_device(parser, line + 5, false);
    if (strncmp(line, "[mig ", 5) == 0)
        return add_device(parser, line + 5, true);
    return refuse(parser, "a section is [driver], [gpu N] or [mig GPU.N]");
}

static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    size_t length = strlen(text);
    while (length > 0 && isspace((unsigned char)text[length - 1]))
        text[--length] = '\0';
    return text;
}

static bool parse_line(struct parser *parser, char *line)
{
    char *comment = strchr(line, '#');
    if (comment != NULL)
        *comment = '\0';
    line = trim(line);
    if (*line == '\0')
        return true;
    if (*line == '[')
        return begin_section(parser, line);
    char *equals = strchr(line, '=');
    if (equals == NULL)
        return refuse(parser, "neither a section nor KEY = VALUE");
    *equals = '\0';
    return set_value(parser, trim(line), trim(equals + 1));
}

static bool check_world(const struct parser *parser)
{
    const struct world *world = parser->world;
    nvml_u64 stride = world->process_stride.value;
    if (stride != 16 && stride != 24 && stride != 32)
        return refuse(parser, "process_stride is 16, 24 or 32");
    for (unsigned i = 0; i < world->n_devices; i++) {
        const struct device *device = &world->devices[i];
        if (device->reserved_bytes > device->total_bytes)
            return refuse(parser, "%s: reserved is more than total", device->uuid);
        for (unsigned j = 0; j < i; j++)
            if (strcmp(device->uuid, world->devices[j].uuid) == 0)
                return refuse(parser, "%s: two devices have this uuid", device->uuid);
    }
    return true;
}

struct world *parse_world(const char *path, char *text)
{
    struct parser parser = { .path = path, .world = calloc(1, sizeof(struct world)) };
    if (parser.world == NULL) {
        (void)refuse(&parser, "out of memory");
        return NULL;
    }
    struct world *world = parser.world;
    (void)snprintf(world->driver_version, TEXT_SIZE, "550.54.14");
    (void)snprintf(world->nvml_version, TEXT_SIZE, "12.550.54.14");
    world->cuda_version = present(12040);
    world->process_stride = present(24);
    world->memory_v2 = present(1);
    world->v2_used_includes_reserved = world->release_delay_ms = world->process_bytes = world->pid_offset =
        present(0);
    clear_overrides(&world->overrides);
    for (char *line = text; line != NULL;) {
        char *next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        parser.line++;
        if (!parse_line(&parser, line)) {
            free_world(world);
            return NULL;
        }
        line = next;
    }
    if (!check_world(&parser)) {
        free_world(world);
        return NULL;
    }
    return world;
}

void free_world(struct world *world)
{
    if (world == NULL)
        return;
    for (unsigned i = 0; i < world->n_devices; i++) {
        free(world->devices[i].processes);
        free(world->devices[i].nvlinks);
    }
    free(world->devices);
    free(world->events);
    free(world->topologies);
    free(world);
}
