/*
 * pool-gpu-probe: the process that asks the driver, so that nobody else has to. A call into a driver can hang for
 * ever and survive SIGKILL; a process caught in one keeps what it holds. This one holds nothing: no lock, no port, no
 * descriptor but the three it was given. It reads the inventory again and again and says what it found on standard
 * output; gpu_probe_protocol.h has the words. It owns the pace of the reading and no policy.
 *
 * Three threads: the main one asks the driver, one waits for what the driver tells by itself, and one listens for
 * commands and ends the program when the other side has gone, also while the others hang.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <pool/api.h>
#include <pool/gpu.h>
#include <pool/gpu_event.h>
#include <pool/version.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/number.h"
#include "managerd/gpu_probe_protocol.h"

#define DEFAULT_INTERVAL_MS 2000
#define EVENT_WAIT_MS       1000
/* After a driver that has no device, went away, or does not start. */
#define LISTEN_AGAIN_NS (10 * NS_PER_SEC)

static pthread_mutex_t output_lock = PTHREAD_MUTEX_INITIALIZER; /* a line is written as a whole */

struct probe {
    struct pool_gpu_inventory *inventory;
    bool is_once;
    pthread_mutex_t lock; /* of the following */
    pthread_cond_t has_changed;
    int64_t interval_ms;
    bool is_wanted_now;
};

static struct probe probe = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .interval_ms = DEFAULT_INTERVAL_MS,
};

static bool take_command(void *ctx, const char *line, size_t n)
{
    (void)ctx;
    (void)n;
    struct probe_command command;
    if (!probe_command_parse(line, &command))
        return true; /* of a later version */
    pthread_mutex_lock(&probe.lock);
    switch (command.kind) {
    case PROBE_COMMAND_INTERVAL: probe.interval_ms = command.interval_ms; break;
    case PROBE_COMMAND_NOW: probe.is_wanted_now = true; break;
    }
    pthread_cond_signal(&probe.has_changed);
    pthread_mutex_unlock(&probe.lock);
    return true;
}

/* Reads commands until there is an end, of the input or of who reads the output; then it is that of the program. */
static void *listen_to_owner(void *unused)
{
    (void)unused;
    struct probe_lines lines = PROBE_LINES_INIT(PROBE_COMMAND_MAX_BYTES);
    struct pollfd fds[2] = { { .fd = probe.is_once ? -1 : STDIN_FILENO, .events = POLLIN },
                             { .fd = STDOUT_FILENO, .events = 0 } };
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            _exit(EXIT_FAILURE);
        if (fds[1].revents)
            _exit(EXIT_SUCCESS);
        if (!fds[0].revents)
            continue;
        char chunk[PROBE_COMMAND_MAX_BYTES];
        ssize_t n = read(STDIN_FILENO, chunk, sizeof chunk);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            _exit(EXIT_SUCCESS);
        if (probe_lines_feed(&lines, chunk, (size_t)n, take_command, NULL) != PROBE_LINES_FED)
            _exit(EXIT_FAILURE);
    }
}

/* Takes the text over. */
static int say(char *json)
{
    CLEANUP_FREE char *text = json;
    size_t n = strlen(text);
    char *line = realloc(text, n + 2);
    if (!line)
        return ENOMEM;
    text = line;
    text[n++] = '\n';
    pthread_mutex_lock(&output_lock);
    int failure = fd_write_all(STDOUT_FILENO, text, n);
    pthread_mutex_unlock(&output_lock);
    return failure;
}

static int say_error(const struct pool_error *error)
{
    char *json = NULL;
    if (pool_error_encode(error, NULL, &json, NULL) != POOL_OK)
        return ENOMEM;
    return say(json);
}

static void release_list(struct pool_gpu_list **list)
{
    pool_gpu_list_free(*list);
}

static enum pool_code read_inventory(char **ret_json, struct pool_error *err)
{
    CLEANUP(release_list) struct pool_gpu_list *list = NULL;
    CLEANUP_FREE char *json = NULL;
    enum pool_code code = pool_gpu_inventory_refresh(probe.inventory, err);
    if (code == POOL_OK)
        code = pool_gpu_inventory_list(probe.inventory, &list, err);
    if (code == POOL_OK)
        code = pool_gpu_list_encode(list, NULL, 0, &json, err);
    if (code != POOL_OK)
        return code;
    if (strlen(json) > PROBE_ANSWER_MAX_BYTES)
        return pool_error_set(err, POOL_INTERNAL,
                              "the GPUs and their processes are more than %zu bytes of text",
                              PROBE_ANSWER_MAX_BYTES);
    *ret_json = take_ptr(&json);
    return POOL_OK;
}

/* Reads once and says what came of it. 0 when that was said; *ret_code is what came. */
static int answer(enum pool_code *ret_code)
{
    struct pool_error error = POOL_ERROR_INIT;
    char *json = NULL;
    enum pool_code code = read_inventory(&json, &error);
    int failure = code == POOL_OK ? say(json) : say_error(&error);
    *ret_code = code;
    return failure;
}

/* Tells what the driver tells, until it can not be listened to. false: and never will be. */
static bool pass_events_on(struct pool_gpu_events *events)
{
    for (;;) {
        struct pool_gpu_event event;
        enum pool_code code = pool_gpu_events_wait(events, EVENT_WAIT_MS, &event, NULL);
        if (code == POOL_DEADLINE_EXCEEDED)
            continue;
        if (code != POOL_OK)
            return code != POOL_UNIMPLEMENTED;
        char *line = probe_event_encode(&event);
        if (line && say(line) != 0)
            _exit(EXIT_FAILURE);
    }
}

static void *listen_to_driver(void *url)
{
    for (;;) {
        struct pool_gpu_events *events = NULL;
        enum pool_code code = pool_gpu_events_open(url, &events, NULL);
        if (code == POOL_UNIMPLEMENTED || (code == POOL_OK && !pass_events_on(events)))
            return NULL;
        pool_gpu_events_close(events);
        clock_pause_ns(LISTEN_AGAIN_NS);
    }
}

/* A second reader of the driver must not delay the first reading: it begins after that. */
static void start_listening_to_driver(const char *url)
{
    static char copy[4200];
    pthread_t listener;
    int n = snprintf(copy, sizeof copy, "%s", url);
    if (n > 0 && (size_t)n < sizeof copy && pthread_create(&listener, NULL, listen_to_driver, copy) == 0)
        pthread_detach(listener);
}

static struct timespec timespec_of(int64_t ns)
{
    return (struct timespec){ .tv_sec = ns / NS_PER_SEC, .tv_nsec = ns % NS_PER_SEC };
}

static int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_SEC + now.tv_nsec;
}

/*
 * Waits until the next reading is due: an interval after the last one began, and never sooner than the last one took,
 * so that a slow driver has half of its time for others.
 */
static void wait_until_due(int64_t began_ns)
{
    int64_t ended_ns = monotonic_ns();
    int64_t rested_ns = ended_ns + (ended_ns - began_ns);
    pthread_mutex_lock(&probe.lock);
    for (int rc = 0; rc == 0 && !probe.is_wanted_now;) {
        int64_t due_ns = began_ns + probe.interval_ms * NS_PER_MS;
        struct timespec until = timespec_of(due_ns > rested_ns ? due_ns : rested_ns);
        rc = pthread_cond_timedwait(&probe.has_changed, &probe.lock, &until);
    }
    probe.is_wanted_now = false;
    pthread_mutex_unlock(&probe.lock);
}

static int start_listening(void)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    int failure = pthread_cond_init(&probe.has_changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_t listener;
    if (!failure)
        failure = pthread_create(&listener, NULL, listen_to_owner, NULL);
    if (!failure)
        pthread_detach(listener);
    return failure;
}

static int run(const char *url)
{
    struct pool_error error = POOL_ERROR_INIT;
    int failure = start_listening();
    if (failure)
        pool_error_set_errno(&error, POOL_INTERNAL, failure, "can not start a thread");
    else
        (void)!pool_gpu_inventory_open(url, &probe.inventory, &error);
    if (!probe.inventory) {
        say_error(&error);
        return pool_code_exit_status(error.code);
    }
    enum pool_code code = POOL_OK;
    bool is_listening = probe.is_once;
    do {
        int64_t began_ns = monotonic_ns();
        if (answer(&code) != 0)
            return EXIT_FAILURE;
        if (!is_listening)
            start_listening_to_driver(url);
        is_listening = true;
        if (!probe.is_once)
            wait_until_due(began_ns);
    } while (!probe.is_once);
    /* The inventory is not closed: a driver that hangs in its shutdown would keep us after all was said. */
    return pool_code_exit_status(code);
}

static void print_help(void)
{
    printf(
        "usage: pool-gpu-probe --inventory URL [--interval MS] [--once]\n\n"
        "Reads the GPUs of an inventory (nvml:, nvml:/PATH, static:/PATH) again and again and prints them, "
        "one\n"
        "JSON object a line. For pool-managerd, which replaces it when the driver does not answer.\n\n"
        "  --inventory URL   where the facts come from\n"
        "  --interval MS     time between two readings (%d; %" PRId64 " to %" PRId64 ")\n"
        "  --once            print one line and end\n"
        "  --help, --version\n\n"
        "Standard input takes the commands \"interval MS\" and \"now\", a line each; its end is that of the\n"
        "program.\n",
        DEFAULT_INTERVAL_MS, PROBE_INTERVAL_MIN_MS, PROBE_INTERVAL_MAX_MS);
}

static int refuse(const char *what)
{
    fprintf(stderr, "pool-gpu-probe: %s (--help tells more)\n", what);
    return pool_code_exit_status(POOL_INVALID_REQUEST);
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "inventory", required_argument, NULL, 'i' },
                                             { "interval", required_argument, NULL, 'n' },
                                             { "once", no_argument, NULL, 'o' },
                                             { "help", no_argument, NULL, 'h' },
                                             { "version", no_argument, NULL, 'v' },
                                             { 0 } };
    /* Whoever started us may have forgotten to: what we do not hold can not be kept by a driver that hangs. */
    closefrom(STDERR_FILENO + 1);
    const char *url = NULL;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'i': url = optarg; break;
        case 'n':
            if (!parse_int64(optarg, PROBE_INTERVAL_MIN_MS, PROBE_INTERVAL_MAX_MS, &probe.interval_ms))
                return refuse("--interval is a number of milliseconds");
            break;
        case 'o': probe.is_once = true; break;
        case 'h': print_help(); return EXIT_SUCCESS;
        case 'v': printf("pool-gpu-probe %s\n", POOL_VERSION); return EXIT_SUCCESS;
        default: return refuse("there is no such option");
        }
    }
    if (optind < argc)
        return refuse("there are no arguments but options");
    if (!url)
        return refuse("--inventory is missing");
    /* Not exit(): a driver may have registered functions that hang. Nothing is left to be flushed. */
    _exit(run(url));
}
