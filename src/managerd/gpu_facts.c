/*
 * The last snapshot of the GPUs and its age; see gpu_facts.h.
 */
#include "managerd/gpu_facts.h"

#include <inttypes.h>
#include <pool/api.h>
#include <stdio.h>

#include "base/clock.h"

enum pool_code gpu_facts_start(struct gpu_facts *facts, int64_t patience_ms, struct pool_error *err)
{
    /* A list of nothing is made by the library, which owns the layout. */
    static const char nothing[] = "{\"gpus\":[],\"reason\":\"the driver has not answered yet\"}";
    struct pool_gpu_list *list = NULL;
    enum pool_code code = pool_gpu_list_decode(nothing, sizeof nothing - 1, &list, err);
    if (code != POOL_OK)
        return code;
    int64_t now_ns = clock_boottime_ns();
    *facts = (struct gpu_facts){
        .list = list,
        .taken_boottime_ns = now_ns,
        .stale_boottime_ns = now_ns + patience_ms * NS_PER_MS,
        .is_stale = true,
    };
    return POOL_OK;
}

void gpu_facts_done(struct gpu_facts *facts)
{
    pool_gpu_list_free(facts->list);
    facts->list = NULL;
}

void gpu_facts_replace(struct gpu_facts *facts, struct pool_gpu_list *list, int64_t patience_ms)
{
    int64_t now_ns = clock_boottime_ns();
    pool_gpu_list_free(facts->list);
    *facts = (struct gpu_facts){
        .list = list,
        .has_snapshot = true,
        .taken_boottime_ns = list->taken_boottime_ns < now_ns ? list->taken_boottime_ns : now_ns,
        .stale_boottime_ns = now_ns + patience_ms * NS_PER_MS,
    };
}

void gpu_facts_expect(struct gpu_facts *facts, int64_t patience_ms)
{
    int64_t stale_ns = clock_boottime_ns() + patience_ms * NS_PER_MS;
    if (facts->has_snapshot && stale_ns < facts->stale_boottime_ns)
        facts->stale_boottime_ns = stale_ns;
}

int64_t gpu_facts_age_ms(const struct gpu_facts *facts)
{
    int64_t age_ns = clock_boottime_ns() - facts->taken_boottime_ns;
    return age_ns > 0 ? age_ns / NS_PER_MS : 0;
}

int64_t gpu_facts_left_ms(const struct gpu_facts *facts)
{
    int64_t left_ns = facts->stale_boottime_ns - clock_boottime_ns();
    return left_ns > 0 ? left_ns / NS_PER_MS + 1 : 0;
}

void gpu_facts_mark_stale(struct gpu_facts *facts)
{
    facts->is_stale = true;
    char text[80];
    snprintf(text, sizeof text, "stale: the driver has not answered for %" PRId64 " ms",
             gpu_facts_age_ms(facts));
    for (size_t i = 0; i < facts->list->n_gpus; i++) {
        struct pool_gpu_info *gpu = facts->list->gpus[i];
        gpu->health = POOL_GPU_UNHEALTHY;
        snprintf(gpu->health_reason, sizeof gpu->health_reason, "%s", text);
    }
    if (facts->has_snapshot)
        snprintf(facts->list->reason, sizeof facts->list->reason, "%s", text);
}

void gpu_facts_explain(struct gpu_facts *facts, const char *reason)
{
    if (!facts->has_snapshot)
        snprintf(facts->list->reason, sizeof facts->list->reason, "%s", reason);
}
