/*
 * Reading the Hub's headers; see hub_headers.h.
 *
 * Source: RFC 9110, sections 10.2.3 and 14.4; IETF draft "RateLimit header fields for HTTP"; the Hub's documentation.
 */
#include "cli/download/hub_headers.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/number.h"

#define SECONDS_MAX INT64_C(86400)

/* The parameter `;NAME=number` of a RateLimit item; -1 without it. */
static int64_t parameter_of(const char *item, char name)
{
    bool is_quoted = false;
    for (const char *p = item; *p && (*p != ',' || is_quoted); p++) {
        if (*p == '"')
            is_quoted = !is_quoted;
        if (*p != ';' || is_quoted)
            continue;
        const char *word = p + 1 + strspn(p + 1, " \t");
        if (word[0] != name || word[1] != '=')
            continue;
        size_t n = strspn(word + 2, "0123456789");
        int64_t value;
        return parse_int64_n(word + 2, n, 0, INT64_MAX, &value) ? value : -1;
    }
    return -1;
}

static int64_t bounded_ms(int64_t seconds)
{
    return (seconds > SECONDS_MAX ? SECONDS_MAX : seconds) * 1000;
}

int64_t hub_limit_ms(const char *rate_limit, const char *retry_after)
{
    int64_t seconds = rate_limit && parameter_of(rate_limit, 'r') == 0 ? parameter_of(rate_limit, 't') : -1;
    if (seconds >= 0)
        return bounded_ms(seconds < SECONDS_MAX ? seconds + 1 : seconds);
    if (!retry_after)
        return -1;
    size_t n = strspn(retry_after, "0123456789");
    if (n == 0 || retry_after[n + strspn(retry_after + n, " \t")] != '\0')
        return -1; /* a date is not what the Hub sends */
    return parse_int64_n(retry_after, n, 0, INT64_MAX, &seconds) ? bounded_ms(seconds) : -1;
}

/* Reads digits up to `end`, which is passed over. */
static bool read_number(const char **text, char end, int64_t *ret_value)
{
    size_t n = strspn(*text, "0123456789");
    if ((*text)[n] != end || !parse_int64_n(*text, n, 0, INT64_MAX, ret_value))
        return false;
    *text += n + (end != '\0');
    return true;
}

bool hub_read_content_range(const char *text, int64_t *ret_first, int64_t *ret_last, int64_t *ret_total)
{
    int64_t first;
    int64_t last;
    int64_t total;
    if (strncasecmp(text, "bytes ", 6) != 0)
        return false;
    text += 6;
    if (!read_number(&text, '-', &first) || !read_number(&text, '/', &last) ||
        !read_number(&text, '\0', &total) || first > last || last >= total)
        return false;
    *ret_first = first;
    *ret_last = last;
    *ret_total = total;
    return true;
}

static bool read_hex(const char *text, size_t n, char *ret_text)
{
    for (size_t i = 0; i < n; i++) {
        if (!isxdigit((unsigned char)text[i]))
            return false;
    }
    for (size_t i = 0; i < n; i++)
        ret_text[i] = (char)tolower((unsigned char)text[i]);
    ret_text[n] = '\0';
    return true;
}

bool hub_read_content_name(const char *etag, char ret_name[HUB_NAME_MAX + 1])
{
    if (strncmp(etag, "W/", 2) == 0)
        etag += 2;
    size_t n = strlen(etag);
    if (n >= 2 && etag[0] == '"' && etag[n - 1] == '"') {
        etag++;
        n -= 2;
    }
    return (n == HUB_NAME_MAX || n == HUB_COMMIT_HEX) && read_hex(etag, n, ret_name);
}

bool hub_read_commit(const char *text, char ret_commit[HUB_COMMIT_HEX + 1])
{
    return strlen(text) == HUB_COMMIT_HEX && read_hex(text, HUB_COMMIT_HEX, ret_commit);
}
