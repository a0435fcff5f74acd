/*
 * rbees-pool worker drain: by the daemon, or, without one, by looking at the worker's own report until nothing is in
 * flight.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include <pool/lifecycle.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/remote.h"
#include "cli/worker_text.h"

#define DRAIN_TIMEOUT_MS INT64_C(300000) /* as the daemon's */
#define LOOK_MS          500
#define LOOK_TIMEOUT_MS  5000
#define MISSES_MAX       3 /* looks in a row that told nothing: there is nothing to wait for */

struct worker_drain_arguments {
    const char *worker_id;
    struct pool_reading timeout_ms;
    bool has_no_wait;
};

static void release_request(struct pool_worker_stop_request **request)
{
    pool_worker_stop_request_free(*request);
}

static void release_http(struct remote_http **http)
{
    remote_http_close(*http);
}

static enum pool_code refuse_interrupted(const char *worker_id, struct pool_error *err)
{
    pool_error_set(err, POOL_CANCELLED,
                   "no longer waiting for worker %s; nobody stops it now, 'worker stop' does", worker_id);
    pool_error_add_text(err, "worker_id", worker_id);
    return POOL_CANCELLED;
}

/* ---- without a daemon ---- */

/* How many requests it has; absent: it did not say. */
static struct pool_reading ask_for_requests(struct remote_http *http, const struct pool_worker_info *worker)
{
    struct remote_exchange exchange = { .method = "GET",
                                        .path = pool_activity_path(worker->activity),
                                        .timeout_ms = LOOK_TIMEOUT_MS,
                                        .cancel_fd = -1 };
    struct pool_activity_report report;
    struct pool_reading reading = { 0 };
    CLEANUP_FREE char *body = NULL;
    size_t n = 0;
    if (remote_http_ask(http, &exchange, &body, &n, NULL) == POOL_OK &&
        pool_activity_read(worker->activity, body, n, &report))
        reading = (struct pool_reading){ .is_present = true, .value = report.n_requests };
    return reading;
}

static enum pool_code open_worker(const struct pool_worker_info *worker, struct remote_http **ret_http,
                                  struct pool_error *err)
{
    struct remote_address address = { 0 };
    enum pool_code code = remote_address_parse(worker->uri, &address, err);
    return code == POOL_OK ? remote_http_open(&address, ret_http, err) : code;
}

/* Until nothing is in flight, the time is over, or it tells nothing. */
static enum pool_code wait_until_idle(const struct pool_worker_info *worker, int64_t timeout_ms,
                                      int cancel_fd, struct pool_error *err)
{
    CLEANUP(release_http) struct remote_http *http = NULL;
    int64_t deadline_ns = clock_boottime_ns() + timeout_ms * NS_PER_MS;
    int n_misses = 0;
    enum pool_code code = open_worker(worker, &http, err);
    while (code == POOL_OK) {
        struct pollfd cancel = { .fd = cancel_fd, .events = POLLIN };
        struct pool_reading n_requests = ask_for_requests(http, worker);
        n_misses = n_requests.is_present ? 0 : n_misses + 1;
        if (n_misses >= MISSES_MAX || (n_requests.is_present && n_requests.value == 0))
            return POOL_OK;
        int64_t left_ms = (deadline_ns - clock_boottime_ns()) / NS_PER_MS;
        if (left_ms <= 0)
            return POOL_OK; /* its time is over */
        if (poll(&cancel, 1, (int)(left_ms < LOOK_MS ? left_ms : LOOK_MS)) > 0)
            return refuse_interrupted(worker->worker_id, err);
    }
    return code;
}

static enum pool_code stop(struct pool_manager *manager, const char *worker_id, int cancel_fd,
                           struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(release_request) struct pool_worker_stop_request *request = pool_worker_stop_request_new();
    if (!request || !(request->worker_id = strdup(worker_id)))
        return pool_error_no_memory(err);
    request->wait = true;
    return pool_manager_stop(manager, request, cancel_fd, ret_worker, err);
}

static enum pool_code drain_here(struct pool_manager *manager, const struct worker_drain_arguments *arguments,
                                 int64_t timeout_ms, int cancel_fd, struct pool_worker_info **ret_worker,
                                 struct pool_error *err)
{
    CLEANUP(release_worker) struct pool_worker_info *worker = NULL;
    CLEANUP(release_worker) struct pool_worker_info *draining = NULL;
    enum pool_code code = pool_manager_get_worker(manager, arguments->worker_id, &worker, err);
    if (code != POOL_OK)
        return code;
    bool is_serving = worker->status == POOL_WORKER_READY || worker->status == POOL_WORKER_BUSY ||
                      worker->status == POOL_WORKER_IDLE;
    if (is_serving && pool_activity_path(worker->activity)) {
        if (arguments->has_no_wait)
            return pool_error_set(
                err, POOL_INVALID_REQUEST,
                "--no-wait needs a daemon: without one this command is who stops the worker");
        code = pool_manager_record_draining(manager, worker->worker_id, &draining, err);
        if (code == POOL_OK)
            code = wait_until_idle(worker, timeout_ms, cancel_fd, err);
    }
    return code == POOL_OK ? stop(manager, worker->worker_id, cancel_fd, ret_worker, err) : code;
}

/* ---- the command ---- */

static enum pool_code drain(struct cli *cli, const struct worker_drain_arguments *arguments, int cancel_fd,
                            struct pool_worker_info **ret_worker, struct pool_error *err)
{
    struct remote_http *daemon;
    struct pool_manager *manager;
    int64_t timeout_ms = arguments->timeout_ms.is_present ? arguments->timeout_ms.value : DRAIN_TIMEOUT_MS;
    enum pool_code code = cli_get_pool(cli, &daemon, &manager, err);
    if (code == POOL_OK &&
        cli->n_runs > 0) { /* the daemon that was asked first may have come to the end of it */
        CLEANUP(release_worker) struct pool_worker_info *worker = NULL;
        code = get_worker(cli, arguments->worker_id, &worker, err);
        if (code == POOL_OK && worker->status == POOL_WORKER_STOPPED) {
            *ret_worker = take_ptr(&worker);
            return POOL_OK;
        }
    }
    if (code != POOL_OK)
        return code;
    return daemon ? remote_drain(cli, arguments->worker_id, timeout_ms, !arguments->has_no_wait, cancel_fd,
                                 ret_worker, err)
                  : drain_here(manager, arguments, timeout_ms, cancel_fd, ret_worker, err);
}

static enum pool_code run_drain(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct worker_drain_arguments *arguments = data;
    CLEANUP(release_worker) struct pool_worker_info *worker = NULL;
    CLEANUP(interrupt_close) struct interrupt interrupt = INTERRUPT_INIT;
    enum pool_code code = interrupt_open(&interrupt, err);
    if (code == POOL_OK)
        code = drain(cli, arguments, interrupt.fd, &worker, err);
    return code == POOL_OK ? print_worker_end(cli, worker, err) : code;
}

#define AT(field) .offset = offsetof(struct worker_drain_arguments, field)

static const struct cli_option options[] = {
    { .name = "timeout",
      .value = CLI_INTEGER,
      .unit = "MS",
      AT(timeout_ms),
      .max = POOL_TIMEOUT_MAX_MS,
      .default_text = "300000",
      .summary = "How long it may take for what it has in flight before it is stopped all the same" },
    { .name = "no-wait", AT(has_no_wait), .summary = "Return at once; the daemon goes on with it" },
};
static const struct cli_positional positionals[] = {
    { .name = "ID", .value = CLI_TEXT, AT(worker_id), .field = "worker_id", .summary = "The worker" },
};
static const char *const examples[] = { "rbees-pool worker drain worker-1",
                                        "rbees-pool worker drain worker-1 --timeout 60000" };

const struct cli_command worker_drain_command = {
    .path = "worker drain",
    .summary = "Let a worker finish its requests, then stop it",
    .description = "Waits until the worker has no request in flight, for a time, and stops it then. Nobody "
                   "is kept from asking it "
                   "meanwhile: clients have to be turned away elsewhere. One that does not tell what it has "
                   "in flight, or does not "
                   "serve yet, is stopped at once. Without a daemon this command does the waiting; Ctrl-C "
                   "leaves the worker "
                   "draining, and 'worker stop' ends it.",
    CLI_OPTIONS(options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct worker_drain_arguments),
    .run = run_drain,
};
