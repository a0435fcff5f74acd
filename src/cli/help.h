/*
 * Help, made from the tables of the commands.
 */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include "cli/program.h"

/* Explains a command, a group ("worker"), or with neither gives the overview of all. */
void help_print(const struct cli *cli, const struct cli_command *command, const char *group);
/* The same as JSON. */
POOL_MUST_CHECK enum pool_code help_print_document(const struct cli *cli, const struct cli_command *command,
                                                   const char *group, struct pool_error *err);
/* Whether a command's first word is this one; all are in the group NULL. */
bool help_is_in_group(const struct cli_command *command, const char *group);
/* Behind a usage error: how to get the help that is nearest to what was typed. */
void help_print_hint(const struct cli *cli, const struct cli_command *command, const char *group);

#endif
