/*
 * The hash of a file that is still being written: a thread of its own follows the bytes that are there from the beginning
 * on, so that the sum is known soon after the last byte, and a fast network does not wait for a slow hash.
 *
 * Threads: all functions are for the one that started it.
 */
#ifndef DOWNLOAD_WHOLE_SUM_H
#define DOWNLOAD_WHOLE_SUM_H

#include <pool/error.h>
#include <pthread.h>

#include "base/digest.h"

struct whole_sum {
    pthread_t thread;
    pthread_mutex_t mutex; /* guards what follows it */
    pthread_cond_t changed;
    int64_t frontier_bytes; /* that may be read */
    int64_t hashed_bytes;
    bool is_stopped;
    bool is_finished;
    int failure; /* errno of a read, EIO for OpenSSL */
    /* the thread's own until it has finished */
    bool is_running;
    int fd;
    int ended_fd; /* eventfd: readable when it has finished */
    int64_t size_bytes;
    struct digest digest;
    unsigned char *buffer;
    unsigned char sum[DIGEST_BYTES_MAX];
};

/**
 * @param fd borrowed until whole_sum_stop
 * @param head text that is hashed before the file, as git does; "" for none
 * Errors: INTERNAL, INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code whole_sum_start(struct whole_sum *whole, int fd, int64_t size_bytes,
                                               enum digest_kind kind, const void *head, size_t n_head,
                                               struct pool_error *err);
/* So many bytes from the beginning on will not change any more. */
void whole_sum_advance(struct whole_sum *whole, int64_t frontier_bytes);
int64_t whole_sum_hashed_bytes(struct whole_sum *whole);
/**
 * After whole_sum_advance to the end: waits for the sum, up to a moment. *ret_is_finished false: not yet.
 * Errors: INTERNAL (the file can not be read).
 */
POOL_MUST_CHECK enum pool_code whole_sum_wait(struct whole_sum *whole, int cancel_fd, int64_t max_ms,
                                              bool *ret_is_finished, struct pool_error *err);
/* Ends the thread wherever it is. May be called again, and when it was never started (all zero). */
void whole_sum_stop(struct whole_sum *whole);

#endif
