/*
 * A catalog as a text that people write: entries are added at its end and taken out of it, and everything else stays as it
 * is, comments too. The new text has its name only when it can be read as a catalog, together with the others.
 */
#ifndef CLI_CATALOG_FILE_H
#define CLI_CATALOG_FILE_H

#include <pool/catalog.h>

#include "base/strbuf.h"
#include "cli/program.h"

struct catalog_entry_file {
    const char *file;
    int64_t size_bytes;
    const char *sha256;
};

/* What is written of a model. Borrowed. */
struct catalog_entry {
    const char *id;
    const char *name;     /* NULL: none */
    const char *repo;     /* "ORG/REPO"; NULL: local */
    const char *revision; /* NULL: none */
    size_t n_files;
    const struct catalog_entry_file *files;
    size_t n_backends;
    const char *const *backends;
};

/**
 * Adds an entry. A file that is not there is made.
 * Errors: ALREADY_EXISTS, INVALID_REQUEST, INVALID_CONFIG (the catalog is damaged), PERMISSION_DENIED, INTERNAL.
 */
POOL_MUST_CHECK enum pool_code catalog_file_add(struct cli *cli, const char *path,
                                                const struct catalog_entry *entry, struct pool_error *err);
/* Takes an entry out. Errors: MODEL_NOT_FOUND, INVALID_REQUEST (it is written in a way that a person has to edit). */
POOL_MUST_CHECK enum pool_code catalog_file_remove(struct cli *cli, const char *id, char **ret_path,
                                                   struct pool_error *err);

/* ---- texts ---- */

void catalog_text_add(struct strbuf *text, const struct catalog_entry *entry);
/* The bytes of the entry whose head `[[models]]` is in the line: *ret_from up to *ret_to. false: there is none. */
bool catalog_text_find(const char *text, uint32_t line, size_t *ret_from, size_t *ret_to);

#endif
