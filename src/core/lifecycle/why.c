/*
 * Why a worker ended, for who asks: its bundle, or what its record says; see pool/crash.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "core/lifecycle/crash.h"

#define SENTENCE_MAX_BYTES 4096

static void free_why(struct pool_worker_why **why)
{
    pool_worker_why_free(*why);
}

static struct crash_name name_of(const struct pool_worker_info *worker)
{
    struct crash_name name = { .created_wall_ms = worker->created_wall_ms,
                               .created_boottime_ns = worker->created_boottime_ns };
    snprintf(name.worker_id, sizeof name.worker_id, "%s", worker->worker_id);
    return name;
}

/* ---- the sentence, where the bundle is not that of the record ---- */

static void say_asked_end(const struct pool_worker_info *worker, struct strbuf *out)
{
    if (worker->stop_reason == POOL_STOP_IDLE_TIMEOUT)
        strbuf_printf(out, "the worker was stopped because it had no request for %" PRId64 " ms",
                      worker->idle_timeout_ms);
    else if (worker->stop_reason == POOL_STOP_REQUESTED)
        strbuf_add_text(out, "the worker was stopped on request");
    else
        strbuf_printf(out,
                      "the worker ended (%s), and its crash bundle is not there: it could not be kept, or "
                      "newer ones have taken its place",
                      pool_stop_reason_name(worker->stop_reason));
    if (worker->exit_signal.is_present)
        strbuf_printf(out, "; its main process was ended by signal %" PRId64, worker->exit_signal.value);
    else if (worker->exit_code.is_present)
        strbuf_printf(out, "; its main process ended with exit code %" PRId64, worker->exit_code.value);
}

static void say_life(const struct pool_worker_info *worker, struct strbuf *out)
{
    if (worker->status == POOL_WORKER_STOPPED) {
        say_asked_end(worker, out);
        return;
    }
    strbuf_printf(out, "the worker is %s", pool_worker_status_name(worker->status));
    if (worker->status == POOL_WORKER_STOPPING && worker->stop_reason != POOL_STOP_NONE)
        strbuf_printf(out, " (%s)", pool_stop_reason_name(worker->stop_reason));
    else
        strbuf_add_text(out, " and has not ended");
    if (!worker->is_healthy && worker->health_reason)
        strbuf_printf(out, "; it is not healthy: %s", worker->health_reason);
}

static bool is_of(const struct crash_name *name, const struct pool_worker_info *worker)
{
    return worker && name->created_wall_ms == worker->created_wall_ms &&
           name->created_boottime_ns == worker->created_boottime_ns;
}

/* `name`: NULL when there is no bundle. worker: NULL when there is no record. */
static bool say(struct pool_worker_why *why, const struct pool_worker_info *worker,
                const struct crash_name *name)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(SENTENCE_MAX_BYTES);
    bool is_its_own = name && is_of(name, worker);
    const char *known = why->crash && why->crash->why ? why->crash->why : why->bundle_error;
    if (!worker || is_its_own) {
        strbuf_add_text(&text, known ? known : "nothing is known of it");
    } else {
        say_life(worker, &text);
        if (known)
            strbuf_printf(&text, "; before, another one of its id ended: %s", known);
    }
    why->why = strbuf_take(&text);
    return why->why != NULL;
}

/* ---- all of it ---- */

static enum pool_code take_bundle(struct pool_manager *manager, const struct crash_name *name,
                                  struct pool_worker_why *why, struct pool_error *err)
{
    struct pool_error failure = POOL_ERROR_INIT;
    enum pool_code code = crash_store_read(&manager->state, name, &why->bundle_path, &why->crash, &failure);
    if (code == POOL_OK || code == POOL_NOT_FOUND) /* removed just now, to make room */
        return POOL_OK;
    if (code == POOL_INSUFFICIENT_MEMORY)
        return pool_error_no_memory(err);
    why->bundle_error = strdup(failure.message);
    return why->bundle_error ? POOL_OK : pool_error_no_memory(err);
}

static enum pool_code get_row(struct pool_manager *manager, const char *worker_id,
                              struct pool_worker_info **ret_worker, struct pool_error *err)
{
    /* A daemon sees every end itself. Whoever has none settles what has ended since. */
    return manager->is_daemon ? pool_manager_row(manager, worker_id, ret_worker, err)
                              : pool_manager_get_worker(manager, worker_id, ret_worker, err);
}

enum pool_code pool_manager_why(struct pool_manager *manager, const char *worker_id,
                                struct pool_worker_why **ret_why, struct pool_error *err)
{
    CLEANUP(free_why) struct pool_worker_why *why = NULL;
    CLEANUP(free_worker) struct pool_worker_info *worker = NULL;
    struct pool_error missing = POOL_ERROR_INIT;
    struct crash_name name;
    if (!pool_worker_id_is_valid(worker_id)) {
        pool_error_set(err, POOL_INVALID_REQUEST, "not a worker id: it has 1 to 64 of A-Z a-z 0-9 . _ -");
        pool_error_set_field(err, "worker_id");
        return POOL_INVALID_REQUEST;
    }
    enum pool_code code = get_row(manager, worker_id, &worker, &missing);
    bool has_bundle = crash_store_find(&manager->state, worker_id, &name);
    if (code != POOL_OK && !(code == POOL_WORKER_NOT_FOUND && has_bundle)) {
        if (err)
            *err = missing;
        return code;
    }
    why = calloc(1, sizeof *why);
    if (!why)
        return pool_error_no_memory(err);
    code = has_bundle ? take_bundle(manager, &name, why, err) : POOL_OK;
    if (code != POOL_OK)
        return code;
    why->worker_id = strdup(worker_id);
    why->status = worker ? strdup(pool_worker_status_name(worker->status)) : NULL;
    why->stop_reason = worker ? worker->stop_reason : POOL_STOP_NONE;
    if (!why->worker_id || (worker && !why->status) || !say(why, worker, has_bundle ? &name : NULL))
        return pool_error_no_memory(err);
    *ret_why = take_ptr(&why);
    return POOL_OK;
}

/* ---- errors that were reported later ---- */

static bool is_known(const struct pool_crash *crash, const struct pool_device_fault *fault)
{
    for (size_t i = 0; i < crash->n_faults; i++) {
        const struct pool_device_fault *other = &crash->faults[i];
        if (other->at_wall_ms == fault->at_wall_ms && other->kind == fault->kind &&
            other->data == fault->data && strcmp(other->gpu_uuid, fault->gpu_uuid) == 0)
            return true;
    }
    return false;
}

static enum pool_code add_fault(struct pool_manager *manager, const struct crash_name *name,
                                const struct pool_device_fault *fault, struct pool_error *err)
{
    CLEANUP(free_crash) struct pool_crash *crash = NULL;
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE char *json = NULL;
    enum pool_code code = crash_store_read(&manager->state, name, &path, &crash, err);
    if (code != POOL_OK || crash->n_faults >= POOL_CRASH_FAULTS_MAX || is_known(crash, fault))
        return code;
    struct pool_device_fault *faults = reallocarray(crash->faults, crash->n_faults + 1, sizeof *faults);
    if (!faults)
        return pool_error_no_memory(err);
    crash->faults = faults;
    faults[crash->n_faults++] = *fault;
    if (!crash_reason(crash))
        return pool_error_no_memory(err);
    code = pool_crash_encode(crash, &json, err);
    return code == POOL_OK ? crash_store_write(&manager->state, name, json, err) : code;
}

enum pool_code pool_manager_note_late_fault(struct pool_manager *manager,
                                            const struct pool_worker_info *worker,
                                            const struct pool_device_fault *fault, struct pool_error *err)
{
    struct crash_name name = name_of(worker);
    enum pool_code code = manager_lock(manager, err);
    if (code != POOL_OK)
        return code;
    code = add_fault(manager, &name, fault, err);
    state_dir_unlock(&manager->state);
    return code;
}
