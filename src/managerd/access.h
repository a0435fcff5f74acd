/*
 * Who a client is and what it may do. Over the Unix socket the kernel says which user it is; over TCP a bearer token
 * does, when there is a token file, and else everybody on this machine may operate. What a client was found to be
 * stays with its request.
 */
#ifndef MANAGERD_ACCESS_H
#define MANAGERD_ACCESS_H

#include <pool/config.h>

#include "managerd/http_server.h"

/* What a caller may do; each includes the ones before it. X(name, text) */
#define SCOPES(X)         \
    X(NONE, "none")       \
    X(READ, "read")       \
    X(OPERATE, "operate") \
    X(ADMIN, "admin")

enum scope {
#define SCOPE_ENUM(name, text) SCOPE_##name,
    SCOPES(SCOPE_ENUM)
#undef SCOPE_ENUM
};

/* Static. */
const char *scope_name(enum scope scope);

struct access;

/**
 * Reads the token file when the configuration names one.
 * Errors: INVALID_CONFIG (field daemon.token_file), INSUFFICIENT_MEMORY, INTERNAL (no SHA-256).
 */
POOL_MUST_CHECK enum pool_code access_open(const struct pool_config *config, struct access **ret_access,
                                           struct pool_error *err);
void access_close(struct access *access);
/* Whether TCP clients need a token. */
bool access_has_tokens(const struct access *access);
size_t access_n_tokens(const struct access *access);
/* Reads the file anew. When it can not be used, what was read before stays in force. Errors: as access_open. */
POOL_MUST_CHECK enum pool_code access_reload(struct access *access, struct pool_error *err);

/**
 * Finds out who sends this request. On failure the answer's WWW-Authenticate is set.
 * Errors: UNAUTHENTICATED (a token is needed; none, or one that is not in the file).
 */
POOL_MUST_CHECK enum pool_code access_identify(const struct access *access, struct http_request *request,
                                               struct pool_error *err);
/**
 * Whether the identified caller's scope is enough.
 * Errors: PERMISSION_DENIED.
 */
POOL_MUST_CHECK enum pool_code access_require(struct http_request *request, enum scope scope,
                                              struct pool_error *err);
/* SCOPE_NONE before access_identify. */
enum scope access_scope(const struct http_request *request);
/* Logs a refusal of the two above; of many, not every one. */
void access_tell_denial(struct access *access, const struct http_request *request,
                        const struct pool_error *error);
/* Whether the caller got in by a token that the file no longer has, or no longer with this scope. */
bool access_is_revoked(const struct access *access, const struct http_request *request);

#endif
