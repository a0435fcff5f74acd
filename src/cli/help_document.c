/*
 * The tables of the commands as JSON: what `help --json` prints, and docs/cli.md is made of.
 */
#include <string.h>

#include "cli/help.h"
#include "cli/json_document.h"
#include "cli/parser.h"

/* Appends; both are taken over, also on failure. NULL when memory is out, now or before. */
static json_t *append(json_t *list, json_t *value)
{
    if (json_array_append_new(list, value) == 0)
        return list;
    json_decref(list);
    return NULL;
}

static const char *name_of_value(enum cli_value value)
{
    static const char *const names[] = {
        [CLI_FLAG] = "flag",   [CLI_TEXT] = "text",   [CLI_INTEGER] = "integer",
        [CLI_BYTES] = "bytes", [CLI_TEXTS] = "texts",
    };
    return names[value];
}

static json_t *json_of_option(const struct cli_option *option)
{
    const char letter[2] = { option->letter, '\0' };
    bool is_number = option->value == CLI_INTEGER || option->value == CLI_BYTES;
    return json_pack("{s:s, s:o, s:s, s:s?, s:s?, s:b, s:o, s:o, s:s}", "name", option->name, "letter",
                     option->letter ? json_string(letter) : json_null(), "type", name_of_value(option->value),
                     "unit", option->unit, "default", option->default_text, "required", option->is_required,
                     "min", is_number ? json_integer(option->min) : json_null(), "max",
                     is_number ? json_integer(option->max) : json_null(), "summary", option->summary);
}

static json_t *json_of_options(const struct cli_option *options, size_t n_options)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n_options; i++)
        list = append(list, json_of_option(&options[i]));
    return list;
}

static json_t *json_of_positional(const struct cli_positional *positional, bool is_rest)
{
    return json_pack("{s:s, s:b, s:b, s:b, s:s}", "name", positional->name, "optional",
                     positional->is_optional || is_rest, "several", positional->value == CLI_TEXTS,
                     "behind_two_dashes", is_rest, "summary", positional->summary);
}

static json_t *json_of_command(const struct cli_command *command)
{
    json_t *positionals = json_array();
    json_t *examples = json_array();
    for (size_t i = 0; i < command->n_positionals; i++)
        positionals = append(positionals, json_of_positional(&command->positionals[i], false));
    if (command->rest)
        positionals = append(positionals, json_of_positional(command->rest, true));
    for (size_t i = 0; i < command->n_examples; i++)
        examples = append(examples, json_string(command->examples[i]));
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "path", command->path, "summary", command->summary,
                     "description", command->description, "arguments", positionals, "options",
                     json_of_options(command->options, command->n_options), "examples", examples);
}

enum pool_code help_print_document(const struct cli *cli, const struct cli_command *only, const char *group,
                                   struct pool_error *err)
{
    const struct cli_command *command;
    json_t *commands = json_array();
    for (size_t i = 0; (command = cli_command_at(i)); i++) {
        if (only ? command == only : help_is_in_group(command, group))
            commands = append(commands, json_of_command(command));
    }
    CLEANUP_JSON json_t *document = json_pack("{s:o, s:o}", "commands", commands, "options",
                                              json_of_options(cli_global_options, cli_n_global_options));
    return print_document(cli, document, err);
}
