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
#include "base/file.h"

enum pool_code worker_log_create(const char *path, int *ret_fd, struct pool_error *err)
{
    CLEANUP_CLOSE int fd =
        open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    if (fd < 0) {
        enum pool_code code =
            errno == ENOSPC || errno == EDQUOT ? POOL_INSUFFICIENT_DISK : POOL_REGISTRY_UNAVAILABLE;
        return pool_error_set_errno(err, code, errno, "log %s", path);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return pool_error_set_errno(err, POOL_REGISTRY_UNAVAILABLE, errno, "lock of log %s", path);
        return pool_error_set(err, POOL_ALREADY_EXISTS,
                              "a process of an earlier worker still holds its log %s", path);
    }
    if (ftruncate(fd, 0) < 0)
        return pool_error_set_errno(err, POOL_REGISTRY_UNAVAILABLE, errno, "log %s", path);
    *ret_fd = take_fd(&fd);
    return POOL_OK;
}

enum worker_log_state worker_log_look(const char *path, dev_t *ret_device, ino_t *ret_inode)
{
    CLEANUP_CLOSE int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK) : -1;
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return WORKER_LOG_MISSING;
    if (ret_device)
        *ret_device = st.st_dev;
    if (ret_inode)
        *ret_inode = st.st_ino;
    if (flock(fd, LOCK_SH | LOCK_NB) == 0)
        return WORKER_LOG_FREE;
    return errno == EWOULDBLOCK ? WORKER_LOG_HELD : WORKER_LOG_MISSING;
}

void worker_log_trim(const char *path)
{
    struct stat st; /* by path first: every look at the workers comes by here, and hardly any log is that large */
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

void worker_log_tail(const char *path, char *text, size_t n)
{
    CLEANUP(strbuf_done) struct strbuf tail = STRBUF_INIT(n - 1);
    text[0] = '\0';
    if (!path || file_read_tail(path, n - 1, &tail) != 0)
        return;
    for (size_t i = 0; i < tail.n; i++) {
        unsigned char c = (unsigned char)tail.data[i];
        text[i] = (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ? '?' : (char)c;
    }
    text[tail.n] = '\0';
}
