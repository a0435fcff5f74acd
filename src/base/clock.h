/*
 * Time. Inside, time is CLOCK_BOOTTIME in nanoseconds: it counts through suspend and means the same
 * in every process of one boot. Wall time (milliseconds since 1970, UTC) is for the edges only.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

#define NS_PER_MS  INT64_C(1000000)
#define NS_PER_SEC INT64_C(1000000000)

int64_t clock_boottime_ns(void);
int64_t clock_wall_ms(void);

#define RFC3339_MAX 32
/* Writes wall time as RFC 3339 UTC with milliseconds, "2025-10-09T12:00:00.123Z". */
void clock_format_rfc3339(int64_t wall_ms, char text[RFC3339_MAX]);

#endif
