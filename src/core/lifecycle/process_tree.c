/*
 * What /proc shows of process trees: sessions, parents, open files and sockets, environments. A process that is
 * closed to us (another user's) simply does not match; callers say what that means for them.
 */
#include "core/lifecycle/process.h"

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
#include "base/file.h"
#include "base/number.h"

/* A chain of parents is no longer than this; a longer one means that /proc changed under us. */
#define ANCESTORS_MAX 64
/* The kernel's bound on a whole environment is a quarter of the stack limit; ours is what we spawn with. */
#define ENVIRONMENT_MAX_BYTES (4 << 20)

void process_set_done(struct process_set *set)
{
    free(set->pids);
    *set = (struct process_set){ 0 };
}

bool process_set_has(const struct process_set *set, pid_t pid)
{
    for (size_t i = 0; i < set->n; i++) {
        if (set->pids[i] == pid)
            return true;
    }
    return false;
}

bool process_set_add(struct process_set *set, pid_t pid)
{
    if (process_set_has(set, pid))
        return true;
    if (set->n == set->capacity) {
        size_t capacity = set->capacity ? set->capacity * 2 : 16;
        pid_t *pids = reallocarray(set->pids, capacity, sizeof *pids);
        if (!pids)
            return false;
        set->pids = pids;
        set->capacity = capacity;
    }
    set->pids[set->n++] = pid;
    return true;
}

bool process_is_in_tree(pid_t pid, pid_t root)
{
    int64_t at = pid;
    for (int i = 0; i < ANCESTORS_MAX && at > 1; i++) {
        struct process_stat stat;
        if (at == root)
            return true;
        if (process_stat_read(at, &stat) != 0)
            return false;
        if (stat.session == root)
            return true;
        at = stat.ppid;
    }
    return false;
}

/* Walks /proc/PID/fd until `is_match` says yes. *ret_is_known: the folder could be read. */
static bool any_descriptor(pid_t pid, bool (*is_match)(int dir_fd, const char *name, const void *what),
                           const void *what, bool *ret_is_known)
{
    char path[48];
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    CLEANUP(close_directory) DIR *directory = opendir(path);
    *ret_is_known = directory != NULL;
    if (!directory)
        return false;
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        if (entry->d_name[0] != '.' && is_match(dirfd(directory), entry->d_name, what))
            return true;
    }
    return false;
}

struct file_id {
    dev_t device;
    ino_t inode;
};

/* proc(5), /proc/PID/fdinfo: a "lock:" line is there for the locks that were taken through this open file. */
static bool is_locked_file(int dir_fd, const char *name, const void *what)
{
    const struct file_id *wanted = what;
    struct stat st;
    if (fstatat(dir_fd, name, &st, 0) < 0 || !S_ISREG(st.st_mode) || st.st_dev != wanted->device ||
        st.st_ino != wanted->inode)
        return false;
    char path[64];
    snprintf(path, sizeof path, "../fdinfo/%.20s", name);
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(65536);
    if (file_read_at(dir_fd, path, &text) != 0)
        return false;
    const char *line = strstr(strbuf_text(&text), "lock:");
    return line && strstr(line, "FLOCK") && strstr(line, "WRITE");
}

static bool is_socket(int dir_fd, const char *name, const void *what)
{
    char link[64];
    ssize_t n = readlinkat(dir_fd, name, link, sizeof link - 1);
    if (n <= 0)
        return false;
    link[n] = '\0';
    return strcmp(link, what) == 0;
}

bool process_has_lock(pid_t pid, dev_t device, ino_t inode, bool *ret_is_known)
{
    struct file_id wanted = { device, inode };
    return any_descriptor(pid, is_locked_file, &wanted, ret_is_known);
}

bool process_has_socket(pid_t pid, uint64_t socket_inode)
{
    char link[64];
    bool is_known;
    snprintf(link, sizeof link, "socket:[%llu]", (unsigned long long)socket_inode);
    return any_descriptor(pid, is_socket, link, &is_known);
}

static bool is_value(pid_t pid, const char *name, const char *wanted)
{
    CLEANUP_FREE char *value = process_environment_value(pid, name);
    return value && strcmp(value, wanted) == 0;
}

/* One that says itself that it is of another start of the id. */
static bool is_of_another_start(pid_t pid, const struct process_tree_query *query)
{
    CLEANUP_FREE char *value = process_environment_value(pid, "POOL_WORKER_START");
    int64_t start_id;
    return value && parse_int64(value, 0, INT64_MAX, &start_id) && start_id != query->start_id;
}

bool process_has_ids(pid_t pid, const struct process_tree_query *query)
{
    char start_id[24];
    snprintf(start_id, sizeof start_id, "%" PRId64, query->start_id);
    return is_value(pid, "POOL_WORKER_ID", query->worker_id) &&
           is_value(pid, "POOL_STATE_ID", query->state_id) && is_value(pid, "POOL_WORKER_START", start_id);
}

static bool matches(pid_t pid, const struct process_tree_query *query)
{
    struct process_stat stat;
    if (process_stat_read(pid, &stat) != 0 || stat.state == 'Z' || stat.state == 'X')
        return false;
    if (stat.start_time_ticks < query->not_before_ticks)
        return false;
    if (query->root > 0 && process_is_in_tree(pid, query->root))
        return true;
    bool is_known;
    if (query->log_inode != 0 && process_has_lock(pid, query->log_device, query->log_inode, &is_known))
        return !query->worker_id || !is_of_another_start(pid, query);
    return query->worker_id && process_has_ids(pid, query);
}

int process_tree_find(const struct process_tree_query *query, struct process_set *set)
{
    CLEANUP(close_directory) DIR *directory = opendir("/proc");
    if (!directory)
        return errno;
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        int64_t pid;
        if (!parse_int64(entry->d_name, 1, INT32_MAX, &pid) || pid == getpid())
            continue;
        if (matches((pid_t)pid, query) && !process_set_add(set, (pid_t)pid))
            return ENOMEM;
    }
    return 0;
}

char *process_environment_value(pid_t pid, const char *name)
{
    char path[48];
    snprintf(path, sizeof path, "/proc/%d/environ", pid);
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(ENVIRONMENT_MAX_BYTES);
    if (file_read(path, &text) != 0)
        return NULL;
    size_t n_name = strlen(name);
    const char *end = strbuf_text(&text) + text.n;
    for (const char *p = strbuf_text(&text); p < end; p += strnlen(p, (size_t)(end - p)) + 1) {
        if (strncmp(p, name, n_name) == 0 && p[n_name] == '=')
            return strdup(p + n_name + 1);
    }
    return NULL;
}
