/*
 * Reading llama-server's words; see engine_options.h. One table says which words and variables there are. Source:
 * llama.cpp, common/arg.cpp (names, variables, values of switches).
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
    VALUE_FILE
};

#define AT(member) offsetof(struct pool_estimate_options, member)
static const struct engine_word {
    const char *names[3];
    const char *variable;
    enum engine_value kind;
    size_t offset;
} engine_words[] = {
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
#undef AT
#define N_ENGINE_WORDS (sizeof engine_words / sizeof engine_words[0])

bool engine_is_llama_server(const struct pool_backend *backend)
{
    return backend->activity == POOL_ACTIVITY_LLAMA_SERVER;
}

static const struct engine_word *find_word(const char *name, size_t n)
{
    for (size_t i = 0; i < N_ENGINE_WORDS; i++) {
        for (size_t k = 0; k < 3 && engine_words[i].names[k]; k++) {
            if (strlen(engine_words[i].names[k]) == n && strncmp(engine_words[i].names[k], name, n) == 0)
                return &engine_words[i];
        }
    }
    return NULL;
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
    }
}

/* Takes the word at i, and its value when it has one, in the same word behind a '=' or in the next. @return the next i */
static size_t take_word(struct engine_options *options, char *const *words, size_t n, size_t i)
{
    const char *equals = words[i][0] == '-' ? strchr(words[i], '=') : NULL;
    const struct engine_word *word =
        find_word(words[i], equals ? (size_t)(equals - words[i]) : strlen(words[i]));
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

static void take_words(struct engine_options *options, char *const *words, size_t n)
{
    for (size_t i = 0; i < n;)
        i = take_word(options, words, n, i);
}

static void take_variables(struct engine_options *options, const struct pool_env_var *variables, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < N_ENGINE_WORDS; k++) {
            if (engine_words[k].variable && strcmp(engine_words[k].variable, variables[i].name) == 0)
                apply(options, &engine_words[k], variables[i].value);
        }
    }
}

void engine_options_read(const struct pool_backend *backend, const struct pool_worker_spawn_request *request,
                         struct engine_options *options)
{
    if (!engine_is_llama_server(backend))
        return;
    take_variables(options, backend->env, backend->n_env);
    take_variables(options, request->env, request->n_env);
    if (backend->n_command > 1)
        take_words(options, backend->command + 1, backend->n_command - 1);
    take_words(options, request->extra_args, request->n_extra_args);
}
