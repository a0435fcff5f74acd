/*
 * A worker's log as a file: its beginning may be a hole (freed space, offsets stay), and it may grow while it is read.
 */
#ifndef CLI_LOG_FILE_H
#define CLI_LOG_FILE_H

#include <stdint.h>
#include <sys/types.h>

#include <pool/error.h>

struct log_file {
    const char *path; /* borrowed */
    int fd;
    off_t offset; /* of the next byte to read */
};

#define LOG_FILE_INIT \
    {                 \
        .fd = -1      \
    }
#define LOG_READ_MAX 65536

/**
 * Opens a log at its first byte that is still there, or where its last n_lines begin.
 * @param n_lines -1: all
 * Errors: NOT_FOUND (there is no such file any more), PERMISSION_DENIED, INTERNAL.
 */
POOL_MUST_CHECK enum pool_code log_file_open(struct log_file *log, const char *path, int64_t n_lines,
                                             struct pool_error *err);
void log_file_close(struct log_file *log);
/* Reads the next bytes, at most LOG_READ_MAX; *ret_n is 0 at the end, for now. */
POOL_MUST_CHECK enum pool_code log_file_read(struct log_file *log, char *buffer, size_t *ret_n,
                                             struct pool_error *err);

#endif
