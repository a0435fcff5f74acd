/*
 * Fuzz target: the header of a GGUF file from any bytes, and the estimate from what was read. Whatever comes in is
 * either read or refused; what was read holds together.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <pool/catalog.h>

#include "core/catalog/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_estimate(const struct pool_model_header *header)
{
    struct pool_estimate_options options = { .struct_size = sizeof options, .ctx_size = 4096, .parallel = 2 };
    struct pool_estimate estimate;
    if (pool_model_estimate(header, &options, &estimate, NULL) == POOL_OK &&
        (estimate.total_bytes <= 0 || estimate.weights_bytes < 0 || estimate.kv_cache_bytes < 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct header_block block = { data, size };
    struct header_source source;
    struct weight_tally tally = { .n = 0 };
    struct pool_model_header *header = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    header_source_from_memory(&source, &block);
    enum pool_code code = header_read_source(&source, &tally, &header, &err);
    if ((code == POOL_OK) != (header != NULL) || code != err.code)
        abort();
    if (header &&
        (header->file_size_bytes != (int64_t)size || header->tensor_bytes < 0 || header->n_tensors < 0 ||
         header->parameter_count.value < 0 || (header->n_layers > 0) != (header->layers != NULL)))
        abort();
    if (header)
        check_estimate(header);
    pool_model_header_free(header);
    return 0;
}
