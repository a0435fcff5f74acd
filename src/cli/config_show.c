/*
 * rbees-pool config show.
 */
#include <string.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/json_document.h"
#include "cli/report.h"

struct config_show_arguments {
    bool has_origin;
};

/* A file gets the values as they are, so that they can be read back; a terminal is protected. */
static void print_value(const struct cli *cli, const char *text)
{
    if (cli->terminal.is_out_terminal)
        terminal_print(&cli->terminal, cli->out, text);
    else
        fputs(text, cli->out);
}

/* "workers" of "workers.port_range", "backends.cpu" of "backends.cpu.ready.http". */
static size_t section_length(const char *key)
{
    const char *dot = strchr(key, '.');
    if (dot && strncmp(key, "backends.", 9) == 0) {
        const char *next = strchr(dot + 1, '.');
        dot = next ? next : dot;
    }
    return dot ? (size_t)(dot - key) : 0;
}

static void print_values(const struct cli *cli, const struct pool_config *config, bool has_origin)
{
    const char *section = "";
    size_t n_section = 0;
    print_value(cli, "# ");
    print_value(cli, config->file ? config->file : "no configuration file");
    fputc('\n', cli->out);
    for (size_t i = 0; i < pool_config_n_values(config); i++) {
        struct pool_config_value value = pool_config_value_at(config, i);
        size_t n = section_length(value.key);
        if (i == 0 || n != n_section || strncmp(section, value.key, n) != 0)
            fputc('\n', cli->out);
        section = value.key;
        n_section = n;
        print_value(cli, value.key);
        fputs(" = ", cli->out);
        print_value(cli, value.value);
        if (has_origin) {
            fprintf(cli->out, "  %s# ", terminal_style_on(&cli->terminal, STYLE_DIM));
            terminal_print(&cli->terminal, cli->out, value.origin);
            fputs(terminal_style_off(&cli->terminal, STYLE_DIM), cli->out);
        }
        fputc('\n', cli->out);
    }
}

static enum pool_code print_values_document(const struct cli *cli, const struct pool_config *config,
                                            struct pool_error *err)
{
    CLEANUP_JSON json_t *values = json_array();
    for (size_t i = 0; values && i < pool_config_n_values(config); i++) {
        struct pool_config_value value = pool_config_value_at(config, i);
        json_t *object = json_pack("{s:o, s:o, s:o}", "key", json_of_text(value.key), "value",
                                   json_of_text(value.value), "origin", json_of_text(value.origin));
        if (json_array_append_new(values, object) < 0)
            return pool_error_no_memory(err);
    }
    if (!values)
        return pool_error_no_memory(err);
    CLEANUP_JSON json_t *document =
        json_pack("{s:o, s:O}", "file", json_of_text(config->file), "values", values);
    return print_document(cli, document, err);
}

static enum pool_code run_show(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct config_show_arguments *arguments = data;
    const struct pool_config *config;
    enum pool_code code = cli_get_config(cli, &config, err);
    if (code != POOL_OK)
        return code;
    if (cli->globals.is_json)
        return print_values_document(cli, config, err);
    print_values(cli, config, arguments->has_origin);
    return POOL_OK;
}

static const struct cli_option options[] = {
    { .name = "origin",
      .offset = offsetof(struct config_show_arguments, has_origin),
      .summary = "Also where each value comes from: default, file and line, variable or flag" },
};
static const char *const examples[] = { "rbees-pool config show --origin",
                                        "rbees-pool config show --state-dir /tmp/pool" };

const struct cli_command config_show_command = {
    .path = "config show",
    .summary = "Show the configuration in use",
    .description =
        "Prints every value as TOML, merged from defaults, file, environment and flags; the output is a "
        "configuration file itself. With --json the values are TOML texts, and the origin is always there.",
    CLI_OPTIONS(options),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct config_show_arguments),
    .run = run_show,
};
