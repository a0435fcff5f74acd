/*
 * rbees-pool models catalog.
 */
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/json_document.h"
#include "cli/model_state.h"
#include "cli/report.h"
#include "cli/table.h"

static void add_row(struct table *table, const struct pool_model_metadata *metadata,
                    const struct model_state *state)
{
    char size[HUMAN_BYTES_MAX];
    int64_t size_bytes = state->model ? state->model->size_bytes : metadata->size_bytes;
    table_add(table, metadata->id);
    table_add_styled(table, model_condition_style(state->condition), model_condition_name(state->condition));
    if (size_bytes >= 0)
        format_bytes(size_bytes, size);
    table_add(table, size_bytes >= 0 ? size : NULL);
    table_add(table, metadata->name);
    table_add(table, metadata->repo ? metadata->repo : metadata->file);
}

static enum pool_code add_model(struct cli *cli, const struct pool_model_catalog *catalog, size_t index,
                                struct table *table, json_t *list, struct pool_error *err)
{
    CLEANUP(model_state_done) struct model_state state = { 0 };
    const struct pool_model_metadata *metadata = pool_model_catalog_at(catalog, index);
    enum pool_code code = model_state_find(cli, catalog, metadata->id, &state, err);
    if (code != POOL_OK)
        return code;
    if (!cli->globals.is_json)
        add_row(table, metadata, &state);
    else if (json_array_append_new(list, json_of_model(metadata, &state, NULL)) < 0)
        return pool_error_no_memory(err);
    return POOL_OK;
}

static enum pool_code run_catalog(struct cli *cli, const void *data, struct pool_error *err)
{
    static const struct table_column columns[] = {
        { .title = "ID" },
        { .title = "STATE" },
        { .title = "SIZE", .is_right = true },
        { .title = "NAME", .may_shrink = true },
        { .title = "FROM", .may_shrink = true },
    };
    (void)data;
    CLEANUP(release_catalog) struct pool_model_catalog *catalog = NULL;
    CLEANUP(table_done) struct table table;
    table_init(&table, &cli->terminal, columns, CLI_COUNT(columns));
    CLEANUP_JSON json_t *list = json_array();
    if (!list)
        return pool_error_no_memory(err);
    enum pool_code code = open_catalog(cli, &catalog, err);
    size_t n = code == POOL_OK ? pool_model_catalog_n_models(catalog) : 0;
    for (size_t i = 0; i < n && code == POOL_OK; i++)
        code = add_model(cli, catalog, i, &table, list, err);
    if (code != POOL_OK)
        return code;
    if (cli->globals.is_json) {
        CLEANUP_JSON json_t *document = json_pack("{s:O}", "models", list);
        return print_document(cli, document, err);
    }
    if (n == 0)
        report_notice(cli, "no catalog names a model; see pool.catalogs in 'config show'");
    return table_print(&table, cli->out) ? POOL_OK : pool_error_no_memory(err);
}

static const char *const examples[] = { "rbees-pool models catalog", "rbees-pool models catalog --json" };

const struct cli_command models_catalog_command = {
    .path = "models catalog",
    .summary = "List what the catalogs name",
    .description = "Lists what the catalogs name, on disk or not. 'verified' means that its SHA-256 was "
                   "found right, by the "
                   "download or by 'models verify', and its files have not changed since; nothing is read "
                   "again for this "
                   "list.",
    CLI_EXAMPLES(examples),
    .run = run_catalog,
};
