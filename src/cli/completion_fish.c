/*
 * Completion for fish.
 *
 * Source: complete(1) of fish. One `complete` a word and option, each with a condition on the words so far.
 */
#include "cli/completion.h"

#include "cli/parser.h"

static const char head[] =
    "# fish completion for rbees-pool; made by `rbees-pool completion fish`.\n"
    "\n"
    "# The words of the command so far, without options and their values.\n"
    "function __rbees_pool_words\n"
    "    set -l words (commandline -opc)\n"
    "    set -e words[1]\n"
    "    set -l skip 0\n"
    "    for word in $words\n"
    "        if test $skip -eq 1\n"
    "            set skip 0\n"
    "        else if string match -qr -- '^-' $word\n"
    "            contains -- $word $__rbees_pool_valued; and set skip 1\n"
    "        else\n"
    "            echo $word\n"
    "        end\n"
    "    end\n"
    "end\n"
    "\n"
    "# Whether the words so far are exactly these.\n"
    "function __rbees_pool_is\n"
    "    set -l words (__rbees_pool_words)\n"
    "    test \"$words\" = \"$argv\"\n"
    "end\n"
    "\n"
    "# Whether the words so far begin with these.\n"
    "function __rbees_pool_in\n"
    "    set -l words (__rbees_pool_words)\n"
    "    set -l n (count $argv)\n"
    "    test (count $words) -ge $n; and test \"$words[1..$n]\" = \"$argv\"\n"
    "end\n"
    "\n"
    "# Whether exactly N words follow these.\n"
    "function __rbees_pool_behind\n"
    "    set -l n $argv[1]\n"
    "    __rbees_pool_in $argv[2..-1]; and test (count (__rbees_pool_words)) -eq (math $n + (count $argv) - "
    "1)\n"
    "end\n"
    "\n"
    "# The first column of a list of the pool.\n"
    "function __rbees_pool_column\n"
    "    rbees-pool $argv 2>/dev/null </dev/null | tail -n +2 | string trim | string replace -r ' .*' ''\n"
    "end\n"
    "\n"
    "complete -c rbees-pool -f\n";

static void add_quoted(struct strbuf *out, const char *text)
{
    strbuf_add_char(out, '\'');
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            strbuf_add_char(out, '\\');
        strbuf_add_char(out, *text);
    }
    strbuf_add_char(out, '\'');
}

/* "-a '…'" or "-F" of what a value is completed with. */
static void add_source(struct strbuf *out, enum completion_source source)
{
    const char *list = completion_list_command(source);
    if (list)
        strbuf_printf(out, " -a '(__rbees_pool_column %s)'", list);
    else if (source == COMPLETE_FILES)
        strbuf_add_text(out, " -F");
    else if (source == COMPLETE_DIRECTORIES)
        strbuf_add_text(out, " -a '(__fish_complete_directories)'");
    else if (source == COMPLETE_SHELLS)
        strbuf_add_text(out, " -a 'bash zsh fish'");
}

static void write_words(struct strbuf *out, const char *group)
{
    struct completion_word word;
    for (size_t i = 0; completion_word_at(group, i, &word); i++) {
        strbuf_printf(out, "complete -c rbees-pool -n '__rbees_pool_is %s' -a %s -d ", group, word.word);
        add_quoted(out, word.summary);
        strbuf_add_char(out, '\n');
    }
}

static void write_option(struct strbuf *out, const char *path, const struct cli_option *option)
{
    strbuf_add_text(out, "complete -c rbees-pool");
    if (path)
        strbuf_printf(out, " -n '__rbees_pool_in %s'", path);
    strbuf_printf(out, " -l %s", option->name);
    if (option->letter)
        strbuf_printf(out, " -s %c", option->letter);
    if (option->value != CLI_FLAG)
        strbuf_add_text(out, completion_of_option(option) == COMPLETE_FILES ? " -r" : " -x");
    add_source(out, completion_of_option(option));
    strbuf_add_text(out, " -d ");
    add_quoted(out, option->summary);
    strbuf_add_char(out, '\n');
}

static void write_positional(struct strbuf *out, const struct cli_command *command, size_t index)
{
    enum completion_source source = completion_of_positional(command, index);
    if (source == COMPLETE_NOTHING)
        return;
    if (command->positionals[index].value == CLI_TEXTS)
        strbuf_printf(out, "complete -c rbees-pool -n '__rbees_pool_in %s'", command->path);
    else
        strbuf_printf(out, "complete -c rbees-pool -n '__rbees_pool_behind %zu %s'", index, command->path);
    add_source(out, source);
    strbuf_add_char(out, '\n');
}

/* Whether a letter always takes a value; one that is a flag elsewhere can not be told without the command. */
static bool is_valued_letter(char letter)
{
    const struct cli_command *command;
    for (size_t i = 0; (command = cli_command_at(i)); i++) {
        for (size_t k = 0; k < command->n_options; k++) {
            if (command->options[k].letter == letter && command->options[k].value == CLI_FLAG)
                return false;
        }
    }
    return letter != '\0';
}

static void add_valued(struct strbuf *out, const struct cli_option *options, size_t n_options)
{
    for (size_t i = 0; i < n_options; i++) {
        if (options[i].value == CLI_FLAG)
            continue;
        strbuf_printf(out, " --%s", options[i].name);
        if (is_valued_letter(options[i].letter))
            strbuf_printf(out, " -%c", options[i].letter);
    }
}

static void write_valued(struct strbuf *out)
{
    const struct cli_command *command;
    strbuf_add_text(out, "\n# Options that take a value.\nset -g __rbees_pool_valued");
    add_valued(out, cli_global_options, cli_n_global_options);
    for (size_t i = 0; (command = cli_command_at(i)); i++)
        add_valued(out, command->options, command->n_options);
    strbuf_add_text(out, "\n\n");
}

void completion_write_fish(struct strbuf *out)
{
    const struct cli_command *command;
    struct completion_groups groups;
    completion_find_groups(&groups);
    strbuf_add_text(out, head);
    write_valued(out);
    write_words(out, "");
    for (size_t i = 0; i < groups.n; i++)
        write_words(out, groups.at[i]);
    for (size_t i = 0; i < cli_n_global_options; i++)
        write_option(out, NULL, &cli_global_options[i]);
    for (size_t i = 0; (command = cli_command_at(i)); i++) {
        for (size_t k = 0; k < command->n_options; k++)
            write_option(out, command->path, &command->options[k]);
        for (size_t k = 0; k < command->n_positionals; k++)
            write_positional(out, command, k);
    }
}
