/*
 * config.json beside safetensors: what they do not say themselves, the shape of the model. Its names are those of the Hub's
 * transformers library (transformers, configuration_utils.py and the configuration_*.py of each model).
 */
#ifndef CATALOG_HF_CONFIG_H
#define CATALOG_HF_CONFIG_H

#include <pool/catalog.h>

#define HF_CONFIG_NAME "config.json"
#define HF_CONFIG_MAX_BYTES \
    (1 << 20) /* the largest that were seen have some 100 kB, of quantised layers listed by name */

/* Whether a path of a model's is that file. */
bool hf_config_is_path(const char *path);
/*
 * Adds the shape to a header. What is not said, or not believable, stays absent: its size is then not estimated.
 * Errors: MODEL_CORRUPT for what is no JSON object, MODEL_INCOMPATIBLE over the limit, those of opening it.
 */
POOL_MUST_CHECK enum pool_code hf_config_read(const char *path, struct pool_model_header *header,
                                              struct pool_error *err);
/* The same from its text. */
POOL_MUST_CHECK enum pool_code hf_config_parse(const char *text, size_t n, struct pool_model_header *header,
                                               struct pool_error *err);

#endif
