/*
 * rbees-pool help. The texts are laid out in help.c.
 */
#include <string.h>

#include "cli/commands.h"
#include "cli/help.h"

struct help_arguments {
    struct cli_texts words;
};

static enum pool_code run_help(struct cli *cli, const void *arguments, struct pool_error *err)
{
    const struct help_arguments *asked = arguments;
    const struct cli_texts *words = &asked->words;
    char path[CLI_PATH_MAX] = "";
    for (size_t i = 0; i < words->n && i <= CLI_WORDS_MAX; i++) {
        size_t n = strlen(path);
        snprintf(path + n, sizeof path - n, "%s%s", i > 0 ? " " : "", words->at[i]);
    }
    const struct cli_command *command = cli_command_find(path);
    bool is_group = words->n > 0 && cli_command_is_group(path);
    if (words->n > 0 && !command && !is_group)
        return pool_error_set(err, POOL_INVALID_REQUEST, "there is no command '%s'", path);
    if (cli->globals.is_json)
        return help_print_document(cli, command, is_group ? path : NULL, err);
    help_print(cli, command, is_group ? path : NULL);
    return POOL_OK;
}

static const struct cli_positional positionals[] = {
    { .name = "COMMAND",
      .value = CLI_TEXTS,
      .offset = offsetof(struct help_arguments, words),
      .is_optional = true,
      .summary = "What to explain: a command such as 'worker spawn', or the first words of several" },
};
static const char *const examples[] = { "rbees-pool help", "rbees-pool help worker",
                                        "rbees-pool help worker spawn" };

const struct cli_command help_command = {
    .path = "help",
    .summary = "Explain a command",
    .description = "Explains a command, or lists them all. With --json everything that is known of the "
                   "options is in one "
                   "document.",
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct help_arguments),
    .run = run_help,
};
