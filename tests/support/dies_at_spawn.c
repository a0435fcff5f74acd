// Preloaded into a manager: the process ends by SIGKILL where it would start the program DIES_AT_SPAWN_OF, which is after the
// intent was recorded and before there is a process of it.
#include <dlfcn.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int spawn_fn(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
                     char *const[], char *const[]);

__attribute__((visibility("default"))) int posix_spawn(pid_t *ret_pid, const char *path,
                                                       const posix_spawn_file_actions_t *actions,
                                                       const posix_spawnattr_t *attributes,
                                                       char *const argv[], char *const envp[])
{
    const char *fatal = getenv("DIES_AT_SPAWN_OF");
    if (fatal && strcmp(path, fatal) == 0)
        kill(getpid(), SIGKILL);
    spawn_fn *real;
    *(void **)&real = dlsym(RTLD_NEXT, "posix_spawn");
    return real(ret_pid, path, actions, attributes, argv, envp);
}
