/*
 * The parser of command lines. It knows tables only: no command has code here.
 */
#include "cli/parser.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <pool/gpu.h>

#include "base/cleanup.h"
#include "base/nearest.h"
#include "base/number.h"

#define NAMES_MAX 128

struct parser {
    int argc;
    const char *const *argv;
    int next; /* index of the next word */
    struct cli_globals *globals;
    struct parsed_line line;
    char words[CLI_PATH_MAX];  /* the first ones of a command, until the last is seen */
    size_t n_positionals;      /* seen so far */
    bool is_literal;           /* "--" was seen */
    struct cli_texts required; /* names of required options that were given, borrowed from the tables */
};

/* ---- values ---- */

static enum pool_code add_text(struct cli_texts *texts, const char *text, struct pool_error *err)
{
    const char **at = reallocarray(texts->at, texts->n + 1, sizeof *at);
    if (!at)
        return pool_error_no_memory(err);
    texts->at = at;
    texts->at[texts->n++] = text;
    return POOL_OK;
}

static enum pool_code refuse_number(const struct cli_option *option, const char *text, const char *kind,
                                    struct pool_error *err)
{
    pool_error_set(err, POOL_INVALID_REQUEST, "--%s: '%.100s' is not %s from %" PRId64 " to %" PRId64,
                   option->name, text, kind, option->min, option->max);
    pool_error_set_field(err, "%s", option->name);
    return POOL_INVALID_REQUEST;
}

static enum pool_code store_value(const struct cli_option *option, const char *text, void *arguments,
                                  struct pool_error *err)
{
    void *field = (char *)arguments + option->offset;
    int64_t number = 0;
    switch (option->value) {
    case CLI_FLAG: *(bool *)field = true; return POOL_OK;
    case CLI_TEXT: *(const char **)field = text; return POOL_OK;
    case CLI_TEXTS: return add_text(field, text, err);
    case CLI_INTEGER:
        if (!parse_int64(text, option->min, option->max, &number))
            return refuse_number(option, text, "a number", err);
        break;
    case CLI_BYTES:
        if (!parse_bytes(text, &number) || number < option->min || number > option->max)
            return refuse_number(option, text, "a size (512MiB, or bytes)", err);
        break;
    }
    *(struct pool_reading *)field = (struct pool_reading){ .is_present = true, .value = number };
    return POOL_OK;
}

/* ---- options ---- */

static const struct cli_option *find_in(const struct cli_option *options, size_t n_options, const char *name,
                                        size_t n_name, char letter)
{
    for (size_t i = 0; i < n_options; i++) {
        if (letter ? options[i].letter == letter
                   : strlen(options[i].name) == n_name && memcmp(options[i].name, name, n_name) == 0)
            return &options[i];
    }
    return NULL;
}

static const struct cli_option *find_option(const struct parser *parser, const char *name, size_t n_name,
                                            char letter, void **ret_arguments)
{
    const struct cli_command *command = parser->line.command;
    const struct cli_option *option = NULL;
    if (command)
        option = find_in(command->options, command->n_options, name, n_name, letter);
    *ret_arguments = parser->line.arguments;
    if (!option) {
        option = find_in(cli_global_options, cli_n_global_options, name, n_name, letter);
        *ret_arguments = parser->globals;
    }
    return option;
}

static enum pool_code refuse_option(const struct parser *parser, const char *name, size_t n_name,
                                    struct pool_error *err)
{
    const struct cli_command *command = parser->line.command;
    const char *names[NAMES_MAX];
    size_t n = 0;
    for (size_t i = 0; command && i < command->n_options && n < NAMES_MAX; i++)
        names[n++] = command->options[i].name;
    for (size_t i = 0; i < cli_n_global_options && n < NAMES_MAX; i++)
        names[n++] = cli_global_options[i].name;
    char wanted[POOL_ERROR_FIELD_MAX];
    snprintf(wanted, sizeof wanted, "%.*s", (int)n_name, name);
    const char *nearest = nearest_name(wanted, names, n);
    if (nearest)
        pool_error_set(err, POOL_INVALID_REQUEST, "there is no option --%s; did you mean --%s?", wanted,
                       nearest);
    else if (command)
        pool_error_set(err, POOL_INVALID_REQUEST, "'%s' has no option --%s", command->path, wanted);
    else
        pool_error_set(err, POOL_INVALID_REQUEST,
                       "there is no option --%s here; options of a command follow it", wanted);
    pool_error_set_field(err, "%s", wanted);
    return POOL_INVALID_REQUEST;
}

static enum pool_code take_value(struct parser *parser, const struct cli_option *option, const char *attached,
                                 void *arguments, struct pool_error *err)
{
    const char *value = attached;
    if (option->value == CLI_FLAG && attached) {
        pool_error_set(err, POOL_INVALID_REQUEST, "--%s takes no value", option->name);
        pool_error_set_field(err, "%s", option->name);
        return POOL_INVALID_REQUEST;
    }
    if (option->value != CLI_FLAG && !value) {
        if (parser->next >= parser->argc) {
            pool_error_set(err, POOL_INVALID_REQUEST, "--%s needs a value: %s", option->name, option->unit);
            pool_error_set_field(err, "%s", option->name);
            return POOL_INVALID_REQUEST;
        }
        value = parser->argv[parser->next++];
    }
    enum pool_code code = store_value(option, value, arguments, err);
    if (code == POOL_OK && option->is_required)
        code = add_text(&parser->required, option->name, err);
    return code;
}

static enum pool_code take_long_option(struct parser *parser, const char *word, struct pool_error *err)
{
    const char *name = word + 2;
    size_t n_name = strcspn(name, "=");
    void *arguments = NULL;
    const struct cli_option *option = find_option(parser, name, n_name, '\0', &arguments);
    if (!option)
        return refuse_option(parser, name, n_name, err);
    return take_value(parser, option, name[n_name] ? name + n_name + 1 : NULL, arguments, err);
}

static enum pool_code take_letters(struct parser *parser, const char *word, struct pool_error *err)
{
    for (const char *p = word + 1; *p; p++) {
        void *arguments = NULL;
        const struct cli_option *option = find_option(parser, NULL, 0, *p, &arguments);
        if (!option)
            return pool_error_set(err, POOL_INVALID_REQUEST, "there is no option -%c in '%.100s'", *p, word);
        if (option->value != CLI_FLAG) /* the rest of the word is its value */
            return take_value(parser, option, p[1] ? p + 1 : NULL, arguments, err);
        enum pool_code code = take_value(parser, option, NULL, arguments, err);
        if (code != POOL_OK)
            return code;
    }
    return POOL_OK;
}

/* ---- words ---- */

/* What a word might have been meant to be: the next one of a command that begins with `group`, "" for all. */
static const char *nearest_word(const char *word, const char *group, size_t n_names, char (*names)[32])
{
    const char *pointers[NAMES_MAX];
    size_t n = 0;
    size_t n_group = strlen(group);
    const struct cli_command *command;
    for (size_t i = 0; n < n_names && (command = cli_command_at(i)); i++) {
        const char *path = command->path;
        if (n_group > 0 && (strncmp(path, group, n_group) != 0 || path[n_group] != ' '))
            continue;
        const char *part = n_group > 0 ? path + n_group + 1 : path;
        snprintf(names[n], sizeof names[n], "%.*s", (int)strcspn(part, " "), part);
        pointers[n] = names[n];
        n++;
    }
    return nearest_name(word, pointers, n);
}

static enum pool_code refuse_word(const char *word, const char *group, struct pool_error *err)
{
    char names[NAMES_MAX][32];
    const char *nearest = nearest_word(word, group, NAMES_MAX, names);
    const char *blank = *group ? " " : "";
    if (nearest)
        return pool_error_set(err, POOL_INVALID_REQUEST,
                              "there is no command '%s%s%.100s'; did you mean '%s%s%s'?", group, blank, word,
                              group, blank, nearest);
    return pool_error_set(err, POOL_INVALID_REQUEST, "there is no command '%s%s%.100s'", group, blank, word);
}

static enum pool_code use_command(struct parser *parser, const struct cli_command *command,
                                  struct pool_error *err)
{
    parser->line.arguments = calloc(1, command->arguments_bytes ? command->arguments_bytes : 1);
    if (!parser->line.arguments)
        return pool_error_no_memory(err);
    parser->line.command = command;
    return POOL_OK;
}

static enum pool_code take_command_word(struct parser *parser, const char *word, struct pool_error *err)
{
    char path[CLI_PATH_MAX];
    int n = snprintf(path, sizeof path, "%s%s%s", parser->words, parser->words[0] ? " " : "", word);
    if (n < 0 || (size_t)n >= sizeof path || strchr(word, ' '))
        return refuse_word(word, parser->words, err);
    const struct cli_command *command = cli_command_find(path);
    if (command)
        return use_command(parser, command, err);
    if (!cli_command_is_group(path))
        return refuse_word(word, parser->words, err);
    memcpy(parser->words, path, sizeof path);
    return POOL_OK;
}

static enum pool_code take_positional(struct parser *parser, const char *word, struct pool_error *err)
{
    const struct cli_command *command = parser->line.command;
    if (parser->n_positionals >= command->n_positionals)
        return pool_error_set(err, POOL_INVALID_REQUEST, "'%s' takes no '%.100s'", command->path, word);
    const struct cli_positional *positional = &command->positionals[parser->n_positionals];
    void *field = (char *)parser->line.arguments + positional->offset;
    if (positional->value == CLI_TEXTS)
        return add_text(field, word, err); /* and all that follow */
    *(const char **)field = word;
    parser->n_positionals++;
    return POOL_OK;
}

static enum pool_code take_word(struct parser *parser, const char *word, struct pool_error *err)
{
    const struct cli_command *command = parser->line.command;
    if (parser->is_literal && command && command->rest)
        return add_text((void *)((char *)parser->line.arguments + command->rest->offset), word, err);
    if (!parser->is_literal && strcmp(word, "--") == 0) {
        parser->is_literal = true;
        return POOL_OK;
    }
    if (!parser->is_literal && word[0] == '-' && word[1] == '-')
        return take_long_option(parser, word, err);
    if (!parser->is_literal && word[0] == '-' && word[1])
        return take_letters(parser, word, err);
    return command ? take_positional(parser, word, err) : take_command_word(parser, word, err);
}

/* ---- the whole ---- */

static enum pool_code check_complete(const struct parser *parser, struct pool_error *err)
{
    const struct cli_command *command = parser->line.command;
    if (!command && parser->words[0])
        return pool_error_set(err, POOL_INVALID_REQUEST, "'%s' needs a command behind it", parser->words);
    if (!command)
        return pool_error_set(err, POOL_INVALID_REQUEST, "no command was given");
    for (size_t i = parser->n_positionals; i < command->n_positionals; i++) {
        const struct cli_positional *positional = &command->positionals[i];
        const struct cli_texts *texts =
            (const void *)((const char *)parser->line.arguments + positional->offset);
        if (positional->is_optional || (positional->value == CLI_TEXTS && texts->n > 0))
            continue;
        pool_error_set(err, POOL_INVALID_REQUEST, "'%s' needs %s: %s", command->path, positional->name,
                       positional->summary);
        pool_error_set_field(err, "%s", positional->name);
        return POOL_INVALID_REQUEST;
    }
    for (size_t i = 0; i < command->n_options; i++) {
        const struct cli_option *option = &command->options[i];
        bool is_given = !option->is_required;
        for (size_t k = 0; k < parser->required.n; k++)
            is_given = is_given || strcmp(parser->required.at[k], option->name) == 0;
        if (is_given)
            continue;
        pool_error_set(err, POOL_INVALID_REQUEST, "'%s' needs --%s %s: %s", command->path, option->name,
                       option->unit, option->summary);
        pool_error_set_field(err, "%s", option->name);
        return POOL_INVALID_REQUEST;
    }
    return POOL_OK;
}

static void parser_done(struct parser *parser)
{
    free(parser->required.at);
    parsed_line_done(&parser->line);
}

enum pool_code parse_line(int argc, const char *const *argv, struct cli_globals *globals,
                          struct parsed_line *ret_line, struct pool_error *err)
{
    CLEANUP(parser_done) struct parser parser = { .argc = argc, .argv = argv, .next = 1, .globals = globals };
    enum pool_code code = POOL_OK;
    while (code == POOL_OK && parser.next < argc)
        code = take_word(&parser, argv[parser.next++], err);
    if (code == POOL_OK && !globals->wants_help && !globals->wants_version)
        code = check_complete(&parser, err);
    *ret_line = (struct parsed_line){ .command = parser.line.command };
    if (!parser.line.command && parser.words[0]) {
        memcpy(ret_line->group_words, parser.words, sizeof parser.words);
        ret_line->group = ret_line->group_words;
    }
    if (code == POOL_OK)
        ret_line->arguments = take_ptr(&parser.line.arguments);
    return code;
}

static void free_texts(void *arguments, enum cli_value value, size_t offset)
{
    if (value == CLI_TEXTS)
        free(((struct cli_texts *)(void *)((char *)arguments + offset))->at);
}

void parsed_line_done(struct parsed_line *line)
{
    const struct cli_command *command = line->arguments ? line->command : NULL;
    for (size_t i = 0; command && i < command->n_options; i++)
        free_texts(line->arguments, command->options[i].value, command->options[i].offset);
    for (size_t i = 0; command && i < command->n_positionals; i++)
        free_texts(line->arguments, command->positionals[i].value, command->positionals[i].offset);
    free(line->arguments);
    *line = (struct parsed_line){ 0 };
}
