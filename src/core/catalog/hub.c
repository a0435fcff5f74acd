/*
 * Repositories of the Hub on disk; see hub.h. It reads names and refs only, and never writes: the cache belongs to
 * the Hub's own tools.
 */
#include "core/catalog/hub.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"

#define FOLDERS_DEPTH_MAX 4     /* quantisations lie in folders, no deeper than one in practice */
#define FOLDER_FILES_MAX  10000 /* looked at, in all folders together */
#define SHOWN_MAX         5

/* ---- names ---- */

void hub_names_done(struct hub_names *names)
{
    for (size_t i = 0; i < names->n_names; i++)
        free(names->names[i]);
    *names = (struct hub_names){ 0 };
}

static bool add_name(struct hub_names *names, const char *name)
{
    names->n++;
    if (names->n_names == HUB_CHOICES_MAX)
        return true;
    char *copy = strdup(name);
    if (!copy)
        return false;
    names->names[names->n_names++] = copy;
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void hub_names_show(struct hub_names *names, char *text, size_t text_bytes)
{
    qsort(names->names, names->n_names, sizeof *names->names, compare_names);
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; i < names->n_names && i < SHOWN_MAX; i++) {
        int n = snprintf(text + at, text_bytes - at, "%s%s", i > 0 ? ", " : "", names->names[i]);
        if (n < 0 || (size_t)n >= text_bytes - at)
            return;
        at += (size_t)n;
    }
    if (names->n > SHOWN_MAX)
        snprintf(text + at, text_bytes - at, " and %zu more", names->n - SHOWN_MAX);
}

/* ---- snapshots ---- */

void hub_snapshot_done(struct hub_snapshot *snapshot)
{
    free(snapshot->dir);
    snapshot->dir = NULL;
}

/* Commits are folders by that name in lower case. */
static bool copy_commit(const char *text, char commit[MODEL_COMMIT_HEX + 1])
{
    if (!model_revision_is_commit(text))
        return false;
    for (size_t i = 0; i <= MODEL_COMMIT_HEX; i++)
        commit[i] = (char)tolower((unsigned char)text[i]);
    return true;
}

/* Reads refs/REVISION: a commit, perhaps with a newline. ENOENT when there is none or it is damaged. */
static int read_ref(const char *repo_dir, const char *revision, char commit[MODEL_COMMIT_HEX + 1])
{
    CLEANUP_FREE char *path = NULL;
    if (asprintf(&path, "%s/refs/%s", repo_dir, revision) < 0) {
        path = NULL;
        return ENOMEM;
    }
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return ENOENT;
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(MODEL_COMMIT_HEX + 2);
    int failure = fd_read_all(fd, &text);
    if (failure)
        return failure == ENOMEM ? ENOMEM : ENOENT;
    char copy[MODEL_COMMIT_HEX + 3];
    snprintf(copy, sizeof copy, "%s", strbuf_text(&text));
    copy[strcspn(copy, "\r\n")] = '\0';
    return copy_commit(copy, commit) ? 0 : ENOENT;
}

/* The only commit of a repository, when no revision was asked for and nothing says which one "main" is. */
static int find_only_commit(const char *snapshots_dir, char commit[MODEL_COMMIT_HEX + 1],
                            struct hub_names *commits)
{
    CLEANUP(close_directory) DIR *dir = opendir(snapshots_dir);
    if (!dir)
        return errno == ENOMEM ? ENOMEM : ENOENT;
    size_t n = 0;
    size_t n_before = commits->n;
    for (const struct dirent *entry = readdir(dir); entry && n < FOLDER_FILES_MAX; entry = readdir(dir)) {
        char name[MODEL_COMMIT_HEX + 1];
        if (!copy_commit(entry->d_name, name) || strcmp(name, entry->d_name) != 0)
            continue;
        memcpy(commit, name, sizeof name);
        n++;
        if (!add_name(commits, name))
            return ENOMEM;
    }
    if (n != 1)
        return ENOENT;
    /* It is no choice after all. */
    commits->n = n_before;
    if (commits->n_names > n_before)
        free(commits->names[--commits->n_names]);
    return 0;
}

static enum pool_code not_there(int failure, struct pool_error *err)
{
    return failure == ENOMEM ? pool_error_no_memory(err)
                             : pool_error_set(err, POOL_MODEL_NOT_FOUND, "the revision is not on disk");
}

enum pool_code hub_find_snapshot(const struct hub_place *place, const struct pool_model_ref *ref,
                                 struct hub_snapshot *ret_snapshot, struct hub_names *commits,
                                 struct pool_error *err)
{
    CLEANUP_FREE char *repo_dir = NULL;
    CLEANUP_FREE char *snapshots_dir = NULL;
    if (asprintf(&repo_dir, place->is_cache ? "%s/models--%s--%s" : "%s/%s/%s", place->dir, ref->org,
                 ref->repo) < 0) {
        repo_dir = NULL;
        return pool_error_no_memory(err);
    }
    if (asprintf(&snapshots_dir, "%s%s", repo_dir, place->is_cache ? "/snapshots" : "") < 0) {
        snapshots_dir = NULL;
        return pool_error_no_memory(err);
    }

    CLEANUP(hub_snapshot_done) struct hub_snapshot snapshot = { 0 };
    const char *revision = ref->revision ? ref->revision : "main";
    if (!copy_commit(revision, snapshot.commit)) {
        int failure = read_ref(repo_dir, revision, snapshot.commit);
        if (failure == ENOENT && strcmp(revision, "main") == 0)
            failure = find_only_commit(snapshots_dir, snapshot.commit, commits);
        if (failure)
            return not_there(failure, err);
    }
    if (asprintf(&snapshot.dir, "%s/%s", snapshots_dir, snapshot.commit) < 0) {
        snapshot.dir = NULL;
        return pool_error_no_memory(err);
    }
    struct stat st;
    if (stat(snapshot.dir, &st) < 0 || !S_ISDIR(st.st_mode))
        return not_there(ENOENT, err);
    *ret_snapshot = snapshot;
    snapshot.dir = NULL;
    return POOL_OK;
}

/* ---- files ---- */

struct hub_split hub_parse_split(const char *file)
{
    static const char PATTERN[] = "-#####-of-#####.gguf";
    const size_t n_pattern = sizeof PATTERN - 1;
    struct hub_split split = { 0 };
    size_t n = strlen(file);
    if (n < n_pattern)
        return split;
    const char *tail = file + n - n_pattern;
    unsigned numbers[2] = { 0, 0 };
    for (size_t i = 0; i < n_pattern; i++) {
        if (PATTERN[i] != '#' && PATTERN[i] != tail[i])
            return split;
        if (PATTERN[i] == '#' && (tail[i] < '0' || tail[i] > '9'))
            return split;
        if (PATTERN[i] == '#')
            numbers[i > 6] = 10 * numbers[i > 6] + (unsigned)(tail[i] - '0');
    }
    if (numbers[0] < 1 || numbers[0] > numbers[1])
        return split;
    return (struct hub_split){ .number = numbers[0], .total = numbers[1], .n_stem = n - n_pattern };
}

bool pool_model_file_split(const char *file, struct pool_model_split *ret_split)
{
    struct hub_split split = hub_parse_split(file);
    *ret_split =
        (struct pool_model_split){ .number = split.number, .total = split.total, .n_stem = split.n_stem };
    return split.number > 0;
}

bool pool_model_file_is_choice(const char *file)
{
    const char *slash = strrchr(file, '/');
    const char *name = slash ? slash + 1 : file;
    size_t n = strlen(name);
    if (n <= 5 || strcasecmp(name + n - 5, ".gguf") != 0)
        return false;
    if (strcasestr(name, "mmproj") || strcasestr(name, "imatrix"))
        return false;
    return hub_parse_split(name).number <= 1;
}

struct listing {
    struct hub_names *names;
    size_t n_seen;
};

/* Lists one folder and those below it. Folders are not followed through links: a snapshot has none. */
static int list_folder(int parent_fd, const char *name, const char *prefix, unsigned depth,
                       struct listing *listing)
{
    CLEANUP_CLOSE int fd =
        openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (depth > 0 ? O_NOFOLLOW : 0));
    if (fd < 0)
        return 0;
    CLEANUP(close_directory) DIR *dir = fdopendir(fd);
    if (!dir)
        return errno == ENOMEM ? ENOMEM : 0;
    take_fd(&fd);
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        if (entry->d_name[0] == '.' || ++listing->n_seen > FOLDER_FILES_MAX)
            continue;
        struct stat st;
        if (fstatat(dirfd(dir), entry->d_name, &st, 0) < 0)
            continue;
        CLEANUP_FREE char *path = NULL;
        if (asprintf(&path, "%s%s%s", prefix, prefix[0] ? "/" : "", entry->d_name) < 0) {
            path = NULL;
            return ENOMEM;
        }
        if (S_ISREG(st.st_mode) && pool_model_file_is_choice(entry->d_name) &&
            !model_relative_path_problem(path)) {
            if (!add_name(listing->names, path))
                return ENOMEM;
        } else if (S_ISDIR(st.st_mode) && depth < FOLDERS_DEPTH_MAX) {
            int failure = list_folder(dirfd(dir), entry->d_name, path, depth + 1, listing);
            if (failure)
                return failure;
        }
    }
    return 0;
}

enum pool_code hub_list_ggufs(const char *dir, struct hub_names *names, struct pool_error *err)
{
    struct listing listing = { .names = names };
    return list_folder(AT_FDCWD, dir, "", 0, &listing) ? pool_error_no_memory(err) : POOL_OK;
}
