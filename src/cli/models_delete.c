/*
 * rbees-pool models delete.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/confirm.h"
#include "cli/json_document.h"
#include "cli/model_folder.h"
#include "cli/model_state.h"
#include "cli/remote.h"
#include "cli/report.h"
#include "cli/worker_text.h"

struct models_delete_arguments {
    const char *model_ref;
    bool is_sure;
    bool is_forced;
};

static bool uses(const struct pool_worker_info *worker, const struct pool_model *model)
{
    if (worker->status == POOL_WORKER_STOPPED)
        return false;
    return (worker->model_path && strcmp(worker->model_path, model->path) == 0) ||
           (worker->model_ref && strcmp(worker->model_ref, model->ref) == 0);
}

/* A worker that runs keeps the bytes it has mapped, but not what it would read next. */
static enum pool_code check_workers(struct cli *cli, const struct pool_model *model, struct pool_error *err)
{
    CLEANUP(release_worker_list) struct pool_worker_list *list = NULL;
    struct remote_http *daemon;
    struct pool_manager *manager;
    enum pool_code code = cli_get_pool(cli, &daemon, &manager, err);
    if (code == POOL_OK)
        code = daemon ? remote_list_workers(cli, false, &list, err)
                      : pool_manager_list_workers(manager, POOL_REGISTRY_LIVE, &list, err);
    for (size_t i = 0; code == POOL_OK && i < list->n_workers; i++) {
        if (!uses(list->workers[i], model))
            continue;
        code = pool_error_set(err, POOL_CONFLICT, "worker %s uses the model; stop it first, or say --force",
                              list->workers[i]->worker_id);
        pool_error_add_text(err, "worker_id", list->workers[i]->worker_id);
    }
    return code;
}

static enum pool_code ask(const struct cli *cli, const struct models_delete_arguments *arguments,
                          const struct pool_model *model, struct pool_error *err)
{
    CLEANUP(strbuf_done) struct strbuf question = STRBUF_INIT(8192);
    char size[HUMAN_BYTES_MAX];
    format_bytes(model->size_bytes, size);
    strbuf_printf(&question, "Delete %s (%zu file%s, %s)?", model->path, model->n_files,
                  model->n_files == 1 ? "" : "s", size);
    return confirm(cli, arguments->is_sure, strbuf_text(&question), err);
}

static enum pool_code print_deleted(const struct cli *cli, const struct pool_model *model,
                                    struct pool_error *err)
{
    char size[HUMAN_BYTES_MAX];
    if (cli->globals.is_json) {
        CLEANUP_JSON json_t *document = json_pack(
            "{s:o, s:o, s:I, s:I}", "model", json_of_text(model->ref), "path", json_of_text(model->path),
            "n_files", (json_int_t)model->n_files, "freed_bytes", (json_int_t)model->size_bytes);
        return print_document(cli, document, err);
    }
    format_bytes(model->size_bytes, size);
    fputs("deleted ", cli->out);
    terminal_print(&cli->terminal, cli->out, model->path);
    fprintf(cli->out, ", %s\n", size);
    return POOL_OK;
}

static enum pool_code run_delete(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct models_delete_arguments *arguments = data;
    CLEANUP(release_catalog) struct pool_model_catalog *catalog = NULL;
    CLEANUP(release_model) struct pool_model *model = NULL;
    const struct pool_config *config;
    enum pool_code code = cli_get_config(cli, &config, err);
    if (code == POOL_OK)
        code = open_catalog(cli, &catalog, err);
    if (code == POOL_OK)
        code = pool_config_resolve_model(config, cli->environment, catalog, true, arguments->model_ref,
                                         &model, err);
    if (code == POOL_OK)
        code = model_folder_check(config, model, err);
    if (code == POOL_OK && !arguments->is_forced)
        code = check_workers(cli, model, err);
    if (code == POOL_OK)
        code = ask(cli, arguments, model, err);
    if (code == POOL_OK)
        code = model_folder_delete(config, model, err);
    return code == POOL_OK ? print_deleted(cli, model, err) : code;
}

#define AT(field) .offset = offsetof(struct models_delete_arguments, field)

static const struct cli_option options[] = {
    CONFIRM_OPTION(offsetof(struct models_delete_arguments, is_sure)),
    { .name = "force", .letter = 'f', AT(is_forced), .summary = "Also when a worker uses it" },
};
static const struct cli_positional positionals[] = {
    { .name = "MODEL",
      .value = CLI_TEXT,
      AT(model_ref),
      .summary = "An id of the catalog, file:/path or hf:ORG/REPO[@REV][::file=PATH]" },
};
static const char *const examples[] = {
    "rbees-pool models delete qwen2.5-0.5b",
    "rbees-pool models delete hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF::file=qwen2.5-0.5b-instruct-q4_k_m.gguf "
    "--yes",
};

const struct cli_command models_delete_command = {
    .path = "models delete",
    .summary = "Delete a model's files",
    .description = "Deletes the files of one model below pool.models_dirs, all parts of it, after asking. "
                   "Its entry in a "
                   "catalog stays: 'models unregister' takes that away. What is in the Hub's own cache is "
                   "left to its tools "
                   "('hf cache'), and what lies elsewhere to whoever put it there. It is refused while a "
                   "worker uses the model.",
    CLI_OPTIONS(options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct models_delete_arguments),
    .run = run_delete,
};
