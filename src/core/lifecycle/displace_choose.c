/*
 * The choice of whom to stop; see displace.h. A search for the least set of a size, size by size: candidates in the order of
 * how much they help, each branch left as soon as the best of what follows can not make it enough, or can not make it better
 * than what was found. The number of sets grows fast, so its steps are bounded.
 */
#include "core/lifecycle/displace.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"

struct helper {
    const struct displace_candidate *candidate;
    size_t index; /* in the caller's array */
    int64_t help_bytes;
};

struct search {
    size_t n, n_devices;
    const int64_t *missing_bytes;
    struct helper *helpers;  /* who helps most comes first */
    int64_t *most_bytes;     /* [i * n_devices + d]: the most that one from i on gives to d */
    int64_t *least_bytes;    /* [i]: the least that one from i on gives back in all */
    size_t *chosen, *best;   /* indexes of helpers */
    int64_t *have_bytes;     /* [depth * n_devices + d]: of those chosen before */
    int64_t *have_all_bytes; /* [depth] */
    size_t n_best;           /* 0: none found */
    size_t n_steps;
};

static void search_done(struct search *search)
{
    free(search->helpers);
    free(search->most_bytes);
    free(search->least_bytes);
    free(search->chosen);
    free(search->best);
    free(search->have_bytes);
    free(search->have_all_bytes);
}

static int64_t times(int64_t bytes, size_t n)
{
    int64_t product;
    return __builtin_mul_overflow(bytes, (int64_t)n, &product) ? INT64_MAX : product;
}

static int compare_numbers(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare_help(const void *a, const void *b)
{
    const struct helper *one = a, *other = b;
    int order = compare_numbers(other->help_bytes, one->help_bytes);
    if (order == 0)
        order = compare_numbers(one->candidate->total_bytes, other->candidate->total_bytes);
    if (order == 0)
        order = compare_numbers(one->candidate->idle_since_ns, other->candidate->idle_since_ns);
    return order ? order : strcmp(one->candidate->worker->worker_id, other->candidate->worker->worker_id);
}

/* How much it helps: no more than is missing counts. */
static int64_t help_of(const struct displace_candidate *candidate, const int64_t *missing_bytes,
                       size_t n_devices)
{
    int64_t sum = 0;
    for (size_t d = 0; d < n_devices; d++) {
        int64_t missing = excess_bytes(missing_bytes[d], 0);
        sum = add_bytes(sum, candidate->gives_bytes[d] < missing ? candidate->gives_bytes[d] : missing);
    }
    return sum;
}

static bool search_prepare(struct search *search, const struct displace_candidate *candidates, size_t n)
{
    size_t n_devices = search->n_devices;
    search->helpers = calloc(n + 1, sizeof *search->helpers);
    search->most_bytes = calloc((n + 1) * n_devices, sizeof *search->most_bytes);
    search->least_bytes = calloc(n + 1, sizeof *search->least_bytes);
    search->chosen = calloc(n + 1, sizeof *search->chosen);
    search->best = calloc(n + 1, sizeof *search->best);
    search->have_bytes = calloc((n + 1) * n_devices, sizeof *search->have_bytes);
    search->have_all_bytes = calloc(n + 1, sizeof *search->have_all_bytes);
    if (!search->helpers || !search->most_bytes || !search->least_bytes || !search->chosen || !search->best ||
        !search->have_bytes || !search->have_all_bytes)
        return false;
    for (size_t i = 0; i < n; i++) {
        int64_t help = help_of(&candidates[i], search->missing_bytes, n_devices);
        if (help > 0) /* who gives nothing that is missing is never stopped */
            search->helpers[search->n++] = (struct helper){ &candidates[i], i, help };
    }
    qsort(search->helpers, search->n, sizeof *search->helpers, compare_help);
    search->least_bytes[search->n] = INT64_MAX;
    for (size_t i = search->n; i-- > 0;) {
        const struct displace_candidate *candidate = search->helpers[i].candidate;
        int64_t least = search->least_bytes[i + 1];
        search->least_bytes[i] = candidate->total_bytes < least ? candidate->total_bytes : least;
        for (size_t d = 0; d < n_devices; d++) {
            int64_t most = search->most_bytes[(i + 1) * n_devices + d];
            int64_t gives = candidate->gives_bytes[d];
            search->most_bytes[i * n_devices + d] = gives > most ? gives : most;
        }
    }
    return true;
}

/* ---- which of two sets ---- */

struct ranked {
    int64_t idle_since_ns;
    const char *worker_id;
};

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *one = a, *other = b;
    int order = compare_numbers(other->idle_since_ns, one->idle_since_ns); /* who was used last comes first */
    return order ? order : strcmp(one->worker_id, other->worker_id);
}

static void rank(const struct search *search, const size_t *set, size_t n, struct ranked *ranked)
{
    for (size_t i = 0; i < n; i++) {
        const struct displace_candidate *candidate = search->helpers[set[i]].candidate;
        ranked[i] = (struct ranked){ candidate->idle_since_ns, candidate->worker->worker_id };
    }
    qsort(ranked, n, sizeof *ranked, compare_ranked);
}

static int64_t sum_of(const struct search *search, const size_t *set, size_t n)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum = add_bytes(sum, search->helpers[set[i]].candidate->total_bytes);
    return sum;
}

/* Of as many workers. Without memory for a comparison the first one stays. */
static bool is_better(const struct search *search, const size_t *set, const size_t *than, size_t n)
{
    int order = compare_numbers(sum_of(search, set, n), sum_of(search, than, n));
    if (order != 0)
        return order < 0;
    CLEANUP_FREE struct ranked *ranked = calloc(2 * n, sizeof *ranked);
    if (!ranked)
        return false;
    rank(search, set, n, ranked);
    rank(search, than, n, ranked + n);
    for (size_t i = 0; i < n && order == 0; i++)
        order = compare_numbers(ranked[i].idle_since_ns, ranked[n + i].idle_since_ns);
    for (size_t i = 0; i < n && order == 0; i++)
        order = strcmp(ranked[i].worker_id, ranked[n + i].worker_id);
    return order < 0;
}

/* ---- the search for sets of one size ---- */

/* Whether n_more from `next` on can make it enough, and no worse than what was found. */
static bool may_reach(const struct search *search, size_t depth, size_t next, size_t n_more)
{
    if (n_more > search->n - next)
        return false;
    for (size_t d = 0; d < search->n_devices; d++) {
        int64_t most = n_more ? times(search->most_bytes[next * search->n_devices + d], n_more) : 0;
        if (add_bytes(search->have_bytes[depth * search->n_devices + d], most) < search->missing_bytes[d])
            return false;
    }
    int64_t least = n_more ? times(search->least_bytes[next], n_more) : 0;
    return search->n_best == 0 ||
           add_bytes(search->have_all_bytes[depth], least) <= sum_of(search, search->best, search->n_best);
}

static void take(struct search *search, size_t depth, size_t index)
{
    const struct displace_candidate *candidate = search->helpers[index].candidate;
    size_t n_devices = search->n_devices;
    search->chosen[depth] = index;
    for (size_t d = 0; d < n_devices; d++)
        search->have_bytes[(depth + 1) * n_devices + d] =
            add_bytes(search->have_bytes[depth * n_devices + d], candidate->gives_bytes[d]);
    search->have_all_bytes[depth + 1] = add_bytes(search->have_all_bytes[depth], candidate->total_bytes);
}

static void search_size(struct search *search, size_t size)
{
    size_t depth = 0, next = 0;
    while (search->n_steps++ < DISPLACE_STEPS_MAX) {
        bool is_whole = depth == size;
        if (is_whole && may_reach(search, depth, next, 0) &&
            (search->n_best == 0 || is_better(search, search->chosen, search->best, size))) {
            memcpy(search->best, search->chosen, size * sizeof *search->best);
            search->n_best = size;
        }
        if (is_whole || !may_reach(search, depth, next, size - depth)) {
            if (depth == 0)
                return;
            next = search->chosen[--depth] + 1;
            continue;
        }
        take(search, depth++, next++);
    }
}

/* ---- without a search ---- */

static bool is_enough(const struct search *search, const size_t *set, size_t n, size_t without)
{
    for (size_t d = 0; d < search->n_devices; d++) {
        int64_t sum = 0;
        for (size_t i = 0; i < n; i++) {
            if (i != without)
                sum = add_bytes(sum, search->helpers[set[i]].candidate->gives_bytes[d]);
        }
        if (sum < search->missing_bytes[d])
            return false;
    }
    return true;
}

/* Everybody, and then without each who is not needed, those first who help least. */
static void drop_needless(struct search *search)
{
    size_t n = search->n;
    for (size_t i = 0; i < n; i++)
        search->best[i] = i;
    for (size_t i = n; i-- > 0;) {
        if (!is_enough(search, search->best, n, i))
            continue;
        memmove(&search->best[i], &search->best[i + 1], (n - i - 1) * sizeof *search->best);
        n--;
    }
    search->n_best = n;
}

static int compare_most(const void *a, const void *b)
{
    return compare_numbers(*(const int64_t *)b, *(const int64_t *)a);
}

/* With fewer than this it can not be enough on one of the devices. 0: no memory. */
static size_t least_size(const struct search *search)
{
    size_t least = 1;
    CLEANUP_FREE int64_t *gives = calloc(search->n + 1, sizeof *gives);
    if (!gives)
        return 0;
    for (size_t d = 0; d < search->n_devices; d++) {
        int64_t sum = 0;
        size_t n = 0;
        for (size_t i = 0; i < search->n; i++)
            gives[i] = search->helpers[i].candidate->gives_bytes[d];
        qsort(gives, search->n, sizeof *gives, compare_most);
        while (n < search->n && sum < search->missing_bytes[d])
            sum = add_bytes(sum, gives[n++]);
        least = n > least ? n : least;
    }
    return least;
}

bool displace_choose(const struct displace_candidate *candidates, size_t n, const int64_t *missing_bytes,
                     size_t n_devices, bool *is_chosen, bool *ret_is_no_memory)
{
    CLEANUP(search_done)
    struct search search = { .n_devices = n_devices, .missing_bytes = missing_bytes };
    memset(is_chosen, 0, n * sizeof *is_chosen);
    *ret_is_no_memory = !search_prepare(&search, candidates, n);
    if (*ret_is_no_memory)
        return false;
    for (size_t i = 0; i < search.n; i++)
        search.chosen[i] = i;
    if (!is_enough(&search, search.chosen, search.n, SIZE_MAX))
        return false;
    size_t size = least_size(&search);
    *ret_is_no_memory = size == 0;
    for (; size > 0 && size <= search.n && search.n_best == 0 && search.n_steps < DISPLACE_STEPS_MAX; size++)
        search_size(&search, size);
    if (search.n_best == 0 && size > 0)
        drop_needless(&search);
    for (size_t i = 0; i < search.n_best; i++)
        is_chosen[search.helpers[search.best[i]].index] = true;
    return !*ret_is_no_memory;
}
