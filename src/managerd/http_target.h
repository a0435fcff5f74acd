/*
 * The target of a request: a path and a query, decoded once. Pure; knows no sockets.
 */
#ifndef MANAGERD_HTTP_TARGET_H
#define MANAGERD_HTTP_TARGET_H

#include <stddef.h>

#include "managerd/http_limits.h"

struct http_param {
    const char *name;
    const char *value;
};

/* Points into the text it was parsed from. */
struct http_target {
    const char *authority; /* of an absolute target, "http://HOST/path"; else NULL */
    const char *path;
    size_t n_segments;
    const char *segments[HTTP_SEGMENTS_MAX];
    size_t n_params;
    struct http_param params[HTTP_PARAMS_MAX];
};

/*
 * Parses a target in place. `segments` has room for as many bytes as the text, NUL included. What is ambiguous is
 * refused rather than guessed at: encoded slashes, dot segments, control characters, what is not UTF-8, a parameter
 * given twice. Returns NULL, or what is wrong (static).
 */
const char *http_target_parse(char *text, char *segments, struct http_target *ret_target);

#endif
