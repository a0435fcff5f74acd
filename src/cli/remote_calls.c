/*
 * The routes of a daemon that commands use, each as one call.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/strbuf.h"
#include "base/utf8.h"
#include "cli/event_stream.h"
#include "cli/remote.h"

#define PATH_MAX_BYTES    512
#define READ_TIMEOUT_MS   10000 /* of what is answered from memory, or soon */
#define EVENTS_SILENCE_MS 60000 /* four times what a daemon lets pass without a comment */
#define WAIT_LOOK_MIN_MS  5
#define PROGRESS_MS       250
#define WAIT_LOOK_MAX_MS  200

struct answer {
    char *text;
    size_t n;
};

static void answer_done(struct answer *answer)
{
    free(answer->text);
}

static enum pool_code ask(struct cli *cli, struct remote_exchange *exchange, struct answer *ret_answer,
                          struct pool_error *err)
{
    enum pool_code code = remote_http_ask(cli->daemon, exchange, &ret_answer->text, &ret_answer->n, err);
    cli->is_daemon_lost = exchange->is_lost;
    memcpy(cli->correlation_id, exchange->correlation_id, sizeof cli->correlation_id);
    return code;
}

static enum pool_code read_path(struct cli *cli, const char *path, struct answer *ret_answer,
                                struct pool_error *err)
{
    struct remote_exchange exchange = {
        .method = "GET", .path = path, .timeout_ms = READ_TIMEOUT_MS, .cancel_fd = -1
    };
    return ask(cli, &exchange, ret_answer, err);
}

/* What has no time limit goes to a daemon that is known to answer. */
static enum pool_code ask_without_limit(struct cli *cli, struct remote_exchange *exchange,
                                        struct answer *ret_answer, struct pool_error *err)
{
    CLEANUP(answer_done) struct answer health = { 0 };
    enum pool_code code = read_path(cli, "/health", &health, err);
    return code == POOL_OK ? ask(cli, exchange, ret_answer, err) : code;
}

static enum pool_code post(struct cli *cli, const char *path, const char *body, int cancel_fd,
                           struct answer *ret_answer, struct pool_error *err)
{
    struct remote_exchange exchange = {
        .method = "POST", .path = path, .body = body, .cancel_fd = cancel_fd
    };
    return ask_without_limit(cli, &exchange, ret_answer, err);
}

/* An answer that can not be read is not one of a pool-managerd, or of one that is much newer. */
static enum pool_code refuse_answer(const struct cli *cli, enum pool_code code, struct pool_error *err)
{
    if (code == POOL_INSUFFICIENT_MEMORY)
        return code;
    return pool_error_set(err, POOL_REGISTRY_UNAVAILABLE,
                          "what answers at %s is no pool-managerd: its answer is not of the API",
                          remote_http_address(cli->daemon)->name);
}

static enum pool_code make_worker_path(const char *worker_id, const char *rest, char path[PATH_MAX_BYTES],
                                       struct pool_error *err)
{
    if (!pool_worker_id_is_valid(worker_id)) {
        pool_error_set(err, POOL_INVALID_REQUEST, "not a worker id: it has 1 to 64 of A-Z a-z 0-9 . _ -");
        pool_error_set_field(err, "worker_id");
        return POOL_INVALID_REQUEST;
    }
    snprintf(path, PATH_MAX_BYTES, "/v2/workers/%s%s", worker_id, rest);
    return POOL_OK;
}

static enum pool_code take_worker(const struct cli *cli, const struct answer *answer,
                                  struct pool_worker_info **ret_worker, struct pool_error *err)
{
    enum pool_code code = pool_worker_info_decode(answer->text, answer->n, ret_worker, err);
    return code == POOL_OK ? code : refuse_answer(cli, code, err);
}

/* ---- reading ---- */

enum pool_code remote_list_workers(struct cli *cli, bool is_all, struct pool_worker_list **ret_list,
                                   struct pool_error *err)
{
    CLEANUP(answer_done) struct answer answer = { 0 };
    enum pool_code code = read_path(cli, is_all ? "/v2/workers?all=1" : "/v2/workers", &answer, err);
    if (code != POOL_OK)
        return code;
    code = pool_worker_list_decode(answer.text, answer.n, ret_list, err);
    return code == POOL_OK ? code : refuse_answer(cli, code, err);
}

enum pool_code remote_get_worker(struct cli *cli, const char *worker_id, struct pool_worker_info **ret_worker,
                                 struct pool_error *err)
{
    CLEANUP(answer_done) struct answer answer = { 0 };
    char path[PATH_MAX_BYTES];
    enum pool_code code = make_worker_path(worker_id, "", path, err);
    if (code == POOL_OK)
        code = read_path(cli, path, &answer, err);
    return code == POOL_OK ? take_worker(cli, &answer, ret_worker, err) : code;
}

enum pool_code remote_why(struct cli *cli, const char *worker_id, struct pool_worker_why **ret_why,
                          struct pool_error *err)
{
    CLEANUP(answer_done) struct answer answer = { 0 };
    char path[PATH_MAX_BYTES];
    enum pool_code code = make_worker_path(worker_id, "/why", path, err);
    if (code == POOL_OK)
        code = read_path(cli, path, &answer, err);
    if (code != POOL_OK)
        return code;
    code = pool_worker_why_decode(answer.text, answer.n, ret_why, err);
    return code == POOL_OK ? code : refuse_answer(cli, code, err);
}

enum pool_code remote_explain(struct cli *cli, const char *id, struct pool_explanation_list **ret_list,
                              struct pool_error *err)
{
    CLEANUP(answer_done) struct answer answer = { 0 };
    char path[PATH_MAX_BYTES];
    if (!pool_worker_id_is_valid(id)) {
        pool_error_set(err, POOL_INVALID_REQUEST, "not an id: it has 1 to 64 of A-Z a-z 0-9 . _ -");
        pool_error_set_field(err, "id");
        return POOL_INVALID_REQUEST;
    }
    snprintf(path, sizeof path, "/v2/explain/%s", id);
    enum pool_code code = read_path(cli, path, &answer, err);
    if (code != POOL_OK)
        return code;
    code = pool_explanation_list_decode(answer.text, answer.n, ret_list, err);
    return code == POOL_OK ? code : refuse_answer(cli, code, err);
}

enum pool_code remote_status(struct cli *cli, struct pool_status_response **ret_status,
                             struct pool_error *err)
{
    CLEANUP(answer_done) struct answer answer = { 0 };
    enum pool_code code = read_path(cli, "/v2/state", &answer, err);
    if (code != POOL_OK)
        return code;
    code = pool_status_response_decode(answer.text, answer.n, ret_status, err);
    return code == POOL_OK ? code : refuse_answer(cli, code, err);
}

enum pool_code remote_list_gpus(struct cli *cli, struct pool_gpu_list **ret_list, struct pool_error *err)
{
    CLEANUP(answer_done) struct answer answer = { 0 };
    enum pool_code code = read_path(cli, "/v2/gpus", &answer, err);
    if (code != POOL_OK)
        return code;
    code = pool_gpu_list_decode(answer.text, answer.n, ret_list, err);
    return code == POOL_OK ? code : refuse_answer(cli, code, err);
}

enum pool_code remote_read_log(struct cli *cli, const char *worker_id, int64_t n_lines, bool is_followed,
                               int cancel_fd, remote_sink *sink, void *context, struct pool_error *err)
{
    CLEANUP(answer_done) struct answer answer = { 0 };
    char path[PATH_MAX_BYTES];
    char query[64];
    snprintf(query, sizeof query, "/logs?tail=%" PRId64 "%s",
             n_lines < 0 || n_lines > REMOTE_LOG_LINES_MAX ? REMOTE_LOG_LINES_MAX : n_lines,
             is_followed ? "&follow=1" : "");
    enum pool_code code = make_worker_path(worker_id, query, path, err);
    if (code != POOL_OK)
        return code;
    struct remote_exchange exchange = { .method = "GET",
                                        .path = path,
                                        .timeout_ms = is_followed ? 0 : READ_TIMEOUT_MS,
                                        .cancel_fd = cancel_fd,
                                        .sink = sink,
                                        .context = context };
    return ask(cli, &exchange, &answer, err);
}

static bool feed_events(const char *bytes, size_t n, void *context)
{
    return event_stream_feed(context, bytes, n);
}

enum pool_code remote_follow_events(struct cli *cli, const char *last_id, int cancel_fd,
                                    struct event_stream *stream, bool *ret_is_answered,
                                    struct pool_error *err)
{
    CLEANUP(answer_done) struct answer answer = { 0 };
    struct remote_exchange exchange = { .method = "GET",
                                        .path = "/v2/events",
                                        .silence_ms = EVENTS_SILENCE_MS,
                                        .last_event_id = last_id,
                                        .cancel_fd = cancel_fd,
                                        .sink = feed_events,
                                        .context = stream };
    enum pool_code code = ask(cli, &exchange, &answer, err);
    *ret_is_answered = exchange.is_answered;
    return code;
}

/* ---- starting and stopping ---- */

enum pool_code remote_spawn(struct cli *cli, const struct pool_worker_spawn_request *request, int cancel_fd,
                            struct pool_worker_spawn_response **ret_response, struct pool_error *err)
{
    CLEANUP(answer_done) struct answer answer = { 0 };
    CLEANUP_FREE char *body = NULL;
    enum pool_code code = pool_worker_spawn_request_encode(request, &body, err);
    if (code == POOL_OK)
        code = post(cli, "/v2/workers/start", body, cancel_fd, &answer, err);
    if (code == POOL_CANCELLED)
        pool_error_set(err, code, "no longer waiting for worker %s, which goes on starting",
                       request->worker_id);
    if (code != POOL_OK && (code == POOL_CANCELLED || cli->is_daemon_lost))
        pool_error_add_text(err, "worker_id", request->worker_id);
    if (code != POOL_OK)
        return code;
    code = pool_worker_spawn_response_decode(answer.text, answer.n, ret_response, err);
    return code == POOL_OK ? code : refuse_answer(cli, code, err);
}

enum pool_code remote_check(struct cli *cli, const struct pool_worker_spawn_request *request, int cancel_fd,
                            struct pool_plan **ret_plan, struct pool_error *err)
{
    CLEANUP(answer_done) struct answer answer = { 0 };
    CLEANUP_FREE char *body = NULL;
    enum pool_code code = pool_worker_spawn_request_encode(request, &body, err);
    if (code == POOL_OK)
        code = post(cli, "/v2/workers/check", body, cancel_fd, &answer, err);
    if (code != POOL_OK)
        return code;
    code = remote_plan_decode(answer.text, answer.n, ret_plan, err);
    return code == POOL_OK ? code : refuse_answer(cli, code, err);
}

enum pool_code remote_stop(struct cli *cli, const struct pool_worker_stop_request *request, int cancel_fd,
                           struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(answer_done) struct answer answer = { 0 };
    CLEANUP_FREE char *body = NULL;
    enum pool_code code = pool_worker_stop_request_encode(request, &body, err);
    if (code == POOL_OK)
        code = post(cli, "/v2/workers/stop", body, cancel_fd, &answer, err);
    if (code == POOL_CANCELLED)
        pool_error_set(err, code, "no longer waiting for worker %s, which goes on stopping",
                       request->worker_id);
    return code == POOL_OK ? take_worker(cli, &answer, ret_worker, err) : code;
}

enum pool_code remote_drain(struct cli *cli, const char *worker_id, int64_t timeout_ms, bool is_waiting,
                            int cancel_fd, struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(answer_done) struct answer answer = { 0 };
    char path[PATH_MAX_BYTES];
    char body[96];
    snprintf(body, sizeof body, "{\"timeout_ms\":%" PRId64 ",\"wait\":%s}", timeout_ms,
             is_waiting ? "true" : "false");
    enum pool_code code = make_worker_path(worker_id, "/drain", path, err);
    if (code == POOL_OK)
        code = post(cli, path, body, cancel_fd, &answer, err);
    if (code == POOL_CANCELLED)
        pool_error_set(err, code, "no longer waiting for worker %s, which the daemon goes on draining",
                       worker_id);
    return code == POOL_OK ? take_worker(cli, &answer, ret_worker, err) : code;
}

/* ---- cordons ---- */

static void free_gpu_list(struct pool_gpu_list **list)
{
    pool_gpu_list_free(*list);
}

/* What a person typed may be anything. What is no segment of a path, such as an old UUID of a MIG instance with its
 * slashes, is looked up, and goes by its index. */
static enum pool_code make_cordon_path(struct cli *cli, const char *gpu_id, char path[PATH_MAX_BYTES],
                                       struct pool_error *err)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    CLEANUP(free_gpu_list) struct pool_gpu_list *list = NULL;
    if (*gpu_id && gpu_id[strspn(gpu_id, plain)] == '\0' && strlen(gpu_id) < POOL_GPU_UUID_MAX) {
        snprintf(path, PATH_MAX_BYTES, "/v2/gpus/%s/cordon", gpu_id);
        return POOL_OK;
    }
    enum pool_code code = remote_list_gpus(cli, &list, err);
    if (code != POOL_OK)
        return code;
    const struct pool_gpu_info *gpu = pool_gpu_list_find(list, gpu_id);
    if (!gpu) {
        pool_error_set(err, POOL_GPU_NOT_FOUND, "there is no GPU %.64s: the host has %zu", gpu_id,
                       list->n_gpus);
        pool_error_set_field(err, "gpu_id");
        return POOL_GPU_NOT_FOUND;
    }
    snprintf(path, PATH_MAX_BYTES, "/v2/gpus/%" PRIu32 "/cordon", gpu->gpu_id);
    return POOL_OK;
}

static enum pool_code change_cordon(struct cli *cli, const char *method, const char *gpu_id, const char *body,
                                    struct pool_gpu_cordon *ret_cordon, struct pool_error *err)
{
    CLEANUP(answer_done) struct answer answer = { 0 };
    char path[PATH_MAX_BYTES];
    enum pool_code code = make_cordon_path(cli, gpu_id, path, err);
    struct remote_exchange exchange = { .method = method, .path = path, .body = body, .cancel_fd = -1 };
    if (code == POOL_OK)
        code = ask_without_limit(cli, &exchange, &answer, err);
    if (code != POOL_OK)
        return code;
    code = pool_gpu_cordon_decode(answer.text, answer.n, ret_cordon, err);
    return code == POOL_OK ? code : refuse_answer(cli, code, err);
}

enum pool_code remote_cordon_gpu(struct cli *cli, const char *gpu_id, const char *reason,
                                 struct pool_gpu_cordon *ret_cordon, struct pool_error *err)
{
    CLEANUP_FREE char *body = NULL;
    CLEANUP_FREE char *text = reason ? strdup(reason) : NULL;
    struct pool_gpu_cordon_request request = { .reason = text };
    if (reason && !text)
        return pool_error_no_memory(err);
    if (reason && !utf8_is_valid(reason)) { /* in JSON it would be another text */
        pool_error_set(err, POOL_INVALID_REQUEST, "\"reason\" must be UTF-8");
        pool_error_set_field(err, "reason");
        return POOL_INVALID_REQUEST;
    }
    enum pool_code code = pool_gpu_cordon_request_encode(&request, &body, err);
    return code == POOL_OK ? change_cordon(cli, "PUT", gpu_id, body, ret_cordon, err) : code;
}

enum pool_code remote_uncordon_gpu(struct cli *cli, const char *gpu_id, struct pool_gpu_cordon *ret_cordon,
                                   struct pool_error *err)
{
    return change_cordon(cli, "DELETE", gpu_id, NULL, ret_cordon, err);
}

/* ---- waiting ---- */

/*
 * Its last whole lines, as many as an error has room for: of its crash bundle, which is without secrets. Without them the
 * error is as good.
 */
static void add_log_tail(struct cli *cli, const struct pool_worker_info *worker, struct pool_error *err)
{
    struct pool_worker_why *why = NULL;
    err->log_tail[0] = '\0';
    if (remote_why(cli, worker->worker_id, &why, NULL) != POOL_OK)
        return;
    const struct pool_crash *crash = why->crash;
    if (crash && crash->created_wall_ms == worker->created_wall_ms) {
        size_t first = crash->n_log, n_bytes = 0;
        while (first > 0 && n_bytes + strlen(crash->log[first - 1]) + 1 < sizeof err->log_tail)
            n_bytes += strlen(crash->log[--first]) + 1;
        for (size_t at = 0; first < crash->n_log; first++)
            at += (size_t)snprintf(err->log_tail + at, sizeof err->log_tail - at, "%s\n", crash->log[first]);
    }
    pool_worker_why_free(why);
}

/* The error that a start which was waited for gets, from what the row says of its end. */
static enum pool_code explain_end(struct cli *cli, const struct pool_worker_info *worker,
                                  struct pool_error *err)
{
    struct pool_process_end end = { .is_known =
                                        worker->exit_code.is_present || worker->exit_signal.is_present,
                                    .is_signal = worker->exit_signal.is_present };
    end.value = (int)(end.is_signal ? worker->exit_signal.value : worker->exit_code.value);
    struct pool_start_progress seen = { .elapsed_ms = worker->stopped_wall_ms - worker->created_wall_ms };
    enum pool_code code = POOL_WORKER_START_FAILED;
    if (worker->stop_reason == POOL_STOP_START_FAILED || worker->stop_reason == POOL_STOP_START_TIMEOUT) {
        code = pool_worker_start_error(worker, &end,
                                       worker->stop_reason == POOL_STOP_START_TIMEOUT ? &seen : NULL, err);
    } else {
        pool_error_set(err, code, "worker %s is %s", worker->worker_id,
                       pool_worker_status_name(worker->status));
        pool_error_add_text(err, "worker_id", worker->worker_id);
        pool_error_add_text(err, "stop_reason", pool_stop_reason_name(worker->stop_reason));
    }
    if (err)
        add_log_tail(cli, worker, err); /* the one of this path here may be another worker's */
    return code;
}

/* false: the person wants an end. */
static bool pause_ms(int cancel_fd, int64_t ms)
{
    struct pollfd cancel = { .fd = cancel_fd, .events = POLLIN };
    return poll(&cancel, 1, (int)ms) <= 0;
}

/* Looks again and again, less often the longer it takes: at most a hundredth of a long start is added to it. */
enum pool_code remote_wait_ready(struct cli *cli, const char *worker_id, int cancel_fd,
                                 remote_start_fn *progress, void *context,
                                 struct pool_worker_info **ret_worker, struct pool_error *err)
{
    int64_t began_ns = clock_boottime_ns();
    int64_t tell_ns = began_ns;
    for (;;) {
        struct pool_worker_info *worker = NULL;
        enum pool_code code = remote_get_worker(cli, worker_id, &worker, err);
        if (code != POOL_OK)
            return code;
        if (worker->status == POOL_WORKER_READY || worker->status == POOL_WORKER_BUSY ||
            worker->status == POOL_WORKER_IDLE) {
            *ret_worker = worker;
            return POOL_OK;
        }
        bool is_starting = worker->status == POOL_WORKER_SPAWNING;
        /* A start that fails is stopped before it is history: its end is what is to be told. */
        bool is_failing =
            worker->status == POOL_WORKER_STOPPING &&
            (worker->stop_reason == POOL_STOP_START_FAILED || worker->stop_reason == POOL_STOP_START_TIMEOUT);
        code = is_starting || is_failing ? POOL_OK : explain_end(cli, worker, err);
        if (code == POOL_OK && clock_boottime_ns() >= tell_ns) {
            progress(worker->process.pid, (clock_boottime_ns() - began_ns) / NS_PER_MS, context);
            tell_ns = clock_boottime_ns() + PROGRESS_MS * NS_PER_MS;
        }
        pool_worker_info_free(worker);
        if (code != POOL_OK)
            return code;
        int64_t wait_ms = (clock_boottime_ns() - began_ns) / NS_PER_MS / 100;
        wait_ms = wait_ms < WAIT_LOOK_MIN_MS ? WAIT_LOOK_MIN_MS : wait_ms;
        if (!pause_ms(cancel_fd, wait_ms > WAIT_LOOK_MAX_MS ? WAIT_LOOK_MAX_MS : wait_ms)) {
            pool_error_set(err, POOL_CANCELLED, "no longer waiting for worker %s, which goes on starting",
                           worker_id);
            return POOL_CANCELLED;
        }
    }
}
