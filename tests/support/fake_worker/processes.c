// Other processes a worker may leave behind: children that stay in its session or leave it, and a stranger
// that has nothing of ours but the port.
#include "worker.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void set_default_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGINT, SIG_DFL);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

// A child keeps what it inherited, above all the worker's stdout, and waits to be ended.
static void __attribute__((noreturn)) live_as_grandchild(const struct options *options, int ready_fd)
{
    set_default_signals();
    if (options->grandchildren_leave_session)
        (void)setsid();
    if (options->grandchildren_ignore_sigterm)
        (void)signal(SIGTERM, SIG_IGN);
    close(ready_fd); // the worker goes on when every child has come this far
    long long end_ns = now_ns() + options->helper_life_ms * NS_PER_MS;
    const char *gate = options->helpers_end_when;
    for (long long left_ns; (left_ns = end_ns - now_ns()) > 0 && (gate == NULL || access(gate, F_OK) != 0);) {
        long long nap_ns =
            gate != NULL && left_ns > GATE_TICK_MS * NS_PER_MS ? GATE_TICK_MS * NS_PER_MS : left_ns;
        struct timespec nap = { .tv_sec = nap_ns / 1000000000, .tv_nsec = nap_ns % 1000000000 };
        (void)nanosleep(&nap, NULL);
    }
    _exit(0);
}

void start_grandchildren(struct worker *worker)
{
    long long n = worker->options.grandchildren;
    int ready[2];
    if (n <= 0)
        return;
    worker->grandchildren = calloc((size_t)n, sizeof *worker->grandchildren);
    if (worker->grandchildren == NULL || pipe2(ready, O_CLOEXEC) < 0)
        exit(1);
    (void)signal(SIGCHLD, SIG_IGN); // reaped by the kernel
    for (long long i = 0; i < n; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            close(ready[0]);
            live_as_grandchild(&worker->options, ready[1]);
        }
        worker->grandchildren[i] = pid;
        note(worker, "grandchild_pid", pid);
    }
    close(ready[1]);
    char byte;
    (void)!read(ready[0], &byte, 1);
    close(ready[0]);
}

// A process whose parent is not us, in another session, without our descriptors and our environment, which
// takes the port and answers as a healthy worker does.
void start_stranger(struct worker *worker)
{
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0)
        exit(1);
    pid_t middle = fork();
    if (middle == 0) {
        (void)setsid();
        pid_t stranger = fork();
        if (stranger != 0) {
            (void)!write(report[1], &stranger, sizeof stranger);
            _exit(0);
        }
        set_default_signals();
        char port[24], life[24];
        (void)snprintf(port, sizeof port, "%lld", worker->options.port);
        (void)snprintf(life, sizeof life, "%lld", worker->options.helper_life_ms);
        char *arguments[] = { (char[]){ "fake-stranger" },
                              (char[]){ "--host" },
                              strdup(worker->options.host),
                              (char[]){ "--port" },
                              port,
                              (char[]){ "--exit-code" },
                              (char[]){ "0" },
                              (char[]){ "--crash-after-ms" },
                              life,
                              NULL };
        char *no_environment[] = { NULL };
        int null = open("/dev/null", O_RDWR);
        for (int fd = 0; fd < 3; fd++)
            (void)dup2(null, fd);
        (void)close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
        (void)execve("/proc/self/exe", arguments, no_environment);
        _exit(127);
    }
    pid_t pid = 0;
    close(report[1]);
    (void)!read(report[0], &pid, sizeof pid);
    close(report[0]);
    (void)waitpid(middle, NULL, 0);
    note(worker, "stranger_pid", pid);
}
