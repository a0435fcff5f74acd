/*
 * Reading structs by their tables; see fields.h. An explicit null is the same as a field left out.
 */
#include "core/api/fields.h"

#include <inttypes.h>
#include <pool/gpu.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/utf8.h"

enum pool_code fields_parse(const char *text, size_t n, size_t max_bytes, json_t **ret_json,
                            struct pool_error *err)
{
    if (n > max_bytes) {
        pool_error_set(err, POOL_PAYLOAD_TOO_LARGE, "%zu bytes, at most %zu are taken", n, max_bytes);
        pool_error_add_number(err, "body_bytes", n < INT64_MAX ? (int64_t)n : INT64_MAX);
        pool_error_add_number(err, "limit_bytes", (int64_t)max_bytes);
        return POOL_PAYLOAD_TOO_LARGE;
    }
    struct json_failure failure;
    CLEANUP_JSON json_t *json = json_parse(text, n, &failure);
    if (!json && failure.is_no_memory)
        return pool_error_no_memory(err);
    if (!json && failure.is_too_deep)
        return pool_error_set(err, POOL_INVALID_REQUEST, "%s", failure.message);
    if (!json) {
        pool_error_set(err, POOL_INVALID_REQUEST, "line %d, column %d: %s", failure.line, failure.column,
                       failure.message);
        pool_error_add_number(err, "line", failure.line);
        pool_error_add_number(err, "column", failure.column);
        return POOL_INVALID_REQUEST;
    }
    if (!json_is_object(json))
        return pool_error_set(err, POOL_INVALID_REQUEST, "must be a JSON object");
    *ret_json = take_ptr(&json);
    return POOL_OK;
}

static enum pool_code refuse_value(const struct field *field, json_t *json, struct pool_error *err)
{
    field_refuse(field, err);
    if (err && json_is_real(json)) {
        size_t n = strlen(err->message);
        snprintf(err->message + n, sizeof err->message - n, ", not a real number");
    }
    return POOL_INVALID_REQUEST;
}

/* Sets a char * field to a copy of n bytes. */
static enum pool_code set_text(char **text, const char *value, size_t n, struct pool_error *err)
{
    char *copy = strndup(value, n);
    if (!copy)
        return pool_error_no_memory(err);
    free(*text);
    *text = copy;
    return POOL_OK;
}

static enum pool_code read_text(const struct field *field, json_t *json, char **text, struct pool_error *err)
{
    if ((field->flags & FIELD_INTEGER_TOO) && json_is_integer(json)) {
        char digits[24];
        int n = snprintf(digits, sizeof digits, "%" JSON_INTEGER_FORMAT, json_integer_value(json));
        return set_text(text, digits, (size_t)n, err);
    }
    if (!json_is_string(json))
        return refuse_value(field, json, err);
    return set_text(text, json_string_value(json), json_string_length(json), err);
}

/* Whole characters only, when it is longer than the struct has room for. */
static enum pool_code read_chars(const struct field *field, json_t *json, char *chars, struct pool_error *err)
{
    if (!json_is_string(json))
        return refuse_value(field, json, err);
    const char *text = json_string_value(json);
    size_t n = 0;
    while (text[n]) {
        size_t n_next = n + utf8_length(text + n);
        if (n_next > field->capacity - 1)
            break;
        n = n_next;
    }
    memcpy(chars, text, n);
    chars[n] = '\0';
    return POOL_OK;
}

static enum pool_code read_integer(const struct field *field, json_t *json, int64_t min, int64_t max,
                                   int64_t *ret_value, struct pool_error *err)
{
    if (!json_is_integer(json) || json_integer_value(json) < min || json_integer_value(json) > max)
        return refuse_value(field, json, err);
    *ret_value = json_integer_value(json);
    return POOL_OK;
}

static enum pool_code read_unsigned(const struct field *field, json_t *json, void *at, struct pool_error *err)
{
    int64_t value = 0;
    int64_t max = field->kind == FIELD_UINT32 ? UINT32_MAX : INT64_MAX;
    enum pool_code code = read_integer(field, json, 0, max, &value, err);
    if (code != POOL_OK)
        return code;
    if (field->kind == FIELD_UINT32)
        *(uint32_t *)at = (uint32_t)value;
    else
        *(uint64_t *)at = (uint64_t)value;
    return POOL_OK;
}

static enum pool_code read_reading(const struct field *field, json_t *json, struct pool_reading *reading,
                                   struct pool_error *err)
{
    if (field->kind == FIELD_FLAG_READING && json_is_boolean(json)) {
        *reading = (struct pool_reading){ .is_present = true, .value = json_is_true(json) };
        return POOL_OK;
    }
    if (field->kind != FIELD_READING || !json_is_integer(json))
        return refuse_value(field, json, err);
    *reading = (struct pool_reading){ .is_present = true, .value = json_integer_value(json) };
    return POOL_OK;
}

static enum pool_code read_choice(const struct field *field, json_t *json, void *at, struct pool_error *err)
{
    unsigned value = 0;
    if (field->kind == FIELD_IS_FIRST) {
        if (!json_is_boolean(json))
            return refuse_value(field, json, err);
        value = json_is_true(json) ? 0 : 1;
    } else {
        const char *name = json_string_value(json);
        while (name && value < field->n_names && strcmp(field->names[value], name) != 0)
            value++;
        if (!name || value == field->n_names)
            return refuse_value(field, json, err);
    }
    memcpy(at, &value, sizeof value);
    return POOL_OK;
}

static enum pool_code read_time(const struct field *field, json_t *json, int64_t *wall_ms,
                                struct pool_error *err)
{
    const char *text = json_string_value(json);
    return text && clock_parse_rfc3339(text, wall_ms) ? POOL_OK : refuse_value(field, json, err);
}

static enum pool_code read_words(const struct field *field, json_t *json, char **words,
                                 struct pool_error *err)
{
    if (!json_is_array(json))
        return refuse_value(field, json, err);
    CLEANUP(strbuf_done) struct strbuf b = STRBUF_INIT(SIZE_MAX / 2);
    size_t i;
    json_t *item;
    json_array_foreach(json, i, item) {
        const char *word = json_string_value(item);
        if (!word)
            return refuse_value(field, item, err);
        if (i > 0)
            strbuf_add_char(&b, ',');
        strbuf_add_text(&b, word);
    }
    if (b.failure != STRBUF_FINE)
        return pool_error_no_memory(err);
    return b.n > 0 ? set_text(words, strbuf_text(&b), b.n, err) : POOL_OK;
}

/* More than the field may hold is refused before anything is allocated for it. */
static enum pool_code check_size(const struct field *field, json_t *json, bool is_right_type,
                                 struct pool_error *err)
{
    if (!is_right_type)
        return refuse_value(field, json, err);
    size_t n = json_is_array(json) ? json_array_size(json) : json_object_size(json);
    if (field->max_items == 0 || n <= field->max_items)
        return POOL_OK;
    field_refuse(field, err);
    pool_error_add_number(err, "count", (int64_t)n);
    pool_error_add_number(err, "limit", (int64_t)field->max_items);
    return POOL_INVALID_REQUEST;
}

static enum pool_code read_texts(const struct field *field, json_t *json, void *object,
                                 struct pool_error *err)
{
    enum pool_code code = check_size(field, json, json_is_array(json), err);
    size_t n = json_array_size(json);
    if (code != POOL_OK || n == 0)
        return code;
    char **texts = calloc(n, sizeof *texts);
    if (!texts)
        return pool_error_no_memory(err);
    *(char ***)field_at(object, field->offset) = texts;
    *(size_t *)field_at(object, field->n_offset) = n;
    for (size_t i = 0; code == POOL_OK && i < n; i++) {
        json_t *item = json_array_get(json, i);
        if (json_is_string(item)) {
            code = set_text(&texts[i], json_string_value(item), json_string_length(item), err);
        } else {
            char path[POOL_ERROR_FIELD_MAX];
            snprintf(path, sizeof path, "%s[%zu]", field->name, i);
            code = field_refuse_item(field, path, err);
        }
    }
    return code;
}

static enum pool_code read_pairs(const struct field *field, json_t *json, void *object,
                                 struct pool_error *err)
{
    enum pool_code code = check_size(field, json, json_is_object(json), err);
    size_t n = json_object_size(json);
    if (code != POOL_OK || n == 0)
        return code;
    char **pairs = calloc(n, 2 * sizeof *pairs);
    if (!pairs)
        return pool_error_no_memory(err);
    field_set_pointer(object, field->offset, pairs);
    size_t *ret_n = field_at(object, field->n_offset);
    const char *name;
    json_t *value;
    json_object_foreach(json, name, value) {
        if (!json_is_string(value)) {
            char path[POOL_ERROR_FIELD_MAX];
            snprintf(path, sizeof path, "%s.%s", field->name, name);
            return field_refuse_item(field, path, err);
        }
        size_t i = (*ret_n)++;
        code = set_text(pair_name(pairs, i), name, strlen(name), err);
        if (code == POOL_OK)
            code = set_text(pair_value(pairs, i), json_string_value(value), json_string_length(value), err);
        if (code != POOL_OK)
            return code;
    }
    return POOL_OK;
}

/* Nested deeper than tables are: the recursion is bounded by the tables, not by the input. */
static enum pool_code read_object(const struct field *field, json_t *json, void *at, struct pool_error *err)
{
    if (!json_is_object(json))
        return refuse_value(field, json, err);
    enum pool_code code = fields_decode(field->table, json, at, err);
    if (code == POOL_INVALID_REQUEST)
        field_prefix(err, "%s.", field->name);
    return code;
}

static enum pool_code read_objects(const struct field *field, json_t *json, void *object,
                                   struct pool_error *err)
{
    enum pool_code code = check_size(field, json, json_is_array(json), err);
    size_t n = json_array_size(json);
    if (code != POOL_OK || n == 0)
        return code;
    char *items = calloc(n, field->table->size_bytes);
    if (!items)
        return pool_error_no_memory(err);
    field_set_pointer(object, field->offset, items);
    *(size_t *)field_at(object, field->n_offset) = n;
    for (size_t i = 0; code == POOL_OK && i < n; i++) {
        json_t *item = json_array_get(json, i);
        if (!json_is_object(item))
            return refuse_value(field, item, err);
        code = fields_decode(field->table, item, items + i * field->table->size_bytes, err);
        if (code == POOL_INVALID_REQUEST)
            field_prefix(err, "%s[%zu].", field->name, i);
    }
    return code;
}

static enum pool_code read_value(const struct field *field, json_t *json, void *object,
                                 struct pool_error *err)
{
    void *at = field_at(object, field->offset);
    switch (field->kind) {
    case FIELD_TEXT: return read_text(field, json, at, err);
    case FIELD_CHARS: return read_chars(field, json, at, err);
    case FIELD_WORDS: return read_words(field, json, at, err);
    case FIELD_INTEGER: return read_integer(field, json, INT64_MIN, INT64_MAX, at, err);
    case FIELD_UINT32:
    case FIELD_UINT64: return read_unsigned(field, json, at, err);
    case FIELD_READING:
    case FIELD_FLAG_READING: return read_reading(field, json, at, err);
    case FIELD_SIGNAL_NAME: return POOL_OK;
    case FIELD_BOOL:
        if (!json_is_boolean(json))
            return refuse_value(field, json, err);
        *(bool *)at = json_is_true(json);
        return POOL_OK;
    case FIELD_ENUM:
    case FIELD_IS_FIRST: return read_choice(field, json, at, err);
    case FIELD_TIME: return read_time(field, json, at, err);
    case FIELD_TEXTS: return read_texts(field, json, object, err);
    case FIELD_PAIRS: return read_pairs(field, json, object, err);
    case FIELD_OBJECT: return read_object(field, json, at, err);
    case FIELD_OBJECTS: return read_objects(field, json, object, err);
    }
    return POOL_OK;
}

static enum pool_code read_field(const struct field *field, json_t *json, void *object,
                                 struct pool_error *err)
{
    bool is_given = json && !json_is_null(json);
    if (!is_given && (field->flags & FIELD_REQUIRED)) {
        pool_error_set(err, POOL_INVALID_REQUEST, "\"%s\" is missing", field->name);
        pool_error_set_field(err, "%s", field->name);
        return POOL_INVALID_REQUEST;
    }
    if (!is_given && (field->flags & FIELD_IF_KNOWN))
        *(bool *)field_at(object, field->known_offset) = false;
    if (!is_given || (field->applies && !field->applies(object)))
        return POOL_OK;
    return read_value(field, json, object, err);
}

static enum pool_code refuse_unknown(const struct field_table *table, json_t *json, struct pool_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(json, key, value) {
        size_t i = 0;
        while (i < table->n_fields && strcmp(table->fields[i].name, key) != 0)
            i++;
        if (i == table->n_fields) {
            pool_error_set(err, POOL_INVALID_REQUEST, "there is no field \"%s\"", key);
            pool_error_set_field(err, "%s", key);
            return POOL_INVALID_REQUEST;
        }
    }
    return POOL_OK;
}

enum pool_code fields_decode(const struct field_table *table, json_t *json, void *object,
                             struct pool_error *err)
{
    enum pool_code code = table->is_request ? refuse_unknown(table, json, err) : POOL_OK;
    for (size_t i = 0; i < table->n_fields; i++) {
        const struct field *field = &table->fields[i];
        if (field->flags & FIELD_IF_KNOWN) /* until one of them is absent */
            *(bool *)field_at(object, field->known_offset) = true;
    }
    for (size_t i = 0; code == POOL_OK && i < table->n_fields; i++)
        code = read_field(&table->fields[i], json_object_get(json, table->fields[i].name), object, err);
    return code == POOL_OK ? fields_check(table, object, err) : code;
}
