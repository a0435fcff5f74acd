/*
 * Whom a start may displace, and whom of them it does: as few workers as make it fit. Nobody is taken who is not named by the
 * request (may_displace), and nobody who starts or stops already. Pure: what a worker is at is told by activity_looks.
 */
#ifndef LIFECYCLE_DISPLACE_H
#define LIFECYCLE_DISPLACE_H

#include "core/lifecycle/devices.h"
#include "core/lifecycle/manager.h"
#include "core/lifecycle/split.h"

/* Steps of the search for the best set; a set that is small enough was found long before. */
#define DISPLACE_STEPS_MAX 200000

/* ---- the choice (displace_choose.c) ---- */

/* One that may be stopped. */
struct displace_candidate {
    const struct pool_worker_info *worker;  /* borrowed */
    int64_t idle_since_ns;                  /* CLOCK_BOOTTIME; of a busy one: now */
    int64_t total_bytes;                    /* what its stop gives back, on all of its devices */
    int64_t gives_bytes[SPLIT_DEVICES_MAX]; /* on each device of the start */
};

/*
 * Marks in is_chosen those to stop so that missing_bytes come free on each device (0 or less: nothing has to there): the
 * fewest workers; of as many, those that give back least; of these, those that have been idle longest, and then by their ids.
 * Where there are too many sets to look at all of them, it is the best of those that were seen: never more workers than
 * needed on one device, and never one too many on several. false: all of them together are too little.
 * Errors: none; without memory false, with *ret_is_no_memory.
 */
bool displace_choose(const struct displace_candidate *candidates, size_t n, const int64_t *missing_bytes,
                     size_t n_devices, bool *is_chosen, bool *ret_is_no_memory);

/* ---- what a stop gives back (displace.c) ---- */

/* What a worker has of a device: what was promised to it, and how much of that (or more) it holds. */
struct displace_holding {
    int64_t reserved_bytes;
    int64_t observed_bytes;
};
bool displace_holds(const struct devices *devices, const struct pool_worker_info *worker, const char *device,
                    struct displace_holding *ret_holding);
/* The ledger as it will be without that: what is held is free, what was promised is not promised any more. */
void displace_from_ledger(struct pool_ledger *ledger, const struct displace_holding *holding);
/* The same for what stopped workers held: the driver will show it free. */
void displace_release(struct pool_ledger *ledger);
/* free - promised - headroom, which may be less than nothing. */
int64_t displace_room_bytes(const struct pool_ledger *ledger);

/* ---- who may be stopped (displace.c) ---- */

bool displace_is_named(const struct pool_may_displace *may_displace, const struct pool_worker_info *worker);
bool displace_names_anybody(const struct pool_may_displace *may_displace);

struct activity_looks;
struct displace_question {
    const struct pool_config *config;
    const struct pool_may_displace *may_displace;
    const struct pool_worker_list *live;
    const struct devices *devices;
    const struct activity_looks
        *looks;          /* NULL: nobody was asked yet, and everybody may turn out to be idle */
    const char *self_id; /* of the start; NULL: it has none yet */
    int64_t now_ns;      /* CLOCK_BOOTTIME */
    const struct pool_ledger *const *ledgers; /* of the devices of the start */
    size_t n_devices;
};
struct displace_candidates {
    size_t n;
    struct displace_candidate *at;
    char spared
        [256]; /* who is named and can not be taken, and why: "b: works on 2 requests; c: is starting" */
};
void displace_candidates_done(struct displace_candidates *candidates);
/* Errors: INSUFFICIENT_MEMORY. */
POOL_MUST_CHECK enum pool_code displace_find(const struct displace_question *question,
                                             struct displace_candidates *ret_candidates,
                                             struct pool_error *err);

/* ---- asking workers what they are at (activity_look.c) ---- */

#define ACTIVITY_LOOK_MAX_MS 5000

struct activity_looks {
    size_t n;
    struct activity_look {
        char worker_id[POOL_WORKER_ID_MAX + 1];
        struct pool_reading n_requests; /* absent: it does not say, or did not in time */
    } * at;
};
void activity_looks_done(struct activity_looks *looks);
/* Asks everybody who is named, all together. Blocks: until they have answered, at most ACTIVITY_LOOK_MAX_MS. */
POOL_MUST_CHECK enum pool_code activity_looks_ask(const struct pool_may_displace *may_displace,
                                                  const struct pool_worker_list *live,
                                                  struct activity_looks *ret_looks, struct pool_error *err);
const struct activity_look *activity_looks_find(const struct activity_looks *looks, const char *worker_id);

#endif
