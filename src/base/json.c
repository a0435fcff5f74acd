/*
 * JSON with limits; see json.h. The depth is counted before jansson sees the text, because its own
 * limit (2048 levels) is fixed when it is built.
 */
#include "base/json.h"

#include <stdio.h>
#include <string.h>

static bool is_deeper_than(const char *text, size_t n, int limit)
{
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > limit)
                return true;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return false;
}

/* jansson quotes the text near the error, which may be anything, and cut anywhere. */
static void copy_printable(char *to, size_t size, const char *from)
{
    size_t n = 0;
    for (; n < size - 1 && from[n]; n++)
        to[n] = (char)(from[n] >= 0x20 && from[n] < 0x7f ? from[n] : '?');
    to[n] = '\0';
}

json_t *json_parse(const char *text, size_t n, struct json_failure *failure)
{
    memset(failure, 0, sizeof *failure);
    if (is_deeper_than(text, n, JSON_DEPTH_MAX)) {
        failure->is_too_deep = true;
        snprintf(failure->message, sizeof failure->message, "nested deeper than %d levels", JSON_DEPTH_MAX);
        return NULL;
    }
    json_error_t error;
    json_t *value = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    if (value)
        return value;
    /* Where jansson 2.14 finds no memory while parsing, it mostly leaves the error as it was: empty. */
    failure->is_no_memory = json_error_code(&error) == json_error_out_of_memory || error.text[0] == '\0';
    failure->line = error.line;
    failure->column = error.column;
    if (json_error_code(&error) ==
        json_error_null_character) /* jansson's words are for who programs with it */
        snprintf(failure->message, sizeof failure->message, "a text with a NUL (\\u0000) is not taken");
    else
        copy_printable(failure->message, sizeof failure->message, error.text);
    return NULL;
}

char *json_print(const json_t *value)
{
    return json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
}
