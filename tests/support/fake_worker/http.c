// HTTP/1.1 as far as a worker needs it, and the answers: llama-server's paths, and /fake/... to change the
// worker's behaviour while it runs.
#include "worker.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool parse_request(char *head, struct request *ret)
{
    memset(ret, 0, sizeof *ret);
    char *rest = head;
    char *line = strsep(&rest, "\n");
    ret->method = strsep(&line, " ");
    char *target = strsep(&line, " ");
    if (target == NULL || line == NULL || strncmp(line, "HTTP/1.", 7) != 0)
        return false;
    ret->wants_close = line[7] == '0';
    ret->path = strsep(&target, "?");
    ret->query = target != NULL ? target : "";
    while ((line = strsep(&rest, "\n")) != NULL) {
        char *value = line;
        char *name = strsep(&value, ":");
        if (value == NULL)
            continue;
        value += strspn(value, " \t");
        value[strcspn(value, "\r")] = '\0';
        if (strcasecmp(name, "Content-Length") == 0)
            ret->body_bytes = strtoul(value, NULL, 10);
        else if (strcasecmp(name, "Transfer-Encoding") == 0)
            return false;
        else if (strcasecmp(name, "Expect") == 0)
            ret->expects_continue = true;
        else if (strcasecmp(name, "Connection") == 0 && strcasecmp(value, "close") == 0)
            ret->wants_close = true;
    }
    return true;
}

static void __attribute__((format(printf, 2, 3))) say(struct answer *answer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t room = sizeof answer->body - answer->length;
    int n = vsnprintf(answer->body + answer->length, room, format, args);
    va_end(args);
    if (n > 0)
        answer->length += (size_t)n < room ? (size_t)n : room - 1;
}

// A number of the query string, or absent.
static long long query_number(const struct request *request, const char *name, long long absent)
{
    size_t length = strlen(name);
    for (const char *at = request->query; *at != '\0';) {
        if (strncmp(at, name, length) == 0 && at[length] == '=')
            return strtoll(at + length + 1, NULL, 10);
        at += strcspn(at, "&");
        at += *at == '&';
    }
    return absent;
}

static bool is_busy(const struct worker *worker)
{
    return now_ns() < worker->busy_until_ns || worker->n_completions > 0;
}

static void fail(struct answer *answer, int status, const char *message, const char *type)
{
    answer->status = status;
    say(answer, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"code\":%d}}", message, type, status);
}

static void answer_health(struct worker *worker, const struct request *request, struct answer *answer)
{
    (void)request;
    if (worker->health_status != 0) {
        fail(answer, (int)worker->health_status, "told to be unwell", "server_error");
        return;
    }
    say(answer, "{\"status\":\"ok\"}");
    answer->is_healthy = true;
}

static void answer_models(struct worker *worker, const struct request *request, struct answer *answer)
{
    (void)request;
    say(answer,
        "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"owned_by\":\"fake-worker\"}]}",
        worker->options.model);
}

static void answer_props(struct worker *worker, const struct request *request, struct answer *answer)
{
    (void)request;
    say(answer,
        "{\"default_generation_settings\":{\"n_ctx\":%lld},\"total_slots\":%lld,\"model_path\":\"%s\"}",
        worker->options.context / worker->options.slots, worker->options.slots, worker->options.model);
}

static void answer_slots(struct worker *worker, const struct request *request, struct answer *answer)
{
    (void)request;
    for (long long i = 0; i < worker->options.slots; i++)
        say(answer, "%s{\"id\":%lld,\"n_ctx\":%lld,\"is_processing\":%s}", i == 0 ? "[" : ",", i,
            worker->options.context / worker->options.slots, i == 0 && is_busy(worker) ? "true" : "false");
    say(answer, "]");
}

static void answer_metrics(struct worker *worker, const struct request *request, struct answer *answer)
{
    (void)request;
    answer->type = "text/plain; version=0.0.4";
    const char *const names[] = { "llamacpp:requests_processing", "vllm:num_requests_running" };
    const char *const waiting[] = { "llamacpp:requests_deferred", "vllm:num_requests_waiting" };
    for (int i = 0; i < 2; i++)
        say(answer, "# TYPE %s gauge\n%s %d\n# TYPE %s gauge\n%s 0\n", names[i], names[i], is_busy(worker),
            waiting[i], waiting[i]);
}

static void answer_completion(struct worker *worker, const struct request *request, struct answer *answer)
{
    const char *text = " hello this is a fake worker";
    if (strcmp(request->path, "/completion") == 0)
        say(answer, "{\"content\":\"%s\",\"stop\":true}", text);
    else if (strcmp(request->path, "/v1/chat/completions") == 0)
        say(answer, "{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},", text);
    else
        say(answer, "{\"choices\":[{\"text\":\"%s\",", text);
    if (strcmp(request->path, "/completion") != 0)
        say(answer,
            "\"index\":0,\"finish_reason\":\"stop\"}],\"model\":\"%s\",\"usage\":{\"prompt_tokens\":1,"
            "\"completion_tokens\":6,\"total_tokens\":7}}",
            worker->options.model);
    answer->delay_ms = worker->options.completion_ms;
}

static void set_busy(struct worker *worker, const struct request *request, struct answer *answer)
{
    worker->busy_until_ns = now_ns() + query_number(request, "ms", 0) * NS_PER_MS;
    say(answer, "{}");
}

static void set_health(struct worker *worker, const struct request *request, struct answer *answer)
{
    worker->health_status = query_number(request, "status", 0);
    say(answer, "{}");
}

static void set_mute(struct worker *worker, const struct request *request, struct answer *answer)
{
    worker->muted_until_ns = now_ns() + query_number(request, "ms", 0) * NS_PER_MS;
    say(answer, "{}");
}

static void set_exit(struct worker *worker, const struct request *request, struct answer *answer)
{
    worker->options.exit_code = query_number(request, "code", 1);
    worker->options.crash_signal = query_number(request, "signal", 0);
    worker->timers_ns[TIMER_CRASH] = now_ns() + query_number(request, "ms", 0) * NS_PER_MS;
    say(answer, "{}");
}

static const struct route {
    const char *method, *path;
    bool is_early; // answers while the model is loading
    void (*answer)(struct worker *worker, const struct request *request, struct answer *answer);
} routes[] = {
    { "GET", "/health", false, answer_health },
    { "GET", "/v1/models", true, answer_models }, // as llama-server does: no sign of readiness
    { "GET", "/props", false, answer_props },
    { "GET", "/slots", false, answer_slots },
    { "GET", "/metrics", false, answer_metrics },
    { "POST", "/v1/completions", false, answer_completion },
    { "POST", "/v1/chat/completions", false, answer_completion },
    { "POST", "/completion", false, answer_completion },
    { "POST", "/fake/busy", true, set_busy },
    { "POST", "/fake/health", true, set_health },
    { "POST", "/fake/mute", true, set_mute },
    { "POST", "/fake/exit", true, set_exit },
};

void answer_request(struct worker *worker, const struct request *request, struct answer *ret)
{
    ret->status = 200;
    ret->type = "application/json; charset=utf-8";
    ret->length = 0;
    ret->delay_ms = 0;
    ret->is_healthy = false;
    if (now_ns() < worker->muted_until_ns)
        ret->delay_ms = -1;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (strcmp(routes[i].path, request->path) != 0 || strcmp(routes[i].method, request->method) != 0)
            continue;
        if (!worker->is_ready && !routes[i].is_early)
            fail(ret, 503, "Loading model", "unavailable_error");
        else
            routes[i].answer(worker, request, ret);
        return;
    }
    fail(ret, 404, "File Not Found", "not_found_error");
}
