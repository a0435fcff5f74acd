/*
 * The fields of a worker's record, in one list: what copies, checks, stores and compares records goes
 * by it, so that a new field is added in one place. Labels are not in it; each user treats them itself.
 */
#ifndef CORE_WORKER_FIELDS_H
#define CORE_WORKER_FIELDS_H

#include <stddef.h>
#include <stdint.h>

#include <pool/error.h>
#include <pool/worker.h>

enum worker_field_kind {
    WORKER_FIELD_TEXT,     /* char *, NULL when absent */
    WORKER_FIELD_CHARS,    /* char[], "" when absent */
    WORKER_FIELD_INTEGER,  /* int64_t inside a range */
    WORKER_FIELD_UNSIGNED, /* uint64_t, kept by its bits where only int64_t fits */
    WORKER_FIELD_BOOL,
    WORKER_FIELD_CHOICE, /* an enum, kept by its name */
    WORKER_FIELD_READING,
};

/*
 * X(kind, name, member, a, b); a and b are the range of an INTEGER, the names of a CHOICE.
 * The names are columns of the database. What a later schema of it adds goes into a list of its own,
 * WORKER_FIELDS_2, which is then appended to WORKER_FIELDS and named in a migration.
 */
#define WORKER_FIELDS_1(X)                                                               \
    X(TEXT, worker_id, worker_id, 0, 0)                                                  \
    X(TEXT, backend, backend, 0, 0)                                                      \
    X(TEXT, model_ref, model_ref, 0, 0)                                                  \
    X(TEXT, model_path, model_path, 0, 0)                                                \
    X(TEXT, gpu_uuid, gpu_uuid, 0, 0)                                                    \
    X(INTEGER, gpu_id, gpu_id, -1, INT64_MAX)                                            \
    X(TEXT, host, host, 0, 0)                                                            \
    X(INTEGER, port, port, 0, 65535)                                                     \
    X(TEXT, uri, uri, 0, 0)                                                              \
    X(CHOICE, status, status, worker_status_names, POOL_WORKER_N_STATUSES)               \
    X(INTEGER, revision, revision, 0, INT64_MAX - 1)                                     \
    X(INTEGER, pid, process.pid, 0, INT64_MAX)                                           \
    X(INTEGER, start_time_ticks, process.start_time_ticks, 0, INT64_MAX)                 \
    X(CHARS, boot_id, process.boot_id, 0, 0)                                             \
    X(UNSIGNED, pid_namespace, process.pid_namespace, 0, 0)                              \
    X(UNSIGNED, pidfd_inode, process.pidfd_inode, 0, 0)                                  \
    X(INTEGER, reserved_bytes, reserved_bytes, 0, INT64_MAX)                             \
    X(READING, observed_bytes, observed_bytes, 0, 0)                                     \
    X(READING, peak_bytes, peak_bytes, 0, 0)                                             \
    X(READING, free_before_start_bytes, free_before_start_bytes, 0, 0)                   \
    X(TEXT, log_path, log_path, 0, 0)                                                    \
    X(UNSIGNED, log_identity, log_identity, 0, 0)                                        \
    X(INTEGER, created_wall_ms, created_wall_ms, 0, INT64_MAX)                           \
    X(INTEGER, created_boottime_ns, created_boottime_ns, 0, INT64_MAX)                   \
    X(INTEGER, ready_wall_ms, ready_wall_ms, 0, INT64_MAX)                               \
    X(INTEGER, ready_boottime_ns, ready_boottime_ns, 0, INT64_MAX)                       \
    X(INTEGER, stopped_wall_ms, stopped_wall_ms, 0, INT64_MAX)                           \
    X(BOOL, is_healthy, is_healthy, 0, 0)                                                \
    X(TEXT, health_reason, health_reason, 0, 0)                                          \
    X(TEXT, stop_phase, stop_phase, 0, 0)                                                \
    X(CHOICE, stop_reason, stop_reason, worker_stop_reason_names, WORKER_N_STOP_REASONS) \
    X(READING, exit_code, exit_code, 0, 0)                                               \
    X(READING, exit_signal, exit_signal, 0, 0)                                           \
    X(CHOICE, port_proof, port_proof, worker_port_proof_names, WORKER_N_PORT_PROOFS)     \
    X(TEXT, program, program, 0, 0)                                                      \
    X(TEXT, ready_path, ready_path, 0, 0)                                                \
    X(INTEGER, stop_signal, stop_signal, 0, INT32_MAX)                                   \
    X(CHOICE, activity, activity, worker_activity_names, WORKER_N_ACTIVITIES)            \
    X(INTEGER, ctx_size, ctx_size, 0, INT64_MAX)                                         \
    X(INTEGER, parallel, parallel, 0, INT64_MAX)                                         \
    X(INTEGER, start_timeout_ms, start_timeout_ms, 0, INT64_MAX)                         \
    X(INTEGER, idle_timeout_ms, idle_timeout_ms, 0, INT64_MAX)                           \
    X(INTEGER, stop_grace_ms, stop_grace_ms, 0, INT64_MAX)                               \
    X(BOOL, is_port_chosen, is_port_chosen, 0, 0)                                        \
    X(TEXT, capabilities, capabilities, 0, 0)                                            \
    X(TEXT, protocol, protocol, 0, 0)                                                    \
    X(TEXT, spawn_token_sha256, spawn_token_sha256, 0, 0)

/* What was learned, and the shares of several devices. */
#define WORKER_FIELDS_LEARNED(X)                               \
    X(TEXT, learned_key, learned_key, 0, 0)                    \
    X(INTEGER, estimated_bytes, estimated_bytes, 0, INT64_MAX) \
    X(BOOL, is_reserve_fixed, is_reserve_fixed, 0, 0)          \
    X(TEXT, shares, shares, 0, 0)

/* Of one that waits for its turn. */
#define WORKER_FIELDS_QUEUE(X)                               \
    X(INTEGER, queue_position, queue_position, 0, INT64_MAX) \
    X(TEXT, queue_reason, queue_reason, 0, 0)

/* Since when it is idle. */
#define WORKER_FIELDS_IDLE(X)                                        \
    X(INTEGER, idle_since_wall_ms, idle_since_wall_ms, 0, INT64_MAX) \
    X(INTEGER, idle_since_boottime_ns, idle_since_boottime_ns, 0, INT64_MAX)

/* When the grace of its stop is over. */
#define WORKER_FIELDS_STOP(X) X(INTEGER, kill_at_boottime_ns, kill_at_boottime_ns, 0, INT64_MAX)

#define WORKER_FIELDS(X)     \
    WORKER_FIELDS_1(X)       \
    WORKER_FIELDS_LEARNED(X) \
    WORKER_FIELDS_QUEUE(X) WORKER_FIELDS_IDLE(X) WORKER_FIELDS_STOP(X)

#define WORKER_COUNT_ONE_(...) +1
enum {
    WORKER_N_FIELDS = 0 WORKER_FIELDS(WORKER_COUNT_ONE_),
    WORKER_N_STOP_REASONS = 0 POOL_STOP_REASONS(WORKER_COUNT_ONE_),
    WORKER_N_PORT_PROOFS = 0 POOL_PORT_PROOFS(WORKER_COUNT_ONE_),
    WORKER_N_ACTIVITIES = 0 POOL_ACTIVITIES(WORKER_COUNT_ONE_),
};
#undef WORKER_COUNT_ONE_

struct worker_field {
    const char *name;
    enum worker_field_kind kind;
    size_t offset;
    size_t n_bytes;             /* of the member */
    int64_t min, max;           /* INTEGER */
    const char *const *choices; /* CHOICE */
    size_t n_choices;
};

extern const struct worker_field worker_fields[WORKER_N_FIELDS];

/* Where the TEXT members are, for what touches all of them and nothing else. */
enum {
    WORKER_N_TEXTS = 0
#define WORKER_COUNT_TEXT +1
#define WORKER_COUNT_CHARS
#define WORKER_COUNT_INTEGER
#define WORKER_COUNT_UNSIGNED
#define WORKER_COUNT_BOOL
#define WORKER_COUNT_CHOICE
#define WORKER_COUNT_READING
#define WORKER_COUNT(kind, name, member, a, b) WORKER_COUNT_##kind
    WORKER_FIELDS(WORKER_COUNT)
#undef WORKER_COUNT
};
extern const size_t worker_text_offsets[WORKER_N_TEXTS];

static inline char **worker_text(struct pool_worker_info *worker, size_t i)
{
    return (char **)(void *)((char *)worker + worker_text_offsets[i]);
}

/* INVALID_REQUEST naming the first field that no record may have so: a bad id, a text too long, a number out of range. */
POOL_MUST_CHECK enum pool_code worker_info_check(const struct pool_worker_info *worker,
                                                 struct pool_error *err);

/* Appends and takes ownership; on false (no memory) the worker is the caller's still. */
bool worker_list_append(struct pool_worker_list *list, struct pool_worker_info *worker);

#endif
