/*
 * Crash bundles: made when an end is settled, kept in the state directory, and read for "why". What a bundle is, is
 * pool/crash.h. A bundle that can not be written (memory, a full disk) is lost; the end is settled all the same.
 */
#ifndef LIFECYCLE_CRASH_H
#define LIFECYCLE_CRASH_H

#include <pool/crash.h>

#include "base/string_list.h"
#include "core/lifecycle/manager.h"

static inline void free_crash(struct pool_crash **crash)
{
    pool_crash_free(*crash);
}

/* ---- crash.c: making one ---- */

/* Whether such an end leaves a bundle: nobody asked for it. */
bool crash_is_due(const struct pool_worker_info *worker);
/*
 * Makes and keeps the bundle of a worker whose record is its last; the caller holds the lock and has not removed its control
 * group or start record. One that is there already for this very start stays: it was made when more was known. What goes
 * wrong is in manager->crash_failure. true: a file was made.
 */
bool crash_note(struct pool_manager *manager, const struct pool_worker_info *worker, const char *explain_id);

/* What is known to be a secret of a worker, where this manager knows it: its backend's and its request's. */
void crash_learn_secrets(struct pool_manager *manager, const struct pool_worker_info *worker,
                         struct string_list *known);
/* The bundle of this very start, NULL when there is none that can be read. */
struct pool_crash *crash_of_start(const struct pool_manager *manager, const struct pool_worker_info *worker);

/* Takes back what was made just now: the end itself needs the room. */
void crash_take_back(struct pool_manager *manager, const struct pool_worker_info *worker);

/* ---- crash_log.c: the last lines ---- */

/*
 * Fills the log of a bundle with as much of it as the limits allow, without what is known and without what has a mark
 * (secret_marks.h; NULL: there are none), which is known from then on.
 */
bool crash_take_log(struct pool_crash *crash, const struct pool_worker_info *worker, const char *marks,
                    struct string_list *known);
/*
 * The last lines of a worker's log for an error, at most n - 1 bytes, as a bundle would have them. Before the end is settled the
 * copy of the start tells its secrets, afterwards the bundle has the lines. manager may be NULL: then only the log is asked.
 */
void crash_log_tail(struct pool_manager *manager, const struct pool_worker_info *worker, char *text,
                    size_t n);
/* A text of others' in one line: control characters become '?', what is no UTF-8 U+FFFD. */
void crash_add_safe(struct strbuf *out, const char *text, size_t n);

/* ---- crash_reason.c: pure ---- */

/* Computes cause, why and evidence from the rest of a bundle. false: no memory. */
bool crash_reason(struct pool_crash *crash);

/* ---- crash_store.c: files ---- */

struct crash_name {
    char worker_id[POOL_WORKER_ID_MAX + 1];
    int64_t created_wall_ms;
    int64_t created_boottime_ns;
};
/* "ID-WALL-BOOT.json" and back; false: that is the name of no bundle. */
#define CRASH_NAME_MAX (POOL_WORKER_ID_MAX + 64)
void crash_name_format(const struct crash_name *name, char text[CRASH_NAME_MAX]);
bool crash_name_parse(const char *text, struct crash_name *ret_name);

/*
 * Writes a bundle under its final name at once and removes the oldest above the limits. Errors: INSUFFICIENT_DISK,
 * REGISTRY_UNAVAILABLE (the folder can not be written), INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code crash_store_write(const struct state_dir *state, const struct crash_name *name,
                                                 const char *json, struct pool_error *err);
void crash_store_remove(const struct state_dir *state, const struct crash_name *name);
/* Reads one; *ret_path is set also when that fails. Errors: NOT_FOUND, INVALID_REQUEST (damaged), INSUFFICIENT_MEMORY. */
POOL_MUST_CHECK enum pool_code crash_store_read(const struct state_dir *state, const struct crash_name *name,
                                                char **ret_path, struct pool_crash **ret_crash,
                                                struct pool_error *err);
/* The name of the bundle of the last start of an id. false: there is none. */
bool crash_store_find(const struct state_dir *state, const char *worker_id, struct crash_name *ret_name);

#endif
