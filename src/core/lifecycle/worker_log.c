/*
 * Worker logs and their locks; see worker_log.h.
 */
#include "core/lifecycle/worker_log.h"

#include <errno.h>
#include <fcntl.h>
#include <pool/lifecycle.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"

/*
 * What tells this file from another of the same name: its inode and when it was made, for an inode that was freed is used
 * again at once. 0 when it can not be told. statx(2); a file system without birth times gives 0 for them.
 */
static uint64_t file_identity(int fd)
{
    struct statx sx = { 0 };
    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &sx) < 0)
        return 0;
    uint64_t born_ns = sx.stx_mask & STATX_BTIME
                           ? (uint64_t)sx.stx_btime.tv_sec * (uint64_t)NS_PER_SEC + sx.stx_btime.tv_nsec
                           : 0;
    uint64_t identity =
        sx.stx_ino ^ (born_ns * UINT64_C(0x9e3779b97f4a7c15)); /* Fibonacci hashing, Knuth 6.4 */
    return identity & INT64_MAX;
}

/* Who looks at a lock holds it shared for microseconds; a worker holds it for its life. */
#define LOCK_TRIES    100
#define LOCK_PAUSE_NS NS_PER_MS

static enum pool_code refuse_log(const char *path, int failure, struct pool_error *err)
{
    enum pool_code code =
        failure == ENOSPC || failure == EDQUOT ? POOL_INSUFFICIENT_DISK : POOL_REGISTRY_UNAVAILABLE;
    return pool_error_set_errno(err, code, failure, "log %s", path);
}

/* Removes the log of an earlier worker of the same id, unless a process of it lives. */
static enum pool_code remove_earlier(const char *path, struct pool_error *err)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return POOL_OK;
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return refuse_log(path, errno, err);
    if (!S_ISREG(st.st_mode))
        return pool_error_set(err, POOL_REGISTRY_UNAVAILABLE,
                              "log %s is there already and no regular file: remove it", path);
    if (flock(fd, LOCK_SH | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return refuse_log(path, errno, err);
        pool_error_set(err, POOL_ALREADY_EXISTS, "a process of an earlier worker still holds its log %s",
                       path);
        if (err)
            err->is_retriable = true;
        return POOL_ALREADY_EXISTS;
    }
    return unlink(path) < 0 ? refuse_log(path, errno, err) : POOL_OK;
}

enum pool_code worker_log_create(const char *path, int *ret_fd, uint64_t *ret_identity,
                                 struct pool_error *err)
{
    enum pool_code code = remove_earlier(path, err);
    if (code != POOL_OK)
        return code;
    CLEANUP_CLOSE int fd =
        open(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return refuse_log(path, errno, err);
    for (int try = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; try++) {
        if (errno != EWOULDBLOCK || try == LOCK_TRIES)
            return refuse_log(path, errno, err);
        clock_pause_ns(LOCK_PAUSE_NS);
    }
    *ret_fd = take_fd(&fd);
    if (ret_identity)
        *ret_identity = file_identity(*ret_fd);
    return POOL_OK;
}

static enum worker_log_state look(const char *path, dev_t *ret_device, ino_t *ret_inode,
                                  uint64_t *ret_identity)
{
    CLEANUP_CLOSE int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK) : -1;
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return WORKER_LOG_MISSING;
    if (ret_device)
        *ret_device = st.st_dev;
    if (ret_inode)
        *ret_inode = st.st_ino;
    if (ret_identity)
        *ret_identity = file_identity(fd);
    if (flock(fd, LOCK_SH | LOCK_NB) == 0)
        return WORKER_LOG_FREE;
    return errno == EWOULDBLOCK ? WORKER_LOG_HELD : WORKER_LOG_MISSING;
}

enum worker_log_state worker_log_look(const char *path, dev_t *ret_device, ino_t *ret_inode)
{
    return look(path, ret_device, ret_inode, NULL);
}

enum worker_log_state worker_log_of(const struct pool_worker_info *worker, dev_t *ret_device,
                                    ino_t *ret_inode)
{
    uint64_t identity = 0;
    bool is_known = worker->log_identity != 0;
    enum worker_log_state state = look(worker->log_path, ret_device, ret_inode, is_known ? &identity : NULL);
    return is_known && worker->log_identity != identity ? WORKER_LOG_MISSING : state;
}

uint64_t worker_log_identity(const char *path)
{
    uint64_t identity = 0;
    return look(path, NULL, NULL, &identity) == WORKER_LOG_MISSING ? 0 : identity;
}

void worker_log_trim(const char *path)
{
    struct stat
        st; /* by path first: every look at the workers comes by here, and hardly any log is that large */
    if (stat(path, &st) < 0 || st.st_size <= POOL_WORKER_LOG_MAX_BYTES)
        return;
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= POOL_WORKER_LOG_MAX_BYTES ||
        (off_t)st.st_blocks * 512 <= POOL_WORKER_LOG_MAX_BYTES)
        return;
    /* Half the limit stays, so that a flood does not punch at every look. A file system without holes keeps all. */
    off_t end = (st.st_size - POOL_WORKER_LOG_MAX_BYTES / 2) & ~(off_t)4095;
    (void)!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, end);
}
