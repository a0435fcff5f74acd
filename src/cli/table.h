/*
 * Tables for people: columns as wide as what is in them, cut where a terminal is narrower. All cells are texts that
 * are made safe on the way in.
 */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include "base/string_list.h"
#include "cli/terminal.h"

#define TABLE_COLUMNS_MAX 72 /* 64 GPUs against each other, and a few */

struct table_column {
    const char *title;
    bool is_right;   /* numbers */
    bool may_shrink; /* cut first when the terminal is too narrow; the rightmost such column first */
};

struct table {
    const struct terminal *terminal;
    const struct table_column *columns;
    size_t n_columns;
    struct string_list cells;    /* row by row; has_failed when memory ran out */
    enum terminal_style *styles; /* one a cell */
    size_t n_styles;
};

void table_init(struct table *table, const struct terminal *terminal, const struct table_column *columns,
                size_t n_columns);
void table_done(struct table *table);
/* Appends the next cell; NULL is shown as "-". */
void table_add(struct table *table, const char *text);
void table_add_styled(struct table *table, enum terminal_style style, const char *text);
void table_printf(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Writes head and rows. false: memory ran out while it was filled, and nothing was written. */
bool table_print(struct table *table, FILE *file);

#endif
