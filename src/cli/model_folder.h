/*
 * The files of a model below the models directories, as things to be taken away.
 */
#ifndef CLI_MODEL_FOLDER_H
#define CLI_MODEL_FOLDER_H

#include <pool/catalog.h>
#include <pool/config.h>

/* Whether all files are below a models directory. Errors: PERMISSION_DENIED (details.path), INSUFFICIENT_MEMORY. */
POOL_MUST_CHECK enum pool_code model_folder_check(const struct pool_config *config,
                                                  const struct pool_model *model, struct pool_error *err);
/**
 * Deletes the files, the first one last, so that what is left of a deletion that was cut short is still found; then
 * folders that have become empty, with what the download kept in them.
 * Errors: PERMISSION_DENIED, INTERNAL.
 */
POOL_MUST_CHECK enum pool_code model_folder_delete(const struct pool_config *config,
                                                   const struct pool_model *model, struct pool_error *err);

#endif
