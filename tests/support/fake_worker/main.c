// A program that behaves like an inference engine, well or badly, as its options say: the start, the event
// loop and the timers. Statically linked and without dependencies, so that it starts as fast as a program
// can.
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { GROWTH_STEPS = 10, FLOOD_TICK_MS = 10, FLOOD_CHUNK = 65536 };

extern char **environ;

long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void note(struct worker *worker, const char *name, long long number)
{
    if (worker->timestamps_fd >= 0)
        (void)dprintf(worker->timestamps_fd, "%s %lld\n", name, number);
}

void leave(struct worker *worker, int code)
{
    for (long long i = 0; i < worker->options.grandchildren; i++)
        if (worker->grandchildren != NULL && !worker->options.grandchildren_leave_session &&
            worker->grandchildren[i] > 0)
            (void)kill(worker->grandchildren[i], SIGTERM);
    note(worker, "exit", now_ns());
    fflush(stdout);
    _exit(code);
}

static void __attribute__((noreturn)) crash(struct worker *worker)
{
    if (worker->options.crash_signal == 0) {
        note(worker, "exit", now_ns());
        _exit((int)worker->options.exit_code);
    }
    int number = (int)worker->options.crash_signal;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    (void)signal(number, SIG_DFL);
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
    note(worker, "exit", now_ns());
    (void)kill(getpid(), number);
    _exit(1);
}

static void list_devices(const struct options *options)
{
    const char *wanted = getenv("FAKE_WORKER_CUDA");
    bool has_cuda = options->fake_cuda_device || (wanted != NULL && strcmp(wanted, "1") == 0);
    puts("Available devices:");
    puts(has_cuda ? "  CUDA0: Fake GPU (24576 MiB, 24000 MiB free)" : "  (none)");
}

static void take_memory(long long bytes)
{
    if (bytes <= 0)
        return;
    char *memory =
        mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("fake-worker: --take-memory");
        exit(1);
    }
    for (long long at = 0; at < bytes; at += 4096)
        memory[at] = 1;
}

static void print_words(int argc, char **argv, const struct options *options)
{
    for (int i = 0; options->print_args && i < argc; i++)
        printf("arg %d %s\n", i, argv[i]);
    for (char **variable = environ; options->print_env && *variable != NULL; variable++)
        printf("env %s\n", *variable);
    for (unsigned i = 0; i < options->n_lines; i++)
        puts(options->lines[i]);
    fflush(stdout);
}

// What /proc/PID/environ shows is this memory, not what the program makes of it.
static void wipe_environment(const struct options *options)
{
    for (char **variable = environ; options->wipe_env && *variable != NULL; variable++)
        memset(*variable, 0, strlen(*variable));
}

static void catch_signals(struct worker *worker)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    (void)signal(SIGPIPE, SIG_IGN);
    if (worker->options.ignore_sigterm) {
        (void)signal(SIGTERM, SIG_IGN);
        (void)signal(SIGINT, SIG_IGN);
        return;
    }
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    worker->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = &worker->signal_fd };
    (void)epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->signal_fd, &event);
}

static void handle_signal(struct worker *worker)
{
    struct signalfd_siginfo info;
    while (read(worker->signal_fd, &info, sizeof info) > 0) {
        note(worker, "signal", (long long)info.ssi_signo);
        if (worker->is_stopping)
            continue;
        worker->is_stopping = true;
        stop_listening(worker);
        worker->timers_ns[TIMER_EXIT] = now_ns() + worker->options.term_takes_ms * NS_PER_MS;
    }
}

static void grow_claim(struct worker *worker)
{
    write_claim(&worker->options, ++worker->growth_step, GROWTH_STEPS);
    if (worker->growth_step < GROWTH_STEPS)
        worker->timers_ns[TIMER_GROW] = now_ns() + worker->options.vram_growth_ms * NS_PER_MS / GROWTH_STEPS;
}

// Writes lines of 64 bytes. A reader that does not read blocks us, as it blocks a real engine.
static void flood_log(struct worker *worker)
{
    static char chunk[FLOOD_CHUNK];
    struct options *options = &worker->options;
    for (size_t i = 0; i < sizeof chunk; i++)
        chunk[i] = i % 64 == 63 ? '\n' : (char)('a' + i % 26);
    long long share = FLOOD_CHUNK;
    if (options->flood_bytes_per_s > 0)
        share = options->flood_bytes_per_s * FLOOD_TICK_MS / 1000 + 1;
    for (long long left = share < options->flood_bytes ? share : options->flood_bytes; left > 0;) {
        ssize_t n = write(STDOUT_FILENO, chunk, left < FLOOD_CHUNK ? (size_t)left : FLOOD_CHUNK);
        if (n <= 0) {
            options->flood_bytes = 0;
            return;
        }
        left -= n;
        options->flood_bytes -= n;
    }
    if (options->flood_bytes > 0)
        worker->timers_ns[TIMER_FLOOD] =
            now_ns() + (options->flood_bytes_per_s > 0 ? FLOOD_TICK_MS * NS_PER_MS : 0);
}

static void fire(struct worker *worker, enum timer timer)
{
    switch (timer) {
    case TIMER_LISTEN: start_listening(worker); break;
    case TIMER_READY:
        worker->is_ready = true;
        note(worker, "ready", now_ns());
        puts("main: model loaded");
        fflush(stdout);
        call_back(worker);
        break;
    case TIMER_BUSY: worker->busy_until_ns = NEVER_NS; break;
    case TIMER_GROW: grow_claim(worker); break;
    case TIMER_FLOOD: flood_log(worker); break;
    case TIMER_CRASH: crash(worker);
    case TIMER_EXIT: leave(worker, 0);
    case N_TIMERS: break;
    }
}

// A file that the test makes when the moment has come; a slow machine makes no other order of events.
static const char *gate_of(const struct options *options, enum timer timer)
{
    switch (timer) {
    case TIMER_LISTEN: return options->listen_when;
    case TIMER_READY: return options->ready_when;
    case TIMER_CRASH: return options->crash_when;
    case TIMER_EXIT: return options->term_when;
    case TIMER_GROW:
    case TIMER_BUSY:
    case TIMER_FLOOD:
    case N_TIMERS: break;
    }
    return NULL;
}

// Fires what is due, in the order of the table; returns when the next one is.
static long long run_timers(struct worker *worker)
{
    long long next_ns = NEVER_NS;
    for (enum timer timer = 0; timer < N_TIMERS; timer++) {
        if (worker->timers_ns[timer] <= now_ns()) {
            const char *gate = gate_of(&worker->options, timer);
            bool is_open = gate == NULL || access(gate, F_OK) == 0;
            worker->timers_ns[timer] = is_open ? NEVER_NS : now_ns() + GATE_TICK_MS * NS_PER_MS;
            if (is_open)
                fire(worker, timer);
        }
        if (worker->timers_ns[timer] < next_ns)
            next_ns = worker->timers_ns[timer];
    }
    return next_ns;
}

static void set_timers(struct worker *worker)
{
    const struct options *options = &worker->options;
    long long start = worker->started_ns;
    for (int i = 0; i < N_TIMERS; i++)
        worker->timers_ns[i] = NEVER_NS;
    if (!options->stranger_port)
        worker->timers_ns[TIMER_LISTEN] = start + options->listen_after_ms * NS_PER_MS;
    if (!options->never_ready)
        worker->timers_ns[TIMER_READY] = start + options->ready_after_ms * NS_PER_MS;
    if (options->busy_after_ms >= 0)
        worker->timers_ns[TIMER_BUSY] = start + options->busy_after_ms * NS_PER_MS;
    if (options->crash_after_ms >= 0 || options->crash_when)
        worker->timers_ns[TIMER_CRASH] = start + options->crash_after_ms * NS_PER_MS;
    if (options->flood_bytes > 0)
        worker->timers_ns[TIMER_FLOOD] = start;
    if (options->vram_growth_ms > 0)
        worker->timers_ns[TIMER_GROW] = start;
}

static void __attribute__((noreturn)) run(struct worker *worker)
{
    for (;;) {
        long long next_ns = run_timers(worker), late_ns = send_late_answers(worker);
        if (late_ns < next_ns)
            next_ns = late_ns;
        long long left_ns = next_ns - now_ns();
        if (left_ns < 0)
            left_ns = 0;
        struct timespec timeout = { .tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000 };
        struct epoll_event events[64];
        int n = epoll_pwait2(worker->epoll_fd, events, 64, next_ns == NEVER_NS ? NULL : &timeout, NULL);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &worker->signal_fd)
                handle_signal(worker);
            else if (events[i].data.ptr == &worker->listen_fd)
                accept_connections(worker);
            else
                serve_connection(worker, events[i].data.ptr);
        }
    }
}

int main(int argc, char **argv)
{
    static struct worker worker = { .signal_fd = -1, .listen_fd = -1, .timestamps_fd = -1 };
    worker.started_ns = now_ns();
    read_options(argc, argv, &worker.options);
    struct options *options = &worker.options;
    if (options->version || options->list_devices) {
        if (options->list_devices)
            list_devices(options);
        else
            puts("version: 1 (fake-worker)");
        return 0;
    }
    if (options->timestamps != NULL)
        worker.timestamps_fd = open(options->timestamps, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    note(&worker, "main", worker.started_ns);
    print_words(argc, argv, options);
    wipe_environment(options);
    if (options->exit_at_once)
        crash(&worker);
    worker.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    set_timers(&worker);
    catch_signals(&worker);
    if (options->vram_growth_ms == 0)
        write_claim(options, 1, 1);
    take_memory(options->memory_bytes);
    start_grandchildren(&worker);
    if (options->stranger_port)
        start_stranger(&worker);
    run(&worker);
}
