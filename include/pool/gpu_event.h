/*
 * What a driver tells of GPUs by itself: XID errors, ECC errors that could not be corrected, a device that is not
 * available any more. An event is told once, to whoever listens at that moment; what happened before is lost.
 *
 * The usual order: pool_gpu_events_open, pool_gpu_events_wait again and again, pool_gpu_events_close.
 */
#ifndef POOL_GPU_EVENT_H
#define POOL_GPU_EVENT_H

#include <pool/error.h>
#include <pool/gpu.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, text) */
#define POOL_GPU_EVENT_KINDS(X)             \
    X(XID, "xid")                           \
    X(ECC_UNCORRECTED, "ecc_uncorrected")   \
    X(POISON_CONTAINED, "poison_contained") \
    X(POISON_FATAL, "poison_fatal")         \
    X(UNAVAILABLE, "unavailable")           \
    X(RECOVERY_ACTION, "recovery_action")   \
    X(OTHER, "other")

enum pool_gpu_event_kind {
#define POOL_X(name, text) POOL_GPU_EVENT_##name,
    POOL_GPU_EVENT_KINDS(POOL_X)
#undef POOL_X
};

struct pool_gpu_event {
    char uuid[POOL_GPU_UUID_MAX]; /**< of the device, also for an event of a MIG instance of it */
    enum pool_gpu_event_kind kind;
    int64_t data; /**< the number of an XID (999: not known); else of the driver's own meaning */
    struct pool_reading gpu_instance_id; /**< MIG only */
};

/** "xid", "ecc_uncorrected", … Static. */
POOL_EXPORT const char *pool_gpu_event_kind_name(enum pool_gpu_event_kind kind);
/** @return false when there is no such kind */
POOL_EXPORT bool pool_gpu_event_kind_from_name(const char *name, enum pool_gpu_event_kind *ret_kind);
/**
 * Whether the device should get no new work until somebody has looked at it. An XID that a faulty program causes and that
 * ends only that program does not say so. Pure.
 * Source: NVIDIA, "XID Errors"; the numbers that NVIDIA's own device plugin for Kubernetes ignores.
 */
POOL_EXPORT bool pool_gpu_event_is_serious(const struct pool_gpu_event *event);
/** What happened, in a few words for people: "XID 79: it has fallen off the bus". */
POOL_EXPORT void pool_gpu_event_describe(const struct pool_gpu_event *event, char *text, size_t n);

struct pool_gpu_events; /**< opaque */

/**
 * Listens to the driver behind an inventory's URL ("nvml:", "nvml:/PATH").
 * Errors: UNIMPLEMENTED (another source, or a driver without events), GPU_UNAVAILABLE (it does not start, or has no
 * device), INSUFFICIENT_MEMORY. The last two may pass.
 * Blocks: as the driver does. Threads: one object is one thread's at a time; beside an inventory of another thread.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_gpu_events_open(const char *url,
                                                                struct pool_gpu_events **ret_events,
                                                                struct pool_error *err);
POOL_EXPORT void pool_gpu_events_close(struct pool_gpu_events *events);
/**
 * Waits for the next event. Errors: DEADLINE_EXCEEDED (none came in timeout_ms), GPU_UNAVAILABLE (the driver can not be
 * listened to any more: close, and open again).
 * Blocks: timeout_ms, or as the driver does.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_gpu_events_wait(struct pool_gpu_events *events,
                                                                uint32_t timeout_ms,
                                                                struct pool_gpu_event *ret_event,
                                                                struct pool_error *err);

#ifdef __cplusplus
}
#endif
#endif
