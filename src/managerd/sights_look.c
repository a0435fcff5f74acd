/*
 * A look at one worker, and what follows from it; see sights.h.
 *
 * A look is one or two requests, health before activity, over one connection that is closed after it: the engines close
 * an idle one after 5 s themselves (cpp-httplib, uvicorn), and llama-server spends one of its few HTTP threads on each as
 * long as it is open. Every worker has a timer of its own with a phase of its own, so that looks are spread over the
 * interval; SIGHTS_IN_FLIGHT_MAX are under way at most, others wait their turn.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/number.h"
#include "base/random.h"
#include "managerd/log.h"
#include "managerd/sights_internal.h"

#define SIGHTS_IN_FLIGHT_MAX    64
#define PROBE_TIMEOUT_MS        2000
#define HEALTH_ANSWER_MAX_BYTES ((size_t)64 << 10) /* an object with a word, in practice */
#define ANSWER_MAX_BYTES        ((size_t)1 << 20)  /* metrics of a large engine are some 100 kB */
#define MISSES_MAX              3                  /* in a row, then it is unhealthy */
#define QUIET_LOOKS             2 /* in a row, then a drain is over: one may fall between two requests of a client */
#define ACTIVITY_SLOW_MS        INT64_C(10000)
#define ACTIVITY_FAST_MS        INT64_C(1000)

/* ---- when ---- */

int64_t sight_activity_interval_ns(const struct sight *sight)
{
    int64_t slow_ms = sight->sights->options.health_interval_ms;
    if (slow_ms > ACTIVITY_SLOW_MS)
        slow_ms = ACTIVITY_SLOW_MS;
    bool is_fast = sight->is_draining || sight->idle_timeout_ms > 0;
    return (is_fast && slow_ms > ACTIVITY_FAST_MS ? ACTIVITY_FAST_MS : slow_ms) * NS_PER_MS;
}

static bool is_health_asked(const struct sight *sight)
{
    return sight->health_url && !sight->is_draining;
}

/* The next moment of the same phase, however much time was slept through. */
static int64_t next_after(int64_t last_ns, int64_t interval_ns, int64_t now_ns)
{
    return last_ns > now_ns ? last_ns : last_ns + ((now_ns - last_ns) / interval_ns + 1) * interval_ns;
}

static int64_t next_look_ns(const struct sight *sight)
{
    int64_t next_ns = INT64_MAX;
    if (is_health_asked(sight))
        next_ns = sight->next_health_ns;
    if (sight->activity_url && sight->next_activity_ns < next_ns)
        next_ns = sight->next_activity_ns;
    if (sight->is_draining && sight->drain_deadline_ns < next_ns)
        next_ns = sight->drain_deadline_ns;
    return next_ns;
}

/* ---- what follows from a look ---- */

static void report(struct sight *sight, struct pool_reading n_requests, bool is_used)
{
    struct pool_worker_sight seen = { .struct_size = sizeof seen,
                                      .is_healthy = sight->is_healthy,
                                      .health_reason = sight->is_healthy ? NULL : sight->health_reason,
                                      .n_requests = n_requests,
                                      .is_used = is_used };
    sight->sights->options.report(sight->worker_id, &seen, sight->sights->options.context);
}

/* Only what the row does not say yet: recording costs a turn of the manager's thread. */
static void report_changes(struct sight *sight)
{
    bool is_busy = sight->status == POOL_WORKER_BUSY;
    bool has_requests = sight->n_requests.value > 0;
    bool is_change = sight->n_requests.is_present && has_requests != is_busy;
    if (sight->is_used && sight->status == POOL_WORKER_READY && !has_requests) {
        report(sight, (struct pool_reading){ true, 1 }, false); /* it was, between two looks */
        is_change = true;
    }
    bool is_used_between = sight->is_used && sight->status == POOL_WORKER_IDLE && !has_requests;
    sight->is_used = false;
    if (is_change || is_used_between || sight->is_healthy != sight->is_row_healthy)
        report(sight, sight->n_requests, is_used_between);
}

static void stop(struct sight *sight, enum pool_stop_reason reason)
{
    sight->sights->options.stop(sight->worker_id, reason, sight->sights->options.context);
}

static void end_drain(struct sight *sight, int64_t now_ns)
{
    bool is_late = now_ns >= sight->drain_deadline_ns;
    if (sight->activity_url && sight->n_quiet < QUIET_LOOKS && !is_late)
        return;
    if (sight->activity_url && sight->n_quiet < QUIET_LOOKS)
        log_tell(LOG_DRAIN_LATE, &(struct log_fields){ .worker_id = sight->worker_id },
                 "%s still has requests in flight", sight->worker_id);
    sight->drain_deadline_ns = now_ns + ACTIVITY_FAST_MS * NS_PER_MS; /* then it is asked for again */
    stop(sight, POOL_STOP_REQUESTED);
}

static void draw_conclusions(struct sight *sight)
{
    int64_t now_ns = clock_boottime_ns();
    if (sight->is_draining) {
        end_drain(sight, now_ns);
        return;
    }
    report_changes(sight);
    if (!sight->is_healthy && sight->n_misses >= MISSES_MAX && sight->sights->options.stops_unhealthy)
        stop(sight, POOL_STOP_UNHEALTHY);
    else if (sight->idle_timeout_ms > 0 && sight->n_requests.is_present && sight->n_requests.value == 0 &&
             now_ns - sight->quiet_since_ns >= sight->idle_timeout_ms * NS_PER_MS)
        stop(sight, POOL_STOP_IDLE_TIMEOUT);
}

/* ---- a look ---- */

static void end_look(struct sight *sight)
{
    struct sights *sights = sight->sights;
    sight->is_looking = false;
    sights->n_looking--;
    draw_conclusions(sight);
    sight_schedule(sight);
    sights_begin_turns(sights);
}

static bool ask(struct sight *sight, const char *url, size_t answer_max_bytes, bool is_last,
                http_client_done_fn *on_done)
{
    char correlation_id[UUID_TEXT_MAX];
    struct http_client_request request = { .method = "GET",
                                           .url = url,
                                           .correlation_id =
                                               random_uuid(correlation_id) ? correlation_id : NULL,
                                           .timeout_ms = PROBE_TIMEOUT_MS,
                                           .answer_max_bytes = answer_max_bytes,
                                           .is_this_host = true,
                                           .is_last = is_last };
    return http_client_send(sight->sights->client, &request, on_done, sight, &sight->call, NULL) == POOL_OK;
}

/* It has no such path, and will not get one while it runs. */
static void give_up_activity(struct sight *sight, int status)
{
    log_tell(LOG_ACTIVITY_UNKNOWN, &(struct log_fields){ .worker_id = sight->worker_id },
             "%s answers %d to GET %s%s", sight->worker_id, status, pool_activity_path(sight->activity),
             sight->idle_timeout_ms > 0 ? "; its idle timeout can not be kept" : "");
    free(sight->activity_url);
    sight->activity_url = NULL;
}

static void see_activity(struct sight *sight, const struct pool_activity_report *activity)
{
    bool is_moved = sight->has_mark && activity->mark > sight->mark;
    bool was_busy = sight->is_busy;
    sight->is_busy = activity->n_requests > 0;
    /* A mark that is there at the first look is of requests from before it. */
    sight->is_used = is_moved || (!sight->has_mark && activity->mark > 0);
    sight->has_mark = true;
    sight->mark = activity->mark;
    sight->n_requests = (struct pool_reading){ true, activity->n_requests };
    if (sight->is_busy || was_busy || is_moved) /* when between the looks it ended, nobody knows */
        sight->quiet_since_ns = clock_boottime_ns();
    if (sight->is_busy)
        sight->n_quiet = 0;
    else
        sight->n_quiet = is_moved ? 1 : sight->n_quiet + (sight->n_quiet < QUIET_LOOKS);
}

static void take_activity(void *context, const struct http_client_answer *answer)
{
    struct sight *sight = context;
    struct pool_activity_report activity;
    sight->call = NULL;
    if (answer->result == HTTP_CLIENT_ANSWERED && answer->status == 200 &&
        pool_activity_read(sight->activity, answer->body, answer->n_body, &activity)) {
        see_activity(sight, &activity);
    } else if (answer->result == HTTP_CLIENT_ANSWERED && (answer->status == 404 || answer->status == 501)) {
        give_up_activity(sight, answer->status);
    } else { /* who is slow to answer may have much to do: that is not quiet */
        sight->n_quiet = 0;
        sight->quiet_since_ns = clock_boottime_ns();
    }
    end_look(sight);
}

/* false: the look is over. */
static bool ask_activity(struct sight *sight)
{
    return sight->activity_url && sight->is_activity_wanted &&
           ask(sight, sight->activity_url, ANSWER_MAX_BYTES, true, take_activity);
}

static void note_miss(struct sight *sight, const struct http_client_answer *answer)
{
    if (sight->n_misses < MISSES_MAX)
        sight->n_misses++;
    if (sight->n_misses < MISSES_MAX || !sight->is_healthy)
        return;
    sight->is_healthy = false;
    if (answer->result == HTTP_CLIENT_ANSWERED)
        snprintf(sight->health_reason, sizeof sight->health_reason,
                 "its readiness path answered %d, %d times in a row without a 200", answer->status,
                 MISSES_MAX);
    else if (answer->result == HTTP_CLIENT_TIMEOUT)
        snprintf(sight->health_reason, sizeof sight->health_reason,
                 "its readiness path did not answer within %d ms, %d times in a row", PROBE_TIMEOUT_MS,
                 MISSES_MAX);
    else
        snprintf(sight->health_reason, sizeof sight->health_reason,
                 "its readiness path can not be asked, %d times in a row: %.80s", MISSES_MAX,
                 answer->problem);
    log_tell(LOG_WORKER_UNHEALTHY, &(struct log_fields){ .worker_id = sight->worker_id }, "%s: %s",
             sight->worker_id, sight->health_reason);
}

static void note_hit(struct sight *sight)
{
    sight->n_misses = 0;
    if (!sight->is_healthy)
        log_tell(LOG_WORKER_HEALTHY, &(struct log_fields){ .worker_id = sight->worker_id },
                 "%s answers again", sight->worker_id);
    sight->is_healthy = true;
}

static void take_health(void *context, const struct http_client_answer *answer)
{
    struct sight *sight = context;
    sight->call = NULL;
    if (answer->result == HTTP_CLIENT_ANSWERED && answer->status == 200)
        note_hit(sight);
    else if (answer->result != HTTP_CLIENT_NO_MEMORY) /* that would be our own trouble */
        note_miss(sight, answer);
    /* Who does not answer this will not answer that: it would only take as long again. */
    if (answer->result != HTTP_CLIENT_ANSWERED)
        sight->is_activity_wanted = false;
    if (!ask_activity(sight))
        end_look(sight);
}

static void begin_look(struct sight *sight)
{
    int64_t now_ns = clock_boottime_ns();
    bool is_health_wanted = is_health_asked(sight) && sight->next_health_ns <= now_ns;
    sight->is_looking = true;
    sight->sights->n_looking++;
    sight->n_requests = (struct pool_reading){ 0 };
    sight->is_activity_wanted = sight->activity_url && sight->next_activity_ns <= now_ns;
    if (is_health_wanted)
        sight->next_health_ns =
            next_after(sight->next_health_ns, sight->sights->options.health_interval_ms * NS_PER_MS, now_ns);
    if (sight->is_activity_wanted)
        sight->next_activity_ns =
            next_after(sight->next_activity_ns, sight_activity_interval_ns(sight), now_ns);
    if (is_health_wanted &&
        ask(sight, sight->health_url, HEALTH_ANSWER_MAX_BYTES, !sight->is_activity_wanted, take_health))
        return;
    if (!ask_activity(sight))
        end_look(sight);
}

void sights_begin_turns(struct sights *sights)
{
    if (sights->is_taking_turns) /* a look that ends at once: the loop below goes on */
        return;
    sights->is_taking_turns = true;
    while (!sights->is_closing && sights->n_looking < SIGHTS_IN_FLIGHT_MAX &&
           !TAILQ_EMPTY(&sights->waiting)) {
        struct sight *sight = TAILQ_FIRST(&sights->waiting);
        TAILQ_REMOVE(&sights->waiting, sight, turn);
        sight->is_waiting = false;
        begin_look(sight);
    }
    sights->is_taking_turns = false;
}

static void take_timer(uv_timer_t *timer)
{
    struct sight *sight = timer->data;
    if (sight->is_looking || sight->is_waiting)
        return;
    if (next_look_ns(sight) > clock_boottime_ns()) { /* the loop's clock and this one go apart */
        sight_schedule(sight);
        return;
    }
    sight->is_waiting = true;
    TAILQ_INSERT_TAIL(&sight->sights->waiting, sight, turn);
    sights_begin_turns(sight->sights);
}

void sight_schedule(struct sight *sight)
{
    int64_t now_ns = clock_boottime_ns();
    if (uv_is_closing((uv_handle_t *)&sight->timer) || sight->is_looking || sight->is_waiting)
        return;
    /* Not a moment later than the timeout asks for. */
    int64_t idle_ns = sight->quiet_since_ns + sight->idle_timeout_ms * NS_PER_MS;
    if (sight->idle_timeout_ms > 0 && idle_ns > now_ns && idle_ns < sight->next_activity_ns)
        sight->next_activity_ns = idle_ns;
    int64_t next_ns = next_look_ns(sight);
    if (next_ns == INT64_MAX) {
        uv_timer_stop(&sight->timer);
        return;
    }
    int64_t wait_ms = (excess_bytes(next_ns, now_ns) + NS_PER_MS - 1) / NS_PER_MS;
    uv_update_time(sight->sights->loop);
    uv_timer_start(&sight->timer, take_timer, (uint64_t)wait_ms, 0);
}
