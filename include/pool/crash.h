/*
 * Why a worker died: the crash bundle, one document a worker that ended without being asked to, and the answer to "why".
 *
 * A bundle is made when an end is settled, from what is known then: how the process ended, what its control group counted,
 * the last lines of its log, what it held of its devices over time, the errors that those reported, how it was started and
 * the arithmetic that let it in. Secrets are taken out of command line, environment and log before anything is written.
 * What is said in one sentence (`why`) is computed from these facts alone and stands on those listed as `evidence`.
 *
 * Bundles lie in the state directory, crashes/ID-….json, readable by its owner alone; the newest POOL_CRASHES_MAX stay.
 */
#ifndef POOL_CRASH_H
#define POOL_CRASH_H

#include <pool/api.h>
#include <pool/error.h>
#include <pool/gpu.h>
#include <pool/gpu_event.h>
#include <pool/worker.h>

#ifdef __cplusplus
extern "C" {
#endif

#define POOL_CRASH_FORMAT            1
#define POOL_CRASHES_MAX             200                 /* bundles kept; the oldest go first */
#define POOL_CRASHES_MAX_BYTES       (INT64_C(16) << 20) /* of all of them together */
#define POOL_CRASH_MAX_BYTES         ((size_t)512 << 10) /* of one */
#define POOL_CRASH_LOG_MAX_LINES     100
#define POOL_CRASH_LOG_MAX_BYTES     (16 << 10)
#define POOL_CRASH_SAMPLES_MAX       512 /* of all devices of a worker together */
#define POOL_CRASH_FAULTS_MAX        32
#define POOL_CRASH_TEXT_MAX          1024       /* bytes of one argument or variable; longer ones are cut */
#define POOL_CRASH_COMMAND_MAX_BYTES (16 << 10) /* of all arguments, and of all variables */
/* Errors of its devices so long before and after its end are near it; so long before it, they may be why. */
#define POOL_CRASH_NEAR_BEFORE_MS  (INT64_C(5) * 60 * 1000)
#define POOL_CRASH_NEAR_AFTER_MS   (INT64_C(60) * 1000)
#define POOL_CRASH_CAUSE_BEFORE_MS (INT64_C(60) * 1000)
#define POOL_CRASH_CAUSE_AFTER_MS  (INT64_C(10) * 1000)

/* What kind of end it was, as far as the facts say. X(name, text) */
#define POOL_CRASH_CAUSES(X)                                                                        \
    X(UNKNOWN, "unknown")                                                                           \
    X(HOST_RESTARTED, "host_restarted")           /* another boot than the one it was started in */ \
    X(CONTAINER_ENDED, "container_ended")         /* its pid namespace is not ours */               \
    X(NOT_STARTED, "not_started")                 /* its program could not be run */                \
    X(START_REFUSED, "start_refused")             /* it never had a process */                      \
    X(OUT_OF_GROUP_MEMORY, "out_of_group_memory") /* OOM-killed at the limit of its own cgroup */   \
    X(OUT_OF_MEMORY, "out_of_memory")             /* OOM-killed, at a limit above it */             \
    X(START_TIMEOUT, "start_timeout")             /* no progress; stopped by us */                  \
    X(UNHEALTHY, "unhealthy")                     /* stopped by workers.on_unhealthy */             \
    X(GPU_FAULT, "gpu_fault")                     /* its device reported an error near its end */   \
    X(OUT_OF_VRAM, "out_of_vram")                 /* its last lines say so */                       \
    X(PORT_TAKEN, "port_taken")                                                                     \
    X(LIBRARY_MISSING, "library_missing") /* its last lines say so */                               \
    X(GPU_UNUSABLE, "gpu_unusable")       /* its last lines say so */                               \
    X(ILLEGAL_INSTRUCTION, "illegal_instruction")                                                   \
    X(KILLED, "killed") /* SIGKILL, and not by us */                                                \
    X(SIGNAL, "signal")                                                                             \
    X(EXIT_CODE, "exit_code")                                                                       \
    X(LOST, "lost") /* gone while nobody watched */

enum pool_crash_cause {
#define POOL_X(name, text) POOL_CRASH_##name,
    POOL_CRASH_CAUSES(POOL_X)
#undef POOL_X
};

/** What a worker held of a device at one moment, and what the device had free. */
struct pool_vram_sample {
    int64_t at_wall_ms;
    char gpu_uuid[POOL_GPU_UUID_MAX];
    struct pool_reading observed_bytes; /**< absent: nobody can tell whose memory it is */
    struct pool_reading free_bytes;
};

/** An error that a device reported. */
struct pool_device_fault {
    int64_t at_wall_ms;
    char gpu_uuid[POOL_GPU_UUID_MAX];
    enum pool_gpu_event_kind kind;
    int64_t data; /**< the number of an XID */
    bool is_serious;
    char text[160];
};

/** One device of a worker. */
struct pool_crash_device {
    char gpu_uuid[POOL_GPU_UUID_MAX]; /**< "host": the host's memory */
    int64_t reserved_bytes;
};

/** What its control group counted. */
struct pool_crash_memory {
    bool is_counted; /**< false: it had no group of its own, or the kernel does not count memory there */
    struct pool_reading n_ooms; /**< times that its limit was reached and nothing could be freed */
    struct pool_reading
        n_oom_kills; /**< processes of it that the kernel ended for want of memory, at whatever limit */
    struct pool_reading peak_bytes;
    struct pool_reading limit_bytes; /**< absent: none */
};

/** How far a start had come that was given up. */
struct pool_crash_progress {
    struct pool_reading elapsed_ms; /**< absent: it was not given up, or nobody saw how far it was */
    int64_t read_bytes, resident_bytes, log_bytes;
    bool is_listening, is_port_foreign;
    struct pool_reading last_status_code;
};

/** How it was started, without secrets. */
struct pool_crash_command {
    size_t n_argv;
    char **argv;
    size_t n_environment;
    char **environment; /**< NAME=value */
};

/** The document. Texts are owned by the struct, NULL when absent. */
struct pool_crash {
    int64_t format;
    char *worker_id;
    enum pool_crash_cause cause;
    char *why; /**< one sentence */
    size_t n_evidence;
    char **evidence; /**< the facts that it stands on */

    enum pool_stop_reason stop_reason;
    struct pool_reading exit_code;
    struct pool_reading exit_signal;
    bool is_ended_by_us; /**< the pool sent the signal */
    char *start_error_code;
    char *start_error; /**< why it could not be started */
    char *health_reason;
    char *ended_with; /**< "boot" or "pid_namespace": what it lived in is not there any more */
    struct pool_reading is_port_taken; /**< somebody else listened on its port; absent: not looked at */

    int64_t created_wall_ms;
    int64_t ready_wall_ms; /**< 0: never */
    int64_t died_wall_ms;  /**< when its end was seen */
    int64_t created_boottime_ns;

    char *backend;
    char *model_ref;
    char *model_path;
    char *engine_version;
    char *program;
    int64_t port;
    struct pool_process_identity process;
    int64_t gpu_id; /**< index of its (first) device at its start, -1: none */
    size_t n_devices;
    struct pool_crash_device *devices;

    int64_t reserved_bytes;
    struct pool_reading observed_bytes;
    struct pool_reading peak_bytes;
    int64_t estimated_bytes;
    struct pool_reading free_before_start_bytes;
    struct pool_crash_memory memory;
    int64_t start_timeout_ms;
    struct pool_crash_progress progress;

    char *explain_id;       /**< of the record of its end */
    char *start_explain_id; /**< of the record of its start */
    struct pool_reading required_bytes;
    char *required_source;
    size_t n_candidates;
    struct pool_explain_candidate *candidates; /**< the arithmetic of the devices that it got */

    int64_t watched_since_wall_ms; /**< since when a daemon took samples; 0: none did */
    size_t n_samples;
    struct pool_vram_sample *samples;
    size_t n_faults;
    struct pool_device_fault *faults;

    size_t n_log;
    char **log;
    bool is_log_cut; /**< there is more in the log than these lines */
    char *log_path;
    bool is_command_known;
    struct pool_crash_command command;
    size_t n_inherited;
    char **inherited; /**< names of variables that a worker may inherit; '*' stands for any rest */
};

POOL_EXPORT const char *pool_crash_cause_name(enum pool_crash_cause cause);
/** Empty; NULL when memory is out. Owner: pool_crash_free. */
POOL_EXPORT struct pool_crash *pool_crash_new(void);
POOL_EXPORT void pool_crash_free(struct pool_crash *crash);
/** Errors: INSUFFICIENT_MEMORY, INTERNAL (larger than POOL_CRASH_MAX_BYTES). Owner: the caller, free(). */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_crash_encode(const struct pool_crash *crash, char **ret_json,
                                                             struct pool_error *err);
/** Errors: INVALID_REQUEST (no bundle, or one of a later format), PAYLOAD_TOO_LARGE, INSUFFICIENT_MEMORY. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_crash_decode(const char *json, size_t n,
                                                             struct pool_crash **ret_crash,
                                                             struct pool_error *err);

/** The answer to "why did this worker end". */
struct pool_worker_why {
    char *worker_id;
    char *status;                      /**< name of its status; NULL: its record is gone, its bundle is not */
    enum pool_stop_reason stop_reason; /**< of its record */
    char *why;                         /**< one sentence, also when there is no bundle */
    char *bundle_path;                 /**< of the bundle; NULL: there is none */
    char *bundle_error;                /**< why the bundle that is there can not be read; NULL: it can */
    struct pool_crash *crash;          /**< of the last start of this id that died, NULL: none */
};
POOL_EXPORT void pool_worker_why_free(struct pool_worker_why *why);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_why_encode(const struct pool_worker_why *why,
                                                                  char **ret_json, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_why_decode(const char *json, size_t n,
                                                                  struct pool_worker_why **ret_why,
                                                                  struct pool_error *err);

#ifdef __cplusplus
}
#endif
#endif
