/*
 * TCP ports: who listens on them (asked of the kernel by sock_diag, 13 µs, where /proc/net/tcp takes
 * milliseconds), whether a listener belongs to a worker, and whether a port can be bound.
 */
#ifndef LIFECYCLE_PORT_H
#define LIFECYCLE_PORT_H

#include <netinet/in.h>
#include <pool/error.h>
#include <pool/worker.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* One listening TCP socket. */
struct listener {
    uint64_t socket_inode;
    uint32_t uid;
    uint16_t port;
    bool is_ipv6;
    uint8_t address[16]; /* 4 bytes used for IPv4 */
};

struct listeners {
    size_t n;
    size_t capacity;
    struct listener *at;
};
void listeners_done(struct listeners *list);

/* A reply of sock_diag was read to its end, is not complete yet, or is not one. */
enum sock_diag_reply {
    SOCK_DIAG_MORE,
    SOCK_DIAG_DONE,
    SOCK_DIAG_REFUSED, /* the kernel answers with an error: it does not know the family, say */
    SOCK_DIAG_BAD,
    SOCK_DIAG_NO_MEMORY
};
/* Adds the listeners of one netlink datagram to the list. */
enum sock_diag_reply sock_diag_parse(const void *data, size_t n, struct listeners *list);
/* All listening TCP sockets of this network namespace. 0 or an errno. */
int listeners_read(struct listeners *list);

/* An address that a worker binds, and where it can be reached from here (loopback for a wildcard). */
struct bind_address {
    struct sockaddr_storage bind;
    struct sockaddr_storage reach;
    socklen_t length;
    bool is_loopback; /* what is bound; false for a wildcard */
};
/* A literal IPv4 or IPv6 address, or "localhost". false for anything else. */
bool bind_address_parse(const char *host, uint16_t port, struct bind_address *ret_address);

/* 0 when the port can be bound, else the errno (EADDRINUSE, EACCES, …). Binds once and closes. */
int port_test(const char *host, uint16_t port);

enum port_owner {
    PORT_NOBODY,  /* no listener */
    PORT_OURS,    /* every listener is the worker's; the proof says how that is known */
    PORT_FOREIGN, /* at least one is not */
};
/* What is known of the worker whose port it is. */
struct port_claim {
    const char *host;
    uint16_t port;
    pid_t pid; /* main process and session */
    dev_t log_device;
    ino_t log_inode;
};
enum port_owner port_owner_find(const struct listeners *list, const struct port_claim *claim,
                                enum pool_port_proof *ret_proof, uint32_t *ret_foreign_uid);

#endif
