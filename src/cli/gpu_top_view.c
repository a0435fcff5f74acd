/*
 * How the live view looks; see gpu_top.h.
 */
#include "cli/gpu_top.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "cli/device_text.h"
#include "cli/worker_text.h"

#define BAR_MIN       10
#define SUMS_MAX      256
#define BAR_WIDE      40 /* of a device that has one line */
#define LINES_AROUND  6  /* head, legend, two empty ones, the workers' head, the last line */
#define WORKERS_LEAST 3  /* lines that are kept for workers when devices are many */

/* The parts of a device's memory, in the order of the bar. */
enum part { PART_OBSERVED, PART_PROMISED, PART_FOREIGN, PART_FREE, N_PARTS };

static const struct {
    const char *name;
    const char *mark, *ascii_mark;
    enum terminal_style style;
} parts[N_PARTS] = {
    { "observed", "█", "#", STYLE_GOOD },
    { "promised", "▓", "+", STYLE_WARN },
    { "foreign", "▒", "x", STYLE_BAD },
    { "free", "░", ".", STYLE_DIM },
};

static int64_t at_least_zero(int64_t bytes)
{
    return bytes > 0 ? bytes : 0;
}

static void measure_parts(const struct pool_ledger *ledger, int64_t bytes[N_PARTS])
{
    bytes[PART_FOREIGN] = ledger->foreign_bytes;
    bytes[PART_OBSERVED] = at_least_zero(ledger->used_bytes - ledger->foreign_bytes);
    bytes[PART_PROMISED] = ledger->pending_bytes + ledger->elsewhere_bytes;
    bytes[PART_FREE] = at_least_zero(ledger->free_bytes - bytes[PART_PROMISED]);
}

/* Cells a part, together `width`; what is there at all has one. */
static void divide_bar(const int64_t bytes[N_PARTS], int64_t total_bytes, int width, int cells[N_PARTS])
{
    int left = width;
    for (int i = 0; i < PART_FREE; i++) {
        double share = total_bytes > 0 ? (double)bytes[i] / (double)total_bytes * width : 0;
        cells[i] = bytes[i] <= 0 ? 0 : share < 1 ? 1 : (int)(share + 0.5);
        if (cells[i] > left)
            cells[i] = left;
        left -= cells[i];
    }
    cells[PART_FREE] = left;
}

static void print_bar(const struct terminal *terminal, const struct pool_ledger *ledger, int width,
                      FILE *file)
{
    int64_t bytes[N_PARTS];
    int cells[N_PARTS];
    measure_parts(ledger, bytes);
    divide_bar(bytes, ledger->total_bytes, width, cells);
    for (int i = 0; i < N_PARTS; i++) {
        if (cells[i] == 0)
            continue;
        fputs(terminal_style_on(terminal, parts[i].style), file);
        for (int k = 0; k < cells[i]; k++)
            fputs(terminal->is_utf8 ? parts[i].mark : parts[i].ascii_mark, file);
        fputs(terminal_style_off(terminal, parts[i].style), file);
    }
}

static void print_legend(const struct terminal *terminal, FILE *file)
{
    for (int i = 0; i < N_PARTS; i++)
        fprintf(file, "%s%s%s%s %s", i > 0 ? "  " : "", terminal_style_on(terminal, parts[i].style),
                terminal->is_utf8 ? parts[i].mark : parts[i].ascii_mark,
                terminal_style_off(terminal, parts[i].style), parts[i].name);
    fputc('\n', file);
}

/* ---- texts of a width ---- */

/* A safe text in exactly `width` columns: cut, or blanks behind. */
static void print_cell(const struct terminal *terminal, FILE *file, const char *text, int width)
{
    CLEANUP(strbuf_done) struct strbuf safe = STRBUF_INIT(65536);
    terminal_add_safe(terminal, &safe, text);
    const char *at = strbuf_text(&safe);
    int used = 0;
    while (*at) {
        char one[8] = "";
        size_t n = 1;
        while (n < sizeof one - 1 && ((unsigned char)at[n] & 0xc0U) == 0x80)
            n++;
        memcpy(one, at, n);
        int columns = (int)terminal_width(terminal, one);
        if (used + columns > width)
            break;
        fputs(one, file);
        used += columns;
        at += n;
    }
    fprintf(file, "%*s", width - used, "");
}

/* ---- devices ---- */

struct device {
    const struct pool_gpu_info *gpu;  /* NULL: the host's memory */
    const struct pool_ledger *ledger; /* NULL: not known */
};

static size_t count_devices(const struct pool_status_response *status)
{
    return (status->gpus ? status->gpus->n_gpus : 0) + 1;
}

static struct device device_at(const struct pool_status_response *status, size_t index)
{
    size_t n_gpus = status->gpus ? status->gpus->n_gpus : 0;
    if (index >= n_gpus)
        return (struct device){ .ledger = ledger_of_device(status, "host") };
    const struct pool_gpu_info *gpu = status->gpus->gpus[index];
    return (struct device){ .gpu = gpu, .ledger = ledger_of_device(status, gpu->uuid) };
}

static void format_readings(const struct terminal *terminal, const struct pool_gpu_info *gpu, char text[80])
{
    size_t n = 0;
    text[0] = '\0';
    if (gpu->temperature_celsius.is_present)
        n += (size_t)snprintf(text + n, 80 - n, "%" PRId64 "%s", gpu->temperature_celsius.value,
                              terminal->is_utf8 ? " °C" : " C");
    if (gpu->power_usage_mw.is_present)
        n += (size_t)snprintf(text + n, 80 - n, "%s%" PRId64 " W", n > 0 ? "  " : "",
                              gpu->power_usage_mw.value / 1000);
    if (gpu->utilization_percent.is_present)
        snprintf(text + n, 80 - n, "%s%" PRId64 " %%", n > 0 ? "  " : "", gpu->utilization_percent.value);
}

static void format_sums(const struct pool_ledger *ledger, char text[SUMS_MAX])
{
    char total[HUMAN_BYTES_MAX];
    char human[N_PARTS][HUMAN_BYTES_MAX];
    int64_t bytes[N_PARTS];
    measure_parts(ledger, bytes);
    format_bytes(ledger->total_bytes, total);
    for (int i = 0; i < N_PARTS; i++)
        format_bytes(bytes[i], human[i]);
    snprintf(text, SUMS_MAX, "%s observed, %s promised, %s foreign, %s free of %s", human[PART_OBSERVED],
             human[PART_PROMISED], human[PART_FOREIGN], human[PART_FREE], total);
}

/* "GPU 0  NAME  41 °C  300 W  87 %  healthy", and the sums behind it. */
static void print_device_head(const struct terminal *terminal, const struct device *device, FILE *file)
{
    char readings[80] = "";
    char sums[SUMS_MAX] = "";
    char name[160];
    if (device->ledger)
        format_sums(device->ledger, sums);
    if (device->gpu) {
        format_readings(terminal, device->gpu, readings);
        snprintf(name, sizeof name, "GPU %" PRIu32 "  %s", device->gpu->gpu_id, device->gpu->name);
    } else {
        snprintf(name, sizeof name, "host memory");
    }
    char state[POOL_CORDON_REASON_MAX + sizeof device->gpu->health_reason + 32];
    bool is_bad = device->gpu && (device->gpu->health != POOL_GPU_HEALTHY || device->gpu->is_cordoned);
    if (device->gpu && device->gpu->is_cordoned) /* first: there may not be room for both */
        snprintf(state, sizeof state, "cordoned: %s%s%s", device->gpu->cordon_reason,
                 device->gpu->health_reason[0] ? "; " : "", device->gpu->health_reason);
    else
        snprintf(state, sizeof state, "%s", is_bad ? device->gpu->health_reason : readings);
    int width = terminal->columns;
    int n_sums = (int)strlen(sums);
    int n_left = width - n_sums - 2;
    if (n_left < 20) { /* narrow: what it is, not how much; the bar says that */
        n_left = width;
        n_sums = 0;
    }
    int n_name = n_left > 60 ? 40 : n_left * 6 / 10;
    fputs(terminal_style_on(terminal, STYLE_HEAD), file);
    print_cell(terminal, file, name, n_name);
    fprintf(file, "%s%s", terminal_style_off(terminal, STYLE_HEAD),
            is_bad ? terminal_style_on(terminal, STYLE_BAD) : "");
    print_cell(terminal, file, state, n_left - n_name);
    fputs(is_bad ? terminal_style_off(terminal, STYLE_BAD) : "", file);
    fprintf(file, "%s%s\n", n_sums > 0 ? "  " : "", n_sums > 0 ? sums : "");
}

static void print_device_bar(const struct terminal *terminal, const struct device *device, FILE *file)
{
    char text[80];
    char available[HUMAN_BYTES_MAX];
    char total[HUMAN_BYTES_MAX];
    if (!device->ledger) {
        fputs("  its memory is not known\n", file);
        return;
    }
    format_bytes(device->ledger->available_bytes, available);
    format_bytes(device->ledger->total_bytes, total);
    int n = snprintf(text, sizeof text, "%s of %s available", available, total);
    int width = terminal->columns - n - 3;
    print_bar(terminal, device->ledger, width > BAR_MIN ? width : BAR_MIN, file);
    fprintf(file, "  %s\n", text);
}

static void print_device_line(const struct terminal *terminal, const struct device *device, FILE *file)
{
    char name[16];
    char text[80] = "";
    char available[HUMAN_BYTES_MAX];
    char total[HUMAN_BYTES_MAX];
    if (device->gpu)
        snprintf(name, sizeof name, "GPU %" PRIu32, device->gpu->gpu_id);
    else
        snprintf(name, sizeof name, "host");
    print_cell(terminal, file, name, 8);
    if (device->ledger) {
        format_bytes(device->ledger->available_bytes, available);
        format_bytes(device->ledger->total_bytes, total);
        snprintf(text, sizeof text, "%s of %s available", available, total);
        int width = terminal->columns - 8 - 34;
        print_bar(terminal, device->ledger,
                  width > BAR_WIDE  ? BAR_WIDE
                  : width > BAR_MIN ? width
                                    : BAR_MIN,
                  file);
    }
    fprintf(file, "  %s\n", text);
}

/* Two lines each where they fit, else one; *ret_n_lines of them. */
static void print_devices(const struct top *top, const struct terminal *terminal, int rows, int *ret_n_lines,
                          FILE *file)
{
    size_t n = count_devices(top->status);
    size_t room = rows > LINES_AROUND + WORKERS_LEAST ? (size_t)(rows - LINES_AROUND - WORKERS_LEAST) : 2;
    bool is_roomy = rows == 0 || 2 * n <= room;
    size_t n_shown = is_roomy || n <= room || rows == 0 ? n : room - 1;
    *ret_n_lines = 0;
    for (size_t i = 0; i < n_shown; i++) {
        struct device device = device_at(top->status, i);
        if (is_roomy) {
            print_device_head(terminal, &device, file);
            print_device_bar(terminal, &device, file);
        } else {
            print_device_line(terminal, &device, file);
        }
        *ret_n_lines += is_roomy ? 2 : 1;
    }
    if (n_shown < n) {
        fprintf(file, "and %zu more devices\n", n - n_shown);
        (*ret_n_lines)++;
    }
}

/* ---- workers ---- */

struct worker_widths {
    int id, status, model;
};

/* Fixed columns take: mark 2, gpu 5, memory 11, of it 11, port 7, age 11 and the gaps. */
static struct worker_widths choose_widths(const struct terminal *terminal)
{
    int room = terminal->columns - 2 - 5 - 11 - 7 - 12;
    struct worker_widths widths = { .id = 16, .status = 10, .model = 0 };
    if (room > 60) {
        widths.id = room * 4 / 10 > 44 ? 44 : room * 4 / 10;
        widths.status = 20;
    }
    widths.model = room - widths.id - widths.status;
    if (widths.model < 0)
        widths.model = 0;
    return widths;
}

static void print_worker(const struct top *top, const struct terminal *terminal,
                         const struct pool_worker_info *worker, const struct worker_widths *widths,
                         FILE *file)
{
    char text[WORKER_TEXT_MAX];
    char bytes[HUMAN_BYTES_MAX];
    char age[DURATION_TEXT_MAX];
    bool is_selected = strcmp(worker->worker_id, top->selected) == 0;
    fprintf(file, "%s%s", is_selected ? terminal_style_on(terminal, STYLE_HEAD) : "",
            is_selected ? "> " : "  ");
    print_cell(terminal, file, worker->worker_id, widths->id - 1);
    fprintf(file, "%s ", is_selected ? terminal_style_off(terminal, STYLE_HEAD) : "");
    format_worker_status(worker, text);
    fputs(terminal_style_on(terminal, worker_style(worker)), file);
    print_cell(terminal, file, text, widths->status - 1);
    fprintf(file, "%s ", terminal_style_off(terminal, worker_style(worker)));
    format_worker_device(worker, text);
    print_cell(terminal, file, text, 5);
    format_bytes(top_bytes_of(worker), bytes);
    format_duration(clock_wall_ms() - worker->created_wall_ms, age);
    fprintf(file, "%10s %6" PRId64 " %11s ", bytes, worker->port, age);
    print_cell(terminal, file, worker_model_name(worker), widths->model);
    fputc('\n', file);
}

static void print_workers_head(const struct terminal *terminal, const struct worker_widths *widths,
                               FILE *file)
{
    fprintf(file, "%s  %-*s%-*s%-5s%10s %6s %11s %.*s%s\n", terminal_style_on(terminal, STYLE_HEAD),
            widths->id, "WORKER", widths->status, "STATUS", "GPU", "MEMORY", "PORT", "AGE", widths->model,
            "MODEL", terminal_style_off(terminal, STYLE_HEAD));
}

/* Keeps the selected one among those that are shown. */
static void scroll(struct top *top, size_t n_rows)
{
    size_t n = top->status->workers->n_workers;
    size_t selected = top_index_of_selected(top);
    if (selected < top->first_shown)
        top->first_shown = selected;
    if (n_rows > 0 && selected >= top->first_shown + n_rows)
        top->first_shown = selected - n_rows + 1;
    if (n <= n_rows)
        top->first_shown = 0;
    else if (top->first_shown > n - n_rows)
        top->first_shown = n - n_rows;
}

static void print_workers(struct top *top, const struct terminal *terminal, int n_lines, FILE *file)
{
    const struct pool_worker_list *workers = top->status->workers;
    struct worker_widths widths = choose_widths(terminal);
    size_t n_rows = n_lines < 0 ? workers->n_workers : (size_t)n_lines;
    print_workers_head(terminal, &widths, file);
    scroll(top, n_rows);
    for (size_t i = 0; i < n_rows; i++) {
        size_t index = top->first_shown + i;
        if (index < workers->n_workers)
            print_worker(top, terminal, workers->workers[index], &widths, file);
        else if (i == 0)
            fputs("  no workers\n", file);
        else
            fputc('\n', file);
    }
    if (n_lines < 0 && workers->n_workers == 0)
        fputs("  no workers\n", file);
}

/* ---- the whole ---- */

static const char *sort_name(enum top_sort sort)
{
    static const char *const names[] = {
#define SORT(name, text) [TOP_SORT_##name] = text,
        TOP_SORTS(SORT)
#undef SORT
    };
    return names[sort];
}

static void print_head(const struct top *top, const struct terminal *terminal, FILE *file)
{
    char text[256];
    const struct pool_status_response *status = top->status;
    size_t n_gpus = status->gpus ? status->gpus->n_gpus : 0;
    snprintf(text, sizeof text, "%s: %zu GPU%s, %zu worker%s, by %s",
             status->pool_id ? status->pool_id : "pool", n_gpus, n_gpus == 1 ? "" : "s",
             status->workers->n_workers, status->workers->n_workers == 1 ? "" : "s", sort_name(top->sort));
    if (top->is_late) {
        size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, "; no answer for %" PRId64 " s",
                 (clock_boottime_ns() - top->taken_boottime_ns) / NS_PER_SEC);
    }
    fputs(terminal_style_on(terminal, top->is_late ? STYLE_BAD : STYLE_HEAD), file);
    print_cell(terminal, file, text, terminal->columns);
    fprintf(file, "%s\n", terminal_style_off(terminal, top->is_late ? STYLE_BAD : STYLE_HEAD));
}

static void print_last_line(const struct top *top, const struct terminal *terminal, FILE *file)
{
    char question[256];
    enum terminal_style style = top->is_message_bad ? STYLE_BAD : STYLE_PLAIN;
    const char *text = top->message;
    if (top->mode == TOP_ASKING) {
        snprintf(question, sizeof question, "Stop worker %s? [y/N]", top->asked_about);
        text = question;
        style = STYLE_WARN;
    } else if (!*text) {
        text = "q quit  s sort  x stop  l log  h help";
        style = STYLE_DIM;
    }
    fputs(terminal_style_on(terminal, style), file);
    print_cell(terminal, file, text, terminal->columns);
    fputs(terminal_style_off(terminal, style), file);
}

static void print_help(const struct terminal *terminal, FILE *file)
{
    static const char *const lines[][2] = {
        { "Up, Down, j, k", "choose a worker" },
        { "PgUp, PgDn, Home, End", "choose one far away" },
        { "s", "order the workers by the next thing: memory, age, gpu, status, id" },
        { "x", "stop the chosen worker; you are asked" },
        { "l", "follow its log; Ctrl-C comes back" },
        { "h, ?", "this page" },
        { "q, Ctrl-C", "quit" },
    };
    print_legend(terminal, file);
    fputs("\nobserved: held by our workers; promised: theirs, not taken yet;\n"
          "foreign: held by others; free: nobody's. Available is what is free\n"
          "less the headroom.\n\n",
          file);
    for (size_t i = 0; i < CLI_COUNT(lines); i++)
        fprintf(file, "  %-22s %s\n", lines[i][0], lines[i][1]);
    fputs("\nAny key goes back.", file);
}

bool top_print(struct top *top, const struct terminal *terminal, int rows, FILE *file)
{
    int n_device_lines = 0;
    if (top->mode == TOP_HELP) {
        print_help(terminal, file);
        return !ferror(file);
    }
    if (!top->status) {
        fputs(top->message[0] ? "" : "asking the pool", file);
        terminal_print(terminal, file, top->message);
        return !ferror(file);
    }
    print_head(top, terminal, file);
    print_legend(terminal, file);
    fputc('\n', file);
    print_devices(top, terminal, rows, &n_device_lines, file);
    fputc('\n', file);
    int n_left = rows - n_device_lines - LINES_AROUND;
    print_workers(top, terminal, rows == 0 ? -1 : n_left > 0 ? n_left : 1, file);
    if (rows > 0)
        print_last_line(top, terminal, file);
    return !ferror(file);
}
