/*
 * One GET to a worker on this host, without ever blocking: only the status code of the answer is wanted. A step
 * machine, so that many probes share one poll. Not a client for anything else: no redirects, no body, no TLS.
 */
#ifndef LIFECYCLE_HTTP_PROBE_H
#define LIFECYCLE_HTTP_PROBE_H

#include <stddef.h>
#include <stdint.h>

enum http_probe_state {
    HTTP_PROBE_IDLE,
    HTTP_PROBE_CONNECTING,
    HTTP_PROBE_SENDING,
    HTTP_PROBE_READING,
    HTTP_PROBE_ANSWERED, /* status_code is set */
    HTTP_PROBE_FAILED,   /* sys_errno says why */
};

struct http_probe {
    enum http_probe_state state;
    int fd;
    int status_code;
    int sys_errno;
    char request[1024];
    size_t n_request;
    size_t n_sent;
    char answer[64]; /* the status line's beginning */
    size_t n_answer;
};

#define HTTP_PROBE_INIT \
    {                   \
        .fd = -1        \
    }

/* Starts a GET; the probe must be idle or done. */
void http_probe_start(struct http_probe *probe, const char *host, uint16_t port, const char *path);
/* What to poll for: POLLIN or POLLOUT, 0 when there is nothing under way. */
short http_probe_events(const struct http_probe *probe);
/* Goes on as far as it can; call when the descriptor is ready (or at any time). */
void http_probe_step(struct http_probe *probe);
/* Closes; the state stays as it is. */
void http_probe_close(struct http_probe *probe);
/* The status code of "HTTP/1.1 200 OK…", n bytes; 0 when more bytes are needed, -1 when it is no such line. */
int http_status_parse(const char *line, size_t n);

#endif
