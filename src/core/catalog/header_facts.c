/*
 * Facts of a header as bytes, in the machine's own order: they never leave it. One table says which fields there are, so
 * that writing and reading can not differ.
 */
#define _GNU_SOURCE
#include "core/catalog/header_facts.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define TEXT_MAX_BYTES 4096

/* Another number when the meaning of a fact changes, so that what an older version remembered is read anew. */
static const char magic[] = "pool-core header 2\n";

enum fact_kind { FACT_NUMBER, FACT_READING, FACT_BOOL, FACT_TEXT };

struct fact {
    enum fact_kind kind;
    size_t offset;
};

#define NUMBER(member)                                          \
    {                                                           \
        FACT_NUMBER, offsetof(struct pool_model_header, member) \
    }
#define READING(member)                                          \
    {                                                            \
        FACT_READING, offsetof(struct pool_model_header, member) \
    }
#define BOOL(member)                                          \
    {                                                         \
        FACT_BOOL, offsetof(struct pool_model_header, member) \
    }
#define TEXT(member)                                          \
    {                                                         \
        FACT_TEXT, offsetof(struct pool_model_header, member) \
    }
/* clang-format off */
static const struct fact facts[] = {
    TEXT(architecture), TEXT(name), TEXT(quantization), TEXT(type),
    READING(parameter_count), READING(context_length), READING(embedding_length), READING(feed_forward_length),
    READING(vocabulary_size), READING(block_count), READING(head_count), READING(key_length), READING(value_length),
    READING(kv_lora_rank), READING(rope_dimension_count), READING(sliding_window), READING(expert_count),
    READING(expert_used_count), READING(ssm_conv_kernel), READING(ssm_inner_size), READING(ssm_state_size),
    READING(ssm_group_count), BOOL(is_size_known), NUMBER(tensor_bytes), NUMBER(token_embedding_bytes),
    NUMBER(output_bytes), NUMBER(n_tensors), NUMBER(n_keys), NUMBER(data_offset_bytes), NUMBER(file_size_bytes),
    NUMBER(shard_index), NUMBER(shard_count), BOOL(has_chat_template), READING(key_length_mla),
    READING(key_length_swa), READING(value_length_swa), READING(shared_kv_layers), READING(expert_feed_forward_length),
    READING(wkv_head_size), READING(shortconv_l_cache), READING(split_tensor_count), NUMBER(lookup_bytes),
    READING(kda_head_dim),
};
/* clang-format on */
#undef NUMBER
#undef READING
#undef BOOL
#undef TEXT
#define N_FACTS (sizeof facts / sizeof facts[0])
/* format, version and layers are written apart. A field that is added to the header belongs into the table. */
#if defined(__x86_64__)
_Static_assert(sizeof(struct pool_model_header) == 584, "the table of facts lacks a field");
#endif

struct file_identity file_identity_of(const struct stat *st)
{
    return (struct file_identity){ .device = st->st_dev,
                                   .inode = st->st_ino,
                                   .size_bytes = st->st_size,
                                   .mtime_ns = (int64_t)st->st_mtim.tv_sec * NS_PER_SEC + st->st_mtim.tv_nsec,
                                   .ctime_ns =
                                       (int64_t)st->st_ctim.tv_sec * NS_PER_SEC + st->st_ctim.tv_nsec };
}

bool file_identities_equal(const struct file_identity *a, const struct file_identity *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (a[i].device != b[i].device || a[i].inode != b[i].inode || a[i].size_bytes != b[i].size_bytes ||
            a[i].mtime_ns != b[i].mtime_ns || a[i].ctime_ns != b[i].ctime_ns)
            return false;
    }
    return true;
}

/* FNV-1a: finds damage, not forgery; who can write here can write what they like. */
static uint64_t checksum(const unsigned char *data, size_t n)
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ data[i]) * UINT64_C(0x100000001b3);
    return sum;
}

/* ---- writing ---- */

static void put_number(struct strbuf *out, int64_t value)
{
    strbuf_add(out, &value, sizeof value);
}

static void put_reading(struct strbuf *out, struct pool_reading reading)
{
    put_number(out, reading.is_present ? 1 : 0);
    put_number(out, reading.value);
}

static void put_text(struct strbuf *out, const char *text)
{
    put_number(out, text ? (int64_t)strlen(text) : -1);
    if (text)
        strbuf_add(out, text, strlen(text));
}

static void put_fact(struct strbuf *out, const struct fact *fact, const struct pool_model_header *header)
{
    const void *at = (const char *)header + fact->offset;
    switch (fact->kind) {
    case FACT_NUMBER: put_number(out, *(const int64_t *)at); break;
    case FACT_READING: put_reading(out, *(const struct pool_reading *)at); break;
    case FACT_BOOL: put_number(out, *(const bool *)at ? 1 : 0); break;
    case FACT_TEXT: put_text(out, *(char *const *)at); break;
    }
}

bool header_facts_encode(const struct file_identity *files, size_t n_files,
                         const struct pool_model_header *header, struct strbuf *out)
{
    size_t start = out->n;
    strbuf_add(out, magic, sizeof magic - 1);
    put_number(out, (int64_t)n_files);
    strbuf_add(out, files, n_files * sizeof *files);
    put_number(out, header->format);
    put_number(out, header->version);
    for (size_t i = 0; i < N_FACTS; i++)
        put_fact(out, &facts[i], header);
    put_number(out, (int64_t)header->n_layers);
    for (size_t i = 0; i < header->n_layers; i++) {
        const struct pool_model_layer *layer = &header->layers[i];
        put_number(out, layer->weight_bytes);
        put_number(out, layer->head_count_kv);
        put_number(out, (layer->is_sliding_window ? 1 : 0) | (layer->is_recurrent ? 2 : 0) |
                            (layer->has_attention ? 4 : 0));
    }
    if (out->failure != STRBUF_FINE)
        return false;
    uint64_t sum = checksum((const unsigned char *)strbuf_text(out) + start, out->n - start);
    return strbuf_add(out, &sum, sizeof sum);
}

/* ---- reading ---- */

/* What is left to read. A read behind the end makes it bad and gives zero. */
struct facts_reader {
    const unsigned char *data;
    size_t n;
    bool is_bad;
};

static bool take(struct facts_reader *reader, void *to, size_t n)
{
    if (reader->is_bad || n > reader->n) {
        reader->is_bad = true;
        return false;
    }
    memcpy(to, reader->data, n);
    reader->data += n;
    reader->n -= n;
    return true;
}

static int64_t take_number(struct facts_reader *reader, int64_t least, int64_t most)
{
    int64_t value = 0;
    if (take(reader, &value, sizeof value) && value >= least && value <= most)
        return value;
    reader->is_bad = true;
    return 0;
}

static char *take_text(struct facts_reader *reader)
{
    int64_t n = take_number(reader, -1, TEXT_MAX_BYTES);
    if (reader->is_bad || n < 0 || (size_t)n > reader->n) {
        reader->is_bad = reader->is_bad || n >= 0;
        return NULL;
    }
    char *text = malloc((size_t)n + 1);
    if (!text || !take(reader, text, (size_t)n) || memchr(text, '\0', (size_t)n)) {
        free(text);
        reader->is_bad = true;
        return NULL;
    }
    text[n] = '\0';
    return text;
}

static void take_fact(struct facts_reader *reader, const struct fact *fact, struct pool_model_header *header)
{
    void *at = (char *)header + fact->offset;
    struct pool_reading *reading = at;
    switch (fact->kind) {
    case FACT_NUMBER: *(int64_t *)at = take_number(reader, 0, INT64_MAX); break;
    case FACT_READING:
        reading->is_present = take_number(reader, 0, 1) != 0;
        reading->value = take_number(reader, 0, INT64_MAX);
        break;
    case FACT_BOOL: *(bool *)at = take_number(reader, 0, 1) != 0; break;
    case FACT_TEXT: *(char **)at = take_text(reader); break;
    }
}

static void take_layers(struct facts_reader *reader, struct pool_model_header *header)
{
    size_t n = (size_t)take_number(reader, 0, POOL_MODEL_LAYERS_MAX);
    if (reader->is_bad || n == 0)
        return;
    header->layers = calloc(n, sizeof *header->layers);
    if (!header->layers) {
        reader->is_bad = true;
        return;
    }
    header->n_layers = n;
    for (size_t i = 0; i < n; i++) {
        struct pool_model_layer *layer = &header->layers[i];
        layer->weight_bytes = take_number(reader, 0, INT64_MAX);
        layer->head_count_kv = take_number(reader, 0, INT64_MAX);
        int64_t flags = take_number(reader, 0, 7);
        layer->is_sliding_window = (flags & 1) != 0;
        layer->is_recurrent = (flags & 2) != 0;
        layer->has_attention = (flags & 4) != 0;
    }
}

/* Whether the bytes begin with the facts of these files. */
static bool take_files(struct facts_reader *reader, const struct file_identity *files, size_t n_files)
{
    int64_t n = take_number(reader, 1, POOL_MODEL_FILES_MAX);
    if (reader->is_bad || (n_files > 0 && (size_t)n != n_files))
        return false;
    for (size_t i = 0; i < (size_t)n; i++) {
        struct file_identity identity;
        if (!take(reader, &identity, sizeof identity) ||
            (n_files > 0 && !file_identities_equal(&identity, &files[i], 1)))
            return false;
    }
    return true;
}

struct pool_model_header *header_facts_decode(const void *data, size_t n, const struct file_identity *files,
                                              size_t n_files)
{
    const unsigned char *bytes = data;
    uint64_t sum;
    if (n < sizeof magic - 1 + sizeof sum || memcmp(data, magic, sizeof magic - 1) != 0)
        return NULL;
    memcpy(&sum, bytes + n - sizeof sum, sizeof sum);
    if (sum != checksum(bytes, n - sizeof sum))
        return NULL;
    struct facts_reader reader = { bytes + sizeof magic - 1, n - (sizeof magic - 1) - sizeof sum, false };
    if (!take_files(&reader, files, n_files))
        return NULL;
    struct pool_model_header *header = calloc(1, sizeof *header);
    if (!header)
        return NULL;
    int64_t format = take_number(&reader, 0, POOL_MODEL_FORMAT_SAFETENSORS);
    header->format = (enum pool_model_format)format;
    header->version = (uint32_t)take_number(&reader, 0, UINT32_MAX);
    for (size_t i = 0; i < N_FACTS; i++)
        take_fact(&reader, &facts[i], header);
    take_layers(&reader, header);
    if (reader.is_bad || reader.n > 0) {
        pool_model_header_free(header);
        return NULL;
    }
    return header;
}
