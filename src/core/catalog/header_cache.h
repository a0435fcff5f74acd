/*
 * Headers that were read, remembered by what tells whether their files are still the same: in memory for a program that
 * goes on, and in a folder beside the proofs of verification for commands that end. A start costs a stat per file then,
 * not the reading of a vocabulary of 100 000 tokens.
 */
#ifndef CATALOG_HEADER_CACHE_H
#define CATALOG_HEADER_CACHE_H

#include <pool/catalog.h>

#define HEADER_CACHE_ENTRIES_MAX 32 /* in memory, the least used goes; 160 KiB each at the most */

struct header_cache; /* opaque */

/* folder: where facts are remembered, made when something is written; NULL: in memory only. Copied. */
POOL_MUST_CHECK enum pool_code header_cache_open(const char *folder, struct header_cache **ret_cache,
                                                 struct pool_error *err);
void header_cache_close(struct header_cache *cache);
/*
 * As pool_model_header_read_all. Failures are not remembered, nor is a file that was changed so shortly ago that another
 * change could go unseen. *ret_header is borrowed until the next call with this cache.
 */
POOL_MUST_CHECK enum pool_code header_cache_read(struct header_cache *cache, const char *const *paths,
                                                 size_t n_paths, const struct pool_model_header **ret_header,
                                                 struct pool_error *err);

#endif
