/*
 * rbees-pool git submodules branch.
 */
#include <string.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/git_text.h"
#include "cli/json_document.h"

struct submodules_branch_arguments {
    const char *directory;
    const char *path;
    const char *branch;
};

/* What git takes for a branch; a word with '-' in front would be an option. */
static enum pool_code check_branch(const struct git *git, const char *branch, struct pool_error *err)
{
    CLEANUP_FREE char *line = NULL;
    enum pool_code code = POOL_OK;
    if (branch[0] != '-')
        code = git_line(git, NULL, (const char *const[]){ "check-ref-format", "--branch", branch, NULL },
                        &line, err);
    if (code != POOL_OK)
        return code;
    if (line && *line && strcmp(line, branch) == 0) /* "@{-1}" and such become another name */
        return POOL_OK;
    pool_error_set(err, POOL_INVALID_REQUEST, "'%.200s' is no name of a branch", branch);
    pool_error_set_field(err, "BRANCH");
    return POOL_INVALID_REQUEST;
}

static enum pool_code change(const struct git *git, const struct git_submodule *submodule, const char *branch,
                             struct pool_error *err)
{
    CLEANUP_FREE char *directory = NULL;
    struct strbuf out = { 0 };
    if (submodule->state == GIT_SUBMODULE_ABSENT)
        return pool_error_set(err, POOL_CONFLICT,
                              "%s is not fetched yet; 'rbees-pool git submodules update' does that",
                              submodule->path);
    if (asprintf(&directory, "%s/%s", git->top, submodule->path) < 0) {
        directory = NULL;
        return pool_error_no_memory(err);
    }
    enum pool_code code = check_branch(git, branch, err);
    if (code == POOL_OK)
        code = git_run(git, GIT_TRANSFER, directory,
                       (const char *const[]){ "fetch", "--no-recurse-submodules", NULL }, &out, err);
    strbuf_done(&out);
    if (code == POOL_OK)
        code = git_run(git, GIT_CHANGE, directory,
                       (const char *const[]){ "switch", "--quiet", "--guess", branch, NULL }, &out, err);
    strbuf_done(&out);
    return code;
}

static enum pool_code print_branch(const struct cli *cli, const struct git_submodule *submodule,
                                   struct pool_error *err)
{
    if (cli->globals.is_json) {
        CLEANUP_JSON json_t *document =
            json_pack("{s:o, s:o, s:o}", "path", json_of_text(submodule->path), "branch",
                      json_of_text(submodule->branch), "commit", json_of_text(submodule->commit));
        return print_document(cli, document, err);
    }
    terminal_print(&cli->terminal, cli->out, submodule->path);
    fputs(": ", cli->out);
    terminal_print(&cli->terminal, cli->out, submodule->branch ? submodule->branch : "no branch");
    if (submodule->commit)
        fprintf(cli->out, " at %.*s", GIT_SHORT_HASH, submodule->commit);
    fputc('\n', cli->out);
    return POOL_OK;
}

static enum pool_code run_branch(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct submodules_branch_arguments *arguments = data;
    const struct git_submodule *submodule = NULL;
    CLEANUP(git_done) struct git git = { 0 };
    CLEANUP(git_submodule_list_done) struct git_submodule_list before = { 0 };
    CLEANUP(git_submodule_list_done) struct git_submodule_list after = { 0 };
    enum pool_code code = git_open(cli, arguments->directory, &git, err);
    if (code == POOL_OK)
        code = git_list_submodules(&git, &before, err);
    if (code == POOL_OK)
        code = git_find_submodule(&before, arguments->path, &submodule, err);
    if (code == POOL_OK && arguments->branch) {
        code = change(&git, submodule, arguments->branch, err);
        if (code == POOL_OK)
            code = git_list_submodules(&git, &after, err);
        if (code == POOL_OK)
            code = git_find_submodule(&after, arguments->path, &submodule, err);
    }
    return code == POOL_OK ? print_branch(cli, submodule, err) : code;
}

#define AT(field) offsetof(struct submodules_branch_arguments, field)

static const struct cli_option options[] = { GIT_REPO_OPTION(AT(directory)) };
static const struct cli_positional positionals[] = {
    { .name = "PATH", .value = CLI_TEXT, .offset = AT(path), .summary = "The submodule" },
    { .name = "BRANCH",
      .value = CLI_TEXT,
      .offset = AT(branch),
      .is_optional = true,
      .summary = "The branch to check out in it; none: show which one is" },
};
static const char *const examples[] = { "rbees-pool git submodules branch libs/engine",
                                        "rbees-pool git submodules branch libs/engine main" };

const struct cli_command git_submodules_branch_command = {
    .path = "git submodules branch",
    .summary = "Show or change the branch that a submodule is on",
    .description =
        "Shows the branch of a submodule, or fetches and checks out another one: one that it has, or one of "
        "its remote, which is then followed. Changes that are in the way make git refuse. What the "
        "checkout records does not change; that is a commit of its own.",
    CLI_OPTIONS(options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct submodules_branch_arguments),
    .run = run_branch,
};
