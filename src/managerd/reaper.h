/*
 * A daemon that is the first process of its pid namespace (a container) is given every orphan of it, and has to reap
 * those that end: nobody else can, and each is a pid less. What somebody here waits for is left to him: its status is
 * his. Where the daemon is not the first process there is nothing to do, and nothing is done.
 */
#ifndef MANAGERD_REAPER_H
#define MANAGERD_REAPER_H

#include <sys/types.h>

#include "managerd/executor.h"

struct reaper; /* opaque */

struct reaper_options {
    uv_loop_t *loop;
    struct executor
        *executor; /* starts are made by it, in order: what it started before a look is known after it */
    /* Whether somebody waits for this child, and reads how it ended. On the loop. */
    bool (*is_awaited)(pid_t pid, void *context);
    void *context;
};

/* *ret_reaper is NULL when this is not the first process. The options are copied, their pointers borrowed. */
POOL_MUST_CHECK enum pool_code reaper_open(const struct reaper_options *options, struct reaper **ret_reaper,
                                           struct pool_error *err);
/* Its handle closes on the loop, which may go on with a look. Accepts NULL. */
void reaper_close(struct reaper *reaper);

#endif
