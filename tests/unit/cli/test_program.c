/*
 * Whole command lines inside this process: exit status, exactly one document with --json, nothing on standard output
 * when a command fails without it. That workers live and die is seen through the real program (tests/system).
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

#include "base/file.h"
#include "base/json.h"
#include "cli/program.h"
#include "scratch_tree.h"

#define WORDS_MAX 16
#define TEXT_MAX  2048

static struct scratch_tree tree;
static char config[TEXT_MAX], home[TEXT_MAX];

/* "@" in the text is the folder of the test. */
static void write_file(const char *name, const char *format)
{
    char path[TEXT_MAX];
    char text[2 * TEXT_MAX];
    size_t n = 0;
    for (const char *p = format; *p; p++) {
        const char *piece = *p == '@' ? tree.root : (const char[]){ *p, '\0' };
        n += (size_t)snprintf(text + n, sizeof text - n, "%s", piece);
        assert_true(n < sizeof text);
    }
    snprintf(path, sizeof path, "%s/%s", tree.root, name);
    if (file_replace(path, text, n, 0600) != 0)
        fail_msg("writing %s", path);
}

static int make_tree(void **state)
{
    (void)state;
    scratch_tree_make(&tree);
    snprintf(config, sizeof config, "%s/pool.toml", tree.root);
    snprintf(home, sizeof home, "HOME=%s", tree.root);
    write_file("pool.toml", "[pool]\nid = \"unit\"\nstate_dir = \"@/state\"\nmodels_dirs = [\"@\"]\n"
                            "catalogs = [\"@/catalog.toml\"]\n[gpu]\ninventory = \"static:@/gpus.toml\"\n");
    write_file("catalog.toml", "[[models]]\nid = \"one\"\nname = \"One\"\nfile = \"@/one.gguf\"\nsize = 3\n"
                               "[[models]]\nid = \"two\"\nfile = \"@/two.gguf\"\n");
    write_file("gpus.toml", "[[gpus]]\nuuid = \"GPU-1\"\nname = \"Example\"\nvram_total_bytes = \"8 GiB\"\n");
    write_file("one.gguf", "one");
    write_file("bad.toml", "[workers]\nport_rnage = 1\n");
    return 0;
}

static int remove_tree(void **state)
{
    (void)state;
    scratch_tree_remove(&tree);
    return 0;
}

struct output {
    int status;
    char *out, *err;
};

static void output_done(struct output *output)
{
    free(output->out);
    free(output->err);
}

/* Words up to NULL; "@bad" is a bad configuration. */
static struct output run(const char *const *words, bool is_json)
{
    struct output output = { 0 };
    size_t n_out = 0;
    size_t n_err = 0;
    char bad[TEXT_MAX];
    const char *environment[] = { home, NULL };
    const char *argv[WORDS_MAX + 4] = { "rbees-pool", "--config", config };
    int argc = 3;
    if (is_json)
        argv[argc++] = "--json";
    snprintf(bad, sizeof bad, "%s/bad.toml", tree.root);
    for (size_t i = 0; words[i]; i++)
        argv[argc++] = strcmp(words[i], "@bad") == 0 ? bad : words[i];
    struct cli cli = { .out = open_memstream(&output.out, &n_out),
                       .err = open_memstream(&output.err, &n_err),
                       .environment = environment };
    assert_non_null(cli.out);
    assert_non_null(cli.err);
    output.status = cli_run(&cli, argc, argv);
    assert_null(cli.config);
    assert_null(cli.manager);
    fclose(cli.out);
    fclose(cli.err);
    return output;
}

static const struct line {
    const char *words[WORDS_MAX];
    int status;
    const char *key; /* of the document with --json */
    bool
        fails_with_output; /* what it prints is a list of problems, or a document that has the error inside */
} lines[] = {
    { { "help", NULL }, 0, "commands", false },
    { { "help", "worker", NULL }, 0, "commands", false },
    { { "help", "worker", "spawn", NULL }, 0, "commands", false },
    { { "worker", "--help", NULL }, 0, "commands", false },
    { { "--version", NULL }, 0, "version", false },
    { { "config", "show", NULL }, 0, "values", false },
    { { "config", "show", "--origin", NULL }, 0, "values", false },
    { { "config", "check", NULL }, 0, "valid", false },
    { { "config", "check", "--config", "@bad", NULL }, 2, "problems", true },
    { { "config", "show", "--config", "@bad", NULL }, 2, "error", false },
    { { "gpu", "list", NULL }, 0, "gpus", false },
    { { "gpu", "list", "-v", NULL }, 0, "gpus", false },
    { { "models", "list", NULL }, 0, "models", false },
    { { "models", "show", "one", NULL }, 0, "on_disk", false },
    { { "models", "show", "two", NULL }, 0, "condition", false },
    { { "models", "show", "three", NULL }, 3, "error", false },
    { { "models", "verify", "one", NULL }, 6, "error", false },
    { { "models", "verify", "--all", NULL }, 6, "models", false },
    { { "worker", "list", NULL }, 0, "workers", false },
    { { "worker", "list", "--all", NULL }, 0, "workers", false },
    { { "worker", "show", "none", NULL }, 3, "error", false },
    { { "worker", "logs", "none", NULL }, 3, "error", false },
    { { "worker", "stop", "none", NULL }, 3, "error", false },
    { { "worker", "wait", "none", NULL }, 3, "error", false },
    { { "worker", "spawn", "none", "-m", "one", NULL }, 3, "error", false },
    { { "worker", "spawn", "cpu", "-m", "two", "-n", NULL }, 3, "error", false },
    { { "status", NULL }, 0, "host_memory", false },
    { { "nothing", NULL }, 2, "error", false },
};

static void test_for_people(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct output output = run(lines[i].words, false);
        bool has_output = output.out[0] != '\0';
        bool has_errors = output.err[0] != '\0';
        bool is_right = output.status == lines[i].status;
        if (lines[i].status == 0)
            is_right = is_right && has_output && !has_errors;
        else
            is_right = is_right && has_errors && has_output == lines[i].fails_with_output;
        if (!is_right)
            print_error("line %zu: status %d\n%s%s", i, output.status, output.out, output.err);
        output_done(&output);
        assert_true(is_right);
    }
}

static void test_documents(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct output output = run(lines[i].words, true);
        struct json_failure failure;
        json_t *document = json_parse(output.out, strlen(output.out), &failure);
        bool is_right = output.status == lines[i].status && output.err[0] == '\0' && document &&
                        json_object_get(document, lines[i].key) != NULL;
        if (!is_right)
            print_error("line %zu: status %d\n%s%s", i, output.status, output.out, output.err);
        json_decref(document);
        output_done(&output);
        assert_true(is_right);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_for_people),
        cmocka_unit_test(test_documents),
    };
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
