/*
 * Connections: who they are, how many there may be, and how long they may take. Owns the limits by number and by
 * address and the deadlines that libmicrohttpd does not have; its own are about silence only, and a client that sends
 * a byte now and then is never silent. And the news that a client sends no more: libmicrohttpd does not look at a
 * suspended connection, and misses the end of one that comes together with data (it takes a short read for "no more
 * to read", and an edge-triggered event does not come twice).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "managerd/http_internal.h"

/* IPv4 addresses as IPv4-mapped ones; of IPv6 the /64, which is what one customer has. false: not an IP address. */
static bool make_key(const struct sockaddr_storage *address, struct http_address_key *key,
                     bool *ret_is_loopback)
{
    struct in6_addr v6 = IN6ADDR_ANY_INIT;
    if (address->ss_family == AF_INET6) {
        v6 = ((const struct sockaddr_in6 *)address)->sin6_addr;
        *ret_is_loopback = IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
        if (!IN6_IS_ADDR_V4MAPPED(&v6))
            memset(v6.s6_addr + 8, 0, 8);
    } else if (address->ss_family == AF_INET) {
        const struct in_addr *v4 = &((const struct sockaddr_in *)address)->sin_addr;
        v6.s6_addr[10] = v6.s6_addr[11] = 0xff;
        memcpy(v6.s6_addr + 12, v4, 4);
        *ret_is_loopback = v6.s6_addr[12] == 127;
    } else {
        return false;
    }
    memcpy(key->bytes, v6.s6_addr, sizeof(key->bytes));
    return true;
}

/* Counts the peer's address; false when there are too many of it already. The table has room for every connection. */
static bool count_address(struct http_server *server, struct http_peer *peer,
                          const struct sockaddr_storage *address)
{
    bool is_loopback = false;
    if (!make_key(address, &peer->key, &is_loopback))
        return true;
    size_t limit = is_loopback ? server->options.max_connections_per_loopback_address
                               : server->options.max_connections_per_address;
    if (limit == 0)
        return true;
    struct http_address_count *count = NULL;
    for (size_t i = 0; i < server->n_addresses && !count; i++)
        if (memcmp(&server->addresses[i].key, &peer->key, sizeof(peer->key)) == 0)
            count = &server->addresses[i];
    if (!count) {
        count = &server->addresses[server->n_addresses++];
        *count = (struct http_address_count){ .key = peer->key };
    }
    count->n++;
    peer->is_counted = true;
    return count->n <= limit;
}

static void uncount_address(struct http_server *server, struct http_peer *peer)
{
    for (size_t i = 0; i < server->n_addresses && peer->is_counted; i++) {
        if (memcmp(&server->addresses[i].key, &peer->key, sizeof(peer->key)) != 0)
            continue;
        if (--server->addresses[i].n == 0)
            server->addresses[i] = server->addresses[--server->n_addresses];
        peer->is_counted = false;
    }
}

static void describe_address(struct http_peer *peer, const struct sockaddr_storage *address)
{
    char text[INET6_ADDRSTRLEN] = "";
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
        snprintf(peer->address, sizeof(peer->address), "%s:%u", text, ntohs(v4->sin_port));
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
        snprintf(peer->address, sizeof(peer->address), "[%s]:%u", text, ntohs(v6->sin6_port));
    } else {
        snprintf(peer->address, sizeof(peer->address), "unix:%lu", (unsigned long)peer->uid);
    }
}

static void free_peer(struct http_peer *peer)
{
    uncount_address(peer->server, peer);
    free(peer);
}

/* The connection cannot even be given a place to be refused in. */
static void turn_away(struct http_server *server, int fd)
{
    struct pool_error error = POOL_ERROR_INIT;
    pool_error_set(&error, POOL_OVERLOADED, "too many connections");
    char id[UUID_TEXT_MAX];
    http_send_refusal(fd, 503, &error, random_uuid(id) ? id : NULL);
    (void)shutdown(fd, SHUT_WR);
    http_linger_begin(server, fd);
    close(fd);
}

static void note_hang_up(struct http_watch *watch, uint32_t events)
{
    struct http_peer *peer = (struct http_peer *)watch;
    (void)events;
    peer->has_hung_up = true;
    peer->server->has_hang_ups = true;
}

/* false: to be looked at again, there is still something to read. */
static bool settle_hang_up(struct http_peer *peer)
{
    struct http_request *request = peer->request;
    int n_unread = 0;
    if (request && (request->phase == HTTP_PHASE_HANDED || request->is_stream)) {
        if (!request->is_gone) {
            http_request_drop(request);
            http_request_tell_gone(request);
        }
        return true;
    }
    /* One that shut down its side after its request still gets the answer; the end of that brings us back here. */
    if (request && request->phase == HTTP_PHASE_ANSWERED)
        return true;
    if (ioctl(peer->fd, FIONREAD, &n_unread) == 0 && n_unread > 0)
        return false;
    (void)shutdown(peer->fd, SHUT_RDWR);
    return true;
}

void http_peers_check_hang_ups(struct http_server *server)
{
    if (!server->has_hang_ups)
        return;
    server->has_hang_ups = false;
    for (struct http_peer *peer = server->peers; peer; peer = peer->next)
        if (peer->has_hung_up && !settle_hang_up(peer))
            server->has_hang_ups = true;
}

void http_peer_accept(struct http_server *server, int fd, enum http_transport transport,
                      const struct sockaddr_storage *address, socklen_t n_address)
{
    struct ucred credentials = { .uid = (uid_t)-1 };
    socklen_t n = sizeof(credentials);
    if (transport == HTTP_UNIX && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &n) != 0) {
        close(fd);
        return;
    }
    struct http_peer *peer = NULL;
    if (server->n_peers < server->options.max_connections + HTTP_CONNECTIONS_SPARE)
        peer = calloc(1, sizeof(*peer));
    if (!peer || !http_server_watch(server, &peer->watch, fd, EPOLLRDHUP | EPOLLET)) {
        turn_away(server, fd);
        free(peer);
        return;
    }
    peer->watch.on_event = note_hang_up;
    peer->server = server;
    peer->fd = fd;
    peer->transport = transport;
    peer->uid = credentials.uid;
    peer->waiting_since_ns = clock_boottime_ns();
    describe_address(peer, address);
    n = sizeof(peer->local);
    (void)getsockname(fd, (struct sockaddr *)&peer->local, &n);
    bool is_within = count_address(server, peer, address);
    if (server->n_peers >= server->options.max_connections)
        peer->refusal = POOL_OVERLOADED;
    else if (!is_within)
        peer->refusal = POOL_RATE_LIMITED;

    server->accepting = peer;
    /* It closes the socket when it fails. The address is of no use to it: its own limits by address are off. */
    if (MHD_add_connection(server->daemon, fd, (const struct sockaddr *)address, n_address) == MHD_NO &&
        server->accepting)
        free_peer(peer);
    server->accepting = NULL;
}

void http_peer_notify(void *context, struct MHD_Connection *connection, void **socket_context,
                      enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        struct http_peer *peer = server->accepting;
        server->accepting = NULL;
        *socket_context = peer;
        peer->next = server->peers;
        if (peer->next)
            peer->next->previous = peer;
        server->peers = peer;
        server->n_peers++;
        /* A place for refusals is given up soon. */
        if (peer->refusal != POOL_OK)
            MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, 2U);
        http_server_sweep_soon(server);
        return;
    }
    struct http_peer *peer = *socket_context;
    *socket_context = NULL;
    /* Closing would not do when http_linger.c keeps a copy of the descriptor. */
    http_server_unwatch(server, peer->fd);
    if (peer->request) /* libmicrohttpd forgot to say so, as it does when epoll_ctl fails */
        http_request_end(peer->request, false);
    if (peer->previous)
        peer->previous->next = peer->next;
    else
        server->peers = peer->next;
    if (peer->next)
        peer->next->previous = peer->previous;
    server->n_peers--;
    free_peer(peer);
}

struct http_peer *http_peer_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

void http_peers_close_idle(struct http_server *server)
{
    for (struct http_peer *peer = server->peers; peer; peer = peer->next)
        if (!peer->request)
            (void)shutdown(peer->fd, SHUT_RDWR);
}

/* Whether a connection takes longer than anybody honest would. */
static bool is_overdue(const struct http_peer *peer, int64_t now_ns)
{
    const struct http_server *server = peer->server;
    const struct http_request *request = peer->request;
    int64_t allowed_ns = server->options.receive_timeout_ms * NS_PER_MS;
    if (!request)
        return now_ns - peer->waiting_since_ns > allowed_ns + server->options.idle_timeout_ms * NS_PER_MS;
    if (request->phase < HTTP_PHASE_HANDED)
        return now_ns - request->arrived_ns > allowed_ns;
    if (request->phase != HTTP_PHASE_ANSWERED || request->is_stream)
        return false;
    allowed_ns += (int64_t)(request->n_answer / HTTP_SEND_BYTES_PER_SEC) * NS_PER_SEC;
    return now_ns - request->answered_ns > allowed_ns;
}

void http_peers_sweep(struct http_server *server, int64_t now_ns)
{
    for (struct http_peer *peer = server->peers; peer; peer = peer->next) {
        if (!is_overdue(peer, now_ns))
            continue;
        /* libmicrohttpd sees the end of the connection and closes it. */
        (void)shutdown(peer->fd, SHUT_RDWR);
    }
}
