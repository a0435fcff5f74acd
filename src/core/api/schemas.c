/*
 * The types of the API as JSON Schema (draft 2020-12, that of OpenAPI 3.1), made from the tables that requests and answers
 * are read and written by. Requests are closed: an unknown field is refused. Answers are open: readers ignore what they
 * do not know.
 */
#include <inttypes.h>
#include <pool/api.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "core/api/shapes.h"
#include "core/api/tables.h"

#define SCHEMAS_MAX_BYTES (1 << 20) /* there are as many as the code has types: some 60 KiB */
#define REF_MAX           96

static void write_ref(struct writer *w, const char *type)
{
    char ref[REF_MAX];
    snprintf(ref, sizeof ref, "#/components/schemas/%s", type);
    write_key(w, "$ref");
    write_text(w, ref);
}

/* "type": NAME, or [NAME, "null"]. */
static void write_type(struct writer *w, const char *type, bool may_be_null)
{
    write_key(w, "type");
    if (!may_be_null) {
        write_text(w, type);
        return;
    }
    write_open(w, '[');
    write_text(w, type);
    write_text(w, "null");
    write_close(w, ']');
}

static void write_range(struct writer *w, const struct field *field)
{
    if (field->min == 0 && field->max == 0)
        return;
    write_key(w, "minimum");
    write_integer(w, field->min);
    if (field->max == INT64_MAX)
        return;
    write_key(w, "maximum");
    write_integer(w, field->max);
}

static void write_integer_type(struct writer *w, bool may_be_null)
{
    write_type(w, "integer", may_be_null);
    write_key(w, "format");
    write_text(w, "int64");
}

/* Bytes bound characters: no text of so many bytes has more of them. */
static void write_text_rules(struct writer *w, enum grammar grammar, size_t max_bytes)
{
    if (max_bytes > 0) {
        write_key(w, "maxLength");
        write_integer(w, (int64_t)max_bytes);
    }
    if (grammar_pattern(grammar)) {
        write_key(w, "pattern");
        write_text(w, grammar_pattern(grammar));
    }
}

static void write_text_field(struct writer *w, const struct field *field, bool may_be_null)
{
    if (!(field->flags & FIELD_INTEGER_TOO)) {
        write_type(w, "string", may_be_null);
    } else {
        write_key(w, "type");
        write_open(w, '[');
        write_text(w, "string");
        write_text(w, "integer");
        if (may_be_null)
            write_text(w, "null");
        write_close(w, ']');
    }
    write_text_rules(w, field->grammar, field->max_bytes);
}

static void write_enum_field(struct writer *w, const struct field *field, bool may_be_null)
{
    write_key(w, "enum");
    write_open(w, '[');
    for (size_t i = field->flags & FIELD_ZERO_IS_NULL ? 1 : 0; i < field->n_names; i++)
        write_text(w, field->names[i]);
    if (may_be_null)
        write_null(w);
    write_close(w, ']');
}

static void write_texts_field(struct writer *w, const struct field *field, bool may_be_null)
{
    write_type(w, "array", may_be_null);
    if (field->max_items > 0) {
        write_key(w, "maxItems");
        write_integer(w, (int64_t)field->max_items);
    }
    write_key(w, "items");
    write_open(w, '{');
    write_type(w, "string", false);
    write_text_rules(w, field->grammar, field->max_bytes);
    write_close(w, '}');
}

static void write_pairs_field(struct writer *w, const struct field *field, bool may_be_null)
{
    write_type(w, "object", may_be_null);
    if (field->max_items > 0) {
        write_key(w, "maxProperties");
        write_integer(w, (int64_t)field->max_items);
    }
    if (field->max_name_bytes > 0) {
        write_key(w, "propertyNames");
        write_open(w, '{');
        write_text_rules(w, field->name_grammar, field->max_name_bytes);
        write_close(w, '}');
    }
    write_key(w, "additionalProperties");
    write_open(w, '{');
    write_type(w, "string", false);
    write_text_rules(w, field->grammar, field->max_bytes);
    write_close(w, '}');
}

static void write_objects_field(struct writer *w, const struct field *field, bool may_be_null)
{
    write_type(w, "array", may_be_null);
    write_key(w, "items");
    write_open(w, '{');
    write_ref(w, field->table->name);
    write_close(w, '}');
}

static void write_object_field(struct writer *w, const struct field *field, bool may_be_null)
{
    if (!may_be_null) {
        write_ref(w, field->table->name);
        return;
    }
    write_key(w, "anyOf");
    write_open(w, '[');
    write_open(w, '{');
    write_ref(w, field->table->name);
    write_close(w, '}');
    write_open(w, '{');
    write_type(w, "null", false);
    write_close(w, '}');
    write_close(w, ']');
}

static void write_time_field(struct writer *w, bool may_be_null)
{
    write_type(w, "string", may_be_null);
    write_key(w, "format");
    write_text(w, "date-time");
}

static void write_field(struct writer *w, const struct field_table *table, const struct field *field)
{
    bool may_be_null = field_may_be_null(table, field);
    write_key(w, field->name);
    write_open(w, '{');
    switch (field->kind) {
    case FIELD_TEXT: write_text_field(w, field, may_be_null); break;
    case FIELD_CHARS:
    case FIELD_SIGNAL_NAME: write_type(w, "string", may_be_null); break;
    case FIELD_INTEGER:
    case FIELD_READING:
        write_integer_type(w, may_be_null);
        write_range(w, field);
        break;
    case FIELD_UINT32:
    case FIELD_UINT64: write_integer_type(w, may_be_null); break;
    case FIELD_FLAG_READING:
    case FIELD_BOOL:
    case FIELD_IS_FIRST: write_type(w, "boolean", may_be_null); break;
    case FIELD_ENUM: write_enum_field(w, field, may_be_null); break;
    case FIELD_TIME: write_time_field(w, may_be_null); break;
    case FIELD_WORDS:
    case FIELD_TEXTS: write_texts_field(w, field, may_be_null); break;
    case FIELD_PAIRS: write_pairs_field(w, field, may_be_null); break;
    case FIELD_OBJECT: write_object_field(w, field, may_be_null); break;
    case FIELD_OBJECTS: write_objects_field(w, field, may_be_null); break;
    }
    write_key(w, "description");
    write_text(w, field->about);
    write_close(w, '}');
}

/* Every field of an answer is written; of a request only those that are required must be there. */
static void write_required_fields(struct writer *w, const struct field_table *table)
{
    for (size_t i = 0; i < table->n_fields; i++) {
        if (!table->is_request || (table->fields[i].flags & FIELD_REQUIRED))
            write_text(w, table->fields[i].name);
    }
}

static void write_table(struct writer *w, const struct field_table *table)
{
    write_key(w, table->name);
    write_open(w, '{');
    write_type(w, "object", false);
    write_key(w, "required");
    write_open(w, '[');
    write_required_fields(w, table);
    write_close(w, ']');
    write_key(w, "properties");
    write_open(w, '{');
    for (size_t i = 0; i < table->n_fields; i++)
        write_field(w, table, &table->fields[i]);
    write_close(w, '}');
    if (table->is_request) {
        write_key(w, "additionalProperties");
        write_bool(w, false);
    }
    write_close(w, '}');
}

static void write_codes(struct writer *w)
{
    static const enum pool_code codes[] = {
#define CODE(name, http, exit_code, retriable) POOL_##name,
        POOL_CODES(CODE)
#undef CODE
    };
    write_key(w, "enum");
    write_open(w, '[');
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (codes[i] != POOL_OK)
            write_text(w, pool_code_name(codes[i]));
    }
    write_close(w, ']');
}

static void write_type_member(struct writer *w, const struct shape_member *member)
{
    if (!member->may_be_null) {
        write_ref(w, member->type);
        return;
    }
    write_key(w, "anyOf");
    write_open(w, '[');
    write_open(w, '{');
    write_ref(w, member->type);
    write_close(w, '}');
    write_open(w, '{');
    write_type(w, "null", false);
    write_close(w, '}');
    write_close(w, ']');
}

static void write_array_member(struct writer *w, const struct shape_member *member)
{
    write_type(w, "array", member->may_be_null);
    write_key(w, "items");
    write_open(w, '{');
    if (member->kind == SHAPE_TYPES)
        write_ref(w, member->type);
    else
        write_type(w, "string", false);
    write_close(w, '}');
}

static void write_member(struct writer *w, const struct shape_member *member)
{
    write_key(w, member->name);
    write_open(w, '{');
    switch (member->kind) {
    case SHAPE_FIELDS: break;
    case SHAPE_TYPE: write_type_member(w, member); break;
    case SHAPE_TYPES:
    case SHAPE_TEXTS: write_array_member(w, member); break;
    case SHAPE_TEXT: write_type(w, "string", member->may_be_null); break;
    case SHAPE_INTEGER: write_integer_type(w, member->may_be_null); break;
    case SHAPE_BOOL: write_type(w, "boolean", member->may_be_null); break;
    case SHAPE_CODE: write_codes(w); break;
    case SHAPE_DETAILS: write_type(w, "object", member->may_be_null); break;
    }
    write_key(w, "description");
    write_text(w, member->about);
    write_close(w, '}');
}

static void write_shape(struct writer *w, const struct shape *shape)
{
    write_key(w, shape->name);
    write_open(w, '{');
    write_type(w, "object", false);
    write_key(w, "description");
    write_text(w, shape->about);
    write_key(w, "required");
    write_open(w, '[');
    for (size_t i = 0; i < shape->n_members; i++) {
        if (shape->members[i].kind == SHAPE_FIELDS)
            write_required_fields(w, shape->members[i].table);
        else if (!shape->members[i].may_lack)
            write_text(w, shape->members[i].name);
    }
    write_close(w, ']');
    write_key(w, "properties");
    write_open(w, '{');
    for (size_t i = 0; i < shape->n_members; i++) {
        const struct field_table *table = shape->members[i].table;
        if (shape->members[i].kind != SHAPE_FIELDS)
            write_member(w, &shape->members[i]);
        for (size_t f = 0; shape->members[i].kind == SHAPE_FIELDS && f < table->n_fields; f++)
            write_field(w, table, &table->fields[f]);
    }
    write_close(w, '}');
    write_close(w, '}');
}

enum pool_code pool_api_schemas_encode(char **ret_json, struct pool_error *err)
{
    CLEANUP(writer_done) struct writer w = WRITER_INIT(SCHEMAS_MAX_BYTES);
    write_open(&w, '{');
    for (size_t i = 0; shape_table_at(i); i++)
        write_table(&w, shape_table_at(i));
    for (size_t i = 0; shape_at(i); i++)
        write_shape(&w, shape_at(i));
    write_close(&w, '}');
    return writer_take(&w, ret_json, err);
}
