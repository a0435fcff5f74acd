/*
 * The TOML reader: what becomes of each kind of value, positions of keys and values, syntax errors, and the limits.
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

#include "base/toml.h"

static struct toml_document *parse_text(const char *text)
{
    struct toml_error error = { 0 };
    struct toml_document *document = toml_parse(text, strlen(text), &error);
    if (!document)
        fail_msg("%u:%u: %s", error.line, error.column, error.message);
    return document;
}

static const struct toml_node *child(const struct toml_node *table, const char *key)
{
    const struct toml_node *node = toml_child(table, key);
    if (!node)
        fail_msg("no key %s", key);
    return node;
}

static void test_each_kind_of_value(void **state)
{
    (void)state;
    struct toml_document *document = parse_text("text = \"caf\\u00e9\"\n"
                                                "number = -9223372036854775808\n"
                                                "hex = 0xff\n"
                                                "real = 1.5\n"
                                                "yes = true\n"
                                                "day = 1979-05-27\n"
                                                "clock = 07:32:00\n"
                                                "both = 1979-05-27T07:32:00Z\n"
                                                "list = [1, \"two\", [3]]\n"
                                                "inline = { a = 1, b.c = 2 }\n"
                                                "empty = {}\n"
                                                "nul = \"a\\u0000b\"\n"
                                                "lines = \"\"\"one \\\n  \xca\x9e\"\"\"\n");
    const struct toml_node *root = toml_root(document);
    assert_int_equal(root->kind, TOML_TABLE);
    assert_null(root->key);
    assert_int_equal(root->n_children, 13);

    assert_int_equal(child(root, "text")->kind, TOML_STRING);
    assert_string_equal(child(root, "text")->text, "caf\xc3\xa9");
    assert_int_equal(child(root, "text")->n_text, 5);
    assert_int_equal(child(root, "number")->kind, TOML_INTEGER);
    assert_true(child(root, "number")->integer == INT64_MIN);
    assert_int_equal(child(root, "hex")->integer, 255);
    assert_int_equal(child(root, "real")->kind, TOML_REAL);
    assert_true(child(root, "real")->real > 1.49 && child(root, "real")->real < 1.51);
    assert_int_equal(child(root, "yes")->kind, TOML_BOOL);
    assert_true(child(root, "yes")->boolean);
    assert_int_equal(child(root, "day")->kind, TOML_DATE);
    assert_int_equal(child(root, "clock")->kind, TOML_DATE);
    assert_int_equal(child(root, "both")->kind, TOML_DATE);

    const struct toml_node *list = child(root, "list");
    assert_int_equal(list->kind, TOML_ARRAY);
    assert_int_equal(list->n_children, 3);
    assert_null(list->children[1].key);
    assert_string_equal(list->children[1].text, "two");
    assert_int_equal(list->children[2].children[0].integer, 3);

    const struct toml_node *table = child(root, "inline");
    assert_int_equal(table->kind, TOML_TABLE);
    assert_int_equal(child(child(table, "b"), "c")->integer, 2);
    assert_int_equal(child(root, "empty")->n_children, 0);
    assert_int_equal(child(root, "nul")->n_text, 3);
    assert_memory_equal(child(root, "nul")->text, "a\0b", 4);

    assert_string_equal(child(root, "lines")->text, "one \xca\x9e");

    assert_null(toml_child(root, "absent"));
    assert_null(toml_child(list, "absent"));
    toml_free(document);
}

static void test_keys_are_in_the_order_of_the_file(void **state)
{
    (void)state;
    struct toml_document *document = parse_text("zebra = 1\nant = 2\nmoth = 3\n[beta]\n[alpha]\n");
    const struct toml_node *root = toml_root(document);
    static const char *const expected[] = { "zebra", "ant", "moth", "beta", "alpha" };
    assert_int_equal(root->n_children, 5);
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(root->children[i].key, expected[i]);
    toml_free(document);
}

static void test_positions(void **state)
{
    (void)state;
    struct toml_document *document = parse_text("# first line\n"
                                                "  name = \"\xc3\xa9\"\n"
                                                "[[models]]\n"
                                                "id =   \"a\"\n"
                                                "[[models]]\n"
                                                "\"\xc3\xa9\xc3\xa9\" = 7\n");
    const struct toml_node *root = toml_root(document);
    const struct toml_node *name = child(root, "name");
    assert_int_equal(name->key_line, 2);
    assert_int_equal(name->key_column, 3);
    assert_int_equal(name->line, 2);
    assert_int_equal(name->column, 10);

    const struct toml_node *models = child(root, "models");
    assert_int_equal(models->n_children, 2);
    assert_int_equal(models->children[0].line, 3);
    assert_int_equal(models->children[1].line, 5);
    const struct toml_node *id = child(&models->children[0], "id");
    assert_int_equal(id->key_line, 4);
    assert_int_equal(id->key_column, 1);
    assert_int_equal(id->column, 8);
    /* Columns count code points: the quoted key of two is four wide, " = " three. */
    assert_int_equal(models->children[1].children[0].column, 8);
    toml_free(document);
}

static void test_syntax_errors_have_a_position(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        uint32_t line;
    } cases[] = {
        { "a = 1\nb = \n", 0, 2 },
        { "a = 1\na = 2\n", 0, 2 },
        { "[t]\n[t]\n", 0, 2 },
        { "x = \"open\n", 0, 1 },
        { "x = [1, 2\n", 0, 0 },
        { "a = 1\n\n= 3", 0, 3 },
        { "x = 9223372036854775808", 0, 1 },
        { "x = \"\xff\xfe\"", 0, 1 },
        { "x\0y = 1", 7, 1 },
        { "a = 1\n\"b\\u0000\" = 2\n", 0, 2 },
        { "<html>", 0, 1 },
        { "a = 1\n[`a.b]\n", 0, 2 },
        { "[[\x01]]\n", 0, 1 },
        { "a = { `b = 1 }\n", 0, 1 },
        { "a = 1\né = 2\n", 0, 2 },
        { "a = 1 \n", 0, 1 },
        { "a = [\nʞ]\n", 0, 2 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct toml_error error = { 0 };
        size_t n = cases[i].n > 0 ? cases[i].n : strlen(cases[i].text);
        struct toml_document *document = toml_parse(cases[i].text, n, &error);
        if (document)
            fail_msg("accepted: %s", cases[i].text);
        assert_false(error.is_no_memory);
        assert_true(error.message[0] != '\0');
        if (cases[i].line > 0)
            assert_int_equal(error.line, cases[i].line);
        assert_null(toml_parse(cases[i].text, n, NULL));
    }
}

static void test_empty_texts(void **state)
{
    (void)state;
    static const char *const texts[] = { "", "\n", "# nothing", "\xef\xbb\xbf",
                                         "\xef\xbb\xbf# after a mark" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct toml_document *document = parse_text(texts[i]);
        assert_int_equal(toml_root(document)->n_children, 0);
        toml_free(document);
    }
    struct toml_document *document = toml_parse(NULL, 0, NULL);
    assert_non_null(document);
    toml_free(document);
    toml_free(NULL);
}

/* "a" repeated with a separator, `n` times, behind a prefix. */
static char *repeat(const char *prefix, const char *part, size_t n, const char *suffix)
{
    size_t n_prefix = strlen(prefix), n_part = strlen(part), n_suffix = strlen(suffix);
    char *text = malloc(n_prefix + n * n_part + n_suffix + 1);
    assert_non_null(text);
    memcpy(text, prefix, n_prefix);
    for (size_t i = 0; i < n; i++)
        memcpy(text + n_prefix + i * n_part, part, n_part);
    memcpy(text + n_prefix + n * n_part, suffix, n_suffix + 1);
    return text;
}

static void test_depth_is_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *prefix, *part, *suffix;
        size_t n;
        bool is_fine;
    } cases[] = {
        { "[", "a.", "a]\n", 31, true },
        { "[", "a.", "a]\n", 32, false },
        { "[", "a.", "a]\n", 1000000, false },
        { "", "'a' . ", "a = 1\n", 1000000, false },
        { "", "\"\".", "a = 1\n", 1000000, false },
        { "x = { ", "a.", "a = 1 }\n", 1000000, false },
        { "x = \"\\\"\"\n", "a.", "a = 1\n", 1000000, false },
        { "x = \"\"\"\\\"\"\"\"\"\"\n", "a.", "a = 1\n", 1000000, false },
        { "x = '''\n\"'''''\n", "a.", "a = 1\n", 1000000, false },
        { "# it's\n", "a.", "a = 1\n", 1000000, false },
        { "x = ", "[", "", 100000, false },
        { "x = ", "{a=", "", 100000, false },
        { "", "[[a]]\n", "", 1000, true },
        /* dots that are no keys */
        { "x = '", ".", "'\n", 1000, true },
        { "x = \"", ".", "\"\n", 1000, true },
        { "x = \"\"\"", "'.\n", "\"\"\"\n", 1000, true },
        { "x = '''", "\".\n", "'''\n", 1000, true },
        { "# ", "a.", "\n", 1000, true },
        { "x = [", "1.5, ", "]\n", 1000, true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = repeat(cases[i].prefix, cases[i].part, cases[i].n, cases[i].suffix);
        struct toml_error error = { 0 };
        struct toml_document *document = toml_parse(text, strlen(text), &error);
        if ((document != NULL) != cases[i].is_fine)
            fail_msg("case %zu: %u:%u: %s", i, error.line, error.column, error.message);
        if (!document)
            assert_true(error.line > 0 && error.message[0] != '\0');
        toml_free(document);
        free(text);
    }
}

static void test_the_position_of_a_long_key(void **state)
{
    (void)state;
    char *text = repeat("x = 1\n  ", "a.", 100, "a = 1\n");
    struct toml_error error = { 0 };
    assert_null(toml_parse(text, strlen(text), &error));
    assert_int_equal(error.line, 2);
    assert_int_equal(error.column, 3);
    free(text);
}

static void test_names_of_kinds(void **state)
{
    (void)state;
    for (int kind = TOML_TABLE; kind <= TOML_DATE; kind++)
        assert_true(strlen(toml_kind_name((enum toml_kind)kind)) > 3);
    assert_string_equal(toml_kind_name(TOML_STRING), "a string");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_kind_of_value),
        cmocka_unit_test(test_keys_are_in_the_order_of_the_file),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_syntax_errors_have_a_position),
        cmocka_unit_test(test_empty_texts),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_the_position_of_a_long_key),
        cmocka_unit_test(test_names_of_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
