/*
 * Control groups of workers; see cgroup.h. Owns the descriptor of the delegated group; everything below it is reached
 * from there. Every call is best effort: what fails here is done by other ways.
 */
#include "core/lifecycle/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/number.h"

#define LEAF          "pool-managerd"
#define WORKER_PREFIX "worker-"
/* "worker-", an id, ".", a start time in nanoseconds */
#define NAME_MAX_BYTES (sizeof WORKER_PREFIX + POOL_WORKER_ID_MAX + 24)
/* A process list of 4096 workers' processes is far below; what is longer is cut by the limit and found again later. */
#define TEXT_MAX_BYTES (1 << 20)

/* ---- where we are ---- */

bool cgroup_own_path_parse(const char *text, char *path, size_t n_path)
{
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        if (strncmp(line, "0::/", 4) != 0)
            continue;
        size_t n = strcspn(line + 3, "\n");
        if (n >= n_path)
            return false;
        memcpy(path, line + 3, n);
        path[n] = '\0';
        /* A group outside our view of them, or one that was removed under us. */
        return !strstr(path, "/..") && !strstr(path, " (deleted)");
    }
    return false;
}

/* The next word of a line, space separated, "\040" and the like undone. proc(5), mountinfo. */
static const char *take_word(const char *p, char *word, size_t n_word)
{
    size_t n = 0;
    for (; *p && *p != ' ' && *p != '\n'; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' && p[3] >= '0' &&
            p[3] <= '7') {
            c = (unsigned char)((p[1] - '0') * 64 + (p[2] - '0') * 8 + (p[3] - '0'));
            p += 3;
        }
        if (word && n + 1 < n_word)
            word[n] = (char)c;
        n++;
    }
    if (word) {
        if (n >= n_word)
            return NULL;
        word[n] = '\0';
    }
    return *p == ' ' ? p + 1 : p;
}

static bool parse_mount_line(const char *line, char *mount_point, size_t n_mount_point, char *root,
                             size_t n_root)
{
    const char *p = line;
    char type[16];
    for (int field = 0; field < 3; field++)
        p = take_word(p, NULL, 0);
    p = take_word(p, root, n_root);
    p = p ? take_word(p, mount_point, n_mount_point) : NULL;
    while (p && *p && *p != '\n') { /* options, then fields that may or may not be there, then "-" */
        char word[4];
        const char *next = take_word(p, word, sizeof word);
        bool is_separator = next && strcmp(word, "-") == 0;
        p = next ? next : take_word(p, NULL, 0);
        if (is_separator)
            return take_word(p, type, sizeof type) && strcmp(type, "cgroup2") == 0;
    }
    return false;
}

bool cgroup_mount_parse(const char *text, char *mount_point, size_t n_mount_point, char *root, size_t n_root)
{
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        if (parse_mount_line(line, mount_point, n_mount_point, root, n_root))
            return true;
    }
    return false;
}

/* The directory of our own group. */
static bool find_own(char *directory, size_t n, char *path, size_t n_path)
{
    CLEANUP(strbuf_done) struct strbuf own = STRBUF_INIT(TEXT_MAX_BYTES);
    CLEANUP(strbuf_done) struct strbuf mounts = STRBUF_INIT(TEXT_MAX_BYTES);
    char mount_point[PATH_MAX], root[PATH_MAX];
    if (file_read("/proc/self/cgroup", &own) != 0 || file_read("/proc/self/mountinfo", &mounts) != 0 ||
        !cgroup_own_path_parse(strbuf_text(&own), path, n_path) ||
        !cgroup_mount_parse(strbuf_text(&mounts), mount_point, sizeof mount_point, root, sizeof root))
        return false;
    size_t n_root = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(path, root, n_root) != 0 || (path[n_root] != '/' && path[n_root] != '\0'))
        return false;
    int length = snprintf(directory, n, "%s%s", mount_point, path + n_root);
    return length > 0 && (size_t)length < n;
}

/* systemd: user.delegate since 251, trusted.delegate (for root) before. */
static bool is_delegated(int fd)
{
    static const char *const names[] = { "user.delegate", "trusted.delegate" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char value[4];
        if (fgetxattr(fd, names[i], value, sizeof value) == 1 && value[0] == '1')
            return true;
    }
    return false;
}

static bool write_text(int directory_fd, const char *path, const char *text)
{
    CLEANUP_CLOSE int fd = openat(directory_fd, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    size_t n = strlen(text);
    return fd >= 0 && write(fd, text, n) == (ssize_t)n;
}

static bool make_leaf(int root_fd)
{
    if (mkdirat(root_fd, LEAF, 0755) < 0 && errno != EEXIST)
        return false;
    return write_text(root_fd, LEAF "/cgroup.procs", "0");
}

/*
 * Memory is counted for each worker only where nothing else will want to put a process right into the delegated group:
 * that can not be done any more when a controller is on in it. systemd before 254 starts a service there, and could not
 * restart it.
 */
static void count_memory(int root_fd)
{
    (void)write_text(root_fd, "cgroup.subtree_control", "+memory");
}

void cgroups_open(struct cgroups *cgroups)
{
    char directory[PATH_MAX], path[PATH_MAX];
    if (!find_own(directory, sizeof directory, path, sizeof path))
        return;
    CLEANUP_CLOSE int own_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP_CLOSE int parent_fd = own_fd < 0 ? -1 : openat(own_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (own_fd < 0)
        return;
    /* The root of the host itself, which has no cgroup.events, is nobody's to be divided. */
    bool is_container_root = getpid() == 1 && strcmp(path, "/") == 0 &&
                             faccessat(own_fd, "cgroup.events", R_OK, AT_EACCESS) == 0 &&
                             faccessat(own_fd, "cgroup.procs", W_OK, AT_EACCESS) == 0;
    if (is_delegated(own_fd) || is_container_root) {
        if (!make_leaf(own_fd))
            return;
        if (is_container_root)
            count_memory(own_fd);
        cgroups->root_fd = take_fd(&own_fd);
    } else if (parent_fd >= 0 && is_delegated(parent_fd)) { /* started in a leaf already */
        if (faccessat(parent_fd, "cgroup.procs", W_OK, AT_EACCESS) < 0)
            return;
        count_memory(parent_fd);
        cgroups->root_fd = take_fd(&parent_fd);
    }
}

void cgroups_close(struct cgroups *cgroups)
{
    close_fd(&cgroups->root_fd);
    cgroups->root_fd = -1;
}

/* ---- the group of a worker ---- */

/* With a file in it, or "" for itself. The start is in the name: an id can be used again while an old group goes. */
static void name_of(const struct pool_worker_info *worker, const char *file, char name[NAME_MAX_BYTES + 32])
{
    snprintf(name, NAME_MAX_BYTES + 32, WORKER_PREFIX "%.*s.%" PRIx64 "%s%s", POOL_WORKER_ID_MAX,
             worker->worker_id, (uint64_t)worker->created_boottime_ns, *file ? "/" : "", file);
}

void cgroup_enter(const struct cgroups *cgroups, const struct pool_worker_info *worker, pid_t pid)
{
    char name[NAME_MAX_BYTES + 32], text[24];
    if (cgroups->root_fd < 0)
        return;
    name_of(worker, "", name);
    if (mkdirat(cgroups->root_fd, name, 0755) < 0 && errno != EEXIST)
        return;
    name_of(worker, "cgroup.procs", name);
    snprintf(text, sizeof text, "%d", pid);
    if (!write_text(cgroups->root_fd, name, text))
        cgroup_remove(cgroups, worker);
}

static bool read_file(const struct cgroups *cgroups, const struct pool_worker_info *worker, const char *file,
                      struct strbuf *text)
{
    char name[NAME_MAX_BYTES + 32];
    name_of(worker, file, name);
    return cgroups->root_fd >= 0 && file_read_at(cgroups->root_fd, name, text) == 0;
}

bool cgroup_find(const struct cgroups *cgroups, const struct pool_worker_info *worker,
                 struct process_set *set)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(TEXT_MAX_BYTES);
    if (!read_file(cgroups, worker, "cgroup.procs", &text))
        return true;
    for (const char *p = strbuf_text(&text); *p;) {
        size_t n = strcspn(p, "\n");
        int64_t pid; /* 0: it is of a pid namespace that can not be seen from here */
        if (parse_int64_n(p, n, 1, INT32_MAX, &pid) && !process_set_add(set, (pid_t)pid))
            return false;
        p += n + (p[n] == '\n');
    }
    return true;
}

void cgroup_kill(const struct cgroups *cgroups, const struct pool_worker_info *worker)
{
    char name[NAME_MAX_BYTES + 32];
    if (cgroups->root_fd < 0)
        return;
    name_of(worker, "cgroup.kill", name);
    (void)write_text(cgroups->root_fd, name, "1");
}

void cgroup_remove(const struct cgroups *cgroups, const struct pool_worker_info *worker)
{
    char name[NAME_MAX_BYTES + 32];
    if (cgroups->root_fd < 0)
        return;
    name_of(worker, "", name);
    (void)unlinkat(cgroups->root_fd, name, AT_REMOVEDIR);
}

static bool is_of_live(const char *name, const struct pool_worker_list *live)
{
    for (size_t i = 0; i < live->n_workers; i++) {
        char theirs[NAME_MAX_BYTES + 32];
        name_of(live->workers[i], "", theirs);
        if (strcmp(theirs, name) == 0)
            return true;
    }
    return false;
}

void cgroups_sweep(const struct cgroups *cgroups, const struct pool_worker_list *live)
{
    int fd = cgroups->root_fd < 0 ? -1 : openat(cgroups->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(close_directory) DIR *directory = fd < 0 ? NULL : fdopendir(fd); /* which takes it over */
    struct dirent *entry;
    if (!directory) {
        close_fd(&fd);
        return;
    }
    while ((entry = readdir(directory))) {
        if (strncmp(entry->d_name, WORKER_PREFIX, sizeof WORKER_PREFIX - 1) == 0 &&
            !is_of_live(entry->d_name, live))
            (void)unlinkat(cgroups->root_fd, entry->d_name, AT_REMOVEDIR);
    }
}

/* ---- what it knows ---- */

/* "name 123" on a line of its own; the whole text when name is "". */
static struct pool_reading read_counter(const char *text, const char *name)
{
    size_t n_name = strlen(name);
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        const char *number = line + n_name + (n_name > 0);
        int64_t value;
        if (strncmp(line, name, n_name) == 0 && (n_name == 0 || line[n_name] == ' ') &&
            parse_int64_n(number, strcspn(number, "\n"), 0, INT64_MAX, &value))
            return (struct pool_reading){ true, value };
    }
    return (struct pool_reading){ 0 };
}

struct cgroup_facts cgroup_facts_read(const struct cgroups *cgroups, const struct pool_worker_info *worker)
{
    CLEANUP(strbuf_done) struct strbuf events = STRBUF_INIT(4096);
    CLEANUP(strbuf_done) struct strbuf peak = STRBUF_INIT(64);
    CLEANUP(strbuf_done) struct strbuf limit = STRBUF_INIT(64);
    struct cgroup_facts facts = { 0 };
    if (read_file(cgroups, worker, "memory.events", &events)) {
        facts.n_ooms = read_counter(strbuf_text(&events), "oom");
        facts.n_oom_kills = read_counter(strbuf_text(&events), "oom_kill");
    }
    if (read_file(cgroups, worker, "memory.peak", &peak)) /* Linux 5.19 */
        facts.peak_memory_bytes = read_counter(strbuf_text(&peak), "");
    if (read_file(cgroups, worker, "memory.max", &limit)) /* "max": none */
        facts.limit_bytes = read_counter(strbuf_text(&limit), "");
    return facts;
}
