/*
 * What is said to the orchestrator, as JSON (contract, section 7). No input or output here.
 */
#ifndef MANAGERD_HEARTBEAT_BODY_H
#define MANAGERD_HEARTBEAT_BODY_H

#include "managerd/heartbeat.h"

/* What every message says of its sender. */
struct heartbeat_sender {
    const char *pool_id;
    const char *endpoint; /* where the pool's API is */
    const char *epoch;
    int64_t sequence; /* of registrations and beats; reports have none, so that a gap is a lost beat */
    int64_t wall_ms;
};

/* Owned by the caller; NULL when memory is out. */
char *heartbeat_body_register(const struct heartbeat_sender *sender, const struct heartbeat_facts *facts);
char *heartbeat_body_beat(const struct heartbeat_sender *sender, const struct heartbeat_facts *facts);
char *heartbeat_body_failure(const struct heartbeat_sender *sender, const struct heartbeat_failure *failure);

#endif
