/*
 * Who a client is; see access.h.
 */
#include "managerd/access.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/bearer_token.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "managerd/log.h"
#include "managerd/tokens.h"

/* Somebody who tries tokens does not fill the log. */
#define DENIALS_MAX    10
#define DENIALS_MAX_NS (10 * NS_PER_SEC)

struct access {
    char *path;            /* NULL: no tokens */
    struct tokens *tokens; /* NULL likewise */
    int64_t denials_since_ns;
    size_t n_denials; /* since then; those above the limit were not told */
    EVP_MD *sha256;
    EVP_MD_CTX *context;
};

const char *scope_name(enum scope scope)
{
    static const char *const names[] = {
#define SCOPE_NAME(name, text) text,
        SCOPES(SCOPE_NAME)
#undef SCOPE_NAME
    };
    return names[scope];
}

void access_close(struct access *access)
{
    if (!access)
        return;
    EVP_MD_CTX_free(access->context);
    EVP_MD_free(access->sha256);
    free(access->tokens);
    free(access->path);
    free(access);
}

static void close_access(struct access **access)
{
    access_close(*access);
}

static enum pool_code load(const struct access *access, struct tokens **ret_tokens, struct pool_error *err)
{
    enum pool_code code = tokens_load(access->path, ret_tokens, err);
    if (code == POOL_INVALID_CONFIG)
        pool_error_set_field(err, "daemon.token_file");
    return code;
}

enum pool_code access_open(const struct pool_config *config, struct access **ret_access,
                           struct pool_error *err)
{
    CLEANUP(close_access) struct access *access = calloc(1, sizeof *access);
    if (!access)
        return pool_error_no_memory(err);
    if (config->daemon_token_file) {
        access->path = strdup(config->daemon_token_file);
        access->context = EVP_MD_CTX_new();
        if (!access->path || !access->context)
            return pool_error_no_memory(err);
        access->sha256 = EVP_MD_fetch(NULL, "SHA2-256", NULL);
        if (!access->sha256)
            return pool_error_set(err, POOL_INTERNAL, "libcrypto has no SHA-256");
        enum pool_code code = load(access, &access->tokens, err);
        if (code != POOL_OK)
            return code;
    }
    *ret_access = take_ptr(&access);
    return POOL_OK;
}

bool access_has_tokens(const struct access *access)
{
    return access->tokens != NULL;
}

size_t access_n_tokens(const struct access *access)
{
    return access->tokens ? access->tokens->n : 0;
}

enum pool_code access_reload(struct access *access, struct pool_error *err)
{
    struct tokens *tokens = NULL;
    if (!access->path)
        return POOL_OK;
    enum pool_code code = load(access, &tokens, err);
    if (code != POOL_OK)
        return code;
    free(access->tokens);
    access->tokens = tokens;
    return POOL_OK;
}

/* ---- a request ---- */

/* RFC 6750, section 2.1. NULL: none, or of another scheme. */
static const char *find_bearer(const struct http_request *request, size_t *ret_n)
{
    static const char scheme[] = "Bearer ";
    const char *field = http_request_header(request, "Authorization");
    if (!field || strncasecmp(field, scheme, sizeof scheme - 1) != 0)
        return NULL;
    field += sizeof scheme - 1;
    field += strspn(field, " ");
    size_t n = strlen(field);
    while (n > 0 && (field[n - 1] == ' ' || field[n - 1] == '\t'))
        n--;
    *ret_n = n;
    return field;
}

static const struct token *find_token(const struct access *access, const char *text, size_t n)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n_digest = 0;
    if (!bearer_token_is_valid(text, n) || EVP_DigestInit_ex2(access->context, access->sha256, NULL) != 1 ||
        EVP_DigestUpdate(access->context, text, n) != 1 ||
        EVP_DigestFinal_ex(access->context, digest, &n_digest) != 1 || n_digest != TOKEN_SHA256_BYTES)
        return NULL;
    return tokens_find(access->tokens, digest);
}

/* The daemon's own user and root may do everything; whoever else the socket's group lets in may operate. */
static void identify_user(struct http_request *request, uid_t uid)
{
    struct http_caller caller = { .rank = uid == geteuid() || uid == 0 ? SCOPE_ADMIN : SCOPE_OPERATE };
    snprintf(caller.name, sizeof caller.name, "uid:%lu", (unsigned long)uid);
    http_request_set_caller(request, &caller);
}

enum pool_code access_identify(const struct access *access, struct http_request *request,
                               struct pool_error *err)
{
    uid_t uid;
    size_t n = 0;
    if (http_request_peer_uid(request, &uid)) {
        identify_user(request, uid);
        return POOL_OK;
    }
    if (!access->tokens) {
        /* The address is loopback, anything else is refused at start: any user of this machine, so never admin. */
        struct http_caller caller = { .rank = SCOPE_OPERATE };
        http_request_set_caller(request, &caller);
        return POOL_OK;
    }
    const char *text = find_bearer(request, &n);
    const struct token *token = text ? find_token(access, text, n) : NULL;
    if (!token) {
        (void)http_request_add_header(request, "WWW-Authenticate",
                                      text ? "Bearer realm=\"pool-managerd\", error=\"invalid_token\""
                                           : "Bearer realm=\"pool-managerd\"");
        return pool_error_set(err, POOL_UNAUTHENTICATED,
                              text ? "this token is not known here"
                                   : "a token is needed: Authorization: Bearer TOKEN");
    }
    struct http_caller caller = { .rank = token->scope, .has_key = true };
    memcpy(caller.name, token->name, sizeof caller.name);
    memcpy(caller.key, token->sha256, sizeof caller.key);
    http_request_set_caller(request, &caller);
    return POOL_OK;
}

enum scope access_scope(const struct http_request *request)
{
    return (enum scope)http_request_caller(request)->rank;
}

enum pool_code access_require(struct http_request *request, enum scope scope, struct pool_error *err)
{
    enum scope has = access_scope(request);
    if (has >= scope)
        return POOL_OK;
    char challenge[128];
    snprintf(challenge, sizeof challenge,
             "Bearer realm=\"pool-managerd\", error=\"insufficient_scope\", scope=\"%s\"", scope_name(scope));
    if (http_request_caller(request)->has_key)
        (void)http_request_add_header(request, "WWW-Authenticate", challenge);
    pool_error_set(err, POOL_PERMISSION_DENIED, "this needs the scope %s, the caller has %s",
                   scope_name(scope), scope_name(has));
    pool_error_add_text(err, "required_scope", scope_name(scope));
    pool_error_add_text(err, "scope", scope_name(has));
    return POOL_PERMISSION_DENIED;
}

void access_tell_denial(struct access *access, const struct http_request *request,
                        const struct pool_error *error)
{
    int64_t now_ns = clock_boottime_ns();
    if (now_ns - access->denials_since_ns > DENIALS_MAX_NS) {
        if (access->n_denials > DENIALS_MAX)
            log_tell(LOG_ACCESS_DENIED, NULL, "%zu more in ten seconds", access->n_denials - DENIALS_MAX);
        access->denials_since_ns = now_ns;
        access->n_denials = 0;
    }
    if (++access->n_denials > DENIALS_MAX)
        return;
    struct log_fields fields = { .correlation_id = http_request_correlation_id(request),
                                 .caller = http_request_caller(request)->name,
                                 .peer = http_request_peer_address(request),
                                 .method = http_request_method(request),
                                 .route = http_request_route(request),
                                 .code = pool_code_name(error->code) };
    log_tell(LOG_ACCESS_DENIED, &fields, "%s", error->message);
}

bool access_is_revoked(const struct access *access, const struct http_request *request)
{
    const struct http_caller *caller = http_request_caller(request);
    if (!caller->has_key)
        return false;
    const struct token *token = access->tokens ? tokens_find(access->tokens, caller->key) : NULL;
    return !token || token->scope < (enum scope)caller->rank;
}
