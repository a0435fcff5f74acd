/*
 * rbees-pool events: what happens, as the daemon tells it. A connection that breaks is made anew behind the last event
 * that was seen, so that none is missed or told twice.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/commands.h"
#include "cli/event_stream.h"
#include "cli/interrupt.h"
#include "cli/json_document.h"
#include "cli/remote.h"
#include "cli/report.h"
#include "cli/worker_text.h"

#define AGAIN_MIN_MS  100 /* between tries to reach a daemon that went away */
#define AGAIN_MAX_MS  2000
#define EVENTS_MAX    INT64_C(1000000000)
#define RESET_TYPE    "reset"
#define WORKER_PREFIX "worker."

struct events_arguments {
    const char *since;
    struct cli_texts types;
    struct pool_reading n_events;
};

struct follower {
    struct cli *cli;
    const struct events_arguments *arguments;
    int64_t n_shown;
    bool was_reached; /* some daemon has answered */
    bool is_answered; /* the one that was asked last did */
    bool was_told;    /* that the daemon went away */
};

static bool is_wanted(const struct follower *follower, const char *type)
{
    const struct cli_texts *types = &follower->arguments->types;
    for (size_t i = 0; i < types->n; i++) {
        size_t n = strlen(types->at[i]);
        if (strncmp(type, types->at[i], n) == 0 && (type[n] == '\0' || type[n] == '.'))
            return true;
    }
    return types->n == 0;
}

/* ---- showing ---- */

static void print_worker(const struct cli *cli, const struct pool_worker_info *worker)
{
    char text[WORKER_TEXT_MAX];
    terminal_print(&cli->terminal, cli->out, worker->worker_id);
    if (worker->status == POOL_WORKER_STOPPED) {
        format_worker_end(worker, text);
        fprintf(cli->out, "  stopped (%s)", text);
        return;
    }
    format_worker_status(worker, text);
    fprintf(cli->out, "  %s%s%s  port %lld, pid %lld",
            terminal_style_on(&cli->terminal, worker_style(worker)), text,
            terminal_style_off(&cli->terminal, worker_style(worker)), (long long)worker->port,
            (long long)worker->process.pid);
    if (worker->health_reason) {
        fputs(": ", cli->out);
        terminal_print(&cli->terminal, cli->out, worker->health_reason);
    }
}

static void print_event(const struct cli *cli, const struct event_message *message)
{
    char time[RFC3339_MAX];
    CLEANUP(release_worker) struct pool_worker_info *worker = NULL;
    clock_format_rfc3339(clock_wall_ms(), time);
    fprintf(cli->out, "%s  ", time);
    terminal_print(&cli->terminal, cli->out, message->type);
    fputs("  ", cli->out);
    if (strncmp(message->type, WORKER_PREFIX, strlen(WORKER_PREFIX)) == 0 &&
        pool_worker_info_decode(message->data, strlen(message->data), &worker, NULL) == POOL_OK)
        print_worker(cli, worker);
    else
        terminal_print(&cli->terminal, cli->out, message->data);
    fputc('\n', cli->out);
}

/* A line an event: there is no end at which one document could be closed. */
static void print_event_line(struct cli *cli, const struct event_message *message)
{
    struct json_failure failure;
    json_t *data = json_parse(message->data, strlen(message->data), &failure);
    CLEANUP_JSON json_t *line =
        json_pack("{s:o, s:o, s:o}", "id", json_of_text(*message->id ? message->id : NULL), "type",
                  json_of_text(message->type), "data", data ? data : json_of_text(message->data));
    char *text = line ? json_print(line) : NULL;
    if (text)
        print_json(cli, &text);
}

static bool show(const struct event_message *message, void *context)
{
    struct follower *follower = context;
    struct cli *cli = follower->cli;
    int64_t wanted =
        follower->arguments->n_events.is_present ? follower->arguments->n_events.value : EVENTS_MAX;
    bool is_reset = strcmp(message->type, RESET_TYPE) == 0;
    if (is_reset && !cli->globals.is_json) {
        report_notice(cli, "events were missed; 'rbees-pool status' shows how things are now");
        return true;
    }
    if (!is_reset && !is_wanted(follower, message->type))
        return true;
    if (cli->globals.is_json)
        print_event_line(cli, message);
    else
        print_event(cli, message);
    follower->n_shown += !is_reset;
    return fflush(cli->out) == 0 && follower->n_shown < wanted;
}

/* ---- following ---- */

/* false: the person wants an end. */
static bool pause_ms(int cancel_fd, int64_t ms)
{
    struct pollfd cancel = { .fd = cancel_fd, .events = POLLIN };
    return poll(&cancel, 1, (int)ms) <= 0;
}

static enum pool_code find_daemon(struct cli *cli, struct pool_error *err)
{
    struct remote_http *daemon = NULL;
    enum pool_code code = cli_find_daemon(cli, &daemon, err);
    if (code == POOL_OK && !daemon)
        return pool_error_set(err, POOL_REGISTRY_UNAVAILABLE,
                              "no daemon runs for this state directory, and events are what a daemon tells; "
                              "pool-managerd starts it");
    return code;
}

/* The answer ends when the daemon does, or the connection breaks: both are a reason to ask again. */
static enum pool_code follow_once(struct follower *follower, struct event_stream *stream, int cancel_fd,
                                  bool *ret_may_go_on, struct pool_error *err)
{
    struct cli *cli = follower->cli;
    event_stream_reset(stream);
    follower->is_answered = false;
    enum pool_code code = find_daemon(cli, err);
    *ret_may_go_on = code == POOL_REGISTRY_UNAVAILABLE;
    if (code != POOL_OK)
        return code;
    code = remote_follow_events(cli, stream->last_id, cancel_fd, stream, &follower->is_answered, err);
    if (stream->line.failure == STRBUF_FULL || stream->data.failure == STRBUF_FULL)
        return pool_error_set(err, POOL_REGISTRY_UNAVAILABLE,
                              "the daemon tells an event of more than %zu bytes", EVENT_DATA_MAX);
    *ret_may_go_on = !stream->is_ended && (code == POOL_OK || cli->is_daemon_lost);
    return code;
}

static enum pool_code follow(struct follower *follower, struct event_stream *stream, int cancel_fd,
                             struct pool_error *err)
{
    struct cli *cli = follower->cli;
    int64_t wait_ms = AGAIN_MIN_MS;
    for (;;) {
        bool may_go_on = false;
        struct pool_error error = POOL_ERROR_INIT;
        enum pool_code code = follow_once(follower, stream, cancel_fd, &may_go_on, &error);
        if (follower->is_answered) {
            follower->was_reached = true;
            follower->was_told = false;
            wait_ms = AGAIN_MIN_MS;
        }
        if (code == POOL_CANCELLED || stream->is_ended)
            return POOL_OK;
        if (!may_go_on || !follower->was_reached) {
            if (err)
                *err = error;
            return code;
        }
        if (cli->is_daemon_ours || !cli->daemon) /* the next one may be at another place */
            cli_forget_daemon(cli);
        if (!follower->was_told)
            report_notice(cli, "the daemon went away; waiting for it");
        follower->was_told = true;
        if (!pause_ms(cancel_fd, wait_ms))
            return POOL_OK;
        wait_ms = wait_ms * 2 < AGAIN_MAX_MS ? wait_ms * 2 : AGAIN_MAX_MS;
    }
}

static enum pool_code run_events(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct events_arguments *arguments = data;
    struct follower follower = { .cli = cli, .arguments = arguments };
    CLEANUP(event_stream_done) struct event_stream stream;
    CLEANUP(interrupt_close) struct interrupt interrupt = INTERRUPT_INIT;
    event_stream_init(&stream, show, &follower);
    if (arguments->since && strlen(arguments->since) >= sizeof stream.last_id) {
        pool_error_set(err, POOL_INVALID_REQUEST, "--since: an id has less than %d bytes", EVENT_LAST_ID_MAX);
        pool_error_set_field(err, "since");
        return POOL_INVALID_REQUEST;
    }
    if (arguments->since)
        snprintf(stream.last_id, sizeof stream.last_id, "%s", arguments->since);
    enum pool_code code = interrupt_open(&interrupt, err);
    return code == POOL_OK ? follow(&follower, &stream, interrupt.fd, err) : code;
}

#define AT(field) .offset = offsetof(struct events_arguments, field)

static const struct cli_option options[] = {
    { .name = "since",
      .value = CLI_TEXT,
      .unit = "ID",
      AT(since),
      .default_text = "now",
      .summary = "Begin behind this event, as far as the daemon still has what came after" },
    { .name = "type",
      .letter = 't',
      .value = CLI_TEXTS,
      .unit = "TYPE",
      AT(types),
      .summary = "Only events of a type, or of all that begin with it: worker, worker.ready" },
    { .name = "count",
      .letter = 'n',
      .value = CLI_INTEGER,
      .unit = "N",
      AT(n_events),
      .min = 1,
      .max = EVENTS_MAX,
      .default_text = "no end",
      .summary = "End after N events" },
};
static const char *const examples[] = { "rbees-pool events", "rbees-pool events --type worker --json",
                                        "rbees-pool events --type worker.ready --count 1" };

const struct cli_command events_command = {
    .path = "events",
    .summary = "Follow what happens",
    .description = "Prints each event as it happens, until Ctrl-C: every change of a worker's state and "
                   "whatever else the daemon "
                   "tells. With --json each event is a line of its own with its id, type and data. It needs "
                   "a daemon. When that "
                   "is started anew, the following goes on behind the last event that was printed; what "
                   "could not be had is "
                   "said (with --json an event of type reset).",
    CLI_OPTIONS(options),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct events_arguments),
    .run = run_events,
};
