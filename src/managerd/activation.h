/*
 * Sockets that a service manager has opened for us and hands over: sd_listen_fds(3). They begin at descriptor 3.
 */
#ifndef MANAGERD_ACTIVATION_H
#define MANAGERD_ACTIVATION_H

#include <pool/error.h>
#include <stdbool.h>
#include <stddef.h>

#include "managerd/http_limits.h"

struct activation {
    size_t n;
    int fds[HTTP_LISTENERS_MAX];
    bool has_tcp, has_unix; /* what takes the place of the configured address, of the configured socket */
    bool is_reachable;      /* one of them is not loopback */
};

/**
 * Reads LISTEN_PID and LISTEN_FDS; what is meant for another process is left alone. The descriptors are closed on exec
 * from here on, and are the caller's.
 * Errors: INVALID_CONFIG (too many, or one that is no listening stream socket).
 */
POOL_MUST_CHECK enum pool_code activation_take(const char *const *environment, struct activation *ret,
                                               struct pool_error *err);

#endif
