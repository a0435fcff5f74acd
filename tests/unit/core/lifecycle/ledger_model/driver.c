/*
 * The driver of the model: the truth of who holds what, and the fake libnvidia-ml.so.1 that tells it, or something else.
 */
#include "model.h"

#include "base/number.h"

/* PID_MAX_LIMIT of the kernel: a pid that NVML may list and nobody has. */
#define FOREIGN_PID (INT64_C(1) << 22)

static const struct device plain_devices[N_DEVICES] = {
    [DEVICE_A] = { .uuid = GROUND_GPU,
                   .section = "gpu 0",
                   .total_bytes = 8192 * GROUND_MIB,
                   .product = 0,
                   .is_placeable = true },
    [DEVICE_B] = { .uuid = GROUND_GPU_2,
                   .section = "gpu 1",
                   .total_bytes = 6144 * GROUND_MIB,
                   .reserved_bytes = 128 * GROUND_MIB,
                   .product = 1,
                   .is_placeable = true },
    [DEVICE_MIG] = { .uuid = "GPU-00000000-0000-4000-8000-000000000003",
                     .section = "gpu 2",
                     .total_bytes = 8192 * GROUND_MIB,
                     .product = 2 },
    [DEVICE_M0] = { .uuid = "MIG-00000000-0000-4000-8000-000000000004",
                    .section = "mig 2.0",
                    .total_bytes = 4096 * GROUND_MIB,
                    .product = 3,
                    .is_placeable = true,
                    .is_mig = true },
    [DEVICE_M1] = { .uuid = "MIG-00000000-0000-4000-8000-000000000005",
                    .section = "mig 2.1",
                    .total_bytes = 3072 * GROUND_MIB,
                    .product = 3,
                    .is_placeable = true,
                    .is_mig = true },
};

/* ---- the truth ---- */

static size_t find_holding(const struct device *device, int64_t pid)
{
    size_t i = 0;
    while (i < device->n_holdings && device->holdings[i].pid != pid)
        i++;
    return i;
}

int64_t held(const struct model *model, int device, int64_t pid)
{
    const struct device *at = &model->devices[device];
    size_t i = find_holding(at, pid);
    return i < at->n_holdings ? at->holdings[i].bytes : 0;
}

int64_t true_free(const struct model *model, int device)
{
    const struct device *at = &model->devices[device];
    int64_t free_bytes = at->total_bytes - at->reserved_bytes;
    for (size_t i = 0; i < at->n_holdings; i++)
        free_bytes -= at->holdings[i].bytes;
    return free_bytes;
}

int64_t hold(struct model *model, int device, int64_t pid, int64_t bytes)
{
    struct device *at = &model->devices[device];
    size_t i = find_holding(at, pid);
    if (i < at->n_holdings)
        at->holdings[i] = at->holdings[--at->n_holdings];
    int64_t free_bytes = true_free(model, device);
    bytes = bytes < free_bytes ? bytes : free_bytes;
    model->is_dirty = true;
    if (bytes <= 0)
        return 0;
    assert_true(at->n_holdings < HOLDINGS_MAX);
    at->holdings[at->n_holdings++] = (struct holding){ pid, bytes };
    return bytes;
}

int64_t foreign_take(struct model *model, int device, int64_t bytes)
{
    model->devices[device].foreign_bytes = hold(model, device, FOREIGN_PID, bytes);
    return model->devices[device].foreign_bytes;
}

/* ---- lies ---- */

void lie(struct model *model, int device, enum lie lie, int64_t bytes)
{
    struct device *at = &model->devices[device];
    at->lie = lie;
    at->lie_bytes = bytes;
    if (lie == LIE_STALE) {
        at->n_stale = at->n_holdings;
        memcpy(at->stale, at->holdings, sizeof at->stale);
    }
    model->is_dirty = true;
    model->n_lies[lie]++;
}

void tell_the_truth(struct model *model)
{
    bool was_gone = model->fault == FAULT_NO_COUNT || model->fault == FAULT_NO_DRIVER;
    for (int i = 0; i < N_DEVICES; i++)
        model->devices[i].lie = LIE_NONE;
    model->fault = FAULT_NONE;
    model->is_dirty = true;
    /* Of a device that was never seen a driver that loses it does not even tell the name. */
    if (was_gone) {
        driver_show(model);
        assert_int_equal(pool_gpu_inventory_refresh(model->inventory, NULL), POOL_OK);
    }
}

bool is_honest(const struct model *model)
{
    for (int i = 0; i < N_DEVICES; i++) {
        if (model->devices[i].lie != LIE_NONE)
            return false;
    }
    return model->fault == FAULT_NONE;
}

/* Everything that the driver says of a device, as it says it. */
static void tell(const struct device *device, struct view *told)
{
    bool is_stale = device->lie == LIE_STALE;
    const struct holding *entries = is_stale ? device->stale : device->holdings;
    size_t n = is_stale ? device->n_stale : device->n_holdings;
    int64_t usable = device->total_bytes - device->reserved_bytes, sum = 0;
    *told = (struct view){ .is_there = true, .is_listed = true, .total_bytes = device->total_bytes };
    for (size_t i = 0; i < n; i++) {
        struct holding entry = entries[i];
        sum += entry.bytes;
        bool is_picked = device->lie_bytes % 3 == 0 || (entry.pid + device->lie_bytes) % 2 == 0;
        if (device->lie == LIE_BYTES_UNSAID && is_picked)
            entry.bytes = -1;
        else if (device->lie == LIE_BYTES_ABSURD && is_picked)
            entry.bytes = device->total_bytes + 1 + device->lie_bytes;
        else if (device->lie == LIE_BYTES_HIGH)
            entry.bytes = entry.bytes + device->lie_bytes < device->total_bytes
                              ? entry.bytes + device->lie_bytes
                              : device->total_bytes;
        else if (device->lie == LIE_BYTES_LOW)
            entry.bytes /= 2;
        else if (device->lie == LIE_ONE_MISSING && i == (size_t)device->lie_bytes % n)
            continue;
        told->entries[told->n_entries++] = entry;
    }
    told->free_bytes = usable - sum;
    if (device->lie == LIE_FREE_LOW)
        told->free_bytes = excess_bytes(told->free_bytes, device->lie_bytes);
    else if (device->lie == LIE_FREE_HIGH)
        told->free_bytes =
            told->free_bytes + device->lie_bytes < usable ? told->free_bytes + device->lie_bytes : usable;
    told->used_bytes = usable - told->free_bytes;
    if (device->lie == LIE_FIGURES)
        told->free_bytes = told->used_bytes = usable;
}

void driver_view(const struct model *model, int device, struct view *ret_view)
{
    const struct device *at = &model->devices[device];
    tell(at, ret_view);
    /* A lost instance does not even say its UUID, which is all that it is named by. */
    bool is_nameless = at->is_mig && (at->lie == LIE_LOST || model->devices[DEVICE_MIG].lie == LIE_LOST);
    if (model->fault == FAULT_NO_COUNT || model->fault == FAULT_NO_DRIVER || is_nameless) {
        *ret_view = (struct view){ .is_there = false };
        return;
    }
    ret_view->is_usable =
        at->is_placeable && at->lie != LIE_LOST && at->lie != LIE_NO_MEMORY && at->lie != LIE_FIGURES;
    ret_view->is_listed = at->lie != LIE_NO_LIST && at->lie != LIE_LOST;
    if (!ret_view->is_listed)
        ret_view->n_entries = 0;
    for (size_t i = 0; i < ret_view->n_entries; i++) { /* more than there is, is nothing that was said */
        if (ret_view->entries[i].bytes > at->total_bytes)
            ret_view->entries[i].bytes = -1;
    }
}

/* ---- showing it ---- */

static void write_device(const struct device *device, FILE *file)
{
    struct view told;
    tell(device, &told);
    fprintf(file,
            "[%s]\nuuid = %s\nname = Model GPU %d\ntotal = %" PRId64 "\nreserved = %" PRId64
            "\nused = %" PRId64 "\nfree = %" PRId64 "\n",
            device->section, device->uuid, device->product, device->total_bytes, device->reserved_bytes,
            told.used_bytes, told.free_bytes);
    if (!device->is_placeable)
        fprintf(file, "mig = on\n");
    if (device->lie == LIE_LOST)
        fprintf(file, "lost = yes\n");
    if (device->lie == LIE_NO_MEMORY)
        fprintf(file, "return.nvmlDeviceGetMemoryInfo = 999\nreturn.nvmlDeviceGetMemoryInfo_v2 = 999\n");
    if (device->lie == LIE_NO_LIST)
        fprintf(file, "return.nvmlDeviceGetRunningProcessDetailList = 999\n"
                      "return.nvmlDeviceGetComputeRunningProcesses_v3 = 999\n");
    for (size_t i = 0; i < told.n_entries; i++) {
        if (told.entries[i].bytes < 0)
            fprintf(file, "process = %" PRId64 " unknown\n", told.entries[i].pid);
        else
            fprintf(file, "process = %" PRId64 " %" PRId64 "\n", told.entries[i].pid, told.entries[i].bytes);
    }
}

void driver_show(struct model *model)
{
    char fresh[1216];
    if (!model->is_dirty)
        return;
    model->is_dirty = false;
    if (model->fault == FAULT_NO_DRIVER) {
        unlink(model->config_path);
        return;
    }
    snprintf(fresh, sizeof fresh, "%s.new", model->config_path);
    FILE *file = fopen(fresh, "we");
    assert_non_null(file);
    /* Of another length than the one before, so that it is seen to be another file whatever the clock of files is. */
    fprintf(file, "#%*s\n[driver]\n", (int)(model->n_written++ % 61), "");
    if (model->fault == FAULT_NO_COUNT)
        fprintf(file, "return.nvmlDeviceGetCount_v2 = 999\n");
    if (model->fault == FAULT_SLOW)
        fprintf(file, "hang.nvmlDeviceGetMemoryInfo_v2 = 1\n");
    for (int i = 0; i < N_DEVICES; i++)
        write_device(&model->devices[i], file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(fresh, model->config_path), 0);
}

void driver_start(struct model *model, struct ground *where)
{
    const char *build = getenv("POOL_BUILD_DIR");
    struct pool_error err = POOL_ERROR_INIT;
    assert_non_null(build);
    model->ground = where;
    memcpy(model->devices, plain_devices, sizeof model->devices);
    SCRATCH_PATH(&where->tree, "nvml.conf", model->config_path);
    assert_int_equal(setenv("FAKE_NVML_CONFIG", model->config_path, 1), 0);
    snprintf(model->url, sizeof model->url, "nvml:%s/support/libnvidia-ml.so.1", build);
    model->is_dirty = true;
    driver_show(model);
    if (pool_gpu_inventory_open(model->url, &model->inventory, &err) != POOL_OK)
        fail_msg("%s", err.message);
    assert_int_equal(pool_gpu_inventory_refresh(model->inventory, &err), POOL_OK);
}

void driver_end(struct model *model)
{
    pool_gpu_inventory_close(model->inventory);
    model->inventory = NULL;
    unlink(model->config_path);
    unsetenv("FAKE_NVML_CONFIG");
}
