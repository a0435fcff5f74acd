/*
 * The server as a whole: libmicrohttpd inside libuv, from open to close. Owns the libmicrohttpd daemon, the two epoll
 * sets below the loop, the timers, and the order of the end.
 *
 * libmicrohttpd runs without listening sockets and without threads: its epoll set is polled by the loop, and MHD_run is
 * called after every wake and when its timeout is over, as its manual asks. Connections are accepted here and given to
 * it, so that one instance serves every listener and the limits are ours.
 *
 * libmicrohttpd does not see every client leave (http_peer.c), so the connections are in a second epoll set too, for
 * EPOLLRDHUP alone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "managerd/http_internal.h"

#define NO_TIMER UINT64_MAX

static const char no_memory_body[] =
    "{\"error\":{\"code\":\"INSUFFICIENT_MEMORY\",\"message\":\"out of memory\","
    "\"retriable\":true,\"details\":{}}}";

static void schedule_daemon(struct http_server *server);

static void tell_quiet(struct http_server *server)
{
    if (!server->is_quiescing || server->n_alive > 0)
        return;
    http_server_callback *on_quiet = server->on_quiet;
    server->on_quiet = NULL;
    if (on_quiet)
        on_quiet(server->quiet_context);
}

static void close_now(struct http_server *server);

void http_server_run(struct http_server *server)
{
    if (server->is_running || server->is_closed)
        return;
    server->is_running = true;
    MHD_run(server->daemon);
    http_peers_check_hang_ups(server);
    server->is_running = false;
    if (!server->is_closing) {
        schedule_daemon(server);
        tell_quiet(server);
    }
    if (server->is_closing)
        close_now(server);
}

static void run_on_event(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    http_server_run(poll->data);
}

static void run_on_timeout(uv_timer_t *timer)
{
    struct http_server *server = timer->data;
    server->daemon_due_ms = NO_TIMER;
    http_server_run(server);
}

/* A timer that is early costs one needless MHD_run, so it is moved only when it would be late. */
static void schedule_daemon(struct http_server *server)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms;
    if (MHD_get_timeout(server->daemon, &timeout_ms) == MHD_NO)
        return;
    uint64_t due_ms = uv_now(server->loop) + timeout_ms;
    if (server->daemon_due_ms <= due_ms)
        return;
    server->daemon_due_ms = due_ms;
    (void)uv_timer_start(&server->daemon_timer, run_on_timeout, timeout_ms, 0);
}

void http_server_kick(struct http_server *server)
{
    if (server->is_closing)
        return;
    server->daemon_due_ms = uv_now(server->loop);
    (void)uv_timer_start(&server->daemon_timer, run_on_timeout, 0, 0);
}

bool http_server_watch(struct http_server *server, struct http_watch *watch, int fd, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.ptr = watch };
    return epoll_ctl(server->watch_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

void http_server_unwatch(struct http_server *server, int fd)
{
    struct epoll_event event = { 0 };
    (void)epoll_ctl(server->watch_fd, EPOLL_CTL_DEL, fd, &event);
}

/* One event at a time: what it leads to may take others out of the set, and free them. */
static void dispatch_watches(uv_poll_t *poll, int status, int events)
{
    struct http_server *server = poll->data;
    (void)status;
    (void)events;
    for (int i = 0; i < HTTP_ACCEPTS_PER_WAKE && !server->is_closed; i++) {
        struct epoll_event event;
        if (epoll_wait(server->watch_fd, &event, 1, 0) != 1)
            break;
        struct http_watch *watch = event.data.ptr;
        watch->on_event(watch, event.events);
    }
    http_server_run(server);
}

static void sweep(uv_timer_t *timer)
{
    struct http_server *server = timer->data;
    int64_t now_ns = clock_boottime_ns();
    http_peers_sweep(server, now_ns);
    http_lingers_sweep(server, now_ns);
    http_streams_sweep(server, now_ns);
    if (!server->peers && !server->lingers) {
        server->is_sweeping = false;
        (void)uv_timer_stop(timer);
    }
    http_server_run(server);
}

/* A quarter of the shortest deadline, so that none is missed by more. With nobody connected there is no timer. */
void http_server_sweep_soon(struct http_server *server)
{
    if (server->is_sweeping || server->is_closing)
        return;
    int64_t interval_ms = server->options.receive_timeout_ms;
    if (server->options.ping_interval_ms < interval_ms)
        interval_ms = server->options.ping_interval_ms;
    if (HTTP_LINGER_MS < interval_ms && server->lingers)
        interval_ms = HTTP_LINGER_MS;
    interval_ms /= 4;
    if (interval_ms > HTTP_SWEEP_MAX_MS)
        interval_ms = HTTP_SWEEP_MAX_MS;
    if (interval_ms < HTTP_SWEEP_MIN_MS)
        interval_ms = HTTP_SWEEP_MIN_MS;
    server->is_sweeping =
        uv_timer_start(&server->sweep_timer, sweep, (uint64_t)interval_ms, (uint64_t)interval_ms) == 0;
}

/* --- open -------------------------------------------------------------------------------------------------------- */

#define DEFAULT(field, value)                \
    do {                                     \
        if (server->options.field == 0)      \
            server->options.field = (value); \
    } while (0)

static enum pool_code copy_options(struct http_server *server, const struct http_server_options *options,
                                   struct pool_error *err)
{
    server->options = *options;
    DEFAULT(max_body_bytes, HTTP_BODY_MAX_BYTES);
    DEFAULT(max_connections, HTTP_CONNECTIONS_MAX);
    DEFAULT(max_connections_per_address, HTTP_CONNECTIONS_PER_ADDRESS_MAX);
    DEFAULT(max_requests, HTTP_REQUESTS_MAX);
    DEFAULT(max_streams, HTTP_STREAMS_MAX);
    DEFAULT(stream_backlog_bytes, HTTP_STREAM_BACKLOG_BYTES);
    DEFAULT(idle_timeout_ms, HTTP_IDLE_TIMEOUT_MS);
    DEFAULT(receive_timeout_ms, HTTP_RECEIVE_TIMEOUT_MS);
    DEFAULT(ping_interval_ms, HTTP_PING_INTERVAL_MS);
    /* Borrowed from the caller, and not needed any more once the listeners are open. */
    server->options.binds = NULL;
    server->options.socket_path = NULL;
    server->options.inherited_fds = NULL;
    server->options.host_names = NULL;

    server->addresses =
        calloc(server->options.max_connections + HTTP_CONNECTIONS_SPARE + 1, sizeof(*server->addresses));
    if (!server->addresses)
        return pool_error_no_memory(err);
    if (options->n_host_names == 0)
        return POOL_OK;
    server->host_names = calloc(options->n_host_names, sizeof(*server->host_names));
    if (!server->host_names)
        return pool_error_no_memory(err);
    for (; server->n_host_names < options->n_host_names; server->n_host_names++) {
        char *name = strdup(options->host_names[server->n_host_names]);
        if (!name)
            return pool_error_no_memory(err);
        server->host_names[server->n_host_names] = name;
    }
    return POOL_OK;
}

/* The target is decoded by us, once, after it was checked. */
static size_t keep_escapes(void *context, struct MHD_Connection *connection, char *text)
{
    (void)context;
    (void)connection;
    return strlen(text);
}

static enum pool_code start_daemon(struct http_server *server, struct pool_error *err)
{
    unsigned limit = (unsigned)(server->options.max_connections + HTTP_CONNECTIONS_SPARE);
    unsigned timeout_sec = (unsigned)((server->options.idle_timeout_ms + 999) / 1000);
    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
        http_request_handle, server, MHD_OPTION_CONNECTION_LIMIT, limit, MHD_OPTION_CONNECTION_TIMEOUT,
        timeout_sec, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_CONNECTION_MEMORY_BYTES,
        MHD_OPTION_NOTIFY_COMPLETED, http_request_completed, server, MHD_OPTION_NOTIFY_CONNECTION,
        http_peer_notify, server, MHD_OPTION_URI_LOG_CALLBACK, http_request_line, server,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_END);
    if (!server->daemon)
        return pool_error_set_errno(err, errno == ENOMEM ? POOL_INSUFFICIENT_MEMORY : POOL_INTERNAL, errno,
                                    "libmicrohttpd does not start");
    server->no_memory = MHD_create_response_from_buffer(
        sizeof(no_memory_body) - 1, (void *)(uintptr_t)no_memory_body, MHD_RESPMEM_PERSISTENT);
    if (!server->no_memory ||
        MHD_add_response_header(server->no_memory, "Content-Type", "application/json") == MHD_NO ||
        MHD_add_response_header(server->no_memory, "Cache-Control", "no-store") == MHD_NO ||
        MHD_add_response_header(server->no_memory, "Connection", "close") == MHD_NO)
        return pool_error_no_memory(err);
    server->watch_fd = epoll_create1(EPOLL_CLOEXEC);
    if (server->watch_fd < 0)
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "epoll_create1");
    return POOL_OK;
}

static int start_handles(struct http_server *server)
{
    int failed;
    int epoll_fd = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    if ((failed = uv_timer_init(server->loop, &server->daemon_timer)) != 0)
        return failed;
    server->daemon_timer.data = server;
    server->n_handles++;
    if ((failed = uv_timer_init(server->loop, &server->sweep_timer)) != 0)
        return failed;
    server->sweep_timer.data = server;
    server->n_handles++;
    if ((failed = uv_poll_init(server->loop, &server->daemon_poll, epoll_fd)) != 0)
        return failed;
    server->daemon_poll.data = server;
    server->n_handles++;
    if ((failed = uv_poll_init(server->loop, &server->watch_poll, server->watch_fd)) != 0)
        return failed;
    server->watch_poll.data = server;
    server->n_handles++;
    if ((failed = uv_poll_start(&server->daemon_poll, UV_READABLE, run_on_event)) != 0 ||
        (failed = uv_poll_start(&server->watch_poll, UV_READABLE, dispatch_watches)) != 0)
        return failed;
    return http_listeners_start(server);
}

enum pool_code http_server_open(uv_loop_t *loop, const struct http_server_options *options,
                                struct http_server **ret_server, struct pool_error *err)
{
    struct http_server *server = calloc(1, sizeof(*server));
    if (!server)
        return pool_error_no_memory(err);
    server->loop = loop;
    server->watch_fd = -1;
    server->daemon_due_ms = NO_TIMER;
    enum pool_code code = copy_options(server, options, err);
    if (code == POOL_OK)
        code = http_listeners_open(server, options, err);
    if (code == POOL_OK)
        code = start_daemon(server, err);
    if (code == POOL_OK) {
        int failed = start_handles(server);
        if (failed)
            code = pool_error_set(err, failed == UV_ENOMEM ? POOL_INSUFFICIENT_MEMORY : POOL_INTERNAL,
                                  "libuv: %s", uv_strerror(failed));
    }
    if (code != POOL_OK) {
        /* Inherited descriptors are the server's only when it is open; they are the last of the list. */
        size_t n_own = options->n_binds + (options->socket_path ? 1 : 0);
        for (size_t i = n_own; i < server->n_listeners; i++)
            server->listeners[i].fd = -1;
        http_server_close(server, NULL, NULL);
        return code;
    }
    *ret_server = server;
    return POOL_OK;
}

uint16_t http_server_port(const struct http_server *server, size_t bind)
{
    return bind < server->n_binds ? server->listeners[bind].port : 0;
}

int http_server_bind_fd(const struct http_server *server, size_t bind)
{
    return bind < server->n_binds ? server->listeners[bind].fd : -1;
}

size_t http_server_n_connections(const struct http_server *server)
{
    return server->n_peers;
}

size_t http_server_n_requests(const struct http_server *server)
{
    return server->n_counted;
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

/* A request that has arrived is answered, so what is idle shows only then. false: the server was closed meanwhile. */
static bool read_what_is_there(struct http_server *server)
{
    if (server->is_running)
        return true;
    server->is_running = true;
    MHD_run(server->daemon);
    server->is_running = false;
    if (server->is_closing)
        close_now(server);
    return !server->is_closing;
}

void http_server_quiesce(struct http_server *server, http_server_callback *on_quiet, void *context)
{
    if (server->is_closing)
        return;
    server->is_quiescing = true;
    server->on_quiet = on_quiet;
    server->quiet_context = context;
    http_listeners_close(server);
    if (!read_what_is_there(server))
        return;
    http_peers_close_idle(server);
    for (struct http_request *request = server->requests, *next; request; request = next) {
        next = request->next;
        if (request->is_stream)
            http_request_tell_gone(request);
    }
    http_server_kick(server);
}

void http_server_drop_if(struct http_server *server,
                         bool (*is_unwanted)(const struct http_request *request, void *context),
                         void *context)
{
    /* What was cut off leaves the list when libmicrohttpd runs, not here. */
    for (struct http_request *request = server->requests; request; request = request->next)
        if (!request->is_gone && is_unwanted(request, context))
            http_request_drop(request);
    http_server_kick(server);
}

void http_server_free_if_done(struct http_server *server)
{
    if (!server->has_closed_handles || server->n_alive > 0)
        return;
    for (size_t i = 0; i < server->n_host_names; i++)
        free(server->host_names[i]);
    free(server->host_names);
    free(server->addresses);
    free(server);
}

static void finish_close(struct http_server *server)
{
    server->has_closed_handles = true;
    http_server_callback *on_closed = server->on_closed;
    void *context = server->closed_context;
    http_server_free_if_done(server);
    if (on_closed)
        on_closed(context);
}

static void forget_handle(uv_handle_t *handle)
{
    struct http_server *server = handle->data;
    if (--server->n_handles == 0)
        finish_close(server);
}

void http_server_close_handle(struct http_server *server, uv_handle_t *handle)
{
    if (!handle->data)
        return;            /* it was never initialised */
    handle->data = server; /* a listener's handles pointed to the listener */
    uv_close(handle, forget_handle);
}

static void close_now(struct http_server *server)
{
    if (server->is_closed)
        return;
    server->is_closed = true;
    http_listeners_close(server);
    http_server_close_handle(server, (uv_handle_t *)&server->daemon_poll);
    http_server_close_handle(server, (uv_handle_t *)&server->watch_poll);
    http_server_close_handle(server, (uv_handle_t *)&server->daemon_timer);
    http_server_close_handle(server, (uv_handle_t *)&server->sweep_timer);
    /* Nothing may be suspended when libmicrohttpd stops; it then ends every request, and we tell their owners. */
    for (struct http_request *request = server->requests; request; request = request->next)
        http_request_drop(request);
    if (server->daemon)
        MHD_stop_daemon(server->daemon);
    server->daemon = NULL;
    http_lingers_close(server);
    if (server->no_memory)
        MHD_destroy_response(server->no_memory);
    if (server->watch_fd >= 0)
        close(server->watch_fd);
    server->watch_fd = -1;
    if (server->n_handles == 0)
        finish_close(server);
}

void http_server_close(struct http_server *server, http_server_callback *on_closed, void *context)
{
    if (server->is_closing)
        return;
    server->is_closing = true;
    server->on_closed = on_closed;
    server->closed_context = context;
    if (!server->is_running)
        close_now(server);
}
