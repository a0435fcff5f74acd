/*
 * The HTTP server of the daemon: libmicrohttpd on a libuv loop, as one object with one request callback.
 *
 * It owns sockets, framing, limits, deadlines, correlation ids and the refusals that need no knowledge of what is
 * served: Host, Origin, content type, sizes, overload. It knows no routes, no tokens and no workers.
 *
 * A request is handed over once its body is there, and belongs to the callback's owner until it is answered, once:
 * right in the callback or at any later point of the loop. That holds also when the client has left meanwhile;
 * on_gone is only the news of it, and an answer to a client that left is thrown away. A stream is a request that was
 * answered with http_stream_begin; it belongs to its owner until http_stream_end.
 *
 * A client that shuts down its sending side while it waits for an answer counts as gone: what tells half-closed from
 * closed is only a write that fails, much later.
 *
 * Everything happens on the loop's thread; nothing blocks. Callbacks come from inside uv_run.
 */
#ifndef MANAGERD_HTTP_SERVER_H
#define MANAGERD_HTTP_SERVER_H

#include <pool/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "managerd/http_limits.h"

struct http_server;
struct http_request;

enum http_transport { HTTP_TCP, HTTP_UNIX };

/* Who the owner found a client to be. The server keeps it with the request and knows nothing of its meaning. */
#define HTTP_CALLER_NAME_MAX  64
#define HTTP_CALLER_KEY_BYTES 32
struct http_caller {
    unsigned rank;
    char name[HTTP_CALLER_NAME_MAX + 1];
    bool has_key;
    uint8_t key[HTTP_CALLER_KEY_BYTES]; /* what it was recognised by */
};

/* Who owns the bytes of an answer's body. */
enum http_ownership {
    HTTP_COPY,  /* the caller; they are copied */
    HTTP_TAKE,  /* the server, from now on and in every case; freed with free() */
    HTTP_STATIC /* nobody; they never change */
};

/*
 * Before the body is read: method, target, header, peer are known, the body is not. What it refuses is answered at
 * once and never handed to on_request. It may add header fields to the answer. err is never NULL.
 */
typedef enum pool_code http_early_check(struct http_request *request, void *context, struct pool_error *err);
/* A complete request, owned by the callee until answered. */
typedef void http_on_request(struct http_request *request, void *context);
/* The end of an exchange, for metrics: after the last byte was sent, or 499 when the client left without an answer.
 * `request` can be looked at only, and may have been answered long ago. */
typedef void http_on_answered(const struct http_request *request, unsigned status, int64_t duration_ns,
                              void *context);
/* The client has left, or was cut off. The request is still to be answered, a stream to be ended. */
typedef void http_on_gone(struct http_request *request, void *context);
typedef void http_server_callback(void *context);

/* Zero is the default of every limit. Strings and lists are copied. */
struct http_server_options {
    const char *const *binds; /* "127.0.0.1:9200", "[::1]:0" (0: any port) */
    size_t n_binds;
    const char *socket_path; /* NULL: none. Mode 0660; a dead daemon's socket is replaced */
    bool has_socket_gid;
    gid_t socket_gid;
    const int *inherited_fds; /* listening already; owned by the server once it is open */
    size_t n_inherited_fds;
    const char *const
        *host_names; /* allowed in Host beside localhost, loopback and the address connected to */
    size_t n_host_names;

    size_t max_body_bytes;
    size_t max_connections;
    size_t max_connections_per_address;
    size_t max_connections_per_loopback_address; /* 0: as many as there are */
    size_t max_requests;
    size_t max_streams;
    size_t stream_backlog_bytes;
    int64_t idle_timeout_ms; /* rounded up to seconds */
    int64_t receive_timeout_ms;
    int64_t ping_interval_ms;

    http_early_check *early_check; /* may be NULL */
    http_on_request *on_request;
    http_on_answered *on_answered; /* may be NULL */
    void *context;                 /* of the three */
};

/**
 * Opens every listener and starts to serve. All or nothing.
 * Errors: INVALID_CONFIG (an address that is none; field daemon.bind or daemon.socket), PORT_UNAVAILABLE (an address
 * that cannot be bound, retriable), CONFLICT (a living daemon holds the socket), INSUFFICIENT_MEMORY, INTERNAL.
 */
POOL_MUST_CHECK enum pool_code http_server_open(uv_loop_t *loop, const struct http_server_options *options,
                                                struct http_server **ret_server, struct pool_error *err);
/** The port of the n-th bind, as chosen by the kernel for port 0; 0 when there is no such TCP listener. */
uint16_t http_server_port(const struct http_server *server, size_t bind);
/* Its socket, for getsockname(2); -1 when there is none. */
int http_server_bind_fd(const struct http_server *server, size_t bind);
size_t http_server_n_connections(const struct http_server *server);
size_t http_server_n_requests(const struct http_server *server); /* in flight, streams included */
/**
 * Accepts no more, lets what is in flight end, closes idle connections. Owners of streams get their on_gone, as if the
 * client had left, and end them; what was sent before still goes out. on_quiet (may be NULL) is called once when nothing
 * is in flight any more.
 */
void http_server_quiesce(struct http_server *server, http_server_callback *on_quiet, void *context);
/**
 * Ends everything at once: requests in flight get on_gone. The server's memory goes when the loop has closed its
 * handles and every request was answered; on_closed (may be NULL) is called when the handles are closed.
 */
void http_server_close(struct http_server *server, http_server_callback *on_closed, void *context);
/** Cuts off every request in flight that `is_unwanted` says so of, streams too; their owners are told (on_gone). */
void http_server_drop_if(struct http_server *server,
                         bool (*is_unwanted)(const struct http_request *request, void *context),
                         void *context);

/* --- what was asked. Strings are borrowed until the request is answered ------------------------------------------ */

const char *http_request_method(const struct http_request *request); /* "GET" for HEAD as well */
bool http_request_is_head(const struct http_request *request);
const char *http_request_path(
    const struct http_request *request); /* decoded, always valid UTF-8, begins with / */
size_t http_request_n_segments(const struct http_request *request);
const char *http_request_segment(const struct http_request *request, size_t i); /* NULL behind the last */
size_t http_request_n_params(const struct http_request *request);
const char *http_request_param_name(const struct http_request *request, size_t i);
/* Decoded value of a query parameter; "" when it has none, NULL when it is not there. */
const char *http_request_param(const struct http_request *request, const char *name);
/* First field of this name; NULL when there is none, and when the client has left. Of a gone request: copy early. */
const char *http_request_header(const struct http_request *request, const char *name);
const char *http_request_body(const struct http_request *request, size_t *ret_n); /* "" when there is none */
const char *http_request_correlation_id(const struct http_request *request);
enum http_transport http_request_transport(const struct http_request *request);
/* false on TCP. */
bool http_request_peer_uid(const struct http_request *request, uid_t *ret_uid);
const char *http_request_peer_address(const struct http_request *request); /* "127.0.0.1:4711", "unix:1000" */
int64_t http_request_arrived_ns(const struct http_request *request); /* CLOCK_BOOTTIME, of the request line */
bool http_request_is_gone(const struct http_request *request);

/* Something of the owner's, and the name metrics know the route by (static text; NULL until it is set). */
void http_request_set_context(struct http_request *request, void *context);
void *http_request_context(const struct http_request *request);
void http_request_set_route(struct http_request *request, const char *route);
const char *http_request_route(const struct http_request *request);
void http_request_set_caller(struct http_request *request, const struct http_caller *caller);
const struct http_caller *http_request_caller(
    const struct http_request *request); /* all zero until it is set */
/* At most one; NULL takes it back. Called at once when a client that waits leaves, before anything is sent. */
void http_request_on_gone(struct http_request *request, http_on_gone *on_gone, void *context);

/* --- the answer ---------------------------------------------------------------------------------------------------- */

/* A field of the answer to come (ETag, Allow, …). `name` is static. false: no memory, too many, or not a field. */
bool http_request_add_header(struct http_request *request, const char *name, const char *value);
/* After any of these the request is no longer the caller's. content_type (static) may be NULL when there is no body. */
void http_respond(struct http_request *request, unsigned status, const char *content_type, const void *body,
                  size_t n, enum http_ownership ownership);
/* Bytes that several answers share: `release` is called once, as soon as they are no longer needed for this one. */
void http_respond_shared(struct http_request *request, unsigned status, const char *content_type,
                         const void *body, size_t n, void (*release)(void *), void *release_context);
/* The contract's error shape. Retry-After and WWW-Authenticate are added where the code asks for them. */
void http_respond_error(struct http_request *request, const struct pool_error *error);

/**
 * Answers 200 with a body that grows. The request stays the caller's, as a stream, until http_stream_end.
 * Errors: OVERLOADED (too many streams), INSUFFICIENT_MEMORY; the request is then still to be answered.
 */
POOL_MUST_CHECK enum pool_code http_stream_begin(struct http_request *request, const char *content_type,
                                                 struct pool_error *err);
/* Sends an event stream's comment whenever nothing else was sent for ping_interval_ms. */
void http_stream_ping(struct http_request *request);
/* false when the client has left, or is cut off now because it is stream_backlog_bytes behind. on_gone is never called
 * from here, but soon after. */
bool http_stream_send(struct http_request *request, const void *data, size_t n);
size_t http_stream_backlog_bytes(const struct http_request *request);
/* What was sent before still goes out. The stream is no longer the caller's. */
void http_stream_end(struct http_request *request);

#endif
