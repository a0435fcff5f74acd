/*
 * The life of workers: what is admitted, started, proven ready, watched, stopped and settled.
 *
 * A manager is a configuration put to work on a state directory. Several processes may have a manager on the
 * same directory (the command line, run many times at once); a daemon has it alone. Facts are in the registry
 * and in the kernel, never in a manager's memory: every manager that is opened settles what it finds.
 *
 * A start, from request to worker: check the request, resolve the model, ask the driver, then under the state
 * directory's lock: settle, plan, record the intent, spawn, record the fact. A crash between any two steps leaves
 * a record that the next manager settles, never an unknown process. The worker holds a lock on its own log for as
 * long as any process of it lives; it is gone when that lock can be taken and its main process has ended.
 *
 * All calls block (each says on what) and are made from one thread at a time. No threads are started.
 */
#ifndef POOL_LIFECYCLE_H
#define POOL_LIFECYCLE_H

#include <pool/api.h>
#include <pool/catalog.h>
#include <pool/config.h>
#include <pool/crash.h>
#include <pool/error.h>
#include <pool/gpu.h>
#include <pool/presence.h>
#include <pool/registry.h>
#include <pool/worker.h>

#ifdef __cplusplus
extern "C" {
#endif

#define POOL_LOCK_WAIT_MAX_MS     10000 /* how long the state directory's lock is tried for */
#define POOL_SETTLE_PROBE_MAX_MS  200   /* one readiness probe of all spawning workers, in parallel */
#define POOL_START_CAP_FACTOR     10    /* a start deadline is extended by progress up to this many times */
#define POOL_START_ATTEMPTS_MAX   3     /* ports tried in one start when strangers take them */
#define POOL_RELEASE_WAIT_MAX_MS  10000 /* a stopped worker's bytes count as releasing no longer than this */
#define POOL_KILL_WAIT_MAX_MS     30000 /* how long a killed worker is waited for */
#define POOL_WORKER_LOG_MAX_BYTES (16 << 20)

/* ---- the ledger ---- */

/** What a worker held of its device at the moment of a snapshot. */
struct pool_worker_usage {
    const char *worker_id; /**< borrowed */
    int64_t
        observed_bytes; /**< as attributed; where nobody can tell: 0 before it was ready, its reserve after */
    const char *device; /**< borrowed; NULL: the only one that it has */
};

/** The arithmetic of one device; DESIGN, "The ledger of one device". */
struct pool_ledger_input {
    size_t struct_size;
    const char *device; /**< UUID, or "host" */
    int64_t total_bytes, used_bytes, free_bytes;
    int64_t headroom_bytes;
    int64_t releasing_bytes;                /**< of used: held by stopped workers */
    const struct pool_worker_list *workers; /**< live ones, of all devices */
    size_t n_usages;
    const struct pool_worker_usage *
        usages; /**< a worker without one was started after the snapshot: it has taken nothing of what is called free */
    int64_t elsewhere_bytes;        /**< promised by other managers, not yet taken */
    const char *elsewhere_state_id; /**< of the one that promised most of it; NULL: none */
};

/** Pure. Never overflows; every result is at least 0. */
POOL_EXPORT void pool_ledger_compute(const struct pool_ledger_input *input, struct pool_ledger *ret_ledger);
/**
 * Whether `required_bytes` more fit. Errors: INSUFFICIENT_VRAM (INSUFFICIENT_MEMORY for the host) with the whole
 * arithmetic in the details.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_ledger_admit(const struct pool_ledger *ledger,
                                                             int64_t required_bytes, struct pool_error *err);

/* ---- the manager ---- */

struct pool_manager; /**< opaque */

struct pool_manager_options {
    size_t struct_size; /**< sizeof(struct pool_manager_options) */
    /** What workers may inherit from, as environ. Borrowed for the manager's life. */
    const char *const *environment;
    /** Asked instead of the configuration's. Borrowed; NULL: none. */
    struct pool_gpu_inventory *gpu_inventory;
    bool is_daemon; /**< takes the state directory for itself, exclusively */
    /** The owner himself asks: any extra argument, variable and model file is allowed. */
    bool is_unrestricted;
    /** Called for each explanation that was kept, on the thread that calls the library. NULL: nobody listens. */
    void (*on_explanation)(const struct pool_explanation *explanation, void *context);
    void *explanation_context;
};

/**
 * Opens a manager. Makes the state directory (0700) where it is missing; a database that can not be read is set
 * aside with its date and rebuilt from the workers that run.
 * @param config borrowed for the manager's life
 * Errors: CONFLICT (a daemon has the directory; for is_daemon: somebody has), PERMISSION_DENIED (it belongs to
 * another user), INVALID_CONFIG (a network file system that was not named explicitly), REGISTRY_UNAVAILABLE,
 * INSUFFICIENT_DISK.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_open(const struct pool_config *config,
                                                             const struct pool_manager_options *options,
                                                             struct pool_manager **ret_manager,
                                                             struct pool_error *err);
POOL_EXPORT void pool_manager_close(struct pool_manager *manager);
/**
 * Whether a daemon has taken the state directory since the manager was opened, or is about to. A manager holds daemon.lock
 * while it is opened and while it changes something, and lets go of it while it waits: then a change it has to make is
 * CONFLICT, and what it began is the daemon's. Nothing is lost: ask the daemon.
 */
POOL_EXPORT bool pool_manager_is_superseded(const struct pool_manager *manager);
/** What the opening or a settling has to tell people ("registry was rebuilt …"), "" when nothing. Borrowed. */
POOL_EXPORT const char *pool_manager_notice(const struct pool_manager *manager);

/** What it was opened with. Borrowed, and never changes. Threads: any. */
POOL_EXPORT const struct pool_config *pool_manager_config(const struct pool_manager *manager);

/**
 * Settles and lists. A worker whose processes are gone moves to the history (`lost` when nobody watched it end);
 * workers that are starting are probed once, all together, for at most POOL_SETTLE_PROBE_MAX_MS.
 * Blocks: on the state directory's lock only when something has to be changed.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_list_workers(struct pool_manager *manager,
                                                                     enum pool_registry_scope scope,
                                                                     struct pool_worker_list **ret_list,
                                                                     struct pool_error *err);
/** One worker, settled; also one of the history. Errors: WORKER_NOT_FOUND. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_get_worker(struct pool_manager *manager,
                                                                   const char *worker_id,
                                                                   struct pool_worker_info **ret_worker,
                                                                   struct pool_error *err);

/** What a start would do. Owned by the caller: pool_plan_free. */
struct pool_plan {
    char *worker_id;
    char *program;      /**< absolute */
    char **argv;        /**< NULL-terminated; argv[0] is the program */
    char **environment; /**< NULL-terminated, "NAME=value"; the spawn token is not in it yet */
    char *gpu_uuid;     /**< NULL: host memory */
    int64_t gpu_id;
    int64_t port;
    int64_t reserved_bytes;
    const char *reserved_source;     /**< as need.source */
    struct pool_estimate estimate;   /**< as need.estimate */
    struct pool_ledger ledger;       /**< of its device, before the start */
    struct pool_worker_info *worker; /**< the record that the start would register */
    struct pool_memory_need need;    /**< why so much is reserved */
    char placement[256];             /**< why this device was taken, "" for one that was named */
    char *engine_version; /**< as the engine says it, or size and time of its program; NULL: not known */
    struct pool_start_room room; /**< what has to come free first, and who would be stopped for that */
};
POOL_EXPORT void pool_plan_free(struct pool_plan *plan);

/** Checks and plans a start, and starts nothing. Errors: all that pool_manager_spawn can refuse with. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_check(struct pool_manager *manager,
                                                              const struct pool_worker_spawn_request *request,
                                                              struct pool_plan **ret_plan,
                                                              struct pool_error *err);
/**
 * Starts a worker and returns when its program runs (not when it is ready).
 * On a device where an engine profiles free memory (a backend with exclusive_start), or for such an engine while others
 * start, stop or release memory there, a start has to wait: a daemon queues it (it is spawning, with a queue_position
 * and no pid, and pool_manager_start_queued goes on), anybody else gets CONFLICT, retriable, with wait_reason.
 * So is memory of stopped workers that the driver has not given back, when that makes it fit: a daemon queues the start, all
 * others wait for up to POOL_RELEASE_WAIT_MAX_MS. What a request may displace (may_displace) is stopped when that makes it fit, and
 * its end is waited for in the same way, for up to workers.queue_timeout_ms; the plan is made again then.
 * Errors: INVALID_REQUEST, BACKEND_NOT_FOUND, BACKEND_UNAVAILABLE, MODEL_*, GPU_*, INSUFFICIENT_*,
 * PORT_UNAVAILABLE, ALREADY_EXISTS, CONFLICT (the lock), REGISTRY_UNAVAILABLE, WORKER_START_FAILED.
 * Blocks: on the driver, on the model's verification when workers.require_verified is set, on the lock.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_spawn(
    struct pool_manager *manager, const struct pool_worker_spawn_request *request,
    struct pool_worker_spawn_response **ret_response, struct pool_error *err);

/**
 * Records the refusal of a start that was decided elsewhere, as by a daemon that has the model hashed aside; `err` gets the
 * explain_id. A record that can not be kept is lost.
 */
POOL_EXPORT void pool_manager_refuse_start(struct pool_manager *manager,
                                           const struct pool_worker_spawn_request *request,
                                           struct pool_error *err);

/**
 * For a daemon, after pool_manager_spawn and pool_manager_start_queued: the workers whose stop was begun to make room, as they are
 * recorded (stopping). They are the caller's to end, as after pool_manager_record_stopping; a daemon that does not get to it finds
 * them stopping at its next start. Anybody else has ended them already, and gets an empty list.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_take_displaced(struct pool_manager *manager,
                                                                       struct pool_worker_list **ret_list,
                                                                       struct pool_error *err);

/** How a start is getting on. */
struct pool_start_progress {
    int64_t elapsed_ms;
    int64_t read_bytes;     /**< read by its processes, from files or the page cache */
    int64_t resident_bytes; /**< of its main process */
    int64_t log_bytes;
    bool is_listening;
    bool is_port_foreign; /**< its readiness path answered 200, and the listener is a stranger's */
    int last_status_code; /**< of its readiness path, 0: no answer yet */
    bool is_off_gpu;      /**< it answers, and is not on its GPU; off_gpu says which, and the numbers */
    struct pool_presence_seat off_gpu;
};

struct pool_wait_options {
    size_t struct_size;
    int cancel_fd; /**< readable: stop waiting (CANCELLED, the worker stays as it is); -1: none */
    void (*progress)(const struct pool_start_progress *progress,
                     void *context); /**< may be NULL; about 4 a second */
    void *progress_context;
};

/**
 * Waits until a worker is ready: it listens, answers 200 on its readiness path, every listener of its port is of its own
 * process tree, and it holds the memory of its GPUs that it should, as far as the driver tells (pool/presence.h). A worker that ends before is noticed at once. The deadline (start_timeout_ms) counts
 * from the last progress (bytes read, memory growing, log lines), up to POOL_START_CAP_FACTOR times. A worker
 * whose port was taken by a stranger is started again on another when the port was ours to choose.
 * Errors: WORKER_START_FAILED, WORKER_START_TIMEOUT (both with exit code or signal and log_tail; the worker is gone
 * then), CANCELLED, WORKER_NOT_FOUND.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_wait_ready(struct pool_manager *manager,
                                                                   const char *worker_id,
                                                                   const struct pool_wait_options *options,
                                                                   struct pool_worker_info **ret_worker,
                                                                   struct pool_error *err);
/* ---- watching a start, for programs with a loop of their own ---- */

struct pool_start_watch; /**< opaque */

enum pool_start_state {
    POOL_START_PENDING,
    POOL_START_READY,     /**< answers, its port is proven to be its own, and it is where it should be */
    POOL_START_ENDED,     /**< its main process has ended */
    POOL_START_TIMED_OUT, /**< no progress for start_timeout_ms, or the cap is reached */
    POOL_START_ANSWERED,  /**< pending: it answers, and a verdict on its presence is awaited */
};

/** What to wait for: events as of poll(2). */
struct pool_start_poll {
    int fd;
    short events;
};

/** Watches a worker that is starting. Copies the worker and the descriptor. Owner: pool_start_watch_close. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_start_watch_open(const struct pool_worker_info *worker,
                                                                 int pidfd,
                                                                 struct pool_start_watch **ret_watch,
                                                                 struct pool_error *err);
POOL_EXPORT void pool_start_watch_close(struct pool_start_watch *watch);
/** Goes on as far as it can; never blocks. To be called when a descriptor is ready or the wake time has come. */
POOL_EXPORT enum pool_start_state pool_start_watch_step(struct pool_start_watch *watch);
/** The worker said that it is ready. One that does not say so needs no call; the next step is due at once. */
POOL_EXPORT void pool_start_watch_called(struct pool_start_watch *watch);
/**
 * It is ready only once it is on its GPUs. From the first POOL_START_ANSWERED on the driver is asked, and what it says goes
 * to pool_start_watch_take_presence: a verdict of absence of a snapshot that was taken since then. Absent, it is pending
 * until it is seen there or its time is over; what can not be told is believed, unless absence was known before.
 */
POOL_EXPORT void pool_start_watch_await_presence(struct pool_start_watch *watch);
POOL_EXPORT void pool_start_watch_take_presence(struct pool_start_watch *watch,
                                                const struct pool_presence *presence);
/** What to wait for until the next step. @return number of entries filled (the first is the process) */
POOL_EXPORT size_t pool_start_watch_poll(const struct pool_start_watch *watch,
                                         struct pool_start_poll polled[2], int64_t *ret_wake_boottime_ns);
/** As of the last step. Borrowed from the watch. */
POOL_EXPORT const struct pool_start_progress *pool_start_watch_progress(const struct pool_start_watch *watch);
/** How the port was proven; after READY. */
POOL_EXPORT enum pool_port_proof pool_start_watch_proof(const struct pool_start_watch *watch);

/**
 * Stops a worker: its stop signal to the main process, then SIGTERM to its group; after grace_ms SIGKILL to the
 * group and to every process that still holds its log. Returns when no process of it is left, with its last
 * record. Acts first and records after when the disk is full.
 * Errors: WORKER_NOT_FOUND, CONFLICT (stopped already), DEADLINE_EXCEEDED (a process can not be killed; details name
 * it), CANCELLED, REGISTRY_UNAVAILABLE (it is stopped, but that could not be recorded).
 * Blocks: up to the grace plus POOL_KILL_WAIT_MAX_MS; with wait = false: until the first signal is sent.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_stop(struct pool_manager *manager,
                                                             const struct pool_worker_stop_request *request,
                                                             int cancel_fd,
                                                             struct pool_worker_info **ret_worker,
                                                             struct pool_error *err);

/* ---- for a daemon, which watches by itself ---- */

/** How a process ended. */
struct pool_process_end {
    bool is_known;
    bool is_signal;
    int value; /**< exit code or signal */
};

/**
 * Whose request is carried out next: its id is in the explanations of what happens then. NULL: nobody's.
 * Errors: INVALID_REQUEST (not one of pool_correlation_id_is_valid).
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_set_correlation_id(struct pool_manager *manager,
                                                                           const char *correlation_id,
                                                                           struct pool_error *err);
/** Who asks next: the owner himself, to whom everything is allowed, or somebody whom the backend's lists bind. */
POOL_EXPORT void pool_manager_set_unrestricted(struct pool_manager *manager, bool is_unrestricted);
/**
 * Where workers say that they are ready (copied); NULL: nowhere, and backends that say so in no other way are
 * BACKEND_UNAVAILABLE. Errors: INSUFFICIENT_MEMORY.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_set_callback_url(struct pool_manager *manager,
                                                                         const char *url,
                                                                         struct pool_error *err);
/**
 * A worker says that it is ready: checks its spawn token, which is good once, in constant time, and records that it did.
 * *ret_worker is the row then; the worker is ready when its port is proven too (pool_start_watch_called). Errors:
 * UNAUTHENTICATED (no such worker that is awaited, or not its token: one answer for all), CONFLICT (the lock),
 * REGISTRY_UNAVAILABLE, INTERNAL (no SHA-256 here).
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_take_ready_call(struct pool_manager *manager,
                                                                        const char *worker_id,
                                                                        const char *spawn_token,
                                                                        struct pool_worker_info **ret_worker,
                                                                        struct pool_error *err);
/**
 * Settles every row once, without probing, and lists what lives. For the start of a daemon, which sees every end itself
 * from then on.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_settle(struct pool_manager *manager,
                                                               struct pool_worker_list **ret_list,
                                                               struct pool_error *err);
/**
 * Proves the readiness of listed workers that serve once more, all together, as at a start: that they served is only what
 * their rows say. One that is not proven within POOL_SETTLE_PROBE_MAX_MS is unhealthy from then on, in its row and in the
 * list (pool_worker_is_unproven), until pool_manager_record_proven.
 * Blocks: as long as that, and on the lock.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_prove_again(struct pool_manager *manager,
                                                                    struct pool_worker_list *list,
                                                                    struct pool_error *err);
/** Whether a worker was taken over and its readiness is not proven again yet. Pure. */
POOL_EXPORT bool pool_worker_is_unproven(const struct pool_worker_info *worker);
/** Records that a start watch has proven `watched` again. Writes nothing when that was not asked. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_record_proven(struct pool_manager *manager,
                                                                      const struct pool_worker_info *watched,
                                                                      enum pool_port_proof proof,
                                                                      struct pool_worker_info **ret_worker,
                                                                      struct pool_error *err);
/**
 * Records that what is left of a worker can not be ended, and why: it is stopping, and keeps what is reserved for it.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_record_stuck(struct pool_manager *manager,
                                                                     const char *worker_id, const char *why,
                                                                     struct pool_worker_info **ret_worker,
                                                                     struct pool_error *err);
/** The rows as they are, nothing settled. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_rows(struct pool_manager *manager,
                                                             enum pool_registry_scope scope,
                                                             struct pool_worker_list **ret_list,
                                                             struct pool_error *err);
/**
 * A pidfd of a worker's main process, proven to be it; readable when it has ended. Owner: the caller closes it.
 * Errors: WORKER_NOT_FOUND when there is no such process (any more), CONFLICT when it lives in another pid namespace,
 * OVERLOADED when it can not be told now (no descriptor is left, say).
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_open_process(const struct pool_manager *manager,
                                                                     const struct pool_worker_info *worker,
                                                                     int *ret_pidfd, struct pool_error *err);
/**
 * Records what a start watch found of `watched`, this very start of its id. Errors: CONFLICT when it is not starting any
 * more.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_record_ready(struct pool_manager *manager,
                                                                     const struct pool_worker_info *watched,
                                                                     enum pool_port_proof proof,
                                                                     struct pool_worker_info **ret_worker,
                                                                     struct pool_error *err);
/** What an engine says about its requests. */
struct pool_activity_report {
    int64_t n_requests; /**< running and waiting */
    double mark; /**< grows with requests, never with probes; 0: none yet, or the engine does not say */
};
/** Path to ask a worker for it; NULL for engines that do not say. Static. */
POOL_EXPORT const char *pool_activity_path(enum pool_activity activity);
/** Reads the answer; false: that is no such answer. Pure. */
POOL_EXPORT bool pool_activity_read(enum pool_activity activity, const char *body, size_t n,
                                    struct pool_activity_report *ret_report);
/** What is seen of a ready worker from time to time. */
struct pool_worker_sight {
    size_t struct_size;
    bool is_healthy;
    const char *health_reason;      /**< NULL when healthy */
    struct pool_reading n_requests; /**< in flight, as it reports them; absent: it does not say */
    struct pool_reading observed_bytes;
    bool is_used; /**< it had requests since it was seen last, and has none now */
};
/** Records a change of health, activity or memory; writes nothing when there is none. *ret_worker as it is then. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_record_sight(struct pool_manager *manager,
                                                                     const char *worker_id,
                                                                     const struct pool_worker_sight *sight,
                                                                     struct pool_worker_info **ret_worker,
                                                                     struct pool_error *err);
/**
 * Records a verdict on the presence of `watched`, this very start of its id, which starts or serves: absence makes it
 * unhealthy with POOL_HEALTH_NOT_ON_GPU (where its backend says "warn": healthy, with that reason; one that starts is left
 * alone), presence takes that back. What is unhealthy for another reason stays so. Keeps an explanation ("presence") with the
 * numbers. Writes nothing when there is no news. *ret_worker as it is then.
 * Errors: WORKER_NOT_FOUND, CONFLICT (the lock), REGISTRY_UNAVAILABLE.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_record_presence(
    struct pool_manager *manager, const struct pool_worker_info *watched,
    const struct pool_presence *presence, struct pool_worker_info **ret_worker, struct pool_error *err);
/**
 * Records that a worker drains: it is stopping, and goes on with what it has in flight, until a stop begins. Writes
 * nothing when it is stopping already. Errors: WORKER_NOT_FOUND, CONFLICT (stopped already), REGISTRY_UNAVAILABLE.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_record_draining(struct pool_manager *manager,
                                                                        const char *worker_id,
                                                                        struct pool_worker_info **ret_worker,
                                                                        struct pool_error *err);
/**
 * Records that a stop begins, why, and when its grace is over: should the caller die meanwhile, whoever comes then kills it.
 * @param is_forced kill it now, also while an engine on its device starts that nobody shall disturb; grace_ms is not looked at
 * Errors: WORKER_NOT_FOUND, CONFLICT (stopped already).
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_record_stopping(
    struct pool_manager *manager, const char *worker_id, enum pool_stop_reason reason, int64_t grace_ms,
    bool is_forced, struct pool_worker_info **ret_worker, struct pool_error *err);
/**
 * Ends every process of a worker, as pool_manager_stop does, and records nothing. grace_ms 0: kills at once.
 * Errors: DEADLINE_EXCEEDED, CANCELLED. Blocks: as pool_manager_stop.
 * Threads: may be called from any thread, also several at once and beside other calls.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_end_processes(const struct pool_manager *manager,
                                                                      const struct pool_worker_info *worker,
                                                                      int64_t grace_ms, int cancel_fd,
                                                                      struct pool_process_end *ret_end,
                                                                      struct pool_error *err);
/** What whoever watched a worker knows of its end beside that: for its crash bundle. All borrowed for the call. */
struct pool_death_evidence {
    size_t struct_size;
    const struct pool_start_progress
        *timed_out;                       /**< of a start that was given up, as seen last; NULL: none was */
    const struct pool_error *start_error; /**< why its program could not be run; NULL: it was */
    bool is_ended_by_us;                  /**< the pool sent the signal that ended it */
    int64_t watched_since_wall_ms;        /**< since when samples were taken; 0: none were */
    size_t n_samples;
    const struct pool_vram_sample *samples; /**< oldest first */
    size_t n_faults;
    const struct pool_device_fault *faults; /**< of its devices near its end, oldest first */
};
/**
 * Moves a worker that is gone to the history. *ret_worker is its last record. When nobody asked for its end, a crash bundle
 * is made from what is known (pool/crash.h).
 * @param evidence NULL: nothing more is known
 * @param bundle_error may be NULL; its code is not OK when a bundle was due and could not be kept, which is no failure
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_record_gone(
    struct pool_manager *manager, const char *worker_id, enum pool_stop_reason reason,
    const struct pool_process_end *end, const struct pool_death_evidence *evidence,
    struct pool_worker_info **ret_worker, struct pool_error *bundle_error, struct pool_error *err);
/**
 * Why a worker ended: by the crash bundle of the last start of its id that died, or, without one, by its record.
 * Owner: pool_worker_why_free. Errors: WORKER_NOT_FOUND (neither is there), INVALID_REQUEST (no such id can be).
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_why(struct pool_manager *manager,
                                                            const char *worker_id,
                                                            struct pool_worker_why **ret_why,
                                                            struct pool_error *err);
/**
 * Adds an error that a device reported after the end of a worker was settled to its bundle, and says anew why it ended.
 * `worker` is its last record. Errors: NOT_FOUND (it has no bundle), INSUFFICIENT_DISK, CONFLICT (the lock).
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_note_late_fault(struct pool_manager *manager,
                                                                        const struct pool_worker_info *worker,
                                                                        const struct pool_device_fault *fault,
                                                                        struct pool_error *err);
/**
 * After a start whose process ended: whether a stranger took its port, so that it may be started again elsewhere, and that
 * start. Errors: UNIMPLEMENTED when that is not the case (nothing was done), else those of pool_manager_spawn.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_start_again(struct pool_manager *manager,
                                                                    const char *worker_id,
                                                                    struct pool_worker_info **ret_worker,
                                                                    struct pool_error *err);

/* ---- cordons ---- */

/**
 * Keeps new workers off a device until it is uncordoned; those that are on it go on. Kept in the registry, so that it
 * holds for every manager of the state directory and outlives them. May be repeated; another reason replaces the first.
 * A cordoned device holds for its MIG instances too. A start there is GPU_UNAVAILABLE, and "auto" looks elsewhere.
 * @param gpu_id index or UUID; a device that the driver does not list by UUID alone, when it lists none
 * @param reason NULL: "requested"; at most POOL_CORDON_REASON_MAX bytes, no control characters
 * Errors: GPU_NOT_FOUND, INVALID_REQUEST (field "reason"), CONFLICT (the lock), REGISTRY_UNAVAILABLE, INSUFFICIENT_DISK.
 * Blocks: on the driver, then on the lock.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_cordon_gpu(struct pool_manager *manager,
                                                                   const char *gpu_id, const char *reason,
                                                                   struct pool_gpu_cordon *ret_cordon,
                                                                   bool *ret_is_changed,
                                                                   struct pool_error *err);
/** Takes a cordon back; that there was none is no error. Errors, Blocks: as pool_manager_cordon_gpu. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_uncordon_gpu(struct pool_manager *manager,
                                                                     const char *gpu_id,
                                                                     struct pool_gpu_cordon *ret_cordon,
                                                                     bool *ret_is_changed,
                                                                     struct pool_error *err);

/**
 * Says of each device of a list that an inventory gave whether it is cordoned, why and since when.
 * Errors: REGISTRY_UNAVAILABLE.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_mark_cordons(struct pool_manager *manager,
                                                                     struct pool_gpu_list *gpus,
                                                                     struct pool_error *err);

/** One row as it is, nothing settled; also one of the history. Errors: WORKER_NOT_FOUND. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_row(struct pool_manager *manager,
                                                            const char *worker_id,
                                                            struct pool_worker_info **ret_worker,
                                                            struct pool_error *err);
/**
 * The error of a start that failed, with its last log lines: WORKER_START_TIMEOUT when `timed_out` (as seen last) is given, else
 * WORKER_START_FAILED with how it ended. The lines are without secrets, as those of a crash bundle are; what secrets the worker
 * has is known until its end is recorded, so this is asked before.
 */
POOL_EXPORT enum pool_code pool_manager_start_error(struct pool_manager *manager,
                                                    const struct pool_worker_info *worker,
                                                    const struct pool_process_end *end,
                                                    const struct pool_start_progress *timed_out,
                                                    struct pool_error *err);
/** The same for who has no manager: what the start kept beside the log and the form of secrets tell what is one. */
POOL_EXPORT enum pool_code pool_worker_start_error(const struct pool_worker_info *worker,
                                                   const struct pool_process_end *end,
                                                   const struct pool_start_progress *timed_out,
                                                   struct pool_error *err);

/* ---- who holds a device's memory ---- */

/** A process that the driver lists, and whose it is. */
struct pool_attributed_process {
    char gpu_uuid[POOL_GPU_UUID_MAX];
    uint32_t gpu_id;
    int64_t pid; /**< as the driver says it; 0: hidden */
    struct pool_reading used_vram_bytes;
    bool is_graphics;
    char worker_id[POOL_WORKER_ID_MAX + 1]; /**< "": none of ours, or it can not be told */
    char command[64];                       /**< name of its program, printable; "" when it can not be seen */
};
/** Every byte of one device. */
struct pool_device_use {
    char gpu_uuid[POOL_GPU_UUID_MAX];
    uint32_t gpu_id;
    bool is_known; /**< the driver tells its memory and its processes; else only part of the rest is right */
    int64_t used_bytes;    /**< as the driver says */
    int64_t worker_bytes;  /**< of it: of our workers' processes */
    int64_t foreign_bytes; /**< of processes that are not ours */
    int64_t unknown_bytes; /**< of nobody: contexts of the driver, or processes that are hidden from us */
    int64_t driver_bytes;  /**< kept by driver and firmware; beside used_bytes where the driver splits them */
    int64_t promised_bytes; /**< reserved for our ready workers */
    int64_t drift_bytes;    /**< what these hold more than that; negative: less */
    bool are_holders_known; /**< all who hold memory are listed, and whose each is can be told */
};
struct pool_attribution {
    size_t n_processes;
    struct pool_attributed_process *processes;
    size_t n_devices;
    struct pool_device_use *devices;
};
/**
 * Maps the processes of devices to workers, through their trees: also workers that were recorded in another pid namespace,
 * by what /proc/PID/status says (NSpid). In a pid namespace of our own the driver's pids are others' numbers, and nothing is
 * mapped. Owner: pool_attribution_free. Blocks: on /proc.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_attribution_make(const struct pool_gpu_list *gpus,
                                                                 const struct pool_worker_list *live,
                                                                 struct pool_attribution **ret_attribution,
                                                                 struct pool_error *err);
POOL_EXPORT void pool_attribution_free(struct pool_attribution *attribution);
/**
 * Why: the explanations of a worker, a request (its correlation id) or one record, newest first, at most
 * POOL_EXPLAIN_SHOWN_MAX. id NULL: the newest of all. The last POOL_EXPLANATIONS_MAX are kept.
 * Owner: pool_explanation_list_free.  Errors: NOT_FOUND, INVALID_REQUEST (no such id can be).
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_explain(struct pool_manager *manager, const char *id,
                                                                struct pool_explanation_list **ret_list,
                                                                struct pool_error *err);

/**
 * Looks whether what stopped workers held of GPUs is free, and keeps an explanation ("release") for each of which that is
 * decided: with the time it took, or with what is left after POOL_RELEASE_WAIT_MAX_MS. *ret_n_left: those that are not.
 * Blocks: on the driver and the lock when there are any.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_check_releases(struct pool_manager *manager,
                                                                       size_t *ret_n_left,
                                                                       struct pool_error *err);
/**
 * Notes which processes of live workers hold memory of GPUs beside their main ones, so that it is known whose they were when
 * they have ended: what a worker held is released when the driver lists none of them. Writes nothing when all are noted.
 * Errors: CONFLICT (the lock), REGISTRY_UNAVAILABLE, INSUFFICIENT_DISK. Blocks: on the lock when there is something to note.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_note_processes(
    struct pool_manager *manager, const struct pool_attribution *attribution, struct pool_error *err);
/** Whether a worker waits for its turn on its device, and has no process yet. */
POOL_EXPORT bool pool_worker_is_queued(const struct pool_worker_info *worker);
/**
 * Starts a worker that waits for its turn, if that has come; *ret_worker as it is then. For a daemon, whenever something on
 * the device has changed.
 * Errors: CONFLICT, retriable, with wait_reason: it still waits (*ret_worker is set when its place has changed); those of
 * pool_manager_spawn: it can not be started, and is the caller's to end.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_start_queued(struct pool_manager *manager,
                                                                     const char *worker_id,
                                                                     struct pool_worker_info **ret_worker,
                                                                     struct pool_error *err);

/** Looks at the directory in which the managers of this host see each other's promises. Makes nothing. */
POOL_EXPORT void pool_gpu_locks_look(const struct pool_config *config, struct pool_gpu_locks *ret_locks);

/** Everything at one moment. Asks the driver. Owner: pool_status_response_free. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_status(struct pool_manager *manager,
                                                               struct pool_status_response **ret_status,
                                                               struct pool_error *err);

/**
 * The catalogs of the configuration, read at the first call and again when one of the files was changed since; what can
 * not be read then leaves those before it in force. Borrowed until the next call for this manager.
 * Errors: INVALID_CONFIG, at the first call alone.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_catalog(struct pool_manager *manager,
                                                                const struct pool_model_catalog **ret_catalog,
                                                                struct pool_error *err);
/** The same to keep, and for another thread. Owner: pool_model_catalog_close. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_manager_share_catalog(struct pool_manager *manager,
                                                                      struct pool_model_catalog **ret_catalog,
                                                                      struct pool_error *err);
/** Why the catalogs in force are not those on the disk, with file, line and column; "": they are. Borrowed until the next call. */
POOL_EXPORT const char *pool_manager_catalog_fault(const struct pool_manager *manager);

/* ---- models of a configuration, without a state directory ---- */

/** Opens the catalogs that a configuration names (none: an empty catalog). Owner: pool_model_catalog_close. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_config_open_catalog(const struct pool_config *config,
                                                                    struct pool_model_catalog **ret_catalog,
                                                                    struct pool_error *err);
/** Finds a model's files where the configuration says that models lie. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_config_resolve_model(
    const struct pool_config *config, const char *const *environment,
    const struct pool_model_catalog *catalog, bool is_unrestricted, const char *model_ref,
    struct pool_model **ret_model, struct pool_error *err);
/**
 * What a start would need of a device, without asking one: of the request the backend, the model, ctx_size, parallel,
 * required_vram_bytes, extra_args and env count. Errors: BACKEND_NOT_FOUND, MODEL_*, INVALID_REQUEST (an option that the
 * engine does not know). Blocks: on the disk; the first time on the engine's program, which is asked for its version.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_config_estimate(
    const struct pool_config *config, const char *const *environment,
    const struct pool_model_catalog *catalog, const struct pool_worker_spawn_request *request,
    struct pool_memory_need *ret_need, struct pool_error *err);
/**
 * Where the Hub's own tools keep what they have downloaded, by HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and HOME of an
 * environment ("NAME=value", NULL-terminated). Owned by the caller; NULL: no memory.
 */
POOL_EXPORT char *pool_hub_cache_dir(const char *const *environment);
/** Directory of remembered verifications, below the state directory. Owned by the caller; NULL: no memory. */
POOL_EXPORT char *pool_config_proof_dir(const struct pool_config *config);

#ifdef __cplusplus
}
#endif
#endif
