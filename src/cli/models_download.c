/*
 * rbees-pool models download.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/download/download.h"
#include "cli/interrupt.h"
#include "cli/json_document.h"
#include "cli/model_state.h"
#include "cli/report.h"

#define TRIES_MAX 100

struct models_download_arguments {
    const char *model_ref;
    struct pool_reading connections;
    struct pool_reading tries;
    bool is_forced;
    const char *via;
};

static json_t *json_of_files(const struct pool_model *model)
{
    json_t *files = json_array();
    for (size_t i = 0; files && i < model->n_files; i++) {
        const char *sha256 = model->known_sha256s ? model->known_sha256s[i] : NULL;
        if (json_array_append_new(files, json_pack("{s:o, s:s?}", "path", json_of_text(model->file_paths[i]),
                                                   "sha256", sha256)) < 0) {
            json_decref(files);
            return NULL;
        }
    }
    return files;
}

static enum pool_code print_result(const struct cli *cli, const struct download_result *result,
                                   struct pool_error *err)
{
    const struct pool_model *model = result->model;
    bool is_new = result->source == DOWNLOAD_FROM_HUB;
    char size[HUMAN_BYTES_MAX];
    if (cli->globals.is_json) {
        CLEANUP_JSON json_t *document =
            json_pack("{s:s, s:o, s:o, s:I, s:I, s:b, s:o}", "event", "done", "model",
                      json_of_text(result->model_ref), "path", json_of_text(model->path), "size_bytes",
                      (json_int_t)model->size_bytes, "downloaded_bytes", (json_int_t)result->fetched_bytes,
                      "checked", is_new && result->is_checked, "files", json_of_files(model));
        return print_document(cli, document, err);
    }
    format_bytes(model->size_bytes, size);
    terminal_print(&cli->terminal, cli->out, model->path);
    fprintf(cli->out, " (%s, %s)\n", size,
            !is_new              ? "was there already"
            : result->is_checked ? "SHA-256 right"
                                 : "no SHA-256 is known");
    return POOL_OK;
}

static enum pool_code run_download(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct models_download_arguments *arguments = data;
    CLEANUP(release_catalog) struct pool_model_catalog *catalog = NULL;
    CLEANUP(interrupt_close) struct interrupt interrupt = INTERRUPT_INIT;
    CLEANUP(download_result_done) struct download_result result = { 0 };
    struct download_request request = {
        .model_ref = arguments->model_ref,
        .n_connections =
            arguments->connections.is_present ? (int)arguments->connections.value : FETCH_CONNECTIONS_DEFAULT,
        .n_tries = arguments->tries.is_present ? (int)arguments->tries.value : HUB_TRIES_DEFAULT,
        .is_forced = arguments->is_forced,
        .is_via_hf = arguments->via != NULL,
    };
    if (arguments->via && strcmp(arguments->via, "hf") != 0) {
        pool_error_set(err, POOL_INVALID_REQUEST, "--via takes hf");
        pool_error_set_field(err, "via");
        return POOL_INVALID_REQUEST;
    }
    enum pool_code code = open_catalog(cli, &catalog, err);
    if (code == POOL_OK && !arguments->via) /* the other program has the terminal, and Ctrl-C ends both */
        code = interrupt_open(&interrupt, err);
    if (code == POOL_OK)
        code = download_model(cli, catalog, &request, interrupt.fd, &result, err);
    return code == POOL_OK ? print_result(cli, &result, err) : code;
}

#define AT(field) .offset = offsetof(struct models_download_arguments, field)

static const struct cli_option options[] = {
    { .name = "connections",
      .letter = 'c',
      .value = CLI_INTEGER,
      .unit = "N",
      .default_text = "8",
      AT(connections),
      .min = 1,
      .max = FETCH_CONNECTIONS_MAX,
      .summary = "How many parts of a file are fetched at once" },
    { .name = "tries",
      .value = CLI_INTEGER,
      .unit = "N",
      .default_text = "6",
      AT(tries),
      .min = 1,
      .max = TRIES_MAX,
      .summary = "How often in a row to try without a byte of progress" },
    { .name = "via",
      .value = CLI_TEXT,
      .unit = "PROGRAM",
      AT(via),
      .summary = "hf: let the Hub's own program download, into its own cache" },
    { .name = "force", .letter = 'f', AT(is_forced), .summary = "Fetch again what is there" },
};
static const struct cli_positional positionals[] = {
    { .name = "MODEL",
      .value = CLI_TEXT,
      AT(model_ref),
      .summary = "An id of the catalog, or hf:ORG/REPO[@REV][::file=PATH]" },
};
static const char *const examples[] = {
    "rbees-pool models download qwen2.5-0.5b",
    "rbees-pool models download hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF::file=qwen2.5-0.5b-instruct-q4_k_m.gguf",
    "rbees-pool models download hf:Qwen/Qwen2.5-0.5B-Instruct --json",
    "rbees-pool models download qwen2.5-0.5b --via hf",
};

const struct cli_command models_download_command = {
    .path = "models download",
    .summary = "Download a model from the Hugging Face Hub",
    .description =
        "Fetches a model into the first folder of pool.models_dirs, as ORG/REPO/COMMIT/PATH: all parts of a "
        "split "
        "GGUF, or the safetensors of a repository with their configuration and tokenizer. What is in that "
        "folder "
        "or in the Hub's own cache is not fetched again.\n"
        "Space for all files is reserved first. A file gets its name when all of it is there and its SHA-256 "
        "is "
        "right; until then it is unfinished, and the same command goes on with it, after Ctrl-C or a crash "
        "too. "
        "Two downloads of one file share the work.\n"
        "HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE and HF_HUB_DOWNLOAD_TIMEOUT mean what "
        "they mean "
        "to the Hub's own tools. The token is given to the endpoint alone.\n"
        "With --json there is one line a second, with \"event\" download, copy, check or wait, and a last "
        "one with "
        "\"event\" done, or the error.",
    CLI_OPTIONS(options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct models_download_arguments),
    .run = run_download,
};
