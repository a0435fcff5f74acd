/*
 * Bearer tokens; see bearer_token.h.
 */
#include "base/bearer_token.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/secret_file.h"

bool bearer_token_is_valid(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    }
    return n > 0 && n <= BEARER_TOKEN_MAX_BYTES;
}

enum pool_code bearer_token_read(const char *path, char **ret_token, struct pool_error *err)
{
    CLEANUP(secret_file_wipe) struct strbuf text = STRBUF_INIT(BEARER_TOKEN_MAX_BYTES + 2); /* "\r\n" */
    enum pool_code code = secret_file_read(path, &text, err);
    if (code != POOL_OK)
        return code;
    size_t n = text.n;
    while (n > 0 && strchr("\r\n \t", text.data[n - 1]))
        n--;
    if (!bearer_token_is_valid(strbuf_text(&text), n))
        return pool_error_set(err, POOL_INVALID_CONFIG,
                              "%s: not a token: empty, longer than %d bytes, or not visible ASCII", path,
                              BEARER_TOKEN_MAX_BYTES);
    *ret_token = strndup(text.data, n);
    return *ret_token ? POOL_OK : pool_error_no_memory(err);
}
