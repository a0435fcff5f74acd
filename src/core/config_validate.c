/*
 * What only shows when all keys have their values: ports that collide, a daemon open to the network, paths
 * that the system can not take. Single values are judged where they are converted.
 */
#include "core/config_loader.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/number.h"

#define EPHEMERAL_PORTS "/proc/sys/net/ipv4/ip_local_port_range"

static const struct config_input *input_of(const struct config_loader *l, const char *name)
{
    size_t i = 0;
    while (strcmp(config_global_keys[i].name, name) != 0)
        i++;
    return &l->inputs[i];
}

/* What to show of a value: a default has no text of its own to be shown. */
static const struct config_input *shown(const struct config_input *in)
{
    return in->source == CONFIG_FROM_DEFAULT ? NULL : in;
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
    return strcmp(host, "localhost") == 0;
}

static void check_daemon(struct config_loader *l)
{
    const struct pool_config *config = l->config;
    if (!config->daemon_bind)
        return;
    const char *colon = strrchr(config->daemon_bind, ':');
    bool has_brackets = config->daemon_bind[0] == '[';
    char host[INET6_ADDRSTRLEN + 1] = "";
    memcpy(host, config->daemon_bind + has_brackets,
           (size_t)(colon - config->daemon_bind) - (has_brackets ? 2 : 0));
    const struct config_input *in = shown(input_of(l, "daemon.bind"));
    if (!is_loopback(host) && !config->daemon_token_file)
        config_problem(l, in, "daemon.bind",
                       "other hosts can reach this address, so daemon.token_file must be set");
    int64_t port;
    if (parse_int64(colon + 1, 0, 65535, &port) && port >= config->port_first && port <= config->port_last)
        config_warning(l, in, "daemon.bind", "the port lies in workers.port_range, a worker may take it");
}

static void check_ports(struct config_loader *l)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(256);
    if (l->config->port_first == 0 || file_read(EPHEMERAL_PORTS, &text) != 0)
        return;
    const char *first_text = strbuf_text(&text);
    size_t n_first = strcspn(first_text, " \t");
    const char *last_text = first_text + n_first + strspn(first_text + n_first, " \t");
    int64_t first, last;
    if (!parse_int64_n(first_text, n_first, 0, 65535, &first) ||
        !parse_int64_n(last_text, strcspn(last_text, " \t\n"), 0, 65535, &last))
        return;
    if (l->config->port_first <= last && l->config->port_last >= first)
        config_warning(l, shown(input_of(l, "workers.port_range")), "workers.port_range",
                       "overlaps the system's ephemeral ports %" PRId64 "-%" PRId64
                       ", which outgoing connections of anybody take",
                       first, last);
}

static void check_socket(struct config_loader *l)
{
    const char *path = l->config->daemon_socket;
    const struct config_input *in = input_of(l, "daemon.socket");
    if (!path || strlen(path) <= CONFIG_SOCKET_MAX)
        return;
    /* Somebody who does not use the daemon shall not stumble over a long folder. */
    if (in->source == CONFIG_FROM_DEFAULT)
        config_warning(l, NULL, "daemon.socket",
                       "%s is longer than the %d bytes that a Unix socket's path may have", path,
                       CONFIG_SOCKET_MAX);
    else
        config_problem(l, in, "daemon.socket", "longer than the %d bytes that a Unix socket's path may have",
                       CONFIG_SOCKET_MAX);
}

void config_validate(struct config_loader *l)
{
    check_daemon(l);
    check_ports(l);
    check_socket(l);
    const struct pool_config *config = l->config;
    if (config->workers_bind_host && !is_loopback(config->workers_bind_host))
        config_warning(l, shown(input_of(l, "workers.bind_host")), "workers.bind_host",
                       "other hosts can reach the workers, which ask for no password");
    if (config->orchestrator_token_file && !config->orchestrator_url)
        config_warning(l, shown(input_of(l, "orchestrator.token_file")), "orchestrator.token_file",
                       "not used without orchestrator.url");
}
