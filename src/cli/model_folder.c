/*
 * Deleting models; see model_folder.h.
 */
#include "cli/model_folder.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

#define SUMS_FILE  ".sha256"
#define COMMIT_HEX 40
#define REFS_DEPTH 4

/* Length of the models directory that a path is in, as it is without symbolic links; 0: in none. */
static size_t root_of(const struct pool_config *config, const char *path)
{
    for (size_t i = 0; i < config->n_models_dirs; i++) {
        CLEANUP_FREE char *real = realpath(config->models_dirs[i], NULL);
        size_t n = real ? strlen(real) : 0;
        if (n > 0 && strncmp(path, real, n) == 0 && path[n] == '/')
            return n;
    }
    return 0;
}

enum pool_code model_folder_check(const struct pool_config *config, const struct pool_model *model,
                                  struct pool_error *err)
{
    for (size_t i = 0; i < model->n_files; i++) {
        if (root_of(config, model->file_paths[i]) > 0)
            continue;
        pool_error_set(err, POOL_PERMISSION_DENIED,
                       "%s is below none of pool.models_dirs: it is not ours to delete",
                       model->file_paths[i]);
        pool_error_add_text(err, "path", model->file_paths[i]);
        return POOL_PERMISSION_DENIED;
    }
    return POOL_OK;
}

static enum pool_code report(const char *path, int failure, struct pool_error *err)
{
    bool is_refused = failure == EACCES || failure == EPERM || failure == EROFS;
    return pool_error_set_errno(err, is_refused ? POOL_PERMISSION_DENIED : POOL_INTERNAL, failure,
                                "cannot delete %s", path);
}

/* Only the sums of files that are gone are left in it. */
static bool has_sums_alone(const char *dir)
{
    CLEANUP(close_directory) DIR *stream = opendir(dir);
    for (const struct dirent *entry = stream ? readdir(stream) : NULL; entry; entry = readdir(stream)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            strcmp(entry->d_name, SUMS_FILE) != 0)
            return false;
    }
    return stream != NULL;
}

static bool is_commit(const char *name)
{
    return strspn(name, "0123456789abcdef") == COMMIT_HEX && name[COMMIT_HEX] == '\0';
}

/* Branches and tags that name a commit whose folder is gone would lead nowhere. */
static void delete_refs(const char *dir, const char *commit, unsigned depth)
{
    CLEANUP(close_directory) DIR *stream = opendir(dir);
    for (const struct dirent *entry = stream ? readdir(stream) : NULL; entry; entry = readdir(stream)) {
        char path[PATH_MAX];
        CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(COMMIT_HEX + 2);
        int n = snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (entry->d_name[0] == '.' || n < 0 || (size_t)n >= sizeof path)
            continue;
        int failure = file_read(path, &text);
        if (failure == EISDIR && depth < REFS_DEPTH)
            delete_refs(path, commit, depth + 1);
        else if (!failure && strncmp(strbuf_text(&text), commit, COMMIT_HEX) == 0)
            unlink(path);
    }
    (void)rmdir(dir); /* when it is empty */
}

/* From the folder of a deleted file up to the models directory, as long as nothing is left in them. */
static void delete_empty_folders(const struct pool_config *config, const char *path)
{
    char dir[PATH_MAX];
    char sums[PATH_MAX];
    char refs[PATH_MAX];
    size_t n_root = root_of(config, path);
    snprintf(dir, sizeof dir, "%s", path);
    for (;;) {
        char *slash = strrchr(dir, '/');
        if (!slash || (size_t)(slash - dir) <= n_root)
            return;
        *slash = '\0';
        const char *name = strrchr(dir, '/') + 1;
        bool is_snapshot = is_commit(name);
        if (is_snapshot && has_sums_alone(dir) &&
            (size_t)snprintf(sums, sizeof sums, "%s/" SUMS_FILE, dir) < sizeof sums)
            unlink(sums);
        if (rmdir(dir) < 0)
            return;
        if (is_snapshot &&
            (size_t)snprintf(refs, sizeof refs, "%.*s/refs", (int)(name - 1 - dir), dir) < sizeof refs)
            delete_refs(refs, name, 0);
    }
}

enum pool_code model_folder_delete(const struct pool_config *config, const struct pool_model *model,
                                   struct pool_error *err)
{
    for (size_t i = model->n_files; i > 0; i--) {
        const char *path = model->file_paths[i - 1];
        if (unlink(path) < 0 && errno != ENOENT)
            return report(path, errno, err);
    }
    for (size_t i = 0; i < model->n_files; i++)
        delete_empty_folders(config, model->file_paths[i]);
    return POOL_OK;
}
