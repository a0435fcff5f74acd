/*
 * Tables for people. What may be shown is the terminal's matter (terminal.c).
 */
#include "cli/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/utf8.h"

#define CELL_MAX_BYTES 65536
#define SHRUNK_MIN     8 /* columns that are left of a cell, at least */
#define COLUMN_GAP     2

void table_init(struct table *table, const struct terminal *terminal, const struct table_column *columns,
                size_t n_columns)
{
    *table = (struct table){ .terminal = terminal, .columns = columns, .n_columns = n_columns };
}

void table_done(struct table *table)
{
    string_list_done(&table->cells);
    free(table->styles);
}

void table_add_styled(struct table *table, enum terminal_style style, const char *text)
{
    struct strbuf safe = STRBUF_INIT(CELL_MAX_BYTES);
    terminal_add_safe(table->terminal, &safe, text ? text : "-");
    if (safe.failure == STRBUF_FINE && safe.n == 0)
        strbuf_add_char(&safe, '-');
    if (safe.failure == STRBUF_FULL) /* nothing of ours is that long; the rest of it is not shown */
        safe.failure = STRBUF_FINE;
    string_list_adopt(&table->cells, strbuf_take(&safe));
    strbuf_done(&safe);
    enum terminal_style *styles = reallocarray(table->styles, table->n_styles + 1, sizeof *styles);
    if (!styles) {
        table->cells.has_failed = true;
        return;
    }
    table->styles = styles;
    table->styles[table->n_styles++] = style;
}

void table_add(struct table *table, const char *text)
{
    table_add_styled(table, STYLE_PLAIN, text);
}

void table_printf(struct table *table, const char *format, ...)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(CELL_MAX_BYTES);
    va_list args;
    va_start(args, format);
    strbuf_vprintf(&text, format, args);
    va_end(args);
    if (text.failure == STRBUF_NO_MEMORY)
        table->cells.has_failed = true;
    table_add(table, strbuf_text(&text));
}

static void measure(const struct table *table, size_t *widths)
{
    for (size_t i = 0; i < table->n_columns; i++)
        widths[i] = strlen(table->columns[i].title);
    for (size_t i = 0, column = 0; i < table->cells.n; i++) {
        size_t width = terminal_width(table->terminal, table->cells.at[i]);
        if (width > widths[column])
            widths[column] = width;
        column = column + 1 < table->n_columns ? column + 1 : 0;
    }
}

/* Takes from the columns that may shrink, the rightmost first, until the table fits or nothing is left to take. */
static void shrink(const struct table *table, size_t *widths)
{
    size_t total = (table->n_columns - 1) * COLUMN_GAP;
    for (size_t i = 0; i < table->n_columns; i++)
        total += widths[i];
    size_t room = (size_t)table->terminal->columns;
    for (size_t i = table->n_columns; i-- > 0 && room > 0 && total > room;) {
        size_t least = strlen(table->columns[i].title);
        if (least < SHRUNK_MIN)
            least = SHRUNK_MIN;
        if (!table->columns[i].may_shrink || widths[i] <= least)
            continue;
        size_t taken = widths[i] - least < total - room ? widths[i] - least : total - room;
        widths[i] -= taken;
        total -= taken;
    }
}

/* Bytes of the text that fill at most `width` columns. */
static size_t fitting_bytes(const struct terminal *terminal, const char *text, size_t width)
{
    size_t n = 0;
    size_t used = 0;
    while (text[n]) {
        char one[8] = "";
        size_t length = utf8_length(text + n);
        if (length == 0)
            length = 1;
        memcpy(one, text + n, length);
        used += terminal_width(terminal, one);
        if (used > width)
            break;
        n += length;
    }
    return n;
}

static void print_padding(FILE *file, size_t n)
{
    fprintf(file, "%*s", (int)n, "");
}

static void print_cell(const struct table *table, FILE *file, size_t column, size_t width,
                       enum terminal_style style, const char *text)
{
    const struct terminal *terminal = table->terminal;
    size_t text_width = terminal_width(terminal, text);
    size_t shown = strlen(text);
    const char *mark = "";
    if (text_width > width) {
        mark = terminal_ellipsis(terminal);
        size_t mark_width = terminal_width(terminal, mark);
        shown = fitting_bytes(terminal, text, width - mark_width);
        text_width = mark_width;
        for (size_t i = 0; i < shown;) { /* a wide character may have left a column free */
            size_t length = utf8_length(text + i);
            char one[8] = "";
            memcpy(one, text + i, length ? length : 1);
            text_width += terminal_width(terminal, one);
            i += length ? length : 1;
        }
    }
    size_t padding = width > text_width ? width - text_width : 0;
    if (table->columns[column].is_right)
        print_padding(file, padding);
    fprintf(file, "%s%.*s%s%s", terminal_style_on(terminal, style), (int)shown, text, mark,
            terminal_style_off(terminal, style));
    if (column + 1 < table->n_columns) /* no blanks at a line's end */
        print_padding(file, (table->columns[column].is_right ? 0 : padding) + COLUMN_GAP);
    else
        fputc('\n', file);
}

bool table_print(struct table *table, FILE *file)
{
    size_t widths[TABLE_COLUMNS_MAX] = { 0 };
    if (table->cells.has_failed)
        return false;
    measure(table, widths);
    shrink(table, widths);
    for (size_t i = 0; i < table->n_columns; i++)
        print_cell(table, file, i, widths[i], STYLE_HEAD, table->columns[i].title);
    for (size_t i = 0, column = 0; i < table->cells.n; i++) {
        print_cell(table, file, column, widths[column], table->styles[i], table->cells.at[i]);
        column = column + 1 < table->n_columns ? column + 1 : 0;
    }
    return true;
}
