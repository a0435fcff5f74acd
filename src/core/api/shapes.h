/*
 * Answers that are made of several tables, as data: what their members are. Plain structs need none, their field table
 * says it all. The schemas of the API are made of these and of the tables.
 */
#ifndef CORE_API_SHAPES_H
#define CORE_API_SHAPES_H

#include "core/api/fields.h"

enum shape_member_kind {
    SHAPE_FIELDS, /* all fields of `table`, in place */
    SHAPE_TYPE,   /* one object of the type `type` */
    SHAPE_TYPES,  /* an array of them */
    SHAPE_TEXT,
    SHAPE_TEXTS,
    SHAPE_INTEGER,
    SHAPE_BOOL,
    SHAPE_CODE,   /* the name of an error */
    SHAPE_DETAILS /* an object of whatever belongs to the case */
};

struct shape_member {
    const char *name; /* NULL for SHAPE_FIELDS */
    enum shape_member_kind kind;
    const char *about;
    const char *type;                /* SHAPE_TYPE, SHAPE_TYPES */
    const struct field_table *table; /* SHAPE_FIELDS */
    bool may_be_null;
    bool may_lack;
};

struct shape {
    const char *name;
    const char *about;
    const struct shape_member *members;
    size_t n_members;
};

/* NULL behind the last. */
const struct shape *shape_at(size_t i);
const struct field_table *shape_table_at(size_t i);

#endif
