/*
 * The workers of this host, watched: every row of the registry with its process, from its start (or its adoption) to its
 * end. An end is an event (the pidfd), readiness is driven by a start watch, a stop runs beside the loop. All reads are
 * from memory; all changes go through the library, in order.
 */
#ifndef MANAGERD_SUPERVISOR_H
#define MANAGERD_SUPERVISOR_H

#include <pool/lifecycle.h>
#include <uv.h>

#include "managerd/executor.h"

struct supervisor;

/* What the supervisor tells; any may be NULL. All are called on the loop. */
struct supervisor_listener {
    int64_t queue_timeout_ms; /* how long a start waits for its turn */
    /* A row is new or changed: type is "worker.spawning", "worker.ready", "worker.busy", …, "worker.stopped". */
    void (*on_change)(const char *type, const struct pool_worker_info *worker, void *context);
    /*
     * A worker's main process has ended, this very moment. What is left of it is looked for next, and then its row says so:
     * `worker` is the row as it was, with its exit code or signal where they are known already.
     */
    void (*on_exit)(const struct pool_worker_info *worker, void *context);
    /*
     * A start answers for the first time, and is not called ready before supervisor_take_presence is told of a snapshot. May
     * be told at once. NULL: nobody looks at devices, and whoever answers is ready.
     */
    void (*on_answered)(const struct pool_worker_info *worker, void *context);
    /* A start succeeded or failed for good, so long after the request. worker_id: NULL when it was refused before it had one. */
    void (*on_start)(const char *worker_id, enum pool_code outcome, double seconds, void *context);
    /* Which errors a worker's devices have reported of late, oldest first, at most n_max: for its crash bundle. */
    size_t (*faults_near)(const struct pool_worker_info *worker, struct pool_device_fault *faults,
                          size_t n_max, void *context);
    void *context;
};

/* Answer to a start, a wait or a stop: worker is NULL when code is not POOL_OK. Both are borrowed for the call. */
typedef void supervisor_answer(enum pool_code code, const struct pool_worker_info *worker,
                               const struct pool_error *error, void *context);

/* manager, executor and loop are borrowed for the supervisor's life. */
POOL_MUST_CHECK enum pool_code supervisor_open(uv_loop_t *loop, struct executor *executor,
                                               struct pool_manager *manager,
                                               const struct supervisor_listener *listener,
                                               struct supervisor **ret_supervisor, struct pool_error *err);
/* Takes over what runs: settles, proves readiness again, and watches every row. Blocks; before the loop runs. */
POOL_MUST_CHECK enum pool_code supervisor_adopt(struct supervisor *supervisor, struct pool_error *err);
/* Nothing new is begun; what waits for the ends of processes is cut short, and the next daemon goes on with it. */
void supervisor_quiesce(struct supervisor *supervisor);
/* Stops watching; workers go on. Handles close on the loop, on_closed (may be NULL) follows, then the memory goes. */
void supervisor_close(struct supervisor *supervisor, void (*on_closed)(void *context), void *context);

/*
 * Starts a worker; `request` is taken over. `is_waiting`: the answer comes when it is ready or has failed, else when its
 * program runs. `is_unrestricted`: the backend's lists of arguments and variables do not bind it.
 */
void supervisor_start(struct supervisor *supervisor, struct pool_worker_spawn_request *request,
                      bool is_waiting, bool is_unrestricted, supervisor_answer *answer, void *context);
/* The answer comes when the worker is ready or its start has failed. */
void supervisor_wait(struct supervisor *supervisor, const char *worker_id, supervisor_answer *answer,
                     void *context);
/* `is_waiting`: the answer comes when it is gone, else when its stop has begun. answer may be NULL. */
void supervisor_stop(struct supervisor *supervisor, const char *worker_id, enum pool_stop_reason reason,
                     int64_t grace_ms, bool is_forced, bool is_waiting, supervisor_answer *answer,
                     void *context);

/*
 * The worker goes on with what it has in flight, until a stop follows. `is_waiting`: the answer comes when it is gone,
 * else when its drain has begun.
 */
void supervisor_drain(struct supervisor *supervisor, const char *worker_id, bool is_waiting,
                      supervisor_answer *answer, void *context);

/* A device reported a serious error: a worker on it that ends soon after ended because of it. */
void supervisor_note_gpu_fault(struct supervisor *supervisor, const char *gpu_uuid);

/*
 * What a snapshot that was asked for at `asked_boottime_ns` says of the presence of a worker on its GPUs. One that starts
 * is called ready by it, or not; one that serves is unhealthy when several in a row do not show it.
 */
void supervisor_take_presence(struct supervisor *supervisor, const char *worker_id,
                              const struct pool_presence *presence, int64_t asked_boottime_ns);

/* Something has changed: those who wait for their turn, to start or to stop, look whether it has come. */
void supervisor_wake_waiting(const struct supervisor *supervisor);

/* A worker said that it is ready, and its token was right: `worker` is its row since then. */
void supervisor_called(struct supervisor *supervisor, const struct pool_worker_info *worker);

/* As of now; borrowed until the loop goes on. NULL when it is not alive. */
const struct pool_worker_info *supervisor_find(const struct supervisor *supervisor, const char *worker_id);
/* It was taken over, and its readiness is not proven again yet: a watch sees to that. */
bool supervisor_is_proving(const struct supervisor *supervisor, const char *worker_id);
size_t supervisor_n_workers(const struct supervisor *supervisor);
/* Something starts or stops, so that devices should be looked at more often. */
bool supervisor_is_busy(const struct supervisor *supervisor);
typedef void supervisor_visit(const struct pool_worker_info *worker, void *context);
void supervisor_each(const struct supervisor *supervisor, supervisor_visit *visit, void *context);
/* Records what was seen of a worker that serves; a change is told as any other. */
void supervisor_report(struct supervisor *supervisor, const char *worker_id,
                       const struct pool_worker_sight *sight);
/* Takes what each worker holds of its devices into its timeline. attribution NULL: nobody can tell whose it is. */
void supervisor_note_memory(struct supervisor *supervisor, const struct pool_gpu_list *gpus,
                            const struct pool_attribution *attribution);

#endif
