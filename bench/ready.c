/*
 * How soon after an engine is ready the library says so: from the worker's own clock when it becomes ready, and when it
 * gives its first healthy answer, until pool_manager_wait_ready has returned, recorded and proven. Beside it a loop that asks
 * the same engine every millisecond and proves nothing.
 * Usage: ready CONFIG MODEL_REF FAKE_WORKER FOLDER READY_AFTER_MS N
 */
#include <time.h>

#include "bare.h"
#include "ground.h"

/* Where the bare worker listens; above the range of the others. */
#define BARE_PORT_OFFSET 1

static int64_t wait_bare(char *program, char *stamps, char *ready_after_ms, int port)
{
    char port_text[16];
    snprintf(port_text, sizeof port_text, "%d", port);
    char *argv[] = { program,        "--port",       port_text, "--ready-after-ms",
                     ready_after_ms, "--timestamps", stamps,    NULL };
    unlink(stamps);
    pid_t pid = bare_spawn(argv);
    int64_t deadline_ns = clock_boottime_ns() + GROUND_PATIENCE_NS;
    while (bare_get(port) != 200) {
        struct timespec pause = { .tv_nsec = NS_PER_MS };
        if (clock_boottime_ns() > deadline_ns)
            die("the fake worker never was ready");
        nanosleep(&pause, NULL);
    }
    int64_t seen_ns = clock_boottime_ns();
    int64_t ready_ns = ground_timestamp(stamps, "ready");
    bare_kill(pid);
    return seen_ns - ready_ns;
}

int main(int argc, char **argv)
{
    struct samples since_ready = { 0 };
    struct samples since_answer = { 0 };
    struct samples bare = { 0 };
    struct pool_error err = POOL_ERROR_INIT;
    char stamps[1024];
    char arguments[1200];
    if (argc != 7)
        die("usage: ready CONFIG MODEL_REF FAKE_WORKER FOLDER READY_AFTER_MS N");
    snprintf(stamps, sizeof stamps, "%s/ready.stamps", argv[4]);
    snprintf(arguments, sizeof arguments, "--ready-after-ms %s --timestamps %s", argv[5], stamps);
    struct pool_config *config = ground_load(argv[1]);
    struct pool_manager *manager = ground_open(config);
    struct pool_worker_spawn_request *request = ground_request("fake", argv[2], arguments);
    for (int64_t i = count_argument(argv[6]); i > 0; i--) {
        struct pool_worker_info *worker = NULL;
        unlink(stamps);
        char *id = ground_spawn(manager, request, NULL);
        expect_ok(pool_manager_wait_ready(manager, id, NULL, &worker, &err), &err);
        int64_t seen_ns = clock_boottime_ns();
        add_sample(&since_ready, seen_ns - ground_timestamp(stamps, "ready"));
        add_sample(&since_answer, seen_ns - ground_timestamp(stamps, "first_healthy_answer"));
        pool_worker_info_free(worker);
        ground_stop(manager, id);
        free(id);
        add_sample(&bare, wait_bare(argv[3], stamps, argv[5], (int)config->port_last + BARE_PORT_OFFSET));
    }
    report("since_ready", &since_ready);
    report("since_answer", &since_answer);
    report("bare", &bare);
    pool_worker_spawn_request_free(request);
    pool_manager_close(manager);
    pool_config_free(config);
    return 0;
}
