/*
 * A folder of a test's own, with files put in by one line each, and gone at the end. For tests that give paths to the
 * library. Assertions here fail the present test.
 */
#ifndef SCRATCH_TREE_H
#define SCRATCH_TREE_H

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct scratch_tree {
    char root[PATH_MAX / 4]; /* absolute, without symbolic links */
};

static inline void scratch_tree_make(struct scratch_tree *tree)
{
    const char *parent = getenv("TMPDIR");
    char template[PATH_MAX / 8];
    int n = snprintf(template, sizeof template, "%s/pool-test-XXXXXX", parent ? parent : "/tmp");
    assert_true(n > 0 && (size_t)n < sizeof template);
    assert_non_null(mkdtemp(template));
    char real[PATH_MAX];
    assert_non_null(realpath(template, real));
    size_t n_real = strlen(real) + 1;
    assert_true(n_real <= sizeof tree->root);
    memcpy(tree->root, real, n_real);
}

static inline int scratch_tree_unlink(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static inline void scratch_tree_remove(struct scratch_tree *tree)
{
    if (tree->root[0] != '\0')
        assert_int_equal(nftw(tree->root, scratch_tree_unlink, 16, FTW_DEPTH | FTW_PHYS), 0);
    tree->root[0] = '\0';
}

/* The path of a name in the tree. */
static inline void scratch_tree_path(const struct scratch_tree *tree, const char *name, char *path, size_t n)
{
    size_t n_root = strlen(tree->root);
    size_t n_name = strlen(name) + 1;
    assert_true(n_root + 1 + n_name <= n);
    memcpy(path, tree->root, n_root);
    path[n_root] = '/';
    memcpy(path + n_root + 1, name, n_name);
}
#define SCRATCH_PATH(tree, name, path) scratch_tree_path((tree), (name), (path), sizeof(path))

/* Makes the folders above a name. */
static inline void scratch_tree_make_parents(const struct scratch_tree *tree, const char *name)
{
    char path[PATH_MAX];
    SCRATCH_PATH(tree, name, path);
    for (char *slash = path + strlen(tree->root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
}

static inline void scratch_tree_write(const struct scratch_tree *tree, const char *name, const void *data,
                                      size_t n)
{
    char path[PATH_MAX];
    SCRATCH_PATH(tree, name, path);
    scratch_tree_make_parents(tree, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static inline void scratch_tree_write_text(const struct scratch_tree *tree, const char *name,
                                           const char *text)
{
    scratch_tree_write(tree, name, text, strlen(text));
}

static inline void scratch_tree_link(const struct scratch_tree *tree, const char *name, const char *target)
{
    char path[PATH_MAX];
    SCRATCH_PATH(tree, name, path);
    scratch_tree_make_parents(tree, name);
    assert_int_equal(symlink(target, path), 0);
}

#endif
