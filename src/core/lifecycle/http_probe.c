/*
 * A GET to a worker; see http_probe.h. RFC 9112, section 4: status-line = HTTP-version SP status-code SP …
 */
#include "core/lifecycle/http_probe.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "core/lifecycle/port.h"

int http_status_parse(const char *line, size_t n)
{
    static const char version[] = "HTTP/1.";
    size_t n_same = n < 7 ? n : 7;
    if (memcmp(line, version, n_same) != 0)
        return -1;
    if (n < 12)
        return 0;
    if (line[7] < '0' || line[7] > '9' || line[8] != ' ')
        return -1;
    int code = 0;
    for (int i = 9; i < 12; i++) {
        if (line[i] < '0' || line[i] > '9')
            return -1;
        code = code * 10 + (line[i] - '0');
    }
    if (n > 12 && line[12] != ' ' && line[12] != '\r' && line[12] != '\n')
        return -1;
    return code >= 100 ? code : -1;
}

static void fail(struct http_probe *probe, int sys_errno)
{
    http_probe_close(probe);
    probe->state = HTTP_PROBE_FAILED;
    probe->sys_errno = sys_errno;
}

void http_probe_close(struct http_probe *probe)
{
    close_fd(&probe->fd);
    probe->fd = -1;
}

void http_probe_start(struct http_probe *probe, const char *host, uint16_t port, const char *path)
{
    http_probe_close(probe);
    *probe = (struct http_probe)HTTP_PROBE_INIT;
    struct bind_address address;
    if (!bind_address_parse(host, port, &address)) {
        fail(probe, EADDRNOTAVAIL);
        return;
    }
    int n = snprintf(probe->request, sizeof probe->request,
                     "GET %s HTTP/1.1\r\nHost: %s:%u\r\nUser-Agent: pool-core\r\nAccept: */*\r\n"
                     "Connection: close\r\n\r\n",
                     path, strchr(host, ':') ? "localhost" : host, (unsigned)port);
    if (n < 0 || (size_t)n >= sizeof probe->request) {
        fail(probe, ENAMETOOLONG);
        return;
    }
    probe->n_request = (size_t)n;
    probe->fd = socket(address.reach.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe->fd < 0) {
        fail(probe, errno);
        return;
    }
    probe->state = HTTP_PROBE_SENDING;
    if (connect(probe->fd, (struct sockaddr *)&address.reach, address.length) < 0) {
        if (errno == EINPROGRESS)
            probe->state = HTTP_PROBE_CONNECTING;
        else
            fail(probe, errno);
    }
}

short http_probe_events(const struct http_probe *probe)
{
    switch (probe->state) {
    case HTTP_PROBE_CONNECTING:
    case HTTP_PROBE_SENDING: return POLLOUT;
    case HTTP_PROBE_READING: return POLLIN;
    case HTTP_PROBE_IDLE:
    case HTTP_PROBE_ANSWERED:
    case HTTP_PROBE_FAILED: break;
    }
    return 0;
}

static void finish_connecting(struct http_probe *probe)
{
    struct pollfd p = { .fd = probe->fd, .events = POLLOUT };
    if (poll(&p, 1, 0) == 0)
        return;
    int failure = 0;
    socklen_t length = sizeof failure;
    if (getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &failure, &length) < 0)
        failure = errno;
    if (failure)
        fail(probe, failure);
    else
        probe->state = HTTP_PROBE_SENDING;
}

static void send_request(struct http_probe *probe)
{
    while (probe->n_sent < probe->n_request) {
        ssize_t n =
            send(probe->fd, probe->request + probe->n_sent, probe->n_request - probe->n_sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (errno != EAGAIN)
                fail(probe, errno);
            return;
        }
        probe->n_sent += (size_t)n;
    }
    probe->state = HTTP_PROBE_READING;
}

static void read_answer(struct http_probe *probe)
{
    while (probe->n_answer < sizeof probe->answer) {
        ssize_t n =
            recv(probe->fd, probe->answer + probe->n_answer, sizeof probe->answer - probe->n_answer, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (errno != EAGAIN)
                fail(probe, errno);
            return;
        }
        if (n == 0) {
            fail(probe, ECONNRESET);
            return;
        }
        probe->n_answer += (size_t)n;
        int code = http_status_parse(probe->answer, probe->n_answer);
        if (code < 0) {
            fail(probe, EPROTO);
            return;
        }
        if (code > 0) {
            http_probe_close(probe);
            probe->state = HTTP_PROBE_ANSWERED;
            probe->status_code = code;
            return;
        }
    }
    fail(probe, EPROTO);
}

void http_probe_step(struct http_probe *probe)
{
    if (probe->state == HTTP_PROBE_CONNECTING)
        finish_connecting(probe);
    if (probe->state == HTTP_PROBE_SENDING)
        send_request(probe);
    if (probe->state == HTTP_PROBE_READING)
        read_answer(probe);
}
