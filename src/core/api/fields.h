/*
 * A struct of the API as data: one row a field, with its place in the struct, its name and form in JSON, its
 * limits and what it means. Decoding, encoding, checking, freeing and docs/api-types.md all follow the rows, so
 * they can not disagree. Knows nothing of any particular struct; the tables are in tables.h.
 */
#ifndef CORE_API_FIELDS_H
#define CORE_API_FIELDS_H

#include <jansson.h>
#include <pool/error.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/strbuf.h"
#include "core/api/writer.h"

enum field_kind {
    FIELD_TEXT,         /* char *, owned; NULL: absent */
    FIELD_CHARS,        /* char[capacity]; "": absent */
    FIELD_WORDS,        /* char *, comma separated, an array of strings in JSON; NULL: none */
    FIELD_INTEGER,      /* int64_t */
    FIELD_UINT32,       /* uint32_t */
    FIELD_UINT64,       /* uint64_t; what int64 does not hold is null */
    FIELD_READING,      /* struct pool_reading */
    FIELD_FLAG_READING, /* struct pool_reading of 0 or 1, a bool in JSON */
    FIELD_SIGNAL_NAME,  /* struct pool_reading of a signal, shown as "SIGKILL"; not read back */
    FIELD_BOOL,         /* bool */
    FIELD_ENUM,         /* an enum whose names are `names` */
    FIELD_IS_FIRST,     /* an enum of two values, a bool in JSON: true for value 0 */
    FIELD_TIME,         /* int64_t wall milliseconds, RFC 3339 in JSON; 0: absent */
    FIELD_TEXTS,        /* char **, with a size_t count */
    FIELD_PAIRS,        /* array of struct {char *name, *value}, with a size_t count; an object in JSON */
    FIELD_OBJECT,       /* a struct in place, described by `table` */
    FIELD_OBJECTS,      /* array of structs described by `table`, with a size_t count */
};

enum grammar {
    GRAMMAR_ANY,        /* UTF-8 */
    GRAMMAR_VALUE,      /* no control characters */
    GRAMMAR_LINE,       /* the same, not empty */
    GRAMMAR_WORKER_ID,  /* [A-Za-z0-9][A-Za-z0-9._-]{0,63} */
    GRAMMAR_GPU_ID,     /* [A-Za-z0-9][A-Za-z0-9._:/-]*: an index, a UUID or "auto" */
    GRAMMAR_LABEL_NAME, /* [A-Za-z0-9][A-Za-z0-9._/-]{0,62} */
    GRAMMAR_ENV_NAME,   /* [A-Za-z_][A-Za-z0-9_]* */
};

enum {
    FIELD_REQUIRED = 1,
    FIELD_INTEGER_TOO = 2,      /* TEXT: an integer in JSON is taken as its decimal text */
    FIELD_ZERO_IS_NULL = 4,     /* INTEGER, UINT64, ENUM: 0 means absent */
    FIELD_NEGATIVE_IS_NULL = 8, /* INTEGER: -1 means absent */
    FIELD_IF_KNOWN = 16,        /* INTEGER, OBJECTS: absent when the bool at known_offset is false */
};

struct field_table;

struct field {
    const char *name;
    enum field_kind kind;
    size_t offset;
    unsigned flags;
    const char *about;
    size_t n_offset;           /* TEXTS, PAIRS, OBJECTS */
    size_t known_offset;       /* with FIELD_IF_KNOWN */
    size_t capacity;           /* CHARS */
    int64_t min, max;          /* INTEGER, READING: the range; both 0: any */
    size_t max_items;          /* TEXTS, PAIRS; 0: any number */
    size_t max_bytes;          /* TEXT, each of TEXTS, values of PAIRS; 0: any length */
    size_t max_name_bytes;     /* names of PAIRS */
    enum grammar grammar;      /* TEXT, each of TEXTS, values of PAIRS */
    enum grammar name_grammar; /* names of PAIRS */
    const char *const *names;  /* ENUM: n_names of them */
    size_t n_names;
    const struct field_table *table; /* OBJECT, OBJECTS */
    bool (*applies)(
        const void *object); /* NULL: always; when it does not, 0 or null is written, nothing is read */
};

struct field_table {
    const char *name;
    size_t size_bytes; /* of the struct */
    bool is_request;   /* unknown fields are refused, absent ones are left out and not written as null */
    const struct field *fields;
    size_t n_fields;
};

/*
 * Reads every field of the table from a JSON object into `object`, which has its defaults, then checks them as
 * fields_check does. On failure some are set: the caller frees the object. Errors: INVALID_REQUEST with field.
 */
enum pool_code fields_decode(const struct field_table *table, json_t *json, void *object,
                             struct pool_error *err);
/* Parses n bytes as an object and hands it over. Errors: INVALID_REQUEST, PAYLOAD_TOO_LARGE over max_bytes. */
enum pool_code fields_parse(const char *text, size_t n, size_t max_bytes, json_t **ret_json,
                            struct pool_error *err);
/* Checks grammar and ranges. Errors: INVALID_REQUEST with field. */
enum pool_code fields_check(const struct field_table *table, const void *object, struct pool_error *err);
/* Writes the members, without the braces. */
void fields_write(const struct field_table *table, const void *object, struct writer *w);
/* The same as a whole object; null for NULL. */
void fields_write_object(const struct field_table *table, const void *object, struct writer *w);
/* Frees what the fields own and leaves them empty, not the struct itself. */
void fields_clear(const struct field_table *table, void *object);
/* "an integer from 0 to 65535": what a field must be, for messages and documentation. */
void field_describe(const struct field *field, struct strbuf *b);
/* Whether null can stand for it: in a request in place of leaving it out, in an answer for what is not known. */
bool field_may_be_null(const struct field_table *table, const struct field *field);
/* The regular expression of a grammar, NULL for those that have none. */
const char *grammar_pattern(enum grammar grammar);
/* Sets INVALID_REQUEST for a field by what it must be. */
enum pool_code field_refuse(const struct field *field, struct pool_error *err);
/* The same for one item of TEXTS or one value of PAIRS, whose path is given. */
enum pool_code field_refuse_item(const struct field *field, const char *path, struct pool_error *err);
/* Puts a prefix before the path of the offending field: "workers[3]." */
void field_prefix(struct pool_error *err, const char *format, ...) POOL_PRINTF(2, 3);

static inline void *field_at(const void *object, size_t offset)
{
    return (char *)(uintptr_t)object + offset;
}

/* A pointer in the struct whose type is not known here; by memcpy, since pointers of different types may not alias. */
static inline void *field_pointer(const void *object, size_t offset)
{
    void *pointer;
    memcpy(&pointer, field_at(object, offset), sizeof pointer);
    return pointer;
}

static inline void field_set_pointer(void *object, size_t offset, void *pointer)
{
    memcpy(field_at(object, offset), &pointer, sizeof pointer);
}

/* Name and value of the i-th of PAIRS: struct pool_label and struct pool_env_var are two char pointers in a row. */
static inline char **pair_name(void *pairs, size_t i)
{
    return (char **)pairs + 2 * i;
}

static inline char **pair_value(void *pairs, size_t i)
{
    return (char **)pairs + 2 * i + 1;
}

#endif
