/*
 * Completion for bash.
 *
 * Source: bash(1), "Programmable Completion". The script finds the command by the words so far and asks a generated
 * function what may follow; it needs no bash-completion package.
 */
#include "cli/completion.h"

#include "cli/parser.h"

static const char head[] = "# bash completion for rbees-pool; made by `rbees-pool completion bash`.\n"
                           "\n"
                           "# The first column of a list of the pool.\n"
                           "_rbees_pool_column()\n"
                           "{\n"
                           "    \"${COMP_WORDS[0]}\" \"$@\" 2>/dev/null </dev/null | { read -r _; while read "
                           "-r name _; do echo \"$name\"; done; }\n"
                           "}\n";

static const char tail[] =
    "\n"
    "_rbees_pool()\n"
    "{\n"
    "    local current=${COMP_WORDS[COMP_CWORD]} path='' n=0 i word\n"
    "    local words='' options='' valued='' source=''\n"
    "    COMPREPLY=()\n"
    "    _rbees_pool_know ''\n"
    "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
    "        word=${COMP_WORDS[i]}\n"
    "        if [[ $word == -* ]]; then\n"
    "            if [[ $word != *=* && \" $valued \" == *\" $word \"* ]]; then\n"
    "                if ((i + 1 == COMP_CWORD)); then\n"
    "                    _rbees_pool_value \"$path\" \"$word\"\n"
    "                    _rbees_pool_reply \"$current\"\n"
    "                    return\n"
    "                fi\n"
    "                ((i++))\n"
    "            fi\n"
    "        elif [[ -n $words ]]; then\n"
    "            path=${path:+$path }$word\n"
    "            _rbees_pool_know \"$path\"\n"
    "        else\n"
    "            ((n++))\n"
    "        fi\n"
    "    done\n"
    "    if [[ $current == -* ]]; then\n"
    "        mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$current\")\n"
    "    elif [[ -n $words ]]; then\n"
    "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
    "    else\n"
    "        _rbees_pool_operand \"$path\" \"$n\"\n"
    "        _rbees_pool_reply \"$current\"\n"
    "    fi\n"
    "}\n"
    "\n"
    "_rbees_pool_reply()\n"
    "{\n"
    "    case $source in\n"
    "        '') ;;\n"
    "        files) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$1\") ;;\n"
    "        directories) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- \"$1\") "
    ";;\n"
    "        shells) mapfile -t COMPREPLY < <(compgen -W 'bash zsh fish' -- \"$1\") ;;\n"
    "        *) mapfile -t COMPREPLY < <(compgen -W \"$(_rbees_pool_column $source)\" -- \"$1\") ;;\n"
    "    esac\n"
    "}\n"
    "\n"
    "complete -F _rbees_pool rbees-pool\n";

static void add_options(struct strbuf *out, const struct cli_option *options, size_t n_options)
{
    for (size_t i = 0; i < n_options; i++)
        strbuf_printf(out, " --%s", options[i].name);
}

/* The words that may follow a group. */
static void write_group(struct strbuf *out, const char *group)
{
    struct completion_word word;
    strbuf_add_text(out, "        ");
    completion_quote(out, group);
    strbuf_add_text(out, ") words='");
    for (size_t i = 0; completion_word_at(group, i, &word); i++)
        strbuf_printf(out, "%s%s", i > 0 ? " " : "", word.word);
    strbuf_add_text(out, "' ;;\n");
}

static void write_know(struct strbuf *out)
{
    const struct cli_command *command;
    struct completion_groups groups;
    completion_find_groups(&groups);
    strbuf_add_text(
        out,
        "\n# What may follow the words of a command.\n_rbees_pool_know()\n{\n    words=''\n    options='");
    add_options(out, cli_global_options, cli_n_global_options);
    strbuf_add_text(out, "'\n    valued='");
    completion_add_valued(out, cli_global_options, cli_n_global_options);
    strbuf_add_text(out, "'\n    case $1 in\n");
    write_group(out, "");
    for (size_t i = 0; i < groups.n; i++)
        write_group(out, groups.at[i]);
    for (size_t i = 0; (command = cli_command_at(i)); i++) {
        if (command->n_options == 0)
            continue;
        strbuf_add_text(out, "        ");
        completion_quote(out, command->path);
        strbuf_add_text(out, ")\n            options+='");
        add_options(out, command->options, command->n_options);
        strbuf_add_text(out, "'\n            valued+='");
        completion_add_valued(out, command->options, command->n_options);
        strbuf_add_text(out, "'\n            ;;\n");
    }
    strbuf_add_text(out, "    esac\n}\n");
}

void completion_write_bash(struct strbuf *out)
{
    strbuf_add_text(out, head);
    write_know(out);
    completion_write_values(out);
    completion_write_operands(out);
    strbuf_add_text(out, tail);
}
