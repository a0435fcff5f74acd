/*
 * What the files of the heartbeat know of each other. Not for anybody else.
 *
 * Two lanes, one request each: the pool's (register, then beats) and that of reports. Each has its own pauses, so that
 * a report that nobody takes does not hold up a heartbeat.
 */
#ifndef MANAGERD_HEARTBEAT_INTERNAL_H
#define MANAGERD_HEARTBEAT_INTERNAL_H

#include "base/random.h"
#include "managerd/heartbeat.h"
#include "managerd/heartbeat_token.h"
#include "managerd/http_client.h"

struct lane {
    struct heartbeat *heartbeat;
    uv_timer_t timer;
    struct http_call *call; /* NULL: none is under way */
    enum heartbeat_kind kind;
    char correlation_id[UUID_TEXT_MAX]; /* of the last request; "": none */
    int n_failures;                     /* in a row */
};

struct heartbeat {
    uv_loop_t *loop;
    struct heartbeat_options options; /* its strings are not valid */
    char *register_url, *beat_url, *pool_url, *failed_url;
    char *token_file, *pool_id, *epoch, *endpoint;
    struct heartbeat_token token;
    struct http_client *client;
    struct lane pool;
    struct lane reports;
    uint64_t beat_due_ms;
    int64_t sequence;
    bool was_announced; /* the orchestrator may know the pool */
    char *queue[HEARTBEAT_REPORTS_MAX];
    size_t first, n_queued;
    int n_tries; /* of the first one, that ended with 404 */
    struct heartbeat_counters counters;

    uv_timer_t patience; /* of closing */
    bool is_closing, is_leaving, has_let_go;
    size_t n_handles;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

/* heartbeat_lanes.c */
/* The pool's next request, in so many milliseconds. */
void heartbeat_schedule_pool(struct heartbeat *heartbeat, int64_t in_ms);
/* The first report of the queue, which is not empty. */
void heartbeat_send_report(struct heartbeat *heartbeat);
/* Whether it is under way. */
bool heartbeat_send_leave(struct heartbeat *heartbeat);
void heartbeat_drop_first_report(struct heartbeat *heartbeat);

/* heartbeat.c */
/* The lane of reports is free, or a step of closing is over. */
void heartbeat_go_on_closing(struct heartbeat *heartbeat);

#endif
