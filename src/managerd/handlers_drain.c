/*
 * The answer to a drain: a worker is let finish what it has in flight, for a time, and is stopped then. Nobody is kept
 * from asking it meanwhile: the daemon is not between a worker and its clients.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "managerd/daemon.h"
#include "managerd/sights.h"

struct drain_request {
    int64_t timeout_ms;
    bool is_waiting;
};

static enum pool_code refuse_field(struct pool_error *err, const char *name, const char *text)
{
    pool_error_set(err, POOL_INVALID_REQUEST, "%s: %s", name, text);
    pool_error_set_field(err, "%s", name);
    return POOL_INVALID_REQUEST;
}

/* {"timeout_ms": N, "wait": true}, both optional; so is the object. */
static enum pool_code decode(const char *body, size_t n, struct drain_request *ret_request,
                             struct pool_error *err)
{
    struct drain_request request = { .timeout_ms = SIGHTS_DRAIN_TIMEOUT_MS };
    struct json_failure failure;
    const char *name;
    json_t *value;
    CLEANUP_JSON json_t *document = n > 0 ? json_parse(body, n, &failure) : json_object();
    if (!document && (n == 0 || failure.is_no_memory))
        return pool_error_no_memory(err);
    if (!document)
        return pool_error_set(err, POOL_INVALID_REQUEST, "line %d, column %d: %s", failure.line,
                              failure.column, failure.message);
    if (!json_is_object(document))
        return pool_error_set(err, POOL_INVALID_REQUEST, "the body must be an object");
    json_object_foreach(document, name, value) {
        bool is_time = strcmp(name, "timeout_ms") == 0;
        if (!is_time && strcmp(name, "wait") != 0)
            return refuse_field(err, name, "there is no such field");
        if (is_time && (!json_is_integer(value) || json_integer_value(value) < 0 ||
                        json_integer_value(value) > POOL_TIMEOUT_MAX_MS))
            return refuse_field(err, name, "must be an integer of milliseconds, up to a week");
        if (!is_time && !json_is_boolean(value))
            return refuse_field(err, name, "must be true or false");
        if (is_time)
            request.timeout_ms = json_integer_value(value);
        else
            request.is_waiting = json_is_true(value);
    }
    *ret_request = request;
    return POOL_OK;
}

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
    struct drain_request wanted = { 0 };
    const char *id = http_request_segment(request, 2);
    const char *body = http_request_body(request, &n);
    enum pool_code code = decode(body, n, &wanted, &error);
    if (code == POOL_OK && !pool_worker_id_is_valid(id))
        code = pool_error_set(&error, POOL_INVALID_REQUEST, "that is no worker id");
    if (code != POOL_OK) {
        http_respond_error(request, &error);
    } else if (sights_are_told_requests(daemon->sights, id)) {
        sights_limit_drain(daemon->sights, id, wanted.timeout_ms);
        supervisor_drain(daemon->supervisor, id, wanted.is_waiting, answer_drain, request);
    } else { /* it does not serve yet, or nobody knows what it has in flight: there is nothing to wait for */
        supervisor_stop(daemon->supervisor, id, POOL_STOP_REQUESTED, -1, false, wanted.is_waiting,
                        answer_drain, request);
    }
}
