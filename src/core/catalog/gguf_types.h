/*
 * The types of GGUF: of metadata values, and of tensors. Sources: ggml's gguf.h (values), ggml.h and
 * ggml-common.h (block sizes of tensors).
 */
#ifndef CATALOG_GGUF_TYPES_H
#define CATALOG_GGUF_TYPES_H

#include <stdbool.h>
#include <stdint.h>

enum gguf_value_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_VALUE_TYPES
};

/* Bytes of a value of fixed size; 0 for strings, arrays and what is no type. */
uint32_t gguf_value_bytes(uint32_t type);
/* "u32"; "?" for what is no type. Static. */
const char *gguf_value_name(uint32_t type);
/* A value of an integer type or bool from its little-endian bits. False for other types, for negative values and for
 * those beyond int64. */
bool gguf_value_integer(uint32_t type, uint64_t bits, int64_t *ret_value);

struct gguf_tensor_type {
    const char *name; /* static */
    int64_t block_elements;
    int64_t block_bytes;
};

/* NULL for a type that we do not know, or that ggml has removed. Static. */
const struct gguf_tensor_type *gguf_tensor_type(uint32_t type);

#endif
