/*
 * Making crash bundles: what is known at the moment when an end is settled, gathered from the record, the kernel, the log,
 * the copy of the start, the explanations and whoever watched; see crash.h.
 */
#include "core/lifecycle/crash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/string_list.h"
#include "core/lifecycle/explain.h"
#include "core/lifecycle/redact.h"
#include "core/lifecycle/start_record.h"
#include "core/worker_shares.h"

#define SAFE_TEXT_MAX_BYTES 8192
/* A record is begun before the lock is waited for and the driver asked. */
#define START_RECORD_AGE_MAX_MS (INT64_C(60) * 1000)

bool crash_is_due(const struct pool_worker_info *worker)
{
    switch (worker->stop_reason) {
    case POOL_STOP_EXITED:
    case POOL_STOP_SIGNALLED:
    case POOL_STOP_START_TIMEOUT:
    case POOL_STOP_START_FAILED:
    case POOL_STOP_UNHEALTHY:
    case POOL_STOP_GPU_LOST:
    case POOL_STOP_LOST: return true;
    case POOL_STOP_NONE:
    case POOL_STOP_REQUESTED:
    case POOL_STOP_IDLE_TIMEOUT: return false;
    }
    return false;
}

/* ---- parts; each is false when memory is out ---- */

static bool copy_text(char **ret_copy, const char *text)
{
    free(*ret_copy);
    *ret_copy = text ? strdup(text) : NULL;
    return !text || *ret_copy;
}

/* A message that others had a hand in. */
static bool copy_clean(char **ret_copy, const char *text, const struct string_list *known)
{
    CLEANUP(strbuf_done) struct strbuf clean = STRBUF_INIT(SAFE_TEXT_MAX_BYTES);
    CLEANUP(strbuf_done) struct strbuf safe = STRBUF_INIT(4 * (size_t)SAFE_TEXT_MAX_BYTES);
    if (!text)
        return true;
    redact_text(text, strnlen(text, SAFE_TEXT_MAX_BYTES / 4), known, &clean);
    crash_add_safe(&safe, strbuf_text(&clean), clean.n);
    return safe.failure == STRBUF_FINE && copy_text(ret_copy, strbuf_text(&safe));
}

static bool take_record(struct pool_crash *crash, const struct pool_worker_info *worker)
{
    crash->stop_reason = worker->stop_reason;
    crash->exit_code = worker->exit_code;
    crash->exit_signal = worker->exit_signal;
    crash->created_wall_ms = worker->created_wall_ms;
    crash->created_boottime_ns = worker->created_boottime_ns;
    crash->ready_wall_ms = worker->ready_wall_ms;
    crash->died_wall_ms = worker->stopped_wall_ms;
    crash->port = worker->port;
    crash->process = worker->process;
    crash->gpu_id = worker->gpu_id;
    crash->reserved_bytes = worker->reserved_bytes;
    crash->observed_bytes = worker->observed_bytes;
    crash->peak_bytes = worker->peak_bytes;
    crash->estimated_bytes = worker->estimated_bytes;
    crash->free_before_start_bytes = worker->free_before_start_bytes;
    crash->start_timeout_ms = worker->start_timeout_ms;
    return copy_text(&crash->worker_id, worker->worker_id) && copy_text(&crash->backend, worker->backend) &&
           copy_text(&crash->model_ref, worker->model_ref) &&
           copy_text(&crash->model_path, worker->model_path) && copy_text(&crash->program, worker->program) &&
           copy_text(&crash->log_path, worker->log_path);
}

static bool take_devices(struct pool_crash *crash, const struct pool_worker_info *worker)
{
    crash->devices = calloc(POOL_SPLIT_DEVICES_MAX, sizeof *crash->devices);
    if (!crash->devices)
        return false;
    for (size_t n = 0; n < POOL_SPLIT_DEVICES_MAX; n++) {
        struct pool_crash_device *device = &crash->devices[n];
        if (!worker_share_at(worker, n, device->gpu_uuid, &device->reserved_bytes))
            break;
        crash->n_devices++;
    }
    return true;
}

static void take_memory(struct pool_crash *crash, struct cgroup_facts facts)
{
    crash->memory = (struct pool_crash_memory){ .n_ooms = facts.n_ooms,
                                                .n_oom_kills = facts.n_oom_kills,
                                                .peak_bytes = facts.peak_memory_bytes,
                                                .limit_bytes = facts.limit_bytes };
    crash->memory.is_counted = facts.n_oom_kills.is_present || facts.peak_memory_bytes.is_present;
}

static bool take_world(const struct pool_manager *manager, struct pool_crash *crash,
                       const struct pool_worker_info *worker)
{
    bool is_start =
        worker->stop_reason == POOL_STOP_START_FAILED || worker->stop_reason == POOL_STOP_START_TIMEOUT;
    if (worker->process.pid == 0)
        return true;
    if (strcmp(worker->process.boot_id, manager->host.boot_id) != 0)
        return copy_text(&crash->ended_with, "boot");
    if (worker->process.pid_namespace != manager->host.pid_namespace)
        return copy_text(&crash->ended_with, "pid_namespace");
    if (is_start)
        crash->is_port_taken = (struct pool_reading){ true, is_port_listened(worker) };
    return true;
}

static void take_progress(struct pool_crash *crash, const struct pool_start_progress *seen)
{
    crash->progress = (struct pool_crash_progress){
        .elapsed_ms = { true, seen->elapsed_ms },
        .read_bytes = seen->read_bytes,
        .resident_bytes = seen->resident_bytes,
        .log_bytes = seen->log_bytes,
        .is_listening = seen->is_listening,
        .is_port_foreign = seen->is_port_foreign,
        .last_status_code = { seen->last_status_code > 0,
                              seen->last_status_code > 0 ? seen->last_status_code : 0 },
    };
}

/* What the plan saw, and what a daemon saw since. */
static bool take_samples(struct pool_crash *crash, const struct pool_worker_info *worker,
                         const struct pool_death_evidence *seen)
{
    size_t n_seen = seen && seen->n_samples < POOL_CRASH_SAMPLES_MAX ? seen->n_samples
                    : seen                                           ? POOL_CRASH_SAMPLES_MAX - 1
                                                                     : 0;
    crash->samples = calloc(n_seen + 1, sizeof *crash->samples);
    if (!crash->samples)
        return false;
    if (worker->gpu_uuid && worker->free_before_start_bytes.is_present) {
        struct pool_vram_sample *first = &crash->samples[crash->n_samples++];
        first->at_wall_ms = worker->created_wall_ms;
        snprintf(first->gpu_uuid, sizeof first->gpu_uuid, "%s", worker->gpu_uuid);
        first->free_bytes = worker->free_before_start_bytes;
    }
    for (size_t i = 0; i < n_seen; i++)
        crash->samples[crash->n_samples++] = seen->samples[i];
    return true;
}

static bool take_evidence(struct pool_crash *crash, const struct pool_worker_info *worker,
                          const struct pool_death_evidence *seen, const struct string_list *known)
{
    crash->is_ended_by_us = worker->process.pid != 0 && (worker->stop_reason == POOL_STOP_START_TIMEOUT ||
                                                         worker->stop_reason == POOL_STOP_UNHEALTHY);
    if (!take_samples(crash, worker, seen) ||
        !copy_clean(&crash->health_reason, worker->health_reason, known))
        return false;
    if (!seen)
        return true;
    crash->is_ended_by_us = crash->is_ended_by_us || seen->is_ended_by_us;
    crash->watched_since_wall_ms = seen->watched_since_wall_ms;
    if (seen->timed_out)
        take_progress(crash, seen->timed_out);
    if (seen->start_error && (!copy_text(&crash->start_error_code, pool_code_name(seen->start_error->code)) ||
                              !copy_clean(&crash->start_error, seen->start_error->message, known)))
        return false;
    size_t n = seen->n_faults < POOL_CRASH_FAULTS_MAX ? seen->n_faults : POOL_CRASH_FAULTS_MAX;
    crash->faults = calloc(n + 1, sizeof *crash->faults);
    for (size_t i = 0; crash->faults && i < n; i++)
        crash->faults[crash->n_faults++] = seen->faults[i];
    return crash->faults != NULL;
}

/* ---- the record of its start ---- */

/*
 * Whether a record is of this very start: it names its process, or, where the port was lost and another one was started, it
 * was begun right before the worker was admitted.
 */
static bool is_of_start(const struct pool_explanation *start, const struct pool_worker_info *worker)
{
    int64_t before_ms = worker->created_wall_ms - start->made_wall_ms;
    for (size_t i = 0; i < start->n_facts; i++) {
        if (strcmp(start->facts[i].name, "pid") == 0 && start->facts[i].number.is_present &&
            start->facts[i].number.value == worker->process.pid)
            return true;
    }
    return worker->process.pid != 0 && before_ms >= 0 && before_ms <= START_RECORD_AGE_MAX_MS;
}

/* The newest is first: an id is not used again before its last start is settled. */
static struct pool_explanation *find_start(struct pool_manager *manager, const char *worker_id)
{
    char **texts = NULL;
    struct pool_explanation *start = NULL;
    if (!manager->registry ||
        pool_worker_registry_find_explanations(manager->registry, worker_id, POOL_EXPLAIN_SHOWN_MAX, &texts,
                                               NULL) != POOL_OK)
        return NULL;
    for (size_t i = 0; texts[i] && !start; i++) {
        CLEANUP(free_explanation) struct pool_explanation *one = NULL;
        if (pool_explanation_decode(texts[i], strlen(texts[i]), &one, NULL) == POOL_OK &&
            one->kind == POOL_EXPLAIN_START && one->worker_id && strcmp(one->worker_id, worker_id) == 0)
            start = take_ptr(&one);
    }
    string_array_free(texts);
    return start;
}

static bool take_start(struct pool_manager *manager, struct pool_crash *crash,
                       const struct pool_worker_info *worker)
{
    CLEANUP(free_explanation) struct pool_explanation *start = find_start(manager, worker->worker_id);
    if (!start || !is_of_start(start, worker))
        return true; /* none is kept, or it is of an earlier start */
    crash->required_bytes = start->required_bytes;
    crash->candidates = calloc(start->n_candidates + 1, sizeof *crash->candidates);
    if (!crash->candidates)
        return false;
    for (size_t i = 0; i < start->n_candidates; i++) {
        bool is_there = false;
        (void)pool_worker_info_reserved_on(worker, start->candidates[i].ledger.device, &is_there);
        if (is_there || start->candidates[i].is_chosen)
            crash->candidates[crash->n_candidates++] = start->candidates[i];
    }
    return copy_text(&crash->start_explain_id, start->record_id) &&
           copy_text(&crash->required_source, start->required_source);
}

/* ---- all of it ---- */

void crash_learn_secrets(struct pool_manager *manager, const struct pool_worker_info *worker,
                         struct string_list *known)
{
    const struct pool_backend *backend = NULL;
    if (!worker->backend || pool_config_backend(manager->config, worker->backend, &backend, NULL) != POOL_OK)
        backend = NULL;
    const struct child *child = manager_find_child(manager, worker->worker_id);
    if (backend) {
        redact_learn_arguments(backend->command, backend->n_command, known);
        for (size_t i = 0; i < backend->n_env; i++)
            redact_learn(backend->env[i].name, backend->env[i].value, known);
    }
    if (child && child->request) {
        redact_learn_arguments(child->request->extra_args, child->request->n_extra_args, known);
        for (size_t i = 0; i < child->request->n_env; i++)
            redact_learn(child->request->env[i].name, child->request->env[i].value, known);
    }
}

static bool take_inherited(struct pool_crash *crash)
{
    CLEANUP(string_list_done) struct string_list names = { 0 };
    for (size_t i = 0; environment_inherited_name(i); i++)
        string_list_add(&names, environment_inherited_name(i));
    size_t n = names.n;
    crash->inherited = string_list_take(&names);
    crash->n_inherited = crash->inherited ? n : 0;
    return crash->inherited != NULL;
}

static struct pool_crash *gather(struct pool_manager *manager, const struct pool_worker_info *worker,
                                 const char *explain_id)
{
    CLEANUP(string_list_done) struct string_list known = { 0 };
    /* The copy of its start is the beginning: how it was started, and which engine it was. */
    CLEANUP_FREE char *marks = NULL;
    CLEANUP(free_crash) struct pool_crash *crash = start_record_read_launch(worker, &marks);
    bool is_known = crash != NULL;
    if (!crash)
        crash = pool_crash_new();
    if (!crash)
        return NULL;
    crash->is_command_known = is_known;
    crash_learn_secrets(manager, worker, &known);
    take_memory(crash, cgroup_facts_read(&manager->cgroups, worker));
    bool is_good = !known.has_failed && take_record(crash, worker) && take_devices(crash, worker) &&
                   crash_take_log(crash, worker, marks, &known) && take_world(manager, crash, worker) &&
                   take_evidence(crash, worker, manager->evidence, &known) &&
                   take_start(manager, crash, worker) && copy_text(&crash->explain_id, explain_id) &&
                   take_inherited(crash) && crash_reason(crash);
    return is_good ? take_ptr(&crash) : NULL;
}

static enum pool_code keep(const struct pool_manager *manager, const struct crash_name *name,
                           const struct pool_crash *crash, struct pool_error *err)
{
    CLEANUP_FREE char *json = NULL;
    if (!crash)
        return pool_error_no_memory(err);
    enum pool_code code = pool_crash_encode(crash, &json, err);
    return code == POOL_OK ? crash_store_write(&manager->state, name, json, err) : code;
}

static struct crash_name name_of(const struct pool_worker_info *worker)
{
    struct crash_name name = { .created_wall_ms = worker->created_wall_ms,
                               .created_boottime_ns = worker->created_boottime_ns };
    snprintf(name.worker_id, sizeof name.worker_id, "%s", worker->worker_id);
    return name;
}

struct pool_crash *crash_of_start(const struct pool_manager *manager, const struct pool_worker_info *worker)
{
    CLEANUP_FREE char *path = NULL;
    struct crash_name name = name_of(worker);
    struct pool_crash *crash = NULL;
    return crash_store_read(&manager->state, &name, &path, &crash, NULL) == POOL_OK ? crash : NULL;
}

static void tell_failure(struct pool_manager *manager, const struct pool_worker_info *worker)
{
    pool_error_prefix(&manager->crash_failure, "why worker %s ended could not be kept", worker->worker_id);
    if (!manager->evidence) /* who watches is told by the call; who settles has only this */
        manager_add_notice(manager, "%s", manager->crash_failure.message);
}

bool crash_note(struct pool_manager *manager, const struct pool_worker_info *worker, const char *explain_id)
{
    struct crash_name name = name_of(worker);
    manager->crash_failure = (struct pool_error)POOL_ERROR_INIT;
    if (!crash_is_due(worker))
        return false;
    CLEANUP(free_crash) struct pool_crash *before = crash_of_start(manager, worker);
    if (before)
        return false;
    CLEANUP(free_crash) struct pool_crash *crash = gather(manager, worker, explain_id);
    if (keep(manager, &name, crash, &manager->crash_failure) == POOL_OK)
        return true;
    tell_failure(manager, worker);
    return false;
}

void crash_take_back(struct pool_manager *manager, const struct pool_worker_info *worker)
{
    struct crash_name name = name_of(worker);
    crash_store_remove(&manager->state, &name);
    pool_error_set(&manager->crash_failure, POOL_INSUFFICIENT_DISK, "the disk is full");
    tell_failure(manager, worker);
}
