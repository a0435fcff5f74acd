/*
 * TOML as a flat, read-only tree with positions. The parser is toml++, kept behind this C
 * interface; no exception crosses it. Positions are 1-based lines and columns (in code points).
 */
#ifndef BASE_TOML_H
#define BASE_TOML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum toml_kind {
    TOML_TABLE,
    TOML_ARRAY,
    TOML_STRING,
    TOML_INTEGER,
    TOML_REAL,
    TOML_BOOL,
    TOML_DATE /* any of the four date and time kinds; no value is kept */
};

/* Owned by its document. Keys of a table are in the order of the file. */
struct toml_node {
    enum toml_kind kind;
    uint32_t line, column;         /* of the value */
    uint32_t key_line, key_column; /* of the key; the value's own for array elements and the root */
    const char *key;               /* NULL for array elements and the root */
    const char *text;              /* STRING: NUL-terminated; a string with a NUL in it has n_text > strlen */
    size_t n_text;
    int64_t integer; /* INTEGER */
    double real;     /* REAL */
    bool boolean;    /* BOOL */
    size_t n_children;
    const struct toml_node *children; /* TABLE and ARRAY */
};

struct toml_document; /* opaque */

struct toml_error {
    bool is_no_memory;
    uint32_t line, column;
    char message[256];
};

/* Parses n bytes. Returns NULL and fills *error on a syntax error; also when brackets nest
 * more than 64 deep, a dotted key has more than 32 parts or a key has a NUL in it. */
struct toml_document *toml_parse(const char *text, size_t n, struct toml_error *error);
void toml_free(struct toml_document *document);
const struct toml_node *toml_root(const struct toml_document *document);
/* The child of a table with this key, or NULL. */
const struct toml_node *toml_child(const struct toml_node *table, const char *key);
/* Name of a kind for messages: "a string", "an integer", … */
const char *toml_kind_name(enum toml_kind kind);

#ifdef __cplusplus
}
#endif
#endif
