/*
 * What every benchmark does the same way: collect samples, and print a line "NAME MEDIAN P99 N", in nanoseconds, which
 * bench/run reads. A measurement that can not be made ends the program with the reason on standard error.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pool/error.h>

#include "base/clock.h"
#include "base/number.h"

struct samples {
    size_t n;
    size_t capacity;
    int64_t *at;
};

static inline void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static inline void __attribute__((noreturn)) die_errno(const char *what)
{
    die("%s: %s", what, strerror(errno));
}

/* Nothing that fails is measured. */
static inline void expect_ok(enum pool_code code, const struct pool_error *err)
{
    if (code != POOL_OK)
        die("%s: %s", pool_code_name(code), err->message);
}

static inline void add_sample(struct samples *samples, int64_t value)
{
    if (samples->n == samples->capacity) {
        samples->capacity = samples->capacity ? 2 * samples->capacity : 256;
        samples->at = reallocarray(samples->at, samples->capacity, sizeof *samples->at);
        if (!samples->at)
            die("out of memory");
    }
    samples->at[samples->n++] = value;
}

static inline int compare_samples(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Prints and empties. */
static inline void report(const char *name, struct samples *samples)
{
    if (samples->n == 0)
        die("%s: nothing was measured", name);
    qsort(samples->at, samples->n, sizeof *samples->at, compare_samples);
    printf("%s %" PRId64 " %" PRId64 " %zu\n", name, samples->at[samples->n / 2],
           samples->at[(samples->n - 1) * 99 / 100], samples->n);
    fflush(stdout);
    free(samples->at);
    *samples = (struct samples){ 0 };
}

/* A positive number of the command line. */
static inline int64_t count_argument(const char *text)
{
    int64_t value;
    if (!parse_int64(text, 1, INT32_MAX, &value))
        die("not a positive number: %s", text);
    return value;
}

#endif
