/*
 * rbees-pool git pull.
 */
#include <string.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/git_text.h"
#include "cli/git_upstream.h"
#include "cli/json_document.h"
#include "cli/report.h"

struct git_pull_arguments {
    const char *directory;
};

static bool is_some_moved(const struct git_submodule_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        if (list->at[i].state == GIT_SUBMODULE_MOVED || list->at[i].state == GIT_SUBMODULE_BOTH ||
            list->at[i].state == GIT_SUBMODULE_ABSENT)
            return true;
    }
    return false;
}

static enum pool_code print_result(const struct cli *cli, const struct git *git,
                                   const struct git_upstream *upstream, struct pool_error *err)
{
    const struct git_status *status = &upstream->status;
    bool is_moved = status->n_behind > 0;
    const char *now = is_moved ? upstream->target : status->commit;
    CLEANUP(git_submodule_list_done) struct git_submodule_list submodules = { 0 };
    enum pool_code code = git_list_submodules(git, &submodules, err);
    if (code != POOL_OK)
        return code;
    if (cli->globals.is_json) {
        CLEANUP_JSON json_t *document =
            json_pack("{s:o, s:o, s:o, s:o, s:o, s:b, s:o}", "checkout", json_of_text(git->top), "branch",
                      json_of_text(status->branch), "upstream", json_of_text(status->upstream), "before",
                      json_of_text(status->commit), "commit", json_of_text(now), "changed", is_moved,
                      "submodules", json_of_submodules(&submodules));
        return print_document(cli, document, err);
    }
    print_field(cli, "branch", status->branch);
    print_field(cli, "upstream", status->upstream);
    if (is_moved)
        print_field_format(cli, "commit", "%.*s, was %.*s", GIT_SHORT_HASH, now, GIT_SHORT_HASH,
                           status->commit);
    else
        print_field_format(cli, "commit", "%.*s, already up to date", GIT_SHORT_HASH, now);
    if (is_some_moved(&submodules))
        report_notice(
            cli,
            "submodules are not at their recorded commits; 'rbees-pool git submodules update' takes them "
            "there");
    return POOL_OK;
}

static enum pool_code run_pull(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct git_pull_arguments *arguments = data;
    CLEANUP(git_done) struct git git = { 0 };
    CLEANUP(git_upstream_done) struct git_upstream upstream = { 0 };
    enum pool_code code = git_open(cli, arguments->directory, &git, err);
    if (code == POOL_OK)
        code = git_fetch_upstream(&git, &upstream, err);
    if (code == POOL_OK && upstream.status.n_behind > 0)
        code = git_move_forward(&git, &upstream, err);
    return code == POOL_OK ? print_result(cli, &git, &upstream, err) : code;
}

static const struct cli_option options[] = { GIT_REPO_OPTION(
    offsetof(struct git_pull_arguments, directory)) };
static const char *const examples[] = { "rbees-pool git pull", "rbees-pool git pull --repo /srv/models" };

const struct cli_command git_pull_command = {
    .path = "git pull",
    .summary = "Move the branch forward to its upstream",
    .description =
        "Fetches, and moves the branch forward where that loses nothing: never a merge of two lines, never "
        "over "
        "changes that are not committed. Submodules stay where they are; 'git sync' moves them too. Hooks of "
        "the "
        "checkout run as they do with git itself.\n\n"
        "The exit status is 8 when the remote can not be reached, 5 when the branch can not be moved.",
    CLI_OPTIONS(options),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct git_pull_arguments),
    .run = run_pull,
};
