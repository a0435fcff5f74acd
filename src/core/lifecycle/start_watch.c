/*
 * Watching one start: first the listening socket (sock_diag), then 200 on the health path, then the proof that every
 * listener of the port is of the worker's own tree. Looked at every max(1 ms, 1 % of the time since the start), at
 * most every 50 ms; the end of the process is an event. A step machine that never blocks and records nothing, so
 * that a loop can drive many.
 */
#include "core/lifecycle/start_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
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
#include "core/lifecycle/process.h"
#include "core/lifecycle/spawn_token.h"
#include "core/lifecycle/worker_log.h"

#define POLL_MIN_NS      (1 * NS_PER_MS)
#define POLL_MAX_NS      (50 * NS_PER_MS)
#define PROBE_TIMEOUT_NS (2 * NS_PER_SEC)
#define SAMPLE_NS        (250 * NS_PER_MS)
/* Between two looks at one that answers and is not on its GPU yet. */
#define ABSENT_LOOK_NS (200 * NS_PER_MS)
/* Less than this between two samples is no progress: our own probes are read, too. */
#define PROGRESS_MIN_BYTES (64 << 10)
/* What an engine may log of one of our probes; more than that is its own. */
#define PROBE_LOG_BYTES 256

struct pool_start_watch {
    struct pool_worker_info *worker;
    int pidfd;
    struct http_probe probe;
    struct listeners listeners;
    int64_t started_ns;
    int64_t progress_ns; /* of the last progress */
    int64_t probe_started_ns;
    int64_t next_look_ns;
    int64_t next_sample_ns;
    int n_probes;         /* since the last sample */
    int last_status_code; /* of the readiness path, 0: none yet */
    bool is_port_foreign;
    bool is_call_awaited; /* it has still to say itself that it is ready */
    bool is_presence_awaited;
    bool has_answered; /* at the last look, all else was proven */
    bool is_off_gpu;   /* known to be, and not seen there since */
    struct pool_presence_seat off_gpu;
    enum pool_port_proof proof;
    struct pool_start_progress seen;
};

struct port_claim port_claim_of(const struct pool_worker_info *worker)
{
    struct port_claim claim = { .host = worker->host,
                                .port = (uint16_t)worker->port,
                                .pid = (pid_t)worker->process.pid };
    if (worker_log_of(worker, &claim.log_device, &claim.log_inode) == WORKER_LOG_MISSING)
        claim.log_inode = 0;
    return claim;
}

bool listeners_have_port(const struct listeners *list, int64_t port)
{
    for (size_t i = 0; i < list->n; i++) {
        if (list->at[i].port == port)
            return true;
    }
    return false;
}

static int64_t poll_interval_ns(const struct pool_start_watch *watch, int64_t now_ns)
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

/*
 * Progress: bytes read, memory, log lines. A model that is mapped shows as memory, not as reads. What our own probes make
 * an engine read and log is none.
 */
static void sample_progress(struct pool_start_watch *watch, int64_t now_ns)
{
    struct stat st = { 0 };
    int64_t pid = watch->worker->process.pid;
    struct pool_start_progress now = { .elapsed_ms = (now_ns - watch->started_ns) / NS_PER_MS,
                                       .read_bytes = read_counter(pid, "io", "rchar:"),
                                       .resident_bytes = read_counter(pid, "status", "VmRSS:") * 1024,
                                       .is_listening = watch->seen.is_listening,
                                       .last_status_code = watch->last_status_code,
                                       .is_port_foreign = watch->is_port_foreign,
                                       .is_off_gpu = watch->is_off_gpu,
                                       .off_gpu = watch->off_gpu };
    if (watch->worker->log_path && stat(watch->worker->log_path, &st) == 0)
        now.log_bytes = st.st_size;
    bool is_log_growing = now.log_bytes - watch->seen.log_bytes > (int64_t)watch->n_probes * PROBE_LOG_BYTES;
    watch->n_probes = 0;
    if (is_log_growing || now.read_bytes - watch->seen.read_bytes >= PROGRESS_MIN_BYTES ||
        now.resident_bytes - watch->seen.resident_bytes >= PROGRESS_MIN_BYTES)
        watch->progress_ns = now_ns;
    watch->seen = now;
}

/* Looks for the listener; starts a probe when there is one. */
static void look_for_listener(struct pool_start_watch *watch, int64_t now_ns)
{
    watch->next_look_ns = now_ns + (watch->has_answered ? ABSENT_LOOK_NS : poll_interval_ns(watch, now_ns));
    if (listeners_read(&watch->listeners) != 0)
        return;
    watch->seen.is_listening = listeners_have_port(&watch->listeners, watch->worker->port);
    if (!watch->seen.is_listening || !watch->worker->ready_path)
        return;
    watch->probe_started_ns = now_ns;
    watch->n_probes++;
    http_probe_start(&watch->probe, watch->worker->host, (uint16_t)watch->worker->port,
                     watch->worker->ready_path);
}

/* Whether every listener of its port is its own. */
static bool is_port_proven(struct pool_start_watch *watch)
{
    uint32_t foreign_uid;
    struct port_claim claim = port_claim_of(watch->worker);
    enum port_owner owner = listeners_read(&watch->listeners) == 0
                                ? port_owner_find(&watch->listeners, &claim, &watch->proof, &foreign_uid)
                                : PORT_NOBODY;
    watch->is_port_foreign = owner == PORT_FOREIGN;
    return owner == PORT_OURS;
}

/* Whether the answer that came in proves readiness; of a worker without a path, whether its call and its port do. */
static bool is_proven(struct pool_start_watch *watch)
{
    if (!watch->worker->ready_path)
        return !watch->is_call_awaited && watch->seen.is_listening && is_port_proven(watch);
    if (watch->probe.state != HTTP_PROBE_ANSWERED)
        return false;
    watch->probe.state = HTTP_PROBE_IDLE;
    watch->last_status_code = watch->probe.status_code;
    watch->has_answered = false;
    if (watch->probe.status_code != 200)
        return false;
    return !watch->is_call_awaited && is_port_proven(watch);
}

static bool is_over_deadline(const struct pool_start_watch *watch, int64_t now_ns)
{
    int64_t limit_ns = watch->worker->start_timeout_ms > INT64_MAX / NS_PER_MS / POOL_START_CAP_FACTOR
                           ? INT64_MAX / POOL_START_CAP_FACTOR
                           : watch->worker->start_timeout_ms * NS_PER_MS;
    return now_ns - watch->progress_ns > limit_ns ||
           now_ns - watch->started_ns > limit_ns * POOL_START_CAP_FACTOR;
}

/* ---- the machine ---- */

enum pool_code pool_start_watch_open(const struct pool_worker_info *worker, int pidfd,
                                     struct pool_start_watch **ret_watch, struct pool_error *err)
{
    struct pool_start_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return pool_error_no_memory(err);
    watch->probe = (struct http_probe)HTTP_PROBE_INIT;
    watch->pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, 3);
    int failure = watch->pidfd < 0 ? errno : 0;
    watch->worker = pool_worker_info_copy(worker);
    if (failure || !watch->worker) {
        pool_start_watch_close(watch);
        return failure ? pool_error_set_errno(err, POOL_INTERNAL, failure, "pidfd of worker %s",
                                              worker->worker_id)
                       : pool_error_no_memory(err);
    }
    watch->is_call_awaited = spawn_token_is_awaited(worker);
    watch->started_ns = worker->created_boottime_ns;
    watch->progress_ns = clock_boottime_ns();
    watch->next_look_ns = watch->next_sample_ns = watch->progress_ns;
    *ret_watch = watch;
    return POOL_OK;
}

void pool_start_watch_close(struct pool_start_watch *watch)
{
    if (!watch)
        return;
    http_probe_close(&watch->probe);
    listeners_done(&watch->listeners);
    close_fd(&watch->pidfd);
    pool_worker_info_free(watch->worker);
    free(watch);
}

enum pool_start_state pool_start_watch_step(struct pool_start_watch *watch)
{
    int64_t now_ns = clock_boottime_ns();
    http_probe_step(&watch->probe);
    if (http_probe_events(&watch->probe) && now_ns - watch->probe_started_ns > PROBE_TIMEOUT_NS) {
        http_probe_close(&watch->probe);
        watch->probe.state = HTTP_PROBE_IDLE;
    }
    if (!http_probe_events(&watch->probe) && watch->probe.state != HTTP_PROBE_ANSWERED &&
        now_ns >= watch->next_look_ns) {
        look_for_listener(watch, now_ns);
        http_probe_step(&watch->probe);
    }
    if (now_ns >= watch->next_sample_ns) {
        sample_progress(watch, now_ns);
        watch->next_sample_ns = now_ns + SAMPLE_NS;
    }
    if (pidfd_has_ended(watch->pidfd))
        return POOL_START_ENDED;
    bool is_answer = is_proven(watch);
    watch->has_answered = watch->has_answered || is_answer;
    if (watch->has_answered && !watch->is_presence_awaited)
        return POOL_START_READY;
    if (is_over_deadline(watch, now_ns)) {
        sample_progress(watch, now_ns); /* of the time since the last sample, and for the error */
        if (is_over_deadline(watch, now_ns))
            return POOL_START_TIMED_OUT;
    }
    return is_answer ? POOL_START_ANSWERED : POOL_START_PENDING;
}

size_t pool_start_watch_poll(const struct pool_start_watch *watch, struct pool_start_poll polled[2],
                             int64_t *ret_wake_boottime_ns)
{
    short events = http_probe_events(&watch->probe);
    polled[0] = (struct pool_start_poll){ .fd = watch->pidfd, .events = POLLIN };
    polled[1] = (struct pool_start_poll){ .fd = events ? watch->probe.fd : -1, .events = events };
    bool is_look_next = !events && watch->next_look_ns < watch->next_sample_ns;
    *ret_wake_boottime_ns = is_look_next ? watch->next_look_ns : watch->next_sample_ns;
    return events ? 2 : 1;
}

void pool_start_watch_called(struct pool_start_watch *watch)
{
    watch->is_call_awaited = false;
    watch->next_look_ns = 0;
}

void pool_start_watch_await_presence(struct pool_start_watch *watch)
{
    watch->is_presence_awaited = watch->worker->gpu_uuid != NULL;
}

void pool_start_watch_take_presence(struct pool_start_watch *watch, const struct pool_presence *presence)
{
    if (presence->verdict == POOL_PRESENCE_NOT_ON_GPU) {
        watch->is_off_gpu = true;
        watch->off_gpu = *pool_presence_cause(presence);
    } else if (presence->verdict == POOL_PRESENCE_ON_GPU || !watch->is_off_gpu) {
        watch->is_presence_awaited = watch->is_off_gpu = false;
        watch->next_look_ns = 0; /* the next step is due */
    }
    watch->seen.is_off_gpu = watch->is_off_gpu;
    watch->seen.off_gpu = watch->off_gpu;
}

const struct pool_start_progress *pool_start_watch_progress(const struct pool_start_watch *watch)
{
    return &watch->seen;
}

enum pool_port_proof pool_start_watch_proof(const struct pool_start_watch *watch)
{
    return watch->proof;
}
