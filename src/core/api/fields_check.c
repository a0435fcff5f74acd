/*
 * Grammar and ranges of fields, and how they are told to people; see fields.h.
 */
#include "core/api/fields.h"

#include <inttypes.h>
#include <pool/gpu.h>
#include <pool/worker.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/utf8.h"

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* A letter or digit (no digit when not allowed), then letters, digits and what is in `others`. */
static bool is_word(const char *text, bool may_start_with_digit, const char *first_too, const char *others)
{
    bool is_first_fine = *text && (is_alphanumeric(*text) || strchr(first_too, *text));
    if (!is_first_fine || (!may_start_with_digit && *text >= '0' && *text <= '9'))
        return false;
    for (const char *p = text + 1; *p; p++) {
        if (!is_alphanumeric(*p) && !strchr(others, *p))
            return false;
    }
    return true;
}

static bool keeps_grammar(enum grammar grammar, const char *text)
{
    switch (grammar) {
    case GRAMMAR_ANY: return utf8_is_valid(text);
    case GRAMMAR_VALUE: return utf8_is_valid(text) && !utf8_has_control(text);
    case GRAMMAR_LINE: return *text && utf8_is_valid(text) && !utf8_has_control(text);
    case GRAMMAR_WORKER_ID: return pool_worker_id_is_valid(text);
    case GRAMMAR_GPU_ID: return is_word(text, true, "", "._:/-");
    case GRAMMAR_LABEL_NAME: return is_word(text, true, "", "._/-");
    case GRAMMAR_ENV_NAME: return is_word(text, false, "_", "_");
    }
    return false;
}

static const char *grammar_text(enum grammar grammar)
{
    switch (grammar) {
    case GRAMMAR_ANY: return "text";
    case GRAMMAR_VALUE: return "text without control characters";
    case GRAMMAR_LINE: return "text, not empty, without control characters";
    case GRAMMAR_WORKER_ID: return "[A-Za-z0-9][A-Za-z0-9._-]{0,63}";
    case GRAMMAR_GPU_ID: return "an index, a UUID or \"auto\"";
    case GRAMMAR_LABEL_NAME: return "[A-Za-z0-9][A-Za-z0-9._/-]*";
    case GRAMMAR_ENV_NAME: return "[A-Za-z_][A-Za-z0-9_]*";
    }
    return "";
}

const char *grammar_pattern(enum grammar grammar)
{
    switch (grammar) {
    case GRAMMAR_ANY: return NULL;
    case GRAMMAR_VALUE: return "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";
    case GRAMMAR_LINE: return "^[^\\u0000-\\u001f\\u007f-\\u009f]+$";
    case GRAMMAR_WORKER_ID: return "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";
    case GRAMMAR_GPU_ID: return "^[A-Za-z0-9][A-Za-z0-9._:/-]*$";
    case GRAMMAR_LABEL_NAME: return "^[A-Za-z0-9][A-Za-z0-9._/-]*$";
    case GRAMMAR_ENV_NAME: return "^[A-Za-z_][A-Za-z0-9_]*$";
    }
    return NULL;
}

bool field_may_be_null(const struct field_table *table, const struct field *field)
{
    if (table->is_request)
        return !(field->flags & FIELD_REQUIRED);
    switch (field->kind) {
    case FIELD_TEXT:
    case FIELD_CHARS: return !(field->flags & FIELD_REQUIRED);
    case FIELD_READING:
    case FIELD_FLAG_READING:
    case FIELD_SIGNAL_NAME:
    case FIELD_TIME: return true;
    case FIELD_INTEGER:
    case FIELD_UINT64:
    case FIELD_ENUM:
    case FIELD_OBJECTS: return field->flags & (FIELD_ZERO_IS_NULL | FIELD_NEGATIVE_IS_NULL | FIELD_IF_KNOWN);
    case FIELD_WORDS:
    case FIELD_UINT32:
    case FIELD_BOOL:
    case FIELD_IS_FIRST:
    case FIELD_TEXTS:
    case FIELD_PAIRS:
    case FIELD_OBJECT: return false;
    }
    return false;
}

static void describe_text(enum grammar grammar, size_t max_bytes, struct strbuf *b)
{
    strbuf_add_text(b, grammar_text(grammar));
    if (max_bytes && grammar != GRAMMAR_WORKER_ID)
        strbuf_printf(b, ", at most %zu bytes", max_bytes);
}

static void describe_integer(const struct field *field, struct strbuf *b)
{
    if (field->min == 0 && field->max == 0)
        strbuf_add_text(b, "an integer");
    else if (field->max == INT64_MAX)
        strbuf_printf(b, "an integer from %" PRId64, field->min);
    else
        strbuf_printf(b, "an integer from %" PRId64 " to %" PRId64, field->min, field->max);
}

void field_describe(const struct field *field, struct strbuf *b)
{
    switch (field->kind) {
    case FIELD_TEXT:
        strbuf_add_text(b, field->flags & FIELD_INTEGER_TOO ? "a string or an integer: " : "a string: ");
        describe_text(field->grammar, field->max_bytes, b);
        return;
    case FIELD_CHARS: strbuf_add_text(b, "a string: text"); return;
    case FIELD_INTEGER:
    case FIELD_READING: describe_integer(field, b); return;
    case FIELD_UINT32: strbuf_printf(b, "an integer from 0 to %" PRIu32, UINT32_MAX); return;
    case FIELD_UINT64: strbuf_add_text(b, "an integer from 0"); return;
    case FIELD_FLAG_READING:
    case FIELD_BOOL:
    case FIELD_IS_FIRST: strbuf_add_text(b, "true or false"); return;
    case FIELD_SIGNAL_NAME: strbuf_add_text(b, "a string: text"); return;
    case FIELD_ENUM:
        strbuf_add_text(b, "one of");
        for (size_t i = field->flags & FIELD_ZERO_IS_NULL ? 1 : 0; i < field->n_names; i++)
            strbuf_printf(b, " \"%s\"", field->names[i]);
        return;
    case FIELD_TIME: strbuf_add_text(b, "a string: RFC 3339 time in UTC"); return;
    case FIELD_WORDS: strbuf_add_text(b, "an array of strings"); return;
    case FIELD_TEXTS:
        strbuf_add_text(b, "an array of ");
        if (field->max_items)
            strbuf_printf(b, "at most %zu ", field->max_items);
        strbuf_add_text(b, "strings: each ");
        describe_text(field->grammar, field->max_bytes, b);
        return;
    case FIELD_PAIRS:
        strbuf_add_text(b, "an object of ");
        if (field->max_items)
            strbuf_printf(b, "at most %zu ", field->max_items);
        strbuf_add_text(b, "strings: names ");
        describe_text(field->name_grammar, field->max_name_bytes, b);
        strbuf_add_text(b, "; values ");
        describe_text(field->grammar, field->max_bytes, b);
        return;
    case FIELD_OBJECT: strbuf_printf(b, "an object: `%s`", field->table->name); return;
    case FIELD_OBJECTS: strbuf_printf(b, "an array of objects: `%s`", field->table->name); return;
    }
}

static enum pool_code refuse(struct pool_error *err, const char *path, const struct strbuf *requirement)
{
    pool_error_set(err, POOL_INVALID_REQUEST, "\"%s\" must be %s", path, strbuf_text(requirement));
    pool_error_set_field(err, "%s", path);
    return POOL_INVALID_REQUEST;
}

enum pool_code field_refuse(const struct field *field, struct pool_error *err)
{
    CLEANUP(strbuf_done) struct strbuf b = STRBUF_INIT(POOL_ERROR_MESSAGE_MAX);
    if (field->kind == FIELD_OBJECT) /* its members are named by errors of their own */
        strbuf_add_text(&b, "an object");
    else
        field_describe(field, &b);
    return refuse(err, field->name, &b);
}

enum pool_code field_refuse_item(const struct field *field, const char *path, struct pool_error *err)
{
    CLEANUP(strbuf_done) struct strbuf b = STRBUF_INIT(POOL_ERROR_MESSAGE_MAX);
    strbuf_add_text(&b, "a string: ");
    describe_text(field->grammar, field->max_bytes, &b);
    return refuse(err, path, &b);
}

void field_prefix(struct pool_error *err, const char *format, ...)
{
    if (!err)
        return;
    char path[2 * POOL_ERROR_FIELD_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(path, POOL_ERROR_FIELD_MAX, format, args);
    va_end(args);
    if (n < 0)
        return;
    size_t n_prefix = (size_t)n < POOL_ERROR_FIELD_MAX ? (size_t)n : POOL_ERROR_FIELD_MAX - 1;
    snprintf(path + n_prefix, sizeof path - n_prefix, "%s", err->field);
    pool_error_set_field(err, "%s", path);
}

static bool is_text_fine(enum grammar grammar, size_t max_bytes, const char *text)
{
    return text && (max_bytes == 0 || strlen(text) <= max_bytes) && keeps_grammar(grammar, text);
}

static enum pool_code check_count(const struct field *field, size_t n, struct pool_error *err)
{
    if (field->max_items == 0 || n <= field->max_items)
        return POOL_OK;
    field_refuse(field, err);
    pool_error_add_number(err, "count", n < INT64_MAX ? (int64_t)n : INT64_MAX);
    pool_error_add_number(err, "limit", (int64_t)field->max_items);
    return POOL_INVALID_REQUEST;
}

static enum pool_code check_texts(const struct field *field, const void *object, struct pool_error *err)
{
    size_t n = *(const size_t *)field_at(object, field->n_offset);
    char *const *texts = *(char *const *const *)field_at(object, field->offset);
    enum pool_code code = check_count(field, n, err);
    for (size_t i = 0; code == POOL_OK && i < n; i++) {
        if (!is_text_fine(field->grammar, field->max_bytes, texts[i])) {
            char path[POOL_ERROR_FIELD_MAX];
            snprintf(path, sizeof path, "%s[%zu]", field->name, i);
            code = field_refuse_item(field, path, err);
        }
    }
    return code;
}

static enum pool_code check_pair(const struct field *field, void *pairs, size_t i, struct pool_error *err)
{
    char path[POOL_ERROR_FIELD_MAX];
    const char *name = *pair_name(pairs, i);
    snprintf(path, sizeof path, "%s.%s", field->name, name ? name : "");
    if (!is_text_fine(field->name_grammar, field->max_name_bytes, name)) {
        CLEANUP(strbuf_done) struct strbuf b = STRBUF_INIT(POOL_ERROR_MESSAGE_MAX);
        strbuf_add_text(&b, "named by ");
        describe_text(field->name_grammar, field->max_name_bytes, &b);
        return refuse(err, path, &b);
    }
    if (!is_text_fine(field->grammar, field->max_bytes, *pair_value(pairs, i)))
        return field_refuse_item(field, path, err);
    for (size_t other = 0; other < i; other++) {
        const char *earlier = *pair_name(pairs, other);
        if (earlier && name && strcmp(earlier, name) == 0) {
            pool_error_set(err, POOL_INVALID_REQUEST, "\"%s\" is given twice", path);
            pool_error_set_field(err, "%s", path);
            return POOL_INVALID_REQUEST;
        }
    }
    return POOL_OK;
}

static enum pool_code check_pairs(const struct field *field, const void *object, struct pool_error *err)
{
    size_t n = *(const size_t *)field_at(object, field->n_offset);
    void *pairs = field_pointer(object, field->offset);
    enum pool_code code = check_count(field, n, err);
    for (size_t i = 0; code == POOL_OK && i < n; i++)
        code = check_pair(field, pairs, i, err);
    return code;
}

static bool is_in_range(const struct field *field, int64_t value)
{
    if (field->min == 0 && field->max == 0)
        return true;
    return value >= field->min && value <= field->max;
}

static enum pool_code check_text(const struct field *field, const char *text, struct pool_error *err)
{
    if (!text && (field->flags & FIELD_REQUIRED)) {
        pool_error_set(err, POOL_INVALID_REQUEST, "\"%s\" is missing", field->name);
        pool_error_set_field(err, "%s", field->name);
        return POOL_INVALID_REQUEST;
    }
    return !text || is_text_fine(field->grammar, field->max_bytes, text) ? POOL_OK : field_refuse(field, err);
}

static enum pool_code check_object(const struct field *field, const void *object, struct pool_error *err)
{
    enum pool_code code = fields_check(field->table, object, err);
    if (code == POOL_INVALID_REQUEST)
        field_prefix(err, "%s.", field->name);
    return code;
}

static enum pool_code check_field(const struct field *field, const void *object, struct pool_error *err)
{
    void *at = field_at(object, field->offset);
    switch (field->kind) {
    case FIELD_TEXT: return check_text(field, *(char **)at, err);
    case FIELD_INTEGER: return is_in_range(field, *(int64_t *)at) ? POOL_OK : field_refuse(field, err);
    case FIELD_READING: {
        const struct pool_reading *reading = at;
        return !reading->is_present || is_in_range(field, reading->value) ? POOL_OK
                                                                          : field_refuse(field, err);
    }
    case FIELD_TEXTS: return check_texts(field, object, err);
    case FIELD_PAIRS: return check_pairs(field, object, err);
    case FIELD_OBJECT: return check_object(field, at, err);
    case FIELD_CHARS:
    case FIELD_WORDS:
    case FIELD_UINT32:
    case FIELD_UINT64:
    case FIELD_FLAG_READING:
    case FIELD_SIGNAL_NAME:
    case FIELD_BOOL:
    case FIELD_ENUM:
    case FIELD_IS_FIRST:
    case FIELD_TIME:
    case FIELD_OBJECTS: return POOL_OK;
    }
    return POOL_OK;
}

enum pool_code fields_check(const struct field_table *table, const void *object, struct pool_error *err)
{
    enum pool_code code = POOL_OK;
    for (size_t i = 0; code == POOL_OK && i < table->n_fields; i++)
        code = check_field(&table->fields[i], object, err);
    return code;
}
