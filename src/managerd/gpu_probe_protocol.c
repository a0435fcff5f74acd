/*
 * The lines between pool-gpu-probe and who started it; see gpu_probe_protocol.h. No input or output here.
 */
#include "managerd/gpu_probe_protocol.h"

#include <inttypes.h>
#include <pool/api.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"

#define INTERVAL_WORD "interval "
#define NOW_WORD      "now"
#define ERROR_START   "{\"error\":"

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
