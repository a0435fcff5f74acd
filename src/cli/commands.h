/*
 * The commands, one file each; commands.c puts them in order.
 */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/command.h"

extern const struct cli_command worker_spawn_command;
extern const struct cli_command worker_list_command;
extern const struct cli_command worker_show_command;
extern const struct cli_command worker_wait_command;
extern const struct cli_command worker_stop_command;
extern const struct cli_command worker_logs_command;
extern const struct cli_command models_list_command;
extern const struct cli_command models_show_command;
extern const struct cli_command models_verify_command;
extern const struct cli_command gpu_list_command;
extern const struct cli_command status_command;
extern const struct cli_command config_show_command;
extern const struct cli_command config_check_command;
extern const struct cli_command help_command;
extern const struct cli_command version_command;

#endif
