/*
 * Bringing a checkout to what its upstream has. Nothing of the repository's own words is trusted before it was looked at:
 * after a merge .gitmodules may be another one, so it is read and checked again before submodules are touched.
 *
 * Source: git-fetch(1), git-merge(1), git-submodule(1).
 */
#include "cli/git_upstream.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static enum pool_code run_quietly(const struct git *git, enum git_run run, const char *directory,
                                  const char *const *words, struct pool_error *err)
{
    struct strbuf out = { 0 };
    enum pool_code code = git_run(git, run, directory, words, &out, err);
    strbuf_done(&out);
    return code;
}

static enum pool_code check_followed(const struct git_status *status, struct pool_error *err)
{
    if (!status->branch)
        return pool_error_set(err, POOL_CONFLICT,
                              "no branch is checked out; 'git switch BRANCH' takes one that has an upstream");
    if (!status->upstream)
        return pool_error_set(
            err, POOL_CONFLICT,
            "the branch %s follows none; 'git branch --set-upstream-to=REMOTE/BRANCH' makes it",
            status->branch);
    return POOL_OK;
}

enum pool_code git_fetch_upstream(const struct git *git, struct git_upstream *ret_upstream,
                                  struct pool_error *err)
{
    CLEANUP(git_upstream_done) struct git_upstream upstream = { 0 };
    enum pool_code code = git_read_status(git, &upstream.status, err);
    if (code == POOL_OK)
        code = check_followed(&upstream.status, err);
    if (code == POOL_OK)
        code = run_quietly(git, GIT_TRANSFER, NULL,
                           (const char *const[]){ "fetch", "--no-recurse-submodules", NULL }, err);
    if (code != POOL_OK)
        return code;
    git_status_done(&upstream.status);
    upstream.status = (struct git_status){ 0 };
    code = git_read_status(git, &upstream.status, err);
    if (code == POOL_OK)
        code = check_followed(&upstream.status, err);
    if (code == POOL_OK)
        code = git_line(
            git, NULL,
            (const char *const[]){ "rev-parse", "--verify", "--quiet", "@{upstream}^{commit}", NULL },
            &upstream.target, err);
    if (code == POOL_OK && !*upstream.target)
        code = pool_error_set(err, POOL_CONFLICT, "the upstream %s is not there (any more)",
                              upstream.status.upstream);
    if (code != POOL_OK)
        return code;
    *ret_upstream = upstream;
    memset(&upstream, 0, sizeof upstream); /* it is the caller's now */
    return POOL_OK;
}

void git_upstream_done(struct git_upstream *upstream)
{
    git_status_done(&upstream->status);
    free(upstream->target);
}

enum pool_code git_move_forward(const struct git *git, const struct git_upstream *upstream,
                                struct pool_error *err)
{
    if (upstream->status.n_ahead > 0 && upstream->status.n_behind > 0)
        return pool_error_set(
            err, POOL_CONFLICT,
            "%s and %s have parted: %lld commits here, %lld there; rebase, or 'rbees-pool git sync "
            "--force' discards those here",
            upstream->status.branch, upstream->status.upstream, (long long)upstream->status.n_ahead,
            (long long)upstream->status.n_behind);
    return run_quietly(git, GIT_CHANGE, NULL,
                       (const char *const[]){ "merge", "--quiet", "--ff-only", upstream->target, NULL }, err);
}

/* ---- submodules ---- */

static bool is_wanted(const struct git_submodule *submodule, const char *const *paths)
{
    if (!paths)
        return true;
    for (size_t i = 0; paths[i]; i++) {
        if (strcmp(paths[i], submodule->path) == 0)
            return true;
    }
    return false;
}

static enum pool_code discard_inside(const struct git *git, const struct git_submodule_list *list,
                                     const char *const *paths, struct pool_error *err)
{
    enum pool_code code = POOL_OK;
    for (size_t i = 0; code == POOL_OK && i < list->n; i++) {
        CLEANUP_FREE char *directory = NULL;
        if (list->at[i].state == GIT_SUBMODULE_ABSENT || !is_wanted(&list->at[i], paths))
            continue;
        if (asprintf(&directory, "%s/%s", git->top, list->at[i].path) < 0) {
            directory = NULL;
            return pool_error_no_memory(err);
        }
        code = run_quietly(git, GIT_CHANGE, directory,
                           (const char *const[]){ "reset", "--quiet", "--hard", NULL }, err);
    }
    return code;
}

/* One path a run: a command line has its limit, and an error names the one that failed. */
static enum pool_code update(const struct git *git, const struct git_submodule *submodule, bool is_forced,
                             struct pool_error *err)
{
    enum pool_code code = run_quietly(
        git, GIT_CHANGE, NULL,
        (const char *const[]){ "submodule", "--quiet", "sync", "--recursive", "--", submodule->path, NULL },
        err);
    if (code == POOL_OK && is_forced)
        code = run_quietly(git, GIT_TRANSFER, NULL,
                           (const char *const[]){ "submodule", "update", "--init", "--recursive",
                                                  "--checkout", "--force", "--", submodule->path, NULL },
                           err);
    else if (code == POOL_OK)
        code = run_quietly(git, GIT_TRANSFER, NULL,
                           (const char *const[]){ "submodule", "update", "--init", "--recursive",
                                                  "--checkout", "--", submodule->path, NULL },
                           err);
    if (code != POOL_OK)
        pool_error_prefix(err, "%s", submodule->path);
    return code;
}

enum pool_code git_update_submodules(const struct git *git, const char *const *paths, bool is_forced,
                                     struct pool_error *err)
{
    CLEANUP(git_submodule_list_done) struct git_submodule_list list = { 0 };
    enum pool_code code = git_list_submodules(git, &list, err);
    if (code == POOL_OK && is_forced)
        code = discard_inside(git, &list, paths, err);
    for (size_t i = 0; code == POOL_OK && i < list.n; i++) {
        if (is_wanted(&list.at[i], paths))
            code = update(git, &list.at[i], is_forced, err);
    }
    return code;
}
