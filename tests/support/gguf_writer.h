/*
 * A GGUF file in memory, put together piece by piece, right or wrong: tests say what is in it and what it claims. Keys
 * and tensors are appended in the order of the calls; gguf_writer_finish puts the header before them and the data
 * behind. What a test wants broken it overwrites: every piece says at which byte it lies.
 */
#ifndef GGUF_WRITER_H
#define GGUF_WRITER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { W_U8, W_I8, W_U16, W_I16, W_U32, W_I32, W_F32, W_BOOL, W_STRING, W_ARRAY, W_U64, W_I64, W_F64 };

#define GGUF_WRITER_START 24 /* magic, version, two counts */

struct gguf_writer {
    unsigned char *data;
    size_t n, capacity;
    uint64_t n_keys, n_tensors;
    uint64_t data_bytes; /* of the tensors so far, padded */
    uint64_t alignment;
    uint32_t version;
};

static inline void gguf_writer_bytes(struct gguf_writer *w, const void *data, size_t n)
{
    if (w->n + n > w->capacity) {
        w->capacity = 2 * (w->n + n) + 256;
        w->data = realloc(w->data, w->capacity);
        if (!w->data)
            abort();
    }
    if (n > 0)
        memcpy(w->data + w->n, data, n);
    w->n += n;
}

/* An integer in n bytes, little-endian. */
static inline void gguf_writer_integer(struct gguf_writer *w, uint64_t value, size_t n)
{
    unsigned char bytes[8];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (unsigned char)(value >> (8 * i));
    gguf_writer_bytes(w, bytes, n);
}

static inline void gguf_writer_text(struct gguf_writer *w, const char *text, size_t n)
{
    gguf_writer_integer(w, n, 8);
    gguf_writer_bytes(w, text, n);
}

static inline void gguf_writer_init(struct gguf_writer *w)
{
    static const unsigned char start[GGUF_WRITER_START] = { 0 };
    *w = (struct gguf_writer){ .alignment = 32, .version = 3 };
    gguf_writer_bytes(w, start, sizeof start);
}

static inline void gguf_writer_done(struct gguf_writer *w)
{
    free(w->data);
    w->data = NULL;
}

static inline size_t gguf_writer_width(uint32_t type)
{
    static const size_t widths[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    return type < sizeof widths / sizeof widths[0] ? widths[type] : 0;
}

/* The name and type of a key; its value is to follow. Returns the byte at which the name's length lies. */
static inline size_t gguf_writer_key(struct gguf_writer *w, const char *name, uint32_t type)
{
    size_t at = w->n;
    gguf_writer_text(w, name, strlen(name));
    gguf_writer_integer(w, type, 4);
    w->n_keys++;
    return at;
}

static inline size_t gguf_writer_number(struct gguf_writer *w, const char *name, uint32_t type, uint64_t bits)
{
    size_t at = gguf_writer_key(w, name, type);
    gguf_writer_integer(w, bits, gguf_writer_width(type));
    return at;
}

static inline size_t gguf_writer_u32(struct gguf_writer *w, const char *name, uint32_t value)
{
    return gguf_writer_number(w, name, W_U32, value);
}

static inline size_t gguf_writer_string(struct gguf_writer *w, const char *name, const char *value)
{
    size_t at = gguf_writer_key(w, name, W_STRING);
    gguf_writer_text(w, value, strlen(value));
    return at;
}

static inline size_t gguf_writer_array(struct gguf_writer *w, const char *name, uint32_t type,
                                       const int64_t *values, size_t n)
{
    size_t at = gguf_writer_key(w, name, W_ARRAY);
    gguf_writer_integer(w, type, 4);
    gguf_writer_integer(w, n, 8);
    for (size_t i = 0; i < n; i++)
        gguf_writer_integer(w, (uint64_t)values[i], gguf_writer_width(type));
    return at;
}

/* An array of n short strings, as the tokens of a tokenizer. */
static inline size_t gguf_writer_tokens(struct gguf_writer *w, const char *name, size_t n)
{
    size_t at = gguf_writer_key(w, name, W_ARRAY);
    gguf_writer_integer(w, W_STRING, 4);
    gguf_writer_integer(w, n, 8);
    for (size_t i = 0; i < n; i++) {
        char token[32];
        int n_token = snprintf(token, sizeof token, "t%zu", i);
        gguf_writer_text(w, token, (size_t)n_token);
    }
    return at;
}

/* A tensor info as it is, after the last key. */
static inline size_t gguf_writer_tensor_raw(struct gguf_writer *w, const char *name, uint32_t n_dims,
                                            const int64_t *dims, uint32_t type, uint64_t offset)
{
    size_t at = w->n;
    gguf_writer_text(w, name, strlen(name));
    gguf_writer_integer(w, n_dims, 4);
    for (uint32_t i = 0; i < n_dims; i++)
        gguf_writer_integer(w, (uint64_t)dims[i], 8);
    gguf_writer_integer(w, type, 4);
    gguf_writer_integer(w, offset, 8);
    w->n_tensors++;
    return at;
}

/* A tensor of n_bytes of data, behind those before it. */
static inline size_t gguf_writer_tensor(struct gguf_writer *w, const char *name, int64_t n0, int64_t n1,
                                        uint32_t type, uint64_t n_bytes)
{
    const int64_t dims[2] = { n0, n1 };
    size_t at = gguf_writer_tensor_raw(w, name, n1 > 0 ? 2 : 1, dims, type, w->data_bytes);
    w->data_bytes += (n_bytes + w->alignment - 1) / w->alignment * w->alignment;
    return at;
}

/* Overwrites an integer of n bytes. */
static inline void gguf_writer_patch(struct gguf_writer *w, size_t at, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        w->data[at + i] = (unsigned char)(value >> (8 * i));
}

/* Magic, version and counts in front; padding behind. Returns where the tensors' data start. They are not there yet. */
static inline size_t gguf_writer_finish(struct gguf_writer *w)
{
    memcpy(w->data, "GGUF", 4);
    gguf_writer_patch(w, 4, w->version, 4);
    gguf_writer_patch(w, 8, w->n_tensors, 8);
    gguf_writer_patch(w, 16, w->n_keys, 8);
    while (w->n % w->alignment != 0)
        gguf_writer_bytes(w, "", 1);
    return w->n;
}

/* Zeroes for the tensors' data; for small ones. */
static inline void gguf_writer_add_data(struct gguf_writer *w)
{
    for (uint64_t i = 0; i < w->data_bytes; i++)
        gguf_writer_bytes(w, "", 1);
}

/* Writes what is there to a file, with a hole of the tensors' size behind it; for large ones. Aborts on failure. */
static inline void gguf_writer_save(const struct gguf_writer *w, const char *path)
{
    FILE *file = fopen(path, "we");
    if (!file || fwrite(w->data, 1, w->n, file) != w->n || fflush(file) != 0 ||
        ftruncate(fileno(file), (off_t)(w->n + w->data_bytes)) != 0)
        abort();
    fclose(file);
}

/* The keys and tensors of a small llama: n_layers layers of F16 weights, 64 wide, 4 heads, 2 of them for keys. */
static inline void gguf_writer_small_llama(struct gguf_writer *w, uint32_t n_layers)
{
    gguf_writer_string(w, "general.architecture", "llama");
    gguf_writer_string(w, "general.name", "small");
    gguf_writer_u32(w, "llama.context_length", 512);
    gguf_writer_u32(w, "llama.embedding_length", 64);
    gguf_writer_u32(w, "llama.block_count", n_layers);
    gguf_writer_u32(w, "llama.feed_forward_length", 128);
    gguf_writer_u32(w, "llama.attention.head_count", 4);
    gguf_writer_u32(w, "llama.attention.head_count_kv", 2);
    gguf_writer_tokens(w, "tokenizer.ggml.tokens", 10);
    gguf_writer_string(w, "tokenizer.chat_template", "{{ x }}");
    gguf_writer_tensor(w, "token_embd.weight", 64, 10, 1, 64 * 10 * 2);
    for (uint32_t i = 0; i < n_layers; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.attn_norm.weight", i);
        gguf_writer_tensor(w, name, 64, 0, 0, 64 * 4);
        snprintf(name, sizeof name, "blk.%u.attn_k.weight", i);
        gguf_writer_tensor(w, name, 64, 32, 1, 64 * 32 * 2);
        snprintf(name, sizeof name, "blk.%u.ffn_down.weight", i);
        gguf_writer_tensor(w, name, 128, 64, 1, 128 * 64 * 2);
    }
    gguf_writer_tensor(w, "output_norm.weight", 64, 0, 0, 64 * 4);
    gguf_writer_tensor(w, "output.weight", 64, 10, 1, 64 * 10 * 2);
}

#endif
