/*
 * What the daemon counts from its start on: starts, stops, requests (contract, section 8). Labels are bounded: routes and
 * reasons come from our own tables, and there is a limit all the same. No input or output here.
 */
#ifndef MANAGERD_METRICS_H
#define MANAGERD_METRICS_H

#include <pool/error.h>
#include <pool/worker.h>
#include <stdint.h>

#include "base/strbuf.h"

#define METRICS_PREFIX     "pool_mgr_"
#define METRICS_ROUTES_MAX 64 /* three times as many as there are; the rest is counted as "other" */
#define METRICS_CODES_MAX  32 /* status codes of one route; the rest is counted as 0 */

struct metrics; /* opaque */

POOL_MUST_CHECK enum pool_code metrics_open(struct metrics **ret_metrics, struct pool_error *err);
void metrics_close(struct metrics *metrics);

/* A start is over: POOL_OK after so many seconds, or why not. */
void metrics_count_start(struct metrics *metrics, enum pool_code outcome, double seconds);
void metrics_count_stop(struct metrics *metrics, enum pool_stop_reason reason);
/* route: static, as people know it; NULL: what was asked for is no route. */
void metrics_count_request(struct metrics *metrics, const char *route, unsigned status, int64_t duration_ns);

void metrics_add_text(const struct metrics *metrics, struct strbuf *out);

#endif
