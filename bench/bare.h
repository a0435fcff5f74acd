/*
 * The same by hand, with nothing of the library: a program started by posix_spawn alone, and one GET over loopback. What
 * starts and readiness are compared with.
 */
#ifndef BENCH_BARE_H
#define BENCH_BARE_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

static inline pid_t bare_spawn(char *const *argv)
{
    pid_t pid;
    int failure = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);
    if (failure)
        die("%s: %s", argv[0], strerror(failure));
    return pid;
}

/* The child is ours and not reaped: its pid is nobody else's. */
static inline void bare_kill(pid_t pid)
{
    siginfo_t end;
    kill(pid, SIGKILL);
    if (waitid(P_PID, (id_t)pid, &end, WEXITED) < 0)
        die_errno("waitid");
}

/* The status code of GET /health on a connection of its own; 0 when nobody listens. */
static inline int bare_get(int port)
{
    static const char request[] = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    char answer[4096];
    int status = 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die_errno("socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
        send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == (ssize_t)sizeof request - 1) {
        ssize_t n = recv(fd, answer, sizeof answer - 1, 0);
        if (n > 12) {
            answer[n] = '\0';
            status = (int)strtol(answer + 9, NULL, 10);
        }
    }
    close(fd);
    return status;
}

#endif
