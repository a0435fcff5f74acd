/*
 * The parts of the GGUF reader: the layout up to the keys (gguf.c), what keys mean (gguf_keys.c), and the tensors
 * (gguf_tensors.c). A key is kept as its name, its type and where its value lies; values are read when they are asked for.
 */
#ifndef CATALOG_GGUF_H
#define CATALOG_GGUF_H

#include "base/strbuf.h"
#include "core/catalog/gguf_types.h"
#include "core/catalog/header.h"

/* A name in gguf.names, first member of what has one, so that both lists are sorted by the same function. */
struct gguf_name {
    uint32_t at;
    uint32_t n;
    uint64_t position; /* in the file, of the name */
};

struct gguf_key {
    struct gguf_name name;
    uint32_t type;
    uint32_t element_type; /* of an array */
    uint64_t n;            /* elements of an array, bytes of a string */
    uint64_t position;     /* in the file, of a string's first byte or an array's first element */
    uint64_t bits;         /* of a value of fixed size */
};

struct gguf {
    struct header_reader reader;
    struct strbuf names;   /* of the keys, then of the tensors, each without a separator */
    struct gguf_key *keys; /* sorted by name once all are read */
    size_t n_keys;
    struct gguf_name *tensors;
    uint64_t alignment;
    struct pool_model_header *header; /* borrowed; what was read so far */
    struct weight_tally *tally;       /* borrowed */
};

/* The key of this name, or NULL. */
const struct gguf_key *gguf_find_key(const struct gguf *gguf, const char *name, size_t n_name);

/* Reads a name, its length and its bytes, into gguf->names. `what` is for messages. */
POOL_MUST_CHECK enum pool_code gguf_read_name(struct gguf *gguf, uint64_t min_bytes, uint64_t max_bytes,
                                              const char *what, struct gguf_name *ret_name,
                                              struct pool_error *err);

/* Sorts a list whose items start with a gguf_name, and refuses a name that is there twice. Sorting has no bad case that
 * a file could aim at, which a hash table would have. */
POOL_MUST_CHECK enum pool_code gguf_sort_names(const struct gguf *gguf, void *list, size_t n,
                                               size_t item_bytes, const char *what, struct pool_error *err);

/* Fills the header from the keys, and makes its layers. Errors: MODEL_CORRUPT for a value of the wrong type or beyond
 * its range, INSUFFICIENT_MEMORY, and those of the reader. Moves the reader. */
POOL_MUST_CHECK enum pool_code gguf_read_metadata(struct gguf *gguf, struct pool_error *err);

/* Reads the tensor infos at the reader's position, checks that their data lie where they must, and adds them up in the
 * header. Errors as above. */
POOL_MUST_CHECK enum pool_code gguf_read_tensors(struct gguf *gguf, uint64_t n, struct pool_error *err);

#endif
