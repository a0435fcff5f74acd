/*
 * What the pool tells an orchestrator (contract, section 7): it registers, says every interval that it is there and
 * what it has, reports the death of a worker at once, and signs off when it ends with no worker left.
 *
 * The orchestrator decides nothing here. When it is down, slow, or answers nonsense, that costs a counter: requests
 * end by their time and limits, at most one of a kind is under way, and what failed is tried again after a pause
 * that doubles, with jitter. Reports of deaths wait in a bounded queue.
 *
 * All in the thread of the loop.
 */
#ifndef MANAGERD_HEARTBEAT_H
#define MANAGERD_HEARTBEAT_H

#include <pool/api.h>
#include <pool/error.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct heartbeat; /* opaque */

#define HEARTBEAT_REPORTS_MAX      256 /* queued; the oldest one gives way */
#define HEARTBEAT_ANSWER_MAX_BYTES ((size_t)64 << 10)
#define HEARTBEAT_TIMEOUT_MS       10000
#define HEARTBEAT_BACKOFF_MIN_MS   1000
#define HEARTBEAT_BACKOFF_MAX_MS   60000
/* A report that the orchestrator does not know the place for is offered so often, then dropped. */
#define HEARTBEAT_REPORT_TRIES_MAX 5

/* X(name, text) */
#define HEARTBEAT_KINDS(X)      \
    X(REGISTER, "register")     \
    X(BEAT, "heartbeat")        \
    X(FAILURE, "worker_failed") \
    X(LEAVE, "leave")

enum heartbeat_kind {
#define HEARTBEAT_X(name, text) HEARTBEAT_##name,
    HEARTBEAT_KINDS(HEARTBEAT_X)
#undef HEARTBEAT_X
};
#define HEARTBEAT_N_KINDS 4

/* X(name, text) */
#define HEARTBEAT_OUTCOMES(X)                                                   \
    X(OK, "ok")                                                                 \
    X(UNREACHABLE, "unreachable")                                               \
    X(TIMEOUT, "timeout")                                                       \
    X(UNKNOWN_POOL, "unknown_pool") /* 404 */                                   \
    X(REFUSED, "refused")           /* any other 4xx */                         \
    X(SERVER_ERROR, "server_error") /* 5xx */                                   \
    X(BAD_ANSWER, "bad_answer")     /* not HTTP, cut off, too long, 1xx, 3xx */ \
    X(NOT_SENT, "not_sent")         /* no memory, no token */

enum heartbeat_outcome {
#define HEARTBEAT_X(name, text) HEARTBEAT_OUTCOME_##name,
    HEARTBEAT_OUTCOMES(HEARTBEAT_X)
#undef HEARTBEAT_X
};
#define HEARTBEAT_N_OUTCOMES 8

/* Static. */
const char *heartbeat_kind_name(enum heartbeat_kind kind);
const char *heartbeat_outcome_name(enum heartbeat_outcome outcome);

/* What there is at the moment. Borrowed until the call that asked for it is over; all may be left empty. */
struct heartbeat_facts {
    const struct pool_gpu_list *gpus;
    size_t n_ledgers;
    const struct pool_ledger *ledgers; /* for what our workers hold of each GPU */
    const struct pool_worker_list *workers;
};

struct heartbeat_options {
    const char *url;        /* of the orchestrator, http or https, without query */
    const char *token_file; /* NULL: no token */
    const char *pool_id;
    const char *epoch;    /* new at every start of the daemon */
    const char *endpoint; /* where the pool's API is, as others reach it */
    int64_t interval_ms;
    int64_t first_after_ms; /* when the first request leaves, unless heartbeat_begin says so before */
    int64_t timeout_ms;     /* of a request; 0: HEARTBEAT_TIMEOUT_MS */
    int64_t backoff_min_ms; /* 0: HEARTBEAT_BACKOFF_MIN_MS or the interval, whichever is less */
    int64_t backoff_max_ms; /* 0: HEARTBEAT_BACKOFF_MAX_MS or the interval, whichever is more */
    /* false: there is no memory. A heartbeat without its workers would say that there are none, so none is sent. */
    bool (*fill)(void *ctx, struct heartbeat_facts *facts);
    /* A request is over; for the log. `problem` is "" when it is OK. May be NULL. */
    void (*on_outcome)(void *ctx, enum heartbeat_kind kind, enum heartbeat_outcome outcome,
                       const char *problem);
    void *ctx;
};

struct heartbeat_failure {
    const char *worker_id;
    enum pool_stop_reason reason;
    struct pool_reading exit_code;
    struct pool_reading exit_signal;
    int64_t vram_released_bytes;
};

struct heartbeat_counters {
    uint64_t n[HEARTBEAT_N_KINDS][HEARTBEAT_N_OUTCOMES];
    uint64_t n_reports_dropped; /* the queue was full, there was no memory, or they were refused */
    uint64_t n_reports_queued;  /* gauge */
    bool is_registered;
};

/**
 * Starts. Strings are copied. Requests leave from the loop.
 * Errors: INVALID_CONFIG (the URL, an interval), INSUFFICIENT_MEMORY, INTERNAL (libcurl).
 */
POOL_MUST_CHECK enum pool_code heartbeat_open(uv_loop_t *loop, const struct heartbeat_options *options,
                                              struct heartbeat **ret_heartbeat, struct pool_error *err);
/* What a registration says is known: it need not wait any longer. */
void heartbeat_begin(struct heartbeat *heartbeat);
/* Reports a death: at once when the last report is delivered, else after it. Copies what it needs. */
void heartbeat_worker_failed(struct heartbeat *heartbeat, const struct heartbeat_failure *failure);
struct heartbeat_counters heartbeat_counters(const struct heartbeat *heartbeat);
/**
 * Ends. What is in the queue is delivered first and, when `is_leaving` (no worker is left), the pool signs off, all in
 * wait_ms at most and without second tries. on_closed comes from the loop, when no handle is left in it.
 * Accepts NULL.
 */
void heartbeat_close(struct heartbeat *heartbeat, bool is_leaving, int64_t wait_ms,
                     void (*on_closed)(void *ctx), void *ctx);

#endif
