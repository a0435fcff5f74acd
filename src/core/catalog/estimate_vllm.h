/*
 * What vLLM takes for a model of safetensors; see estimate.c for llama.cpp and GGUF.
 */
#ifndef CATALOG_ESTIMATE_VLLM_H
#define CATALOG_ESTIMATE_VLLM_H

#include <pool/catalog.h>

/*
 * As pool_model_estimate, for a header of safetensors with the shape of config.json. Layers on this device are the part of
 * everything that it has.
 */
POOL_MUST_CHECK enum pool_code estimate_vllm(const struct pool_model_header *header,
                                             const struct pool_estimate_options *options,
                                             struct pool_estimate *ret_estimate, struct pool_error *err);

#endif
