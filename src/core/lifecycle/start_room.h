/*
 * Room for a start that does not fit now: memory that is coming free by itself, and workers that it may displace. What is found
 * here is only found; who is stopped for it is stopped by start_displace.c.
 */
#ifndef LIFECYCLE_START_ROOM_H
#define LIFECYCLE_START_ROOM_H

#include <stdlib.h>

#include "core/lifecycle/displace.h"

struct start_room {
    /* what may be done for it */
    bool
        waits_for_stops; /* the end of workers that are being stopped is waited for, else only that of stopped ones' memory */
    bool has_displaced; /* those who were stopped for it are not gone, or their memory is not free */
    const struct pool_may_displace *may_displace; /* NULL: nobody is displaced (any more) */
    const struct activity_looks *looks;           /* NULL: nobody was asked yet what he is at */
    /* what was found */
    bool is_begun;   /* by a command: the stops are begun, and it has to see to their end */
    bool is_awaited; /* by a command: it comes free by itself, and is waited for */
    bool is_needed;  /* it fits when this is done, and not before */
    bool
        is_look_needed; /* it is found on the belief that those who were chosen are idle: ask them, and look again */
    const char *wait_reason;    /* static: "displacing", "stopping" or "releasing" */
    int64_t missing_bytes;      /* over all devices of the start, beside what comes free by itself */
    int64_t displaceable_bytes; /* what all who may be displaced would give back there */
    size_t n_displaced;
    struct pool_displacement *displaced;
    char spared[256]; /* as displace_candidates.spared */
};
void start_room_done(struct start_room *room);
/* What may be done for a request; displaced: whom it has displaced already, "": nobody. */
struct start_room start_room_of(const struct pool_worker_spawn_request *request, const char *displaced);

/* Ledgers of all devices, in the order of placement_input. */
struct ledgers {
    size_t n;
    struct pool_ledger *at;
};
static inline void ledgers_done(struct ledgers *ledgers)
{
    free(ledgers->at);
    ledgers->at = NULL;
}

/* Where a start goes. */
struct start_place {
    const struct pool_gpu_info *gpu; /* NULL: the host's memory */
    size_t index;                    /* of its ledger */
    struct split split;              /* n > 1: of several devices; its ledgers are those of ret_after */
};

struct start_room_question {
    const struct pool_manager *manager;
    const struct placement_input *placement;
    const struct devices *devices;
    const struct pool_worker_list *live;
    const char *self_id;
};
/*
 * Looks for room. *ret_after: every ledger as it will be then. false: there is none (room says what there is), or memory is out.
 */
bool start_room_find(struct start_room *room, const struct start_room_question *question,
                     struct start_place *ret_place, struct ledgers *ret_after);

#endif
