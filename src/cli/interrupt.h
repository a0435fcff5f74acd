/*
 * Ctrl-C and SIGTERM as a descriptor that becomes readable, so that a wait can end in good order.
 */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

#include <signal.h>
#include <stdbool.h>

#include <pool/error.h>

struct interrupt {
    int fd; /* readable when the person wants an end; -1: not watched */
    sigset_t old_mask;
};

#define INTERRUPT_INIT \
    {                  \
        .fd = -1       \
    }

/*
 * Between open and close: whether an interrupt ends the program at once, as without us. For calls that may block for ever
 * in a driver; a start that is killed at any moment loses nothing.
 */
void interrupt_end_program(bool is_ending);

/* From now on SIGINT, SIGTERM and SIGHUP end nothing by themselves. */
POOL_MUST_CHECK enum pool_code interrupt_open(struct interrupt *interrupt, struct pool_error *err);
/* They do again. One that came meanwhile was seen and is forgotten. */
void interrupt_close(struct interrupt *interrupt);

#endif
