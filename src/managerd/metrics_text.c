/*
 * Metrics as text; see metrics_text.h.
 */
#include "managerd/metrics_text.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"

#define REAL_EXACT_MAX 1e15 /* whole numbers up to here are written as such */

void histogram_observe(struct histogram *histogram, const struct histogram_bounds *bounds,
                       int64_t duration_ns)
{
    if (duration_ns < 0)
        duration_ns = 0;
    double seconds = (double)duration_ns / (double)NS_PER_SEC;
    size_t i = 0;
    while (i < bounds->n && seconds > bounds->at[i].seconds)
        i++;
    histogram->n[i]++;
    if (__builtin_add_overflow(histogram->sum_ns, duration_ns, &histogram->sum_ns))
        histogram->sum_ns = INT64_MAX;
}

void metrics_text_family(struct strbuf *out, const char *name, const char *type, const char *help)
{
    strbuf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_text_label_value(struct strbuf *out, const char *text)
{
    for (;;) {
        size_t n = strcspn(text, "\\\"\n");
        strbuf_add(out, text, n);
        text += n;
        if (!*text)
            return;
        strbuf_add_char(out, '\\');
        strbuf_add_char(out, *text == '\n' ? 'n' : *text);
        text++;
    }
}

/* What printf does in five times the time; there are some hundred numbers in a scrape. */
static void add_integer(struct strbuf *out, int64_t value)
{
    char digits[24];
    size_t at = sizeof digits;
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        digits[--at] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (value < 0)
        digits[--at] = '-';
    strbuf_add(out, digits + at, sizeof digits - at);
}

/* NAME{LABEL="VALUE"} and the space behind it. */
static void begin_sample(struct strbuf *out, const char *name, const char *label, const char *label_value)
{
    strbuf_add_text(out, name);
    if (label) {
        strbuf_add_char(out, '{');
        strbuf_add_text(out, label);
        strbuf_add_text(out, "=\"");
        metrics_text_label_value(out, label_value);
        strbuf_add_text(out, "\"}");
    }
    strbuf_add_char(out, ' ');
}

void metrics_text_integer(struct strbuf *out, const char *name, const char *label, const char *label_value,
                          int64_t value)
{
    begin_sample(out, name, label, label_value);
    add_integer(out, value);
    strbuf_add_char(out, '\n');
}

void metrics_text_real(struct strbuf *out, const char *name, const char *label, const char *label_value,
                       double value)
{
    if (value >= -REAL_EXACT_MAX && value <= REAL_EXACT_MAX && (double)(int64_t)value == value) {
        metrics_text_integer(out, name, label, label_value, (int64_t)value);
        return;
    }
    begin_sample(out, name, label, label_value);
    strbuf_printf(out, "%.15g\n", value);
}

static void begin_bucket(struct strbuf *out, const char *name, const char *label, const char *label_value)
{
    strbuf_add_text(out, name);
    strbuf_add_text(out, "_bucket{");
    if (label) {
        strbuf_add_text(out, label);
        strbuf_add_text(out, "=\"");
        metrics_text_label_value(out, label_value);
        strbuf_add_text(out, "\",");
    }
}

void metrics_text_histogram(struct strbuf *out, const char *name, const char *label, const char *label_value,
                            const struct histogram *histogram, const struct histogram_bounds *bounds)
{
    uint64_t n = 0;
    for (size_t i = 0; i <= bounds->n; i++) {
        n += histogram->n[i];
        begin_bucket(out, name, label, label_value);
        strbuf_add_text(out, "le=\"");
        strbuf_add_text(out, i < bounds->n ? bounds->at[i].text : "+Inf");
        strbuf_add_text(out, "\"} ");
        add_integer(out, (int64_t)n);
        strbuf_add_char(out, '\n');
    }
    const char *const ends[] = { "_sum", "_count" };
    for (size_t i = 0; i < 2; i++) {
        strbuf_add_text(out, name);
        begin_sample(out, ends[i], label, label_value);
        if (i == 0) /* to the nanosecond, whatever its size */
            strbuf_printf(out, "%" PRId64 ".%09" PRId64 "\n", histogram->sum_ns / NS_PER_SEC,
                          histogram->sum_ns % NS_PER_SEC);
        else
            strbuf_printf(out, "%" PRIu64 "\n", n);
    }
}
