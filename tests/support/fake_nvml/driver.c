// The loaded driver: the lock, the world and when it is read again, the handles that were given out.
#include "driver.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONFIG_BYTES (4 << 20)
#define HANG_CHECK_MS    5 // how soon a call that hangs for ever sees that it no longer should

struct nvml_handle {
    struct nvml_handle *next;
    char uuid[TEXT_SIZE];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned n_users;
static struct nvml_handle *handles;

static struct {
    struct world *world;
    int code; // why there is no world
    char path[4096];
    struct stat seen;
    bool is_loaded;
} current;

void wait_ms(long long milliseconds)
{
    struct timespec left = { .tv_sec = (time_t)(milliseconds / 1000),
                             .tv_nsec = (long)(milliseconds % 1000) * 1000000 };
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
        continue;
}

static bool is_same_file(const struct stat *one, const struct stat *other)
{
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino && one->st_size == other->st_size &&
           one->st_mtim.tv_sec == other->st_mtim.tv_sec && one->st_mtim.tv_nsec == other->st_mtim.tv_nsec &&
           one->st_ctim.tv_sec == other->st_ctim.tv_sec && one->st_ctim.tv_nsec == other->st_ctim.tv_nsec;
}

static char *read_whole(int fd)
{
    char *text = malloc(MAX_CONFIG_BYTES + 1);
    size_t length = 0;
    while (text != NULL && length < MAX_CONFIG_BYTES) {
        ssize_t n = read(fd, text + length, MAX_CONFIG_BYTES - length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            free(text);
            return NULL;
        }
        if (n == 0)
            break;
        length += (size_t)n;
    }
    if (text == NULL)
        return NULL;
    text[length] = '\0';
    if (strlen(text) == length)
        return text;
    free(text); // a NUL byte inside
    errno = EILSEQ;
    return NULL;
}

static void set_world(struct world *world, int code)
{
    free_world(current.world);
    current.world = world;
    current.code = code;
}

// Reads the file again when it is another one than before. No file: the machine has no driver.
static void refresh_world(void)
{
    const char *path = getenv("FAKE_NVML_CONFIG");
    struct stat now;
    if (path == NULL || stat(path, &now) < 0) {
        set_world(NULL, NVML_DRIVER_NOT_LOADED);
        current.is_loaded = false;
        return;
    }
    if (current.is_loaded && strcmp(path, current.path) == 0 && is_same_file(&now, &current.seen))
        return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &now) < 0) {
        fprintf(stderr, "fake-nvml: %s: %s\n", path, strerror(errno));
        set_world(NULL, NVML_UNKNOWN);
    } else {
        char *text = read_whole(fd);
        if (text == NULL)
            fprintf(stderr, "fake-nvml: %s: %s\n", path, strerror(errno));
        struct world *world = text != NULL ? parse_world(path, text) : NULL;
        set_world(world, world != NULL ? NVML_SUCCESS : NVML_UNKNOWN);
        free(text);
    }
    if (fd >= 0)
        close(fd);
    current.seen = now;
    (void)snprintf(current.path, sizeof current.path, "%s", path);
    current.is_loaded = true;
}

const struct device *find_gpu(const struct world *world, unsigned index)
{
    for (unsigned i = 0; i < world->n_devices; i++)
        if (!world->devices[i].is_mig && world->devices[i].index == index)
            return &world->devices[i];
    return NULL;
}

const struct device *find_mig(const struct world *world, unsigned gpu, unsigned index)
{
    for (unsigned i = 0; i < world->n_devices; i++)
        if (world->devices[i].is_mig && world->devices[i].gpu == gpu && world->devices[i].index == index)
            return &world->devices[i];
    return NULL;
}

static const struct device *find_uuid(const struct world *world, const char *uuid)
{
    for (unsigned i = 0; i < world->n_devices; i++)
        if (strcmp(world->devices[i].uuid, uuid) == 0)
            return &world->devices[i];
    return NULL;
}

// domain:bus:device.function, domain:bus:device or bus:device.function.
static const struct device *find_pci(const struct world *world, const char *text)
{
    char *end;
    unsigned long parts[3] = { 0 };
    unsigned n = 0;
    for (const char *at = text; n < 3; at = end + 1) {
        parts[n++] = strtoul(at, &end, 16);
        if (end == at || *end != ':')
            break;
    }
    if (n < 2)
        return NULL;
    unsigned long domain = n == 3 ? parts[0] : 0;
    for (unsigned i = 0; i < world->n_devices; i++) {
        const struct device *device = &world->devices[i];
        if (!device->is_mig && device->pci_domain == domain && device->pci_bus == parts[n - 2] &&
            device->pci_device == parts[n - 1])
            return device;
    }
    return NULL;
}

const struct device *device_of(const struct world *world, const struct nvml_handle *handle, int *ret_code)
{
    *ret_code = NVML_INVALID_ARGUMENT;
    for (const struct nvml_handle *known = handles; known != NULL; known = known->next)
        if (known == handle) {
            const struct device *device = find_uuid(world, known->uuid);
            *ret_code = device != NULL ? NVML_SUCCESS : NVML_GPU_IS_LOST;
            return device;
        }
    return NULL;
}

struct nvml_handle *handle_of(const struct device *device)
{
    for (struct nvml_handle *known = handles; known != NULL; known = known->next)
        if (strcmp(known->uuid, device->uuid) == 0)
            return known;
    struct nvml_handle *handle = calloc(1, sizeof *handle);
    if (handle == NULL)
        return NULL;
    memcpy(handle->uuid, device->uuid, TEXT_SIZE);
    handle->next = handles;
    handles = handle;
    return handle;
}

static int find_target(const struct world *world, const struct target *target, const struct device **ret)
{
    int code = NVML_SUCCESS;
    switch (target->kind) {
    case TARGET_NONE: *ret = NULL; return NVML_SUCCESS;
    case TARGET_HANDLE: *ret = device_of(world, target->handle, &code); return code;
    case TARGET_INDEX:
        *ret = find_gpu(world, target->index);
        return *ret != NULL ? NVML_SUCCESS : NVML_INVALID_ARGUMENT;
    case TARGET_UUID: *ret = target->text != NULL ? find_uuid(world, target->text) : NULL; break;
    case TARGET_PCI: *ret = target->text != NULL ? find_pci(world, target->text) : NULL; break;
    }
    if (target->text == NULL)
        return NVML_INVALID_ARGUMENT;
    return *ret != NULL ? NVML_SUCCESS : NVML_NOT_FOUND;
}

// What is configured for this call on this device: the device's own lines before the driver's.
static int configured_code(const struct world *world, const struct device *device, enum function function)
{
    int code = device != NULL ? device->overrides.code[function] : -1;
    return code >= 0 ? code : world->overrides.code[function];
}

static long long configured_hang(const struct world *world, const struct device *device,
                                 enum function function)
{
    long long hang_ms = device != NULL ? device->overrides.hang_ms[function] : 0;
    return hang_ms != 0 ? hang_ms : world->overrides.hang_ms[function];
}

// Sleeps outside the lock, so that only this call hangs. For ever ends when the configuration no longer says
// so.
static void hang(const struct target *target, enum function function)
{
    for (bool has_slept = false;;) {
        const struct device *device = NULL;
        if (current.world == NULL)
            return;
        (void)find_target(current.world, target, &device);
        long long hang_ms = configured_hang(current.world, device, function);
        if (hang_ms == 0 || (hang_ms != HANG_FOREVER && has_slept))
            return;
        pthread_mutex_unlock(&lock);
        wait_ms(hang_ms == HANG_FOREVER ? HANG_CHECK_MS : hang_ms);
        pthread_mutex_lock(&lock);
        refresh_world();
        has_slept = true;
    }
}

// begin_call without the question whether the library is initialised.
static int enter(enum function function, const struct target *target, bool needs_init, struct call *ret_call)
{
    pthread_mutex_lock(&lock);
    refresh_world();
    hang(target, function);
    if (needs_init && n_users == 0)
        return end_call(NVML_UNINITIALIZED);
    if (current.world == NULL)
        return end_call(current.code);
    const struct device *device = NULL;
    int found = find_target(current.world, target, &device);
    int code = configured_code(current.world, device, function);
    if (code > 0)
        return end_call(code);
    if (found != NVML_SUCCESS)
        return end_call(found);
    if (device != NULL && device->is_lost.value != 0)
        return end_call(NVML_GPU_IS_LOST);
    *ret_call = (struct call){ .world = current.world, .device = device };
    return NVML_SUCCESS;
}

int begin_call(enum function function, const struct target *target, struct call *ret_call)
{
    return enter(function, target, true, ret_call);
}

int begin_device_call(enum function function, struct nvml_handle *handle, struct call *ret_call)
{
    return enter(function, &(struct target){ .kind = TARGET_HANDLE, .handle = handle }, true, ret_call);
}

int end_call(int code)
{
    pthread_mutex_unlock(&lock);
    return code;
}

int change_users(enum function function, int change)
{
    struct call call;
    int code = enter(function, &(struct target){ .kind = TARGET_NONE }, change < 0, &call);
    if (code != NVML_SUCCESS)
        return code;
    n_users = change < 0 ? n_users - 1 : n_users + 1;
    return end_call(NVML_SUCCESS);
}

int answer_text(const char *text, char *buffer, unsigned size)
{
    size_t length = strlen(text);
    if (buffer == NULL)
        return NVML_INVALID_ARGUMENT;
    if (length >= size)
        return NVML_INSUFFICIENT_SIZE;
    memcpy(buffer, text, length + 1);
    return NVML_SUCCESS;
}
