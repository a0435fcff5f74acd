/*
 * One line an event; see log.h.
 */
#include "managerd/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/strbuf.h"
#include "base/utf8.h"
#include "managerd/log_sink.h"

#define IDENTIFIER "pool-managerd"
#define ENTRY_MAX  8192 /* of the journal; far below what a datagram takes */

#define LOG_COUNT(name) +1
enum { N_TEXTS = 0 LOG_TEXT_FIELDS(LOG_COUNT), N_NUMBERS = 0 LOG_NUMBER_FIELDS(LOG_COUNT) };
#undef LOG_COUNT

static const char *const level_names[] = { "error", "warning", "info", "debug" };
/* syslog(3) */
static const int level_priorities[] = { 3, 4, 6, 7 };

static const struct event_row {
    const char *name;
    enum log_level level;
} events[] = {
#define LOG_EVENT_ROW(name, text, level, about) { text, LOG_LEVEL_##level },
    LOG_EVENTS(LOG_EVENT_ROW)
#undef LOG_EVENT_ROW
};

static struct {
    enum log_level level;
    enum log_level configured_level;
    struct log_cause cause;
    uint64_t n_dropped;
} log_state = { .level = LOG_LEVEL_INFO, .configured_level = LOG_LEVEL_INFO };

/* One line before it has a form. Texts are fit to be shown. */
struct line {
    char time[RFC3339_MAX];
    const struct event_row *event;
    char message[LOG_MESSAGE_MAX];
    const struct log_fields *fields;
    char texts[N_TEXTS][LOG_TEXT_MAX];
};

void log_open(const char *level, const char *const *environment)
{
    for (int i = 0; i <= LOG_LEVEL_DEBUG; i++) {
        if (strcmp(level, level_names[i]) == 0)
            log_state.level = log_state.configured_level = (enum log_level)i;
    }
    log_sink_open(environment);
}

void log_toggle_debug(void)
{
    bool is_raised = log_state.level != log_state.configured_level;
    log_state.level = LOG_LEVEL_DEBUG; /* so that this line is seen, both times */
    log_tell(LOG_LOG_LEVEL, NULL, "%s",
             level_names[is_raised ? log_state.configured_level : LOG_LEVEL_DEBUG]);
    if (is_raised)
        log_state.level = log_state.configured_level;
}

bool log_has(enum log_level level)
{
    return level <= log_state.level;
}

const char *log_event_name(enum log_event event)
{
    return events[event].name;
}

/* ---- the cause ---- */

struct log_cause log_enter_cause(const char *id)
{
    struct log_cause before = log_state.cause;
    snprintf(log_state.cause.id, sizeof log_state.cause.id, "%s", id);
    return before;
}

void log_leave_cause(struct log_cause *before)
{
    log_state.cause = *before;
}

struct log_cause log_cause(void)
{
    return log_state.cause;
}

/* ---- making a line ---- */

/* Control characters, C1 too, would draw on a terminal or end a line; what is no UTF-8 can not be JSON. */
static void make_fit(char *text, size_t capacity, const char *from)
{
    size_t n = 0;
    while (*from) {
        size_t n_char = utf8_length(from);
        bool is_control =
            n_char == 1 ? (unsigned char)*from < 0x20 || *from == 0x7f
                        : n_char == 2 && (unsigned char)from[0] == 0xc2 && (unsigned char)from[1] < 0xa0;
        size_t n_step = n_char > 0 ? n_char : 1;
        if (n + n_step >= capacity)
            break;
        if (n_char == 0 || is_control) {
            text[n++] = *from == '\n' || *from == '\t' ? ' ' : '?';
        } else {
            memcpy(text + n, from, n_char);
            n += n_char;
        }
        from += n_step;
    }
    text[n] = '\0';
}

static void fill_line(struct line *line, enum log_event event, const struct log_fields *fields,
                      const char *message)
{
    static const struct log_fields none = { 0 };
    size_t i = 0;
    line->event = &events[event];
    line->fields = fields ? fields : &none;
    clock_format_rfc3339(clock_wall_ms(), line->time);
    make_fit(line->message, sizeof line->message, message);
#define LOG_FIT(name) make_fit(line->texts[i++], LOG_TEXT_MAX, line->fields->name ? line->fields->name : "");
    LOG_TEXT_FIELDS(LOG_FIT)
#undef LOG_FIT
    if (!line->texts[0][0]) /* the correlation id is the first */
        make_fit(line->texts[0], LOG_TEXT_MAX, log_state.cause.id);
}

#define LOG_NAME(name) #name,
static const char *const text_names[N_TEXTS] = { LOG_TEXT_FIELDS(LOG_NAME) };
static const char *const number_names[N_NUMBERS] = { LOG_NUMBER_FIELDS(LOG_NAME) };
#undef LOG_NAME

static void read_numbers(const struct line *line, int64_t numbers[N_NUMBERS])
{
    size_t i = 0;
#define LOG_READ(name) numbers[i++] = line->fields->name;
    LOG_NUMBER_FIELDS(LOG_READ)
#undef LOG_READ
}

static bool write_json(const struct line *line, struct strbuf *out)
{
    int64_t numbers[N_NUMBERS];
    CLEANUP_JSON json_t *object =
        json_pack("{s:s, s:s, s:s, s:s}", "time", line->time, "level", level_names[line->event->level],
                  "event", line->event->name, "message", line->message);
    bool is_whole = object != NULL;
    for (size_t i = 0; i < N_TEXTS && is_whole; i++)
        is_whole = !line->texts[i][0] ||
                   json_object_set_new(object, text_names[i], json_string(line->texts[i])) == 0;
    read_numbers(line, numbers);
    for (size_t i = 0; i < N_NUMBERS && is_whole; i++)
        is_whole =
            numbers[i] == 0 || json_object_set_new(object, number_names[i], json_integer(numbers[i])) == 0;
    CLEANUP_FREE char *text = is_whole ? json_print(object) : NULL;
    return text && strbuf_add_text(out, text) && strbuf_add_char(out, '\n');
}

static bool write_text(const struct line *line, struct strbuf *out)
{
    int64_t numbers[N_NUMBERS];
    strbuf_printf(out, "%s %-7s %s: %s", line->time, level_names[line->event->level], line->event->name,
                  line->message);
    for (size_t i = 0; i < N_TEXTS; i++) {
        if (line->texts[i][0])
            strbuf_printf(out, " %s=%s", text_names[i], line->texts[i]);
    }
    read_numbers(line, numbers);
    for (size_t i = 0; i < N_NUMBERS; i++) {
        if (numbers[i] != 0)
            strbuf_printf(out, " %s=%" PRId64, number_names[i], numbers[i]);
    }
    return strbuf_add_char(out, '\n');
}

static void add_upper(struct strbuf *out, const char *name)
{
    for (; *name; name++)
        strbuf_add_char(out, *name >= 'a' && *name <= 'z' ? (char)(*name - 'a' + 'A') : *name);
}

/* Values have no line ends, so each is "NAME=value". */
static bool write_journal(const struct line *line, struct strbuf *out)
{
    int64_t numbers[N_NUMBERS];
    strbuf_printf(out, "MESSAGE=%s: %s\nPRIORITY=%d\nSYSLOG_IDENTIFIER=" IDENTIFIER "\nPOOL_EVENT=%s\n",
                  line->event->name, line->message, level_priorities[line->event->level], line->event->name);
    for (size_t i = 0; i < N_TEXTS; i++) {
        if (!line->texts[i][0])
            continue;
        strbuf_add_text(out, "POOL_");
        add_upper(out, text_names[i]);
        strbuf_printf(out, "=%s\n", line->texts[i]);
    }
    read_numbers(line, numbers);
    for (size_t i = 0; i < N_NUMBERS; i++) {
        if (numbers[i] == 0)
            continue;
        strbuf_add_text(out, "POOL_");
        add_upper(out, number_names[i]);
        strbuf_printf(out, "=%" PRId64 "\n", numbers[i]);
    }
    return out->failure == STRBUF_FINE;
}

static bool put(const struct line *line)
{
    enum log_form form = log_sink_form();
    CLEANUP(strbuf_done)
    struct strbuf out = STRBUF_INIT(form == LOG_FORM_JOURNAL ? ENTRY_MAX : LOG_LINE_MAX);
    bool is_made = form == LOG_FORM_JSON   ? write_json(line, &out)
                   : form == LOG_FORM_TEXT ? write_text(line, &out)
                                           : write_journal(line, &out);
    return is_made && out.failure == STRBUF_FINE && log_sink_put(out.data, out.n);
}

/* As soon as there is room again. */
static void tell_dropped(void)
{
    struct line line;
    char message[64];
    if (log_state.n_dropped == 0)
        return;
    snprintf(message, sizeof message, "%" PRIu64 " lines", log_state.n_dropped);
    fill_line(&line, LOG_LOG_DROPPED, NULL, message);
    line.texts[0][0] = '\0'; /* of no request */
    if (put(&line))
        log_state.n_dropped = 0;
}

void log_tell(enum log_event event, const struct log_fields *fields, const char *format, ...)
{
    struct line line;
    char message[LOG_MESSAGE_MAX];
    if (!log_has(events[event].level))
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    fill_line(&line, event, fields, message);
    tell_dropped();
    if (log_state.n_dropped > 0 || !put(&line))
        log_state.n_dropped++;
}
