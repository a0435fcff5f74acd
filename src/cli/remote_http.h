/*
 * HTTP to a daemon, over its Unix socket or TCP, one request at a time. It knows the API's error answers and nothing
 * else of it. libcurl is loaded when a connection is opened, so that no command pays for it that asks no daemon.
 */
#ifndef CLI_REMOTE_HTTP_H
#define CLI_REMOTE_HTTP_H

#include <pool/api.h>

struct remote_http; /* opaque */

/* Where a daemon is. */
struct remote_address {
    char *url;         /* "http://host:port", owned; of a socket only what "Host" says */
    char *socket_path; /* owned; NULL: TCP */
    char *name;        /* as people wrote it, for messages; owned */
};

#define REMOTE_SOCKET_URL "http://localhost"

void remote_address_done(struct remote_address *address);
/* Reads "http://HOST[:PORT]" or "unix:/PATH". Errors: INVALID_REQUEST (field url), INSUFFICIENT_MEMORY. */
POOL_MUST_CHECK enum pool_code remote_address_parse(const char *text, struct remote_address *ret_address,
                                                    struct pool_error *err);

/* A piece of a good answer. false: no more is wanted. */
typedef bool remote_sink(const char *bytes, size_t n, void *context);

struct remote_exchange {
    const char *method; /* "GET", "POST", "PUT" or "DELETE" */
    const char *path;   /* with its query */
    const char *body;   /* JSON; NULL: none */
    int64_t timeout_ms; /* of the whole; 0: as long as it takes */
    int64_t
        silence_ms; /* without a byte of the answer, which is as good as a broken connection; 0: as long as it takes */
    const char *last_event_id; /* header Last-Event-ID; NULL or "": none */
    int cancel_fd;             /* readable: give up (CANCELLED); -1: none */
    remote_sink *sink;         /* NULL: the answer is kept in ret_body */
    void *context;
    bool is_answered; /* out: an answer began to come, whatever became of it */
    bool is_lost;     /* out: no connection, or it broke: nobody answered */
    char correlation_id[POOL_CORRELATION_ID_MAX + 1]; /* out; "" when there was none */
};

/**
 * Takes the address over, also when it fails.
 * Errors: UNIMPLEMENTED (there is no libcurl), INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code remote_http_open(struct remote_address *address, struct remote_http **ret_http,
                                                struct pool_error *err);
void remote_http_close(struct remote_http *http);
/* Sent with every request, as a bearer token; copied. false: no memory. */
bool remote_http_set_token(struct remote_http *http, const char *token);
const struct remote_address *remote_http_address(const struct remote_http *http);
/**
 * Asks, and returns the body of a good answer (2xx), which the caller frees.
 * Errors: what the daemon answered; REGISTRY_UNAVAILABLE (nobody answers, or something that is no daemon),
 * DEADLINE_EXCEEDED, CANCELLED, INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code remote_http_ask(struct remote_http *http, struct remote_exchange *exchange,
                                               char **ret_body, size_t *ret_n, struct pool_error *err);

#endif
