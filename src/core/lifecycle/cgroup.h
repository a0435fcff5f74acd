/*
 * A control group (v2) of its own for each worker, where the kernel and who started us allow it: everything that a worker
 * ever started is in it, whatever it did to its session, its output and its environment, and can be killed by one write
 * that no fork escapes.
 *
 * It is allowed where the group we were started in was delegated (systemd's Delegate=, which marks it by an extended
 * attribute), or, as the first process of a container, where the root of its control groups is ours to write. We leave
 * that group for a leaf of its own, "pool-managerd", and make a "worker-ID.START" beside it for each start. Everywhere
 * else all of this does nothing, and what a worker is made of is found by the other ways (process_tree.c).
 * Source: cgroups(7); the kernel's cgroup-v2.rst; systemd's CGROUP_DELEGATION.
 */
#ifndef LIFECYCLE_CGROUP_H
#define LIFECYCLE_CGROUP_H

#include <pool/worker.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/lifecycle/process.h"

struct cgroups {
    int root_fd; /* of the delegated group; -1: there is none */
};
#define CGROUPS_INIT  \
    {                 \
        .root_fd = -1 \
    }

/* Finds the delegated group and leaves it for a leaf. That there is none is no failure. */
void cgroups_open(struct cgroups *cgroups);
void cgroups_close(struct cgroups *cgroups);

/* Moves a worker's main process, just spawned, into a group of its own. What it forked before that is not moved. */
void cgroup_enter(const struct cgroups *cgroups, const struct pool_worker_info *worker, pid_t pid);
/* Adds every process of its group. false: no memory. Zombies are in none. */
bool cgroup_find(const struct cgroups *cgroups, const struct pool_worker_info *worker,
                 struct process_set *set);
/* SIGKILL to all of it at once (Linux 5.14). */
void cgroup_kill(const struct cgroups *cgroups, const struct pool_worker_info *worker);
/* Removes its group, if it is empty. */
void cgroup_remove(const struct cgroups *cgroups, const struct pool_worker_info *worker);
/* Removes what is empty and belongs to none of the live workers: left by a manager that was killed. */
void cgroups_sweep(const struct cgroups *cgroups, const struct pool_worker_list *live);

/* What a group knows of its worker, also after that ended, until cgroup_remove. Absent: the kernel does not count it. */
struct cgroup_facts {
    struct pool_reading n_ooms; /* times that its own limit was reached and nothing could be freed */
    struct pool_reading
        n_oom_kills; /* processes of it that the kernel ended for want of memory, at whatever limit */
    struct pool_reading peak_memory_bytes;
    struct pool_reading limit_bytes; /* absent: none of its own */
};
struct cgroup_facts cgroup_facts_read(const struct cgroups *cgroups, const struct pool_worker_info *worker);

/* ---- parts, for tests ---- */

/* The path of our own group from the text of /proc/self/cgroup; false when there is none of v2. */
bool cgroup_own_path_parse(const char *text, char *path, size_t n_path);
/* The mount point of v2, and which group it shows, from the text of /proc/self/mountinfo. */
bool cgroup_mount_parse(const char *text, char *mount_point, size_t n_mount_point, char *root, size_t n_root);

#endif
