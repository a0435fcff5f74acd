/*
 * The answer to a drain: a worker is let finish what it has in flight, for a time, and is stopped then. Nobody is kept
 * from asking it meanwhile: the daemon is not between a worker and its clients.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "managerd/daemon.h"
#include "managerd/sights.h"

static void answer_drain(enum pool_code code, const struct pool_worker_info *worker,
                         const struct pool_error *error, void *context)
{
    struct http_request *request = context;
    char *json = NULL;
    struct pool_error why = POOL_ERROR_INIT;
    if (code != POOL_OK) {
        http_respond_error(request, error);
        return;
    }
    code = pool_worker_info_encode(worker, &json, &why);
    respond_encoded(request, worker->status == POOL_WORKER_STOPPED ? 200 : 202, code, json, &why);
}

void handle_worker_drain(struct daemon *daemon, struct http_request *request)
{
    size_t n;
    struct pool_error error = POOL_ERROR_INIT;
    CLEANUP_FREE struct pool_worker_drain_request *wanted = NULL;
    const char *id = http_request_segment(request, 2);
    const char *body = http_request_body(request, &n);
    enum pool_code code = pool_worker_drain_request_decode(body, n, &wanted, &error);
    if (code == POOL_OK && !pool_worker_id_is_valid(id))
        code = pool_error_set(&error, POOL_INVALID_REQUEST, "that is no worker id");
    if (code != POOL_OK) {
        http_respond_error(request, &error);
    } else if (sights_are_told_requests(daemon->sights, id)) {
        sights_limit_drain(daemon->sights, id,
                           wanted->timeout_ms.is_present ? wanted->timeout_ms.value
                                                         : SIGHTS_DRAIN_TIMEOUT_MS);
        supervisor_drain(daemon->supervisor, id, wanted->wait, answer_drain, request);
    } else { /* it does not serve yet, or nobody knows what it has in flight: there is nothing to wait for */
        supervisor_stop(daemon->supervisor, id, POOL_STOP_REQUESTED, -1, false, wanted->wait, answer_drain,
                        request);
    }
}
