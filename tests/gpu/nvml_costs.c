// What calls of NVML cost on this machine: each one N_CALLS times, the median and the slowest, in microseconds; one JSON
// document on stdout. A call that answers an error is listed with its code.
#include "fake_nvml/nvml_abi.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N_CALLS 200

typedef void any_function(void);

static void *library;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static any_function *find(const char *name)
{
    any_function *function = NULL;
    void *symbol = library ? dlsym(library, name) : NULL;
    memcpy(&function, &symbol, sizeof function); // as dlsym(3) has it, without a cast that C does not know
    return function;
}

static void report(const char *name, int code, int64_t *took_ns, size_t n)
{
    static const char *separator = "";
    qsort(took_ns, n, sizeof *took_ns, compare);
    printf("%s\n  {\"call\": \"%s\", \"code\": %d, \"median_us\": %.1f, \"max_us\": %.1f}", separator, name,
           code, (double)took_ns[n / 2] / 1000, (double)took_ns[n - 1] / 1000);
    separator = ",";
}

static void measure(const char *name, int (*call)(any_function *function, struct nvml_handle *device),
                    struct nvml_handle *device)
{
    static int64_t took_ns[N_CALLS];
    int code = 0;
    any_function *function = find(name);
    if (!function)
        return;
    for (size_t i = 0; i < N_CALLS; i++) {
        int64_t began_ns = now_ns();
        code = call(function, device);
        took_ns[i] = now_ns() - began_ns;
    }
    report(name, code, took_ns, N_CALLS);
}

static int call_memory_v2(any_function *function, struct nvml_handle *device)
{
    struct nvml_memory_v2 memory = { .version = NVML_TAG(struct nvml_memory_v2, 2) };
    return ((int (*)(struct nvml_handle *, struct nvml_memory_v2 *))function)(device, &memory);
}

static int call_memory(any_function *function, struct nvml_handle *device)
{
    struct nvml_memory memory;
    return ((int (*)(struct nvml_handle *, struct nvml_memory *))function)(device, &memory);
}

static int call_processes(any_function *function, struct nvml_handle *device)
{
    static struct nvml_process processes[1024];
    unsigned n = sizeof processes / sizeof processes[0];
    return ((int (*)(struct nvml_handle *, unsigned *, struct nvml_process *))function)(device, &n,
                                                                                        processes);
}

static int call_utilization(any_function *function, struct nvml_handle *device)
{
    struct nvml_utilization utilization;
    return ((int (*)(struct nvml_handle *, struct nvml_utilization *))function)(device, &utilization);
}

static int call_number(any_function *function, struct nvml_handle *device)
{
    unsigned value;
    return ((int (*)(struct nvml_handle *, unsigned *))function)(device, &value);
}

static int call_temperature(any_function *function, struct nvml_handle *device)
{
    unsigned value;
    return ((int (*)(struct nvml_handle *, int, unsigned *))function)(device, 0, &value);
}

static int call_two_numbers(any_function *function, struct nvml_handle *device)
{
    unsigned a;
    unsigned b;
    return ((int (*)(struct nvml_handle *, unsigned *, unsigned *))function)(device, &a, &b);
}

static const struct {
    const char *name;
    int (*call)(any_function *function, struct nvml_handle *device);
} calls[] = {
    { "nvmlDeviceGetMemoryInfo", call_memory },
    { "nvmlDeviceGetMemoryInfo_v2", call_memory_v2 },
    { "nvmlDeviceGetComputeRunningProcesses_v3", call_processes },
    { "nvmlDeviceGetGraphicsRunningProcesses_v3", call_processes },
    { "nvmlDeviceGetUtilizationRates", call_utilization },
    { "nvmlDeviceGetTemperature", call_temperature },
    { "nvmlDeviceGetPowerUsage", call_number },
    { "nvmlDeviceGetEnforcedPowerLimit", call_number },
    { "nvmlDeviceGetPersistenceMode", call_number },
    { "nvmlDeviceGetEccMode", call_two_numbers },
    { "nvmlDeviceGetMigMode", call_two_numbers },
};

int main(void)
{
    int64_t took_ns[1];
    struct nvml_handle *device = NULL;
    library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    int (*init)(void) = (int (*)(void))find("nvmlInit_v2");
    int (*shut_down)(void) = (int (*)(void))find("nvmlShutdown");
    int (*handle)(unsigned, struct nvml_handle **) =
        (int (*)(unsigned, struct nvml_handle **))find("nvmlDeviceGetHandleByIndex_v2");
    if (!init || !handle || !shut_down) {
        fprintf(stderr, "nvml-costs: there is no NVML here\n");
        return 1;
    }
    printf("[");
    int64_t began_ns = now_ns();
    int code = init();
    took_ns[0] = now_ns() - began_ns;
    report("nvmlInit_v2", code, took_ns, 1);
    began_ns = now_ns();
    code = code == NVML_SUCCESS ? handle(0, &device) : code;
    took_ns[0] = now_ns() - began_ns;
    report("nvmlDeviceGetHandleByIndex_v2", code, took_ns, 1);
    for (size_t i = 0; code == NVML_SUCCESS && i < sizeof calls / sizeof calls[0]; i++)
        measure(calls[i].name, calls[i].call, device);
    printf("\n]\n");
    return code == NVML_SUCCESS ? shut_down() : 1;
}
