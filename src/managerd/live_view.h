/*
 * Workers, GPUs and ledgers as of this moment, from memory alone: for those who must answer while the registry's disk or
 * the manager's thread does not (metrics, heartbeats). What workers hold of their GPUs is as of the last whole state.
 */
#ifndef MANAGERD_LIVE_VIEW_H
#define MANAGERD_LIVE_VIEW_H

#include <pool/api.h>
#include <stdbool.h>

struct daemon;

/* Borrowed until the loop goes on, but for the arrays themselves, which live_view_done frees. */
struct live_view {
    const struct pool_gpu_list *gpus;
    struct pool_worker_list workers;
    size_t n_ledgers;
    struct pool_ledger
        *ledgers; /* of the GPUs whose memory is known; nothing is said about what stopped workers release */
};

/* false: no memory. */
bool live_view_take(struct daemon *daemon, struct live_view *ret_view);
void live_view_done(struct live_view *view);

#endif
