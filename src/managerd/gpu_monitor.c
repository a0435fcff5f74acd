/*
 * Facts about GPUs for the daemon; see gpu_monitor.h. Owns the decisions about helpers: when one is late, when the next
 * one may start. The process itself is gpu_probe_process.c, the facts and their age are gpu_facts.c.
 *
 * Two clocks. Facts age by CLOCK_BOOTTIME: after a suspend they are old. Helpers are late by the loop's clock, which
 * stands still with them.
 */
#include "managerd/gpu_monitor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "managerd/gpu_facts.h"
#include "managerd/gpu_probe_process.h"
#include "managerd/gpu_probe_protocol.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 60000
/* A helper that has lived so long was a good one: the next one starts soon again. */
#define GOOD_LIFE_MS 60000
#define END_WAIT_MS  1000
/* More than a helper says whose fastest pace is a hundred, also when the loop was held up and a socket full of
 * lines is read at once. */
#define LINES_PER_SECOND_MAX 2000
#define TROUBLE_MAX          400

struct gpu_monitor {
    uv_loop_t *loop;
    struct gpu_monitor_options options;
    char *inventory_url;
    char *probe_path;
    uv_timer_t timer;

    struct gpu_facts facts;
    bool is_stale_told;

    struct gpu_probe_process *helper; /* NULL: none, the next one starts at restart_ms */
    struct gpu_probe_process *abandoned[GPU_MONITOR_ABANDONED_MAX];
    size_t n_abandoned;
    bool has_answered; /* the helper */
    bool
        has_failed; /* it said that it could not read the GPUs, and why: nothing that follows says it better */
    bool is_silent; /* it has closed its output */
    bool is_hurried;
    int64_t told_interval_ms;
    uint64_t started_ms;  /* these by the loop's clock */
    uint64_t deadline_ms; /* of the helper's next answer */
    uint64_t restart_ms;
    int64_t backoff_ms;
    uint64_t window_ms; /* start of the second in which lines are counted */
    uint32_t n_lines;

    size_t n_processes; /* not freed by the loop yet */
    bool is_closing;
    bool is_timer_closed;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
    struct gpu_monitor_counters counters;
};

static void plan(struct gpu_monitor *monitor);

static int64_t wanted_interval_ms(const struct gpu_monitor *monitor)
{
    return monitor->is_hurried ? monitor->options.fast_interval_ms : monitor->options.refresh_interval_ms;
}

static void tell_trouble(struct gpu_monitor *monitor, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void tell_trouble(struct gpu_monitor *monitor, const char *format, ...)
{
    char text[TROUBLE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    /* While there are no facts at all, this is why. */
    if (!monitor->has_failed)
        gpu_facts_explain(&monitor->facts, text);
    if (monitor->options.on_trouble && !monitor->is_closing)
        monitor->options.on_trouble(monitor->options.ctx, text);
}

/* ---- the age of facts ---- */

static void check_staleness(struct gpu_monitor *monitor)
{
    if (gpu_facts_left_ms(&monitor->facts) == 0 && (!monitor->facts.is_stale || !monitor->is_stale_told))
        gpu_facts_mark_stale(&monitor->facts);
}

static void tell_stale(struct gpu_monitor *monitor)
{
    if (monitor->is_stale_told || gpu_facts_left_ms(&monitor->facts) > 0)
        return;
    monitor->is_stale_told = true;
    if (monitor->options.on_stale)
        monitor->options.on_stale(monitor->options.ctx, monitor->facts.list,
                                  gpu_facts_age_ms(&monitor->facts));
}

/* ---- helpers that leave ---- */

static void free_monitor(struct gpu_monitor **monitor)
{
    if (!*monitor)
        return;
    gpu_facts_done(&(*monitor)->facts);
    free((*monitor)->inventory_url);
    free((*monitor)->probe_path);
    free(*monitor);
}

static void finish_close(struct gpu_monitor *monitor)
{
    if (!monitor->is_timer_closed || monitor->n_processes > 0)
        return;
    void (*on_closed)(void *) = monitor->on_closed;
    void *ctx = monitor->closed_ctx;
    free_monitor(&monitor);
    if (on_closed)
        on_closed(ctx);
}

static void take_closed_timer(uv_handle_t *handle)
{
    struct gpu_monitor *monitor = handle->data;
    monitor->is_timer_closed = true;
    finish_close(monitor);
}

/* Nothing is waited for any more. */
static void let_go(struct gpu_monitor *monitor)
{
    if (uv_is_closing((uv_handle_t *)&monitor->timer))
        return;
    for (size_t i = 0; i < monitor->n_abandoned; i++)
        gpu_probe_process_free(monitor->abandoned[i]);
    monitor->n_abandoned = 0;
    uv_close((uv_handle_t *)&monitor->timer, take_closed_timer);
}

static void schedule_restart(struct gpu_monitor *monitor)
{
    uint64_t now = uv_now(monitor->loop);
    if (now - monitor->started_ms >= GOOD_LIFE_MS)
        monitor->backoff_ms = BACKOFF_MIN_MS;
    monitor->restart_ms = now + (uint64_t)monitor->backoff_ms;
    monitor->backoff_ms = 2 * monitor->backoff_ms < BACKOFF_MAX_MS ? 2 * monitor->backoff_ms : BACKOFF_MAX_MS;
}

/* Kills the helper and leaves it. It is counted until it has ended. */
static void abandon_helper(struct gpu_monitor *monitor)
{
    struct gpu_probe_process *helper = take_ptr(&monitor->helper);
    gpu_probe_process_kill(helper);
    monitor->abandoned[monitor->n_abandoned++] = helper;
    monitor->counters.n_abandoned = monitor->n_abandoned;
    schedule_restart(monitor);
}

static bool forget_abandoned(struct gpu_monitor *monitor, const struct gpu_probe_process *process)
{
    for (size_t i = 0; i < monitor->n_abandoned; i++) {
        if (monitor->abandoned[i] == process) {
            monitor->abandoned[i] = monitor->abandoned[--monitor->n_abandoned];
            monitor->counters.n_abandoned = monitor->n_abandoned;
            return true;
        }
    }
    return false;
}

static void take_gone(void *ctx, struct gpu_probe_process *process, const char *how)
{
    struct gpu_monitor *monitor = ctx;
    if (process == monitor->helper) {
        monitor->helper = NULL;
        monitor->counters.n_ended++;
        schedule_restart(monitor);
        tell_trouble(monitor, "pool-gpu-probe is started again: %s", how);
    } else {
        forget_abandoned(monitor, process);
    }
    gpu_probe_process_free(process);
    if (!monitor->is_closing)
        plan(monitor);
    else if (monitor->n_abandoned == 0)
        let_go(monitor);
}

static void take_freed(void *ctx)
{
    struct gpu_monitor *monitor = ctx;
    monitor->n_processes--;
    finish_close(monitor);
}

static void take_broken(void *ctx, const char *why)
{
    struct gpu_monitor *monitor = ctx;
    if (!monitor->helper)
        return;
    monitor->counters.n_broken++;
    abandon_helper(monitor);
    tell_trouble(monitor, "pool-gpu-probe is replaced: %s", why);
    if (!monitor->is_closing)
        plan(monitor);
}

/* A process that ends closes its output first; one that goes on without is of no use. */
static void take_silence(void *ctx)
{
    struct gpu_monitor *monitor = ctx;
    monitor->is_silent = true;
    monitor->deadline_ms = uv_now(monitor->loop) + END_WAIT_MS;
    plan(monitor);
}

/* ---- answers ---- */

static void take_snapshot(struct gpu_monitor *monitor, struct pool_gpu_list *list)
{
    gpu_facts_replace(&monitor->facts, list, wanted_interval_ms(monitor) + monitor->options.stale_after_ms);
    monitor->is_stale_told = false;
    monitor->counters.n_snapshots++;
    if (monitor->options.on_snapshot)
        monitor->options.on_snapshot(monitor->options.ctx, list);
}

static bool is_flood(struct gpu_monitor *monitor)
{
    uint64_t now = uv_now(monitor->loop);
    if (now - monitor->window_ms >= 1000) {
        monitor->window_ms = now;
        monitor->n_lines = 0;
    }
    return ++monitor->n_lines > LINES_PER_SECOND_MAX;
}

static void tell_interval(struct gpu_monitor *monitor)
{
    int64_t interval_ms = wanted_interval_ms(monitor);
    struct probe_command command = { PROBE_COMMAND_INTERVAL, interval_ms };
    if (monitor->helper && interval_ms != monitor->told_interval_ms &&
        gpu_probe_process_tell(monitor->helper, &command))
        monitor->told_interval_ms = interval_ms;
}

static bool take_line(void *ctx, const char *line, size_t n)
{
    struct gpu_monitor *monitor = ctx;
    struct probe_answer answer;
    struct pool_error error = POOL_ERROR_INIT;
    if (is_flood(monitor)) {
        take_broken(monitor, "it says too much");
        return false;
    }
    enum pool_code code = probe_answer_decode(line, n, &answer, &error);
    if (code != POOL_OK) {
        take_broken(monitor, error.message);
        return false;
    }
    if (answer.kind ==
        PROBE_ANSWER_EVENT) { /* of another thread of the helper: the reading may hang all the same */
        monitor->counters.n_events++;
        if (monitor->options.on_event && !monitor->is_closing)
            monitor->options.on_event(monitor->options.ctx, &answer.event);
        return !monitor->is_closing;
    }
    monitor->has_answered = true;
    monitor->deadline_ms =
        uv_now(monitor->loop) + (uint64_t)(wanted_interval_ms(monitor) + monitor->options.stale_after_ms);
    tell_interval(monitor); /* what did not fit into its socket before may do so now */
    switch (answer.kind) {
    case PROBE_ANSWER_SNAPSHOT: take_snapshot(monitor, answer.list); break;
    case PROBE_ANSWER_ERROR:
        monitor->counters.n_errors++;
        monitor->has_failed = false;
        tell_trouble(monitor, "the GPUs can not be read: %s", answer.error.message);
        monitor->has_failed = true;
        break;
    case PROBE_ANSWER_EVENT: break; /* above */
    }
    if (monitor->is_closing)
        return false;
    plan(monitor);
    return true;
}

/* ---- time ---- */

static void start_helper(struct gpu_monitor *monitor)
{
    struct gpu_probe_process_options options = {
        .path = monitor->probe_path,
        .inventory_url = monitor->inventory_url,
        .interval_ms = wanted_interval_ms(monitor),
        .on_line = take_line,
        .on_broken = take_broken,
        .on_silent = take_silence,
        .on_gone = take_gone,
        .on_freed = take_freed,
        .ctx = monitor,
    };
    monitor->started_ms = uv_now(monitor->loop);
    monitor->has_answered = monitor->has_failed = monitor->is_silent = false;
    monitor->told_interval_ms = options.interval_ms;
    int failure = gpu_probe_process_start(monitor->loop, &options, &monitor->helper);
    if (failure) {
        monitor->counters.n_failed_starts++;
        schedule_restart(monitor);
        tell_trouble(monitor, "%s can not be started: %s", monitor->probe_path, strerror(failure));
        return;
    }
    monitor->n_processes++;
    monitor->counters.n_started++;
    monitor->deadline_ms = monitor->started_ms + (uint64_t)monitor->options.first_answer_ms;
}

static void check_helper(struct gpu_monitor *monitor)
{
    uint64_t now = uv_now(monitor->loop);
    if (monitor->helper && !monitor->is_silent && now >= monitor->deadline_ms)
        gpu_probe_process_read(monitor->helper); /* or it was this loop that was held up */
    if (monitor->is_closing || !monitor->helper || now < monitor->deadline_ms)
        return;
    if (monitor->is_silent) {
        take_broken(monitor, "it has closed its output");
        return;
    }
    monitor->counters.n_hung++;
    abandon_helper(monitor);
    monitor->is_stale_told = false;
    tell_trouble(monitor, "pool-gpu-probe is replaced: the driver has not answered it for %" PRIu64 " ms",
                 now - (monitor->has_answered
                            ? monitor->deadline_ms - (uint64_t)monitor->options.stale_after_ms
                            : monitor->started_ms));
}

static void take_timer(uv_timer_t *timer)
{
    struct gpu_monitor *monitor = timer->data;
    if (monitor->is_closing) {
        let_go(monitor);
        return;
    }
    check_helper(monitor);
    if (!monitor->is_closing && !monitor->helper && uv_now(monitor->loop) >= monitor->restart_ms &&
        monitor->n_abandoned < GPU_MONITOR_ABANDONED_MAX)
        start_helper(monitor);
    if (monitor->is_closing)
        return;
    check_staleness(monitor);
    tell_stale(monitor);
    if (!monitor->is_closing)
        plan(monitor);
}

/* Sets the timer to what comes next. */
static void plan(struct gpu_monitor *monitor)
{
    uint64_t now = uv_now(monitor->loop);
    uint64_t next = UINT64_MAX;
    if (monitor->helper)
        next = monitor->deadline_ms;
    else if (monitor->n_abandoned < GPU_MONITOR_ABANDONED_MAX)
        next = monitor->restart_ms;
    if (!monitor->is_stale_told) {
        uint64_t stale = now + (uint64_t)gpu_facts_left_ms(&monitor->facts);
        next = stale < next ? stale : next;
    }
    if (next == UINT64_MAX)
        uv_timer_stop(&monitor->timer);
    else
        uv_timer_start(&monitor->timer, take_timer, next > now ? next - now : 0, 0);
}

/* ---- the front ---- */

struct gpu_monitor_view gpu_monitor_snapshot(struct gpu_monitor *monitor)
{
    check_staleness(monitor);
    return (struct gpu_monitor_view){ monitor->facts.list, gpu_facts_age_ms(&monitor->facts),
                                      monitor->facts.is_stale };
}

pid_t gpu_monitor_helper_pid(const struct gpu_monitor *monitor)
{
    return monitor->helper ? gpu_probe_process_pid(monitor->helper) : 0;
}

bool gpu_monitor_awaits(const struct gpu_monitor *monitor, pid_t pid)
{
    if (monitor->helper && gpu_probe_process_pid(monitor->helper) == pid)
        return true;
    for (size_t i = 0; i < monitor->n_abandoned; i++) {
        if (gpu_probe_process_pid(monitor->abandoned[i]) == pid)
            return true;
    }
    return false;
}

struct gpu_monitor_counters gpu_monitor_counters(const struct gpu_monitor *monitor)
{
    return monitor->counters;
}

/* An answer is due now, or will be soon: what is late is late from then on. */
static void expect_answer(struct gpu_monitor *monitor, int64_t within_ms)
{
    int64_t wait_ms = within_ms + monitor->options.stale_after_ms;
    uint64_t deadline_ms = uv_now(monitor->loop) + (uint64_t)wait_ms;
    if (monitor->has_answered && !monitor->is_silent && deadline_ms < monitor->deadline_ms)
        monitor->deadline_ms = deadline_ms;
    gpu_facts_expect(&monitor->facts, wait_ms);
    plan(monitor);
}

void gpu_monitor_hurry(struct gpu_monitor *monitor, bool is_hurried)
{
    if (!monitor || monitor->is_closing || monitor->is_hurried == is_hurried)
        return;
    monitor->is_hurried = is_hurried;
    tell_interval(monitor);
    if (is_hurried)
        expect_answer(monitor, monitor->options.fast_interval_ms);
}

void gpu_monitor_ask(struct gpu_monitor *monitor)
{
    struct probe_command command = { .kind = PROBE_COMMAND_NOW };
    if (!monitor->is_closing && monitor->helper && gpu_probe_process_tell(monitor->helper, &command))
        expect_answer(monitor, 0);
}

static enum pool_code check_options(const struct gpu_monitor_options *options, struct pool_error *err)
{
    const struct {
        const char *name;
        int64_t ms, min_ms, max_ms;
    } times[] = {
        { "refresh_interval_ms", options->refresh_interval_ms, PROBE_INTERVAL_MIN_MS, PROBE_INTERVAL_MAX_MS },
        { "fast_interval_ms", options->fast_interval_ms, PROBE_INTERVAL_MIN_MS,
          options->refresh_interval_ms },
        { "stale_after_ms", options->stale_after_ms, 1, PROBE_INTERVAL_MAX_MS },
        { "first_answer_ms", options->first_answer_ms, 0, PROBE_INTERVAL_MAX_MS },
    };
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        if (times[i].ms >= times[i].min_ms && times[i].ms <= times[i].max_ms)
            continue;
        pool_error_set(err, POOL_INVALID_REQUEST, "%s is %" PRId64 ", not from %" PRId64 " to %" PRId64,
                       times[i].name, times[i].ms, times[i].min_ms, times[i].max_ms);
        pool_error_set_field(err, "%s", times[i].name);
        return POOL_INVALID_REQUEST;
    }
    return POOL_OK;
}

enum pool_code gpu_monitor_open(uv_loop_t *loop, const struct gpu_monitor_options *options,
                                struct gpu_monitor **ret_monitor, struct pool_error *err)
{
    enum pool_code code = check_options(options, err);
    if (code != POOL_OK)
        return code;
    CLEANUP(free_monitor) struct gpu_monitor *monitor = calloc(1, sizeof *monitor);
    if (!monitor)
        return pool_error_no_memory(err);
    monitor->loop = loop;
    monitor->options = *options;
    monitor->inventory_url = strdup(options->inventory_url);
    monitor->probe_path = strdup(options->probe_path);
    if (!monitor->inventory_url || !monitor->probe_path)
        return pool_error_no_memory(err);
    if (monitor->options.first_answer_ms == 0)
        monitor->options.first_answer_ms = GPU_MONITOR_FIRST_ANSWER_MS;
    code = gpu_facts_start(&monitor->facts, monitor->options.first_answer_ms, err);
    if (code != POOL_OK)
        return code;
    monitor->backoff_ms = BACKOFF_MIN_MS;
    uv_timer_init(loop, &monitor->timer); /* can not fail */
    monitor->timer.data = monitor;
    uv_update_time(loop);
    struct gpu_monitor *opened = take_ptr(&monitor);
    start_helper(opened);
    plan(opened);
    *ret_monitor = opened;
    return POOL_OK;
}

void gpu_monitor_close(struct gpu_monitor *monitor, void (*on_closed)(void *ctx), void *ctx)
{
    if (!monitor || monitor->is_closing)
        return;
    monitor->is_closing = true;
    monitor->on_closed = on_closed;
    monitor->closed_ctx = ctx;
    uv_update_time(monitor->loop);
    uv_timer_stop(&monitor->timer);
    if (monitor->helper)
        abandon_helper(monitor);
    if (monitor->n_abandoned == 0)
        let_go(monitor);
    else
        uv_timer_start(&monitor->timer, take_timer, GPU_MONITOR_CLOSE_WAIT_MS, 0);
}
