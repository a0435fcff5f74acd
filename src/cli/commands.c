/*
 * The list of all commands.
 */
#include "cli/commands.h"

#include <string.h>

static const struct cli_command *const commands[] = {
#define COMMAND(name) &name##_command,
#include "cli/command_table.h"
#undef COMMAND
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

bool cli_command_is_group(const char *words)
{
    size_t n = strlen(words);
    for (size_t i = 0; n > 0 && i < CLI_COUNT(commands); i++) {
        if (strncmp(commands[i]->path, words, n) == 0 && commands[i]->path[n] == ' ')
            return true;
    }
    return false;
}
