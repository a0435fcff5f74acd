/*
 * The meter of a download; see meter.h.
 */
#include "cli/download/meter.h"

#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/number.h"
#include "cli/json_document.h"

#define DRAW_NS         (100 * NS_PER_MS)
#define LINE_NS         NS_PER_SEC
#define SAMPLE_NS       (250 * NS_PER_MS)
#define LINE_MAX_BYTES  4096
#define COLUMNS_DEFAULT 80
#define BAR_MIN         10
#define BAR_MAX         40
#define SUBJECT_MIN     12

static void take_sample(struct meter *meter, int64_t now_ns)
{
    size_t n = meter->n_samples;
    if (n > 0 && now_ns - meter->samples[(n - 1) % METER_SAMPLES].at_ns < SAMPLE_NS)
        return;
    meter->samples[n % METER_SAMPLES] = (struct meter_sample){ .at_ns = now_ns, .bytes = meter->done_bytes };
    meter->n_samples++;
}

int64_t meter_rate(const struct meter *meter)
{
    size_t n = meter->n_samples;
    if (n < 2)
        return -1;
    const struct meter_sample *last = &meter->samples[(n - 1) % METER_SAMPLES];
    const struct meter_sample *first = &meter->samples[n > METER_SAMPLES ? n % METER_SAMPLES : 0];
    int64_t ms = (last->at_ns - first->at_ns) / NS_PER_MS;
    int64_t bytes = last->bytes - first->bytes;
    return ms > 0 && bytes >= 0 ? bytes / ms * 1000 + bytes % ms * 1000 / ms : -1;
}

/* -1: not known. */
static int64_t left_ms(const struct meter *meter)
{
    int64_t rate = meter_rate(meter);
    int64_t left_bytes = excess_bytes(meter->total_bytes, meter->done_bytes);
    return rate > 0 && left_bytes / rate < INT64_C(1000000) ? left_bytes * 1000 / rate : -1;
}

static int percent_of(const struct meter *meter)
{
    if (meter->total_bytes <= 0)
        return 100;
    return (int)((double)meter->done_bytes * 100 / (double)meter->total_bytes);
}

/* ---- for people ---- */

static void add_numbers(const struct meter *meter, struct strbuf *text)
{
    char done[HUMAN_BYTES_MAX];
    char total[HUMAN_BYTES_MAX];
    char rate[HUMAN_BYTES_MAX];
    char left[DURATION_TEXT_MAX];
    int64_t ms = left_ms(meter);
    format_bytes(meter->done_bytes, done);
    format_bytes(meter->total_bytes, total);
    strbuf_printf(text, " %3d %%  %s of %s", percent_of(meter), done, total);
    if (strcmp(meter->activity, "wait") == 0) {
        strbuf_add_text(text, "  by another process");
        return;
    }
    if (meter_rate(meter) >= 0) {
        format_bytes(meter_rate(meter), rate);
        strbuf_printf(text, "  %s/s", rate);
    }
    if (ms >= 0) {
        format_duration(ms + 999, left);
        strbuf_printf(text, "  %s left", left);
    }
}

static void add_bar(const struct meter *meter, int width, struct strbuf *text)
{
    bool is_utf8 = meter->cli->terminal.is_utf8;
    int n_full = width * percent_of(meter) / 100;
    strbuf_add_text(text, is_utf8 ? " " : " [");
    for (int i = 0; i < width; i++)
        strbuf_add_text(text, i < n_full ? (is_utf8 ? "█" : "#") : (is_utf8 ? "░" : "."));
    strbuf_add_text(text, is_utf8 ? "" : "]");
}

/* The end of a subject says most: the file's name. */
static void add_subject(const struct meter *meter, int width, struct strbuf *text)
{
    struct strbuf safe = STRBUF_INIT(LINE_MAX_BYTES);
    const struct terminal *terminal = &meter->cli->terminal;
    terminal_add_safe(terminal, &safe, meter->subject);
    const char *subject = strbuf_text(&safe);
    size_t n_room = width < SUBJECT_MIN ? SUBJECT_MIN : (size_t)width;
    if (terminal_width(terminal, subject) > n_room) {
        strbuf_add_text(text, terminal_ellipsis(terminal));
        n_room -= terminal_width(terminal, terminal_ellipsis(terminal));
        while (*subject && terminal_width(terminal, subject) > n_room) {
            subject++;
            while (((unsigned char)*subject & 0xc0) == 0x80)
                subject++;
        }
    }
    strbuf_add_text(text, subject);
    strbuf_done(&safe);
}

void meter_draw(const struct meter *meter, int columns, struct strbuf *ret_text)
{
    struct strbuf numbers = STRBUF_INIT(LINE_MAX_BYTES);
    add_numbers(meter, &numbers);
    int room = columns - TERMINAL_REST_COLUMNS - (int)numbers.n; /* numbers are ASCII */
    int bar = room - SUBJECT_MIN - 3;
    if (bar > room / 2)
        bar = room / 2;
    if (bar > BAR_MAX)
        bar = BAR_MAX;
    if (bar < BAR_MIN)
        bar = 0;
    if (room >= SUBJECT_MIN)
        add_subject(meter, room - (bar > 0 ? bar + 3 : 0), ret_text);
    if (bar > 0)
        add_bar(meter, bar, ret_text);
    strbuf_add_text(ret_text, strbuf_text(&numbers));
    strbuf_done(&numbers);
}

static int columns_of_err(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : COLUMNS_DEFAULT;
}

static void show_bar(struct meter *meter)
{
    struct strbuf text = STRBUF_INIT(LINE_MAX_BYTES);
    meter_draw(meter, columns_of_err(), &text);
    fprintf(meter->cli->err, "\r%s\033[K", strbuf_text(&text));
    fflush(meter->cli->err);
    strbuf_done(&text);
    meter->is_drawn = true;
}

/* ---- for programs ---- */

static void write_line(const struct meter *meter)
{
    int64_t rate = meter_rate(meter);
    int64_t ms = left_ms(meter);
    CLEANUP_JSON json_t *line = json_pack(
        "{s:s, s:o, s:I, s:I, s:o, s:o}", "event", meter->activity, "file", json_of_text(meter->subject),
        "done_bytes", (json_int_t)meter->done_bytes, "total_bytes", (json_int_t)meter->total_bytes,
        "rate_bytes_per_s", rate >= 0 ? json_integer(rate) : json_null(), "left_ms",
        ms >= 0 ? json_integer(ms) : json_null());
    if (line && print_document(meter->cli, line, NULL) == POOL_OK)
        fflush(meter->cli->out);
}

void meter_begin(struct meter *meter, const char *subject, const char *activity, int64_t done_bytes,
                 int64_t total_bytes)
{
    const struct cli *cli = meter->cli;
    int64_t written_ns = meter->written_ns;
    meter_clear(meter);
    *meter = (struct meter){ .cli = cli,
                             .subject = subject,
                             .activity = activity,
                             .total_bytes = total_bytes,
                             .done_bytes = done_bytes,
                             .written_ns = written_ns };
    take_sample(meter, clock_boottime_ns());
}

void meter_set(struct meter *meter, int64_t done_bytes)
{
    int64_t now_ns = clock_boottime_ns();
    meter->done_bytes = done_bytes;
    take_sample(meter, now_ns);
    if (meter->cli->globals.is_json) {
        if (now_ns - meter->written_ns < LINE_NS)
            return;
        meter->written_ns = now_ns;
        write_line(meter);
    } else if (meter->cli->terminal.is_err_terminal && now_ns - meter->drawn_ns >= DRAW_NS) {
        meter->drawn_ns = now_ns;
        show_bar(meter);
    }
}

void meter_clear(struct meter *meter)
{
    if (meter->is_drawn)
        fputs("\r\033[K", meter->cli->err);
    meter->is_drawn = false;
}
