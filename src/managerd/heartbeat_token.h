/*
 * A bearer token that lives in a file, read again when the file is another one or has changed. Only its owner may
 * be able to read the file. The token never shows in an error.
 */
#ifndef MANAGERD_HEARTBEAT_TOKEN_H
#define MANAGERD_HEARTBEAT_TOKEN_H

#include <pool/error.h>
#include <sys/stat.h>

#define HEARTBEAT_TOKEN_MAX 4096 /* a JSON web token with many claims */

struct heartbeat_token {
    struct stat seen;                    /* the file when it was read */
    char value[HEARTBEAT_TOKEN_MAX + 1]; /* "" when it was not */
};

/**
 * Makes sure that the value is that of the file at `path`. On failure there is none.
 * Errors: PERMISSION_DENIED (not a file, or others may read it), INVALID_CONFIG (can not be read, or what is in it is
 * no token).
 */
POOL_MUST_CHECK enum pool_code heartbeat_token_refresh(struct heartbeat_token *token, const char *path,
                                                       struct pool_error *err);
void heartbeat_token_done(struct heartbeat_token *token);

#endif
