/*
 * The inside of a manager, for the files of this room.
 */
#ifndef LIFECYCLE_MANAGER_H
#define LIFECYCLE_MANAGER_H

#include <pool/lifecycle.h>
#include <sys/resource.h>

#include "core/lifecycle/catalogs.h"
#include "core/lifecycle/cgroup.h"
#include "core/lifecycle/devices.h"
#include "core/lifecycle/gpu_locks.h"
#include "core/lifecycle/plan.h"
#include "core/lifecycle/process.h"
#include "core/lifecycle/state_dir.h"

#define DISPLACED_IDS_MAX 240 /* bytes of a list of ids, for people; what is over is cut off */

/* A worker that this manager started: its child, and the request, should its port be lost to a stranger. */
struct child {
    char worker_id[POOL_WORKER_ID_MAX + 1];
    int pidfd;
    int promise_fd; /* of one that waits for its turn, -1: the worker has it */
    int attempts;
    bool is_unrestricted;              /* who asked */
    char displaced[DISPLACED_IDS_MAX]; /* ids of whom it has displaced, "": nobody */
    struct pool_worker_spawn_request *request;
    struct child *next;
};

struct pool_manager {
    const struct pool_config *config;
    const char *const *environment;
    bool is_daemon;
    bool is_unrestricted;
    struct state_dir state;
    struct gpu_locks gpu_locks;
    struct host_identity host;
    struct cgroups cgroups;    /* of a daemon that was given some */
    struct rlimit descriptors; /* what the manager was opened with; a daemon may raise its own */
    struct pool_worker_registry *registry;
    dev_t registry_device; /* of its file, 0 for one without */
    ino_t registry_inode;
    struct catalogs catalogs;
    struct header_cache *headers;
    struct pool_gpu_inventory *gpu_inventory;      /* NULL until asked for */
    struct pool_gpu_inventory *borrowed_inventory; /* of the options, NULL: none */
    struct child *children;
    char correlation_id[POOL_CORRELATION_ID_MAX + 1]; /* of the request that is carried out, "": of none */
    struct pool_explanation *draft;                   /* of the start under way, NULL: of none */
    void (*on_explanation)(const struct pool_explanation *explanation, void *context);
    void *explanation_context;
    const struct pool_death_evidence *evidence; /* of the end that is being recorded, NULL: none */
    struct pool_error crash_failure;            /* why the last bundle that was due is not there */
    struct pool_worker_list displaced; /* whose stop was begun for a start, and who is still to be ended */
    int n_ends_to_sweep;               /* until the logs are swept again, 0: at the next end */
    char *callback_url;                /* NULL: nobody takes calls */
    char notice[512];
};

/* ---- manager.c ---- */
/*
 * Takes the state directory's lock for a change, and makes sure that the registry which is open is the one that lies
 * there: somebody may have removed it, or set it aside and rebuilt it. Released by state_dir_unlock.
 */
POOL_MUST_CHECK enum pool_code manager_lock(struct pool_manager *manager, struct pool_error *err);
/* When the registry that is open began, wall time; 0: that is not known. Workers that ended before are in none. */
int64_t manager_registry_began(struct pool_manager *manager);
POOL_MUST_CHECK enum pool_code manager_inventory(struct pool_manager *manager,
                                                 struct pool_gpu_inventory **ret_inventory,
                                                 struct pool_error *err);
/* As pool_worker_registry_list. A registry that turns out to be damaged is set aside and rebuilt first. */
POOL_MUST_CHECK enum pool_code manager_list_registry(struct pool_manager *manager,
                                                     enum pool_registry_scope scope,
                                                     struct pool_worker_list **ret_list,
                                                     struct pool_error *err);
/* Behind what is there already, set off by "; ". */
void manager_add_notice(struct pool_manager *manager, const char *format, ...) POOL_PRINTF(2, 3);
static inline void free_worker(struct pool_worker_info **worker)
{
    pool_worker_info_free(*worker);
}
static inline void free_worker_list(struct pool_worker_list **list)
{
    pool_worker_list_free(*list);
}

/* ---- usage.c ---- */
/*
 * Records what the driver was seen to say of workers that are ready, once devices_attribute has mapped it: their peak, and with
 * it their reserve and what is learned. For a command, which looks when it comes by; a daemon looks by itself. Best effort.
 */
void usage_note(struct pool_manager *manager, const struct devices *devices,
                const struct pool_worker_list *live);

/* ---- spawn.c ---- */
struct child *manager_find_child(struct pool_manager *manager, const char *worker_id);
/* It is ready or gone: it will not be started again, and whoever watches it has a pidfd of his own. */
void manager_forget_child(struct pool_manager *manager, const char *worker_id);
void manager_free_children(struct pool_manager *manager);
/* Starts a worker again on another port, as a part of the same start. Takes the lock itself. */
POOL_MUST_CHECK enum pool_code spawn_again(struct pool_manager *manager, struct child *child,
                                           struct pool_worker_info *worker, struct pool_error *err);

/* ---- settle.c ---- */
/*
 * Looks at every row of a list and settles what has to be. `is_probing`: workers that are starting are probed once.
 * The list is replaced when something was changed. Takes the lock itself when needed.
 */
POOL_MUST_CHECK enum pool_code settle(struct pool_manager *manager, bool is_probing,
                                      struct pool_worker_list **list, struct pool_error *err);
/* The same without probing, for a caller who holds the lock: reads the live rows, settles them, gives them back. */
POOL_MUST_CHECK enum pool_code settle_locked(struct pool_manager *manager, struct pool_worker_list **ret_list,
                                             struct pool_error *err);
/* Moves a worker to the history with a reason and how it ended; the caller holds the lock. */
POOL_MUST_CHECK enum pool_code settle_gone(struct pool_manager *manager, struct pool_worker_info *worker,
                                           enum pool_stop_reason reason, struct pool_process_end end,
                                           struct pool_error *err);
/* Whether two records are of one and the same start: an id can be used again. */
bool is_same_start(const struct pool_worker_info *a, const struct pool_worker_info *b);
/* Every process of a worker that can be found: by its tree, its log, its environment. 0 or an errno. */
int worker_processes_find(const struct pool_manager *manager, const struct pool_worker_info *worker,
                          struct process_set *set);
/* Whether there is any; for a worker whose log, which would tell, is missing. */
bool worker_has_processes(const struct pool_manager *manager, const struct pool_worker_info *worker);

/* ---- ready.c ---- */
/* Probes workers that are starting once, all together; marks in is_ready[i] those that are ready, with their proof. */
void ready_probe_all(const struct pool_worker_list *list, int64_t timeout_ms, bool *is_ready,
                     enum pool_port_proof *proofs);
/* What a row says from the moment on that it is ready; its status is the caller's. */
void ready_set(struct pool_worker_info *worker, enum pool_port_proof proof);
/* Whether somebody else listens on a worker's port. */
bool is_port_lost(const struct pool_worker_info *worker);
/* Whether anybody listens there: somebody else, once no process of the worker is left. */
bool is_port_listened(const struct pool_worker_info *worker);

/* ---- prove.c ---- */
/* The readiness of a worker that was taken over is proven: records that, unless nobody asked. Under the lock. */
POOL_MUST_CHECK enum pool_code prove_row(struct pool_manager *manager, struct pool_worker_info *worker,
                                         enum pool_port_proof proof, struct pool_error *err);

/* ---- stop.c ---- */
/*
 * Ends every process of a worker: signal, grace, kill. `grace_ms` 0 kills at once. Records nothing.
 * Errors: DEADLINE_EXCEEDED, CANCELLED.
 */
POOL_MUST_CHECK enum pool_code stop_processes(const struct pool_manager *manager,
                                              const struct pool_worker_info *worker, int64_t grace_ms,
                                              int cancel_fd, struct pool_process_end *ret_end,
                                              struct pool_error *err);

/*
 * Makes a row stopping, to be killed after grace_ms (0: at once) or when an earlier stop said, and records it. A stop acts
 * first: a registry that can not be written now must not keep a worker alive, so that failure is in record_error (may be
 * NULL) alone. Errors: CONFLICT when it is stopped already.
 */
POOL_MUST_CHECK enum pool_code stop_begin(struct pool_manager *manager, struct pool_worker_info *worker,
                                          enum pool_stop_reason reason, int64_t grace_ms,
                                          struct pool_error *record_error, struct pool_error *err);

/* Asks a worker to end, once; kill: ends its main process. */
void stop_signal(const struct pool_manager *manager, const struct pool_worker_info *worker, bool is_forced);
/* Whether the grace of its stop is over. */
bool stop_is_late(const struct pool_worker_info *worker);
/* Kills what can be found of a worker, once, and does not wait for it. */
void stop_kill(const struct pool_manager *manager, const struct pool_worker_info *worker);
/* Sees those in manager->displaced to their end and to the release of their memory. They were signalled. Blocks. */
void stop_displaced(struct pool_manager *manager);

/* ---- start_displace.c ---- */
void displaced_clear(struct pool_manager *manager);

/* ---- rebuild.c ---- */
/* Registers the workers that run and carry our state id; for a new registry after a lost one. Holds the lock. */
POOL_MUST_CHECK enum pool_code rebuild_registry(struct pool_manager *manager, size_t *ret_n_workers,
                                                struct pool_error *err);

#endif
