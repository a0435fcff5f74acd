/*
 * rbees-pool models learned export.
 */
#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/json_document.h"
#include "cli/learned_store.h"

static enum pool_code run_export(struct cli *cli, const void *data, struct pool_error *err)
{
    (void)data;
    CLEANUP(release_learned) struct pool_learned_list *list = NULL;
    enum pool_code code = learned_read(cli, &list, err);
    if (code != POOL_OK)
        return code;
    CLEANUP_JSON json_t *document = json_of_learned(list);
    return print_document(cli, document, err);
}

static const char *const examples[] = { "rbees-pool models learned export" };

const struct cli_command models_learned_export_command = {
    .path = "models learned export",
    .summary = "Write what was measured as JSON",
    .description = "Writes all that was measured as one JSON document, with or without --json.",
    CLI_EXAMPLES(examples),
    .arguments_bytes = 1,
    .run = run_export,
};
