/*
 * Tables of the value types and tensor types of GGUF; see gguf_types.h.
 */
#include "core/catalog/gguf_types.h"

#include <stddef.h>

static const struct {
    const char *name;
    uint32_t n_bytes;
    bool is_signed;
    bool is_integer;
} value_types[GGUF_VALUE_TYPES] = {
    [GGUF_U8] = { "u8", 1, false, true },          [GGUF_I8] = { "i8", 1, true, true },
    [GGUF_U16] = { "u16", 2, false, true },        [GGUF_I16] = { "i16", 2, true, true },
    [GGUF_U32] = { "u32", 4, false, true },        [GGUF_I32] = { "i32", 4, true, true },
    [GGUF_F32] = { "f32", 4, true, false },        [GGUF_BOOL] = { "bool", 1, false, true },
    [GGUF_STRING] = { "string", 0, false, false }, [GGUF_ARRAY] = { "array", 0, false, false },
    [GGUF_U64] = { "u64", 8, false, true },        [GGUF_I64] = { "i64", 8, true, true },
    [GGUF_F64] = { "f64", 8, true, false },
};

uint32_t gguf_value_bytes(uint32_t type)
{
    return type < GGUF_VALUE_TYPES ? value_types[type].n_bytes : 0;
}

const char *gguf_value_name(uint32_t type)
{
    return type < GGUF_VALUE_TYPES ? value_types[type].name : "?";
}

bool gguf_value_integer(uint32_t type, uint64_t bits, int64_t *ret_value)
{
    if (type >= GGUF_VALUE_TYPES || !value_types[type].is_integer)
        return false;
    uint64_t sign = UINT64_C(1) << (8 * value_types[type].n_bytes - 1);
    if (value_types[type].is_signed && (bits & sign))
        return false;
    if (bits > INT64_MAX)
        return false;
    *ret_value = (int64_t)bits;
    return true;
}

/* The numbers that are left out were types of repacked weights, removed from ggml; files do not carry them. */
static const struct gguf_tensor_type tensor_types[] = {
    [0] = { "F32", 1, 4 },         [1] = { "F16", 1, 2 },         [2] = { "Q4_0", 32, 18 },
    [3] = { "Q4_1", 32, 20 },      [6] = { "Q5_0", 32, 22 },      [7] = { "Q5_1", 32, 24 },
    [8] = { "Q8_0", 32, 34 },      [9] = { "Q8_1", 32, 36 },      [10] = { "Q2_K", 256, 84 },
    [11] = { "Q3_K", 256, 110 },   [12] = { "Q4_K", 256, 144 },   [13] = { "Q5_K", 256, 176 },
    [14] = { "Q6_K", 256, 210 },   [15] = { "Q8_K", 256, 292 },   [16] = { "IQ2_XXS", 256, 66 },
    [17] = { "IQ2_XS", 256, 74 },  [18] = { "IQ3_XXS", 256, 98 }, [19] = { "IQ1_S", 256, 50 },
    [20] = { "IQ4_NL", 32, 18 },   [21] = { "IQ3_S", 256, 110 },  [22] = { "IQ2_S", 256, 82 },
    [23] = { "IQ4_XS", 256, 136 }, [24] = { "I8", 1, 1 },         [25] = { "I16", 1, 2 },
    [26] = { "I32", 1, 4 },        [27] = { "I64", 1, 8 },        [28] = { "F64", 1, 8 },
    [29] = { "IQ1_M", 256, 56 },   [30] = { "BF16", 1, 2 },       [34] = { "TQ1_0", 256, 54 },
    [35] = { "TQ2_0", 256, 66 },   [39] = { "MXFP4", 32, 17 },    [40] = { "NVFP4", 64, 36 },
    [41] = { "Q1_0", 128, 18 },    [42] = { "Q2_0", 64, 18 },
};

const struct gguf_tensor_type *gguf_tensor_type(uint32_t type)
{
    if (type >= sizeof tensor_types / sizeof tensor_types[0] || tensor_types[type].block_elements == 0)
        return NULL;
    return &tensor_types[type];
}
