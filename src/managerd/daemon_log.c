/*
 * What the daemon's log says of workers, starts and requests.
 */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "managerd/daemon.h"
#include "managerd/log.h"

#define NS_PER_US 1000

static enum log_event event_of(enum pool_worker_status status)
{
    switch (status) {
    case POOL_WORKER_SPAWNING: return LOG_WORKER_SPAWNING;
    case POOL_WORKER_READY: return LOG_WORKER_READY;
    case POOL_WORKER_BUSY: return LOG_WORKER_BUSY;
    case POOL_WORKER_IDLE: return LOG_WORKER_IDLE;
    case POOL_WORKER_STOPPING: return LOG_WORKER_STOPPING;
    case POOL_WORKER_STOPPED: break;
    }
    return LOG_WORKER_STOPPED;
}

void tell_worker_change(const struct pool_worker_info *worker)
{
    bool is_stopped = worker->status == POOL_WORKER_STOPPED;
    struct log_fields fields = { .worker_id = worker->worker_id,
                                 .pid = worker->process.pid,
                                 .port = worker->port,
                                 .reason = is_stopped ? pool_stop_reason_name(worker->stop_reason) : NULL };
    if (is_stopped)
        log_tell(event_of(worker->status), &fields, "%s: %s", worker->worker_id, fields.reason);
    else
        log_tell(event_of(worker->status), &fields, "%s on port %" PRId64 ", pid %" PRId64, worker->worker_id,
                 worker->port, worker->process.pid);
}

void tell_stop_decided(const char *worker_id, enum pool_stop_reason reason)
{
    struct log_fields fields = { .worker_id = worker_id, .reason = pool_stop_reason_name(reason) };
    log_tell(LOG_WORKER_STOP, &fields, "%s: %s", worker_id, fields.reason);
}

void tell_start(const char *worker_id, enum pool_code outcome, double seconds)
{
    struct log_fields fields = { .worker_id = worker_id,
                                 .code = pool_code_name(outcome),
                                 .duration_us = (int64_t)(seconds * 1e6) };
    log_tell(outcome == POOL_OK ? LOG_WORKER_STARTED : LOG_WORKER_START_FAILED, &fields, "%s after %.3f s",
             fields.code, seconds);
}

/* Never the target: there may be more in it than was meant for a log. */
void tell_answered(const struct http_request *request, unsigned status, int64_t duration_ns)
{
    const char *route = http_request_route(request);
    bool is_change = strcmp(http_request_method(request), "GET") != 0;
    enum log_event event = is_change ? LOG_HTTP_CHANGED : LOG_HTTP_ANSWERED;
    if (!log_has(is_change ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG))
        return;
    struct log_fields fields = { .correlation_id = http_request_correlation_id(request),
                                 .caller = http_request_caller(request)->name,
                                 .peer = http_request_peer_address(request),
                                 .method = http_request_method(request),
                                 .route = route,
                                 .http_status = status,
                                 .duration_us = duration_ns / NS_PER_US };
    log_tell(event, &fields, "%s %s %u", fields.method, route ? route : "-", status);
}
