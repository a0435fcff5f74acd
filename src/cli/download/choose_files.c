/*
 * Which files of a repository make a model; see download_plan.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/download/download_plan.h"

#define SHOWN_MAX 12

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text);
    size_t n_end = strlen(end);
    return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

enum pool_code add_split_files(const char *first, struct string_list *ret_files, struct pool_error *err)
{
    struct pool_model_split split;
    bool is_split = pool_model_file_split(first, &split);
    if (is_split && (split.number != 1 || split.total > POOL_MODEL_FILES_MAX)) {
        pool_error_set(err, POOL_INVALID_REQUEST, "%s is file %u of %u: name the first one, of at most %d",
                       first, split.number, split.total, POOL_MODEL_FILES_MAX);
        pool_error_set_field(err, "model_ref");
        return POOL_INVALID_REQUEST;
    }
    string_list_add(ret_files, first);
    for (unsigned number = 2; is_split && number <= split.total; number++)
        string_list_printf(ret_files, "%.*s-%05u-of-%05u.gguf", (int)split.n_stem, first, number,
                           split.total);
    return ret_files->has_failed ? pool_error_no_memory(err) : POOL_OK;
}

static enum pool_code refuse_choice(const struct string_list *choices, struct pool_error *err)
{
    char shown[POOL_ERROR_MESSAGE_MAX / 2] = "";
    size_t at = 0;
    for (size_t i = 0; i < choices->n && i < SHOWN_MAX; i++) {
        int n = snprintf(shown + at, sizeof shown - at, "%s%s", i > 0 ? ", " : "", choices->at[i]);
        if (n < 0 || (size_t)n >= sizeof shown - at) {
            shown[at] = '\0';
            break;
        }
        at += (size_t)n;
    }
    pool_error_set(err, POOL_INVALID_REQUEST,
                   "%zu files of the repository could be meant, add ::file=PATH with one of: %s", choices->n,
                   shown);
    pool_error_add_number(err, "n_choices", (int64_t)choices->n);
    pool_error_set_field(err, "model_ref");
    return POOL_INVALID_REQUEST;
}

/* What engines read beside the weights: configuration, tokenizer, templates. Not other formats of the same weights. */
static bool belongs_to_directory(const char *file)
{
    static const char *const ends[] = { ".safetensors", ".json", ".txt", ".model", ".jinja", ".tiktoken" };
    if (strchr(file, '/') || file[0] == '.')
        return false;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        if (ends_with(file, ends[i]))
            return true;
    }
    return false;
}

static bool is_weights(const char *file)
{
    return belongs_to_directory(file) && ends_with(file, ".safetensors");
}

/* Some repositories have the same weights twice: in parts for most engines, and in one piece for one of them. */
static bool is_consolidated(const char *file)
{
    return strncmp(file, "consolidated", 12) == 0 && is_weights(file);
}

static enum pool_code choose_directory(const struct string_list *all, struct string_list *ret_files,
                                       struct pool_error *err)
{
    size_t n_weights = 0;
    size_t n_consolidated = 0;
    bool has_config = false;
    for (size_t i = 0; i < all->n; i++) {
        n_weights += is_weights(all->at[i]);
        n_consolidated += is_consolidated(all->at[i]);
        has_config = has_config || strcmp(all->at[i], "config.json") == 0;
    }
    if (n_weights == 0 || !has_config)
        return pool_error_set(err, POOL_MODEL_INCOMPATIBLE,
                              "the repository has neither a GGUF file nor safetensors with a config.json");
    for (size_t i = 0; i < all->n; i++) {
        bool is_second = is_consolidated(all->at[i]) && n_consolidated < n_weights;
        if (belongs_to_directory(all->at[i]) && !is_second)
            string_list_add(ret_files, all->at[i]);
    }
    return ret_files->has_failed ? pool_error_no_memory(err) : POOL_OK;
}

enum pool_code choose_files(const struct string_list *all, struct string_list *ret_files,
                            bool *ret_is_directory, struct pool_error *err)
{
    CLEANUP(string_list_done) struct string_list choices = { 0 };
    *ret_is_directory = false;
    for (size_t i = 0; i < all->n; i++) {
        if (pool_model_file_is_choice(all->at[i]) && !string_list_add(&choices, all->at[i]))
            return pool_error_no_memory(err);
    }
    if (choices.n == 1)
        return add_split_files(choices.at[0], ret_files, err);
    if (choices.n > 1)
        return refuse_choice(&choices, err);
    *ret_is_directory = true;
    return choose_directory(all, ret_files, err);
}
