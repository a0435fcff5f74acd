/*
 * States of downloads; see part_state.h. Nothing here touches a file.
 */
#include "cli/download/part_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static const char MAGIC[16] = "pool-core part1";

/* As in the file. */
struct head {
    char magic[16];
    char boot_id[PART_BOOT_ID_MAX];
    char name[HUB_NAME_MAX + 8];
    int64_t size_bytes, piece_bytes, n_pieces;
    char reserved[104];
};
struct record {
    int64_t done_bytes;
    uint8_t is_summed;
    uint8_t reserved[23];
    unsigned char sum[SHA256_BYTES];
};
_Static_assert(sizeof(struct head) == PART_HEAD_BYTES, "the head of a state file");
_Static_assert(sizeof(struct record) == PART_RECORD_BYTES, "a record of a state file");

/* Small enough for several connections at once, large enough that asking costs nothing beside it. */
static int64_t choose_piece_bytes(int64_t size_bytes)
{
    int64_t bytes = size_bytes / 64;
    if (bytes > PART_PIECE_MAX_BYTES)
        bytes = PART_PIECE_MAX_BYTES;
    if (bytes < size_bytes / (PART_PIECES_MAX / 2))
        bytes = size_bytes / (PART_PIECES_MAX / 2);
    bytes -= bytes % PART_PIECE_MIN_BYTES;
    return bytes < PART_PIECE_MIN_BYTES ? PART_PIECE_MIN_BYTES : bytes;
}

static size_t count_pieces(int64_t size_bytes, int64_t piece_bytes)
{
    return (size_t)(size_bytes / piece_bytes + (size_bytes % piece_bytes != 0));
}

bool part_state_init(struct part_state *state, const struct part_content *content, const char *boot_id)
{
    *state =
        (struct part_state){ .content = *content, .piece_bytes = choose_piece_bytes(content->size_bytes) };
    snprintf(state->boot_id, sizeof state->boot_id, "%s", boot_id);
    state->n_pieces = count_pieces(content->size_bytes, state->piece_bytes);
    state->pieces = calloc(state->n_pieces + 1, sizeof *state->pieces);
    return state->pieces != NULL;
}

void part_state_done(struct part_state *state)
{
    free(take_ptr(&state->pieces));
    state->n_pieces = 0;
}

static bool is_head_sound(const struct head *head, const struct part_content *content, size_t n)
{
    if (memcmp(head->magic, MAGIC, sizeof MAGIC) != 0 || head->boot_id[PART_BOOT_ID_MAX - 1] != '\0' ||
        head->name[sizeof head->name - 1] != '\0' || strcmp(head->name, content->name) != 0 ||
        head->size_bytes != content->size_bytes)
        return false;
    if (head->piece_bytes < PART_PIECE_MIN_BYTES || head->n_pieces < 0 || head->n_pieces > PART_PIECES_MAX ||
        count_pieces(head->size_bytes, head->piece_bytes) != (size_t)head->n_pieces)
        return false;
    return n == PART_HEAD_BYTES + (size_t)head->n_pieces * PART_RECORD_BYTES;
}

bool part_state_read(struct part_state *ret_state, const struct part_content *content, const void *bytes,
                     size_t n)
{
    struct head head;
    if (n < sizeof head)
        return false;
    memcpy(&head, bytes, sizeof head);
    if (!is_head_sound(&head, content, n))
        return false;
    CLEANUP(part_state_done)
    struct part_state state = { .content = *content,
                                .piece_bytes = head.piece_bytes,
                                .n_pieces = (size_t)head.n_pieces };
    memcpy(state.boot_id, head.boot_id, sizeof state.boot_id);
    state.pieces = calloc(state.n_pieces + 1, sizeof *state.pieces);
    if (!state.pieces)
        return false;
    for (size_t i = 0; i < state.n_pieces; i++) {
        struct record record;
        memcpy(&record, (const char *)bytes + PART_HEAD_BYTES + i * PART_RECORD_BYTES, sizeof record);
        int64_t length = part_piece_length(&state, i);
        if (record.done_bytes < 0 || record.done_bytes > length || record.is_summed > 1 ||
            (record.is_summed && record.done_bytes != length))
            return false;
        state.pieces[i] =
            (struct part_piece){ .done_bytes = record.done_bytes, .is_summed = record.is_summed };
        memcpy(state.pieces[i].sum, record.sum, sizeof record.sum);
    }
    *ret_state = state;
    state.pieces = NULL;
    return true;
}

void part_state_head(const struct part_state *state, unsigned char bytes[PART_HEAD_BYTES])
{
    struct head head = { .size_bytes = state->content.size_bytes,
                         .piece_bytes = state->piece_bytes,
                         .n_pieces = (int64_t)state->n_pieces };
    memcpy(head.magic, MAGIC, sizeof MAGIC);
    memcpy(head.boot_id, state->boot_id, sizeof state->boot_id);
    memcpy(head.name, state->content.name, sizeof state->content.name);
    memcpy(bytes, &head, sizeof head);
}

int64_t part_state_record(const struct part_state *state, size_t index,
                          unsigned char bytes[PART_RECORD_BYTES])
{
    const struct part_piece *piece = &state->pieces[index];
    struct record record = { .done_bytes = piece->done_bytes, .is_summed = piece->is_summed };
    memcpy(record.sum, piece->sum, sizeof record.sum);
    memcpy(bytes, &record, sizeof record);
    return (int64_t)(PART_HEAD_BYTES + index * PART_RECORD_BYTES);
}

int64_t part_piece_length(const struct part_state *state, size_t index)
{
    int64_t rest = state->content.size_bytes - part_piece_start(state, index);
    return rest < state->piece_bytes ? rest : state->piece_bytes;
}

bool part_piece_is_whole(const struct part_state *state, size_t index)
{
    return state->pieces[index].is_summed;
}

int64_t part_state_done_bytes(const struct part_state *state)
{
    int64_t bytes = 0;
    for (size_t i = 0; i < state->n_pieces; i++)
        bytes += state->pieces[i].done_bytes;
    return bytes;
}

int64_t part_state_frontier(const struct part_state *state)
{
    size_t n = 0;
    while (n < state->n_pieces && part_piece_is_whole(state, n))
        n++;
    return n == state->n_pieces ? state->content.size_bytes : part_piece_start(state, n);
}
