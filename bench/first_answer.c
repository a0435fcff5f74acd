/*
 * From exec to the first answer over HTTP, of several servers by turns. Prints "NAME MEDIAN P99 N" for each.
 * Usage: first_answer N NAME PORT PROGRAM [ARGUMENT...] [-- NAME PORT PROGRAM [ARGUMENT...]]...
 */
#include <fcntl.h>
#include <time.h>

#include "bare.h"

#define SERVERS_MAX 8
#define PATIENCE_NS (INT64_C(60) * NS_PER_SEC)

struct server {
    const char *name;
    int port;
    char **argv;
    struct samples samples;
};

/* Quietly: its words are not wanted, an end is seen. */
static pid_t start(char *const *argv)
{
    posix_spawn_file_actions_t actions;
    pid_t pid;
    posix_spawn_file_actions_init(&actions);
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
    int failure = posix_spawn(&pid, argv[0], &actions, NULL, argv, environ);
    if (failure)
        die("%s: %s", argv[0], strerror(failure));
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static void end(pid_t pid)
{
    siginfo_t ended;
    kill(pid, SIGTERM);
    if (waitid(P_PID, (id_t)pid, &ended, WEXITED) < 0)
        die_errno("waitid");
}

static void measure(struct server *server)
{
    const struct timespec pause = { .tv_nsec = 200000 };
    int64_t start_ns = clock_boottime_ns();
    pid_t pid = start(server->argv);
    while (bare_get(server->port) < 200) { /* not every one has this path; an answer it is */
        siginfo_t ended = { 0 };
        if (waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == pid)
            die("%s has ended", server->name);
        if (clock_boottime_ns() - start_ns > PATIENCE_NS)
            die("%s does not answer", server->name);
        nanosleep(&pause, NULL);
    }
    add_sample(&server->samples, clock_boottime_ns() - start_ns);
    end(pid);
}

int main(int argc, char **argv)
{
    struct server servers[SERVERS_MAX];
    size_t n_servers = 0;
    for (int i = 2; i + 2 < argc && n_servers < SERVERS_MAX; i++) {
        servers[n_servers++] = (struct server){ .name = argv[i],
                                                .port = (int)count_argument(argv[i + 1]),
                                                .argv = argv + i + 2 };
        for (i += 2; i < argc && strcmp(argv[i], "--") != 0; i++)
            continue;
        argv[i] = NULL;
    }
    if (n_servers == 0)
        die("usage: first_answer N NAME PORT PROGRAM [ARGUMENT...] [-- NAME ...]");
    for (int64_t round = count_argument(argv[1]); round > 0; round--) {
        for (size_t i = 0; i < n_servers; i++)
            measure(&servers[i]);
    }
    for (size_t i = 0; i < n_servers; i++)
        report(servers[i].name, &servers[i].samples);
    return 0;
}
