/*
 * The inventory of NVML: the library's life (loaded and initialised once, again only after a failure), the
 * enumeration of devices, and the reasons when there are none. What one device says is nvml_device.c.
 *
 * A host without a driver is no error: its list is empty and says why. Nothing here runs beside the caller; a call
 * into a driver that hangs, hangs the caller.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "core/gpu/inventories.h"
#include "core/gpu/nvml_device.h"
#include "core/gpu/nvml_library.h"
#include "core/gpu/nvml_topology.h"

struct nvml_inventory {
    struct nvml_library nvml;
    bool is_initialised;
    bool was_initialised; /* once: from then on the library stays in the process */
    char path[PATH_MAX];  /* "" for the one of this host */
    char driver_version[80];
    struct pool_reading cuda_version;
    unsigned n_devices; /* as the driver last counted */
    struct nvml_device devices[POOL_GPUS_MAX];
    struct nvml_topology topology;
};

static enum pool_code open_nvml(void *self, const char *source, struct pool_error *err)
{
    struct nvml_inventory *inventory = self;
    if (source[0] != '\0' && source[0] != '/')
        return pool_error_set(err, POOL_INVALID_CONFIG, "nvml:%.200s: the path of a library is absolute",
                              source);
    if (strlen(source) >= sizeof inventory->path)
        return pool_error_set(err, POOL_INVALID_CONFIG, "nvml:%.200s...: the path is too long", source);
    memcpy(inventory->path, source, strlen(source) + 1);
    return POOL_OK;
}

static void stop_driver(struct nvml_inventory *inventory)
{
    if (inventory->is_initialised && inventory->nvml.shutdown)
        inventory->nvml.shutdown();
    inventory->is_initialised = false;
}

static void close_nvml(void *self)
{
    struct nvml_inventory *inventory = self;
    stop_driver(inventory);
    if (!inventory->was_initialised)
        nvml_library_unload(&inventory->nvml);
}

/* What can be done about a driver that does not start. */
static const char *advice_for(int rc)
{
    switch (rc) {
    case NVML_DRIVER_NOT_LOADED:
        return "load the kernel module (modprobe nvidia), or pass the devices into this container";
    case NVML_LIB_RM_VERSION_MISMATCH:
        return "the driver was upgraded under way: reload its module or reboot";
    case NVML_NO_PERMISSION:
    case NVML_OPERATING_SYSTEM: return "let this user read and write /dev/nvidiactl and /dev/nvidia*";
    default: return "see the kernel's log for NVRM";
    }
}

static void read_versions(struct nvml_inventory *inventory)
{
    const struct nvml_library *nvml = &inventory->nvml;
    char version[512] = "";
    unsigned size = sizeof inventory->driver_version;
    inventory->driver_version[0] = '\0';
    if (nvml->get_driver_version && nvml->get_driver_version(version, size) == NVML_SUCCESS) {
        version[size - 1] = '\0';
        nvml_text_clean(version);
        memcpy(inventory->driver_version, version, size);
    }
    int cuda = 0;
    inventory->cuda_version = (struct pool_reading){ .is_present = false };
    bool is_known = nvml->get_cuda_version_v2 && nvml->get_cuda_version_v2(&cuda) == NVML_SUCCESS;
    is_known = is_known || (nvml->get_cuda_version && nvml->get_cuda_version(&cuda) == NVML_SUCCESS);
    if (is_known && cuda > 0)
        inventory->cuda_version = (struct pool_reading){ true, cuda };
}

/* Loads and initialises what is not yet. Returns false with the reason in the list when there is no driver. */
static bool start_driver(struct nvml_inventory *inventory, struct pool_gpu_list *list)
{
    if (inventory->is_initialised)
        return true;
    if (!inventory->nvml.handle) {
        char why[160] = "";
        if (!nvml_library_load(&inventory->nvml, inventory->path, why, sizeof why)) {
            gpu_list_add_reason(
                list, "no NVIDIA driver: %s (install the driver, or name its library as nvml:/PATH)", why);
            return false;
        }
    }
    int rc = inventory->nvml.init();
    if (rc != NVML_SUCCESS) {
        gpu_list_add_reason(list, "the NVIDIA driver does not start: %s (code %d); %s", nvml_code_text(rc),
                            rc, advice_for(rc));
        /* The next refresh loads it anew: the library may be another one then. */
        if (!inventory->was_initialised)
            nvml_library_unload(&inventory->nvml);
        return false;
    }
    inventory->is_initialised = true;
    inventory->was_initialised = true;
    inventory->n_devices = 0;
    memset(inventory->devices, 0, sizeof inventory->devices);
    inventory->topology.asked_boottime_ns = 0;
    read_versions(inventory);
    return true;
}

static int ask_count(struct nvml_inventory *inventory, struct pool_gpu_list *list, unsigned *ret_n)
{
    int rc = inventory->nvml.get_count(ret_n);
    if (rc == NVML_UNINITIALIZED) {
        /* Somebody else in this process shut it down more often than they started it. */
        inventory->is_initialised = false;
        if (!start_driver(inventory, list))
            return rc;
        rc = inventory->nvml.get_count(ret_n);
    }
    if (rc != NVML_SUCCESS) {
        gpu_list_add_reason(list, "the NVIDIA driver does not count its devices: %s (code %d); %s",
                            nvml_code_text(rc), rc, advice_for(rc));
        /* Started again by the next refresh, which is what helps after a driver was reloaded. */
        stop_driver(inventory);
    }
    return rc;
}

/* A device that is not there for us, as against one that is there and broken. */
static bool is_hidden(int rc)
{
    return rc == NVML_NO_PERMISSION || rc == NVML_OPERATING_SYSTEM || rc == NVML_NOT_FOUND ||
           rc == NVML_GPU_NOT_FOUND || rc == NVML_INVALID_ARGUMENT;
}

/* Whether the driver still knows the handle that is kept from an earlier refresh. */
static bool is_handle_good(const struct nvml_inventory *inventory, const struct nvml_device *device)
{
    char uuid[512];
    int rc = inventory->nvml.get_uuid ? inventory->nvml.get_uuid(device->handle, uuid, POOL_GPU_UUID_MAX)
                                      : NVML_FUNCTION_NOT_FOUND;
    return rc != NVML_GPU_IS_LOST && rc != NVML_RESET_REQUIRED && rc != NVML_INVALID_ARGUMENT;
}

static enum pool_code add_device(struct nvml_inventory *inventory, unsigned index, struct pool_gpu_list *list,
                                 struct pool_error *err)
{
    struct nvml_device *device = &inventory->devices[index];
    int rc = NVML_SUCCESS;
    if (device->has_handle && !is_handle_good(inventory, device))
        device->has_handle = false;
    if (!device->has_handle) {
        rc = inventory->nvml.get_handle(index, &device->handle);
        device->has_handle = rc == NVML_SUCCESS;
    }
    if (is_hidden(rc)) {
        gpu_list_add_reason(list, "GPU %u is not shown: %s", index, nvml_code_text(rc));
        return POOL_OK;
    }
    struct pool_gpu_info *info = pool_gpu_list_append(list);
    if (!info)
        return pool_error_no_memory(err);
    info->gpu_id = index;
    memcpy(info->driver_version, inventory->driver_version, sizeof info->driver_version);
    info->cuda_version = inventory->cuda_version;
    if (rc != NVML_SUCCESS) {
        nvml_device_recall(device, info);
        gpu_info_set_unhealthy(info, "%s (code %d)", nvml_code_text(rc), rc);
        return POOL_OK;
    }
    enum pool_code code = nvml_device_read(&inventory->nvml, device, info, err);
    if (code != POOL_OK || info->health == POOL_GPU_UNHEALTHY)
        return code;
    return nvml_device_read_instances(&inventory->nvml, device, info, list, err);
}

static enum pool_code refresh_nvml(void *self, struct pool_gpu_list *list, struct pool_error *err)
{
    struct nvml_inventory *inventory = self;
    unsigned n = 0;
    if (!start_driver(inventory, list) || ask_count(inventory, list, &n) != NVML_SUCCESS)
        return POOL_OK;
    if (n != inventory->n_devices) {
        /* Indices have moved. What is remembered under them belongs to others now. */
        memset(inventory->devices, 0, sizeof inventory->devices);
        inventory->topology.asked_boottime_ns = 0;
        inventory->n_devices = n;
    }
    if (n == 0)
        gpu_list_add_reason(list, "the NVIDIA driver has no device for this process (in a container: none is "
                                  "passed into it)");
    for (unsigned index = 0; index < n; index++) {
        if (list->n_gpus == POOL_GPUS_MAX || index == POOL_GPUS_MAX) {
            gpu_list_add_reason(list, "the driver counts %u devices, the rest is not shown", n);
            break;
        }
        enum pool_code code = add_device(inventory, index, list, err);
        if (code != POOL_OK)
            return code;
    }
    gpu_list_refuse_duplicates(list);
    return nvml_topology_read(&inventory->topology, &inventory->nvml, inventory->devices, n, list, err);
}

const struct pool_gpu_inventory_ops gpu_nvml_ops = {
    .name = "nvml",
    .private_bytes = sizeof(struct nvml_inventory),
    .open = open_nvml,
    .refresh = refresh_nvml,
    .close = close_nvml,
};
