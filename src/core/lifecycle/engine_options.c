/*
 * Reading engines' words; see engine_options.h. A table for each engine says which words and variables there are. Sources:
 * llama.cpp, common/arg.cpp (names, variables, values of switches); vLLM, vllm/engine/arg_utils.py.
 */
#include "core/lifecycle/engine_options.h"

#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include "base/number.h"

enum engine_value {
    VALUE_NUMBER, /* int64_t of the estimate's options */
    VALUE_TEXT,   /* const char * of them */
    VALUE_ON,     /* bool of them; a switch without a value */
    VALUE_OFF,    /* the same, said the other way round */
    VALUE_FLASH,  /* on, off or auto, or nothing in older versions */
    VALUE_LAYERS,
    VALUE_FILE,
    VALUE_FRACTION /* of the device, 0 to 1 */
};

#define AT(member) offsetof(struct pool_estimate_options, member)
static const struct engine_word {
    const char *names[3];
    const char *variable;
    enum engine_value kind;
    size_t offset;
} llama_words[] = {
    { { "-c", "--ctx-size" }, "LLAMA_ARG_CTX_SIZE", VALUE_NUMBER, AT(ctx_size) },
    { { "-np", "--parallel" }, "LLAMA_ARG_N_PARALLEL", VALUE_NUMBER, AT(parallel) },
    { { "-ub", "--ubatch-size" }, "LLAMA_ARG_UBATCH", VALUE_NUMBER, AT(ubatch) },
    { { "-ctk", "--cache-type-k" }, "LLAMA_ARG_CACHE_TYPE_K", VALUE_TEXT, AT(cache_type_k) },
    { { "-ctv", "--cache-type-v" }, "LLAMA_ARG_CACHE_TYPE_V", VALUE_TEXT, AT(cache_type_v) },
    { { "-kvu", "--kv-unified" }, "LLAMA_ARG_KV_UNIFIED", VALUE_ON, AT(is_kv_unified) },
    { { "-no-kvu", "--no-kv-unified" }, NULL, VALUE_OFF, AT(is_kv_unified) },
    { { "--swa-full" }, "LLAMA_ARG_SWA_FULL", VALUE_ON, AT(is_window_full) },
    { { "-fa", "--flash-attn" }, "LLAMA_ARG_FLASH_ATTN", VALUE_FLASH, AT(is_flash_attention_off) },
    { { "-ngl", "--gpu-layers", "--n-gpu-layers" }, "LLAMA_ARG_N_GPU_LAYERS", VALUE_LAYERS, 0 },
    { { "-mm", "--mmproj" }, "LLAMA_ARG_MMPROJ", VALUE_FILE, 0 },
    { { "-md", "--model-draft" }, "LLAMA_ARG_MODEL_DRAFT", VALUE_FILE, 0 },
    { { "--lora" }, NULL, VALUE_FILE, 0 },
    { { "--control-vector" }, NULL, VALUE_FILE, 0 },
};
static const struct engine_word vllm_words[] = {
    { { "--max-model-len" }, NULL, VALUE_NUMBER, AT(ctx_size) },
    { { "--max-num-seqs" }, NULL, VALUE_NUMBER, AT(parallel) },
    { { "--kv-cache-dtype" }, NULL, VALUE_TEXT, AT(cache_type_k) },
    { { "--gpu-memory-utilization" }, NULL, VALUE_FRACTION, 0 },
};
#undef AT

/* The words of an engine. */
struct vocabulary {
    const struct engine_word *words;
    size_t n;
};
static const struct vocabulary llama_vocabulary = { llama_words, sizeof llama_words / sizeof llama_words[0] };
static const struct vocabulary vllm_vocabulary = { vllm_words, sizeof vllm_words / sizeof vllm_words[0] };

/* What vLLM takes when nobody says (vllm/config/cache.py, gpu_memory_utilization). */
#define VLLM_MEMORY_MILLIONTHS 900000
#define MILLION                1000000

bool engine_is_llama_server(const struct pool_backend *backend)
{
    return backend->activity == POOL_ACTIVITY_LLAMA_SERVER;
}

bool engine_is_vllm(const struct pool_backend *backend)
{
    return backend->activity == POOL_ACTIVITY_VLLM;
}

bool engine_takes_fraction(const struct pool_backend *backend)
{
    static const char placeholder[] = "{gpu_memory_fraction}";
    for (size_t i = 0; i < backend->n_command; i++) {
        if (strstr(backend->command[i], placeholder))
            return true;
    }
    for (size_t i = 0; i < backend->n_env; i++) {
        if (strstr(backend->env[i].value, placeholder))
            return true;
    }
    return false;
}

static const struct engine_word *find_word(const struct vocabulary *vocabulary, const char *name, size_t n)
{
    for (size_t i = 0; i < vocabulary->n; i++) {
        const struct engine_word *word = &vocabulary->words[i];
        for (size_t k = 0; k < 3 && word->names[k]; k++) {
            if (strlen(word->names[k]) == n && strncmp(word->names[k], name, n) == 0)
                return word;
        }
    }
    return NULL;
}

/* "0.85", ".9" or "1"; more digits than six are cut. */
static bool parse_millionths(const char *text, int64_t *ret)
{
    int64_t whole = 0;
    int64_t part = 0;
    int64_t unit = MILLION / 10;
    if (*text == '0' || *text == '1')
        whole = *text++ - '0';
    if (*text == '.') {
        for (text++; *text >= '0' && *text <= '9'; text++, unit /= 10)
            part += (*text - '0') * unit;
    }
    *ret = whole * MILLION + part;
    return *text == '\0' && *ret > 0 && *ret <= MILLION;
}

static bool is_one_of(const char *text, const char *const words[])
{
    for (size_t i = 0; words[i]; i++) {
        if (strcmp(text, words[i]) == 0)
            return true;
    }
    return false;
}

static const char *const words_for_on[] = { "on", "enabled", "true", "1", NULL };
static const char *const words_for_off[] = { "off", "disabled", "false", "0", NULL };
static const char *const words_for_auto[] = { "auto", "-1", NULL };

static bool is_switch_value(const char *text)
{
    return is_one_of(text, words_for_on) || is_one_of(text, words_for_off) || is_one_of(text, words_for_auto);
}

/* A value that is a placeholder stands for what the request says already. Negative and unreadable numbers are left to the
 * engine, which refuses them or takes them for its default. */
static void apply(struct engine_options *options, const struct engine_word *word, const char *value)
{
    void *at = (char *)&options->estimate + word->offset;
    int64_t number;
    struct stat st;
    if (strchr(value, '{'))
        return;
    switch (word->kind) {
    case VALUE_NUMBER:
        if (parse_int64(value, 1, INT32_MAX, &number))
            *(int64_t *)at = number;
        break;
    case VALUE_TEXT: *(const char **)at = value; break;
    case VALUE_ON: *(bool *)at = !is_one_of(value, words_for_off); break;
    case VALUE_OFF: *(bool *)at = false; break;
    case VALUE_FLASH: *(bool *)at = is_one_of(value, words_for_off); break;
    case VALUE_LAYERS:
        options->gpu_layers.is_present = parse_int64(value, 0, INT32_MAX, &options->gpu_layers.value);
        break;
    case VALUE_FILE:
        if (stat(value, &st) == 0 && S_ISREG(st.st_mode))
            options->extra_files_bytes = add_bytes(options->extra_files_bytes, st.st_size);
        break;
    case VALUE_FRACTION:
        if (parse_millionths(value, &number))
            options->memory_millionths = (struct pool_reading){ true, number };
        break;
    }
}

/* Takes the word at i, and its value when it has one, in the same word behind a '=' or in the next. @return the next i */
static size_t take_word(const struct vocabulary *vocabulary, struct engine_options *options,
                        char *const *words, size_t n, size_t i)
{
    const char *equals = words[i][0] == '-' ? strchr(words[i], '=') : NULL;
    const struct engine_word *word =
        find_word(vocabulary, words[i], equals ? (size_t)(equals - words[i]) : strlen(words[i]));
    if (!word)
        return i + 1;
    if (equals) {
        apply(options, word, equals + 1);
        return i + 1;
    }
    bool has_value = word->kind != VALUE_ON && word->kind != VALUE_OFF && i + 1 < n &&
                     (word->kind != VALUE_FLASH || is_switch_value(words[i + 1]));
    apply(options, word, has_value ? words[i + 1] : "");
    return has_value ? i + 2 : i + 1;
}

static void take_words(const struct vocabulary *vocabulary, struct engine_options *options,
                       char *const *words, size_t n)
{
    for (size_t i = 0; i < n;)
        i = take_word(vocabulary, options, words, n, i);
}

static void take_variables(const struct vocabulary *vocabulary, struct engine_options *options,
                           const struct pool_env_var *variables, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < vocabulary->n; k++) {
            const struct engine_word *word = &vocabulary->words[k];
            if (word->variable && strcmp(word->variable, variables[i].name) == 0)
                apply(options, word, variables[i].value);
        }
    }
}

void engine_options_read(const struct pool_backend *backend, const struct pool_worker_spawn_request *request,
                         struct engine_options *options)
{
    bool is_vllm = engine_is_vllm(backend);
    const struct vocabulary *vocabulary = is_vllm ? &vllm_vocabulary : &llama_vocabulary;
    if (!is_vllm && !engine_is_llama_server(backend))
        return;
    take_variables(vocabulary, options, backend->env, backend->n_env);
    take_variables(vocabulary, options, request->env, request->n_env);
    if (backend->n_command > 1)
        take_words(vocabulary, options, backend->command + 1, backend->n_command - 1);
    take_words(vocabulary, options, request->extra_args, request->n_extra_args);
    if (is_vllm && backend->device == POOL_DEVICE_GPU && !options->memory_millionths.is_present &&
        !engine_takes_fraction(backend))
        options->memory_millionths = (struct pool_reading){ true, VLLM_MEMORY_MILLIONTHS };
}
