/*
 * Fuzz target: the header of a safetensors file. The input is the JSON; its length is put before it, and behind it are
 * as many bytes of data as the first byte of the input says, so that both right and wrong sizes are met.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <pool/catalog.h>

#include "core/catalog/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    size_t n_data = data[0], n_json = size - 1;
    uint8_t *file = calloc(1, 8 + n_json + n_data);
    if (!file)
        return 0;
    for (size_t i = 0; i < 8; i++)
        file[i] = (uint8_t)((uint64_t)n_json >> (8 * i));
    if (n_json > 0)
        memcpy(file + 8, data + 1, n_json);
    struct header_block block = { file, 8 + n_json + n_data };
    struct header_source source;
    struct weight_tally tally = { .n = 0 };
    struct pool_model_header *header = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    header_source_from_memory(&source, &block);
    enum pool_code code = header_read_source(&source, &tally, &header, &err);
    if ((code == POOL_OK) != (header != NULL) || code != err.code)
        abort();
    if (header && header->format == POOL_MODEL_FORMAT_SAFETENSORS && header->tensor_bytes != (int64_t)n_data)
        abort();
    pool_model_header_free(header);
    free(file);
    return 0;
}
