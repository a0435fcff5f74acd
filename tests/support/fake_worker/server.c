// The listening socket and the connections: reading requests, writing answers, keeping connections alive.
#include "worker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_HEAD = 32768, EXIT_PORT_TAKEN = 98 };

struct connection {
    struct connection *next, *previous;
    int fd;
    bool wants_close;
    size_t skip_bytes; // of a request's body, still to come
    size_t length;
    char input[MAX_HEAD + 1];
    // an answer that was put off
    long long send_ns; // 0: none
    char *output;
    size_t output_length;
};

static void fail_to_bind(const struct worker *worker, int fd)
{
    bool is_taken = errno == EADDRINUSE;
    fprintf(stderr, "bind: %s\n", strerror(errno));
    fprintf(stderr, "couldn't bind HTTP server socket, hostname: %s, port: %lld\n", worker->options.host,
            worker->options.port);
    close(fd);
    _exit(is_taken ? EXIT_PORT_TAKEN : 1);
}

static socklen_t make_address(const struct options *options, struct sockaddr_storage *ret)
{
    memset(ret, 0, sizeof *ret);
    struct sockaddr_in *four = (struct sockaddr_in *)(void *)ret;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)ret;
    const char *host = strcmp(options->host, "localhost") == 0 ? "127.0.0.1" : options->host;
    if (inet_pton(AF_INET, host, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons((in_port_t)options->port);
        return sizeof *four;
    }
    if (inet_pton(AF_INET6, host, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((in_port_t)options->port);
        return sizeof *six;
    }
    fprintf(stderr, "fake-worker: --host %s: not an address\n", host);
    exit(2);
}

void start_listening(struct worker *worker)
{
    struct sockaddr_storage address;
    socklen_t size = make_address(&worker->options, &address);
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (worker->options.reuseport)
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 512) < 0)
        fail_to_bind(worker, fd);
    long long listening_ns = now_ns();
    size = sizeof address;
    (void)getsockname(fd, (struct sockaddr *)&address, &size);
    in_port_t port = address.ss_family == AF_INET ? ((struct sockaddr_in *)(void *)&address)->sin_port
                                                  : ((struct sockaddr_in6 *)(void *)&address)->sin6_port;
    worker->options.port = ntohs(port);
    worker->listen_fd = fd;
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = &worker->listen_fd };
    (void)epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, fd, &event);
    note(worker, "listen", listening_ns);
    printf("main: server is listening on http://%s:%lld\n", worker->options.host, worker->options.port);
    fflush(stdout);
}

void stop_listening(struct worker *worker)
{
    if (worker->listen_fd >= 0)
        close(worker->listen_fd);
    worker->listen_fd = -1;
}

void accept_connections(struct worker *worker)
{
    int fd;
    while ((fd = accept4(worker->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *connection = calloc(1, sizeof *connection);
        if (connection == NULL) {
            close(fd);
            return;
        }
        const int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connection->fd = fd;
        connection->next = worker->connections;
        if (connection->next != NULL)
            connection->next->previous = connection;
        worker->connections = connection;
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };
        (void)epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

static void drop(struct worker *worker, struct connection *connection)
{
    if (connection->send_ns != 0)
        worker->n_completions--;
    if (connection->previous != NULL)
        connection->previous->next = connection->next;
    else
        worker->connections = connection->next;
    if (connection->next != NULL)
        connection->next->previous = connection->previous;
    close(connection->fd);
    free(connection->output);
    free(connection);
}

static const char *reason_of(int status)
{
    switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 503: return "Service Unavailable";
    default: return "Said So";
    }
}

// Sends now or keeps for later; false when the connection is of no more use.
static bool send_answer(struct worker *worker, struct connection *connection, const struct answer *answer)
{
    char *text = malloc(sizeof answer->body + 512);
    if (text == NULL)
        return false;
    int head =
        snprintf(text, 512,
                 "HTTP/1.1 %d %s\r\nServer: fake-worker\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n",
                 answer->status, reason_of(answer->status), answer->type, answer->length,
                 connection->wants_close ? "Connection: close\r\n" : "");
    memcpy(text + head, answer->body, answer->length);
    size_t length = (size_t)head + answer->length;
    if (answer->delay_ms > 0) {
        connection->output = text;
        connection->output_length = length;
        connection->send_ns = now_ns() + answer->delay_ms * NS_PER_MS;
        worker->n_completions++;
        return true;
    }
    long long answered_ns = now_ns();
    bool is_sent = send(connection->fd, text, length, MSG_NOSIGNAL) == (ssize_t)length;
    free(text);
    if (answer->is_healthy && is_sent && !worker->has_answered_health) {
        worker->has_answered_health = true;
        note(worker, "first_healthy_answer", answered_ns);
    }
    return is_sent && !connection->wants_close;
}

// Takes one request out of the input; false when the connection is of no more use. *ret_more: there may be
// another.
static bool serve_request(struct worker *worker, struct connection *connection, bool *ret_more)
{
    static struct answer answer; // one thread; too large for a stack frame
    size_t skip = connection->skip_bytes < connection->length ? connection->skip_bytes : connection->length;
    connection->length -= skip;
    connection->skip_bytes -= skip;
    memmove(connection->input, connection->input + skip, connection->length);
    connection->input[connection->length] = '\0';
    char *end = strstr(connection->input, "\r\n\r\n");
    *ret_more = connection->skip_bytes == 0 && end != NULL && connection->send_ns == 0;
    if (!*ret_more)
        return connection->length < MAX_HEAD;
    *end = '\0';
    struct request request;
    bool is_valid = parse_request(connection->input, &request);
    connection->wants_close = !is_valid || request.wants_close;
    if (is_valid) {
        answer_request(worker, &request, &answer);
        if (request.expects_continue)
            (void)send(connection->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL);
    } else {
        answer = (struct answer){ .status = 400, .type = "text/plain" };
    }
    size_t used = (size_t)(end + 4 - connection->input);
    connection->length -= used;
    memmove(connection->input, end + 4, connection->length);
    connection->skip_bytes = is_valid ? request.body_bytes : 0;
    return answer.delay_ms < 0 || send_answer(worker, connection, &answer);
}

void serve_connection(struct worker *worker, struct connection *connection)
{
    for (;;) {
        size_t room = MAX_HEAD - connection->length;
        ssize_t n = recv(connection->fd, connection->input + connection->length, room, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            drop(worker, connection);
            return;
        }
        connection->length += (size_t)n;
        bool has_more = true;
        while (has_more)
            if (!serve_request(worker, connection, &has_more)) {
                drop(worker, connection);
                return;
            }
    }
}

long long send_late_answers(struct worker *worker)
{
    long long next_ns = NEVER_NS;
    struct connection *following;
    for (struct connection *connection = worker->connections; connection != NULL; connection = following) {
        following = connection->next;
        if (connection->send_ns == 0)
            continue;
        if (connection->send_ns > now_ns()) {
            next_ns = connection->send_ns < next_ns ? connection->send_ns : next_ns;
            continue;
        }
        ssize_t n = send(connection->fd, connection->output, connection->output_length, MSG_NOSIGNAL);
        bool is_over = n != (ssize_t)connection->output_length || connection->wants_close;
        free(connection->output);
        connection->output = NULL;
        connection->send_ns = 0;
        worker->n_completions--;
        if (is_over)
            drop(worker, connection);
    }
    return next_ns;
}
