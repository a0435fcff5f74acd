/*
 * See secret_marks.h.
 */
#include "core/lifecycle/secret_marks.h"

#include <inttypes.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/number.h"
#include "base/random.h"
#include "core/lifecycle/redact.h"

#define SALT_BYTES 16
#define SALT_TEXT  ((size_t)2 * SALT_BYTES)
#define SUM_TEXT   ((size_t)2 * SHA256_BYTES)

static bool sum_up(struct digest *digest, const char *salt, const char *text, size_t n,
                   char sum[SUM_TEXT + 1])
{
    unsigned char bytes[DIGEST_BYTES_MAX];
    if (!digest_begin(digest) || !digest_add(digest, salt, SALT_TEXT) || !digest_add(digest, text, n) ||
        !digest_end(digest, bytes))
        return false;
    hex_encode(bytes, SHA256_BYTES, sum);
    return true;
}

bool secret_marks_make(const struct string_list *secrets, struct strbuf *out)
{
    CLEANUP(digest_close) struct digest digest = DIGEST_INIT;
    struct digest_failure failure;
    uint8_t salt[SALT_BYTES];
    char salt_text[SALT_TEXT + 1], sum[SUM_TEXT + 1];
    size_t n_marks = 0;
    if (secrets->n == 0)
        return true;
    if (!random_bytes(salt, sizeof salt) || !digest_open(&digest, DIGEST_SHA256, &failure))
        return false;
    hex_encode(salt, sizeof salt, salt_text);
    strbuf_add_text(out, salt_text);
    for (size_t i = 0; i < secrets->n && n_marks < SECRET_MARKS_MAX; i++) {
        size_t n = strlen(secrets->at[i]);
        if (n < REDACT_KNOWN_MIN || n > SECRET_MARK_BYTES_MAX)
            continue;
        if (!sum_up(&digest, salt_text, secrets->at[i], n, sum))
            return false;
        strbuf_printf(out, " %zu:%s", n, sum);
        n_marks++;
    }
    return strbuf_add_char(out, '\n');
}

struct mark {
    size_t n_bytes;
    char sum[SUM_TEXT + 1];
};

/* The next mark of a line; false at its end, or where it is none. */
static bool next_mark(const char **line, struct mark *mark)
{
    const char *p = *line;
    int64_t n_bytes;
    if (*p != ' ')
        return false;
    p++;
    size_t n_digits = strspn(p, "0123456789");
    if (!parse_int64_n(p, n_digits, REDACT_KNOWN_MIN, SECRET_MARK_BYTES_MAX, &n_bytes) || p[n_digits] != ':')
        return false;
    p += n_digits + 1;
    if (strspn(p, "0123456789abcdef") != SUM_TEXT)
        return false;
    memcpy(mark->sum, p, SUM_TEXT);
    mark->sum[SUM_TEXT] = '\0';
    mark->n_bytes = (size_t)n_bytes;
    *line = p + SUM_TEXT;
    return true;
}

/* Once is enough: what is known is taken out everywhere. */
static bool find_mark(struct digest *digest, const char *salt, const struct mark *mark, const char *text,
                      size_t n, struct string_list *known)
{
    char sum[SUM_TEXT + 1];
    for (size_t at = 0; at + mark->n_bytes <= n; at++) {
        if (!sum_up(digest, salt, text + at, mark->n_bytes, sum))
            return false;
        if (memcmp(sum, mark->sum, SUM_TEXT) == 0)
            return string_list_printf(known, "%.*s", (int)mark->n_bytes, text + at);
    }
    return true;
}

bool secret_marks_find(const char *line, const char *text, size_t n, struct string_list *known)
{
    CLEANUP(digest_close) struct digest digest = DIGEST_INIT;
    struct digest_failure failure;
    struct mark mark;
    char salt[SALT_TEXT + 1];
    if (strspn(line, "0123456789abcdef") != SALT_TEXT || n == 0)
        return true;
    memcpy(salt, line, SALT_TEXT);
    salt[SALT_TEXT] = '\0';
    line += SALT_TEXT;
    bool is_good = true;
    for (size_t i = 0; is_good && i < SECRET_MARKS_MAX && next_mark(&line, &mark); i++) {
        if (i == 0 && !digest_open(&digest, DIGEST_SHA256, &failure))
            return false;
        is_good = find_mark(&digest, salt, &mark, text, n, known);
    }
    return is_good;
}
