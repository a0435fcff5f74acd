/*
 * Nearest names by edit distance; see nearest.h. Names are short: longer ones are not compared.
 */
#include "base/nearest.h"

#include <stdint.h>
#include <string.h>

#define NAME_BYTES_MAX 64

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Insertions, deletions, replacements and swaps of neighbours; three rows of the usual table. */
static size_t edit_distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
    size_t rows[3][NAME_BYTES_MAX + 1];
    size_t *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= n_b; j++)
        last[j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        now[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            now[j] = min_size(min_size(last[j], now[j - 1]) + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = min_size(now[j], before[j - 2] + 1);
        }
        size_t *spare = before;
        before = last;
        last = now;
        now = spare;
    }
    return last[n_b];
}

const char *nearest_name(const char *wanted, const char *const *names, size_t n_names)
{
    const char *best = NULL;
    size_t best_distance = SIZE_MAX;
    size_t n_wanted = strlen(wanted);
    if (n_wanted > NAME_BYTES_MAX)
        return NULL;
    for (size_t i = 0; i < n_names; i++) {
        size_t n = strlen(names[i]);
        if (n > NAME_BYTES_MAX)
            continue;
        size_t distance = edit_distance(wanted, n_wanted, names[i], n);
        if (distance < best_distance && distance <= (n + 2) / 3) {
            best = names[i];
            best_distance = distance;
        }
    }
    return best;
}
