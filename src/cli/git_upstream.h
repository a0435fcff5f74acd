/*
 * Bringing a checkout to what its upstream has: what `git pull` and `git sync` share.
 */
#ifndef CLI_GIT_UPSTREAM_H
#define CLI_GIT_UPSTREAM_H

#include "cli/git.h"

/* A checkout behind a fetch. */
struct git_upstream {
    struct git_status status;
    char *target; /* the commit that the upstream is at */
};

/**
 * Fetches, and reads how the checkout then stands to its upstream.
 * Errors: CONFLICT (no branch is checked out, or it follows none), DOWNLOAD_FAILED.
 */
POOL_MUST_CHECK enum pool_code git_fetch_upstream(const struct git *git, struct git_upstream *ret_upstream,
                                                  struct pool_error *err);
void git_upstream_done(struct git_upstream *upstream);
/* Moves the branch forward to the target; fails with CONFLICT where that is not forward, or changes are in the way. */
POOL_MUST_CHECK enum pool_code git_move_forward(const struct git *git, const struct git_upstream *upstream,
                                                struct pool_error *err);
/**
 * Brings submodules to the commits that the checkout records.
 * @param paths NULL-terminated, of git_find_submodule; NULL: all
 * @param is_forced discards what was changed inside
 */
POOL_MUST_CHECK enum pool_code git_update_submodules(const struct git *git, const char *const *paths,
                                                     bool is_forced, struct pool_error *err);

#endif
