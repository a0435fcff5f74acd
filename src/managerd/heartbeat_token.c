/*
 * The orchestrator's bearer token; see heartbeat_token.h.
 */
#include "managerd/heartbeat_token.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

void heartbeat_token_done(struct heartbeat_token *token)
{
    explicit_bzero(token, sizeof *token);
}

/* Cuts white space at the end; what is left has to be printable ASCII without spaces (RFC 6750, section 2.1). */
static bool trim_token(char *text, size_t n)
{
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r' || text[n - 1] == ' '))
        n--;
    text[n] = '\0';
    for (size_t i = 0; i < n; i++) {
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    }
    return n > 0;
}

/* The bytes of the file; -1 with errno. */
static ssize_t read_token(int fd, char text[HEARTBEAT_TOKEN_MAX + 1])
{
    size_t n = 0;
    while (n <= HEARTBEAT_TOKEN_MAX) {
        ssize_t got = read(fd, text + n, HEARTBEAT_TOKEN_MAX + 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            return (ssize_t)n;
        n += (size_t)got;
    }
    errno = EFBIG;
    return -1;
}

enum pool_code heartbeat_token_refresh(struct heartbeat_token *token, const char *path,
                                       struct pool_error *err)
{
    /* Not blocking: somebody may have put a FIFO there. */
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat seen;
    if (fd < 0 || fstat(fd, &seen) < 0) {
        int failure = errno;
        heartbeat_token_done(token);
        return pool_error_set_errno(err, POOL_INVALID_CONFIG, failure, "%s", path);
    }
    if (token->value[0] && file_is_unchanged(&seen, &token->seen))
        return POOL_OK;
    heartbeat_token_done(token);
    if (!S_ISREG(seen.st_mode))
        return pool_error_set(err, POOL_PERMISSION_DENIED, "%s: not a file", path);
    if (seen.st_mode & (S_IRWXG | S_IRWXO))
        return pool_error_set(err, POOL_PERMISSION_DENIED,
                              "%s: others than its owner have access to it (chmod 600 it)", path);
    ssize_t n = read_token(fd, token->value);
    int failure = errno;
    if (n >= 0 && trim_token(token->value, (size_t)n)) {
        token->seen = seen;
        return POOL_OK;
    }
    heartbeat_token_done(token);
    if (n < 0)
        return pool_error_set_errno(err, POOL_INVALID_CONFIG, failure, "%s", path);
    return pool_error_set(err, POOL_INVALID_CONFIG, "%s: not a token: empty, or not visible ASCII", path);
}
