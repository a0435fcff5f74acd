/*
 * Fuzz target: remembered facts of a header from any bytes, with a checksum that is right, so that what is behind it is
 * reached. What is believed can be estimated from, and is the same after being written and read again.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <pool/catalog.h>

#include "base/cleanup.h"
#include "core/catalog/header_facts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_checksum(struct strbuf *bytes)
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < bytes->n; i++)
        sum = (sum ^ (unsigned char)strbuf_text(bytes)[i]) * UINT64_C(0x100000001b3);
    strbuf_add(bytes, &sum, sizeof sum);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(strbuf_done) struct strbuf bytes = STRBUF_INIT(HEADER_FACTS_MAX_BYTES);
    CLEANUP(strbuf_done) struct strbuf again = STRBUF_INIT(HEADER_FACTS_MAX_BYTES);
    static const struct file_identity file = { 1, 2, 3, 4, 5 };
    pool_model_header_free(header_facts_decode(data, size, NULL, 0));
    if (!strbuf_add(&bytes, data, size))
        return 0;
    add_checksum(&bytes);
    struct pool_model_header *header = header_facts_decode(strbuf_text(&bytes), bytes.n, NULL, 0);
    if (!header)
        return 0;
    struct pool_estimate_options options = { .struct_size = sizeof options, .ctx_size = 4096, .parallel = 2 };
    struct pool_estimate estimate;
    if (pool_model_estimate(header, &options, &estimate, NULL) == POOL_OK && estimate.total_bytes <= 0)
        abort();
    if (header_facts_encode(&file, 1, header, &again)) {
        struct pool_model_header *copy = header_facts_decode(strbuf_text(&again), again.n, &file, 1);
        if (!copy || copy->n_layers != header->n_layers || copy->tensor_bytes != header->tensor_bytes)
            abort();
        pool_model_header_free(copy);
    }
    pool_model_header_free(header);
    return 0;
}
