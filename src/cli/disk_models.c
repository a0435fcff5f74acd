/*
 * Looking for models on disk; see disk_models.h.
 */
#include "cli/disk_models.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"

#define DEPTH_MAX   8       /* of folders below a models directory; links may make circles */
#define ENTRIES_MAX 1000000 /* that are looked at, in all folders together */
#define COMMIT_HEX  40

struct search {
    struct disk_models *models;
    size_t n_allocated;
    size_t n_seen;
    const char
        *snapshot_prefix; /* "hf:ORG/REPO@COMMIT" of the snapshot that is looked at; NULL outside of one */
    bool is_in_cache;
};

void disk_models_done(struct disk_models *models)
{
    for (size_t i = 0; i < models->n; i++)
        free(models->at[i].ref);
    free(models->at);
    *models = (struct disk_models){ 0 };
}

static bool is_commit(const char *name)
{
    size_t n = strspn(name, "0123456789abcdef");
    return n == COMMIT_HEX && name[n] == '\0';
}

/* Takes the reference over. */
static enum pool_code add_model(struct search *search, char *ref, struct pool_error *err)
{
    struct disk_models *models = search->models;
    if (!ref)
        return pool_error_no_memory(err);
    if (models->n == DISK_MODELS_MAX) {
        free(ref);
        return pool_error_set(err, POOL_INVALID_REQUEST, "more than %d models are on disk", DISK_MODELS_MAX);
    }
    if (models->n == search->n_allocated) {
        size_t n = search->n_allocated ? 2 * search->n_allocated : 64;
        struct disk_model *at = realloc(models->at, n * sizeof *at);
        if (!at) {
            free(ref);
            return pool_error_no_memory(err);
        }
        models->at = at;
        search->n_allocated = n;
    }
    models->at[models->n++] = (struct disk_model){ .ref = ref, .is_in_cache = search->is_in_cache };
    return POOL_OK;
}

/* What is known of a folder after its files were looked at. */
struct folder {
    const char *path;     /* absolute */
    const char *relative; /* to the snapshot, "" for itself */
    bool has_weights, has_config;
    size_t n_ggufs;
};

static char *format_ref(const struct search *search, const struct folder *folder, const char *name)
{
    char *ref = NULL;
    int n;
    if (!search->snapshot_prefix)
        n = asprintf(&ref, "file:%s%s%s", folder->path, name ? "/" : "", name ? name : "");
    else if (name)
        n = asprintf(&ref, "%s::file=%s%s%s", search->snapshot_prefix, folder->relative,
                     folder->relative[0] ? "/" : "", name);
    else
        n = asprintf(&ref, "%s", search->snapshot_prefix);
    return n < 0 ? NULL : ref;
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name);
    size_t n_end = strlen(end);
    return n > n_end && strcmp(name + n - n_end, end) == 0;
}

static enum pool_code take_file(struct search *search, struct folder *folder, const char *name,
                                struct pool_error *err)
{
    folder->has_weights = folder->has_weights || ends_with(name, ".safetensors");
    folder->has_config = folder->has_config || strcmp(name, "config.json") == 0;
    if (!pool_model_file_is_choice(name))
        return POOL_OK;
    folder->n_ggufs++;
    return add_model(search, format_ref(search, folder, name), err);
}

static enum pool_code walk(struct search *search, const char *path, const char *relative, unsigned depth,
                           struct pool_error *err);

static enum pool_code walk_into(struct search *search, const struct folder *folder, const char *path,
                                const char *name, unsigned depth, struct pool_error *err)
{
    CLEANUP_FREE char *relative = NULL;
    if (asprintf(&relative, "%s%s%s", folder->relative, folder->relative[0] ? "/" : "", name) < 0) {
        relative = NULL;
        return pool_error_no_memory(err);
    }
    return depth < DEPTH_MAX ? walk(search, path, relative, depth + 1, err) : POOL_OK;
}

/* ORG/REPO/COMMIT below a models directory is a snapshot, and what is in it has references of the Hub. */
static enum pool_code walk_snapshot(struct search *search, const char *path, const char *org_repo,
                                    const char *commit, struct pool_error *err)
{
    CLEANUP_FREE char *prefix = NULL;
    if (asprintf(&prefix, "hf:%s@%s", org_repo, commit) < 0) {
        prefix = NULL;
        return pool_error_no_memory(err);
    }
    search->snapshot_prefix = prefix;
    enum pool_code code = walk(search, path, "", 0, err);
    search->snapshot_prefix = NULL;
    return code;
}

static enum pool_code take_entry(struct search *search, struct folder *folder, const char *name,
                                 unsigned depth, struct pool_error *err)
{
    CLEANUP_FREE char *path = NULL;
    struct stat st;
    if (asprintf(&path, "%s/%s", folder->path, name) < 0) {
        path = NULL;
        return pool_error_no_memory(err);
    }
    if (stat(path, &st) < 0)
        return POOL_OK;
    if (S_ISREG(st.st_mode))
        return take_file(search, folder, name, err);
    if (!S_ISDIR(st.st_mode))
        return POOL_OK;
    const char *slash = strchr(folder->relative, '/');
    bool is_repository = !search->snapshot_prefix && depth == 2 && slash && !strchr(slash + 1, '/');
    if (is_repository && is_commit(name))
        return walk_snapshot(search, path, folder->relative, name, err);
    return walk_into(search, folder, path, name, depth, err);
}

static enum pool_code walk(struct search *search, const char *path, const char *relative, unsigned depth,
                           struct pool_error *err)
{
    CLEANUP(close_directory) DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOMEM ? pool_error_no_memory(err) : POOL_OK;
    struct folder folder = { .path = path, .relative = relative };
    enum pool_code code = POOL_OK;
    for (const struct dirent *entry = readdir(dir); entry && code == POOL_OK; entry = readdir(dir)) {
        if (entry->d_name[0] != '.' && ++search->n_seen <= ENTRIES_MAX)
            code = take_entry(search, &folder, entry->d_name, depth, err);
    }
    bool is_directory_model = folder.has_weights && folder.has_config && folder.n_ggufs == 0 &&
                              (!search->snapshot_prefix || !relative[0]);
    if (code == POOL_OK && is_directory_model)
        code = add_model(search, format_ref(search, &folder, NULL), err);
    return code;
}

/* ---- the Hub's cache ---- */

/* "models--ORG--REPO" as "ORG/REPO". NULL: it is something else, or no memory. */
static char *repository_of(const char *name)
{
    if (strncmp(name, "models--", 8) != 0)
        return NULL;
    const char *org = name + 8;
    const char *dashes = strstr(org, "--");
    char *text = NULL;
    if (!dashes || dashes == org || !dashes[2])
        return NULL;
    return asprintf(&text, "%.*s/%s", (int)(dashes - org), org, dashes + 2) < 0 ? NULL : text;
}

static enum pool_code walk_cached_repository(struct search *search, const char *cache_dir, const char *name,
                                             struct pool_error *err)
{
    CLEANUP_FREE char *repository = repository_of(name);
    CLEANUP_FREE char *snapshots = NULL;
    if (!repository)
        return POOL_OK;
    if (asprintf(&snapshots, "%s/%s/snapshots", cache_dir, name) < 0) {
        snapshots = NULL;
        return pool_error_no_memory(err);
    }
    CLEANUP(close_directory) DIR *dir = opendir(snapshots);
    enum pool_code code = POOL_OK;
    for (const struct dirent *entry = dir ? readdir(dir) : NULL; entry && code == POOL_OK;
         entry = readdir(dir)) {
        CLEANUP_FREE char *path = NULL;
        if (!is_commit(entry->d_name))
            continue;
        if (asprintf(&path, "%s/%s", snapshots, entry->d_name) < 0) {
            path = NULL;
            return pool_error_no_memory(err);
        }
        code = walk_snapshot(search, path, repository, entry->d_name, err);
    }
    return code;
}

static enum pool_code walk_cache(struct search *search, const char *cache_dir, struct pool_error *err)
{
    CLEANUP(close_directory) DIR *dir = opendir(cache_dir);
    enum pool_code code = POOL_OK;
    search->is_in_cache = true;
    for (const struct dirent *entry = dir ? readdir(dir) : NULL; entry && code == POOL_OK;
         entry = readdir(dir))
        code = walk_cached_repository(search, cache_dir, entry->d_name, err);
    return code;
}

static int compare_models(const void *a, const void *b)
{
    return strcmp(((const struct disk_model *)a)->ref, ((const struct disk_model *)b)->ref);
}

/* The same in two directories, or there and in the cache, is one model: the first place counts. */
static void remove_doubles(struct disk_models *models)
{
    size_t n = 0;
    for (size_t i = 0; i < models->n; i++) {
        if (n > 0 && strcmp(models->at[n - 1].ref, models->at[i].ref) == 0) {
            models->at[n - 1].is_in_cache = models->at[n - 1].is_in_cache && models->at[i].is_in_cache;
            free(models->at[i].ref);
            continue;
        }
        models->at[n++] = models->at[i];
    }
    models->n = n;
}

enum pool_code disk_models_find(struct cli *cli, struct disk_models *ret_models, struct pool_error *err)
{
    CLEANUP(disk_models_done) struct disk_models models = { 0 };
    struct search search = { .models = &models };
    const struct pool_config *config;
    enum pool_code code = cli_get_config(cli, &config, err);
    for (size_t i = 0; code == POOL_OK && i < config->n_models_dirs; i++)
        code = walk(&search, config->models_dirs[i], "", 0, err);
    CLEANUP_FREE char *cache_dir = pool_hub_cache_dir(cli->environment);
    if (code == POOL_OK)
        code = cache_dir ? walk_cache(&search, cache_dir, err) : pool_error_no_memory(err);
    if (code != POOL_OK)
        return code;
    if (models.n > 0)
        qsort(models.at, models.n, sizeof *models.at, compare_models);
    remove_doubles(&models);
    *ret_models = models;
    models = (struct disk_models){ 0 };
    return POOL_OK;
}

struct disk_model *disk_models_get(const struct disk_models *models, const char *ref)
{
    size_t low = 0;
    for (size_t high = models->n; low < high;) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(models->at[middle].ref, ref);
        if (order == 0)
            return &models->at[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
