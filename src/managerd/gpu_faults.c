/*
 * Errors of devices; see gpu_faults.h. Which of them are serious is the library's knowledge, pool/gpu_event.h; what a
 * cordon is, is cordon.h.
 */
#include "managerd/gpu_faults.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "managerd/cordon.h"
#include "managerd/daemon.h"
#include "managerd/log.h"

#define DESCRIPTION_MAX 120

struct counted_gpu {
    char uuid[POOL_GPU_UUID_MAX];
    int64_t ecc_uncorrected;
    bool is_told; /* the driver told of an error that the next snapshot counts */
};

struct gpu_faults {
    struct daemon *daemon;
    size_t n_gpus;
    struct counted_gpu gpus[POOL_GPUS_MAX]; /* as of the last snapshot that had the counter */
};

enum pool_code gpu_faults_open(struct daemon *daemon, struct gpu_faults **ret_faults, struct pool_error *err)
{
    struct gpu_faults *faults = calloc(1, sizeof *faults);
    if (!faults)
        return pool_error_no_memory(err);
    faults->daemon = daemon;
    *ret_faults = faults;
    return POOL_OK;
}

void gpu_faults_close(struct gpu_faults *faults)
{
    free(faults);
}

/* ---- who is hit ---- */

static bool is_on(const struct pool_worker_info *worker, const char *uuid)
{
    bool is_there = false;
    (void)pool_worker_info_reserved_on(worker, uuid, &is_there);
    return is_there;
}

/* A device or one of its MIG instances: what goes wrong with a device, goes wrong with all of it. */
static bool is_hit(const struct pool_worker_info *worker, const struct pool_gpu_list *list, const char *uuid)
{
    bool is_there = is_on(worker, uuid);
    for (size_t i = 0; i < list->n_gpus && !is_there; i++)
        is_there = strcmp(list->gpus[i]->parent_uuid, uuid) == 0 && is_on(worker, list->gpus[i]->uuid);
    return is_there;
}

struct hit_workers {
    const struct pool_gpu_list *list;
    const char *uuid;
    json_t *ids;
};

static void add_if_hit(const struct pool_worker_info *worker, void *context)
{
    struct hit_workers *hit = context;
    if (hit->ids && hit->uuid[0] && worker->gpu_uuid && is_hit(worker, hit->list, hit->uuid))
        json_array_append_new(hit->ids, json_string(worker->worker_id));
}

/* Takes the ids over. Without memory nobody is told by an event; the log and the cordon do not depend on that. */
static void publish(struct daemon *daemon, const struct pool_gpu_event *event, const char *text,
                    bool is_serious, json_t *ids)
{
    CLEANUP_JSON json_t *body =
        json_pack("{s:s, s:s, s:I, s:s, s:b, s:o?}", "gpu_id", event->uuid, "kind",
                  pool_gpu_event_kind_name(event->kind), "data", (json_int_t)event->data, "text", text,
                  "is_serious", is_serious, "workers", ids);
    if (body)
        event_log_publish(daemon->events, "gpu.fault", json_print(body));
}

/* ---- what is done ---- */

/* MIG instances are what is placed on, so each of them gets no new work either. */
static void cordon(struct daemon *daemon, const struct pool_gpu_list *list, const char *uuid,
                   const char *text)
{
    char reason[DESCRIPTION_MAX + 16];
    snprintf(reason, sizeof reason, "%s", text);
    daemon_cordon_gpu(daemon, uuid, reason);
    for (size_t i = 0; i < list->n_gpus; i++) {
        if (list->gpus[i]->is_mig_instance && strcmp(list->gpus[i]->parent_uuid, uuid) == 0)
            daemon_cordon_gpu(daemon, list->gpus[i]->uuid, reason);
    }
}

static void take_fault(struct gpu_faults *faults, const struct pool_gpu_event *event)
{
    struct daemon *daemon = faults->daemon;
    const struct pool_gpu_list *list = gpu_monitor_snapshot(daemon->gpu_monitor).list;
    struct hit_workers hit = { .list = list, .uuid = event->uuid, .ids = json_array() };
    bool is_serious = pool_gpu_event_is_serious(event) && event->uuid[0];
    char text[DESCRIPTION_MAX];
    pool_gpu_event_describe(event, text, sizeof text);
    supervisor_each(daemon->supervisor, add_if_hit, &hit);
    log_tell(is_serious ? LOG_GPU_FAULT_SERIOUS : LOG_GPU_FAULT, &(struct log_fields){ .reason = text },
             "%s: %s; %zu workers on it", event->uuid[0] ? event->uuid : "a GPU that does not say which",
             text, json_array_size(hit.ids));
    publish(daemon, event, text, is_serious, hit.ids);
    if (!is_serious)
        return;
    cordon(daemon, list, event->uuid, text);
    for (size_t i = 0; i < list->n_gpus; i++) {
        if (strcmp(list->gpus[i]->parent_uuid, event->uuid) == 0)
            supervisor_note_gpu_fault(daemon->supervisor, list->gpus[i]->uuid);
    }
    supervisor_note_gpu_fault(daemon->supervisor, event->uuid);
}

/* ---- counters ---- */

static struct counted_gpu *find_counted(struct gpu_faults *faults, const char *uuid)
{
    for (size_t i = 0; i < faults->n_gpus; i++) {
        if (strcmp(faults->gpus[i].uuid, uuid) == 0)
            return &faults->gpus[i];
    }
    return NULL;
}

void gpu_faults_take_event(struct gpu_faults *faults, const struct pool_gpu_event *event)
{
    struct counted_gpu *counted = find_counted(faults, event->uuid);
    if (counted && event->kind == POOL_GPU_EVENT_ECC_UNCORRECTED)
        counted->is_told = true;
    take_fault(faults, event);
}

void gpu_faults_take_snapshot(struct gpu_faults *faults, const struct pool_gpu_list *list)
{
    for (size_t i = 0; i < list->n_gpus; i++) {
        const struct pool_gpu_info *gpu = list->gpus[i];
        if (!gpu->ecc_uncorrected_errors.is_present || gpu->is_mig_instance)
            continue;
        int64_t n = gpu->ecc_uncorrected_errors.value;
        struct counted_gpu *counted = find_counted(faults, gpu->uuid);
        if (!counted && faults->n_gpus == POOL_GPUS_MAX)
            continue;
        if (!counted) { /* what was there before us is no news */
            counted = &faults->gpus[faults->n_gpus++];
            memcpy(counted->uuid, gpu->uuid, sizeof counted->uuid);
        } else if (n > counted->ecc_uncorrected && !counted->is_told) {
            struct pool_gpu_event event = { .kind = POOL_GPU_EVENT_ECC_UNCORRECTED, .data = n };
            memcpy(event.uuid, gpu->uuid, sizeof event.uuid);
            take_fault(faults, &event);
        }
        if (n > counted->ecc_uncorrected)
            counted->is_told = false;
        counted->ecc_uncorrected = n; /* a reset, or a driver that was loaded anew, counts from 0 */
    }
}
