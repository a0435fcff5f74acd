/*
 * Model headers, inside: reading one from any source of bytes, and what the readers of the formats share.
 */
#ifndef CATALOG_HEADER_H
#define CATALOG_HEADER_H

#include <pool/catalog.h>

#include "core/catalog/header_reader.h"

/* Bytes of weights by type, added up over the shards of a model to say which type most of them have. */
struct weight_tally {
    size_t n;
    struct {
        const char *name; /* static */
        int64_t n_bytes;
    } types[64];
};
void weight_tally_add(struct weight_tally *tally, const char *type_name, int64_t n_bytes);
/* NULL when nothing was added. Static. */
const char *weight_tally_largest(const struct weight_tally *tally);

/* Reads the header of a file from its bytes. What weights it has is added to the tally, also on failure. */
POOL_MUST_CHECK enum pool_code header_read_source(const struct header_source *source,
                                                  struct weight_tally *tally,
                                                  struct pool_model_header **ret_header,
                                                  struct pool_error *err);

/* The readers of the formats: fill a header that has its format and file size and is zero otherwise. */
POOL_MUST_CHECK enum pool_code gguf_read(const struct header_source *source, struct weight_tally *tally,
                                         struct pool_model_header *header, struct pool_error *err);
POOL_MUST_CHECK enum pool_code safetensors_read(const struct header_source *source,
                                                struct weight_tally *tally, struct pool_model_header *header,
                                                struct pool_error *err);

/* Copies text that is not trusted: invalid UTF-8, control characters and those that steer a terminal or the direction
 * of writing become '?'; what does not fit is cut between characters. `to` is terminated. */
void header_copy_printable(const void *data, size_t n, char *to, size_t to_bytes);

/* MODEL_CORRUPT with details.offset_bytes. */
enum pool_code header_corrupt(struct pool_error *err, uint64_t offset_bytes, const char *format, ...)
    POOL_PRINTF(3, 4);

#endif
