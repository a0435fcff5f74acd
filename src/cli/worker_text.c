/*
 * Workers as people read them.
 */
#include "cli/worker_text.h"

#include <inttypes.h>
#include <string.h>

enum terminal_style worker_style(const struct pool_worker_info *worker)
{
    if (!worker->is_healthy)
        return STYLE_BAD;
    switch (worker->status) {
    case POOL_WORKER_READY:
    case POOL_WORKER_BUSY:
    case POOL_WORKER_IDLE: return STYLE_GOOD;
    case POOL_WORKER_SPAWNING:
    case POOL_WORKER_STOPPING: return STYLE_WARN;
    case POOL_WORKER_STOPPED: return worker->stop_reason == POOL_STOP_REQUESTED ? STYLE_DIM : STYLE_BAD;
    }
    return STYLE_PLAIN;
}

void format_worker_status(const struct pool_worker_info *worker, char text[WORKER_TEXT_MAX])
{
    bool is_stopping = worker->status == POOL_WORKER_STOPPING && worker->stop_phase;
    snprintf(text, WORKER_TEXT_MAX, "%s%s%s%s%s", pool_worker_status_name(worker->status),
             is_stopping ? " (" : "", is_stopping ? worker->stop_phase : "", is_stopping ? ")" : "",
             worker->is_healthy ? "" : ", unhealthy");
}

void format_worker_device(const struct pool_worker_info *worker, char text[WORKER_TEXT_MAX])
{
    if (worker->gpu_uuid)
        snprintf(text, WORKER_TEXT_MAX, "%" PRId64, worker->gpu_id);
    else
        snprintf(text, WORKER_TEXT_MAX, "cpu");
}

void format_worker_end(const struct pool_worker_info *worker, char text[WORKER_TEXT_MAX])
{
    const char *reason = pool_stop_reason_name(worker->stop_reason);
    const char *signal = NULL;
    if (worker->exit_signal.is_present)
        signal = sigabbrev_np((int)worker->exit_signal.value); /* NULL for real-time signals */
    if (signal)
        snprintf(text, WORKER_TEXT_MAX, "%s, SIG%s", reason, signal);
    else if (worker->exit_signal.is_present)
        snprintf(text, WORKER_TEXT_MAX, "%s, signal %" PRId64, reason, worker->exit_signal.value);
    else if (worker->exit_code.is_present)
        snprintf(text, WORKER_TEXT_MAX, "%s, code %" PRId64, reason, worker->exit_code.value);
    else
        snprintf(text, WORKER_TEXT_MAX, "%s", reason);
}

const char *worker_model_name(const struct pool_worker_info *worker)
{
    const char *ref = worker->model_ref ? worker->model_ref : "";
    const char *slash = strrchr(ref, '/');
    return slash && slash[1] ? slash + 1 : ref;
}
