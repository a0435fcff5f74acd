/*
 * JSON by jansson, with our limits: 32 levels, no duplicate keys, no U+0000 in strings, nothing behind the value.
 * How long the text may be is the callers' limit. Numbers are int64, larger ones are refused; a real where
 * an integer belongs is refused by the callers' checks.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define JSON_DEPTH_MAX 32

static inline void json_release(json_t **value)
{
    json_decref(*value);
}
#define CLEANUP_JSON __attribute__((cleanup(json_release)))

struct json_failure {
    bool is_no_memory;
    bool is_too_deep;
    int line, column;
    char message[192]; /* printable ASCII */
};

/* Parses one object or array. Owned by the caller; NULL and *failure filled when it is no good. */
json_t *json_parse(const char *text, size_t n, struct json_failure *failure);
/* Compact text, owned by the caller; NULL when memory is out. */
char *json_print(const json_t *value);

#endif
