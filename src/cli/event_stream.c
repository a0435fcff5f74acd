/*
 * Reading server-sent events; see event_stream.h.
 */
#include "cli/event_stream.h"

#include <stdio.h>
#include <string.h>

#define BYTE_ORDER_MARK "\xef\xbb\xbf"

void event_stream_init(struct event_stream *stream, event_message_fn *fn, void *context)
{
    *stream = (struct event_stream){ .fn = fn,
                                     .context = context,
                                     .line = STRBUF_INIT(EVENT_LINE_MAX),
                                     .data = STRBUF_INIT(EVENT_DATA_MAX),
                                     .is_first = true };
}

void event_stream_done(struct event_stream *stream)
{
    strbuf_done(&stream->line);
    strbuf_done(&stream->data);
}

void event_stream_reset(struct event_stream *stream)
{
    strbuf_reset(&stream->line);
    strbuf_reset(&stream->data);
    stream->type[0] = '\0';
    stream->has_data = false;
    stream->was_return = false;
    stream->is_first = true;
    stream->is_ended = false;
}

static void dispatch(struct event_stream *stream)
{
    if (stream->has_data) {
        struct event_message message = { .id = stream->last_id,
                                         .type = stream->type[0] ? stream->type : "message",
                                         .data = strbuf_text(&stream->data) };
        stream->is_ended = !stream->fn(&message, stream->context);
    }
    strbuf_reset(&stream->data);
    stream->has_data = false;
    stream->type[0] = '\0';
}

static void take_field(struct event_stream *stream, const char *name, size_t n_name, const char *value)
{
    if (n_name == 4 && memcmp(name, "data", 4) == 0) {
        if (stream->has_data)
            strbuf_add_char(&stream->data, '\n');
        strbuf_add_text(&stream->data, value);
        stream->has_data = true;
    } else if (n_name == 5 && memcmp(name, "event", 5) == 0) {
        snprintf(stream->type, sizeof stream->type, "%s", value);
    } else if (n_name == 2 && memcmp(name, "id", 2) == 0 && strlen(value) < sizeof stream->last_id) {
        snprintf(stream->last_id, sizeof stream->last_id, "%s", value);
    }
}

static void take_line(struct event_stream *stream)
{
    const char *line = strbuf_text(&stream->line);
    if (stream->is_first && strncmp(line, BYTE_ORDER_MARK, 3) == 0)
        line += 3;
    stream->is_first = false;
    size_t n_name = strcspn(line, ":");
    if (!*line) {
        dispatch(stream);
    } else if (n_name > 0) { /* else a comment, which is how the daemon shows that it is there */
        const char *value = line + n_name + (line[n_name] == ':');
        take_field(stream, line, n_name, value + (*value == ' '));
    }
    strbuf_reset(&stream->line);
}

bool event_stream_feed(struct event_stream *stream, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n && !stream->is_ended;) {
        if (stream->was_return && bytes[i] == '\n') {
            stream->was_return = false;
            i++;
            continue;
        }
        stream->was_return = false;
        size_t length = 0;
        while (i + length < n && bytes[i + length] != '\n' && bytes[i + length] != '\r')
            length++;
        strbuf_add(&stream->line, bytes + i, length);
        i += length;
        if (i == n)
            break;
        stream->was_return = bytes[i] == '\r';
        i++;
        if (stream->line.failure != STRBUF_FINE)
            return false;
        take_line(stream);
    }
    return !stream->is_ended && stream->line.failure == STRBUF_FINE && stream->data.failure == STRBUF_FINE;
}
