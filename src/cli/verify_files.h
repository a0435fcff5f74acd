/*
 * Files hashed several at once: one thread of this program can not keep up with a fast disk. The library verifies one file
 * at a time on the thread that asks; here are the threads.
 */
#ifndef CLI_VERIFY_FILES_H
#define CLI_VERIFY_FILES_H

#include <pool/catalog.h>

#define VERIFY_THREADS 4

struct verify_file {
    const char *path;
    const char *sha256; /* that it ought to have; NULL: not known */
    int64_t size_bytes;
    bool is_done;
    struct pool_verify_result result;
    struct pool_error error;
};

struct verify_files {
    size_t n;
    struct verify_file *at;
    const char *proof_dir;
    bool is_forced;
    /* Called on the calling thread many times; false: give up. */
    bool (*progress)(int64_t done_bytes, int64_t total_bytes, void *context);
    void *context;
};

/**
 * Verifies all of them; what is wrong with one is in its error (CANCELLED for those that were given up).
 * Errors: CANCELLED, INSUFFICIENT_MEMORY, INTERNAL (no thread can be started).
 * Blocks: as long as reading takes.
 */
POOL_MUST_CHECK enum pool_code verify_files(struct verify_files *files, struct pool_error *err);

#endif
