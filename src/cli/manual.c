/*
 * Manual pages; see manual.h.
 *
 * Source: mdoc(7). Words of ours go into macro lines behind "\&", so that none is taken for a macro, and text lines are
 * escaped where they begin like a request.
 */
#include "cli/manual.h"

#include <string.h>

#include <pool/config.h>
#include <pool/pool.h>

#include "cli/parser.h"
#include "cli/program.h"

#define DATE        "November 25, 2026"
#define FLAG_MAX    64
#define BACKEND_KEY "backends.NAME."

/* ---- words ---- */

static void add_escaped(struct strbuf *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool is_first = i == 0 || text[i - 1] == '\n';
        if (text[i] == '\\')
            strbuf_add_text(out, "\\e");
        else if (text[i] == '-')
            strbuf_add_text(out, "\\-");
        else if (is_first && (text[i] == '.' || text[i] == '\''))
            strbuf_printf(out, "\\&%c", text[i]);
        else
            strbuf_add_char(out, text[i]);
    }
}

static void add_line(struct strbuf *out, const char *text)
{
    add_escaped(out, text, strlen(text));
    strbuf_add_char(out, '\n');
}

/* One argument of a macro. */
static void add_argument(struct strbuf *out, const char *text)
{
    strbuf_add_text(out, " \"\\&");
    for (; *text; text++) {
        if (*text == '"')
            strbuf_add_text(out, "\\(dq");
        else
            add_escaped(out, text, 1);
    }
    strbuf_add_char(out, '"');
}

/* Paragraphs, each sentence on a line of its own as mdoc wants it; a line's end stays one. */
static void add_paragraphs(struct strbuf *out, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        const char *stop = n > 0 ? memmem(text, n, ". ", 2) : NULL;
        if (stop && text[n - 1] != ':') {
            add_escaped(out, text, (size_t)(stop + 1 - text));
            strbuf_add_char(out, '\n');
            text = stop + 2;
            continue;
        }
        add_escaped(out, text, n);
        strbuf_add_char(out, '\n');
        text += n;
        if (text[0] == '\n' && text[1] == '\n') {
            strbuf_add_text(out, ".Pp\n");
            text += 2;
        } else if (*text == '\n') {
            strbuf_add_text(out, ".br\n");
            text++;
        }
    }
}

static void write_head(struct strbuf *out, const char *name, const char *section, const char *summary)
{
    strbuf_printf(out,
                  ".\\\" Made from the tables of the program; see src/cli/manual.c.\n.Dd " DATE
                  "\n.Dt %s %s\n.Os pool\\-core %s\n.Sh NAME\n.Nm ",
                  name, section, POOL_VERSION);
    for (const char *c = name; *c; c++)
        strbuf_add_char(out, *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c);
    strbuf_printf(out, "\n.Nd %s\n", summary);
}

/* ---- rbees-pool(1) ---- */

static void write_option(struct strbuf *out, const struct cli_option *option)
{
    char flag[FLAG_MAX];
    strbuf_add_text(out, ".It");
    if (option->letter)
        strbuf_printf(out, " Fl %c ,", option->letter);
    snprintf(flag, sizeof flag, "-%s", option->name);
    strbuf_add_text(out, " Fl");
    add_argument(out, flag);
    if (option->unit) {
        strbuf_add_text(out, " Ar");
        add_argument(out, option->unit);
    }
    strbuf_add_char(out, '\n');
    add_escaped(out, option->summary, strlen(option->summary));
    if (option->default_text) {
        strbuf_add_text(out, " (default: ");
        add_escaped(out, option->default_text, strlen(option->default_text));
        strbuf_add_char(out, ')');
    }
    strbuf_printf(out, "%s%s.\n", option->value == CLI_TEXTS ? "; may be given several times" : "",
                  option->is_required ? "; required" : "");
}

static void write_usage(struct strbuf *out, const struct cli_command *command)
{
    strbuf_add_text(out, ".Nm\n.Cm");
    add_argument(out, command->path);
    strbuf_add_char(out, '\n');
    for (size_t i = 0; i < command->n_positionals; i++) {
        strbuf_add_text(out, command->positionals[i].is_optional ? ".Op Ar" : ".Ar");
        add_argument(out, command->positionals[i].name);
        strbuf_add_text(out, command->positionals[i].value == CLI_TEXTS ? " ...\n" : "\n");
    }
    for (size_t i = 0; i < command->n_options; i++) {
        char flag[FLAG_MAX];
        if (!command->options[i].is_required)
            continue;
        snprintf(flag, sizeof flag, "-%s", command->options[i].name);
        strbuf_add_text(out, ".Fl");
        add_argument(out, flag);
        strbuf_add_text(out, " Ar");
        add_argument(out, command->options[i].unit);
        strbuf_add_char(out, '\n');
    }
    if (command->n_options > 0)
        strbuf_add_text(out, ".Op Ar option ...\n");
    if (command->rest) {
        strbuf_add_text(out, ".Op Fl \\&- Ar");
        add_argument(out, command->rest->name);
        strbuf_add_text(out, " ...\n");
    }
}

static void write_positional(struct strbuf *out, const struct cli_positional *positional)
{
    strbuf_add_text(out, ".It Ar");
    add_argument(out, positional->name);
    strbuf_add_char(out, '\n');
    add_escaped(out, positional->summary, strlen(positional->summary));
    strbuf_add_text(out, ".\n");
}

static void write_command(struct strbuf *out, const struct cli_command *command)
{
    bool has_list = command->n_options > 0 || command->n_positionals > 0 || command->rest;
    strbuf_add_text(out, ".Ss");
    add_argument(out, command->path);
    strbuf_add_char(out, '\n');
    write_usage(out, command);
    strbuf_add_text(out, ".Pp\n");
    add_paragraphs(out, command->description);
    if (has_list)
        strbuf_add_text(out, ".Bl -tag -width Ds\n");
    for (size_t i = 0; i < command->n_positionals; i++)
        write_positional(out, &command->positionals[i]);
    if (command->rest)
        write_positional(out, command->rest);
    for (size_t i = 0; i < command->n_options; i++)
        write_option(out, &command->options[i]);
    if (has_list)
        strbuf_add_text(out, ".El\n");
    strbuf_add_text(out, ".Pp\nExamples:\n.Bd -literal -offset indent\n");
    for (size_t i = 0; i < command->n_examples; i++)
        add_line(out, command->examples[i]);
    strbuf_add_text(out, ".Ed\n");
}

static void write_statuses(struct strbuf *out)
{
    static const int statuses[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 130 };
    static const struct {
        int status;
        const char *name;
    } codes[] = {
#define CODE(name, http, exit_code, retriable) { exit_code, #name },
        POOL_CODES(CODE)
#undef CODE
    };
    strbuf_add_text(out,
                    ".Sh EXIT STATUS\nEach error has a name, which is what is printed, and these have one:\n"
                    ".Bl -tag -width Ds\n");
    for (size_t i = 0; i < CLI_COUNT(statuses); i++) {
        const char *separator = "";
        strbuf_printf(out, ".It %d\n", statuses[i]);
        for (size_t k = 0; k < CLI_COUNT(codes); k++) {
            if (codes[k].status != statuses[i])
                continue;
            strbuf_printf(out, "%s%s", separator, codes[k].name);
            separator = ",\n";
        }
        strbuf_add_char(out, '\n');
    }
    strbuf_add_text(out, ".El\n");
}

void manual_write_command_line(struct strbuf *out)
{
    const struct cli_command *command;
    write_head(out, "RBEES-POOL", "1", "start, watch and stop model workers on this machine");
    strbuf_add_text(
        out, ".Sh SYNOPSIS\n.Nm\n.Ar command\n.Op Ar argument ...\n.Op Ar option ...\n.Sh DESCRIPTION\n"
             "Data goes to standard output, everything else to standard error.\n"
             "Where a\n.Xr pool-managerd 8\nruns for the state directory, it is asked;\n"
             "else the commands do the same work themselves.\n.Pp\n"
             "These options are for every command:\n.Bl -tag -width Ds\n");
    for (size_t i = 0; i < cli_n_global_options; i++)
        write_option(out, &cli_global_options[i]);
    strbuf_add_text(out, ".El\n.Sh COMMANDS\n");
    for (size_t i = 0; (command = cli_command_at(i)); i++)
        write_command(out, command);
    strbuf_add_text(out, ".Sh ENVIRONMENT\n.Bl -tag -width Ds\n"
                         ".It Ev POOL_CONFIG\nThe configuration file.\n"
                         ".It Ev POOL_URL\nThe daemon to ask.\n"
                         ".It Ev NO_COLOR\nNo colours when it is set and not empty.\n"
                         ".It Ev COLUMNS\nThe width of the terminal.\n.El\n"
                         "Every key of\n.Xr pool.toml 5\nhas a variable too.\n"
                         ".Sh FILES\nSee\n.Xr pool.toml 5 .\n");
    write_statuses(out);
    strbuf_add_text(out, ".Sh SEE ALSO\n.Xr pool.toml 5 ,\n.Xr pool-managerd 8\n");
}

/* ---- pool-managerd(8) ---- */

/* A line of the help that begins with an option: "  --config     FILE       the configuration file". */
static void write_help_line(struct strbuf *out, const char *line, size_t n)
{
    const char *end = line + n;
    const char *flag = line + strspn(line, " ");
    size_t n_flag = strcspn(flag, " \n");
    const char *value = flag + n_flag + strspn(flag + n_flag, " ");
    size_t n_value = strcspn(value, " \n");
    char word[FLAG_MAX];
    bool is_value = n_value > 0 && value + n_value < end;
    for (size_t i = 0; i < n_value; i++)
        is_value = is_value && !(value[i] >= 'a' && value[i] <= 'z');
    snprintf(word, sizeof word, "-%.*s", n_flag > 2 ? (int)n_flag - 2 : 0, flag + (n_flag > 2 ? 2 : 0));
    strbuf_add_text(out, ".It Fl");
    add_argument(out, word);
    if (is_value) {
        snprintf(word, sizeof word, "%.*s", (int)n_value, value);
        strbuf_add_text(out, " Ar");
        add_argument(out, word);
        value += n_value + strspn(value + n_value, " ");
    }
    strbuf_add_char(out, '\n');
    add_escaped(out, value, value < end ? (size_t)(end - value) : 0);
    strbuf_add_text(out, ".\n");
}

void manual_write_daemon(struct strbuf *out, const char *help)
{
    write_head(out, "POOL-MANAGERD", "8", "watch the model workers of a host and serve the API");
    strbuf_add_text(
        out, ".Sh SYNOPSIS\n.Nm\n.Op Ar option ...\n.Sh DESCRIPTION\n"
             "The daemon manages one state directory: it starts workers when it is asked to, watches them "
             "and tells what happens.\n"
             "Workers live on when it ends, also when it is killed;\n"
             "the next one takes them over.\n"
             "It is configured by\n.Xr pool.toml 5 .\n.Pp\nThe options are:\n.Bl -tag -width Ds\n");
    for (const char *line = help; *line;) {
        size_t n = strcspn(line, "\n");
        if (strncmp(line, "  --", 4) == 0)
            write_help_line(out, line, n);
        line += n + (line[n] == '\n');
    }
    strbuf_add_text(out, ".El\n.Sh FILES\nSee\n.Xr pool.toml 5 .\n"
                         ".Sh SEE ALSO\n.Xr rbees-pool 1 ,\n.Xr pool.toml 5\n");
}

/* ---- pool.toml(5) ---- */

static void write_key(struct strbuf *out, const struct pool_config_key *key)
{
    strbuf_add_text(out, ".It Ic");
    add_argument(out, key->name);
    strbuf_add_text(out, " Pq");
    add_argument(out, key->type);
    strbuf_add_char(out, '\n');
    add_paragraphs(out, key->summary);
    if (*key->unit) {
        strbuf_add_text(out, "In ");
        add_escaped(out, key->unit, strlen(key->unit));
        strbuf_add_text(out, ".\n");
    }
    strbuf_add_text(out, "Default: ");
    add_line(out,
             key->default_value ? (*key->default_value ? key->default_value : "nothing") : key->default_note);
    if (key->environment) {
        strbuf_add_text(out, ".br\nVariable:\n.Ev");
        add_argument(out, key->environment);
        strbuf_add_char(out, '\n');
    }
}

static void write_keys(struct strbuf *out, bool are_of_backends)
{
    const struct pool_config_key *key;
    strbuf_add_text(out, ".Bl -tag -width Ds\n");
    for (size_t i = 0; (key = pool_config_key_at(i)); i++) {
        if ((strncmp(key->name, BACKEND_KEY, strlen(BACKEND_KEY)) == 0) == are_of_backends)
            write_key(out, key);
    }
    strbuf_add_text(out, ".El\n");
}

void manual_write_config(struct strbuf *out)
{
    write_head(out, "POOL.TOML", "5", "configuration of rbees-pool and pool-managerd");
    strbuf_add_text(
        out, ".Sh DESCRIPTION\nThe configuration is a TOML file.\n"
             "A flag beats a variable, a variable beats the file, the file beats the default.\n"
             "An unknown key in the file is an error; an unknown variable\n.Ev POOL_...\nonly warns.\n"
             "Sizes are integers or texts such as\n.Dq 512MiB .\n"
             "Lists in variables have\n.Sq \\&:\nbetween their elements.\n.Pp\n"
             ".Ql rbees\\-pool dev setup\nwrites a file with all keys;\n.Ql rbees\\-pool config check\n"
             "tells every problem of one.\n.Sh KEYS\n");
    write_keys(out, false);
    strbuf_add_text(
        out, ".Sh BACKENDS\nA backend is data: a program and its arguments, never a line for a shell.\n"
             "These keys are of a table\n.Ic [backends.NAME] .\n");
    write_keys(out, true);
    strbuf_add_text(out, ".Sh FILES\n.Bl -tag -width Ds\n"
                         ".It Pa /etc/pool-core/pool.toml\nFor root and the user pool.\n"
                         ".It Pa $XDG_CONFIG_HOME/pool-core/pool.toml\nFor everybody else.\n.El\n"
                         ".Sh SEE ALSO\n.Xr rbees-pool 1 ,\n.Xr pool-managerd 8\n");
}
