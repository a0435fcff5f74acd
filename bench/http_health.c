/*
 * What our HTTP server costs over a bare libmicrohttpd: GET /health over 16 connections that are kept, against the
 * daemon's server layer and against a libmicrohttpd on its own epoll set that answers the same constant. Prints, for
 * each, "NAME MEDIAN P99 N" of the nanoseconds a request takes, by rounds.
 */
#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "managerd/http_server.h"
#include "measure.h"

#define N_CONNECTIONS 16
#define N_ROUNDS      20
#define ROUND         10000

static const char body[] = "{\"status\":\"ok\",\"uptime\":1}\n";
static const char question[] = "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/* --- the servers: each in a process of its own, on a socket that the parent has made ------------------------------ */

static void answer_ours(struct http_request *request, void *context)
{
    (void)context;
    http_respond(request, 200, "application/json", body, sizeof(body) - 1, HTTP_STATIC);
}

static void serve_ours(int fd)
{
    uv_loop_t loop;
    struct http_server *server;
    struct pool_error error = POOL_ERROR_INIT;
    const struct http_server_options options = { .inherited_fds = &fd,
                                                 .n_inherited_fds = 1,
                                                 .on_request = answer_ours };
    if (uv_loop_init(&loop) != 0)
        die("uv_loop_init");
    expect_ok(http_server_open(&loop, &options, &server, &error), &error);
    uv_run(&loop, UV_RUN_DEFAULT);
}

static enum MHD_Result answer_bare(void *context, struct MHD_Connection *connection, const char *url,
                                   const char *method, const char *version, const char *upload,
                                   size_t *n_upload, void **state)
{
    (void)url, (void)method, (void)version, (void)upload, (void)n_upload;
    if (!*state) {
        *state = context;
        return MHD_YES;
    }
    return MHD_queue_response(connection, 200, context);
}

static void serve_bare(int fd)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(sizeof(body) - 1, (void *)(uintptr_t)body, MHD_RESPMEM_PERSISTENT);
    struct MHD_Daemon *daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, answer_bare, response,
                                                 MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_END);
    if (!response || !daemon)
        die("libmicrohttpd does not start");
    for (;;)
        MHD_run_wait(daemon, -1);
}

/* --- the client -------------------------------------------------------------------------------------------------- */

static void ask(int fd)
{
    if (send(fd, question, sizeof(question) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(question) - 1)
        die_errno("send");
}

/* ROUND requests, one at a time on each connection. An answer comes in one piece or its body in a second one. */
static int64_t run_round(int epoll_fd, const int fds[N_CONNECTIONS])
{
    int64_t since_ns = clock_boottime_ns();
    int n_asked = 0, n_answered = 0;
    for (; n_asked < N_CONNECTIONS; n_asked++)
        ask(fds[n_asked]);
    while (n_answered < ROUND) {
        struct epoll_event events[N_CONNECTIONS];
        int n = epoll_wait(epoll_fd, events, N_CONNECTIONS, 5000);
        if (n <= 0)
            die("no answer");
        for (int i = 0; i < n; i++) {
            char text[4096];
            ssize_t n_text = recv(events[i].data.fd, text, sizeof(text), 0);
            if (n_text <= 0)
                die("the connection was closed");
            if (n_text < (ssize_t)sizeof(body) - 1 || text[n_text - 1] != '\n' || text[n_text - 2] != '}')
                continue;
            n_answered++;
            if (n_asked++ < ROUND)
                ask(events[i].data.fd);
        }
    }
    return (clock_boottime_ns() - since_ns) / ROUND;
}

static void measure(const char *name, void (*serve)(int fd))
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, n) != 0 || listen(listener, 128) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &n) != 0)
        die_errno("listen");
    pid_t server = fork();
    if (server < 0)
        die_errno("fork");
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(listener);
        exit(1);
    }
    close(listener);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC), fds[N_CONNECTIONS];
    for (int i = 0; i < N_CONNECTIONS; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct epoll_event event = { .events = EPOLLIN, .data.fd = fds[i] };
        const int on = 1;
        if (fds[i] < 0 || connect(fds[i], (struct sockaddr *)&address, sizeof(address)) != 0 ||
            setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||
            epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fds[i], &event) != 0)
            die_errno("connect");
    }
    struct samples samples = { 0 };
    (void)run_round(epoll_fd, fds);
    for (int i = 0; i < N_ROUNDS; i++)
        add_sample(&samples, run_round(epoll_fd, fds));
    report(name, &samples);
    for (int i = 0; i < N_CONNECTIONS; i++)
        close(fds[i]);
    close(epoll_fd);
    kill(server, SIGKILL);
    (void)waitpid(server, NULL, 0);
}

int main(void)
{
    measure("http_health", serve_ours);
    measure("bare_libmicrohttpd", serve_bare);
    return 0;
}
