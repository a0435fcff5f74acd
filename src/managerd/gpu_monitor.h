/*
 * What the daemon knows of the GPUs: the last snapshot and its age. The driver is asked by a helper process
 * (pool-gpu-probe) that the monitor starts, watches and replaces; nothing in this process ever waits for a driver.
 *
 * A snapshot that is not followed by the next one in time becomes stale: every GPU in it is then unhealthy, with
 * "stale: the driver has not answered for N ms" as its reason. The helper behind it is killed and left alone; one
 * that can not be killed (a thread of it is stuck in the driver) is counted, and another one takes its place. A
 * helper that dies or talks nonsense is replaced too. Replacements come with growing pauses.
 *
 * All in the thread of the loop. Callbacks may call any function here.
 */
#ifndef MANAGERD_GPU_MONITOR_H
#define MANAGERD_GPU_MONITOR_H

#include <pool/error.h>
#include <pool/gpu.h>
#include <pool/gpu_event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

struct gpu_monitor; /* opaque */

#define GPU_MONITOR_FIRST_ANSWER_MS 60000 /* a driver without persistence mode starts each GPU for seconds */
#define GPU_MONITOR_ABANDONED_MAX   8     /* helpers that did not die; then none is started until one does */

struct gpu_monitor_options {
    const char *inventory_url;   /* as pool_gpu_inventory_open takes it */
    const char *probe_path;      /* of pool-gpu-probe, absolute */
    int64_t refresh_interval_ms; /* between two readings, PROBE_INTERVAL_MIN_MS to PROBE_INTERVAL_MAX_MS */
    int64_t fast_interval_ms;    /* the same while in a hurry; at most refresh_interval_ms */
    int64_t stale_after_ms;      /* by how much an answer may be late */
    int64_t first_answer_ms;     /* the same for the first one of a helper; 0: GPU_MONITOR_FIRST_ANSWER_MS */
    /* A new snapshot is there. The list is borrowed for the call. May be NULL, like the others. */
    void (*on_snapshot)(void *ctx, const struct pool_gpu_list *list);
    /* The last snapshot has become stale, or still is after another helper has failed. */
    void (*on_stale)(void *ctx, const struct pool_gpu_list *list, int64_t age_ms);
    /* The driver tells of a device by itself. */
    void (*on_event)(void *ctx, const struct pool_gpu_event *event);
    /* Something for the log: a helper ended, hung, could not be started; the inventory could not be read. */
    void (*on_trouble)(void *ctx, const char *text);
    void *ctx;
};

struct gpu_monitor_view {
    const struct pool_gpu_list *list; /* never NULL; empty, with a reason, before the first snapshot */
    int64_t age_ms; /* since the driver was asked; before the first snapshot: since the start */
    bool is_stale;  /* true before the first snapshot, too */
};

/* Since the start; gauges where it says so. */
struct gpu_monitor_counters {
    uint64_t n_snapshots;
    uint64_t n_events;
    uint64_t n_errors;  /* answers that the inventory could not be read */
    uint64_t n_started; /* helpers */
    uint64_t n_failed_starts;
    uint64_t n_hung;      /* helpers that did not answer in time */
    uint64_t n_broken;    /* helpers that talked nonsense */
    uint64_t n_ended;     /* helpers that ended by themselves */
    uint64_t n_abandoned; /* gauge: helpers that were sent SIGKILL and are still there */
};

/**
 * Starts watching. The strings are copied. A helper that can not be started is no failure here: it is trouble, told
 * by on_trouble and in the list's reason, and is tried again.
 * Errors: INVALID_REQUEST (an option), INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code gpu_monitor_open(uv_loop_t *loop, const struct gpu_monitor_options *options,
                                                struct gpu_monitor **ret_monitor, struct pool_error *err);
/* The list is borrowed until the loop goes on. */
struct gpu_monitor_view gpu_monitor_snapshot(struct gpu_monitor *monitor);
/* Whether to ask the driver faster: while a worker starts or stops. NULL is allowed. */
void gpu_monitor_hurry(struct gpu_monitor *monitor, bool is_hurried);
/* Asks for a snapshot at once; on_snapshot tells. */
void gpu_monitor_ask(struct gpu_monitor *monitor);
/* Whether it waits for the end of this process: the helper, or one that was left. */
bool gpu_monitor_awaits(const struct gpu_monitor *monitor, pid_t pid);
/* Of the helper that is asked at present; 0: none. For people and logs; it may have ended. */
pid_t gpu_monitor_helper_pid(const struct gpu_monitor *monitor);
struct gpu_monitor_counters gpu_monitor_counters(const struct gpu_monitor *monitor);
/**
 * Kills the helpers and frees the monitor; waits GPU_MONITOR_CLOSE_WAIT_MS at most for them to end. on_closed is
 * called from the loop, when no handle is left in it; the other callbacks come no more. Accepts NULL.
 */
#define GPU_MONITOR_CLOSE_WAIT_MS 500
void gpu_monitor_close(struct gpu_monitor *monitor, void (*on_closed)(void *ctx), void *ctx);

#endif
