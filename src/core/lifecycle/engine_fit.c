/*
 * llama-fit-params; see engine_fit.h. Source of its options and its output: llama.cpp tools/fit-params/README.md. With
 * --fit left on it would answer for what is free now, so it is turned off; every option that changes the memory is given.
 */
#define _GNU_SOURCE
#include "core/lifecycle/engine_fit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/number.h"
#include "core/lifecycle/learned.h"

#define MIB                (INT64_C(1) << 20)
#define MIB_MAX            (INT64_C(1) << 30) /* of a line; what is more is no answer */
#define OUTPUT_MAX         65536
#define REMEMBERED_MAX     131072
#define SLOTS              64 /* files that answers are remembered in; one goes when another takes its place */
#define WORDS_MAX          32
#define GPU_OVERHEAD_BYTES (512 * MIB) /* as in an estimate: the tool does not count a device's context */
#define CPU_OVERHEAD_BYTES (128 * MIB)
#define MARGIN_MIN_BYTES   (512 * MIB)

static bool parse_line(const char *line, size_t n, size_t *ret_n_name, int64_t numbers[3])
{
    const char *end = line + n;
    *ret_n_name = strcspn(line, " \t\r\n");
    const char *at = line + *ret_n_name;
    for (int i = 0; i < 3; i++) {
        at += strspn(at, " \t");
        size_t n_digits = strspn(at, "0123456789");
        if (at >= end || !parse_int64_n(at, n_digits, 0, MIB_MAX, &numbers[i]))
            return false;
        at += n_digits;
    }
    at += strspn(at, " \t\r");
    return at >= end && *ret_n_name > 0;
}

bool engine_fit_parse(const char *output, bool is_host, struct engine_fit *ret_fit)
{
    for (const char *line = output; *line;) {
        size_t n = strcspn(line, "\n"), n_name;
        int64_t numbers[3];
        if (parse_line(line, n, &n_name, numbers) &&
            (n_name == 4 && strncmp(line, "Host", 4) == 0) == is_host) {
            *ret_fit = (struct engine_fit){ numbers[0] * MIB, numbers[1] * MIB, numbers[2] * MIB };
            return true;
        }
        line += n + (line[n] == '\n');
    }
    return false;
}

/* Beside the server; NULL: it is not there. */
static char *find_tool(const char *program)
{
    const char *slash = program ? strrchr(program, '/') : NULL;
    char *path = NULL;
    if (!slash || asprintf(&path, "%.*s/llama-fit-params", (int)(slash - program), program) < 0)
        return NULL;
    if (access(path, X_OK) == 0)
        return path;
    free(path);
    return NULL;
}

struct words {
    const char *at[WORDS_MAX];
    size_t n;
    char numbers[5][24];
    size_t n_numbers;
};

static void add_word(struct words *words, const char *word)
{
    words->at[words->n++] = word;
}

static void add_number(struct words *words, const char *name, int64_t value)
{
    char *text = words->numbers[words->n_numbers++];
    snprintf(text, sizeof words->numbers[0], "%" PRId64, value);
    add_word(words, name);
    add_word(words, text);
}

static void add_pair(struct words *words, const char *name, const char *value)
{
    if (!value)
        return;
    add_word(words, name);
    add_word(words, value);
}

static void make_words(const struct start_request *start, bool is_host, struct words *words)
{
    const struct pool_estimate_options *options = &start->engine.estimate;
    add_pair(words, "-m", start->model->path);
    add_pair(words, "--fit", "off");
    add_pair(words, "--fit-print", "on");
    add_number(words, "-c", options->ctx_size);
    add_number(words, "-np", options->parallel);
    if (is_host)
        add_pair(words, "--device", "none");
    else
        add_number(words, "-ngl", start->engine.gpu_layers.is_present ? start->engine.gpu_layers.value : 999);
    if (options->ubatch > 0)
        add_number(words, "-ub", options->ubatch);
    add_pair(words, "--cache-type-k", options->cache_type_k);
    add_pair(words, "--cache-type-v", options->cache_type_v);
    add_pair(words, "-fa", options->is_flash_attention_off ? "off" : NULL);
    if (options->is_kv_unified)
        add_word(words, "--kv-unified");
    if (options->is_window_full)
        add_word(words, "--swa-full");
}

static bool make_identity(const char *tool, const struct start_request *start, struct strbuf *identity,
                          unsigned *ret_slot)
{
    struct stat st;
    CLEANUP_FREE char *key = learned_key(start, "");
    if (!key || stat(tool, &st) < 0)
        return false;
    strbuf_printf(identity, "%s %ju %ju %jd %jd.%09ld %s %s\n", tool, (uintmax_t)st.st_dev,
                  (uintmax_t)st.st_ino, (intmax_t)st.st_size, (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
                  start->model->path, key);
    unsigned slot = 0;
    for (size_t i = 0; i < identity->n; i++)
        slot = slot * 31 + (unsigned char)strbuf_text(identity)[i];
    *ret_slot = slot % SLOTS;
    return identity->failure == STRBUF_FINE;
}

static bool ask(const struct start_context *context, const struct start_request *start, bool is_host,
                struct engine_fit *ret_fit)
{
    CLEANUP_FREE char *tool = find_tool(start->program);
    CLEANUP_FREE char *path = NULL;
    CLEANUP(strbuf_done) struct strbuf identity = STRBUF_INIT(16384);
    CLEANUP(strbuf_done) struct strbuf known = STRBUF_INIT(REMEMBERED_MAX);
    CLEANUP(strbuf_done) struct strbuf output = STRBUF_INIT(OUTPUT_MAX);
    struct words words = { .n = 0 };
    unsigned slot;
    if (!tool || !make_identity(tool, start, &identity, &slot) ||
        asprintf(&path, "%s/fit.%02u", context->state_dir, slot) < 0)
        return false;
    if (file_read(path, &known) == 0 && strncmp(strbuf_text(&known), strbuf_text(&identity), identity.n) == 0)
        return engine_fit_parse(strbuf_text(&known) + identity.n, is_host, ret_fit);
    make_words(start, is_host, &words);
    if (program_ask(start->backend, tool, words.at, words.n, context->environment, &output, NULL) !=
            POOL_OK ||
        output.failure != STRBUF_FINE)
        return false;
    bool is_answer = engine_fit_parse(strbuf_text(&output), is_host, ret_fit);
    if (strbuf_add(&identity, strbuf_text(&output),
                   output.n)) /* one that does not answer is not asked again */
        (void)!file_replace(path, strbuf_text(&identity), identity.n, 0600);
    return is_answer;
}

bool engine_fit_apply(const struct start_context *context, struct start_request *start)
{
    struct pool_memory_need *need = &start->need;
    bool is_host = start->backend->device == POOL_DEVICE_CPU;
    struct engine_fit fit;
    if (!engine_is_llama_server(start->backend) || (need->source && strcmp(need->source, "request") == 0) ||
        !ask(context, start, is_host, &fit))
        return false;
    struct pool_estimate said = { .ctx_size = start->engine.estimate.ctx_size,
                                  .weights_bytes =
                                      add_bytes(fit.model_bytes, start->engine.extra_files_bytes),
                                  .kv_cache_bytes = fit.context_bytes,
                                  .compute_bytes = fit.compute_bytes,
                                  .overhead_bytes = is_host ? CPU_OVERHEAD_BYTES : GPU_OVERHEAD_BYTES };
    int64_t sum = add_bytes(add_bytes(said.weights_bytes, said.kv_cache_bytes),
                            add_bytes(said.compute_bytes, said.overhead_bytes));
    said.margin_bytes = sum / 10 > MARGIN_MIN_BYTES ? sum / 10 : MARGIN_MIN_BYTES;
    said.total_bytes = add_bytes(sum, said.margin_bytes);
    need->estimate = said;
    need->bytes = said.total_bytes;
    need->source = "engine";
    return true;
}
