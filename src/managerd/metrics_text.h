/*
 * The text format of Prometheus, version 0.0.4: families, samples with at most one label, histograms. No input or
 * output here. Source: prometheus.io/docs/instrumenting/exposition_formats.
 */
#ifndef MANAGERD_METRICS_TEXT_H
#define MANAGERD_METRICS_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"

/* How long something took, by how many were at most so long. All of one kind share the bounds. */
#define HISTOGRAM_BOUNDS_MAX 16

struct histogram_bounds {
    size_t n;
    struct {
        double seconds; /* rising */
        const char *text;
    } at[HISTOGRAM_BOUNDS_MAX];
};
/* In a list of bounds: the number as such and as text. */
#define HISTOGRAM_BOUND(seconds) \
    {                            \
        seconds, #seconds        \
    }

struct histogram {
    uint64_t n[HISTOGRAM_BOUNDS_MAX + 1]; /* each by itself; the last: longer than all */
    int64_t sum_ns;
};

void histogram_observe(struct histogram *histogram, const struct histogram_bounds *bounds,
                       int64_t duration_ns);

/* "# HELP" and "# TYPE" of a family; its samples follow. `name` with its prefix. */
void metrics_text_family(struct strbuf *out, const char *name, const char *type, const char *help);
/* label NULL: none. Its value may be any text. */
void metrics_text_integer(struct strbuf *out, const char *name, const char *label, const char *label_value,
                          int64_t value);
void metrics_text_real(struct strbuf *out, const char *name, const char *label, const char *label_value,
                       double value);
/* Escapes a label's value as the format wants it. */
void metrics_text_label_value(struct strbuf *out, const char *text);
/* The samples NAME_bucket, NAME_sum and NAME_count; label NULL: none but "le". */
void metrics_text_histogram(struct strbuf *out, const char *name, const char *label, const char *label_value,
                            const struct histogram *histogram, const struct histogram_bounds *bounds);

#endif
