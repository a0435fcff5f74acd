/*
 * What the files of a snapshot ought to be, as the Hub said when they came: in a models directory the file COMMIT/.sha256,
 * in the form of sha256sum(1) and written by the download; in the Hub's cache the names of the blobs.
 */
#ifndef CATALOG_HUB_SUMS_H
#define CATALOG_HUB_SUMS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/catalog/proof.h"

#define HUB_SUMS_FILE      ".sha256"
#define HUB_SUMS_MAX_BYTES (4 << 20)

/* Finds the sum of a file in such a text of n bytes. */
bool hub_sums_find(const char *text, size_t n, const char *file, char ret_sha256[SHA256_TEXT_MAX]);

/*
 * The sums of a model's files, one a path, NULL where none is known.
 * @param dir of the snapshot; the paths are below it, also when it is reached by other ways
 * Returns NULL when memory is out; freed with hub_sums_free.
 */
char **hub_sums_of_files(const char *dir, bool is_cache, size_t n_files, char *const *paths);
void hub_sums_free(char **sums, size_t n_files);

#endif
