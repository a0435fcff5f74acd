/*
 * Threads that verify files; see verify_files.h.
 */
#include "cli/verify_files.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "base/cleanup.h"
#include "base/number.h"

#define SHOW_MS 100

struct verifiers {
    struct verify_files *files;
    atomic_size_t next; /* file that nobody has taken */
    atomic_llong done_bytes;
    atomic_bool is_given_up;
    atomic_int n_running;
    int ended_fd; /* eventfd: a thread has ended */
};

/* A thread's view of the file it is at. */
struct one_file {
    struct verifiers *verifiers;
    int64_t done_bytes;
};

static bool count_bytes(int64_t done_bytes, int64_t total_bytes, void *context)
{
    struct one_file *one = context;
    (void)total_bytes;
    atomic_fetch_add(&one->verifiers->done_bytes, done_bytes - one->done_bytes);
    one->done_bytes = done_bytes;
    return !atomic_load(&one->verifiers->is_given_up);
}

static void verify_one(struct verifiers *verifiers, struct verify_file *file)
{
    struct one_file one = { .verifiers = verifiers };
    char *paths[] = { (char *)file->path };
    char *sums[] = { (char *)file->sha256 };
    struct pool_model model = { .path = paths[0], .n_files = 1, .file_paths = paths, .known_sha256s = sums };
    struct pool_verify_options options = { .struct_size = sizeof options,
                                           .proof_dir = verifiers->files->proof_dir,
                                           .ignore_proof = verifiers->files->is_forced,
                                           .progress = count_bytes,
                                           .progress_context = &one };
    if (pool_model_verify(&model, &options, &file->result, &file->error) == POOL_OK)
        (void)count_bytes(file->size_bytes, file->size_bytes, &one); /* from a proof nothing was read */
    file->is_done = true;
}

static void *verify_some(void *context)
{
    struct verifiers *verifiers = context;
    for (;;) {
        size_t index = atomic_fetch_add(&verifiers->next, 1);
        if (index >= verifiers->files->n || atomic_load(&verifiers->is_given_up))
            break;
        verify_one(verifiers, &verifiers->files->at[index]);
    }
    atomic_fetch_sub(&verifiers->n_running, 1);
    (void)eventfd_write(verifiers->ended_fd, 1);
    return NULL;
}

/* Signals are the business of the thread that waits. */
static int start_threads(struct verifiers *verifiers, pthread_t threads[VERIFY_THREADS], size_t *ret_n)
{
    sigset_t all;
    sigset_t before;
    int failure = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    while (*ret_n < VERIFY_THREADS && *ret_n < verifiers->files->n && !failure) {
        atomic_fetch_add(&verifiers->n_running, 1);
        failure = pthread_create(&threads[*ret_n], NULL, verify_some, verifiers);
        if (failure)
            atomic_fetch_sub(&verifiers->n_running, 1);
        else
            ++*ret_n;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return *ret_n > 0 ? 0 : failure; /* fewer threads do it too */
}

static void watch(struct verifiers *verifiers, int64_t total_bytes)
{
    const struct verify_files *files = verifiers->files;
    while (atomic_load(&verifiers->n_running) > 0) {
        struct pollfd fd = { .fd = verifiers->ended_fd, .events = POLLIN };
        if (files->progress &&
            !files->progress(atomic_load(&verifiers->done_bytes), total_bytes, files->context))
            atomic_store(&verifiers->is_given_up, true);
        (void)poll(&fd, 1, SHOW_MS);
        eventfd_t n;
        (void)eventfd_read(verifiers->ended_fd, &n);
    }
}

enum pool_code verify_files(struct verify_files *files, struct pool_error *err)
{
    CLEANUP_CLOSE int ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct verifiers verifiers = { .files = files, .ended_fd = ended_fd };
    pthread_t threads[VERIFY_THREADS];
    size_t n_threads = 0;
    int64_t total_bytes = 0;
    if (files->n == 0)
        return POOL_OK;
    if (ended_fd < 0)
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "eventfd");
    for (size_t i = 0; i < files->n; i++)
        total_bytes = add_bytes(total_bytes, files->at[i].size_bytes);
    int failure = start_threads(&verifiers, threads, &n_threads);
    if (failure)
        return pool_error_set_errno(err, POOL_INTERNAL, failure, "pthread_create");
    watch(&verifiers, total_bytes);
    for (size_t i = 0; i < n_threads; i++)
        pthread_join(threads[i], NULL);
    return atomic_load(&verifiers.is_given_up) ? pool_error_set(err, POOL_CANCELLED, "interrupted") : POOL_OK;
}
