/*
 * The directories models may lie in; see roots.h. It looks at one path at a time and does not know what a model is.
 */
#include "core/catalog/roots.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

static bool add_root(struct model_roots *roots, const char *given)
{
    struct model_root root = { .given = given, .real = realpath(given, NULL) };
    if (!root.real && errno == ENOMEM)
        return false;
    roots->roots[roots->n++] = root;
    return true;
}

enum pool_code model_roots_init(struct model_roots *roots, const struct pool_model_paths *paths,
                                struct pool_error *err)
{
    *roots = (struct model_roots){ .allow_any_file = paths->allow_any_file };
    roots->roots = calloc(paths->n_models_dirs + 1, sizeof *roots->roots);
    if (!roots->roots)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < paths->n_models_dirs; i++) {
        if (!add_root(roots, paths->models_dirs[i]))
            return pool_error_no_memory(err);
    }
    if (paths->hf_cache_dir && !add_root(roots, paths->hf_cache_dir))
        return pool_error_no_memory(err);
    return POOL_OK;
}

void model_roots_done(struct model_roots *roots)
{
    for (size_t i = 0; i < roots->n; i++)
        free(roots->roots[i].real);
    free(roots->roots);
    *roots = (struct model_roots){ 0 };
}

static bool is_below(const char *path, const char *root)
{
    size_t n = strlen(root);
    while (n > 0 && root[n - 1] == '/')
        n--;
    return strncmp(path, root, n) == 0 && path[n] == '/' && path[n + 1] != '\0';
}

static bool is_inside(const struct model_roots *roots, const char *real)
{
    for (size_t i = 0; i < roots->n; i++) {
        if (roots->roots[i].real && is_below(real, roots->roots[i].real))
            return true;
    }
    return false;
}

/* Whether the text of a path points into a root, as one would write it. */
static bool is_written_inside(const struct model_roots *roots, const char *path)
{
    for (size_t i = 0; i < roots->n; i++) {
        if (is_below(path, roots->roots[i].given))
            return true;
    }
    return is_inside(roots, path);
}

static enum pool_code refuse_outside(const char *path, struct pool_error *err)
{
    enum pool_code code =
        pool_error_set(err, POOL_PERMISSION_DENIED, "%s is not inside the allowed models directories", path);
    pool_error_set_field(err, "model_ref");
    pool_error_add_text(err, "path", path);
    return code;
}

static enum pool_code explain_absence(const struct model_roots *roots, const char *path, int failure,
                                      struct pool_error *err)
{
    if (failure == ENOMEM)
        return pool_error_no_memory(err);
    if (!roots->allow_any_file && !is_written_inside(roots, path))
        return refuse_outside(path, err);
    enum pool_code code = failure == EACCES || failure == EPERM                      ? POOL_PERMISSION_DENIED
                          : failure == EIO || failure == EMFILE || failure == ENFILE ? POOL_INTERNAL
                                                                                     : POOL_MODEL_NOT_FOUND;
    pool_error_set_errno(err, code, failure, "cannot use %s", path);
    pool_error_set_field(err, "model_ref");
    pool_error_add_text(err, "path", path);
    return code;
}

/* The real path of the folder, and the last name as it is. */
static int keep_last_name(const char *path, char **ret_path)
{
    const char *slash = strrchr(path, '/');
    CLEANUP_FREE char *folder = slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
    if (!folder)
        return ENOMEM;
    CLEANUP(free_ptr) char *real = realpath(folder, NULL);
    if (!real)
        return errno;
    return asprintf(ret_path, "%s%s", strcmp(real, "/") == 0 ? "" : real, slash) < 0 ? ENOMEM : 0;
}

enum pool_code model_roots_admit(const struct model_roots *roots, const char *path, char **ret_path,
                                 struct stat *ret_stat, struct pool_error *err)
{
    CLEANUP_FREE char *real = realpath(path, NULL);
    if (!real)
        return explain_absence(roots, path, errno, err);
    if (!roots->allow_any_file && !is_inside(roots, real))
        return refuse_outside(path, err);

    struct stat st;
    if (stat(real, &st) < 0)
        return explain_absence(roots, path, errno, err);
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        enum pool_code code =
            pool_error_set(err, POOL_INVALID_REQUEST, "%s is neither a regular file nor a directory", path);
        pool_error_set_field(err, "model_ref");
        return code;
    }
    if (faccessat(AT_FDCWD, real, S_ISDIR(st.st_mode) ? R_OK | X_OK : R_OK, AT_EACCESS) < 0)
        return explain_absence(roots, path, errno, err);

    CLEANUP_FREE char *admitted = NULL;
    if (S_ISDIR(st.st_mode)) {
        admitted = take_ptr(&real);
    } else {
        int failure = keep_last_name(path, &admitted);
        if (failure) {
            admitted = NULL;
            return explain_absence(roots, path, failure, err);
        }
    }
    *ret_path = take_ptr(&admitted);
    *ret_stat = st;
    return POOL_OK;
}
