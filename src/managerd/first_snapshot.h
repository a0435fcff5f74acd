/*
 * A daemon that has just started does not know its GPUs yet: a driver without persistence mode starts each of them for seconds.
 * Starts on a GPU wait for the first snapshot, for FIRST_SNAPSHOT_WAIT_MS at most, and are planned then with what is known.
 */
#ifndef MANAGERD_FIRST_SNAPSHOT_H
#define MANAGERD_FIRST_SNAPSHOT_H

#include <pool/error.h>

#define FIRST_SNAPSHOT_WAIT_MS 15000 /* from the start of the daemon */

struct daemon;
struct first_snapshot;

/* On the loop. */
typedef void first_snapshot_fn(void *context);

POOL_MUST_CHECK enum pool_code first_snapshot_open(struct daemon *daemon, struct pool_error *err);
/* Whoever waits goes on before. Its timer closes with the loop's handles, which comes first. */
void first_snapshot_close(struct daemon *daemon);
/* Calls `then`: at once for a backend that needs no GPU, or when there is nothing to be waited for any more. */
void first_snapshot_await(struct daemon *daemon, const char *backend, first_snapshot_fn *then, void *context);
/* There is one, or nobody shall wait any longer. */
void first_snapshot_over(struct daemon *daemon);

#endif
