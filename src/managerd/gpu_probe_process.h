/*
 * One running pool-gpu-probe as the daemon's loop sees it: lines that come, an end that comes, and a signal that can
 * be sent. It is started in a session of its own with no descriptor of the daemon but one socket and one pipe, held
 * by a pidfd, and nothing here ever waits for it.
 */
#ifndef MANAGERD_GPU_PROBE_PROCESS_H
#define MANAGERD_GPU_PROBE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "managerd/gpu_probe_protocol.h"

struct gpu_probe_process; /* opaque */

#define GPU_PROBE_WORDS_MAX 200

struct gpu_probe_process_options {
    const char *path; /* of the program, absolute */
    const char *inventory_url;
    int64_t interval_ms;
    /* One answer; returns whether more are wanted. The text is borrowed for the call. */
    probe_line_fn *on_line;
    /* A line has no end, or there is no memory for it: nothing more is listened to. */
    void (*on_broken)(void *ctx, const char *why);
    /* It has closed its output: it is ending, or should be. */
    void (*on_silent)(void *ctx);
    /* It has ended and is reaped. `how` says so for people: "it ended by signal 11 (its last words)". Called once. */
    void (*on_gone)(void *ctx, struct gpu_probe_process *process, const char *how);
    /* After gpu_probe_process_free: no handle of it is left in the loop. */
    void (*on_freed)(void *ctx);
    void *ctx;
};

/* Starts one. 0 or an errno, also that of the exec. The strings are not kept. */
int gpu_probe_process_start(uv_loop_t *loop, const struct gpu_probe_process_options *options,
                            struct gpu_probe_process **ret_process);
pid_t gpu_probe_process_pid(const struct gpu_probe_process *process);
/* Sends a command; false when it does not fit into the socket at once: it has not been reading for long. */
bool gpu_probe_process_tell(struct gpu_probe_process *process, const struct probe_command *command);
/* Hands out what has come already, without waiting. For a loop that was held up: answers may lie in the socket. */
void gpu_probe_process_read(struct gpu_probe_process *process);
/* Sends SIGKILL and listens no more. on_gone comes when it has ended; that can be never. */
void gpu_probe_process_kill(struct gpu_probe_process *process);
/* Lets go of it, whether it has ended or not; on_freed is the only call that follows. Accepts NULL. */
void gpu_probe_process_free(struct gpu_probe_process *process);

#endif
