/*
 * Devices at one moment: the driver's list, the host's memory, and how much each live worker holds of them.
 * Taken before any lock is; a worker that is started after it has no usage in it, so that all of its reserve
 * counts as pending. That makes an old snapshot safe: it never shows bytes as free that were promised since.
 */
#ifndef LIFECYCLE_DEVICES_H
#define LIFECYCLE_DEVICES_H

#include <pool/lifecycle.h>

#include "core/lifecycle/process.h"

struct host_memory {
    int64_t total_bytes;
    int64_t available_bytes;
};

struct devices {
    struct pool_gpu_list *gpus; /* NULL when the driver was not asked */
    struct host_memory memory;
    size_t n_usages;
    struct usage {
        char worker_id[POOL_WORKER_ID_MAX + 1];
        bool is_attributed; /* the driver, or the kernel, says so */
        bool is_partial;    /* it does not say how much one of its processes holds */
        int64_t observed_bytes;
        char device[POOL_GPU_UUID_MAX]; /* "host"; "": the only one that the worker has */
        size_t worker;                  /* its place in the list */
    } * usages;                         /* one for each worker and each of its devices */
    int64_t taken_wall_ms;
    int64_t asked_boottime_ns; /* before the driver was asked */
    struct pool_worker_list
        *promised; /* workers of other managers, as of devices_attribute_promised; may be NULL */
    size_t n_promised_usages;
    struct usage *promised_usages;
};
void devices_done(struct devices *devices);

/* MemTotal and MemAvailable, bounded by the memory limits of our cgroups (v2). 0 or an errno. */
int host_memory_read(struct host_memory *ret_memory);
/* Parses /proc/meminfo. */
bool host_memory_parse(const char *text, struct host_memory *ret_memory);

/* Asks the driver (NULL: nobody). Blocks for as long as it does. */
POOL_MUST_CHECK enum pool_code devices_ask(struct pool_gpu_inventory *inventory, struct devices *ret_devices,
                                           struct pool_error *err);
/*
 * Says what the live workers held when the driver was asked, and reads the host's memory. The list is read after the
 * driver was asked: every worker that the driver could show is in it. Called once, after devices_ask.
 */
POOL_MUST_CHECK enum pool_code devices_attribute(struct devices *devices, const struct host_identity *host,
                                                 const struct pool_worker_list *live, struct pool_error *err);
/* The same for workers of other managers (NULL: none are seen); takes the list. Without memory their usage is not known. */
void devices_attribute_promised(struct devices *devices, const struct host_identity *host,
                                struct pool_worker_list *promised);
/*
 * The ledger of one device: `gpu` of devices->gpus, or NULL for the host's memory.
 * releases: what stopped workers may hold still (may be NULL). promised: to workers of other managers, now (may be NULL).
 */
struct releases;
POOL_MUST_CHECK enum pool_code devices_ledger(const struct devices *devices, const struct pool_gpu_info *gpu,
                                              const struct pool_worker_list *live,
                                              const struct releases *releases,
                                              const struct pool_worker_list *promised, int64_t headroom_bytes,
                                              struct pool_ledger *ret_ledger, struct pool_error *err);

#endif
