/*
 * The commands, one file each; commands.c puts them in order.
 */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/command.h"

extern const struct cli_command worker_spawn_command;
extern const struct cli_command worker_list_command;
extern const struct cli_command worker_stop_command;
extern const struct cli_command help_command;
extern const struct cli_command version_command;

#endif
