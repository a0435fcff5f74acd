/*
 * Entries of catalogs as text: what is written can be read back, and what is taken out is one entry and nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/toml.h"
#include "cli/catalog_file.h"

static void test_written_entries_can_be_read(void **state)
{
    (void)state;
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(65536);
    const struct catalog_entry_file files[] = { { "a \"b\".gguf", 5, "00" }, { "c\\d\n.gguf", 6, "11" } };
    const char *const backends[] = { "cpu", "cuda" };
    struct catalog_entry entry = { .id = "one",
                                   .name = "Ä \"name\"",
                                   .repo = "org/repo",
                                   .revision = "main",
                                   .n_files = 1,
                                   .files = files,
                                   .n_backends = 2,
                                   .backends = backends };
    strbuf_add_text(&text, "# mine");
    catalog_text_add(&text, &entry);
    entry.id = "two";
    entry.n_files = 2;
    entry.repo = entry.revision = NULL;
    entry.n_backends = 0;
    catalog_text_add(&text, &entry);
    if (text.failure != STRBUF_FINE)
        return; /* torture */
    struct toml_error error;
    struct toml_document *document = toml_parse(strbuf_text(&text), text.n, &error);
    if (!document && error.is_no_memory)
        return;
    assert_non_null(document);
    const struct toml_node *models = toml_child(toml_root(document), "models");
    assert_int_equal(models->n_children, 2);
    assert_string_equal(toml_child(&models->children[0], "file")->text, files[0].file);
    assert_string_equal(toml_child(&models->children[0], "name")->text, "Ä \"name\"");
    assert_int_equal(toml_child(&models->children[0], "backends")->n_children, 2);
    const struct toml_node *listed = toml_child(&models->children[1], "files");
    assert_int_equal(listed->n_children, 2);
    assert_string_equal(toml_child(&listed->children[1], "file")->text, files[1].file);
    assert_int_equal(toml_child(&listed->children[1], "size")->integer, 6);
    toml_free(document);
}

static void test_finding(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t line;
        const char *left; /* without the entry; NULL: it is not found */
    } cases[] = {
        { "[[models]]\nid = \"a\"\n", 1, "" },
        { "# top\n\n[[models]]\nid = \"a\"\n\n# of b\n[[models]]\nid = \"b\"\n", 3,
          "# top\n\n# of b\n[[models]]\nid = \"b\"\n" },
        { "# top\n\n[[models]]\nid = \"a\"\n\n# of b\n[[models]]\nid = \"b\"\n", 7,
          "# top\n\n[[models]]\nid = \"a\"\n\n# of b\n" },
        { "[[models]]\nid = \"a\"\nfiles = [\n  { file = \"x\" },\n]\n# end\n", 1, "# end\n" },
        { "  [[models]]\nid = \"a\"", 1, "" },
        { "models = [ { id = \"a\" } ]\n", 1, NULL },
        { "[[models]]\nid = \"a\"\n", 2, NULL },
        { "", 1, NULL },
        { "x", 0, NULL },
        { "x", 9, NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t from;
        size_t to;
        bool is_found = catalog_text_find(cases[i].text, cases[i].line, &from, &to);
        if (is_found != (cases[i].left != NULL))
            fail_msg("case %zu", i);
        if (!is_found)
            continue;
        char left[256];
        memcpy(left, cases[i].text, from);
        strncpy(left + from, cases[i].text + to, sizeof left - from);
        assert_string_equal(left, cases[i].left);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_entries_can_be_read),
        cmocka_unit_test(test_finding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
