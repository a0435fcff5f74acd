/*
 * The inside of the supervisor, for its files: supervisor.c (the table of workers and the public side), supervisor_watch.c
 * (what is waited for), supervisor_jobs.c (what the library does, beside the loop), supervisor_evidence.c (what is seen of
 * workers in case they die), supervisor_presence.c (whether workers are on their GPUs).
 */
#ifndef MANAGERD_SUPERVISOR_INTERNAL_H
#define MANAGERD_SUPERVISOR_INTERNAL_H

#include "managerd/log.h"
#include "managerd/supervisor.h"

enum phase { PHASE_STARTING, PHASE_SERVING, PHASE_STOPPING, PHASE_ENDING };

struct waiter {
    supervisor_answer *answer; /* never NULL */
    void *context;
    bool is_for_end; /* else for readiness */
    struct waiter *next;
};

struct job;
struct timelines;
struct evidence;

struct supervised {
    struct supervisor *supervisor;
    struct pool_worker_info *worker;
    enum phase phase;
    struct log_cause cause; /* the request that started it, until it is ready; the one that stops it */
    bool is_start;          /* its start has not succeeded, or it is not recorded yet */
    bool is_proving;        /* it was taken over, and its readiness is to be proven again */
    int64_t gpu_fault_ns;   /* CLOCK_BOOTTIME, 0: none */
    int pidfd;              /* -1: its process is gone, or can not be opened now */
    struct pool_start_watch *watch;
    int64_t answered_ns;   /* CLOCK_BOOTTIME: its start answers, and its presence is awaited; 0: not yet */
    unsigned n_absent;     /* snapshots in a row that did not show it on its GPUs */
    bool is_presence_told; /* JOB_PRESENCE is under way */
    uv_poll_t *exit_poll;  /* on the pidfd; NULL after its first event */
    uv_poll_t *probe_poll; /* on the watch's probe */
    uv_timer_t *timer;     /* the watch's wake time; the end of a grace; when something is tried again */
    /* STOPPING, ENDING */
    enum pool_stop_reason end_reason;
    int64_t kill_at_ns;  /* CLOCK_BOOTTIME: the end of the grace */
    struct job *end_job; /* under way */
    struct pool_process_end end;
    char correlation_id[POOL_CORRELATION_ID_MAX + 1]; /* of the request that stops it, "": of none */
    bool is_trying;                 /* JOB_QUEUED, or the JOB_STOPPING of a stop that waits, is under way */
    int64_t queued_since_ns;        /* CLOCK_BOOTTIME */
    int64_t held_grace_ms;          /* of a stop that waits */
    struct pool_error *start_error; /* why a start that waited for its turn could not be; NULL: it could */
    struct timelines *timelines;    /* what it held of its devices; NULL: nobody has looked yet */
    struct waiter *waiters;
    struct supervised *next;
};

struct supervisor {
    uv_loop_t *loop;
    struct executor *executor;
    struct pool_manager *manager;
    int64_t queue_timeout_ms;
    struct supervisor_listener listener;
    struct supervised *workers;
    size_t n_workers;
    bool is_closing;
};

/* ---- supervisor.c ---- */
struct supervised *supervised_find(const struct supervisor *supervisor, const char *worker_id);
/* NULL: no memory. Takes the worker over, and not when it fails. */
struct supervised *supervised_add(struct supervisor *supervisor, struct pool_worker_info *worker);
void supervised_remove(struct supervised *supervised);
/* Takes *worker over, and tells of it when it is another revision. */
void supervised_replace_row(struct supervised *supervised, struct pool_worker_info **worker);
void supervised_tell_start(const struct supervised *supervised, enum pool_code outcome);
POOL_MUST_CHECK enum pool_code supervised_add_waiter(struct supervised *supervised, bool is_for_end,
                                                     supervisor_answer *answer, void *context,
                                                     struct pool_error *err);
/* Answers those who wait: all of them, or those for readiness only. */
void supervised_answer_waiters(struct supervised *supervised, bool is_end, enum pool_code code,
                               const struct pool_error *error);
void supervisor_tell_change(const struct supervisor *supervisor, const struct pool_worker_info *worker);

/* ---- supervisor_watch.c ---- */
/* It is asked to stop, and waits until an engine has profiled its device. */
bool worker_is_held(const struct pool_worker_info *worker);
/*
 * Opens what is to be watched of a row. A worker whose process is gone already is ended at once; one that can not be
 * watched now is tried again.
 */
void supervised_watch(struct supervised *supervised);
/* Before anything else closes a descriptor: libuv must not watch one that is somebody else's by then. */
void supervised_stop_watching(struct supervised *supervised);
/* Only what belongs to its start: the end of its process is still seen. */
void supervised_stop_probing(struct supervised *supervised);
/* Forgets a process, for another one of the same start. */
void supervised_forget_process(struct supervised *supervised);
/* The timer's next turn, which does what the phase wants. */
void supervised_wake_after(struct supervised *supervised, int64_t wait_ms);
/*
 * Stops a worker: its stop signal, and the end of everything that is left of it when its main process has ended or the
 * grace is over. One that stops already is given less grace, never more.
 */
void supervised_begin_stop(struct supervised *supervised, enum pool_stop_reason reason, int64_t grace_ms);

/* ---- supervisor_evidence.c ---- */
void timelines_free(struct timelines *timelines);
/* What is known of an end beside that, as of now; timed_out may be NULL. NULL: no memory. Owner: evidence_free. */
struct evidence *supervised_gather_evidence(const struct supervised *supervised,
                                            const struct pool_start_progress *timed_out);
/* As the library takes it; NULL for NULL. Borrowed. */
const struct pool_death_evidence *evidence_of(const struct evidence *evidence);
void evidence_free(struct evidence *evidence);

/* ---- supervisor_presence.c ---- */
/* The watch of a start does not end before it is where it should be, when somebody looks and its backend wants it. */
void supervised_await_presence(struct supervised *supervised);
/* Its start answers. */
void supervised_note_answer(struct supervised *supervised);
/* A verdict is recorded; `was_off` says whether the row before said that it is not on its GPU. */
void supervised_tell_presence(const struct supervised *supervised, bool was_off,
                              const struct pool_presence *presence);

/* ---- supervisor_jobs.c ---- */
enum job_kind {
    JOB_START,
    JOB_QUEUED,
    JOB_READY,
    JOB_PROVEN,
    JOB_PROVE_AGAIN,
    JOB_DRAINING,
    JOB_STOPPING,
    JOB_END,
    JOB_STUCK,
    JOB_AGAIN,
    JOB_GONE,
    JOB_SIGHT,
    JOB_PRESENCE
};

struct job {
    enum job_kind kind;
    struct supervisor *supervisor;
    char worker_id[POOL_WORKER_ID_MAX + 1];
    struct log_cause cause; /* the request it is done for */
    enum pool_code code;
    struct pool_error error;
    struct pool_worker_info *worker; /* in: a copy for READY, PROVEN, END; out: the row as it is */
    /* JOB_START */
    struct pool_worker_spawn_request *request;
    bool is_waiting;
    bool is_unrestricted;
    struct pool_worker_list
        *displaced; /* JOB_START, JOB_QUEUED: whose stop was begun for it; NULL: nobody's */
    /* who asked, for JOB_START, JOB_DRAINING and JOB_STOPPING */
    supervisor_answer *answer;
    void *context;
    /* JOB_READY, JOB_PROVEN */
    enum pool_port_proof proof;
    /* JOB_STOPPING, JOB_END, JOB_AGAIN, JOB_GONE */
    enum pool_stop_reason reason;
    int64_t grace_ms;
    bool is_forced;
    bool is_timed_out;
    bool is_failure_due; /* failure_error is made by the next work, from the worker and its log */
    struct pool_start_progress progress;
    struct pool_process_end end;
    struct evidence *evidence;      /* JOB_GONE; NULL: no memory for it */
    struct pool_error bundle_error; /* JOB_GONE, out: why there is no crash bundle */
    int cancel_fd;                  /* JOB_END: an eventfd that cuts it short; -1: there is none */
    enum pool_code
        failure; /* what those who wait for readiness are told at the end, POOL_OK: nothing failed */
    struct pool_error failure_error;
    /* JOB_SIGHT, JOB_STUCK */
    struct pool_worker_sight sight;
    char *health_reason;
    /* JOB_PRESENCE */
    struct pool_presence *presence;
};

/* NULL: no memory. */
struct job *supervisor_job_new(enum job_kind kind, struct supervisor *supervisor,
                               const struct supervised *supervised);
/* false: no memory, and the job is still yours. */
bool supervisor_job_submit(struct job *job);
/* Accepts NULL. */
void supervisor_job_free(struct job *job);
/* Ends what is left of a worker beside the loop; JOB_GONE follows. Without memory it is tried again. */
void supervised_begin_end(struct supervised *supervised, enum pool_stop_reason reason, int64_t grace_ms,
                          const struct pool_start_progress *timed_out);
/* An end that is under way returns soon, with CANCELLED. */
void supervised_cut_end(struct supervised *supervised);

#endif
