/*
 * rbees-pool git submodules update and reset: the same work, of which reset discards what was changed inside.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/confirm.h"
#include "cli/git_text.h"
#include "cli/git_upstream.h"

struct submodules_update_arguments {
    const char *directory;
    struct cli_texts paths;
    bool is_sure; /* of reset */
};

/* The named ones as the list knows them, NULL-terminated; *ret_paths is NULL for all. */
static enum pool_code choose(const struct git_submodule_list *list, const struct cli_texts *asked,
                             const char ***ret_paths, struct pool_error *err)
{
    if (asked->n == 0)
        return POOL_OK;
    CLEANUP_FREE const char **paths = calloc(asked->n + 1, sizeof *paths);
    if (!paths)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < asked->n; i++) {
        const struct git_submodule *submodule = NULL;
        enum pool_code code = git_find_submodule(list, asked->at[i], &submodule, err);
        if (code != POOL_OK)
            return code;
        paths[i] = submodule->path;
    }
    *ret_paths = take_ptr(&paths);
    return POOL_OK;
}

static enum pool_code ask(const struct cli *cli, const struct git_submodule_list *list,
                          const struct cli_texts *asked, bool is_sure, struct pool_error *err)
{
    char question[160];
    size_t n = asked->n > 0 ? asked->n : list->n;
    snprintf(question, sizeof question, "Discard all changes in %zu submodule%s of the checkout?", n,
             n == 1 ? "" : "s");
    return n > 0 ? confirm(cli, is_sure, question, err) : POOL_OK;
}

static enum pool_code update(struct cli *cli, const struct submodules_update_arguments *arguments,
                             bool is_forced, struct pool_error *err)
{
    CLEANUP(git_done) struct git git = { 0 };
    CLEANUP(git_submodule_list_done) struct git_submodule_list before = { 0 };
    CLEANUP(git_submodule_list_done) struct git_submodule_list after = { 0 };
    CLEANUP_FREE const char **paths = NULL;
    enum pool_code code = git_open(cli, arguments->directory, &git, err);
    if (code == POOL_OK)
        code = git_list_submodules(&git, &before, err);
    if (code == POOL_OK)
        code = choose(&before, &arguments->paths, &paths, err);
    if (code == POOL_OK && is_forced)
        code = ask(cli, &before, &arguments->paths, arguments->is_sure, err);
    if (code == POOL_OK)
        code = git_update_submodules(&git, paths, is_forced, err);
    if (code == POOL_OK)
        code = git_list_submodules(&git, &after, err);
    return code == POOL_OK ? print_submodules(cli, &after, err) : code;
}

static enum pool_code run_update(struct cli *cli, const void *data, struct pool_error *err)
{
    return update(cli, data, false, err);
}

static enum pool_code run_reset(struct cli *cli, const void *data, struct pool_error *err)
{
    return update(cli, data, true, err);
}

#define AT(field) offsetof(struct submodules_update_arguments, field)

static const struct cli_option update_options[] = { GIT_REPO_OPTION(AT(directory)) };
static const struct cli_option reset_options[] = { CONFIRM_OPTION(AT(is_sure)),
                                                   GIT_REPO_OPTION(AT(directory)) };
static const struct cli_positional positionals[] = {
    { .name = "PATH",
      .value = CLI_TEXTS,
      .offset = AT(paths),
      .is_optional = true,
      .summary = "Submodules, as 'git submodules list' shows them; none: all" },
};
static const char *const update_examples[] = { "rbees-pool git submodules update",
                                               "rbees-pool git submodules update libs/engine" };
static const char *const reset_examples[] = { "rbees-pool git submodules reset libs/engine --yes" };

const struct cli_command git_submodules_update_command = {
    .path = "git submodules update",
    .summary = "Fetch submodules and check out the recorded commits",
    .description =
        "Fetches what is missing and checks out, in each submodule and those inside of it, the commit that "
        "is recorded. Where changes inside are in the way, git refuses.",
    CLI_OPTIONS(update_options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(update_examples),
    .arguments_bytes = sizeof(struct submodules_update_arguments),
    .run = run_update,
};

const struct cli_command git_submodules_reset_command = {
    .path = "git submodules reset",
    .summary = "Discard changes in submodules",
    .description =
        "As update, and discards what was changed inside and not committed. It asks before. Files that git "
        "does not know are not touched.",
    CLI_OPTIONS(reset_options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(reset_examples),
    .arguments_bytes = sizeof(struct submodules_update_arguments),
    .run = run_reset,
};
