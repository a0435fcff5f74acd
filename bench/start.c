/*
 * From the request for a start to the worker's main(), by the worker's own clock. Beside it posix_spawn alone to the same
 * program's main(), and a request over loopback, which the daemon's clients will pay.
 * Usage: start CONFIG MODEL_REF FAKE_WORKER FOLDER N
 */
#include "bare.h"
#include "ground.h"

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

static int64_t start_managed(struct pool_manager *manager, const struct pool_worker_spawn_request *request,
                             const char *stamps)
{
    unlink(stamps);
    int64_t start_ns = clock_boottime_ns();
    char *id = ground_spawn(manager, request, NULL);
    int64_t main_ns = ground_timestamp(stamps, "main");
    ground_stop(manager, id);
    free(id);
    return main_ns - start_ns;
}

/* A server for the loopback request; its port by the line that it says. */
static pid_t serve(char *program, int *ret_port)
{
    int pipe_fds[2];
    char line[256];
    if (pipe2(pipe_fds, 0) < 0)
        die_errno("pipe");
    char *argv[] = { program, "--port", "0", "--crash-after-ms", "120000", NULL };
    posix_spawn_file_actions_t actions;
    pid_t pid;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDOUT_FILENO);
    int failure = posix_spawn(&pid, program, &actions, NULL, argv, environ);
    if (failure)
        die("%s: %s", program, strerror(failure));
    posix_spawn_file_actions_destroy(&actions);
    close(pipe_fds[1]);
    FILE *said = fdopen(pipe_fds[0], "r");
    const char *url = NULL;
    while (!url && said && fgets(line, sizeof line, said))
        url = strstr(line, "http://127.0.0.1:");
    if (!url)
        die("the fake worker does not listen");
    *ret_port = (int)strtol(url + strlen("http://127.0.0.1:"), NULL, 10);
    return pid;
}

int main(int argc, char **argv)
{
    struct samples managed = { 0 };
    struct samples bare = { 0 };
    struct samples request_times = { 0 };
    char stamps[1024];
    char arguments[1200];
    int port;
    if (argc != 6)
        die("usage: start CONFIG MODEL_REF FAKE_WORKER FOLDER N");
    snprintf(stamps, sizeof stamps, "%s/start.stamps", argv[4]);
    snprintf(arguments, sizeof arguments, "--timestamps %s", stamps);
    struct pool_config *config = ground_load(argv[1]);
    struct pool_manager *manager = ground_open(config);
    struct pool_worker_spawn_request *request = ground_request("fake", argv[2], arguments);
    pid_t server = serve(argv[3], &port);
    int64_t n = count_argument(argv[5]);
    for (int64_t i = -3; i < n; i++) {
        int64_t start_ns = clock_boottime_ns();
        if (bare_get(port) != 200)
            die("the fake worker does not answer");
        int64_t request_ns = clock_boottime_ns() - start_ns;
        int64_t bare_ns = start_bare(argv[3], stamps);
        int64_t managed_ns = start_managed(manager, request, stamps);
        if (i < 0)
            continue;
        add_sample(&request_times, request_ns);
        add_sample(&bare, bare_ns);
        add_sample(&managed, managed_ns);
    }
    bare_kill(server);
    report("managed", &managed);
    report("bare", &bare);
    report("request", &request_times);
    pool_worker_spawn_request_free(request);
    pool_manager_close(manager);
    pool_config_free(config);
    return 0;
}
