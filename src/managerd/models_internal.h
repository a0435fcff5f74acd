/*
 * What the files about models know of each other. Everything here is the loop's, but for what a job has for itself.
 */
#ifndef MANAGERD_MODELS_INTERNAL_H
#define MANAGERD_MODELS_INTERNAL_H

#include <stdatomic.h>

#include "base/cleanup.h"
#include "managerd/daemon.h"
#include "managerd/log.h"
#include "managerd/models.h"
#include "managerd/stage_reader.h"

struct verify_job;
struct stage_job;

struct model_waiter {
    struct http_request *request;
    bool is_for_drop; /* waits until it is not staged, else until it is */
    struct model_waiter *next;
};

struct model_record {
    struct models *models;
    char *id;
    struct pool_model_verification verification; /* texts are the record's, model_id is `id` */
    struct verify_job *verifying;                /* NULL: none under way */
    struct model_waiter *verify_waiters;
    struct pool_model_staging staging; /* the same; `reason` is static */
    struct stage_job *stage_job;       /* NULL: none under way */
    struct model_waiter *stage_waiters;
    char *path;   /* of the model, as workers have it; NULL: never staged */
    char **paths; /* of its files, n_paths of them and NULL */
    size_t n_paths;
    struct stage_reader *reader; /* holds the lock; NULL: not locked */
    struct model_record *next;
};

/* What was seen of the catalogs when a job asked for them. */
struct catalog_sight {
    char fault[POOL_ERROR_MESSAGE_MAX]; /* why those on the disk are not in force, "": they are */
};

struct models {
    struct daemon *daemon;
    struct catalog_sight catalog; /* as it was told last */
    struct model_record *records;
    uv_timer_t ticker;   /* while something is under way */
    uv_timer_t measurer; /* while something is staged */
    bool is_measuring;
    atomic_bool is_cancelled;
};

/* models.c */
struct model_record *model_record_find(const struct models *models, const char *id);
/* Finds or makes. NULL: no memory. */
struct model_record *model_record_demand(struct models *models, const char *id);
/* Begins to tell progress. */
void models_tick(struct models *models);
bool model_add_waiter(struct model_waiter **waiters, struct http_request *request, bool is_for_drop);

/*
 * A model of the catalog, looked up in order with everything else that uses the manager, and what is to be done with it
 * then, on the loop. `model` is NULL when only the entry was looked for; it is the job's, and may be taken.
 */
struct model_lookup {
    struct models *models;
    struct http_request *request;
    char *id;
    bool is_entry_enough;
    void (*then)(struct model_lookup *lookup);
    bool is_waiting, is_locked, ignores_proof; /* as asked */
    struct catalog_sight sight;
    enum pool_code code;
    struct pool_error error;
    struct pool_model *model;
    struct log_cause cause;
};
/* `wish` is copied; answers the request when it cannot be begun, or when there is no such model. */
void model_lookup_begin(const struct model_lookup *wish);

/* model_verify.c */
void verification_tick(struct model_record *record);
void verification_clear(struct model_record *record);

/* model_stage.c, model_stage_measure.c */
void staging_tick(struct model_record *record);
void staging_clear(struct model_record *record);
void staging_cancel(struct model_record *record);
void staging_measure(uv_timer_t *timer);

static inline void free_model(struct pool_model **model)
{
    pool_model_free(*model);
}

/* Puts a copy in place of what was there; false: no memory, and NULL is there. */
static inline bool replace_text(char **text, const char *other)
{
    free(*text);
    *text = other ? strdup(other) : NULL;
    return *text || !other;
}

#endif
