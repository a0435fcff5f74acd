/*
 * Where clients come in: the configured address and the Unix socket with its group, and by which names this host is
 * asked for.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "managerd/daemon.h"
#include "managerd/log.h"

#define SERVICE_NAME      "pool" /* the service's user and the group that may use its socket */
#define DATABASE_MAX      16384  /* bytes of one entry of the user or group database */
#define HOST_NAME_MAX_LEN 64     /* bytes of a Linux host name */
#define N_OWN_NAMES       2

/* The daemon of the system, not one that somebody runs for himself: root's or the service user's. */
static bool is_service(void)
{
    char buffer[DATABASE_MAX];
    struct passwd entry;
    struct passwd *user = NULL;
    if (geteuid() == 0)
        return true;
    return getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &user) == 0 && user &&
           strcmp(user->pw_name, SERVICE_NAME) == 0;
}

/* The service's socket belongs to the group pool where there is one: who is in it may operate. */
static bool find_socket_group(gid_t *ret_gid)
{
    char buffer[DATABASE_MAX];
    struct group entry;
    struct group *group = NULL;
    if (!is_service() || getgrnam_r(SERVICE_NAME, &entry, buffer, sizeof buffer, &group) != 0 || !group)
        return false;
    *ret_gid = group->gr_gid;
    return true;
}

/* The text of a listener's own address as workers of this host reach it: a wildcard is no address. */
static bool format_own_address(int fd, char *text, size_t n)
{
    struct sockaddr_storage address = { 0 };
    socklen_t n_address = sizeof address;
    char host[INET6_ADDRSTRLEN];
    if (getsockname(fd, (struct sockaddr *)&address, &n_address) < 0)
        return false;
    if (address.ss_family == AF_INET) {
        struct sockaddr_in four;
        memcpy(&four, &address, sizeof four);
        if (four.sin_addr.s_addr == htonl(INADDR_ANY))
            four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (!inet_ntop(AF_INET, &four.sin_addr, host, sizeof host))
            return false;
        snprintf(text, n, "%s:%u", host, (unsigned)ntohs(four.sin_port));
        return true;
    }
    if (address.ss_family != AF_INET6)
        return false;
    struct sockaddr_in6 six;
    memcpy(&six, &address, sizeof six);
    if (IN6_IS_ADDR_UNSPECIFIED(&six.sin6_addr))
        six.sin6_addr = in6addr_loopback;
    if (!inet_ntop(AF_INET6, &six.sin6_addr, host, sizeof host))
        return false;
    snprintf(text, n, "[%s]:%u", host, (unsigned)ntohs(six.sin6_port));
    return true;
}

/* Where workers say that they are ready. Without a TCP listener nobody takes calls. */
static enum pool_code set_callback_url(const struct daemon *daemon, struct pool_error *err)
{
    const struct activation *sockets = &daemon->service->sockets;
    CLEANUP_FREE char *url = NULL;
    char address[INET6_ADDRSTRLEN + 16];
    bool is_found = format_own_address(http_server_bind_fd(daemon->http, 0), address, sizeof address);
    for (size_t i = 0; !is_found && i < sockets->n; i++)
        is_found = format_own_address(sockets->fds[i], address, sizeof address);
    if (!is_found)
        return pool_manager_set_callback_url(daemon->manager, NULL, err);
    if (asprintf(&url, "http://%s/v2/internal/workers/ready", address) < 0)
        url = NULL;
    return url ? pool_manager_set_callback_url(daemon->manager, url, err) : pool_error_no_memory(err);
}

enum pool_code listening_open(struct daemon *daemon, struct pool_error *err)
{
    const struct pool_config *config = daemon->config;
    char host_name[HOST_NAME_MAX_LEN + 1] = "";
    const char *names[N_OWN_NAMES];
    const char *binds[] = { config->daemon_bind };
    size_t n_names = 0;
    (void)gethostname(host_name, sizeof host_name - 1);
    if (host_name[0])
        names[n_names++] = host_name;
    if (config->advertise_host)
        names[n_names++] = config->advertise_host;
    const struct activation *sockets = &daemon->service->sockets;
    if (sockets->is_reachable && !access_has_tokens(daemon->access)) {
        pool_error_set(err, POOL_INVALID_CONFIG,
                       "other hosts can reach a socket of LISTEN_FDS, so daemon.token_file must be set");
        pool_error_set_field(err, "daemon.token_file");
        return POOL_INVALID_CONFIG;
    }
    struct http_server_options options = { .binds = binds,
                                           .n_binds = !sockets->has_tcp && config->daemon_bind[0] ? 1 : 0,
                                           .socket_path = sockets->has_unix ? NULL : config->daemon_socket,
                                           .inherited_fds = sockets->fds,
                                           .n_inherited_fds = sockets->n,
                                           .host_names = names,
                                           .n_host_names = n_names,
                                           .early_check = routes_early_check,
                                           .on_request = routes_on_request,
                                           .on_answered = daemon_on_answered,
                                           .context = daemon };
    options.has_socket_gid = find_socket_group(&options.socket_gid);
    enum pool_code code = http_server_open(daemon->loop, &options, &daemon->http, err);
    if (code != POOL_OK)
        return code;
    if (options.n_binds > 0)
        log_tell(LOG_LISTENING, NULL, "%s (port %u)", config->daemon_bind,
                 (unsigned)http_server_port(daemon->http, 0));
    if (options.socket_path)
        log_tell(LOG_LISTENING, NULL, "%s", config->daemon_socket);
    if (sockets->n > 0)
        log_tell(LOG_LISTENING, NULL, "%zu sockets of the service manager", sockets->n);
    return set_callback_url(daemon, err);
}
