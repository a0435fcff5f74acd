/*
 * Writing for people: what the terminal can show, and texts from outside made safe for it. Control characters,
 * bytes that are not UTF-8 and characters that turn the direction of writing never reach an output as they are.
 */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/strbuf.h"

struct terminal {
    bool is_out_terminal;
    bool is_err_terminal;
    bool is_utf8;    /* of the locale's character type; nothing else of the locale is used */
    bool has_color;  /* out is a terminal, and nobody said no */
    int err_columns; /* of err; 0: not a terminal */
    int columns;     /* of out; 0: not a terminal, lines may have any length */
};

/* What a line that is drawn in place leaves free at its end: the cursor, and the "^C" that the terminal itself writes there. */
#define TERMINAL_REST_COLUMNS 3

enum terminal_style { STYLE_PLAIN, STYLE_HEAD, STYLE_GOOD, STYLE_WARN, STYLE_BAD, STYLE_DIM };

/* Looks at the descriptors 1 and 2, the locale (LC_CTYPE, set by the caller) and NO_COLOR, TERM, COLUMNS. */
void terminal_look(struct terminal *terminal, bool has_no_color);

/* Appends text made safe: what may not be shown as it is becomes \xNN, \n, \t, \r; outside UTF-8 also what is not
 * ASCII becomes ?. */
void terminal_add_safe(const struct terminal *terminal, struct strbuf *b, const char *text);
/* The same, and line feeds and tabs stay: for texts of many lines. n bytes, which may hold NULs. */
void terminal_add_safe_lines(const struct terminal *terminal, struct strbuf *b, const char *text, size_t n);
/* Columns that a safe text takes. */
size_t terminal_width(const struct terminal *terminal, const char *text);

/* Writes a text made safe. */
void terminal_print(const struct terminal *terminal, FILE *file, const char *text);
void terminal_print_lines(const struct terminal *terminal, FILE *file, const char *text, size_t n);
/* The escape sequences around a styled text, "" without colour. */
const char *terminal_style_on(const struct terminal *terminal, enum terminal_style style);
const char *terminal_style_off(const struct terminal *terminal, enum terminal_style style);
/* The mark that stands for what was cut: "…" or "..". */
const char *terminal_ellipsis(const struct terminal *terminal);

#define DURATION_TEXT_MAX 32
/* "4 s", "3 min", "2 h 05 min", "3 d 04 h"; never negative. */
void format_duration(int64_t ms, char text[DURATION_TEXT_MAX]);

#endif
