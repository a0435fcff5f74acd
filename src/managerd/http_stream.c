/*
 * Answers that grow: event streams and followed logs. Owns the backlog of each, its limit, and the pings. While there is
 * nothing to send the connection is suspended; libmicrohttpd would otherwise ask again and again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "managerd/http_internal.h"

/* libmicrohttpd has room for n bytes. */
static ssize_t read_backlog(void *context, uint64_t position, char *to, size_t n)
{
    struct http_request *request = context;
    struct http_backlog *backlog = &request->backlog;
    (void)position;
    if (request->is_gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (backlog->n == 0) {
        if (request->is_ended)
            return MHD_CONTENT_READER_END_OF_STREAM;
        MHD_suspend_connection(request->connection);
        request->is_suspended = true;
        return 0;
    }
    if (n > backlog->n)
        n = backlog->n;
    memcpy(to, backlog->data + backlog->start, n);
    backlog->start += n;
    backlog->n -= n;
    if (backlog->n == 0)
        backlog->start = 0;
    return (ssize_t)n;
}

enum pool_code http_stream_begin(struct http_request *request, const char *content_type,
                                 struct pool_error *err)
{
    struct http_server *server = request->server;
    if (server->n_streams >= server->options.max_streams) {
        enum pool_code code = pool_error_set(err, POOL_OVERLOADED, "too many streams are open");
        pool_error_add_number(err, "max_streams", (int64_t)server->options.max_streams);
        return code;
    }
    if (!request->connection || request->is_gone) {
        /* Nobody will read it; the owner has been or is being told, and ends it as ever. */
        request->is_gone = true;
        return POOL_OK;
    }
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, HTTP_STREAM_BLOCK_BYTES, read_backlog, request, NULL);
    if (!response)
        return pool_error_no_memory(err);
    if (!http_response_finish(request, response, content_type)) {
        MHD_destroy_response(response);
        return pool_error_no_memory(err);
    }
    request->response = response;
    request->status = 200;
    request->is_stream = true;
    server->n_streams++;
    http_request_resume(request);
    return POOL_OK;
}

void http_stream_ping(struct http_request *request)
{
    request->has_ping = true;
}

static bool make_room(struct http_backlog *backlog, size_t n)
{
    if (backlog->start + backlog->n + n <= backlog->capacity)
        return true;
    if (backlog->start > 0) {
        memmove(backlog->data, backlog->data + backlog->start, backlog->n);
        backlog->start = 0;
    }
    size_t capacity = backlog->capacity ? backlog->capacity : 1024;
    while (capacity < backlog->n + n)
        capacity *= 2;
    if (capacity == backlog->capacity)
        return true;
    char *data = realloc(backlog->data, capacity);
    if (!data)
        return false;
    backlog->data = data;
    backlog->capacity = capacity;
    return true;
}

bool http_stream_send(struct http_request *request, const void *data, size_t n)
{
    const struct http_server *server = request->server;
    struct http_backlog *backlog = &request->backlog;
    if (request->is_gone || !request->connection)
        return false;
    if (request->is_head || n == 0)
        return true;
    if (n > server->options.stream_backlog_bytes - backlog->n || !make_room(backlog, n)) {
        http_request_drop(request);
        return false;
    }
    memcpy(backlog->data + backlog->start + backlog->n, data, n);
    backlog->n += n;
    request->answered_ns = clock_boottime_ns();
    http_request_resume(request);
    return true;
}

size_t http_stream_backlog_bytes(const struct http_request *request)
{
    return request->backlog.n;
}

void http_stream_end(struct http_request *request)
{
    request->is_ended = true;
    request->is_held = false;
    http_request_resume(request);
    http_request_free_if_done(request);
}

void http_streams_sweep(struct http_server *server, int64_t now_ns)
{
    static const char ping[] = ": ping\n\n";
    /* A sweep comes four times in an interval, so this keeps the pause below it. */
    int64_t pause_ns = server->options.ping_interval_ms * NS_PER_MS * 3 / 4;
    for (struct http_request *request = server->requests; request; request = request->next)
        if (request->is_stream && request->has_ping && !request->is_ended &&
            now_ns - request->answered_ns >= pause_ns)
            (void)http_stream_send(request, ping, sizeof(ping) - 1);
}
