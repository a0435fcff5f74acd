/*
 * Finding and loading libnvidia-ml, and the words for its return codes. Owns the dlopen handle; asks nothing
 * about devices.
 */
#include "core/gpu/nvml_library.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* In this order: the driver's own name, the name of development packages, and where WSL puts the host's driver. */
static const char *const default_paths[] = { "libnvidia-ml.so.1", "libnvidia-ml.so",
                                             "/usr/lib/wsl/lib/libnvidia-ml.so.1" };

#define N_DEFAULT_PATHS (sizeof default_paths / sizeof default_paths[0])
#define NAMES_MAX       3

static const struct {
    size_t offset;
    const char *names[NAMES_MAX + 1]; /* ends with NULL */
} functions[] = {
#define NVML_ROW(field, parameters, ...) { offsetof(struct nvml_library, field), { __VA_ARGS__ } },
    NVML_FUNCTIONS(NVML_ROW)
#undef NVML_ROW
};

#define N_FUNCTIONS (sizeof functions / sizeof functions[0])

static const struct {
    int code;
    const char *text;
} code_texts[] = {
    { NVML_SUCCESS, "success" },
    { NVML_UNINITIALIZED, "the driver's library is not initialised" },
    { NVML_INVALID_ARGUMENT, "invalid argument" },
    { NVML_NOT_SUPPORTED, "not supported by this device" },
    { NVML_NO_PERMISSION, "no permission" },
    { NVML_NOT_FOUND, "not found" },
    { NVML_INSUFFICIENT_SIZE, "insufficient size" },
    { NVML_INSUFFICIENT_POWER, "a power cable is not attached properly" },
    { NVML_DRIVER_NOT_LOADED, "the driver is not loaded" },
    { NVML_TIMEOUT, "the driver's time ran out" },
    { NVML_IRQ_ISSUE, "the kernel has an interrupt problem with the device" },
    { NVML_LIBRARY_NOT_FOUND, "a library of the driver was not found" },
    { NVML_FUNCTION_NOT_FOUND, "the driver's library has no such function" },
    { NVML_CORRUPTED_INFOROM, "the device's infoROM is corrupted" },
    { NVML_GPU_IS_LOST, "the device is lost: it fell off the bus or is not accessible any more" },
    { NVML_RESET_REQUIRED, "the device must be reset" },
    { NVML_OPERATING_SYSTEM, "blocked by the operating system or a control group" },
    { NVML_LIB_RM_VERSION_MISMATCH, "the driver's library and kernel module are of different versions" },
    { NVML_IN_USE, "in use" },
    { NVML_MEMORY, "the driver has no memory" },
    { NVML_NO_DATA, "no data" },
    { NVML_INSUFFICIENT_RESOURCES, "insufficient resources" },
    { NVML_ARGUMENT_VERSION_MISMATCH, "the driver does not know this version of the structure" },
    { NVML_DEPRECATED, "deprecated" },
    { NVML_NOT_READY, "not ready" },
    { NVML_GPU_NOT_FOUND, "no such device" },
    { NVML_INVALID_STATE, "invalid state" },
    { NVML_UNKNOWN, "an internal error of the driver" },
};

#define N_CODE_TEXTS (sizeof code_texts / sizeof code_texts[0])

const char *nvml_code_text(int code)
{
    for (size_t i = 0; i < N_CODE_TEXTS; i++) {
        if (code_texts[i].code == code)
            return code_texts[i].text;
    }
    return "an error that is not documented";
}

void nvml_text_clean(char *text)
{
    for (char *c = text; *c; c++) {
        if (*c < ' ' || *c > '~')
            *c = '?';
    }
}

static void *find_symbol(void *handle, const char *const *names)
{
    for (size_t i = 0; names[i]; i++) {
        void *symbol = dlsym(handle, names[i]);
        if (symbol)
            return symbol;
    }
    return NULL;
}

/*
 * Without these there is no inventory. nvmlShutdown and nvmlErrorString belong to every NVML too, but nothing we
 * show depends on them; of the two ways to read memory one is enough.
 */
static const char *missing_function(const struct nvml_library *nvml)
{
    if (!nvml->init)
        return "nvmlInit_v2";
    if (!nvml->get_count)
        return "nvmlDeviceGetCount_v2";
    if (!nvml->get_handle)
        return "nvmlDeviceGetHandleByIndex_v2";
    if (!nvml->get_memory_v1 && !nvml->get_memory_v2)
        return "nvmlDeviceGetMemoryInfo";
    return NULL;
}

static bool load_from(struct nvml_library *nvml, const char *path, char *reason, size_t n_reason)
{
    void *handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (!handle) {
        const char *why = dlerror();
        snprintf(reason, n_reason, "%s", why ? why : path);
        nvml_text_clean(reason);
        return false;
    }
    struct nvml_library loaded = { .handle = handle };
    for (size_t i = 0; i < N_FUNCTIONS; i++) {
        void *symbol = find_symbol(handle, functions[i].names);
        /* POSIX promises that a pointer from dlsym can be a function; ISO C has no cast for it. */
        memcpy((char *)&loaded + functions[i].offset, &symbol, sizeof symbol);
    }
    const char *missing = missing_function(&loaded);
    if (missing) {
        snprintf(reason, n_reason, "%s: not the library of a driver: it has no %s", path, missing);
        nvml_text_clean(reason);
        nvml_library_unload(&loaded);
        return false;
    }
    *nvml = loaded;
    return true;
}

bool nvml_library_load(struct nvml_library *nvml, const char *path, char *reason, size_t n_reason)
{
    if (path[0] != '\0')
        return load_from(nvml, path, reason, n_reason);
    if (load_from(nvml, default_paths[0], reason, n_reason))
        return true;
    /* The reason that is told is the one of the driver's own name. */
    char ignored[64];
    for (size_t i = 1; i < N_DEFAULT_PATHS; i++) {
        if (load_from(nvml, default_paths[i], ignored, sizeof ignored))
            return true;
    }
    return false;
}

void nvml_library_unload(struct nvml_library *nvml)
{
    if (nvml->handle)
        dlclose(nvml->handle);
    *nvml = (struct nvml_library){ .handle = NULL };
}
