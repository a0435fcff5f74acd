/*
 * rbees-pool models show: what a catalog says of a model, what is on disk, what its header says, and what a worker
 * would need for it.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/json_document.h"
#include "cli/model_state.h"
#include "cli/report.h"

struct models_show_arguments {
    const char *model_ref;
    struct pool_reading ctx_size;
    struct pool_reading parallel;
};

/* All that is known; what could not be found out is NULL or zero, with the error beside it. */
struct model_facts {
    const struct pool_model_metadata *metadata;
    struct model_state state;
    struct pool_model_header *header;
    struct pool_estimate on_gpu, on_cpu;
    bool is_estimated;
    struct pool_error header_error; /* of the header or the estimate */
};

static void release_facts(struct model_facts *facts)
{
    model_state_done(&facts->state);
    pool_model_header_free(facts->header);
}

static void read_header(const struct models_show_arguments *arguments, struct model_facts *facts)
{
    const struct pool_model *model = facts->state.model;
    struct pool_estimate_options options = { .struct_size = sizeof options,
                                             .ctx_size = arguments->ctx_size.value,
                                             .parallel = arguments->parallel.value,
                                             .is_on_gpu = true };
    struct pool_error *err = &facts->header_error;
    enum pool_code code = pool_model_header_read_all((const char *const *)model->file_paths, model->n_files,
                                                     &facts->header, err);
    if (code == POOL_OK)
        code = pool_model_estimate(facts->header, &options, &facts->on_gpu, err);
    options.is_on_gpu = false;
    if (code == POOL_OK && facts->header->format == POOL_MODEL_FORMAT_GGUF) /* vLLM is for GPUs */
        code = pool_model_estimate(facts->header, &options, &facts->on_cpu, err);
    facts->is_estimated = code == POOL_OK;
    if (code != POOL_OK)
        facts->on_gpu = (struct pool_estimate){ 0 };
}

static enum pool_code find_facts(struct cli *cli, const struct pool_model_catalog *catalog,
                                 const struct models_show_arguments *arguments, struct model_facts *facts,
                                 struct pool_error *err)
{
    enum pool_code code = model_state_find(cli, catalog, arguments->model_ref, &facts->state, err);
    if (code != POOL_OK)
        return code;
    if (facts->state.model)
        facts->metadata = facts->state.model->metadata;
    else if (pool_model_catalog_get(catalog, arguments->model_ref, &facts->metadata, NULL) != POOL_OK)
        facts->metadata = NULL;
    if (!facts->state.model && !facts->metadata) { /* nothing at all is known of it */
        *err = facts->state.error;
        return facts->state.error.code;
    }
    if (facts->state.model)
        read_header(arguments, facts);
    return facts->header_error.code == POOL_INSUFFICIENT_MEMORY ? pool_error_no_memory(err) : POOL_OK;
}

/* ---- as JSON ---- */

static enum pool_code print_facts_document(const struct cli *cli, const struct model_facts *facts,
                                           struct pool_error *err)
{
    CLEANUP_JSON json_t *document = json_of_model(facts->metadata, &facts->state, facts->header);
    if (json_object_set_new(document, "header_error", json_of_error(&facts->header_error)) < 0 ||
        json_object_set_new(document, "estimate_gpu", json_of_estimate(&facts->on_gpu)) < 0 ||
        json_object_set_new(document, "estimate_cpu", json_of_estimate(&facts->on_cpu)) < 0)
        return pool_error_no_memory(err);
    return print_document(cli, document, err);
}

/* ---- for people ---- */

static void print_metadata(const struct cli *cli, const struct pool_model_metadata *metadata)
{
    print_field(cli, "id", metadata->id);
    print_field(cli, "name", metadata->name);
    print_field(cli, "repo", metadata->repo);
    print_field(cli, "revision", metadata->revision);
    for (size_t i = 0; i < metadata->n_files; i++)
        print_field(cli, "file", metadata->files[i].file);
    print_field(cli, "sha256", metadata->files[0].sha256);
    for (size_t i = 0; i < metadata->n_backends; i++)
        print_field(cli, "backend", metadata->backends[i]);
    print_field_format(cli, "catalog", "%s:%" PRIu32, metadata->catalog_path, metadata->line);
}

static void print_reading(const struct cli *cli, const char *name, struct pool_reading reading)
{
    if (reading.is_present)
        print_field_format(cli, name, "%" PRId64, reading.value);
}

static void print_header(const struct cli *cli, const struct pool_model_header *header)
{
    print_field(cli, "format", pool_model_format_name(header->format));
    if (header->format == POOL_MODEL_FORMAT_UNKNOWN)
        return;
    print_field(cli, "architecture", header->architecture);
    print_field(cli, "calls itself", header->name);
    print_field(cli, "quantization", header->quantization);
    print_reading(cli, "parameters", header->parameter_count);
    print_reading(cli, "layers", header->block_count);
    print_reading(cli, "trained for", header->context_length);
    if (header->is_size_known)
        print_field_bytes(cli, "tensors", header->tensor_bytes);
}

static void print_need(const struct cli *cli, const char *name, const struct pool_estimate *estimate)
{
    char total[HUMAN_BYTES_MAX];
    char weights[HUMAN_BYTES_MAX];
    char kv_cache[HUMAN_BYTES_MAX];
    format_bytes(estimate->total_bytes, total);
    format_bytes(estimate->weights_bytes, weights);
    format_bytes(estimate->kv_cache_bytes, kv_cache);
    print_field_format(cli, name, "%s for %" PRId64 " tokens (weights %s, KV cache %s)", total,
                       estimate->ctx_size, weights, kv_cache);
}

static void print_facts(const struct cli *cli, const struct model_facts *facts)
{
    const struct pool_model *model = facts->state.model;
    if (facts->metadata)
        print_metadata(cli, facts->metadata);
    print_field(cli, "state", model_condition_name(facts->state.condition));
    if (facts->state.error.code != POOL_OK)
        print_field(cli, "why", facts->state.error.message);
    if (model) {
        print_field(cli, "reference", model->ref);
        for (size_t i = 0; i < model->n_files; i++)
            print_field(cli, "path", model->file_paths[i]);
        print_field_bytes(cli, "size", model->size_bytes);
    }
    if (facts->header)
        print_header(cli, facts->header);
    if (facts->is_estimated) {
        print_need(cli, "needs, GPU", &facts->on_gpu);
        if (facts->on_cpu.total_bytes > 0)
            print_need(cli, "needs, CPU", &facts->on_cpu);
    } else if (facts->header_error.code != POOL_OK) {
        print_field(cli, "no estimate", facts->header_error.message);
    }
}

static enum pool_code run_show(struct cli *cli, const void *data, struct pool_error *err)
{
    CLEANUP(release_catalog) struct pool_model_catalog *catalog = NULL;
    CLEANUP(release_facts) struct model_facts facts = { 0 };
    enum pool_code code = open_catalog(cli, &catalog, err);
    if (code == POOL_OK)
        code = find_facts(cli, catalog, data, &facts, err);
    if (code != POOL_OK)
        return code;
    if (cli->globals.is_json)
        return print_facts_document(cli, &facts, err);
    print_facts(cli, &facts);
    return POOL_OK;
}

#define AT(field) .offset = offsetof(struct models_show_arguments, field)

static const struct cli_option options[] = {
    { .name = "ctx",
      .letter = 'c',
      .value = CLI_INTEGER,
      .unit = "TOKENS",
      AT(ctx_size),
      .max = 0x7fffffff,
      .default_text = "as trained, 8192 at most",
      .summary = "Context size to estimate for" },
    { .name = "parallel",
      .value = CLI_INTEGER,
      .unit = "N",
      AT(parallel),
      .max = 1024,
      .default_text = "1",
      .summary = "Requests at once to estimate for" },
};
static const struct cli_positional positionals[] = {
    { .name = "MODEL",
      .value = CLI_TEXT,
      AT(model_ref),
      .summary = "An id of the catalog, file:/path or hf:ORG/REPO[@REV][::file=PATH]" },
};
static const char *const examples[] = { "rbees-pool models show qwen2.5-0.5b --ctx 32768",
                                        "rbees-pool models show file:/srv/models/tiny.gguf --json" };

const struct cli_command models_show_command = {
    .path = "models show",
    .summary = "Show a model: catalog, files, header, memory it needs",
    .description =
        "Shows what the catalog says of a model, where its files are, what their headers say, and how much "
        "memory a worker of llama.cpp is estimated to need for it.",
    CLI_OPTIONS(options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct models_show_arguments),
    .run = run_show,
};
