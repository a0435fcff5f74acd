/*
 * An orchestrator for tests: an HTTP server in the loop of the test that writes down what it is told and answers as
 * it is told, well or badly. It parses what our client sends and nothing else. It allocates nothing, so that running
 * out of memory on purpose hits the client alone.
 */
#ifndef ORCHESTRATOR_H
#define ORCHESTRATOR_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <uv.h>

#include "base/clock.h"

#define ORCHESTRATOR_SEEN_MAX    600
#define ORCHESTRATOR_BODY_MAX    1024
#define ORCHESTRATOR_CLIENTS_MAX 16
#define ORCHESTRATOR_OK          "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

struct orchestrator_reply {
    const char *bytes; /* NULL: never answers */
    bool closes;       /* the connection, behind the bytes */
    bool floods;       /* sends the bytes again and again */
};

struct orchestrator_request {
    char method[8];
    char path[256];
    char authorization[256];
    char correlation_id[128];
    char body[ORCHESTRATOR_BODY_MAX];
    int64_t boottime_ns;
};

struct orchestrator_client {
    uv_tcp_t tcp;
    uv_write_t write;
    struct orchestrator *orchestrator; /* NULL: not in use */
    char text[16384];                  /* what has come and is not taken yet */
    size_t n;
    char chunk[4096];
    const struct orchestrator_reply *reply;
};

struct orchestrator {
    uv_loop_t *loop;
    uv_tcp_t listener;
    int port;
    char url[64];
    struct orchestrator_reply registers, beats, failures, leaves;
    size_t n_seen;
    struct orchestrator_request seen[ORCHESTRATOR_SEEN_MAX];
    int n_connections; /* ever */
    struct orchestrator_client clients[ORCHESTRATOR_CLIENTS_MAX];
};

static inline void orchestrator_free_client(uv_handle_t *handle)
{
    ((struct orchestrator_client *)handle->data)->orchestrator = NULL;
}

static inline void orchestrator_drop(struct orchestrator_client *client)
{
    if (!uv_is_closing((uv_handle_t *)&client->tcp))
        uv_close((uv_handle_t *)&client->tcp, orchestrator_free_client);
}

static inline void orchestrator_send(struct orchestrator_client *client,
                                     const struct orchestrator_reply *reply);

static inline void orchestrator_take_written(uv_write_t *write, int status)
{
    struct orchestrator_client *client = write->data;
    if (status < 0 || uv_is_closing((uv_handle_t *)&client->tcp))
        return;
    if (client->reply->floods)
        orchestrator_send(client, client->reply);
    else if (client->reply->closes)
        orchestrator_drop(client);
}

static inline void orchestrator_send(struct orchestrator_client *client,
                                     const struct orchestrator_reply *reply)
{
    uv_buf_t buffer = { .base = (char *)(uintptr_t)reply->bytes, .len = strlen(reply->bytes) };
    client->reply = reply;
    client->write.data = client;
    uv_write(&client->write, (uv_stream_t *)&client->tcp, &buffer, 1, orchestrator_take_written);
}

/* The value of a header, "" when it is not there. */
static inline void orchestrator_header(const char *head, const char *name, char *value, size_t size)
{
    value[0] = '\0';
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        size_t n = strlen(name);
        if (strncasecmp(line + 2, name, n) != 0 || line[2 + n] != ':')
            continue;
        const char *from = line + 2 + n + 1;
        from += strspn(from, " ");
        snprintf(value, size, "%.*s", (int)strcspn(from, "\r"), from);
        return;
    }
}

static inline const struct orchestrator_reply *orchestrator_reply_to(
    const struct orchestrator *orchestrator, const struct orchestrator_request *request)
{
    if (strcmp(request->method, "DELETE") == 0)
        return &orchestrator->leaves;
    if (strstr(request->path, "/heartbeat"))
        return &orchestrator->beats;
    return strstr(request->path, "/failed") ? &orchestrator->failures : &orchestrator->registers;
}

/* Takes one request off the front of what has come; false when there is none yet. */
static inline bool orchestrator_take_request(struct orchestrator_client *client)
{
    struct orchestrator *orchestrator = client->orchestrator;
    char *end = strstr(client->text, "\r\n\r\n");
    if (!end || orchestrator->n_seen == ORCHESTRATOR_SEEN_MAX)
        return false;
    struct orchestrator_request *request = &orchestrator->seen[orchestrator->n_seen];
    char length[32], *body = end + 4;
    *end = '\0'; /* the head ends here */
    orchestrator_header(client->text, "Content-Length", length, sizeof length);
    size_t n_body = strtoul(length, NULL, 10);
    if (client->n - (size_t)(body - client->text) < n_body) {
        *end = '\r';
        return false;
    }
    size_t n_method = strcspn(client->text, " ");
    const char *path = client->text + n_method + 1;
    snprintf(request->method, sizeof request->method, "%.*s", (int)n_method, client->text);
    snprintf(request->path, sizeof request->path, "%.*s", (int)strcspn(path, " "), path);
    orchestrator_header(client->text, "Authorization", request->authorization, sizeof request->authorization);
    orchestrator_header(client->text, "X-Correlation-Id", request->correlation_id,
                        sizeof request->correlation_id);
    snprintf(request->body, sizeof request->body, "%.*s", (int)n_body, body);
    request->boottime_ns = clock_boottime_ns();
    orchestrator->n_seen++;
    size_t n_taken = (size_t)(body - client->text) + n_body;
    memmove(client->text, client->text + n_taken, client->n - n_taken + 1);
    client->n -= n_taken;
    const struct orchestrator_reply *reply = orchestrator_reply_to(orchestrator, request);
    if (reply->bytes)
        orchestrator_send(client, reply);
    return true;
}

static inline void orchestrator_lend(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
    (void)size;
    struct orchestrator_client *client = handle->data;
    *buffer = uv_buf_init(client->chunk, sizeof client->chunk);
}

static inline void orchestrator_take_bytes(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct orchestrator_client *client = stream->data;
    if (n < 0 || (size_t)n >= sizeof client->text - client->n) {
        orchestrator_drop(client);
        return;
    }
    memcpy(client->text + client->n, buffer->base, (size_t)n);
    client->n += (size_t)n;
    client->text[client->n] = '\0';
    while (orchestrator_take_request(client))
        ;
}

static inline struct orchestrator_client *orchestrator_find_place(struct orchestrator *orchestrator)
{
    for (size_t i = 0; i < ORCHESTRATOR_CLIENTS_MAX; i++) {
        if (!orchestrator->clients[i].orchestrator)
            return &orchestrator->clients[i];
    }
    fprintf(stderr, "more clients than a test has\n");
    abort();
}

static inline void orchestrator_take_connection(uv_stream_t *listener, int status)
{
    struct orchestrator *orchestrator = listener->data;
    if (status < 0)
        return;
    struct orchestrator_client *client = orchestrator_find_place(orchestrator);
    client->orchestrator = orchestrator;
    client->n = 0;
    client->text[0] = '\0';
    uv_tcp_init(orchestrator->loop, &client->tcp);
    client->tcp.data = client;
    orchestrator->n_connections++;
    if (uv_accept(listener, (uv_stream_t *)&client->tcp) == 0)
        uv_read_start((uv_stream_t *)&client->tcp, orchestrator_lend, orchestrator_take_bytes);
    else
        orchestrator_drop(client);
}

static inline bool orchestrator_start(struct orchestrator *orchestrator, uv_loop_t *loop)
{
    const struct orchestrator_reply ok = { .bytes = ORCHESTRATOR_OK };
    memset(orchestrator, 0, sizeof *orchestrator);
    orchestrator->loop = loop;
    orchestrator->registers = orchestrator->beats = orchestrator->failures = orchestrator->leaves = ok;
    struct sockaddr_in address;
    int n = (int)sizeof address;
    uv_tcp_init(loop, &orchestrator->listener);
    orchestrator->listener.data = orchestrator;
    if (uv_ip4_addr("127.0.0.1", 0, &address) < 0 ||
        uv_tcp_bind(&orchestrator->listener, (struct sockaddr *)&address, 0) < 0 ||
        uv_listen((uv_stream_t *)&orchestrator->listener, 16, orchestrator_take_connection) < 0 ||
        uv_tcp_getsockname(&orchestrator->listener, (struct sockaddr *)&address, &n) < 0)
        return false;
    orchestrator->port = ntohs(address.sin_port);
    snprintf(orchestrator->url, sizeof orchestrator->url, "http://127.0.0.1:%d", orchestrator->port);
    return true;
}

static inline void orchestrator_close_any(uv_handle_t *handle, void *orchestrator)
{
    if (uv_is_closing(handle) || handle->type != UV_TCP)
        return;
    uv_close(handle, handle->data == orchestrator ? NULL : orchestrator_free_client);
}

/* Closes what is open of it; the loop has to run for that. */
static inline void orchestrator_end(struct orchestrator *orchestrator)
{
    uv_walk(orchestrator->loop, orchestrator_close_any, orchestrator);
}

static inline void orchestrator_forget(struct orchestrator *orchestrator)
{
    orchestrator->n_seen = 0;
}

#endif
