/*
 * See release.h.
 */
#include "core/lifecycle/release.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/number.h"
#include "core/lifecycle/explain.h"
#include "core/worker_shares.h"

static const char note_name[] = "releasing";

#define LOOK_AGAIN_MS 50

/* ---- the note ---- */

static bool read_text(const json_t *json, const char *name, char *text, size_t n)
{
    const char *value = json_string_value(json_object_get(json, name));
    if (!value || strlen(value) >= n)
        return false;
    memcpy(text, value, strlen(value) + 1);
    return true;
}

static bool read_pids(const json_t *json, struct release *entry)
{
    const size_t n_max = sizeof entry->pids / sizeof entry->pids[0];
    entry->n_pids = 0;
    for (size_t i = 0; i < json_array_size(json) && entry->n_pids < n_max; i++) {
        int64_t pid = json_integer_value(json_array_get(json, i));
        if (pid > 0)
            entry->pids[entry->n_pids++] = pid;
    }
    return entry->n_pids > 0;
}

static bool read_entry(const json_t *json, struct release *entry)
{
    entry->start_boottime_ns = json_integer_value(json_object_get(json, "start"));
    entry->held_bytes = json_integer_value(json_object_get(json, "held"));
    entry->stopped_boottime_ns = json_integer_value(json_object_get(json, "stopped"));
    return read_pids(json_object_get(json, "pids"), entry) && entry->held_bytes >= 0 &&
           entry->stopped_boottime_ns > 0 &&
           read_text(json, "id", entry->worker_id, sizeof entry->worker_id) &&
           read_text(json, "gpu", entry->gpu_uuid, sizeof entry->gpu_uuid);
}

struct releases *releases_read(struct pool_manager *manager)
{
    CLEANUP_FREE char *text = NULL;
    struct json_failure failure;
    struct releases *releases = calloc(1, sizeof *releases);
    if (!releases || !manager->registry ||
        pool_worker_registry_get_note(manager->registry, note_name, &text, NULL) != POOL_OK || !text)
        return releases;
    CLEANUP_JSON json_t *list = json_parse(text, strlen(text), &failure);
    int64_t now_ns = clock_boottime_ns();
    for (size_t i = 0; i < json_array_size(list) && releases->n < RELEASES_MAX; i++) {
        struct release *entry = &releases->at[releases->n];
        /* One from before the boot says nothing: its clock was another. */
        if (read_entry(json_array_get(list, i), entry) && entry->stopped_boottime_ns <= now_ns)
            releases->n++;
    }
    return releases;
}

static json_t *entry_to_json(const struct release *entry)
{
    json_t *pids = json_array();
    for (size_t i = 0; pids && i < entry->n_pids; i++) {
        if (json_array_append_new(pids, json_integer((json_int_t)entry->pids[i])) < 0) {
            json_decref(pids);
            return NULL;
        }
    }
    return json_pack("{s:s, s:s, s:o, s:I, s:I, s:I}", "id", entry->worker_id, "gpu", entry->gpu_uuid, "pids",
                     pids, "start", (json_int_t)entry->start_boottime_ns, "held",
                     (json_int_t)entry->held_bytes, "stopped", (json_int_t)entry->stopped_boottime_ns);
}

static enum pool_code write_releases(struct pool_manager *manager, const struct releases *releases,
                                     struct pool_error *err)
{
    CLEANUP_FREE char *text = NULL;
    CLEANUP_JSON json_t *list = json_array();
    for (size_t i = 0; list && i < releases->n; i++) {
        if (json_array_append_new(list, entry_to_json(&releases->at[i])) < 0)
            return pool_error_no_memory(err);
    }
    if (releases->n > 0)
        text = list ? json_print(list) : NULL;
    if (releases->n > 0 && !text)
        return pool_error_no_memory(err);
    return pool_worker_registry_set_note(manager->registry, note_name, text, err);
}

static struct release *add_entry(struct releases *releases)
{
    if (releases->n == RELEASES_MAX) {
        releases->n--;
        memmove(&releases->at[0], &releases->at[1], releases->n * sizeof releases->at[0]);
    }
    return &releases->at[releases->n++];
}

/* Of what a worker held on all of its devices, the part of one that has `share_bytes` of its reserve. */
static int64_t held_there(const struct pool_worker_info *worker, int64_t share_bytes)
{
    if (!worker->observed_bytes.is_present)
        return worker->ready_wall_ms != 0 ? share_bytes : 0;
    int64_t held = excess_bytes(worker->observed_bytes.value, 0);
    if (!worker->shares || worker->reserved_bytes <= 0)
        return held;
    return (int64_t)((double)held * ((double)share_bytes / (double)worker->reserved_bytes));
}

void release_begin(struct pool_manager *manager, const struct pool_worker_info *worker)
{
    int64_t pids[GPU_PROCESSES_MAX], share_bytes;
    char device[POOL_GPU_UUID_MAX];
    if (!worker->gpu_uuid)
        return;
    size_t n_pids = gpu_processes_take(manager, worker, pids);
    if (worker->process.pid <= 0 || strcmp(worker->process.boot_id, manager->host.boot_id) != 0)
        return;
    CLEANUP_FREE struct releases *releases = releases_read(manager);
    if (!releases)
        return;
    int64_t now_ns = clock_boottime_ns();
    for (size_t i = 0; worker_share_at(worker, i, device, &share_bytes); i++) {
        struct release *entry = add_entry(releases);
        *entry = (struct release){ .n_pids = 1 + n_pids,
                                   .pids = { worker->process.pid },
                                   .start_boottime_ns = worker->created_boottime_ns,
                                   .held_bytes = held_there(worker, share_bytes),
                                   .stopped_boottime_ns = now_ns };
        memcpy(&entry->pids[1], pids, n_pids * sizeof pids[0]);
        snprintf(entry->worker_id, sizeof entry->worker_id, "%s", worker->worker_id);
        snprintf(entry->gpu_uuid, sizeof entry->gpu_uuid, "%s", device);
    }
    (void)!write_releases(manager, releases, NULL);
}

/* ---- against a snapshot ---- */

static bool is_late(const struct release *entry, int64_t now_ns)
{
    return now_ns - entry->stopped_boottime_ns > POOL_RELEASE_WAIT_MAX_MS * NS_PER_MS;
}

static bool is_among(const struct release *entry, int64_t pid)
{
    for (size_t i = 0; i < entry->n_pids; i++) {
        if (entry->pids[i] == pid)
            return true;
    }
    return false;
}

/* What the driver still lists of a worker's processes; -1: it lists none of them, or nobody. */
static int64_t listed_bytes(const struct pool_gpu_info *gpu, const struct release *entry)
{
    int64_t sum = -1;
    for (size_t i = 0; gpu->are_processes_known && i < gpu->n_processes; i++) {
        if (is_among(entry, gpu->processes[i].pid))
            sum = add_bytes(sum < 0 ? 0 : sum, gpu->processes[i].used_vram_bytes.is_present
                                                   ? gpu->processes[i].used_vram_bytes.value
                                                   : 0);
    }
    return sum;
}

/* Whether the driver can tell that a process of our pid namespace is gone from its list: all of them have a number. */
static bool can_tell(const struct pool_gpu_info *gpu)
{
    for (size_t i = 0; gpu->are_processes_known && i < gpu->n_processes; i++) {
        if (gpu->processes[i].pid <= 0)
            return false;
    }
    return gpu->are_processes_known;
}

static int64_t all_listed_bytes(const struct pool_gpu_info *gpu)
{
    int64_t sum = 0;
    for (size_t i = 0; gpu->are_processes_known && i < gpu->n_processes; i++) {
        if (gpu->processes[i].used_vram_bytes.is_present)
            sum = add_bytes(sum, gpu->processes[i].used_vram_bytes.value);
    }
    return sum;
}

int64_t releases_bytes(const struct releases *releases, const struct pool_gpu_info *gpu, int64_t asked_ns,
                       int64_t now_ns, int64_t *ret_held_back_bytes)
{
    int64_t sum = 0, listed_sum = 0;
    for (size_t i = 0; releases && i < releases->n; i++) {
        const struct release *entry = &releases->at[i];
        if (strcmp(entry->gpu_uuid, gpu->uuid) != 0 || is_late(entry, now_ns))
            continue;
        int64_t listed = listed_bytes(gpu, entry);
        if (listed >= 0)
            listed_sum = add_bytes(listed_sum, listed);
        if (listed > 0)
            sum = add_bytes(sum, listed);
        else if (listed < 0 && can_tell(gpu) && asked_ns >= entry->stopped_boottime_ns)
            continue; /* the driver knows everybody, and not it any more */
        else
            sum = add_bytes(sum, entry->held_bytes);
    }
    int64_t contradiction = excess_bytes(all_listed_bytes(gpu), gpu->vram_used_bytes);
    *ret_held_back_bytes = contradiction < listed_sum ? contradiction : listed_sum;
    return sum;
}

/* The first of its processes that the driver lists; its main one when it lists none. */
static int64_t pid_of(const struct release *entry, const struct pool_gpu_info *gpu)
{
    for (size_t i = 0; gpu && gpu->are_processes_known && i < gpu->n_processes; i++) {
        if (is_among(entry, gpu->processes[i].pid))
            return gpu->processes[i].pid;
    }
    return entry->pids[0];
}

static void explain_release(struct pool_manager *manager, const struct release *entry,
                            const struct pool_gpu_info *gpu, int64_t listed, int64_t now_ns)
{
    struct pool_explanation *explanation = explain_new(manager, POOL_EXPLAIN_RELEASE, entry->worker_id);
    int64_t took_ms = (now_ns - entry->stopped_boottime_ns) / NS_PER_MS, pid = pid_of(entry, gpu);
    if (!explanation)
        return;
    if (listed >= 0)
        explain_say(explanation,
                    "the driver still lists process %" PRId64 " on %s after %" PRId64
                    " ms; it is not waited for "
                    "any longer",
                    pid, entry->gpu_uuid, took_ms);
    else if (gpu && can_tell(gpu))
        explain_say(explanation, "its memory on %s was free %" PRId64 " ms after its end", entry->gpu_uuid,
                    took_ms);
    else
        explain_say(explanation,
                    "whether its memory on %s is free the driver does not tell; it was waited for %" PRId64
                    " ms",
                    entry->gpu_uuid, took_ms);
    explain_add_text(explanation, "device", entry->gpu_uuid);
    explain_add_number(explanation, "held_bytes", entry->held_bytes);
    explain_add_number(explanation, "release_ms", took_ms);
    explain_add_number(explanation, "pid", pid);
    if (listed >= 0)
        explain_add_number(explanation, "left_bytes", listed);
    if (gpu)
        explain_add_number(explanation, "free_bytes", gpu->vram_free_bytes);
    explain_keep(manager, explanation);
}

/* Under the lock. Ends the entries that are over by this snapshot. */
static enum pool_code end_releases(struct pool_manager *manager, const struct devices *devices,
                                   size_t *ret_n_left, struct pool_error *err)
{
    CLEANUP_FREE struct releases *releases = releases_read(manager);
    if (!releases)
        return pool_error_no_memory(err);
    size_t n_before = releases->n;
    int64_t now_ns = clock_boottime_ns();
    releases->n = 0;
    for (size_t i = 0; i < n_before; i++) {
        struct release entry = releases->at[i];
        const struct pool_gpu_info *gpu = pool_gpu_list_find(devices->gpus, entry.gpu_uuid);
        int64_t listed = gpu ? listed_bytes(gpu, &entry) : -1;
        bool is_free =
            gpu && listed < 0 && can_tell(gpu) && devices->asked_boottime_ns >= entry.stopped_boottime_ns;
        if (is_free || is_late(&entry, now_ns))
            explain_release(manager, &entry, gpu, listed, now_ns);
        else
            releases->at[releases->n++] = entry;
    }
    *ret_n_left = releases->n;
    return releases->n == n_before ? POOL_OK : write_releases(manager, releases, err);
}

enum pool_code pool_manager_check_releases(struct pool_manager *manager, size_t *ret_n_left,
                                           struct pool_error *err)
{
    CLEANUP(devices_done) struct devices devices = { 0 };
    CLEANUP_FREE struct releases *releases = releases_read(manager);
    struct pool_gpu_inventory *inventory = NULL;
    if (!releases)
        return pool_error_no_memory(err);
    *ret_n_left = releases->n;
    if (releases->n == 0)
        return POOL_OK;
    enum pool_code code = manager_inventory(manager, &inventory, err);
    if (code == POOL_OK)
        code = devices_ask(inventory, &devices, err);
    if (code == POOL_OK)
        code = manager_lock(manager, err);
    if (code != POOL_OK)
        return code;
    code = end_releases(manager, &devices, ret_n_left, err);
    state_dir_unlock(&manager->state);
    return code;
}

static bool is_releasing(struct pool_manager *manager, const struct pool_worker_info *worker)
{
    CLEANUP_FREE struct releases *releases = releases_read(manager);
    for (size_t i = 0; releases && i < releases->n; i++) {
        if (strcmp(releases->at[i].worker_id, worker->worker_id) == 0 &&
            releases->at[i].start_boottime_ns == worker->created_boottime_ns)
            return true;
    }
    return false;
}

void release_wait(struct pool_manager *manager, const struct pool_worker_info *worker, int cancel_fd)
{
    size_t n_left;
    /* The entry itself is bounded: it is over when the driver says so, or when its time is. */
    while (worker->gpu_uuid && is_releasing(manager, worker)) {
        struct pollfd cancel = { .fd = cancel_fd, .events = POLLIN };
        if (pool_manager_check_releases(manager, &n_left, NULL) != POOL_OK)
            return; /* nobody can tell; the next start asks again */
        if (is_releasing(manager, worker) && poll(&cancel, 1, LOOK_AGAIN_MS) > 0)
            return;
    }
}
