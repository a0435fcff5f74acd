// The fake worker's state and the words its parts share. One thread, one epoll set; everything that happens
// later is a timer of the table below.
#ifndef FAKE_WORKER_WORKER_H
#define FAKE_WORKER_WORKER_H

#include "options.h"

#include <stddef.h>
#include <sys/types.h>

#define NS_PER_MS    1000000LL
#define NEVER_NS     0x7FFFFFFFFFFFFFFFLL
#define GATE_TICK_MS 2 // between two looks for the file of an option --…-when

// Several that are due at once fire in this order.
enum timer {
    TIMER_GROW,
    TIMER_LISTEN,
    TIMER_READY,
    TIMER_BUSY,
    TIMER_FLOOD,
    TIMER_CRASH,
    TIMER_EXIT,
    N_TIMERS
};

struct connection;

struct worker {
    struct options options;
    int epoll_fd, signal_fd, listen_fd, timestamps_fd;
    long long started_ns;
    long long timers_ns[N_TIMERS];
    struct connection *connections;
    bool is_ready, is_stopping;
    bool has_answered_health;
    long long busy_until_ns;  // slot 0 is processing until then
    long long muted_until_ns; // requests are read, not answered
    long long health_status;  // 0: the truth
    long long n_completions;
    unsigned growth_step;
    pid_t *grandchildren;
};

// CLOCK_BOOTTIME, because the managers that compare it are other processes.
long long now_ns(void);

// Appends "NAME NUMBER" to the file of --timestamps.
void note(struct worker *worker, const char *name, long long number);

// Notes the end, ends plain grandchildren, and exits.
void __attribute__((noreturn)) leave(struct worker *worker, int code);

// server.c
void start_listening(struct worker *worker);
void stop_listening(struct worker *worker);
void accept_connections(struct worker *worker);
void serve_connection(struct worker *worker, struct connection *connection);
// Sends the answers that were put off and are due; returns when the next one is.
long long send_late_answers(struct worker *worker);

// http.c: one request, complete in text (NUL-terminated at the end of its head).
struct request {
    const char *method, *path, *query;
    bool wants_close;
    size_t body_bytes; // that follow the head
    bool expects_continue;
};

struct answer {
    int status;
    const char *type;
    char body[65536];
    size_t length;
    long long delay_ms; // 0: now; < 0: never
    bool is_healthy;    // a 200 to GET /health
};

// Parses a head in place; false when it is not HTTP/1.x.
bool parse_request(char *head, struct request *ret);
void answer_request(struct worker *worker, const struct request *request, struct answer *ret);

// processes.c
void start_grandchildren(struct worker *worker);
void start_stranger(struct worker *worker);

// callback.c: says that it is ready at --callback-url, when it was given a spawn token.
void call_back(struct worker *worker);

// claims.c: writes this process's claim file with the given part (of parts) of each --vram.
void write_claim(const struct options *options, unsigned part, unsigned parts);

#endif
