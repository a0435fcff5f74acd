/*
 * What an engine says about its requests, read from the answer to a probe: how many are in flight, and a mark that moves
 * with every request, so that one which came and went between two looks is seen as well. No I/O.
 */
#ifndef MANAGERD_ACTIVITY_H
#define MANAGERD_ACTIVITY_H

#include <pool/worker.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct activity {
    int64_t n_requests; /* running and waiting */
    double mark;        /* grows with requests, never with probes; 0: none yet, or the engine does not say */
};

/* Path to ask; NULL for engines that do not say. Static. */
const char *activity_path(enum pool_activity activity);
/* false: that is no such answer. */
bool activity_read(enum pool_activity activity, const char *body, size_t n, struct activity *ret_activity);

#endif
