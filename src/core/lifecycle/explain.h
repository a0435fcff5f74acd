/*
 * Why something was done or refused, kept: each start, refusal, stop and end leaves one record in the registry, with its
 * inputs and its arithmetic. A record that can not be kept (memory, a full disk) is lost; what it is about is not.
 */
#ifndef LIFECYCLE_EXPLAIN_H
#define LIFECYCLE_EXPLAIN_H

#include "core/lifecycle/manager.h"

static inline void free_explanation(struct pool_explanation **explanation)
{
    pool_explanation_free(*explanation);
}

/* ---- a start: a draft in the manager, filled while it goes on; without one nothing happens ---- */

void explain_start_begin(struct pool_manager *manager, const struct pool_worker_spawn_request *request);
void explain_start_needs(struct pool_manager *manager, const struct start_request *start);
/*
 * The devices that were looked at. chosen: NULL for the host's memory, or when none was. split: of one on several devices, each of
 * which is compared with its part; else NULL.
 */
struct split;
void explain_start_places(struct pool_manager *manager, const struct placement_input *input,
                          const struct pool_gpu_info *chosen, const struct split *split);
void explain_start_fact(struct pool_manager *manager, const char *name, int64_t number);
void explain_start_text(struct pool_manager *manager, const char *name, const char *text);
/* Keeps it as a start (worker) or a refusal (err, whose details get its id). */
void explain_start_end(struct pool_manager *manager, enum pool_code code,
                       const struct pool_worker_info *worker, struct pool_error *err);

/* Nothing was decided. */
void explain_start_drop(struct pool_manager *manager);

/* ---- the others ---- */

/* A stop begins, for the reason in the record. */
void explain_stop(struct pool_manager *manager, const struct pool_worker_info *worker);
/* A worker is gone; the record is its last. To be kept when that is recorded; NULL: no memory. */
struct pool_explanation *explain_gone(struct pool_manager *manager, const struct pool_worker_info *worker);

/* A worker is not on its GPU, or is there again. */
void explain_presence(struct pool_manager *manager, const struct pool_worker_info *worker,
                      const struct pool_presence *presence);

/* For records of other kinds: a new one about a worker (may be NULL), NULL when memory is out. */
struct pool_explanation *explain_new(const struct pool_manager *manager, enum pool_explain_kind kind,
                                     const char *worker_id);
void explain_say(struct pool_explanation *explanation, const char *format, ...) POOL_PRINTF(2, 3);
void explain_add_number(struct pool_explanation *explanation, const char *name, int64_t number);
void explain_add_text(struct pool_explanation *explanation, const char *name, const char *text);
/* Keeps and frees it. Accepts NULL. false: it is lost. */
bool explain_keep(struct pool_manager *manager, struct pool_explanation *explanation);

#endif
