/*
 * Reading files into the page cache, by several threads at once, and measuring how much of a file is there. Knows files
 * and memory, no models and no loop.
 *
 * Source: madvise(2) MADV_POPULATE_READ (Linux 5.14), mlock(2), posix_fadvise(2), mincore(2); cachestat(2), Linux 6.5,
 * include/uapi/linux/mman.h of the kernel.
 */
#ifndef MANAGERD_STAGE_READER_H
#define MANAGERD_STAGE_READER_H

#include <pool/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Several, so that one's bookkeeping goes on while another waits for the disk; more do not help a disk. */
#define STAGE_THREADS 4
#define STAGE_CHUNK_BYTES \
    (INT64_C(8) << 20) /* what a thread reads at a time, and may still read when it is cancelled */

struct stage_reader;

/*
 * Opens and maps the files, and measures what is there already. Errors: MODEL_NOT_FOUND, PERMISSION_DENIED,
 * MODEL_CORRUPT (not a regular file), INSUFFICIENT_MEMORY (no address space), INTERNAL.
 */
POOL_MUST_CHECK enum pool_code stage_reader_open(const char *const *paths, size_t n_paths, bool is_locked,
                                                 struct stage_reader **ret_reader, struct pool_error *err);
/* Unlocks and unmaps; what was read stays in the cache. No thread may be in stage_reader_work. NULL is fine. */
void stage_reader_close(struct stage_reader *reader);
/*
 * Reads until nothing is left, somebody failed, or it is cancelled. Called by any number of threads, each once.
 * Blocks: as long as the disk does.
 */
void stage_reader_work(struct stage_reader *reader);
/* From any thread. */
void stage_reader_cancel(struct stage_reader *reader);
int64_t stage_reader_done_bytes(const struct stage_reader *reader);
int64_t stage_reader_total_bytes(const struct stage_reader *reader);
/* Not in the cache when the files were opened; all of them where nobody can tell. */
int64_t stage_reader_missing_bytes(const struct stage_reader *reader);
/* How it ended, when no thread works any more. Errors: CANCELLED, INSUFFICIENT_MEMORY, CONFLICT (cut while read), INTERNAL. */
POOL_MUST_CHECK enum pool_code stage_reader_result(const struct stage_reader *reader, struct pool_error *err);
/* Unmaps the files when they need not stay locked: the reader is then only what was said of it. */
void stage_reader_settle(struct stage_reader *reader);

/* How many bytes of the files are in the page cache now; false when the kernel does not tell us the truth. */
bool stage_measure(const char *const *paths, size_t n_paths, int64_t *ret_resident_bytes);
/* Lets the kernel drop the files' pages; those that somebody has mapped stay. */
void stage_drop(const char *const *paths, size_t n_paths);
/* Whether so many more bytes may be locked. *ret_limit_bytes: RLIMIT_MEMLOCK, -1 where there is none. */
bool stage_may_lock(int64_t locked_bytes, int64_t more_bytes, int64_t *ret_limit_bytes);

#endif
