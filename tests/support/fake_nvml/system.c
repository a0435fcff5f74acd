// Calls about the driver as a whole: start and end, versions, names of errors and processes.
#include "driver.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct target nothing = { .kind = TARGET_NONE };

int nvmlInit_v2(void)
{
    return change_users(F_nvmlInit_v2, 1);
}

int nvmlInitWithFlags(unsigned flags)
{
    if ((flags & ~7U) != 0)
        return NVML_INVALID_ARGUMENT;
    return change_users(F_nvmlInitWithFlags, 1);
}

int nvmlShutdown(void)
{
    return change_users(F_nvmlShutdown, -1);
}

const char *nvmlErrorString(int code)
{
    static const char *const texts[] = {
        "Success",
        "Uninitialized",
        "Invalid Argument",
        "Not Supported",
        "Insufficient Permissions",
        "Already Initialized",
        "Not Found",
        "Insufficient Size",
        "Insufficient External Power",
        "Driver Not Loaded",
        "Timeout",
        "Interrupt Request Issue",
        "NVML Shared Library Not Found",
        "Function Not Found",
        "Corrupted infoROM",
        "GPU is lost",
        "GPU requires reset",
        "The operating system has blocked the request",
        "Driver/library version mismatch",
        "In use by another client",
        "Insufficient Memory",
        "No data",
        "vGPU ECC not supported",
        "Insufficient resources",
        "Frequency not supported",
        "Argument version mismatch",
        "Deprecated",
        "Not ready",
        "GPU not found",
        "Invalid state",
        "Reset type not supported",
    };
    if (code >= 0 && (size_t)code < sizeof texts / sizeof texts[0])
        return texts[code];
    return "Unknown Error";
}

int nvmlSystemGetDriverVersion(char *text, unsigned size)
{
    struct call call;
    int code = begin_call(F_nvmlSystemGetDriverVersion, &nothing, &call);
    return code != NVML_SUCCESS ? code : end_call(answer_text(call.world->driver_version, text, size));
}

int nvmlSystemGetNVMLVersion(char *text, unsigned size)
{
    struct call call;
    int code = begin_call(F_nvmlSystemGetNVMLVersion, &nothing, &call);
    return code != NVML_SUCCESS ? code : end_call(answer_text(call.world->nvml_version, text, size));
}

static int answer_cuda(enum function function, int *version)
{
    struct call call;
    int code = begin_call(function, &nothing, &call);
    if (code != NVML_SUCCESS)
        return code;
    if (version == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    // The v2 call asks libcuda.so.1; without one it has nothing to say.
    if (!call.world->cuda_version.is_present)
        return end_call(NVML_FUNCTION_NOT_FOUND);
    *version = (int)call.world->cuda_version.value;
    return end_call(NVML_SUCCESS);
}

int nvmlSystemGetCudaDriverVersion(int *version)
{
    return answer_cuda(F_nvmlSystemGetCudaDriverVersion, version);
}

int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    return answer_cuda(F_nvmlSystemGetCudaDriverVersion_v2, version);
}

int nvmlSystemGetProcessName(unsigned pid, char *text, unsigned size)
{
    struct call call;
    int code = begin_call(F_nvmlSystemGetProcessName, &nothing, &call);
    if (code != NVML_SUCCESS)
        return code;
    char path[64], name[4096];
    (void)snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return end_call(NVML_NOT_FOUND);
    ssize_t n = read(fd, name, sizeof name - 1);
    close(fd);
    name[n > 0 ? n : 0] = '\0';
    return end_call(answer_text(name, text, size));
}
