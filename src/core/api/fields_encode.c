/*
 * Writing and freeing structs by their tables; see fields.h.
 */
#include "core/api/fields.h"

#include <pool/gpu.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

static void write_reading(struct writer *w, const struct pool_reading *reading)
{
    if (reading->is_present)
        write_integer(w, reading->value);
    else
        write_null(w);
}

static void write_flag_reading(struct writer *w, const struct pool_reading *reading)
{
    if (reading->is_present)
        write_bool(w, reading->value != 0);
    else
        write_null(w);
}

static void write_signal_name(struct writer *w, const struct pool_reading *signal)
{
    const char *name = NULL;
    if (signal->is_present && signal->value > 0 && signal->value < NSIG)
        name = sigabbrev_np((int)signal->value);
    char text[24];
    snprintf(text, sizeof text, "SIG%s", name ? name : "");
    write_text(w, name ? text : NULL);
}

static void write_integer_field(struct writer *w, const struct field *field, const void *object)
{
    int64_t value = *(const int64_t *)field_at(object, field->offset);
    if (((field->flags & FIELD_IF_KNOWN) && !*(const bool *)field_at(object, field->known_offset)) ||
        ((field->flags & FIELD_ZERO_IS_NULL) && value == 0) ||
        ((field->flags & FIELD_NEGATIVE_IS_NULL) && value < 0))
        write_null(w);
    else
        write_integer(w, value);
}

static void write_unsigned(struct writer *w, const struct field *field, uint64_t value)
{
    if (value > INT64_MAX || (value == 0 && (field->flags & FIELD_ZERO_IS_NULL)))
        write_null(w);
    else
        write_integer(w, (int64_t)value);
}

static void write_enum(struct writer *w, const struct field *field, const void *at)
{
    unsigned value;
    memcpy(&value, at, sizeof value);
    bool is_absent = value >= field->n_names || (value == 0 && (field->flags & FIELD_ZERO_IS_NULL));
    write_text(w, is_absent ? NULL : field->names[value]);
}

static void write_time(struct writer *w, int64_t wall_ms)
{
    char text[RFC3339_MAX];
    bool is_absent = wall_ms == 0 || wall_ms < RFC3339_MIN_WALL_MS || wall_ms > RFC3339_MAX_WALL_MS;
    if (!is_absent)
        clock_format_rfc3339(wall_ms, text);
    write_text(w, is_absent ? NULL : text);
}

static void write_words(struct writer *w, const char *words)
{
    write_open(w, '[');
    for (const char *p = words ? words : ""; *p;) {
        size_t n_blank = strspn(p, ", ");
        p += n_blank;
        size_t n = strcspn(p, ",");
        if (n > 0)
            write_text_n(w, p, n);
        p += n;
    }
    write_close(w, ']');
}

static void write_texts(struct writer *w, const struct field *field, const void *object)
{
    size_t n = *(const size_t *)field_at(object, field->n_offset);
    char *const *texts = *(char *const *const *)field_at(object, field->offset);
    write_open(w, '[');
    for (size_t i = 0; i < n; i++)
        write_text(w, texts[i] ? texts[i] : "");
    write_close(w, ']');
}

static void write_pairs(struct writer *w, const struct field *field, const void *object)
{
    size_t n = *(const size_t *)field_at(object, field->n_offset);
    void *pairs = field_pointer(object, field->offset);
    write_open(w, '{');
    for (size_t i = 0; i < n; i++) {
        const char *name = *pair_name(pairs, i);
        const char *value = *pair_value(pairs, i);
        write_key(w, name ? name : "");
        write_text(w, value ? value : "");
    }
    write_close(w, '}');
}

static void write_objects(struct writer *w, const struct field *field, const void *object)
{
    if ((field->flags & FIELD_IF_KNOWN) && !*(const bool *)field_at(object, field->known_offset)) {
        write_null(w);
        return;
    }
    size_t n = *(const size_t *)field_at(object, field->n_offset);
    const char *items = field_pointer(object, field->offset);
    write_open(w, '[');
    for (size_t i = 0; i < n; i++)
        fields_write_object(field->table, items + i * field->table->size_bytes, w);
    write_close(w, ']');
}

static bool is_absent(const struct field *field, const void *object);

static bool is_empty(const struct field_table *table, const void *object)
{
    size_t i = 0;
    while (i < table->n_fields && is_absent(&table->fields[i], object))
        i++;
    return i == table->n_fields;
}

/* Whether a request leaves it out. */
static bool is_absent(const struct field *field, const void *object)
{
    const void *at = field_at(object, field->offset);
    switch (field->kind) {
    case FIELD_TEXT: return !*(char *const *)at;
    case FIELD_INTEGER: return (field->flags & FIELD_ZERO_IS_NULL) && *(const int64_t *)at == 0;
    case FIELD_READING:
    case FIELD_FLAG_READING: return !((const struct pool_reading *)at)->is_present;
    case FIELD_TEXTS:
    case FIELD_PAIRS: return *(const size_t *)field_at(object, field->n_offset) == 0;
    case FIELD_OBJECT: return is_empty(field->table, at);
    case FIELD_CHARS:
    case FIELD_WORDS:
    case FIELD_UINT32:
    case FIELD_UINT64:
    case FIELD_SIGNAL_NAME:
    case FIELD_BOOL:
    case FIELD_ENUM:
    case FIELD_IS_FIRST:
    case FIELD_TIME:
    case FIELD_OBJECTS: return false;
    }
    return false;
}

/* What stands where a field means nothing for this object: the number 0, or null. */
static void write_nothing(struct writer *w, const struct field *field)
{
    if (field->kind == FIELD_INTEGER && !(field->flags & (FIELD_ZERO_IS_NULL | FIELD_NEGATIVE_IS_NULL)))
        write_integer(w, 0);
    else
        write_null(w);
}

static void write_value(struct writer *w, const struct field *field, const void *object)
{
    const void *at = field_at(object, field->offset);
    const char *chars = at;
    unsigned choice;
    switch (field->kind) {
    case FIELD_TEXT: write_text(w, *(char *const *)at); return;
    case FIELD_CHARS: write_text_cut(w, *chars ? chars : NULL, field->capacity - 1); return;
    case FIELD_WORDS: write_words(w, *(char *const *)at); return;
    case FIELD_INTEGER: write_integer_field(w, field, object); return;
    case FIELD_UINT32: write_integer(w, *(const uint32_t *)at); return;
    case FIELD_UINT64: write_unsigned(w, field, *(const uint64_t *)at); return;
    case FIELD_READING: write_reading(w, at); return;
    case FIELD_FLAG_READING: write_flag_reading(w, at); return;
    case FIELD_SIGNAL_NAME: write_signal_name(w, at); return;
    case FIELD_BOOL: write_bool(w, *(const bool *)at); return;
    case FIELD_ENUM: write_enum(w, field, at); return;
    case FIELD_IS_FIRST:
        memcpy(&choice, at, sizeof choice);
        write_bool(w, choice == 0);
        return;
    case FIELD_TIME: write_time(w, *(const int64_t *)at); return;
    case FIELD_TEXTS: write_texts(w, field, object); return;
    case FIELD_PAIRS: write_pairs(w, field, object); return;
    case FIELD_OBJECT: fields_write_object(field->table, at, w); return;
    case FIELD_OBJECTS: write_objects(w, field, object); return;
    }
}

void fields_write(const struct field_table *table, const void *object, struct writer *w)
{
    for (size_t i = 0; i < table->n_fields; i++) {
        const struct field *field = &table->fields[i];
        if (table->is_request && is_absent(field, object))
            continue;
        write_key(w, field->name);
        if (field->applies && !field->applies(object))
            write_nothing(w, field);
        else
            write_value(w, field, object);
    }
}

void fields_write_object(const struct field_table *table, const void *object, struct writer *w)
{
    if (!object) {
        write_null(w);
        return;
    }
    write_open(w, '{');
    fields_write(table, object, w);
    write_close(w, '}');
}

static void clear_objects(const struct field *field, void *object)
{
    size_t *n = field_at(object, field->n_offset);
    char *items = field_pointer(object, field->offset);
    for (size_t i = 0; i < *n; i++)
        fields_clear(field->table, items + i * field->table->size_bytes);
    free(items);
    field_set_pointer(object, field->offset, NULL);
    *n = 0;
}

static void clear_texts(const struct field *field, void *object)
{
    size_t *n = field_at(object, field->n_offset);
    char ***texts = field_at(object, field->offset);
    for (size_t i = 0; i < *n; i++)
        free((*texts)[i]);
    free(*texts);
    *texts = NULL;
    *n = 0;
}

static void clear_pairs(const struct field *field, void *object)
{
    size_t *n = field_at(object, field->n_offset);
    void *pairs = field_pointer(object, field->offset);
    for (size_t i = 0; i < *n; i++) {
        free(*pair_name(pairs, i));
        free(*pair_value(pairs, i));
    }
    free(pairs);
    field_set_pointer(object, field->offset, NULL);
    *n = 0;
}

void fields_clear(const struct field_table *table, void *object)
{
    for (size_t i = 0; i < table->n_fields; i++) {
        const struct field *field = &table->fields[i];
        char **text = field_at(object, field->offset);
        switch (field->kind) {
        case FIELD_TEXT:
        case FIELD_WORDS:
            free(*text);
            *text = NULL;
            break;
        case FIELD_TEXTS: clear_texts(field, object); break;
        case FIELD_PAIRS: clear_pairs(field, object); break;
        case FIELD_OBJECT: fields_clear(field->table, text); break;
        case FIELD_OBJECTS: clear_objects(field, object); break;
        case FIELD_CHARS:
        case FIELD_INTEGER:
        case FIELD_UINT32:
        case FIELD_UINT64:
        case FIELD_READING:
        case FIELD_FLAG_READING:
        case FIELD_SIGNAL_NAME:
        case FIELD_BOOL:
        case FIELD_ENUM:
        case FIELD_IS_FIRST:
        case FIELD_TIME: break;
        }
    }
}
