/*
 * Running another program; see child_process.h. The program is a pidfd from its first moment, so that what is killed
 * and waited for is it and nothing else.
 */
#include "cli/child_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define READ_BYTES      65536
#define KILLED_WAIT_MS  2000 /* one that hangs in a driver is left alone after that */
#define FIRST_CLOSED_FD 3

static bool make_pipe(int *ret_reading, int *ret_writing)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return false;
    *ret_reading = fds[0];
    *ret_writing = fds[1];
    return fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0;
}

/* Its descriptors, and signals as a program expects them: we ignore some. */
static int prepare(const struct child_options *options, int out_fd, int err_fd,
                   posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes)
{
    sigset_t defaults;
    sigset_t mask;
    sigemptyset(&mask);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGXFSZ);
    int failure = posix_spawnattr_setsigdefault(attributes, &defaults);
    if (!failure)
        failure = posix_spawnattr_setsigmask(attributes, &mask);
    if (!failure)
        failure = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    if (!failure && !options->is_interactive)
        failure = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!failure && !options->is_shown)
        failure = posix_spawn_file_actions_adddup2(actions, out_fd, STDOUT_FILENO);
    if (!failure && !options->is_interactive)
        failure = posix_spawn_file_actions_adddup2(actions, err_fd, STDERR_FILENO);
    if (!failure)
        failure = posix_spawn_file_actions_addclosefrom_np(actions, FIRST_CLOSED_FD);
    return failure;
}

static int spawn(const struct child_options *options, int out_fd, int err_fd, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int failure = posix_spawn_file_actions_init(&actions);
    if (failure)
        return failure;
    failure = posix_spawnattr_init(&attributes);
    if (!failure) {
        failure = prepare(options, out_fd, err_fd, &actions, &attributes);
        if (!failure) /* neither changes the texts; their types are older than const */
            failure = posix_spawnp(ret_pid, options->program, &actions, &attributes,
                                   (char *const *)(void *)options->argv,
                                   (char *const *)(void *)options->environment);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return failure;
}

enum pool_code child_begin(const struct child_options *options, struct child *ret_child,
                           struct pool_error *err)
{
    CLEANUP(child_done) struct child own = CHILD_INIT;
    struct child *child = &own;
    CLEANUP_CLOSE int out_fd = -1;
    CLEANUP_CLOSE int err_fd = -1;
    pid_t pid = -1;
    if (!make_pipe(&child->out_fd, &out_fd) || !make_pipe(&child->err_fd, &err_fd))
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "a pipe");
    int failure = spawn(options, out_fd, err_fd, &pid);
    if (failure == ENOENT)
        return pool_error_set(err, POOL_NOT_FOUND, "there is no program %s", options->program);
    if (failure)
        return pool_error_set_errno(err,
                                    failure == ENOMEM ? POOL_INSUFFICIENT_MEMORY : POOL_PERMISSION_DENIED,
                                    failure, "%s can not be run", options->program);
    child->pidfd = pidfd_open(pid, 0); /* a child that nobody has waited for: its number is its own */
    if (child->pidfd < 0)
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "pidfd_open");
    *ret_child = own;
    own = (struct child)CHILD_INIT;
    return POOL_OK;
}

/* Reads what is there. false: there is nothing more to come. */
static bool take_output(int fd, struct strbuf *text)
{
    char bytes[READ_BYTES];
    for (;;) {
        ssize_t n = read(fd, bytes, sizeof bytes);
        if (n > 0)
            strbuf_add(text, bytes, (size_t)n);
        else if (n == 0 || (errno != EINTR && errno != EAGAIN))
            return false;
        else if (errno == EAGAIN)
            return true;
    }
}

void child_take_output(struct child *child, struct child_result *result)
{
    if (child->out_fd >= 0 && !take_output(child->out_fd, &result->out))
        close(take_fd(&child->out_fd));
    if (child->err_fd >= 0 && !take_output(child->err_fd, &result->err))
        close(take_fd(&child->err_fd));
}

/* Until it has ended. false: the time is over. */
static bool watch(struct child *child, int64_t timeout_ms, struct child_result *result)
{
    int64_t deadline_ns = clock_boottime_ns() + timeout_ms * NS_PER_MS;
    for (;;) {
        struct pollfd fds[] = { { .fd = child->pidfd, .events = POLLIN },
                                { .fd = child->out_fd, .events = POLLIN },
                                { .fd = child->err_fd, .events = POLLIN } };
        int64_t left_ms = (deadline_ns - clock_boottime_ns()) / NS_PER_MS;
        if (timeout_ms > 0 && left_ms <= 0)
            return false;
        poll(fds, 3, timeout_ms > 0 ? (int)left_ms + 1 : -1);
        child_take_output(child, result);
        if (fds[0].revents)
            return true;
    }
}

enum pool_code child_take_end(struct child *child, struct child_result *result, struct pool_error *err)
{
    siginfo_t info = { 0 };
    int n;
    child_take_output(child, result); /* what came between the last look and its end */
    do
        n = waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return pool_error_set_errno(err, POOL_INTERNAL, errno, "waitid");
    result->is_signal = info.si_code != CLD_EXITED;
    result->value = info.si_status;
    close(take_fd(&child->pidfd));
    if (result->out.failure == STRBUF_NO_MEMORY || result->err.failure == STRBUF_NO_MEMORY)
        return pool_error_no_memory(err);
    return POOL_OK;
}

void child_done(struct child *child)
{
    struct pollfd end = { .fd = child->pidfd, .events = POLLIN };
    siginfo_t info;
    if (child->pidfd >= 0) {
        pidfd_send_signal(child->pidfd, SIGKILL, NULL, 0);
        if (poll(&end, 1, KILLED_WAIT_MS) > 0)
            waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG);
    }
    close_fd(&child->pidfd);
    close_fd(&child->out_fd);
    close_fd(&child->err_fd);
    *child = (struct child)CHILD_INIT;
}

enum pool_code child_run(const struct child_options *options, struct child_result *ret_result,
                         struct pool_error *err)
{
    CLEANUP(child_done) struct child child = CHILD_INIT;
    enum pool_code code = child_begin(options, &child, err);
    if (code != POOL_OK)
        return code;
    if (watch(&child, options->timeout_ms, ret_result))
        return child_take_end(&child, ret_result, err);
    return pool_error_set(err, POOL_DEADLINE_EXCEEDED, "%s did not end in %lld ms", options->program,
                          (long long)options->timeout_ms);
}

void child_result_done(struct child_result *result)
{
    strbuf_done(&result->out);
    strbuf_done(&result->err);
}
