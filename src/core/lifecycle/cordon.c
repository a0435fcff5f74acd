/*
 * Cordons in the registry; see cordon.h. One note holds them all: {"UUID": {"reason": …, "since_wall_ms": …}, …}.
 */
#include "core/lifecycle/cordon.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/utf8.h"

static const char note_name[] = "cordons";

#define DEFAULT_REASON "requested"

/* NULL and POOL_OK: there is a note, and it is none of ours. */
static enum pool_code read_cordons(struct pool_manager *manager, json_t **ret_cordons, struct pool_error *err)
{
    CLEANUP_FREE char *text = NULL;
    struct json_failure failure = { 0 };
    if (!manager->registry)
        return pool_error_set(err, POOL_REGISTRY_UNAVAILABLE, "the registry is not open");
    enum pool_code code = pool_worker_registry_get_note(manager->registry, note_name, &text, err);
    if (code != POOL_OK)
        return code;
    json_t *cordons = text ? json_parse(text, strlen(text), &failure) : json_object();
    if (!cordons && (!text || failure.is_no_memory))
        return pool_error_no_memory(err);
    if (cordons && !json_is_object(cordons)) {
        json_decref(cordons);
        cordons = NULL;
    }
    *ret_cordons = cordons;
    return POOL_OK;
}

static enum pool_code write_cordons(struct pool_manager *manager, const json_t *cordons,
                                    struct pool_error *err)
{
    CLEANUP_FREE char *text = json_print(cordons);
    return text ? pool_worker_registry_set_note(manager->registry, note_name, text, err)
                : pool_error_no_memory(err);
}

static void take_cordon(const json_t *cordon, struct pool_gpu_cordon *ret_cordon)
{
    const char *reason = json_string_value(json_object_get(cordon, "reason"));
    ret_cordon->is_cordoned = cordon != NULL;
    ret_cordon->since_wall_ms = json_integer_value(json_object_get(cordon, "since_wall_ms"));
    snprintf(ret_cordon->reason, sizeof ret_cordon->reason, "%s", cordon ? reason ? reason : "unknown" : "");
}

static void mark(struct pool_gpu_info *gpu, const struct pool_gpu_cordon *cordon)
{
    gpu->is_cordoned = true;
    gpu->cordoned_wall_ms = cordon->since_wall_ms;
    memcpy(gpu->cordon_reason, cordon->reason, sizeof gpu->cordon_reason);
}

enum pool_code cordons_apply(struct pool_manager *manager, struct pool_gpu_list *gpus, struct pool_error *err)
{
    CLEANUP_JSON json_t *cordons = NULL;
    if (!gpus || gpus->n_gpus == 0)
        return POOL_OK;
    enum pool_code code = read_cordons(manager, &cordons, err);
    if (code != POOL_OK)
        return code;
    for (size_t i = 0; i < gpus->n_gpus; i++) {
        struct pool_gpu_info *gpu = gpus->gpus[i];
        struct pool_gpu_cordon cordon = {
            .reason = "what is cordoned could not be read; cordon or uncordon it anew"
        };
        const json_t *found = json_object_get(cordons, gpu->uuid);
        if (!found && gpu->is_mig_instance)
            found = json_object_get(cordons, gpu->parent_uuid);
        if (found)
            take_cordon(found, &cordon);
        if (found || !cordons)
            mark(gpu, &cordon);
    }
    return POOL_OK;
}

enum pool_code pool_manager_mark_cordons(struct pool_manager *manager, struct pool_gpu_list *gpus,
                                         struct pool_error *err)
{
    return cordons_apply(manager, gpus, err);
}

/* ---- changing ---- */

static bool is_reason_fine(const char *reason)
{
    return *reason && strlen(reason) <= POOL_CORDON_REASON_MAX && utf8_is_valid(reason) &&
           !utf8_has_control(reason);
}

static void free_list(struct pool_gpu_list **list)
{
    pool_gpu_list_free(*list);
}

/*
 * The UUID of what is meant. One that the driver does not list any more is meant when it is cordoned, or when the driver
 * lists nothing at all.
 */
static enum pool_code find_uuid(const struct pool_gpu_list *gpus, const json_t *cordons, const char *gpu_id,
                                struct pool_gpu_cordon *ret_cordon, struct pool_error *err)
{
    const struct pool_gpu_info *gpu = pool_gpu_list_find(gpus, gpu_id);
    bool is_uuid = strncmp(gpu_id, "GPU-", 4) == 0 || strncmp(gpu_id, "MIG-", 4) == 0;
    bool is_driver_gone = gpus->n_gpus == 0 && gpus->reason[0];
    bool is_meant = json_object_get(cordons, gpu_id) || (is_uuid && is_driver_gone);
    if (!gpu && (!is_meant || strlen(gpu_id) >= sizeof ret_cordon->uuid)) {
        pool_error_set(err, POOL_GPU_NOT_FOUND, "there is no GPU %.100s: this host has %zu", gpu_id,
                       gpus->n_gpus);
        pool_error_set_field(err, "gpu_id");
        return POOL_GPU_NOT_FOUND;
    }
    ret_cordon->gpu_id = gpu ? (int64_t)gpu->gpu_id : -1;
    snprintf(ret_cordon->uuid, sizeof ret_cordon->uuid, "%s", gpu ? gpu->uuid : gpu_id);
    return POOL_OK;
}

/* The new note; `entry` is taken over, NULL removes. */
static enum pool_code put_cordon(struct pool_manager *manager, json_t *cordons, const char *uuid,
                                 json_t *entry, struct pool_error *err)
{
    if (!entry)
        (void)json_object_del(cordons, uuid); /* it need not be there */
    else if (json_object_set_new(cordons, uuid, entry) < 0)
        return pool_error_no_memory(err);
    return write_cordons(manager, cordons, err);
}

struct wish {
    const char *gpu_id;
    const char *reason;               /* NULL: uncordon */
    const struct pool_gpu_list *gpus; /* asked for before the lock was taken */
};

/* Under the lock. */
static enum pool_code change_locked(struct pool_manager *manager, const struct wish *wish,
                                    struct pool_gpu_cordon *ret_cordon, bool *ret_is_changed,
                                    struct pool_error *err)
{
    CLEANUP_JSON json_t *cordons = NULL;
    struct pool_gpu_cordon cordon = { .gpu_id = -1 };
    enum pool_code code = read_cordons(manager, &cordons, err);
    if (code != POOL_OK)
        return code;
    bool was_unreadable = !cordons;
    if (was_unreadable)
        cordons = json_object();
    code = cordons ? find_uuid(wish->gpus, cordons, wish->gpu_id, &cordon, err) : pool_error_no_memory(err);
    if (code != POOL_OK)
        return code;
    const json_t *before = json_object_get(cordons, cordon.uuid);
    take_cordon(before, &cordon);
    bool is_same = wish->reason ? before && strcmp(cordon.reason, wish->reason) == 0 : !before;
    bool is_changed = !is_same || was_unreadable;
    if (is_changed) {
        int64_t since_wall_ms = before ? cordon.since_wall_ms : clock_wall_ms();
        json_t *entry = wish->reason ? json_pack("{s:s, s:I}", "reason", wish->reason, "since_wall_ms",
                                                 (json_int_t)since_wall_ms)
                                     : NULL;
        code = wish->reason && !entry ? pool_error_no_memory(err)
                                      : put_cordon(manager, cordons, cordon.uuid, entry, err);
    }
    if (code != POOL_OK)
        return code;
    take_cordon(json_object_get(cordons, cordon.uuid), &cordon);
    *ret_cordon = cordon;
    *ret_is_changed = is_changed;
    return POOL_OK;
}

static enum pool_code change(struct pool_manager *manager, const char *gpu_id, const char *reason,
                             struct pool_gpu_cordon *ret_cordon, bool *ret_is_changed, struct pool_error *err)
{
    CLEANUP(free_list) struct pool_gpu_list *gpus = NULL;
    struct pool_gpu_inventory *inventory;
    enum pool_code code = manager_inventory(manager, &inventory, err);
    if (code == POOL_OK)
        code = pool_gpu_inventory_refresh(inventory, err);
    if (code == POOL_OK)
        code = pool_gpu_inventory_list(inventory, &gpus, err);
    if (code == POOL_OK)
        code = manager_lock(manager, err);
    if (code != POOL_OK)
        return code;
    struct wish wish = { gpu_id, reason, gpus };
    code = change_locked(manager, &wish, ret_cordon, ret_is_changed, err);
    state_dir_unlock(&manager->state);
    return code;
}

enum pool_code pool_manager_cordon_gpu(struct pool_manager *manager, const char *gpu_id, const char *reason,
                                       struct pool_gpu_cordon *ret_cordon, bool *ret_is_changed,
                                       struct pool_error *err)
{
    const char *why = reason ? reason : DEFAULT_REASON;
    if (!is_reason_fine(why)) {
        pool_error_set(err, POOL_INVALID_REQUEST,
                       "\"reason\" must be text without control characters, at most %d bytes",
                       POOL_CORDON_REASON_MAX);
        pool_error_set_field(err, "reason");
        return POOL_INVALID_REQUEST;
    }
    return change(manager, gpu_id, why, ret_cordon, ret_is_changed, err);
}

enum pool_code pool_manager_uncordon_gpu(struct pool_manager *manager, const char *gpu_id,
                                         struct pool_gpu_cordon *ret_cordon, bool *ret_is_changed,
                                         struct pool_error *err)
{
    return change(manager, gpu_id, NULL, ret_cordon, ret_is_changed, err);
}
