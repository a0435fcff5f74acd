/*
 * Answers that grow: the event stream (Server-Sent Events, HTML standard section 9.2) and workers' logs.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/strbuf.h"
#include "managerd/routes.h"
#include "managerd/stream_limits.h"

/* ---- events ---- */

/* Whoever comes back is told what was kept, with its id and type, and must not be too far behind by that alone. */
_Static_assert(EVENTS_KEPT_MAX_BYTES + 2 * EVENTS_KEPT_MAX * EVENT_ID_MAX < HTTP_STREAM_BACKLOG_BYTES,
               "a reader that resumes would be cut off for being slow");

struct event_stream {
    struct daemon *daemon;
    struct http_request *request;
    struct event_reader *reader;
};

static void send_event(const struct event *event, void *context)
{
    struct event_stream *stream = context;
    char id[EVENT_ID_MAX];
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(EVENT_MAX_BYTES);
    event_log_format_id(stream->daemon->events, event->revision, id);
    strbuf_printf(&text, "id: %s\nevent: %s\ndata: %s\n\n", id, event->type, event->json);
    if (text.failure == STRBUF_FINE)
        http_stream_send(stream->request, strbuf_text(&text), text.n);
}

/*
 * What came between is lost to this reader: it has to read the state anew. What is kept follows, so that what happened
 * since a daemon was started is not missed either. Without an id: a reader who is cut off here tries the same again.
 */
static void send_reset(const struct event_stream *stream)
{
    char id[EVENT_ID_MAX];
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(EVENT_MAX_BYTES);
    const struct event_log *events = stream->daemon->events;
    event_log_format_id(events, event_log_revision(events), id);
    strbuf_printf(&text,
                  "event: reset\ndata: {\"reason\":\"events were missed, read /v2/state\","
                  "\"generation\":\"%s\"}\n\n",
                  id);
    if (text.failure == STRBUF_FINE)
        http_stream_send(stream->request, strbuf_text(&text), text.n);
}

static void end_event_stream(struct http_request *request, void *context)
{
    struct event_stream *stream = context;
    event_log_unsubscribe(stream->daemon->events, stream->reader);
    http_stream_end(request);
    free(stream);
}

void handle_events(struct daemon *daemon, struct http_request *request)
{
    struct pool_error error = POOL_ERROR_INIT;
    CLEANUP_FREE struct event_stream *stream = calloc(1, sizeof *stream);
    CLEANUP_FREE char *last_id = NULL;
    const char *header = http_request_header(request, "Last-Event-ID");
    if (header)
        last_id = strdup(header);
    if (!stream || (header && !last_id)) {
        pool_error_no_memory(&error);
        http_respond_error(request, &error);
        return;
    }
    *stream = (struct event_stream){ .daemon = daemon, .request = request };
    if (event_log_subscribe(daemon->events, send_event, stream, &stream->reader, &error) != POOL_OK) {
        http_respond_error(request, &error);
        return;
    }
    if (http_stream_begin(request, "text/event-stream", &error) != POOL_OK) {
        event_log_unsubscribe(daemon->events, stream->reader);
        http_respond_error(request, &error);
        return;
    }
    http_stream_ping(request);
    http_request_on_gone(request, end_event_stream, stream);
    if (last_id && !event_log_is_resumable(daemon->events, last_id))
        send_reset(stream);
    if (last_id)
        event_log_replay(daemon->events, last_id, send_event, stream);
    take_ptr(&stream);
}

/* ---- logs ---- */

struct log_stream {
    struct daemon *daemon;
    struct http_request *request;
    char worker_id[POOL_WORKER_ID_MAX + 1];
    int fd;
    off_t offset;
    uv_timer_t timer;
};

static void free_log_stream(uv_handle_t *handle)
{
    struct log_stream *stream = handle->data;
    close_fd(&stream->fd);
    free(stream);
}

static void end_log_stream(struct http_request *request, void *context)
{
    struct log_stream *stream = context;
    http_stream_end(request);
    uv_close((uv_handle_t *)&stream->timer, free_log_stream);
}

static void send_new_log(uv_timer_t *timer)
{
    struct log_stream *stream = timer->data;
    bool is_alive = supervisor_find(stream->daemon->supervisor, stream->worker_id) != NULL;
    for (;;) {
        char chunk[16384];
        ssize_t n = pread(stream->fd, chunk, sizeof chunk, stream->offset);
        if (n <= 0)
            break;
        stream->offset += n;
        if (!http_stream_send(stream->request, chunk, (size_t)n))
            return; /* on_gone follows */
    }
    if (!is_alive) /* looked at before the last read, so nothing of it is missed */
        end_log_stream(stream->request, stream);
}

/* The offset at which the last n lines begin. */
static off_t tail_offset(int fd, int64_t n_lines)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return 0;
    if (n_lines == 0)
        return st.st_size;
    off_t start = st.st_size > LOG_TAIL_MAX_BYTES ? st.st_size - LOG_TAIL_MAX_BYTES : 0;
    size_t n = (size_t)(st.st_size - start);
    CLEANUP_FREE char *text = malloc(n + 1);
    ssize_t have = text ? pread(fd, text, n, start) : -1;
    if (have <= 0)
        return st.st_size;
    ssize_t at = have;
    if (text[at - 1] == '\n')
        at--;
    for (; at > 0; at--) {
        if (text[at - 1] == '\n' && --n_lines <= 0)
            break;
    }
    return start + at;
}

static void follow_log(struct daemon *daemon, struct http_request *request, int *fd, off_t offset)
{
    struct pool_error error = POOL_ERROR_INIT;
    struct log_stream *stream = calloc(1, sizeof *stream);
    if (!stream) {
        pool_error_no_memory(&error);
        http_respond_error(request, &error);
        return;
    }
    *stream = (struct log_stream){ .daemon = daemon, .request = request, .fd = -1, .offset = offset };
    snprintf(stream->worker_id, sizeof stream->worker_id, "%s", http_request_segment(request, 2));
    if (http_stream_begin(request, "text/plain; charset=utf-8", &error) != POOL_OK) {
        free(stream);
        http_respond_error(request, &error);
        return;
    }
    stream->fd = take_fd(fd);
    uv_timer_init(daemon->loop, &stream->timer);
    stream->timer.data = stream;
    http_request_on_gone(request, end_log_stream, stream);
    uv_timer_start(&stream->timer, send_new_log, 0, LOG_LOOK_MS);
}

void handle_worker_logs(struct daemon *daemon, struct http_request *request)
{
    struct pool_error error = POOL_ERROR_INIT;
    const char *id = http_request_segment(request, 2);
    int64_t n_lines = route_number(request, "tail");
    CLEANUP_FREE char *path = NULL;
    /* An id has no '/' and is not "..": the name below stays in its folder. Stopped workers have a log too. */
    if (!pool_worker_id_is_valid(id) || asprintf(&path, "%s/logs/%s.log", daemon->config->state_dir, id) < 0)
        path = NULL;
    CLEANUP_CLOSE int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW) : -1;
    if (fd < 0) {
        pool_error_set(&error, POOL_WORKER_NOT_FOUND, "there is no log of a worker %.64s", id);
        http_respond_error(request, &error);
        return;
    }
    off_t offset = tail_offset(fd, n_lines);
    if (route_number(request, "follow") == 1) {
        follow_log(daemon, request, &fd, offset);
        return;
    }
    struct strbuf text = STRBUF_INIT((size_t)2 * LOG_TAIL_MAX_BYTES);
    int failure = lseek(fd, offset, SEEK_SET) < 0 ? errno : fd_read_all(fd, &text);
    size_t n = text.n;
    char *body = failure ? NULL : strbuf_take(&text);
    if (body) {
        http_respond(request, 200, "text/plain; charset=utf-8", body, n, HTTP_TAKE);
        return;
    }
    strbuf_done(&text);
    pool_error_set_errno(&error, POOL_INTERNAL, failure ? failure : ENOMEM, "the log of worker %.64s", id);
    http_respond_error(request, &error);
}
