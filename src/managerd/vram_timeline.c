/*
 * See vram_timeline.h. When there is no room, the sample goes whose place is missed least: the one whose neighbours are
 * closest together in proportion to its distance from the nearer end. So gaps grow with that distance, and the number of
 * samples with the logarithm of the life.
 */
#include "managerd/vram_timeline.h"

#include <string.h>

struct extremes {
    size_t most_observed; /* index; n: none */
    size_t least_free;
};

static struct extremes find_extremes(const struct vram_timeline *timeline)
{
    struct extremes found = { timeline->n, timeline->n };
    for (size_t i = 0; i < timeline->n; i++) {
        const struct vram_timeline_sample *sample = &timeline->samples[i];
        if (sample->observed_bytes.is_present &&
            (found.most_observed == timeline->n ||
             sample->observed_bytes.value > timeline->samples[found.most_observed].observed_bytes.value))
            found.most_observed = i;
        if (sample->free_bytes.is_present &&
            (found.least_free == timeline->n ||
             sample->free_bytes.value < timeline->samples[found.least_free].free_bytes.value))
            found.least_free = i;
    }
    return found;
}

/* The one that is missed least, neither one of the first nor the last nor an extreme. */
static size_t find_dispensable(const struct vram_timeline *timeline)
{
    const struct vram_timeline_sample *samples = timeline->samples;
    struct extremes kept = find_extremes(timeline);
    int64_t begin_ns = samples[0].at_ns, end_ns = samples[timeline->n - 1].at_ns;
    size_t best = VRAM_TIMELINE_FIRST;
    double least = -1;
    for (size_t i = VRAM_TIMELINE_FIRST; i + 1 < timeline->n; i++) {
        if (i == kept.most_observed || i == kept.least_free)
            continue;
        int64_t from_begin_ns = samples[i].at_ns - begin_ns, to_end_ns = end_ns - samples[i].at_ns;
        double distance = (double)(from_begin_ns < to_end_ns ? from_begin_ns : to_end_ns);
        double gap = (double)(samples[i + 1].at_ns - samples[i - 1].at_ns);
        double worth = gap / (distance + 1);
        if (least < 0 || worth < least) {
            least = worth;
            best = i;
        }
    }
    return best;
}

void vram_timeline_add(struct vram_timeline *timeline, const struct vram_timeline_sample *sample)
{
    if (timeline->n > 0 && sample->at_ns <= timeline->samples[timeline->n - 1].at_ns)
        return;
    if (timeline->n == VRAM_TIMELINE_MAX) {
        size_t i = find_dispensable(timeline);
        memmove(&timeline->samples[i], &timeline->samples[i + 1],
                (timeline->n - i - 1) * sizeof timeline->samples[0]);
        timeline->n--;
    }
    timeline->samples[timeline->n++] = *sample;
}
