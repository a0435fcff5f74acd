/*
 * The state directory: who may change it, and where things lie in it.
 *
 *   daemon.lock   exclusive for a daemon's life; anybody else has it shared while he opens the directory and while he has
 *                 `lock`, and lets go of it in between: who waits for a worker keeps no daemon from starting
 *   daemon.turn   exclusive while a daemon waits for daemon.lock: commands that come then let it go ahead
 *   lock          exclusive for one short transaction
 *   state-id      random, made once: workers carry it, so that a lost registry is rebuilt from ours alone
 *   pool.db       the registry
 *   logs/ID.log   a worker's output, and its life: see worker_log.h
 *   proofs/       remembered verifications
 */
#ifndef LIFECYCLE_STATE_DIR_H
#define LIFECYCLE_STATE_DIR_H

#include <pool/error.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/random.h"

struct state_dir {
    char *path;
    int fd;
    int daemon_lock_fd;
    int lock_fd; /* open, not locked, until state_dir_lock */
    bool is_daemon;
    bool has_daemon_lock;
    bool is_locked;
    bool is_superseded; /* a daemon has it now, or is about to: nothing can be changed from here any more */
    bool is_network;    /* NFS and its like: no WAL */
    char state_id[UUID_TEXT_MAX];
};

#define STATE_DIR_INIT                                \
    {                                                 \
        .fd = -1, .daemon_lock_fd = -1, .lock_fd = -1 \
    }

/*
 * Opens (and makes) the directory and takes daemon.lock, exclusively for a daemon.
 * is_explicit: the directory was named by a person, so a network file system is accepted.
 */
POOL_MUST_CHECK enum pool_code state_dir_open(struct state_dir *dir, const char *path, bool is_explicit,
                                              bool is_daemon, struct pool_error *err);
void state_dir_close(struct state_dir *dir);
/*
 * Takes `lock`, trying for timeout_ms, and daemon.lock before it. Errors: CONFLICT; with is_superseded set when it is a daemon
 * who is in the way.
 */
POOL_MUST_CHECK enum pool_code state_dir_lock(struct state_dir *dir, int64_t timeout_ms,
                                              struct pool_error *err);
/* flock(2), tried for timeout_ms. CONFLICT: others hold it; INTERNAL and *ret_errno: it can not be locked. */
POOL_MUST_CHECK enum pool_code flock_within(int fd, int operation, int64_t timeout_ms, int *ret_errno);
/* Lets go of both; a daemon keeps its own. */
void state_dir_unlock(struct state_dir *dir);
/* "PATH/NAME", owned by the caller; NULL: no memory. */
char *state_dir_path(const struct state_dir *dir, const char *name);

/* Releases the lock at the end of a scope: `CLEANUP(state_dir_guard_done) struct state_dir *guard = dir;` */
static inline void state_dir_guard_done(struct state_dir **guard)
{
    if (*guard)
        state_dir_unlock(*guard);
}

#endif
