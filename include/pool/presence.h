/*
 * Whether a worker is on the GPU that it was placed on. An engine that can not use its device goes on with the CPU, answers
 * 200 and is slow: nobody is told. So what the driver says of its processes is compared with what was admitted for it.
 *
 * Only a driver that lists who holds memory, and how much, can convict: where it lists nobody, hides a process, or is late,
 * or where memory is gone that nobody is listed for, nothing is known, and a worker is believed.
 */
#ifndef POOL_PRESENCE_H
#define POOL_PRESENCE_H

#include <pool/api.h>
#include <pool/config.h>
#include <pool/gpu.h>
#include <pool/worker.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The health_reason of a worker that is not on its GPU; of a healthy one it is a warning. */
#define POOL_HEALTH_NOT_ON_GPU "not_on_gpu"

enum pool_presence_verdict {
    POOL_PRESENCE_UNKNOWN, /**< it can not be told, or the worker has no GPU */
    POOL_PRESENCE_ON_GPU,
    POOL_PRESENCE_NOT_ON_GPU,
};

/** One of its devices. */
struct pool_presence_seat {
    char gpu_uuid[POOL_GPU_UUID_MAX];
    int64_t expected_bytes; /**< what it should hold: as estimated, or as reserved where that is less */
    int64_t least_bytes;    /**< what it must hold to be called present */
    struct pool_reading seen_bytes; /**< what the driver lists of its processes; absent: it can not be told */
    enum pool_presence_verdict verdict;
};

struct pool_presence {
    enum pool_presence_verdict
        verdict; /**< present where all of its seats are, absent where one is known to be */
    size_t n_seats;
    struct pool_presence_seat seats[POOL_SPLIT_DEVICES_MAX];
    char elsewhere_uuid[POOL_GPU_UUID_MAX]; /**< another device that it holds the most of; "": none */
    int64_t elsewhere_bytes;
};

struct pool_attribution;

/**
 * Judges a live worker by a list of devices and whose their processes are (pool_attribution_make, with this worker in the
 * list of live ones). One that was seen on its devices before only has to hold something there: engines give their model's
 * memory back while they sleep. Pure.
 */
POOL_EXPORT void pool_presence_judge(const struct pool_worker_info *worker, const struct pool_gpu_list *gpus,
                                     const struct pool_attribution *attribution,
                                     struct pool_presence *ret_presence);
/** The seat that a verdict was passed for: the first that is absent, else the first. NULL: it has none. Borrowed. */
POOL_EXPORT const struct pool_presence_seat *pool_presence_cause(const struct pool_presence *presence);
/** In words, with the numbers of each device. Cut to n bytes with the NUL. */
POOL_EXPORT void pool_presence_format(const struct pool_presence *presence, char *text, size_t n);
/** What its backend wants done. A backend that is no longer configured: only said. */
POOL_EXPORT enum pool_not_on_gpu pool_presence_rule(const struct pool_config *config,
                                                    const struct pool_worker_info *worker);
/** Whether its row says that it is not on its GPU, as a fault or as a warning. */
POOL_EXPORT bool pool_worker_is_off_gpu(const struct pool_worker_info *worker);
/** Whether a row has to be changed for a verdict: what pool_manager_record_presence would write. */
POOL_EXPORT bool pool_presence_is_news(const struct pool_presence *presence, enum pool_not_on_gpu rule,
                                       const struct pool_worker_info *worker);

#ifdef __cplusplus
}
#endif
#endif
