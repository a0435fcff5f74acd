/*
 * What the watching of a start shares with the rest of this room; the machine itself is public, pool/lifecycle.h.
 */
#ifndef LIFECYCLE_START_WATCH_H
#define LIFECYCLE_START_WATCH_H

#include <pool/lifecycle.h>

#include "core/lifecycle/port.h"

/* What is known of a worker whose port it is. */
struct port_claim port_claim_of(const struct pool_worker_info *worker);
bool listeners_have_port(const struct listeners *list, int64_t port);

#endif
