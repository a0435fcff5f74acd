/*
 * Help texts. Every word about a command is in its own file; here is only how it is laid out.
 */
#include "cli/help.h"

#include <string.h>

#include "cli/parser.h"

#define HELP_COLUMNS 80
#define OPTION_WIDTH 26

/* Words wrapped at HELP_COLUMNS behind `indent` blanks; `column` is where the output stands already. */
static void print_wrapped(FILE *file, const char *text, size_t indent, size_t column)
{
    while (*text) {
        size_t n = strcspn(text, " \n");
        if (n > 0 && column > indent && column + 1 + n > HELP_COLUMNS) {
            fputc('\n', file);
            column = 0;
        } else if (n > 0 && column > indent) {
            fputc(' ', file);
            column++;
        }
        if (n > 0 && column < indent) {
            fprintf(file, "%*s", (int)(indent - column), "");
            column = indent;
        }
        fwrite(text, 1, n, file);
        column += n;
        text += n;
        if (*text == '\n') { /* a line's end in a description is one in the help */
            fputc('\n', file);
            column = 0;
        }
        text += *text != '\0';
    }
    fputc('\n', file);
}

static void print_head(const struct cli *cli, const char *text)
{
    fprintf(cli->out, "\n%s%s%s\n", terminal_style_on(&cli->terminal, STYLE_HEAD), text,
            terminal_style_off(&cli->terminal, STYLE_HEAD));
}

/* A name and what it is, in two columns. */
static void print_row(const struct cli *cli, const char *name, const char *summary)
{
    size_t n = strlen(name) + 2;
    fprintf(cli->out, "  %s", name);
    if (n + 2 > OPTION_WIDTH) {
        fputc('\n', cli->out);
        n = 0;
    }
    print_wrapped(cli->out, summary, OPTION_WIDTH, n);
}

static void print_option(const struct cli *cli, const struct cli_option *option)
{
    char name[64];
    char summary[512];
    char letter[8] = "    ";
    if (option->letter)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    snprintf(name, sizeof name, "%s--%s%s%s", letter, option->name, option->unit ? " " : "",
             option->unit ? option->unit : "");
    snprintf(summary, sizeof summary, "%s%s%s%s%s%s", option->summary,
             option->default_text ? " (default: " : "", option->default_text ? option->default_text : "",
             option->default_text ? ")" : "",
             option->value == CLI_TEXTS ? "; may be given several times" : "",
             option->is_required ? "; required" : "");
    print_row(cli, name, summary);
}

static void print_usage_line(const struct cli *cli, const struct cli_command *command)
{
    fprintf(cli->out, "usage: " CLI_PROGRAM_NAME " %s", command->path);
    for (size_t i = 0; i < command->n_positionals; i++) {
        const struct cli_positional *positional = &command->positionals[i];
        fprintf(cli->out, positional->is_optional ? " [%s]%s" : " %s%s", positional->name,
                positional->value == CLI_TEXTS ? "..." : "");
    }
    for (size_t i = 0; i < command->n_options; i++) {
        if (command->options[i].is_required)
            fprintf(cli->out, " --%s %s", command->options[i].name, command->options[i].unit);
    }
    fputs(" [OPTION]...", cli->out);
    if (command->rest)
        fprintf(cli->out, " [-- %s...]", command->rest->name);
    fputc('\n', cli->out);
}

static void print_command(const struct cli *cli, const struct cli_command *command)
{
    print_usage_line(cli, command);
    fputc('\n', cli->out);
    print_wrapped(cli->out, command->description, 0, 0);
    if (command->n_positionals > 0 || command->rest)
        print_head(cli, "Arguments");
    for (size_t i = 0; i < command->n_positionals; i++)
        print_row(cli, command->positionals[i].name, command->positionals[i].summary);
    if (command->rest)
        print_row(cli, command->rest->name, command->rest->summary);
    if (command->n_options > 0)
        print_head(cli, "Options");
    for (size_t i = 0; i < command->n_options; i++)
        print_option(cli, &command->options[i]);
    print_head(cli, "Options of every command");
    for (size_t i = 0; i < cli_n_global_options; i++)
        print_option(cli, &cli_global_options[i]);
    if (command->n_examples > 0)
        print_head(cli, "Examples");
    for (size_t i = 0; i < command->n_examples; i++)
        fprintf(cli->out, "  %s\n", command->examples[i]);
}

bool help_is_in_group(const struct cli_command *command, const char *group)
{
    size_t n = group ? strlen(group) : 0;
    return !group || (strncmp(command->path, group, n) == 0 && command->path[n] == ' ');
}

static void print_commands(const struct cli *cli, const char *group)
{
    const struct cli_command *command;
    print_head(cli, "Commands");
    for (size_t i = 0; (command = cli_command_at(i)); i++) {
        if (help_is_in_group(command, group))
            print_row(cli, command->path, command->summary);
    }
    print_head(cli, "Options of every command");
    for (size_t i = 0; i < cli_n_global_options; i++)
        print_option(cli, &cli_global_options[i]);
}

void help_print(const struct cli *cli, const struct cli_command *command, const char *group)
{
    if (command) {
        print_command(cli, command);
        return;
    }
    fprintf(cli->out, "usage: " CLI_PROGRAM_NAME " %s%sCOMMAND [ARGUMENT]... [OPTION]...\n",
            group ? group : "", group ? " " : "");
    if (!group)
        fputs("\nStarts, watches and stops model workers on this machine.\n", cli->out);
    print_commands(cli, group);
    fprintf(cli->out, "\n'" CLI_PROGRAM_NAME " help %s%sCOMMAND' explains one of them.\n", group ? group : "",
            group ? " " : "");
}

void help_print_hint(const struct cli *cli, const struct cli_command *command, const char *group)
{
    const char *about = command ? command->path : group;
    fprintf(cli->err, "Try '" CLI_PROGRAM_NAME " help%s%s'.\n", about ? " " : "", about ? about : "");
}
