// What the fake worker is told to do: its own options, and those of real engines that it takes and ignores.
#ifndef FAKE_WORKER_OPTIONS_H
#define FAKE_WORKER_OPTIONS_H

#include <stdbool.h>

enum { MAX_CLAIMS = 8, MAX_LINES = 16 };

struct options {
    // HTTP
    const char *host;
    long long port;
    const char *model;
    long long slots;
    long long context;
    bool reuseport;
    long long listen_after_ms;
    const char *listen_when; // a file: not before it exists. NULL: the time alone counts
    long long ready_after_ms;
    const char *ready_when;
    bool never_ready;
    long long busy_after_ms; // -1: not
    long long completion_ms;
    // ends
    bool exit_at_once;
    long long crash_after_ms; // -1: not
    const char *crash_when;
    long long exit_code;    // of exit_at_once and the crash
    long long crash_signal; // 0: exit with exit_code
    bool ignore_sigterm;
    long long term_takes_ms;
    const char *term_when; // ends after SIGTERM when it exists
    // processes
    long long grandchildren;
    bool grandchildren_leave_session;
    bool grandchildren_ignore_sigterm;
    bool stranger_port;
    long long helper_life_ms;     // grandchildren and strangers that nobody ends, end by themselves
    const char *helpers_end_when; // grandchildren end when it exists
    // resources
    long long flood_bytes;
    long long flood_bytes_per_s; // 0: at once
    long long memory_bytes;
    const char *claims_dir;
    const char *claims[MAX_CLAIMS]; // GPU:BYTES
    unsigned n_claims;
    long long vram_growth_ms;
    // the ready callback
    const char *callback_url;
    bool no_callback, wrong_token;
    long long callback_again; // so many more calls, with the same token
    // words
    const char *timestamps;
    bool print_env, print_args;
    bool wipe_env; // overwrite the environment that /proc shows, as setproctitle does
    const char *lines[MAX_LINES];
    unsigned n_lines;
    bool list_devices, fake_cuda_device, version;
};

// Reads argv and, after it, the words of FAKE_WORKER_ARGS (which is changed). Exits with 2 and a line on
// stderr when something is wrong. The strings belong to argv and the environment.
void read_options(int argc, char **argv, struct options *ret);

// A number with an optional KiB, MiB, GiB; false when it is none.
bool read_size(const char *text, long long *ret);

#endif
