/*
 * Reading what a gguf_writer has put together, in memory; shared by the tests of the GGUF reader. Include cmocka before.
 */
#ifndef GGUF_READING_H
#define GGUF_READING_H

#include <pool/catalog.h>

#include "core/catalog/header.h"
#include "gguf_writer.h"

static inline enum pool_code read_bytes(const void *data, size_t n, struct pool_model_header **ret_header,
                                        struct pool_error *err)
{
    struct header_block block = { data, n };
    struct header_source source;
    struct weight_tally tally = { .n = 0 };
    header_source_from_memory(&source, &block);
    return header_read_source(&source, &tally, ret_header, err);
}

static inline enum pool_code read_writer(const struct gguf_writer *w, struct pool_model_header **ret_header,
                                         struct pool_error *err)
{
    return read_bytes(w->data, w->n, ret_header, err);
}

/* Reads, expects a refusal, and says at which byte. */
static inline int64_t refused_at(const struct gguf_writer *w, enum pool_code expected)
{
    struct pool_model_header *header = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_code code = read_writer(w, &header, &err);
    if (code != expected)
        fail_msg("expected %s, got %s: %s", pool_code_name(expected), pool_code_name(code), err.message);
    assert_int_equal(err.code, expected);
    assert_null(header);
    assert_true(err.message[0] != '\0');
    const struct pool_detail *offset = pool_error_detail(&err, "offset_bytes");
    return offset ? offset->number : -1;
}

static inline struct pool_model_header *read_good(const struct gguf_writer *w)
{
    struct pool_model_header *header = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    if (read_writer(w, &header, &err) != POOL_OK)
        fail_msg("%s", err.message);
    assert_int_equal(err.code, POOL_OK);
    assert_non_null(header);
    return header;
}

#define assert_reading(reading, expected)              \
    do {                                               \
        assert_true((reading).is_present);             \
        assert_int_equal((reading).value, (expected)); \
    } while (0)

#endif
