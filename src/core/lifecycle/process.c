/*
 * Process identity, liveness and last words; see process.h. Process trees are in process_tree.c.
 */
#include "core/lifecycle/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/number.h"

/* linux/pidfd.h of kernel 6.15; the headers of Debian 12 do not have it. */
struct pidfd_exit_info {
    uint64_t mask;
    uint64_t cgroup_id;
    uint32_t ids[10]; /* pid tgid ppid ruid rgid euid egid suid sgid fsuid */
    uint32_t fsgid;
    int32_t exit_code;
};
_Static_assert(sizeof(struct pidfd_exit_info) == 64, "the first published size of struct pidfd_info");
#define PIDFD_GET_INFO_64 _IOWR(0xFF, 11, struct pidfd_exit_info)
#define PIDFS_MAGIC       0x50494446 /* linux/magic.h, kernel 6.9 */
#define PIDFD_INFO_EXIT   (UINT64_C(1) << 3)

/* A stat line: pid, name of up to 16 (kernel threads: 64) bytes, 50 numbers of at most 20 digits. */
#define STAT_LINE_MAX 2048

bool process_stat_parse(const char *line, size_t n, struct process_stat *ret_stat)
{
    const char *close_paren = memrchr(line, ')', n);
    const char *open_paren = memchr(line, '(', n);
    if (!close_paren || !open_paren || open_paren > close_paren || open_paren == line)
        return false;
    struct process_stat stat = { 0 };
    if (!parse_int64_n(line, (size_t)(open_paren - line) - 1, 1, INT32_MAX, &stat.pid) ||
        open_paren[-1] != ' ')
        return false;
    const char *p = close_paren + 1;
    const char *end = line + n;
    int field = 2;
    for (; p < end && field < 52;) {
        if (*p != ' ')
            return false;
        const char *word = ++p;
        while (p < end && *p != ' ' && *p != '\n' && *p != '\0')
            p++;
        size_t length = (size_t)(p - word);
        int64_t value = 0;
        field++;
        bool is_number = parse_int64_n(word, length, INT64_MIN, INT64_MAX, &value);
        if (field == 3) {
            if (length != 1)
                return false;
            stat.state = *word;
            continue;
        }
        bool is_wanted = field == 4 || field == 5 || field == 6 || field == 22 || field == 52;
        if (is_wanted && !is_number)
            return false;
        if (field == 4)
            stat.ppid = value;
        else if (field == 5)
            stat.process_group = value;
        else if (field == 6)
            stat.session = value;
        else if (field == 22)
            stat.start_time_ticks = value;
        else if (field == 52) {
            stat.is_exit_code_known = stat.state == 'Z' || stat.state == 'X';
            stat.exit_status = (int)value;
        }
        if (p < end && *p != ' ')
            break;
    }
    if (field < 22)
        return false;
    *ret_stat = stat;
    return true;
}

int process_stat_read(int64_t pid, struct process_stat *ret_stat)
{
    char path[48];
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? ESRCH : errno;
    char line[STAT_LINE_MAX];
    ssize_t n = read(fd, line, sizeof line);
    if (n < 0)
        return errno;
    return process_stat_parse(line, (size_t)n, ret_stat) ? 0 : EPROTO;
}

int host_identity_read(struct host_identity *ret_host)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(128);
    int failure = file_read("/proc/sys/kernel/random/boot_id", &text);
    if (failure)
        return failure;
    struct stat st;
    if (stat("/proc/self/ns/pid", &st) < 0)
        return errno;
    snprintf(ret_host->boot_id, sizeof ret_host->boot_id, "%.36s", strbuf_text(&text));
    ret_host->pid_namespace = (uint64_t)st.st_ino;
    return 0;
}

/* Unique per boot on pidfs (6.9); the anonymous inode of older kernels is the same for all pidfds. */
static uint64_t unique_inode(int pidfd)
{
    struct statfs fs;
    struct stat st;
    if (fstatfs(pidfd, &fs) < 0 || fs.f_type != PIDFS_MAGIC || fstat(pidfd, &st) < 0)
        return 0;
    return (uint64_t)st.st_ino;
}

int process_identify(const struct host_identity *host, int64_t pid, int pidfd,
                     struct pool_process_identity *ret_identity)
{
    struct pool_process_identity identity = { .pid = pid, .pid_namespace = host->pid_namespace };
    struct process_stat stat = { 0 };
    int failure = process_stat_read(pid, &stat);
    if (failure)
        return failure;
    memcpy(identity.boot_id, host->boot_id, sizeof identity.boot_id);
    identity.start_time_ticks = stat.start_time_ticks;
    identity.pidfd_inode = unique_inode(pidfd);
    *ret_identity = identity;
    return 0;
}

bool pidfd_has_ended(int pidfd)
{
    struct pollfd p = { .fd = pidfd, .events = POLLIN };
    return poll(&p, 1, 0) > 0;
}

enum pidfd_wait pidfd_wait(int pidfd, int cancel_fd, int64_t timeout_ms)
{
    int64_t deadline_ns = clock_boottime_ns() + timeout_ms * NS_PER_MS;
    for (;;) {
        struct pollfd p[2] = { { .fd = pidfd, .events = POLLIN }, { .fd = cancel_fd, .events = POLLIN } };
        int64_t left_ns = deadline_ns - clock_boottime_ns();
        if (left_ns < 0)
            left_ns = 0;
        struct timespec left = { .tv_sec = left_ns / NS_PER_SEC, .tv_nsec = left_ns % NS_PER_SEC };
        int n = ppoll(p, 2, &left, NULL);
        if (n < 0 && errno != EINTR)
            return PIDFD_TIMEOUT;
        if (n > 0 && p[0].revents)
            return PIDFD_ENDED;
        if (n > 0 && p[1].revents)
            return PIDFD_CANCELLED;
        if (n == 0)
            return PIDFD_TIMEOUT;
    }
}

enum process_state process_open(const struct host_identity *host,
                                const struct pool_process_identity *identity, int *ret_pidfd)
{
    *ret_pidfd = -1;
    if (identity->pid <= 0 || strcmp(host->boot_id, identity->boot_id) != 0)
        return PROCESS_ENDED;
    if (host->pid_namespace != identity->pid_namespace)
        return PROCESS_UNKNOWN;
    CLEANUP_CLOSE int pidfd = pidfd_open((pid_t)identity->pid, 0);
    if (pidfd < 0)
        return errno == ESRCH || errno == EINVAL ? PROCESS_ENDED : PROCESS_UNKNOWN;
    if (identity->pidfd_inode != 0) { /* the same boot, so the same kernel: it has pidfs */
        struct stat st;
        if (fstat(pidfd, &st) < 0 || (uint64_t)st.st_ino != identity->pidfd_inode)
            return PROCESS_ENDED;
    } else {
        struct process_stat stat = { 0 };
        int failure = process_stat_read(identity->pid, &stat);
        if (failure && failure != ESRCH)
            return PROCESS_UNKNOWN;
        if (failure || stat.start_time_ticks != identity->start_time_ticks)
            return PROCESS_ENDED;
    }
    *ret_pidfd = take_fd(&pidfd);
    return pidfd_has_ended(*ret_pidfd) ? PROCESS_ENDED : PROCESS_RUNNING;
}

struct pool_process_end process_end_of_status(int status)
{
    if (WIFSIGNALED(status))
        return (struct pool_process_end){ .is_known = true, .is_signal = true, .value = WTERMSIG(status) };
    if (WIFEXITED(status))
        return (struct pool_process_end){ .is_known = true, .value = WEXITSTATUS(status) };
    return (struct pool_process_end){ 0 };
}

struct pool_process_end process_end_read(int pidfd, int64_t pid)
{
    siginfo_t child = { 0 };
    if (waitid(P_PIDFD, (id_t)pidfd, &child, WEXITED | WNOHANG) == 0 && child.si_pid != 0) {
        return (struct pool_process_end){ .is_known = true,
                                          .is_signal = child.si_code != CLD_EXITED,
                                          .value = child.si_status };
    }
    struct process_stat stat = { 0 };
    if (process_stat_read(pid, &stat) == 0 && stat.state == 'Z' && stat.is_exit_code_known &&
        pidfd_has_ended(pidfd))
        return process_end_of_status(stat.exit_status);
    struct pidfd_exit_info info = { .mask = PIDFD_INFO_EXIT };
    if (ioctl(pidfd, PIDFD_GET_INFO_64, &info) == 0 && (info.mask & PIDFD_INFO_EXIT))
        return process_end_of_status(info.exit_code);
    return (struct pool_process_end){ 0 };
}

int pidfd_signal(int pidfd, int signal_number)
{
    return pidfd_send_signal(pidfd, signal_number, NULL, 0) < 0 ? errno : 0;
}
