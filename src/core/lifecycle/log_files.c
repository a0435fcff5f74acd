/*
 * Removing logs of ended workers; see log_files.h.
 */
#include "core/lifecycle/log_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "core/lifecycle/manager.h"

#define FOLDER        "logs"
#define LOG_ENDING    ".log"
#define RECORD_ENDING ".log.start" /* of the copy of a record beside a log; see start_record.h */
#define NAME_MAX_SIZE (POOL_WORKER_ID_MAX + sizeof RECORD_ENDING)

static DIR *open_folder(const struct pool_manager *manager)
{
    int fd = openat(manager->state.fd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd); /* which takes it over */
    if (!folder)
        close_fd(&fd);
    return folder;
}

static bool is_file_of_ours(int folder_fd, const char *name, struct stat *st)
{
    return fstatat(folder_fd, name, st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st->st_mode) &&
           st->st_uid == geteuid();
}

/* Whether nobody lives who writes the log of that id; so for one that is not there. */
static bool is_log_free(int folder_fd, const char *worker_id)
{
    char name[NAME_MAX_SIZE];
    struct stat st;
    snprintf(name, sizeof name, "%s" LOG_ENDING, worker_id);
    if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT;
    CLEANUP_CLOSE int fd =
        S_ISREG(st.st_mode)
            ? openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK)
            : -1;
    return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) == 0;
}

static void remove_file(int folder_fd, const char *worker_id, const char *ending)
{
    char name[NAME_MAX_SIZE];
    struct stat st;
    snprintf(name, sizeof name, "%s%s", worker_id, ending);
    if (is_file_of_ours(folder_fd, name, &st) && is_log_free(folder_fd, worker_id))
        (void)unlinkat(folder_fd, name, 0);
}

static void remove_files(int folder_fd, const char *worker_id)
{
    remove_file(folder_fd, worker_id, RECORD_ENDING); /* first: it is told by the log whether anybody lives */
    remove_file(folder_fd, worker_id, LOG_ENDING);
}

/* Whether there are more files than the history has records: only then is it worth reading all of them. */
static bool is_crowded(const struct pool_manager *manager)
{
    CLEANUP(close_directory) DIR *folder = open_folder(manager);
    size_t n = 0;
    while (folder && n <= POOL_HISTORY_MAX && readdir(folder))
        n++;
    return n > POOL_HISTORY_MAX;
}

void log_files_follow(struct pool_manager *manager, const char *leaving)
{
    CLEANUP(free_worker) struct pool_worker_info *worker = NULL;
    if (leaving &&
        pool_worker_registry_get(manager->registry, leaving, &worker, NULL) == POOL_WORKER_NOT_FOUND) {
        CLEANUP(close_directory) DIR *folder = open_folder(manager);
        if (folder)
            remove_files(dirfd(folder), leaving);
    }
    if (manager->n_ends_to_sweep > 0) {
        manager->n_ends_to_sweep--;
        return;
    }
    manager->n_ends_to_sweep = POOL_HISTORY_MAX;
    if (is_crowded(manager))
        log_files_sweep(manager);
}

/* ---- the sweep ---- */

struct named {
    char **ids; /* sorted; borrowed */
    size_t n;
};

static int compare_ids(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool name_workers(const struct pool_worker_list *list, struct named *named)
{
    named->ids = calloc(list->n_workers + 1, sizeof *named->ids);
    for (size_t i = 0; named->ids && i < list->n_workers; i++)
        named->ids[named->n++] = list->workers[i]->worker_id;
    if (named->ids)
        qsort(named->ids, named->n, sizeof *named->ids, compare_ids);
    return named->ids != NULL;
}

static void named_done(struct named *named)
{
    free(named->ids);
}

static bool is_named(const struct named *named, char *worker_id)
{
    return bsearch(&worker_id, named->ids, named->n, sizeof *named->ids, compare_ids) != NULL;
}

/* Splits a name; false: a start gives no such name. */
static bool take_id(const char *name, const char *ending, char *ret_id)
{
    size_t n = strlen(name), n_ending = strlen(ending);
    if (n <= n_ending || n - n_ending > POOL_WORKER_ID_MAX || strcmp(name + n - n_ending, ending) != 0)
        return false;
    memcpy(ret_id, name, n - n_ending);
    ret_id[n - n_ending] = '\0';
    return pool_worker_id_is_valid(ret_id);
}

/* A log whose record was lost with the registry before. */
struct lost {
    char worker_id[POOL_WORKER_ID_MAX + 1];
    struct timespec written;
};

struct sweep {
    int folder_fd;
    int64_t began_ms; /* of the registry */
    struct named live, ended;
    struct lost *lost; /* the newest, the oldest of them first, at most n_lost_max */
    size_t n_lost, n_lost_max;
};

static bool is_older(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

/* Keeps it if it is among the newest; who has to give way for that, or it itself, is removed. */
static void keep_newest(struct sweep *sweep, const struct lost *found)
{
    size_t at = sweep->n_lost;
    while (at > 0 && is_older(&found->written, &sweep->lost[at - 1].written))
        at--;
    if (sweep->n_lost < sweep->n_lost_max) {
        memmove(&sweep->lost[at + 1], &sweep->lost[at], (sweep->n_lost - at) * sizeof *sweep->lost);
        sweep->lost[at] = *found;
        sweep->n_lost++;
        return;
    }
    if (at == 0) {
        remove_files(sweep->folder_fd, found->worker_id);
        return;
    }
    remove_files(sweep->folder_fd, sweep->lost[0].worker_id);
    memmove(&sweep->lost[0], &sweep->lost[1], (at - 1) * sizeof *sweep->lost);
    sweep->lost[at - 1] = *found;
}

static void sweep_one(struct sweep *sweep, const char *name)
{
    struct lost found = { 0 };
    struct stat st;
    if (take_id(name, RECORD_ENDING, found.worker_id)) {
        if (!is_named(&sweep->live, found.worker_id))
            remove_file(sweep->folder_fd, found.worker_id, RECORD_ENDING);
        return;
    }
    if (!take_id(name, LOG_ENDING, found.worker_id) || is_named(&sweep->live, found.worker_id) ||
        is_named(&sweep->ended, found.worker_id) || !is_file_of_ours(sweep->folder_fd, name, &st))
        return;
    found.written = st.st_mtim;
    if (st.st_mtim.tv_sec < sweep->began_ms / 1000)
        keep_newest(sweep, &found);
    else
        remove_files(sweep->folder_fd, found.worker_id);
}

static void sweep_done(struct sweep *sweep)
{
    named_done(&sweep->live);
    named_done(&sweep->ended);
    free(sweep->lost);
}

void log_files_sweep(struct pool_manager *manager)
{
    CLEANUP(free_worker_list) struct pool_worker_list *live = NULL;
    CLEANUP(free_worker_list) struct pool_worker_list *ended = NULL;
    CLEANUP(close_directory) DIR *folder = open_folder(manager);
    CLEANUP(sweep_done) struct sweep sweep = { .began_ms = manager_registry_began(manager) };
    if (!folder || pool_worker_registry_list(manager->registry, POOL_REGISTRY_LIVE, &live, NULL) != POOL_OK ||
        pool_worker_registry_list(manager->registry, POOL_REGISTRY_HISTORY, &ended, NULL) != POOL_OK ||
        !name_workers(live, &sweep.live) || !name_workers(ended, &sweep.ended))
        return;
    sweep.folder_fd = dirfd(folder);
    sweep.n_lost_max = ended->n_workers < POOL_HISTORY_MAX ? POOL_HISTORY_MAX - ended->n_workers : 0;
    sweep.lost = calloc(sweep.n_lost_max + 1, sizeof *sweep.lost);
    struct dirent *entry;
    for (size_t n = 0; sweep.lost && n < LOG_SWEEP_ENTRIES_MAX && (entry = readdir(folder)); n++)
        sweep_one(&sweep, entry->d_name);
}
