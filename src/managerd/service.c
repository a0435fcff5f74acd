/*
 * The daemon as a service; see service.h.
 */
#include "managerd/service.h"

#include <inttypes.h>
#include <time.h>

#include "base/clock.h"

#define READY_WAIT_MS  1000  /* for the manager to take what must not be lost */
#define TICK_MAX_MS    10000 /* so that the number of workers is not older than this */
#define STOP_EXTEND_US 30000000

enum pool_code service_open(struct service *service, const char *const *environment, struct pool_error *err)
{
    enum pool_code code = notify_open(environment, &service->notify, err);
    return code == POOL_OK ? activation_take(environment, &service->sockets, err) : code;
}

/* A stop may wait for workers; as long as the loop turns, it is not hanging. */
static void tick(uv_timer_t *timer)
{
    struct service *service = timer->data;
    size_t n = service->count_workers(service->context);
    if (service->is_stopping)
        (void)notify_send(&service->notify, 0, "EXTEND_TIMEOUT_USEC=%d", STOP_EXTEND_US);
    else if (n != service->n_told && notify_send(&service->notify, 0, "STATUS=%zu workers", n))
        service->n_told = n;
    if (service->notify.watchdog_ms > 0)
        (void)notify_send(&service->notify, 0, "WATCHDOG=1");
}

void service_ready(struct service *service, uv_loop_t *loop, size_t (*count_workers)(void *context),
                   void *context)
{
    if (service->notify.fd < 0)
        return;
    service->count_workers = count_workers;
    service->context = context;
    service->n_told = count_workers(context);
    uv_timer_init(loop, &service->tick);
    service->tick.data = service;
    /* Twice within the time, as sd_watchdog_enabled(3) advises. */
    int64_t interval_ms = service->notify.watchdog_ms > 0 ? service->notify.watchdog_ms / 2 : TICK_MAX_MS;
    if (interval_ms > TICK_MAX_MS)
        interval_ms = TICK_MAX_MS;
    if (interval_ms < 1)
        interval_ms = 1;
    uv_timer_start(&service->tick, tick, (uint64_t)interval_ms, (uint64_t)interval_ms);
    uv_unref((uv_handle_t *)&service->tick);
    (void)notify_send(&service->notify, READY_WAIT_MS, "READY=1\nSTATUS=%zu workers", service->n_told);
}

/* systemd 253 compares the time with its own of the reload it asked for. */
void service_reloading(struct service *service)
{
    struct timespec now = { 0 };
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    (void)notify_send(&service->notify, READY_WAIT_MS, "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
                      (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

void service_reloaded(struct service *service)
{
    (void)notify_send(&service->notify, READY_WAIT_MS, "READY=1");
}

void service_stopping(struct service *service, const char *why)
{
    service->is_stopping = true;
    (void)notify_send(&service->notify, READY_WAIT_MS, "STOPPING=1\nSTATUS=stopping: %.100s", why);
}

void service_done(struct service *service)
{
    notify_done(&service->notify);
}
