/*
 * The last lines of a worker's log for its crash bundle: bounded, valid UTF-8, without secrets.
 */
#include <pool/lifecycle.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/utf8.h"
#include "core/lifecycle/crash.h"
#include "core/lifecycle/redact.h"
#include "core/lifecycle/secret_marks.h"
#include "core/lifecycle/start_record.h"
#include "core/lifecycle/worker_log.h"

void crash_add_safe(struct strbuf *out, const char *text, size_t n)
{
    const char *end = text + n;
    for (const char *p = text; p < end;) {
        size_t n_char = *p ? utf8_length(p) : 1;
        unsigned char c = (unsigned char)*p;
        if (n_char == 0 || n_char > (size_t)(end - p)) {
            strbuf_add_text(out, UTF8_REPLACEMENT);
            p++;
            continue;
        }
        bool is_control = (c < 0x20 && c != '\t') || c == 0x7f;
        if (is_control)
            strbuf_add_char(out, '?');
        else
            strbuf_add(out, p, n_char);
        p += n_char;
    }
}

/* The end of `text` that has so many lines at most. */
static const char *last_lines(const char *text, size_t n, size_t n_max)
{
    const char *end = text + n;
    const char *p = end > text && end[-1] == '\n' ? end - 1 : end;
    for (size_t n_lines = 0; p > text; p--) {
        if (p[-1] == '\n' && ++n_lines == n_max)
            break;
    }
    return p;
}

/* One line, cleaned; a key that reaches over several lines is cut before, where the whole text is seen. */
static bool add_line(struct string_list *lines, const char *line, size_t n)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT((size_t)8 * POOL_CRASH_LOG_MAX_BYTES);
    crash_add_safe(&text, line, n);
    return text.failure == STRBUF_FINE && string_list_add(lines, strbuf_text(&text));
}

static bool split(const struct strbuf *text, struct string_list *lines)
{
    const char *p = strbuf_text(text);
    const char *end = p + text->n;
    while (p < end) {
        const char *feed = memchr(p, '\n', (size_t)(end - p));
        const char *line_end = feed ? feed : end;
        if (!add_line(lines, p, (size_t)(line_end - p)))
            return false;
        p = feed ? feed + 1 : end;
    }
    return true;
}

bool crash_take_log(struct pool_crash *crash, const struct pool_worker_info *worker, const char *marks,
                    struct string_list *known)
{
    CLEANUP(strbuf_done) struct strbuf tail = STRBUF_INIT(POOL_CRASH_LOG_MAX_BYTES);
    CLEANUP(strbuf_done) struct strbuf clean = STRBUF_INIT((size_t)8 * POOL_CRASH_LOG_MAX_BYTES);
    CLEANUP(string_list_done) struct string_list lines = { 0 };
    struct stat st;
    bool is_its_own = worker->log_path && (worker->log_identity == 0 ||
                                           worker_log_identity(worker->log_path) == worker->log_identity);
    if (!is_its_own || stat(worker->log_path, &st) < 0 ||
        file_read_tail(worker->log_path, POOL_CRASH_LOG_MAX_BYTES, &tail) != 0)
        return tail.failure != STRBUF_NO_MEMORY;
    const char *text = strbuf_text(&tail);
    const char *begin = last_lines(text, tail.n, POOL_CRASH_LOG_MAX_LINES);
    size_t n = (size_t)(text + tail.n - begin);
    crash->is_log_cut = st.st_size > (off_t)n;
    if (marks && !secret_marks_find(marks, begin, n, known))
        return false;
    redact_text(begin, n, known, &clean);
    if (clean.failure == STRBUF_NO_MEMORY || !split(&clean, &lines) || lines.has_failed)
        return false;
    crash->n_log = lines.n;
    crash->log = string_list_take(&lines);
    if (!crash->log)
        crash->n_log = 0;
    return crash->log != NULL;
}

/* As many of the last lines as fit, whole ones; of one that does not its end, from a whole character on. */
static void join_lines(const struct pool_crash *crash, char *text, size_t n)
{
    size_t first = crash->n_log, n_bytes = 0;
    text[0] = '\0';
    while (first > 0 && n_bytes + strlen(crash->log[first - 1]) + 1 < n)
        n_bytes += strlen(crash->log[--first]) + 1;
    if (first == crash->n_log && first > 0) {
        const char *line = crash->log[first - 1];
        line += strlen(line) > n - 1 ? strlen(line) - (n - 1) : 0;
        while ((*line & 0xc0) == 0x80)
            line++;
        snprintf(text, n, "%s", line);
        return;
    }
    for (size_t at = 0; first < crash->n_log; first++)
        at += (size_t)snprintf(text + at, n - at, "%s\n", crash->log[first]);
}

void crash_log_tail(struct pool_manager *manager, const struct pool_worker_info *worker, char *text, size_t n)
{
    CLEANUP(string_list_done) struct string_list known = { 0 };
    CLEANUP_FREE char *marks = NULL;
    CLEANUP(free_crash) struct pool_crash *launch = start_record_read_launch(worker, &marks);
    CLEANUP(free_crash)
    struct pool_crash *bundle = !launch && manager ? crash_of_start(manager, worker) : NULL;
    CLEANUP(free_crash) struct pool_crash *read = bundle ? NULL : pool_crash_new();
    text[0] = '\0';
    if (manager)
        crash_learn_secrets(manager, worker, &known);
    if (bundle)
        join_lines(bundle, text, n);
    else if (read && !known.has_failed && crash_take_log(read, worker, marks, &known))
        join_lines(read, text, n);
}
