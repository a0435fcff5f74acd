/*
 * Listening to NVML's events: one set with every device that has any. A library object of its own beside that of the
 * inventory, so that the two can be used by two threads; NVML counts its users.
 */
#include <limits.h>
#include <pool/gpu_event.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/gpu/inventories.h"
#include "core/gpu/nvml_library.h"

static const char nvml_scheme[] = "nvml:";

static const struct {
    uint64_t type; /* a bit of NVML's nvmlEventType */
    enum pool_gpu_event_kind kind;
} types[] = {
    { 0x2, POOL_GPU_EVENT_ECC_UNCORRECTED },     { 0x8, POOL_GPU_EVENT_XID },
    { 0x1000, POOL_GPU_EVENT_POISON_CONTAINED }, { 0x2000, POOL_GPU_EVENT_POISON_FATAL },
    { 0x4000, POOL_GPU_EVENT_UNAVAILABLE },      { 0x8000, POOL_GPU_EVENT_RECOVERY_ACTION },
};

#define N_TYPES (sizeof types / sizeof types[0])

struct pool_gpu_events {
    struct nvml_library nvml;
    bool is_initialised;
    void *set; /* NULL: none */
    size_t n_devices;
    struct heard_device {
        void *handle;
        char uuid[POOL_GPU_UUID_MAX]; /* read while it can say it: one that is lost can not */
    } devices[POOL_GPUS_MAX];
};

void pool_gpu_events_close(struct pool_gpu_events *events)
{
    if (!events)
        return;
    if (events->set)
        events->nvml.free_event_set(events->set);
    if (events->is_initialised) {
        if (events->nvml.shutdown)
            events->nvml.shutdown();
    } else {
        nvml_library_unload(&events->nvml);
    }
    free(events);
}

static void close_events(struct pool_gpu_events **events)
{
    pool_gpu_events_close(*events);
}

static enum pool_code refuse(const char *what, int rc, struct pool_error *err)
{
    enum pool_code code =
        rc == NVML_NOT_SUPPORTED || rc == NVML_FUNCTION_NOT_FOUND ? POOL_UNIMPLEMENTED : POOL_GPU_UNAVAILABLE;
    return pool_error_set(err, code, "events of GPUs: %s: %s (code %d)", what, nvml_code_text(rc), rc);
}

/* One device more in the set. What it does not support is not asked of it; one that has nothing is left out. */
static int listen_to(struct pool_gpu_events *events, unsigned index)
{
    const struct nvml_library *nvml = &events->nvml;
    struct heard_device *heard = &events->devices[events->n_devices];
    char uuid[512] = "";
    void *device = NULL;
    unsigned long long supported = 0;
    uint64_t wanted = 0;
    int rc = nvml->get_handle(index, &device);
    for (size_t i = 0; i < N_TYPES; i++)
        wanted |= types[i].type;
    if (rc == NVML_SUCCESS)
        rc = nvml->get_event_types ? nvml->get_event_types(device, &supported) : NVML_FUNCTION_NOT_FOUND;
    if (rc == NVML_SUCCESS && (supported & wanted) == 0)
        rc = NVML_NOT_SUPPORTED;
    if (rc == NVML_SUCCESS)
        rc = nvml->register_events(device, supported & wanted, events->set);
    if (rc != NVML_SUCCESS)
        return rc;
    *heard = (struct heard_device){ .handle = device };
    if (nvml->get_uuid && nvml->get_uuid(device, uuid, POOL_GPU_UUID_MAX) == NVML_SUCCESS) {
        uuid[POOL_GPU_UUID_MAX - 1] = '\0';
        if (gpu_uuid_is_usable(uuid))
            memcpy(heard->uuid, uuid, sizeof heard->uuid);
    }
    events->n_devices++;
    return NVML_SUCCESS;
}

static enum pool_code make_set(struct pool_gpu_events *events, struct pool_error *err)
{
    const struct nvml_library *nvml = &events->nvml;
    unsigned n = 0;
    int last_rc = NVML_NOT_SUPPORTED;
    int rc = nvml->get_count(&n);
    if (rc != NVML_SUCCESS)
        return refuse("the devices can not be counted", rc, err);
    if (n == 0)
        return pool_error_set(err, POOL_GPU_UNAVAILABLE, "events of GPUs: there is no device");
    rc = nvml->create_event_set(&events->set);
    if (rc != NVML_SUCCESS) {
        events->set = NULL;
        return refuse("there is no set of events", rc, err);
    }
    for (unsigned i = 0; i < n && i < POOL_GPUS_MAX; i++) {
        rc = listen_to(events, i);
        if (rc != NVML_SUCCESS)
            last_rc = rc;
    }
    return events->n_devices > 0 ? POOL_OK : refuse("no device has any", last_rc, err);
}

enum pool_code pool_gpu_events_open(const char *url, struct pool_gpu_events **ret_events,
                                    struct pool_error *err)
{
    size_t n_scheme = sizeof nvml_scheme - 1;
    if (strncmp(url, nvml_scheme, n_scheme) != 0)
        return pool_error_set(err, POOL_UNIMPLEMENTED, "%.200s: this source has no events", url);
    CLEANUP(close_events) struct pool_gpu_events *events = calloc(1, sizeof *events);
    if (!events)
        return pool_error_no_memory(err);
    char why[160] = "";
    if (!nvml_library_load(&events->nvml, url + n_scheme, why, sizeof why))
        return pool_error_set(err, POOL_GPU_UNAVAILABLE, "events of GPUs: no NVIDIA driver: %s", why);
    const struct nvml_library *nvml = &events->nvml;
    if (!nvml->create_event_set || !nvml->register_events || !nvml->wait_event || !nvml->free_event_set)
        return pool_error_set(err, POOL_UNIMPLEMENTED, "events of GPUs: the driver's library has none");
    int rc = nvml->init();
    if (rc != NVML_SUCCESS)
        return refuse("the driver does not start", rc, err);
    events->is_initialised = true;
    enum pool_code code = make_set(events, err);
    if (code == POOL_OK)
        *ret_events = take_ptr(&events);
    return code;
}

static enum pool_gpu_event_kind kind_of(uint64_t type)
{
    for (size_t i = 0; i < N_TYPES; i++) {
        if (type & types[i].type)
            return types[i].kind;
    }
    return POOL_GPU_EVENT_OTHER;
}

enum pool_code pool_gpu_events_wait(struct pool_gpu_events *events, uint32_t timeout_ms,
                                    struct pool_gpu_event *ret_event, struct pool_error *err)
{
    struct nvml_event_data data = { .gpu_instance_id = NVML_INSTANCE_NONE };
    int rc = events->nvml.wait_event(events->set, &data, timeout_ms);
    if (rc == NVML_TIMEOUT)
        return pool_error_set(err, POOL_DEADLINE_EXCEEDED, "no event came");
    if (rc != NVML_SUCCESS)
        return refuse("they can not be waited for", rc, err);
    struct pool_gpu_event event = { .kind = kind_of(data.type),
                                    .data = data.data > INT64_MAX ? INT64_MAX : (int64_t)data.data };
    for (size_t i = 0; i < events->n_devices; i++) {
        if (events->devices[i].handle == data.device)
            memcpy(event.uuid, events->devices[i].uuid, sizeof event.uuid);
    }
    if (data.gpu_instance_id != NVML_INSTANCE_NONE)
        event.gpu_instance_id = (struct pool_reading){ true, data.gpu_instance_id };
    *ret_event = event;
    return POOL_OK;
}
