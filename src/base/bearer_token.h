/*
 * Bearer tokens as they are sent: "Authorization: Bearer TOKEN" (RFC 6750, section 2.1).
 */
#ifndef BASE_BEARER_TOKEN_H
#define BASE_BEARER_TOKEN_H

#include <pool/error.h>
#include <stdbool.h>
#include <stddef.h>

#define BEARER_TOKEN_MAX_BYTES 4096 /* a JSON web token with many claims */

/* Visible ASCII without blanks, not empty, not too long. Wider than the RFC's alphabet, as what is in use is. */
bool bearer_token_is_valid(const char *text, size_t n);
/**
 * The token that is alone in a file, without the blanks and the line end behind it. The caller frees it.
 * Errors: those of secret_file_read; INVALID_CONFIG (no token); never with the token in it.
 */
POOL_MUST_CHECK enum pool_code bearer_token_read(const char *path, char **ret_token, struct pool_error *err);

#endif
