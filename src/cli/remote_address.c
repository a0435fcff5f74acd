/*
 * Where a daemon is, as people write it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/remote_http.h"

#define ADDRESS_MAX 1024 /* bytes */

void remote_address_done(struct remote_address *address)
{
    free(address->url);
    free(address->socket_path);
    free(address->name);
    *address = (struct remote_address){ 0 };
}

static enum pool_code refuse(const char *text, const char *why, struct pool_error *err)
{
    pool_error_set(err, POOL_INVALID_REQUEST, "'%.100s' is no address of a daemon: %s", text, why);
    pool_error_set_field(err, "url");
    return POOL_INVALID_REQUEST;
}

/* What stands behind "http://": a name or an address, perhaps a port, nothing behind it. */
static const char *find_problem(const char *host, size_t n)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_:[]%";
    int64_t port;
    if (strspn(host, allowed) < n)
        return "only a host and a port are wanted behind http://";
    const char *bracket = memchr(host, ']', n);
    size_t n_name = bracket ? (size_t)(bracket - host) + 1 : strcspn(host, ":/");
    if (n_name == 0 || n_name > n || (host[0] == '[') != (bracket != NULL))
        return "it names no host";
    if (n_name == n)
        return NULL;
    char text[8] = "";
    if (host[n_name] == ':' && n - n_name - 1 < sizeof text)
        memcpy(text, host + n_name + 1, n - n_name - 1);
    return parse_int64(text, 1, 65535, &port) ? NULL : "its port is not a number from 1 to 65535";
}

enum pool_code remote_address_parse(const char *text, struct remote_address *ret_address,
                                    struct pool_error *err)
{
    static const char http[] = "http://";
    static const char local[] = "unix:";
    struct remote_address address = { 0 };
    if (strlen(text) > ADDRESS_MAX)
        return refuse(text, "it is too long", err);
    if (strncmp(text, local, sizeof local - 1) == 0) {
        const char *path = text + sizeof local - 1;
        if (path[0] != '/')
            return refuse(text, "unix: wants an absolute path", err);
        if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path)
            return refuse(text, "the path of a socket has at most 107 bytes", err);
        address.url = strdup(REMOTE_SOCKET_URL);
        address.socket_path = strdup(path);
    } else if (strncmp(text, http, sizeof http - 1) == 0) {
        size_t n = strlen(text);
        if (text[n - 1] == '/')
            n--;
        const char *why = n < sizeof http ? "it names no host"
                                          : find_problem(text + sizeof http - 1, n - (sizeof http - 1));
        if (why)
            return refuse(text, why, err);
        address.url = strndup(text, n);
    } else {
        return refuse(text, "write http://HOST:PORT or unix:/PATH", err);
    }
    address.name = strdup(text);
    if (!address.url || !address.name || (text[0] == 'u' && !address.socket_path)) {
        remote_address_done(&address);
        return pool_error_no_memory(err);
    }
    *ret_address = address;
    return POOL_OK;
}
