/*
 * Catalogs, inside: the TOML implementation, and copying metadata.
 */
#ifndef CATALOG_CATALOG_H
#define CATALOG_CATALOG_H

#include <pool/catalog.h>

/* Catalogs as TOML files; sources are paths. */
extern const struct pool_model_catalog_ops model_catalog_toml;

/* Metadata copied whole into one block, so that free() frees it. NULL when memory is out. */
struct pool_model_metadata *model_metadata_pack(const struct pool_model_metadata *model);

#endif
