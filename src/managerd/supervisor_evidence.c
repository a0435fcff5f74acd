/*
 * What is seen of workers while they live, for the case that they die: what they hold of their devices over time, and how it
 * is handed to the library when an end is recorded; see supervisor.h.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "managerd/supervisor_internal.h"
#include "managerd/vram_timeline.h"

struct device_timeline {
    char gpu_uuid[POOL_GPU_UUID_MAX];
    struct vram_timeline samples;
};

struct timelines {
    int64_t since_wall_ms;
    size_t n;
    struct device_timeline at[]; /* POOL_SPLIT_DEVICES_MAX */
};

void timelines_free(struct timelines *timelines)
{
    free(timelines);
}

/* ---- taking samples ---- */

static struct device_timeline *find_timeline(struct timelines *timelines, const char *gpu_uuid)
{
    for (size_t i = 0; i < timelines->n; i++) {
        if (strcmp(timelines->at[i].gpu_uuid, gpu_uuid) == 0)
            return &timelines->at[i];
    }
    return NULL;
}

/* Grows by one device; without memory there is one sample less. */
static struct device_timeline *add_timeline(struct timelines **timelines, const char *gpu_uuid)
{
    size_t n = *timelines ? (*timelines)->n : 0;
    if (n == POOL_SPLIT_DEVICES_MAX)
        return NULL;
    struct timelines *grown = realloc(*timelines, sizeof *grown + (n + 1) * sizeof grown->at[0]);
    if (!grown)
        return NULL;
    if (n == 0)
        grown->since_wall_ms = clock_wall_ms();
    grown->n = n + 1;
    memset(&grown->at[n], 0, sizeof grown->at[n]);
    memcpy(grown->at[n].gpu_uuid, gpu_uuid, strlen(gpu_uuid) + 1);
    *timelines = grown;
    return &grown->at[n];
}

/* What its processes hold there. Absent: the driver does not list any, or not how much. */
static struct pool_reading held_on(const struct pool_attribution *attribution, const char *worker_id,
                                   const char *gpu_uuid)
{
    struct pool_reading sum = { 0 };
    for (size_t i = 0; attribution && i < attribution->n_processes; i++) {
        const struct pool_attributed_process *process = &attribution->processes[i];
        if (strcmp(process->worker_id, worker_id) != 0 || strcmp(process->gpu_uuid, gpu_uuid) != 0)
            continue;
        if (!process->used_vram_bytes.is_present)
            return (struct pool_reading){ 0 };
        sum = (struct pool_reading){ true, add_bytes(sum.value, process->used_vram_bytes.value) };
    }
    return sum;
}

static void take_sample(struct supervised *supervised, const struct pool_gpu_info *gpu,
                        const struct pool_attribution *attribution, int64_t now_ns)
{
    bool is_there = false;
    (void)pool_worker_info_reserved_on(supervised->worker, gpu->uuid, &is_there);
    if (!is_there)
        return;
    struct device_timeline *timeline =
        supervised->timelines ? find_timeline(supervised->timelines, gpu->uuid) : NULL;
    if (!timeline)
        timeline = add_timeline(&supervised->timelines, gpu->uuid);
    if (!timeline)
        return;
    struct vram_timeline_sample sample = {
        .at_ns = now_ns,
        .observed_bytes = held_on(attribution, supervised->worker->worker_id, gpu->uuid),
        .free_bytes = { gpu->is_vram_known, gpu->is_vram_known ? gpu->vram_free_bytes : 0 },
    };
    vram_timeline_add(&timeline->samples, &sample);
}

void supervisor_note_memory(struct supervisor *supervisor, const struct pool_gpu_list *gpus,
                            const struct pool_attribution *attribution)
{
    int64_t now_ns = clock_boottime_ns();
    for (struct supervised *supervised = supervisor->workers; supervised; supervised = supervised->next) {
        if (!supervised->worker->gpu_uuid || supervised->phase == PHASE_ENDING)
            continue;
        for (size_t i = 0; i < gpus->n_gpus; i++)
            take_sample(supervised, gpus->gpus[i], attribution, now_ns);
    }
}

/* ---- handing them over ---- */

struct evidence {
    struct pool_death_evidence seen; /* points into the rest */
    struct pool_start_progress progress;
    struct pool_error start_error;
    struct pool_vram_sample samples[POOL_CRASH_SAMPLES_MAX - 1]; /* one is left for the plan's */
    struct pool_device_fault faults[POOL_CRASH_FAULTS_MAX];
};

void evidence_free(struct evidence *evidence)
{
    free(evidence);
}

const struct pool_death_evidence *evidence_of(const struct evidence *evidence)
{
    return evidence ? &evidence->seen : NULL;
}

/* The newest of each device, as many as all together may be. */
static void add_samples(const struct timelines *timelines, struct evidence *evidence)
{
    size_t n_each = (sizeof evidence->samples / sizeof evidence->samples[0]) / timelines->n;
    int64_t now_ns = clock_boottime_ns(), now_wall_ms = clock_wall_ms();
    for (size_t i = 0; i < timelines->n; i++) {
        const struct vram_timeline *from = &timelines->at[i].samples;
        for (size_t k = from->n > n_each ? from->n - n_each : 0; k < from->n; k++) {
            struct pool_vram_sample *sample = &evidence->samples[evidence->seen.n_samples++];
            sample->at_wall_ms = now_wall_ms - (now_ns - from->samples[k].at_ns) / NS_PER_MS;
            memcpy(sample->gpu_uuid, timelines->at[i].gpu_uuid, sizeof sample->gpu_uuid);
            sample->observed_bytes = from->samples[k].observed_bytes;
            sample->free_bytes = from->samples[k].free_bytes;
        }
    }
    evidence->seen.watched_since_wall_ms = timelines->since_wall_ms;
}

struct evidence *supervised_gather_evidence(const struct supervised *supervised,
                                            const struct pool_start_progress *timed_out)
{
    const struct supervisor_listener *listener = &supervised->supervisor->listener;
    struct evidence *evidence = calloc(1, sizeof *evidence);
    if (!evidence)
        return NULL; /* the end is recorded without */
    evidence->seen.struct_size = sizeof evidence->seen;
    if (timed_out) {
        evidence->progress = *timed_out;
        evidence->seen.timed_out = &evidence->progress;
    }
    if (supervised->start_error) {
        evidence->start_error = *supervised->start_error;
        evidence->seen.start_error = &evidence->start_error;
    }
    evidence->seen.samples = evidence->samples;
    evidence->seen.faults = evidence->faults;
    if (supervised->timelines)
        add_samples(supervised->timelines, evidence);
    if (listener->faults_near)
        evidence->seen.n_faults = listener->faults_near(supervised->worker, evidence->faults,
                                                        POOL_CRASH_FAULTS_MAX, listener->context);
    return evidence;
}
