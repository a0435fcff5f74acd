/*
 * Reading the header of a file that is not trusted: a source of bytes, and a bounded reader over it. Every read is
 * checked against the end of the file and against a limit, in 64 bits. The file is read with pread and never mapped,
 * because a file that is cut while it is mapped kills the reader with SIGBUS.
 */
#ifndef CATALOG_HEADER_READER_H
#define CATALOG_HEADER_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <pool/error.h>

/* read_at gives up to n bytes from an offset: how many, 0 at the end, a negative errno value on failure. */
struct header_source {
    int64_t (*read_at)(void *ctx, void *data, size_t n, int64_t offset_bytes);
    void *ctx;
    int64_t size_bytes;
};

/* An open regular file as a source; *fd is borrowed as long as the source is used. */
void header_source_from_fd(struct header_source *source, int *fd, int64_t size_bytes);

/* A block in memory as a source; both are borrowed. */
struct header_block {
    const void *data;
    size_t n;
};
void header_source_from_memory(struct header_source *source, struct header_block *block);

struct header_reader {
    const struct header_source *source;
    uint64_t position; /* of the next byte */
    uint64_t end;      /* no byte at or behind it is read: the file's end or the limit */
    uint64_t window_start;
    size_t n_window;
    unsigned char *window;
};

/* Errors: INSUFFICIENT_MEMORY. */
POOL_MUST_CHECK enum pool_code header_reader_init(struct header_reader *reader,
                                                  const struct header_source *source, int64_t limit_bytes,
                                                  struct pool_error *err);
void header_reader_done(struct header_reader *reader);

static inline uint64_t header_reader_remaining(const struct header_reader *reader)
{
    return reader->end - reader->position;
}

/* Moves to an absolute position, which must not be behind the end. */
void header_reader_seek(struct header_reader *reader, uint64_t position);

/* What follows fails with MODEL_CORRUPT at the end of the file, MODEL_INCOMPATIBLE at the limit, INTERNAL when the
 * file can not be read; `what` names the thing for the message. The position is then where the thing starts. */
POOL_MUST_CHECK enum pool_code header_reader_need(const struct header_reader *reader, uint64_t n,
                                                  const char *what, struct pool_error *err);
POOL_MUST_CHECK enum pool_code header_reader_skip(struct header_reader *reader, uint64_t n, const char *what,
                                                  struct pool_error *err);
POOL_MUST_CHECK enum pool_code header_reader_bytes(struct header_reader *reader, void *data, size_t n,
                                                   const char *what, struct pool_error *err);
POOL_MUST_CHECK enum pool_code header_reader_u32(struct header_reader *reader, uint32_t *ret_value,
                                                 const char *what, struct pool_error *err);
POOL_MUST_CHECK enum pool_code header_reader_u64(struct header_reader *reader, uint64_t *ret_value,
                                                 const char *what, struct pool_error *err);

#endif
