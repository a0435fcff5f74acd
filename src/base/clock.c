/*
 * Clocks; see clock.h.
 */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

int64_t clock_boottime_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * NS_PER_SEC + now.tv_nsec;
}

int64_t clock_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / NS_PER_MS;
}

void clock_format_rfc3339(int64_t wall_ms, char text[RFC3339_MAX])
{
    int64_t ms = wall_ms % 1000;
    int64_t seconds = wall_ms / 1000;
    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    time_t t = (time_t)seconds;
    struct tm utc;
    if (!gmtime_r(&t, &utc) || utc.tm_year < -1900 || utc.tm_year > 8099) {
        snprintf(text, RFC3339_MAX, "1970-01-01T00:00:00.000Z");
        return;
    }
    char day[24];
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text, RFC3339_MAX, "%s.%03dZ", day, (int)ms);
}
