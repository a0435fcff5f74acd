/*
 * Lingering after a refusal. Closing a socket whose received bytes nobody has read makes the kernel send a reset, and
 * a client that is still uploading then loses the answer that told it why (RFC 9112, section 9.6). So a refused upload
 * is read and thrown away for a while, through a descriptor of our own, once libmicrohttpd has closed its.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "managerd/http_internal.h"

static void end_linger(struct http_linger *linger)
{
    struct http_server *server = linger->server;
    http_server_unwatch(server, linger->fd);
    close(linger->fd);
    if (linger->previous)
        linger->previous->next = linger->next;
    else
        server->lingers = linger->next;
    if (linger->next)
        linger->next->previous = linger->previous;
    server->n_lingers--;
    free(linger);
}

static void discard_upload(struct http_watch *watch, uint32_t events)
{
    struct http_linger *linger = (struct http_linger *)watch;
    char buffer[16384];
    (void)events;
    ssize_t n = read(linger->fd, buffer, sizeof(buffer));
    if (n > 0)
        linger->n_read += (size_t)n;
    bool is_over = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
    if (is_over || linger->n_read > HTTP_LINGER_MAX_BYTES)
        end_linger(linger);
}

void http_linger_begin(struct http_server *server, int fd)
{
    if (server->n_lingers >= HTTP_LINGERERS_MAX || server->is_closing)
        return;
    struct http_linger *linger = calloc(1, sizeof(*linger));
    if (!linger)
        return;
    linger->watch.on_event = discard_upload;
    linger->server = server;
    linger->deadline_ns = clock_boottime_ns() + HTTP_LINGER_MS * NS_PER_MS;
    linger->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (linger->fd < 0 || !http_server_watch(server, &linger->watch, linger->fd, EPOLLIN)) {
        if (linger->fd >= 0)
            close(linger->fd);
        free(linger);
        return;
    }
    linger->next = server->lingers;
    if (linger->next)
        linger->next->previous = linger;
    server->lingers = linger;
    server->n_lingers++;
    http_server_sweep_soon(server);
}

void http_lingers_sweep(struct http_server *server, int64_t now_ns)
{
    for (struct http_linger *linger = server->lingers, *next; linger; linger = next) {
        next = linger->next;
        if (now_ns > linger->deadline_ns)
            end_linger(linger);
    }
}

void http_lingers_close(struct http_server *server)
{
    while (server->lingers)
        end_linger(server->lingers);
}
