/*
 * Counters and histograms; see metrics.h.
 */
#include "managerd/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "managerd/metrics_text.h"

/* What becomes of a start. X(name, text) */
#define METRICS_STARTS(X)                                                   \
    X(READY, "ready")                                                       \
    X(FAILED, "failed") /* it ended before it was ready */                  \
    X(TIMEOUT, "timeout")                                                   \
    X(CANCELLED, "cancelled") /* somebody stopped it before it was ready */ \
    X(REFUSED, "refused")     /* nothing was started */

enum metrics_start {
#define METRICS_X(name, text) METRICS_START_##name,
    METRICS_STARTS(METRICS_X)
#undef METRICS_X
};
#define METRICS_N_STARTS 5

static const char *const start_names[METRICS_N_STARTS] = {
#define METRICS_X(name, text) [METRICS_START_##name] = text,
    METRICS_STARTS(METRICS_X)
#undef METRICS_X
};

#define N_STOP_REASONS (POOL_STOP_LOST + 1)

static const struct histogram_bounds request_bounds = {
    10,
    { HISTOGRAM_BOUND(0.0005), HISTOGRAM_BOUND(0.001), HISTOGRAM_BOUND(0.005), HISTOGRAM_BOUND(0.01),
      HISTOGRAM_BOUND(0.05), HISTOGRAM_BOUND(0.1), HISTOGRAM_BOUND(0.5), HISTOGRAM_BOUND(1),
      HISTOGRAM_BOUND(5), HISTOGRAM_BOUND(30) }
};
/* From an engine that is a process and no more to one that reads hundreds of GiB from a network. */
static const struct histogram_bounds start_bounds = {
    14,
    { HISTOGRAM_BOUND(0.05), HISTOGRAM_BOUND(0.1), HISTOGRAM_BOUND(0.25), HISTOGRAM_BOUND(0.5),
      HISTOGRAM_BOUND(1), HISTOGRAM_BOUND(2.5), HISTOGRAM_BOUND(5), HISTOGRAM_BOUND(10), HISTOGRAM_BOUND(20),
      HISTOGRAM_BOUND(40), HISTOGRAM_BOUND(80), HISTOGRAM_BOUND(160), HISTOGRAM_BOUND(320),
      HISTOGRAM_BOUND(640) }
};

struct code_count {
    unsigned status;
    uint64_t n;
};

struct route_counts {
    const char *route;
    size_t n_codes;
    struct code_count codes[METRICS_CODES_MAX]; /* the last one takes what does not fit */
    struct histogram durations;
};

struct metrics {
    uint64_t n_starts[METRICS_N_STARTS];
    uint64_t n_stops[N_STOP_REASONS];
    struct histogram start_durations;
    size_t n_routes;
    struct route_counts
        *routes[METRICS_ROUTES_MAX]; /* made when first asked for; the last one takes the rest */
};

enum pool_code metrics_open(struct metrics **ret_metrics, struct pool_error *err)
{
    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (!metrics)
        return pool_error_no_memory(err);
    *ret_metrics = metrics;
    return POOL_OK;
}

void metrics_close(struct metrics *metrics)
{
    if (!metrics)
        return;
    for (size_t i = 0; i < metrics->n_routes; i++)
        free(metrics->routes[i]);
    free(metrics);
}

/* ---- counting ---- */

static enum metrics_start start_of(enum pool_code outcome)
{
    if (outcome == POOL_OK)
        return METRICS_START_READY;
    if (outcome == POOL_WORKER_START_FAILED)
        return METRICS_START_FAILED;
    if (outcome == POOL_WORKER_START_TIMEOUT)
        return METRICS_START_TIMEOUT;
    return outcome == POOL_CANCELLED ? METRICS_START_CANCELLED : METRICS_START_REFUSED;
}

void metrics_count_start(struct metrics *metrics, enum pool_code outcome, double seconds)
{
    enum metrics_start start = start_of(outcome);
    metrics->n_starts[start]++;
    if (start == METRICS_START_READY)
        histogram_observe(&metrics->start_durations, &start_bounds, (int64_t)(seconds * (double)NS_PER_SEC));
}

void metrics_count_stop(struct metrics *metrics, enum pool_stop_reason reason)
{
    if ((unsigned)reason < N_STOP_REASONS)
        metrics->n_stops[reason]++;
}

/* NULL: no memory. */
static struct route_counts *counts_of(struct metrics *metrics, const char *route)
{
    for (size_t i = 0; i < metrics->n_routes; i++) {
        struct route_counts *counts = metrics->routes[i];
        if (counts->route == route || strcmp(counts->route, route) == 0)
            return counts;
    }
    if (metrics->n_routes == METRICS_ROUTES_MAX)
        return metrics->routes[METRICS_ROUTES_MAX - 1];
    struct route_counts *counts = calloc(1, sizeof *counts);
    if (!counts)
        return NULL;
    counts->route = metrics->n_routes == METRICS_ROUTES_MAX - 1 ? "other" : route;
    metrics->routes[metrics->n_routes++] = counts;
    return counts;
}

static void count_code(struct route_counts *counts, unsigned status)
{
    size_t i = 0;
    while (i < counts->n_codes && counts->codes[i].status != status)
        i++;
    if (i == counts->n_codes) {
        if (i == METRICS_CODES_MAX) {
            counts->codes[i - 1].status = 0;
            i--;
        } else {
            counts->codes[i].status = status;
            counts->n_codes++;
        }
    }
    counts->codes[i].n++;
}

void metrics_count_request(struct metrics *metrics, const char *route, unsigned status, int64_t duration_ns)
{
    struct route_counts *counts = counts_of(metrics, route ? route : "none");
    if (!counts)
        return;
    count_code(counts, status);
    histogram_observe(&counts->durations, &request_bounds, duration_ns);
}

/* ---- text ---- */

static void add_requests(const struct metrics *metrics, struct strbuf *out)
{
    metrics_text_family(out, METRICS_PREFIX "http_requests_total", "counter",
                        "Requests answered, by route and status; 499: the client left without an answer.");
    for (size_t i = 0; i < metrics->n_routes; i++) {
        const struct route_counts *counts = metrics->routes[i];
        for (size_t j = 0; j < counts->n_codes; j++) {
            strbuf_add_text(out, METRICS_PREFIX "http_requests_total{route=\"");
            metrics_text_label_value(out, counts->route);
            strbuf_printf(out, "\",code=\"%u\"} %llu\n", counts->codes[j].status,
                          (unsigned long long)counts->codes[j].n);
        }
    }
    metrics_text_family(
        out, METRICS_PREFIX "http_request_duration_seconds", "histogram",
        "From the request line to the last byte of the answer; a stream lasts as long as it is read.");
    for (size_t i = 0; i < metrics->n_routes; i++)
        metrics_text_histogram(out, METRICS_PREFIX "http_request_duration_seconds", "route",
                               metrics->routes[i]->route, &metrics->routes[i]->durations, &request_bounds);
}

void metrics_add_text(const struct metrics *metrics, struct strbuf *out)
{
    metrics_text_family(out, METRICS_PREFIX "worker_starts_total", "counter",
                        "Starts that are over, by what became of them.");
    for (size_t i = 0; i < METRICS_N_STARTS; i++)
        metrics_text_integer(out, METRICS_PREFIX "worker_starts_total", "outcome", start_names[i],
                             (int64_t)metrics->n_starts[i]);
    metrics_text_family(out, METRICS_PREFIX "worker_start_duration_seconds", "histogram",
                        "From the request to a worker that is proven ready.");
    metrics_text_histogram(out, METRICS_PREFIX "worker_start_duration_seconds", NULL, NULL,
                           &metrics->start_durations, &start_bounds);
    metrics_text_family(out, METRICS_PREFIX "worker_stops_total", "counter",
                        "Workers that stopped, by reason.");
    for (int reason = POOL_STOP_NONE + 1; reason < N_STOP_REASONS; reason++)
        metrics_text_integer(out, METRICS_PREFIX "worker_stops_total", "reason",
                             pool_stop_reason_name((enum pool_stop_reason)reason),
                             (int64_t)metrics->n_stops[reason]);
    add_requests(metrics, out);
}
