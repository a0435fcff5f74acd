/*
 * Requests in flight, as engines tell them, read from the answer to a probe. No I/O.
 *
 * llama-server: GET /slots is an array with "is_processing" a slot; "id_task" is the number of the slot's last request,
 * from a counter that all tasks share, and stays when it is done (tools/server/README.md of llama.cpp). vLLM: GET
 * /metrics, Prometheus text format, with gauges of running and waiting requests and a counter of finished ones, a line
 * an engine (docs/design/metrics.md of vLLM).
 */
#include <pool/lifecycle.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define NUMBER_MAX   64   /* bytes of a metric's value */
#define REQUESTS_MAX 1e15 /* what a double counts exactly, with room for sums */

const char *pool_activity_path(enum pool_activity activity)
{
    switch (activity) {
    case POOL_ACTIVITY_NONE: return NULL;
    case POOL_ACTIVITY_LLAMA_SERVER: return "/slots";
    case POOL_ACTIVITY_VLLM: return "/metrics";
    }
    return NULL;
}

static bool read_slots(const char *body, size_t n, struct pool_activity_report *ret_activity)
{
    struct json_failure failure;
    struct pool_activity_report activity = { 0 };
    CLEANUP_JSON json_t *slots = json_parse(body, n, &failure);
    size_t i;
    json_t *slot;
    if (!json_is_array(slots))
        return false;
    json_array_foreach(slots, i, slot) {
        const json_t *is_processing = json_object_get(slot, "is_processing");
        const json_t *task = json_object_get(slot, "id_task");
        if (!json_is_boolean(is_processing))
            return false;
        activity.n_requests += json_is_true(is_processing);
        /* From 1, so that the very first request is told from none. */
        if (json_is_integer(task) && (double)json_integer_value(task) + 1 > activity.mark)
            activity.mark = (double)json_integer_value(task) + 1;
    }
    *ret_activity = activity;
    return true;
}

/* Behind the labels, which may hold any character in quotes; NULL when they do not end in this line. */
static const char *skip_labels(const char *at, const char *end)
{
    bool is_quoted = false;
    for (; at < end; at++) {
        if (is_quoted && *at == '\\' && at + 1 < end)
            at++;
        else if (*at == '"')
            is_quoted = !is_quoted;
        else if (*at == '}' && !is_quoted)
            return at + 1;
    }
    return NULL;
}

/* The value of a sample "name{labels} value timestamp"; false for a line of another metric. */
static bool read_sample(const char *line, const char *end, const char *name, double *ret_value)
{
    size_t n_name = strlen(name);
    char text[NUMBER_MAX];
    if ((size_t)(end - line) <= n_name || memcmp(line, name, n_name) != 0)
        return false;
    const char *at = line + n_name;
    if (*at == '{')
        at = skip_labels(at + 1, end);
    if (!at || at >= end || (*at != ' ' && *at != '\t'))
        return false;
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    size_t n = 0;
    while (at + n < end && at[n] != ' ' && at[n] != '\t' && at[n] != '\r')
        n++;
    if (n == 0 || n >= sizeof text)
        return false;
    memcpy(text, at, n);
    text[n] = '\0';
    char *rest;
    double value = strtod(text, &rest);
    if (*rest || !isfinite(value) || value < 0 || value > REQUESTS_MAX)
        return false;
    *ret_value = value;
    return true;
}

/* Of a number that is not negative and fits. */
static int64_t round_up(double number)
{
    int64_t whole = (int64_t)number;
    return whole + ((double)whole < number);
}

static bool read_metrics(const char *body, size_t n, struct pool_activity_report *ret_activity)
{
    const char *end = body + n;
    double n_requests = 0, n_finished = 0, value;
    bool is_told = false;
    for (const char *line = body; line < end;) {
        const char *line_end = memchr(line, '\n', (size_t)(end - line));
        if (!line_end)
            line_end = end;
        if (read_sample(line, line_end, "vllm:num_requests_running", &value) ||
            read_sample(line, line_end, "vllm:num_requests_waiting", &value)) {
            n_requests += value;
            is_told = true;
        } else if (read_sample(line, line_end, "vllm:request_success_total", &value)) {
            n_finished += value;
        }
        line = line_end + 1;
    }
    if (!is_told || n_requests > REQUESTS_MAX)
        return false;
    *ret_activity = (struct pool_activity_report){ round_up(n_requests), n_finished };
    return true;
}

bool pool_activity_read(enum pool_activity activity, const char *body, size_t n,
                        struct pool_activity_report *ret_activity)
{
    switch (activity) {
    case POOL_ACTIVITY_NONE: return false;
    case POOL_ACTIVITY_LLAMA_SERVER: return read_slots(body, n, ret_activity);
    case POOL_ACTIVITY_VLLM: return read_metrics(body, n, ret_activity);
    }
    return false;
}
