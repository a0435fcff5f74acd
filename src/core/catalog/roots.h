/*
 * The directories models may lie in, and the question whether a path stays inside of them.
 */
#ifndef CATALOG_ROOTS_H
#define CATALOG_ROOTS_H

#include <pool/catalog.h>
#include <sys/stat.h>

struct model_roots {
    bool allow_any_file;
    size_t n;
    struct model_root {
        const char *given; /* borrowed */
        char *real;        /* after symbolic links; NULL when it is not there */
    } * roots;
};

POOL_MUST_CHECK enum pool_code model_roots_init(struct model_roots *roots,
                                                const struct pool_model_paths *paths, struct pool_error *err);
void model_roots_done(struct model_roots *roots);

/*
 * Lets a path in: it is there, a regular file or a directory, readable, and under a root after symbolic links.
 * ret_path: absolute. Symbolic links are followed in its folders; the last name of a file stays as given, because
 * engines take the format from it and find the other shards by it (a file of the Hub's cache is a link to a
 * name without either). A directory is followed whole.
 * Errors: MODEL_NOT_FOUND, PERMISSION_DENIED, INVALID_REQUEST (neither file nor directory). Outside of the roots
 * the answer is the same whether there is something or not.
 */
POOL_MUST_CHECK enum pool_code model_roots_admit(const struct model_roots *roots, const char *path,
                                                 char **ret_path, struct stat *ret_stat,
                                                 struct pool_error *err);

#endif
