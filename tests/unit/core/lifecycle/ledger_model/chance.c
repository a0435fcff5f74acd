/*
 * Which run this is, and what has happened in it.
 */
#include "model.h"

#define N_STEPS_USUAL 600

int64_t random_below(struct model *model, int64_t n) /* xorshift64* */
{
    uint64_t x = model->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    model->random = x;
    return (int64_t)((x * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % n;
}

uint64_t model_seed(void)
{
    const char *text = getenv("POOL_MODEL_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : (uint64_t)clock_boottime_ns();
    seed = seed ? seed : 1;
    print_message("POOL_MODEL_SEED=%" PRIu64 "\n", seed);
    return seed;
}

int64_t model_steps(void)
{
    const char *text = getenv("POOL_MODEL_STEPS");
    return text ? strtoll(text, NULL, 10) : N_STEPS_USUAL;
}

static const struct {
    const char *name;
    int64_t due_steps;
} events[N_EVENTS] = {
#define X(name, steps) { #name, steps },
    MODEL_EVENTS(X)
#undef X
};

static const char *const lie_names[N_LIES] = {
    [LIE_NONE] = "none",
    [LIE_FREE_LOW] = "free too low",
    [LIE_FREE_HIGH] = "free too high",
    [LIE_FIGURES] = "figures that contradict each other",
    [LIE_STALE] = "stale",
    [LIE_BYTES_UNSAID] = "bytes of processes unsaid",
    [LIE_BYTES_ABSURD] = "bytes of processes absurd",
    [LIE_BYTES_HIGH] = "bytes of processes too high",
    [LIE_BYTES_LOW] = "bytes of processes too low",
    [LIE_ONE_MISSING] = "a process missing",
    [LIE_NO_LIST] = "no list of processes",
    [LIE_LOST] = "device lost",
    [LIE_NO_MEMORY] = "error in place of its memory",
};
static const char *const fault_names[N_FAULTS] = { "none", "devices not counted", "no driver", "slow" };

#define LIES_DUE_STEPS 3000

static bool print_count(const char *kind, const char *name, int64_t n, bool is_due)
{
    print_message("  %s%s: %" PRId64 "%s\n", kind, name, n, n == 0 && is_due ? "  NEVER" : "");
    return n > 0 || !is_due;
}

void model_report(const struct model *model, int64_t n_steps)
{
    bool is_complete = true;
    print_message("%" PRId64 " steps\n", n_steps);
    for (int i = 0; i < N_EVENTS; i++)
        is_complete = print_count("", events[i].name, model->n_events[i], n_steps >= events[i].due_steps) &&
                      is_complete;
    for (int i = LIE_NONE + 1; i < N_LIES; i++)
        is_complete =
            print_count("lie: ", lie_names[i], model->n_lies[i], n_steps >= LIES_DUE_STEPS) && is_complete;
    for (int i = FAULT_NONE + 1; i < N_FAULTS; i++)
        is_complete = print_count("fault: ", fault_names[i], model->n_faults[i], n_steps >= LIES_DUE_STEPS) &&
                      is_complete;
    if (!is_complete)
        fail_msg("something never happened");
}
