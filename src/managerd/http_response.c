/*
 * Answers. Owns the fields that every answer has, the contract's error shape, and what is said when there is no memory
 * left to say it with.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <pool/api.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "managerd/http_internal.h"

static const struct http_field *find_field(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->n_fields; i++)
        if (strcmp(request->fields[i].name, name) == 0)
            return &request->fields[i];
    return NULL;
}

bool http_request_add_header(struct http_request *request, const char *name, const char *value)
{
    if (request->n_fields == HTTP_ANSWER_FIELDS_MAX || !*value || value[strcspn(value, "\r\n\t")])
        return false;
    char *copy = strdup(value);
    if (!copy)
        return false;
    request->fields[request->n_fields++] = (struct http_field){ name, copy };
    return true;
}

bool http_response_finish(struct http_request *request, struct MHD_Response *response,
                          const char *content_type)
{
    const struct http_server *server = request->server;
    bool is_complete =
        MHD_add_response_header(response, "X-Correlation-Id", request->correlation_id) == MHD_YES &&
        MHD_add_response_header(response, "Cache-Control", "no-store") == MHD_YES;
    if (is_complete && content_type)
        is_complete = MHD_add_response_header(response, "Content-Type", content_type) == MHD_YES;
    if (is_complete && (request->must_close || server->is_quiescing))
        is_complete = MHD_add_response_header(response, "Connection", "close") == MHD_YES;
    for (size_t i = 0; i < request->n_fields && is_complete; i++)
        is_complete =
            MHD_add_response_header(response, request->fields[i].name, request->fields[i].value) == MHD_YES;
    return is_complete;
}

/* Puts the answer where the handler will find it. Takes the reference. NULL: there was no memory for it. */
static void set_answer(struct http_request *request, unsigned status, struct MHD_Response *response,
                       const char *content_type, size_t n)
{
    if (response && !http_response_finish(request, response, content_type)) {
        MHD_destroy_response(response);
        response = NULL;
    }
    request->response = response;
    request->status = status;
    request->n_answer = n;
    if (!response && !request->server->is_closed) {
        request->status = 507;
        request->response = request->server->no_memory;
        request->is_borrowed = true;
    }
}

/* The owner lets go. */
static void release_request(struct http_request *request)
{
    request->is_held = false;
    http_request_resume(request);
    http_request_free_if_done(request);
}

static bool is_wanted(const struct http_request *request)
{
    return request->connection && !request->is_gone && !request->response;
}

void http_respond(struct http_request *request, unsigned status, const char *content_type, const void *body,
                  size_t n, enum http_ownership ownership)
{
    if (is_wanted(request)) {
        enum MHD_ResponseMemoryMode mode = ownership == HTTP_COPY   ? MHD_RESPMEM_MUST_COPY
                                           : ownership == HTTP_TAKE ? MHD_RESPMEM_MUST_FREE
                                                                    : MHD_RESPMEM_PERSISTENT;
        void *data = (void *)(uintptr_t)body;
        struct MHD_Response *response =
            ownership == HTTP_TAKE && data ? MHD_create_response_from_buffer_with_free_callback(n, data, free)
                                           : MHD_create_response_from_buffer(n, data, mode);
        if (response)
            ownership = HTTP_STATIC; /* it is the response's now */
        set_answer(request, status, response, content_type, n);
    }
    if (ownership == HTTP_TAKE)
        free((void *)(uintptr_t)body);
    release_request(request);
}

void http_respond_shared(struct http_request *request, unsigned status, const char *content_type,
                         const void *body, size_t n, void (*release)(void *), void *release_context)
{
    struct MHD_Response *response = NULL;
    if (is_wanted(request)) {
        response = MHD_create_response_from_buffer_with_free_callback_cls(n, (void *)(uintptr_t)body, release,
                                                                          release_context);
        bool is_released = response != NULL;
        set_answer(request, status, response, content_type, n);
        if (is_released)
            release = NULL;
    }
    if (release)
        release(release_context);
    release_request(request);
}

/* Retry-After and WWW-Authenticate, where the code asks for them and the handler has not said. */
static void add_fields_of_code(struct http_request *request, enum pool_code code)
{
    if ((code == POOL_OVERLOADED || code == POOL_RATE_LIMITED) && !find_field(request, "Retry-After"))
        (void)http_request_add_header(request, "Retry-After", HTTP_RETRY_AFTER);
    if (code == POOL_UNAUTHENTICATED && !find_field(request, "WWW-Authenticate"))
        (void)http_request_add_header(request, "WWW-Authenticate", "Bearer");
}

void http_refuse(struct http_request *request, unsigned status, const struct pool_error *error)
{
    char *json = NULL;
    struct MHD_Response *response = NULL;
    size_t n = 0;
    add_fields_of_code(request, error->code);
    if (pool_error_encode(error, request->correlation_id, &json, NULL) == POOL_OK) {
        n = strlen(json);
        response = MHD_create_response_from_buffer_with_free_callback(n, json, free);
        if (!response)
            free(json);
    }
    set_answer(request, status, response, "application/json", n);
}

void http_respond_error(struct http_request *request, const struct pool_error *error)
{
    if (is_wanted(request))
        http_refuse(request, (unsigned)pool_code_http_status(error->code), error);
    release_request(request);
}

void http_send_refusal(int fd, unsigned status, const struct pool_error *error, const char *correlation_id)
{
    CLEANUP_FREE char *json = NULL;
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(8192);
    if (pool_error_encode(error, correlation_id, &json, NULL) != POOL_OK)
        return;
    strbuf_printf(&text, "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n",
                  status, MHD_get_reason_phrase_for(status), strlen(json));
    if (correlation_id)
        strbuf_printf(&text, "X-Correlation-Id: %s\r\n", correlation_id);
    if (error->code == POOL_OVERLOADED || error->code == POOL_RATE_LIMITED)
        strbuf_add_text(&text, "Retry-After: " HTTP_RETRY_AFTER "\r\n");
    strbuf_add_text(&text, "Cache-Control: no-store\r\nConnection: close\r\n\r\n");
    strbuf_add_text(&text, json);
    /* Nothing was sent on it before, so it fits; and if it does not, the connection is closed all the same. */
    if (text.failure == STRBUF_FINE)
        (void)!send(fd, text.data, text.n, MSG_NOSIGNAL | MSG_DONTWAIT);
}
