/*
 * The files of crash bundles: crashes/ID-WALL-BOOT.json in the state directory, where WALL and BOOT are when the worker was
 * admitted, in milliseconds of wall time and nanoseconds of CLOCK_BOOTTIME: what tells a start from others of its id.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/number.h"
#include "core/lifecycle/crash.h"

#define FOLDER "crashes"
#define ENDING ".json"
/* Looked at when room is made; a folder in which somebody has put more is made smaller over several crashes. */
#define ENTRIES_MAX 4096
/* file_replace's, left by a writer that was killed; nobody writes for so long. */
#define STALE_AFTER_S 600

/* ---- names ---- */

void crash_name_format(const struct crash_name *name, char text[CRASH_NAME_MAX])
{
    snprintf(text, CRASH_NAME_MAX, "%s-%" PRId64 "-%" PRId64 ENDING, name->worker_id, name->created_wall_ms,
             name->created_boottime_ns);
}

/* The digits in front of `end`, and the '-' before them. NULL: there are none. */
static const char *take_number_back(const char *begin, const char *end, int64_t *ret_number)
{
    const char *p = end;
    while (p > begin && p[-1] >= '0' && p[-1] <= '9')
        p--;
    if (p == end || p == begin || p[-1] != '-' ||
        !parse_int64_n(p, (size_t)(end - p), 0, INT64_MAX, ret_number))
        return NULL;
    return p - 1;
}

bool crash_name_parse(const char *text, struct crash_name *ret_name)
{
    struct crash_name name = { 0 };
    size_t n = strlen(text), n_ending = sizeof ENDING - 1;
    if (n <= n_ending || strcmp(text + n - n_ending, ENDING) != 0)
        return false;
    const char *end = take_number_back(text, text + n - n_ending, &name.created_boottime_ns);
    end = end ? take_number_back(text, end, &name.created_wall_ms) : NULL;
    if (!end || (size_t)(end - text) > POOL_WORKER_ID_MAX)
        return false;
    memcpy(name.worker_id, text, (size_t)(end - text));
    char again[CRASH_NAME_MAX];
    crash_name_format(&name, again);
    if (!pool_worker_id_is_valid(name.worker_id) || strcmp(again, text) != 0)
        return false;
    *ret_name = name;
    return true;
}

/* ---- room ---- */

struct entry {
    char name[CRASH_NAME_MAX];
    int64_t size_bytes;
    struct timespec written;
};

static int compare_age(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;
    if (left->written.tv_sec != right->written.tv_sec)
        return left->written.tv_sec < right->written.tv_sec ? -1 : 1;
    if (left->written.tv_nsec != right->written.tv_nsec)
        return left->written.tv_nsec < right->written.tv_nsec ? -1 : 1;
    return strcmp(left->name, right->name);
}

static DIR *open_folder(const struct state_dir *state)
{
    int fd = openat(state->fd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd); /* which takes it over */
    if (!folder)
        close_fd(&fd);
    return folder;
}

static bool is_stale_temporary(const char *name, const struct stat *st, int64_t now_s)
{
    const char *ending = strstr(name, ENDING ".");
    return ending && strlen(ending) == sizeof ENDING + 6 && now_s - st->st_mtim.tv_sec > STALE_AFTER_S;
}

/* Our bundles in a folder; what else lies there is somebody's. */
static size_t list_entries(DIR *folder, struct entry *entries)
{
    struct dirent *found;
    size_t n = 0;
    int64_t now_s = clock_wall_ms() / 1000;
    while (n < ENTRIES_MAX && (found = readdir(folder))) {
        struct stat st;
        struct crash_name name;
        if (fstatat(dirfd(folder), found->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
            continue;
        if (is_stale_temporary(found->d_name, &st, now_s))
            (void)unlinkat(dirfd(folder), found->d_name, 0);
        if (!crash_name_parse(found->d_name, &name))
            continue;
        memcpy(entries[n].name, found->d_name, strlen(found->d_name) + 1);
        entries[n].size_bytes = st.st_size;
        entries[n].written = st.st_mtim;
        n++;
    }
    return n;
}

/* Removes the oldest until those that stay are within the limits; `kept`, which was written just now, always stays. */
static void make_room(const struct state_dir *state, const char *kept)
{
    CLEANUP(close_directory) DIR *folder = open_folder(state);
    CLEANUP_FREE struct entry *entries = calloc(ENTRIES_MAX, sizeof *entries);
    if (!folder || !entries)
        return;
    size_t n = list_entries(folder, entries);
    int64_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes = add_bytes(bytes, entries[i].size_bytes);
    qsort(entries, n, sizeof *entries, compare_age);
    size_t n_left = n;
    for (size_t i = 0; i < n && (n_left > POOL_CRASHES_MAX || bytes > POOL_CRASHES_MAX_BYTES); i++) {
        if (strcmp(entries[i].name, kept) == 0 || unlinkat(dirfd(folder), entries[i].name, 0) < 0)
            continue;
        n_left--;
        bytes -= entries[i].size_bytes;
    }
}

/* ---- write, read, find ---- */

enum pool_code crash_store_write(const struct state_dir *state, const struct crash_name *name,
                                 const char *json, struct pool_error *err)
{
    char text[CRASH_NAME_MAX];
    CLEANUP_FREE char *path = NULL;
    int failure = 0;
    crash_name_format(name, text);
    if (asprintf(&path, "%s/" FOLDER "/%s", state->path, text) < 0) {
        path = NULL;
        return pool_error_no_memory(err);
    }
    if (mkdirat(state->fd, FOLDER, 0700) < 0 && errno != EEXIST)
        failure = errno;
    if (!failure)
        failure = file_replace(path, json, strlen(json), 0600);
    if (failure)
        return pool_error_set_errno(
            err, failure == ENOSPC || failure == EDQUOT ? POOL_INSUFFICIENT_DISK : POOL_REGISTRY_UNAVAILABLE,
            failure, "%s", path);
    make_room(state, text);
    return POOL_OK;
}

void crash_store_remove(const struct state_dir *state, const struct crash_name *name)
{
    char text[CRASH_NAME_MAX];
    CLEANUP(close_directory) DIR *folder = open_folder(state);
    crash_name_format(name, text);
    if (folder)
        (void)unlinkat(dirfd(folder), text, 0);
}

static enum pool_code read_text(const struct state_dir *state, const char *name, struct strbuf *text,
                                struct pool_error *err)
{
    CLEANUP_FREE char *relative = NULL;
    if (asprintf(&relative, FOLDER "/%s", name) < 0) {
        relative = NULL;
        return pool_error_no_memory(err);
    }
    CLEANUP_CLOSE int fd =
        openat(state->fd, relative, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return pool_error_set(err, POOL_NOT_FOUND, "there is no crash bundle %s", name);
    int failure = fd < 0 ? errno : fd_read_all(fd, text);
    if (failure == ENOMEM)
        return pool_error_no_memory(err);
    return failure ? pool_error_set_errno(err, POOL_INVALID_REQUEST, failure, "crash bundle %s", name)
                   : POOL_OK;
}

enum pool_code crash_store_read(const struct state_dir *state, const struct crash_name *name, char **ret_path,
                                struct pool_crash **ret_crash, struct pool_error *err)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(POOL_CRASH_MAX_BYTES);
    CLEANUP(free_crash) struct pool_crash *crash = NULL;
    char file[CRASH_NAME_MAX];
    crash_name_format(name, file);
    if (asprintf(ret_path, "%s/" FOLDER "/%s", state->path, file) < 0) {
        *ret_path = NULL;
        return pool_error_no_memory(err);
    }
    enum pool_code code = read_text(state, file, &text, err);
    if (code == POOL_OK)
        code = pool_crash_decode(strbuf_text(&text), text.n, &crash, err);
    if (code == POOL_PAYLOAD_TOO_LARGE)
        code = POOL_INVALID_REQUEST;
    if (code == POOL_OK && strcmp(crash->worker_id, name->worker_id) != 0)
        code = pool_error_set(err, POOL_INVALID_REQUEST, "it is the bundle of another worker");
    if (code == POOL_INVALID_REQUEST)
        pool_error_prefix(err, "the crash bundle %s can not be read", file);
    if (code == POOL_OK)
        *ret_crash = take_ptr(&crash);
    return code;
}

bool crash_store_find(const struct state_dir *state, const char *worker_id, struct crash_name *ret_name)
{
    CLEANUP(close_directory) DIR *folder = open_folder(state);
    struct dirent *found;
    bool is_found = false;
    while (folder && (found = readdir(folder))) {
        struct crash_name name;
        if (!crash_name_parse(found->d_name, &name) || strcmp(name.worker_id, worker_id) != 0)
            continue;
        bool is_newer = !is_found || name.created_wall_ms > ret_name->created_wall_ms ||
                        (name.created_wall_ms == ret_name->created_wall_ms &&
                         name.created_boottime_ns > ret_name->created_boottime_ns);
        if (is_newer)
            *ret_name = name;
        is_found = true;
    }
    return is_found;
}
