/*
 * A worker: one process (tree) that serves one model on one device, and what a manager knows of it.
 *
 * Its life is spawning → ready → busy ⇄ idle → stopping → stopped; `stopped` can be reached from
 * each. The transitions are one table, pool_worker_transition. A process is never a bare pid here:
 * it is pid, start time, boot and pid namespace together.
 */
#ifndef POOL_WORKER_H
#define POOL_WORKER_H

#include <pool/error.h>
#include <pool/gpu.h>

#ifdef __cplusplus
extern "C" {
#endif

#define POOL_WORKERS_MAX      4096
#define POOL_WORKER_ID_MAX    64 /* characters, without the NUL */
#define POOL_LABELS_MAX       32
#define POOL_LABEL_NAME_MAX   63
#define POOL_LABEL_VALUE_MAX  255
#define POOL_SPAWN_TOKEN_USED "used"
#define POOL_WORKER_TEXT_MAX  65535 /* bytes of any other text of a record */

/* X(name, text) */
#define POOL_WORKER_STATUSES(X) \
    X(SPAWNING, "spawning")     \
    X(READY, "ready")           \
    X(BUSY, "busy")             \
    X(IDLE, "idle")             \
    X(STOPPING, "stopping")     \
    X(STOPPED, "stopped")

enum pool_worker_status {
#define POOL_X(name, text) POOL_WORKER_##name,
    POOL_WORKER_STATUSES(POOL_X)
#undef POOL_X
};
#define POOL_WORKER_N_STATUSES 6

/* What can happen to a worker. X(name, text) */
#define POOL_WORKER_EVENTS(X)                                                                   \
    X(READY_PROVEN, "ready_proven")     /* readiness and port proven */                         \
    X(REQUEST_SEEN, "request_seen")     /* the worker reports requests in flight */             \
    X(REQUESTS_DONE, "requests_done")   /* it reports none */                                   \
    X(STOP_REQUESTED, "stop_requested") /* stop or drain was asked for, or policy decided it */ \
    X(GONE, "gone")                     /* no process of it is left */                          \
    X(MAIN_EXITED, "main_exited")       /* its main process ended, others hold on */

enum pool_worker_event {
#define POOL_X(name, text) POOL_EVENT_##name,
    POOL_WORKER_EVENTS(POOL_X)
#undef POOL_X
};
#define POOL_WORKER_N_EVENTS 6

/* X(name, text) */
#define POOL_STOP_REASONS(X)          \
    X(NONE, "none")                   \
    X(REQUESTED, "requested")         \
    X(EXITED, "exited")               \
    X(SIGNALLED, "signalled")         \
    X(START_TIMEOUT, "start_timeout") \
    X(START_FAILED, "start_failed")   \
    X(UNHEALTHY, "unhealthy")         \
    X(IDLE_TIMEOUT, "idle_timeout")   \
    X(GPU_LOST, "gpu_lost")           \
    X(LOST, "lost") /* gone while nobody watched */

enum pool_stop_reason {
#define POOL_X(name, text) POOL_STOP_##name,
    POOL_STOP_REASONS(POOL_X)
#undef POOL_X
};

/* Who holds the asked port, as shown by sock_diag. X(name, text) */
#define POOL_PORT_PROOFS(X)                                                      \
    X(NONE, "none")                                                              \
    X(PROCESS_TREE, "process_tree") /* every listener is of the worker's tree */ \
    X(UID, "uid")                   /* /proc is closed to us: uid (and cgroup) only */

enum pool_port_proof {
#define POOL_X(name, text) POOL_PORT_PROOF_##name,
    POOL_PORT_PROOFS(POOL_X)
#undef POOL_X
};

/* How a worker's requests in flight are read. X(name, text) */
#define POOL_ACTIVITIES(X)          \
    X(NONE, "none")                 \
    X(LLAMA_SERVER, "llama-server") \
    X(VLLM, "vllm")

enum pool_activity {
#define POOL_X(name, text) POOL_ACTIVITY_##name,
    POOL_ACTIVITIES(POOL_X)
#undef POOL_X
};

/* Names are static; that of a value outside its enum is "unknown". The from_name functions take NULL as no name. */
POOL_EXPORT const char *pool_worker_status_name(enum pool_worker_status status);
POOL_EXPORT bool pool_worker_status_from_name(const char *name, enum pool_worker_status *ret_status);
POOL_EXPORT const char *pool_worker_event_name(enum pool_worker_event event);
POOL_EXPORT const char *pool_stop_reason_name(enum pool_stop_reason reason);
POOL_EXPORT bool pool_stop_reason_from_name(const char *name, enum pool_stop_reason *ret_reason);
POOL_EXPORT const char *pool_port_proof_name(enum pool_port_proof proof);
POOL_EXPORT const char *pool_activity_name(enum pool_activity activity);
POOL_EXPORT bool pool_activity_from_name(const char *name, enum pool_activity *ret_activity);

/**
 * The transition table: what `event` makes of `status`. Every pair is defined.
 * @return the next status; the same as `status` when the event changes nothing
 * Errors: CONFLICT, not retriable, for a pair that can not happen (for example READY_PROVEN of a stopped
 * worker); INVALID_REQUEST for values outside the enums.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_transition(enum pool_worker_status status,
                                                                  enum pool_worker_event event,
                                                                  enum pool_worker_status *ret_next,
                                                                  struct pool_error *err);

/** Identity of a process. All zero: none yet. */
struct pool_process_identity {
    int64_t pid;
    int64_t start_time_ticks; /**< field 22 of /proc/PID/stat, clock ticks since boot */
    char boot_id[37];         /**< /proc/sys/kernel/random/boot_id */
    uint64_t pid_namespace;   /**< inode of /proc/self/ns/pid of who recorded it */
    uint64_t pidfd_inode;     /**< unique per boot on kernels from 6.9, else 0 */
};

struct pool_label {
    char *name;
    char *value;
};

/**
 * What is known of a worker. Only pool_worker_info_new and the library make one; later versions add
 * fields at the end only. Strings are owned by the struct, NULL when absent.
 */
struct pool_worker_info {
    char *worker_id;
    char *backend;
    char *model_ref;  /**< as resolved: file: or hf: */
    char *model_path; /**< of the (first) file */
    char *gpu_uuid;   /**< NULL: the worker runs on the CPU, its reserve is host memory */
    int64_t gpu_id;   /**< index at the time of the start, -1 without a GPU */
    char *host;       /**< address it binds */
    int64_t port;
    char *uri; /**< "http://127.0.0.1:8001" */
    enum pool_worker_status status;
    int64_t revision; /**< grows with every update; 0: not registered yet */

    struct pool_process_identity process;
    int64_t reserved_bytes; /**< admitted for it on its device */
    struct pool_reading observed_bytes;
    struct pool_reading peak_bytes;
    struct pool_reading free_before_start_bytes; /**< of its device, at the plan */
    char *log_path;
    uint64_t log_identity; /**< of the log of this very start; 0: not known */

    int64_t created_wall_ms;
    int64_t created_boottime_ns;
    int64_t ready_wall_ms; /**< 0: not yet */
    int64_t ready_boottime_ns;
    int64_t stopped_wall_ms; /**< 0: not yet */

    bool is_healthy;
    char *
        health_reason; /**< NULL when healthy or never probed; of a healthy one a warning (pool/presence.h) */
    char *stop_phase; /**< "drain", "wait" (for an exclusive start), "term", "kill"; NULL when not stopping */
    enum pool_stop_reason stop_reason;
    struct pool_reading exit_code;
    struct pool_reading exit_signal;
    enum pool_port_proof port_proof;

    char *program;       /**< absolute path that was started */
    char *ready_path;    /**< HTTP path of readiness, NULL for callback workers */
    int64_t stop_signal; /**< of the operating system, for example 15 */
    enum pool_activity activity;
    int64_t ctx_size;
    int64_t parallel;
    int64_t start_timeout_ms;
    int64_t idle_timeout_ms; /**< 0: none */
    int64_t stop_grace_ms;
    bool is_port_chosen; /**< by us, so that a start may move to another one */
    char *capabilities;  /**< comma separated */
    char *protocol;      /**< of its API, for example "openai" */
    /** Of a worker that says by itself that it is ready: hex while that is awaited, then POOL_SPAWN_TOKEN_USED. NULL: no such worker. */
    char *spawn_token_sha256;

    size_t n_labels;
    struct pool_label *labels;

    char *learned_key; /**< in what way it was started, NULL: not known; what it takes is learned under it */
    int64_t estimated_bytes; /**< what its model was estimated to take, without margin; 0: nothing */
    bool is_reserve_fixed;   /**< the request said how much to reserve: it does not fall to what is seen */
    char *shares;           /**< of several devices "UUID=BYTES,UUID=BYTES"; NULL: all is on the one it has */
    int64_t queue_position; /**< its turn on its device, from 1; 0: it does not wait for one */
    char *
        queue_reason; /**< what it waits for: "exclusive_start", "starting", "stopping", "queue", "releasing" or
                         "displacing" */
    int64_t
        idle_since_wall_ms; /**< when it was last seen to have become idle; 0: it has had no request, or has one */
    int64_t idle_since_boottime_ns; /**< the same by CLOCK_BOOTTIME */
    int64_t
        kill_at_boottime_ns; /**< CLOCK_BOOTTIME when the grace of its stop is over; 0: it was not asked to end */
};

/** A new, empty worker: status spawning, gpu_id -1, healthy. NULL when memory is out. */
POOL_EXPORT struct pool_worker_info *pool_worker_info_new(void);
POOL_EXPORT void pool_worker_info_free(struct pool_worker_info *worker);
/** A deep copy, owned by the caller. NULL when memory is out. */
POOL_EXPORT struct pool_worker_info *pool_worker_info_copy(const struct pool_worker_info *worker);
/**
 * Sets a label, replacing one of the same name; on failure nothing changed.
 * @param name [A-Za-z0-9][A-Za-z0-9._/-]{0,62}
 * @param value at most POOL_LABEL_VALUE_MAX bytes of UTF-8 without control characters; may be empty
 * Errors: INVALID_REQUEST (name, value, too many; field labels.NAME), INSUFFICIENT_MEMORY.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_info_set_label(struct pool_worker_info *worker,
                                                                      const char *name, const char *value,
                                                                      struct pool_error *err);
/** The value of a label or NULL. Borrowed. */
POOL_EXPORT const char *pool_worker_info_label(const struct pool_worker_info *worker, const char *name);
/**
 * What is reserved for a worker on a device: a UUID, or "host" for the memory of one without a device. 0 when it has nothing
 * there; *ret_is_there (may be NULL) says whether it is one of its devices.
 */
POOL_EXPORT int64_t pool_worker_info_reserved_on(const struct pool_worker_info *worker, const char *device,
                                                 bool *ret_is_there);
/** Sets the reserve; the shares of several devices keep their proportions. false: no memory, nothing changed. */
POOL_EXPORT bool pool_worker_info_scale_reserve(struct pool_worker_info *worker, int64_t reserved_bytes);
/**
 * Checks a worker id (and a catalog id): [A-Za-z0-9][A-Za-z0-9._-]{0,63}.
 */
POOL_EXPORT bool pool_worker_id_is_valid(const char *id);
/** A list of workers, as registries return it. Owner: the caller frees it. */
struct pool_worker_list {
    size_t n_workers;
    struct pool_worker_info **workers;
};
POOL_EXPORT void pool_worker_list_free(struct pool_worker_list *list);

#ifdef __cplusplus
}
#endif
#endif
