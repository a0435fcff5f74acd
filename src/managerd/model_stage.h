/*
 * What the files about staging know of each other. Everything here is the loop's, but for what a job has for itself.
 */
#ifndef MANAGERD_MODEL_STAGE_H
#define MANAGERD_MODEL_STAGE_H

#include "managerd/models_internal.h"

struct stage_job {
    struct model_record *record;
    struct pool_model *model;
    bool is_locked;
    bool is_dropped;             /* somebody does not want it any more */
    struct stage_reader *reader; /* while threads read: what the loop may look at and cancel */
    struct stage_reader *own;    /* before and after that: the thread's whose turn it is */
    char **given_up;             /* files of what gives way, up to NULL */
    size_t n_given_up;
    size_t n_threads; /* that read */
    struct pool_reading resident_bytes;
    enum pool_code code;
    struct pool_error error;
    struct log_cause cause;
};

/* model_stage.c */
/* The files of a model, NULL behind them; each is the caller's. false: no memory. */
POOL_MUST_CHECK bool stage_paths_copy(char *const *paths, size_t n, char ***ret_copy);
/* Lets go of what was staged, its lock above all. */
void stage_forget_files(struct model_record *record);
/* Publishes what is known of it as an event. */
void stage_tell(const struct model_record *record, const char *type);

/* model_stage_admit.c */
/*
 * Whether what a job has opened may be read: within staging.max_bytes, what others have taken, the host's ledger (NULL: not
 * known) and RLIMIT_MEMLOCK. Puts what has to give way into given_up; nothing is evicted for what does not fit all the same.
 * Errors: INSUFFICIENT_MEMORY with the arithmetic.
 */
POOL_MUST_CHECK enum pool_code stage_admit(struct stage_job *job, const struct pool_ledger *host,
                                           struct pool_error *err);
/* It is staged no longer, and why (a static text); its pages are whose who took its paths. */
void stage_leave(struct model_record *record, const char *reason);

#endif
