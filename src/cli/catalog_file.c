/*
 * Changing catalogs; see catalog_file.h.
 */
#include "cli/catalog_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "cli/model_state.h"

#define FILE_MODE 0644

/* A catalog that is being changed: locked, and read. */
struct change {
    char *path; /* symbolic links followed */
    int lock_fd;
    mode_t mode;
    struct strbuf text;
};

static void change_done(struct change *change)
{
    free(change->path);
    close_fd(&change->lock_fd);
    strbuf_done(&change->text);
}

static enum pool_code report(const char *what, const char *path, int failure, struct pool_error *err)
{
    bool is_refused = failure == EACCES || failure == EPERM || failure == EROFS;
    if (failure == ENOMEM)
        return pool_error_no_memory(err);
    return pool_error_set_errno(err,
                                is_refused          ? POOL_PERMISSION_DENIED
                                : failure == ENOSPC ? POOL_INSUFFICIENT_DISK
                                                    : POOL_INTERNAL,
                                failure, "cannot %s %s", what, path);
}

/* The lock is on the file itself: who replaces it holds it, so a file that is locked and still has its name is the
 * latest. */
static enum pool_code lock_file(struct change *change, struct pool_error *err)
{
    for (;;) {
        struct stat of_fd;
        struct stat of_path;
        CLEANUP_CLOSE int fd =
            open(change->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, FILE_MODE);
        if (fd < 0)
            return report("open", change->path, errno, err);
        while (flock(fd, LOCK_EX) < 0) {
            if (errno != EINTR)
                return report("lock", change->path, errno, err);
        }
        if (fstat(fd, &of_fd) < 0 || stat(change->path, &of_path) < 0 || of_fd.st_ino != of_path.st_ino ||
            of_fd.st_dev != of_path.st_dev)
            continue;
        change->mode = of_fd.st_mode & 07777;
        change->lock_fd = take_fd(&fd);
        int failure = fd_read_all(change->lock_fd, &change->text);
        return failure ? report("read", change->path, failure, err) : POOL_OK;
    }
}

static enum pool_code begin(struct change *change, const char *path, struct pool_error *err)
{
    *change = (struct change){ .lock_fd = -1, .text = STRBUF_INIT(POOL_CATALOG_FILE_MAX_BYTES) };
    change->path = realpath(path, NULL);
    if (!change->path && errno == ENOENT)
        change->path = strdup(path);
    if (!change->path)
        return report("find", path, errno, err);
    return lock_file(change, err);
}

/* The catalogs of the configuration with the new text in place of the old. */
static enum pool_code open_changed(struct cli *cli, const struct change *change, const char *new_path,
                                   struct pool_model_catalog **ret_catalog, struct pool_error *err)
{
    const struct pool_config *config;
    enum pool_code code = cli_get_config(cli, &config, err);
    if (code != POOL_OK)
        return code;
    CLEANUP_FREE const char **paths = calloc(config->n_catalogs + 1, sizeof *paths);
    bool is_among = false;
    if (!paths)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < config->n_catalogs; i++) {
        CLEANUP_FREE char *real = realpath(config->catalogs[i], NULL);
        bool is_this = real && strcmp(real, change->path) == 0;
        paths[i] = is_this ? new_path : config->catalogs[i];
        is_among = is_among || is_this;
    }
    paths[config->n_catalogs] = new_path;
    return pool_model_catalog_open(paths, config->n_catalogs + !is_among, ret_catalog, NULL, NULL, err);
}

/* Writes the new text beside the old, reads it as a catalog, and gives it the name when exactly what was meant changed. */
static enum pool_code finish(struct cli *cli, const struct change *change, const struct strbuf *text,
                             const char *id, bool is_added, size_t n_expected, struct pool_error *err)
{
    CLEANUP(release_catalog) struct pool_model_catalog *catalog = NULL;
    CLEANUP_FREE char *new_path = NULL;
    const struct pool_model_metadata *entry;
    if (text->failure != STRBUF_FINE)
        return text->failure == STRBUF_NO_MEMORY
                   ? pool_error_no_memory(err)
                   : pool_error_set(err, POOL_INVALID_REQUEST, "%s would become too large", change->path);
    if (asprintf(&new_path, "%s.new", change->path) < 0) {
        new_path = NULL;
        return pool_error_no_memory(err);
    }
    int failure = file_replace(new_path, strbuf_text(text), text->n, change->mode);
    if (failure)
        return report("write", new_path, failure, err);
    enum pool_code code = open_changed(cli, change, new_path, &catalog, err);
    if (code == POOL_OK && (pool_model_catalog_n_models(catalog) != n_expected ||
                            (pool_model_catalog_get(catalog, id, &entry, NULL) == POOL_OK) != is_added))
        code =
            pool_error_set(err, POOL_INVALID_REQUEST,
                           "%s is written in a way that is not changed here; edit it by hand", change->path);
    if (code == POOL_OK && rename(new_path, change->path) < 0)
        code = report("replace", change->path, errno, err);
    if (code != POOL_OK)
        unlink(new_path);
    return code;
}

enum pool_code catalog_file_add(struct cli *cli, const char *path, const struct catalog_entry *entry,
                                struct pool_error *err)
{
    CLEANUP(change_done) struct change change = { .lock_fd = -1 };
    CLEANUP(release_catalog) struct pool_model_catalog *before = NULL;
    const struct pool_model_metadata *known;
    enum pool_code code = begin(&change, path, err);
    if (code == POOL_OK)
        code = open_changed(cli, &change, change.path, &before, err);
    if (code != POOL_OK)
        return code;
    if (pool_model_catalog_get(before, entry->id, &known, NULL) == POOL_OK)
        return pool_error_set(err, POOL_ALREADY_EXISTS, "%s is in %s already, line %u", entry->id,
                              known->catalog_path, known->line);
    catalog_text_add(&change.text, entry);
    return finish(cli, &change, &change.text, entry->id, true, pool_model_catalog_n_models(before) + 1, err);
}

enum pool_code catalog_file_remove(struct cli *cli, const char *id, char **ret_path, struct pool_error *err)
{
    CLEANUP(change_done) struct change change = { .lock_fd = -1 };
    CLEANUP(release_catalog) struct pool_model_catalog *catalog = NULL;
    CLEANUP(release_catalog) struct pool_model_catalog *before = NULL;
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(POOL_CATALOG_FILE_MAX_BYTES);
    const struct pool_model_metadata *entry;
    size_t from;
    size_t to;
    enum pool_code code = open_catalog(cli, &catalog, err);
    if (code == POOL_OK)
        code = pool_model_catalog_get(catalog, id, &entry, err);
    if (code == POOL_OK)
        code = begin(&change, entry->catalog_path, err);
    if (code == POOL_OK) /* again, now that nobody else changes it */
        code = open_changed(cli, &change, change.path, &before, err);
    if (code == POOL_OK)
        code = pool_model_catalog_get(before, id, &entry, err);
    if (code != POOL_OK)
        return code;
    if (!catalog_text_find(strbuf_text(&change.text), entry->line, &from, &to))
        return pool_error_set(err, POOL_INVALID_REQUEST,
                              "line %u of %s is written in a way that is not changed "
                              "here; edit it by hand",
                              entry->line, change.path);
    strbuf_add(&text, change.text.data, from);
    strbuf_add(&text, change.text.data + to, change.text.n - to);
    code = finish(cli, &change, &text, id, false, pool_model_catalog_n_models(before) - 1, err);
    if (code == POOL_OK)
        *ret_path = take_ptr(&change.path);
    return code;
}
