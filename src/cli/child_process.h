/*
 * Another program run to its end, with what it wrote: git, an engine that tells its version. No shell: a program and
 * its arguments. It has no input, and gets the environment it is given and no descriptor of ours.
 */
#ifndef CLI_CHILD_PROCESS_H
#define CLI_CHILD_PROCESS_H

#include <pool/error.h>

#include "base/strbuf.h"

#define CHILD_OUTPUT_MAX ((size_t)16 << 20) /* bytes of each output; what is more is read and dropped */

struct child_options {
    const char *program;            /* a name to be found by PATH, or a path */
    const char *const *argv;        /* NULL-terminated; argv[0] is the program's name */
    const char *const *environment; /* NULL-terminated "NAME=value" */
    int64_t timeout_ms;             /* then it is killed (DEADLINE_EXCEEDED); 0: none */
    bool is_interactive; /* our input and error output are its own: it may ask, and show how it gets on */
    bool is_shown;       /* so is our output */
};

struct child_result {
    struct strbuf out, err; /* err is empty of an interactive one */
    bool is_signal;
    int value; /* exit code or signal */
};

#define CHILD_RESULT_INIT                                                          \
    {                                                                              \
        .out = STRBUF_INIT(CHILD_OUTPUT_MAX), .err = STRBUF_INIT(CHILD_OUTPUT_MAX) \
    }

/* One that runs. A descriptor is -1 once it is closed. */
struct child {
    int pidfd; /* readable when it has ended */
    int out_fd, err_fd;
};

#define CHILD_INIT                              \
    {                                           \
        .pidfd = -1, .out_fd = -1, .err_fd = -1 \
    }

/* ---- beside other work ---- */

/* Begins it; timeout_ms is not used. Errors: as child_run. Owner: child_done. */
POOL_MUST_CHECK enum pool_code child_begin(const struct child_options *options, struct child *ret_child,
                                           struct pool_error *err);
/* Takes what it has written so far, without waiting; to be called when one of the descriptors is readable. */
void child_take_output(struct child *child, struct child_result *result);
/* How it ended, and the rest of what it wrote; blocks until it has ended. */
POOL_MUST_CHECK enum pool_code child_take_end(struct child *child, struct child_result *result,
                                              struct pool_error *err);
/* Kills it, waits a moment for its end, and closes the descriptors. Nothing when it has none. */
void child_done(struct child *child);

/* ---- and wait ---- */

/**
 * Runs it. A program that ends with an error is no error here: see ret_result, which child_result_done clears whatever
 * comes back.
 * Errors: NOT_FOUND (there is no such program), PERMISSION_DENIED (it is not one), DEADLINE_EXCEEDED,
 * INSUFFICIENT_MEMORY, INTERNAL.
 * Blocks: until it has ended; processes that it left behind are not waited for.
 */
POOL_MUST_CHECK enum pool_code child_run(const struct child_options *options, struct child_result *ret_result,
                                         struct pool_error *err);
void child_result_done(struct child_result *result);

#endif
