/*
 * Files and descriptors: whole reads with a limit, whole writes, directories.
 * Functions return 0 or an errno value (never set errno alone).
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/strbuf.h"

/* Appends the whole file to b; EFBIG when it is larger than b's limit, EISDIR for a directory. */
int file_read(const char *path, struct strbuf *b);
int file_read_at(int dir_fd, const char *path, struct strbuf *b);
/* The same from an open descriptor, from its present position to its end. */
int fd_read_all(int fd, struct strbuf *b);
/* Appends the last whole lines of a regular file that fit into n bytes; n bytes of the last one when it does not. */
int file_read_tail(const char *path, size_t n, struct strbuf *b);
int fd_write_all(int fd, const void *data, size_t n);
/* mkdir -p; the mode is given to the folders it makes. An existing folder is no error. */
int make_directories(const char *path, mode_t mode);
/* Writes a file under its final name all at once: temporary name beside it, fsync, rename. */
int file_replace(const char *path, const void *data, size_t n, mode_t mode);
/* Whether it is the same file in the same state, as far as the file system tells: device, inode, size, mtime, ctime. */
bool file_is_unchanged(const struct stat *a, const struct stat *b);

#endif
