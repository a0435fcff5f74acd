/*
 * The last snapshot of the GPUs and its age, by CLOCK_BOOTTIME: after a suspend it is old. No input or output here.
 */
#ifndef MANAGERD_GPU_FACTS_H
#define MANAGERD_GPU_FACTS_H

#include <pool/error.h>
#include <pool/gpu.h>
#include <stdbool.h>
#include <stdint.h>

struct gpu_facts {
    struct pool_gpu_list *list; /* never NULL once started; empty, with a reason, before the first snapshot */
    bool has_snapshot;
    int64_t taken_boottime_ns; /* of the list; before the first one: of the start */
    int64_t stale_boottime_ns; /* from then on it is stale */
    bool is_stale;             /* and the list says so */
};

/* Starts with nothing, which is late when no snapshot comes within `patience_ms`. */
POOL_MUST_CHECK enum pool_code gpu_facts_start(struct gpu_facts *facts, int64_t patience_ms,
                                               struct pool_error *err);
void gpu_facts_done(struct gpu_facts *facts);
/* Takes a list over. The next one is expected within `patience_ms`. */
void gpu_facts_replace(struct gpu_facts *facts, struct pool_gpu_list *list, int64_t patience_ms);
/* The next one is expected sooner than that. */
void gpu_facts_expect(struct gpu_facts *facts, int64_t patience_ms);
int64_t gpu_facts_age_ms(const struct gpu_facts *facts);
/* How long until they are late; 0: they are. */
int64_t gpu_facts_left_ms(const struct gpu_facts *facts);
/* Makes every GPU unhealthy for being stale. The age in the reason is that of this moment. */
void gpu_facts_mark_stale(struct gpu_facts *facts);
/* Says why there is no snapshot; when there is one, nothing changes. */
void gpu_facts_explain(struct gpu_facts *facts, const char *reason);

#endif
