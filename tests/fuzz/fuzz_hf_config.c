/*
 * Fuzz target: config.json beside safetensors, and the estimate that is made of it.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/catalog/hf_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_model_header *header = calloc(1, sizeof *header);
    if (!header)
        return 0;
    header->format = POOL_MODEL_FORMAT_SAFETENSORS;
    header->tensor_bytes = (int64_t)size << 20;
    enum pool_code code = hf_config_parse((const char *)data, size, header, &err);
    if (code != err.code || (header->n_layers > 0 && !header->layers))
        abort();
    if (code == POOL_OK) {
        struct pool_estimate estimate;
        struct pool_estimate_options options = { .struct_size = sizeof options,
                                                 .ctx_size = 4096,
                                                 .is_on_gpu = true };
        if (pool_model_estimate(header, &options, &estimate, NULL) == POOL_OK &&
            (estimate.kv_cache_bytes < 0 || estimate.total_bytes < header->tensor_bytes))
            abort();
    }
    pool_model_header_free(header);
    return 0;
}
