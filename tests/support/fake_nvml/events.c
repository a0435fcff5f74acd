// Event sets. An event is a line of the configuration with a number; a set is given those whose number is
// higher than any that was there when it was made, each once.
#include "driver.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define CHECK_MS        20
#define SUPPORTED_TYPES 0xF3DFULL

struct registration {
    struct nvml_handle *handle;
    nvml_u64 types;
    struct registration *next;
};

struct nvml_event_set {
    nvml_u64 last_number;
    struct registration *registrations;
};

static const struct target nothing = { .kind = TARGET_NONE };

static nvml_u64 highest_number(const struct world *world)
{
    nvml_u64 highest = 0;
    for (unsigned i = 0; i < world->n_events; i++)
        if (world->events[i].number > highest)
            highest = world->events[i].number;
    return highest;
}

int nvmlEventSetCreate(struct nvml_event_set **set)
{
    struct call call;
    int code = begin_call(F_nvmlEventSetCreate, &nothing, &call);
    if (code != NVML_SUCCESS)
        return code;
    if (set == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    struct nvml_event_set *made = calloc(1, sizeof *made);
    if (made == NULL)
        return end_call(NVML_MEMORY);
    made->last_number = highest_number(call.world);
    *set = made;
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetSupportedEventTypes(struct nvml_handle *handle, nvml_u64 *types)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceGetSupportedEventTypes, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    if (types == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    *types = SUPPORTED_TYPES;
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceRegisterEvents(struct nvml_handle *handle, nvml_u64 types, struct nvml_event_set *set)
{
    struct call call;
    int code = begin_device_call(F_nvmlDeviceRegisterEvents, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    if (set == NULL || types == 0)
        return end_call(NVML_INVALID_ARGUMENT);
    if ((types & ~SUPPORTED_TYPES) != 0)
        return end_call(NVML_NOT_SUPPORTED);
    struct registration *registration = calloc(1, sizeof *registration);
    if (registration == NULL)
        return end_call(NVML_MEMORY);
    *registration = (struct registration){ .handle = handle, .types = types, .next = set->registrations };
    set->registrations = registration;
    return end_call(NVML_SUCCESS);
}

// The next event for the set, in the order of the numbers; false when there is none.
static bool take_event(const struct world *world, struct nvml_event_set *set, struct nvml_event_data *ret)
{
    const struct event *next = NULL;
    struct nvml_handle *handle = NULL;
    for (unsigned i = 0; i < world->n_events; i++) {
        const struct event *event = &world->events[i];
        if (event->number <= set->last_number || (next != NULL && event->number >= next->number))
            continue;
        for (const struct registration *r = set->registrations; r != NULL; r = r->next) {
            int code;
            const struct device *device = device_of(world, r->handle, &code);
            if (device != NULL && device->gpu == event->gpu && (r->types & event->type) != 0) {
                next = event;
                handle = r->handle;
            }
        }
    }
    if (next == NULL)
        return false;
    set->last_number = next->number;
    *ret = (struct nvml_event_data){ .device = handle,
                                     .type = next->type,
                                     .data = next->data,
                                     .gpu_instance = NVML_NO_INSTANCE,
                                     .compute_instance = NVML_NO_INSTANCE };
    return true;
}

static long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int wait_event(enum function function, struct nvml_event_set *set, struct nvml_event_data *data,
                      unsigned timeout_ms)
{
    long long deadline = now_ms() + timeout_ms;
    for (;;) {
        struct call call;
        int code = begin_call(function, &nothing, &call);
        if (code != NVML_SUCCESS)
            return code;
        if (set == NULL || data == NULL)
            return end_call(NVML_INVALID_ARGUMENT);
        if (take_event(call.world, set, data))
            return end_call(NVML_SUCCESS);
        (void)end_call(NVML_SUCCESS);
        if (now_ms() >= deadline)
            return NVML_TIMEOUT;
        wait_ms(CHECK_MS);
    }
}

int nvmlEventSetWait(struct nvml_event_set *set, struct nvml_event_data *data, unsigned timeout_ms)
{
    return wait_event(F_nvmlEventSetWait, set, data, timeout_ms);
}

int nvmlEventSetWait_v2(struct nvml_event_set *set, struct nvml_event_data *data, unsigned timeout_ms)
{
    return wait_event(F_nvmlEventSetWait_v2, set, data, timeout_ms);
}

int nvmlEventSetFree(struct nvml_event_set *set)
{
    struct call call;
    int code = begin_call(F_nvmlEventSetFree, &nothing, &call);
    if (code != NVML_SUCCESS)
        return code;
    if (set == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    while (set->registrations != NULL) {
        struct registration *first = set->registrations;
        set->registrations = first->next;
        free(first);
    }
    free(set);
    return end_call(NVML_SUCCESS);
}
