/*
 * Reading catalogs, inside: what lives while files are read, and the reading of one entry.
 */
#ifndef CATALOG_ENTRY_H
#define CATALOG_ENTRY_H

#include "base/toml.h"
#include "core/catalog/catalog.h"

struct catalog_source {
    const char *path; /* borrowed */
    struct toml_document *document;
    const struct toml_node *models; /* NULL: none */
};

/* An id as it was found, to say of a second one where the first is. */
struct catalog_sighting {
    const char *id;
    size_t source;
    const struct toml_node *node;
    const struct catalog_sighting *first; /* another with the same id, further up */
};

/* Everything that lives while catalogs are read. */
struct catalog_reader {
    struct pool_model_catalog *front;
    size_t n_sources;
    struct catalog_source *sources;
    size_t n_entries;
    /* one an entry, in the order of the files; id NULL when it has none */
    struct catalog_sighting *sightings;
    const struct catalog_source *source; /* the present one */
    bool is_memory_out;
    bool is_fine; /* the present entry */
    struct pool_model_file *files;
    char **backends;
};

/* A problem of the present entry. */
#define entry_refuse(reader, at_line, at_column, ...)                                               \
    do {                                                                                            \
        (reader)->is_fine = false;                                                                  \
        if (!pool_catalog_report_problem((reader)->front, false, (reader)->source->path, (at_line), \
                                         (at_column), __VA_ARGS__))                                 \
            (reader)->is_memory_out = true;                                                         \
    } while (0)
#define entry_refuse_value(reader, node, ...) entry_refuse(reader, (node)->line, (node)->column, __VA_ARGS__)

/* A key's value when it is there and of the kind asked for, else NULL (and a problem). */
const struct toml_node *entry_take_value(struct catalog_reader *reader, const struct toml_node *table,
                                         const char *key, enum toml_kind kind);
/* Warns of keys beside `models`. false when memory is out. */
bool entry_check_top_keys(struct catalog_reader *reader, const struct toml_node *root);
/* Reads one entry. *ret_model stays as it is when the entry has a problem. false when memory is out. */
bool entry_read(struct catalog_reader *reader, const struct toml_node *entry,
                const struct catalog_sighting *sighting, struct pool_model_metadata **ret_model);

#endif
