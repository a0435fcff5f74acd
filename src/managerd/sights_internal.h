/*
 * The inside of the looks at workers, for its two files: sights.c (which workers are looked at) and sights_look.c (when,
 * how, and what follows).
 */
#ifndef MANAGERD_SIGHTS_INTERNAL_H
#define MANAGERD_SIGHTS_INTERNAL_H

#include <sys/queue.h>

#include "managerd/http_client.h"
#include "managerd/sights.h"

#define REASON_MAX 192

struct sight {
    LIST_ENTRY(sight) link;
    TAILQ_ENTRY(sight) turn; /* in sights->waiting */
    struct sights *sights;
    uv_timer_t timer;
    char worker_id[POOL_WORKER_ID_MAX + 1];
    char *health_url;   /* NULL: it calls back, and has no path */
    char *activity_url; /* NULL: it does not say */
    enum pool_activity activity;
    /* as told last */
    enum pool_worker_status status;
    bool is_row_healthy;
    int64_t idle_timeout_ms;
    /* the look under way */
    struct http_call *call;
    bool is_looking, is_waiting;
    bool is_activity_wanted;
    struct pool_reading n_requests; /* absent: not asked, or no answer */
    /* what was seen */
    unsigned n_misses;
    bool is_healthy;
    char health_reason[REASON_MAX];
    bool has_mark;
    double mark;
    bool is_busy;           /* at the last look */
    bool is_used;           /* by a request that no look saw running */
    int64_t quiet_since_ns; /* CLOCK_BOOTTIME; nothing was in flight since, as far as is known */
    unsigned n_quiet;       /* looks in a row */
    bool is_draining;
    int64_t drain_deadline_ns; /* 0: not limited yet */
    /* CLOCK_BOOTTIME */
    int64_t next_health_ns, next_activity_ns;
};

struct sights {
    uv_loop_t *loop;
    struct sights_options options;
    struct http_client *client;
    LIST_HEAD(all_sights, sight) all;
    TAILQ_HEAD(waiting, sight) waiting;
    unsigned n_looking;
    bool is_taking_turns;
    uint32_t n_phases;
    size_t n_handles; /* timers that the loop has not let go of, and the client */
    bool is_closing;
    void (*on_closed)(void *context);
    void *closed_context;
};

/* Sets the timer to the next look. */
void sight_schedule(struct sight *sight);
int64_t sight_activity_interval_ns(const struct sight *sight);
/* Looks at those who wait for their turn, as many as may be under way. */
void sights_begin_turns(struct sights *sights);

#endif
