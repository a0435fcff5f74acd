/*
 * Files with secrets; see secret_file.h.
 */
#include "base/secret_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

enum pool_code secret_file_read(const char *path, struct strbuf *b, struct pool_error *err)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat seen;
    if (fd < 0 || fstat(fd, &seen) < 0)
        return pool_error_set_errno(err, POOL_INVALID_CONFIG, errno, "%s", path);
    if (!S_ISREG(seen.st_mode))
        return pool_error_set(err, POOL_INVALID_CONFIG, "%s: not a file", path);
    if (seen.st_uid != geteuid() && seen.st_uid != 0)
        return pool_error_set(err, POOL_INVALID_CONFIG,
                              "%s: belongs to user %u, who could change it; this is user %u", path,
                              (unsigned)seen.st_uid, (unsigned)geteuid());
    if (seen.st_mode & (S_IRWXG | S_IRWXO))
        return pool_error_set(err, POOL_INVALID_CONFIG,
                              "%s: others than its owner have access to it (chmod 600 it)", path);
    int failure = fd_read_all(fd, b);
    if (failure == ENOMEM)
        return pool_error_no_memory(err);
    if (failure == EFBIG)
        return pool_error_set(err, POOL_INVALID_CONFIG, "%s: larger than %zu bytes", path, b->limit);
    return failure ? pool_error_set_errno(err, POOL_INVALID_CONFIG, failure, "%s", path) : POOL_OK;
}

void secret_file_wipe(struct strbuf *b)
{
    if (b->data)
        explicit_bzero(b->data, b->n);
    strbuf_done(b);
}
