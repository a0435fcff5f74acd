/*
 * The front of the registry: finds the implementation of a URL, checks arguments and the order of
 * calls, and hands over. What is stored, and how, is in memory.c and sqlite.c.
 */
#include <pool/registry.h>

#include <inttypes.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/registry/implementations.h"
#include "core/worker_fields.h"

struct pool_worker_registry {
    const struct pool_worker_registry_ops *ops;
    bool is_read_only;
    bool in_transaction;
    alignas(max_align_t) unsigned char self[];
};

static const struct {
    const char *scheme;
    const struct pool_worker_registry_ops *ops;
} implementations[] = {
    { "memory:", &memory_registry_ops },
    { "sqlite:", &sqlite_registry_ops },
};

static enum pool_code open_with(const struct pool_worker_registry_ops *ops, const char *path,
                                bool is_read_only, struct pool_worker_registry **ret_registry,
                                struct pool_error *err)
{
    struct pool_worker_registry *registry = calloc(1, sizeof *registry + ops->private_bytes);
    if (!registry)
        return pool_error_no_memory(err);
    registry->ops = ops;
    registry->is_read_only = is_read_only;
    enum pool_code code = ops->open(registry->self, path, is_read_only, err);
    if (code != POOL_OK) {
        pool_worker_registry_close(registry);
        return code;
    }
    *ret_registry = registry;
    return POOL_OK;
}

static enum pool_code open_url(const char *url, bool is_read_only, struct pool_worker_registry **ret_registry,
                               struct pool_error *err)
{
    for (size_t i = 0; url && i < sizeof implementations / sizeof implementations[0]; i++) {
        size_t n = strlen(implementations[i].scheme);
        if (strncmp(url, implementations[i].scheme, n) == 0)
            return open_with(implementations[i].ops, url + n, is_read_only, ret_registry, err);
    }
    pool_error_set(err, POOL_INVALID_CONFIG,
                   "\"%s\" names no registry; use sqlite:/path/pool.db or memory:", url ? url : "");
    pool_error_set_field(err, "registry.url");
    return POOL_INVALID_CONFIG;
}

enum pool_code pool_worker_registry_open(const char *url, struct pool_worker_registry **ret_registry,
                                         struct pool_error *err)
{
    return open_url(url, false, ret_registry, err);
}

enum pool_code pool_worker_registry_open_read_only(const char *url,
                                                   struct pool_worker_registry **ret_registry,
                                                   struct pool_error *err)
{
    return open_url(url, true, ret_registry, err);
}

enum pool_code pool_worker_registry_open_ops(const struct pool_worker_registry_ops *ops, const char *path,
                                             struct pool_worker_registry **ret_registry,
                                             struct pool_error *err)
{
    return open_with(ops, path, false, ret_registry, err);
}

void pool_worker_registry_close(struct pool_worker_registry *registry)
{
    if (!registry)
        return;
    pool_worker_registry_rollback(registry);
    registry->ops->close(registry->self);
    free(registry);
}

const char *pool_worker_registry_name(const struct pool_worker_registry *registry)
{
    return registry->ops->name;
}

static enum pool_code check_writable(const struct pool_worker_registry *registry, struct pool_error *err)
{
    if (!registry->is_read_only)
        return POOL_OK;
    pool_error_set(err, POOL_REGISTRY_UNAVAILABLE, "the registry was opened for reading only");
    if (err)
        err->is_retriable = false;
    return POOL_REGISTRY_UNAVAILABLE;
}

static enum pool_code check_change(const struct pool_worker_registry *registry,
                                   const struct pool_worker_info *worker, struct pool_error *err)
{
    enum pool_code code = check_writable(registry, err);
    return code != POOL_OK ? code : worker_info_check(worker, err);
}

static enum pool_code check_live(const struct pool_worker_info *worker, struct pool_error *err)
{
    if (worker->status != POOL_WORKER_STOPPED)
        return POOL_OK;
    pool_error_set(err, POOL_INVALID_REQUEST, "worker %s is stopped; unregister it", worker->worker_id);
    pool_error_set_field(err, "status");
    return POOL_INVALID_REQUEST;
}

enum pool_code pool_worker_registry_register(struct pool_worker_registry *registry,
                                             struct pool_worker_info *worker, struct pool_error *err)
{
    enum pool_code code = check_change(registry, worker, err);
    if (code == POOL_OK)
        code = check_live(worker, err);
    return code != POOL_OK ? code : registry->ops->register_worker(registry->self, worker, err);
}

enum pool_code pool_worker_registry_update(struct pool_worker_registry *registry,
                                           struct pool_worker_info *worker, struct pool_error *err)
{
    enum pool_code code = check_change(registry, worker, err);
    if (code == POOL_OK)
        code = check_live(worker, err);
    return code != POOL_OK ? code : registry->ops->update(registry->self, worker, err);
}

enum pool_code pool_worker_registry_unregister(struct pool_worker_registry *registry,
                                               struct pool_worker_info *worker, struct pool_error *err)
{
    enum pool_code code = check_change(registry, worker, err);
    return code != POOL_OK ? code : registry->ops->unregister(registry->self, worker, err);
}

enum pool_code pool_worker_registry_first_to_leave(struct pool_worker_registry *registry,
                                                   char **ret_worker_id, struct pool_error *err)
{
    return registry->ops->first_to_leave(registry->self, ret_worker_id, err);
}

enum pool_code pool_worker_registry_get(struct pool_worker_registry *registry, const char *worker_id,
                                        struct pool_worker_info **ret_worker, struct pool_error *err)
{
    if (!pool_worker_id_is_valid(worker_id)) {
        pool_error_set(err, POOL_INVALID_REQUEST, "not a worker's id");
        pool_error_set_field(err, "worker_id");
        return POOL_INVALID_REQUEST;
    }
    return registry->ops->get(registry->self, worker_id, ret_worker, err);
}

static void free_list(struct pool_worker_list **list)
{
    pool_worker_list_free(*list);
}

enum pool_code pool_worker_registry_list(struct pool_worker_registry *registry,
                                         enum pool_registry_scope scope, struct pool_worker_list **ret_list,
                                         struct pool_error *err)
{
    if (scope != POOL_REGISTRY_LIVE && scope != POOL_REGISTRY_HISTORY)
        return pool_error_set(err, POOL_INVALID_REQUEST, "no such scope of a registry");
    CLEANUP(free_list) struct pool_worker_list *list = calloc(1, sizeof *list);
    if (!list)
        return pool_error_no_memory(err);
    enum pool_code code = registry->ops->list(registry->self, scope, list, err);
    if (code == POOL_OK)
        *ret_list = take_ptr(&list);
    return code;
}

enum pool_code pool_worker_registry_generation(struct pool_worker_registry *registry, int64_t *ret_generation,
                                               struct pool_error *err)
{
    return registry->ops->generation(registry->self, ret_generation, err);
}

enum pool_code pool_worker_registry_begin(struct pool_worker_registry *registry, struct pool_error *err)
{
    enum pool_code code = check_writable(registry, err);
    if (code != POOL_OK)
        return code;
    if (registry->in_transaction)
        return pool_error_set(err, POOL_INTERNAL, "a transaction of the registry was begun inside another");
    code = registry->ops->begin(registry->self, err);
    registry->in_transaction = code == POOL_OK;
    return code;
}

enum pool_code pool_worker_registry_commit(struct pool_worker_registry *registry, struct pool_error *err)
{
    if (!registry->in_transaction)
        return pool_error_set(err, POOL_INTERNAL, "no transaction of the registry to commit");
    registry->in_transaction = false;
    return registry->ops->commit(registry->self, err);
}

void pool_worker_registry_rollback(struct pool_worker_registry *registry)
{
    if (!registry->in_transaction)
        return;
    registry->in_transaction = false;
    registry->ops->rollback(registry->self);
}

static enum pool_code check_note_name(const char *name, struct pool_error *err)
{
    if (pool_worker_id_is_valid(name))
        return POOL_OK;
    return pool_error_set(err, POOL_INVALID_REQUEST, "not a name of a note");
}

enum pool_code pool_worker_registry_get_note(struct pool_worker_registry *registry, const char *name,
                                             char **ret_text, struct pool_error *err)
{
    enum pool_code code = check_note_name(name, err);
    return code != POOL_OK ? code : registry->ops->get_note(registry->self, name, ret_text, err);
}

enum pool_code pool_worker_registry_set_note(struct pool_worker_registry *registry, const char *name,
                                             const char *text, struct pool_error *err)
{
    enum pool_code code = check_writable(registry, err);
    if (code == POOL_OK)
        code = check_note_name(name, err);
    if (code == POOL_OK && text && strnlen(text, REGISTRY_NOTE_TEXT_MAX + 1) > REGISTRY_NOTE_TEXT_MAX)
        code =
            pool_error_set(err, POOL_INVALID_REQUEST, "a note has at most %d bytes", REGISTRY_NOTE_TEXT_MAX);
    return code != POOL_OK ? code : registry->ops->set_note(registry->self, name, text, err);
}

static bool is_learned_text(const char *text)
{
    return text && text[0] != '\0' && strnlen(text, REGISTRY_NOTE_TEXT_MAX + 1) <= REGISTRY_NOTE_TEXT_MAX;
}

enum pool_code pool_worker_registry_put_learned(struct pool_worker_registry *registry,
                                                const struct pool_learned_use *use, struct pool_error *err)
{
    enum pool_code code = check_writable(registry, err);
    if (code != POOL_OK)
        return code;
    if (!is_learned_text(use->key) || !is_learned_text(use->model_ref) || use->estimate_bytes < 0 ||
        use->ready_bytes < 0 || use->peak_bytes < 0 || use->n_starts < 0 || use->updated_wall_ms < 0)
        return pool_error_set(err, POOL_INVALID_REQUEST, "what was learned is out of range");
    return registry->ops->put_learned(registry->self, use, err);
}

static void free_learned(struct pool_learned_list **list)
{
    pool_learned_list_free(*list);
}

enum pool_code pool_worker_registry_list_learned(struct pool_worker_registry *registry, const char *key,
                                                 struct pool_learned_list **ret_list, struct pool_error *err)
{
    CLEANUP(free_learned) struct pool_learned_list *list = calloc(1, sizeof *list);
    if (!list)
        return pool_error_no_memory(err);
    enum pool_code code = registry->ops->list_learned(registry->self, key, list, err);
    if (code == POOL_OK)
        *ret_list = take_ptr(&list);
    return code;
}

enum pool_code pool_worker_registry_forget_learned(struct pool_worker_registry *registry, const char *key,
                                                   int64_t *ret_n, struct pool_error *err)
{
    enum pool_code code = check_writable(registry, err);
    return code != POOL_OK ? code : registry->ops->forget_learned(registry->self, key, ret_n, err);
}

static bool is_key_text(const char *text, bool is_needed)
{
    return text ? text[0] != '\0' && strnlen(text, REGISTRY_NOTE_NAME_MAX + 1) <= REGISTRY_NOTE_NAME_MAX
                : !is_needed;
}

enum pool_code pool_worker_registry_put_explanation(struct pool_worker_registry *registry,
                                                    const struct pool_explanation_key *key, const char *text,
                                                    struct pool_error *err)
{
    enum pool_code code = check_writable(registry, err);
    if (code != POOL_OK)
        return code;
    if (registry->in_transaction)
        return pool_error_set(err, POOL_INTERNAL, "an explanation inside a transaction of the registry");
    if (!is_key_text(key->record_id, true) || !is_key_text(key->worker_id, false) ||
        !is_key_text(key->correlation_id, false) ||
        strnlen(text, REGISTRY_NOTE_TEXT_MAX + 1) > REGISTRY_NOTE_TEXT_MAX)
        return pool_error_set(err, POOL_INVALID_REQUEST, "an id or the text of an explanation is too long");
    return registry->ops->put_explanation(registry->self, key, text, err);
}

enum pool_code pool_worker_registry_find_explanations(struct pool_worker_registry *registry, const char *id,
                                                      size_t n_max, char ***ret_texts, struct pool_error *err)
{
    if (n_max > POOL_EXPLANATIONS_MAX)
        n_max = POOL_EXPLANATIONS_MAX;
    return registry->ops->find_explanations(registry->self, id, n_max, ret_texts, err);
}

enum pool_code registry_worker_not_found(struct pool_error *err, const char *worker_id)
{
    pool_error_set(err, POOL_WORKER_NOT_FOUND, "there is no worker %s", worker_id);
    pool_error_add_text(err, "worker_id", worker_id);
    return POOL_WORKER_NOT_FOUND;
}

enum pool_code registry_revision_conflict(struct pool_error *err, const struct pool_worker_info *worker,
                                          int64_t revision)
{
    pool_error_set(err, POOL_CONFLICT, "worker %s was changed by another since it was read",
                   worker->worker_id);
    pool_error_add_text(err, "worker_id", worker->worker_id);
    pool_error_add_number(err, "expected_revision", worker->revision);
    pool_error_add_number(err, "revision", revision);
    return POOL_CONFLICT;
}

enum pool_code registry_id_taken(struct pool_error *err, const char *worker_id)
{
    pool_error_set(err, POOL_ALREADY_EXISTS, "there is a worker %s already", worker_id);
    pool_error_set_field(err, "worker_id");
    pool_error_add_text(err, "worker_id", worker_id);
    return POOL_ALREADY_EXISTS;
}

enum pool_code registry_port_taken(struct pool_error *err, int64_t port, const char *holder_id)
{
    pool_error_set(err, POOL_ALREADY_EXISTS, "port %" PRId64 " is held by worker %s", port, holder_id);
    pool_error_set_field(err, "port");
    pool_error_add_number(err, "port", port);
    pool_error_add_text(err, "worker_id", holder_id);
    return POOL_ALREADY_EXISTS;
}

enum pool_code registry_full(struct pool_error *err, int64_t n_max)
{
    pool_error_set(err, POOL_OVERLOADED, "there are %" PRId64 " live workers already, the most there can be",
                   n_max);
    pool_error_add_number(err, "n_workers_max", n_max);
    return POOL_OVERLOADED;
}
