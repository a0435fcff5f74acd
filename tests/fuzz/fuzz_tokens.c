/*
 * Fuzz target: the token file from any bytes. What it takes for tokens has a scope a file can give, a name fit for a log
 * line, and is found by its own hash alone.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "managerd/tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct tokens *tokens)
{
    if (tokens->n == 0 || tokens->n > TOKENS_MAX)
        abort();
    for (size_t i = 0; i < tokens->n; i++) {
        const struct token *token = &tokens->items[i];
        size_t n_name = strlen(token->name);
        if (token->scope < SCOPE_READ || token->scope > SCOPE_ADMIN || n_name == 0 ||
            n_name > HTTP_CALLER_NAME_MAX || tokens_find(tokens, token->sha256) != token)
            abort();
        for (size_t at = 0; at < n_name; at++) {
            if (token->name[at] < '-' || token->name[at] > 'z')
                abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct tokens *tokens = NULL;
    enum pool_code code = tokens_parse((const char *)data, size, "tokens", &tokens, &error);
    if (code != error.code || (code == POOL_OK) != (tokens != NULL))
        abort();
    if (tokens)
        check(tokens);
    free(tokens);
    return 0;
}
