/*
 * rbees-pool git submodules list.
 */
#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/git_text.h"
#include "cli/json_document.h"

struct submodules_list_arguments {
    const char *directory;
};

static enum pool_code print_list(const struct cli *cli, const struct git_submodule_list *list,
                                 struct pool_error *err)
{
    static const struct table_column columns[] = {
        { .title = "SUBMODULE", .may_shrink = true },
        { .title = "FOLLOWS", .may_shrink = true },
        { .title = "RECORDED" },
        { .title = "URL", .may_shrink = true },
    };
    CLEANUP(table_done) struct table table;
    table_init(&table, &cli->terminal, columns, CLI_COUNT(columns));
    for (size_t i = 0; i < list->n; i++) {
        table_add(&table, list->at[i].path);
        table_add(&table, list->at[i].followed);
        table_printf(&table, "%.*s", GIT_SHORT_HASH, list->at[i].recorded);
        table_add(&table, list->at[i].url);
    }
    return table_print(&table, cli->out) ? POOL_OK : pool_error_no_memory(err);
}

static enum pool_code run_list(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct submodules_list_arguments *arguments = data;
    CLEANUP(git_done) struct git git = { 0 };
    CLEANUP(git_submodule_list_done) struct git_submodule_list list = { 0 };
    enum pool_code code = git_open(cli, arguments->directory, &git, err);
    if (code == POOL_OK)
        code = git_list_submodules(&git, &list, err);
    if (code != POOL_OK)
        return code;
    return cli->globals.is_json || list.n == 0 ? print_submodules(cli, &list, err)
                                               : print_list(cli, &list, err);
}

static const struct cli_option options[] = { GIT_REPO_OPTION(
    offsetof(struct submodules_list_arguments, directory)) };
static const char *const examples[] = { "rbees-pool git submodules list" };

const struct cli_command git_submodules_list_command = {
    .path = "git submodules list",
    .summary = "List the submodules of the checkout",
    .description =
        "Lists the submodules of the checkout, not those inside of them: path, the branch that .gitmodules "
        "says, the recorded commit and where it is fetched from. One whose name, path or URL could "
        "mislead git makes the command fail, as do all others on submodules.",
    CLI_OPTIONS(options),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct submodules_list_arguments),
    .run = run_list,
};
