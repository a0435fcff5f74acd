/*
 * Texts made safe, durations, and tables that fit.
 */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/device_text.h"
#include "cli/table.h"
#include "cli/terminal.h"

static const struct terminal ascii = { .is_utf8 = false };
static const struct terminal utf8 = { .is_utf8 = true };
static const struct terminal narrow = { .is_utf8 = true, .is_out_terminal = true, .columns = 40 };
static const struct terminal coloured = {
    .is_utf8 = true, .is_out_terminal = true, .columns = 80, .has_color = true
};

static void test_safe_texts(void **state)
{
    (void)state;
    static const struct {
        const char *text, *in_utf8, *in_ascii;
    } cases[] = {
        { "", "", "" },
        { "plain text", "plain text", "plain text" },
        { "\033[31mred\007", "\\x1b[31mred\\x07", "\\x1b[31mred\\x07" },
        { "a\nb\tc\rd", "a\\nb\\tc\\rd", "a\\nb\\tc\\rd" },
        { "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f", "gr??" },
        { "\xff\xfe", "\\xff\\xfe", "\\xff\\xfe" },
        { "cut \xe2\x82", "cut \\xe2\\x82", "cut \\xe2\\x82" },
        { "\xc2\x9b"
          "31m",
          "\\xc2\\x9b31m", "\\xc2\\x9b31m" },                                   /* CSI as a C1 control */
        { "x\xe2\x80\xaey", "x\\xe2\\x80\\xaey", "x\\xe2\\x80\\xaey" },         /* right-to-left override */
        { "x\xe2\x81\xa6y", "x\\xe2\\x81\\xa6y", "x\\xe2\\x81\\xa6y" },         /* an isolate */
        { "\xf3\xa0\x81\x81", "\\xf3\\xa0\\x81\\x81", "\\xf3\\xa0\\x81\\x81" }, /* a tag */
        { "\x7f", "\\x7f", "\\x7f" },
        { "\xf0\x9f\x90\x9d", "\xf0\x9f\x90\x9d", "?" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct strbuf in_utf8 = STRBUF_INIT(256);
        struct strbuf in_ascii = STRBUF_INIT(256);
        terminal_add_safe(&utf8, &in_utf8, cases[i].text);
        terminal_add_safe(&ascii, &in_ascii, cases[i].text);
        assert_string_equal(strbuf_text(&in_utf8), cases[i].in_utf8);
        assert_string_equal(strbuf_text(&in_ascii), cases[i].in_ascii);
        strbuf_done(&in_utf8);
        strbuf_done(&in_ascii);
    }
}

static void test_safe_lines(void **state)
{
    (void)state;
    struct strbuf b = STRBUF_INIT(256);
    terminal_add_safe_lines(&utf8, &b, "one\n\ttwo\r\n\0x\033", 13);
    assert_string_equal(strbuf_text(&b), "one\n\ttwo\\r\n\\x00x\\x1b");
    strbuf_reset(&b);
    terminal_add_safe_lines(&utf8, &b, "\xc3\xbc", 1); /* the rest of the character is not ours to look at */
    assert_string_equal(strbuf_text(&b), "\\xc3");
    strbuf_done(&b);
}

static void test_durations(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        { -5, "0 s" },
        { 0, "0 s" },
        { 999, "0 s" },
        { 59999, "59 s" },
        { 60000, "1 min" },
        { 3599999, "59 min" },
        { 3600000, "1 h 00 min" },
        { 86399999, "23 h 59 min" },
        { 86400000, "1 d 00 h" },
        { INT64_MAX, "106751991167 d 07 h" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[DURATION_TEXT_MAX];
        format_duration(cases[i].ms, text);
        assert_string_equal(text, cases[i].text);
    }
}

/* ---- tables ---- */

static const struct table_column columns[] = {
    { .title = "ID" },
    { .title = "MODEL", .may_shrink = true },
    { .title = "PORT", .is_right = true },
};

static char *print(struct table *table)
{
    char *text = NULL;
    size_t n = 0;
    FILE *file = open_memstream(&text, &n);
    assert_non_null(file);
    assert_true(table_print(table, file));
    fclose(file);
    return text;
}

static void test_table(void **state)
{
    (void)state;
    struct table table;
    table_init(&table, &utf8, columns, 3);
    table_add(&table, "w1");
    table_add(&table, "gr\xc3\xbc");
    table_printf(&table, "%d", 80);
    table_add(&table, "worker-2");
    table_add(&table, NULL);
    table_add(&table, "65535");
    char *text = print(&table);
    assert_string_equal(text, "ID        MODEL   PORT\n"
                              "w1        gr\xc3\xbc       80\n"
                              "worker-2  -      65535\n");
    free(text);
    table_done(&table);
}

static void test_table_that_fits(void **state)
{
    (void)state;
    struct table table;
    table_init(&table, &narrow, columns, 3);
    table_add(&table, "worker-0123456789");
    table_add(&table, "a-model-with-a-very-long-name.gguf");
    table_add(&table, "8001");
    char *text = print(&table);
    assert_string_equal(text, "ID                 MODEL            PORT\n"
                              "worker-0123456789  a-model-with-a\xe2\x80\xa6  8001\n");
    free(text);
    table_done(&table);
}

static void test_table_of_wide_characters(void **state)
{
    (void)state;
    locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (!locale)
        skip();
    uselocale(locale);
    struct table table;
    table_init(&table, &narrow, columns, 3);
    table_add(&table, "worker-0123456789");
    table_add(
        &table,
        "\xe6\xa8\xa1\xe5\x9e\x8b\xe6\xa8\xa1\xe5\x9e\x8b\xe6\xa8\xa1\xe5\x9e\x8b\xe6\xa8\xa1\xe5\x9e\x8b");
    table_add(&table, "8001");
    char *text = print(&table);
    assert_string_equal(
        text, "ID                 MODEL            PORT\n"
              "worker-0123456789  \xe6\xa8\xa1\xe5\x9e\x8b\xe6\xa8\xa1\xe5\x9e\x8b\xe6\xa8\xa1\xe5\x9e\x8b"
              "\xe6\xa8\xa1\xe2\x80\xa6  8001\n");
    free(text);
    table_done(&table);
    uselocale(LC_GLOBAL_LOCALE);
    freelocale(locale);
}

static void test_hostile_cells(void **state)
{
    (void)state;
    struct table table;
    table_init(&table, &coloured, columns, 3);
    table_add_styled(&table, STYLE_GOOD, "a\033]0;title\007");
    table_add(&table, "two\nlines");
    table_add(&table, "");
    char *text = print(&table);
    assert_non_null(strstr(text, "\033[32ma\\x1b]0;title\\x07\033[0m"));
    assert_non_null(strstr(text, "two\\nlines"));
    assert_null(strchr(text, '\007'));
    free(text);
    table_done(&table);
}

static void test_no_colours(void **state)
{
    (void)state;
    assert_string_equal(terminal_style_on(&utf8, STYLE_BAD), "");
    assert_string_equal(terminal_style_off(&utf8, STYLE_BAD), "");
    assert_string_equal(terminal_style_off(&coloured, STYLE_PLAIN), "");
    assert_string_equal(terminal_style_on(&coloured, STYLE_BAD), "\033[31m");
}

static void test_bars(void **state)
{
    (void)state;
    static const struct {
        int64_t total, ours, foreign;
        const char *bar;
    } cases[] = {
        { 10, 0, 0, ".........." },
        { 1000, 1, 0, "#........." },
        { 1000, 1000, 0, "##########" },
        { 1000, 505, 303, "#####+++.." },
        { 1000, 3000, 3000, "##########" },
        { 0, 5, 5, ".........." },
        { INT64_MAX, INT64_MAX / 2, INT64_MAX / 2, "####++++.." },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pool_ledger ledger = { .total_bytes = cases[i].total,
                                      .allocated_bytes = cases[i].ours,
                                      .foreign_bytes = cases[i].foreign };
        char bar[LEDGER_BAR_MAX];
        format_ledger_bar(&ascii, &ledger, bar);
        assert_string_equal(bar, cases[i].bar);
        format_ledger_bar(&utf8, &ledger, bar);
        assert_int_equal(terminal_width(&utf8, bar), LEDGER_BAR_CELLS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_safe_texts),
        cmocka_unit_test(test_safe_lines),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_table_that_fits),
        cmocka_unit_test(test_table_of_wide_characters),
        cmocka_unit_test(test_hostile_cells),
        cmocka_unit_test(test_no_colours),
        cmocka_unit_test(test_bars),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
