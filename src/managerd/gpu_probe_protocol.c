/*
 * The lines between pool-gpu-probe and who started it; see gpu_probe_protocol.h. No input or output here.
 */
#include "managerd/gpu_probe_protocol.h"

#include <inttypes.h>
#include <pool/api.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/number.h"

#define INTERVAL_WORD "interval "
#define NOW_WORD      "now"
#define ERROR_START   "{\"error\":"
#define EVENT_START   "{\"gpu_event\":"

bool probe_command_parse(const char *line, struct probe_command *ret_command)
{
    if (strcmp(line, NOW_WORD) == 0) {
        *ret_command = (struct probe_command){ .kind = PROBE_COMMAND_NOW };
        return true;
    }
    size_t n_word = sizeof INTERVAL_WORD - 1;
    int64_t interval_ms = 0;
    if (strncmp(line, INTERVAL_WORD, n_word) != 0 ||
        !parse_int64(line + n_word, PROBE_INTERVAL_MIN_MS, PROBE_INTERVAL_MAX_MS, &interval_ms))
        return false;
    *ret_command = (struct probe_command){ PROBE_COMMAND_INTERVAL, interval_ms };
    return true;
}

size_t probe_command_format(const struct probe_command *command, char text[PROBE_COMMAND_MAX_BYTES])
{
    int n = 0;
    switch (command->kind) {
    case PROBE_COMMAND_NOW: n = snprintf(text, PROBE_COMMAND_MAX_BYTES, NOW_WORD "\n"); break;
    case PROBE_COMMAND_INTERVAL:
        n = snprintf(text, PROBE_COMMAND_MAX_BYTES, INTERVAL_WORD "%" PRId64 "\n", command->interval_ms);
        break;
    }
    return (size_t)n;
}

static void release_list(struct pool_gpu_list **list)
{
    pool_gpu_list_free(*list);
}

char *probe_event_encode(const struct pool_gpu_event *event)
{
    const char *kind = pool_gpu_event_kind_name(event->kind);
    CLEANUP_JSON json_t *line =
        event->gpu_instance_id.is_present
            ? json_pack("{s:{s:s, s:s, s:I, s:I}}", "gpu_event", "uuid", event->uuid, "kind", kind, "data",
                        (json_int_t)event->data, "gpu_instance_id", (json_int_t)event->gpu_instance_id.value)
            : json_pack("{s:{s:s, s:s, s:I}}", "gpu_event", "uuid", event->uuid, "kind", kind, "data",
                        (json_int_t)event->data);
    return line ? json_print(line) : NULL;
}

static enum pool_code decode_event(const char *line, size_t n, struct probe_answer *ret_answer,
                                   struct pool_error *err)
{
    struct json_failure failure;
    CLEANUP_JSON json_t *whole = json_parse(line, n, &failure);
    if (!whole && failure.is_no_memory)
        return pool_error_no_memory(err);
    const json_t *body = json_object_get(whole, "gpu_event");
    const char *uuid = json_string_value(json_object_get(body, "uuid"));
    const char *kind = json_string_value(json_object_get(body, "kind"));
    const json_t *data = json_object_get(body, "data");
    const json_t *instance = json_object_get(body, "gpu_instance_id");
    struct probe_answer answer = { .kind = PROBE_ANSWER_EVENT };
    if (!uuid || strlen(uuid) >= sizeof answer.event.uuid || !kind || !json_is_integer(data) ||
        (instance && !json_is_integer(instance)))
        return pool_error_set(err, POOL_INVALID_REQUEST, "an event says its device, its kind and its data");
    memcpy(answer.event.uuid, uuid, strlen(uuid) + 1);
    if (!pool_gpu_event_kind_from_name(kind, &answer.event.kind))
        answer.event.kind = POOL_GPU_EVENT_OTHER;
    answer.event.data = json_integer_value(data);
    if (instance)
        answer.event.gpu_instance_id = (struct pool_reading){ true, json_integer_value(instance) };
    *ret_answer = answer;
    return POOL_OK;
}

enum pool_code probe_answer_decode(const char *line, size_t n, struct probe_answer *ret_answer,
                                   struct pool_error *err)
{
    size_t n_start = sizeof ERROR_START - 1;
    if (n >= n_start && memcmp(line, ERROR_START, n_start) == 0) {
        struct probe_answer answer = { .kind = PROBE_ANSWER_ERROR, .error = POOL_ERROR_INIT };
        enum pool_code code = pool_error_decode(line, n, &answer.error, err);
        if (code == POOL_OK)
            *ret_answer = answer;
        return code;
    }
    if (n >= sizeof EVENT_START - 1 && memcmp(line, EVENT_START, sizeof EVENT_START - 1) == 0)
        return decode_event(line, n, ret_answer, err);
    CLEANUP(release_list) struct pool_gpu_list *list = NULL;
    enum pool_code code = pool_gpu_list_decode(line, n, &list, err);
    if (code != POOL_OK)
        return code;
    if (list->source[0] == '\0' || list->taken_boottime_ns <= 0)
        return pool_error_set(err, POOL_INVALID_REQUEST, "a snapshot says its source and its time");
    if (list->n_gpus > POOL_GPUS_MAX)
        return pool_error_set(err, POOL_INVALID_REQUEST, "%zu GPUs are more than %d", list->n_gpus,
                              POOL_GPUS_MAX);
    *ret_answer = (struct probe_answer){ .kind = PROBE_ANSWER_SNAPSHOT, .list = take_ptr(&list) };
    return POOL_OK;
}

enum probe_lines_result probe_lines_feed(struct probe_lines *lines, const char *data, size_t n,
                                         probe_line_fn *on_line, void *ctx)
{
    while (n > 0) {
        const char *newline = memchr(data, '\n', n);
        size_t n_piece = newline ? (size_t)(newline - data) : n;
        if (!strbuf_add(&lines->line, data, n_piece))
            return lines->line.failure == STRBUF_NO_MEMORY ? PROBE_LINES_NO_MEMORY : PROBE_LINES_TOO_LONG;
        if (!newline)
            return PROBE_LINES_FED;
        bool goes_on = on_line(ctx, strbuf_text(&lines->line), lines->line.n);
        strbuf_reset(&lines->line);
        if (!goes_on)
            return PROBE_LINES_STOPPED;
        data += n_piece + 1;
        n -= n_piece + 1;
    }
    return PROBE_LINES_FED;
}

void probe_lines_done(struct probe_lines *lines)
{
    strbuf_done(&lines->line);
}
