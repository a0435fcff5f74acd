/*
 * rbees-pool explain: why something was done or refused.
 */
#include <stdlib.h>
#include <string.h>

#include <pool/lifecycle.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/remote.h"
#include "cli/report.h"

struct explain_arguments {
    const char *id;
};

static void release_list(struct pool_explanation_list **list)
{
    pool_explanation_list_free(*list);
}

static enum pool_code get_explanations(struct cli *cli, const char *id,
                                       struct pool_explanation_list **ret_list, struct pool_error *err)
{
    struct remote_http *daemon;
    struct pool_manager *manager;
    enum pool_code code = cli_get_pool(cli, &daemon, &manager, err);
    if (code != POOL_OK)
        return code;
    return daemon ? remote_explain(cli, id, ret_list, err) : pool_manager_explain(manager, id, ret_list, err);
}

/* Newest last: what matters most stands where the eye is. */
static enum pool_code print_texts(const struct cli *cli, const struct pool_explanation_list *list,
                                  struct pool_error *err)
{
    for (size_t i = list->n_explanations; i > 0; i--) {
        CLEANUP_FREE char *text = NULL;
        enum pool_code code = pool_explanation_format(list->explanations[i - 1], &text, err);
        if (code != POOL_OK)
            return code;
        if (i < list->n_explanations)
            fputc('\n', cli->out);
        terminal_print_lines(&cli->terminal, cli->out, text, strlen(text));
    }
    return POOL_OK;
}

static enum pool_code run_explain(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct explain_arguments *arguments = data;
    CLEANUP(release_list) struct pool_explanation_list *list = NULL;
    enum pool_code code = get_explanations(cli, arguments->id, &list, err);
    if (code != POOL_OK)
        return code;
    if (!cli->globals.is_json)
        return print_texts(cli, list, err);
    CLEANUP_FREE char *json = NULL;
    code = pool_explanation_list_encode(list, &json, err);
    if (code == POOL_OK)
        print_json(cli, &json);
    return code;
}

static const struct cli_positional positionals[] = {
    { .name = "ID",
      .value = CLI_TEXT,
      .offset = offsetof(struct explain_arguments, id),
      .summary = "A worker, the correlation id of a request, or the explain_id of an error" },
};
static const char *const examples[] = { "rbees-pool explain worker-1", "rbees-pool explain worker-1 --json" };

const struct cli_command explain_command = {
    .path = "explain",
    .summary = "Say why a worker was started, refused or stopped",
    .description = "Shows the records behind what happened to a worker or a request, the newest last: what "
                   "was asked for, the devices that were looked at with the arithmetic of each, and what "
                   "was decided. An error names its record as explain_id. The last 1000 records are kept.",
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct explain_arguments),
    .run = run_explain,
};
