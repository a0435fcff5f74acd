/*
 * The bounded reader behind header_reader.h: a window of the file, filled by the source. It knows no format.
 */
#include "core/catalog/header_reader.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Most of a header is the tokenizer's arrays, which are walked once; a few windows hold all the rest. */
#define WINDOW_BYTES (128U << 10)

static int64_t read_fd_at(void *ctx, void *data, size_t n, int64_t offset_bytes)
{
    const int *fd = ctx;
    for (;;) {
        ssize_t got = pread(*fd, data, n, offset_bytes);
        if (got >= 0)
            return got;
        if (errno != EINTR)
            return -errno;
    }
}

void header_source_from_fd(struct header_source *source, int *fd, int64_t size_bytes)
{
    source->read_at = read_fd_at;
    source->ctx = fd;
    source->size_bytes = size_bytes;
}

static int64_t read_block_at(void *ctx, void *data, size_t n, int64_t offset_bytes)
{
    const struct header_block *block = ctx;
    size_t offset = (size_t)offset_bytes;
    if (offset >= block->n)
        return 0;
    if (n > block->n - offset)
        n = block->n - offset;
    memcpy(data, (const unsigned char *)block->data + offset, n);
    return (int64_t)n;
}

void header_source_from_memory(struct header_source *source, struct header_block *block)
{
    source->read_at = read_block_at;
    source->ctx = block;
    source->size_bytes = (int64_t)block->n;
}

enum pool_code header_reader_init(struct header_reader *reader, const struct header_source *source,
                                  int64_t limit_bytes, struct pool_error *err)
{
    int64_t end = source->size_bytes < limit_bytes ? source->size_bytes : limit_bytes;
    size_t n_window = end < (int64_t)WINDOW_BYTES ? (size_t)end : WINDOW_BYTES;
    unsigned char *window = malloc(n_window > 0 ? n_window : 1);
    if (!window)
        return pool_error_no_memory(err);
    *reader = (struct header_reader){ .source = source, .end = (uint64_t)end, .window = window };
    return POOL_OK;
}

void header_reader_done(struct header_reader *reader)
{
    free(reader->window);
    reader->window = NULL;
}

void header_reader_seek(struct header_reader *reader, uint64_t position)
{
    reader->position = position;
}

enum pool_code header_reader_need(const struct header_reader *reader, uint64_t n, const char *what,
                                  struct pool_error *err)
{
    if (n <= header_reader_remaining(reader))
        return POOL_OK;
    enum pool_code code;
    if (reader->end < (uint64_t)reader->source->size_bytes) {
        code = pool_error_set(err, POOL_MODEL_INCOMPATIBLE,
                              "%s at byte %llu reaches over the limit for a header, %llu bytes", what,
                              (unsigned long long)reader->position, (unsigned long long)reader->end);
        pool_error_add_number(err, "limit_bytes", (int64_t)reader->end);
    } else {
        code = pool_error_set(
            err, POOL_MODEL_CORRUPT, "%s at byte %llu needs %llu bytes, but the file ends at byte %llu", what,
            (unsigned long long)reader->position, (unsigned long long)n, (unsigned long long)reader->end);
        pool_error_add_number(err, "file_size_bytes", reader->source->size_bytes);
    }
    pool_error_add_number(err, "offset_bytes", (int64_t)reader->position);
    return code;
}

enum pool_code header_reader_skip(struct header_reader *reader, uint64_t n, const char *what,
                                  struct pool_error *err)
{
    enum pool_code code = header_reader_need(reader, n, what, err);
    if (code == POOL_OK)
        reader->position += n;
    return code;
}

/* Fills the window from `position` on. A file that was cut since its size was taken is one that ends too early. */
static enum pool_code fill(struct header_reader *reader, uint64_t position, const char *what,
                           struct pool_error *err)
{
    uint64_t wanted = reader->end - position;
    if (wanted > WINDOW_BYTES)
        wanted = WINDOW_BYTES;
    reader->window_start = position;
    reader->n_window = 0;
    while (reader->n_window < wanted) {
        int64_t got = reader->source->read_at(reader->source->ctx, reader->window + reader->n_window,
                                              (size_t)wanted - reader->n_window,
                                              (int64_t)position + (int64_t)reader->n_window);
        if (got < 0)
            return pool_error_set_errno(err, POOL_INTERNAL, (int)-got, "%s can not be read", what);
        if (got == 0)
            break;
        reader->n_window += (size_t)got;
    }
    if (reader->n_window > 0)
        return POOL_OK;
    enum pool_code code =
        pool_error_set(err, POOL_MODEL_CORRUPT, "%s: the file was cut to %llu bytes while it was read", what,
                       (unsigned long long)position);
    pool_error_add_number(err, "offset_bytes", (int64_t)position);
    return code;
}

enum pool_code header_reader_bytes(struct header_reader *reader, void *data, size_t n, const char *what,
                                   struct pool_error *err)
{
    enum pool_code code = header_reader_need(reader, n, what, err);
    if (code != POOL_OK)
        return code;
    unsigned char *to = data;
    uint64_t position = reader->position;
    while (n > 0) {
        if (position < reader->window_start || position - reader->window_start >= reader->n_window) {
            code = fill(reader, position, what, err);
            if (code != POOL_OK)
                return code;
        }
        size_t at = (size_t)(position - reader->window_start);
        size_t n_here = reader->n_window - at < n ? reader->n_window - at : n;
        memcpy(to, reader->window + at, n_here);
        to += n_here;
        position += n_here;
        n -= n_here;
    }
    reader->position = position;
    return POOL_OK;
}

/* The common case of what is small: all of it is in the window, which never reaches behind the end. */
static bool take_from_window(struct header_reader *reader, void *data, size_t n)
{
    if (reader->position < reader->window_start)
        return false;
    uint64_t at = reader->position - reader->window_start;
    if (at > reader->n_window || reader->n_window - at < n)
        return false;
    memcpy(data, reader->window + at, n);
    reader->position += n;
    return true;
}

enum pool_code header_reader_u32(struct header_reader *reader, uint32_t *ret_value, const char *what,
                                 struct pool_error *err)
{
    uint32_t value;
    enum pool_code code = POOL_OK;
    if (!take_from_window(reader, &value, sizeof value))
        code = header_reader_bytes(reader, &value, sizeof value, what, err);
    if (code == POOL_OK)
        *ret_value = le32toh(value);
    return code;
}

enum pool_code header_reader_u64(struct header_reader *reader, uint64_t *ret_value, const char *what,
                                 struct pool_error *err)
{
    uint64_t value;
    enum pool_code code = POOL_OK;
    if (!take_from_window(reader, &value, sizeof value))
        code = header_reader_bytes(reader, &value, sizeof value, what, err);
    if (code == POOL_OK)
        *ret_value = le64toh(value);
    return code;
}
