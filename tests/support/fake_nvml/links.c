// Calls about NVLinks. A GPU without one in the file answers as boards without NVLink do; one with links answers
// INVALID_ARGUMENT behind the last of them.
#include "driver.h"

#include <stddef.h>

// Begins a call about one link. On NVML_SUCCESS the lock is held and end_call must follow.
static int begin_link_call(enum function function, struct nvml_handle *handle, unsigned number,
                           const void *ret, const struct nvlink **ret_link)
{
    struct call call;
    int code = begin_device_call(function, handle, &call);
    if (code != NVML_SUCCESS)
        return code;
    const struct device *device = call.device;
    if (device->is_mig || device->n_nvlinks == 0)
        return end_call(NVML_NOT_SUPPORTED);
    bool is_beyond = true;
    const struct nvlink *found = NULL;
    for (unsigned i = 0; i < device->n_nvlinks; i++) {
        is_beyond = is_beyond && device->nvlinks[i].number < number;
        if (device->nvlinks[i].number == number)
            found = &device->nvlinks[i];
    }
    if (is_beyond || ret == NULL)
        return end_call(NVML_INVALID_ARGUMENT);
    if (found == NULL)
        return end_call(NVML_NOT_SUPPORTED);
    *ret_link = found;
    return NVML_SUCCESS;
}

int nvmlDeviceGetNvLinkState(struct nvml_handle *handle, unsigned link, int *is_active)
{
    const struct nvlink *found;
    int code = begin_link_call(F_nvmlDeviceGetNvLinkState, handle, link, is_active, &found);
    if (code != NVML_SUCCESS)
        return code;
    *is_active = (int)found->state;
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetNvLinkVersion(struct nvml_handle *handle, unsigned link, unsigned *version)
{
    const struct nvlink *found;
    int code = begin_link_call(F_nvmlDeviceGetNvLinkVersion, handle, link, version, &found);
    if (code != NVML_SUCCESS)
        return code;
    if (!found->version.is_present)
        return end_call(NVML_NOT_SUPPORTED);
    *version = (unsigned)found->version.value;
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(struct nvml_handle *handle, unsigned link, struct nvml_pci_info *info)
{
    const struct nvlink *found;
    int code = begin_link_call(F_nvmlDeviceGetNvLinkRemotePciInfo_v2, handle, link, info, &found);
    if (code != NVML_SUCCESS)
        return code;
    if (!found->has_remote)
        return end_call(NVML_NOT_SUPPORTED);
    fill_pci_info(info, found->pci_domain, found->pci_bus, found->pci_device);
    return end_call(NVML_SUCCESS);
}

int nvmlDeviceGetNvLinkRemoteDeviceType(struct nvml_handle *handle, unsigned link, int *type)
{
    const struct nvlink *found;
    int code = begin_link_call(F_nvmlDeviceGetNvLinkRemoteDeviceType, handle, link, type, &found);
    if (code != NVML_SUCCESS)
        return code;
    *type = (int)found->type;
    return end_call(NVML_SUCCESS);
}
