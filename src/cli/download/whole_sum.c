/*
 * Hashing behind a download; see whole_sum.h.
 */
#include "cli/download/whole_sum.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"

#define CHUNK_BYTES ((int64_t)1 << 20)

/* Until there is something to read. 0: the end of the work. */
static int64_t wait_for_bytes(struct whole_sum *whole)
{
    pthread_mutex_lock(&whole->mutex);
    while (!whole->is_stopped && whole->frontier_bytes <= whole->hashed_bytes &&
           whole->hashed_bytes < whole->size_bytes)
        pthread_cond_wait(&whole->changed, &whole->mutex);
    int64_t n = whole->is_stopped ? 0 : whole->frontier_bytes - whole->hashed_bytes;
    pthread_mutex_unlock(&whole->mutex);
    return n < CHUNK_BYTES ? n : CHUNK_BYTES;
}

static int hash_next(struct whole_sum *whole, int64_t at, int64_t n)
{
    while (n > 0) {
        ssize_t got = pread(whole->fd, whole->buffer, (size_t)n, at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? errno : EIO;
        if (!digest_add(&whole->digest, whole->buffer, (size_t)got))
            return EIO;
        n -= got;
        at += got;
    }
    return 0;
}

static void *hash_file(void *context)
{
    struct whole_sum *whole = context;
    int64_t at = 0;
    int64_t n;
    int failure = 0;
    while (!failure && (n = wait_for_bytes(whole)) > 0) {
        failure = hash_next(whole, at, n);
        at += n;
        pthread_mutex_lock(&whole->mutex);
        whole->hashed_bytes = at;
        pthread_mutex_unlock(&whole->mutex);
    }
    if (!failure && at == whole->size_bytes && !digest_end(&whole->digest, whole->sum))
        failure = EIO;
    pthread_mutex_lock(&whole->mutex);
    whole->failure = failure;
    whole->is_finished = true;
    pthread_mutex_unlock(&whole->mutex);
    (void)eventfd_write(whole->ended_fd, 1);
    return NULL;
}

/* Signals are the business of the thread that waits for them. */
static int start_thread(struct whole_sum *whole)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int failure = pthread_create(&whole->thread, NULL, hash_file, whole);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failure;
}

static enum pool_code prepare(struct whole_sum *whole, enum digest_kind kind, const void *head, size_t n_head,
                              struct pool_error *err)
{
    whole->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (whole->ended_fd < 0)
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "eventfd");
    whole->buffer = malloc((size_t)CHUNK_BYTES);
    if (!whole->buffer)
        return pool_error_no_memory(err);
    struct digest_failure failure;
    if (!digest_open(&whole->digest, kind, &failure))
        return failure.is_no_memory ? pool_error_no_memory(err)
                                    : pool_error_set(err, POOL_INTERNAL, "%s", failure.message);
    if (!digest_begin(&whole->digest) || !digest_add(&whole->digest, head, n_head))
        return pool_error_set(err, POOL_INTERNAL, "OpenSSL failed to begin a hash");
    return POOL_OK;
}

static void release(struct whole_sum *whole)
{
    digest_close(&whole->digest);
    free(take_ptr(&whole->buffer));
    if (whole->ended_fd >= 0)
        close(whole->ended_fd);
    pthread_cond_destroy(&whole->changed);
    pthread_mutex_destroy(&whole->mutex);
    whole->is_running = false;
}

enum pool_code whole_sum_start(struct whole_sum *whole, int fd, int64_t size_bytes, enum digest_kind kind,
                               const void *head, size_t n_head, struct pool_error *err)
{
    *whole = (struct whole_sum){ .fd = fd, .ended_fd = -1, .size_bytes = size_bytes };
    pthread_mutex_init(&whole->mutex, NULL);
    pthread_cond_init(&whole->changed, NULL);
    enum pool_code code = prepare(whole, kind, head, n_head, err);
    int failure = code == POOL_OK ? start_thread(whole) : 0;
    if (failure)
        code = pool_error_set_errno(err, POOL_INTERNAL, failure, "pthread_create");
    if (code != POOL_OK) {
        release(whole);
        return code;
    }
    whole->is_running = true;
    return POOL_OK;
}

void whole_sum_advance(struct whole_sum *whole, int64_t frontier_bytes)
{
    pthread_mutex_lock(&whole->mutex);
    if (frontier_bytes > whole->frontier_bytes) {
        whole->frontier_bytes = frontier_bytes;
        pthread_cond_signal(&whole->changed);
    }
    pthread_mutex_unlock(&whole->mutex);
}

int64_t whole_sum_hashed_bytes(struct whole_sum *whole)
{
    pthread_mutex_lock(&whole->mutex);
    int64_t bytes = whole->hashed_bytes;
    pthread_mutex_unlock(&whole->mutex);
    return bytes;
}

enum pool_code whole_sum_wait(struct whole_sum *whole, int cancel_fd, int64_t max_ms, bool *ret_is_finished,
                              struct pool_error *err)
{
    struct pollfd fds[] = { { .fd = whole->ended_fd, .events = POLLIN },
                            { .fd = cancel_fd, .events = POLLIN } };
    (void)poll(fds, 2, (int)max_ms);
    pthread_mutex_lock(&whole->mutex);
    *ret_is_finished = whole->is_finished;
    int failure = whole->failure;
    pthread_mutex_unlock(&whole->mutex);
    return failure ? pool_error_set_errno(err, POOL_INTERNAL, failure, "cannot read back what was downloaded")
                   : POOL_OK;
}

void whole_sum_stop(struct whole_sum *whole)
{
    if (!whole->is_running)
        return;
    pthread_mutex_lock(&whole->mutex);
    whole->is_stopped = true;
    pthread_cond_signal(&whole->changed);
    pthread_mutex_unlock(&whole->mutex);
    pthread_join(whole->thread, NULL);
    release(whole);
}
