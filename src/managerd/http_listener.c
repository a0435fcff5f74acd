/*
 * The sockets that listen: TCP addresses, a Unix socket, sockets that were inherited. Owns binding, the socket's file
 * and its removal, and accepting; what becomes of an accepted connection is http_peer.c's.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "managerd/http_internal.h"

/* "127.0.0.1:9200", "[::1]:0" */
static bool read_bind(const char *bind, struct sockaddr_storage *ret_address, socklen_t *ret_n)
{
    const char *colon = strrchr(bind, ':');
    int64_t port;
    if (!colon || !parse_int64(colon + 1, 0, UINT16_MAX, &port))
        return false;
    char host[INET6_ADDRSTRLEN + 2];
    size_t n = (size_t)(colon - bind);
    if (n >= sizeof(host))
        return false;
    memcpy(host, bind, n);
    host[n] = '\0';
    *ret_address = (struct sockaddr_storage){ 0 };
    if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret_address;
        host[n - 1] = '\0';
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        *ret_n = sizeof(*v6);
        return inet_pton(AF_INET6, host + 1, &v6->sin6_addr) == 1;
    }
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret_address;
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)port);
    *ret_n = sizeof(*v4);
    return inet_pton(AF_INET, host, &v4->sin_addr) == 1;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage address = { 0 };
    socklen_t n = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &n) != 0)
        return 0;
    if (address.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    return address.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&address)->sin6_port) : 0;
}

/* Accepted sockets inherit these. A client whose machine is gone sends no FIN; keepalive finds out. */
static void set_tcp_options(int fd)
{
    const int on = 1, idle_sec = 60, interval_sec = 10, n_probes = 3;
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_sec, sizeof(idle_sec));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_sec, sizeof(interval_sec));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &n_probes, sizeof(n_probes));
}

static void add_listener(struct http_server *server, int fd, enum http_transport transport)
{
    struct http_listener *listener = &server->listeners[server->n_listeners++];
    *listener = (struct http_listener){ .server = server, .fd = fd, .transport = transport, .is_open = true };
    listener->port = transport == HTTP_TCP ? port_of(fd) : 0;
}

static enum pool_code open_tcp(struct http_server *server, const char *bind_text, struct pool_error *err)
{
    struct sockaddr_storage address;
    socklen_t n_address = 0;
    if (!bind_text || !read_bind(bind_text, &address, &n_address)) {
        enum pool_code code = pool_error_set(err, POOL_INVALID_CONFIG,
                                             "'%s' is no address and port like 127.0.0.1:9200 or [::1]:9200",
                                             bind_text ? bind_text : "");
        pool_error_set_field(err, "daemon.bind");
        return code;
    }
    CLEANUP_CLOSE int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    /* After a restart, connections of the one before in TIME_WAIT must not keep the port. */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        (address.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0))
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "cannot make a socket for %s", bind_text);
    set_tcp_options(fd);
    if (bind(fd, (struct sockaddr *)&address, n_address) != 0 || listen(fd, HTTP_LISTEN_BACKLOG) != 0) {
        enum pool_code code =
            pool_error_set_errno(err, POOL_PORT_UNAVAILABLE, errno, "cannot listen on %s", bind_text);
        pool_error_set_field(err, "daemon.bind");
        return code;
    }
    add_listener(server, take_fd(&fd), HTTP_TCP);
    return POOL_OK;
}

/* Removes a socket that nobody listens on any more. */
static enum pool_code clear_socket_path(const struct sockaddr_un *address, struct pool_error *err)
{
    const char *path = address->sun_path;
    struct stat about;
    if (lstat(path, &about) != 0)
        return errno == ENOENT ? POOL_OK : pool_error_set_errno(err, POOL_INVALID_CONFIG, errno, "%s", path);
    if (!S_ISSOCK(about.st_mode))
        return pool_error_set(err, POOL_INVALID_CONFIG, "%s is there and is no socket", path);
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "cannot make a socket");
    /* Refused: nobody listens. All else means somebody might: connected, a full queue (EAGAIN), no permission. */
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno != ECONNREFUSED)
        return pool_error_set(err, POOL_CONFLICT, "another process listens on %s", path);
    if (unlink(path) != 0 && errno != ENOENT)
        return pool_error_set_errno(err, POOL_INVALID_CONFIG, errno, "cannot remove the stale socket %s",
                                    path);
    return POOL_OK;
}

static enum pool_code open_unix(struct http_server *server, const struct http_server_options *options,
                                struct pool_error *err)
{
    const char *path = options->socket_path;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof(address.sun_path))
        return pool_error_set(err, POOL_INVALID_CONFIG, "the path of a socket has 1 to %zu bytes",
                              sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, n + 1);
    enum pool_code code = clear_socket_path(&address, err);
    if (code != POOL_OK)
        return code;
    CLEANUP_FREE char *copy = strdup(path);
    if (!copy)
        return pool_error_no_memory(err);
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* The mode of the socket is that of its file from the start (unix(7), bind), cut by the umask; never wider. */
    if (fd < 0 || fchmod(fd, 0660) != 0)
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "cannot make a socket for %s", path);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        return pool_error_set_errno(err, errno == EADDRINUSE ? POOL_CONFLICT : POOL_INVALID_CONFIG, errno,
                                    "cannot bind %s", path);
    struct stat about;
    if ((options->has_socket_gid && lchown(path, (uid_t)-1, options->socket_gid) != 0) ||
        chmod(path, 0660) != 0 || listen(fd, HTTP_LISTEN_BACKLOG) != 0 || lstat(path, &about) != 0) {
        code = pool_error_set_errno(err, POOL_INVALID_CONFIG, errno, "cannot set up %s", path);
        (void)unlink(path);
        return code;
    }
    add_listener(server, take_fd(&fd), HTTP_UNIX);
    struct http_listener *listener = &server->listeners[server->n_listeners - 1];
    listener->path = take_ptr(&copy);
    listener->device = about.st_dev;
    listener->inode = about.st_ino;
    return POOL_OK;
}

static enum pool_code adopt_fd(struct http_server *server, int fd, struct pool_error *err)
{
    int family = 0, type = 0, is_listening = 0;
    socklen_t n = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &n) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &n) != 0)
        return pool_error_set_errno(err, POOL_INVALID_CONFIG, errno, "inherited descriptor %d", fd);
    if (type != SOCK_STREAM || !is_listening ||
        (family != AF_UNIX && family != AF_INET && family != AF_INET6))
        return pool_error_set(err, POOL_INVALID_CONFIG, "inherited descriptor %d is no listening socket", fd);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "inherited descriptor %d", fd);
    if (family != AF_UNIX)
        set_tcp_options(fd);
    add_listener(server, fd, family == AF_UNIX ? HTTP_UNIX : HTTP_TCP);
    return POOL_OK;
}

enum pool_code http_listeners_open(struct http_server *server, const struct http_server_options *options,
                                   struct pool_error *err)
{
    size_t n_wanted = options->n_binds + options->n_inherited_fds + (options->socket_path ? 1 : 0);
    if (n_wanted == 0 || n_wanted > HTTP_LISTENERS_MAX)
        return pool_error_set(err, POOL_INVALID_CONFIG, "%zu listeners; 1 to %d can be", n_wanted,
                              HTTP_LISTENERS_MAX);
    for (size_t i = 0; i < options->n_binds; i++) {
        enum pool_code code = open_tcp(server, options->binds[i], err);
        if (code != POOL_OK)
            return code;
    }
    server->n_binds = options->n_binds;
    if (options->socket_path) {
        enum pool_code code = open_unix(server, options, err);
        if (code != POOL_OK) {
            pool_error_set_field(err, "daemon.socket");
            return code;
        }
    }
    for (size_t i = 0; i < options->n_inherited_fds; i++) {
        enum pool_code code = adopt_fd(server, options->inherited_fds[i], err);
        if (code != POOL_OK) {
            /* On failure they stay the caller's. */
            server->n_listeners -= i;
            return code;
        }
    }
    return POOL_OK;
}

static void accept_some(uv_poll_t *poll, int status, int events);

static void accept_again(uv_timer_t *pause)
{
    struct http_listener *listener = pause->data;
    if (listener->is_open)
        (void)uv_poll_start(&listener->poll, UV_READABLE, accept_some);
}

/* The connection stays in the queue, and the queue readable: come back when descriptors may have been closed. */
static void pause_accepting(struct http_listener *listener)
{
    (void)uv_poll_stop(&listener->poll);
    (void)uv_timer_start(&listener->pause, accept_again, HTTP_ACCEPT_PAUSE_MS, 0);
}

static void accept_some(uv_poll_t *poll, int status, int events)
{
    struct http_listener *listener = poll->data;
    (void)status;
    (void)events;
    for (int i = 0; i < HTTP_ACCEPTS_PER_WAKE && listener->is_open; i++) {
        struct sockaddr_storage address = { 0 };
        socklen_t n = sizeof(address);
        int fd = accept4(listener->fd, (struct sockaddr *)&address, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            http_peer_accept(listener->server, fd, listener->transport, &address, n);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(listener);
            break;
        } else if (errno == EAGAIN) {
            break;
        }
        /* All else is an error of the connection that was to be accepted: accept(2). */
    }
    http_server_run(listener->server);
}

int http_listeners_start(struct http_server *server)
{
    for (size_t i = 0; i < server->n_listeners; i++) {
        struct http_listener *listener = &server->listeners[i];
        int failed = uv_timer_init(server->loop, &listener->pause);
        if (failed)
            return failed;
        listener->pause.data = listener;
        server->n_handles++;
        failed = uv_poll_init(server->loop, &listener->poll, listener->fd);
        if (failed)
            return failed;
        listener->poll.data = listener;
        server->n_handles++;
        failed = uv_poll_start(&listener->poll, UV_READABLE, accept_some);
        if (failed)
            return failed;
    }
    return 0;
}

void http_listeners_close(struct http_server *server)
{
    for (size_t i = 0; i < server->n_listeners; i++) {
        struct http_listener *listener = &server->listeners[i];
        if (!listener->is_open)
            continue;
        listener->is_open = false;
        /* Before the descriptor: libuv takes the number out of its epoll set when the handle is closed, and it must
         * still be ours then. */
        http_server_close_handle(server, (uv_handle_t *)&listener->poll);
        http_server_close_handle(server, (uv_handle_t *)&listener->pause);
        struct stat about;
        if (listener->path && lstat(listener->path, &about) == 0 && about.st_dev == listener->device &&
            about.st_ino == listener->inode)
            (void)unlink(listener->path);
        free(take_ptr(&listener->path));
        if (listener->fd >= 0)
            close(listener->fd);
    }
}
