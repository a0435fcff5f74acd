/*
 * The registry of workers: who lives on this host, and a bounded history of who did.
 *
 * A registry is opened by URL. Records are copied in and out.
 *   memory:                  gone with the handle; "memory:?max_workers=N" allows another number of live workers
 *   sqlite:/path/pool.db     a file; "?wal=0" for file systems without shared memory (NFS), "?check=1" reads
 *                            the whole file for damage first; several options are joined by "&"
 * Every record has a revision; an update names the revision it was made from and is refused with
 * CONFLICT when somebody was faster. An id is used by one live worker at a time, and so is a port:
 * the second to register either gets ALREADY_EXISTS.
 *
 * All calls may block on the disk. One registry is used by one thread at a time; several processes
 * may have the same sqlite registry open.
 */
#ifndef POOL_REGISTRY_H
#define POOL_REGISTRY_H

#include <pool/error.h>
#include <pool/worker.h>

#ifdef __cplusplus
extern "C" {
#endif

#define POOL_HISTORY_MAX      1000 /* stopped workers kept; the oldest go first */
#define POOL_EXPLANATIONS_MAX 1000 /* explanations kept; the oldest go first */

struct pool_worker_registry; /**< opaque */

#define POOL_LEARNED_MAX 1000 /* starts whose use was learned; the one not measured for longest goes first */

/** What workers took that were all started in one way. */
struct pool_learned_use {
    char *
        key; /**< that way, as text: shape of the model, sizes, digest of the words, backend, engine, device */
    char *model_ref;        /**< of the last of them */
    int64_t estimate_bytes; /**< what was estimated for it, without margin; 0: nothing */
    int64_t ready_bytes;    /**< the most at the first look after it was ready */
    int64_t peak_bytes;
    int64_t n_starts;
    int64_t updated_wall_ms;
};
struct pool_learned_list {
    size_t n_uses;
    struct pool_learned_use *uses;
};
POOL_EXPORT void pool_learned_list_free(struct pool_learned_list *list);

/** What list returns. */
enum pool_registry_scope {
    POOL_REGISTRY_LIVE,    /**< not stopped */
    POOL_REGISTRY_HISTORY, /**< stopped, newest first */
};

/** What an explanation is found by. Borrowed. */
struct pool_explanation_key {
    const char *record_id;
    const char *worker_id;      /**< NULL: of none */
    const char *correlation_id; /**< NULL: of none */
};

/**
 * The slots of an implementation. `self` is the private part, zeroed before open.
 *
 * register_worker: stores a copy with revision 1 and sets worker->revision. ALREADY_EXISTS when a live worker has
 *             the id or the port (details: field), OVERLOADED at POOL_WORKERS_MAX live workers.
 * update:     replaces the record of worker_id if its revision is still worker->revision; then the
 *             revision grows by one, also in *worker. CONFLICT otherwise, WORKER_NOT_FOUND when gone.
 *             A changed port obeys the same rule as in register_worker.
 * unregister: moves the record, with the last facts in *worker, to the history in one step; same revision
 *             rule. The status becomes stopped, also in *worker. The history keeps POOL_HISTORY_MAX records.
 * first_to_leave: the id of the record that the next unregister drops from the history; *ret_worker_id NULL while there is room.
 *             The caller frees it.
 * get:        a live worker; else the newest of that id in the history; else WORKER_NOT_FOUND.
 * list:       of a scope; live ones ordered by created_wall_ms, then id. `list` is empty and owned by the caller,
 *             who frees what is in it also after a failure.
 * generation: a number that is different after every change, by anyone. Rolled back changes give theirs back.
 * begin/commit/rollback: a transaction around several of the above; nothing of it is seen by others
 *             before commit. One level. Between begin and commit nobody else changes the registry.
 *             A commit that fails has rolled back.
 * get_note/set_note: small named texts kept beside the records (state id, epoch); *ret_text NULL when absent,
 *             text NULL removes one. The caller frees *ret_text.
 *
 * put_learned: adds to what is known of a key: the most of both sizes, the sum of n_starts; the rest is replaced. At most
 *             POOL_LEARNED_MAX keys are kept. Does not change the generation.
 * list_learned: that of a key, or all (key NULL), last measured first. `list` as in list.
 * forget_learned: that of a key, or all; *ret_n: how many there were.
 * put_explanation: keeps a text that is found by any of three ids (worker_id and correlation_id may be NULL), at most
 *             POOL_EXPLANATIONS_MAX of them. It does not change the generation. Never inside a transaction.
 * find_explanations: the newest n_max of an id, newest first; id NULL: of all. *ret_texts ends with NULL; the caller
 *             frees each text and the array with free().
 *
 * Each of register_worker, update, unregister and set_note happens whole or not at all, alone as well as inside
 * a transaction, where a failed one leaves the rest of the transaction as it was.
 * The front has checked every argument (texts, ids, ranges, read-only, order of begin and commit).
 */
struct pool_worker_registry_ops {
    const char *name;
    size_t private_bytes;
    bool is_persistent; /**< capability: records outlive the process */
    enum pool_code (*open)(void *self, const char *path, bool is_read_only, struct pool_error *err);
    void (*close)(void *self);
    enum pool_code (*register_worker)(void *self, struct pool_worker_info *worker, struct pool_error *err);
    enum pool_code (*update)(void *self, struct pool_worker_info *worker, struct pool_error *err);
    enum pool_code (*unregister)(void *self, struct pool_worker_info *worker, struct pool_error *err);
    enum pool_code (*get)(void *self, const char *worker_id, struct pool_worker_info **ret_worker,
                          struct pool_error *err);
    enum pool_code (*list)(void *self, enum pool_registry_scope scope, struct pool_worker_list *list,
                           struct pool_error *err);
    enum pool_code (*generation)(void *self, int64_t *ret_generation, struct pool_error *err);
    enum pool_code (*begin)(void *self, struct pool_error *err);
    enum pool_code (*commit)(void *self, struct pool_error *err);
    void (*rollback)(void *self);
    enum pool_code (*get_note)(void *self, const char *name, char **ret_text, struct pool_error *err);
    enum pool_code (*set_note)(void *self, const char *name, const char *text, struct pool_error *err);
    enum pool_code (*put_learned)(void *self, const struct pool_learned_use *use, struct pool_error *err);
    enum pool_code (*list_learned)(void *self, const char *key, struct pool_learned_list *list,
                                   struct pool_error *err);
    enum pool_code (*forget_learned)(void *self, const char *key, int64_t *ret_n, struct pool_error *err);
    enum pool_code (*put_explanation)(void *self, const struct pool_explanation_key *key, const char *text,
                                      struct pool_error *err);
    enum pool_code (*find_explanations)(void *self, const char *id, size_t n_max, char ***ret_texts,
                                        struct pool_error *err);
    enum pool_code (*first_to_leave)(void *self, char **ret_worker_id, struct pool_error *err);
};

/**
 * Opens a registry, which for sqlite makes the file (0600) when there is none.
 * Errors: INVALID_CONFIG (unknown scheme, no path, unknown option), REGISTRY_UNAVAILABLE (can not be read or
 * written, corrupt, somebody else's database, or made by a newer version: details.schema_version), INSUFFICIENT_DISK.
 * A corrupt database is never changed or removed by open: details.is_corrupt is true then.
 * Every call on a registry can also end in CONFLICT, retriable (another process holds the database for too
 * long), and REGISTRY_UNAVAILABLE (a record can not be read: details.worker_id, details.column).
 * Owner: the caller, who closes it.  Threads: one registry is used by one thread at a time, and not across fork.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_open(
    const char *url, struct pool_worker_registry **ret_registry, struct pool_error *err);
/** The same for reading only; the file must exist. Changes are refused with REGISTRY_UNAVAILABLE. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_open_read_only(
    const char *url, struct pool_worker_registry **ret_registry, struct pool_error *err);
/** Opens an implementation of the caller's. `ops` is borrowed for the registry's life. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_open_ops(
    const struct pool_worker_registry_ops *ops, const char *path, struct pool_worker_registry **ret_registry,
    struct pool_error *err);
/** Closes it; an open transaction is rolled back. NULL is fine. */
POOL_EXPORT void pool_worker_registry_close(struct pool_worker_registry *registry);
POOL_EXPORT const char *pool_worker_registry_name(const struct pool_worker_registry *registry);

/*
 * The operations, as described at the slots. Beside the errors named there:
 * INVALID_REQUEST (a worker whose fields are out of range, or that is stopped), REGISTRY_UNAVAILABLE,
 * INSUFFICIENT_DISK, INSUFFICIENT_MEMORY, and INTERNAL for begin inside a transaction or commit outside one.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_register(
    struct pool_worker_registry *registry, struct pool_worker_info *worker, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_update(struct pool_worker_registry *registry,
                                                                       struct pool_worker_info *worker,
                                                                       struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_unregister(
    struct pool_worker_registry *registry, struct pool_worker_info *worker, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_get(struct pool_worker_registry *registry,
                                                                    const char *worker_id,
                                                                    struct pool_worker_info **ret_worker,
                                                                    struct pool_error *err);
/** Owner: the caller frees *ret_worker_id with free(). Another record of the same id may stay. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_first_to_leave(
    struct pool_worker_registry *registry, char **ret_worker_id, struct pool_error *err);
/** Owner: the caller frees the list with pool_worker_list_free. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_list(struct pool_worker_registry *registry,
                                                                     enum pool_registry_scope scope,
                                                                     struct pool_worker_list **ret_list,
                                                                     struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_generation(
    struct pool_worker_registry *registry, int64_t *ret_generation, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_begin(struct pool_worker_registry *registry,
                                                                      struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_commit(struct pool_worker_registry *registry,
                                                                       struct pool_error *err);
/** Undoes what was done since begin. Nothing to do outside a transaction. */
POOL_EXPORT void pool_worker_registry_rollback(struct pool_worker_registry *registry);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_get_note(
    struct pool_worker_registry *registry, const char *name, char **ret_text, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_set_note(
    struct pool_worker_registry *registry, const char *name, const char *text, struct pool_error *err);
/** A text has at most POOL_WORKER_TEXT_MAX bytes. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_put_explanation(
    struct pool_worker_registry *registry, const struct pool_explanation_key *key, const char *text,
    struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_find_explanations(
    struct pool_worker_registry *registry, const char *id, size_t n_max, char ***ret_texts,
    struct pool_error *err);

POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_put_learned(
    struct pool_worker_registry *registry, const struct pool_learned_use *use, struct pool_error *err);
/** Owner: the caller, pool_learned_list_free. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_list_learned(
    struct pool_worker_registry *registry, const char *key, struct pool_learned_list **ret_list,
    struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_registry_forget_learned(
    struct pool_worker_registry *registry, const char *key, int64_t *ret_n, struct pool_error *err);

#ifdef __cplusplus
}
#endif
#endif
