/*
 * What events mean: their names, which of them are serious, and words for people. Pure; the listening is nvml_events.c.
 */
#include <inttypes.h>
#include <pool/gpu_event.h>
#include <stdio.h>
#include <string.h>

static const char *const kind_names[] = {
#define POOL_X(name, text) [POOL_GPU_EVENT_##name] = text,
    POOL_GPU_EVENT_KINDS(POOL_X)
#undef POOL_X
};

#define N_KINDS (sizeof kind_names / sizeof kind_names[0])

/* NVIDIA, "XID Errors". is_harmless: the fault of one program, which it ends; the device goes on. */
static const struct {
    int64_t number;
    bool is_harmless;
    const char *text;
} xids[] = {
    { 13, true, "graphics engine exception of a program" },
    { 31, true, "memory page fault of a program" },
    { 43, true, "a program's work was stopped" },
    { 45, true, "a program's channels were torn down" },
    { 48, false, "a double-bit ECC error" },
    { 61, false, "breakpoint in the internal micro-controller" },
    { 62, false, "the internal micro-controller halted" },
    { 63, false, "a row of memory was remapped" },
    { 64, false, "a row of memory could not be remapped" },
    { 68, true, "exception of the video processor" },
    { 74, false, "an NVLink error" },
    { 79, false, "it has fallen off the bus" },
    { 92, false, "a high rate of single-bit ECC errors" },
    { 94, true, "a contained ECC error of a program" },
    { 95, false, "an uncontained ECC error" },
    { 109, true, "a program's context switch timed out" },
    { 119, false, "the GSP does not answer" },
    { 120, false, "the GSP failed" },
};

#define N_XIDS (sizeof xids / sizeof xids[0])

const char *pool_gpu_event_kind_name(enum pool_gpu_event_kind kind)
{
    return (size_t)kind < N_KINDS ? kind_names[kind] : kind_names[POOL_GPU_EVENT_OTHER];
}

bool pool_gpu_event_kind_from_name(const char *name, enum pool_gpu_event_kind *ret_kind)
{
    for (size_t i = 0; i < N_KINDS; i++) {
        if (strcmp(kind_names[i], name) == 0) {
            *ret_kind = (enum pool_gpu_event_kind)i;
            return true;
        }
    }
    return false;
}

bool pool_gpu_event_is_serious(const struct pool_gpu_event *event)
{
    switch (event->kind) {
    case POOL_GPU_EVENT_XID:
        for (size_t i = 0; i < N_XIDS; i++) {
            if (xids[i].number == event->data)
                return !xids[i].is_harmless;
        }
        return true; /* one that we do not know is looked at by somebody */
    case POOL_GPU_EVENT_ECC_UNCORRECTED:
    case POOL_GPU_EVENT_POISON_FATAL:
    case POOL_GPU_EVENT_UNAVAILABLE: return true;
    case POOL_GPU_EVENT_RECOVERY_ACTION: return event->data != 0; /* 0: no action is needed any more */
    case POOL_GPU_EVENT_POISON_CONTAINED:
    case POOL_GPU_EVENT_OTHER: return false;
    }
    return false;
}

void pool_gpu_event_describe(const struct pool_gpu_event *event, char *text, size_t n)
{
    switch (event->kind) {
    case POOL_GPU_EVENT_XID: {
        const char *what = "see NVIDIA's list of XID errors";
        for (size_t i = 0; i < N_XIDS; i++) {
            if (xids[i].number == event->data)
                what = xids[i].text;
        }
        snprintf(text, n, "XID %" PRId64 ": %s", event->data, what);
        return;
    }
    case POOL_GPU_EVENT_ECC_UNCORRECTED: snprintf(text, n, "an ECC error that was not corrected"); return;
    case POOL_GPU_EVENT_POISON_CONTAINED: snprintf(text, n, "poisoned memory of one program"); return;
    case POOL_GPU_EVENT_POISON_FATAL: snprintf(text, n, "poisoned memory"); return;
    case POOL_GPU_EVENT_UNAVAILABLE: snprintf(text, n, "the driver calls it unavailable"); return;
    case POOL_GPU_EVENT_RECOVERY_ACTION:
        snprintf(text, n, "the driver wants it recovered (action %" PRId64 ")", event->data);
        return;
    case POOL_GPU_EVENT_OTHER: snprintf(text, n, "an event of the driver (%" PRId64 ")", event->data); return;
    }
}
