/*
 * The state directory and its two locks; see state_dir.h.
 */
#include "core/lifecycle/state_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <pool/lifecycle.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"

/* Between two tries for a lock: short at first, for the usual holder needs a few milliseconds. */
#define LOCK_RETRY_FIRST_NS (1 * NS_PER_MS)
#define LOCK_RETRY_LAST_NS  (16 * NS_PER_MS)
/* A daemon that starts waits this long for commands at work to end (DESIGN, "Who may change the state"). */
#define DAEMON_LOCK_WAIT_MS 5000

enum pool_code flock_within(int fd, int operation, int64_t timeout_ms, int *ret_errno)
{
    int64_t deadline_ns = clock_boottime_ns() + timeout_ms * NS_PER_MS;
    int64_t pause_ns = LOCK_RETRY_FIRST_NS;
    for (;;) {
        if (flock(fd, operation | LOCK_NB) == 0)
            return POOL_OK;
        if (errno != EWOULDBLOCK && errno != EINTR) {
            *ret_errno = errno;
            return POOL_INTERNAL;
        }
        int64_t left_ns = deadline_ns - clock_boottime_ns();
        if (left_ns <= 0)
            return POOL_CONFLICT;
        if (pause_ns > left_ns)
            pause_ns = left_ns;
        clock_pause_ns(pause_ns);
        pause_ns = pause_ns * 2 < LOCK_RETRY_LAST_NS ? pause_ns * 2 : LOCK_RETRY_LAST_NS;
    }
}

/* File systems of other hosts, by the magic numbers of statfs(2): their locks and WAL are not to be trusted. */
static bool is_network_file_system(int fd)
{
    static const unsigned long magics[] = {
        0x6969,     /* NFS */
        0xff534d42, /* CIFS */
        0xfe534d42, /* SMB2 */
        0x01021997, /* 9P */
        0x5346414f, /* AFS */
        0x73757245, /* Coda */
        0x00c36400, /* Ceph */
        0x47504653, /* GPFS */
        0x0bd00bd0, /* Lustre */
    };
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0)
        return false;
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++) {
        if ((unsigned long)(unsigned int)fs.f_type == magics[i])
            return true;
    }
    return false;
}

static enum pool_code refuse_open(const char *path, int sys_errno, struct pool_error *err)
{
    enum pool_code code = sys_errno == EACCES || sys_errno == EPERM    ? POOL_PERMISSION_DENIED
                          : sys_errno == ENOSPC || sys_errno == EDQUOT ? POOL_INSUFFICIENT_DISK
                                                                       : POOL_REGISTRY_UNAVAILABLE;
    pool_error_set_errno(err, code, sys_errno, "state directory %s", path);
    pool_error_set_field(err, "pool.state_dir");
    return code;
}

static enum pool_code open_directory(struct state_dir *dir, bool is_explicit, struct pool_error *err)
{
    int failure = make_directories(dir->path, 0700);
    if (failure)
        return refuse_open(dir->path, failure, err);
    dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (dir->fd < 0 || fstat(dir->fd, &st) < 0)
        return refuse_open(dir->path, errno, err);
    if (st.st_uid != geteuid()) {
        pool_error_set(
            err, POOL_PERMISSION_DENIED,
            "state directory %s belongs to user %u, this is user %u: run the command as its owner, or name "
            "another directory with --state-dir",
            dir->path, (unsigned)st.st_uid, (unsigned)geteuid());
        pool_error_set_field(err, "pool.state_dir");
        return POOL_PERMISSION_DENIED;
    }
    if ((st.st_mode & 0077) != 0 && fchmod(dir->fd, 0700) < 0)
        return refuse_open(dir->path, errno, err);
    dir->is_network = is_network_file_system(dir->fd);
    if (dir->is_network && !is_explicit) {
        pool_error_set(
            err, POOL_INVALID_CONFIG,
            "state directory %s is on a network file system, whose locks other hosts may not see: name one "
            "on a local disk with --state-dir, or this one, if it is meant",
            dir->path);
        pool_error_set_field(err, "pool.state_dir");
        return POOL_INVALID_CONFIG;
    }
    if (mkdirat(dir->fd, "logs", 0700) < 0 && errno != EEXIST)
        return refuse_open(dir->path, errno, err);
    return POOL_OK;
}

static enum pool_code open_lock_file(struct state_dir *dir, const char *name, int *ret_fd,
                                     struct pool_error *err)
{
    *ret_fd = openat(dir->fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return *ret_fd < 0 ? refuse_open(dir->path, errno, err) : POOL_OK;
}

/*
 * A lock that is shared is never free while commands follow each other closely, so a daemon would wait for ever: it
 * takes daemon.turn first, and commands that come meanwhile let it go ahead.
 */
static enum pool_code take_turn(struct state_dir *dir, bool is_daemon, int *ret_fd, struct pool_error *err)
{
    CLEANUP_CLOSE int fd = -1;
    enum pool_code code = open_lock_file(dir, "daemon.turn", &fd, err);
    if (code != POOL_OK)
        return code;
    int failure = 0;
    code = flock_within(fd, is_daemon ? LOCK_EX : LOCK_SH, is_daemon ? DAEMON_LOCK_WAIT_MS : 0, &failure);
    if (code == POOL_CONFLICT)
        return pool_error_set(err, code, "a daemon is starting on %s: try again", dir->path);
    if (code != POOL_OK)
        return refuse_open(dir->path, failure, err);
    *ret_fd = take_fd(&fd);
    return POOL_OK;
}

static enum pool_code take_daemon_lock(struct state_dir *dir, struct pool_error *err)
{
    CLEANUP_CLOSE int turn_fd = -1;
    if (dir->has_daemon_lock)
        return POOL_OK;
    enum pool_code code = take_turn(dir, dir->is_daemon, &turn_fd, err);
    int failure = 0;
    if (code == POOL_OK) {
        code = flock_within(dir->daemon_lock_fd, dir->is_daemon ? LOCK_EX : LOCK_SH,
                            dir->is_daemon ? DAEMON_LOCK_WAIT_MS : 0, &failure);
        if (code == POOL_CONFLICT && !dir->is_daemon)
            pool_error_set(err, code, "a daemon manages %s: ask it, or name another --state-dir", dir->path);
        else if (code == POOL_CONFLICT)
            pool_error_set(err, code, "%s is in use by another daemon or by commands that do not end",
                           dir->path);
        else if (code != POOL_OK)
            code = refuse_open(dir->path, failure, err);
    }
    dir->has_daemon_lock = code == POOL_OK;
    dir->is_superseded = code == POOL_CONFLICT;
    return code;
}

static bool read_state_id(struct state_dir *dir)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(128);
    if (file_read_at(dir->fd, "state-id", &text) != 0 || text.n != UUID_TEXT_MAX)
        return false;
    snprintf(dir->state_id, sizeof dir->state_id, "%.36s", strbuf_text(&text));
    return strspn(dir->state_id, "0123456789abcdef-") == UUID_TEXT_MAX - 1;
}

/* Under `lock`, and looked at once more there: two first commands at once must agree on one id. */
static enum pool_code make_state_id(struct state_dir *dir, struct pool_error *err)
{
    if (read_state_id(dir))
        return POOL_OK;
    if (!random_uuid(dir->state_id))
        return pool_error_set(err, POOL_INTERNAL, "the kernel has no random numbers");
    CLEANUP_FREE char *path = state_dir_path(dir, "state-id");
    if (!path)
        return pool_error_no_memory(err);
    char line[UUID_TEXT_MAX + 1];
    int n = snprintf(line, sizeof line, "%s\n", dir->state_id);
    int failure = file_replace(path, line, (size_t)n, 0600);
    return failure ? refuse_open(dir->path, failure, err) : POOL_OK;
}

enum pool_code state_dir_open(struct state_dir *dir, const char *path, bool is_explicit, bool is_daemon,
                              struct pool_error *err)
{
    CLEANUP(state_dir_close) struct state_dir local = STATE_DIR_INIT;
    local.is_daemon = is_daemon;
    local.path = strdup(path);
    if (!local.path)
        return pool_error_no_memory(err);
    enum pool_code code = open_directory(&local, is_explicit, err);
    if (code == POOL_OK)
        code = open_lock_file(&local, "daemon.lock", &local.daemon_lock_fd, err);
    if (code == POOL_OK)
        code = take_daemon_lock(&local, err);
    if (code == POOL_OK)
        code = open_lock_file(&local, "lock", &local.lock_fd, err);
    if (code == POOL_OK && !read_state_id(&local)) {
        code = state_dir_lock(&local, POOL_LOCK_WAIT_MAX_MS, err);
        if (code == POOL_OK)
            code = make_state_id(&local, err);
    }
    state_dir_unlock(&local);
    if (code != POOL_OK)
        return code;
    *dir = local;
    local = (struct state_dir)STATE_DIR_INIT;
    return POOL_OK;
}

void state_dir_close(struct state_dir *dir)
{
    state_dir_unlock(dir);
    close_fd(&dir->lock_fd);
    close_fd(&dir->daemon_lock_fd);
    close_fd(&dir->fd);
    free(dir->path);
    *dir = (struct state_dir)STATE_DIR_INIT;
}

enum pool_code state_dir_lock(struct state_dir *dir, int64_t timeout_ms, struct pool_error *err)
{
    int failure = 0;
    enum pool_code code = take_daemon_lock(dir, err);
    if (code != POOL_OK)
        return code;
    code = flock_within(dir->lock_fd, LOCK_EX, timeout_ms, &failure);
    if (code != POOL_OK)
        state_dir_unlock(dir);
    if (code == POOL_CONFLICT)
        return pool_error_set(err, code, "%s is locked by another command for more than %lld ms: try again",
                              dir->path, (long long)timeout_ms);
    if (code != POOL_OK)
        return refuse_open(dir->path, failure, err);
    dir->is_locked = true;
    return POOL_OK;
}

void state_dir_unlock(struct state_dir *dir)
{
    if (dir->is_locked)
        flock(dir->lock_fd, LOCK_UN);
    dir->is_locked = false;
    if (dir->has_daemon_lock && !dir->is_daemon) {
        flock(dir->daemon_lock_fd, LOCK_UN);
        dir->has_daemon_lock = false;
    }
}

char *state_dir_path(const struct state_dir *dir, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", dir->path, name) < 0 ? NULL : path;
}
