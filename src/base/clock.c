/*
 * Clocks; see clock.h.
 */
#include "base/clock.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/number.h"

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

void clock_pause_ns(int64_t ns)
{
    struct timespec pause = { .tv_sec = ns / NS_PER_SEC, .tv_nsec = ns % NS_PER_SEC };
    ppoll(NULL, 0, &pause, NULL);
}

void clock_format_rfc3339(int64_t wall_ms, char text[RFC3339_MAX])
{
    if (wall_ms < RFC3339_MIN_WALL_MS || wall_ms > RFC3339_MAX_WALL_MS)
        wall_ms = 0;
    int64_t ms = wall_ms % 1000;
    int64_t seconds = wall_ms / 1000;
    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    time_t t = (time_t)seconds;
    struct tm utc = { 0 };
    gmtime_r(&t, &utc); /* can not fail in this range */
    char rest[16];
    strftime(rest, sizeof rest, "%m-%dT%H:%M:%S", &utc);
    /* strftime's %Y does not pad the first centuries to four digits. */
    snprintf(text, RFC3339_MAX, "%04u-%s.%03uZ", (unsigned)(utc.tm_year + 1900) % 10000U, rest,
             (unsigned)ms % 1000U);
}

bool clock_parse_rfc3339(const char *text, int64_t *ret_wall_ms)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd";
    static const struct {
        int at, n;
        int64_t min, max;
    } parts[] = { { 0, 4, 1, 9999 }, { 5, 2, 1, 12 },  { 8, 2, 1, 31 },
                  { 11, 2, 0, 23 },  { 14, 2, 0, 59 }, { 17, 2, 0, 59 } };
    for (size_t i = 0; form[i]; i++) {
        bool is_digit = text[i] >= '0' && text[i] <= '9';
        if (form[i] == 'd' ? !is_digit : text[i] != form[i])
            return false;
    }
    int64_t values[6];
    for (size_t i = 0; i < 6; i++) {
        if (!parse_int64_n(text + parts[i].at, (size_t)parts[i].n, parts[i].min, parts[i].max, &values[i]))
            return false;
    }
    const char *rest = text + sizeof form - 1;
    int64_t ms = 0;
    if (*rest == '.') {
        size_t n = strspn(rest + 1, "0123456789");
        if (n == 0)
            return false;
        for (size_t i = 1; i <= 3; i++)
            ms = 10 * ms + (i <= n ? rest[i] - '0' : 0);
        rest += 1 + n;
    }
    if (rest[0] != 'Z' || rest[1] != '\0')
        return false;
    struct tm utc = { .tm_year = (int)values[0] - 1900,
                      .tm_mon = (int)values[1] - 1,
                      .tm_mday = (int)values[2],
                      .tm_hour = (int)values[3],
                      .tm_min = (int)values[4],
                      .tm_sec = (int)values[5] };
    time_t seconds = timegm(&utc);
    if (utc.tm_mday != (int)values[2]) /* timegm made 1 March of 30 February */
        return false;
    *ret_wall_ms = (int64_t)seconds * 1000 + ms;
    return true;
}
