/*
 * The implementations of the registry, for its front.
 */
#ifndef CORE_REGISTRY_IMPLEMENTATIONS_H
#define CORE_REGISTRY_IMPLEMENTATIONS_H

#include <pool/registry.h>

extern const struct pool_worker_registry_ops memory_registry_ops;
extern const struct pool_worker_registry_ops sqlite_registry_ops;

#define REGISTRY_NOTE_NAME_MAX POOL_WORKER_ID_MAX
#define REGISTRY_NOTE_TEXT_MAX POOL_WORKER_TEXT_MAX

/* One error for each of these, whichever implementation finds it. */
enum pool_code registry_worker_not_found(struct pool_error *err, const char *worker_id);
enum pool_code registry_revision_conflict(struct pool_error *err, const struct pool_worker_info *worker,
                                          int64_t revision);
enum pool_code registry_id_taken(struct pool_error *err, const char *worker_id);
enum pool_code registry_port_taken(struct pool_error *err, int64_t port, const char *holder_id);
enum pool_code registry_full(struct pool_error *err, int64_t n_max);

#endif
