/*
 * Errors as JSON, in the shape of contract section 2, and the grammar of correlation ids.
 */
#include <pool/api.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/utf8.h"
#include "core/api/fields.h"

/* Room of the struct's texts, without the NUL: more is not written, so that it can be read back whole. */
#define ROOM(member) (sizeof((struct pool_error *)0)->member - 1)

bool pool_correlation_id_is_valid(const char *id)
{
    if (!id)
        return false;
    size_t n = strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-");
    return n > 0 && n <= POOL_CORRELATION_ID_MAX && id[n] == '\0';
}

/* Bytes that one character of a log takes when it is written. */
static size_t shown_bytes(const char *p, size_t *ret_n_bytes)
{
    size_t n = utf8_length(p);
    *ret_n_bytes = n ? n : 1;
    return n ? n : strlen(UTF8_REPLACEMENT);
}

/*
 * Where to start in a log so that the rest has room: its end says more than its beginning, and what is replaced by
 * U+FFFD grows.
 */
static const char *tail_that_fits(const char *log, size_t room)
{
    size_t n_total = 0;
    size_t n_bytes;
    for (const char *p = log; *p; p += n_bytes)
        n_total += shown_bytes(p, &n_bytes);
    while (n_total > room) {
        n_total -= shown_bytes(log, &n_bytes);
        log += n_bytes;
    }
    return log;
}

static void write_log_tail(struct writer *w, const char *log)
{
    const char *p = tail_that_fits(log, ROOM(log_tail));
    size_t n = strlen(p);
    while (n > 0 && p[n - 1] == '\n')
        n--;
    if (n == 0)
        return;
    write_key(w, "log_tail");
    write_open(w, '[');
    for (const char *end = p + n; p <= end;) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        const char *line_end = newline ? newline : end;
        write_text_n(w, p, (size_t)(line_end - p));
        p = line_end + 1;
    }
    write_close(w, ']');
}

static void write_details(struct writer *w, const struct pool_error *error)
{
    write_key(w, "details");
    write_open(w, '{');
    if (error->field[0]) {
        write_key(w, "field");
        write_text_cut(w, error->field, ROOM(field));
    }
    for (size_t i = 0; i < error->n_details; i++) {
        const struct pool_detail *detail = &error->details[i];
        if (strcmp(detail->name, "field") == 0 || strcmp(detail->name, "log_tail") == 0)
            continue;
        write_key(w, detail->name);
        switch (detail->kind) {
        case POOL_DETAIL_NUMBER: write_integer(w, detail->number); break;
        case POOL_DETAIL_TEXT: write_text_cut(w, detail->text, sizeof detail->text - 1); break;
        case POOL_DETAIL_BOOL: write_bool(w, detail->number != 0); break;
        }
    }
    write_log_tail(w, error->log_tail);
    write_close(w, '}');
}

enum pool_code pool_error_encode(const struct pool_error *error, const char *correlation_id, char **ret_json,
                                 struct pool_error *err)
{
    if (error->code == POOL_OK)
        return pool_error_set(err, POOL_INTERNAL, "there is no error to tell of");
    CLEANUP(writer_done) struct writer w = WRITER_INIT(POOL_ANSWER_MAX_BYTES);
    write_open(&w, '{');
    write_key(&w, "error");
    write_open(&w, '{');
    write_key(&w, "code");
    write_text(&w, pool_code_name(error->code));
    write_key(&w, "message");
    write_text_cut(&w, error->message, ROOM(message));
    write_key(&w, "retriable");
    write_bool(&w, error->is_retriable);
    write_details(&w, error);
    if (pool_correlation_id_is_valid(correlation_id)) {
        write_key(&w, "correlation_id");
        write_text(&w, correlation_id);
    }
    write_close(&w, '}');
    write_close(&w, '}');
    return writer_take(&w, ret_json, err);
}

static enum pool_code refuse_shape(struct pool_error *err, const char *field)
{
    pool_error_set(err, POOL_INVALID_REQUEST, "not an error of the API: \"%s\" is missing or of a wrong type",
                   field);
    pool_error_set_field(err, "%s", field);
    return POOL_INVALID_REQUEST;
}

/* Lines joined, as far as there is room. */
static void read_log_tail(json_t *lines, struct pool_error *error)
{
    size_t i;
    json_t *line;
    size_t n = 0;
    json_array_foreach(lines, i, line) {
        const char *text = json_string_value(line) ? json_string_value(line) : "";
        size_t n_text = json_string_length(line);
        size_t n_break = i > 0 ? 1 : 0;
        if (n_text + n_break > ROOM(log_tail) - n)
            break;
        if (n_break)
            error->log_tail[n++] = '\n';
        memcpy(error->log_tail + n, text, n_text);
        n += n_text;
        error->log_tail[n] = '\0';
    }
}

/* As much of a name as there is room for, whole characters: two must not become one when they are written. */
static void copy_name(char name[sizeof((struct pool_detail *)0)->name], const char *key)
{
    size_t n = 0;
    while (key[n] && n + utf8_length(key + n) < sizeof((struct pool_detail *)0)->name)
        n += utf8_length(key + n);
    memcpy(name, key, n);
    name[n] = '\0';
}

static void read_details(json_t *details, struct pool_error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach(details, key, value) {
        char name[sizeof((struct pool_detail *)0)->name];
        copy_name(name, key);
        if (strcmp(name, "field") == 0 && json_is_string(value))
            pool_error_set_field(error, "%s", json_string_value(value));
        else if (strcmp(name, "log_tail") == 0)
            read_log_tail(value, error);
        else if (json_is_string(value))
            pool_error_add_text(error, name, json_string_value(value));
        else if (json_is_integer(value))
            pool_error_add_number(error, name, json_integer_value(value));
        else if (json_is_boolean(value))
            pool_error_add_bool(error, name, json_is_true(value));
    }
}

enum pool_code pool_error_decode(const char *json, size_t n, struct pool_error *ret_error,
                                 struct pool_error *err)
{
    CLEANUP_JSON json_t *parsed = NULL;
    enum pool_code result = fields_parse(json, n, POOL_ANSWER_MAX_BYTES, &parsed, err);
    if (result != POOL_OK)
        return result;
    json_t *body = json_object_get(parsed, "error");
    if (!json_is_object(body))
        return refuse_shape(err, "error");
    const char *name = json_string_value(json_object_get(body, "code"));
    const char *message = json_string_value(json_object_get(body, "message"));
    json_t *is_retriable = json_object_get(body, "retriable");
    if (!name)
        return refuse_shape(err, "error.code");
    if (!message)
        return refuse_shape(err, "error.message");
    if (!json_is_boolean(is_retriable))
        return refuse_shape(err, "error.retriable");
    enum pool_code code = POOL_INTERNAL;
    bool is_known = pool_code_from_name(name, &code);
    if (code == POOL_OK)
        return refuse_shape(err, "error.code");
    pool_error_set(ret_error, code, "%s", message);
    ret_error->is_retriable = json_is_true(is_retriable);
    read_details(json_object_get(body, "details"), ret_error);
    if (!is_known)
        pool_error_add_text(ret_error, "unknown_code", name);
    return POOL_OK;
}
