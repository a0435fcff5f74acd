/*
 * The parts of a completion that bash and zsh read alike: `case` patterns that say what a value may be.
 */
#include "cli/completion.h"

#include "cli/parser.h"

static const char *source_word(enum completion_source source)
{
    const char *list = completion_list_command(source);
    if (list)
        return list;
    return source == COMPLETE_FILES         ? "files"
           : source == COMPLETE_DIRECTORIES ? "directories"
           : source == COMPLETE_SHELLS      ? "shells"
                                            : "";
}

void completion_add_valued(struct strbuf *out, const struct cli_option *options, size_t n_options)
{
    for (size_t i = 0; i < n_options; i++) {
        if (options[i].value == CLI_FLAG)
            continue;
        strbuf_printf(out, " --%s", options[i].name);
        if (options[i].letter)
            strbuf_printf(out, " -%c", options[i].letter);
    }
}

static void write_value(struct strbuf *out, const char *path, const struct cli_option *option)
{
    enum completion_source source = completion_of_option(option);
    if (source == COMPLETE_NOTHING)
        return;
    strbuf_printf(out, "        '%s --%s'", path, option->name);
    if (option->letter)
        strbuf_printf(out, " | '%s -%c'", path, option->letter);
    strbuf_printf(out, ") source='%s' ;;\n", source_word(source));
}

/* The sources of options' values; those of every command stand for any path. */
void completion_write_values(struct strbuf *out)
{
    const struct cli_command *command;
    strbuf_add_text(out, "\n# What the value of an option may be.\n_rbees_pool_value()\n{\n    source=''\n   "
                         " case \"$1 $2\" in\n");
    for (size_t i = 0; (command = cli_command_at(i)); i++) {
        for (size_t k = 0; k < command->n_options; k++)
            write_value(out, command->path, &command->options[k]);
    }
    for (size_t i = 0; i < cli_n_global_options; i++) {
        enum completion_source source = completion_of_option(&cli_global_options[i]);
        if (source != COMPLETE_NOTHING)
            strbuf_printf(out, "        *' --%s') source='%s' ;;\n", cli_global_options[i].name,
                          source_word(source));
    }
    strbuf_add_text(out, "    esac\n}\n");
}

void completion_write_operands(struct strbuf *out)
{
    const struct cli_command *command;
    strbuf_add_text(out, "\n# What the Nth word behind a command may be.\n_rbees_pool_operand()\n{\n    "
                         "source=''\n    case \"$1 $2\" in\n");
    for (size_t i = 0; (command = cli_command_at(i)); i++) {
        for (size_t k = 0; k < command->n_positionals; k++) {
            enum completion_source source = completion_of_positional(command, k);
            bool goes_on = command->positionals[k].value == CLI_TEXTS;
            if (source != COMPLETE_NOTHING && goes_on)
                strbuf_printf(out, "        '%s '[0-9]*) source='%s' ;;\n", command->path,
                              source_word(source));
            else if (source != COMPLETE_NOTHING)
                strbuf_printf(out, "        '%s %zu') source='%s' ;;\n", command->path, k,
                              source_word(source));
        }
    }
    strbuf_add_text(out, "    esac\n}\n");
}
