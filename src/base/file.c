/*
 * Files and descriptors; see file.h.
 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"

int fd_read_all(int fd, struct strbuf *b)
{
    char chunk[16384];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            return 0;
        if (!strbuf_add(b, chunk, (size_t)n))
            return b->failure == STRBUF_NO_MEMORY ? ENOMEM : EFBIG;
    }
}

int file_read_at(int dir_fd, const char *path, struct strbuf *b)
{
    CLEANUP_CLOSE int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return errno;
    return fd_read_all(fd, b);
}

int file_read(const char *path, struct strbuf *b)
{
    return file_read_at(AT_FDCWD, path, b);
}

int file_read_tail(const char *path, size_t n, struct strbuf *b)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return errno;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return errno;
    if (!S_ISREG(st.st_mode))
        return EINVAL;
    if (st.st_size < (off_t)n)
        n = (size_t)st.st_size;
    /* One byte more in front, when there is one: it tells whether the first line is whole. */
    size_t n_before = st.st_size > (off_t)n ? 1 : 0;
    off_t start = st.st_size - (off_t)n - (off_t)n_before;
    n += n_before;
    CLEANUP_FREE char *chunk = malloc(n + 1);
    if (!chunk)
        return ENOMEM;
    size_t have = 0;
    while (have < n) {
        ssize_t got = pread(fd, chunk + have, n - have, start + (off_t)have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    const char *from = chunk;
    if (n_before > 0 && have > 0) {
        const char *newline = memchr(chunk, '\n', have);
        from = newline && newline + 1 < chunk + have ? newline + 1 : chunk + 1;
    }
    if (!strbuf_add(b, from, have - (size_t)(from - chunk)))
        return b->failure == STRBUF_NO_MEMORY ? ENOMEM : EFBIG;
    return 0;
}

int fd_write_all(int fd, const void *data, size_t n)
{
    const char *p = data;
    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return errno;
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

int make_directories(const char *path, mode_t mode)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (n == 0)
        return ENOENT;
    if (n >= sizeof part)
        return ENAMETOOLONG;
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        char c = part[i];
        part[i] = '\0';
        if (mkdir(part, mode) < 0 && errno != EEXIST) {
            /* a folder above that we may not write, but that is there */
            struct stat st;
            int why = errno;
            if (stat(part, &st) < 0 || !S_ISDIR(st.st_mode))
                return why;
        }
        part[i] = c;
    }
    struct stat st;
    if (stat(path, &st) < 0)
        return errno;
    return S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
}

int file_replace(const char *path, const void *data, size_t n, mode_t mode)
{
    char temporary[PATH_MAX];
    int length = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    if (length < 0 || (size_t)length >= sizeof temporary)
        return ENAMETOOLONG;
    CLEANUP_CLOSE int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return errno;
    int failure = fd_write_all(fd, data, n);
    if (!failure && fchmod(fd, mode) < 0)
        failure = errno;
    if (!failure && fsync(fd) < 0)
        failure = errno;
    if (!failure && rename(temporary, path) < 0)
        failure = errno;
    if (failure)
        unlink(temporary);
    return failure;
}

bool file_is_unchanged(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}
