#include "core/catalog/hf_config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "core/catalog/header.h"

#define NAME_MAX_BYTES 128

/* One fact goes by several names; the first that is there counts. */
static const struct shape_key {
    size_t offset;
    const char *names[4];
    bool is_needed; /* for an estimate: what is there has to be good */
} shape_keys[] = {
#define READING(member) offsetof(struct pool_model_header, member)
    { READING(block_count), { "num_hidden_layers", "n_layer", "num_layers", "n_layers" }, true },
    { READING(embedding_length), { "hidden_size", "n_embd", "d_model", NULL }, true },
    { READING(head_count), { "num_attention_heads", "n_head", "n_heads", NULL }, true },
    { READING(feed_forward_length), { "intermediate_size", "n_inner", "ffn_dim", NULL }, false },
    { READING(vocabulary_size), { "vocab_size", NULL, NULL, NULL }, false },
    { READING(context_length),
      { "max_position_embeddings", "n_positions", "max_seq_len", "model_max_length" },
      false },
    { READING(expert_count), { "num_local_experts", "num_experts", "n_routed_experts", NULL }, false },
    { READING(expert_used_count), { "num_experts_per_tok", "num_experts_per_token", NULL, NULL }, false },
    { READING(kv_lora_rank), { "kv_lora_rank", NULL, NULL, NULL }, false },
    { READING(rope_dimension_count), { "qk_rope_head_dim", NULL, NULL, NULL }, false },
    { READING(key_length), { "head_dim", NULL, NULL, NULL }, true },
#undef READING
};

bool hf_config_is_path(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strcmp(slash ? slash + 1 : path, HF_CONFIG_NAME) == 0;
}

/* A whole number of at least 1 and at most INT32_MAX; more would be a mistake, and products of a few of them do not overflow. */
static struct pool_reading number_at(const json_t *config, const char *name)
{
    const json_t *value = json_object_get(config, name);
    bool is_fine =
        json_is_integer(value) && json_integer_value(value) >= 1 && json_integer_value(value) <= INT32_MAX;
    return (struct pool_reading){ is_fine, is_fine ? json_integer_value(value) : 0 };
}

/*
 * What is there and no such number is damage: without it less would be admitted than the model takes. null says nothing.
 */
static enum pool_code check_number(const json_t *config, const char *name, struct pool_error *err)
{
    const json_t *value = json_object_get(config, name);
    if (!value || json_is_null(value) || number_at(config, name).is_present)
        return POOL_OK;
    return pool_error_set(err, POOL_MODEL_CORRUPT, "\"%s\" is no whole number from 1 to %d", name, INT32_MAX);
}

static enum pool_code check_numbers(const json_t *config, struct pool_error *err)
{
    static const char *const kv_names[] = { "num_key_value_heads", "num_kv_heads" };
    enum pool_code code = POOL_OK;
    for (size_t i = 0; i < sizeof shape_keys / sizeof shape_keys[0]; i++) {
        for (size_t k = 0; code == POOL_OK && k < 4 && shape_keys[i].is_needed && shape_keys[i].names[k]; k++)
            code = check_number(config, shape_keys[i].names[k], err);
    }
    for (size_t i = 0; code == POOL_OK && i < sizeof kv_names / sizeof kv_names[0]; i++)
        code = check_number(config, kv_names[i], err);
    return code;
}

static void take_numbers(const json_t *config, struct pool_model_header *header)
{
    for (size_t i = 0; i < sizeof shape_keys / sizeof shape_keys[0]; i++) {
        struct pool_reading *reading = (void *)((char *)header + shape_keys[i].offset);
        for (size_t k = 0; k < 4 && shape_keys[i].names[k] && !reading->is_present; k++)
            *reading = number_at(config, shape_keys[i].names[k]);
    }
    if (!header->key_length.is_present && header->embedding_length.is_present &&
        header->head_count.is_present)
        header->key_length =
            (struct pool_reading){ true, header->embedding_length.value / header->head_count.value };
    header->value_length = header->key_length;
    if (header->kv_lora_rank.is_present) /* one latent row a token: MLA */
        header->key_length_mla = (struct pool_reading){
            true, header->kv_lora_rank.value +
                      (header->rope_dimension_count.is_present ? header->rope_dimension_count.value : 0)
        };
    /* Models that have a window they do not use say so (Qwen2). */
    if (!json_is_false(json_object_get(config, "use_sliding_window")))
        header->sliding_window = number_at(config, "sliding_window");
}

/* Heads of keys and values: as many as there are heads where nothing is said, one for all of them with multi_query (Falcon). */
static int64_t head_count_kv_of(const json_t *config, const struct pool_model_header *header)
{
    struct pool_reading said = number_at(config, "num_key_value_heads");
    if (!said.is_present)
        said = number_at(config, "num_kv_heads");
    if (said.is_present)
        return said.value;
    if (json_is_true(json_object_get(config, "multi_query")))
        return 1;
    return header->head_count.is_present ? header->head_count.value : 0;
}

/* Without layer_types every layer attends, with the window when there is one. */
static bool take_layers(const json_t *config, struct pool_model_header *header)
{
    const json_t *types = json_object_get(config, "layer_types");
    size_t n = (size_t)header->block_count.value;
    int64_t head_count_kv = head_count_kv_of(config, header);
    if (!header->block_count.is_present || n > POOL_MODEL_LAYERS_MAX)
        return true;
    free(header->layers);
    header->n_layers = 0;
    header->layers = calloc(n, sizeof *header->layers);
    if (!header->layers)
        return false;
    header->n_layers = n;
    for (size_t i = 0; i < n; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        struct pool_model_layer *layer = &header->layers[i];
        layer->head_count_kv = head_count_kv;
        layer->is_recurrent = type && (strcmp(type, "linear_attention") == 0 || strcmp(type, "mamba") == 0);
        layer->has_attention = !layer->is_recurrent;
        layer->is_sliding_window =
            type ? strcmp(type, "sliding_attention") == 0 : header->sliding_window.is_present;
    }
    return true;
}

static bool take_architecture(const json_t *root, struct pool_model_header *header)
{
    char name[NAME_MAX_BYTES];
    const json_t *type = json_object_get(root, "model_type");
    if (!json_is_string(type))
        return true;
    header_copy_printable(json_string_value(type), json_string_length(type), name, sizeof name);
    free(header->architecture);
    header->architecture = strdup(name);
    return header->architecture != NULL;
}

static enum pool_code refuse_read(int failure, struct pool_error *err)
{
    if (failure == ENOMEM)
        return pool_error_no_memory(err);
    if (failure == EFBIG)
        return pool_error_set(err, POOL_MODEL_INCOMPATIBLE, "is over the limit, %d bytes",
                              HF_CONFIG_MAX_BYTES);
    if (failure == EACCES || failure == EPERM)
        return pool_error_set_errno(err, POOL_PERMISSION_DENIED, failure, "can not be read");
    return pool_error_set_errno(err, POOL_MODEL_CORRUPT, failure, "can not be read");
}

static enum pool_code parse(const char *text, size_t n, json_t **ret_root, struct pool_error *err)
{
    struct json_failure failure;
    CLEANUP_JSON json_t *root = json_parse(text, n, &failure);
    if (!root && failure.is_no_memory)
        return pool_error_no_memory(err);
    if (!root)
        return pool_error_set(err, POOL_MODEL_CORRUPT, "is no good JSON at line %d, column %d: %s",
                              failure.line, failure.column, failure.message);
    if (!json_is_object(root))
        return pool_error_set(err, POOL_MODEL_CORRUPT, "is no JSON object");
    *ret_root = take_ptr(&root);
    return POOL_OK;
}

enum pool_code hf_config_parse(const char *text, size_t n, struct pool_model_header *header,
                               struct pool_error *err)
{
    CLEANUP_JSON json_t *root = NULL;
    enum pool_code code = parse(text, n, &root, err);
    if (code != POOL_OK)
        return code;
    /* Models of several kinds of input have their language model's shape in an object of its own. */
    const json_t *config = json_object_get(root, "text_config");
    if (!json_is_object(config))
        config = root;
    code = check_numbers(config, err);
    if (code != POOL_OK)
        return code;
    take_numbers(config, header);
    if (header->block_count.is_present && header->block_count.value > POOL_MODEL_LAYERS_MAX)
        return pool_error_set(err, POOL_MODEL_CORRUPT, "says more than %d layers", POOL_MODEL_LAYERS_MAX);
    if (header->key_length.is_present && header->key_length.value < 1)
        return pool_error_set(err, POOL_MODEL_CORRUPT, "says more heads than its hidden size has numbers");
    bool is_whole = take_layers(config, header) && take_architecture(root, header);
    return is_whole ? POOL_OK : pool_error_no_memory(err);
}

enum pool_code hf_config_read(const char *path, struct pool_model_header *header, struct pool_error *err)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(HF_CONFIG_MAX_BYTES);
    int failure = file_read(path, &text);
    enum pool_code code =
        failure ? refuse_read(failure, err) : hf_config_parse(strbuf_text(&text), text.n, header, err);
    if (code != POOL_OK) {
        pool_error_prefix(err, "%s", path);
        pool_error_add_text(err, "path", path);
    }
    return code;
}
