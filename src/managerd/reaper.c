/*
 * Reaping strangers; see reaper.h. Never waitpid(-1): that takes whatever ended first, also a worker whose exit code its
 * owner is about to read. Children are listed instead, those that ended are looked at one by one, and each is reaped by
 * its pid. A pid can not become another process's while its zombie is there.
 */
#include "managerd/reaper.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/number.h"
#include "managerd/log.h"

/* Of one look; the next SIGCHLD, or the look that follows a full one, has the rest. */
#define ZOMBIES_MAX 256

struct zombie {
    pid_t pid;
    int64_t start_ticks; /* since boot: with the pid it is one process */
};

struct reaper {
    struct reaper_options options;
    uv_signal_t signal;
    bool is_closed;
    bool is_looking;
    bool is_wanted_again;
    size_t n_zombies;
    struct zombie zombies[ZOMBIES_MAX];
};

/* proc(5), /proc/PID/stat: fields 3, 4 and 22, counted behind the name, which may hold anything. */
static bool read_child(pid_t pid, struct zombie *ret_zombie)
{
    char path[48];
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(2048);
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (file_read(path, &text) != 0)
        return false;
    const char *p = strrchr(strbuf_text(&text), ')');
    int64_t ppid = 0, start = 0;
    char state = p && p[1] == ' ' ? p[2] : '\0';
    p = state ? p + 4 : NULL;
    for (int field = 4; p && field <= 22; field++) {
        size_t n = strcspn(p, " ");
        if ((field == 4 && !parse_int64_n(p, n, 0, INT32_MAX, &ppid)) ||
            (field == 22 && !parse_int64_n(p, n, 0, INT64_MAX, &start)))
            return false;
        p = p[n] == ' ' ? p + n + 1 : NULL;
    }
    *ret_zombie = (struct zombie){ pid, start };
    return state == 'Z' && ppid == getpid() && start > 0;
}

/* Everybody in a pid namespace has a directory in its /proc; orphans may be given to any thread of ours. */
static void look(void *context)
{
    struct reaper *reaper = context;
    DIR *directory = opendir("/proc");
    struct dirent *entry;
    reaper->n_zombies = 0;
    while (directory && reaper->n_zombies < ZOMBIES_MAX && (entry = readdir(directory))) {
        int64_t pid;
        struct zombie zombie;
        if (parse_int64(entry->d_name, 2, INT32_MAX, &pid) && read_child((pid_t)pid, &zombie))
            reaper->zombies[reaper->n_zombies++] = zombie;
    }
    if (directory)
        closedir(directory);
}

static void begin_look(struct reaper *reaper);

static void reap(void *context)
{
    struct reaper *reaper = context;
    size_t n_reaped = 0;
    if (reaper->is_closed) {
        free(reaper);
        return;
    }
    for (size_t i = 0; i < reaper->n_zombies; i++) {
        struct zombie now;
        siginfo_t info = { 0 };
        pid_t pid = reaper->zombies[i].pid;
        /* It may have been somebody's who has read its end since the look, and the pid be another one's. */
        if (reaper->options.is_awaited(pid, reaper->options.context) || !read_child(pid, &now) ||
            now.start_ticks != reaper->zombies[i].start_ticks)
            continue;
        n_reaped += waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG) == 0 && info.si_pid == pid;
    }
    if (n_reaped > 0)
        log_tell(LOG_REAPED, NULL, "%zu orphans", n_reaped);
    bool is_full = reaper->n_zombies == ZOMBIES_MAX && n_reaped > 0;
    reaper->is_looking = false;
    if (!uv_is_closing((uv_handle_t *)&reaper->signal) && (reaper->is_wanted_again || is_full))
        begin_look(reaper);
}

static void begin_look(struct reaper *reaper)
{
    reaper->is_wanted_again = reaper->is_looking;
    if (reaper->is_looking)
        return;
    /* Without memory: the next orphan that ends. */
    reaper->is_looking = executor_submit(reaper->options.executor, look, reap, reaper, NULL) == POOL_OK;
}

static void take_signal(uv_signal_t *handle, int signal_number)
{
    (void)signal_number;
    begin_look(handle->data);
}

enum pool_code reaper_open(const struct reaper_options *options, struct reaper **ret_reaper,
                           struct pool_error *err)
{
    *ret_reaper = NULL;
    if (getpid() != 1)
        return POOL_OK;
    struct reaper *reaper = calloc(1, sizeof *reaper);
    if (!reaper)
        return pool_error_no_memory(err);
    reaper->options = *options;
    int rc = uv_signal_init(options->loop, &reaper->signal);
    if (rc == 0) {
        reaper->signal.data = reaper;
        rc = uv_signal_start(&reaper->signal, take_signal, SIGCHLD);
    }
    if (rc != 0) {
        free(reaper);
        return pool_error_set_errno(err, POOL_INTERNAL, -rc, "SIGCHLD");
    }
    uv_unref((uv_handle_t *)&reaper->signal);
    begin_look(reaper); /* who ended before */
    *ret_reaper = reaper;
    return POOL_OK;
}

/* A look that is under way has the last word. */
static void take_closed(uv_handle_t *handle)
{
    struct reaper *reaper = handle->data;
    reaper->is_closed = true;
    if (!reaper->is_looking)
        free(reaper);
}

void reaper_close(struct reaper *reaper)
{
    if (reaper)
        uv_close((uv_handle_t *)&reaper->signal, take_closed);
}
