/*
 * How a download is getting on: a bar with rate and time left on a terminal, one JSON line a second with --json, nothing
 * in a pipe.
 */
#ifndef DOWNLOAD_METER_H
#define DOWNLOAD_METER_H

#include "cli/program.h"

#define METER_SAMPLES 32

struct meter {
    const struct cli *cli;
    const char *subject;  /* what is worked on; borrowed */
    const char *activity; /* "download", "copy", "check", "wait": the event of the JSON lines; static */
    int64_t total_bytes;
    int64_t done_bytes;
    struct meter_sample {
        int64_t at_ns, bytes;
    } samples[METER_SAMPLES]; /* the last few seconds, a ring */
    size_t n_samples;         /* taken so far */
    int64_t drawn_ns, written_ns;
    bool is_drawn;
};

/* Begins an activity; what is there already does not count for the rate. */
void meter_begin(struct meter *meter, const char *subject, const char *activity, int64_t done_bytes,
                 int64_t total_bytes);
/* Says how far it is; shown as often as it is good to look at. */
void meter_set(struct meter *meter, int64_t done_bytes);
/* Bytes a second over the last few seconds; -1: not known yet. */
int64_t meter_rate(const struct meter *meter);
/* Takes the bar away. */
void meter_clear(struct meter *meter);

/* The bar as text for a terminal of so many columns, without what moves the cursor. */
void meter_draw(const struct meter *meter, int columns, struct strbuf *ret_text);

#endif
