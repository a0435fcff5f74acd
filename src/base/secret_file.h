/*
 * Files with secrets: read only when nobody but their owner may, and when that is us or root.
 */
#ifndef BASE_SECRET_FILE_H
#define BASE_SECRET_FILE_H

#include <pool/error.h>
#include <stddef.h>

#include "base/strbuf.h"

/**
 * Appends the whole file to b. A symbolic link is followed; what counts is the file it leads to. The message of an
 * error has the path and never anything of what is in the file.
 * Errors: INVALID_CONFIG (can not be read, no regular file, another owner, open to others, larger than b's limit),
 * INSUFFICIENT_MEMORY.
 * Blocks: as a file of the disk does; a FIFO does not hang it.
 */
POOL_MUST_CHECK enum pool_code secret_file_read(const char *path, struct strbuf *b, struct pool_error *err);
/* Overwrites what the buffer held, then frees it. */
void secret_file_wipe(struct strbuf *b);

#endif
