/*
 * Learned use: what workers that were started in the same way took, and what follows from it for the next.
 */
#ifndef LIFECYCLE_LEARNED_H
#define LIFECYCLE_LEARNED_H

#include <pool/lifecycle.h>

#include "core/lifecycle/plan.h"

/*
 * What has to be the same for a measurement to count: the shape of the model as its header says it, backend, engine and its
 * version, context, slots, every word and variable it is started with (as a digest: they may hold secrets), and the
 * device's product name. NULL: no memory. Owned by the caller.
 */
char *learned_key(const struct start_request *start, const char *device_name);
/* What is kept for a worker of which so much was seen: it and max(5 %, 256 MiB). */
int64_t learned_reserve(int64_t peak_bytes);
/*
 * Looks a start up; what was measured is then in the need, and is what is reserved, unless the request says how much. A
 * registry that can not be read is as one that knows nothing.
 */
void learned_apply(struct pool_worker_registry *registry, const char *key, struct pool_memory_need *need);
/*
 * Notes a worker's new peak, and lets its reserve fall to it. Changes the record, which is not stored here. Best effort: what
 * is not learned now is learned next time. is_first: the first measurement of this start.
 */
void learned_note(struct pool_worker_registry *registry, struct pool_worker_info *worker, bool is_first);

#endif
