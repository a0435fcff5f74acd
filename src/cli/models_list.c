/*
 * rbees-pool models list.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/disk_models.h"
#include "cli/json_document.h"
#include "cli/model_state.h"
#include "cli/report.h"
#include "cli/table.h"

struct listing {
    struct cli *cli;
    const struct pool_model_catalog *catalog;
    struct disk_models *on_disk;
    struct table *table;
    json_t *list;
    size_t n_listed;
};

static void add_row(struct listing *listing, const char *ref, const char *id, const char *place,
                    const struct model_state *state)
{
    char size[HUMAN_BYTES_MAX];
    const struct pool_model *model = state->model;
    struct table *table = listing->table;
    table_add(table, id);
    table_add_styled(table, model_condition_style(state->condition), model_condition_name(state->condition));
    if (model)
        format_bytes(model->size_bytes, size);
    table_add(table, model ? size : NULL);
    table_add(table, place);
    table_add(table, model ? model->ref : ref);
}

static enum pool_code add_document(struct listing *listing, const char *place,
                                   const struct model_state *state, struct pool_error *err)
{
    const struct pool_model_metadata *metadata = state->model ? state->model->metadata : NULL;
    json_t *object = json_of_model(metadata, state, NULL);
    if (json_object_set_new(object, "place", json_string(place)) < 0) {
        json_decref(object);
        return pool_error_no_memory(err);
    }
    return json_array_append_new(listing->list, object) < 0 ? pool_error_no_memory(err) : POOL_OK;
}

static enum pool_code add_found(struct listing *listing, const char *ref, const char *id, const char *place,
                                const struct model_state *state, struct pool_error *err)
{
    listing->n_listed++;
    if (listing->cli->globals.is_json)
        return add_document(listing, place, state, err);
    add_row(listing, ref, id, place, state);
    return POOL_OK;
}

/* Those that a catalog names come first, by id. They may lie anywhere. */
static enum pool_code add_entry(struct listing *listing, const char *id, struct pool_error *err)
{
    CLEANUP(model_state_done) struct model_state state = { 0 };
    enum pool_code code = model_state_find(listing->cli, listing->catalog, id, &state, err);
    if (code != POOL_OK || state.condition == MODEL_ABSENT)
        return code;
    struct disk_model *found = state.model ? disk_models_get(listing->on_disk, state.model->ref) : NULL;
    if (found)
        found->is_named = true;
    const char *place = !found ? "elsewhere" : found->is_in_cache ? "hub-cache" : "models";
    return add_found(listing, id, id, place, &state, err);
}

static enum pool_code add_unnamed(struct listing *listing, const struct disk_model *model,
                                  struct pool_error *err)
{
    CLEANUP(model_state_done) struct model_state state = { 0 };
    enum pool_code code = model_state_find(listing->cli, NULL, model->ref, &state, err);
    if (code != POOL_OK || state.condition == MODEL_ABSENT)
        return code;
    return add_found(listing, model->ref, NULL, model->is_in_cache ? "hub-cache" : "models", &state, err);
}

static enum pool_code add_all(struct listing *listing, struct pool_error *err)
{
    size_t n = pool_model_catalog_n_models(listing->catalog);
    enum pool_code code = POOL_OK;
    for (size_t i = 0; i < n && code == POOL_OK; i++)
        code = add_entry(listing, pool_model_catalog_at(listing->catalog, i)->id, err);
    for (size_t i = 0; i < listing->on_disk->n && code == POOL_OK; i++) {
        if (!listing->on_disk->at[i].is_named)
            code = add_unnamed(listing, &listing->on_disk->at[i], err);
    }
    return code;
}

static enum pool_code run_list(struct cli *cli, const void *data, struct pool_error *err)
{
    static const struct table_column columns[] = {
        { .title = "ID" },
        { .title = "STATE" },
        { .title = "SIZE", .is_right = true },
        { .title = "PLACE" },
        { .title = "MODEL", .may_shrink = true },
    };
    (void)data;
    CLEANUP(release_catalog) struct pool_model_catalog *catalog = NULL;
    CLEANUP(disk_models_done) struct disk_models models = { 0 };
    CLEANUP(table_done) struct table table;
    table_init(&table, &cli->terminal, columns, CLI_COUNT(columns));
    CLEANUP_JSON json_t *list = json_array();
    if (!list)
        return pool_error_no_memory(err);
    enum pool_code code = open_catalog(cli, &catalog, err);
    if (code == POOL_OK)
        code = disk_models_find(cli, &models, err);
    struct listing listing = {
        .cli = cli, .catalog = catalog, .on_disk = &models, .table = &table, .list = list
    };
    if (code == POOL_OK)
        code = add_all(&listing, err);
    if (code != POOL_OK)
        return code;
    if (cli->globals.is_json) {
        CLEANUP_JSON json_t *document = json_pack("{s:O}", "models", list);
        return print_document(cli, document, err);
    }
    if (listing.n_listed == 0)
        report_notice(cli, "no model is on disk; 'models catalog' lists what can be downloaded");
    return table_print(&table, cli->out) ? POOL_OK : pool_error_no_memory(err);
}

static const char *const examples[] = { "rbees-pool models list", "rbees-pool models list --json" };

const struct cli_command models_list_command = {
    .path = "models list",
    .summary = "List the models that are on disk",
    .description =
        "Lists the models on disk, whether a catalog names them or not: what was downloaded and other GGUF "
        "files and safetensors below pool.models_dirs (place 'models'), what the Hub's own cache has "
        "('hub-cache'), and files 'elsewhere' that a catalog names. 'verified' means that the "
        "SHA-256 "
        "was found to be what the catalog or the Hub says, by the download or by 'models verify', and the "
        "files "
        "have not changed since; nothing is read again for this list. Parts of a split model are one model.",
    CLI_EXAMPLES(examples),
    .run = run_list,
};
