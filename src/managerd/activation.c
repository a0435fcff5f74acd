/*
 * Sockets handed over; see activation.h.
 */
#include "managerd/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/number.h"
#include "managerd/variables.h"

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
}

static enum pool_code look_at(int fd, struct activation *activation, struct pool_error *err)
{
    struct sockaddr_storage address = { 0 };
    socklen_t n_address = sizeof address;
    int type = 0;
    int is_listening = 0;
    socklen_t n = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &n) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &n_address) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return pool_error_set_errno(err, POOL_INVALID_CONFIG, errno, "LISTEN_FDS: descriptor %d", fd);
    sa_family_t family = address.ss_family;
    if (type != SOCK_STREAM || !is_listening ||
        (family != AF_UNIX && family != AF_INET && family != AF_INET6))
        return pool_error_set(err, POOL_INVALID_CONFIG,
                              "LISTEN_FDS: descriptor %d is no stream socket that listens", fd);
    if (family == AF_UNIX) {
        activation->has_unix = true;
        return POOL_OK;
    }
    activation->has_tcp = true;
    activation->is_reachable |= !is_loopback(&address);
    return POOL_OK;
}

enum pool_code activation_take(const char *const *environment, struct activation *ret, struct pool_error *err)
{
    struct activation activation = { 0 };
    const char *pid_text = variable_find(environment, "LISTEN_PID");
    const char *n_text = variable_find(environment, "LISTEN_FDS");
    int64_t pid;
    int64_t n;
    *ret = activation;
    if (!pid_text || !n_text || !parse_int64(pid_text, 1, INT32_MAX, &pid) || pid != getpid())
        return POOL_OK;
    if (!parse_int64(n_text, 0, HTTP_LISTENERS_MAX, &n))
        return pool_error_set(err, POOL_INVALID_CONFIG, "LISTEN_FDS: a number from 0 to %d",
                              HTTP_LISTENERS_MAX);
    for (int fd = FIRST_FD; fd < FIRST_FD + (int)n; fd++) {
        enum pool_code code = look_at(fd, &activation, err);
        if (code != POOL_OK)
            return code;
        activation.fds[activation.n++] = fd;
    }
    *ret = activation;
    return POOL_OK;
}
