/*
 * Ground for tests of the HTTP server: a real server on a loop, a small service on it, and clients on plain sockets that
 * are driven from the same thread. Every wait is for an event and has a deadline.
 *
 * The service: /now answers at once, /echo gives the body back, /later and /stream leave the request in ground.held,
 * /denied is refused before the body, everything else is NOT_FOUND.
 */
#ifndef HTTP_GROUND_H
#define HTTP_GROUND_H

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/strbuf.h"
#include "managerd/http_server.h"

#define GROUND_DEADLINE_MS 30000
#define GROUND_HELD_MAX    2048
#define ECHO_ANSWER_MAX    (4 << 20)

struct ground {
    uv_loop_t loop;
    uv_timer_t deadline;
    uv_poll_t clients_poll;
    int clients_fd; /* epoll set of the clients' sockets, so that the loop wakes for them */
    bool is_over;   /* the deadline */
    struct http_server *server;
    uint16_t port;
    size_t n_held;
    struct http_request *held[GROUND_HELD_MAX];
    size_t n_gone, n_answered, n_handled;
    unsigned last_status;
    char last_path[256], last_method[32], last_id[80], last_param[256], last_peer[80], last_host[80];
    bool is_closed, is_quiet, is_quiescing, was_head;
    bool has_uid;
    uid_t uid;
    size_t n_released;
};

struct client {
    int fd;
    struct strbuf in;
    bool is_closed;        /* the server closed */
    bool has_failed_sends; /* and did so while there was more to say */
};

struct answer {
    int status;
    char head[8192];
    struct strbuf body;
};

/* --- the service ------------------------------------------------------------------------------------------------- */

static inline void note_gone(struct http_request *request, void *context)
{
    struct ground *ground = context;
    assert_true(http_request_is_gone(request) || ground->is_quiescing);
    ground->n_gone++;
}

static inline void serve(struct http_request *request, void *context)
{
    struct ground *ground = context;
    const char *path = http_request_path(request);
    const char *param = http_request_param(request, "q");
    const char *host = http_request_header(request, "host");
    size_t n = 0;
    const char *body = http_request_body(request, &n);
    ground->n_handled++;
    snprintf(ground->last_path, sizeof(ground->last_path), "%s", path);
    snprintf(ground->last_method, sizeof(ground->last_method), "%s", http_request_method(request));
    snprintf(ground->last_id, sizeof(ground->last_id), "%s", http_request_correlation_id(request));
    snprintf(ground->last_param, sizeof(ground->last_param), "%s", param ? param : "(none)");
    snprintf(ground->last_peer, sizeof(ground->last_peer), "%s", http_request_peer_address(request));
    snprintf(ground->last_host, sizeof(ground->last_host), "%s", host ? host : "(none)");
    ground->was_head = http_request_is_head(request);
    ground->has_uid = http_request_peer_uid(request, &ground->uid);
    if (strcmp(path, "/now") == 0) {
        http_respond(request, 200, "application/json", "{\"ok\":true}", 11, HTTP_STATIC);
    } else if (strcmp(path, "/echo") == 0) {
        http_respond(request, 200, "application/json", body, n, HTTP_COPY);
    } else if (strcmp(path, "/later") == 0) {
        assert_true(ground->n_held < GROUND_HELD_MAX);
        http_request_on_gone(request, note_gone, ground);
        ground->held[ground->n_held++] = request;
    } else if (strcmp(path, "/stream") == 0) {
        struct pool_error error = POOL_ERROR_INIT;
        assert_true(ground->n_held < GROUND_HELD_MAX);
        http_request_on_gone(request, note_gone, ground);
        if (http_stream_begin(request, "text/event-stream", &error) != POOL_OK)
            http_respond_error(request, &error);
        else
            ground->held[ground->n_held++] = request;
    } else {
        struct pool_error error = POOL_ERROR_INIT;
        pool_error_set(&error, POOL_NOT_FOUND, "no route %s", path);
        http_respond_error(request, &error);
    }
}

static inline enum pool_code check_early(struct http_request *request, void *context, struct pool_error *err)
{
    (void)context;
    if (strcmp(http_request_path(request), "/denied") == 0)
        return pool_error_set(err, POOL_UNAUTHENTICATED, "no token");
    if (strcmp(http_request_method(request), "DELETE") == 0) {
        (void)http_request_add_header(request, "Allow", "GET, POST");
        return pool_error_set(err, POOL_METHOD_NOT_ALLOWED, "not here");
    }
    return POOL_OK;
}

static inline void count_answer(const struct http_request *request, unsigned status, int64_t duration_ns,
                                void *context)
{
    struct ground *ground = context;
    (void)request;
    assert_true(duration_ns >= 0);
    ground->n_answered++;
    ground->last_status = status;
}

/* --- the loop ---------------------------------------------------------------------------------------------------- */

static inline void note_deadline(uv_timer_t *timer)
{
    struct ground *ground = timer->data;
    ground->is_over = true;
}

static inline void ignore_event(uv_poll_t *poll, int status, int events)
{
    (void)poll;
    (void)status;
    (void)events;
}

static inline bool run_until(struct ground *ground, bool (*is_true)(struct ground *, void *), void *context)
{
    ground->is_over = false;
    assert_int_equal(uv_timer_start(&ground->deadline, note_deadline, GROUND_DEADLINE_MS, 0), 0);
    while (!is_true(ground, context) && !ground->is_over) {
        uv_run(&ground->loop, UV_RUN_ONCE);
        struct epoll_event events[64]; /* edge-triggered: taken out by being looked at */
        while (epoll_wait(ground->clients_fd, events, 64, 0) > 0)
            continue;
    }
    uv_timer_stop(&ground->deadline);
    return !ground->is_over;
}

static inline void ground_defaults(struct ground *ground, struct http_server_options *options)
{
    static const char *const binds[] = { "127.0.0.1:0" };
    *options = (struct http_server_options){ .binds = binds,
                                             .n_binds = 1,
                                             .early_check = check_early,
                                             .on_request = serve,
                                             .on_answered = count_answer,
                                             .context = ground };
}

static inline void ground_open_loop(struct ground *ground)
{
    *ground = (struct ground){ .clients_fd = epoll_create1(EPOLL_CLOEXEC) };
    assert_true(ground->clients_fd >= 0);
    assert_int_equal(uv_loop_init(&ground->loop), 0);
    assert_int_equal(uv_timer_init(&ground->loop, &ground->deadline), 0);
    ground->deadline.data = ground;
    assert_int_equal(uv_poll_init(&ground->loop, &ground->clients_poll, ground->clients_fd), 0);
    assert_int_equal(uv_poll_start(&ground->clients_poll, UV_READABLE, ignore_event), 0);
}

static inline void ground_open_with(struct ground *ground, const struct http_server_options *options)
{
    struct pool_error error = POOL_ERROR_INIT;
    enum pool_code code = http_server_open(&ground->loop, options, &ground->server, &error);
    if (code != POOL_OK)
        print_error("%s\n", error.message);
    assert_int_equal(code, POOL_OK);
    ground->port = http_server_port(ground->server, 0);
}

static inline void ground_open(struct ground *ground)
{
    struct http_server_options options;
    ground_open_loop(ground);
    ground_defaults(ground, &options);
    ground_open_with(ground, &options);
}

static inline void note_closed(void *context)
{
    struct ground *ground = context;
    ground->is_closed = true;
}

static inline bool has_closed(struct ground *ground, void *context)
{
    (void)context;
    return ground->is_closed;
}

/* Answers what is held, closes everything; the loop must have nothing left then. */
static inline void ground_close(struct ground *ground)
{
    if (ground->server) {
        http_server_close(ground->server, note_closed, ground);
        for (size_t i = 0; i < ground->n_held; i++)
            http_respond(ground->held[i], 200, NULL, NULL, 0, HTTP_STATIC);
        assert_true(run_until(ground, has_closed, NULL));
    }
    uv_close((uv_handle_t *)&ground->deadline, NULL);
    uv_close((uv_handle_t *)&ground->clients_poll, NULL);
    assert_int_equal(uv_run(&ground->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&ground->loop), 0);
    close(ground->clients_fd);
}

/* --- clients ----------------------------------------------------------------------------------------------------- */

static inline void client_adopt(struct ground *ground, struct client *client, int fd)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = client };
    *client = (struct client){ .fd = fd, .in = STRBUF_INIT(ECHO_ANSWER_MAX) };
    assert_int_equal(epoll_ctl(ground->clients_fd, EPOLL_CTL_ADD, fd, &event), 0);
}

static inline void client_open(struct ground *ground, struct client *client)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(ground->port) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    client_adopt(ground, client, fd);
}

static inline void client_close(struct client *client)
{
    close(client->fd);
    client->fd = -1;
    strbuf_done(&client->in);
}

static inline void client_receive(struct client *client)
{
    char buffer[16384];
    ssize_t n;
    while (!client->is_closed && (n = recv(client->fd, buffer, sizeof(buffer), MSG_DONTWAIT)) != -1) {
        client->is_closed = n == 0;
        assert_true(strbuf_add(&client->in, buffer, (size_t)n));
    }
    if (!client->is_closed && errno != EAGAIN && errno != EINTR)
        client->is_closed = true;
}

struct sending {
    struct client *client;
    const char *data;
    size_t n;
};

static inline bool has_sent(struct ground *ground, void *context)
{
    struct sending *sending = context;
    (void)ground;
    ssize_t n = send(sending->client->fd, sending->data, sending->n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
        sending->n = 0; /* what the other side said is still to be read */
        sending->client->has_failed_sends = true;
    }
    if (n > 0) {
        sending->data += n;
        sending->n -= (size_t)n;
    }
    return sending->n == 0;
}

static inline void client_send_n(struct ground *ground, struct client *client, const void *data, size_t n)
{
    struct sending sending = { client, data, n };
    assert_true(run_until(ground, has_sent, &sending));
}

static inline void client_send(struct ground *ground, struct client *client, const char *text)
{
    client_send_n(ground, client, text, strlen(text));
}

static inline void client_get(struct ground *ground, struct client *client, const char *path)
{
    char text[1024];
    snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    client_send(ground, client, text);
}

/* The value of a field, in a buffer that the next call overwrites; "" when there is none. */
static inline const char *answer_field(const struct answer *answer, const char *name)
{
    static char value[1024];
    size_t n = strlen(name);
    for (const char *line = strstr(answer->head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
            const char *start = line + n + 1 + strspn(line + n + 1, " ");
            snprintf(value, sizeof(value), "%.*s", (int)strcspn(start, "\r"), start);
            return value;
        }
    }
    return "";
}

struct reading {
    struct client *client;
    struct answer *answer;
    bool is_head;
};

static inline bool has_answer(struct ground *ground, void *context)
{
    struct reading *reading = context;
    struct client *client = reading->client;
    struct answer *answer = reading->answer;
    (void)ground;
    client_receive(client);
    const char *text = strbuf_text(&client->in);
    const char *end = strstr(text, "\r\n\r\n");
    if (!end)
        return client->is_closed;
    size_t n_head = (size_t)(end - text) + 4, n_body = 0;
    assert_true(n_head < sizeof(answer->head));
    memcpy(answer->head, text, n_head);
    answer->head[n_head] = '\0';
    const char *length = answer_field(answer, "Content-Length");
    if (*length && !reading->is_head)
        n_body = strtoul(length, NULL, 10);
    assert_memory_equal(text, "HTTP/1.1 ", 9);
    answer->status = (int)strtol(text + 9, NULL, 10);
    if (answer->status == 304 || answer->status == 204)
        n_body = 0;
    if (client->in.n < n_head + n_body)
        return client->is_closed;
    strbuf_reset(&answer->body);
    assert_true(strbuf_add(&answer->body, text + n_head, n_body));
    size_t n_rest = client->in.n - n_head - n_body;
    memmove(client->in.data, client->in.data + n_head + n_body, n_rest + 1);
    client->in.n = n_rest;
    return true;
}

/* Waits for a whole answer; status 0 when the connection was closed without one. Chunks are left in the client. */
static inline void client_answer(struct ground *ground, struct client *client, struct answer *answer)
{
    struct reading reading = { client, answer, false };
    strbuf_done(&answer->body);
    *answer = (struct answer){ .body = STRBUF_INIT(ECHO_ANSWER_MAX) };
    assert_true(run_until(ground, has_answer, &reading));
}

static inline bool is_client_closed(struct ground *ground, void *context)
{
    struct client *client = context;
    (void)ground;
    client_receive(client);
    return client->is_closed;
}

static inline bool has_held(struct ground *ground, void *context)
{
    return ground->n_held >= *(size_t *)context;
}

static inline void wait_held(struct ground *ground, size_t n)
{
    assert_true(run_until(ground, has_held, &n));
}

static inline bool has_gone(struct ground *ground, void *context)
{
    return ground->n_gone >= *(size_t *)context;
}

static inline void wait_gone(struct ground *ground, size_t n)
{
    assert_true(run_until(ground, has_gone, &n));
}

static inline bool has_n_connections(struct ground *ground, void *context)
{
    return http_server_n_connections(ground->server) == *(size_t *)context;
}

static inline void wait_connections(struct ground *ground, size_t n)
{
    assert_true(run_until(ground, has_n_connections, &n));
}

/* The request at the front of the held ones, taken out. */
static inline struct http_request *take_held(struct ground *ground)
{
    assert_true(ground->n_held > 0);
    struct http_request *request = ground->held[0];
    memmove(ground->held, ground->held + 1, --ground->n_held * sizeof(ground->held[0]));
    return request;
}

/* One request on a connection of its own; returns the status, 0 for a close without an answer. */
static inline int ask(struct ground *ground, const char *text, size_t n, struct answer *answer)
{
    struct client client;
    client_open(ground, &client);
    client_send_n(ground, &client, text, n);
    struct reading reading = { &client, answer, false };
    strbuf_done(&answer->body);
    *answer = (struct answer){ .body = STRBUF_INIT(ECHO_ANSWER_MAX) };
    if (!run_until(ground, has_answer, &reading))
        fail_msg("no answer to: %.*s", (int)n, text);
    client_close(&client);
    return answer->status;
}

#endif
