/*
 * Numbers from text and byte counts for people; see number.h.
 */
#include "base/number.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

bool parse_int64_n(const char *text, size_t n, int64_t min, int64_t max, int64_t *ret_value)
{
    bool is_negative = n > 0 && text[0] == '-';
    size_t i = is_negative ? 1 : 0;
    if (i == n)
        return false;
    int64_t value = 0;
    for (; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        int digit = text[i] - '0';
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, is_negative ? -digit : digit, &value))
            return false;
    }
    if (value < min || value > max)
        return false;
    *ret_value = value;
    return true;
}

bool parse_int64(const char *text, int64_t min, int64_t max, int64_t *ret_value)
{
    return parse_int64_n(text, strlen(text), min, max, ret_value);
}

static const struct {
    const char *name;
    int64_t factor;
} byte_units[] = {
    { "", 1 },
    { "B", 1 },
    { "K", INT64_C(1) << 10 },
    { "KiB", INT64_C(1) << 10 },
    { "KB", 1000 },
    { "M", INT64_C(1) << 20 },
    { "MiB", INT64_C(1) << 20 },
    { "MB", 1000000 },
    { "G", INT64_C(1) << 30 },
    { "GiB", INT64_C(1) << 30 },
    { "GB", INT64_C(1000000000) },
    { "T", INT64_C(1) << 40 },
    { "TiB", INT64_C(1) << 40 },
    { "TB", INT64_C(1000000000000) },
};

bool parse_bytes(const char *text, int64_t *ret_bytes)
{
    size_t n_whole = strspn(text, "0123456789");
    int64_t whole;
    if (!parse_int64_n(text, n_whole, 0, INT64_MAX, &whole))
        return false;
    const char *rest = text + n_whole;
    double fraction = 0;
    if (*rest == '.') {
        size_t n = strspn(rest + 1, "0123456789");
        if (n == 0 || n > 9)
            return false;
        double place = 0.1;
        for (size_t i = 1; i <= n; i++, place /= 10)
            fraction += place * (rest[i] - '0');
        rest += 1 + n;
    }
    if (rest[0] == ' ' && rest[1] != '\0')
        rest++;
    for (size_t i = 0; i < sizeof byte_units / sizeof byte_units[0]; i++) {
        if (strcmp(rest, byte_units[i].name) != 0)
            continue;
        if (fraction > 0 && byte_units[i].factor == 1)
            return false;
        int64_t bytes;
        if (__builtin_mul_overflow(whole, byte_units[i].factor, &bytes) ||
            __builtin_add_overflow(bytes, (int64_t)llround(fraction * (double)byte_units[i].factor), &bytes))
            return false;
        *ret_bytes = bytes;
        return true;
    }
    return false;
}

void format_bytes(int64_t bytes, char text[HUMAN_BYTES_MAX])
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = (double)bytes;
    size_t unit = 0;
    while (fabs(value) >= 1023.95 && unit < sizeof units / sizeof units[0] - 1) {
        value /= 1024;
        unit++;
    }
    snprintf(text, HUMAN_BYTES_MAX, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

int64_t add_bytes(int64_t a, int64_t b)
{
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return a > 0 ? INT64_MAX : INT64_MIN;
    return sum;
}

int64_t excess_bytes(int64_t a, int64_t b)
{
    int64_t difference;
    if (__builtin_sub_overflow(a, b, &difference))
        return a > b ? INT64_MAX : 0;
    return difference > 0 ? difference : 0;
}
