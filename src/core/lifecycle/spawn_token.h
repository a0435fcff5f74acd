/*
 * The spawn token: how a worker that says by itself that it is ready proves to be the one that was started. 128 random
 * bits in its environment only, their SHA-256 in its record, good once.
 */
#ifndef LIFECYCLE_SPAWN_TOKEN_H
#define LIFECYCLE_SPAWN_TOKEN_H

#include <pool/lifecycle.h>
#include <string.h>

#define SPAWN_TOKEN_BYTES    16
#define SPAWN_TOKEN_VARIABLE "POOL_SPAWN_TOKEN"

/* Draws one: into the plan's environment, its sum into the plan's record. Errors: INTERNAL, INSUFFICIENT_MEMORY. */
POOL_MUST_CHECK enum pool_code spawn_token_give(struct pool_plan *plan, struct pool_error *err);

/* Whether the worker has still to say that it is ready. */
static inline bool spawn_token_is_awaited(const struct pool_worker_info *worker)
{
    return worker->spawn_token_sha256 && strcmp(worker->spawn_token_sha256, POOL_SPAWN_TOKEN_USED) != 0;
}

#endif
