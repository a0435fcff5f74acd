/*
 * HTTP requests from the daemon's loop: libcurl's multi interface over libuv. Connections are kept. Nothing here
 * blocks: names are resolved in threads of libcurl's, and whoever answers slowly, too much, or not in HTTP, costs a
 * request that fails by its time or its limits. Only http and https; certificates are verified; redirects are an
 * answer like any other; proxies of the environment are used for hosts other than this one.
 */
#ifndef MANAGERD_HTTP_CLIENT_H
#define MANAGERD_HTTP_CLIENT_H

#include <pool/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct http_client; /* opaque */
struct http_call;   /* opaque: a request under way */

struct http_client_request {
    const char *method; /* "GET", "POST", "DELETE" */
    const char *url;
    const char *body;           /* JSON; NULL: none */
    const char *bearer_token;   /* NULL: none */
    const char *correlation_id; /* NULL: none */
    int64_t timeout_ms;         /* for everything together, > 0 */
    bool is_this_host;          /* whatever the name: never by a proxy */
    bool is_last;               /* the connection is closed afterwards */
    size_t answer_max_bytes;    /* of the body; one that is longer is a bad answer */
};

enum http_client_result {
    HTTP_CLIENT_ANSWERED,    /* a whole answer, whatever its status */
    HTTP_CLIENT_UNREACHABLE, /* no name, no connection, no trust */
    HTTP_CLIENT_TIMEOUT,
    HTTP_CLIENT_BAD_ANSWER, /* not HTTP, cut off, too long */
    HTTP_CLIENT_NO_MEMORY,  /* of ours, or no descriptor: it says nothing of the other side */
};

/* Borrowed for the call, all of it. */
struct http_client_answer {
    enum http_client_result result;
    int status; /* ANSWERED */
    const char *body;
    size_t n_body;
    int64_t retry_after_ms; /* 0: not said */
    const char *problem;    /* for people: what went wrong; "" when ANSWERED */
};

/* The call is over and freed; new requests may be sent, and the client may be closed. */
typedef void http_client_done_fn(void *ctx, const struct http_client_answer *answer);

POOL_MUST_CHECK enum pool_code http_client_open(uv_loop_t *loop, struct http_client **ret_client,
                                                struct pool_error *err);
/**
 * Sends. The request is copied. *ret_call is borrowed until on_done, which comes from the loop, never from here.
 * Errors: INSUFFICIENT_MEMORY, INVALID_REQUEST (libcurl does not take it).
 */
POOL_MUST_CHECK enum pool_code http_client_send(struct http_client *client,
                                                const struct http_client_request *request,
                                                http_client_done_fn *on_done, void *ctx,
                                                struct http_call **ret_call, struct pool_error *err);
/* Ends a call without on_done. Accepts NULL. */
void http_client_cancel(struct http_call *call);
/* Cancels every call and frees the client; on_closed comes from the loop, when no handle is left in it. */
void http_client_close(struct http_client *client, void (*on_closed)(void *ctx), void *ctx);

/* Whether a URL is one this client takes (http or https, a host, no user in it), and whether that host is this one. */
bool http_client_url_is_usable(const char *url);
bool http_client_url_is_loopback(const char *url);

#endif
