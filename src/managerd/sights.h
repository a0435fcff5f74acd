/*
 * What is seen of workers that serve: whether they answer (health), whether they work (activity), and what follows from
 * it: an idle worker's timeout, the end of a drain, the stop of an unhealthy one where that is asked for. All of it from
 * the loop, over HTTP, spread over time. A probe is never activity.
 *
 * What is found goes out through the two functions of the options; what becomes of a worker comes in by sights_update.
 */
#ifndef MANAGERD_SIGHTS_H
#define MANAGERD_SIGHTS_H

#include <pool/lifecycle.h>
#include <uv.h>

#define SIGHTS_DRAIN_TIMEOUT_MS INT64_C(300000) /* of a drain that does not say */

struct sights; /* opaque */

struct sights_options {
    int64_t health_interval_ms;
    bool stops_unhealthy;
    /* Something is to be recorded. Never called back from sights_update. */
    void (*report)(const char *worker_id, const struct pool_worker_sight *sight, void *context);
    /* A worker is to be stopped; asked again at every look until sights_update says that it stops. */
    void (*stop)(const char *worker_id, enum pool_stop_reason reason, void *context);
    void *context;
};

POOL_MUST_CHECK enum pool_code sights_open(uv_loop_t *loop, const struct sights_options *options,
                                           struct sights **ret_sights, struct pool_error *err);
/* Ends every look; on_closed (may be NULL) comes from the loop when nothing is left in it. Accepts NULL. */
void sights_close(struct sights *sights, void (*on_closed)(void *context), void *context);

/* A worker as it is now: it is looked at while it serves or drains, and forgotten when it does neither. Accepts NULL. */
void sights_update(struct sights *sights, const struct pool_worker_info *worker);
/* Whether a worker says what it has in flight, as far as is known. */
bool sights_are_told_requests(const struct sights *sights, const char *worker_id);
/* How long the drain of a worker, which sights_update is going to tell, may take from now. */
void sights_limit_drain(struct sights *sights, const char *worker_id, int64_t timeout_ms);

#endif
