/*
 * The probe against servers in forked children that answer well, badly, slowly and not at all, and the status line by
 * itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "core/lifecycle/http_probe.h"
#include "core/lifecycle/port.h"

#define DEADLINE_MS 60000

static void test_status_lines(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        int code;
    } cases[] = {
        { "HTTP/1.1 200 OK\r\n", 200 },
        { "HTTP/1.0 503 Service Unavailable\r\n", 503 },
        { "HTTP/1.1 204\r\n", 204 },
        { "HTTP/1.1 204\n", 204 },
        { "HTTP/1.1 200", 200 },
        { "HTTP/1.1 100 ", 100 },
        { "HTTP/1.1 999 x", 999 },
        { "", 0 },
        { "H", 0 },
        { "HTTP/1.", 0 },
        { "HTTP/1.1 20", 0 },
        { "HTTP/2 200 OK\r\n", -1 },
        { "HTTP/1.1 099 x", -1 },
        { "HTTP/1.1 000 x", -1 },
        { "HTTP/1.1 2000 x", -1 },
        { "HTTP/1.1 2x0 OK", -1 },
        { "HTTP/1.1  200 OK", -1 },
        { "HTTP/1.1\t200 OK", -1 },
        { "HTTP/1.x 200 OK", -1 },
        { "HTTP/1.1200 OK x", -1 },
        { "http/1.1 200 OK", -1 },
        { "ICY 200 OK", -1 },
        { "SSH-2.0-OpenSSH", -1 },
        { "\r\nHTTP/1.1 200 OK", -1 },
        { "HTTX", -1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(http_status_parse(cases[i].line, strlen(cases[i].line)), cases[i].code);
    assert_int_equal(http_status_parse("HTTP/1.1 \0\0\0\0", 13), -1);
}

/* ---- servers ---- */

enum manner {
    AT_ONCE,       /* the answer in one piece, then the connection stays open */
    BYTE_BY_BYTE,  /* each byte a segment of its own */
    AND_CLOSE,     /* the answer, then the end */
    CLOSE,         /* the end, without an answer, after the request was read */
    RESET,         /* the connection is reset */
    SILENT,        /* reads and says nothing */
    NEVER_ACCEPTS, /* the kernel accepts, nobody else */
};

static void serve(int fd, enum manner manner, const char *answer, size_t n)
{
    char request[2048];
    size_t have = 0;
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    while (have < 4 || !memmem(request, have, "\r\n\r\n", 4)) {
        ssize_t got = read(fd, request + have, sizeof request - have);
        if (got <= 0)
            _exit(2);
        have += (size_t)got;
    }
    if (strncmp(request, "GET /health?x=1 HTTP/1.1\r\nHost: ", 23) != 0 || /* 1.0 for a whole answer */
        !memmem(request, have, "\r\nConnection: close\r\n", 21))
        _exit(3);
    size_t step = manner == BYTE_BY_BYTE ? 1 : n;
    for (size_t at = 0; at < n && manner <= AND_CLOSE; at += step) {
        if (send(fd, answer + at, step, MSG_NOSIGNAL) < 0)
            break; /* it has heard enough */
    }
    struct linger abortive = { .l_onoff = 1 };
    if (manner == RESET)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &abortive, sizeof abortive);
    if (manner == CLOSE || manner == RESET || manner == AND_CLOSE)
        close(fd);
}

struct server {
    pid_t pid;
    uint16_t port;
    int listen_fd;
};

/* A server for n_connections, each by a turn; it ends with the test at the latest. */
static struct server start_server(const char *host, enum manner manner, const char *answer, size_t n,
                                  int n_connections)
{
    struct bind_address address;
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    assert_true(bind_address_parse(host, 0, &address));
    struct server server = { .listen_fd = socket(address.bind.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    assert_true(server.listen_fd >= 0);
    assert_int_equal(bind(server.listen_fd, (struct sockaddr *)&address.bind, address.length), 0);
    assert_int_equal(listen(server.listen_fd, 128), 0);
    assert_int_equal(getsockname(server.listen_fd, (struct sockaddr *)&bound, &size), 0);
    server.port = ntohs(bound.ss_family == AF_INET ? ((struct sockaddr_in *)&bound)->sin_port
                                                   : ((struct sockaddr_in6 *)&bound)->sin6_port);
    server.pid = fork();
    assert_true(server.pid >= 0);
    if (server.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int i = 0; i < n_connections && manner != NEVER_ACCEPTS; i++) {
            int fd = accept(server.listen_fd, NULL, NULL);
            if (fd < 0)
                _exit(1);
            serve(fd, manner, answer, n);
        }
        pause();
    }
    close(take_fd(&server.listen_fd));
    return server;
}

static void stop_server(struct server *server)
{
    int status;
    kill(server->pid, SIGKILL);
    assert_int_equal(waitpid(server->pid, &status, 0), server->pid);
    assert_true(WIFSIGNALED(status)); /* it had no complaint of its own */
}

/* Goes on with all probes until each is done or the deadline is over. How many are not. */
static size_t run_probes(struct http_probe *probes, size_t n, int64_t timeout_ms)
{
    int64_t deadline_ns = clock_boottime_ns() + timeout_ms * NS_PER_MS;
    struct pollfd polled[64];
    for (;;) {
        nfds_t n_open = 0;
        for (size_t i = 0; i < n; i++) {
            http_probe_step(&probes[i]);
            if (http_probe_events(&probes[i]))
                polled[n_open++] =
                    (struct pollfd){ .fd = probes[i].fd, .events = http_probe_events(&probes[i]) };
        }
        int64_t left_ms = (deadline_ns - clock_boottime_ns()) / NS_PER_MS;
        if (n_open == 0 || left_ms <= 0)
            return n_open;
        poll(polled, n_open, (int)left_ms);
    }
}

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

static void test_answers(void **state)
{
    (void)state;
    static const struct {
        enum manner manner;
        const char *answer;
        int status_code; /* 0: it failed */
        int sys_errno;
    } cases[] = {
        { AT_ONCE, OK_ANSWER, 200, 0 },
        { BYTE_BY_BYTE, OK_ANSWER, 200, 0 },
        { AND_CLOSE, OK_ANSWER, 200, 0 },
        { AND_CLOSE, "HTTP/1.1 200", 200, 0 },
        { AT_ONCE, "HTTP/1.1 503 Service Unavailable\r\n\r\n", 503, 0 },
        { BYTE_BY_BYTE, "HTTP/1.0 404 Not Found\r\n\r\n", 404, 0 },
        { AT_ONCE, "HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n", 301, 0 },
        { AT_ONCE, "SSH-2.0-OpenSSH_9.2\r\n", 0, EPROTO },
        { BYTE_BY_BYTE, "garbage", 0, EPROTO },
        { AND_CLOSE, "HTTP/1.1 2", 0, ECONNRESET },
        { AND_CLOSE, "", 0, ECONNRESET },
        { CLOSE, "", 0, ECONNRESET },
        { RESET, "", 0, ECONNRESET },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct server server =
            start_server("127.0.0.1", cases[i].manner, cases[i].answer, strlen(cases[i].answer), 1);
        struct http_probe probe = HTTP_PROBE_INIT;
        http_probe_start(&probe, "127.0.0.1", server.port, "/health?x=1");
        size_t n_open = run_probes(&probe, 1, DEADLINE_MS);
        http_probe_close(&probe);
        stop_server(&server);
        assert_int_equal(n_open, 0);
        assert_int_equal(probe.state, cases[i].status_code ? HTTP_PROBE_ANSWERED : HTTP_PROBE_FAILED);
        assert_int_equal(probe.status_code, cases[i].status_code);
        assert_int_equal(probe.sys_errno, cases[i].sys_errno);
        assert_int_equal(probe.fd, -1);
        assert_int_equal(http_probe_events(&probe), 0);
    }
}

/* With its body: by its length, or to the end of the connection. */
static void test_whole_answers(void **state)
{
    (void)state;
    static const struct {
        enum manner manner;
        const char *answer;
        const char *body; /* NULL: it failed */
        int sys_errno;
    } cases[] = {
        { AT_ONCE, OK_ANSWER, "{}", 0 },
        { BYTE_BY_BYTE, OK_ANSWER, "{}", 0 },
        { AT_ONCE, "HTTP/1.1 200 OK\r\ncontent-LENGTH:  2\r\n\r\n{}more", "{}", 0 },
        { AT_ONCE, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 0 },
        { AND_CLOSE, "HTTP/1.1 200 OK\r\n\r\n[1]", "[1]", 0 },
        { AND_CLOSE, "HTTP/1.1 200 OK\r\nX-Content-Length: 1\r\n\r\n[1]", "[1]", 0 },
        { AND_CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1]", NULL, ECONNRESET },
        { AND_CLOSE, "HTTP/1.1 200 OK\r\nContent-", NULL, EPROTO },
        { AND_CLOSE, "HTTP/1.1 2", NULL, EPROTO },
        { AND_CLOSE, "", NULL, EPROTO },
        { AT_ONCE, "SSH-2.0-OpenSSH_9.2\r\n", NULL, EPROTO },
        { AT_ONCE,
          "HTTP/1.1 200 OK\r\nX: 0123456789012345678901234567890123456789012345678901234567890\r\n\r\n", NULL,
          EMSGSIZE },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct server server =
            start_server("127.0.0.1", cases[i].manner, cases[i].answer, strlen(cases[i].answer), 1);
        CLEANUP(strbuf_done) struct strbuf whole = STRBUF_INIT(80);
        struct http_probe probe = HTTP_PROBE_INIT;
        http_probe_start_whole(&probe, "127.0.0.1", server.port, "/health?x=1", &whole);
        size_t n_open = run_probes(&probe, 1, DEADLINE_MS);
        http_probe_close(&probe);
        stop_server(&server);
        assert_int_equal(n_open, 0);
        assert_int_equal(probe.state, cases[i].body ? HTTP_PROBE_ANSWERED : HTTP_PROBE_FAILED);
        assert_int_equal(probe.sys_errno, cases[i].sys_errno);
        if (cases[i].body) {
            assert_int_equal(probe.status_code, 200);
            assert_string_equal(strbuf_text(&whole), cases[i].body);
            assert_int_equal(whole.n, strlen(cases[i].body));
        }
    }
}

static void test_other_addresses(void **state)
{
    (void)state;
    static const char *const hosts[][2] = {
        { "0.0.0.0", "0.0.0.0" }, { "127.0.0.1", "localhost" }, { "::1", "::1" }, { "::", "::" }
    };
    CLEANUP_CLOSE int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 loopback = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
    bool is_ipv6_there = fd >= 0 && bind(fd, (struct sockaddr *)&loopback, sizeof loopback) == 0;
    for (size_t i = 0; i < (is_ipv6_there ? 4 : 2); i++) {
        struct server server = start_server(hosts[i][0], AT_ONCE, OK_ANSWER, strlen(OK_ANSWER), 1);
        struct http_probe probe = HTTP_PROBE_INIT;
        http_probe_start(&probe, hosts[i][1], server.port, "/health?x=1");
        run_probes(&probe, 1, DEADLINE_MS);
        http_probe_close(&probe);
        stop_server(&server);
        assert_int_equal(probe.status_code, 200);
    }
}

static void test_silence_is_no_answer(void **state)
{
    (void)state;
    static const enum manner manners[] = { SILENT, NEVER_ACCEPTS };
    for (size_t i = 0; i < 2; i++) {
        struct server server = start_server("127.0.0.1", manners[i], "", 0, 1);
        struct http_probe probe = HTTP_PROBE_INIT;
        http_probe_start(&probe, "127.0.0.1", server.port, "/health?x=1");
        assert_int_equal(run_probes(&probe, 1, 50), 1);
        assert_int_equal(probe.state, HTTP_PROBE_READING);
        http_probe_close(&probe);
        stop_server(&server);
    }
}

static void test_many_at_once(void **state)
{
    (void)state;
    enum { N = 60 };
    struct server good = start_server("127.0.0.1", BYTE_BY_BYTE, OK_ANSWER, strlen(OK_ANSWER), N);
    struct server bad = start_server("127.0.0.1", SILENT, "", 0, N);
    struct http_probe probes[N];
    for (size_t i = 0; i < N; i++) {
        probes[i] = (struct http_probe)HTTP_PROBE_INIT;
        http_probe_start(&probes[i], "127.0.0.1", i % 3 == 0 ? bad.port : good.port, "/health?x=1");
    }
    int64_t started_ns = clock_boottime_ns();
    size_t n_open = N;
    while (n_open > N / 3 && clock_boottime_ns() - started_ns < DEADLINE_MS * NS_PER_MS)
        n_open = run_probes(probes, N, 10); /* the silent ones stay open for ever */
    size_t n_ready = 0;
    for (size_t i = 0; i < N; i++) {
        n_ready += probes[i].state == HTTP_PROBE_ANSWERED && probes[i].status_code == 200;
        http_probe_close(&probes[i]);
    }
    stop_server(&good);
    stop_server(&bad);
    assert_int_equal(n_open, N / 3);
    assert_int_equal(n_ready, N - N / 3);
}

static void test_what_can_not_be_asked(void **state)
{
    (void)state;
    struct server server = start_server("127.0.0.1", AT_ONCE, "", 0, 1);
    stop_server(&server); /* its port is free again */
    struct http_probe probe = HTTP_PROBE_INIT;
    http_probe_start(&probe, "127.0.0.1", server.port, "/");
    run_probes(&probe, 1, DEADLINE_MS);
    assert_int_equal(probe.state, HTTP_PROBE_FAILED);
    assert_int_equal(probe.sys_errno, ECONNREFUSED);
    http_probe_start(&probe, "example.org", server.port, "/");
    assert_int_equal(probe.state, HTTP_PROBE_FAILED);
    assert_int_equal(probe.sys_errno, EADDRNOTAVAIL);
    char path[1100];
    memset(path, 'x', sizeof path - 1);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    http_probe_start(&probe, "127.0.0.1", server.port, path);
    assert_int_equal(probe.state, HTTP_PROBE_FAILED);
    assert_int_equal(probe.sys_errno, ENAMETOOLONG);
    http_probe_step(&probe); /* done is done */
    assert_int_equal(probe.state, HTTP_PROBE_FAILED);
}

static void test_a_probe_can_be_used_again(void **state)
{
    (void)state;
    struct server first = start_server("127.0.0.1", AT_ONCE, OK_ANSWER, strlen(OK_ANSWER), 2);
    struct server other = start_server("127.0.0.1", SILENT, "", 0, 1);
    struct http_probe probe = HTTP_PROBE_INIT;
    int codes[2];
    for (int i = 0; i < 2; i++) {
        http_probe_start(&probe, "127.0.0.1", other.port, "/health?x=1"); /* thrown away half-way */
        http_probe_step(&probe);
        http_probe_start(&probe, "127.0.0.1", first.port, "/health?x=1");
        run_probes(&probe, 1, DEADLINE_MS);
        codes[i] = probe.status_code;
    }
    http_probe_close(&probe);
    stop_server(&first);
    kill(other.pid, SIGKILL); /* it may complain of connections that ended early */
    waitpid(other.pid, NULL, 0);
    assert_int_equal(codes[0], 200);
    assert_int_equal(codes[1], 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_lines),          cmocka_unit_test(test_answers),
        cmocka_unit_test(test_whole_answers),         cmocka_unit_test(test_other_addresses),
        cmocka_unit_test(test_silence_is_no_answer),  cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_what_can_not_be_asked), cmocka_unit_test(test_a_probe_can_be_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
