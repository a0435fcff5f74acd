/*
 * What a start would do, shown: the answer to `worker spawn --dry-run`.
 */
#ifndef CLI_WORKER_PLAN_H
#define CLI_WORKER_PLAN_H

#include <pool/lifecycle.h>

#include "cli/program.h"

static inline void release_plan(struct pool_plan **plan)
{
    pool_plan_free(*plan);
}

/* Values of the environment are not shown: a token may be among them. */
POOL_MUST_CHECK enum pool_code print_plan(const struct cli *cli, const struct pool_plan *plan,
                                          struct pool_error *err);

#endif
