/*
 * Time. Inside, time is CLOCK_BOOTTIME in nanoseconds: it counts through suspend and means the same
 * in every process of one boot. Wall time (milliseconds since 1970, UTC) is for the edges only.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define NS_PER_MS  INT64_C(1000000)
#define NS_PER_SEC INT64_C(1000000000)

int64_t clock_boottime_ns(void);
int64_t clock_wall_ms(void);

/* Waits. For short, bounded pauses between tries only: what can be waited for by an event is. */
void clock_pause_ns(int64_t ns);

#define RFC3339_MAX         32
#define RFC3339_MIN_WALL_MS INT64_C(-62135596800000) /* 0001-01-01T00:00:00.000Z */
#define RFC3339_MAX_WALL_MS INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */
/* Writes wall time as RFC 3339 UTC with milliseconds, "2025-10-09T12:00:00.123Z". Outside the range: the epoch. */
void clock_format_rfc3339(int64_t wall_ms, char text[RFC3339_MAX]);
/* Reads RFC 3339 in UTC ("Z"), with or without a fraction of a second, which is cut to milliseconds. No leap seconds. */
bool clock_parse_rfc3339(const char *text, int64_t *ret_wall_ms);

#endif
