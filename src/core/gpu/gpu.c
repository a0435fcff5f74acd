/*
 * The front of GPU inventories: opens them by URL, keeps the facts of the last refresh and hands out copies of
 * them, whatever the implementation. Asks no driver and reads no file itself.
 */
#include <pool/gpu.h>

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "core/gpu/inventories.h"

struct pool_gpu_inventory {
    const struct pool_gpu_inventory_ops *ops;
    struct pool_gpu_list *last; /* of the last refresh that succeeded; NULL before the first */
    _Alignas(max_align_t) unsigned char self[];
};

/* Every implementation there is. The name is the scheme of the URL. */
static const struct pool_gpu_inventory_ops *const implementations[] = { &gpu_nvml_ops, &gpu_static_ops };

#define N_IMPLEMENTATIONS (sizeof implementations / sizeof implementations[0])

const char *pool_gpu_health_name(enum pool_gpu_health health)
{
    return health == POOL_GPU_HEALTHY ? "healthy" : "unhealthy";
}

static const char *const remote_names[] = {
#define POOL_X(name, text) [POOL_NVLINK_##name] = text,
    POOL_NVLINK_REMOTES(POOL_X)
#undef POOL_X
};

static const char *const ancestor_names[] = {
#define POOL_X(name, text) [POOL_GPU_ANCESTOR_##name] = text,
    POOL_GPU_ANCESTORS(POOL_X)
#undef POOL_X
};

const char *pool_nvlink_remote_name(enum pool_nvlink_remote remote)
{
    bool is_one = (size_t)remote < sizeof remote_names / sizeof remote_names[0];
    return remote_names[is_one ? remote : POOL_NVLINK_UNKNOWN];
}

const char *pool_gpu_ancestor_name(enum pool_gpu_ancestor ancestor)
{
    bool is_one = (size_t)ancestor < sizeof ancestor_names / sizeof ancestor_names[0];
    return ancestor_names[is_one ? ancestor : POOL_GPU_ANCESTOR_UNKNOWN];
}

void pool_gpu_info_free(struct pool_gpu_info *info)
{
    if (!info)
        return;
    free(info->processes);
    free(info->nvlinks);
    free(info->peers);
    free(info);
}

void pool_gpu_list_free(struct pool_gpu_list *list)
{
    if (!list)
        return;
    for (size_t i = 0; i < list->n_gpus; i++)
        pool_gpu_info_free(list->gpus[i]);
    free(list->gpus);
    free(list);
}

static void release_list(struct pool_gpu_list **list)
{
    pool_gpu_list_free(*list);
}
#define CLEANUP_LIST CLEANUP(release_list)

static void release_info(struct pool_gpu_info **info)
{
    pool_gpu_info_free(*info);
}
#define CLEANUP_INFO CLEANUP(release_info)

static bool add_info(struct pool_gpu_list *list, struct pool_gpu_info *info)
{
    struct pool_gpu_info **gpus = realloc(list->gpus, (list->n_gpus + 1) * sizeof(struct pool_gpu_info *));
    if (!gpus)
        return false;
    list->gpus = gpus;
    list->gpus[list->n_gpus++] = info;
    return true;
}

struct pool_gpu_info *pool_gpu_list_append(struct pool_gpu_list *list)
{
    if (list->n_gpus >= POOL_GPUS_MAX)
        return NULL;
    CLEANUP_INFO struct pool_gpu_info *info = calloc(1, sizeof *info);
    if (!info || !add_info(list, info))
        return NULL;
    return take_ptr(&info);
}

void gpu_list_add_reason(struct pool_gpu_list *list, const char *format, ...)
{
    size_t n = strlen(list->reason);
    if (n > 0)
        n += (size_t)snprintf(list->reason + n, sizeof list->reason - n, "; ");
    if (n < sizeof list->reason) {
        va_list args;
        va_start(args, format);
        int n_more = vsnprintf(list->reason + n, sizeof list->reason - n, format, args);
        va_end(args);
        n += n_more > 0 ? (size_t)n_more : 0;
    }
    if (n >= sizeof list->reason)
        memcpy(list->reason + sizeof list->reason - sizeof "...", "...", sizeof "...");
}

void gpu_info_set_unhealthy(struct pool_gpu_info *info, const char *format, ...)
{
    if (info->health == POOL_GPU_UNHEALTHY)
        return;
    info->health = POOL_GPU_UNHEALTHY;
    va_list args;
    va_start(args, format);
    vsnprintf(info->health_reason, sizeof info->health_reason, format, args);
    va_end(args);
}

bool gpu_info_add_process(struct pool_gpu_info *info, const struct pool_gpu_process *process)
{
    size_t n = info->n_processes;
    /* Capacities are powers of two, so that the array grows exactly when n is one (or zero). */
    if ((n & (n - 1)) == 0) {
        size_t capacity = n == 0 ? 1 : 2 * n;
        struct pool_gpu_process *processes = realloc(info->processes, capacity * sizeof *processes);
        if (!processes)
            return false;
        info->processes = processes;
    }
    info->processes[info->n_processes++] = *process;
    return true;
}

void gpu_list_refuse_duplicates(struct pool_gpu_list *list)
{
    for (size_t i = 0; i < list->n_gpus; i++) {
        for (size_t k = i + 1; k < list->n_gpus; k++) {
            struct pool_gpu_info *a = list->gpus[i];
            struct pool_gpu_info *b = list->gpus[k];
            if (a->uuid[0] == '\0' || strcmp(a->uuid, b->uuid) != 0)
                continue;
            gpu_info_set_unhealthy(a, "its UUID is also that of GPU %u", b->gpu_id);
            gpu_info_set_unhealthy(b, "its UUID is also that of GPU %u", a->gpu_id);
        }
    }
}

static bool is_digits(const char *text)
{
    return text[0] != '\0' && strspn(text, "0123456789") == strlen(text);
}

bool gpu_uuid_is_usable(const char *text)
{
    static const char allowed[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_./:";
    size_t n = strlen(text);
    return n > 0 && n < POOL_GPU_UUID_MAX && strspn(text, allowed) == n && !is_digits(text);
}

/* NULL for none, and without memory. */
static void *copy_items(const void *items, size_t n, size_t n_bytes)
{
    void *copy = n > 0 ? calloc(n, n_bytes) : NULL;
    if (copy)
        memcpy(copy, items, n * n_bytes);
    return copy;
}

static enum pool_code copy_info(const struct pool_gpu_info *from, struct pool_gpu_info **ret_copy,
                                struct pool_error *err)
{
    CLEANUP_INFO struct pool_gpu_info *copy = malloc(sizeof *copy);
    if (!copy)
        return pool_error_no_memory(err);
    *copy = *from;
    copy->processes = copy_items(from->processes, from->n_processes, sizeof *from->processes);
    copy->nvlinks = copy_items(from->nvlinks, from->n_nvlinks, sizeof *from->nvlinks);
    copy->peers = copy_items(from->peers, from->n_peers, sizeof *from->peers);
    if ((from->n_processes > 0 && !copy->processes) || (from->n_nvlinks > 0 && !copy->nvlinks) ||
        (from->n_peers > 0 && !copy->peers))
        return pool_error_no_memory(err);
    *ret_copy = take_ptr(&copy);
    return POOL_OK;
}

static enum pool_code copy_list(const struct pool_gpu_list *from, struct pool_gpu_list **ret_copy,
                                struct pool_error *err)
{
    CLEANUP_LIST struct pool_gpu_list *copy = malloc(sizeof *copy);
    if (!copy)
        return pool_error_no_memory(err);
    *copy = *from;
    copy->n_gpus = 0;
    copy->gpus = NULL;
    for (size_t i = 0; i < from->n_gpus; i++) {
        CLEANUP_INFO struct pool_gpu_info *info = NULL;
        enum pool_code code = copy_info(from->gpus[i], &info, err);
        if (code != POOL_OK)
            return code;
        if (!add_info(copy, info))
            return pool_error_no_memory(err);
        info = NULL;
    }
    *ret_copy = take_ptr(&copy);
    return POOL_OK;
}

void pool_gpu_inventory_close(struct pool_gpu_inventory *inventory)
{
    if (!inventory)
        return;
    inventory->ops->close(inventory->self);
    pool_gpu_list_free(inventory->last);
    free(inventory);
}

static void release_inventory(struct pool_gpu_inventory **inventory)
{
    pool_gpu_inventory_close(*inventory);
}

enum pool_code pool_gpu_inventory_open_ops(const struct pool_gpu_inventory_ops *ops, const char *source,
                                           struct pool_gpu_inventory **ret_inventory, struct pool_error *err)
{
    CLEANUP(release_inventory)
    struct pool_gpu_inventory *inventory = calloc(1, sizeof *inventory + ops->private_bytes);
    if (!inventory)
        return pool_error_no_memory(err);
    inventory->ops = ops;
    enum pool_code code = ops->open(inventory->self, source, err);
    if (code != POOL_OK)
        return code;
    *ret_inventory = take_ptr(&inventory);
    return POOL_OK;
}

enum pool_code pool_gpu_inventory_open(const char *url, struct pool_gpu_inventory **ret_inventory,
                                       struct pool_error *err)
{
    for (size_t i = 0; i < N_IMPLEMENTATIONS; i++) {
        const struct pool_gpu_inventory_ops *ops = implementations[i];
        size_t n = strlen(ops->name);
        if (strncmp(url, ops->name, n) == 0 && url[n] == ':')
            return pool_gpu_inventory_open_ops(ops, url + n + 1, ret_inventory, err);
    }
    return pool_error_set(err, POOL_INVALID_CONFIG,
                          "\"%.200s\" is no source of GPUs: \"nvml:\", \"nvml:/PATH/libnvidia-ml.so.1\" or "
                          "\"static:/PATH/gpus.toml\"",
                          url);
}

const char *pool_gpu_inventory_name(const struct pool_gpu_inventory *inventory)
{
    return inventory->ops->name;
}

enum pool_code pool_gpu_inventory_refresh(struct pool_gpu_inventory *inventory, struct pool_error *err)
{
    CLEANUP_LIST struct pool_gpu_list *list = calloc(1, sizeof *list);
    if (!list)
        return pool_error_no_memory(err);
    /* The moment before the question: facts are never taken for newer than they are. */
    list->taken_boottime_ns = clock_boottime_ns();
    snprintf(list->source, sizeof list->source, "%s", inventory->ops->name);
    enum pool_code code = inventory->ops->refresh(inventory->self, list, err);
    if (code != POOL_OK)
        return code;
    pool_gpu_list_free(inventory->last);
    inventory->last = take_ptr(&list);
    return POOL_OK;
}

static enum pool_code ensure_refreshed(struct pool_gpu_inventory *inventory, struct pool_error *err)
{
    return inventory->last ? POOL_OK : pool_gpu_inventory_refresh(inventory, err);
}

enum pool_code pool_gpu_inventory_list(struct pool_gpu_inventory *inventory, struct pool_gpu_list **ret_list,
                                       struct pool_error *err)
{
    enum pool_code code = ensure_refreshed(inventory, err);
    return code == POOL_OK ? copy_list(inventory->last, ret_list, err) : code;
}

/* "0" and "17" are indices; "" and "007" and "-1" are not. */
static bool is_index(const char *text)
{
    return is_digits(text) && (text[0] != '0' || text[1] == '\0');
}

/* The number of an index, or -1 when no device can have it. */
static int64_t index_of(const char *text)
{
    int64_t number = 0;
    for (const char *c = text; *c; c++) {
        number = number * 10 + (*c - '0');
        if (number > UINT32_MAX)
            return -1;
    }
    return number;
}

const struct pool_gpu_info *pool_gpu_list_find(const struct pool_gpu_list *list, const char *gpu_id)
{
    bool by_index = is_index(gpu_id);
    int64_t number = by_index ? index_of(gpu_id) : -1;
    if (gpu_id[0] == '\0')
        return NULL;
    for (size_t i = 0; i < list->n_gpus; i++) {
        const struct pool_gpu_info *info = list->gpus[i];
        if (by_index ? !info->is_mig_instance && info->gpu_id == number : strcmp(info->uuid, gpu_id) == 0)
            return info;
    }
    return NULL;
}

static bool has_uuid_prefix(const char *text)
{
    return strncmp(text, "GPU-", 4) == 0 || strncmp(text, "MIG-", 4) == 0;
}

/* Finds a device in the facts of the last refresh. Borrowed until the next one. */
static enum pool_code find_device(struct pool_gpu_inventory *inventory, const char *gpu_id,
                                  const struct pool_gpu_info **ret_info, struct pool_error *err)
{
    enum pool_code code = ensure_refreshed(inventory, err);
    if (code != POOL_OK)
        return code;
    const struct pool_gpu_list *list = inventory->last;
    const struct pool_gpu_info *info = pool_gpu_list_find(list, gpu_id);
    if (info) {
        *ret_info = info;
        return POOL_OK;
    }
    if (!is_index(gpu_id) && (!has_uuid_prefix(gpu_id) || !gpu_uuid_is_usable(gpu_id))) {
        code = pool_error_set(
            err, POOL_INVALID_REQUEST,
            "\"%.100s\" is neither the index of a GPU, as \"0\", nor a UUID, as \"GPU-...\"", gpu_id);
        pool_error_set_field(err, "gpu_id");
        return code;
    }
    if (list->reason[0] != '\0')
        code = pool_error_set(err, POOL_GPU_NOT_FOUND, "no GPU %.100s among the %zu known (%s)", gpu_id,
                              list->n_gpus, list->reason);
    else
        code = pool_error_set(err, POOL_GPU_NOT_FOUND, "no GPU %.100s among the %zu known", gpu_id,
                              list->n_gpus);
    pool_error_set_field(err, "gpu_id");
    return code;
}

enum pool_code pool_gpu_inventory_get(struct pool_gpu_inventory *inventory, const char *gpu_id,
                                      struct pool_gpu_info **ret_info, struct pool_error *err)
{
    const struct pool_gpu_info *info = NULL;
    enum pool_code code = find_device(inventory, gpu_id, &info, err);
    return code == POOL_OK ? copy_info(info, ret_info, err) : code;
}

enum pool_code pool_gpu_inventory_processes(struct pool_gpu_inventory *inventory, const char *gpu_id,
                                            size_t *ret_n, struct pool_gpu_process **ret_processes,
                                            struct pool_error *err)
{
    const struct pool_gpu_info *info = NULL;
    enum pool_code code = find_device(inventory, gpu_id, &info, err);
    if (code != POOL_OK)
        return code;
    if (!info->are_processes_known)
        return pool_error_set(err, POOL_GPU_UNAVAILABLE,
                              "the driver does not tell the processes of GPU %u%s%s", info->gpu_id,
                              info->health_reason[0] ? ": " : "", info->health_reason);
    struct pool_gpu_process *processes =
        copy_items(info->processes, info->n_processes, sizeof *info->processes);
    if (info->n_processes > 0 && !processes)
        return pool_error_no_memory(err);
    *ret_n = info->n_processes;
    *ret_processes = processes;
    return POOL_OK;
}
