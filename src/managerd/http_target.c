/*
 * Decoding a request's target. Owns percent-decoding and the splitting into segments and parameters; which paths mean
 * something is the routes' business. RFC 9112 section 3.2 for the forms, RFC 3986 for the characters.
 */
#include "managerd/http_target.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

static int read_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decodes in place. In a path an encoded slash is refused: it would be a separator to some and data to others. */
static const char *decode_percent(char *text, bool is_path)
{
    char *to = text;
    for (const char *p = text; *p; p++) {
        char c = *p;
        if (c == '%') {
            int high = read_hex_digit(p[1]);
            int low = high < 0 ? -1 : read_hex_digit(p[2]);
            if (low < 0)
                return "a '%' is not followed by two hexadecimal digits";
            c = (char)(high * 16 + low);
            p += 2;
            if (is_path && (c == '/' || c == '\\'))
                return "an encoded slash in the path";
        } else if (c == '+' && !is_path) {
            c = ' ';
        }
        if ((unsigned char)c < 0x20 || c == 0x7f)
            return "an encoded control character";
        *to++ = c;
    }
    *to = '\0';
    return utf8_is_valid(text) ? NULL : "the target is not UTF-8";
}

static const char *split_path(char *segments, struct http_target *target)
{
    memcpy(segments, target->path, strlen(target->path) + 1);
    for (char *at = segments + 1; at;) {
        char *slash = strchr(at, '/');
        if (slash)
            *slash = '\0';
        if (strcmp(at, ".") == 0 || strcmp(at, "..") == 0)
            return "a dot segment in the path";
        if (target->n_segments == HTTP_SEGMENTS_MAX)
            return "too many segments in the path";
        target->segments[target->n_segments++] = at;
        at = slash ? slash + 1 : NULL;
    }
    if (target->n_segments == 1 && !*target->segments[0])
        target->n_segments = 0;
    return NULL;
}

static const char *split_query(char *query, struct http_target *target)
{
    for (char *at = query; at;) {
        char *end = strchr(at, '&');
        if (end)
            *end = '\0';
        if (*at) {
            char *value = strchr(at, '=');
            if (value)
                *value++ = '\0';
            const char *wrong = decode_percent(at, false);
            if (!wrong && value)
                wrong = decode_percent(value, false);
            if (wrong)
                return wrong;
            if (target->n_params == HTTP_PARAMS_MAX)
                return "too many parameters in the query";
            for (size_t i = 0; i < target->n_params; i++)
                if (strcmp(target->params[i].name, at) == 0)
                    return "a parameter of the query is given twice";
            target->params[target->n_params++] = (struct http_param){ at, value ? value : "" };
        }
        at = end ? end + 1 : NULL;
    }
    return NULL;
}

/* "http://HOST/path": moves HOST to the front of the text and returns where the path begins. */
static char *split_absolute(char *text, struct http_target *target)
{
    size_t n_scheme = strncasecmp(text, "http://", 7) == 0    ? 7
                      : strncasecmp(text, "https://", 8) == 0 ? 8
                                                              : 0;
    if (n_scheme == 0)
        return NULL;
    size_t n_host = strcspn(text + n_scheme, "/?");
    char *path = text + n_scheme + n_host;
    memmove(text, text + n_scheme, n_host);
    text[n_host] = '\0';
    target->authority = text;
    if (*path != '/') /* "http://host?query": there is room for the slash where the scheme was */
        *--path = '/';
    return path;
}

const char *http_target_parse(char *text, char *segments, struct http_target *ret_target)
{
    struct http_target target = { 0 };
    if (!*text)
        return "no target";
    for (const char *p = text; *p; p++)
        if (*p <= ' ' || *p > '~' ||
            *p == '#') /* bytes from 0x80 on are below ' ' or above '~', as char is signed or not */
            return "the target has a character that must be percent-encoded";
    char *path = text;
    if (*path != '/')
        path = split_absolute(text, &target);
    if (!path)
        return "the target does not begin with a slash";
    char *query = strchr(path, '?');
    if (query)
        *query++ = '\0';
    const char *wrong = decode_percent(path, true);
    if (wrong)
        return wrong;
    target.path = path;
    wrong = split_path(segments, &target);
    if (!wrong && query)
        wrong = split_query(query, &target);
    if (!wrong)
        *ret_target = target;
    return wrong;
}
