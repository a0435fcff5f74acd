/*
 * The models that are on disk, whether a catalog names them or not: what was downloaded (ORG/REPO/COMMIT), other GGUF files
 * and folders with safetensors below the models directories, and what the Hub's own cache has. Names alone are read.
 */
#ifndef CLI_DISK_MODELS_H
#define CLI_DISK_MODELS_H

#include "cli/program.h"

#define DISK_MODELS_MAX 100000

struct disk_model {
    char *ref; /* hf: with commit and file, or file: */
    bool is_in_cache;
    bool is_named; /* by a catalog; for who looks at both */
};

struct disk_models {
    size_t n;
    struct disk_model *at; /* in the order of the references */
};

void disk_models_done(struct disk_models *models);
/* Errors: INSUFFICIENT_MEMORY, INVALID_CONFIG, INVALID_REQUEST (more than DISK_MODELS_MAX). */
POOL_MUST_CHECK enum pool_code disk_models_find(struct cli *cli, struct disk_models *ret_models,
                                                struct pool_error *err);
/* The one with a reference; NULL: it is not among them. */
struct disk_model *disk_models_get(const struct disk_models *models, const char *ref);

#endif
