/*
 * The limits of the HTTP server, all of them, each with its reason. What a caller may set (struct
 * http_server_options) has its default here.
 */
#ifndef MANAGERD_HTTP_LIMITS_H
#define MANAGERD_HTTP_LIMITS_H

#include <stdint.h>

/* A request: what the largest one that makes sense needs, with room to spare. */
#define HTTP_BODY_MAX_BYTES   (1 << 20)
#define HTTP_BODIES_MAX_BYTES (64 << 20) /* all bodies being received at one time */
#define HTTP_HEADERS_MAX_BYTES \
    (16 << 10)                   /* request line and header, as nginx and Apache bound them by default */
#define HTTP_HEADERS_MAX      64 /* fields */
#define HTTP_TARGET_MAX_BYTES (8 << 10)
#define HTTP_METHOD_MAX       16
#define HTTP_SEGMENTS_MAX     16 /* of a path; the deepest route has five */
#define HTTP_PARAMS_MAX       16 /* of a query */
#define HTTP_RANDOM_BYTES \
    1024 /* for correlation ids, drawn at once: a call of the kernel for each costs a tenth */
#define HTTP_ANSWER_FIELDS_MAX 6 /* that a handler adds to an answer */

/* libmicrohttpd's memory of one connection: header and the buffer for the answer come from it. */
#define HTTP_CONNECTION_MEMORY_BYTES (32 << 10)

/*
 * Connections. Beyond the limit a connection is still served, once, with 503 or 429; there are so many places for
 * that. Beyond those it is told so at once and closed, so that nobody waits in a queue that does not move.
 */
#define HTTP_CONNECTIONS_MAX   1024
#define HTTP_CONNECTIONS_SPARE 64
#define HTTP_CONNECTIONS_PER_ADDRESS_MAX \
    256                               /* IPv4 address or IPv6 /64; loopback counts only when asked to */
#define HTTP_REQUESTS_MAX         768 /* in flight, streams not counted */
#define HTTP_STREAMS_MAX          256
#define HTTP_STREAM_BACKLOG_BYTES (1 << 20) /* what a slow reader may be behind */
#define HTTP_STREAM_BLOCK_BYTES   (4 << 10) /* libmicrohttpd's own buffer, used for HTTP/1.0 */
#define HTTP_LISTENERS_MAX        16
#define HTTP_LISTEN_BACKLOG       1024
#define HTTP_ACCEPTS_PER_WAKE     64 /* so that a flood of connections does not starve those that are there */

/* Time. */
#define HTTP_IDLE_TIMEOUT_MS    INT64_C(30000) /* no byte in either direction; never while we think */
#define HTTP_RECEIVE_TIMEOUT_MS INT64_C(60000) /* a whole request, however evenly its bytes drip in */
#define HTTP_SEND_BYTES_PER_SEC (16 << 10)     /* slower readers of a plain answer are cut off */
#define HTTP_PING_INTERVAL_MS   INT64_C(15000) /* comments on an event stream, below what proxies cut after */
#define HTTP_SWEEP_MAX_MS       INT64_C(5000)
#define HTTP_SWEEP_MIN_MS       INT64_C(20)
#define HTTP_ACCEPT_PAUSE_MS    UINT64_C(100) /* after accept() found no descriptor or memory */
#define HTTP_RETRY_AFTER        "1"           /* seconds */

/* A refused upload is read and thrown away for a while: closing at once would reset the answer away. */
#define HTTP_LINGER_MS        INT64_C(2000)
#define HTTP_LINGER_MAX_BYTES (16 << 20)
#define HTTP_LINGERERS_MAX    64

#endif
