/*
 * rbees-pool git submodules status.
 */
#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/git_text.h"

struct submodules_status_arguments {
    const char *directory;
};

static enum pool_code run_status(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct submodules_status_arguments *arguments = data;
    CLEANUP(git_done) struct git git = { 0 };
    CLEANUP(git_submodule_list_done) struct git_submodule_list list = { 0 };
    enum pool_code code = git_open(cli, arguments->directory, &git, err);
    if (code == POOL_OK)
        code = git_list_submodules(&git, &list, err);
    return code == POOL_OK ? print_submodules(cli, &list, err) : code;
}

static const struct cli_option options[] = { GIT_REPO_OPTION(
    offsetof(struct submodules_status_arguments, directory)) };
static const char *const examples[] = { "rbees-pool git submodules status" };

const struct cli_command git_submodules_status_command = {
    .path = "git submodules status",
    .summary = "Show how the submodules stand to what is recorded",
    .description =
        "Shows for each submodule the commit that the checkout records, the one that is there, the branch, "
        "and whether there are changes inside: absent, clean, moved, changed, conflict.",
    CLI_OPTIONS(options),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct submodules_status_arguments),
    .run = run_status,
};
