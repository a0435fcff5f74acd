/*
 * GPUs of this host. An inventory is where facts about devices come from: the driver (`nvml`), or
 * a file (`static`, for dry runs). It is read-only: nothing here changes a device's settings.
 *
 * A device is its UUID; the index is for people and may change at a reboot. What a driver does not
 * tell is absent (a reading with is_present false), never zero. One lost device does not hide the
 * others, and a host without a driver has an empty inventory with the reason for it.
 *
 * The usual order: pool_gpu_inventory_open, pool_gpu_inventory_refresh (asks the driver, may block),
 * then list, get and processes as often as wanted (all from the last refresh), pool_gpu_inventory_close.
 */
#ifndef POOL_GPU_H
#define POOL_GPU_H

#include <pool/error.h>

#ifdef __cplusplus
extern "C" {
#endif

#define POOL_GPUS_MAX          256
#define POOL_GPU_NAME_MAX      96
#define POOL_GPU_UUID_MAX      96
#define POOL_CORDON_REASON_MAX 119 /* bytes */
#define POOL_NVLINKS_MAX       36  /* of a device: NVML_NVLINK_MAX_LINKS of its API 13 */
#define POOL_GPU_PEERS_MAX     63  /* of a device: how the first 64 of a host are connected is asked */

/** A value that a driver may not know. */
struct pool_reading {
    bool is_present;
    int64_t value;
};

enum pool_gpu_health {
    POOL_GPU_HEALTHY,
    POOL_GPU_UNHEALTHY, /**< lost, needs a reset, or its memory can not be read; see health_reason */
};

/** One process that holds memory of a device. */
struct pool_gpu_process {
    int64_t pid; /**< as the driver says it: of the host's pid namespace; 0 when hidden */
    struct pool_reading used_vram_bytes;
    struct pool_reading gpu_instance_id; /**< MIG only */
    bool is_graphics; /**< it draws; one that draws and computes is listed once, with this true */
};

/** What an NVLink leads to, and its name in JSON (unknown is null there). */
#define POOL_NVLINK_REMOTES(X)                                                             \
    X(UNKNOWN, "unknown")                                                                  \
    X(GPU, "gpu")                                                                          \
    X(SWITCH, "switch") /* an NVSwitch, which connects every GPU on it with every other */ \
    X(CPU, "cpu")       /* the host's processor */
enum pool_nvlink_remote {
#define POOL_X(name, text) POOL_NVLINK_##name,
    POOL_NVLINK_REMOTES(POOL_X)
#undef POOL_X
};

/** One NVLink of a device. */
struct pool_nvlink {
    uint32_t link;                  /**< its number on the device, from 0 */
    bool is_active;                 /**< false: nothing is plugged in, or it is down */
    struct pool_reading version;    /**< as the driver numbers it, which older and newer ones do differently:
                                       NVLink 4 is 4 or 6. Source: nvmlNvlinkVersion_t. */
    enum pool_nvlink_remote remote; /**< of an active one */
    char remote_pci_bus_id[32]; /**< of an active one; "" when unknown. Also of a GPU that is not listed */
};

/**
 * What the ways of two devices have in common on PCIe, the nearest first, and its name in JSON (unknown is null there).
 * Source: nvmlGpuTopologyLevel_t; nvidia-smi says PIX (internal, single), PXB, PHB, NODE and SYS.
 */
#define POOL_GPU_ANCESTORS(X)                                               \
    X(UNKNOWN, "unknown")                                                   \
    X(INTERNAL, "internal")     /* they are on one board */                 \
    X(SINGLE, "single")         /* one PCIe switch */                       \
    X(MULTIPLE, "multiple")     /* several PCIe switches, no host bridge */ \
    X(HOSTBRIDGE, "hostbridge") /* a host bridge of the processor */        \
    X(NODE, "node")             /* several host bridges of one NUMA node */ \
    X(SYSTEM, "system")         /* the connection between NUMA nodes as well */
enum pool_gpu_ancestor {
#define POOL_X(name, text) POOL_GPU_ANCESTOR_##name,
    POOL_GPU_ANCESTORS(POOL_X)
#undef POOL_X
};

/**
 * Another device of the same list, as seen from one: how the two are wired, not whether a program may use it. Both ends
 * of a pair say the same.
 */
struct pool_gpu_peer {
    uint32_t gpu_id;
    char uuid[POOL_GPU_UUID_MAX];
    enum pool_gpu_ancestor common_ancestor;
    /** Active NVLinks between them that both ends tell of; over NVSwitches as many as the end with fewer has. */
    struct pool_reading nvlinks;
    bool is_through_nvswitch; /**< some of these NVLinks go over NVSwitches */
};

/**
 * One device, or one MIG instance. Allocated by the library; later versions add fields at the end only.
 */
struct pool_gpu_info {
    uint32_t gpu_id; /**< index in the driver's order, for people; a MIG instance has its parent's */
    char uuid[POOL_GPU_UUID_MAX];
    char name[POOL_GPU_NAME_MAX];
    bool is_vram_known; /**< false: the four sizes below mean nothing */
    int64_t vram_total_bytes;
    int64_t vram_free_bytes; /**< as the driver says: the only figure that admission may use */
    int64_t
        vram_used_bytes; /**< allocated by processes, without vram_reserved_bytes where the driver splits them */
    struct pool_reading vram_reserved_bytes; /**< driver and firmware */
    char pci_bus_id[32];                     /**< "" when unknown */
    char driver_version[80];                 /**< "" when unknown */
    struct pool_reading cuda_version;        /**< 1000 * major + 10 * minor */
    struct pool_reading compute_capability_major;
    struct pool_reading compute_capability_minor;
    struct pool_reading temperature_celsius;
    struct pool_reading power_usage_mw;
    struct pool_reading power_limit_mw;
    struct pool_reading utilization_percent;        /**< of the compute units */
    struct pool_reading memory_utilization_percent; /**< time the memory was accessed, not occupancy */
    struct pool_reading ecc_enabled;
    struct pool_reading ecc_corrected_errors;   /**< volatile: since the driver was loaded */
    struct pool_reading ecc_uncorrected_errors; /**< volatile */
    struct pool_reading mig_enabled;
    bool is_mig_instance;
    char parent_uuid[POOL_GPU_UUID_MAX]; /**< of a MIG instance, else "" */
    bool is_placeable;                   /**< false for a device in MIG mode: use its instances */
    struct pool_reading persistence_enabled;
    struct pool_reading minor_number; /**< N of /dev/nvidiaN */
    struct pool_reading numa_node;
    enum pool_gpu_health health;
    char health_reason[160];  /**< "" when healthy */
    bool are_processes_known; /**< false: the driver does not tell, or not to us; processes is empty then */
    size_t n_processes;
    struct pool_gpu_process *processes; /**< owned by this struct */
    bool is_cordoned;                   /**< no new worker is placed on it; inventories never say so */
    char cordon_reason[POOL_CORDON_REASON_MAX + 1]; /**< "" when it is not */
    int64_t cordoned_wall_ms;                       /**< since when; 0 when it is not */
    bool are_nvlinks_known; /**< false: the driver does not tell; nvlinks is empty then */
    size_t n_nvlinks;
    struct pool_nvlink
        *nvlinks; /**< by number; owned by this struct. A MIG instance has none of its device's */
    size_t n_peers;
    struct pool_gpu_peer *peers; /**< the other devices, in the order of the list; owned by this struct. Empty
                                    where nothing is told of pairs, and of a MIG instance: it has no peers */
};

/** A list of devices at one moment. Owned by the caller: pool_gpu_list_free. */
struct pool_gpu_list {
    size_t n_gpus;
    struct pool_gpu_info **gpus; /**< ordered by index, a device before its MIG instances */
    int64_t taken_boottime_ns;   /**< CLOCK_BOOTTIME of the refresh that these facts come from */
    char source[32];             /**< "nvml" or "static" */
    char reason[256];            /**< why the list is empty or part of it is missing, "" otherwise */
};

struct pool_gpu_inventory; /**< opaque */

/**
 * The slots of an implementation. `self` is the private part, `private_bytes` long, zeroed before open.
 * open:    prepares; must not fail because there is no driver (that is a reason in the list).
 * refresh: asks the source and fills `list`, which is empty and owned by the caller; may block for as
 *          long as the driver does. On failure the caller throws the list away, half filled as it may be.
 *          The front sets taken_boottime_ns and source before.
 * close:   releases what open and refresh took; accepts a self that open left half-made.
 */
struct pool_gpu_inventory_ops {
    const char *name;
    size_t private_bytes;
    enum pool_code (*open)(void *self, const char *source, struct pool_error *err);
    enum pool_code (*refresh)(void *self, struct pool_gpu_list *list, struct pool_error *err);
    void (*close)(void *self);
};

/**
 * Opens an inventory by URL: "nvml:" (the driver of this host), "nvml:/path/libnvidia-ml.so.1" (a library
 * given by its path) or "static:/path/gpus.toml" (a file; format in docs/static-gpus.md).
 * Errors: INVALID_CONFIG for an unknown scheme or a bad file, INSUFFICIENT_MEMORY.
 * Owner: the caller, who closes it.  Threads: one inventory is used by one thread at a time.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_gpu_inventory_open(const char *url,
                                                                   struct pool_gpu_inventory **ret_inventory,
                                                                   struct pool_error *err);
/** Opens an implementation of the caller's. `ops` is borrowed for the inventory's life. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_gpu_inventory_open_ops(
    const struct pool_gpu_inventory_ops *ops, const char *source, struct pool_gpu_inventory **ret_inventory,
    struct pool_error *err);
POOL_EXPORT void pool_gpu_inventory_close(struct pool_gpu_inventory *inventory);
POOL_EXPORT const char *pool_gpu_inventory_name(const struct pool_gpu_inventory *inventory);
/**
 * Asks the source again. On failure the facts of the last successful refresh stay.
 * Blocks: as long as the driver does. A driver can hang for ever: a daemon calls this in a process of its own.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_gpu_inventory_refresh(struct pool_gpu_inventory *inventory,
                                                                      struct pool_error *err);
/** A copy of everything the last refresh found, processes included. Refreshes first when there was none yet. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_gpu_inventory_list(struct pool_gpu_inventory *inventory,
                                                                   struct pool_gpu_list **ret_list,
                                                                   struct pool_error *err);
/**
 * A copy of one device, by index ("0") or UUID. Owner: the caller, pool_gpu_info_free.
 * Errors: GPU_NOT_FOUND, INVALID_REQUEST (not an index, not a UUID); those of refresh when there was none yet.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_gpu_inventory_get(struct pool_gpu_inventory *inventory,
                                                                  const char *gpu_id,
                                                                  struct pool_gpu_info **ret_info,
                                                                  struct pool_error *err);
/**
 * The processes of one device with the bytes of each, from the last refresh.
 * Owner: the caller frees the array with free(); it is NULL when there is no process.
 * Errors: as get, GPU_UNAVAILABLE when the driver does not tell.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_gpu_inventory_processes(
    struct pool_gpu_inventory *inventory, const char *gpu_id, size_t *ret_n,
    struct pool_gpu_process **ret_processes, struct pool_error *err);

POOL_EXPORT void pool_gpu_info_free(struct pool_gpu_info *info);
POOL_EXPORT void pool_gpu_list_free(struct pool_gpu_list *list);
/** Finds by index or UUID in a list; NULL when not there. Borrowed from the list. A MIG instance: by UUID only. */
POOL_EXPORT const struct pool_gpu_info *pool_gpu_list_find(const struct pool_gpu_list *list,
                                                           const char *gpu_id);
/** Appends an empty device to a list, for implementations; NULL when memory is out or POOL_GPUS_MAX is reached. */
POOL_EXPORT struct pool_gpu_info *pool_gpu_list_append(struct pool_gpu_list *list);
/** "healthy" or "unhealthy". */
POOL_EXPORT const char *pool_gpu_health_name(enum pool_gpu_health health);
/** The name of POOL_NVLINK_REMOTES, "unknown" for a value that is none of them. Static. */
POOL_EXPORT const char *pool_nvlink_remote_name(enum pool_nvlink_remote remote);
/** The name of POOL_GPU_ANCESTORS, "unknown" for a value that is none of them. Static. */
POOL_EXPORT const char *pool_gpu_ancestor_name(enum pool_gpu_ancestor ancestor);

#ifdef __cplusplus
}
#endif
#endif
