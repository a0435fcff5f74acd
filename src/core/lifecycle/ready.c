/*
 * Readiness: first the listening socket (sock_diag), then 200 on the health path, then the proof that every
 * listener of the port is of the worker's own tree. Polled every max(1 ms, 1 % of the time since the start), at
 * most every 50 ms; the end of the process is an event.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/number.h"
#include "core/lifecycle/http_probe.h"
#include "core/lifecycle/manager.h"
#include "core/lifecycle/port.h"
#include "core/lifecycle/worker_log.h"

#define POLL_MIN_NS      (1 * NS_PER_MS)
#define POLL_MAX_NS      (50 * NS_PER_MS)
#define PROBE_TIMEOUT_NS (2 * NS_PER_SEC)
#define SAMPLE_NS        (250 * NS_PER_MS)
/* What is left of a worker that failed to start is killed, and waited for this long. */
#define CLEAN_UP_MS 5000

static struct port_claim claim_of(const struct pool_worker_info *worker)
{
    struct port_claim claim = { .host = worker->host,
                                .port = (uint16_t)worker->port,
                                .pid = (pid_t)worker->process.pid };
    if (worker_log_look(worker->log_path, &claim.log_device, &claim.log_inode) == WORKER_LOG_MISSING)
        claim.log_inode = 0;
    return claim;
}

static bool is_listening(const struct listeners *list, int64_t port)
{
    for (size_t i = 0; i < list->n; i++) {
        if (list->at[i].port == port)
            return true;
    }
    return false;
}

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
        if (is_listening(&listeners, worker->port))
            http_probe_start(&probes[i], worker->host, (uint16_t)worker->port, worker->ready_path);
    }
    poll_probes(probes, list->n_workers, polled, deadline_ns);
    for (size_t i = 0; i < list->n_workers; i++) {
        http_probe_close(&probes[i]);
        uint32_t foreign_uid;
        struct port_claim claim = claim_of(list->workers[i]);
        is_ready[i] = probes[i].state == HTTP_PROBE_ANSWERED && probes[i].status_code == 200 &&
                      port_owner_find(&listeners, &claim, &proofs[i], &foreign_uid) == PORT_OURS;
    }
}

/* ---- waiting for one ---- */

struct watch {
    struct pool_worker_info *worker;
    int pidfd;
    struct http_probe probe;
    struct listeners listeners;
    int64_t started_ns;
    int64_t progress_ns; /* of the last progress */
    int64_t probe_started_ns;
    int64_t next_look_ns;
    int64_t next_sample_ns;
    int last_status_code; /* of the readiness path, 0: none yet */
    bool is_port_foreign;
    struct pool_start_progress seen;
};

static void watch_done(struct watch *watch)
{
    http_probe_close(&watch->probe);
    listeners_done(&watch->listeners);
    close_fd(&watch->pidfd);
    pool_worker_info_free(watch->worker);
}

static int64_t poll_interval_ns(const struct watch *watch, int64_t now_ns)
{
    int64_t interval = (now_ns - watch->started_ns) / 100;
    return interval < POLL_MIN_NS ? POLL_MIN_NS : interval > POLL_MAX_NS ? POLL_MAX_NS : interval;
}

static int64_t read_counter(int64_t pid, const char *file, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%" PRId64 "/%s", pid, file);
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(65536);
    if (file_read(path, &text) != 0)
        return 0;
    const char *line = strstr(strbuf_text(&text), name);
    if (!line)
        return 0;
    line += strlen(name);
    line += strspn(line, " \t");
    int64_t value;
    return parse_int64_n(line, strspn(line, "0123456789"), 0, INT64_MAX, &value) ? value : 0;
}

/* Progress: more bytes read, more memory, more log. A model that is mapped shows as memory, not as reads. */
static void sample_progress(struct watch *watch, int64_t now_ns)
{
    struct stat st = { 0 };
    int64_t pid = watch->worker->process.pid;
    struct pool_start_progress now = { .elapsed_ms = (now_ns - watch->started_ns) / NS_PER_MS,
                                       .read_bytes = read_counter(pid, "io", "rchar:"),
                                       .resident_bytes = read_counter(pid, "status", "VmRSS:") * 1024,
                                       .is_listening = watch->seen.is_listening };
    if (watch->worker->log_path && stat(watch->worker->log_path, &st) == 0)
        now.log_bytes = st.st_size;
    if (now.read_bytes > watch->seen.read_bytes || now.resident_bytes > watch->seen.resident_bytes ||
        now.log_bytes > watch->seen.log_bytes)
        watch->progress_ns = now_ns;
    watch->seen = now;
}

/* Looks for the listener; starts a probe when there is one. */
static void look_for_listener(struct watch *watch, int64_t now_ns)
{
    watch->next_look_ns = now_ns + poll_interval_ns(watch, now_ns);
    if (listeners_read(&watch->listeners) != 0)
        return;
    watch->seen.is_listening = is_listening(&watch->listeners, watch->worker->port);
    if (!watch->seen.is_listening)
        return;
    watch->probe_started_ns = now_ns;
    http_probe_start(&watch->probe, watch->worker->host, (uint16_t)watch->worker->port,
                     watch->worker->ready_path);
}

/* Whether the answer that came in proves readiness. */
static bool is_proven(struct watch *watch, enum pool_port_proof *ret_proof)
{
    if (watch->probe.state != HTTP_PROBE_ANSWERED)
        return false;
    watch->probe.state = HTTP_PROBE_IDLE;
    watch->last_status_code = watch->probe.status_code;
    if (watch->probe.status_code != 200)
        return false;
    uint32_t foreign_uid;
    struct port_claim claim = claim_of(watch->worker);
    enum port_owner owner = listeners_read(&watch->listeners) == 0
                                ? port_owner_find(&watch->listeners, &claim, ret_proof, &foreign_uid)
                                : PORT_NOBODY;
    watch->is_port_foreign = owner == PORT_FOREIGN;
    return owner == PORT_OURS;
}

static bool is_port_foreign_now(struct watch *watch)
{
    enum pool_port_proof proof;
    uint32_t foreign_uid;
    struct port_claim claim = claim_of(watch->worker);
    return listeners_read(&watch->listeners) == 0 &&
           port_owner_find(&watch->listeners, &claim, &proof, &foreign_uid) == PORT_FOREIGN;
}

enum watch_result { WATCH_READY, WATCH_ENDED, WATCH_TIMEOUT, WATCH_CANCELLED };

static bool is_over_deadline(const struct watch *watch, int64_t now_ns)
{
    int64_t limit_ns = watch->worker->start_timeout_ms > INT64_MAX / NS_PER_MS / POOL_START_CAP_FACTOR
                           ? INT64_MAX / POOL_START_CAP_FACTOR
                           : watch->worker->start_timeout_ms * NS_PER_MS;
    return now_ns - watch->progress_ns > limit_ns ||
           now_ns - watch->started_ns > limit_ns * POOL_START_CAP_FACTOR;
}

static enum watch_result watch_start(struct watch *watch, const struct pool_wait_options *options,
                                     enum pool_port_proof *ret_proof)
{
    for (;;) {
        int64_t now_ns = clock_boottime_ns();
        short events = http_probe_events(&watch->probe);
        if (events && now_ns - watch->probe_started_ns > PROBE_TIMEOUT_NS) {
            http_probe_close(&watch->probe);
            watch->probe.state = HTTP_PROBE_IDLE;
            events = 0;
        }
        if (!events && now_ns >= watch->next_look_ns) {
            look_for_listener(watch, now_ns);
            http_probe_step(&watch->probe);
            events = http_probe_events(&watch->probe);
        }
        if (now_ns >= watch->next_sample_ns) {
            sample_progress(watch, now_ns);
            watch->next_sample_ns = now_ns + SAMPLE_NS;
            if (options && options->progress)
                options->progress(&watch->seen, options->progress_context);
        }
        if (is_proven(watch, ret_proof))
            return WATCH_READY;
        if (is_over_deadline(watch, now_ns)) {
            sample_progress(watch, now_ns); /* of the time since the last sample, and for the error */
            if (is_over_deadline(watch, now_ns))
                return WATCH_TIMEOUT;
        }
        int64_t wake_ns = watch->next_sample_ns;
        if (!events && watch->next_look_ns < wake_ns)
            wake_ns = watch->next_look_ns;
        int64_t left_ns = excess_bytes(wake_ns, clock_boottime_ns());
        struct timespec left = { .tv_sec = left_ns / NS_PER_SEC, .tv_nsec = left_ns % NS_PER_SEC };
        struct pollfd polled[3] = { { .fd = watch->pidfd, .events = POLLIN },
                                    { .fd = options ? options->cancel_fd : -1, .events = POLLIN },
                                    { .fd = events ? watch->probe.fd : -1, .events = events } };
        if (ppoll(polled, 3, &left, NULL) <= 0)
            continue;
        if (polled[0].revents)
            return WATCH_ENDED;
        if (polled[1].revents)
            return WATCH_CANCELLED;
        http_probe_step(&watch->probe);
    }
}

/* ---- outcomes ---- */

enum pool_code ready_record(struct pool_manager *manager, const char *worker_id, enum pool_port_proof proof,
                            int64_t ready_boottime_ns, struct pool_worker_info **ret_worker,
                            struct pool_error *err)
{
    CLEANUP(free_worker) struct pool_worker_info *worker = NULL;
    enum pool_code code = state_dir_lock(&manager->state, POOL_LOCK_WAIT_MAX_MS, err);
    if (code != POOL_OK)
        return code;
    code = pool_worker_registry_get(manager->registry, worker_id, &worker, err);
    if (code == POOL_OK && worker->status == POOL_WORKER_SPAWNING) {
        code = pool_worker_transition(worker->status, POOL_EVENT_READY_PROVEN, &worker->status, err);
        worker->port_proof = proof;
        worker->ready_wall_ms = clock_wall_ms();
        worker->ready_boottime_ns = ready_boottime_ns;
        if (code == POOL_OK)
            code = pool_worker_registry_update(manager->registry, worker, err);
    } else if (code == POOL_OK &&
               (worker->status == POOL_WORKER_STOPPING || worker->status == POOL_WORKER_STOPPED)) {
        code = pool_error_set(err, POOL_CONFLICT, "worker %s was stopped while it was starting", worker_id);
    }
    state_dir_unlock(&manager->state);
    if (code == POOL_OK)
        *ret_worker = take_ptr(&worker);
    return code;
}

static void add_failure_details(const struct pool_worker_info *worker, struct process_end end,
                                struct pool_error *err)
{
    pool_error_add_text(err, "worker_id", worker->worker_id);
    pool_error_add_text(err, "log_path", worker->log_path);
    if (end.is_known)
        pool_error_add_number(err, end.is_signal ? "exit_signal" : "exit_code", end.value);
    if (err)
        worker_log_tail(worker->log_path, err->log_tail, sizeof err->log_tail);
}

/* Clears away what a failed start left behind, and moves its row to the history. */
static enum pool_code record_failure(struct pool_manager *manager, const char *worker_id,
                                     enum pool_stop_reason reason, struct process_end end,
                                     struct pool_error *err)
{
    CLEANUP(free_worker) struct pool_worker_info *worker = NULL;
    enum pool_code code = state_dir_lock(&manager->state, POOL_LOCK_WAIT_MAX_MS, err);
    if (code != POOL_OK)
        return code;
    code = pool_worker_registry_get(manager->registry, worker_id, &worker, err);
    if (code == POOL_OK && worker->status != POOL_WORKER_STOPPED)
        code = settle_gone(manager, worker, reason, end, err);
    state_dir_unlock(&manager->state);
    return code == POOL_WORKER_NOT_FOUND ? POOL_OK : code;
}

static enum pool_code fail_start(struct pool_manager *manager, struct watch *watch, bool is_timeout,
                                 struct pool_error *err)
{
    struct process_end end = process_end_read(watch->pidfd, watch->worker->process.pid);
    struct process_end killed;
    char why[160];
    enum pool_code code = stop_processes(manager, watch->worker, 0, -1, &killed, err);
    if (code != POOL_OK)
        return code;
    if (!end.is_known && !is_timeout)
        end = killed;
    code = record_failure(manager, watch->worker->worker_id,
                          is_timeout ? POOL_STOP_START_TIMEOUT : POOL_STOP_START_FAILED, end, err);
    if (code != POOL_OK)
        return code;
    if (is_timeout) {
        snprintf(why, sizeof why, "%s",
                 watch->is_port_foreign        ? "a stranger answers on its port"
                 : watch->last_status_code > 0 ? "its readiness path does not answer 200"
                 : watch->seen.is_listening    ? "it listens and does not answer"
                                               : "it does not listen");
        code = pool_error_set(err, POOL_WORKER_START_TIMEOUT,
                              "worker %s made no progress for %" PRId64 " ms and was stopped: %s",
                              watch->worker->worker_id, watch->worker->start_timeout_ms, why);
        pool_error_add_number(err, "start_timeout_ms", watch->worker->start_timeout_ms);
        pool_error_add_number(err, "elapsed_ms", watch->seen.elapsed_ms);
        pool_error_add_number(err, "read_bytes", watch->seen.read_bytes);
        pool_error_add_number(err, "resident_bytes", watch->seen.resident_bytes);
        pool_error_add_number(err, "log_bytes", watch->seen.log_bytes);
        pool_error_add_bool(err, "is_listening", watch->seen.is_listening);
        if (watch->last_status_code > 0)
            pool_error_add_number(err, "last_status_code", watch->last_status_code);
    } else {
        const char *signal_name = end.is_signal ? sigdescr_np(end.value) : NULL;
        if (end.is_known && end.is_signal)
            snprintf(why, sizeof why, "killed by signal %d (%s)", end.value,
                     signal_name ? signal_name : "unknown");
        else if (end.is_known)
            snprintf(why, sizeof why, "exit code %d", end.value);
        else
            snprintf(why, sizeof why, "how is not known");
        code = pool_error_set(err, POOL_WORKER_START_FAILED, "worker %s ended before it was ready: %s",
                              watch->worker->worker_id, why);
    }
    add_failure_details(watch->worker, end, err);
    return code;
}

/* The row as it is, its process opened, and the clocks set. */
static enum pool_code watch_open(struct pool_manager *manager, const char *worker_id, struct watch *watch,
                                 struct pool_error *err)
{
    enum pool_code code = pool_worker_registry_get(manager->registry, worker_id, &watch->worker, err);
    if (code != POOL_OK)
        return code;
    struct child *child = manager_find_child(manager, worker_id);
    if (child && child->pidfd >= 0)
        watch->pidfd = fcntl(child->pidfd, F_DUPFD_CLOEXEC, 3);
    else
        process_open(&manager->host, &watch->worker->process, &watch->pidfd);
    watch->started_ns = watch->worker->created_boottime_ns;
    watch->progress_ns = clock_boottime_ns();
    watch->next_look_ns = watch->next_sample_ns = watch->progress_ns;
    return POOL_OK;
}

/* One attempt. *ret_is_again: the port was lost to a stranger, and another attempt may be made. */
static enum pool_code wait_once(struct pool_manager *manager, const char *worker_id,
                                const struct pool_wait_options *options, bool *ret_is_again,
                                struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(watch_done) struct watch watch = { .pidfd = -1, .probe = HTTP_PROBE_INIT };
    enum pool_port_proof proof = POOL_PORT_PROOF_NONE;
    enum pool_code code = watch_open(manager, worker_id, &watch, err);
    if (code != POOL_OK)
        return code;
    enum pool_worker_status status = watch.worker->status;
    if (status == POOL_WORKER_READY || status == POOL_WORKER_BUSY || status == POOL_WORKER_IDLE) {
        *ret_worker = take_ptr(&watch.worker);
        return POOL_OK;
    }
    if (status != POOL_WORKER_SPAWNING) {
        code = pool_error_set(err, POOL_WORKER_START_FAILED, "worker %s is %s", worker_id,
                              pool_worker_status_name(status));
        add_failure_details(watch.worker, (struct process_end){ 0 }, err);
        return code;
    }
    enum watch_result result = watch.pidfd < 0 ? WATCH_ENDED : watch_start(&watch, options, &proof);
    if (result == WATCH_READY)
        return ready_record(manager, worker_id, proof, clock_boottime_ns(), ret_worker, err);
    if (result == WATCH_CANCELLED)
        return pool_error_set(err, POOL_CANCELLED, "no longer waiting for worker %s, which goes on starting",
                              worker_id);
    struct child *child = manager_find_child(manager, worker_id);
    if (result == WATCH_ENDED && child && child->attempts < POOL_START_ATTEMPTS_MAX &&
        watch.worker->is_port_chosen && is_port_foreign_now(&watch)) {
        struct process_end end;
        *ret_is_again = true;
        process_end_read(watch.pidfd, watch.worker->process.pid);
        code = stop_processes(manager, watch.worker, 0, -1, &end, err);
        if (code == POOL_OK)
            code = spawn_again(manager, child, watch.worker, err);
        if (code != POOL_OK) /* the first cause is what is reported */
            (void)!record_failure(manager, worker_id, POOL_STOP_START_FAILED, end, NULL);
        return code;
    }
    return fail_start(manager, &watch, result == WATCH_TIMEOUT, err);
}

enum pool_code pool_manager_wait_ready(struct pool_manager *manager, const char *worker_id,
                                       const struct pool_wait_options *options,
                                       struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(free_worker_list) struct pool_worker_list *live = NULL;
    enum pool_code code = pool_worker_registry_list(manager->registry, POOL_REGISTRY_LIVE, &live, err);
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
