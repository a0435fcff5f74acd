/*
 * After workers on GPUs have stopped: each snapshot of the driver is looked at, until what they held is free or their time
 * is over. Who waits for that, to start, is woken.
 */
#include <stdlib.h>

#include "base/cleanup.h"
#include "managerd/daemon.h"

struct release_look {
    struct daemon *daemon;
    enum pool_code code;
    size_t n_left;
};

static void work_look(void *context)
{
    struct release_look *look = context;
    look->code = pool_manager_check_releases(look->daemon->manager, &look->n_left, NULL);
}

static void finish_look(void *context)
{
    struct release_look *look = context;
    struct daemon *daemon = look->daemon;
    daemon->is_looking_at_releases = false;
    if (look->code == POOL_OK && look->n_left == 0)
        daemon->may_be_releasing = false;
    if (daemon->supervisor)
        supervisor_wake_waiting(daemon->supervisor);
    free(look);
}

void release_watch_stopped(struct daemon *daemon, const struct pool_worker_info *worker)
{
    daemon->may_be_releasing = daemon->may_be_releasing || worker->gpu_uuid;
}

void release_watch_snapshot(struct daemon *daemon)
{
    if (!daemon->may_be_releasing || daemon->is_looking_at_releases || daemon->is_stopping ||
        !daemon->executor)
        return;
    struct release_look *look = calloc(1, sizeof *look);
    if (!look)
        return; /* the next snapshot tries again */
    look->daemon = daemon;
    daemon->is_looking_at_releases =
        executor_submit(daemon->executor, work_look, finish_look, look, NULL) == POOL_OK;
    if (!daemon->is_looking_at_releases)
        free(look);
}
