/*
 * What a service manager wants to hear: ready, reloading, stopping, still alive; one datagram each to the socket that
 * it named. The protocol is that of sd_notify(3). It is a dozen lines, which is less than a dependency on libsystemd
 * would be: that library brings its own allocator of log lines, buses and compression libraries into every process.
 *
 * Without such a socket all of this does nothing.
 */
#ifndef MANAGERD_NOTIFY_H
#define MANAGERD_NOTIFY_H

#include <pool/error.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct notify {
    int fd; /* -1: nobody listens */
    struct sockaddr_un address;
    socklen_t n_address;
    int64_t watchdog_ms; /* a sign of life is expected within this time; 0: none is */
};
#define NOTIFY_INIT \
    {               \
        .fd = -1    \
    }

/**
 * Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. What is not meant for this process is as if it were not there.
 * Errors: INVALID_CONFIG (a socket that cannot be one), INTERNAL.
 */
POOL_MUST_CHECK enum pool_code notify_open(const char *const *environment, struct notify *notify,
                                           struct pool_error *err);
void notify_done(struct notify *notify);
/*
 * Sends "NAME=value" lines. false: it was not taken. Blocks: not at all, but for `wait_ms` when the receiver's queue is
 * full, for what must not be lost.
 */
bool notify_send(const struct notify *notify, int wait_ms, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
