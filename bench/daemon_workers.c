/*
 * Workers through a running daemon, by the clocks of those who know: POST /v2/workers/start to the worker's main(); its first
 * healthy answer to the event that says ready; its pidfd readable after SIGKILL to the event that says exited, and to that
 * which says that nothing of it is left. Beside them, in the same turns: posix_spawn to main() and a loopback request, and poll() on a pidfd.
 * Usage: daemon_workers PORT MODEL_REF FAKE_WORKER FOLDER N
 */
#include <poll.h>
#include <sys/pidfd.h>

#include "bare.h"
#include "ground.h"

#define PATIENCE_MS 20000
#define ANSWER_MAX  65536

static int port;

static int open_connection(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    const int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        die_errno("the daemon");
    return fd;
}

static void say(int fd, const char *text, size_t n)
{
    if (send(fd, text, n, MSG_NOSIGNAL) != (ssize_t)n)
        die_errno("the daemon");
}

/* The number behind a name in an answer. */
static int64_t number_in(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    if (!at)
        die("no %s in: %s", name, text);
    return strtoll(at + strlen(name), NULL, 10);
}

/* Sends a body, waits for the whole answer, which is a 2xx. */
static void post(int fd, const char *path, const char *body, char answer[ANSWER_MAX])
{
    char text[4096];
    size_t n = 0;
    int n_text = snprintf(text, sizeof text,
                          "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                          "Content-Length: %zu\r\n\r\n%s",
                          path, strlen(body), body);
    say(fd, text, (size_t)n_text);
    const char *end = NULL;
    do {
        ssize_t n_more = recv(fd, answer + n, ANSWER_MAX - 1 - n, 0);
        if (n_more <= 0)
            die("%s: the daemon has closed the connection", path);
        n += (size_t)n_more;
        answer[n] = '\0';
        end = strstr(answer, "\r\n\r\n");
    } while (!end || (int64_t)(n - (size_t)(end + 4 - answer)) < number_in(answer, "Content-Length: "));
    if (strncmp(answer, "HTTP/1.1 2", 10) != 0)
        die("%s: %s", path, answer);
}

/* Waits until the stream has told of `event`; what it says of others is dropped. Also notes when a pidfd is readable. */
static int64_t wait_event(int stream, const char *event, int pidfd, int64_t *ret_readable_ns)
{
    static char text[ANSWER_MAX];
    static size_t n;
    char *there = n > 0 ? strstr(text, event) : NULL;
    if (there) {
        n = strlen(there + strlen(event));
        memmove(text, there + strlen(event), n + 1);
        return clock_boottime_ns();
    }
    for (;;) {
        struct pollfd polled[2] = { { .fd = stream, .events = POLLIN }, { .fd = pidfd, .events = POLLIN } };
        if (poll(polled, 2, PATIENCE_MS) <= 0)
            die("no %s", event);
        int64_t now_ns = clock_boottime_ns();
        if (polled[1].revents) {
            *ret_readable_ns = now_ns;
            pidfd = -1; /* poll() leaves it out */
        }
        if (!polled[0].revents)
            continue;
        ssize_t n_more = recv(stream, text + n, sizeof text - 1 - n, 0);
        if (n_more <= 0)
            die("the stream of events has ended");
        n += (size_t)n_more;
        text[n] = '\0';
        char *said = strstr(text, event);
        if (said) { /* what is behind it is for the next call */
            n = strlen(said + strlen(event));
            memmove(text, said + strlen(event), n + 1);
            return now_ns;
        }
        size_t n_kept = n > 64 ? 64 : n; /* the name may come in two pieces */
        memmove(text, text + n - n_kept, n_kept);
        n = n_kept;
    }
}

static int64_t start_bare(char *program, char *stamps)
{
    char *argv[] = { program, "--port", "0", "--exit-at-once", "--timestamps", stamps, NULL };
    siginfo_t end;
    unlink(stamps);
    int64_t start_ns = clock_boottime_ns();
    pid_t pid = bare_spawn(argv);
    int64_t main_ns = ground_timestamp(stamps, "main");
    if (waitid(P_PID, (id_t)pid, &end, WEXITED) < 0)
        die_errno("waitid");
    return main_ns - start_ns;
}

/* SIGKILL to a readable pidfd, with nobody in between. */
static int64_t kill_bare(char *program)
{
    char *argv[] = { program, "--port", "0", "--crash-after-ms", "60000", NULL };
    siginfo_t end;
    pid_t pid = bare_spawn(argv);
    struct pollfd polled = { .fd = pidfd_open(pid, 0), .events = POLLIN };
    poll(NULL, 0, 20); /* it is up by then */
    int64_t start_ns = clock_boottime_ns();
    pidfd_send_signal(polled.fd, SIGKILL, NULL, 0);
    if (poll(&polled, 1, PATIENCE_MS) != 1)
        die("a killed process does not end");
    int64_t end_ns = clock_boottime_ns();
    close(polled.fd);
    (void)waitid(P_PID, (id_t)pid, &end, WEXITED);
    return end_ns - start_ns;
}

struct series {
    struct samples start, bare, request, ready, killed, event, settled, bare_killed;
};

static void run_once(struct series *series, int connection, int stream, const char *model_ref, char *program,
                     char *stamps)
{
    char body[2048];
    static char answer[ANSWER_MAX];
    int64_t start_ns = clock_boottime_ns();
    if (bare_get(port) != 200)
        die("the daemon does not answer");
    add_sample(&series->request, clock_boottime_ns() - start_ns);
    add_sample(&series->bare, start_bare(program, stamps));
    add_sample(&series->bare_killed, kill_bare(program));
    unlink(stamps);
    snprintf(body, sizeof body,
             "{\"backend\":\"fake\",\"model_ref\":\"%s\",\"extra_args\":[\"--ready-after-ms\",\"50\",\"--"
             "timestamps\","
             "\"%s\"]}",
             model_ref, stamps);
    start_ns = clock_boottime_ns();
    post(connection, "/v2/workers/start", body, answer);
    add_sample(&series->start, ground_timestamp(stamps, "main") - start_ns);
    int64_t readable_ns = 0;
    int64_t ready_ns = wait_event(stream, "event: worker.ready", -1, NULL);
    add_sample(&series->ready, ready_ns - ground_timestamp(stamps, "first_healthy_answer"));
    int pidfd = pidfd_open((pid_t)number_in(answer, "\"pid\":"), 0);
    if (pidfd < 0)
        die_errno("pidfd_open");
    int64_t killed_ns = clock_boottime_ns();
    pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
    int64_t event_ns = wait_event(stream, "event: worker.exited", pidfd, &readable_ns);
    add_sample(&series->killed, event_ns - killed_ns);
    /* The event can be here before this process has its turn to look at the pidfd. */
    add_sample(&series->event, readable_ns ? event_ns - readable_ns : 0);
    add_sample(&series->settled, wait_event(stream, "event: worker.stopped", -1, NULL) - killed_ns);
    close(pidfd);
}

int main(int argc, char **argv)
{
    static const char listen[] = "GET /v2/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    static struct series series;
    char stamps[1024];
    if (argc != 6)
        die("usage: daemon_workers PORT MODEL_REF FAKE_WORKER FOLDER N");
    port = (int)count_argument(argv[1]);
    snprintf(stamps, sizeof stamps, "%s/daemon.stamps", argv[4]);
    int connection = open_connection(), stream = open_connection();
    say(stream, listen, sizeof listen - 1);
    for (int64_t i = count_argument(argv[5]); i > 0; i--)
        run_once(&series, connection, stream, argv[2], argv[3], stamps);
    report("start", &series.start);
    report("bare", &series.bare);
    report("request", &series.request);
    report("ready", &series.ready);
    report("killed", &series.killed);
    report("event", &series.event);
    report("settled", &series.settled);
    report("bare_killed", &series.bare_killed);
    return 0;
}
