/*
 * rbees-pool config check: every problem of the configuration and of the catalogs it names.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "cli/commands.h"
#include "cli/json_document.h"
#include "cli/report.h"

struct check {
    const struct cli *cli;
    json_t *problems; /* with --json */
    size_t n_errors;
    bool is_out_of_memory;
};

static void take_problem(bool is_warning, const char *message, void *context)
{
    struct check *check = context;
    const struct cli *cli = check->cli;
    check->n_errors += !is_warning;
    if (cli->globals.is_json) {
        json_t *object = json_pack("{s:s, s:o}", "severity", is_warning ? "warning" : "error", "message",
                                   json_of_text(message));
        if (json_array_append_new(check->problems, object) < 0)
            check->is_out_of_memory = true;
        return;
    }
    enum terminal_style style = is_warning ? STYLE_WARN : STYLE_BAD;
    fprintf(cli->out, "%s%s%s: ", terminal_style_on(&cli->terminal, style), is_warning ? "warning" : "error",
            terminal_style_off(&cli->terminal, style));
    terminal_print(&cli->terminal, cli->out, message);
    fputc('\n', cli->out);
}

static void take_catalog_problem(struct check *check, const struct pool_catalog_problem *problem)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(65536);
    strbuf_add_text(&text, problem->path);
    if (problem->line > 0)
        strbuf_printf(&text, ":%" PRIu32 ":%" PRIu32, problem->line, problem->column);
    strbuf_add_text(&text, ": ");
    strbuf_add_text(&text, problem->message);
    check->is_out_of_memory = check->is_out_of_memory || text.failure == STRBUF_NO_MEMORY;
    take_problem(problem->is_warning, strbuf_text(&text), check);
}

static void check_catalogs(struct check *check, const struct pool_config *config)
{
    struct pool_catalog_problem *problems = NULL;
    struct pool_model_catalog *catalog = NULL;
    struct pool_error error = POOL_ERROR_INIT;
    size_t n_problems = 0;
    size_t n_before = check->n_errors;
    enum pool_code code = pool_model_catalog_open((const char *const *)config->catalogs, config->n_catalogs,
                                                  &catalog, &problems, &n_problems, &error);
    for (size_t i = 0; i < n_problems; i++)
        take_catalog_problem(check, &problems[i]);
    if (code == POOL_INSUFFICIENT_MEMORY)
        check->is_out_of_memory = true;
    else if (code != POOL_OK && check->n_errors == n_before) /* the syntax, or the file itself */
        take_problem(false, error.message, check);
    pool_catalog_problems_free(problems, n_problems);
    pool_model_catalog_close(catalog);
}

static enum pool_code finish(struct cli *cli, const struct check *check, struct pool_error *err)
{
    if (check->is_out_of_memory)
        return pool_error_no_memory(err);
    if (cli->globals.is_json) {
        CLEANUP_JSON json_t *document =
            json_pack("{s:b, s:o, s:O}", "valid", check->n_errors == 0, "file",
                      json_of_text(cli->config ? cli->config->file : cli->globals.config_file), "problems",
                      check->problems);
        enum pool_code code = print_document(cli, document, err);
        if (code != POOL_OK)
            return code;
        cli->is_reported = true;
    }
    if (check->n_errors > 0)
        return pool_error_set(err, POOL_INVALID_CONFIG, "%zu problem%s", check->n_errors,
                              check->n_errors == 1 ? "" : "s");
    if (!cli->globals.is_json) {
        terminal_print(&cli->terminal, cli->out,
                       cli->config->file ? cli->config->file : "the default configuration");
        fputs(": valid\n", cli->out);
    }
    return POOL_OK;
}

static enum pool_code run_check(struct cli *cli, const void *data, struct pool_error *err)
{
    (void)data;
    struct pool_config_override overrides[CLI_OVERRIDES_MAX];
    struct pool_config_sources sources = cli_config_sources(cli, overrides);
    struct pool_error error = POOL_ERROR_INIT;
    CLEANUP_JSON json_t *problems = json_array();
    struct check check = { .cli = cli, .problems = problems };
    if (!problems)
        return pool_error_no_memory(err);
    enum pool_code code = pool_config_check(&sources, take_problem, &check, &cli->config, &error);
    if (code == POOL_INSUFFICIENT_MEMORY)
        return pool_error_no_memory(err);
    if (code != POOL_OK && check.n_errors == 0)
        take_problem(false, error.message, &check);
    if (code == POOL_OK)
        check_catalogs(&check, cli->config);
    return finish(cli, &check, err);
}

static const char *const examples[] = { "rbees-pool config check",
                                        "rbees-pool config check --config new.toml" };

const struct cli_command config_check_command = {
    .path = "config check",
    .summary = "Check the configuration and the catalogs",
    .description =
        "Prints every problem and warning of the configuration, and of the catalogs that it names when it "
        "is valid itself. The exit status is 2 when there is a problem.",
    CLI_EXAMPLES(examples),
    .run = run_check,
};
