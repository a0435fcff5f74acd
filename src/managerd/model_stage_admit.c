/*
 * Whether a model may be staged, and which ones give way to it: least recently used first, none that a worker uses.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "managerd/log.h"
#include "managerd/model_stage.h"

struct in_use {
    const char *path;
    bool is_found;
};

static void look_for_path(const struct pool_worker_info *worker, void *context)
{
    struct in_use *in_use = context;
    in_use->is_found =
        in_use->is_found || (worker->model_path && strcmp(worker->model_path, in_use->path) == 0);
}

static bool is_in_use(const struct model_record *record)
{
    struct in_use in_use = { .path = record->path };
    if (record->path)
        supervisor_each(record->models->daemon->supervisor, look_for_path, &in_use);
    return in_use.is_found;
}

/* What is in RAM for others, or will be. */
struct others {
    int64_t bytes;
    int64_t fixed_bytes;    /* of them what does not give way: in use, or being read */
    int64_t unlocked_bytes; /* of them what the kernel counts as available */
    int64_t locked_bytes;
};

static struct others sum_others(const struct model_record *self)
{
    struct others others = { 0 };
    for (const struct model_record *record = self->models->records; record; record = record->next) {
        const struct pool_model_staging *staging = &record->staging;
        bool is_being_read = record->stage_job && staging->state == POOL_STAGE_STAGING;
        if (record == self || (staging->state != POOL_STAGE_STAGED && !is_being_read))
            continue;
        bool is_locked =
            staging->state == POOL_STAGE_STAGED ? staging->is_locked : record->stage_job->is_locked;
        others.bytes += staging->total_bytes;
        others.fixed_bytes += is_being_read || is_in_use(record) ? staging->total_bytes : 0;
        others.locked_bytes += is_locked ? staging->total_bytes : 0;
        others.unlocked_bytes += is_locked ? 0 : staging->total_bytes;
    }
    return others;
}

static enum pool_code refuse_limit(const struct stage_job *job, const struct others *others,
                                   int64_t max_bytes, struct pool_error *err)
{
    int64_t total_bytes = stage_reader_total_bytes(job->reader);
    if (max_bytes == 0)
        pool_error_set(err, POOL_INSUFFICIENT_MEMORY, "staging is off: staging.max_bytes is 0");
    else
        pool_error_set(err, POOL_INSUFFICIENT_MEMORY,
                       "%s has %" PRId64 " bytes; of staging.max_bytes = %" PRId64 " are %" PRId64
                       " taken by models that do not give way",
                       job->record->id, total_bytes, max_bytes, others->fixed_bytes);
    if (err)
        err->is_retriable = total_bytes <= max_bytes;
    pool_error_add_number(err, "required_memory_bytes", total_bytes);
    pool_error_add_number(err, "staging_max_bytes", max_bytes);
    pool_error_add_number(err, "staged_bytes", others->bytes);
    pool_error_add_number(err, "fixed_bytes", others->fixed_bytes);
    return POOL_INSUFFICIENT_MEMORY;
}

/* Against the host's ledger, which knows cgroup limits and what workers were promised. */
static enum pool_code check_memory(const struct stage_job *job, const struct others *others,
                                   int64_t freed_bytes, const struct pool_ledger *host,
                                   struct pool_error *err)
{
    int64_t missing_bytes = stage_reader_missing_bytes(job->reader);
    int64_t kept_bytes = others->unlocked_bytes > freed_bytes ? others->unlocked_bytes - freed_bytes : 0;
    int64_t available_bytes = host ? host->available_bytes - kept_bytes : 0;
    if (host && missing_bytes <= available_bytes)
        return POOL_OK;
    pool_error_set(err, POOL_INSUFFICIENT_MEMORY,
                   "%s needs %" PRId64 " bytes more in memory, %" PRId64 " are available", job->record->id,
                   missing_bytes, available_bytes > 0 ? available_bytes : 0);
    pool_error_add_number(err, "required_memory_bytes", missing_bytes);
    pool_error_add_number(err, "available_memory_bytes", available_bytes > 0 ? available_bytes : 0);
    pool_error_add_number(err, "staged_bytes", others->bytes);
    if (host) {
        pool_error_add_number(err, "free_bytes", host->free_bytes);
        pool_error_add_number(err, "pending_bytes", host->pending_bytes);
        pool_error_add_number(err, "total_bytes", host->total_bytes);
    }
    return POOL_INSUFFICIENT_MEMORY;
}

static enum pool_code check_lock(const struct stage_job *job, const struct others *others,
                                 struct pool_error *err)
{
    int64_t limit_bytes;
    int64_t total_bytes = stage_reader_total_bytes(job->reader);
    if (!job->is_locked || stage_may_lock(others->locked_bytes, total_bytes, &limit_bytes))
        return POOL_OK;
    pool_error_set(err, POOL_INSUFFICIENT_MEMORY,
                   "%s cannot be locked: RLIMIT_MEMLOCK is %" PRId64
                   " bytes; raise it (LimitMEMLOCK= of the unit) or stage without a lock",
                   job->record->id, limit_bytes);
    if (err)
        err->is_retriable = false;
    pool_error_set_field(err, "lock");
    pool_error_add_number(err, "required_memory_bytes", total_bytes);
    pool_error_add_number(err, "locked_bytes", others->locked_bytes);
    pool_error_add_number(err, "memlock_limit_bytes", limit_bytes);
    return POOL_INSUFFICIENT_MEMORY;
}

static struct model_record *least_recently_used(const struct model_record *self)
{
    struct model_record *oldest = NULL;
    for (struct model_record *record = self->models->records; record; record = record->next) {
        if (record != self && record->staging.state == POOL_STAGE_STAGED && !record->stage_job &&
            !is_in_use(record) && (!oldest || record->staging.used_wall_ms < oldest->staging.used_wall_ms))
            oldest = record;
    }
    return oldest;
}

void stage_leave(struct model_record *record, const char *reason)
{
    stage_forget_files(record);
    record->staging.state = POOL_STAGE_NONE;
    record->staging.reason = (char *)(uintptr_t)reason;
    record->staging.staged_wall_ms = 0;
    record->staging.done_bytes = 0;
    record->staging.is_locked = false;
    record->staging.resident_bytes = (struct pool_reading){ 0 };
    stage_tell(record, "model.unstaged");
}

/* One that gives way; its pages are dropped before the reading begins. */
static bool evict(struct stage_job *job, struct model_record *record)
{
    char **given_up = reallocarray(job->given_up, job->n_given_up + record->n_paths + 1, sizeof *given_up);
    if (!given_up)
        return false;
    job->given_up = given_up;
    for (size_t i = 0; i < record->n_paths; i++)
        job->given_up[job->n_given_up++] = take_ptr(&record->paths[i]);
    log_tell(LOG_MODEL_UNSTAGED, NULL, "%s gives way to %s", record->id, job->record->id);
    stage_leave(record, "evicted");
    return true;
}

/* Nothing is evicted for what does not fit all the same. */
enum pool_code stage_admit(struct stage_job *job, const struct pool_ledger *host, struct pool_error *err)
{
    int64_t max_bytes = job->record->models->daemon->config->staging_max_bytes;
    int64_t total_bytes = stage_reader_total_bytes(job->reader);
    struct others others = sum_others(job->record);
    if (total_bytes > max_bytes - others.fixed_bytes)
        return refuse_limit(job, &others, max_bytes, err);
    int64_t excess_bytes = others.bytes + total_bytes - max_bytes;
    enum pool_code code = check_memory(job, &others, excess_bytes > 0 ? excess_bytes : 0, host, err);
    if (code == POOL_OK)
        code = check_lock(job, &others, err);
    while (code == POOL_OK && sum_others(job->record).bytes > max_bytes - total_bytes) {
        struct model_record *oldest = least_recently_used(job->record);
        if (!oldest || !evict(job, oldest))
            code = pool_error_no_memory(err);
    }
    return code;
}
