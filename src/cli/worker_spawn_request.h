/*
 * The request that `worker spawn` makes of its arguments.
 */
#ifndef CLI_WORKER_SPAWN_REQUEST_H
#define CLI_WORKER_SPAWN_REQUEST_H

#include <pool/api.h>

#include "cli/command.h"

struct worker_spawn_arguments {
    const char *backend;
    const char *model;
    const char *gpu;
    const char *split;
    struct pool_reading port;
    const char *worker_id;
    struct pool_reading vram_bytes;
    struct pool_reading ctx_size;
    struct pool_reading parallel;
    struct cli_texts extra_args;
    struct cli_texts env;
    struct cli_texts labels;
    struct cli_texts may_displace;
    bool may_displace_busy;
    struct pool_reading start_timeout_ms;
    struct pool_reading grace_ms;
    struct pool_reading idle_timeout_ms;
    bool wait;
    bool is_dry_run;
};

/* Errors: INVALID_REQUEST (--env or --label without '='), INSUFFICIENT_MEMORY. Owner: the caller. */
POOL_MUST_CHECK enum pool_code make_spawn_request(const struct worker_spawn_arguments *arguments,
                                                  struct pool_worker_spawn_request **ret_request,
                                                  struct pool_error *err);

static inline void release_spawn_request(struct pool_worker_spawn_request **request)
{
    pool_worker_spawn_request_free(*request);
}

#endif
