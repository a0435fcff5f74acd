/*
 * One running pool-gpu-probe; see gpu_probe_process.h. Owns its socket, the pipe of its standard error, its pidfd, and
 * reaps it. What its answers mean is gpu_monitor.c.
 */
#include "managerd/gpu_probe_process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

#define CHUNK_BYTES ((size_t)64 << 10)
/* Read at one go; then other handles of the loop have their turn. */
#define READ_MAX_BYTES ((size_t)1 << 20)

enum { WATCH_SOCKET, WATCH_ERRORS, WATCH_PROCESS, N_WATCHES };

struct gpu_probe_process {
    struct gpu_probe_process_options options; /* its strings are not valid */
    pid_t pid;
    int fds[N_WATCHES]; /* -1: closed */
    uv_poll_t watches[N_WATCHES];
    bool is_watched[N_WATCHES]; /* the handle is in the loop */
    size_t n_open;              /* handles that the loop has not let go of */
    bool is_deaf;               /* killed, broken or freed: no more lines */
    bool is_freed;
    struct probe_lines lines;
    char words[GPU_PROBE_WORDS_MAX]; /* the end of what it wrote to standard error */
    size_t n_words;
};

/* ---- starting ---- */

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

static int add_actions(posix_spawn_file_actions_t *actions, int socket_fd, int errors_fd)
{
    int failure = posix_spawn_file_actions_adddup2(actions, socket_fd, STDIN_FILENO);
    if (!failure)
        failure = posix_spawn_file_actions_adddup2(actions, socket_fd, STDOUT_FILENO);
    if (!failure)
        failure = posix_spawn_file_actions_adddup2(actions, errors_fd, STDERR_FILENO);
    if (!failure)
        failure = posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1);
    return failure;
}

static int spawn_program(const struct gpu_probe_process_options *options, int socket_fd, int errors_fd,
                         pid_t *ret_pid)
{
    char name[] = "pool-gpu-probe", inventory[] = "--inventory", interval[] = "--interval", ms[24];
    snprintf(ms, sizeof ms, "%" PRId64, options->interval_ms);
    CLEANUP_FREE char *url = strdup(options->inventory_url);
    if (!url)
        return ENOMEM;
    char *const argv[] = { name, inventory, url, interval, ms, NULL };
    posix_spawn_file_actions_t actions;
    int failure = posix_spawn_file_actions_init(&actions);
    if (failure)
        return failure;
    posix_spawnattr_t attributes;
    failure = posix_spawnattr_init(&attributes);
    if (!failure) {
        failure = set_attributes(&attributes);
        if (!failure)
            failure = add_actions(&actions, socket_fd, errors_fd);
        if (!failure)
            failure = posix_spawn(ret_pid, options->path, &actions, &attributes, argv, environ);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return failure;
}

/* Ends a child that can not be watched. It has only just begun, so this does not take long. */
static void end_child(pid_t pid)
{
    siginfo_t info;
    kill(pid, SIGKILL);
    while (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0 && errno == EINTR)
        ;
}

static int start_child(struct gpu_probe_process *process, const struct gpu_probe_process_options *options)
{
    int pair[2], errors[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return errno;
    process->fds[WATCH_SOCKET] = pair[0];
    CLEANUP_CLOSE int child_socket = pair[1];
    if (pipe2(errors, O_CLOEXEC) < 0)
        return errno;
    process->fds[WATCH_ERRORS] = errors[0];
    CLEANUP_CLOSE int child_errors = errors[1];
    pid_t pid = 0;
    int failure = spawn_program(options, child_socket, child_errors, &pid);
    if (failure)
        return failure;
    /* Nobody but us reaps it, so the pid is still its own. */
    process->fds[WATCH_PROCESS] = pidfd_open(pid, 0);
    if (process->fds[WATCH_PROCESS] < 0) {
        failure = errno;
        end_child(pid);
        return failure;
    }
    process->pid = pid;
    return 0;
}

/* ---- letting go ---- */

static void release_process(struct gpu_probe_process *process)
{
    void (*on_freed)(void *) = process->options.on_freed;
    void *ctx = process->options.ctx;
    for (size_t i = 0; i < N_WATCHES; i++)
        close_fd(&process->fds[i]);
    probe_lines_done(&process->lines);
    free(process);
    if (on_freed)
        on_freed(ctx);
}

static void take_closed_handle(uv_handle_t *handle)
{
    struct gpu_probe_process *process = handle->data;
    close_fd(&process->fds[(uv_poll_t *)handle - process->watches]);
    process->n_open--;
    if (process->is_freed && process->n_open == 0)
        release_process(process);
}

static void close_watch(struct gpu_probe_process *process, size_t which)
{
    if (!process->is_watched[which])
        return;
    process->is_watched[which] = false;
    uv_close((uv_handle_t *)&process->watches[which], take_closed_handle);
}

void gpu_probe_process_free(struct gpu_probe_process *process)
{
    if (!process)
        return;
    process->is_deaf = true;
    process->is_freed = true;
    for (size_t i = 0; i < N_WATCHES; i++)
        close_watch(process, i);
    if (process->n_open == 0)
        release_process(process);
}

/* ---- listening ---- */

/* Keeps the end of what it says on standard error, for people. */
static void keep_words(struct gpu_probe_process *process, const char *data, size_t n)
{
    size_t room = sizeof process->words - 1;
    if (n > room) {
        data += n - room;
        n = room;
    }
    size_t n_kept = process->n_words > room - n ? room - n : process->n_words;
    memmove(process->words, process->words + process->n_words - n_kept, n_kept);
    memcpy(process->words + n_kept, data, n);
    process->n_words = n_kept + n;
    for (size_t i = n_kept; i < process->n_words; i++) {
        if (process->words[i] < ' ' || process->words[i] > '~')
            process->words[i] = ' ';
    }
    process->words[process->n_words] = '\0';
}

static void read_errors(struct gpu_probe_process *process)
{
    char chunk[4096];
    for (size_t n_read = 0; process->is_watched[WATCH_ERRORS] && n_read < READ_MAX_BYTES;) {
        ssize_t n = read(process->fds[WATCH_ERRORS], chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            close_watch(process, WATCH_ERRORS);
        else
            keep_words(process, chunk, (size_t)n);
        n_read += n > 0 ? (size_t)n : 0;
    }
}

static void stop_listening(struct gpu_probe_process *process)
{
    process->is_deaf = true;
    close_watch(process, WATCH_SOCKET);
}

static void report_broken(struct gpu_probe_process *process, const char *why)
{
    stop_listening(process);
    process->options.on_broken(process->options.ctx, why);
}

static bool hand_out_line(void *ctx, const char *line, size_t n)
{
    struct gpu_probe_process *process = ctx;
    bool goes_on = process->options.on_line(process->options.ctx, line, n);
    return goes_on && !process->is_deaf;
}

static void feed(struct gpu_probe_process *process, const char *data, size_t n)
{
    switch (probe_lines_feed(&process->lines, data, n, hand_out_line, process)) {
    case PROBE_LINES_FED: break;
    case PROBE_LINES_STOPPED: stop_listening(process); break;
    case PROBE_LINES_TOO_LONG: report_broken(process, "its answer has no end"); break;
    case PROBE_LINES_NO_MEMORY: report_broken(process, "there is no memory for its answer"); break;
    }
}

/* Returns false at the end of its output. */
static bool read_answers(struct gpu_probe_process *process)
{
    char chunk[CHUNK_BYTES];
    for (size_t n_read = 0; !process->is_deaf && n_read < READ_MAX_BYTES;) {
        ssize_t n = read(process->fds[WATCH_SOCKET], chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        feed(process, chunk, (size_t)n);
        n_read += (size_t)n;
    }
    return true;
}

void gpu_probe_process_read(struct gpu_probe_process *process)
{
    if (read_answers(process) || process->is_deaf)
        return;
    stop_listening(process);
    process->options.on_silent(process->options.ctx);
}

static void describe_end(const struct gpu_probe_process *process, char *text, size_t size)
{
    siginfo_t info = { .si_pid = 0 };
    int rc = waitid(P_PIDFD, (id_t)process->fds[WATCH_PROCESS], &info, WEXITED | WNOHANG);
    const char *words = process->words + strspn(process->words, " ");
    const char *open = words[0] ? " (" : "", *close = words[0] ? ")" : "";
    if (rc < 0 || info.si_pid == 0)
        snprintf(text, size, "it ended%s%s%s", open, words, close);
    else if (info.si_code == CLD_EXITED)
        snprintf(text, size, "it exited with code %d%s%s%s", info.si_status, open, words, close);
    else
        snprintf(text, size, "it ended by signal %d%s%s%s", info.si_status, open, words, close);
}

static void take_end(struct gpu_probe_process *process)
{
    /* What it said before it ended counts. That there is no more is no news now. */
    (void)read_answers(process);
    read_errors(process);
    for (size_t i = 0; i < N_WATCHES; i++)
        if (i != WATCH_PROCESS)
            close_watch(process, i);
    char how[GPU_PROBE_WORDS_MAX + 64];
    describe_end(process, how, sizeof how);
    close_watch(process, WATCH_PROCESS);
    process->is_deaf = true;
    process->options.on_gone(process->options.ctx, process, how);
}

static void take_event(uv_poll_t *watch, int status, int events)
{
    (void)status; /* an error shows itself by the read */
    (void)events;
    struct gpu_probe_process *process = watch->data;
    size_t which = (size_t)(watch - process->watches);
    if (!process->is_watched[which])
        return;
    if (which == WATCH_SOCKET)
        gpu_probe_process_read(process);
    else if (which == WATCH_ERRORS)
        read_errors(process);
    else
        take_end(process);
}

static int watch_all(struct gpu_probe_process *process, uv_loop_t *loop)
{
    for (size_t i = 0; i < N_WATCHES; i++) {
        uv_poll_t *watch = &process->watches[i];
        int rc = uv_poll_init(loop, watch, process->fds[i]);
        if (rc < 0)
            return -rc;
        watch->data = process;
        process->is_watched[i] = true;
        process->n_open++;
        rc = uv_poll_start(watch, UV_READABLE, take_event);
        if (rc < 0)
            return -rc;
    }
    return 0;
}

int gpu_probe_process_start(uv_loop_t *loop, const struct gpu_probe_process_options *options,
                            struct gpu_probe_process **ret_process)
{
    struct gpu_probe_process *process = calloc(1, sizeof *process);
    if (!process)
        return ENOMEM;
    process->lines = (struct probe_lines)PROBE_LINES_INIT(PROBE_ANSWER_MAX_BYTES);
    for (size_t i = 0; i < N_WATCHES; i++)
        process->fds[i] = -1;
    int failure = start_child(process, options);
    if (!failure) {
        failure = watch_all(process, loop);
        if (failure)
            end_child(process->pid);
    }
    if (failure) {
        gpu_probe_process_free(process);
        return failure;
    }
    process->options = *options;
    *ret_process = process;
    return 0;
}

/* ---- speaking ---- */

pid_t gpu_probe_process_pid(const struct gpu_probe_process *process)
{
    return process->pid;
}

bool gpu_probe_process_tell(struct gpu_probe_process *process, const struct probe_command *command)
{
    if (process->is_deaf)
        return false;
    char text[PROBE_COMMAND_MAX_BYTES];
    size_t n = probe_command_format(command, text);
    return send(process->fds[WATCH_SOCKET], text, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n;
}

void gpu_probe_process_kill(struct gpu_probe_process *process)
{
    stop_listening(process);
    if (process->is_watched[WATCH_PROCESS])
        pidfd_send_signal(process->fds[WATCH_PROCESS], SIGKILL, NULL, 0);
}
