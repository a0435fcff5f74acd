/*
 * Completion for zsh.
 *
 * Source: zshcompsys(1), _describe and _files. The script finds the command by the words so far.
 */
#include "cli/completion.h"

#include "base/cleanup.h"
#include "cli/parser.h"

static const char head[] =
    "#compdef rbees-pool\n"
    "# zsh completion for rbees-pool; made by `rbees-pool completion zsh`.\n"
    "\n"
    "# The first column of a list of the pool.\n"
    "_rbees_pool_column()\n"
    "{\n"
    "    local -a names lines\n"
    "    local line\n"
    "    lines=(${(f)\"$(_call_program names $words[1] $@ 2>/dev/null </dev/null)\"})\n"
    "    for line in ${lines[2,-1]}; do names+=(${${(z)line}[1]}); done\n"
    "    compadd -a names\n"
    "}\n"
    "\n"
    "_rbees_pool_values()\n"
    "{\n"
    "    case $1 in\n"
    "        '') ;;\n"
    "        files) _files ;;\n"
    "        directories) _files -/ ;;\n"
    "        shells) compadd bash zsh fish ;;\n"
    "        *) _rbees_pool_column ${=1} ;;\n"
    "    esac\n"
    "}\n";

static const char tail[] = "\n"
                           "_rbees_pool()\n"
                           "{\n"
                           "    local path_so_far='' word source=''\n"
                           "    local -a followers flags valued\n"
                           "    local -i i n=0\n"
                           "    _rbees_pool_know ''\n"
                           "    for ((i = 2; i < CURRENT; i++)); do\n"
                           "        word=$words[i]\n"
                           "        if [[ $word == -* ]]; then\n"
                           "            if [[ $word != *=* ]] && (( ${valued[(Ie)$word]} )); then\n"
                           "                if (( i + 1 == CURRENT )); then\n"
                           "                    _rbees_pool_value \"$path_so_far\" $word\n"
                           "                    _rbees_pool_values \"$source\"\n"
                           "                    return\n"
                           "                fi\n"
                           "                (( i++ ))\n"
                           "            fi\n"
                           "        elif (( $#followers )); then\n"
                           "            path_so_far=${path_so_far:+$path_so_far }$word\n"
                           "            _rbees_pool_know \"$path_so_far\"\n"
                           "        else\n"
                           "            (( n++ ))\n"
                           "        fi\n"
                           "    done\n"
                           "    if [[ $words[CURRENT] == -* ]]; then\n"
                           "        _describe -o option flags\n"
                           "    elif (( $#followers )); then\n"
                           "        _describe command followers\n"
                           "    else\n"
                           "        _rbees_pool_operand \"$path_so_far\" $n\n"
                           "        _rbees_pool_values \"$source\"\n"
                           "    fi\n"
                           "}\n"
                           "\n"
                           "if [[ $funcstack[1] == _rbees-pool ]]; then\n"
                           "    _rbees_pool \"$@\"\n"
                           "else\n"
                           "    compdef _rbees_pool rbees-pool\n"
                           "fi\n";

/* "name:summary" in quotes; a colon in the name would end it. */
static void add_described(struct strbuf *out, const char *name, const char *summary)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(4096);
    strbuf_printf(&text, "%s:%s", name, summary);
    strbuf_add_char(out, ' ');
    completion_quote(out, strbuf_text(&text));
}

static void add_options(struct strbuf *out, const struct cli_option *options, size_t n_options)
{
    for (size_t i = 0; i < n_options; i++) {
        char name[80];
        snprintf(name, sizeof name, "--%s", options[i].name);
        strbuf_add_text(out, "\n           ");
        add_described(out, name, options[i].summary);
    }
}

static void write_group(struct strbuf *out, const char *group)
{
    struct completion_word word;
    strbuf_add_text(out, "        ");
    completion_quote(out, group);
    strbuf_add_text(out, ") followers=(");
    for (size_t i = 0; completion_word_at(group, i, &word); i++) {
        strbuf_add_text(out, "\n           ");
        add_described(out, word.word, word.summary);
    }
    strbuf_add_text(out, ") ;;\n");
}

static void write_know(struct strbuf *out)
{
    const struct cli_command *command;
    struct completion_groups groups;
    completion_find_groups(&groups);
    strbuf_add_text(out, "\n# What may follow the words of a command.\n_rbees_pool_know()\n{\n    "
                         "followers=()\n    flags=(");
    add_options(out, cli_global_options, cli_n_global_options);
    strbuf_add_text(out, ")\n    valued=(");
    completion_add_valued(out, cli_global_options, cli_n_global_options);
    strbuf_add_text(out, ")\n    case $1 in\n");
    write_group(out, "");
    for (size_t i = 0; i < groups.n; i++)
        write_group(out, groups.at[i]);
    for (size_t i = 0; (command = cli_command_at(i)); i++) {
        if (command->n_options == 0)
            continue;
        strbuf_add_text(out, "        ");
        completion_quote(out, command->path);
        strbuf_add_text(out, ")\n            flags+=(");
        add_options(out, command->options, command->n_options);
        strbuf_add_text(out, ")\n            valued+=(");
        completion_add_valued(out, command->options, command->n_options);
        strbuf_add_text(out, ")\n            ;;\n");
    }
    strbuf_add_text(out, "    esac\n}\n");
}

void completion_write_zsh(struct strbuf *out)
{
    strbuf_add_text(out, head);
    write_know(out);
    completion_write_values(out);
    completion_write_operands(out);
    strbuf_add_text(out, tail);
}
