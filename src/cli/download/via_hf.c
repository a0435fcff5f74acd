/*
 * Running `hf`; see via_hf.h.
 *
 * Source: the command line reference of huggingface_hub, "hf download".
 */
#include "cli/download/via_hf.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/child_process.h"

#define PROGRAM        "hf"
#define TEXT_MAX_BYTES 400

/* A whole repository would be all of its quantisations and formats. */
static void add_patterns(struct string_list *argv)
{
    static const char *const patterns[] = { "*.safetensors", "*.json",  "*.txt",
                                            "*.model",       "*.jinja", "*.tiktoken" };
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        string_list_add(argv, "--include");
        string_list_add(argv, patterns[i]);
    }
}

static enum pool_code add_files(const struct download_plan *plan, struct string_list *argv,
                                struct pool_error *err)
{
    const struct pool_model_metadata *entry = plan->entry;
    if (!entry || entry->n_files == 1)
        return add_split_files(plan->first_file, argv, err);
    for (size_t i = 0; i < entry->n_files; i++)
        string_list_add(argv, entry->files[i].file);
    return POOL_OK;
}

static enum pool_code make_argv(const struct download_plan *plan, struct string_list *argv,
                                struct pool_error *err)
{
    struct hub_place_name place = download_plan_place(plan);
    enum pool_code code = POOL_OK;
    string_list_add(argv, PROGRAM);
    string_list_add(argv, "download");
    string_list_add(argv, "--revision");
    string_list_add(argv, place.revision);
    if (!plan->first_file)
        add_patterns(argv);
    string_list_add(argv, "--");
    string_list_printf(argv, "%s/%s", place.org, place.repo);
    if (plan->first_file)
        code = add_files(plan, argv, err);
    return code == POOL_OK && argv->has_failed ? pool_error_no_memory(err) : code;
}

/* The end of what it wrote is where it says why. */
static const char *last_words(const struct strbuf *text)
{
    const char *words = strbuf_text(text);
    size_t n = strlen(words);
    return n > TEXT_MAX_BYTES ? words + n - TEXT_MAX_BYTES : words;
}

enum pool_code via_hf_fetch(const struct cli *cli, const struct download_plan *plan, struct pool_error *err)
{
    CLEANUP(string_list_done) struct string_list argv = { 0 };
    CLEANUP(child_result_done) struct child_result result = CHILD_RESULT_INIT;
    struct pool_error why = POOL_ERROR_INIT;
    enum pool_code code = make_argv(plan, &argv, err);
    if (code != POOL_OK)
        return code;
    struct child_options options = { .program = PROGRAM,
                                     .argv = (const char *const *)argv.at,
                                     .environment = cli->environment,
                                     .is_interactive = cli->terminal.is_err_terminal };
    code = child_run(&options, &result, &why);
    if (code == POOL_INSUFFICIENT_MEMORY)
        return pool_error_no_memory(err);
    if (code != POOL_OK) {
        pool_error_set(err, POOL_DOWNLOAD_FAILED,
                       "the program '" PROGRAM "' can not be run (%s); without --via none is needed",
                       why.message);
        if (err)
            err->is_retriable = false;
        return POOL_DOWNLOAD_FAILED;
    }
    if (!result.is_signal && result.value == 0)
        return POOL_OK;
    pool_error_set(err, POOL_DOWNLOAD_FAILED, "'" PROGRAM " download' ended with %s %d%s%s",
                   result.is_signal ? "signal" : "code", result.value, result.err.n > 0 ? ": " : "",
                   last_words(&result.err));
    pool_error_add_number(err, result.is_signal ? "signal" : "exit_code", result.value);
    return POOL_DOWNLOAD_FAILED;
}
