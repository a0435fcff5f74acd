/*
 * The files that `dev setup` writes: examples/pool.toml and examples/catalog.toml, put into the program by
 * cmake/PoolEmbed.cmake.
 */
#ifndef CLI_SETUP_FILES_H
#define CLI_SETUP_FILES_H

extern const char setup_config_text[];
extern const char setup_catalog_text[];

#endif
