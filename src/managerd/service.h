/*
 * The daemon as a service: what it takes from a service manager (sockets) and tells it (ready, reloading, stopping,
 * alive, how many workers there are). The signs of life come from a timer of the loop, so a loop that hangs is silent,
 * and the watchdog acts. Without a service manager all of it does nothing.
 */
#ifndef MANAGERD_SERVICE_H
#define MANAGERD_SERVICE_H

#include <uv.h>

#include "managerd/activation.h"
#include "managerd/notify.h"

struct service {
    struct notify notify;
    struct activation sockets; /* the server's, once it is open */
    uv_timer_t tick;
    size_t (*count_workers)(void *context);
    void *context;
    size_t n_told;
    bool is_stopping;
};
#define SERVICE_INIT          \
    {                         \
        .notify = NOTIFY_INIT \
    }

/**
 * Reads what the service manager left in the environment.
 * Errors: those of notify_open and activation_take.
 */
POOL_MUST_CHECK enum pool_code service_open(struct service *service, const char *const *environment,
                                            struct pool_error *err);
/* The loop is about to run. `count_workers` is asked at each tick. */
void service_ready(struct service *service, uv_loop_t *loop, size_t (*count_workers)(void *context),
                   void *context);
void service_reloading(struct service *service);
void service_reloaded(struct service *service);
void service_stopping(struct service *service, const char *why);
/* The timer is closed with the loop's other handles. */
void service_done(struct service *service);

#endif
