/*
 * The facts of a model's header as bytes, to remember them in a file: with the identities of the files they were read
 * from, so that they are believed for exactly these files in exactly this state.
 */
#ifndef CATALOG_HEADER_FACTS_H
#define CATALOG_HEADER_FACTS_H

#include <pool/catalog.h>
#include <sys/stat.h>

#include "base/strbuf.h"

/* Whether a file is still the same: everything that a change of its bytes changes, too. */
struct file_identity {
    uint64_t device, inode;
    int64_t size_bytes, mtime_ns, ctime_ns;
};
struct file_identity file_identity_of(const struct stat *st);
bool file_identities_equal(const struct file_identity *a, const struct file_identity *b, size_t n);

#define HEADER_FACTS_MAX_BYTES (256 << 10) /* 4096 layers and some 100 files; more is not remembered */

/* Writes facts as bytes; false when they do not fit or memory is out. */
bool header_facts_encode(const struct file_identity *files, size_t n_files,
                         const struct pool_model_header *header, struct strbuf *out);
/*
 * Reads them back. NULL when the bytes are damaged, of another version or of other files (n_files 0: of any), or memory is
 * out. Owner: pool_model_header_free.
 */
struct pool_model_header *header_facts_decode(const void *data, size_t n, const struct file_identity *files,
                                              size_t n_files);

#endif
