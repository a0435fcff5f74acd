// The ready callback of workers that speak it: one POST to --callback-url with the id and the token from the
// environment. Blocking, since a worker that calls has nothing else to do.
#include "worker.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MESSAGE_MAX = 4096, PORT_MAX_DIGITS = 5 };

// "http://127.0.0.1:9200/path": a numeric IPv4 address is what the daemon gives.
static const char *parse_url(const char *url, struct sockaddr_in *ret_address)
{
    static const char scheme[] = "http://";
    char host[64];
    if (strncmp(url, scheme, sizeof scheme - 1) != 0)
        return NULL;
    const char *at = url + sizeof scheme - 1;
    size_t n_host = strcspn(at, ":/");
    if (n_host == 0 || n_host >= sizeof host || at[n_host] != ':')
        return NULL;
    memcpy(host, at, n_host);
    host[n_host] = '\0';
    char *end;
    long port = strtol(at + n_host + 1, &end, 10);
    *ret_address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    return *end == '/' && inet_pton(AF_INET, host, &ret_address->sin_addr) == 1 ? end : NULL;
}

// Returns the status of the answer, 0 when there is none.
static long long post(const char *url, const char *body)
{
    struct sockaddr_in address;
    char message[MESSAGE_MAX];
    const char *path = parse_url(url, &address);
    int fd = path == NULL ? -1 : socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    int n = snprintf(message, sizeof message,
                     "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                     path, (unsigned)ntohs(address.sin_port), strlen(body), body);
    long long status = 0;
    if (n > 0 && (size_t)n < sizeof message && write(fd, message, (size_t)n) == n) {
        ssize_t n_read = read(fd, message, sizeof message - 1);
        message[n_read > 0 ? n_read : 0] = '\0';
        if (n_read > 12 && strncmp(message, "HTTP/1.1 ", 9) == 0)
            status = strtoll(message + 9, NULL, 10);
    }
    close(fd);
    return status;
}

void call_back(struct worker *worker)
{
    const struct options *options = &worker->options;
    const char *id = getenv("POOL_WORKER_ID"), *token = getenv("POOL_SPAWN_TOKEN");
    char body[1024];
    if (options->callback_url == NULL || *options->callback_url == '\0' || id == NULL || token == NULL ||
        options->no_callback)
        return;
    (void)snprintf(body, sizeof body,
                   "{\"worker_id\": \"%s\", \"spawn_token\": \"%s\", \"model\": \"told in passing\", "
                   "\"a_field\": {\"of\": [\"its\", \"own\"]}}",
                   id, options->wrong_token ? "00000000000000000000000000000000" : token);
    for (long long i = 0; i <= options->callback_again; i++)
        printf("callback %lld\n", post(options->callback_url, body));
    fflush(stdout);
}
