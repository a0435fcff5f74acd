/*
 * A file that is being downloaded, beside the place where it will be: ORG/REPO/.downloads/KEY.part with its bytes, KEY.state
 * with what is known of them, KEY.lock for the one who works on it. It gets its name when it is whole and right, and not
 * before; all three are gone then.
 */
#ifndef DOWNLOAD_PART_H
#define DOWNLOAD_PART_H

#include "cli/download/part_state.h"

struct part {
    char *final_path, *data_path, *state_path, *lock_path, *dir;
    int lock_fd, data_fd, state_fd;
    struct part_state state;
};
#define PART_INIT                                    \
    {                                                \
        .lock_fd = -1, .data_fd = -1, .state_fd = -1 \
    }

/*
 * Nothing is made yet.
 * @param dir for unfinished files, on the file system of final_path
 * @param key names this very file among them
 * Errors: INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code part_init(struct part *part, const char *final_path, const char *dir,
                                         const char *key, struct pool_error *err);
/* Lets go of everything; what is on disk stays. */
void part_done(struct part *part);

/* Takes the lock unless another process has it. Errors: PERMISSION_DENIED, INSUFFICIENT_DISK, INTERNAL. */
POOL_MUST_CHECK enum pool_code part_try_lock(struct part *part, bool *ret_is_locked, struct pool_error *err);
/* How far the one who has the lock is; -1: that can not be seen. */
int64_t part_peek_done_bytes(const struct part *part, const struct part_content *content);
/* Bytes that reserving the whole file will take from the file system. */
int64_t part_missing_bytes(const struct part *part, const struct part_content *content);
/**
 * Goes on where an earlier download ended when it was of the same content, else begins anew; reserves the space of the
 * whole file before anything is written. The lock is held.
 * @param ret_is_old what is there was written under an earlier boot: what the kernel had not written is lost
 * Errors: INSUFFICIENT_DISK (details: required_bytes, available_bytes), PERMISSION_DENIED, INTERNAL.
 */
POOL_MUST_CHECK enum pool_code part_prepare(struct part *part, const struct part_content *content,
                                            bool *ret_is_old, struct pool_error *err);

/* Appends bytes to a piece. Errors: INSUFFICIENT_DISK, INTERNAL. */
POOL_MUST_CHECK enum pool_code part_write(struct part *part, size_t index, const void *bytes, size_t n,
                                          struct pool_error *err);
/* A whole piece's sum. */
POOL_MUST_CHECK enum pool_code part_set_sum(struct part *part, size_t index,
                                            const unsigned char sum[SHA256_BYTES], struct pool_error *err);
/* A piece is to be fetched again. */
POOL_MUST_CHECK enum pool_code part_forget_piece(struct part *part, size_t index, struct pool_error *err);

/* Gives the file its name, for good. Errors: as part_write. */
POOL_MUST_CHECK enum pool_code part_publish(struct part *part, struct pool_error *err);
/* Takes everything away. */
void part_discard(struct part *part);

/* The error of a file operation: INSUFFICIENT_DISK, PERMISSION_DENIED, INSUFFICIENT_MEMORY or INTERNAL. */
enum pool_code part_report(struct pool_error *err, int failure, const char *what, const char *path);

#endif
