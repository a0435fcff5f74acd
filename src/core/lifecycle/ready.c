/*
 * Readiness, for callers that wait: one probe of all that are starting, and waiting for one with its outcomes recorded.
 * How readiness is seen is in start_watch.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "core/lifecycle/crash.h"
#include "core/lifecycle/http_probe.h"
#include "core/lifecycle/manager.h"
#include "core/lifecycle/presence.h"
#include "core/lifecycle/start_watch.h"
#include "core/lifecycle/worker_log.h"

/* ---- one probe of many ---- */

static void poll_probes(struct http_probe *probes, size_t n, struct pollfd *polled, int64_t deadline_ns)
{
    for (;;) {
        nfds_t n_open = 0;
        for (size_t i = 0; i < n; i++) {
            http_probe_step(&probes[i]);
            short events = http_probe_events(&probes[i]);
            if (events)
                polled[n_open++] = (struct pollfd){ .fd = probes[i].fd, .events = events };
        }
        int64_t left_ms = (deadline_ns - clock_boottime_ns()) / NS_PER_MS;
        if (n_open == 0 || left_ms <= 0)
            return;
        if (poll(polled, n_open, (int)left_ms) < 0 && errno != EINTR)
            return;
    }
}

void ready_probe_all(const struct pool_worker_list *list, int64_t timeout_ms, bool *is_ready,
                     enum pool_port_proof *proofs)
{
    int64_t deadline_ns = clock_boottime_ns() + timeout_ms * NS_PER_MS;
    CLEANUP(listeners_done) struct listeners listeners = { 0 };
    CLEANUP_FREE struct http_probe *probes = calloc(list->n_workers + 1, sizeof *probes);
    CLEANUP_FREE struct pollfd *polled = calloc(list->n_workers + 1, sizeof *polled);
    if (!probes || !polled || listeners_read(&listeners) != 0)
        return; /* nothing is known then, and nobody is called ready */
    for (size_t i = 0; i < list->n_workers; i++) {
        const struct pool_worker_info *worker = list->workers[i];
        probes[i] = (struct http_probe)HTTP_PROBE_INIT;
        if (listeners_have_port(&listeners, worker->port))
            http_probe_start(&probes[i], worker->host, (uint16_t)worker->port, worker->ready_path);
    }
    poll_probes(probes, list->n_workers, polled, deadline_ns);
    for (size_t i = 0; i < list->n_workers; i++) {
        http_probe_close(&probes[i]);
        uint32_t foreign_uid;
        struct port_claim claim = port_claim_of(list->workers[i]);
        is_ready[i] = probes[i].state == HTTP_PROBE_ANSWERED && probes[i].status_code == 200 &&
                      port_owner_find(&listeners, &claim, &proofs[i], &foreign_uid) == PORT_OURS;
    }
}

void ready_set(struct pool_worker_info *worker, enum pool_port_proof proof)
{
    worker->port_proof = proof;
    worker->ready_wall_ms = clock_wall_ms();
    worker->ready_boottime_ns = clock_boottime_ns();
    if (!pool_worker_is_off_gpu(worker))
        return;
    free(worker->health_reason); /* that is over, else it would not be ready */
    worker->health_reason = NULL;
    worker->is_healthy = true;
}

/* ---- waiting for one ---- */

struct wait {
    struct pool_worker_info *worker;
    int pidfd;
    struct pool_start_watch *watch; /* NULL when its process can not be opened */
};

static void wait_done(struct wait *wait)
{
    pool_start_watch_close(wait->watch);
    close_fd(&wait->pidfd);
    pool_worker_info_free(wait->worker);
}

/* It answers: whether it is on its GPU is asked, and known absence is recorded. */
static void look_for_presence(struct pool_manager *manager, struct wait *wait)
{
    struct pool_presence presence;
    presence_look(manager, wait->worker, &presence);
    presence_note(manager, wait->worker, &presence);
    pool_start_watch_take_presence(wait->watch, &presence);
}

/* Drives the watch until it has an answer; cancelled: PENDING. */
static enum pool_start_state wait_for_watch(struct pool_manager *manager, struct wait *wait,
                                            const struct pool_wait_options *options)
{
    struct pool_start_watch *watch = wait->watch;
    int64_t told_ms = -1;
    for (;;) {
        enum pool_start_state state = pool_start_watch_step(watch);
        const struct pool_start_progress *progress = pool_start_watch_progress(watch);
        if (options && options->progress && progress->elapsed_ms != told_ms) {
            told_ms = progress->elapsed_ms;
            options->progress(progress, options->progress_context);
        }
        if (state == POOL_START_ANSWERED)
            look_for_presence(manager, wait);
        else if (state != POOL_START_PENDING)
            return state;
        struct pool_start_poll wanted[2];
        int64_t wake_ns;
        pool_start_watch_poll(watch, wanted, &wake_ns);
        int64_t left_ns = excess_bytes(wake_ns, clock_boottime_ns());
        struct timespec left = { .tv_sec = left_ns / NS_PER_SEC, .tv_nsec = left_ns % NS_PER_SEC };
        struct pollfd polled[3] = { { .fd = wanted[0].fd, .events = wanted[0].events },
                                    { .fd = wanted[1].fd, .events = wanted[1].events },
                                    { .fd = options ? options->cancel_fd : -1, .events = POLLIN } };
        if (ppoll(polled, 3, &left, NULL) > 0 && polled[2].revents)
            return POOL_START_PENDING;
    }
}

bool is_port_lost(const struct pool_worker_info *worker)
{
    CLEANUP(listeners_done) struct listeners listeners = { 0 };
    enum pool_port_proof proof;
    uint32_t foreign_uid;
    struct port_claim claim = port_claim_of(worker);
    return listeners_read(&listeners) == 0 &&
           port_owner_find(&listeners, &claim, &proof, &foreign_uid) == PORT_FOREIGN;
}

bool is_port_listened(const struct pool_worker_info *worker)
{
    CLEANUP(listeners_done) struct listeners listeners = { 0 };
    enum pool_port_proof proof;
    uint32_t foreign_uid;
    struct port_claim claim = port_claim_of(worker);
    return listeners_read(&listeners) == 0 &&
           port_owner_find(&listeners, &claim, &proof, &foreign_uid) != PORT_NOBODY;
}

/* ---- outcomes ---- */

/*
 * Claims a failed start for its end: its row is stopping from now on. *ret_is_ours false: it was stopped, has ended or was
 * started anew meanwhile, and whoever did that sees to its end.
 */
static enum pool_code claim_failure(struct pool_manager *manager, const struct pool_worker_info *seen,
                                    enum pool_stop_reason reason, bool *ret_is_ours, struct pool_error *err)
{
    CLEANUP(free_worker) struct pool_worker_info *worker = NULL;
    enum pool_code code = manager_lock(manager, err);
    if (code != POOL_OK)
        return code;
    code = pool_worker_registry_get(manager->registry, seen->worker_id, &worker, err);
    *ret_is_ours = code == POOL_OK && is_same_start(worker, seen) && worker->status == POOL_WORKER_SPAWNING &&
                   worker->process.pid == seen->process.pid;
    if (*ret_is_ours)
        code = stop_begin(manager, worker, reason, 0, NULL, err);
    state_dir_unlock(&manager->state);
    return code == POOL_WORKER_NOT_FOUND ? POOL_OK : code;
}

/* Moves the row of a failed start to the history. */
static enum pool_code record_failure(struct pool_manager *manager, const struct pool_worker_info *seen,
                                     enum pool_stop_reason reason, struct pool_process_end end,
                                     const struct pool_start_progress *timed_out, struct pool_error *err)
{
    struct pool_death_evidence evidence = { .struct_size = sizeof evidence, .timed_out = timed_out };
    CLEANUP(free_worker) struct pool_worker_info *worker = NULL;
    enum pool_code code = manager_lock(manager, err);
    if (code != POOL_OK)
        return code;
    code = pool_worker_registry_get(manager->registry, seen->worker_id, &worker, err);
    manager->evidence = &evidence;
    if (code == POOL_OK && worker->status != POOL_WORKER_STOPPED && is_same_start(worker, seen))
        code = settle_gone(manager, worker, reason, end, err);
    manager->evidence = NULL;
    state_dir_unlock(&manager->state);
    return code == POOL_WORKER_NOT_FOUND ? POOL_OK : code;
}

static void add_progress(const struct pool_worker_info *worker, const struct pool_start_progress *seen,
                         struct pool_error *err)
{
    pool_error_add_number(err, "start_timeout_ms", worker->start_timeout_ms);
    pool_error_add_number(err, "elapsed_ms", seen->elapsed_ms);
    pool_error_add_number(err, "read_bytes", seen->read_bytes);
    pool_error_add_number(err, "resident_bytes", seen->resident_bytes);
    pool_error_add_number(err, "log_bytes", seen->log_bytes);
    pool_error_add_bool(err, "is_listening", seen->is_listening);
    if (seen->last_status_code > 0)
        pool_error_add_number(err, "last_status_code", seen->last_status_code);
    if (!seen->is_off_gpu)
        return;
    pool_error_add_text(err, "health_reason", POOL_HEALTH_NOT_ON_GPU);
    pool_error_add_text(err, "device", seen->off_gpu.gpu_uuid);
    pool_error_add_number(err, "expected_vram_bytes", seen->off_gpu.expected_bytes);
    pool_error_add_number(err, "least_vram_bytes", seen->off_gpu.least_bytes);
    pool_error_add_number(err, "seen_vram_bytes", seen->off_gpu.seen_bytes.value);
}

static enum pool_code refuse_timeout(const struct pool_worker_info *worker,
                                     const struct pool_start_progress *seen, struct pool_error *err)
{
    if (seen->is_off_gpu) {
        char place[256];
        presence_seat_format(&seen->off_gpu, place, sizeof place);
        return pool_error_set(err, POOL_WORKER_START_TIMEOUT,
                              "worker %s answers and is not on its GPU, and was stopped: %s",
                              worker->worker_id, place);
    }
    const char *why = seen->is_port_foreign        ? "a stranger answers on its port"
                      : seen->last_status_code > 0 ? "its readiness path does not answer 200"
                      : seen->is_listening         ? "it listens and does not answer"
                                                   : "it does not listen";
    return pool_error_set(err, POOL_WORKER_START_TIMEOUT,
                          "worker %s made no progress for %" PRId64 " ms and was stopped: %s",
                          worker->worker_id, worker->start_timeout_ms, why);
}

static enum pool_code refuse_ended(const struct pool_worker_info *worker, const struct pool_process_end *end,
                                   struct pool_error *err)
{
    const char *signal_name = end->is_known && end->is_signal ? sigdescr_np(end->value) : NULL;
    const char *id = worker->worker_id;
    if (!end->is_known)
        return pool_error_set(err, POOL_WORKER_START_FAILED,
                              "worker %s ended before it was ready, and how is not known", id);
    if (end->is_signal)
        return pool_error_set(err, POOL_WORKER_START_FAILED,
                              "worker %s ended before it was ready: killed by signal %d (%s)", id, end->value,
                              signal_name ? signal_name : "unknown");
    return pool_error_set(err, POOL_WORKER_START_FAILED, "worker %s ended before it was ready: exit code %d",
                          id, end->value);
}

enum pool_code pool_manager_start_error(struct pool_manager *manager, const struct pool_worker_info *worker,
                                        const struct pool_process_end *end,
                                        const struct pool_start_progress *timed_out, struct pool_error *err)
{
    enum pool_code code = timed_out ? refuse_timeout(worker, timed_out, err) : refuse_ended(worker, end, err);
    if (timed_out)
        add_progress(worker, timed_out, err);
    pool_error_add_text(err, "worker_id", worker->worker_id);
    pool_error_add_text(err, "log_path", worker->log_path);
    if (end->is_known)
        pool_error_add_number(err, end->is_signal ? "exit_signal" : "exit_code", end->value);
    if (err)
        crash_log_tail(manager, worker, err->log_tail, sizeof err->log_tail);
    return code;
}

enum pool_code pool_worker_start_error(const struct pool_worker_info *worker,
                                       const struct pool_process_end *end,
                                       const struct pool_start_progress *timed_out, struct pool_error *err)
{
    return pool_manager_start_error(NULL, worker, end, timed_out, err);
}

static enum pool_code fail_start(struct pool_manager *manager, const struct wait *wait, bool is_timeout,
                                 struct pool_error *err)
{
    enum pool_stop_reason reason = is_timeout ? POOL_STOP_START_TIMEOUT : POOL_STOP_START_FAILED;
    struct pool_process_end end = process_end_read(wait->pidfd, wait->worker->process.pid);
    struct pool_process_end killed;
    bool is_ours = false;
    enum pool_code code = claim_failure(manager, wait->worker, reason, &is_ours, err);
    if (code != POOL_OK)
        return code;
    if (!is_ours) {
        pool_error_set(err, POOL_WORKER_START_FAILED, "worker %s was stopped before it was ready",
                       wait->worker->worker_id);
        pool_error_add_text(err, "worker_id", wait->worker->worker_id);
        return POOL_WORKER_START_FAILED;
    }
    code = stop_processes(manager, wait->worker, 0, -1, &killed, err);
    if (code != POOL_OK)
        return code;
    if (!end.is_known && !is_timeout)
        end = killed;
    const struct pool_start_progress *timed_out = is_timeout ? pool_start_watch_progress(wait->watch) : NULL;
    /* Before the end is settled: what the worker's secrets are is known as long. */
    struct pool_error failure = POOL_ERROR_INIT;
    enum pool_code failed = pool_manager_start_error(manager, wait->worker, &end, timed_out, &failure);
    code = record_failure(manager, wait->worker, reason, end, timed_out, err);
    if (code != POOL_OK)
        return code;
    if (err)
        *err = failure;
    return failed;
}

/* The row as it is, and its process. What can not be identified from here is not waited for, and never ended. */
static enum pool_code wait_open(struct pool_manager *manager, const char *worker_id, struct wait *wait,
                                struct pool_error *err)
{
    enum pool_code code = pool_worker_registry_get(manager->registry, worker_id, &wait->worker, err);
    if (code != POOL_OK || wait->worker->status != POOL_WORKER_SPAWNING)
        return code;
    struct child *child = manager_find_child(manager, worker_id);
    enum process_state state = PROCESS_RUNNING;
    if (child && child->pidfd >= 0)
        wait->pidfd = fcntl(child->pidfd, F_DUPFD_CLOEXEC, 3);
    else
        state = process_open(&manager->host, &wait->worker->process, &wait->pidfd);
    if (wait->worker->process.pid == 0 || state == PROCESS_UNKNOWN)
        return pool_error_set(
            err, POOL_CONFLICT,
            "the process of worker %s can not be seen from here: it is just being started, or lives "
            "in another pid namespace",
            worker_id);
    if (wait->pidfd < 0)
        return POOL_OK;
    code = pool_start_watch_open(wait->worker, wait->pidfd, &wait->watch, err);
    if (code == POOL_OK && pool_presence_rule(manager->config, wait->worker) == POOL_NOT_ON_GPU_FAIL)
        pool_start_watch_await_presence(wait->watch);
    return code;
}

/* Records that it is ready. Where its absence is no more than said, that is looked for now. */
static enum pool_code finish_ready(struct pool_manager *manager, const struct wait *wait,
                                   struct pool_worker_info **ret_worker, struct pool_error *err)
{
    struct pool_presence presence;
    enum pool_code code = pool_manager_record_ready(manager, wait->worker,
                                                    pool_start_watch_proof(wait->watch), ret_worker, err);
    if (code != POOL_OK || !(*ret_worker)->gpu_uuid ||
        pool_presence_rule(manager->config, *ret_worker) != POOL_NOT_ON_GPU_WARN)
        return code;
    presence_look(manager, *ret_worker, &presence);
    presence_note(manager, *ret_worker, &presence);
    return POOL_OK;
}

/* One attempt. *ret_is_again: the port was lost to a stranger, and another attempt may be made. */
static enum pool_code wait_once(struct pool_manager *manager, const char *worker_id,
                                const struct pool_wait_options *options, bool *ret_is_again,
                                struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(wait_done) struct wait wait = { .pidfd = -1 };
    enum pool_code code = wait_open(manager, worker_id, &wait, err);
    if (code != POOL_OK)
        return code;
    enum pool_worker_status status = wait.worker->status;
    if (status == POOL_WORKER_READY || status == POOL_WORKER_BUSY || status == POOL_WORKER_IDLE) {
        *ret_worker = take_ptr(&wait.worker);
        return POOL_OK;
    }
    if (status != POOL_WORKER_SPAWNING) {
        code = pool_error_set(err, POOL_WORKER_START_FAILED, "worker %s is %s", worker_id,
                              pool_worker_status_name(status));
        pool_error_add_text(err, "worker_id", worker_id);
        pool_error_add_text(err, "stop_reason", pool_stop_reason_name(wait.worker->stop_reason));
        if (err && crash_is_due(wait.worker)) /* the last lines of one that was to end say nothing */
            crash_log_tail(manager, wait.worker, err->log_tail, sizeof err->log_tail);
        return code;
    }
    enum pool_start_state result = wait.watch ? wait_for_watch(manager, &wait, options) : POOL_START_ENDED;
    if (result == POOL_START_READY)
        return finish_ready(manager, &wait, ret_worker, err);
    if (result == POOL_START_PENDING)
        return pool_error_set(err, POOL_CANCELLED, "no longer waiting for worker %s, which goes on starting",
                              worker_id);
    struct child *child = manager_find_child(manager, worker_id);
    if (result == POOL_START_ENDED && child && child->attempts < POOL_START_ATTEMPTS_MAX &&
        wait.worker->is_port_chosen && is_port_lost(wait.worker)) {
        struct pool_process_end end;
        *ret_is_again = true;
        process_end_read(wait.pidfd, wait.worker->process.pid);
        code = stop_processes(manager, wait.worker, 0, -1, &end, err);
        if (code == POOL_OK)
            code = spawn_again(manager, child, wait.worker, err);
        if (code != POOL_OK) /* the first cause is what is reported */
            (void)!record_failure(manager, wait.worker, POOL_STOP_START_FAILED, end, NULL, NULL);
        return code;
    }
    return fail_start(manager, &wait, result == POOL_START_TIMED_OUT, err);
}

enum pool_code pool_manager_wait_ready(struct pool_manager *manager, const char *worker_id,
                                       const struct pool_wait_options *options,
                                       struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(free_worker_list) struct pool_worker_list *live = NULL;
    enum pool_code code = manager_list_registry(manager, POOL_REGISTRY_LIVE, &live, err);
    if (code == POOL_OK && !manager_find_child(manager, worker_id))
        code = settle(manager, false, &live, err);
    bool is_again = code == POOL_OK;
    while (is_again) {
        is_again = false;
        code = wait_once(manager, worker_id, options, &is_again, ret_worker, err);
        is_again = is_again && code == POOL_OK;
    }
    return code;
}
