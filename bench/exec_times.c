/*
 * How long programs take from their start until they are gone, two of them by turns: the one to compare with, and the
 * one of interest. The ratio (in thousandths) is that of each pair, so that a slow moment of the machine hits both.
 * Usage: exec_times N BASELINE -- PROGRAM [ARGUMENTS]
 */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

static int64_t run_once(char *const *argv)
{
    posix_spawn_file_actions_t actions;
    siginfo_t end = { 0 };
    pid_t pid;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    int64_t start_ns = clock_boottime_ns();
    int failure = posix_spawn(&pid, argv[0], &actions, NULL, argv, environ);
    if (failure)
        die("%s: %s", argv[0], strerror(failure));
    if (waitid(P_PID, (id_t)pid, &end, WEXITED) < 0)
        die_errno("waitid");
    int64_t end_ns = clock_boottime_ns();
    posix_spawn_file_actions_destroy(&actions);
    if (end.si_code != CLD_EXITED || end.si_status != 0)
        die("%s ended with %d", argv[0], end.si_status);
    return end_ns - start_ns;
}

int main(int argc, char **argv)
{
    if (argc < 5 || strcmp(argv[3], "--") != 0)
        die("usage: exec_times N BASELINE -- PROGRAM [ARGUMENTS]");
    char *baseline_argv[] = { argv[2], NULL };
    struct samples subject = { 0 };
    struct samples baseline = { 0 };
    struct samples ratio = { 0 };
    for (int i = 0; i < 3;
         i++) { /* into the page cache; and the first of some commands has things to settle */
        run_once(baseline_argv);
        run_once(argv + 4);
    }
    for (int64_t i = count_argument(argv[1]); i > 0; i--) {
        int64_t baseline_ns = run_once(baseline_argv);
        int64_t subject_ns = run_once(argv + 4);
        add_sample(&baseline, baseline_ns);
        add_sample(&subject, subject_ns);
        add_sample(&ratio, subject_ns * 1000 / baseline_ns);
    }
    report("subject", &subject);
    report("baseline", &baseline);
    report("ratio", &ratio);
    return 0;
}
