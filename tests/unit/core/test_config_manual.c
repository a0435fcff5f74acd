/*
 * The manual can not drift from the table of keys: examples/pool.toml is made from it, the lists in
 * docs/configuration.md too, and what is made has to be what lies there. After a change of the table:
 *     POOL_UPDATE_MANUAL=1 POOL_SOURCE_DIR=. build/tests/test_config_manual
 */
#include "config_sample.h"

#include <stdbool.h>

#include "core/config_loader.h"

#define FILE_MAX    (256 * 1024)
#define COLUMNS     100
#define BACKEND_KEY "backends.NAME."

/* What the example shows for keys whose default depends on the machine. */
static const struct {
    const char *name, *value;
} shown_values[] = {
    { "pool.id", "\"gpu-host-1\"" },
    { "pool.state_dir", "\"/var/lib/pool-core\"" },
    { "pool.models_dirs", "[\"/var/lib/pool-core/models\"]" },
    { "pool.catalogs", "[\"/etc/pool-core/catalog.toml\"]" },
    { "pool.advertise_host", "\"gpu-host-1.example.org\"" },
    { "daemon.socket", "\"/run/pool-core/daemon.sock\"" },
    { BACKEND_KEY "device", "\"gpu\"" },
    { BACKEND_KEY "extends", "\"cuda\"" },
    { BACKEND_KEY "command",
      "[\"/opt/engine/bin/engine\", \"--model\", \"{model_path}\", \"--port\", \"{port}\"]" },
    { BACKEND_KEY "ready.http", "\"/health\"" },
};

static const char *shown_value(const struct pool_config_key *key)
{
    for (size_t i = 0; i < sizeof shown_values / sizeof shown_values[0]; i++) {
        if (strcmp(shown_values[i].name, key->name) == 0)
            return shown_values[i].value;
    }
    assert_non_null(key->default_value);
    return key->default_value;
}

static void source_path(const char *name, char path[512])
{
    const char *dir = getenv("POOL_SOURCE_DIR");
    snprintf(path, 512, "%s/%s", dir ? dir : ".", name);
}

static char *read_source(const char *name)
{
    char path[512];
    source_path(name, path);
    FILE *file = fopen(path, "re");
    if (!file)
        fail_msg("%s can not be read; POOL_SOURCE_DIR names the folder of the project", path);
    char *text = calloc(1, FILE_MAX);
    assert_non_null(text);
    size_t n = fread(text, 1, FILE_MAX - 1, file);
    assert_int_equal(fclose(file), 0);
    assert_true(n > 0 && n < FILE_MAX - 1);
    return text;
}

/* Compares, or writes when asked to. */
static void settle(const char *name, const char *there, const char *made)
{
    if (getenv("POOL_UPDATE_MANUAL")) {
        char path[512];
        source_path(name, path);
        FILE *file = fopen(path, "we");
        assert_non_null(file);
        assert_true(fputs(made, file) >= 0);
        assert_int_equal(fclose(file), 0);
    } else if (strcmp(there, made) != 0) {
        size_t n = 0;
        while (there[n] == made[n])
            n++;
        fail_msg("%s is not what the table of keys says; from byte %zu on it should read: %.120s", name, n,
                 made + n);
    }
}

/* ---- examples/pool.toml ---- */

static void write_comment(FILE *out, const char *text)
{
    size_t column = 0;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (column > 0 && column + 1 + n > COLUMNS) {
            fputc('\n', out);
            column = 0;
        }
        column += (size_t)fprintf(out, "%s%.*s", column ? " " : "# ", (int)n, text);
        text += n + strspn(text + n, " ");
    }
    fputc('\n', out);
}

static void write_example_key(FILE *out, const struct pool_config_key *key, const char *name)
{
    char comment[1024];
    bool is_backend = strncmp(key->name, BACKEND_KEY, strlen(BACKEND_KEY)) == 0;
    int n = snprintf(comment, sizeof comment, "%s (%s%s%s)", key->summary, key->type,
                     key->unit[0] ? ", " : "", key->unit);
    if (key->default_note)
        snprintf(comment + n, sizeof comment - (size_t)n, " Default: %s.", key->default_note);
    else if (is_backend)
        snprintf(comment + n, sizeof comment - (size_t)n, " Default: %s.", key->default_value);
    fputc('\n', out);
    write_comment(out, comment);
    fprintf(out, "#%s = %s\n", name, shown_value(key));
}

static char *make_example(void)
{
    char *text = NULL;
    size_t n = 0;
    char section[64] = "";
    FILE *out = open_memstream(&text, &n);
    assert_non_null(out);
    fputs("# Every key of pool-core's configuration, with its default; where the default depends on the "
          "machine, with\n"
          "# an example. This file is made from the table of keys (tests/unit/core/test_config_manual.c).\n"
          "#\n"
          "# It is read from /etc/pool-core/pool.toml (root and the user pool) or "
          "~/.config/pool-core/pool.toml, or\n"
          "# from the file that --config or POOL_CONFIG names. A flag beats a variable beats this file.\n",
          out);
    /* Keys of no section have to come first. */
    for (size_t i = 0; i < pool_config_n_keys(); i++) {
        const struct pool_config_key *key = pool_config_key_at(i);
        if (!strchr(key->name, '.'))
            write_example_key(out, key, key->name);
    }
    for (size_t i = 0; i < pool_config_n_keys(); i++) {
        const struct pool_config_key *key = pool_config_key_at(i);
        bool is_backend = strncmp(key->name, BACKEND_KEY, strlen(BACKEND_KEY)) == 0;
        if (!strchr(key->name, '.'))
            continue;
        char own[64];
        size_t n_section = is_backend ? strlen(BACKEND_KEY) - 1 : strcspn(key->name, ".");
        snprintf(own, sizeof own, "%.*s", (int)n_section, key->name);
        if (strcmp(own, section) != 0) {
            snprintf(section, sizeof section, "%s", own);
            if (is_backend)
                fputs("\n# A backend of your own, or changes to a built-in one (cpu, cuda, metal, vllm, "
                      "native), of "
                      "which\n# the other fields stay.\n#[backends.engine]\n",
                      out);
            else
                fprintf(out, "\n[%s]\n", section);
        }
        write_example_key(out, key, key->name + n_section + 1);
    }
    assert_int_equal(fclose(out), 0);
    return text;
}

static void test_example_is_made_from_the_table(void **state)
{
    (void)state;
    char *made = make_example();
    char *there = read_source("examples/pool.toml");
    settle("examples/pool.toml", there, made);
    free(made);
    free(there);
}

/* Takes the '#' off lines "#key = value" and "#[section]". */
static void uncomment(char *text)
{
    for (char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (line[0] == '#' && ((line[1] >= 'a' && line[1] <= 'z') || line[1] == '['))
            line[0] = ' ';
    }
}

static void test_example_says_the_defaults(void **state)
{
    (void)state;
    struct config_sample s;
    sample_open(&s);
    char *text = read_source("examples/pool.toml");
    assert_int_equal(sample_load(&s, text), POOL_OK);
    uncomment(text);
    assert_int_equal(sample_load(&s, text), POOL_OK);
    struct pool_config *said = s.config;
    s.config = NULL;
    free(text);
    assert_int_equal(sample_load(&s, "pool.state_dir = \"/var/lib/pool-core\""), POOL_OK);
    for (size_t i = 0; i < pool_config_n_keys(); i++) {
        const struct pool_config_key *key = pool_config_key_at(i);
        char name[128];
        bool is_backend = strncmp(key->name, BACKEND_KEY, strlen(BACKEND_KEY)) == 0;
        snprintf(name, sizeof name, "%s%s", is_backend ? "backends.engine." : "",
                 is_backend ? key->name + strlen(BACKEND_KEY) : key->name);
        assert_string_not_equal(pool_config_origin(said, name), "default");
        if (!is_backend && key->default_value)
            assert_string_equal(sample_value(said, name).value, sample_value(s.config, name).value);
    }
    pool_config_free(said);
    sample_close(&s);
}

/* ---- docs/configuration.md ---- */

static void write_key_table(FILE *out, bool of_backends)
{
    fprintf(out, "| key | type | default | %smeaning |\n| --- | --- | --- | %s--- |\n",
            of_backends ? "" : "variable | ", of_backends ? "" : "--- | ");
    for (size_t i = 0; i < pool_config_n_keys(); i++) {
        const struct pool_config_key *key = pool_config_key_at(i);
        bool is_backend = strncmp(key->name, BACKEND_KEY, strlen(BACKEND_KEY)) == 0;
        if (is_backend != of_backends)
            continue;
        fprintf(out, "| `%s` | ", is_backend ? key->name + strlen(BACKEND_KEY) : key->name);
        for (const char *c = key->type; *c; c++)
            fputs(*c == '|' ? " or " : (char[]){ *c, '\0' }, out);
        fprintf(out, "%s%s | ", key->unit[0] ? ", " : "", key->unit);
        if (key->default_value)
            fprintf(out, "`%s` | ", key->default_value);
        else
            fprintf(out, "%s | ", key->default_note);
        if (!is_backend)
            fprintf(out, "`%s` | ", key->environment);
        fprintf(out, "%s |\n", key->summary);
    }
}

static void write_builtin(FILE *out)
{
    fputs("```toml\n", out);
    for (size_t i = 0; i < CONFIG_N_BUILTIN_BACKENDS; i++)
        fprintf(out, "%s[backends.%s", i ? "\n" : "", config_builtin_backends[i] + 1);
    fputs("```\n", out);
}

static void write_keys(FILE *out)
{
    write_key_table(out, false);
}

static void write_backend_keys(FILE *out)
{
    write_key_table(out, true);
}

static void test_documentation_has_the_table(void **state)
{
    (void)state;
    static const struct {
        const char *begin, *end;
        void (*write)(FILE *out);
    } blocks[] = {
        { "<!-- keys -->\n", "<!-- end of keys -->", write_keys },
        { "<!-- backend keys -->\n", "<!-- end of backend keys -->", write_backend_keys },
        { "<!-- built-in -->\n", "<!-- end of built-in -->", write_builtin },
    };
    char *there = read_source("docs/configuration.md");
    char *made = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&made, &n);
    assert_non_null(out);
    const char *rest = there;
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        const char *begin = strstr(rest, blocks[i].begin);
        assert_non_null(begin);
        begin += strlen(blocks[i].begin);
        const char *end = strstr(begin, blocks[i].end);
        assert_non_null(end);
        fwrite(rest, 1, (size_t)(begin - rest), out);
        blocks[i].write(out);
        rest = end;
    }
    fputs(rest, out);
    assert_int_equal(fclose(out), 0);
    settle("docs/configuration.md", there, made);
    free(made);
    free(there);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_example_is_made_from_the_table),
        cmocka_unit_test(test_example_says_the_defaults),
        cmocka_unit_test(test_documentation_has_the_table),
    };
    return cmocka_run_group_tests_name("configuration's manual", tests, NULL, NULL);
}
