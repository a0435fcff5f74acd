/*
 * Model headers: opening the file, telling the formats apart, putting shards together. The formats themselves are read
 * in gguf.c and safetensors.c.
 */
#define _GNU_SOURCE
#include "core/catalog/header.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "base/utf8.h"
#include "core/catalog/hf_config.h"

/* safetensors: the length of the JSON, at most this, and its opening brace (reference: the safetensors README). */
#define SAFETENSORS_FORMAT_MAX_BYTES 100000000

const char *pool_model_format_name(enum pool_model_format format)
{
    switch (format) {
    case POOL_MODEL_FORMAT_GGUF: return "gguf";
    case POOL_MODEL_FORMAT_SAFETENSORS: return "safetensors";
    case POOL_MODEL_FORMAT_UNKNOWN: break;
    }
    return "unknown";
}

void pool_model_header_free(struct pool_model_header *header)
{
    if (!header)
        return;
    free(header->architecture);
    free(header->name);
    free(header->quantization);
    free(header->type);
    free(header->layers);
    free(header);
}

static void free_header(struct pool_model_header **header)
{
    pool_model_header_free(*header);
}

enum pool_code header_corrupt(struct pool_error *err, uint64_t offset_bytes, const char *format, ...)
{
    if (err) {
        char message[POOL_ERROR_MESSAGE_MAX];
        va_list args;
        va_start(args, format);
        vsnprintf(message, sizeof message, format, args);
        va_end(args);
        pool_error_set(err, POOL_MODEL_CORRUPT, "%s", message);
        pool_error_add_number(err, "offset_bytes", (int64_t)offset_bytes);
    }
    return POOL_MODEL_CORRUPT;
}

/* Length of the UTF-8 character at p and its code point; 0 for none. */
static size_t decode_character(const unsigned char *p, size_t n, uint32_t *ret_point)
{
    char terminated[5] = "";
    memcpy(terminated, p, n < 4 ? n : 4);
    size_t n_bytes = utf8_length(terminated);
    if (n_bytes == 0)
        return 0;
    *ret_point = n_bytes == 1 ? p[0] : p[0] & (0x7fU >> n_bytes);
    for (size_t i = 1; i < n_bytes; i++)
        *ret_point = *ret_point << 6 | (p[i] & 0x3fU);
    return n_bytes;
}

/* Control characters, and those that are not seen but change how the rest is (Unicode: zero width, bidirectional
 * controls, line and paragraph separators, byte order mark). */
static bool is_printable(uint32_t point)
{
    return point >= 0x20 && !(point >= 0x7f && point <= 0x9f) && !(point >= 0x200b && point <= 0x200f) &&
           !(point >= 0x2028 && point <= 0x202e) && !(point >= 0x2060 && point <= 0x206f) && point != 0xfeff;
}

void header_copy_printable(const void *data, size_t n, char *to, size_t to_bytes)
{
    const unsigned char *from = data;
    size_t n_to = 0;
    for (size_t i = 0; i < n;) {
        uint32_t point = 0;
        size_t n_bytes = decode_character(from + i, n - i, &point);
        bool is_good = n_bytes > 0 && is_printable(point);
        size_t n_out = is_good ? n_bytes : 1;
        if (n_out >= to_bytes - n_to)
            break;
        if (is_good)
            memcpy(to + n_to, from + i, n_bytes);
        else
            to[n_to] = '?';
        n_to += n_out;
        i += n_bytes > 0 ? n_bytes : 1;
    }
    to[n_to] = '\0';
}

void weight_tally_add(struct weight_tally *tally, const char *type_name, int64_t n_bytes)
{
    size_t i = 0;
    while (i < tally->n && strcmp(tally->types[i].name, type_name) != 0)
        i++;
    if (i == sizeof tally->types / sizeof tally->types[0])
        return;
    if (i == tally->n) {
        tally->types[i].name = type_name;
        tally->types[i].n_bytes = 0;
        tally->n++;
    }
    tally->types[i].n_bytes = add_bytes(tally->types[i].n_bytes, n_bytes);
}

const char *weight_tally_largest(const struct weight_tally *tally)
{
    size_t largest = 0;
    for (size_t i = 1; i < tally->n; i++) {
        if (tally->types[i].n_bytes > tally->types[largest].n_bytes)
            largest = i;
    }
    return tally->n > 0 ? tally->types[largest].name : NULL;
}

static enum pool_code set_quantization(struct pool_model_header *header, const struct weight_tally *tally,
                                       struct pool_error *err)
{
    const char *name = weight_tally_largest(tally);
    char *copy = name ? strdup(name) : NULL;
    if (name && !copy)
        return pool_error_no_memory(err);
    free(header->quantization);
    header->quantization = copy;
    return POOL_OK;
}

/* By the first nine bytes. */
static enum pool_code tell_format(const struct header_source *source, enum pool_model_format *ret_format,
                                  struct pool_error *err)
{
    unsigned char start[9] = { 0 };
    size_t n = 0;
    while (n < sizeof start) {
        int64_t got = source->read_at(source->ctx, start + n, sizeof start - n, (int64_t)n);
        if (got < 0)
            return pool_error_set_errno(err, POOL_INTERNAL, (int)-got, "the file can not be read");
        if (got == 0)
            break;
        n += (size_t)got;
    }
    uint64_t json_bytes = 0;
    for (size_t i = 0; i < 8; i++)
        json_bytes |= (uint64_t)start[i] << (8 * i);
    *ret_format = POOL_MODEL_FORMAT_UNKNOWN;
    if (n >= 4 && memcmp(start, "GGUF", 4) == 0)
        *ret_format = POOL_MODEL_FORMAT_GGUF;
    else if (n == sizeof start && start[8] == '{' && json_bytes <= SAFETENSORS_FORMAT_MAX_BYTES)
        *ret_format = POOL_MODEL_FORMAT_SAFETENSORS;
    return POOL_OK;
}

enum pool_code header_read_source(const struct header_source *source, struct weight_tally *tally,
                                  struct pool_model_header **ret_header, struct pool_error *err)
{
    CLEANUP(free_header) struct pool_model_header *header = calloc(1, sizeof(*header));
    if (!header)
        return pool_error_no_memory(err);
    header->file_size_bytes = source->size_bytes;
    header->shard_count = 1;
    enum pool_code code = tell_format(source, &header->format, err);
    if (code != POOL_OK)
        return code;
    switch (header->format) {
    case POOL_MODEL_FORMAT_GGUF: code = gguf_read(source, tally, header, err); break;
    case POOL_MODEL_FORMAT_SAFETENSORS: code = safetensors_read(source, tally, header, err); break;
    case POOL_MODEL_FORMAT_UNKNOWN: break;
    }
    if (code == POOL_OK)
        code = set_quantization(header, tally, err);
    if (code == POOL_OK)
        *ret_header = take_ptr(&header);
    return code;
}

static enum pool_code refuse_open(const char *path, int sys_errno, struct pool_error *err)
{
    switch (sys_errno) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG: return pool_error_set_errno(err, POOL_MODEL_NOT_FOUND, sys_errno, "%s", path);
    case EACCES:
    case EPERM: return pool_error_set_errno(err, POOL_PERMISSION_DENIED, sys_errno, "%s", path);
    case ENXIO:
        return pool_error_set_errno(err, POOL_MODEL_INCOMPATIBLE, sys_errno, "%s is not a regular file",
                                    path);
    case ENOMEM: return pool_error_no_memory(err);
    default: return pool_error_set_errno(err, POOL_INTERNAL, sys_errno, "%s can not be opened", path);
    }
}

/* Non-blocking, because opening a FIFO that nobody writes to would wait for ever; regular files do not care. */
static enum pool_code open_regular(const char *path, int *ret_fd, int64_t *ret_size_bytes,
                                   struct pool_error *err)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return refuse_open(path, errno, err);
    struct stat st;
    if (fstat(fd, &st) < 0)
        return refuse_open(path, errno, err);
    if (!S_ISREG(st.st_mode))
        return pool_error_set(err, POOL_MODEL_INCOMPATIBLE, "%s is %s, not a regular file", path,
                              S_ISDIR(st.st_mode) ? "a directory" : "a device, FIFO or socket");
    *ret_size_bytes = st.st_size;
    *ret_fd = take_fd(&fd);
    return POOL_OK;
}

static enum pool_code read_path(const char *path, struct weight_tally *tally,
                                struct pool_model_header **ret_header, struct pool_error *err)
{
    CLEANUP_CLOSE int fd = -1;
    int64_t size_bytes = 0;
    enum pool_code code = open_regular(path, &fd, &size_bytes, err);
    if (code == POOL_OK) {
        struct header_source source;
        header_source_from_fd(&source, &fd, size_bytes);
        code = header_read_source(&source, tally, ret_header, err);
        if (code != POOL_OK)
            pool_error_prefix(err, "%s", path);
    }
    if (code != POOL_OK)
        pool_error_add_text(err, "path", path);
    return code;
}

enum pool_code pool_model_header_read(const char *path, struct pool_model_header **ret_header,
                                      struct pool_error *err)
{
    struct weight_tally tally = { .n = 0 };
    return read_path(path, &tally, ret_header, err);
}

static enum pool_code refuse_shard(const char *path, size_t index, const char *why, struct pool_error *err)
{
    pool_error_set(err, POOL_MODEL_CORRUPT, "%s: %s", path, why);
    pool_error_add_text(err, "path", path);
    pool_error_add_number(err, "shard_index", (int64_t)index);
    return POOL_MODEL_CORRUPT;
}

/* Shards of GGUF say which they are (llama.cpp, gguf-split); those of safetensors do not. */
static enum pool_code check_shard(const struct pool_model_header *first,
                                  const struct pool_model_header *shard, const char *path, size_t index,
                                  size_t n_shards, struct pool_error *err)
{
    if (shard->format != first->format)
        return refuse_shard(path, index, "has another format than the first shard", err);
    if (shard->format != POOL_MODEL_FORMAT_GGUF)
        return POOL_OK;
    if (shard->shard_count != (int64_t)n_shards) {
        char why[128];
        snprintf(why, sizeof why, "is of a model in %lld shards, %zu are there",
                 (long long)shard->shard_count, n_shards);
        return refuse_shard(path, index, why, err);
    }
    if (shard->shard_index != (int64_t)index)
        return refuse_shard(path, index, "is another shard than its place says", err);
    if (shard->architecture &&
        (!first->architecture || strcmp(shard->architecture, first->architecture) != 0))
        return refuse_shard(path, index, "has another architecture than the first shard", err);
    if (shard->split_tensor_count.is_present != first->split_tensor_count.is_present ||
        shard->split_tensor_count.value != first->split_tensor_count.value)
        return refuse_shard(path, index, "counts other tensors of the whole model than the first shard", err);
    return POOL_OK;
}

static void add_shard(struct pool_model_header *sum, const struct pool_model_header *shard)
{
    sum->parameter_count.value = add_bytes(sum->parameter_count.value, shard->parameter_count.value);
    sum->tensor_bytes = add_bytes(sum->tensor_bytes, shard->tensor_bytes);
    sum->token_embedding_bytes = add_bytes(sum->token_embedding_bytes, shard->token_embedding_bytes);
    sum->output_bytes = add_bytes(sum->output_bytes, shard->output_bytes);
    sum->lookup_bytes = add_bytes(sum->lookup_bytes, shard->lookup_bytes);
    sum->file_size_bytes = add_bytes(sum->file_size_bytes, shard->file_size_bytes);
    sum->n_tensors += shard->n_tensors;
    sum->is_size_known &= shard->is_size_known;
    if (!sum->vocabulary_size.is_present)
        sum->vocabulary_size = shard->vocabulary_size;
    for (size_t i = 0; i < sum->n_layers && i < shard->n_layers; i++) {
        struct pool_model_layer *layer = &sum->layers[i];
        layer->weight_bytes = add_bytes(layer->weight_bytes, shard->layers[i].weight_bytes);
        layer->is_recurrent |= shard->layers[i].is_recurrent;
        layer->has_attention |= shard->layers[i].has_attention;
    }
}

enum pool_code pool_model_header_read_all(const char *const *paths, size_t n_paths,
                                          struct pool_model_header **ret_header, struct pool_error *err)
{
    if (n_paths == 0 || n_paths > POOL_MODEL_FILES_MAX)
        return pool_error_set(err, POOL_INVALID_REQUEST, "a model has 1 to %d files, not %zu",
                              POOL_MODEL_FILES_MAX, n_paths);
    struct weight_tally tally = { .n = 0 };
    CLEANUP(free_header) struct pool_model_header *sum = NULL;
    for (size_t i = 0; i < n_paths; i++) {
        CLEANUP(free_header) struct pool_model_header *shard = NULL;
        if (sum && sum->format == POOL_MODEL_FORMAT_SAFETENSORS && hf_config_is_path(paths[i])) {
            enum pool_code config_code = hf_config_read(paths[i], sum, err);
            if (config_code != POOL_OK)
                return config_code;
            continue;
        }
        enum pool_code code = read_path(paths[i], &tally, &shard, err);
        if (code == POOL_OK)
            code = check_shard(sum ? sum : shard, shard, paths[i], i, n_paths, err);
        if (code != POOL_OK)
            return code;
        if (sum)
            add_shard(sum, shard);
        else
            sum = take_ptr(&shard);
    }
    if (sum->split_tensor_count.is_present && sum->shard_count > 1 &&
        sum->split_tensor_count.value != sum->n_tensors)
        return refuse_shard(paths[0], 0, "counts other tensors than its shards have", err);
    enum pool_code code = set_quantization(sum, &tally, err);
    if (code == POOL_OK)
        *ret_header = take_ptr(&sum);
    return code;
}
