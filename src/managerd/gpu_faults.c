/*
 * Errors of devices; see gpu_faults.h. Which of them are serious is the library's knowledge, pool/gpu_event.h; what a
 * cordon is, is cordon.h.
 */
#include "managerd/gpu_faults.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "managerd/cordon.h"
#include "managerd/daemon.h"
#include "managerd/late_faults.h"
#include "managerd/log.h"

#define DESCRIPTION_MAX 120
#define FAULTS_KEPT     256 /* of all devices, for the bundles of workers that die near them */

struct counted_gpu {
    char uuid[POOL_GPU_UUID_MAX];
    int64_t ecc_uncorrected;
    bool is_told; /* the driver told of an error that the next snapshot counts */
};

struct kept_fault {
    struct pool_device_fault fault;
    int64_t at_ns; /* CLOCK_BOOTTIME; 0: none */
};

struct gpu_faults {
    struct daemon *daemon;
    struct late_faults *late;
    size_t next; /* of the ring */
    struct kept_fault kept[FAULTS_KEPT];
    size_t n_gpus;
    struct counted_gpu gpus[POOL_GPUS_MAX]; /* as of the last snapshot that had the counter */
};

enum pool_code gpu_faults_open(struct daemon *daemon, struct gpu_faults **ret_faults, struct pool_error *err)
{
    struct gpu_faults *faults = calloc(1, sizeof *faults);
    if (!faults)
        return pool_error_no_memory(err);
    faults->daemon = daemon;
    enum pool_code code = late_faults_open(daemon, &faults->late, err);
    if (code != POOL_OK) {
        free(faults);
        return code;
    }
    *ret_faults = faults;
    return POOL_OK;
}

void gpu_faults_close(struct gpu_faults *faults)
{
    if (faults)
        late_faults_close(faults->late);
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

/* ---- what was reported of late ---- */

static void keep(struct gpu_faults *faults, const struct pool_gpu_event *event, const char *text,
                 bool is_serious)
{
    struct kept_fault *kept = &faults->kept[faults->next];
    if (!event->uuid[0]) /* nobody can tell whose it is */
        return;
    *kept = (struct kept_fault){ .at_ns = clock_boottime_ns() };
    kept->fault = (struct pool_device_fault){
        .at_wall_ms = clock_wall_ms(), .kind = event->kind, .data = event->data, .is_serious = is_serious
    };
    memcpy(kept->fault.gpu_uuid, event->uuid, sizeof kept->fault.gpu_uuid);
    snprintf(kept->fault.text, sizeof kept->fault.text, "%s", text);
    faults->next = (faults->next + 1) % FAULTS_KEPT;
    late_faults_see_fault(faults->late, &kept->fault);
}

bool gpu_faults_is_hit(const struct gpu_faults *faults, const struct pool_worker_info *worker,
                       const char *uuid)
{
    return is_hit(worker, gpu_monitor_snapshot(faults->daemon->gpu_monitor).list, uuid);
}

size_t gpu_faults_near(const struct pool_worker_info *worker, struct pool_device_fault *found, size_t n_max,
                       void *context)
{
    const struct gpu_faults *faults = ((struct daemon *)context)->gpu_faults;
    int64_t since_ns = clock_boottime_ns() - POOL_CRASH_NEAR_BEFORE_MS * NS_PER_MS;
    size_t n = 0;
    for (size_t i = 0; i < FAULTS_KEPT; i++) { /* oldest first */
        const struct kept_fault *kept = &faults->kept[(faults->next + i) % FAULTS_KEPT];
        if (kept->at_ns == 0 || kept->at_ns < since_ns ||
            !gpu_faults_is_hit(faults, worker, kept->fault.gpu_uuid))
            continue;
        if (n == n_max) /* the newest count */
            memmove(&found[0], &found[1], --n * sizeof found[0]);
        found[n++] = kept->fault;
    }
    return n;
}

void gpu_faults_see_end(struct gpu_faults *faults, const struct pool_worker_info *worker)
{
    late_faults_see_end(faults->late, worker);
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
    keep(faults, event, text, is_serious);
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
