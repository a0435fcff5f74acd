/*
 * rbees-pool git status.
 */
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/git.h"
#include "cli/git_text.h"
#include "cli/json_document.h"
#include "cli/report.h"

struct git_status_arguments {
    const char *directory;
};

static const char *name_of_change(const struct git_change *change)
{
    if (change->index == '?')
        return "untracked";
    if (change->index == 'U')
        return "conflict";
    switch (change->index != '.' ? change->index : change->work_tree) {
    case 'A': return "added";
    case 'D': return "deleted";
    case 'R': return "renamed";
    case 'C': return "copied";
    case 'T': return "type changed";
    default: return "modified";
    }
}

static bool is_staged(const struct git_change *change)
{
    return change->index != '.' && change->index != '?' && change->index != 'U';
}

static void print_branch(const struct cli *cli, const struct git_status *status)
{
    print_field(cli, "branch", status->branch ? status->branch : "none (detached)");
    print_field(cli, "commit", status->commit[0] ? status->commit : "none yet");
    if (status->upstream && status->is_compared)
        print_field_format(cli, "upstream", "%s (%" PRId64 " ahead, %" PRId64 " behind)", status->upstream,
                           status->n_ahead, status->n_behind);
    else
        print_field(cli, "upstream", status->upstream);
}

static enum pool_code print_changes(const struct cli *cli, const struct git_status *status,
                                    struct pool_error *err)
{
    static const struct table_column columns[] = { { .title = "CHANGE" },
                                                   { .title = "STAGED" },
                                                   { .title = "PATH", .may_shrink = true } };
    CLEANUP(table_done) struct table table;
    table_init(&table, &cli->terminal, columns, CLI_COUNT(columns));
    for (size_t i = 0; i < status->n_changes; i++) {
        const struct git_change *change = &status->changes[i];
        table_add_styled(&table, change->index == 'U' ? STYLE_BAD : STYLE_WARN, name_of_change(change));
        table_add(&table, !is_staged(change) ? "no" : change->work_tree == '.' ? "yes" : "partly");
        table_add(&table, change->path);
    }
    return table_print(&table, cli->out) ? POOL_OK : pool_error_no_memory(err);
}

static enum pool_code print_status(const struct cli *cli, const struct git *git,
                                   const struct git_status *status,
                                   const struct git_submodule_list *submodules, struct pool_error *err)
{
    enum pool_code code = POOL_OK;
    print_field(cli, "checkout", git->top);
    print_branch(cli, status);
    print_field_format(cli, "changes", "%zu", status->n_changes);
    print_field_format(cli, "submodules", "%zu", submodules->n);
    if (status->n_changes > 0) {
        fputc('\n', cli->out);
        code = print_changes(cli, status, err);
    }
    if (code == POOL_OK && submodules->n > 0) {
        fputc('\n', cli->out);
        code = print_submodule_table(cli, submodules, err);
    }
    return code;
}

static json_t *json_of_changes(const struct git_status *status)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < status->n_changes; i++) {
        const struct git_change *change = &status->changes[i];
        json_t *object = json_pack("{s:o, s:o, s:s, s:b, s:b}", "path", json_of_text(change->path), "from",
                                   json_of_text(change->from), "change", name_of_change(change), "staged",
                                   is_staged(change), "submodule", change->is_submodule);
        if (json_array_append_new(list, object) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static enum pool_code print_document_of(const struct cli *cli, const struct git *git,
                                        const struct git_status *status,
                                        const struct git_submodule_list *submodules, struct pool_error *err)
{
    json_t *ahead = status->is_compared ? json_integer(status->n_ahead) : json_null();
    json_t *behind = status->is_compared ? json_integer(status->n_behind) : json_null();
    CLEANUP_JSON json_t *document = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "checkout", json_of_text(git->top), "branch",
        json_of_text(status->branch), "commit", json_of_text(status->commit[0] ? status->commit : NULL),
        "upstream", json_of_text(status->upstream), "ahead", ahead, "behind", behind, "changes",
        json_of_changes(status), "submodules", json_of_submodules(submodules));
    return print_document(cli, document, err);
}

static enum pool_code run_status(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct git_status_arguments *arguments = data;
    CLEANUP(git_done) struct git git = { 0 };
    CLEANUP(git_status_done) struct git_status status = { 0 };
    CLEANUP(git_submodule_list_done) struct git_submodule_list submodules = { 0 };
    enum pool_code code = git_open(cli, arguments->directory, &git, err);
    if (code == POOL_OK)
        code = git_read_status(&git, &status, err);
    if (code == POOL_OK)
        code = git_list_submodules(&git, &submodules, err);
    if (code != POOL_OK)
        return code;
    return cli->globals.is_json ? print_document_of(cli, &git, &status, &submodules, err)
                                : print_status(cli, &git, &status, &submodules, err);
}

static const struct cli_option options[] = { GIT_REPO_OPTION(
    offsetof(struct git_status_arguments, directory)) };
static const char *const examples[] = { "rbees-pool git status",
                                        "rbees-pool git status --repo /srv/models --json" };

const struct cli_command git_status_command = {
    .path = "git status",
    .summary = "Show branch, commit, changes and submodules",
    .description = "Shows the git checkout that the present directory is in, as git tells it; nothing is "
                   "fetched, so what is "
                   "ahead and behind is as of the last fetch. Variables such as GIT_DIR, which would lead "
                   "git elsewhere, are "
                   "not passed on, and a core.fsmonitor of the checkout is not run.",
    CLI_OPTIONS(options),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct git_status_arguments),
    .run = run_status,
};
