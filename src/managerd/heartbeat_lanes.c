/*
 * The two lanes to the orchestrator; see heartbeat_internal.h. Owns their order: when to register, when to beat, what to
 * try again and when. What is said is heartbeat_body.c, how it gets there http_client.c.
 */
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/random.h"
#include "managerd/heartbeat_body.h"
#include "managerd/heartbeat_internal.h"
#include "managerd/heartbeat_outcome.h"
#include "managerd/log.h"

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
void heartbeat_schedule_pool(struct heartbeat *heartbeat, int64_t in_ms)
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
    heartbeat_schedule_pool(heartbeat, (int64_t)(heartbeat->beat_due_ms - now));
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
        heartbeat_schedule_pool(heartbeat, 0);
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
    heartbeat_schedule_pool(heartbeat,
                            is_forgotten && is_first ? 0 : pause_ms(heartbeat, lane->n_failures, asked_ms));
}

static void take_pool_answer(void *ctx, const struct http_client_answer *answer)
{
    struct lane *lane = ctx;
    char problem[HEARTBEAT_PROBLEM_MAX];
    CLEANUP(log_leave_cause)
    __attribute__((unused)) struct log_cause before = log_enter_cause(lane->correlation_id);
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
    bool has_facts = !heartbeat->options.fill || heartbeat->options.fill(heartbeat->options.ctx, &facts);
    bool is_beat = heartbeat->counters.is_registered;
    heartbeat->sequence++;
    struct heartbeat_sender sender = make_sender(heartbeat);
    CLEANUP_FREE char *body = !has_facts ? NULL
                              : is_beat  ? heartbeat_body_beat(&sender, &facts)
                                         : heartbeat_body_register(&sender, &facts);
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

void heartbeat_drop_first_report(struct heartbeat *heartbeat)
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
    heartbeat_send_report(lane->heartbeat);
}

static void settle_report(struct heartbeat *heartbeat, enum heartbeat_outcome outcome, int status,
                          int64_t asked_ms)
{
    struct lane *lane = &heartbeat->reports;
    bool is_final_refusal = is_final(heartbeat, outcome, status);
    if (outcome == HEARTBEAT_OUTCOME_OK || is_final_refusal) {
        heartbeat->counters.n_reports_dropped += is_final_refusal;
        heartbeat_drop_first_report(heartbeat);
        lane->n_failures = 0;
        if (!heartbeat->is_closing && heartbeat->n_queued > 0)
            heartbeat_send_report(heartbeat);
    } else if (!heartbeat->is_closing) {
        lane->n_failures += lane->n_failures < INT32_MAX;
        uv_timer_start(&lane->timer, take_report_timer,
                       (uint64_t)pause_ms(heartbeat, lane->n_failures, asked_ms), 0);
    } else {
        while (heartbeat->n_queued > 0) { /* there are no second tries now */
            heartbeat->counters.n_reports_dropped++;
            heartbeat_drop_first_report(heartbeat);
        }
    }
}

static void take_report_answer(void *ctx, const struct http_client_answer *answer)
{
    struct lane *lane = ctx;
    struct heartbeat *heartbeat = lane->heartbeat;
    char problem[HEARTBEAT_PROBLEM_MAX];
    CLEANUP(log_leave_cause)
    __attribute__((unused)) struct log_cause before = log_enter_cause(lane->correlation_id);
    enum heartbeat_outcome outcome = heartbeat_outcome_of(answer, problem);
    enum heartbeat_kind kind = lane->kind;
    lane->call = NULL;
    if (kind == HEARTBEAT_LEAVE)
        heartbeat->is_leaving = false;
    else
        settle_report(heartbeat, outcome, answer->status, answer->retry_after_ms);
    note_outcome(heartbeat, kind, outcome, problem);
    if (heartbeat->is_closing)
        heartbeat_go_on_closing(heartbeat);
}

void heartbeat_send_report(struct heartbeat *heartbeat)
{
    struct pool_error error = POOL_ERROR_INIT;
    enum pool_code code = send_request(&heartbeat->reports, HEARTBEAT_FAILURE, "POST", heartbeat->failed_url,
                                       heartbeat->queue[heartbeat->first], take_report_answer, &error);
    if (code == POOL_OK)
        return;
    settle_report(heartbeat, HEARTBEAT_OUTCOME_NOT_SENT, 0, 0);
    note_outcome(heartbeat, HEARTBEAT_FAILURE, HEARTBEAT_OUTCOME_NOT_SENT, error.message);
}

bool heartbeat_send_leave(struct heartbeat *heartbeat)
{
    struct pool_error error = POOL_ERROR_INIT;
    if (send_request(&heartbeat->reports, HEARTBEAT_LEAVE, "DELETE", heartbeat->pool_url, NULL,
                     take_report_answer, &error) == POOL_OK)
        return true;
    note_outcome(heartbeat, HEARTBEAT_LEAVE, HEARTBEAT_OUTCOME_NOT_SENT, error.message);
    return false;
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
        heartbeat_drop_first_report(heartbeat);
    }
    heartbeat->queue[(heartbeat->first + heartbeat->n_queued++) % HEARTBEAT_REPORTS_MAX] = body;
    if (!lane->call && !uv_is_active((uv_handle_t *)&lane->timer))
        heartbeat_send_report(heartbeat);
}
