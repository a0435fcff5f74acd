/*
 * GET over connections that are kept, one request at a time on each, of several servers by turns. Prints for each
 * "NAME MEDIAN P99 N" of the nanoseconds a request takes, by rounds, and "NAME_cpu ..." of the CPU time that the server
 * itself used for one, which other programs' turns do not change.
 * Usage: http_load CONNECTIONS ROUNDS REQUESTS_PER_ROUND { NAME PID PORT PATH }...
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "measure.h"

#define CONNECTIONS_MAX 1024
#define SERVERS_MAX     8
#define HEAD_MAX        8192
#define PATIENCE_MS     20000

struct connection {
    int fd;
    char head[HEAD_MAX]; /* of the answer, until all of it is there */
    size_t n_head;
    int64_t n_body_left; /* -1: the head is not complete */
};

struct server {
    const char *name;
    pid_t pid;
    char question[512];
    size_t n_question;
    struct sockaddr_in address;
    int epoll_fd;
    struct connection *connections;
    struct samples wall, cpu;
};

static int64_t cpu_ns(const struct server *server)
{
    clockid_t clock;
    struct timespec time;
    if (clock_getcpuclockid(server->pid, &clock) != 0 || clock_gettime(clock, &time) != 0)
        die("%s is gone", server->name);
    return time.tv_sec * NS_PER_SEC + time.tv_nsec;
}

static void open_connection(const struct server *server, struct connection *connection)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };
    const int on = 1;
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 ||
        connect(connection->fd, (const struct sockaddr *)&server->address, sizeof server->address) != 0 ||
        setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) != 0)
        die_errno(server->name);
}

static void ask(const struct server *server, struct connection *connection)
{
    connection->n_head = 0;
    connection->n_body_left = -1;
    if (send(connection->fd, server->question, server->n_question, MSG_NOSIGNAL) !=
        (ssize_t)server->n_question)
        die_errno(server->name);
}

/* What came behind the head; the head said how much there will be. */
static void take_head(const struct server *server, struct connection *connection)
{
    connection->head[connection->n_head] = '\0';
    const char *end = strstr(connection->head, "\r\n\r\n");
    if (!end) {
        if (connection->n_head == HEAD_MAX - 1)
            die("%s: a head without an end", server->name);
        return;
    }
    if (strncmp(connection->head, "HTTP/1.1 200 ", 13) != 0)
        die("%s: %.200s", server->name, connection->head);
    const char *length = strcasestr(connection->head, "\r\nContent-Length:");
    if (!length || length > end)
        die("%s does not say how long its answer is", server->name);
    connection->n_body_left =
        strtoll(length + 17, NULL, 10) - (int64_t)(connection->head + connection->n_head - (end + 4));
}

/* Whether the answer is complete. */
static bool receive(const struct server *server, struct connection *connection)
{
    static char sink[1 << 18];
    bool is_head = connection->n_body_left < 0;
    char *to = is_head ? connection->head + connection->n_head : sink;
    size_t room = is_head ? HEAD_MAX - 1 - connection->n_head : sizeof sink;
    ssize_t n = recv(connection->fd, to, room, 0);
    bool is_idle = connection->n_body_left == 0;
    if (n <= 0 && (is_idle || (is_head && connection->n_head == 0))) {
        close(connection->fd); /* some keep a connection for so many requests only */
        open_connection(server, connection);
        if (!is_idle)
            ask(server, connection);
        return false;
    }
    if (n <= 0)
        die("%s has closed the connection", server->name);
    if (is_head) {
        connection->n_head += (size_t)n;
        take_head(server, connection);
    } else {
        connection->n_body_left -= n;
    }
    return connection->n_body_left == 0;
}

static void run_round(struct server *server, int64_t n_connections, int64_t n_requests, bool is_counted)
{
    int64_t n_asked = 0, n_answered = 0;
    int64_t cpu_before_ns = cpu_ns(server), since_ns = clock_boottime_ns();
    for (; n_asked < n_connections && n_asked < n_requests; n_asked++)
        ask(server, &server->connections[n_asked]);
    while (n_answered < n_requests) {
        struct epoll_event events[64];
        int n = epoll_wait(server->epoll_fd, events, 64, PATIENCE_MS);
        if (n <= 0)
            die("%s does not answer", server->name);
        for (int i = 0; i < n; i++) {
            if (!receive(server, events[i].data.ptr))
                continue;
            n_answered++;
            if (n_asked++ < n_requests)
                ask(server, events[i].data.ptr);
        }
    }
    if (!is_counted)
        return;
    add_sample(&server->wall, (clock_boottime_ns() - since_ns) / n_requests);
    add_sample(&server->cpu, (cpu_ns(server) - cpu_before_ns) / n_requests);
}

static void connect_all(struct server *server, int port, int64_t n)
{
    server->address = (struct sockaddr_in){ .sin_family = AF_INET,
                                            .sin_port = htons((uint16_t)port),
                                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    server->connections = calloc((size_t)n, sizeof *server->connections);
    if (server->epoll_fd < 0 || !server->connections)
        die("out of memory");
    for (int64_t i = 0; i < n; i++)
        open_connection(server, &server->connections[i]);
}

int main(int argc, char **argv)
{
    static struct server servers[SERVERS_MAX];
    if (argc < 8 || (argc - 4) % 4 != 0 || (argc - 4) / 4 > SERVERS_MAX)
        die("usage: http_load CONNECTIONS ROUNDS REQUESTS_PER_ROUND { NAME PID PORT PATH }...");
    int64_t n_connections = count_argument(argv[1]), n_requests = count_argument(argv[3]);
    int n_servers = (argc - 4) / 4;
    if (n_connections > CONNECTIONS_MAX)
        die("at most %d connections", CONNECTIONS_MAX);
    for (int i = 0; i < n_servers; i++) {
        char **words = argv + 4 + 4 * i;
        servers[i].name = words[0];
        servers[i].pid = (pid_t)count_argument(words[1]);
        servers[i].n_question = (size_t)snprintf(servers[i].question, sizeof servers[i].question,
                                                 "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", words[3]);
        connect_all(&servers[i], (int)count_argument(words[2]), n_connections);
    }
    for (int64_t round = 0; round <= count_argument(argv[2]); round++) {
        for (int i = 0; i < n_servers; i++)
            run_round(&servers[i], n_connections, n_requests, round > 0); /* the first one warms up */
    }
    for (int i = 0; i < n_servers; i++) {
        char name[80];
        snprintf(name, sizeof name, "%.60s_cpu", servers[i].name);
        report(servers[i].name, &servers[i].wall);
        report(name, &servers[i].cpu);
    }
    return 0;
}
