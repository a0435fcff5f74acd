/*
 * The token file: one line a token, "scope name sha256", separated by blanks. Scopes are read, operate and admin; the
 * name is what logs call the token; sha256 is the hash of the token, whose text is nowhere on this machine. Empty
 * lines, and lines that begin with '#', are skipped.
 *
 * Nothing of a line is ever quoted in an error: somebody may have written the token itself.
 */
#ifndef MANAGERD_TOKENS_H
#define MANAGERD_TOKENS_H

#include <pool/error.h>
#include <stddef.h>
#include <stdint.h>

#include "managerd/access.h"

#define TOKENS_FILE_MAX_BYTES (64 << 10) /* room for the most tokens and as many lines of remarks */
#define TOKENS_MAX            256        /* all of them are compared at each request */
#define TOKEN_SHA256_BYTES    HTTP_CALLER_KEY_BYTES

struct token {
    enum scope scope;
    char name[HTTP_CALLER_NAME_MAX + 1];
    uint8_t sha256[TOKEN_SHA256_BYTES];
};

struct tokens {
    size_t n;
    struct token items[];
};

/**
 * Reads the text of a token file; `path` is for messages.
 * Errors: INVALID_CONFIG ("path:line: why"; also for a name or a hash that is there twice, the hash of an empty token,
 * and no token at all), INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code tokens_parse(const char *text, size_t n, const char *path,
                                            struct tokens **ret_tokens, struct pool_error *err);
/** Errors: those of tokens_parse and of secret_file_read. */
POOL_MUST_CHECK enum pool_code tokens_load(const char *path, struct tokens **ret_tokens,
                                           struct pool_error *err);
/* In a time that depends on the number of tokens alone. Borrowed; NULL: none. */
const struct token *tokens_find(const struct tokens *tokens, const uint8_t sha256[TOKEN_SHA256_BYTES]);

#endif
