/*
 * How results, errors and sizes are shown: for people, or as one JSON document.
 */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include <pool/worker.h>

#include "base/strbuf.h"
#include "cli/program.h"

/* Shows an error as the globals want it and returns the exit status that belongs to it. */
int report_error(const struct cli *cli, const struct pool_error *error);
/* One line on standard error, made safe. Nothing when the text is empty. */
void report_notice(const struct cli *cli, const char *text);
/* Writes a JSON text that an encoder of the library made, with a line's end, and frees it. */
void print_json(const struct cli *cli, char **json);
/* "name:  value", aligned for names of up to 12 characters; nothing for a value that is NULL. */
void print_field(const struct cli *cli, const char *name, const char *value);
void print_field_format(const struct cli *cli, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void print_field_bytes(const struct cli *cli, const char *name, int64_t bytes);

#endif
