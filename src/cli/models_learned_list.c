/*
 * rbees-pool models learned list.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/json_document.h"
#include "cli/learned_store.h"
#include "cli/report.h"
#include "cli/table.h"

static void add_row(struct table *table, const struct pool_learned_use *use)
{
    char id[LEARNED_ID_MAX], peak[HUMAN_BYTES_MAX], estimate[HUMAN_BYTES_MAX];
    struct pool_memory_need need = { .estimate = { .total_bytes = use->estimate_bytes },
                                     .measured_bytes = { true, use->peak_bytes } };
    struct pool_reading error = pool_memory_need_error_permille(&need);
    learned_id(use->key, id);
    format_bytes(use->peak_bytes, peak);
    format_bytes(use->estimate_bytes, estimate);
    table_add(table, id);
    table_add(table, peak);
    table_add(table, use->estimate_bytes > 0 ? estimate : NULL);
    if (error.is_present)
        table_printf(table, "%+.1f %%", (double)error.value / 10.0);
    else
        table_add(table, NULL);
    table_printf(table, "%lld", (long long)use->n_starts);
    table_add(table, use->model_ref);
    table_add(table, use->key);
}

static enum pool_code run_list(struct cli *cli, const void *data, struct pool_error *err)
{
    static const struct table_column columns[] = {
        { .title = "ID" },
        { .title = "PEAK", .is_right = true },
        { .title = "ESTIMATE", .is_right = true },
        { .title = "ERROR", .is_right = true },
        { .title = "STARTS", .is_right = true },
        { .title = "MODEL", .may_shrink = true },
        { .title = "STARTED AS", .may_shrink = true },
    };
    (void)data;
    CLEANUP(release_learned) struct pool_learned_list *list = NULL;
    CLEANUP(table_done) struct table table;
    table_init(&table, &cli->terminal, columns, CLI_COUNT(columns));
    enum pool_code code = learned_read(cli, &list, err);
    if (code != POOL_OK)
        return code;
    if (cli->globals.is_json) {
        CLEANUP_JSON json_t *document = json_of_learned(list);
        return print_document(cli, document, err);
    }
    for (size_t i = 0; list && i < list->n_uses; i++)
        add_row(&table, &list->uses[i]);
    if (!list || list->n_uses == 0)
        report_notice(
            cli, "nothing was measured yet: that takes a worker on a GPU whose driver lists its processes");
    return table_print(&table, cli->out) ? POOL_OK : pool_error_no_memory(err);
}

static const char *const examples[] = { "rbees-pool models learned list" };

const struct cli_command models_learned_list_command = {
    .path = "models learned list",
    .summary = "List what workers were measured to take",
    .description = "Lists the most that workers took of their device, for each way in which they were "
                   "started: shape of the model, "
                   "context, slots, arguments (as a digest), backend, engine and device. The next start of "
                   "that kind is admitted with "
                   "it, and not with an estimate. The error is that of the estimate without its margin.",
    CLI_EXAMPLES(examples),
    .arguments_bytes = 1,
    .run = run_list,
};
