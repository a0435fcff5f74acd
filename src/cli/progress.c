/*
 * Progress lines.
 */
#include "cli/progress.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/number.h"
#include "cli/remote.h"

#define LINE_MAX_BYTES 4096
#define PROC_MAX_BYTES 4096

/* A line that is longer than the terminal would go on in the next one, and stay there when it is drawn again. */
static void draw(struct progress_line *line, struct strbuf *text)
{
    CLEANUP(strbuf_done) struct strbuf safe = STRBUF_INIT((size_t)LINE_MAX_BYTES * 4);
    const struct terminal *terminal = &line->cli->terminal;
    int room = terminal->err_columns > TERMINAL_REST_COLUMNS ? terminal->err_columns - TERMINAL_REST_COLUMNS
                                                             : LINE_MAX_BYTES;
    int used = 0;
    terminal_add_safe(terminal, &safe, strbuf_text(text));
    const char *at = strbuf_text(&safe);
    fputs("\r\033[K", line->cli->err);
    while (*at) {
        char one[8] = "";
        size_t n = 1;
        while (n < sizeof one - 1 && ((unsigned char)at[n] & 0xc0U) == 0x80)
            n++;
        memcpy(one, at, n);
        used += (int)terminal_width(terminal, one);
        if (used > room)
            break;
        fputs(one, line->cli->err);
        at += n;
    }
    line->is_drawn = true;
    fflush(line->cli->err);
}

static void draw_start(struct progress_line *line, int64_t elapsed_ms, int64_t read_bytes,
                       int64_t resident_bytes, bool is_listening)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(LINE_MAX_BYTES);
    char read[HUMAN_BYTES_MAX];
    char resident[HUMAN_BYTES_MAX];
    format_bytes(read_bytes, read);
    format_bytes(resident_bytes, resident);
    /* what changes stands in front: a long name is cut, not what there is to see */
    strbuf_printf(&text, "starting, %" PRId64 ".%" PRId64 " s", elapsed_ms / 1000, elapsed_ms / 100 % 10);
    if (resident_bytes > 0)
        strbuf_printf(&text, ", read %s, in memory %s", read, resident);
    strbuf_printf(&text, "%s: %s", is_listening ? ", listening" : "", line->subject);
    draw(line, &text);
}

void progress_of_start(const struct pool_start_progress *progress, void *context)
{
    struct progress_line *line = context;
    if (line->cli->terminal.is_err_terminal)
        draw_start(line, progress->elapsed_ms, progress->read_bytes, progress->resident_bytes,
                   progress->is_listening);
}

/* The first number behind a mark in a file of /proc; 0: it can not be read. */
static int64_t number_behind(const char *path, const char *mark)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(PROC_MAX_BYTES);
    int64_t number = 0;
    if (file_read(path, &text) != 0)
        return 0;
    const char *at = strstr(strbuf_text(&text), mark);
    if (!at || !parse_int64_n(at + strlen(mark), strcspn(at + strlen(mark), " \n"), 0, INT64_MAX, &number))
        return 0;
    return number;
}

/* A daemon tells no progress. Where its workers are of this machine, /proc does: proc_pid_io(5), proc_pid_statm(5). */
void progress_of_told_start(int64_t pid, int64_t elapsed_ms, void *context)
{
    struct progress_line *line = context;
    char path[64];
    int64_t read_bytes = 0;
    int64_t resident_pages = 0;
    if (!line->cli->terminal.is_err_terminal)
        return;
    if (pid > 0 && cli_shares_state(line->cli)) {
        snprintf(path, sizeof path, "/proc/%" PRId64 "/io", pid);
        read_bytes = number_behind(path, "rchar: ");
        snprintf(path, sizeof path, "/proc/%" PRId64 "/statm", pid);
        resident_pages = number_behind(path, " "); /* the second number */
    }
    draw_start(line, elapsed_ms, read_bytes, resident_pages * sysconf(_SC_PAGESIZE), false);
}

bool progress_of_bytes(int64_t done_bytes, int64_t total_bytes, void *context)
{
    struct progress_line *line = context;
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(LINE_MAX_BYTES);
    char done[HUMAN_BYTES_MAX];
    char total[HUMAN_BYTES_MAX];
    if (!line->cli->terminal.is_err_terminal)
        return true;
    format_bytes(done_bytes, done);
    format_bytes(total_bytes, total);
    strbuf_printf(&text, "%s of %s: %s", done, total, line->subject);
    draw(line, &text);
    return true;
}

void progress_clear(struct progress_line *line)
{
    if (line->is_drawn)
        fputs("\r\033[K", line->cli->err);
    line->is_drawn = false;
}
