// A libcuda.so.1 without a GPU, as far as tests/gpu/cuda_worker.c uses it. What is allocated is claimed in the fake driver's
// directory FAKE_CUDA_CLAIMS (fake_nvml/README.md), with FAKE_CUDA_CONTEXT_BYTES more for the context.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

typedef unsigned long long cuda_pointer;

enum { CUDA_SUCCESS = 0, CUDA_ERROR_OUT_OF_MEMORY = 2, CUDA_ERROR_NO_DEVICE = 100 };

static unsigned long long taken;

static unsigned long long start_time(void)
{
    char text[4096];
    unsigned long long start = 0;
    FILE *file = fopen("/proc/self/stat", "r");
    size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[n] = '\0';
    const char *at = strrchr(text, ')'); // the name may hold anything
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (at)
        start = strtoull(at + 1, NULL, 10);
    return start;
}

static int claim(void)
{
    char path[4096];
    char fresh[4096];
    const char *folder = getenv("FAKE_CUDA_CLAIMS");
    const char *device = getenv("CUDA_VISIBLE_DEVICES");
    if (!folder || !device || !*device)
        return CUDA_ERROR_NO_DEVICE;
    (void)snprintf(path, sizeof path, "%.4000s/%d", folder, (int)getpid());
    (void)snprintf(fresh, sizeof fresh, "%.4000s/.%d.new", folder, (int)getpid());
    FILE *file = fopen(fresh, "w");
    if (!file)
        return CUDA_ERROR_NO_DEVICE;
    fprintf(file, "start %llu\n%.*s %llu\n", start_time(), (int)strcspn(device, ","), device, taken);
    return fclose(file) == 0 && rename(fresh, path) == 0 ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

EXPORT int cuInit(unsigned flags);
EXPORT int cuDriverGetVersion(int *version);
EXPORT int cuDeviceGet(int *device, int ordinal);
EXPORT int cuDevicePrimaryCtxRetain(void **context, int device);
EXPORT int cuCtxSetCurrent(void *context);
EXPORT int cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes);
EXPORT int cuMemAlloc_v2(cuda_pointer *pointer, size_t n);
EXPORT int cuMemsetD8_v2(cuda_pointer pointer, unsigned char value, size_t n);
EXPORT int cuCtxSynchronize(void);
EXPORT int cuGetErrorName(int result, const char **name);

int cuInit(unsigned flags)
{
    return flags == 0 ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

int cuDriverGetVersion(int *version)
{
    *version = 12040;
    return CUDA_SUCCESS;
}

int cuDeviceGet(int *device, int ordinal)
{
    *device = ordinal;
    return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

int cuDevicePrimaryCtxRetain(void **context, int device)
{
    const char *bytes = getenv("FAKE_CUDA_CONTEXT_BYTES");
    (void)device;
    *context = &taken;
    taken += bytes ? strtoull(bytes, NULL, 10) : 0;
    return claim();
}

int cuCtxSetCurrent(void *context)
{
    return context == &taken ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

int cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    *free_bytes = 0;
    *total_bytes = taken;
    return CUDA_SUCCESS;
}

int cuMemAlloc_v2(cuda_pointer *pointer, size_t n)
{
    taken += n;
    *pointer = 1;
    return claim();
}

int cuMemsetD8_v2(cuda_pointer pointer, unsigned char value, size_t n)
{
    (void)pointer;
    (void)value;
    return n <= taken ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

int cuCtxSynchronize(void)
{
    return CUDA_SUCCESS;
}

int cuGetErrorName(int result, const char **name)
{
    *name = result == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_NO_DEVICE";
    return CUDA_SUCCESS;
}
