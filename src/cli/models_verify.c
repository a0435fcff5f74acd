/*
 * rbees-pool models verify.
 */
#include <poll.h>
#include <stdlib.h>

#include <pool/lifecycle.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/json_document.h"
#include "cli/model_state.h"
#include "cli/progress.h"
#include "cli/report.h"

struct models_verify_arguments {
    const char *model_ref;
    bool all;
    bool is_forced;
};

struct verification {
    struct cli *cli;
    const struct pool_config *config;
    const struct pool_model_catalog *catalog;
    const char *proof_dir;
    bool is_forced;
    int cancel_fd;
    struct progress_line line;
    json_t *results; /* of --all with --json */
    size_t n_done, n_failed;
    enum pool_code first_failure;
};

static bool go_on(int64_t done_bytes, int64_t total_bytes, void *context)
{
    struct verification *verification = context;
    struct pollfd fd = { .fd = verification->cancel_fd, .events = POLLIN };
    progress_of_bytes(done_bytes, total_bytes, &verification->line);
    return poll(&fd, 1, 0) <= 0;
}

static enum pool_code hash(struct verification *verification, const char *model_ref,
                           struct pool_verify_result *ret_result, struct pool_error *err)
{
    CLEANUP(release_model) struct pool_model *model = NULL;
    struct pool_verify_options options = { .struct_size = sizeof options,
                                           .proof_dir = verification->proof_dir,
                                           .ignore_proof = verification->is_forced,
                                           .progress = go_on,
                                           .progress_context = verification };
    enum pool_code code = pool_config_resolve_model(verification->config, verification->cli->environment,
                                                    verification->catalog, true, model_ref, &model, err);
    if (code != POOL_OK)
        return code;
    verification->line = (struct progress_line){ .cli = verification->cli, .subject = model_ref };
    code = pool_model_verify(model, &options, ret_result, err);
    progress_clear(&verification->line);
    if (code != POOL_OK || ret_result->is_verified)
        return code;
    /* who asks wants to know whether it is the right model */
    pool_error_set(err, POOL_MODEL_UNVERIFIED,
                   "%s: no SHA-256 is known to compare with; that of its first file is %s", model_ref,
                   ret_result->sha256);
    pool_error_add_text(err, "sha256", ret_result->sha256);
    return POOL_MODEL_UNVERIFIED;
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
    struct pool_verify_result result = { 0 };
    enum pool_code code = hash(verification, model_ref, &result, err);
    if (code != POOL_OK)
        return code;
    if (!verification->cli->globals.is_json) {
        print_result(verification->cli, model_ref, &result);
        return POOL_OK;
    }
    CLEANUP_JSON json_t *document = json_of_result(model_ref, &result, &none);
    return print_document(verification->cli, document, err);
}

/* ---- all of them ---- */

/* What is wrong with one model is noted and shown; only what ends everything is an error. */
static enum pool_code verify_next(struct verification *verification, const char *model_ref,
                                  struct pool_error *err)
{
    struct pool_verify_result result = { 0 };
    struct pool_error error = POOL_ERROR_INIT;
    enum pool_code code = hash(verification, model_ref, &result, &error);
    if (code == POOL_CANCELLED || code == POOL_INSUFFICIENT_MEMORY) {
        *err = error;
        return code;
    }
    verification->n_done++;
    if (code != POOL_OK && verification->n_failed++ == 0)
        verification->first_failure = code;
    if (verification->cli->globals.is_json)
        return json_array_append_new(verification->results, json_of_result(model_ref, &result, &error)) < 0
                   ? pool_error_no_memory(err)
                   : POOL_OK;
    if (code == POOL_OK)
        print_result(verification->cli, model_ref, &result);
    else
        (void)report_error(verification->cli, &error);
    return POOL_OK;
}

static enum pool_code finish(struct verification *verification, struct pool_error *err)
{
    struct cli *cli = verification->cli;
    enum pool_code code = POOL_OK;
    if (cli->globals.is_json) {
        CLEANUP_JSON json_t *document = json_pack("{s:O}", "models", verification->results);
        code = print_document(cli, document, err);
        cli->is_reported = code == POOL_OK;
    } else if (verification->n_done == 0) {
        report_notice(cli, "no model of the catalogs is on disk");
    }
    if (code != POOL_OK || verification->n_failed == 0)
        return code;
    return pool_error_set(err, verification->first_failure, "%zu of %zu models can not be relied on",
                          verification->n_failed, verification->n_done);
}

/* What is not on disk is no failure of those that are. */
static enum pool_code verify_all(struct verification *verification, struct pool_error *err)
{
    const struct pool_model_catalog *catalog = verification->catalog;
    size_t n = pool_model_catalog_n_models(catalog);
    enum pool_code code = POOL_OK;
    for (size_t i = 0; i < n && code == POOL_OK; i++) {
        CLEANUP(model_state_done) struct model_state state = { 0 };
        const char *id = pool_model_catalog_at(catalog, i)->id;
        code = model_state_find(verification->cli, catalog, id, &state, err);
        if (code == POOL_OK && state.condition != MODEL_ABSENT)
            code = verify_next(verification, id, err);
    }
    return code == POOL_OK ? finish(verification, err) : code;
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
    CLEANUP_JSON json_t *results = json_array();
    proof_dir = pool_config_proof_dir(config);
    if (!results || !proof_dir)
        return pool_error_no_memory(err);
    struct verification verification = { .cli = cli,
                                         .config = config,
                                         .catalog = catalog,
                                         .proof_dir = proof_dir,
                                         .is_forced = arguments->is_forced,
                                         .cancel_fd = interrupt.fd,
                                         .results = results };
    return arguments->all ? verify_all(&verification, err)
                          : verify_one(&verification, arguments->model_ref, err);
}

#define AT(field) .offset = offsetof(struct models_verify_arguments, field)

static const struct cli_option options[] = {
    { .name = "all", .letter = 'a', AT(all), .summary = "Every model of the catalogs that is on disk" },
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
    .description =
        "Reads a model's files and compares size and SHA-256 with the catalog. The result is remembered "
        "until a file changes, so that the next time costs nothing. With --json one document names each "
        "model with its error. The exit status is 6 when a model is not what it should be.",
    CLI_OPTIONS(options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct models_verify_arguments),
    .run = run_verify,
};
