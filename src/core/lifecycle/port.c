/*
 * Listening ports and their owners; see port.h.
 */
#include "core/lifecycle/port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "core/lifecycle/process.h"

/* More listening sockets than ports exist on one address: a bound against nonsense. */
#define LISTENERS_MAX 262144

void listeners_done(struct listeners *list)
{
    free(list->at);
    *list = (struct listeners){ 0 };
}

static bool add_listener(struct listeners *list, const struct inet_diag_msg *message)
{
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 32;
        if (capacity > LISTENERS_MAX)
            return false;
        struct listener *at = reallocarray(list->at, capacity, sizeof *at);
        if (!at)
            return false;
        list->at = at;
        list->capacity = capacity;
    }
    struct listener *listener = &list->at[list->n++];
    *listener = (struct listener){ .socket_inode = message->idiag_inode,
                                   .uid = message->idiag_uid,
                                   .port = ntohs(message->id.idiag_sport),
                                   .is_ipv6 = message->idiag_family == AF_INET6 };
    memcpy(listener->address, message->id.idiag_src, listener->is_ipv6 ? 16 : 4);
    return true;
}

enum sock_diag_reply sock_diag_parse(const void *data, size_t n, struct listeners *list)
{
    const uint8_t *p = data;
    while (n >= sizeof(struct nlmsghdr)) {
        struct nlmsghdr header;
        memcpy(&header, p, sizeof header);
        if (header.nlmsg_len < sizeof header || header.nlmsg_len > n)
            return SOCK_DIAG_BAD;
        if (header.nlmsg_type == NLMSG_DONE)
            return SOCK_DIAG_DONE;
        if (header.nlmsg_type == NLMSG_ERROR)
            return SOCK_DIAG_REFUSED;
        if (header.nlmsg_type == SOCK_DIAG_BY_FAMILY) {
            struct inet_diag_msg message;
            if (header.nlmsg_len < NLMSG_HDRLEN + sizeof message)
                return SOCK_DIAG_BAD;
            memcpy(&message, p + NLMSG_HDRLEN, sizeof message);
            bool is_inet = message.idiag_family == AF_INET || message.idiag_family == AF_INET6;
            if (is_inet && message.idiag_state == TCP_LISTEN && !add_listener(list, &message))
                return SOCK_DIAG_NO_MEMORY;
        }
        size_t step = NLMSG_ALIGN((size_t)header.nlmsg_len);
        if (step >= n)
            return SOCK_DIAG_MORE;
        p += step;
        n -= step;
    }
    return n == 0 ? SOCK_DIAG_MORE : SOCK_DIAG_BAD;
}

static int dump_family(int fd, uint8_t family, struct listeners *list)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } ask = {
        .header = { .nlmsg_len = sizeof ask,
                    .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
        .request = { .sdiag_family = family,
                     .sdiag_protocol = IPPROTO_TCP,
                     .idiag_states = 1u << TCP_LISTEN },
    };
    if (send(fd, &ask, sizeof ask, 0) < 0)
        return errno;
    for (;;) {
        /* netlink datagrams are at most one page-rounded 32 KiB: NLMSG_GOODSIZE of the kernel's dump */
        _Alignas(8) uint8_t buffer[32768];
        ssize_t n = recv(fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        switch (sock_diag_parse(buffer, (size_t)n, list)) {
        case SOCK_DIAG_DONE: return 0;
        case SOCK_DIAG_REFUSED: return EAFNOSUPPORT;
        case SOCK_DIAG_BAD: return EPROTO;
        case SOCK_DIAG_NO_MEMORY: return ENOMEM;
        case SOCK_DIAG_MORE: break;
        }
    }
}

int listeners_read(struct listeners *list)
{
    list->n = 0;
    CLEANUP_CLOSE int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd < 0)
        return errno;
    struct timeval patience = { .tv_sec = 2 };
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0)
        return errno;
    int failure = dump_family(fd, AF_INET, list);
    if (failure)
        return failure;
    failure = dump_family(fd, AF_INET6, list);
    /* a kernel built without IPv6 has no such family */
    return failure == EAFNOSUPPORT ? 0 : failure;
}

bool bind_address_parse(const char *host, uint16_t port, struct bind_address *ret_address)
{
    struct bind_address address = { 0 };
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    if (strcmp(host, "localhost") == 0)
        host = "127.0.0.1";
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        address.length = sizeof v4;
        memcpy(&address.bind, &v4, sizeof v4);
        address.is_loopback = (ntohl(v4.sin_addr.s_addr) >> 24) == 127;
        if (v4.sin_addr.s_addr == htonl(INADDR_ANY))
            v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        memcpy(&address.reach, &v4, sizeof v4);
    } else if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
        address.length = sizeof v6;
        memcpy(&address.bind, &v6, sizeof v6);
        address.is_loopback = IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
        if (IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr))
            v6.sin6_addr = in6addr_loopback;
        memcpy(&address.reach, &v6, sizeof v6);
    } else {
        return false;
    }
    *ret_address = address;
    return true;
}

int port_test(const char *host, uint16_t port)
{
    struct bind_address address;
    if (!bind_address_parse(host, port, &address))
        return EADDRNOTAVAIL;
    CLEANUP_CLOSE int fd = socket(address.bind.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    /* As engines do: without it, connections of an earlier worker in TIME_WAIT would look like an owner. */
    int yes = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0)
        return errno;
    if (bind(fd, (struct sockaddr *)&address.bind, address.length) < 0)
        return errno;
    /* Two sockets with SO_REUSEADDR may both be bound while neither listens; listen tells. */
    return listen(fd, 1) < 0 ? errno : 0;
}

/* Whether a connection to the claim's address could end at this listener. */
static bool is_reachable_as(const struct listener *listener, const struct bind_address *claimed)
{
    static const uint8_t any[16];
    if (memcmp(listener->address, any, listener->is_ipv6 ? 16 : 4) == 0)
        return true;
    if (claimed->bind.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&claimed->bind;
        if (v4->sin_addr.s_addr == htonl(INADDR_ANY))
            return true;
        const uint8_t *address = listener->is_ipv6 ? listener->address + 12 : listener->address;
        return memcmp(address, &v4->sin_addr, 4) == 0;
    }
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&claimed->bind;
    if (IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr))
        return true;
    return listener->is_ipv6 && memcmp(listener->address, &v6->sin6_addr, 16) == 0;
}

static bool is_held_by_tree(uint64_t socket_inode, const struct port_claim *claim, struct process_set *tree,
                            bool *is_tree_read)
{
    if (process_has_socket(claim->pid, socket_inode))
        return true;
    if (!*is_tree_read) {
        struct process_tree_query query = { .root = claim->pid,
                                            .log_device = claim->log_device,
                                            .log_inode = claim->log_inode };
        *is_tree_read = true;
        if (process_tree_find(&query, tree) != 0)
            return false;
    }
    for (size_t i = 0; i < tree->n; i++) {
        if (process_has_socket(tree->pids[i], socket_inode))
            return true;
    }
    return false;
}

/*
 * Whether /proc tells what the worker's processes have open. The folder of one that has ended is closed to all but
 * root, and says all the same: it has nothing open.
 */
static bool is_tree_visible(pid_t pid)
{
    struct process_stat stat;
    bool is_known;
    process_has_lock(pid, 0, 0, &is_known);
    return is_known || (process_stat_read(pid, &stat) == 0 && (stat.state == 'Z' || stat.state == 'X'));
}

enum port_owner port_owner_find(const struct listeners *list, const struct port_claim *claim,
                                enum pool_port_proof *ret_proof, uint32_t *ret_foreign_uid)
{
    struct bind_address address;
    if (!bind_address_parse(claim->host, claim->port, &address))
        return PORT_NOBODY;
    CLEANUP(process_set_done) struct process_set tree = { 0 };
    bool is_tree_read = false;
    bool is_known = is_tree_visible(claim->pid);
    enum port_owner owner = PORT_NOBODY;
    for (size_t i = 0; i < list->n; i++) {
        const struct listener *listener = &list->at[i];
        if (listener->port != claim->port || !is_reachable_as(listener, &address))
            continue;
        bool is_ours = is_known ? is_held_by_tree(listener->socket_inode, claim, &tree, &is_tree_read)
                                : listener->uid == geteuid();
        if (!is_ours) {
            *ret_foreign_uid = listener->uid;
            return PORT_FOREIGN;
        }
        owner = PORT_OURS;
    }
    *ret_proof = owner == PORT_NOBODY ? POOL_PORT_PROOF_NONE
                 : is_known           ? POOL_PORT_PROOF_PROCESS_TREE
                                      : POOL_PORT_PROOF_UID;
    return owner;
}
