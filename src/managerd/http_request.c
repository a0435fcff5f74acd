/*
 * The life of a request: its request line, its header, its body, its owner, its end. Owns libmicrohttpd's handler
 * protocol and the two-sided ownership; whether a request is fit to be served is http_admission.c's.
 *
 * libmicrohttpd calls http_request_line when the request line is there, http_request_handle once for the header, once
 * for each piece of the body and once for the end (again after each resume), and http_request_completed at the end of
 * all, however it comes.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "managerd/http_internal.h"

void *http_request_line(void *context, const char *target, struct MHD_Connection *connection)
{
    struct http_server *server = context;
    struct http_peer *peer = http_peer_of(connection);
    size_t n = target ? strlen(target) : 0;
    size_t n_kept = n > HTTP_TARGET_MAX_BYTES ? 0 : n;
    struct http_request *request = peer ? calloc(1, sizeof(*request) + 2 * (n_kept + 2)) : NULL;
    if (!request)
        return NULL;
    request->server = server;
    request->connection = connection;
    request->peer = peer;
    request->transport = peer->transport;
    request->uid = peer->uid;
    memcpy(request->address, peer->address, sizeof(request->address));
    request->arrived_ns = clock_boottime_ns();
    request->n_target = n;
    if (n_kept > 0)
        memcpy(request->target_text, target, n_kept);
    peer->request = request;
    request->next = server->requests;
    if (request->next)
        request->next->previous = request;
    server->requests = request;
    server->n_alive++;
    return request;
}

void http_request_free_if_done(struct http_request *request)
{
    struct http_server *server = request->server;
    if (request->connection || request->is_held || request->is_ending)
        return;
    if (request->response && !request->is_borrowed)
        MHD_destroy_response(request->response);
    for (size_t i = 0; i < request->n_fields; i++)
        free(request->fields[i].value);
    server->n_body_bytes -= request->body_capacity;
    free(request->body);
    free(request->backlog.data);
    free(request);
    server->n_alive--;
    if (server->is_quiescing && server->n_alive == 0)
        http_server_kick(server);
    http_server_free_if_done(server);
}

/* --- waiting, and clients that leave ----------------------------------------------------------------------------- */

void http_request_resume(struct http_request *request)
{
    if (!request->is_suspended)
        return;
    request->is_suspended = false;
    MHD_resume_connection(request->connection);
    http_server_kick(request->server);
}

void http_request_tell_gone(struct http_request *request)
{
    if (!request->is_held || request->is_gone_told || !request->on_gone)
        return;
    request->is_gone_told = true;
    request->on_gone(request, request->gone_context);
}

void http_request_drop(struct http_request *request)
{
    if (!request->connection)
        return;
    request->is_gone = true;
    /* A connection that is not suspended is seen to end by libmicrohttpd itself. */
    (void)shutdown(request->peer->fd, SHUT_RDWR);
    http_request_resume(request);
}

/* --- the handler protocol ---------------------------------------------------------------------------------------- */

/* The server's own limit of what is in flight. */
static bool count_request(struct http_request *request, struct pool_error *error)
{
    struct http_server *server = request->server;
    if (server->n_counted - server->n_streams >= server->options.max_requests) {
        pool_error_set(error, POOL_OVERLOADED, "too many requests are being answered");
        pool_error_add_number(error, "max_requests", (int64_t)server->options.max_requests);
        return false;
    }
    request->is_counted = true;
    server->n_counted++;
    return true;
}

static void check_header(struct http_request *request, const char *method, const char *version)
{
    struct http_server *server = request->server;
    /* Nine kilobytes: not to be cleared for each request. Setting it clears it. */
    struct pool_error *error = &server->refusal;
    unsigned status = 0;
    error->code = POOL_OK;
    bool is_fine = http_admit(request, method, version, error, &status);
    if (is_fine && !count_request(request, error))
        is_fine = false;
    if (is_fine && server->options.early_check) {
        enum pool_code code = server->options.early_check(request, server->options.context, error);
        is_fine = code == POOL_OK;
        if (!is_fine && error->code == POOL_OK)
            pool_error_set(error, code, "refused");
    }
    if (!is_fine)
        http_refuse(request, status ? status : (unsigned)pool_code_http_status(error->code), error);
}

static enum MHD_Result queue_answer(struct http_request *request)
{
    /* Bytes of an upload that nobody will read: see http_linger.c. */
    request->must_linger = (request->has_body || request->must_close) && request->phase < HTTP_PHASE_HANDED;
    request->phase = HTTP_PHASE_ANSWERED;
    request->answered_ns = clock_boottime_ns();
    return MHD_queue_response(request->connection, request->status, request->response);
}

static bool make_room(struct http_request *request, size_t n, enum pool_code *ret_failure)
{
    struct http_server *server = request->server;
    size_t n_needed = request->n_body + n + 1;
    if (n_needed <= request->body_capacity)
        return true;
    size_t capacity = request->body_capacity ? request->body_capacity : 1024;
    while (capacity < n_needed)
        capacity *= 2;
    size_t n_more = capacity - request->body_capacity;
    if (server->n_body_bytes + n_more > HTTP_BODIES_MAX_BYTES) {
        *ret_failure = POOL_OVERLOADED;
        return false;
    }
    char *body = realloc(request->body, capacity);
    if (!body) {
        *ret_failure = POOL_INSUFFICIENT_MEMORY;
        return false;
    }
    request->body = body;
    request->body_capacity = capacity;
    server->n_body_bytes += n_more;
    return true;
}

/*
 * libmicrohttpd takes an answer before the first byte of a body or after the last one, none between. So a chunked
 * upload that turns out too large is answered past it, and the connection closed.
 */
static enum MHD_Result refuse_upload(struct http_request *request, enum pool_code failure)
{
    struct pool_error error = POOL_ERROR_INIT;
    if (failure == POOL_PAYLOAD_TOO_LARGE) {
        pool_error_set(&error, failure, "the body has more than %zu bytes",
                       request->server->options.max_body_bytes);
        pool_error_add_number(&error, "max_body_bytes", (int64_t)request->server->options.max_body_bytes);
    } else {
        pool_error_set(&error, failure, "no memory for the body");
    }
    request->status = (unsigned)pool_code_http_status(failure);
    http_send_refusal(request->peer->fd, request->status, &error, request->correlation_id);
    request->phase = HTTP_PHASE_ANSWERED;
    request->must_linger = true;
    return MHD_NO;
}

static enum MHD_Result receive_body(struct http_request *request, const char *upload, size_t *n_upload)
{
    enum pool_code failure = POOL_PAYLOAD_TOO_LARGE;
    if (*n_upload > request->server->options.max_body_bytes - request->n_body ||
        !make_room(request, *n_upload, &failure))
        return refuse_upload(request, failure);
    memcpy(request->body + request->n_body, upload, *n_upload);
    request->n_body += *n_upload;
    request->body[request->n_body] = '\0';
    *n_upload = 0;
    return MHD_YES;
}

/* Complete: to the owner, and to sleep when it does not answer at once. */
static enum MHD_Result hand_over(struct http_request *request)
{
    struct http_server *server = request->server;
    request->phase = HTTP_PHASE_HANDED;
    request->is_held = true;
    server->options.on_request(request, server->options.context);
    if (request->response)
        return queue_answer(request);
    MHD_suspend_connection(request->connection);
    request->is_suspended = true;
    return MHD_YES;
}

enum MHD_Result http_request_handle(void *context, struct MHD_Connection *connection, const char *url,
                                    const char *method, const char *version, const char *upload,
                                    size_t *n_upload, void **request_context)
{
    struct http_server *server = context;
    struct http_request *request = *request_context;
    (void)url;
    if (!request) /* there was no memory for it */
        return *n_upload > 0 ? MHD_NO : MHD_queue_response(connection, 507, server->no_memory);
    if (request->phase == HTTP_PHASE_LINE) {
        check_header(request, method, version);
        if (request->phase == HTTP_PHASE_LINE)
            request->phase = HTTP_PHASE_RECEIVING;
        /* An answer in this call closes the connection. That is right for an upload, and unkind to the others. */
        if (request->response && (request->has_body || request->must_close))
            return queue_answer(request);
        return MHD_YES;
    }
    if (*n_upload > 0)
        return receive_body(request, upload, n_upload);
    if (request->is_gone)
        return MHD_NO;
    if (request->response)
        return queue_answer(request);
    return hand_over(request);
}

void http_request_completed(void *context, struct MHD_Connection *connection, void **request_context,
                            enum MHD_RequestTerminationCode code)
{
    struct http_request *request = *request_context;
    (void)context;
    (void)connection;
    *request_context = NULL;
    if (request)
        http_request_end(request, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

/* libmicrohttpd lets go. */
void http_request_end(struct http_request *request, bool is_sent)
{
    struct http_server *server = request->server;
    struct http_peer *peer = request->peer;
    int64_t now_ns = clock_boottime_ns();
    if (request->must_linger)
        http_linger_begin(server, peer->fd);
    request->is_suspended = false;
    request->connection = NULL;
    request->peer = NULL;
    peer->request = NULL;
    peer->waiting_since_ns = now_ns;
    /* A stream that began before it was known has not said that the connection ends with it. */
    if (server->is_quiescing && !request->must_linger)
        (void)shutdown(peer->fd, SHUT_RDWR);
    server->has_hang_ups |= peer->has_hung_up;
    if (request->previous)
        request->previous->next = request->next;
    else
        server->requests = request->next;
    if (request->next)
        request->next->previous = request->previous;
    if (request->is_counted)
        server->n_counted--;
    if (request->is_stream)
        server->n_streams--;
    /* A stream that its owner has not ended cannot be complete. */
    if (!is_sent || request->is_held)
        request->is_gone = true;
    if (server->options.on_answered && request->phase > HTTP_PHASE_LINE)
        server->options.on_answered(request, request->status ? request->status : 499,
                                    now_ns - request->arrived_ns, server->options.context);
    /* The owner may let go in there. */
    request->is_ending = true;
    http_request_tell_gone(request);
    request->is_ending = false;
    http_request_free_if_done(request);
}

/* --- what was asked ---------------------------------------------------------------------------------------------- */

const char *http_request_method(const struct http_request *request)
{
    return request->is_head ? "GET" : request->method;
}

bool http_request_is_head(const struct http_request *request)
{
    return request->is_head;
}

const char *http_request_path(const struct http_request *request)
{
    return request->target.path ? request->target.path : "";
}

size_t http_request_n_segments(const struct http_request *request)
{
    return request->target.n_segments;
}

const char *http_request_segment(const struct http_request *request, size_t i)
{
    return i < request->target.n_segments ? request->target.segments[i] : NULL;
}

size_t http_request_n_params(const struct http_request *request)
{
    return request->target.n_params;
}

const char *http_request_param_name(const struct http_request *request, size_t i)
{
    return i < request->target.n_params ? request->target.params[i].name : NULL;
}

const char *http_request_param(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->target.n_params; i++)
        if (strcmp(request->target.params[i].name, name) == 0)
            return request->target.params[i].value;
    return NULL;
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    if (!request->connection)
        return NULL;
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const char *http_request_body(const struct http_request *request, size_t *ret_n)
{
    *ret_n = request->n_body;
    return request->body ? request->body : "";
}

const char *http_request_correlation_id(const struct http_request *request)
{
    return request->correlation_id;
}

enum http_transport http_request_transport(const struct http_request *request)
{
    return request->transport;
}

bool http_request_peer_uid(const struct http_request *request, uid_t *ret_uid)
{
    if (request->transport != HTTP_UNIX)
        return false;
    *ret_uid = request->uid;
    return true;
}

const char *http_request_peer_address(const struct http_request *request)
{
    return request->address;
}

int64_t http_request_arrived_ns(const struct http_request *request)
{
    return request->arrived_ns;
}

bool http_request_is_gone(const struct http_request *request)
{
    return request->is_gone;
}

void http_request_set_context(struct http_request *request, void *context)
{
    request->context = context;
}

void *http_request_context(const struct http_request *request)
{
    return request->context;
}

void http_request_set_route(struct http_request *request, const char *route)
{
    request->route = route;
}

const char *http_request_route(const struct http_request *request)
{
    return request->route;
}

void http_request_set_caller(struct http_request *request, const struct http_caller *caller)
{
    request->caller = *caller;
}

const struct http_caller *http_request_caller(const struct http_request *request)
{
    return &request->caller;
}

void http_request_on_gone(struct http_request *request, http_on_gone *on_gone, void *context)
{
    request->on_gone = on_gone;
    request->gone_context = context;
}
