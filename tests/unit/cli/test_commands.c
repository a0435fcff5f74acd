/*
 * The tables of the commands: that they are whole, that nothing in them contradicts, that every example is a line
 * that is understood, and that docs/cli.md says what they say. With POOL_UPDATE_DOCS=1 the page is written anew.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pool/gpu.h>

#include "base/file.h"
#include "base/strbuf.h"
#include "cli/help.h"
#include "cli/parser.h"

#define WORDS_MAX 32
#define PAGE_MAX  (1 << 20)

static size_t size_of_value(enum cli_value value)
{
    switch (value) {
    case CLI_FLAG: return sizeof(bool);
    case CLI_TEXT: return sizeof(const char *);
    case CLI_INTEGER:
    case CLI_BYTES: return sizeof(struct pool_reading);
    case CLI_TEXTS: return sizeof(struct cli_texts);
    }
    return 0;
}

static void check_option(const struct cli_command *command, const struct cli_option *option)
{
    bool is_number = option->value == CLI_INTEGER || option->value == CLI_BYTES;
    if (!option->name || !option->summary || (option->value == CLI_FLAG) != (option->unit == NULL))
        fail_msg("%s: an option is not whole", command->path);
    if (option->offset + size_of_value(option->value) > command->arguments_bytes)
        fail_msg("%s --%s: outside of the arguments", command->path, option->name);
    if (is_number != (option->max > option->min))
        fail_msg("%s --%s: range", command->path, option->name);
    if (option->summary[strlen(option->summary) - 1] == '.')
        fail_msg("%s --%s: a full stop", command->path, option->name);
    for (size_t i = 0; i < cli_n_global_options; i++) {
        if (strcmp(cli_global_options[i].name, option->name) == 0 ||
            (option->letter && cli_global_options[i].letter == option->letter))
            fail_msg("%s --%s: means something else everywhere", command->path, option->name);
    }
    for (const struct cli_option *other = command->options; other < option; other++) {
        if (strcmp(other->name, option->name) == 0 || (option->letter && other->letter == option->letter) ||
            other->offset == option->offset)
            fail_msg("%s --%s: twice", command->path, option->name);
    }
}

static void test_tables(void **state)
{
    (void)state;
    const struct cli_command *command;
    size_t n = 0;
    for (; (command = cli_command_at(n)); n++) {
        assert_true(cli_command_find(command->path) == command);
        if (!command->summary || !command->description || !command->run || command->n_examples == 0)
            fail_msg("%s is not whole", command->path);
        for (size_t i = 0; i < command->n_options; i++)
            check_option(command, &command->options[i]);
        for (size_t i = 0; i < command->n_positionals; i++) {
            const struct cli_positional *positional = &command->positionals[i];
            assert_true(positional->offset + size_of_value(positional->value) <= command->arguments_bytes);
            assert_true(positional->value == CLI_TEXT || positional->value == CLI_TEXTS);
            if (positional->value == CLI_TEXTS)
                assert_int_equal(i, command->n_positionals - 1);
            if (i > 0 && !positional->is_optional)
                assert_false(command->positionals[i - 1].is_optional);
        }
    }
    assert_null(cli_command_find("worker"));
    assert_true(cli_command_is_group("worker") && !cli_command_is_group("work") &&
                !cli_command_is_group("status"));
}

static void test_examples(void **state)
{
    (void)state;
    const struct cli_command *command;
    for (size_t i = 0; (command = cli_command_at(i)); i++) {
        for (size_t k = 0; k < command->n_examples; k++) {
            char text[512];
            const char *argv[WORDS_MAX];
            int argc = 0;
            snprintf(text, sizeof text, "%s", command->examples[k]);
            for (char *p = text; *p && argc < WORDS_MAX;) {
                argv[argc++] = p;
                p += strcspn(p, " ");
                if (*p)
                    *p++ = '\0';
            }
            assert_string_equal(argv[0], "rbees-pool");
            struct cli_globals globals = { 0 };
            struct parsed_line line = { 0 };
            struct pool_error error = POOL_ERROR_INIT;
            if (parse_line(argc, argv, &globals, &line, &error) != POOL_OK)
                fail_msg("%s: %s", command->examples[k], error.message);
            assert_true(line.command == command || globals.wants_version);
            parsed_line_done(&line);
        }
    }
}

/* ---- help and the page ---- */

static char *help_of(const struct cli_command *command, const char *group)
{
    char *text = NULL;
    size_t n = 0;
    FILE *file = open_memstream(&text, &n);
    assert_non_null(file);
    struct cli cli = { .out = file, .err = stderr };
    help_print(&cli, command, group);
    fclose(file);
    return text;
}

static void test_help_lines_fit(void **state)
{
    (void)state;
    const struct cli_command *command;
    for (size_t i = 0; (command = cli_command_at(i)); i++) {
        char *text = help_of(command, NULL);
        bool are_examples = false;
        for (char *line = text; *line; line += strcspn(line, "\n") + 1) {
            are_examples = are_examples || strncmp(line, "Examples\n", 9) == 0;
            size_t n = strcspn(line, "\n");
            if (!are_examples && n > 80)
                fail_msg("%s: %.*s", command->path, (int)n, line);
            if (n > 0 && line[n - 1] == ' ')
                fail_msg("%s: a blank at the end of '%.*s'", command->path, (int)n, line);
        }
        free(text);
    }
}

static void make_page(struct strbuf *page)
{
    const struct cli_command *command;
    strbuf_add_text(
        page, "# The command line\n\n"
              "This page is made from the tables of the commands; `rbees-pool help COMMAND` says the same.\n"
              "Data goes to standard output, everything else to standard error. With `--json` standard "
              "output has exactly one\nJSON document, also when the command fails: "
              "`{\"error\": {\"code\", \"message\", \"retriable\", \"details\"}}`.\n\n"
              "| exit status | codes |\n| --- | --- |\n");
    static const int statuses[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 130 };
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        const char *separator = " ";
        strbuf_printf(page, "| %d |", statuses[i]);
#define CODE(name, http, exit_code, retriable)           \
    if (exit_code == statuses[i]) {                      \
        strbuf_printf(page, "%s`%s`", separator, #name); \
        separator = ", ";                                \
    }
        POOL_CODES(CODE)
#undef CODE
        strbuf_add_text(page, statuses[i] == 1 ? ", and output that could not be written |\n" : " |\n");
    }
    char *overview = help_of(NULL, NULL);
    strbuf_printf(page, "\n```\n%s```\n", overview);
    free(overview);
    for (size_t i = 0; (command = cli_command_at(i)); i++) {
        char *text = help_of(command, NULL);
        const char *from = strstr(text, "\nOptions of every command\n");
        const char *behind = strstr(text, "\nExamples\n");
        assert_true(from && behind);
        strbuf_printf(page, "\n## %s\n\n```\n%.*s%s```\n", command->path, (int)(from - text), text, behind);
        free(text);
    }
}

static void test_page(void **state)
{
    (void)state;
    char path[4096];
    const char *source = getenv("POOL_SOURCE_DIR");
    struct strbuf page = STRBUF_INIT(PAGE_MAX);
    struct strbuf there = STRBUF_INIT(PAGE_MAX);
    snprintf(path, sizeof path, "%s/docs/cli.md", source ? source : ".");
    make_page(&page);
    assert_int_equal(page.failure, STRBUF_FINE);
    if (getenv("POOL_UPDATE_DOCS"))
        assert_int_equal(file_replace(path, page.data, page.n, 0644), 0);
    assert_int_equal(file_read(path, &there), 0);
    if (strcmp(strbuf_text(&page), strbuf_text(&there)) != 0)
        fail_msg("docs/cli.md is not what the tables say; POOL_UPDATE_DOCS=1 writes it anew");
    strbuf_done(&page);
    strbuf_done(&there);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_help_lines_fit),
        cmocka_unit_test(test_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
