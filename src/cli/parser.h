/*
 * From the words of a command line to a command and its filled arguments, by the tables of command.h. Options may
 * stand before and behind the command's words; "--name=value", "--name value", "-n value", "-nvalue" and "-ab" are
 * understood, and "--" ends the options.
 */
#ifndef CLI_PARSER_H
#define CLI_PARSER_H

#include "cli/program.h"

struct parsed_line {
    const struct cli_command *command; /* NULL: none was named (help or version were asked for) */
    const char *group;                 /* the first words alone ("worker --help"), NULL otherwise */
    char group_words[CLI_PATH_MAX];    /* what `group` points to */
    void *arguments;                   /* of the command, owned; NULL without one */
};

/* The options that every command takes. */
extern const struct cli_option cli_global_options[];
extern const size_t cli_n_global_options;

/**
 * Fills the globals also when it fails, as far as they were read, and in *ret_line the command or group, so that help
 * can be offered.
 * Errors: INVALID_REQUEST with the nearest known name in the message (field: the option or positional),
 * INSUFFICIENT_MEMORY. What is required is not checked when help or the version is asked for.
 */
POOL_MUST_CHECK enum pool_code parse_line(int argc, const char *const *argv, struct cli_globals *globals,
                                          struct parsed_line *ret_line, struct pool_error *err);
void parsed_line_done(struct parsed_line *line);

#endif
