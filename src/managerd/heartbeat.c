/*
 * The conversation with the orchestrator; see heartbeat.h. Owns its order: when to register, when to beat, what to
 * try again and when. What is said is heartbeat_body.c, how it gets there http_client.c.
 *
 * Two lanes, one request each: the pool's (register, then beats) and that of reports. Each has its own pauses, so that
 * a report that nobody takes does not hold up a heartbeat.
 */
#include "managerd/heartbeat.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/random.h"
#include "managerd/heartbeat_body.h"
#include "managerd/heartbeat_outcome.h"
#include "managerd/heartbeat_token.h"
#include "managerd/http_client.h"
#include "managerd/log.h"

#define INTERVAL_MIN_MS INT64_C(10)
#define INTERVAL_MAX_MS (INT64_C(3600) * 1000)

struct lane {
    struct heartbeat *heartbeat;
    uv_timer_t timer;
    struct http_call *call; /* NULL: none is under way */
    enum heartbeat_kind kind;
    char correlation_id[UUID_TEXT_MAX]; /* of the last request; "": none */
    int n_failures;                     /* in a row */
};

struct heartbeat {
    uv_loop_t *loop;
    struct heartbeat_options options; /* its strings are not valid */
    char *register_url, *beat_url, *pool_url, *failed_url;
    char *token_file, *pool_id, *epoch, *endpoint;
    struct heartbeat_token token;
    struct http_client *client;
    struct lane pool;
    struct lane reports;
    uint64_t beat_due_ms;
    int64_t sequence;
    bool was_announced; /* the orchestrator may know the pool */
    char *queue[HEARTBEAT_REPORTS_MAX];
    size_t first, n_queued;
    int n_tries; /* of the first one, that ended with 404 */
    struct heartbeat_counters counters;

    uv_timer_t patience; /* of closing */
    bool is_closing, is_leaving, has_let_go;
    size_t n_handles;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

static void send_report(struct heartbeat *heartbeat);
static void go_on_closing(struct heartbeat *heartbeat);

/* ---- pauses ---- */

static void note_outcome(struct heartbeat *heartbeat, enum heartbeat_kind kind,
                         enum heartbeat_outcome outcome, const char *problem)
{
    heartbeat->counters.n[kind][outcome]++;
    if (heartbeat->options.on_outcome)
        heartbeat->options.on_outcome(heartbeat->options.ctx, kind, outcome, problem);
}

/* Between half of it and all of it, so that pools that lost the same orchestrator do not come back together. */
static int64_t add_jitter(int64_t ms)
{
    uint32_t random = 0;
    random_bytes(&random, sizeof random);
    return ms / 2 + (int64_t)(random % (uint32_t)(ms / 2 + 1));
}

/* After the n-th failure in a row; never sooner than the orchestrator asked for, within our own limit. */
static int64_t pause_ms(const struct heartbeat *heartbeat, int n_failures, int64_t asked_ms)
{
    int64_t max_ms = heartbeat->options.backoff_max_ms;
    int64_t ms = heartbeat->options.backoff_min_ms;
    for (int i = 1; i < n_failures && ms < max_ms; i++)
        ms *= 2;
    ms = add_jitter(ms < max_ms ? ms : max_ms);
    asked_ms = asked_ms < max_ms ? asked_ms : max_ms;
    return ms > asked_ms ? ms : asked_ms;
}

/* ---- sending ---- */

static struct heartbeat_sender make_sender(const struct heartbeat *heartbeat)
{
    return (struct heartbeat_sender){
        .pool_id = heartbeat->pool_id,
        .endpoint = heartbeat->endpoint,
        .epoch = heartbeat->epoch,
        .sequence = heartbeat->sequence,
        .wall_ms = clock_wall_ms(),
    };
}

/* Gives a lane a request; `body` may be NULL when the method has none. */
static enum pool_code send_request(struct lane *lane, enum heartbeat_kind kind, const char *method,
                                   const char *url, const char *body, http_client_done_fn *on_done,
                                   struct pool_error *err)
{
    struct heartbeat *heartbeat = lane->heartbeat;
    if (!random_uuid(lane->correlation_id))
        lane->correlation_id[0] = '\0';
    struct http_client_request request = {
        .method = method,
        .url = url,
        .body = body,
        .correlation_id = lane->correlation_id[0] ? lane->correlation_id : NULL,
        .timeout_ms = heartbeat->options.timeout_ms,
        .answer_max_bytes = HEARTBEAT_ANSWER_MAX_BYTES,
    };
    if (heartbeat->token_file) {
        enum pool_code code = heartbeat_token_refresh(&heartbeat->token, heartbeat->token_file, err);
        if (code != POOL_OK)
            return code;
        request.bearer_token = heartbeat->token.value;
    }
    lane->kind = kind;
    return http_client_send(heartbeat->client, &request, on_done, lane, &lane->call, err);
}

static void take_pool_timer(uv_timer_t *timer);
static void schedule_pool(struct heartbeat *heartbeat, int64_t in_ms)
{
    if (!heartbeat->is_closing)
        uv_timer_start(&heartbeat->pool.timer, take_pool_timer, (uint64_t)in_ms, 0);
}

/* The next beat is an interval after this one was due, not after it was answered. */
static void schedule_beat(struct heartbeat *heartbeat)
{
    uint64_t now = uv_now(heartbeat->loop);
    heartbeat->beat_due_ms += (uint64_t)heartbeat->options.interval_ms;
    if (heartbeat->beat_due_ms < now)
        heartbeat->beat_due_ms = now;
    schedule_pool(heartbeat, (int64_t)(heartbeat->beat_due_ms - now));
}

static void settle_pool(struct heartbeat *heartbeat, enum heartbeat_kind kind, enum heartbeat_outcome outcome,
                        int64_t asked_ms)
{
    struct lane *lane = &heartbeat->pool;
    bool is_good = outcome == HEARTBEAT_OUTCOME_OK;
    if (kind == HEARTBEAT_REGISTER && is_good) {
        /* The workers are in the beat. The count of failures stays until that is taken, too: an orchestrator that
         * takes the one and forgets it until the other is not asked in a circle without pauses. */
        heartbeat->counters.is_registered = true;
        heartbeat->beat_due_ms = uv_now(heartbeat->loop);
        schedule_pool(heartbeat, 0);
        return;
    }
    if (is_good) {
        lane->n_failures = 0;
        schedule_beat(heartbeat);
        return;
    }
    bool is_forgotten = kind == HEARTBEAT_BEAT && outcome == HEARTBEAT_OUTCOME_UNKNOWN_POOL;
    if (is_forgotten)
        heartbeat->counters.is_registered = false;
    lane->n_failures += lane->n_failures < INT32_MAX;
    bool is_first = lane->n_failures == 1;
    schedule_pool(heartbeat, is_forgotten && is_first ? 0 : pause_ms(heartbeat, lane->n_failures, asked_ms));
}

static void take_pool_answer(void *ctx, const struct http_client_answer *answer)
{
    struct lane *lane = ctx;
    char problem[HEARTBEAT_PROBLEM_MAX];
    CLEANUP(log_leave_cause) struct log_cause before = log_enter_cause(lane->correlation_id);
    enum heartbeat_outcome outcome = heartbeat_outcome_of(answer, problem);
    lane->call = NULL;
    settle_pool(lane->heartbeat, lane->kind, outcome, answer->retry_after_ms);
    note_outcome(lane->heartbeat, lane->kind, outcome, problem);
}

static void take_pool_timer(uv_timer_t *timer)
{
    struct lane *lane = timer->data;
    struct heartbeat *heartbeat = lane->heartbeat;
    struct heartbeat_facts facts = { .gpus = NULL };
    if (heartbeat->options.fill)
        heartbeat->options.fill(heartbeat->options.ctx, &facts);
    bool is_beat = heartbeat->counters.is_registered;
    heartbeat->sequence++;
    struct heartbeat_sender sender = make_sender(heartbeat);
    CLEANUP_FREE char *body =
        is_beat ? heartbeat_body_beat(&sender, &facts) : heartbeat_body_register(&sender, &facts);
    struct pool_error error = POOL_ERROR_INIT;
    enum heartbeat_kind kind = is_beat ? HEARTBEAT_BEAT : HEARTBEAT_REGISTER;
    enum pool_code code = body ? POOL_OK : pool_error_no_memory(&error);
    if (code == POOL_OK)
        code = send_request(lane, kind, "POST", is_beat ? heartbeat->beat_url : heartbeat->register_url, body,
                            take_pool_answer, &error);
    if (code == POOL_OK) {
        heartbeat->was_announced = true;
        return;
    }
    settle_pool(heartbeat, kind, HEARTBEAT_OUTCOME_NOT_SENT, 0);
    note_outcome(heartbeat, kind, HEARTBEAT_OUTCOME_NOT_SENT, error.message);
}

/* ---- reports ---- */

static void drop_first_report(struct heartbeat *heartbeat)
{
    free(heartbeat->queue[heartbeat->first]);
    heartbeat->queue[heartbeat->first] = NULL;
    heartbeat->first = (heartbeat->first + 1) % HEARTBEAT_REPORTS_MAX;
    heartbeat->n_queued--;
    heartbeat->n_tries = 0;
}

/* Whether there is no use in offering a report again: it is refused for what it is. */
static bool is_final(struct heartbeat *heartbeat, enum heartbeat_outcome outcome, int status)
{
    if (outcome == HEARTBEAT_OUTCOME_UNKNOWN_POOL)
        return ++heartbeat->n_tries >= HEARTBEAT_REPORT_TRIES_MAX;
    return outcome == HEARTBEAT_OUTCOME_REFUSED && !heartbeat_status_may_pass(status);
}

static void take_report_timer(uv_timer_t *timer)
{
    struct lane *lane = timer->data;
    send_report(lane->heartbeat);
}

static void settle_report(struct heartbeat *heartbeat, enum heartbeat_outcome outcome, int status,
                          int64_t asked_ms)
{
    struct lane *lane = &heartbeat->reports;
    bool is_final_refusal = is_final(heartbeat, outcome, status);
    if (outcome == HEARTBEAT_OUTCOME_OK || is_final_refusal) {
        heartbeat->counters.n_reports_dropped += is_final_refusal;
        drop_first_report(heartbeat);
        lane->n_failures = 0;
        if (!heartbeat->is_closing && heartbeat->n_queued > 0)
            send_report(heartbeat);
    } else if (!heartbeat->is_closing) {
        lane->n_failures += lane->n_failures < INT32_MAX;
        uv_timer_start(&lane->timer, take_report_timer,
                       (uint64_t)pause_ms(heartbeat, lane->n_failures, asked_ms), 0);
    } else {
        while (heartbeat->n_queued > 0) { /* there are no second tries now */
            heartbeat->counters.n_reports_dropped++;
            drop_first_report(heartbeat);
        }
    }
}

static void take_report_answer(void *ctx, const struct http_client_answer *answer)
{
    struct lane *lane = ctx;
    struct heartbeat *heartbeat = lane->heartbeat;
    char problem[HEARTBEAT_PROBLEM_MAX];
    CLEANUP(log_leave_cause) struct log_cause before = log_enter_cause(lane->correlation_id);
    enum heartbeat_outcome outcome = heartbeat_outcome_of(answer, problem);
    enum heartbeat_kind kind = lane->kind;
    lane->call = NULL;
    if (kind == HEARTBEAT_LEAVE)
        heartbeat->is_leaving = false;
    else
        settle_report(heartbeat, outcome, answer->status, answer->retry_after_ms);
    note_outcome(heartbeat, kind, outcome, problem);
    if (heartbeat->is_closing)
        go_on_closing(heartbeat);
}

static void send_report(struct heartbeat *heartbeat)
{
    struct pool_error error = POOL_ERROR_INIT;
    enum pool_code code = send_request(&heartbeat->reports, HEARTBEAT_FAILURE, "POST", heartbeat->failed_url,
                                       heartbeat->queue[heartbeat->first], take_report_answer, &error);
    if (code == POOL_OK)
        return;
    settle_report(heartbeat, HEARTBEAT_OUTCOME_NOT_SENT, 0, 0);
    note_outcome(heartbeat, HEARTBEAT_FAILURE, HEARTBEAT_OUTCOME_NOT_SENT, error.message);
}

void heartbeat_worker_failed(struct heartbeat *heartbeat, const struct heartbeat_failure *failure)
{
    if (heartbeat->is_closing)
        return;
    struct heartbeat_sender sender = make_sender(heartbeat);
    char *body = heartbeat_body_failure(&sender, failure);
    if (!body) {
        heartbeat->counters.n_reports_dropped++;
        return;
    }
    struct lane *lane = &heartbeat->reports;
    if (heartbeat->n_queued == HEARTBEAT_REPORTS_MAX) {
        /* Its answer would be taken for that of the next one. */
        http_client_cancel(take_ptr(&lane->call));
        heartbeat->counters.n_reports_dropped++;
        drop_first_report(heartbeat);
    }
    heartbeat->queue[(heartbeat->first + heartbeat->n_queued++) % HEARTBEAT_REPORTS_MAX] = body;
    if (!lane->call && !uv_is_active((uv_handle_t *)&lane->timer))
        send_report(heartbeat);
}

struct heartbeat_counters heartbeat_counters(const struct heartbeat *heartbeat)
{
    struct heartbeat_counters counters = heartbeat->counters;
    counters.n_reports_queued = heartbeat->n_queued;
    return counters;
}

/* ---- the end ---- */

static void free_heartbeat(struct heartbeat **at)
{
    struct heartbeat *heartbeat = *at;
    if (!heartbeat)
        return;
    while (heartbeat->n_queued > 0)
        drop_first_report(heartbeat);
    heartbeat_token_done(&heartbeat->token);
    char *const texts[] = { heartbeat->register_url, heartbeat->beat_url,   heartbeat->pool_url,
                            heartbeat->failed_url,   heartbeat->token_file, heartbeat->pool_id,
                            heartbeat->epoch,        heartbeat->endpoint };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        free(texts[i]);
    free(heartbeat);
}

static void take_closed_part(void *ctx)
{
    struct heartbeat *heartbeat = ctx;
    if (--heartbeat->n_handles > 0)
        return;
    void (*on_closed)(void *) = heartbeat->on_closed;
    void *closed_ctx = heartbeat->closed_ctx;
    free_heartbeat(&heartbeat);
    if (on_closed)
        on_closed(closed_ctx);
}

static void take_closed_lane(uv_handle_t *handle)
{
    take_closed_part(((struct lane *)handle->data)->heartbeat);
}

static void take_closed_patience(uv_handle_t *handle)
{
    take_closed_part(handle->data);
}

static void let_go(struct heartbeat *heartbeat)
{
    if (heartbeat->has_let_go)
        return;
    heartbeat->has_let_go = true;
    heartbeat->n_handles = 4;
    uv_close((uv_handle_t *)&heartbeat->pool.timer, take_closed_lane);
    uv_close((uv_handle_t *)&heartbeat->reports.timer, take_closed_lane);
    uv_close((uv_handle_t *)&heartbeat->patience, take_closed_patience);
    http_client_close(heartbeat->client, take_closed_part, heartbeat);
}

static void take_end_of_patience(uv_timer_t *timer)
{
    let_go(timer->data);
}

/* Reports, then the good-bye, then nothing. */
static void go_on_closing(struct heartbeat *heartbeat)
{
    struct lane *lane = &heartbeat->reports;
    if (lane->call || heartbeat->has_let_go)
        return;
    while (heartbeat->n_queued > 0 && !lane->call)
        send_report(heartbeat);
    if (lane->call)
        return;
    if (heartbeat->is_leaving && heartbeat->was_announced) {
        struct pool_error error = POOL_ERROR_INIT;
        if (send_request(lane, HEARTBEAT_LEAVE, "DELETE", heartbeat->pool_url, NULL, take_report_answer,
                         &error) == POOL_OK)
            return;
        note_outcome(heartbeat, HEARTBEAT_LEAVE, HEARTBEAT_OUTCOME_NOT_SENT, error.message);
    }
    let_go(heartbeat);
}

void heartbeat_close(struct heartbeat *heartbeat, bool is_leaving, int64_t wait_ms,
                     void (*on_closed)(void *ctx), void *ctx)
{
    if (!heartbeat || heartbeat->is_closing)
        return;
    heartbeat->is_closing = true;
    heartbeat->is_leaving = is_leaving;
    heartbeat->on_closed = on_closed;
    heartbeat->closed_ctx = ctx;
    uv_update_time(heartbeat->loop);
    uv_timer_stop(&heartbeat->pool.timer);
    uv_timer_stop(&heartbeat->reports.timer);
    http_client_cancel(take_ptr(&heartbeat->pool.call));
    if (wait_ms <= 0) {
        let_go(heartbeat);
        return;
    }
    uv_timer_start(&heartbeat->patience, take_end_of_patience, (uint64_t)wait_ms, 0);
    go_on_closing(heartbeat);
}

/* ---- the beginning ---- */

static enum pool_code check_options(const struct heartbeat_options *options, struct pool_error *err)
{
    if (!http_client_url_is_usable(options->url) || strpbrk(options->url, "?#"))
        return pool_error_set(err, POOL_INVALID_CONFIG,
                              "%.200s: not a URL of an orchestrator (http or https, no user, no query)",
                              options->url);
    if (options->interval_ms < INTERVAL_MIN_MS || options->interval_ms > INTERVAL_MAX_MS)
        return pool_error_set(err, POOL_INVALID_CONFIG, "%" PRId64 " ms between heartbeats",
                              options->interval_ms);
    return POOL_OK;
}

static int64_t min_ms(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void set_times(struct heartbeat_options *options)
{
    if (options->timeout_ms <= 0)
        options->timeout_ms = HEARTBEAT_TIMEOUT_MS;
    if (options->backoff_min_ms <= 0)
        options->backoff_min_ms = min_ms(HEARTBEAT_BACKOFF_MIN_MS, options->interval_ms);
    if (options->backoff_max_ms <= 0)
        options->backoff_max_ms =
            options->interval_ms > HEARTBEAT_BACKOFF_MAX_MS ? options->interval_ms : HEARTBEAT_BACKOFF_MAX_MS;
}

/* A URL below the orchestrator's; NULL when memory is out. */
static char *make_url(const char *base, const char *path, const char *pool_id, const char *rest)
{
    int n_base = (int)strlen(base);
    while (n_base > 0 && base[n_base - 1] == '/')
        n_base--;
    char *id = curl_easy_escape(NULL, pool_id, 0);
    char *url = NULL;
    if (!id || asprintf(&url, "%.*s%s%s%s", n_base, base, path, id, rest) < 0)
        url = NULL;
    curl_free(id);
    return url;
}

static bool copy_texts(struct heartbeat *heartbeat, const struct heartbeat_options *options)
{
    heartbeat->register_url = make_url(options->url, "/v2/pools/register", "", "");
    heartbeat->failed_url = make_url(options->url, "/v2/internal/workers/failed", "", "");
    heartbeat->beat_url = make_url(options->url, "/v2/pools/", options->pool_id, "/heartbeat");
    heartbeat->pool_url = make_url(options->url, "/v2/pools/", options->pool_id, "");
    heartbeat->pool_id = strdup(options->pool_id);
    heartbeat->epoch = strdup(options->epoch);
    heartbeat->endpoint = strdup(options->endpoint);
    if (options->token_file)
        heartbeat->token_file = strdup(options->token_file);
    return heartbeat->register_url && heartbeat->failed_url && heartbeat->beat_url && heartbeat->pool_url &&
           heartbeat->pool_id && heartbeat->epoch && heartbeat->endpoint &&
           (!options->token_file || heartbeat->token_file);
}

static void open_lane(struct heartbeat *heartbeat, struct lane *lane)
{
    lane->heartbeat = heartbeat;
    uv_timer_init(heartbeat->loop, &lane->timer); /* can not fail */
    lane->timer.data = lane;
}

enum pool_code heartbeat_open(uv_loop_t *loop, const struct heartbeat_options *options,
                              struct heartbeat **ret_heartbeat, struct pool_error *err)
{
    enum pool_code code = check_options(options, err);
    if (code != POOL_OK)
        return code;
    CLEANUP(free_heartbeat) struct heartbeat *heartbeat = calloc(1, sizeof *heartbeat);
    if (!heartbeat || !copy_texts(heartbeat, options))
        return pool_error_no_memory(err);
    heartbeat->loop = loop;
    heartbeat->options = *options;
    set_times(&heartbeat->options);
    code = http_client_open(loop, &heartbeat->client, err);
    if (code != POOL_OK)
        return code;
    open_lane(heartbeat, &heartbeat->pool);
    open_lane(heartbeat, &heartbeat->reports);
    uv_timer_init(loop, &heartbeat->patience);
    heartbeat->patience.data = heartbeat;
    schedule_pool(heartbeat, 0);
    *ret_heartbeat = take_ptr(&heartbeat);
    return POOL_OK;
}
