/*
 * rbees-pool git sync: the checkout and its submodules as the upstream has them.
 */
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/confirm.h"
#include "cli/git_text.h"
#include "cli/git_upstream.h"
#include "cli/json_document.h"
#include "cli/report.h"

#define QUESTION_MAX 512

struct git_sync_arguments {
    const char *directory;
    bool is_forced;
    bool is_sure;
};

/* What would be lost. */
struct losses {
    size_t n_changes;
    int64_t n_commits;
    size_t n_submodules; /* with changes inside */
};

static struct losses count_losses(const struct git_upstream *upstream,
                                  const struct git_submodule_list *submodules)
{
    struct losses losses = { .n_commits = upstream->status.n_ahead };
    for (size_t i = 0; i < submodules->n; i++)
        losses.n_submodules +=
            submodules->at[i].state == GIT_SUBMODULE_CHANGED || submodules->at[i].state == GIT_SUBMODULE_BOTH;
    for (size_t i = 0; i < upstream->status.n_changes; i++) {
        const struct git_change *change = &upstream->status.changes[i];
        losses.n_changes += change->index != '?' && !(change->is_submodule && change->index == '.');
    }
    return losses;
}

static bool is_nothing(const struct losses *losses)
{
    return losses->n_changes == 0 && losses->n_commits == 0 && losses->n_submodules == 0;
}

static void describe(const struct losses *losses, const struct git_status *status, char text[QUESTION_MAX])
{
    const char *separator = " ";
    size_t n = (size_t)snprintf(text, QUESTION_MAX, "Discard");
    if (losses->n_changes > 0) {
        n += (size_t)snprintf(text + n, QUESTION_MAX - n, " %zu changed file%s", losses->n_changes,
                              losses->n_changes == 1 ? "" : "s");
        separator = ", ";
    }
    if (losses->n_commits > 0) {
        n += (size_t)snprintf(text + n, QUESTION_MAX - n, "%s%" PRId64 " commit%s of %.100s", separator,
                              losses->n_commits, losses->n_commits == 1 ? "" : "s", status->branch);
        separator = ", ";
    }
    if (losses->n_submodules > 0)
        n += (size_t)snprintf(text + n, QUESTION_MAX - n, "%sthe changes in %zu submodule%s", separator,
                              losses->n_submodules, losses->n_submodules == 1 ? "" : "s");
    snprintf(text + n, QUESTION_MAX - n, "?");
}

static enum pool_code refuse_losses(const struct losses *losses, const struct git_status *status,
                                    struct pool_error *err)
{
    char text[QUESTION_MAX];
    describe(losses, status, text);
    text[strlen(text) - 1] = '\0';
    text[0] = 'd';
    pool_error_set(err, POOL_CONFLICT, "that would %s; --force does it", text);
    pool_error_add_number(err, "n_changes", (int64_t)losses->n_changes);
    pool_error_add_number(err, "n_commits", losses->n_commits);
    pool_error_add_number(err, "n_submodules", (int64_t)losses->n_submodules);
    return POOL_CONFLICT;
}

/* Exactly the commit that the person was asked about, whatever was fetched meanwhile. */
static enum pool_code reset(const struct git *git, const struct git_upstream *upstream,
                            struct pool_error *err)
{
    struct strbuf out = { 0 };
    enum pool_code code =
        git_run(git, GIT_CHANGE, NULL,
                (const char *const[]){ "reset", "--quiet", "--hard", upstream->target, NULL }, &out, err);
    strbuf_done(&out);
    return code;
}

static enum pool_code synchronise(const struct cli *cli, const struct git *git,
                                  const struct git_upstream *upstream,
                                  const struct git_sync_arguments *arguments, struct losses *ret_losses,
                                  struct pool_error *err)
{
    CLEANUP(git_submodule_list_done) struct git_submodule_list submodules = { 0 };
    enum pool_code code = git_list_submodules(git, &submodules, err);
    if (code != POOL_OK)
        return code;
    struct losses losses = count_losses(upstream, &submodules);
    if (!is_nothing(&losses)) {
        char question[QUESTION_MAX];
        if (!arguments->is_forced)
            return refuse_losses(&losses, &upstream->status, err);
        describe(&losses, &upstream->status, question);
        code = confirm(cli, arguments->is_sure, question, err);
        if (code == POOL_OK)
            code = reset(git, upstream, err);
    } else {
        code = git_move_forward(git, upstream, err);
    }
    if (code == POOL_OK)
        code = git_update_submodules(git, NULL, arguments->is_forced, err);
    *ret_losses = losses;
    return code;
}

static enum pool_code print_result(const struct cli *cli, const struct git *git,
                                   const struct git_upstream *upstream, const struct losses *losses,
                                   struct pool_error *err)
{
    CLEANUP(git_submodule_list_done) struct git_submodule_list submodules = { 0 };
    const struct git_status *before = &upstream->status;
    enum pool_code code = git_list_submodules(git, &submodules, err);
    if (code != POOL_OK)
        return code;
    if (cli->globals.is_json) {
        CLEANUP_JSON json_t *document = json_pack(
            "{s:o, s:o, s:o, s:o, s:o, s:b, s:{s:I, s:I, s:I}, s:o}", "checkout", json_of_text(git->top),
            "branch", json_of_text(before->branch), "upstream", json_of_text(before->upstream), "before",
            json_of_text(before->commit), "commit", json_of_text(upstream->target), "changed",
            strcmp(before->commit, upstream->target) != 0, "discarded", "changes",
            (json_int_t)losses->n_changes, "commits", (json_int_t)losses->n_commits, "submodules",
            (json_int_t)losses->n_submodules, "submodules", json_of_submodules(&submodules));
        return print_document(cli, document, err);
    }
    print_field(cli, "branch", before->branch);
    print_field(cli, "upstream", before->upstream);
    print_field_format(cli, "commit", "%.*s, was %.*s", GIT_SHORT_HASH, upstream->target, GIT_SHORT_HASH,
                       before->commit);
    if (submodules.n == 0)
        return POOL_OK;
    fputc('\n', cli->out);
    return print_submodule_table(cli, &submodules, err);
}

static enum pool_code run_sync(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct git_sync_arguments *arguments = data;
    CLEANUP(git_done) struct git git = { 0 };
    CLEANUP(git_upstream_done) struct git_upstream upstream = { 0 };
    struct losses losses = { 0 };
    enum pool_code code = git_open(cli, arguments->directory, &git, err);
    if (code == POOL_OK)
        code = git_fetch_upstream(&git, &upstream, err);
    if (code == POOL_OK)
        code = synchronise(cli, &git, &upstream, arguments, &losses, err);
    return code == POOL_OK ? print_result(cli, &git, &upstream, &losses, err) : code;
}

#define AT(field) offsetof(struct git_sync_arguments, field)

static const struct cli_option options[] = {
    { .name = "force",
      .letter = 'f',
      .offset = AT(is_forced),
      .summary = "Discard changes that are not committed and commits that the upstream does not have" },
    CONFIRM_OPTION(AT(is_sure)),
    GIT_REPO_OPTION(AT(directory)),
};
static const char *const examples[] = { "rbees-pool git sync", "rbees-pool git sync --force --yes" };

const struct cli_command git_sync_command = {
    .path = "git sync",
    .summary = "Bring checkout and submodules to the upstream",
    .description =
        "Fetches, moves the branch to its upstream and the submodules to the commits that are recorded "
        "there. "
        "What would lose something is refused; with --force it is said what would be lost, and done when you "
        "agree. Files that git does not know are never touched.",
    CLI_OPTIONS(options),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct git_sync_arguments),
    .run = run_sync,
};
