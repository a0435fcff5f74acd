/*
 * The registry in memory. Records never change: a change puts another in their place and writes down
 * both, so that a transaction is undone by going through its changes backwards, which can not fail.
 */
#include <pool/registry.h>

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "base/string_list.h"
#include "core/registry/implementations.h"
#include "core/registry/learned.h"
#include "core/registry/records.h"

#define WORKERS_MAX_OPTION "?max_workers="
#define WORKERS_MAX_LIMIT  1000000 /* about a gigabyte of records */

struct note {
    char *name;
    char *text; /* NULL: removed */
};

/* One change: of a live record (one of before, after may be NULL), of a worker that went into the history, or of a note. */
struct change {
    enum { CHANGED_LIVE, CHANGED_TO_HISTORY, CHANGED_NOTE } kind;
    struct record *before;
    struct record *after;
    struct record *evicted; /* from the history's old end, NULL when it was not full */
    size_t note;            /* index */
    char *text_before;
};

/* One block: the texts follow it, ended by NUL. */
struct explanation {
    const char *record_id;
    const char *worker_id, *correlation_id; /* NULL: of none */
    const char *text;
};

struct memory_registry {
    int64_t n_workers_max;
    struct record_set live;
    struct record *history[POOL_HISTORY_MAX]; /* a ring */
    size_t history_start;                     /* the oldest */
    size_t n_history;
    struct note *notes;
    size_t n_notes;
    struct pool_learned_list learned;
    struct explanation *explanations[POOL_EXPLANATIONS_MAX]; /* a ring */
    size_t explanations_start, n_explanations;               /* the oldest; how many */
    int64_t generation;
    bool in_transaction;
    int64_t generation_before;
    struct change *changes; /* of the transaction, or the one under way */
    size_t n_changes;
    size_t n_changes_max;
};

static enum pool_code memory_open(void *self, const char *path, bool is_read_only, struct pool_error *err)
{
    struct memory_registry *registry = self;
    (void)is_read_only; /* the front refuses changes */
    registry->n_workers_max = POOL_WORKERS_MAX;
    size_t n_option = strlen(WORKERS_MAX_OPTION);
    if (strncmp(path, WORKERS_MAX_OPTION, n_option) == 0 &&
        parse_int64(path + n_option, 1, WORKERS_MAX_LIMIT, &registry->n_workers_max))
        path = "";
    if (path[0] != '\0') {
        pool_error_set(err, POOL_INVALID_CONFIG,
                       "behind memory: there may be %sN, N from 1 to %d, and nothing else",
                       WORKERS_MAX_OPTION, WORKERS_MAX_LIMIT);
        pool_error_set_field(err, "registry.url");
        return POOL_INVALID_CONFIG;
    }
    return record_set_init(&registry->live) ? POOL_OK : pool_error_no_memory(err);
}

static void memory_close(void *self)
{
    struct memory_registry *registry = self;
    record_set_done(&registry->live);
    for (size_t i = 0; i < registry->n_history; i++)
        free(registry->history[(registry->history_start + i) % POOL_HISTORY_MAX]);
    for (size_t i = 0; i < registry->n_notes; i++) {
        free(registry->notes[i].name);
        free(registry->notes[i].text);
    }
    free(registry->notes);
    learned_list_clear(&registry->learned);
    for (size_t i = 0; i < registry->n_explanations; i++)
        free(registry->explanations[(registry->explanations_start + i) % POOL_EXPLANATIONS_MAX]);
    free(registry->changes);
}

static bool reserve_change(struct memory_registry *registry)
{
    if (registry->n_changes < registry->n_changes_max)
        return true;
    size_t n_max = registry->n_changes_max ? 2 * registry->n_changes_max : 16;
    struct change *changes = reallocarray(registry->changes, n_max, sizeof *changes);
    if (!changes)
        return false;
    registry->changes = changes;
    registry->n_changes_max = n_max;
    return true;
}

/* The newest is number 0. */
static struct record *history_at(const struct memory_registry *registry, size_t i)
{
    return registry->history[(registry->history_start + registry->n_history - 1 - i) % POOL_HISTORY_MAX];
}

/* Returns the record that had to go, or NULL. */
static struct record *push_history(struct memory_registry *registry, struct record *record)
{
    struct record *evicted = NULL;
    if (registry->n_history == POOL_HISTORY_MAX) {
        evicted = registry->history[registry->history_start];
        registry->history_start = (registry->history_start + 1) % POOL_HISTORY_MAX;
        registry->n_history--;
    }
    registry->history[(registry->history_start + registry->n_history) % POOL_HISTORY_MAX] = record;
    registry->n_history++;
    return evicted;
}

static void pop_history(struct memory_registry *registry, struct record *evicted)
{
    registry->n_history--;
    if (evicted) {
        registry->history_start = (registry->history_start + POOL_HISTORY_MAX - 1) % POOL_HISTORY_MAX;
        registry->history[registry->history_start] = evicted;
        registry->n_history++;
    }
}

/* Lets go of what the changes replaced. */
static void keep_changes(struct memory_registry *registry)
{
    for (size_t i = 0; i < registry->n_changes; i++) {
        struct change *change = &registry->changes[i];
        free(change->before);
        free(change->evicted);
        free(change->text_before);
    }
    registry->n_changes = 0;
}

static void undo_change(struct memory_registry *registry, struct change *change)
{
    switch (change->kind) {
    case CHANGED_LIVE:
        if (change->after)
            record_set_remove(&registry->live, change->after);
        if (change->before)
            record_set_add(&registry->live, change->before);
        break;
    case CHANGED_TO_HISTORY:
        pop_history(registry, change->evicted);
        record_set_add(&registry->live, change->before);
        break;
    case CHANGED_NOTE:
        free(registry->notes[change->note].text);
        registry->notes[change->note].text = change->text_before;
        break;
    }
    free(change->after);
}

/* Writes a change down that has been made; there is room for it. */
static void note_change(struct memory_registry *registry, struct change change)
{
    registry->changes[registry->n_changes++] = change;
    registry->generation++;
    if (!registry->in_transaction)
        keep_changes(registry);
}

static enum pool_code check_port(const struct memory_registry *registry,
                                 const struct pool_worker_info *worker, const struct record *own,
                                 struct pool_error *err)
{
    const struct record *holder = record_set_find_port(&registry->live, worker->port);
    if (!holder || holder == own)
        return POOL_OK;
    return registry_port_taken(err, worker->port, holder->worker.worker_id);
}

/* Replaces `before` (NULL: none) by a record of `next`. */
static enum pool_code replace_live(struct memory_registry *registry, struct record *before,
                                   const struct pool_worker_info *next, struct pool_error *err)
{
    CLEANUP_FREE struct record *after = record_new(&registry->live, next);
    if (!after || !reserve_change(registry) || !record_set_reserve(&registry->live))
        return pool_error_no_memory(err);
    if (before)
        record_set_remove(&registry->live, before);
    record_set_add(&registry->live, after);
    note_change(registry,
                (struct change){ .kind = CHANGED_LIVE, .before = before, .after = take_ptr(&after) });
    return POOL_OK;
}

static enum pool_code memory_register(void *self, struct pool_worker_info *worker, struct pool_error *err)
{
    struct memory_registry *registry = self;
    if (record_set_find(&registry->live, worker->worker_id))
        return registry_id_taken(err, worker->worker_id);
    enum pool_code code = check_port(registry, worker, NULL, err);
    if (code != POOL_OK)
        return code;
    if ((int64_t)registry->live.n >= registry->n_workers_max)
        return registry_full(err, registry->n_workers_max);
    struct pool_worker_info next = *worker;
    next.revision = 1;
    code = replace_live(registry, NULL, &next, err);
    if (code == POOL_OK)
        worker->revision = next.revision;
    return code;
}

/* The live record that *worker was made from. */
static enum pool_code find_revision(struct memory_registry *registry, const struct pool_worker_info *worker,
                                    struct record **ret_record, struct pool_error *err)
{
    struct record *record = record_set_find(&registry->live, worker->worker_id);
    if (!record)
        return registry_worker_not_found(err, worker->worker_id);
    if (record->worker.revision != worker->revision)
        return registry_revision_conflict(err, worker, record->worker.revision);
    *ret_record = record;
    return POOL_OK;
}

static enum pool_code memory_update(void *self, struct pool_worker_info *worker, struct pool_error *err)
{
    struct memory_registry *registry = self;
    struct record *before = NULL;
    enum pool_code code = find_revision(registry, worker, &before, err);
    if (code == POOL_OK)
        code = check_port(registry, worker, before, err);
    if (code != POOL_OK)
        return code;
    struct pool_worker_info next = *worker;
    next.revision++;
    code = replace_live(registry, before, &next, err);
    if (code == POOL_OK)
        worker->revision = next.revision;
    return code;
}

static enum pool_code memory_unregister(void *self, struct pool_worker_info *worker, struct pool_error *err)
{
    struct memory_registry *registry = self;
    struct record *before = NULL;
    enum pool_code code = find_revision(registry, worker, &before, err);
    if (code != POOL_OK)
        return code;
    struct pool_worker_info next = *worker;
    next.revision++;
    next.status = POOL_WORKER_STOPPED;
    CLEANUP_FREE struct record *after = record_new(&registry->live, &next);
    if (!after || !reserve_change(registry))
        return pool_error_no_memory(err);
    record_set_remove(&registry->live, before);
    struct record *evicted = push_history(registry, after);
    note_change(registry, (struct change){
                              .kind = CHANGED_TO_HISTORY,
                              .before = before,
                              .after = take_ptr(&after),
                              .evicted = evicted,
                          });
    worker->revision = next.revision;
    worker->status = next.status;
    return POOL_OK;
}

static enum pool_code memory_first_to_leave(void *self, char **ret_worker_id, struct pool_error *err)
{
    const struct memory_registry *registry = self;
    bool is_full = registry->n_history == POOL_HISTORY_MAX;
    char *id = is_full ? strdup(registry->history[registry->history_start]->worker.worker_id) : NULL;
    if (is_full && !id)
        return pool_error_no_memory(err);
    *ret_worker_id = id;
    return POOL_OK;
}

static const struct record *find_in_history(const struct memory_registry *registry, const char *worker_id)
{
    uint64_t hash = record_hash(&registry->live, worker_id);
    for (size_t i = 0; i < registry->n_history; i++) {
        const struct record *record = history_at(registry, i);
        if (record->hash == hash && strcmp(record->worker.worker_id, worker_id) == 0)
            return record;
    }
    return NULL;
}

static enum pool_code memory_get(void *self, const char *worker_id, struct pool_worker_info **ret_worker,
                                 struct pool_error *err)
{
    struct memory_registry *registry = self;
    const struct record *record = record_set_find(&registry->live, worker_id);
    if (!record)
        record = find_in_history(registry, worker_id);
    if (!record)
        return registry_worker_not_found(err, worker_id);
    struct pool_worker_info *worker = record_copy(record);
    if (!worker)
        return pool_error_no_memory(err);
    *ret_worker = worker;
    return POOL_OK;
}

static enum pool_code memory_list(void *self, enum pool_registry_scope scope, struct pool_worker_list *list,
                                  struct pool_error *err)
{
    struct memory_registry *registry = self;
    size_t n = scope == POOL_REGISTRY_LIVE ? registry->live.n : registry->n_history;
    if (n == 0)
        return POOL_OK;
    list->workers = calloc(n, sizeof *list->workers);
    if (!list->workers)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const struct record *record =
            scope == POOL_REGISTRY_LIVE ? registry->live.ordered[i] : history_at(registry, i);
        list->workers[i] = record_copy(record);
        if (!list->workers[i])
            return pool_error_no_memory(err);
        list->n_workers++;
    }
    return POOL_OK;
}

static enum pool_code memory_generation(void *self, int64_t *ret_generation, struct pool_error *err)
{
    const struct memory_registry *registry = self;
    (void)err;
    *ret_generation = registry->generation;
    return POOL_OK;
}

static enum pool_code memory_begin(void *self, struct pool_error *err)
{
    struct memory_registry *registry = self;
    (void)err;
    registry->in_transaction = true;
    registry->generation_before = registry->generation;
    return POOL_OK;
}

static enum pool_code memory_commit(void *self, struct pool_error *err)
{
    struct memory_registry *registry = self;
    (void)err;
    registry->in_transaction = false;
    keep_changes(registry);
    return POOL_OK;
}

static void memory_rollback(void *self)
{
    struct memory_registry *registry = self;
    while (registry->n_changes > 0)
        undo_change(registry, &registry->changes[--registry->n_changes]);
    registry->in_transaction = false;
    registry->generation = registry->generation_before;
}

static struct note *find_note(const struct memory_registry *registry, const char *name)
{
    for (size_t i = 0; i < registry->n_notes; i++) {
        if (strcmp(registry->notes[i].name, name) == 0)
            return &registry->notes[i];
    }
    return NULL;
}

static enum pool_code memory_get_note(void *self, const char *name, char **ret_text, struct pool_error *err)
{
    const struct note *note = find_note(self, name);
    char *text = NULL;
    if (note && note->text) {
        text = strdup(note->text);
        if (!text)
            return pool_error_no_memory(err);
    }
    *ret_text = text;
    return POOL_OK;
}

/* Finds the note or makes an empty one, which counts as absent. */
static struct note *demand_note(struct memory_registry *registry, const char *name)
{
    struct note *note = find_note(registry, name);
    if (note)
        return note;
    struct note *notes = reallocarray(registry->notes, registry->n_notes + 1, sizeof *notes);
    if (!notes)
        return NULL;
    registry->notes = notes;
    char *own_name = strdup(name);
    if (!own_name)
        return NULL;
    notes[registry->n_notes] = (struct note){ .name = own_name };
    return &notes[registry->n_notes++];
}

static enum pool_code memory_set_note(void *self, const char *name, const char *text, struct pool_error *err)
{
    struct memory_registry *registry = self;
    CLEANUP_FREE char *own_text = text ? strdup(text) : NULL;
    if ((text && !own_text) || !reserve_change(registry))
        return pool_error_no_memory(err);
    struct note *note = demand_note(registry, name);
    if (!note)
        return pool_error_no_memory(err);
    char *text_before = note->text;
    note->text = take_ptr(&own_text);
    note_change(registry, (struct change){
                              .kind = CHANGED_NOTE,
                              .note = (size_t)(note - registry->notes),
                              .text_before = text_before,
                          });
    return POOL_OK;
}

static enum pool_code memory_put_learned(void *self, const struct pool_learned_use *use,
                                         struct pool_error *err)
{
    struct memory_registry *registry = self;
    return learned_list_merge(&registry->learned, use) ? POOL_OK : pool_error_no_memory(err);
}

static enum pool_code memory_list_learned(void *self, const char *key, struct pool_learned_list *list,
                                          struct pool_error *err)
{
    const struct memory_registry *registry = self;
    return learned_list_select(&registry->learned, key, list) ? POOL_OK : pool_error_no_memory(err);
}

static enum pool_code memory_forget_learned(void *self, const char *key, int64_t *ret_n,
                                            struct pool_error *err)
{
    struct memory_registry *registry = self;
    (void)err;
    *ret_n = learned_list_remove(&registry->learned, key);
    return POOL_OK;
}

static const char *append_text(char **end, const char *text)
{
    if (!text)
        return NULL;
    char *begin = *end;
    size_t n = strlen(text) + 1;
    memcpy(begin, text, n);
    *end += n;
    return begin;
}

static size_t text_bytes(const char *text)
{
    return text ? strlen(text) + 1 : 0;
}

static enum pool_code memory_put_explanation(void *self, const struct pool_explanation_key *key,
                                             const char *text, struct pool_error *err)
{
    struct memory_registry *registry = self;
    struct explanation *explanation =
        malloc(sizeof *explanation + text_bytes(key->record_id) + text_bytes(key->worker_id) +
               text_bytes(key->correlation_id) + text_bytes(text));
    if (!explanation)
        return pool_error_no_memory(err);
    char *end = (char *)(explanation + 1);
    explanation->record_id = append_text(&end, key->record_id);
    explanation->worker_id = append_text(&end, key->worker_id);
    explanation->correlation_id = append_text(&end, key->correlation_id);
    explanation->text = append_text(&end, text);
    size_t at = (registry->explanations_start + registry->n_explanations) % POOL_EXPLANATIONS_MAX;
    if (registry->n_explanations == POOL_EXPLANATIONS_MAX) {
        free(registry->explanations[at]); /* the oldest is where the newest goes */
        registry->explanations_start = (at + 1) % POOL_EXPLANATIONS_MAX;
        registry->n_explanations--;
    }
    registry->explanations[at] = explanation;
    registry->n_explanations++;
    return POOL_OK;
}

static bool is_text(const char *a, const char *b)
{
    return a && strcmp(a, b) == 0;
}

static enum pool_code memory_find_explanations(void *self, const char *id, size_t n_max, char ***ret_texts,
                                               struct pool_error *err)
{
    const struct memory_registry *registry = self;
    CLEANUP(string_list_done) struct string_list texts = { 0 };
    for (size_t i = registry->n_explanations; i > 0 && texts.n < n_max; i--) {
        const struct explanation *explanation =
            registry->explanations[(registry->explanations_start + i - 1) % POOL_EXPLANATIONS_MAX];
        if (id && !is_text(explanation->record_id, id) && !is_text(explanation->worker_id, id) &&
            !is_text(explanation->correlation_id, id))
            continue;
        if (!string_list_add(&texts, explanation->text))
            return pool_error_no_memory(err);
    }
    *ret_texts = string_list_take(&texts);
    return *ret_texts ? POOL_OK : pool_error_no_memory(err);
}

const struct pool_worker_registry_ops memory_registry_ops = {
    .name = "memory",
    .private_bytes = sizeof(struct memory_registry),
    .is_persistent = false,
    .open = memory_open,
    .close = memory_close,
    .register_worker = memory_register,
    .update = memory_update,
    .unregister = memory_unregister,
    .get = memory_get,
    .list = memory_list,
    .generation = memory_generation,
    .begin = memory_begin,
    .commit = memory_commit,
    .rollback = memory_rollback,
    .get_note = memory_get_note,
    .set_note = memory_set_note,
    .put_learned = memory_put_learned,
    .list_learned = memory_list_learned,
    .forget_learned = memory_forget_learned,
    .put_explanation = memory_put_explanation,
    .find_explanations = memory_find_explanations,
    .first_to_leave = memory_first_to_leave,
};
