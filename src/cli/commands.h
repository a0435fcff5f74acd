/*
 * The commands, one file each; command_table.h has their names.
 */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/command.h"

#define COMMAND(name) extern const struct cli_command name##_command;
#include "cli/command_table.h"
#undef COMMAND

#endif
