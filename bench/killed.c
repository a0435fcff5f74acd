/*
 * From the SIGKILL of a worker until it is noticed: by the library's pidfd_wait, and by poll() on a pidfd alone.
 * Usage: killed FAKE_WORKER N
 */
#include <poll.h>
#include <sys/pidfd.h>

#include "bare.h"
#include "core/lifecycle/process.h"

#define PATIENCE_MS 10000

/* Starts a worker that is up: it has said that it listens. */
static int start_worker(char *program)
{
    int pipe_fds[2];
    char *argv[] = { program, "--port", "0", "--crash-after-ms", "60000", NULL };
    char *environment[] = { NULL };
    char text[256];
    pid_t pid;
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        die_errno("pipe");
    int failure = process_spawn(argv, environment, pipe_fds[1], &pid);
    if (failure)
        die("%s: %s", program, strerror(failure));
    close(pipe_fds[1]);
    int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0)
        die_errno("pidfd_open");
    if (read(pipe_fds[0], text, sizeof text) <= 0)
        die("the fake worker says nothing");
    close(pipe_fds[0]);
    return pidfd;
}

static int64_t kill_worker(char *program, bool is_library)
{
    siginfo_t end;
    int pidfd = start_worker(program);
    struct pollfd polled = { .fd = pidfd, .events = POLLIN };
    int64_t start_ns = clock_boottime_ns();
    if (pidfd_signal(pidfd, SIGKILL) != 0)
        die("the worker can not be killed");
    bool is_noticed =
        is_library ? pidfd_wait(pidfd, -1, PATIENCE_MS) == PIDFD_ENDED : poll(&polled, 1, PATIENCE_MS) == 1;
    int64_t end_ns = clock_boottime_ns();
    if (!is_noticed || waitid(P_PIDFD, (id_t)pidfd, &end, WEXITED) < 0)
        die("the end was not noticed");
    close(pidfd);
    return end_ns - start_ns;
}

int main(int argc, char **argv)
{
    struct samples library = { 0 };
    struct samples bare = { 0 };
    if (argc != 3)
        die("usage: killed FAKE_WORKER N");
    for (int64_t i = count_argument(argv[2]); i > 0; i--) {
        add_sample(&bare, kill_worker(argv[1], false));
        add_sample(&library, kill_worker(argv[1], true));
    }
    report("library", &library);
    report("bare", &bare);
    return 0;
}
