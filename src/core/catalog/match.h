/*
 * Which entry of a catalog speaks of what a reference is about, and the reference that an entry stands for.
 */
#ifndef CATALOG_MATCH_H
#define CATALOG_MATCH_H

#include <pool/catalog.h>

#include "core/catalog/hub.h"

/* The reference an entry stands for. Errors: INSUFFICIENT_MEMORY, INVALID_REQUEST (too long). */
POOL_MUST_CHECK enum pool_code catalog_make_ref(const struct pool_model_metadata *entry,
                                                struct pool_model_ref **ret_ref, struct pool_error *err);
/*
 * The entry that speaks of the very file a reference (hf: or file:) is about, however it was written, or NULL. `commit`:
 * of the snapshot that was found. The catalog may be NULL.
 */
const struct pool_model_metadata *catalog_find_entry(const struct pool_model_catalog *catalog,
                                                     const struct pool_model_ref *ref, const char *commit);
/* The file of the only entry that speaks of this repository and one of these files, or NULL. */
const char *catalog_find_choice(const struct pool_model_catalog *catalog, const struct pool_model_ref *ref,
                                const char *commit, const struct hub_names *names);

#endif
