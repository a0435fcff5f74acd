/*
 * Server-sent events from the bytes of an answer: HTML standard, section 9.2.6. Bytes come in pieces that end anywhere.
 * "retry" is not used: when to ask again is decided by who asks.
 */
#ifndef CLI_EVENT_STREAM_H
#define CLI_EVENT_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/strbuf.h"

#define EVENT_LINE_MAX    ((size_t)4 << 20) /* bytes; the daemon's own limit is below */
#define EVENT_DATA_MAX    ((size_t)4 << 20)
#define EVENT_LAST_ID_MAX 128 /* longer ids are not remembered */
#define EVENT_TYPE_MAX    64

struct event_message {
    const char *id;   /* of the last one that had one; "" before */
    const char *type; /* "message" when none was said */
    const char *data; /* may hold line feeds, never a NUL in the middle that anybody sees */
};

/* All of a message is borrowed for the call. false: no more is wanted. */
typedef bool event_message_fn(const struct event_message *message, void *context);

struct event_stream {
    event_message_fn *fn;
    void *context;
    struct strbuf line, data;
    char type[EVENT_TYPE_MAX];
    char last_id[EVENT_LAST_ID_MAX]; /* to go on behind; stays through event_stream_reset */
    bool has_data;
    bool was_return; /* the last byte was CR: an LF behind it is of the same line's end */
    bool is_first;   /* nothing was read yet: a byte order mark may come */
    bool is_ended;   /* by fn */
};

void event_stream_init(struct event_stream *stream, event_message_fn *fn, void *context);
void event_stream_done(struct event_stream *stream);
/* A new connection: what was half read is forgotten, the last id is not. */
void event_stream_reset(struct event_stream *stream);
/* false: fn wants no more, a limit was passed or memory ran out (line.failure, data.failure). */
bool event_stream_feed(struct event_stream *stream, const char *bytes, size_t n);

#endif
