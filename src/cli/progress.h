/*
 * One line on the error terminal that says how a long work is getting on, redrawn in place. On anything but a
 * terminal there is none.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <pool/lifecycle.h>

#include "cli/program.h"

struct progress_line {
    const struct cli *cli;
    const char *subject; /* what is worked on; borrowed */
    bool is_drawn;
};

/* The progress callback of pool_wait_options; the context is a struct progress_line. */
void progress_of_start(const struct pool_start_progress *progress, void *context);
/* Of a start that a daemon watches, looked at from here; the context is a struct progress_line. */
void progress_of_told_start(int64_t pid, int64_t elapsed_ms, void *context);
/* Of a verification, a pool_progress_fn; the context is a struct progress_line. */
bool progress_of_bytes(int64_t done_bytes, int64_t total_bytes, void *context);
/* Takes the line away. */
void progress_clear(struct progress_line *line);

#endif
