/*
 * The list of all commands.
 */
#include "cli/commands.h"

#include <string.h>

static const struct cli_command *const commands[] = {
    &worker_spawn_command,  &worker_list_command, &worker_show_command, &worker_wait_command,
    &worker_stop_command,   &worker_logs_command, &models_list_command, &models_show_command,
    &models_verify_command, &gpu_list_command,    &status_command,      &config_show_command,
    &config_check_command,  &help_command,        &version_command,
};

const struct cli_command *cli_command_at(size_t index)
{
    return index < CLI_COUNT(commands) ? commands[index] : NULL;
}

const struct cli_command *cli_command_find(const char *path)
{
    for (size_t i = 0; i < CLI_COUNT(commands); i++) {
        if (strcmp(commands[i]->path, path) == 0)
            return commands[i];
    }
    return NULL;
}

bool cli_command_is_group(const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; n > 0 && i < CLI_COUNT(commands); i++) {
        if (strncmp(commands[i]->path, word, n) == 0 && commands[i]->path[n] == ' ')
            return true;
    }
    return false;
}
