/*
 * rbees-pool models stage, unstage: the daemon holds a model's files in memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/json_document.h"
#include "cli/remote.h"
#include "cli/report.h"

struct models_stage_arguments {
    const char *id;
    bool is_locked;
    bool is_waited_for;
};

static enum pool_code make_path(const char *id, char **ret_path, struct pool_error *err)
{
    struct pool_model_ref *ref = NULL;
    enum pool_code code = pool_model_ref_parse(id, strlen(id), &ref, err);
    bool is_id = code == POOL_OK && ref->kind == POOL_MODEL_REF_ID;
    pool_model_ref_free(ref);
    if (code != POOL_OK)
        return code;
    if (!is_id) {
        pool_error_set(err, POOL_INVALID_REQUEST,
                       "models are staged by their id in the catalog; 'models register' "
                       "gives one to what is on disk");
        pool_error_set_field(err, "ID");
        return POOL_INVALID_REQUEST;
    }
    if (asprintf(ret_path, "/v2/models/%s/stage", id) < 0) {
        *ret_path = NULL;
        return pool_error_no_memory(err);
    }
    return POOL_OK;
}

static enum pool_code ask(struct cli *cli, const struct models_stage_arguments *arguments, const char *method,
                          int cancel_fd, json_t **ret_staging, struct pool_error *err)
{
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE char *answer = NULL;
    CLEANUP_FREE char *body = NULL;
    struct remote_http *daemon = NULL;
    struct json_failure failure = { 0 };
    size_t n = 0;
    enum pool_code code = make_path(arguments->id, &path, err);
    if (code == POOL_OK)
        code = cli_find_daemon(cli, &daemon, err);
    if (code == POOL_OK && !daemon)
        code = pool_error_set(err, POOL_UNIMPLEMENTED,
                              "staging needs pool-managerd, which holds the memory; none runs here");
    if (code != POOL_OK)
        return code;
    if (strcmp(method, "PUT") == 0 &&
        asprintf(&body, "{\"lock\":%s,\"wait\":%s}", arguments->is_locked ? "true" : "false",
                 arguments->is_waited_for ? "true" : "false") < 0) {
        body = NULL;
        return pool_error_no_memory(err);
    }
    struct remote_exchange exchange = {
        .method = method, .path = path, .body = body, .cancel_fd = cancel_fd
    };
    code = remote_http_ask(daemon, &exchange, &answer, &n, err);
    cli->is_daemon_lost = exchange.is_lost;
    memcpy(cli->correlation_id, exchange.correlation_id, sizeof cli->correlation_id);
    if (code != POOL_OK)
        return code;
    *ret_staging = json_parse(answer, n, &failure);
    if (*ret_staging)
        return POOL_OK;
    return failure.is_no_memory
               ? pool_error_no_memory(err)
               : pool_error_set(err, POOL_REGISTRY_UNAVAILABLE, "what answers at %s is no pool-managerd",
                                remote_http_address(daemon)->name);
}

static void print_staging(const struct cli *cli, const char *id, const json_t *staging)
{
    char done[HUMAN_BYTES_MAX];
    char total[HUMAN_BYTES_MAX];
    const char *state = json_string_value(json_object_get(staging, "state"));
    format_bytes(json_integer_value(json_object_get(staging, "done_bytes")), done);
    format_bytes(json_integer_value(json_object_get(staging, "total_bytes")), total);
    terminal_print(&cli->terminal, cli->out, id);
    fputs(": ", cli->out);
    terminal_print(&cli->terminal, cli->out, state ? state : "done");
    if (state && strcmp(state, "none") != 0)
        fprintf(cli->out, " (%s of %s)", done, total);
    fputs(json_is_true(json_object_get(staging, "locked")) ? ", locked\n" : "\n", cli->out);
}

static enum pool_code run(struct cli *cli, const struct models_stage_arguments *arguments, const char *method,
                          struct pool_error *err)
{
    CLEANUP(interrupt_close) struct interrupt interrupt = INTERRUPT_INIT;
    CLEANUP_JSON json_t *staging = NULL;
    enum pool_code code = interrupt_open(&interrupt, err);
    if (code == POOL_OK)
        code = ask(cli, arguments, method, interrupt.fd, &staging, err);
    if (code != POOL_OK)
        return code;
    if (cli->globals.is_json)
        return print_document(cli, staging, err);
    print_staging(cli, arguments->id, staging);
    return POOL_OK;
}

static enum pool_code run_stage(struct cli *cli, const void *data, struct pool_error *err)
{
    return run(cli, data, "PUT", err);
}

static enum pool_code run_unstage(struct cli *cli, const void *data, struct pool_error *err)
{
    return run(cli, data, "DELETE", err);
}

#define AT(field) .offset = offsetof(struct models_stage_arguments, field)

static const struct cli_option stage_options[] = {
    { .name = "lock", AT(is_locked), .summary = "Keep its pages in memory whatever else needs it (mlock)" },
    { .name = "wait", .letter = 'w', AT(is_waited_for), .summary = "Answer when all of it is in memory" },
};
static const struct cli_positional positionals[] = {
    { .name = "ID", .value = CLI_TEXT, AT(id), .summary = "An id of the daemon's catalog" },
};
static const char *const stage_examples[] = { "rbees-pool models stage qwen2.5-0.5b",
                                              "rbees-pool models stage qwen2.5-0.5b --lock --wait" };
static const char *const unstage_examples[] = { "rbees-pool models unstage qwen2.5-0.5b" };

const struct cli_command models_stage_command = {
    .path = "models stage",
    .summary = "Let the daemon read a model into memory",
    .description =
        "Lets the daemon read a model's files into the page cache, so that the next start does not wait for "
        "the disk. It stays within staging.max_bytes; models that no worker uses give way.",
    CLI_OPTIONS(stage_options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(stage_examples),
    .arguments_bytes = sizeof(struct models_stage_arguments),
    .run = run_stage,
};

const struct cli_command models_unstage_command = {
    .path = "models unstage",
    .summary = "Let the daemon drop a model from memory",
    .description = "Takes back 'models stage': the model's pages are no longer kept.",
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(unstage_examples),
    .arguments_bytes = sizeof(struct models_stage_arguments),
    .run = run_unstage,
};
