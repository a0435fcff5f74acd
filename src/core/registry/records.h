/*
 * Records of workers in memory: each one block, and a set of them that is found by id, by port and in
 * the order of their creation. Knows nothing of revisions, history and transactions.
 */
#ifndef CORE_REGISTRY_RECORDS_H
#define CORE_REGISTRY_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <pool/worker.h>

#include "core/worker_fields.h"

/* A worker and all its texts in one block, read-only: copied out and freed as a whole. */
struct record {
    uint64_t hash; /* of the id, in the set it was made for */
    char id[POOL_WORKER_ID_MAX +
            1]; /* here, so that a look-up touches no more of a record than its beginning */
    uint32_t n_text_bytes[WORKER_N_TEXTS]; /* with the NUL, 0 for one that is absent */
    struct pool_worker_info worker;
};

struct record_slot {
    uint64_t hash;
    struct record *record; /* NULL: free */
};

struct record_set {
    uint64_t seed;
    size_t n;
    struct record_slot *slots; /* open addressing, at most half full; n_slots is a power of two */
    size_t n_slots;
    struct record **ordered; /* by created_wall_ms, then id */
    size_t n_ordered_max;
    struct record **by_port; /* a slot for each port; the kernel gives memory for the used part alone */
};

/* false when memory is out; record_set_done is fine then too. */
bool record_set_init(struct record_set *set);
/* Frees the records in it as well. */
void record_set_done(struct record_set *set);

uint64_t record_hash(const struct record_set *set, const char *worker_id);
/* A copy of worker as a record; NULL when memory is out. Freed with free(). */
struct record *record_new(const struct record_set *set, const struct pool_worker_info *worker);
/* As pool_worker_info_copy, without measuring every text again. NULL when memory is out. */
struct pool_worker_info *record_copy(const struct record *record);

/* Makes room for one more; the only call on a set that can fail. */
bool record_set_reserve(struct record_set *set);
/* There must be room, and no record of that id or port. */
void record_set_add(struct record_set *set, struct record *record);
/* Keeps the room, so that the record or another can be added again. Does not free it. */
void record_set_remove(struct record_set *set, struct record *record);

struct record *record_set_find(const struct record_set *set, const char *worker_id);
struct record *record_set_find_port(const struct record_set *set, int64_t port);

#endif
