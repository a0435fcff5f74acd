/*
 * The conversation with an orchestrator, over real sockets, with one that is good and one that is as bad as can be:
 * what is said, what is tried again and when, and that nothing of it stops the pool.
 */
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "managerd/heartbeat.h"
#include "managerd/heartbeat_body.h"
#include "managerd/heartbeat_outcome.h"
#include "orchestrator.h"

#define COUNT(a)    (sizeof(a) / sizeof((a)[0]))
#define DEADLINE_MS 60000
#define HOUR_MS     3600000
#define GIB         (INT64_C(1) << 30)

extern char **environ;

struct ground {
    uv_loop_t loop;
    uv_timer_t deadline;
    struct orchestrator orchestrator;
    struct heartbeat *heartbeat;
    struct heartbeat_facts facts;
    char problem[HEARTBEAT_PROBLEM_MAX]; /* the last one */
    int n_outcomes;
    bool is_late, is_closed;
    bool closes_at_outcome;
    bool has_no_memory; /* for the facts */
};

static void take_deadline(uv_timer_t *timer)
{
    ((struct ground *)timer->data)->is_late = true;
}

/* Runs the loop until a condition holds, or fails the test. */
#define run_until(ground, condition)                                                         \
    do {                                                                                     \
        (ground)->is_late = false;                                                           \
        uv_update_time(&(ground)->loop);                                                     \
        uv_timer_start(&(ground)->deadline, take_deadline, DEADLINE_MS, 0);                  \
        while (!(condition) && !(ground)->is_late)                                           \
            uv_run(&(ground)->loop, UV_RUN_ONCE);                                            \
        if (!(condition))                                                                    \
            fail_msg("%s: did not happen; last problem: %s", #condition, (ground)->problem); \
        uv_timer_stop(&(ground)->deadline);                                                  \
    } while (0)

static void take_closed(void *ctx)
{
    ((struct ground *)ctx)->is_closed = true;
}

static bool fill(void *ctx, struct heartbeat_facts *facts)
{
    *facts = ((struct ground *)ctx)->facts;
    return !((struct ground *)ctx)->has_no_memory;
}

static void take_outcome(void *ctx, enum heartbeat_kind kind, enum heartbeat_outcome outcome,
                         const char *problem)
{
    struct ground *ground = ctx;
    (void)kind;
    assert_int_equal(outcome == HEARTBEAT_OUTCOME_OK, problem[0] == '\0');
    ground->n_outcomes++;
    if (problem[0])
        snprintf(ground->problem, sizeof ground->problem, "%s", problem);
    if (ground->closes_at_outcome)
        heartbeat_close(ground->heartbeat, false, 1000, take_closed, ground);
}

static struct heartbeat_options default_options(struct ground *ground)
{
    return (struct heartbeat_options){
        .url = ground->orchestrator.url,
        .pool_id = "pool-1",
        .epoch = "e1",
        .endpoint = "http://host-1:9200",
        .interval_ms = 30,
        .timeout_ms = 10000,
        .backoff_min_ms = 20,
        .backoff_max_ms = 100,
        .fill = fill,
        .on_outcome = take_outcome,
        .ctx = ground,
    };
}

static int set_up(void **state)
{
    struct ground *ground = calloc(1, sizeof *ground);
    if (!ground || uv_loop_init(&ground->loop) < 0)
        return -1;
    uv_timer_init(&ground->loop, &ground->deadline);
    ground->deadline.data = ground;
    *state = ground;
    return orchestrator_start(&ground->orchestrator, &ground->loop) ? 0 : -1;
}

/* Also after a test that failed in the middle. */
static int tear_down(void **state)
{
    struct ground *ground = *state;
    if (ground->heartbeat && !ground->is_closed)
        heartbeat_close(ground->heartbeat, false, 0, NULL, NULL);
    orchestrator_end(&ground->orchestrator);
    uv_close((uv_handle_t *)&ground->deadline, NULL);
    uv_run(&ground->loop, UV_RUN_DEFAULT); /* ends only when no handle is left */
    int failure = uv_loop_close(&ground->loop);
    orchestrator_forget(&ground->orchestrator);
    free(ground);
    return failure;
}

static void begin(struct ground *ground, const struct heartbeat_options *options)
{
    assert_int_equal(heartbeat_open(&ground->loop, options, &ground->heartbeat, NULL), POOL_OK);
}

static uint64_t outcomes(const struct ground *ground, enum heartbeat_kind kind,
                         enum heartbeat_outcome outcome)
{
    return heartbeat_counters(ground->heartbeat).n[kind][outcome];
}

static uint64_t beats(const struct ground *ground)
{
    return outcomes(ground, HEARTBEAT_BEAT, HEARTBEAT_OUTCOME_OK);
}

/* Of what was seen, those of a path; how many. */
static size_t count_seen(const struct ground *ground, const char *method, const char *path)
{
    size_t n = 0;
    for (size_t i = 0; i < ground->orchestrator.n_seen; i++) {
        const struct orchestrator_request *request = &ground->orchestrator.seen[i];
        n += strcmp(request->method, method) == 0 && strcmp(request->path, path) == 0;
    }
    return n;
}

#define REGISTER_PATH "/v2/pools/register"
#define BEAT_PATH     "/v2/pools/pool-1/heartbeat"
#define FAILED_PATH   "/v2/internal/workers/failed"
#define POOL_PATH     "/v2/pools/pool-1"

/* ---- what is said ---- */

static const struct heartbeat_sender sender = {
    .pool_id = "pool-1", .endpoint = "http://h:1", .epoch = "e1", .sequence = 7, .wall_ms = 1760011200123
};

/* Compares as JSON: the order of fields says nothing. */
static void assert_json(char *text, const char *expected)
{
    CLEANUP_FREE char *owned = text;
    CLEANUP_JSON json_t *got = json_loads(owned, 0, NULL);
    CLEANUP_JSON json_t *want = json_loads(expected, 0, NULL);
    assert_non_null(got);
    assert_non_null(want);
    if (!json_equal(got, want))
        fail_msg("%s\nis not\n%s", owned, expected);
}

static void says_what_there_is(void **state)
{
    (void)state;
    struct pool_gpu_info good = { .gpu_id = 0,
                                  .uuid = "GPU-a",
                                  .name = "Card",
                                  .is_vram_known = true,
                                  .vram_total_bytes = 24 * GIB,
                                  .vram_free_bytes = 20 * GIB };
    struct pool_gpu_info lost = { .gpu_id = 1, .health = POOL_GPU_UNHEALTHY, .health_reason = "lost" };
    struct pool_gpu_info *gpus[] = { &good, &lost };
    struct pool_gpu_list gpu_list = { .n_gpus = 2, .gpus = gpus };
    struct pool_ledger ledgers[] = { { .device = "host" },
                                     { .device = "GPU-a", .allocated_bytes = 3 * GIB } };
    struct pool_worker_info on_gpu = { .worker_id = (char[]){ "w-1" },
                                       .backend = (char[]){ "cuda" },
                                       .model_ref = (char[]){ "file:/m/a.gguf" },
                                       .gpu_uuid = (char[]){ "GPU-a" },
                                       .uri = (char[]){ "http://127.0.0.1:8001" },
                                       .status = POOL_WORKER_IDLE,
                                       .reserved_bytes = 3 * GIB,
                                       .observed_bytes = { true, 2 * GIB },
                                       .capabilities = (char[]){ "text,,embedding" },
                                       .protocol = (char[]){ "openai" } };
    struct pool_worker_info on_cpu = { .worker_id = (char[]){ "w-2" },
                                       .backend = (char[]){ "cpu" },
                                       .model_ref = (char[]){ "broken \xff" },
                                       .status = POOL_WORKER_SPAWNING,
                                       .reserved_bytes = 1 * GIB };
    struct pool_worker_info *workers[] = { &on_gpu, &on_cpu };
    struct pool_worker_list worker_list = { .n_workers = 2, .workers = workers };
    struct heartbeat_facts facts = { &gpu_list, 2, ledgers, &worker_list };
#define GPUS                                                                                            \
    "\"gpus\":[{\"id\":0,\"uuid\":\"GPU-a\",\"device_name\":\"Card\",\"total_vram_bytes\":25769803776," \
    "\"free_vram_bytes\":21474836480,\"allocated_vram_bytes\":3221225472,\"healthy\":true},"            \
    "{\"id\":1,\"uuid\":null,\"device_name\":null,\"total_vram_bytes\":null,\"free_vram_bytes\":null,"  \
    "\"allocated_vram_bytes\":null,\"healthy\":false}]"
#define SENDER "\"pool_id\":\"pool-1\",\"timestamp\":\"2025-10-09T12:00:00.123Z\",\"epoch\":\"e1\""
    assert_json(
        heartbeat_body_beat(&sender, &facts),
        "{" SENDER ",\"sequence\":7," GPUS ",\"workers\":["
        "{\"id\":\"w-1\",\"status\":\"idle\",\"model_ref\":\"file:/m/a.gguf\",\"vram_bytes\":2147483648,"
        "\"gpu_id\":\"GPU-a\",\"uri\":\"http://127.0.0.1:8001\",\"backend\":\"cuda\","
        "\"capabilities\":[\"text\",\"embedding\"],\"protocol\":\"openai\"},"
        "{\"id\":\"w-2\",\"status\":\"spawning\",\"model_ref\":null,\"vram_bytes\":0,\"gpu_id\":null,"
        "\"uri\":null,\"backend\":\"cpu\",\"capabilities\":[],\"protocol\":null}]}");
    assert_json(heartbeat_body_register(&sender, &facts),
                "{" SENDER ",\"sequence\":7,\"endpoint\":\"http://h:1\"," GPUS "}");
    struct heartbeat_facts nothing = { .gpus = NULL };
    assert_json(heartbeat_body_beat(&sender, &nothing),
                "{" SENDER ",\"sequence\":7,\"gpus\":[],\"workers\":[]}");
}

static void says_how_a_worker_ended(void **state)
{
    (void)state;
    struct heartbeat_failure failure = { .worker_id = "w-1",
                                         .reason = POOL_STOP_SIGNALLED,
                                         .exit_signal = { true, 9 },
                                         .vram_released_bytes = 5 };
    assert_json(heartbeat_body_failure(&sender, &failure),
                "{" SENDER ",\"worker_id\":\"w-1\",\"reason\":\"signalled\",\"exit_code\":null,\"signal\":9,"
                "\"vram_released_bytes\":5}");
    failure = (struct heartbeat_failure){ .worker_id = "w-2",
                                          .reason = POOL_STOP_EXITED,
                                          .exit_code = { true, 1 } };
    assert_json(heartbeat_body_failure(&sender, &failure),
                "{" SENDER ",\"worker_id\":\"w-2\",\"reason\":\"exited\",\"exit_code\":1,\"signal\":null,"
                "\"vram_released_bytes\":0}");
}

static void names_kinds_and_outcomes(void **state)
{
    (void)state;
    assert_string_equal(heartbeat_kind_name(HEARTBEAT_BEAT), "heartbeat");
    assert_string_equal(heartbeat_kind_name(HEARTBEAT_N_KINDS), "unknown");
    for (int i = 0; i < HEARTBEAT_N_OUTCOMES; i++)
        assert_string_not_equal(heartbeat_outcome_name((enum heartbeat_outcome)i), "unknown");
    assert_string_equal(heartbeat_outcome_name(HEARTBEAT_N_OUTCOMES), "unknown");
}

/* ---- an orchestrator that is well ---- */

static int64_t sequence_of(const struct orchestrator_request *request)
{
    CLEANUP_JSON json_t *json = json_loads(request->body, 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "epoch")), "e1");
    return json_integer_value(json_object_get(json, "sequence"));
}

static void registers_and_beats(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    begin(ground, &options);
    run_until(ground, beats(ground) == 5);
    const struct orchestrator_request *seen = ground->orchestrator.seen;
    assert_string_equal(seen[0].method, "POST");
    assert_string_equal(seen[0].path, REGISTER_PATH);
    for (size_t i = 0; i < 6; i++) {
        if (i > 0)
            assert_string_equal(seen[i].path, BEAT_PATH);
        assert_int_equal(sequence_of(&seen[i]), i + 1);
        assert_true(pool_correlation_id_is_valid(seen[i].correlation_id));
        assert_string_equal(seen[i].authorization, "");
    }
    assert_string_not_equal(seen[0].correlation_id, seen[1].correlation_id);
    assert_true(heartbeat_counters(ground->heartbeat).is_registered);
    assert_int_equal(ground->orchestrator.n_connections, 1); /* it is kept */
    /* Four intervals between the first beat and the fifth, however long the answers took. */
    assert_true(seen[5].boottime_ns - seen[1].boottime_ns >= (4 * options.interval_ms - 10) * NS_PER_MS);
}

static void takes_answers_of_any_form(void **state)
{
    struct ground *ground = *state;
    static const char *const replies[] = {
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2\r\n{}\r\n0\r\nA: b\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    };
    struct heartbeat_options options = default_options(ground);
    begin(ground, &options);
    for (size_t i = 0; i < COUNT(replies); i++) {
        ground->orchestrator.beats.bytes = replies[i];
        uint64_t n_beats = beats(ground);
        run_until(ground, beats(ground) >= n_beats + 2 || ground->problem[0]);
        if (ground->problem[0])
            fail_msg("%s: %s", replies[i], ground->problem);
    }
}

/* Without its workers it would say that there are none. */
static void says_nothing_without_facts(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    begin(ground, &options);
    run_until(ground, beats(ground) == 1);
    ground->has_no_memory = true;
    run_until(ground, outcomes(ground, HEARTBEAT_BEAT, HEARTBEAT_OUTCOME_NOT_SENT) == 2);
    size_t n_seen = ground->orchestrator.n_seen;
    ground->has_no_memory = false;
    run_until(ground, beats(ground) >= 2);
    assert_true(ground->orchestrator.n_seen > n_seen);
}

static void waits_until_it_knows_what_to_say(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    options.first_after_ms = HOUR_MS;
    begin(ground, &options);
    for (int i = 0; i < 3; i++)
        uv_run(&ground->loop, UV_RUN_NOWAIT);
    assert_int_equal(ground->orchestrator.n_seen, 0);
    heartbeat_begin(ground->heartbeat);
    run_until(ground, beats(ground) == 1);
    heartbeat_begin(ground->heartbeat); /* no more than the first time */
    assert_int_equal(outcomes(ground, HEARTBEAT_REGISTER, HEARTBEAT_OUTCOME_OK), 1);
}

static void registers_again_when_it_was_forgotten(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    begin(ground, &options);
    run_until(ground, beats(ground) == 2);
    ground->orchestrator.beats.bytes = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    run_until(ground, outcomes(ground, HEARTBEAT_BEAT, HEARTBEAT_OUTCOME_UNKNOWN_POOL) >= 3);
    assert_int_equal(count_seen(ground, "POST", REGISTER_PATH),
                     outcomes(ground, HEARTBEAT_BEAT, HEARTBEAT_OUTCOME_UNKNOWN_POOL));
    ground->orchestrator.beats.bytes = ORCHESTRATOR_OK;
    run_until(ground, beats(ground) == 4);
    assert_true(heartbeat_counters(ground->heartbeat).is_registered);
}

static void does_not_hurry_in_a_circle(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    options.backoff_min_ms = 100;
    options.backoff_max_ms = 100;
    ground->orchestrator.beats.bytes = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    begin(ground, &options);
    run_until(ground, outcomes(ground, HEARTBEAT_BEAT, HEARTBEAT_OUTCOME_UNKNOWN_POOL) == 5);
    const struct orchestrator_request *seen = ground->orchestrator.seen;
    /* The first 404 is answered by a registration at once, each of the other three by one after a pause. */
    assert_true(seen[9].boottime_ns - seen[0].boottime_ns >= INT64_C(3) * (50 - 1) * NS_PER_MS);
}

static void escapes_the_name_of_the_pool(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    char url[128];
    snprintf(url, sizeof url, "%s/base//", ground->orchestrator.url);
    options.url = url;
    options.pool_id = "a/../b c";
    begin(ground, &options);
    run_until(ground, beats(ground) == 1);
    assert_string_equal(ground->orchestrator.seen[0].path, "/base" REGISTER_PATH);
    assert_string_equal(ground->orchestrator.seen[1].path, "/base/v2/pools/a%2F..%2Fb%20c/heartbeat");
}

static void uses_no_proxy_for_this_host(void **state)
{
    struct ground *ground = *state;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("all_proxy", "http://127.0.0.1:1", 1);
    struct heartbeat_options options = default_options(ground);
    begin(ground, &options);
    run_until(ground, beats(ground) == 1);
    unsetenv("http_proxy");
    unsetenv("all_proxy");
}

/* ---- one that is not ---- */

#define LONG_HEADER \
    "X-More: "      \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"

static const struct {
    const char *name;
    struct orchestrator_reply reply;
    enum heartbeat_outcome outcome;
    int64_t timeout_ms;
} bad_replies[] = {
    { "500",
      { "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", false, false },
      HEARTBEAT_OUTCOME_SERVER_ERROR,
      0 },
    { "503 with a body",
      { "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", true, false },
      HEARTBEAT_OUTCOME_SERVER_ERROR,
      0 },
    { "400", { "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n", false, false }, HEARTBEAT_OUTCOME_REFUSED, 0 },
    { "401",
      { "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", false, false },
      HEARTBEAT_OUTCOME_REFUSED,
      0 },
    { "301",
      { "HTTP/1.1 301 Go\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", false, false },
      HEARTBEAT_OUTCOME_BAD_ANSWER,
      0 },
    { "307",
      { "HTTP/1.1 307 Go\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", false, false },
      HEARTBEAT_OUTCOME_BAD_ANSWER,
      0 },
    { "204 is fine in itself, 304 is not",
      { "HTTP/1.1 304 Same\r\n\r\n", false, false },
      HEARTBEAT_OUTCOME_BAD_ANSWER,
      0 },
    { "another protocol", { "SSH-2.0-OpenSSH_9.2\r\n", true, false }, HEARTBEAT_OUTCOME_BAD_ANSWER, 0 },
    { "bytes", { "\xff\xfe\x01\x02 \r\n\r\n", true, false }, HEARTBEAT_OUTCOME_BAD_ANSWER, 0 },
    { "a status that is none",
      { "HTTP/1.1 abc\r\nContent-Length: 0\r\n\r\n", true, false },
      HEARTBEAT_OUTCOME_BAD_ANSWER,
      0 },
    { "a closed door", { "", true, false }, HEARTBEAT_OUTCOME_BAD_ANSWER, 0 },
    { "half a head", { "HTTP/1.1 200 OK\r\nContent-Le", true, false }, HEARTBEAT_OUTCOME_BAD_ANSWER, 0 },
    { "half a body",
      { "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\":", true, false },
      HEARTBEAT_OUTCOME_BAD_ANSWER,
      0 },
    { "a broken chunk",
      { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", true, false },
      HEARTBEAT_OUTCOME_BAD_ANSWER,
      0 },
    { "a body without end",
      { "HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\n\r\n" LONG_HEADER, false, true },
      HEARTBEAT_OUTCOME_BAD_ANSWER,
      0 },
    { "headers without end",
      { "HTTP/1.1 200 OK\r\n" LONG_HEADER, false, true },
      HEARTBEAT_OUTCOME_BAD_ANSWER,
      0 },
    { "interim answers without end",
      { "HTTP/1.1 100 Continue\r\n\r\n", false, true },
      HEARTBEAT_OUTCOME_BAD_ANSWER,
      0 },
    { "silence", { NULL, false, false }, HEARTBEAT_OUTCOME_TIMEOUT, 150 },
    { "an answer that never ends",
      { "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", false, false },
      HEARTBEAT_OUTCOME_TIMEOUT,
      150 },
};

static void bears_bad_answers_to_beats(void **state)
{
    struct ground *ground = *state;
    for (size_t i = 0; i < COUNT(bad_replies); i++) {
        ground->orchestrator.beats = bad_replies[i].reply;
        struct heartbeat_options options = default_options(ground);
        options.timeout_ms = bad_replies[i].timeout_ms ? bad_replies[i].timeout_ms : options.timeout_ms;
        begin(ground, &options);
        run_until(ground, ground->n_outcomes >= 3);
        if (outcomes(ground, HEARTBEAT_BEAT, bad_replies[i].outcome) < 2)
            fail_msg("%s: %s", bad_replies[i].name, ground->problem);
        assert_true(heartbeat_counters(ground->heartbeat).is_registered);
        ground->orchestrator.beats = (struct orchestrator_reply){ .bytes = ORCHESTRATOR_OK };
        run_until(ground, beats(ground) >= 2);
        assert_int_equal(count_seen(ground, "POST", REGISTER_PATH), 1);
        assert_int_equal(count_seen(ground, "POST", "/elsewhere") + count_seen(ground, "GET", "/elsewhere"),
                         0);
        heartbeat_close(ground->heartbeat, false, 0, take_closed, ground);
        run_until(ground, ground->is_closed);
        ground->heartbeat = NULL;
        ground->is_closed = false;
        ground->n_outcomes = 0;
        orchestrator_forget(&ground->orchestrator);
    }
}

static void bears_bad_answers_to_registrations(void **state)
{
    struct ground *ground = *state;
    for (size_t i = 0; i < COUNT(bad_replies); i++) {
        ground->orchestrator.registers = bad_replies[i].reply;
        struct heartbeat_options options = default_options(ground);
        options.timeout_ms = bad_replies[i].timeout_ms ? bad_replies[i].timeout_ms : options.timeout_ms;
        begin(ground, &options);
        run_until(ground, ground->n_outcomes >= 2);
        if (outcomes(ground, HEARTBEAT_REGISTER, bad_replies[i].outcome) < 2)
            fail_msg("%s: %s", bad_replies[i].name, ground->problem);
        assert_false(heartbeat_counters(ground->heartbeat).is_registered);
        ground->orchestrator.registers = (struct orchestrator_reply){ .bytes = ORCHESTRATOR_OK };
        run_until(ground, beats(ground) >= 1);
        heartbeat_close(ground->heartbeat, false, 0, take_closed, ground);
        run_until(ground, ground->is_closed);
        ground->heartbeat = NULL;
        ground->is_closed = false;
        ground->n_outcomes = 0;
        orchestrator_forget(&ground->orchestrator);
    }
}

static void bears_an_orchestrator_that_is_not_there(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    options.url = "http://127.0.0.1:1";
    begin(ground, &options);
    run_until(ground, outcomes(ground, HEARTBEAT_REGISTER, HEARTBEAT_OUTCOME_UNREACHABLE) >= 3);
    heartbeat_close(ground->heartbeat, true, 10000, take_closed, ground);
    run_until(ground, ground->is_closed);
    options.url = "http://no-such-host.invalid";
    ground->heartbeat = NULL;
    ground->is_closed = false;
    begin(ground, &options);
    run_until(ground, outcomes(ground, HEARTBEAT_REGISTER, HEARTBEAT_OUTCOME_UNREACHABLE) +
                              outcomes(ground, HEARTBEAT_REGISTER, HEARTBEAT_OUTCOME_TIMEOUT) >=
                          1);
}

static void pauses_longer_and_longer(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    options.backoff_min_ms = 40;
    options.backoff_max_ms = 160;
    ground->orchestrator.registers.bytes = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
    begin(ground, &options);
    run_until(ground, ground->orchestrator.n_seen == 6);
    static const int64_t least_ms[] = { 20, 40, 80, 80, 80 }; /* half of 40, 80, 160, 160, 160 */
    for (size_t i = 0; i < COUNT(least_ms); i++) {
        const struct orchestrator_request *seen = &ground->orchestrator.seen[i];
        assert_true(seen[1].boottime_ns - seen[0].boottime_ns >= (least_ms[i] - 1) * NS_PER_MS);
    }
}

static void obeys_retry_after_within_its_own_limit(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    options.backoff_min_ms = 1;
    options.backoff_max_ms = 300;
    ground->orchestrator.registers.bytes =
        "HTTP/1.1 503 No\r\nRetry-After: 86400\r\nContent-Length: 0\r\n\r\n";
    begin(ground, &options);
    run_until(ground, ground->orchestrator.n_seen == 2);
    const struct orchestrator_request *seen = ground->orchestrator.seen;
    assert_true(seen[1].boottime_ns - seen[0].boottime_ns >= 299 * NS_PER_MS);
}

static void asks_once_at_a_time(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    options.interval_ms = 10;
    options.timeout_ms = 300;
    begin(ground, &options);
    run_until(ground, beats(ground) == 1);
    ground->orchestrator.beats.bytes = NULL;
    size_t n_seen = ground->orchestrator.n_seen;
    run_until(ground, outcomes(ground, HEARTBEAT_BEAT, HEARTBEAT_OUTCOME_TIMEOUT) == 1);
    assert_in_range(ground->orchestrator.n_seen - n_seen, 0, 1); /* in the time of thirty intervals */
}

/* ---- reports of deaths ---- */

static void report(struct ground *ground, int number)
{
    char id[32];
    snprintf(id, sizeof id, "w-%d", number);
    struct heartbeat_failure failure = { .worker_id = id,
                                         .reason = POOL_STOP_EXITED,
                                         .exit_code = { true, number } };
    heartbeat_worker_failed(ground->heartbeat, &failure);
}

/* The number of the i-th report that was seen, from 0. */
static int64_t seen_report(const struct ground *ground, size_t i)
{
    for (size_t k = 0; k < ground->orchestrator.n_seen; k++) {
        const struct orchestrator_request *request = &ground->orchestrator.seen[k];
        if (strcmp(request->path, FAILED_PATH) != 0 || i-- > 0)
            continue;
        CLEANUP_JSON json_t *json = json_loads(request->body, 0, NULL);
        return json_integer_value(json_object_get(json, "exit_code"));
    }
    return -1;
}

static uint64_t delivered(const struct ground *ground)
{
    return outcomes(ground, HEARTBEAT_FAILURE, HEARTBEAT_OUTCOME_OK);
}

static void reports_a_death_at_once(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    options.interval_ms = HOUR_MS;
    begin(ground, &options);
    run_until(ground, beats(ground) == 1);
    report(ground, 1);
    report(ground, 2);
    assert_int_equal(heartbeat_counters(ground->heartbeat).n_reports_queued, 2);
    run_until(ground, delivered(ground) == 2);
    assert_int_equal(seen_report(ground, 0), 1);
    assert_int_equal(seen_report(ground, 1), 2);
    assert_int_equal(heartbeat_counters(ground->heartbeat).n_reports_queued, 0);
    assert_int_equal(beats(ground), 1);
}

static void offers_reports_again_in_order(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    ground->orchestrator.failures.bytes = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
    begin(ground, &options);
    report(ground, 1);
    report(ground, 2);
    run_until(ground, outcomes(ground, HEARTBEAT_FAILURE, HEARTBEAT_OUTCOME_SERVER_ERROR) == 3);
    ground->orchestrator.failures.bytes = ORCHESTRATOR_OK;
    run_until(ground, delivered(ground) == 2);
    assert_int_equal(seen_report(ground, 0), 1);
    assert_int_equal(seen_report(ground, 3), 1);
    assert_int_equal(seen_report(ground, 4), 2);
    assert_int_equal(heartbeat_counters(ground->heartbeat).n_reports_dropped, 0);
    run_until(ground, beats(ground) >= 2); /* which nothing of this held up */
}

static void drops_reports_that_are_refused(void **state)
{
    struct ground *ground = *state;
    static const struct {
        const char *reply;
        size_t n_tries;
    } cases[] = {
        { "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n", 1 },
        { "HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n", 1 },
        { "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", HEARTBEAT_REPORT_TRIES_MAX },
    };
    struct heartbeat_options options = default_options(ground);
    options.interval_ms = HOUR_MS;
    begin(ground, &options);
    run_until(ground, beats(ground) == 1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        ground->orchestrator.failures.bytes = cases[i].reply;
        size_t n_seen = count_seen(ground, "POST", FAILED_PATH);
        report(ground, 1);
        run_until(ground, heartbeat_counters(ground->heartbeat).n_reports_dropped == i + 1);
        assert_int_equal(count_seen(ground, "POST", FAILED_PATH) - n_seen, cases[i].n_tries);
    }
    ground->orchestrator.failures.bytes = "HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n";
    report(ground, 2);
    run_until(ground, outcomes(ground, HEARTBEAT_FAILURE, HEARTBEAT_OUTCOME_REFUSED) >= 5);
    ground->orchestrator.failures.bytes = ORCHESTRATOR_OK;
    run_until(ground, delivered(ground) == 1);
}

static void keeps_a_bounded_queue_of_reports(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    options.interval_ms = HOUR_MS;
    ground->orchestrator.failures.bytes = NULL;
    begin(ground, &options);
    run_until(ground, beats(ground) == 1);
    report(ground, 1);
    run_until(ground, count_seen(ground, "POST", FAILED_PATH) == 1); /* it is under way */
    int n = HEARTBEAT_REPORTS_MAX + 20;
    for (int i = 2; i <= n; i++)
        report(ground, i);
    struct heartbeat_counters counters = heartbeat_counters(ground->heartbeat);
    assert_int_equal(counters.n_reports_queued, HEARTBEAT_REPORTS_MAX);
    assert_int_equal(counters.n_reports_dropped, 20);
    ground->orchestrator.failures.bytes = ORCHESTRATOR_OK;
    run_until(ground, delivered(ground) == HEARTBEAT_REPORTS_MAX);
    size_t n_seen = count_seen(ground, "POST", FAILED_PATH);
    assert_int_equal(seen_report(ground, n_seen - 1), n);
    assert_int_equal(seen_report(ground, n_seen - HEARTBEAT_REPORTS_MAX), 21);
}

/* ---- the token ---- */

static char token_path[] = "/tmp/heartbeat-token.XXXXXX";

static void write_token(const char *text, mode_t mode)
{
    char fresh[sizeof token_path + 4];
    snprintf(fresh, sizeof fresh, "%s.new", token_path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
    assert_int_equal(rename(fresh, token_path), 0);
}

static int make_token_file(void **state)
{
    snprintf(token_path, sizeof token_path, "/tmp/heartbeat-token.XXXXXX");
    int fd = mkstemp(token_path);
    if (fd < 0)
        return -1;
    close(fd);
    return set_up(state);
}

static int remove_token_file(void **state)
{
    unlink(token_path);
    return tear_down(state);
}

static void sends_the_token_as_it_is_now(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    options.token_file = token_path;
    write_token("first-token\n", 0600);
    begin(ground, &options);
    run_until(ground, beats(ground) == 1);
    assert_string_equal(ground->orchestrator.seen[1].authorization, "Bearer first-token");
    write_token("other-token", 0600); /* of the same length */
    size_t n_seen = ground->orchestrator.n_seen;
    run_until(ground, ground->orchestrator.n_seen == n_seen + 2);
    assert_string_equal(ground->orchestrator.seen[n_seen + 1].authorization, "Bearer other-token");
}

static void sends_nothing_without_its_token(void **state)
{
    struct ground *ground = *state;
    char too_long[HEARTBEAT_REPORTS_MAX * 32];
    memset(too_long, 'a', sizeof too_long - 1);
    too_long[sizeof too_long - 1] = '\0';
    const struct {
        const char *text;
        mode_t mode;
    } cases[] = { { "good", 0640 },        { "good", 0604 },      { "", 0600 },
                  { "\n\n", 0600 },        { "two words", 0600 }, { "a\r\nX: y", 0600 },
                  { "caf\xc3\xa9", 0600 }, { too_long, 0600 } };
    struct heartbeat_options options = default_options(ground);
    options.token_file = token_path;
    write_token("good", 0600);
    begin(ground, &options);
    run_until(ground, beats(ground) == 1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        write_token(cases[i].text, cases[i].mode);
        uint64_t n_not_sent = outcomes(ground, HEARTBEAT_BEAT, HEARTBEAT_OUTCOME_NOT_SENT);
        run_until(ground, outcomes(ground, HEARTBEAT_BEAT, HEARTBEAT_OUTCOME_NOT_SENT) > n_not_sent);
        assert_null(strstr(ground->problem, "good"));
        write_token("good", 0600);
        uint64_t n_beats = beats(ground);
        run_until(ground, beats(ground) > n_beats);
    }
    unlink(token_path);
    assert_int_equal(mkfifo(token_path, 0600), 0);
    uint64_t n_not_sent = outcomes(ground, HEARTBEAT_BEAT, HEARTBEAT_OUTCOME_NOT_SENT);
    run_until(ground, outcomes(ground, HEARTBEAT_BEAT, HEARTBEAT_OUTCOME_NOT_SENT) > n_not_sent);
    for (size_t i = 0; i < ground->orchestrator.n_seen; i++)
        assert_string_equal(ground->orchestrator.seen[i].authorization, "Bearer good");
}

/* ---- trust ---- */

static void run_program(const char *const *arguments)
{
    char *argv[16] = { NULL };
    for (size_t i = 0; arguments[i]; i++)
        argv[i] = (char *)(uintptr_t)arguments[i];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t pid = 0;
    int status = -1;
    assert_int_equal(posix_spawn(&pid, argv[0], &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void trusts_no_stranger(void **state)
{
    struct ground *ground = *state;
    static const char openssl[] = "/usr/bin/openssl";
    if (access(openssl, X_OK) != 0) {
        print_message("no %s: there is no TLS server to distrust\n", openssl);
        skip();
    }
    char folder[] = "/tmp/heartbeat-tls.XXXXXX", key[64], certificate[64], port[16], url[64];
    assert_non_null(mkdtemp(folder));
    snprintf(key, sizeof key, "%s/key.pem", folder);
    snprintf(certificate, sizeof certificate, "%s/cert.pem", folder);
    run_program((const char *[]){ openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key,
                                  "-out", certificate, "-subj", "/CN=localhost", NULL });
    /* A port that is free a moment later: the orchestrator's own, given back. */
    snprintf(port, sizeof port, "%d", ground->orchestrator.port);
    snprintf(url, sizeof url, "https://localhost:%s", port);
    uv_close((uv_handle_t *)&ground->orchestrator.listener, NULL);
    uv_run(&ground->loop, UV_RUN_NOWAIT);
    char *argv[] = { (char *)(uintptr_t)openssl,
                     (char[]){ "s_server" },
                     (char[]){ "-quiet" },
                     (char[]){ "-www" },
                     (char[]){ "-accept" },
                     port,
                     (char[]){ "-cert" },
                     certificate,
                     (char[]){ "-key" },
                     key,
                     NULL };
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    pid_t pid = 0;
    assert_int_equal(posix_spawn(&pid, openssl, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    struct heartbeat_options options = default_options(ground);
    options.url = url;
    begin(ground, &options);
    /* Until it listens, the problem is another one. */
    run_until(ground, strcasestr(ground->problem, "certificate"));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    unlink(key);
    unlink(certificate);
    rmdir(folder);
    struct heartbeat_counters counters = heartbeat_counters(ground->heartbeat);
    assert_int_equal(counters.n[HEARTBEAT_REGISTER][HEARTBEAT_OUTCOME_OK], 0);
    assert_true(counters.n[HEARTBEAT_REGISTER][HEARTBEAT_OUTCOME_UNREACHABLE] > 0);
}

static void refuses_options(void **state)
{
    struct ground *ground = *state;
    static const char *const urls[] = { "",
                                        "orchestrator",
                                        "ftp://orchestrator",
                                        "file:///etc/passwd",
                                        "unix:///run/x.sock",
                                        "http://user:secret@orchestrator",
                                        "http://orchestrator/?a=b",
                                        "http://orchestrator/#a",
                                        "http://",
                                        "http://a b" };
    for (size_t i = 0; i < COUNT(urls); i++) {
        struct heartbeat_options options = default_options(ground);
        options.url = urls[i];
        if (heartbeat_open(&ground->loop, &options, &ground->heartbeat, NULL) != POOL_INVALID_CONFIG)
            fail_msg("%s is taken", urls[i]);
    }
    struct heartbeat_options options = default_options(ground);
    options.interval_ms = 0;
    assert_int_equal(heartbeat_open(&ground->loop, &options, &ground->heartbeat, NULL), POOL_INVALID_CONFIG);
    assert_null(ground->heartbeat);
}

static void knows_this_host(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        bool is_loopback;
    } cases[] = {
        { "http://127.0.0.1:1/", true },
        { "http://127.8.9.1", true },
        { "http://[::1]:80", true },
        { "https://LocalHost/", true },
        { "http://127.0.0.1.evil", false },
        { "http://128.0.0.1", false },
        { "http://localhost.evil/", false },
        { "http://[::2]", false },
        { "", false },
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_int_equal(http_client_url_is_loopback(cases[i].url), cases[i].is_loopback);
}

/* ---- the end ---- */

static void says_good_bye_when_no_worker_is_left(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    begin(ground, &options);
    run_until(ground, beats(ground) == 1);
    report(ground, 1);
    heartbeat_close(ground->heartbeat, true, 10000, take_closed, ground);
    run_until(ground, ground->is_closed);
    const struct orchestrator_request *last = &ground->orchestrator.seen[ground->orchestrator.n_seen - 1];
    assert_string_equal(last->method, "DELETE");
    assert_string_equal(last->path, POOL_PATH);
    assert_string_equal(last->body, "");
    assert_string_equal(last[-1].path, FAILED_PATH); /* first what is still to be said */
}

static void leaves_quietly_when_workers_stay(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    begin(ground, &options);
    run_until(ground, beats(ground) == 1);
    heartbeat_close(ground->heartbeat, false, 10000, take_closed, ground);
    run_until(ground, ground->is_closed);
    assert_int_equal(count_seen(ground, "DELETE", POOL_PATH), 0);
}

static void does_not_wait_for_ever_at_the_end(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    options.timeout_ms = HOUR_MS;
    begin(ground, &options);
    run_until(ground, beats(ground) == 1);
    ground->orchestrator.leaves.bytes = ground->orchestrator.beats.bytes = NULL;
    size_t n_beats = count_seen(ground, "POST", BEAT_PATH);
    run_until(ground, count_seen(ground, "POST", BEAT_PATH) > n_beats); /* one is under way, too */
    int64_t began_ns = clock_boottime_ns();
    heartbeat_close(ground->heartbeat, true, 200, take_closed, ground);
    run_until(ground, ground->is_closed);
    assert_int_equal(count_seen(ground, "DELETE", POOL_PATH), 1);
    assert_true(clock_boottime_ns() - began_ns >= 195 * NS_PER_MS);
}

static void tries_nothing_twice_at_the_end(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    options.backoff_min_ms = options.backoff_max_ms = HOUR_MS;
    ground->orchestrator.failures.bytes = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
    ground->orchestrator.leaves.bytes = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
    begin(ground, &options);
    run_until(ground, beats(ground) == 1);
    report(ground, 1);
    run_until(ground, outcomes(ground, HEARTBEAT_FAILURE, HEARTBEAT_OUTCOME_SERVER_ERROR) == 1);
    report(ground, 2);
    heartbeat_close(ground->heartbeat, true, HOUR_MS, take_closed, ground);
    run_until(ground, ground->is_closed);
    assert_int_equal(count_seen(ground, "POST", FAILED_PATH), 2);
    assert_int_equal(count_seen(ground, "DELETE", POOL_PATH), 1);
}

static void can_be_closed_by_a_callback(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    ground->closes_at_outcome = true;
    begin(ground, &options);
    run_until(ground, ground->is_closed);
    assert_int_equal(ground->n_outcomes, 1);
    heartbeat_close(NULL, true, 1, NULL, NULL);
}

static void can_be_closed_at_once(void **state)
{
    struct ground *ground = *state;
    struct heartbeat_options options = default_options(ground);
    begin(ground, &options);
    heartbeat_close(ground->heartbeat, true, 10000, take_closed, ground);
    run_until(ground, ground->is_closed);
    assert_int_equal(ground->orchestrator.n_seen, 0); /* it never said hello */
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_there_is),
        cmocka_unit_test(says_how_a_worker_ended),
        cmocka_unit_test(names_kinds_and_outcomes),
        TEST(registers_and_beats),
        TEST(takes_answers_of_any_form),
        TEST(says_nothing_without_facts),
        TEST(waits_until_it_knows_what_to_say),
        TEST(registers_again_when_it_was_forgotten),
        TEST(does_not_hurry_in_a_circle),
        TEST(escapes_the_name_of_the_pool),
        TEST(uses_no_proxy_for_this_host),
        TEST(bears_bad_answers_to_beats),
        TEST(bears_bad_answers_to_registrations),
        TEST(bears_an_orchestrator_that_is_not_there),
        TEST(pauses_longer_and_longer),
        TEST(obeys_retry_after_within_its_own_limit),
        TEST(asks_once_at_a_time),
        TEST(reports_a_death_at_once),
        TEST(offers_reports_again_in_order),
        TEST(drops_reports_that_are_refused),
        TEST(keeps_a_bounded_queue_of_reports),
        cmocka_unit_test_setup_teardown(sends_the_token_as_it_is_now, make_token_file, remove_token_file),
        cmocka_unit_test_setup_teardown(sends_nothing_without_its_token, make_token_file, remove_token_file),
        TEST(trusts_no_stranger),
        TEST(refuses_options),
        cmocka_unit_test(knows_this_host),
        TEST(says_good_bye_when_no_worker_is_left),
        TEST(leaves_quietly_when_workers_stay),
        TEST(does_not_wait_for_ever_at_the_end),
        TEST(tries_nothing_twice_at_the_end),
        TEST(can_be_closed_by_a_callback),
        TEST(can_be_closed_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
