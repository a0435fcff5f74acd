/*
 * rbees-pool models estimate: how much of its device a worker would need for a model, in parts.
 */
#include <inttypes.h>
#include <stdlib.h>

#include <pool/api.h>
#include <pool/lifecycle.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/json_document.h"
#include "cli/memory_need_text.h"
#include "cli/model_state.h"
#include "cli/report.h"
#include "cli/worker_spawn_request.h"

struct models_estimate_arguments {
    const char *model_ref;
    const char *backend;
    struct pool_reading ctx_size;
    struct pool_reading parallel;
    const char *cache_type_k, *cache_type_v;
    struct cli_texts extra_args;
};

/* The request of a start, whose words for the types of the cache are the engine's own. */
static enum pool_code make_request(const struct models_estimate_arguments *arguments,
                                   struct pool_worker_spawn_request **ret_request, struct pool_error *err)
{
    CLEANUP_FREE const char **words = calloc(4 + arguments->extra_args.n, sizeof *words);
    size_t n = 0;
    if (!words)
        return pool_error_no_memory(err);
    if (arguments->cache_type_k) {
        words[n++] = "--cache-type-k";
        words[n++] = arguments->cache_type_k;
    }
    if (arguments->cache_type_v) {
        words[n++] = "--cache-type-v";
        words[n++] = arguments->cache_type_v;
    }
    for (size_t i = 0; i < arguments->extra_args.n; i++)
        words[n++] = arguments->extra_args.at[i];
    struct worker_spawn_arguments spawn = { .backend = arguments->backend ? arguments->backend : "cuda",
                                            .model = arguments->model_ref,
                                            .ctx_size = arguments->ctx_size,
                                            .parallel = arguments->parallel };
    spawn.extra_args.n = n;
    spawn.extra_args.at = words;
    return make_spawn_request(&spawn, ret_request, err);
}

static enum pool_code print_need_document(const struct cli *cli,
                                          const struct pool_worker_spawn_request *request,
                                          const struct pool_memory_need *need, struct pool_error *err)
{
    CLEANUP_JSON json_t *document = json_of_memory_need(need);
    if (!document || json_object_set_new(document, "model_ref", json_of_text(request->model_ref)) < 0 ||
        json_object_set_new(document, "backend", json_of_text(request->backend)) < 0)
        return pool_error_no_memory(err);
    return print_document(cli, document, err);
}

static enum pool_code run_estimate(struct cli *cli, const void *data, struct pool_error *err)
{
    CLEANUP(release_catalog) struct pool_model_catalog *catalog = NULL;
    CLEANUP(release_spawn_request) struct pool_worker_spawn_request *request = NULL;
    const struct pool_config *config;
    struct pool_memory_need need;
    enum pool_code code = cli_get_config(cli, &config, err);
    if (code == POOL_OK)
        code = open_catalog(cli, &catalog, err);
    if (code == POOL_OK)
        code = make_request(data, &request, err);
    if (code == POOL_OK)
        code = pool_config_estimate(config, cli->environment, catalog, request, &need, err);
    if (code != POOL_OK)
        return code;
    if (cli->globals.is_json)
        return print_need_document(cli, request, &need, err);
    print_field(cli, "model", request->model_ref);
    print_field(cli, "backend", request->backend);
    if (need.estimate.total_bytes > 0)
        print_field_format(cli, "context", "%" PRId64 " tokens", need.estimate.ctx_size);
    print_memory_need(cli, &need);
    return POOL_OK;
}

#define AT(field) .offset = offsetof(struct models_estimate_arguments, field)

static const struct cli_option options[] = {
    { .name = "backend",
      .letter = 'b',
      .value = CLI_TEXT,
      .unit = "NAME",
      AT(backend),
      .default_text = "cuda",
      .summary = "The engine; its device is where the memory is needed" },
    { .name = "ctx",
      .letter = 'c',
      .value = CLI_INTEGER,
      .unit = "TOKENS",
      AT(ctx_size),
      .max = 0x7fffffff,
      .default_text = "as trained, 8192 at most",
      .summary = "Context size over all slots" },
    { .name = "parallel",
      .value = CLI_INTEGER,
      .unit = "N",
      AT(parallel),
      .max = 1024,
      .default_text = "1",
      .summary = "Requests that it works on at once" },
    { .name = "cache-type-k",
      .value = CLI_TEXT,
      .unit = "TYPE",
      AT(cache_type_k),
      .default_text = "f16",
      .summary = "Type of the keys in the cache, such as q8_0" },
    { .name = "cache-type-v",
      .value = CLI_TEXT,
      .unit = "TYPE",
      AT(cache_type_v),
      .default_text = "f16",
      .summary = "Type of the values in the cache" },
    { .name = "arg",
      .letter = 'a',
      .value = CLI_TEXTS,
      .unit = "ARG",
      AT(extra_args),
      .summary = "One more argument for its program, as for 'worker spawn'; may be given several times" },
};
static const struct cli_positional positionals[] = {
    { .name = "MODEL",
      .value = CLI_TEXT,
      AT(model_ref),
      .summary = "An id of the catalog, file:/path or hf:ORG/REPO[@REV][::file=PATH]" },
};
static const char *const examples[] = {
    "rbees-pool models estimate qwen2.5-0.5b --ctx 32768 --parallel 4",
    "rbees-pool models estimate file:/srv/models/tiny.gguf --cache-type-k q8_0 --json",
};

const struct cli_command models_estimate_command = {
    .path = "models estimate",
    .summary = "Say how much memory a worker would need, in parts",
    .description = "Estimates from the headers of a model's files how much of its device a worker of "
                   "llama.cpp or vLLM needs: weights, "
                   "keys and values, states of recurrent layers, buffers, the device's context and a margin. "
                   "No device is asked "
                   "and nothing is started.",
    CLI_OPTIONS(options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct models_estimate_arguments),
    .run = run_estimate,
};
