/*
 * rbees-pool models verify.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <pool/lifecycle.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/disk_models.h"
#include "cli/interrupt.h"
#include "cli/json_document.h"
#include "cli/model_state.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/verify_files.h"

struct models_verify_arguments {
    const char *model_ref;
    bool all;
    bool is_forced;
};

/* One model, and where its files are among all that are hashed. */
struct verified_model {
    const char *name; /* as it was asked for; borrowed */
    struct pool_model *model;
    size_t first_file, n_files; /* none: they need not be hashed */
    struct pool_verify_result result;
    struct pool_error error;
};

struct verification {
    struct cli *cli;
    const struct pool_config *config;
    const struct pool_model_catalog *catalog;
    const char *proof_dir;
    bool is_forced;
    int cancel_fd;
    struct progress_line line;
    size_t n_models;
    struct verified_model *models;
    struct verify_files files;
};

static void verification_done(struct verification *verification)
{
    progress_clear(&verification->line);
    for (size_t i = 0; i < verification->n_models; i++)
        pool_model_free(verification->models[i].model);
    free(verification->models);
    free(verification->files.at);
}

static bool go_on(int64_t done_bytes, int64_t total_bytes, void *context)
{
    struct verification *verification = context;
    struct pollfd fd = { .fd = verification->cancel_fd, .events = POLLIN };
    progress_of_bytes(done_bytes, total_bytes, &verification->line);
    return poll(&fd, 1, 0) <= 0;
}

/* ---- what is to be hashed ---- */

static enum pool_code add_file(struct verification *verification, const char *path, const char *sha256,
                               struct pool_error *err)
{
    struct verify_files *files = &verification->files;
    struct stat st;
    struct verify_file *at = reallocarray(files->at, files->n + 1, sizeof *at);
    if (!at)
        return pool_error_no_memory(err);
    files->at = at;
    at[files->n++] = (struct verify_file){ .path = path,
                                           .sha256 = sha256,
                                           .size_bytes = stat(path, &st) == 0 ? st.st_size : 0 };
    return POOL_OK;
}

static enum pool_code add_files(struct verification *verification, struct verified_model *of,
                                struct pool_error *err)
{
    const struct pool_model *model = of->model;
    enum pool_code code = POOL_OK;
    of->first_file = verification->files.n;
    for (size_t i = 0; i < model->n_files && code == POOL_OK; i++) {
        const char *sha256 = model->known_sha256s ? model->known_sha256s[i] : NULL;
        if (model->metadata && i < model->metadata->n_files && model->metadata->files[i].sha256)
            sha256 = model->metadata->files[i].sha256;
        code = add_file(verification, model->file_paths[i], sha256, err);
        of->n_files++;
    }
    return code;
}

/* Sizes and proofs first: they cost nothing. What is left to be hashed is added to the files. */
static enum pool_code look_at(struct verification *verification, struct verified_model *of,
                              struct pool_error *err)
{
    struct pool_verify_options options = { .struct_size = sizeof options,
                                           .proof_dir = verification->proof_dir,
                                           .only_proof = true };
    enum pool_code code =
        pool_config_resolve_model(verification->config, verification->cli->environment, verification->catalog,
                                  true, of->name, &of->model, &of->error);
    if (code == POOL_OK)
        code = pool_model_verify(of->model, &options, &of->result, &of->error);
    if (code == POOL_INSUFFICIENT_MEMORY)
        return pool_error_no_memory(err);
    bool was_proven =
        code == POOL_OK || (code == POOL_MODEL_CORRUPT && pool_error_detail(&of->error, "actual_sha256"));
    if (code != POOL_MODEL_UNVERIFIED && !(was_proven && verification->is_forced))
        return POOL_OK;
    of->error = (struct pool_error)POOL_ERROR_INIT;
    of->result = (struct pool_verify_result){ 0 };
    return add_files(verification, of, err);
}

static enum pool_code add_model(struct verification *verification, const char *name, struct pool_error *err)
{
    struct verified_model *models =
        reallocarray(verification->models, verification->n_models + 1, sizeof *models);
    if (!models)
        return pool_error_no_memory(err);
    verification->models = models;
    struct verified_model *of = &models[verification->n_models++];
    *of = (struct verified_model){ .name = name, .error = POOL_ERROR_INIT };
    return look_at(verification, of, err);
}

/* ---- what came of it ---- */

/* From its files to the model. Who asks wants to know whether it is the right one. */
static void conclude(struct verification *verification, struct verified_model *of)
{
    struct pool_error *error = &of->error;
    const struct verify_file *files = of->n_files > 0 ? &verification->files.at[of->first_file] : NULL;
    if (error->code != POOL_OK)
        return;
    if (files)
        of->result = (struct pool_verify_result){ .is_verified = true, .was_remembered = true };
    for (size_t i = 0; i < of->n_files; i++) {
        if (files[i].error.code != POOL_OK) {
            *error = files[i].error;
            return;
        }
        of->result.is_verified = of->result.is_verified && files[i].result.is_verified;
        of->result.was_remembered = of->result.was_remembered && files[i].result.was_remembered;
        of->result.hashed_bytes = add_bytes(of->result.hashed_bytes, files[i].result.hashed_bytes);
    }
    if (files)
        memcpy(of->result.sha256, files[0].result.sha256, sizeof of->result.sha256);
    if (of->result.is_verified)
        return;
    pool_error_set(error, POOL_MODEL_UNVERIFIED,
                   "%s: no SHA-256 is known to compare with; that of its first file is %s", of->name,
                   of->result.sha256);
    pool_error_add_text(error, "sha256", of->result.sha256);
}

static enum pool_code hash_all(struct verification *verification, struct pool_error *err)
{
    struct verify_files *files = &verification->files;
    bool is_one = verification->n_models == 1;
    files->proof_dir = verification->proof_dir;
    files->is_forced = verification->is_forced;
    files->progress = go_on;
    files->context = verification;
    verification->line =
        (struct progress_line){ .cli = verification->cli,
                                .subject = is_one ? verification->models[0].name : "verifying" };
    enum pool_code code = verify_files(files, err);
    progress_clear(&verification->line);
    for (size_t i = 0; i < verification->n_models && code == POOL_OK; i++)
        conclude(verification, &verification->models[i]);
    return code;
}

static void print_result(const struct cli *cli, const char *model_ref,
                         const struct pool_verify_result *result)
{
    char hashed[HUMAN_BYTES_MAX];
    terminal_print(&cli->terminal, cli->out, model_ref);
    format_bytes(result->hashed_bytes, hashed);
    if (result->was_remembered)
        fputs(": verified (as before, nothing was read)\n", cli->out);
    else
        fprintf(cli->out, ": verified (%s read)\n", hashed);
}

static json_t *json_of_result(const char *model_ref, const struct pool_verify_result *result,
                              const struct pool_error *error)
{
    return json_pack("{s:o, s:b, s:b, s:I, s:s?, s:o}", "model", json_of_text(model_ref), "verified",
                     result->is_verified, "remembered", result->was_remembered, "hashed_bytes",
                     (json_int_t)result->hashed_bytes, "sha256", result->sha256[0] ? result->sha256 : NULL,
                     "error", json_of_error(error));
}

static enum pool_code verify_one(struct verification *verification, const char *model_ref,
                                 struct pool_error *err)
{
    static const struct pool_error none = POOL_ERROR_INIT;
    enum pool_code code = add_model(verification, model_ref, err);
    if (code == POOL_OK)
        code = hash_all(verification, err);
    if (code != POOL_OK)
        return code;
    const struct verified_model *of = &verification->models[0];
    if (of->error.code != POOL_OK) {
        if (err)
            *err = of->error;
        return of->error.code;
    }
    if (!verification->cli->globals.is_json) {
        print_result(verification->cli, model_ref, &of->result);
        return POOL_OK;
    }
    CLEANUP_JSON json_t *document = json_of_result(model_ref, &of->result, &none);
    return print_document(verification->cli, document, err);
}

/* ---- all of them ---- */

static enum pool_code print_all(struct verification *verification, struct pool_error *err)
{
    struct cli *cli = verification->cli;
    CLEANUP_JSON json_t *results = json_array();
    for (size_t i = 0; i < verification->n_models; i++) {
        const struct verified_model *of = &verification->models[i];
        if (cli->globals.is_json) {
            if (json_array_append_new(results, json_of_result(of->name, &of->result, &of->error)) < 0)
                return pool_error_no_memory(err);
        } else if (of->error.code == POOL_OK) {
            print_result(cli, of->name, &of->result);
        } else {
            (void)report_error(cli, &of->error);
        }
    }
    if (!cli->globals.is_json) {
        if (verification->n_models == 0)
            report_notice(cli, "no model is on disk");
        return POOL_OK;
    }
    CLEANUP_JSON json_t *document = json_pack("{s:O}", "models", results);
    enum pool_code code = print_document(cli, document, err);
    cli->is_reported = code == POOL_OK;
    return code;
}

/* What is wrong with one model is noted and shown; only what ends everything is an error. */
static enum pool_code finish_all(struct verification *verification, struct pool_error *err)
{
    size_t n_failed = 0;
    enum pool_code first_failure = POOL_OK;
    enum pool_code code = hash_all(verification, err);
    if (code == POOL_OK)
        code = print_all(verification, err);
    for (size_t i = 0; i < verification->n_models; i++) {
        if (verification->models[i].error.code != POOL_OK && n_failed++ == 0)
            first_failure = verification->models[i].error.code;
    }
    if (code != POOL_OK || n_failed == 0)
        return code;
    return pool_error_set(err, first_failure, "%zu of %zu models can not be relied on", n_failed,
                          verification->n_models);
}

/* Those of the catalogs, by id, and those on disk that no catalog names. What is not on disk is no failure. */
static enum pool_code verify_all(struct verification *verification, struct pool_error *err)
{
    CLEANUP(disk_models_done) struct disk_models on_disk = { 0 };
    const struct pool_model_catalog *catalog = verification->catalog;
    size_t n = pool_model_catalog_n_models(catalog);
    enum pool_code code = disk_models_find(verification->cli, &on_disk, err);
    for (size_t i = 0; i < n && code == POOL_OK; i++) {
        CLEANUP(model_state_done) struct model_state state = { 0 };
        const char *id = pool_model_catalog_at(catalog, i)->id;
        code = model_state_find(verification->cli, catalog, id, &state, err);
        struct disk_model *found = state.model ? disk_models_get(&on_disk, state.model->ref) : NULL;
        if (found)
            found->is_named = true;
        if (code == POOL_OK && state.condition != MODEL_ABSENT)
            code = add_model(verification, id, err);
    }
    for (size_t i = 0; i < on_disk.n && code == POOL_OK; i++) {
        const char *ref = on_disk.at[i].ref;
        /* Of a file that nobody downloaded nothing is known to compare with. */
        if (strncmp(ref, "hf:", 3) == 0 && !on_disk.at[i].is_named)
            code = add_model(verification, ref, err);
    }
    return code == POOL_OK ? finish_all(verification, err) : code;
}

static enum pool_code run_verify(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct models_verify_arguments *arguments = data;
    CLEANUP(release_catalog) struct pool_model_catalog *catalog = NULL;
    CLEANUP(interrupt_close) struct interrupt interrupt = INTERRUPT_INIT;
    CLEANUP_FREE char *proof_dir = NULL;
    const struct pool_config *config;
    if (arguments->all == (arguments->model_ref != NULL))
        return pool_error_set(err, POOL_INVALID_REQUEST, "'models verify' needs a model or --all");
    enum pool_code code = cli_get_config(cli, &config, err);
    if (code == POOL_OK)
        code = open_catalog(cli, &catalog, err);
    if (code == POOL_OK)
        code = interrupt_open(&interrupt, err);
    if (code != POOL_OK)
        return code;
    proof_dir = pool_config_proof_dir(config);
    if (!proof_dir)
        return pool_error_no_memory(err);
    CLEANUP(verification_done)
    struct verification verification = { .cli = cli,
                                         .config = config,
                                         .catalog = catalog,
                                         .proof_dir = proof_dir,
                                         .is_forced = arguments->is_forced,
                                         .cancel_fd = interrupt.fd };
    return arguments->all ? verify_all(&verification, err)
                          : verify_one(&verification, arguments->model_ref, err);
}

#define AT(field) .offset = offsetof(struct models_verify_arguments, field)

static const struct cli_option options[] = {
    { .name = "all",
      .letter = 'a',
      AT(all),
      .summary = "Every model on disk that a catalog names or that was downloaded" },
    { .name = "force", .letter = 'f', AT(is_forced), .summary = "Read it again although a proof is there" },
};
static const struct cli_positional positionals[] = {
    { .name = "MODEL",
      .value = CLI_TEXT,
      AT(model_ref),
      .is_optional = true,
      .summary = "An id of the catalog, file:/path or hf:ORG/REPO[@REV][::file=PATH]" },
};
static const char *const examples[] = { "rbees-pool models verify qwen2.5-0.5b",
                                        "rbees-pool models verify --all" };

const struct cli_command models_verify_command = {
    .path = "models verify",
    .summary = "Check the size and SHA-256 of a model's files",
    .description = "Reads a model's files, four at a time, and compares size and SHA-256 with the catalog, "
                   "else with what the "
                   "Hub said when it was downloaded. The result is remembered until a file changes, so that "
                   "the next time "
                   "costs nothing. With --json one document names each "
                   "model with its error. The exit status is 6 when a model is not what it should be.",
    CLI_OPTIONS(options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct models_verify_arguments),
    .run = run_verify,
};
