/*
 * Asking workers what they are at, at this moment: the path that tells their activity, of all of them together. It is no
 * request to them, and keeps none of them busy.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "core/lifecycle/displace.h"
#include "core/lifecycle/http_probe.h"

void activity_looks_done(struct activity_looks *looks)
{
    free(looks->at);
    *looks = (struct activity_looks){ 0 };
}

const struct activity_look *activity_looks_find(const struct activity_looks *looks, const char *worker_id)
{
    for (size_t i = 0; i < looks->n; i++) {
        if (strcmp(looks->at[i].worker_id, worker_id) == 0)
            return &looks->at[i];
    }
    return NULL;
}

struct question {
    const struct pool_worker_info *worker;
    struct http_probe probe;
    struct strbuf body;
};

static void step_all(struct question *questions, size_t n, struct pollfd *polled)
{
    int64_t deadline_ns = clock_boottime_ns() + ACTIVITY_LOOK_MAX_MS * NS_PER_MS;
    for (;;) {
        nfds_t n_open = 0;
        for (size_t i = 0; i < n; i++) {
            http_probe_step(&questions[i].probe);
            short events = http_probe_events(&questions[i].probe);
            if (events)
                polled[n_open++] = (struct pollfd){ .fd = questions[i].probe.fd, .events = events };
        }
        int64_t left_ms = (deadline_ns - clock_boottime_ns()) / NS_PER_MS;
        if (n_open == 0 || left_ms <= 0 || (poll(polled, n_open, (int)left_ms) < 0 && errno != EINTR))
            return;
    }
}

static bool is_asked(const struct pool_may_displace *may_displace, const struct pool_worker_info *worker)
{
    return displace_is_named(may_displace, worker) && worker->host && pool_activity_path(worker->activity);
}

static void begin(struct question *question, const struct pool_worker_info *worker)
{
    question->worker = worker;
    question->probe = (struct http_probe)HTTP_PROBE_INIT;
    question->body = (struct strbuf)STRBUF_INIT(HTTP_PROBE_ANSWER_MAX);
    http_probe_start_whole(&question->probe, worker->host, (uint16_t)worker->port,
                           pool_activity_path(worker->activity), &question->body);
}

static void end(struct question *question, struct activity_look *look)
{
    struct pool_activity_report report;
    http_probe_close(&question->probe);
    snprintf(look->worker_id, sizeof look->worker_id, "%s", question->worker->worker_id);
    if (question->probe.state == HTTP_PROBE_ANSWERED && question->probe.status_code == 200 &&
        pool_activity_read(question->worker->activity, strbuf_text(&question->body), question->body.n,
                           &report))
        look->n_requests = (struct pool_reading){ .is_present = true, .value = report.n_requests };
    strbuf_done(&question->body);
}

enum pool_code activity_looks_ask(const struct pool_may_displace *may_displace,
                                  const struct pool_worker_list *live, struct activity_looks *ret_looks,
                                  struct pool_error *err)
{
    size_t n = 0;
    CLEANUP_FREE struct question *questions = calloc(live->n_workers + 1, sizeof *questions);
    CLEANUP_FREE struct pollfd *polled = calloc(live->n_workers + 1, sizeof *polled);
    CLEANUP(activity_looks_done)
    struct activity_looks looks = { .at = calloc(live->n_workers + 1, sizeof *looks.at) };
    if (!questions || !polled || !looks.at)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < live->n_workers; i++) {
        if (is_asked(may_displace, live->workers[i]))
            begin(&questions[n++], live->workers[i]);
    }
    step_all(questions, n, polled);
    for (size_t i = 0; i < n; i++)
        end(&questions[i], &looks.at[looks.n++]);
    *ret_looks = looks;
    looks.at = NULL;
    return POOL_OK;
}
