/*
 * Asking before something is lost. A person is asked on the terminal; a script says --yes, and without it nothing that
 * loses something is done where nobody can be asked.
 */
#ifndef CLI_CONFIRM_H
#define CLI_CONFIRM_H

#include "cli/program.h"

/* The option of every command that asks; the field of its arguments is a bool. */
#define CONFIRM_OPTION(field_offset)                                                              \
    {                                                                                             \
        .name = "yes", .letter = 'y', .offset = (field_offset), .summary = "Do not ask, go ahead" \
    }

/**
 * Asks "QUESTION [y/N] " on standard error and reads a line from standard input; says yes at once when is_sure.
 * @param question one line without its end; made safe here
 * Errors: CANCELLED (anything but y or yes, an end of input, Ctrl-C), INVALID_REQUEST (field yes: standard input is no
 * terminal).
 */
POOL_MUST_CHECK enum pool_code confirm(const struct cli *cli, bool is_sure, const char *question,
                                       struct pool_error *err);

#endif
