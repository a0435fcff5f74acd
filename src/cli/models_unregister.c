/*
 * rbees-pool models unregister.
 */
#include <stdlib.h>

#include "base/cleanup.h"
#include "cli/catalog_file.h"
#include "cli/commands.h"
#include "cli/confirm.h"
#include "cli/json_document.h"
#include "cli/report.h"

struct models_unregister_arguments {
    const char *id;
    bool is_sure;
};

static enum pool_code run_unregister(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct models_unregister_arguments *arguments = data;
    CLEANUP(strbuf_done) struct strbuf question = STRBUF_INIT(8192);
    CLEANUP_FREE char *path = NULL;
    strbuf_printf(&question, "Take %s out of its catalog? Its files stay.", arguments->id);
    enum pool_code code = confirm(cli, arguments->is_sure, strbuf_text(&question), err);
    if (code == POOL_OK)
        code = catalog_file_remove(cli, arguments->id, &path, err);
    if (code != POOL_OK)
        return code;
    if (cli->globals.is_json) {
        CLEANUP_JSON json_t *document =
            json_pack("{s:o, s:o}", "id", json_of_text(arguments->id), "catalog", json_of_text(path));
        return print_document(cli, document, err);
    }
    fprintf(cli->out, "%s is no longer in ", arguments->id);
    terminal_print(&cli->terminal, cli->out, path);
    fputc('\n', cli->out);
    return POOL_OK;
}

static const struct cli_option options[] = { CONFIRM_OPTION(
    offsetof(struct models_unregister_arguments, is_sure)) };
static const struct cli_positional positionals[] = {
    { .name = "ID",
      .value = CLI_TEXT,
      .offset = offsetof(struct models_unregister_arguments, id),
      .summary = "The id of an entry" },
};
static const char *const examples[] = { "rbees-pool models unregister tiny --yes" };

const struct cli_command models_unregister_command = {
    .path = "models unregister",
    .summary = "Take a model out of its catalog",
    .description =
        "Takes one entry out of the catalog that has it, after asking. The model's files stay, and so does "
        "everything else in the catalog, comments too.",
    CLI_OPTIONS(options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct models_unregister_arguments),
    .run = run_unregister,
};
