/*
 * Checkouts and submodules as people and scripts read them.
 */
#include "cli/git_text.h"

#include "base/cleanup.h"
#include "cli/json_document.h"

enum pool_code print_submodule_table(const struct cli *cli, const struct git_submodule_list *list,
                                     struct pool_error *err)
{
    static const struct table_column columns[] = {
        { .title = "SUBMODULE", .may_shrink = true },
        { .title = "STATE" },
        { .title = "RECORDED" },
        { .title = "COMMIT" },
        { .title = "BRANCH", .may_shrink = true },
    };
    CLEANUP(table_done) struct table table;
    table_init(&table, &cli->terminal, columns, CLI_COUNT(columns));
    for (size_t i = 0; i < list->n; i++) {
        const struct git_submodule *submodule = &list->at[i];
        table_add(&table, submodule->path);
        table_add_styled(&table, submodule->state == GIT_SUBMODULE_CLEAN ? STYLE_GOOD : STYLE_WARN,
                         git_submodule_state_name(submodule->state));
        table_printf(&table, "%.*s", GIT_SHORT_HASH, submodule->recorded);
        if (submodule->commit)
            table_printf(&table, "%.*s", GIT_SHORT_HASH, submodule->commit);
        else
            table_add(&table, NULL);
        table_add(&table, submodule->branch);
    }
    return table_print(&table, cli->out) ? POOL_OK : pool_error_no_memory(err);
}

json_t *json_of_submodules(const struct git_submodule_list *list)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < list->n; i++) {
        const struct git_submodule *submodule = &list->at[i];
        json_t *object =
            json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "path", json_of_text(submodule->path),
                      "name", json_of_text(submodule->name), "url", json_of_text(submodule->url),
                      "followed_branch", json_of_text(submodule->followed), "recorded_commit",
                      json_of_text(submodule->recorded), "commit", json_of_text(submodule->commit), "branch",
                      json_of_text(submodule->branch), "state", git_submodule_state_name(submodule->state));
        if (json_array_append_new(array, object) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

enum pool_code print_submodules(const struct cli *cli, const struct git_submodule_list *list,
                                struct pool_error *err)
{
    if (cli->globals.is_json) {
        CLEANUP_JSON json_t *document = json_pack("{s:o}", "submodules", json_of_submodules(list));
        return print_document(cli, document, err);
    }
    if (list->n > 0)
        return print_submodule_table(cli, list, err);
    fputs("no submodules\n", cli->out);
    return POOL_OK;
}
