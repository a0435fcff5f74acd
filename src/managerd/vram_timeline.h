/*
 * What a worker held of one device over time, in a bounded number of samples: however long it lives, its beginning, its peak,
 * the moment when least was free and its last minutes stay, and what is between is thinned out, the more the farther it is
 * from both ends. Pure.
 */
#ifndef MANAGERD_VRAM_TIMELINE_H
#define MANAGERD_VRAM_TIMELINE_H

#include <pool/worker.h>

#define VRAM_TIMELINE_MAX   128 /* samples */
#define VRAM_TIMELINE_FIRST 8   /* of them the first, which always stay */

struct vram_timeline_sample {
    int64_t at_ns; /* CLOCK_BOOTTIME */
    struct pool_reading observed_bytes;
    struct pool_reading free_bytes;
};

/* All zero: empty. Samples are in the order of their time. */
struct vram_timeline {
    size_t n;
    struct vram_timeline_sample samples[VRAM_TIMELINE_MAX];
};

/* Adds a sample that is later than all others; an earlier one is left out. */
void vram_timeline_add(struct vram_timeline *timeline, const struct vram_timeline_sample *sample);

#endif
