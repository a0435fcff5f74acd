/*
 * Filling parts from copies; see seed.h.
 */
#include "cli/download/seed.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#define CHUNK_BYTES ((int64_t)1 << 20)

struct seed {
    struct part *part;
    int fd;
    struct digest digest;
    unsigned char *buffer;
};

static void seed_done(struct seed *seed)
{
    close_fd(&seed->fd);
    digest_close(&seed->digest);
    free(seed->buffer);
}

static bool open_copy(struct seed *seed, const char *path)
{
    struct stat st;
    seed->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    return seed->fd >= 0 && fstat(seed->fd, &st) == 0 && S_ISREG(st.st_mode) &&
           st.st_size == seed->part->state.content.size_bytes;
}

/* *ret_is_read false: the copy can not be read, and the piece is as it was when it was begun. */
static enum pool_code copy_piece(struct seed *seed, size_t index, bool *ret_is_read, struct pool_error *err)
{
    struct part *part = seed->part;
    int64_t at = part_piece_start(&part->state, index);
    int64_t left = part_piece_length(&part->state, index);
    unsigned char sum[DIGEST_BYTES_MAX];
    enum pool_code code = part_forget_piece(part, index, err);
    bool is_fine = digest_begin(&seed->digest);
    *ret_is_read = true;
    while (code == POOL_OK && is_fine && left > 0) {
        ssize_t got = pread(seed->fd, seed->buffer, (size_t)(left < CHUNK_BYTES ? left : CHUNK_BYTES), at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            *ret_is_read = false;
            return part_forget_piece(part, index, err);
        }
        is_fine = digest_add(&seed->digest, seed->buffer, (size_t)got);
        code = part_write(part, index, seed->buffer, (size_t)got, err);
        at += got;
        left -= got;
    }
    if (code != POOL_OK)
        return code;
    return is_fine && digest_end(&seed->digest, sum)
               ? part_set_sum(part, index, sum, err)
               : pool_error_set(err, POOL_INTERNAL, "OpenSSL failed to hash");
}

enum pool_code seed_part(struct part *part, const char *path, int cancel_fd, struct meter *meter,
                         struct pool_error *err)
{
    CLEANUP(seed_done) struct seed seed = { .part = part, .fd = -1 };
    struct digest_failure failure = { .is_no_memory = true };
    bool is_read = true;
    enum pool_code code = POOL_OK;
    if (!open_copy(&seed, path))
        return POOL_OK;
    seed.buffer = malloc((size_t)CHUNK_BYTES);
    if (!seed.buffer || !digest_open(&seed.digest, DIGEST_SHA256, &failure))
        return failure.is_no_memory ? pool_error_no_memory(err)
                                    : pool_error_set(err, POOL_INTERNAL, "%s", failure.message);
    for (size_t i = 0; i < part->state.n_pieces && code == POOL_OK && is_read; i++) {
        struct pollfd cancel = { .fd = cancel_fd, .events = POLLIN };
        if (part_piece_is_whole(&part->state, i))
            continue;
        code = copy_piece(&seed, i, &is_read, err);
        meter_set(meter, part_state_done_bytes(&part->state));
        if (code == POOL_OK && poll(&cancel, 1, 0) > 0)
            code = pool_error_set(err, POOL_CANCELLED, "interrupted");
    }
    return code;
}
