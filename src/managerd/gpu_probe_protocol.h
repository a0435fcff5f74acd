/*
 * What pool-gpu-probe and who started it say to each other: lines of text, each ended by a newline.
 *
 * The helper answers on its standard output, one JSON object a line: what pool_gpu_list_encode gives, or, when the
 * inventory could not be read, what pool_error_encode gives. What the driver tells by itself is a line too, at any time:
 * {"gpu_event": {"uuid": …, "kind": "xid", "data": 79}}. It takes commands on its standard input: "interval MS"
 * and "now". End of file means: end. A helper and a daemon of different versions understand each other as far as
 * the API does: unknown fields are ignored.
 */
#ifndef MANAGERD_GPU_PROBE_PROTOCOL_H
#define MANAGERD_GPU_PROBE_PROTOCOL_H

#include <pool/error.h>
#include <pool/gpu.h>
#include <pool/gpu_event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"

#define PROBE_ANSWER_MAX_BYTES  ((size_t)16 << 20) /* 256 GPUs with 500 processes each are 13 MiB */
#define PROBE_COMMAND_MAX_BYTES ((size_t)64)
#define PROBE_INTERVAL_MIN_MS   INT64_C(10) /* a driver that is asked more often serves nobody else */
#define PROBE_INTERVAL_MAX_MS   (INT64_C(3600) * 1000)

enum probe_command_kind { PROBE_COMMAND_INTERVAL, PROBE_COMMAND_NOW };

struct probe_command {
    enum probe_command_kind kind;
    int64_t interval_ms; /* INTERVAL */
};

/* From a line without its newline. false when it is none. */
bool probe_command_parse(const char *line, struct probe_command *ret_command);
/* With its newline; returns the number of bytes. */
size_t probe_command_format(const struct probe_command *command, char text[PROBE_COMMAND_MAX_BYTES]);

enum probe_answer_kind { PROBE_ANSWER_SNAPSHOT, PROBE_ANSWER_ERROR, PROBE_ANSWER_EVENT };

struct probe_answer {
    enum probe_answer_kind kind;
    struct pool_gpu_list *list;  /* SNAPSHOT; owned by the caller */
    struct pool_error error;     /* ERROR: why the inventory could not be read */
    struct pool_gpu_event event; /* EVENT */
};

/*
 * Reads a line without its newline. What is neither a snapshot with a source and a time nor an error nor an event is
 * INVALID_REQUEST. An event of a kind that is not known yet is one of the kind OTHER.
 */
POOL_MUST_CHECK enum pool_code probe_answer_decode(const char *line, size_t n,
                                                   struct probe_answer *ret_answer, struct pool_error *err);

/* An event as a line without its newline. Owned by the caller; NULL: no memory. */
char *probe_event_encode(const struct pool_gpu_event *event);

/* Cuts what comes in pieces into lines. */
struct probe_lines {
    struct strbuf line; /* its limit is that of a line */
};
#define PROBE_LINES_INIT(limit_bytes)    \
    {                                    \
        .line = STRBUF_INIT(limit_bytes) \
    }

enum probe_lines_result {
    PROBE_LINES_FED,
    PROBE_LINES_STOPPED, /* on_line returned false: what was behind that line is lost */
    PROBE_LINES_TOO_LONG,
    PROBE_LINES_NO_MEMORY,
};

/* The line is NUL-terminated, without its newline, and borrowed for the call. Returns whether to go on. */
typedef bool probe_line_fn(void *ctx, const char *line, size_t n);

enum probe_lines_result probe_lines_feed(struct probe_lines *lines, const char *data, size_t n,
                                         probe_line_fn *on_line, void *ctx);
void probe_lines_done(struct probe_lines *lines);

#endif
