#include "managerd/first_snapshot.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "managerd/daemon.h"
#include "managerd/log.h"

struct waiting {
    first_snapshot_fn *then;
    void *context;
    struct log_cause cause;
    struct waiting *next;
};

struct first_snapshot {
    uv_timer_t timer;
    bool is_over;
    struct waiting *first, **end;
};

void first_snapshot_over(struct daemon *daemon)
{
    struct first_snapshot *self = daemon->first_snapshot;
    if (!self || self->is_over)
        return;
    self->is_over = true;
    uv_timer_stop(&self->timer);
    while (self->first) {
        struct waiting *waiting = self->first;
        CLEANUP(log_leave_cause)
        __attribute__((unused)) struct log_cause before = log_enter_cause(waiting->cause.id);
        self->first = waiting->next;
        waiting->then(waiting->context);
        free(waiting);
    }
}

static void on_late(uv_timer_t *timer)
{
    first_snapshot_over(timer->data);
}

enum pool_code first_snapshot_open(struct daemon *daemon, struct pool_error *err)
{
    struct first_snapshot *self = calloc(1, sizeof *self);
    if (!self)
        return pool_error_no_memory(err);
    self->end = &self->first;
    uv_timer_init(daemon->loop, &self->timer);
    self->timer.data = daemon;
    uv_timer_start(&self->timer, on_late, FIRST_SNAPSHOT_WAIT_MS, 0);
    uv_unref((uv_handle_t *)&self->timer);
    daemon->first_snapshot = self;
    return POOL_OK;
}

void first_snapshot_close(struct daemon *daemon)
{
    free(take_ptr(&daemon->first_snapshot));
}

void first_snapshot_await(struct daemon *daemon, const char *backend, first_snapshot_fn *then, void *context)
{
    struct first_snapshot *self = daemon->first_snapshot;
    const struct pool_backend *known = NULL;
    struct waiting *waiting = NULL;
    if (!self->is_over && pool_config_backend(daemon->config, backend, &known, NULL) == POOL_OK &&
        known->device == POOL_DEVICE_GPU)
        waiting = calloc(1, sizeof *waiting); /* without memory it is planned with what is known */
    if (!waiting) {
        then(context);
        return;
    }
    *waiting = (struct waiting){ .then = then, .context = context, .cause = log_cause() };
    *self->end = waiting;
    self->end = &waiting->next;
}
