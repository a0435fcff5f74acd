/*
 * What the keys of a GGUF file mean: which of them fill which field of the header, and what each layer is. Names of the
 * keys: the GGUF specification and llama.cpp src/llama-arch.cpp (LLM_KV_NAMES). Integers are taken in every integer
 * type, because writers disagree; every value is checked here, so that formulas can rely on it.
 */
#include "core/catalog/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARCHITECTURE_MAX 64
#define TEXT_MAX         256 /* name and type, shown to people */
#define KEY_TEXT_MAX     160

static const struct gguf_key *find(const struct gguf *gguf, const char *name)
{
    return gguf_find_key(gguf, name, strlen(name));
}

/* "ARCHITECTURE.suffix", NULL when the file does not say its architecture. */
static const struct gguf_key *find_of_architecture(const struct gguf *gguf, const char *suffix)
{
    if (!gguf->header->architecture)
        return NULL;
    char name[KEY_TEXT_MAX];
    int n = snprintf(name, sizeof name, "%s.%s", gguf->header->architecture, suffix);
    return n > 0 && (size_t)n < sizeof name ? gguf_find_key(gguf, name, (size_t)n) : NULL;
}

static enum pool_code refuse_key(const struct gguf *gguf, const struct gguf_key *key, const char *why,
                                 struct pool_error *err)
{
    char name[128];
    header_copy_printable(strbuf_text(&gguf->names) + key->name.at, key->name.n, name, sizeof name);
    return header_corrupt(err, key->name.position, "the key \"%s\" at byte %llu %s", name,
                          (unsigned long long)key->name.position, why);
}

static enum pool_code read_text(struct gguf *gguf, const char *name, char **ret_text, struct pool_error *err)
{
    const struct gguf_key *key = find(gguf, name);
    if (!key)
        return POOL_OK;
    if (key->type != GGUF_STRING)
        return refuse_key(gguf, key, "is no string", err);
    char raw[TEXT_MAX], printable[TEXT_MAX];
    size_t n = key->n < sizeof raw ? (size_t)key->n : sizeof raw;
    header_reader_seek(&gguf->reader, key->position);
    enum pool_code code = header_reader_bytes(&gguf->reader, raw, n, name, err);
    if (code != POOL_OK)
        return code;
    header_copy_printable(raw, n, printable, sizeof printable);
    *ret_text = strdup(printable);
    return *ret_text ? POOL_OK : pool_error_no_memory(err);
}

/* The architecture is part of the names of other keys, so it is held to the letters that names have. */
static enum pool_code read_architecture(struct gguf *gguf, struct pool_error *err)
{
    enum pool_code code = read_text(gguf, "general.architecture", &gguf->header->architecture, err);
    const char *text = gguf->header->architecture;
    if (code != POOL_OK || !text)
        return code;
    size_t n = strlen(text);
    if (n == 0 || n > ARCHITECTURE_MAX ||
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != n)
        return refuse_key(gguf, find(gguf, "general.architecture"), "has no name of an architecture", err);
    return POOL_OK;
}

typedef void take_element_fn(struct pool_model_header *header, size_t index, int64_t value);

/* Reads the elements of an array of integers. */
static enum pool_code read_elements(struct gguf *gguf, const struct gguf_key *key, take_element_fn *take,
                                    int64_t *ret_largest, struct pool_error *err)
{
    if (key->n > POOL_MODEL_LAYERS_MAX)
        return refuse_key(gguf, key, "has more values than a model has layers", err);
    uint32_t n_bytes = gguf_value_bytes(key->element_type);
    int64_t largest = 0;
    header_reader_seek(&gguf->reader, key->position);
    for (size_t i = 0; i < key->n; i++) {
        unsigned char bytes[8] = { 0 };
        uint64_t bits = 0;
        if (n_bytes > 0) {
            enum pool_code code =
                header_reader_bytes(&gguf->reader, bytes, n_bytes, "a value of an array", err);
            if (code != POOL_OK)
                return code;
        }
        for (uint32_t j = 0; j < n_bytes; j++)
            bits |= (uint64_t)bytes[j] << (8 * j);
        int64_t value;
        if (!gguf_value_integer(key->element_type, bits, &value))
            return refuse_key(gguf, key, "has a value that is no integer, negative or too large", err);
        if (value > largest)
            largest = value;
        if (take)
            take(gguf->header, i, value);
    }
    *ret_largest = largest;
    return POOL_OK;
}

/* An integer, or the largest of an array of them: some architectures say by layer what others say once. */
static enum pool_code read_key_integer(struct gguf *gguf, const struct gguf_key *key,
                                       struct pool_reading *ret_reading, struct pool_error *err)
{
    if (!key)
        return POOL_OK;
    int64_t value = 0;
    if (key->type == GGUF_ARRAY) {
        enum pool_code code = read_elements(gguf, key, NULL, &value, err);
        if (code != POOL_OK)
            return code;
    } else if (!gguf_value_integer(key->type, key->bits, &value)) {
        return refuse_key(gguf, key, "is no integer, negative or too large", err);
    }
    *ret_reading = (struct pool_reading){ true, value };
    return POOL_OK;
}

static void set_head_count_kv(struct pool_model_header *header, size_t index, int64_t value)
{
    header->layers[index].head_count_kv = value;
}

static void set_sliding_window(struct pool_model_header *header, size_t index, int64_t value)
{
    header->layers[index].is_sliding_window = value != 0;
}

/* A value for each layer: an array of as many as there are blocks, or one for all. The largest is the reading. */
static enum pool_code read_by_layer(struct gguf *gguf, const char *suffix, take_element_fn *take,
                                    struct pool_reading *reading, struct pool_error *err)
{
    const struct gguf_key *key = find_of_architecture(gguf, suffix);
    const struct pool_model_header *header = gguf->header;
    if (key && key->type == GGUF_ARRAY && header->n_layers > 0) {
        if (key->n != header->n_layers)
            return refuse_key(gguf, key, "has not one value for each block", err);
        reading->is_present = true;
        return read_elements(gguf, key, take, &reading->value, err);
    }
    enum pool_code code = read_key_integer(gguf, key, reading, err);
    for (size_t i = 0; code == POOL_OK && take && reading->is_present && i < header->n_layers; i++)
        take(gguf->header, i, reading->value);
    return code;
}

/* Architectures whose layers have a window in turns of n, the last of each turn without (llama.cpp src/models: the
 * swa_period of each, used when the file does not say attention.sliding_window_pattern). For others the window is left
 * out of account, which makes an estimate larger, never smaller. */
static const struct {
    const char *architecture;
    int64_t period;
} window_periods[] = {
    { "gemma2", 2 },  { "gemma3", 6 },  { "gemma3n", 5 }, { "gpt-oss", 2 },
    { "cohere2", 4 }, { "exaone4", 4 }, { "plamo3", 8 },  { "afmoe", 4 },
};

static enum pool_code read_windows(struct gguf *gguf, struct pool_error *err)
{
    struct pool_model_header *header = gguf->header;
    if (!header->sliding_window.is_present || header->sliding_window.value == 0)
        return POOL_OK;
    const struct gguf_key *key = find_of_architecture(gguf, "attention.sliding_window_pattern");
    int64_t period = 0;
    for (size_t i = 0; i < sizeof window_periods / sizeof window_periods[0]; i++) {
        if (strcmp(header->architecture, window_periods[i].architecture) == 0)
            period = window_periods[i].period;
    }
    if (key && key->type == GGUF_ARRAY) {
        int64_t ignored;
        if (key->n == header->n_layers)
            return read_elements(gguf, key, set_sliding_window, &ignored, err);
        return POOL_OK;
    }
    struct pool_reading said = { false, 0 };
    enum pool_code code = read_key_integer(gguf, key, &said, err);
    if (code != POOL_OK || period == 0)
        return code;
    if (said.is_present && said.value > 0)
        period = said.value;
    for (size_t i = 0; i < header->n_layers; i++)
        header->layers[i].is_sliding_window = (int64_t)i % period < period - 1;
    return POOL_OK;
}

static enum pool_code make_layers(struct gguf *gguf, struct pool_error *err)
{
    struct pool_model_header *header = gguf->header;
    struct pool_reading n_blocks = { false, 0 };
    enum pool_code code = read_key_integer(gguf, find_of_architecture(gguf, "block_count"), &n_blocks, err);
    if (code != POOL_OK)
        return code;
    header->block_count = n_blocks;
    if (n_blocks.is_present && n_blocks.value >= 1 && n_blocks.value <= POOL_MODEL_LAYERS_MAX) {
        header->layers = calloc((size_t)n_blocks.value, sizeof(*header->layers));
        if (!header->layers)
            return pool_error_no_memory(err);
        header->n_layers = (size_t)n_blocks.value;
    }
    code = read_by_layer(gguf, "attention.head_count", set_head_count_kv, &header->head_count, err);
    struct pool_reading head_count_kv =
        header->head_count; /* heads of keys and values are as many unless said */
    if (code == POOL_OK)
        code = read_by_layer(gguf, "attention.head_count_kv", set_head_count_kv, &head_count_kv, err);
    if (code == POOL_OK)
        code = read_by_layer(gguf, "feed_forward_length", NULL, &header->feed_forward_length, err);
    return code;
}

static enum pool_code read_numbers(struct gguf *gguf, struct pool_error *err)
{
    struct pool_model_header *header = gguf->header;
    const struct {
        const char *suffix;
        struct pool_reading *reading;
    } numbers[] = {
        { "context_length", &header->context_length },
        { "embedding_length", &header->embedding_length },
        { "vocab_size", &header->vocabulary_size },
        { "attention.key_length", &header->key_length },
        { "attention.value_length", &header->value_length },
        { "attention.key_length_mla", &header->key_length_mla },
        { "attention.key_length_swa", &header->key_length_swa },
        { "attention.value_length_swa", &header->value_length_swa },
        { "attention.kv_lora_rank", &header->kv_lora_rank },
        { "attention.sliding_window", &header->sliding_window },
        { "attention.shared_kv_layers", &header->shared_kv_layers },
        { "rope.dimension_count", &header->rope_dimension_count },
        { "expert_count", &header->expert_count },
        { "expert_used_count", &header->expert_used_count },
        { "expert_feed_forward_length", &header->expert_feed_forward_length },
        { "ssm.conv_kernel", &header->ssm_conv_kernel },
        { "ssm.inner_size", &header->ssm_inner_size },
        { "ssm.state_size", &header->ssm_state_size },
        { "ssm.group_count", &header->ssm_group_count },
        { "wkv.head_size", &header->wkv_head_size },
        { "shortconv.l_cache", &header->shortconv_l_cache },
        { "kda.head_dim", &header->kda_head_dim },
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        enum pool_code code =
            read_key_integer(gguf, find_of_architecture(gguf, numbers[i].suffix), numbers[i].reading, err);
        if (code != POOL_OK)
            return code;
    }
    /* llama.cpp sizes the output by the list of tokens. */
    const struct gguf_key *tokens = find(gguf, "tokenizer.ggml.tokens");
    if (tokens && tokens->type == GGUF_ARRAY && tokens->n > 0)
        header->vocabulary_size = (struct pool_reading){ true, (int64_t)tokens->n };
    return POOL_OK;
}

static enum pool_code read_split(struct gguf *gguf, struct pool_error *err)
{
    struct pool_model_header *header = gguf->header;
    const struct gguf_key *key_count = find(gguf, "split.count"), *key_index = find(gguf, "split.no");
    struct pool_reading count = { false, 0 }, index = { false, 0 };
    enum pool_code code = read_key_integer(gguf, key_count, &count, err);
    if (code == POOL_OK)
        code = read_key_integer(gguf, key_index, &index, err);
    if (code == POOL_OK)
        code = read_key_integer(gguf, find(gguf, "split.tensors.count"), &header->split_tensor_count, err);
    if (code != POOL_OK)
        return code;
    if (count.value > UINT16_MAX)
        return refuse_key(gguf, key_count, "says more shards than the format can count", err);
    header->shard_count = count.value > 0 ? count.value : 1;
    if (index.value >= header->shard_count)
        return refuse_key(gguf, key_index, "says a shard behind the last one", err);
    header->shard_index = index.value;
    return POOL_OK;
}

enum pool_code gguf_read_metadata(struct gguf *gguf, struct pool_error *err)
{
    struct pool_model_header *header = gguf->header;
    enum pool_code code = read_architecture(gguf, err);
    if (code == POOL_OK)
        code = read_text(gguf, "general.name", &header->name, err);
    if (code == POOL_OK)
        code = read_text(gguf, "general.type", &header->type, err);
    if (code == POOL_OK)
        code = make_layers(gguf, err);
    if (code == POOL_OK)
        code = read_numbers(gguf, err);
    if (code == POOL_OK)
        code = read_windows(gguf, err);
    if (code == POOL_OK)
        code = read_split(gguf, err);
    header->has_chat_template = find(gguf, "tokenizer.chat_template") != NULL;
    return code;
}
