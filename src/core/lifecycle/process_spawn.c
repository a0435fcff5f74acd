/*
 * posix_spawn the way workers need it. glibc makes it with CLONE_VM|CLONE_VFORK, so its cost does not grow with
 * our memory, and an exec that fails is its own return value.
 */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include "core/lifecycle/process.h"

/* Where a worker has the open file that keeps its promise; see gpu_locks.h. */
#define KEPT_FD 3

static int set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int failure = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                           POSIX_SPAWN_SETSID);
    if (!failure)
        failure = posix_spawnattr_setsigmask(attributes, &none);
    if (!failure)
        failure = posix_spawnattr_setsigdefault(attributes, &all);
    return failure;
}

static int add_actions(posix_spawn_file_actions_t *actions, int out_fd, int kept_fd)
{
    int failure = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!failure)
        failure = posix_spawn_file_actions_adddup2(actions, out_fd, STDOUT_FILENO);
    if (!failure)
        failure = posix_spawn_file_actions_adddup2(actions, out_fd, STDERR_FILENO);
    if (!failure && kept_fd >= 0)
        failure = posix_spawn_file_actions_adddup2(actions, kept_fd, KEPT_FD);
    if (!failure)
        failure =
            posix_spawn_file_actions_addclosefrom_np(actions, kept_fd >= 0 ? KEPT_FD + 1 : STDERR_FILENO + 1);
    return failure;
}

int process_spawn_keeping(char *const *argv, char *const *environment, int out_fd, int kept_fd,
                          pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    int failure = posix_spawn_file_actions_init(&actions);
    if (failure)
        return failure;
    posix_spawnattr_t attributes;
    failure = posix_spawnattr_init(&attributes);
    if (!failure) {
        failure = set_attributes(&attributes);
        if (!failure)
            failure = add_actions(&actions, out_fd, kept_fd);
        if (!failure)
            failure = posix_spawn(ret_pid, argv[0], &actions, &attributes, argv, environment);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return failure;
}

int process_spawn(char *const *argv, char *const *environment, int out_fd, pid_t *ret_pid)
{
    return process_spawn_keeping(argv, environment, out_fd, -1, ret_pid);
}
