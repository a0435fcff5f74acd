/*
 * What is known of a file that is being downloaded, as it lies on disk beside it: how far each of its pieces is, and the
 * SHA-256 of those that are whole. A piece's record is written after its bytes, so that a process that is killed at any
 * moment leaves a state that is true.
 *
 * The file is for this machine alone: numbers are as the processor has them.
 */
#ifndef DOWNLOAD_PART_STATE_H
#define DOWNLOAD_PART_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "cli/download/hub_client.h"

#define PART_PIECE_MIN_BYTES ((int64_t)1 << 20)
#define PART_PIECE_MAX_BYTES ((int64_t)16 << 20) /* but for files that would have too many */
#define PART_PIECES_MAX      16384               /* 256 GiB in pieces of 16 MiB */
#define PART_STATE_MAX_BYTES (256 + 64 * PART_PIECES_MAX)
#define PART_BOOT_ID_MAX     40

/* What the file shall become. */
struct part_content {
    int64_t size_bytes;
    char name[HUB_NAME_MAX + 1]; /* "": not known */
};

struct part_piece {
    int64_t done_bytes;
    bool is_summed; /* it is whole, and sum is that of the bytes that came */
    unsigned char sum[SHA256_BYTES];
};

struct part_state {
    struct part_content content;
    char boot_id[PART_BOOT_ID_MAX]; /* of the kernel that knows the bytes, on disk or not */
    int64_t piece_bytes;
    size_t n_pieces;
    struct part_piece *pieces;
};

/* A state of nothing done. false: no memory. */
bool part_state_init(struct part_state *state, const struct part_content *content, const char *boot_id);
void part_state_done(struct part_state *state);
/* From the bytes of a state file. false: it is none, it is of another content, or no memory. */
bool part_state_read(struct part_state *ret_state, const struct part_content *content, const void *bytes,
                     size_t n);
/* The bytes of its head, and of a piece's record with its offset in the file. */
#define PART_HEAD_BYTES   256
#define PART_RECORD_BYTES 64
void part_state_head(const struct part_state *state, unsigned char bytes[PART_HEAD_BYTES]);
int64_t part_state_record(const struct part_state *state, size_t index,
                          unsigned char bytes[PART_RECORD_BYTES]);

static inline int64_t part_piece_start(const struct part_state *state, size_t index)
{
    return (int64_t)index * state->piece_bytes;
}
int64_t part_piece_length(const struct part_state *state, size_t index);
bool part_piece_is_whole(const struct part_state *state, size_t index);
int64_t part_state_done_bytes(const struct part_state *state);
/* Bytes from the beginning on that are all there, in whole pieces. */
int64_t part_state_frontier(const struct part_state *state);

#endif
