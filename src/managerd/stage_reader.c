/*
 * Files into the page cache; see stage_reader.h. Each thread takes the next chunk and has the kernel fill its pages
 * through the mapping, which copies nothing. Where the kernel cannot do that, it is read into a buffer.
 */
#include "managerd/stage_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

/* The kernel cuts a request to read ahead to a device's usual window, 128 KiB when nobody has set another. */
#define AHEAD_BYTES       (INT64_C(128) << 10)
#define READ_BUFFER_BYTES ((size_t)1 << 20)
#define MINCORE_PAGES     ((size_t)1 << 16) /* looked at in one call */

/* struct cachestat_range and struct cachestat of linux/mman.h, newer than Debian 12's headers. */
struct cache_range {
    uint64_t offset, n;
};
struct cache_pages {
    uint64_t n_cache, n_dirty, n_writeback, n_evicted, n_recently_evicted;
};

struct staged_file {
    char *path;
    int fd;
    int64_t size_bytes;
    char *mapping; /* NULL: an empty file */
};

struct stage_reader {
    bool is_locked;
    size_t n_files;
    struct staged_file *files;
    int64_t total_bytes;
    int64_t missing_bytes;
    size_t n_chunks;
    atomic_size_t next_chunk;
    _Atomic int64_t done_bytes;
    atomic_bool is_cancelled;
    atomic_int failure; /* an errno; the first of them */
    _Atomic(const struct staged_file *) failed_file;
};

/* ---- opening ---- */

static enum pool_code refuse_file(const char *path, int failure, struct pool_error *err)
{
    enum pool_code code = failure == ENOENT || failure == ENOTDIR ? POOL_MODEL_NOT_FOUND
                          : failure == EACCES || failure == EPERM ? POOL_PERMISSION_DENIED
                          : failure == ENOMEM                     ? POOL_INSUFFICIENT_MEMORY
                                                                  : POOL_INTERNAL;
    pool_error_set_errno(err, code, failure, "cannot stage %s", path);
    pool_error_add_text(err, "path", path);
    return code;
}

static enum pool_code open_file(struct staged_file *file, const char *path, struct pool_error *err)
{
    struct stat st;
    file->path = strdup(path);
    if (!file->path)
        return pool_error_no_memory(err);
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (file->fd < 0 || fstat(file->fd, &st) < 0)
        return refuse_file(path, errno, err);
    if (!S_ISREG(st.st_mode)) {
        pool_error_set(err, POOL_MODEL_CORRUPT, "%s is not a regular file", path);
        pool_error_add_text(err, "path", path);
        return POOL_MODEL_CORRUPT;
    }
    file->size_bytes = st.st_size;
    if (st.st_size == 0)
        return POOL_OK;
    void *mapping = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, file->fd, 0);
    if (mapping == MAP_FAILED)
        return refuse_file(path, errno, err);
    file->mapping = mapping;
    return POOL_OK;
}

static size_t chunks_of(const struct staged_file *file)
{
    return (size_t)((file->size_bytes + STAGE_CHUNK_BYTES - 1) / STAGE_CHUNK_BYTES);
}

static void close_reader(struct stage_reader **reader)
{
    stage_reader_close(*reader);
}

enum pool_code stage_reader_open(const char *const *paths, size_t n_paths, bool is_locked,
                                 struct stage_reader **ret_reader, struct pool_error *err)
{
    CLEANUP(close_reader) struct stage_reader *reader = calloc(1, sizeof *reader);
    int64_t resident_bytes = 0;
    if (!reader)
        return pool_error_no_memory(err);
    reader->is_locked = is_locked;
    reader->files = calloc(n_paths + 1, sizeof *reader->files);
    if (!reader->files)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < n_paths; i++) {
        struct staged_file *file = &reader->files[reader->n_files++];
        file->fd = -1;
        enum pool_code code = open_file(file, paths[i], err);
        if (code != POOL_OK)
            return code;
        reader->total_bytes += file->size_bytes;
        reader->n_chunks += chunks_of(file);
    }
    if (!stage_measure(paths, n_paths, &resident_bytes))
        resident_bytes = 0;
    reader->missing_bytes = resident_bytes < reader->total_bytes ? reader->total_bytes - resident_bytes : 0;
    *ret_reader = take_ptr(&reader);
    return POOL_OK;
}

static void unmap(struct staged_file *file)
{
    if (file->mapping)
        munmap(file->mapping, (size_t)file->size_bytes); /* unlocks as well */
    file->mapping = NULL;
    close_fd(&file->fd);
}

void stage_reader_close(struct stage_reader *reader)
{
    if (!reader)
        return;
    for (size_t i = 0; i < reader->n_files; i++) {
        unmap(&reader->files[i]);
        free(reader->files[i].path);
    }
    free(reader->files);
    free(reader);
}

void stage_reader_settle(struct stage_reader *reader)
{
    for (size_t i = 0; !reader->is_locked && i < reader->n_files; i++)
        unmap(&reader->files[i]);
}

/* ---- reading ---- */

/* For kernels before 5.14 and file systems that cannot fill a mapping. */
static int read_through(const struct staged_file *file, int64_t offset, int64_t n_bytes)
{
    CLEANUP_FREE char *buffer = malloc(READ_BUFFER_BYTES);
    if (!buffer)
        return ENOMEM;
    for (int64_t end = offset + n_bytes; offset < end;) {
        size_t n_wanted =
            end - offset < (int64_t)READ_BUFFER_BYTES ? (size_t)(end - offset) : READ_BUFFER_BYTES;
        ssize_t n = pread(file->fd, buffer, n_wanted, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EFAULT;
        offset += n;
    }
    return 0;
}

/* All of a chunk is asked for before the first of its pages is waited for. */
static void read_ahead(const struct staged_file *file, int64_t offset, int64_t n_bytes)
{
    for (int64_t end = offset + n_bytes; offset < end; offset += AHEAD_BYTES)
        (void)posix_fadvise(file->fd, offset, AHEAD_BYTES, POSIX_FADV_WILLNEED);
}

static int fill(const struct stage_reader *reader, const struct staged_file *file, int64_t offset,
                int64_t n_bytes)
{
    char *at = file->mapping + offset;
    read_ahead(file, offset, n_bytes);
    if (reader->is_locked)
        return mlock(at, (size_t)n_bytes) == 0 ? 0 : errno;
    for (;;) {
        if (madvise(at, (size_t)n_bytes, MADV_POPULATE_READ) == 0)
            return 0;
        if (errno == EINVAL)
            return read_through(file, offset, n_bytes);
        if (errno != EINTR && errno != EAGAIN)
            return errno;
    }
}

/* The chunk of an index over all files. */
static const struct staged_file *find_chunk(const struct stage_reader *reader, size_t index,
                                            int64_t *ret_offset, int64_t *ret_n_bytes)
{
    for (size_t i = 0; i < reader->n_files; i++) {
        const struct staged_file *file = &reader->files[i];
        size_t n_chunks = chunks_of(file);
        if (index < n_chunks) {
            *ret_offset = (int64_t)index * STAGE_CHUNK_BYTES;
            int64_t left = file->size_bytes - *ret_offset;
            *ret_n_bytes = left < STAGE_CHUNK_BYTES ? left : STAGE_CHUNK_BYTES;
            return file;
        }
        index -= n_chunks;
    }
    return NULL;
}

void stage_reader_work(struct stage_reader *reader)
{
    while (!atomic_load(&reader->is_cancelled) && atomic_load(&reader->failure) == 0) {
        int64_t offset = 0, n_bytes = 0;
        size_t index = atomic_fetch_add(&reader->next_chunk, 1);
        const struct staged_file *file = find_chunk(reader, index, &offset, &n_bytes);
        if (!file)
            return;
        int failure = fill(reader, file, offset, n_bytes);
        int none = 0;
        if (failure == 0)
            atomic_fetch_add(&reader->done_bytes, n_bytes);
        else if (atomic_compare_exchange_strong(&reader->failure, &none, failure))
            atomic_store(&reader->failed_file, file);
    }
}

void stage_reader_cancel(struct stage_reader *reader)
{
    atomic_store(&reader->is_cancelled, true);
}

int64_t stage_reader_done_bytes(const struct stage_reader *reader)
{
    return atomic_load(&reader->done_bytes);
}

int64_t stage_reader_total_bytes(const struct stage_reader *reader)
{
    return reader->total_bytes;
}

int64_t stage_reader_missing_bytes(const struct stage_reader *reader)
{
    return reader->missing_bytes;
}

enum pool_code stage_reader_result(const struct stage_reader *reader, struct pool_error *err)
{
    int failure = atomic_load(&reader->failure);
    const struct staged_file *file = atomic_load(&reader->failed_file);
    const char *path = file ? file->path : "a file";
    if (failure == 0 && atomic_load(&reader->done_bytes) < reader->total_bytes)
        return pool_error_set(err, POOL_CANCELLED, "the staging was cancelled");
    if (failure == 0)
        return POOL_OK;
    enum pool_code code = POOL_INTERNAL;
    if (failure == ENOMEM || failure == EAGAIN || (failure == EPERM && reader->is_locked))
        code = pool_error_set_errno(err, POOL_INSUFFICIENT_MEMORY, failure, "%s %s",
                                    reader->is_locked ? "the kernel does not lock" : "no memory for", path);
    else if (failure == EFAULT) /* no page behind the mapping: the file was cut, or its disk failed */
        code =
            pool_error_set(err, POOL_CONFLICT, "%s was cut or could not be read while it was staged", path);
    else
        code = pool_error_set_errno(err, POOL_INTERNAL, failure, "cannot read %s", path);
    pool_error_add_text(err, "path", path);
    return code;
}

/* ---- measuring ---- */

/* 1: measured; 0: the kernel has no such call; -1: it does not tell. */
static int measure_by_cachestat(int fd, int64_t size_bytes, int64_t page_bytes, int64_t *ret_bytes)
{
    struct cache_range range = { .n = (uint64_t)size_bytes };
    struct cache_pages pages = { 0 };
    if (syscall(SYS_cachestat, fd, &range, &pages, 0U) < 0)
        return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -1;
    int64_t bytes = (int64_t)pages.n_cache * page_bytes;
    *ret_bytes = bytes < size_bytes ? bytes : size_bytes; /* the last page is not full */
    return 1;
}

/* mincore(2) says "all of it" of files that are not ours and that we may not write. */
static bool may_ask_mincore(int fd, const struct stat *st)
{
    char path[32];
    if (st->st_uid == geteuid())
        return true;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0;
}

static bool measure_by_mincore(int fd, const struct stat *st, int64_t page_bytes, int64_t *ret_bytes)
{
    CLEANUP_FREE unsigned char *pages = malloc(MINCORE_PAGES);
    int64_t window_bytes = (int64_t)MINCORE_PAGES * page_bytes;
    int64_t sum_bytes = 0;
    if (!pages || !may_ask_mincore(fd, st))
        return false;
    for (int64_t offset = 0; offset < st->st_size; offset += window_bytes) {
        int64_t left = st->st_size - offset;
        size_t n = (size_t)(left < window_bytes ? left : window_bytes);
        void *mapping = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, offset);
        if (mapping == MAP_FAILED)
            return false;
        bool is_told = mincore(mapping, n, pages) == 0;
        munmap(mapping, n);
        if (!is_told)
            return false;
        for (size_t i = 0; i < (n + (size_t)page_bytes - 1) / (size_t)page_bytes; i++)
            sum_bytes += pages[i] & 1 ? page_bytes : 0;
    }
    *ret_bytes = sum_bytes < st->st_size ? sum_bytes : st->st_size;
    return true;
}

static bool measure_file(const char *path, int64_t *ret_bytes)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    int64_t page_bytes = sysconf(_SC_PAGESIZE);
    struct stat st;
    *ret_bytes = 0;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return false;
    if (st.st_size == 0)
        return true;
    int is_told = measure_by_cachestat(fd, st.st_size, page_bytes, ret_bytes);
    return is_told > 0 || (is_told == 0 && measure_by_mincore(fd, &st, page_bytes, ret_bytes));
}

bool stage_measure(const char *const *paths, size_t n_paths, int64_t *ret_resident_bytes)
{
    int64_t sum_bytes = 0;
    for (size_t i = 0; i < n_paths; i++) {
        int64_t bytes;
        if (!measure_file(paths[i], &bytes))
            return false;
        sum_bytes += bytes;
    }
    *ret_resident_bytes = sum_bytes;
    return true;
}

void stage_drop(const char *const *paths, size_t n_paths)
{
    for (size_t i = 0; i < n_paths; i++) {
        CLEANUP_CLOSE int fd = open(paths[i], O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd >= 0)
            (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    }
}

/* ---- the right to lock ---- */

static bool has_lock_capability(void)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };
    return syscall(SYS_capget, &header, data) == 0 && (data[0].effective & (1U << CAP_IPC_LOCK));
}

bool stage_may_lock(int64_t locked_bytes, int64_t more_bytes, int64_t *ret_limit_bytes)
{
    struct rlimit limit;
    *ret_limit_bytes = -1;
    if (has_lock_capability() || getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
        limit.rlim_cur > (rlim_t)INT64_MAX)
        return true;
    *ret_limit_bytes = (int64_t)limit.rlim_cur;
    return locked_bytes <= *ret_limit_bytes && more_bytes <= *ret_limit_bytes - locked_bytes;
}
