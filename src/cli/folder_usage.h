/*
 * How much of a disk a folder of models takes.
 */
#ifndef CLI_FOLDER_USAGE_H
#define CLI_FOLDER_USAGE_H

#include <pool/config.h>

struct folder_usage {
    int64_t used_bytes;       /* blocks of all files in it */
    int64_t unfinished_bytes; /* of these, of downloads that have not ended */
};

/* Adds what is in a folder; one that is not there, or closed to us, has nothing. */
void folder_usage_add(struct folder_usage *usage, const char *dir);
/* All of pool.models_dirs: what pool.models_quota_bytes is about. */
struct folder_usage folder_usage_of_models(const struct pool_config *config);

#endif
