/*
 * The manual pages, in mdoc(7), made from the tables of commands, errors and configuration keys.
 */
#ifndef CLI_MANUAL_H
#define CLI_MANUAL_H

#include "base/strbuf.h"

#define MANUAL_MAX_BYTES ((size_t)1 << 20)

/* rbees-pool(1). Failures are marked in `out`. */
void manual_write_command_line(struct strbuf *out);
/* pool-managerd(8); its options are read from what `pool-managerd --help` prints. */
void manual_write_daemon(struct strbuf *out, const char *help);
/* pool.toml(5) */
void manual_write_config(struct strbuf *out);

#endif
