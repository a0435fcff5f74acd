/*
 * Remembered headers; see header_cache.h. A file on disk is trusted as far as proofs are: it and its folder must belong
 * to us and be writable by nobody else. Everything about the disk is best effort: what can not be remembered is read
 * again.
 */
#define _GNU_SOURCE
#include "core/catalog/header_cache.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "core/catalog/header_facts.h"
#include "core/catalog/proof.h"

struct cached_header {
    size_t n_files;
    struct file_identity *files;
    struct pool_model_header *header; /* NULL: the entry is free */
    uint64_t used_at;                 /* of the cache's count of uses */
};

struct header_cache {
    char *folder;
    uint64_t n_uses;
    struct cached_header entries[HEADER_CACHE_ENTRIES_MAX];
    struct pool_model_header *unkept; /* the last one that could not be remembered */
};

static void free_files(struct file_identity **files)
{
    free(*files);
}

static void free_header(struct pool_model_header **header)
{
    pool_model_header_free(*header);
}

enum pool_code header_cache_open(const char *folder, struct header_cache **ret_cache, struct pool_error *err)
{
    struct header_cache *cache = calloc(1, sizeof *cache);
    if (!cache || (folder && !(cache->folder = strdup(folder)))) {
        free(cache);
        return pool_error_no_memory(err);
    }
    *ret_cache = cache;
    return POOL_OK;
}

static void clear_entry(struct cached_header *entry)
{
    free(entry->files);
    pool_model_header_free(entry->header);
    *entry = (struct cached_header){ 0 };
}

void header_cache_close(struct header_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < HEADER_CACHE_ENTRIES_MAX; i++)
        clear_entry(&cache->entries[i]);
    pool_model_header_free(cache->unkept);
    free(cache->folder);
    free(cache);
}

/* NULL when one can not be looked at (the reader says why then) or memory is out. `is_settled`: each has been left alone
 * long enough that its next change will show. */
static struct file_identity *identify(const char *const *paths, size_t n, bool *ret_is_settled)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    CLEANUP(free_files) struct file_identity *files = calloc(n, sizeof *files);
    *ret_is_settled = true;
    for (size_t i = 0; files && i < n; i++) {
        struct stat st;
        if (stat(paths[i], &st) < 0)
            return NULL;
        files[i] = file_identity_of(&st);
        *ret_is_settled = *ret_is_settled && proof_is_settled(&st, &now);
    }
    return take_ptr(&files);
}

static struct cached_header *find_entry(struct header_cache *cache, const struct file_identity *files,
                                        size_t n_files)
{
    for (size_t i = 0; i < HEADER_CACHE_ENTRIES_MAX; i++) {
        struct cached_header *entry = &cache->entries[i];
        if (entry->header && entry->n_files == n_files && file_identities_equal(entry->files, files, n_files))
            return entry;
    }
    return NULL;
}

/* Takes both pointers. The entry that was not used for longest goes, free ones first. */
static const struct pool_model_header *keep(struct header_cache *cache, struct file_identity *files,
                                            size_t n_files, struct pool_model_header *header)
{
    struct cached_header *oldest = &cache->entries[0];
    for (size_t i = 1; i < HEADER_CACHE_ENTRIES_MAX; i++) {
        if (cache->entries[i].used_at < oldest->used_at)
            oldest = &cache->entries[i];
    }
    clear_entry(oldest);
    *oldest = (struct cached_header){ n_files, files, header, ++cache->n_uses };
    return header;
}

/* ---- on disk ---- */

/* One file for a model, named after its first file: that of a model which was changed is written over. */
static char *remembered_path(const struct header_cache *cache, const struct file_identity *first)
{
    char *path = NULL;
    if (!cache->folder ||
        asprintf(&path, "%s/%" PRIx64 "-%" PRIx64 ".header", cache->folder, first->device, first->inode) < 0)
        return NULL;
    return path;
}

static struct pool_model_header *recall(const struct header_cache *cache, const struct file_identity *files,
                                        size_t n_files)
{
    CLEANUP_FREE char *path = remembered_path(cache, &files[0]);
    if (!path || !proof_folder_is_ours(cache->folder))
        return NULL;
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    CLEANUP(strbuf_done) struct strbuf bytes = STRBUF_INIT(HEADER_FACTS_MAX_BYTES);
    if (fd < 0 || !proof_file_is_ours(fd) || fd_read_all(fd, &bytes) != 0)
        return NULL;
    return header_facts_decode(strbuf_text(&bytes), bytes.n, files, n_files);
}

static void remember(const struct header_cache *cache, const struct file_identity *files, size_t n_files,
                     const struct pool_model_header *header)
{
    CLEANUP_FREE char *path = remembered_path(cache, &files[0]);
    CLEANUP(strbuf_done) struct strbuf bytes = STRBUF_INIT(HEADER_FACTS_MAX_BYTES);
    if (!path || !header_facts_encode(files, n_files, header, &bytes))
        return;
    if (make_directories(cache->folder, 0700) == 0 && proof_folder_is_ours(cache->folder))
        (void)!file_replace(path, strbuf_text(&bytes), bytes.n, 0600);
}

/* ---- reading ---- */

/* Reads the files; `files` is what they were before, NULL when that is not known. */
static enum pool_code read_anew(struct header_cache *cache, const char *const *paths, size_t n_paths,
                                struct file_identity **files, bool is_settled,
                                const struct pool_model_header **ret_header, struct pool_error *err)
{
    CLEANUP(free_header) struct pool_model_header *header = NULL;
    enum pool_code code = pool_model_header_read_all(paths, n_paths, &header, err);
    if (code != POOL_OK)
        return code;
    bool ignored;
    CLEANUP(free_files)
    struct file_identity *after = *files && is_settled ? identify(paths, n_paths, &ignored) : NULL;
    if (after && file_identities_equal(*files, after, n_paths)) {
        remember(cache, after, n_paths, header);
        *ret_header = keep(cache, take_ptr(&after), n_paths, take_ptr(&header));
        return POOL_OK;
    }
    pool_model_header_free(cache->unkept);
    cache->unkept = take_ptr(&header);
    *ret_header = cache->unkept;
    return POOL_OK;
}

enum pool_code header_cache_read(struct header_cache *cache, const char *const *paths, size_t n_paths,
                                 const struct pool_model_header **ret_header, struct pool_error *err)
{
    bool is_settled = false;
    CLEANUP(free_files) struct file_identity *files = NULL;
    if (n_paths > 0 && n_paths <= POOL_MODEL_FILES_MAX)
        files = identify(paths, n_paths, &is_settled);
    struct cached_header *entry = files ? find_entry(cache, files, n_paths) : NULL;
    if (entry) {
        entry->used_at = ++cache->n_uses;
        *ret_header = entry->header;
        return POOL_OK;
    }
    struct pool_model_header *recalled = files ? recall(cache, files, n_paths) : NULL;
    if (recalled) {
        *ret_header = keep(cache, take_ptr(&files), n_paths, recalled);
        return POOL_OK;
    }
    return read_anew(cache, paths, n_paths, &files, is_settled, ret_header, err);
}
