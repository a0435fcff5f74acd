/*
 * rbees-pool worker logs. Reading the file is log_file.c's.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <pool/lifecycle.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/json_document.h"
#include "cli/log_file.h"
#include "cli/remote.h"
#include "cli/worker_text.h"

#define LINES_MAX          INT64_C(1000000000)
#define JSON_LOG_MAX_BYTES ((size_t)POOL_WORKER_LOG_MAX_BYTES)
#define END_CHECK_MS       200 /* between looks whether a worker whose log was closed is gone */
#define END_CHECKS         50  /* how often that is looked at: the process may have been one of several */

struct worker_logs_arguments {
    const char *worker_id;
    struct pool_reading n_lines;
    bool follow;
};

/* To a terminal nothing goes that could drive it; into a file or pipe goes what the worker wrote. */
static void write_piece(const struct cli *cli, const char *bytes, size_t n)
{
    if (cli->terminal.is_out_terminal)
        terminal_print_lines(&cli->terminal, cli->out, bytes, n);
    else
        fwrite(bytes, 1, n, cli->out);
}

static enum pool_code print_rest(const struct cli *cli, struct log_file *log, struct pool_error *err)
{
    char buffer[LOG_READ_MAX + 1];
    size_t n;
    enum pool_code code;
    while ((code = log_file_read(log, buffer, &n, err)) == POOL_OK && n > 0 && !ferror(cli->out)) {
        const char *feed = n == LOG_READ_MAX ? memrchr(buffer, '\n', n) : NULL;
        if (feed) { /* no character shall be cut in two */
            log->offset -= (off_t)(buffer + n - (feed + 1));
            n = (size_t)(feed + 1 - buffer);
        }
        buffer[n] = '\0'; /* what makes texts safe looks no further */
        write_piece(cli, buffer, n);
    }
    return code;
}

/* ---- as JSON ---- */

static enum pool_code read_all(struct log_file *log, struct strbuf *text, struct pool_error *err)
{
    char buffer[LOG_READ_MAX];
    size_t n;
    enum pool_code code;
    while ((code = log_file_read(log, buffer, &n, err)) == POOL_OK && n > 0) {
        if (!strbuf_add(text, buffer, n))
            return text->failure == STRBUF_NO_MEMORY
                       ? pool_error_no_memory(err)
                       : pool_error_set(err, POOL_PAYLOAD_TOO_LARGE,
                                        "the log is larger than %zu bytes; --tail takes less of it",
                                        JSON_LOG_MAX_BYTES);
    }
    return code;
}

static json_t *lines_of(const struct strbuf *text)
{
    json_t *lines = json_array();
    const char *p = strbuf_text(text);
    const char *end = p + text->n;
    while (lines && p < end) {
        const char *feed = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((feed ? feed : end) - p);
        if (json_array_append_new(lines, json_of_bytes(p, n)) < 0) {
            json_decref(lines);
            return NULL;
        }
        p = feed ? feed + 1 : end;
    }
    return lines;
}

static enum pool_code print_log_lines(const struct cli *cli, const struct pool_worker_info *worker,
                                      const struct strbuf *text, struct pool_error *err)
{
    CLEANUP_JSON json_t *document =
        json_pack("{s:o, s:o, s:o}", "worker_id", json_of_text(worker->worker_id), "log_path",
                  json_of_text(worker->log_path), "lines", lines_of(text));
    return print_document(cli, document, err);
}

static enum pool_code print_log_document(const struct cli *cli, const struct pool_worker_info *worker,
                                         struct log_file *log, struct pool_error *err)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(JSON_LOG_MAX_BYTES);
    enum pool_code code = read_all(log, &text, err);
    return code == POOL_OK ? print_log_lines(cli, worker, &text, err) : code;
}

/* ---- following ---- */

static enum pool_code watch(const char *path, int *ret_fd, struct pool_error *err)
{
    CLEANUP_CLOSE int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0 || inotify_add_watch(fd, path, IN_MODIFY | IN_CLOSE_WRITE) < 0)
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "watching %s", path);
    *ret_fd = take_fd(&fd);
    return POOL_OK;
}

/* Whether one of the events says that somebody closed the log: a process of the worker may have ended. */
static bool take_events(int watch_fd)
{
    _Alignas(struct inotify_event) char events[4096];
    bool is_closed = false;
    ssize_t n;
    while ((n = read(watch_fd, events, sizeof events)) > 0) {
        const struct inotify_event *event;
        for (const char *p = events; p < events + n; p += sizeof *event + event->len) {
            event = (const void *)p;
            is_closed = is_closed || (event->mask & (IN_CLOSE_WRITE | IN_IGNORED)) != 0;
        }
    }
    return is_closed;
}

static enum pool_code check_end(struct cli *cli, const char *worker_id, bool *ret_is_gone,
                                struct pool_error *err)
{
    CLEANUP(release_worker) struct pool_worker_info *worker = NULL;
    enum pool_code code = get_worker(cli, worker_id, &worker, err);
    while (cli_may_run_again(cli, code)) /* the log goes on whoever manages the worker */
        code = get_worker(cli, worker_id, &worker, err);
    cli_release_manager(cli); /* one that has come meanwhile is asked the next time */
    if (code == POOL_OK)
        cli->n_runs = 0;
    if (code == POOL_OK)
        *ret_is_gone = worker->status == POOL_WORKER_STOPPED;
    return code;
}

/* Until the worker is gone, the person interrupts, or the reader has closed its end. */
static enum pool_code follow(struct cli *cli, const char *worker_id, struct log_file *log, int cancel_fd,
                             struct pool_error *err)
{
    CLEANUP_CLOSE int watch_fd = -1;
    int n_checks = 1; /* it may have ended before it was watched */
    bool is_gone = false;
    enum pool_code code = watch(log->path, &watch_fd, err);
    while (code == POOL_OK) {
        if (n_checks > 0)
            code = check_end(cli, worker_id, &is_gone, err);
        if (code == POOL_OK) /* after the look: what it wrote before it ended is there now */
            code = print_rest(cli, log, err);
        if (fflush(cli->out) != 0 || is_gone || code != POOL_OK)
            break;
        struct pollfd fds[] = { { .fd = cancel_fd, .events = POLLIN },
                                { .fd = watch_fd, .events = POLLIN },
                                { .fd = fileno(cli->out), .events = 0 } };
        if (poll(fds, 3, n_checks > 0 ? END_CHECK_MS : -1) < 0 && errno != EINTR)
            return pool_error_set_errno(err, POOL_INTERNAL, errno, "poll");
        if (fds[0].revents || (fds[2].revents & (POLLERR | POLLHUP)) != 0)
            break;
        n_checks -= n_checks > 0;
        if (fds[1].revents && take_events(watch_fd))
            n_checks = END_CHECKS;
    }
    return code;
}

/* ---- the command ---- */

static enum pool_code show_file(struct cli *cli, const struct pool_worker_info *worker,
                                const struct worker_logs_arguments *arguments, struct pool_error *err)
{
    CLEANUP(log_file_close) struct log_file log = LOG_FILE_INIT;
    CLEANUP(interrupt_close) struct interrupt interrupt = INTERRUPT_INIT;
    if (!worker->log_path)
        return pool_error_set(err, POOL_NOT_FOUND, "worker %s has no log", worker->worker_id);
    enum pool_code code = log_file_open(&log, worker->log_path,
                                        arguments->n_lines.is_present ? arguments->n_lines.value : -1, err);
    if (code != POOL_OK)
        return code;
    if (cli->globals.is_json)
        return print_log_document(cli, worker, &log, err);
    if (!arguments->follow)
        return print_rest(cli, &log, err);
    code = interrupt_open(&interrupt, err);
    return code == POOL_OK ? follow(cli, worker->worker_id, &log, interrupt.fd, err) : code;
}

/* ---- from a daemon that is elsewhere ---- */

struct told_log {
    const struct cli *cli;
    struct strbuf kept; /* for JSON: all of it; else the beginning of a line whose end has not come yet */
    bool is_kept;
};

/* Pieces end anywhere; what is written ends with a line, so that no character is cut in two. */
static bool take_piece(const char *bytes, size_t n, void *context)
{
    struct told_log *told = context;
    const char *feed = told->is_kept ? NULL : memrchr(bytes, '\n', n);
    if (!feed)
        return strbuf_add(&told->kept, bytes, n);
    size_t n_lines = (size_t)(feed + 1 - bytes);
    if (!strbuf_add(&told->kept, bytes, n_lines))
        return false;
    write_piece(told->cli, strbuf_text(&told->kept), told->kept.n);
    strbuf_reset(&told->kept);
    return fflush(told->cli->out) == 0 && strbuf_add(&told->kept, bytes + n_lines, n - n_lines);
}

static enum pool_code show_told(struct cli *cli, const struct pool_worker_info *worker,
                                const struct worker_logs_arguments *arguments, struct pool_error *err)
{
    CLEANUP(interrupt_close) struct interrupt interrupt = INTERRUPT_INIT;
    struct told_log told = { .cli = cli,
                             .kept = STRBUF_INIT(JSON_LOG_MAX_BYTES),
                             .is_kept = cli->globals.is_json };
    int64_t n_lines = arguments->n_lines.is_present ? arguments->n_lines.value : -1;
    enum pool_code code = arguments->follow ? interrupt_open(&interrupt, err) : POOL_OK;
    if (code == POOL_OK)
        code = remote_read_log(cli, worker->worker_id, n_lines, arguments->follow, interrupt.fd, take_piece,
                               &told, err);
    if (code == POOL_CANCELLED)
        code = POOL_OK; /* as in a file: the person has seen enough */
    if (told.kept.failure == STRBUF_NO_MEMORY)
        code = pool_error_no_memory(err);
    else if (told.kept.failure == STRBUF_FULL)
        code = pool_error_set(err, POOL_PAYLOAD_TOO_LARGE, "the log has a line of more than %zu bytes",
                              JSON_LOG_MAX_BYTES);
    if (code == POOL_OK && told.is_kept)
        code = print_log_lines(cli, worker, &told.kept, err);
    else
        write_piece(cli, strbuf_text(&told.kept), told.kept.n);
    strbuf_done(&told.kept);
    return code;
}

static enum pool_code run_logs(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct worker_logs_arguments *arguments = data;
    CLEANUP(release_worker) struct pool_worker_info *worker = NULL;
    if (arguments->follow && cli->globals.is_json) {
        pool_error_set(err, POOL_INVALID_REQUEST, "--follow has no end, so it can not be one JSON document");
        pool_error_set_field(err, "follow");
        return POOL_INVALID_REQUEST;
    }
    enum pool_code code = get_worker(cli, arguments->worker_id, &worker, err);
    if (code != POOL_OK)
        return code;
    return cli->daemon && !cli_shares_state(cli) ? show_told(cli, worker, arguments, err)
                                                 : show_file(cli, worker, arguments, err);
}

#define AT(field) .offset = offsetof(struct worker_logs_arguments, field)

static const struct cli_option options[] = {
    { .name = "tail",
      .letter = 'n',
      .value = CLI_INTEGER,
      .unit = "N",
      AT(n_lines),
      .max = LINES_MAX,
      .default_text = "all",
      .summary = "Only the last N lines" },
    { .name = "follow",
      .letter = 'f',
      AT(follow),
      .summary = "Go on with what is written, until the worker ends" },
};
static const struct cli_positional positionals[] = {
    { .name = "ID",
      .field = "worker_id",
      .value = CLI_TEXT,
      AT(worker_id),
      .summary = "The worker, also one that has stopped" },
};
static const char *const examples[] = { "rbees-pool worker logs worker-1",
                                        "rbees-pool worker logs worker-1 --tail 20",
                                        "rbees-pool worker logs worker-1 -f" };

const struct cli_command worker_logs_command = {
    .path = "worker logs",
    .summary = "Print what a worker wrote",
    .description =
        "Prints the log of a worker: what its program wrote to its output and error output. Of a very long "
        "log the beginning is gone. On a terminal control characters are shown, not obeyed; into a file or "
        "pipe goes what was written, byte by byte, with whatever secrets are in it; errors and crash bundles "
        "show its last lines without them. The log of an ended worker goes when its record leaves the "
        "history.",
    CLI_OPTIONS(options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(examples),
    .arguments_bytes = sizeof(struct worker_logs_arguments),
    .run = run_logs,
};
