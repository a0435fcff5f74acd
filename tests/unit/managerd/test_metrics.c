/*
 * What is counted and how it is written: outcomes, reasons, routes and codes with their limits, buckets, label values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "managerd/metrics.h"
#include "managerd/metrics_text.h"

static struct metrics *open_metrics(void)
{
    struct metrics *metrics = NULL;
    assert_int_equal(metrics_open(&metrics, NULL), POOL_OK);
    return metrics;
}

/* Whether the text has exactly this line. */
static bool has_line(const char *text, const char *line)
{
    size_t n = strlen(line);
    for (const char *at = text; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL) {
        if (strncmp(at, line, n) == 0 && at[n] == '\n')
            return true;
    }
    return false;
}

static void expect_lines(const struct metrics *metrics, const char *const *lines, size_t n)
{
    CLEANUP(strbuf_done) struct strbuf out = STRBUF_INIT(1 << 20);
    metrics_add_text(metrics, &out);
    assert_int_equal(out.failure, STRBUF_FINE);
    for (size_t i = 0; i < n; i++) {
        if (!has_line(strbuf_text(&out), lines[i]))
            fail_msg("there is no %s in\n%s", lines[i], strbuf_text(&out));
    }
}
#define EXPECT(metrics, ...)                                            \
    do {                                                                \
        static const char *const lines[] = { __VA_ARGS__ };             \
        expect_lines((metrics), lines, sizeof lines / sizeof lines[0]); \
    } while (0)

static void test_everything_is_there_from_the_start(void **state)
{
    (void)state;
    struct metrics *metrics = open_metrics();
    EXPECT(metrics, "# TYPE pool_mgr_worker_starts_total counter",
           "pool_mgr_worker_starts_total{outcome=\"ready\"} 0",
           "pool_mgr_worker_starts_total{outcome=\"refused\"} 0",
           "# TYPE pool_mgr_worker_stops_total counter",
           "pool_mgr_worker_stops_total{reason=\"requested\"} 0",
           "pool_mgr_worker_stops_total{reason=\"lost\"} 0",
           "# TYPE pool_mgr_worker_start_duration_seconds histogram",
           "pool_mgr_worker_start_duration_seconds_bucket{le=\"+Inf\"} 0",
           "pool_mgr_worker_start_duration_seconds_sum 0.000000000",
           "pool_mgr_worker_start_duration_seconds_count 0", "# TYPE pool_mgr_http_requests_total counter",
           "# TYPE pool_mgr_http_request_duration_seconds histogram");
    metrics_close(metrics);
    metrics_close(NULL);
}

static void test_starts_and_stops(void **state)
{
    (void)state;
    struct metrics *metrics = open_metrics();
    metrics_count_start(metrics, POOL_OK, 0.2);
    metrics_count_start(metrics, POOL_OK, 3.5);
    metrics_count_start(metrics, POOL_WORKER_START_FAILED, 1);
    metrics_count_start(metrics, POOL_WORKER_START_TIMEOUT, 60);
    metrics_count_start(metrics, POOL_CANCELLED, 1);
    metrics_count_start(metrics, POOL_INSUFFICIENT_VRAM, 0);
    metrics_count_start(metrics, POOL_INVALID_REQUEST, 0);
    metrics_count_stop(metrics, POOL_STOP_SIGNALLED);
    metrics_count_stop(metrics, POOL_STOP_SIGNALLED);
    metrics_count_stop(metrics, POOL_STOP_LOST);
    metrics_count_stop(metrics, (enum pool_stop_reason)99);
    EXPECT(metrics, "pool_mgr_worker_starts_total{outcome=\"ready\"} 2",
           "pool_mgr_worker_starts_total{outcome=\"failed\"} 1",
           "pool_mgr_worker_starts_total{outcome=\"timeout\"} 1",
           "pool_mgr_worker_starts_total{outcome=\"cancelled\"} 1",
           "pool_mgr_worker_starts_total{outcome=\"refused\"} 2",
           "pool_mgr_worker_start_duration_seconds_bucket{le=\"0.1\"} 0",
           "pool_mgr_worker_start_duration_seconds_bucket{le=\"0.25\"} 1",
           "pool_mgr_worker_start_duration_seconds_bucket{le=\"2.5\"} 1",
           "pool_mgr_worker_start_duration_seconds_bucket{le=\"5\"} 2",
           "pool_mgr_worker_start_duration_seconds_bucket{le=\"+Inf\"} 2",
           "pool_mgr_worker_start_duration_seconds_sum 3.700000000",
           "pool_mgr_worker_start_duration_seconds_count 2",
           "pool_mgr_worker_stops_total{reason=\"signalled\"} 2",
           "pool_mgr_worker_stops_total{reason=\"lost\"} 1",
           "pool_mgr_worker_stops_total{reason=\"exited\"} 0");
    metrics_close(metrics);
}

static void test_requests(void **state)
{
    (void)state;
    struct metrics *metrics = open_metrics();
    char copy[] = "/health"; /* the same route, another pointer */
    metrics_count_request(metrics, "/health", 200, 400 * 1000);
    metrics_count_request(metrics, copy, 200, 40 * NS_PER_MS);
    metrics_count_request(metrics, "/health", 503, 40 * NS_PER_SEC);
    metrics_count_request(metrics, NULL, 404, 0);
    metrics_count_request(metrics, "/v2/events", 499, -1);
    EXPECT(metrics, "pool_mgr_http_requests_total{route=\"/health\",code=\"200\"} 2",
           "pool_mgr_http_requests_total{route=\"/health\",code=\"503\"} 1",
           "pool_mgr_http_requests_total{route=\"none\",code=\"404\"} 1",
           "pool_mgr_http_requests_total{route=\"/v2/events\",code=\"499\"} 1",
           "pool_mgr_http_request_duration_seconds_bucket{route=\"/health\",le=\"0.0005\"} 1",
           "pool_mgr_http_request_duration_seconds_bucket{route=\"/health\",le=\"0.05\"} 2",
           "pool_mgr_http_request_duration_seconds_bucket{route=\"/health\",le=\"30\"} 2",
           "pool_mgr_http_request_duration_seconds_bucket{route=\"/health\",le=\"+Inf\"} 3",
           "pool_mgr_http_request_duration_seconds_sum{route=\"/health\"} 40.040400000",
           "pool_mgr_http_request_duration_seconds_count{route=\"/health\"} 3",
           "pool_mgr_http_request_duration_seconds_bucket{route=\"/v2/events\",le=\"0.0005\"} 1");
    metrics_close(metrics);
}

/* Whatever is asked, the text stays bounded, and nothing is lost from its sums. */
static void test_labels_are_bounded(void **state)
{
    (void)state;
    enum { N_ROUTES = 500, N_CODES = 500 };
    static char routes[N_ROUTES][16];
    struct metrics *metrics = open_metrics();
    for (int i = 0; i < N_ROUTES; i++) {
        snprintf(routes[i], sizeof routes[i], "/r%d", i);
        metrics_count_request(metrics, routes[i], 200, 0);
    }
    for (unsigned code = 100; code < 100 + N_CODES; code++)
        metrics_count_request(metrics, routes[0], code, 0);
    CLEANUP(strbuf_done) struct strbuf out = STRBUF_INIT(4 << 20);
    metrics_add_text(metrics, &out);
    size_t n_lines = 0;
    for (const char *at = strbuf_text(&out); *at; at++)
        n_lines += *at == '\n';
    assert_true(n_lines < METRICS_ROUTES_MAX * (METRICS_CODES_MAX + HISTOGRAM_BOUNDS_MAX + 3));
    assert_true(
        has_line(strbuf_text(&out), "pool_mgr_http_requests_total{route=\"other\",code=\"200\"} 437"));
    assert_true(
        has_line(strbuf_text(&out), "pool_mgr_http_request_duration_seconds_count{route=\"/r0\"} 501"));
    metrics_close(metrics);
}

static void test_label_values_and_numbers(void **state)
{
    (void)state;
    CLEANUP(strbuf_done) struct strbuf out = STRBUF_INIT(4096);
    metrics_text_integer(&out, "a", "name", "x\"y\\z\n", INT64_MIN);
    metrics_text_integer(&out, "b", NULL, NULL, INT64_MAX);
    metrics_text_real(&out, "c", "name", "", 0.25);
    assert_string_equal(strbuf_text(&out), "a{name=\"x\\\"y\\\\z\\n\"} -9223372036854775808\n"
                                           "b 9223372036854775807\nc{name=\"\"} 0.25\n");
}

static void test_a_sum_does_not_wrap(void **state)
{
    (void)state;
    static const struct histogram_bounds bounds = { 1, { HISTOGRAM_BOUND(1) } };
    struct histogram histogram = { .sum_ns = INT64_MAX - 5 };
    histogram_observe(&histogram, &bounds, 10);
    assert_int_equal(histogram.sum_ns, INT64_MAX);
    assert_int_equal(histogram.n[0], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_is_there_from_the_start),
        cmocka_unit_test(test_starts_and_stops),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_labels_are_bounded),
        cmocka_unit_test(test_label_values_and_numbers),
        cmocka_unit_test(test_a_sum_does_not_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
