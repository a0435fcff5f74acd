/*
 * One run: parse, dispatch, show the error, make sure that what was written has arrived.
 */
#include "cli/program.h"
#include "cli/gpu_source.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <pool/pool.h>

#include "base/cleanup.h"
#include "cli/help.h"
#include "cli/parser.h"
#include "cli/remote.h"
#include "cli/report.h"

struct pool_config_sources cli_config_sources(const struct cli *cli, struct pool_config_override *overrides)
{
    struct pool_config_sources sources = { .struct_size = sizeof sources,
                                           .file = cli->globals.config_file,
                                           .environment = cli->environment,
                                           .overrides = overrides };
    if (cli->globals.state_dir)
        overrides[sources.n_overrides++] = (struct pool_config_override){ .key = "pool.state_dir",
                                                                          .value = cli->globals.state_dir,
                                                                          .flag = "--state-dir" };
    if (cli->globals.log_level)
        overrides[sources.n_overrides++] = (struct pool_config_override){ .key = "log_level",
                                                                          .value = cli->globals.log_level,
                                                                          .flag = "--log-level" };
    return sources;
}

static void report_config_warning(bool is_warning, const char *message, void *context)
{
    const struct cli *cli = context;
    if (is_warning && cli->globals.is_verbose)
        report_notice(cli, message);
}

enum pool_code cli_get_config(struct cli *cli, const struct pool_config **ret_config, struct pool_error *err)
{
    if (!cli->config) {
        struct pool_config_override overrides[CLI_OVERRIDES_MAX];
        struct pool_config_sources sources = cli_config_sources(cli, overrides);
        enum pool_code code = pool_config_check(&sources, report_config_warning, cli, &cli->config, err);
        if (code != POOL_OK)
            return code;
    }
    *ret_config = cli->config;
    return POOL_OK;
}

enum pool_code cli_get_manager(struct cli *cli, struct pool_manager **ret_manager, struct pool_error *err)
{
    if (!cli->manager) {
        const struct pool_config *config;
        enum pool_code code = cli_get_config(cli, &config, err);
        if (code != POOL_OK)
            return code;
        struct pool_manager_options options = { .struct_size = sizeof options,
                                                .environment = cli->environment,
                                                .is_unrestricted = true };
        if (gpu_source_is_helper(config) && !cli->gpu_inventory)
            code = gpu_source_open(config, &cli->gpu_inventory, err);
        options.gpu_inventory = cli->gpu_inventory;
        if (code == POOL_OK)
            code = pool_manager_open(config, &options, &cli->manager, err);
        if (code != POOL_OK)
            return code;
    }
    *ret_manager = cli->manager;
    return POOL_OK;
}

void cli_release_manager(struct cli *cli)
{
    if (cli->manager)
        report_notice(cli, pool_manager_notice(cli->manager));
    pool_manager_close(take_ptr(&cli->manager));
}

static void close_opened(struct cli *cli)
{
    cli_release_manager(cli);
    pool_gpu_inventory_close(take_ptr(&cli->gpu_inventory));
    remote_http_close(take_ptr(&cli->daemon));
    pool_config_free(take_ptr(&cli->config));
}

/* An error in the words themselves may stand before --json, and a script wants its document all the same. */
static bool asks_for_json(int argc, const char *const *argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--json") == 0)
            return true;
    }
    return false;
}

static int report_usage(struct cli *cli, int argc, const char *const *argv, const struct parsed_line *line,
                        const struct pool_error *error)
{
    cli->globals.is_json = cli->globals.is_json || asks_for_json(argc, argv);
    int status = report_error(cli, error);
    if (!cli->globals.is_json && error->code == POOL_INVALID_REQUEST)
        help_print_hint(cli, line->command, line->group);
    return status;
}

/* The option or positional that fills a field of the request ("env" of "env.PATH"); "" when there is none. */
static void find_flag(const struct cli_command *command, const char *field,
                      char flag[POOL_ERROR_FIELD_MAX + 8])
{
    size_t n = strcspn(field, ".[");
    flag[0] = '\0';
    for (size_t i = 0; i < command->n_options; i++) {
        const struct cli_option *option = &command->options[i];
        if (option->field && strlen(option->field) == n && strncmp(option->field, field, n) == 0)
            snprintf(flag, POOL_ERROR_FIELD_MAX + 8, "--%s%s%s", option->name, field[n] == '.' ? " " : "",
                     field[n] == '.' ? field + n + 1 : "");
    }
    for (size_t i = 0; i < command->n_positionals; i++) {
        const struct cli_positional *positional = &command->positionals[i];
        if (positional->field && strlen(positional->field) == n && strncmp(positional->field, field, n) == 0)
            snprintf(flag, POOL_ERROR_FIELD_MAX + 8, "%s", positional->name);
    }
}

/* The library and a daemon speak of fields of a request; who typed a command line knows its options. */
static void name_flag(const struct cli_command *command, struct pool_error *error)
{
    char flag[POOL_ERROR_FIELD_MAX + 8];
    char quoted[POOL_ERROR_FIELD_MAX + 3];
    char message[POOL_ERROR_MESSAGE_MAX];
    if (error->code != POOL_INVALID_REQUEST || !error->field[0])
        return;
    find_flag(command, error->field, flag);
    snprintf(quoted, sizeof quoted, "\"%s\"", error->field);
    char *at = flag[0] ? strstr(error->message, quoted) : NULL;
    if (!at)
        return;
    snprintf(message, sizeof message, "%.*s%s%s", (int)(at - error->message), error->message, flag,
             at + strlen(quoted));
    memcpy(error->message, message, sizeof message);
}

static enum pool_code run_command(struct cli *cli, const struct parsed_line *line, struct pool_error *err)
{
    if (cli->globals.wants_version)
        return cli_command_find("version")->run(cli, NULL, err);
    if (!cli->globals.wants_help)
        return line->command->run(cli, line->arguments, err);
    if (cli->globals.is_json)
        return help_print_document(cli, line->command, line->group, err);
    help_print(cli, line->command, line->group);
    return POOL_OK;
}

static int run_line(struct cli *cli, const struct parsed_line *line)
{
    struct pool_error error = POOL_ERROR_INIT;
    enum pool_code code = run_command(cli, line, &error);
    while (cli_may_run_again(cli, code)) {
        error = (struct pool_error)POOL_ERROR_INIT;
        code = run_command(cli, line, &error);
    }
    if (code != POOL_OK && line->command)
        name_flag(line->command, &error);
    int status = code == POOL_OK ? 0 : report_error(cli, &error);
    close_opened(cli);
    return status;
}

/* A full disk or a reader that went away must not look like success. A reader that has enough says so by closing its
 * end: that needs no words. */
static int flush_output(struct cli *cli, int status)
{
    errno = 0;
    bool has_failed = fflush(cli->out) != 0 || ferror(cli->out);
    if (!has_failed)
        return status;
    /* What failed in the middle of a long output has lost its reason: one more byte tells it. */
    int failure = errno;
    if (failure == 0 && write(fileno(cli->out), "\n", 1) < 0)
        failure = errno;
    if (failure != EPIPE)
        fprintf(cli->err, CLI_PROGRAM_NAME ": standard output: %s\n",
                failure ? strerrordesc_np(failure) : "not everything could be written");
    return status ? status : 1;
}

int cli_run(struct cli *cli, int argc, const char *const *argv)
{
    CLEANUP(parsed_line_done) struct parsed_line line = { 0 };
    struct pool_error error = POOL_ERROR_INIT;
    enum pool_code code = parse_line(argc, argv, &cli->globals, &line, &error);
    terminal_look(&cli->terminal, cli->globals.has_no_color);
    int status = code == POOL_OK ? run_line(cli, &line) : report_usage(cli, argc, argv, &line, &error);
    status = flush_output(cli, status);
    fflush(cli->err);
    return status;
}
