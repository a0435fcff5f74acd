// One call into the fake: the current world under its lock, the configured delay and answer, the device
// behind a handle. Every exported function is begin_call, a look at the world, end_call.
#ifndef FAKE_NVML_DRIVER_H
#define FAKE_NVML_DRIVER_H

#include "world.h"

#pragma GCC visibility push(hidden)

// Which device a call is about.
struct target {
    enum { TARGET_NONE, TARGET_HANDLE, TARGET_INDEX, TARGET_UUID, TARGET_PCI } kind;
    struct nvml_handle *handle;
    unsigned index;
    const char *text;
};

struct call {
    const struct world *world;
    const struct device *device; // NULL for TARGET_NONE
};

// Waits and answers as configured. On NVML_SUCCESS the lock is held and end_call must follow; on any other
// code the exported function returns that code.
int begin_call(enum function function, const struct target *target, struct call *ret_call);

// begin_call for the device of a handle, which is nearly everybody.
int begin_device_call(enum function function, struct nvml_handle *handle, struct call *ret_call);

// Lets go of the world; returns code.
int end_call(int code);

// Does what nvmlInit_v2 (1) and nvmlShutdown (-1) do to the count of users.
int change_users(enum function function, int change);

// The handle of a device, the same for its UUID as long as the library is loaded; NULL without memory.
struct nvml_handle *handle_of(const struct device *device);
// The device behind a handle in this world; NULL when the handle is not ours. *ret_code says why.
const struct device *device_of(const struct world *world, const struct nvml_handle *handle, int *ret_code);
// The n-th MIG device of a GPU, or NULL.
const struct device *find_mig(const struct world *world, unsigned gpu, unsigned index);
const struct device *find_gpu(const struct world *world, unsigned index);

// Writes the address of a device of the bus as NVML does.
void fill_pci_info(struct nvml_pci_info *info, unsigned domain, unsigned bus, unsigned device);

// Copies text into the caller's buffer, as every NVML function with a buffer does.
int answer_text(const char *text, char *buffer, unsigned size);

// Sleeps for milliseconds.
void wait_ms(long long milliseconds);

#pragma GCC visibility pop

#endif
