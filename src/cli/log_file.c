/*
 * Reading logs.
 */
#include "cli/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static enum pool_code refuse(const struct log_file *log, int failure, struct pool_error *err)
{
    enum pool_code code = failure == ENOENT                       ? POOL_NOT_FOUND
                          : failure == EACCES || failure == EPERM ? POOL_PERMISSION_DENIED
                                                                  : POOL_INTERNAL;
    return pool_error_set_errno(err, code, failure, "the log %s", log->path);
}

/* Where the last n lines begin; a last line without its end counts. */
static enum pool_code find_tail(struct log_file *log, off_t first, off_t end, int64_t n_lines,
                                struct pool_error *err)
{
    char buffer[LOG_READ_MAX];
    off_t at = end;
    while (at > first) {
        size_t n = at - first < (off_t)sizeof buffer ? (size_t)(at - first) : sizeof buffer;
        ssize_t n_read = pread(log->fd, buffer, n, at - (off_t)n);
        if (n_read < 0)
            return refuse(log, errno, err);
        if ((size_t)n_read < n) /* it was cut while it was read; what is left is shown */
            break;
        for (size_t i = n; i-- > 0;) {
            off_t position = at - (off_t)n + (off_t)i;
            if (buffer[i] != '\n' || position == end - 1)
                continue;
            if (--n_lines > 0)
                continue;
            log->offset = position + 1;
            return POOL_OK;
        }
        at -= (off_t)n;
    }
    log->offset = first;
    return POOL_OK;
}

enum pool_code log_file_open(struct log_file *log, const char *path, int64_t n_lines, struct pool_error *err)
{
    struct stat status;
    log->path = path;
    log->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (log->fd < 0 || fstat(log->fd, &status) < 0)
        return refuse(log, errno, err);
    if (!S_ISREG(status.st_mode))
        return pool_error_set(err, POOL_INTERNAL, "the log %s is not a file", path);
    off_t first = lseek(log->fd, 0, SEEK_DATA);
    if (first < 0) /* ENXIO: all of it is a hole, or it is empty; others can not tell holes */
        first = errno == ENXIO ? status.st_size : 0;
    log->offset = n_lines == 0 ? status.st_size : first;
    return n_lines > 0 ? find_tail(log, first, status.st_size, n_lines, err) : POOL_OK;
}

void log_file_close(struct log_file *log)
{
    if (log->fd >= 0)
        close(log->fd);
    log->fd = -1;
}

enum pool_code log_file_read(struct log_file *log, char *buffer, size_t *ret_n, struct pool_error *err)
{
    ssize_t n = pread(log->fd, buffer, LOG_READ_MAX, log->offset);
    if (n < 0)
        return refuse(log, errno, err);
    log->offset += n;
    *ret_n = (size_t)n;
    return POOL_OK;
}
