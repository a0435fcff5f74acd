/*
 * A GET to a worker; see http_probe.h. RFC 9112, section 4: status-line = HTTP-version SP status-code SP …
 */
#include "core/lifecycle/http_probe.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/number.h"
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

static void start(struct http_probe *probe, const char *host, uint16_t port, const char *path,
                  struct strbuf *whole)
{
    http_probe_close(probe);
    *probe = (struct http_probe)HTTP_PROBE_INIT;
    probe->whole = whole;
    struct bind_address address;
    if (!bind_address_parse(host, port, &address)) {
        fail(probe, EADDRNOTAVAIL);
        return;
    }
    int n = snprintf(probe->request, sizeof probe->request,
                     "GET %s HTTP/1.%d\r\nHost: %s:%u\r\nUser-Agent: pool-core\r\nAccept: */*\r\n"
                     "Connection: close\r\n\r\n",
                     path, whole ? 0 : 1, strchr(host, ':') ? "localhost" : host, (unsigned)port);
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

void http_probe_start(struct http_probe *probe, const char *host, uint16_t port, const char *path)
{
    start(probe, host, port, path, NULL);
}

void http_probe_start_whole(struct http_probe *probe, const char *host, uint16_t port, const char *path,
                            struct strbuf *whole)
{
    start(probe, host, port, path, whole);
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

/* What the header says; -1: nothing that could be believed, so that the connection ends the answer. */
static int64_t content_length(const char *header, const char *end)
{
    static const char name[] = "\ncontent-length:";
    for (const char *line = header; line && line < end;
         line = memchr(line + 1, '\n', (size_t)(end - line - 1))) {
        if (strncasecmp(line, name, sizeof name - 1) != 0)
            continue;
        const char *digits = line + sizeof name - 1;
        digits += strspn(digits, " \t");
        int64_t length;
        return parse_int64_n(digits, strspn(digits, "0123456789"), 0, INT64_MAX, &length) ? length : -1;
    }
    return -1;
}

/* Leaves the body of a whole answer, when it is whole. */
static bool take_body(struct http_probe *probe, bool is_over)
{
    struct strbuf *whole = probe->whole;
    const char *text = strbuf_text(whole);
    const char *header_end = memmem(text, whole->n, "\r\n\r\n", 4);
    int code = http_status_parse(text, whole->n);
    if (code < 0 || (is_over && (!header_end || code == 0))) {
        fail(probe, EPROTO);
        return true;
    }
    if (!header_end)
        return false;
    size_t n_header = (size_t)(header_end - text) + 4;
    int64_t length = content_length(text, header_end);
    size_t n_body = whole->n - n_header;
    if (!is_over && (length < 0 || n_body < (uint64_t)length))
        return false;
    if (length >= 0 && n_body < (uint64_t)length) { /* cut off */
        fail(probe, ECONNRESET);
        return true;
    }
    memmove(whole->data, whole->data + n_header, n_body + 1);
    whole->n = length >= 0 ? (size_t)length : n_body;
    whole->data[whole->n] = '\0';
    http_probe_close(probe);
    probe->state = HTTP_PROBE_ANSWERED;
    probe->status_code = code;
    return true;
}

static void read_whole(struct http_probe *probe)
{
    char part[16384];
    for (;;) {
        ssize_t n = recv(probe->fd, part, sizeof part, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (errno != EAGAIN)
                fail(probe, errno);
            return;
        }
        if (n > 0 && !strbuf_add(probe->whole, part, (size_t)n)) {
            fail(probe, probe->whole->failure == STRBUF_FULL ? EMSGSIZE : ENOMEM);
            return;
        }
        if (take_body(probe, n == 0))
            return;
    }
}

static void read_answer(struct http_probe *probe)
{
    if (probe->whole) {
        read_whole(probe);
        return;
    }
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
