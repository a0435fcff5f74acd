/*
 * One GET to a worker on this host, without ever blocking: the status code of the answer, and where it is wanted its body. A
 * step machine, so that many probes share one poll. Not a client for anything else: no redirects, no chunks, no TLS.
 */
#ifndef LIFECYCLE_HTTP_PROBE_H
#define LIFECYCLE_HTTP_PROBE_H

#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"

#define HTTP_PROBE_ANSWER_MAX ((size_t)1 << 20) /* metrics of a large engine are some 100 kB */

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
    struct strbuf *whole; /* the whole answer, in the end its body; NULL: nobody wants it */
};

#define HTTP_PROBE_INIT \
    {                   \
        .fd = -1        \
    }

/* Starts a GET; the probe must be idle or done. */
void http_probe_start(struct http_probe *probe, const char *host, uint16_t port, const char *path);
/*
 * The same, and reads the answer into `whole` (borrowed, empty, with its limit); of one that is ANSWERED the body is in it. It is
 * asked in HTTP/1.0, whose answers have no chunks (RFC 9112, section 6.1), and ends with its length or the connection.
 */
void http_probe_start_whole(struct http_probe *probe, const char *host, uint16_t port, const char *path,
                            struct strbuf *whole);
/* What to poll for: POLLIN or POLLOUT, 0 when there is nothing under way. */
short http_probe_events(const struct http_probe *probe);
/* Goes on as far as it can; call when the descriptor is ready (or at any time). */
void http_probe_step(struct http_probe *probe);
/* Closes; the state stays as it is. */
void http_probe_close(struct http_probe *probe);
/* The status code of "HTTP/1.1 200 OK…", n bytes; 0 when more bytes are needed, -1 when it is no such line. */
int http_status_parse(const char *line, size_t n);

#endif
