/*
 * The token file; see tokens.h.
 */
#include "managerd/tokens.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/secret_file.h"

#define FIELDS 3

/* SHA-256 of nothing: what comes of hashing a variable that was not set. */
static const uint8_t sha256_of_nothing[TOKEN_SHA256_BYTES] = {
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
};

struct field {
    const char *text;
    size_t n;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* The number of fields; FIELDS + 1 when there are more. */
static size_t split(const char *line, size_t n, struct field fields[FIELDS])
{
    size_t n_fields = 0;
    for (size_t at = 0; at < n;) {
        if (is_blank(line[at])) {
            at++;
            continue;
        }
        size_t end = at;
        while (end < n && !is_blank(line[end]))
            end++;
        if (n_fields == FIELDS)
            return FIELDS + 1;
        fields[n_fields++] = (struct field){ line + at, end - at };
        at = end;
    }
    return n_fields;
}

static bool read_scope(const struct field *field, enum scope *ret_scope)
{
    for (int i = SCOPE_READ; i <= SCOPE_ADMIN; i++) {
        const char *name = scope_name((enum scope)i);
        if (strlen(name) == field->n && memcmp(name, field->text, field->n) == 0) {
            *ret_scope = (enum scope)i;
            return true;
        }
    }
    return false;
}

static bool read_name(const struct field *field, char name[HTTP_CALLER_NAME_MAX + 1])
{
    static const char others[] = "._-";
    if (field->n > HTTP_CALLER_NAME_MAX)
        return false;
    for (size_t i = 0; i < field->n; i++) {
        char c = field->text[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_letter && (i == 0 || c == '\0' || !strchr(others, c)))
            return false;
    }
    memcpy(name, field->text, field->n);
    name[field->n] = '\0';
    return true;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool read_sha256(const struct field *field, uint8_t sha256[TOKEN_SHA256_BYTES])
{
    if (field->n != (size_t)2 * TOKEN_SHA256_BYTES)
        return false;
    for (size_t i = 0; i < TOKEN_SHA256_BYTES; i++) {
        int high = hex_value(field->text[2 * i]);
        int low = hex_value(field->text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        sha256[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* NULL: fine, and in *token. */
static const char *read_line(const struct field fields[FIELDS], size_t n_fields, struct token *token)
{
    if (n_fields != FIELDS)
        return "a line has three fields: scope, name, sha256";
    if (!read_scope(&fields[0], &token->scope))
        return "the first field is a scope: read, operate or admin";
    if (!read_name(&fields[1], token->name))
        return "the second field is a name: letters, digits, '.', '_' and '-', 1 to 64 of them";
    if (!read_sha256(&fields[2], token->sha256))
        return "the third field is the SHA-256 of the token: 64 hex digits";
    if (memcmp(token->sha256, sha256_of_nothing, TOKEN_SHA256_BYTES) == 0)
        return "that is the SHA-256 of an empty token";
    return NULL;
}

static const char *find_twin(const struct tokens *tokens, const struct token *token)
{
    for (size_t i = 0; i < tokens->n; i++) {
        if (strcmp(tokens->items[i].name, token->name) == 0)
            return "this name is there already";
        if (memcmp(tokens->items[i].sha256, token->sha256, TOKEN_SHA256_BYTES) == 0)
            return "this token is there already, under another name";
    }
    return NULL;
}

enum pool_code tokens_parse(const char *text, size_t n, const char *path, struct tokens **ret_tokens,
                            struct pool_error *err)
{
    CLEANUP_FREE struct tokens *tokens = calloc(1, sizeof *tokens + TOKENS_MAX * sizeof(struct token));
    if (!tokens)
        return pool_error_no_memory(err);
    unsigned number = 1;
    for (size_t at = 0; at < n; number++) {
        struct field fields[FIELDS];
        const char *end = memchr(text + at, '\n', n - at);
        size_t n_line = end ? (size_t)(end - (text + at)) : n - at;
        size_t n_fields = split(text + at, n_line, fields);
        at += n_line + 1;
        if (n_fields == 0 || fields[0].text[0] == '#')
            continue;
        if (tokens->n == TOKENS_MAX)
            return pool_error_set(err, POOL_INVALID_CONFIG, "%s:%u: there can be %d tokens", path, number,
                                  TOKENS_MAX);
        struct token token = { 0 };
        const char *problem = read_line(fields, n_fields, &token);
        if (!problem)
            problem = find_twin(tokens, &token);
        if (problem)
            return pool_error_set(err, POOL_INVALID_CONFIG, "%s:%u: %s", path, number, problem);
        tokens->items[tokens->n++] = token;
    }
    if (tokens->n == 0)
        return pool_error_set(err, POOL_INVALID_CONFIG, "%s: there is no token in it", path);
    *ret_tokens = take_ptr(&tokens);
    return POOL_OK;
}

enum pool_code tokens_load(const char *path, struct tokens **ret_tokens, struct pool_error *err)
{
    CLEANUP(secret_file_wipe) struct strbuf text = STRBUF_INIT(TOKENS_FILE_MAX_BYTES);
    enum pool_code code = secret_file_read(path, &text, err);
    return code == POOL_OK ? tokens_parse(strbuf_text(&text), text.n, path, ret_tokens, err) : code;
}

const struct token *tokens_find(const struct tokens *tokens, const uint8_t sha256[TOKEN_SHA256_BYTES])
{
    size_t found = TOKENS_MAX;
    for (size_t i = 0; i < tokens->n; i++) {
        /* All bits set where it is the one; no branch says so. */
        size_t mask =
            (size_t)0 - (size_t)(CRYPTO_memcmp(tokens->items[i].sha256, sha256, TOKEN_SHA256_BYTES) == 0);
        found = (found & ~mask) | (i & mask);
    }
    return found < tokens->n ? &tokens->items[found] : NULL;
}
