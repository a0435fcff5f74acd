/*
 * Progress lines.
 */
#include "cli/progress.h"

#include <inttypes.h>

#include "base/number.h"

static void begin_line(struct progress_line *line)
{
    fputs("\r\033[K", line->cli->err);
    terminal_print(&line->cli->terminal, line->cli->err, line->subject);
    fputs(": ", line->cli->err);
    line->is_drawn = true;
}

void progress_of_start(const struct pool_start_progress *progress, void *context)
{
    struct progress_line *line = context;
    char read[HUMAN_BYTES_MAX];
    char resident[HUMAN_BYTES_MAX];
    if (!line->cli->terminal.is_err_terminal)
        return;
    format_bytes(progress->read_bytes, read);
    format_bytes(progress->resident_bytes, resident);
    begin_line(line);
    fprintf(line->cli->err, "starting, %" PRId64 ".%" PRId64 " s, read %s, in memory %s%s",
            progress->elapsed_ms / 1000, progress->elapsed_ms / 100 % 10, read, resident,
            progress->is_listening ? ", listening" : "");
    fflush(line->cli->err);
}

bool progress_of_bytes(int64_t done_bytes, int64_t total_bytes, void *context)
{
    struct progress_line *line = context;
    char done[HUMAN_BYTES_MAX];
    char total[HUMAN_BYTES_MAX];
    if (!line->cli->terminal.is_err_terminal)
        return true;
    format_bytes(done_bytes, done);
    format_bytes(total_bytes, total);
    begin_line(line);
    fprintf(line->cli->err, "%s of %s", done, total);
    fflush(line->cli->err);
    return true;
}

void progress_clear(struct progress_line *line)
{
    if (line->is_drawn)
        fputs("\r\033[K", line->cli->err);
    line->is_drawn = false;
}
