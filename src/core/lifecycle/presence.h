/*
 * What the presence of workers on their GPUs is to the rest of this room; the verdict itself is public, pool/presence.h.
 */
#ifndef LIFECYCLE_PRESENCE_H
#define LIFECYCLE_PRESENCE_H

#include <pool/lifecycle.h>

/* Whether a process that a driver lists may be, or stand for, somebody whom it does not list. */
bool presence_hides_holders(const struct pool_attributed_process *process);
/* One device in words. */
void presence_seat_format(const struct pool_presence_seat *seat, char *text, size_t n);

/* ---- presence_look.c: for callers that may wait for the driver ---- */

/* Asks the driver about one worker. Whatever keeps it from telling: nothing is known. */
void presence_look(struct pool_manager *manager, const struct pool_worker_info *worker,
                   struct pool_presence *ret_presence);
/* Records a verdict, best effort, and says it in `worker`, too. Takes the lock itself, when there is news. */
void presence_note(struct pool_manager *manager, struct pool_worker_info *worker,
                   const struct pool_presence *presence);
/*
 * Of workers that are about to be called ready: is_ready[i] stays only of those that are where they should be; the
 * absence of the others is recorded.
 */
void presence_sift(struct pool_manager *manager, const struct pool_worker_list *answering, bool *is_ready);
/* Of workers that serve, by a list of devices that was asked for at some time anyway. For a command; best effort. */
void presence_note_all(struct pool_manager *manager, const struct pool_gpu_list *gpus,
                       int64_t asked_boottime_ns, const struct pool_worker_list *live);

#endif
