/*
 * Keeps N real workers alive, and the history full, until its standard input ends: for those who measure how long looking
 * at them takes. Says "ready" when all are there.
 * Usage: many_workers CONFIG MODEL_REF N N_HISTORY
 */
#include <signal.h>
#include <sys/wait.h>

#include "ground.h"

static void fill_history(const struct pool_config *config, int64_t n)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_registry *registry = NULL;
    expect_ok(pool_worker_registry_open(config->registry_url, &registry, &err), &err);
    expect_ok(pool_worker_registry_begin(registry, &err), &err);
    for (int64_t i = 0; i < n; i++) {
        struct pool_worker_info *worker = pool_worker_info_new();
        if (!worker || asprintf(&worker->worker_id, "earlier-%" PRId64, i) < 0 ||
            asprintf(&worker->log_path, "%s/logs/earlier-%" PRId64 ".log", config->state_dir, i) < 0)
            die("out of memory");
        worker->backend = ground_text("fake");
        worker->model_ref = ground_text("file:/var/lib/pool-core/models/of/some/length/model-q4_k_m.gguf");
        worker->created_wall_ms = clock_wall_ms();
        expect_ok(pool_worker_registry_register(registry, worker, &err), &err);
        worker->stop_reason = POOL_STOP_REQUESTED;
        worker->stopped_wall_ms = worker->created_wall_ms;
        expect_ok(pool_worker_registry_unregister(registry, worker, &err), &err);
        pool_worker_info_free(worker);
    }
    expect_ok(pool_worker_registry_commit(registry, &err), &err);
    pool_worker_registry_close(registry);
}

int main(int argc, char **argv)
{
    char byte;
    if (argc != 5)
        die("usage: many_workers CONFIG MODEL_REF N N_HISTORY");
    struct pool_config *config = ground_load(argv[1]);
    struct pool_manager *manager = ground_open(config);
    struct pool_worker_spawn_request *request = ground_request("fake", argv[2], "");
    int64_t n = count_argument(argv[3]);
    int64_t *pids = calloc((size_t)n, sizeof *pids);
    if (!pids)
        die("out of memory");
    fill_history(config, count_argument(argv[4]));
    struct samples spawns = { 0 };
    for (int64_t i = 0; i < n; i++) {
        int64_t start_ns = clock_boottime_ns();
        free(ground_spawn(manager, request, &pids[i]));
        add_sample(&spawns, clock_boottime_ns() - start_ns);
    }
    report("spawn", &spawns);
    puts("ready");
    fflush(stdout);
    (void)!read(STDIN_FILENO, &byte, 1);
    for (int64_t i = 0; i < n; i++) /* ours, and not reaped before: the pids are theirs */
        kill((pid_t)pids[i], SIGKILL);
    for (int64_t i = 0; i < n; i++) {
        siginfo_t end;
        waitid(P_PID, (id_t)pids[i], &end, WEXITED);
    }
    free(pids);
    pool_worker_spawn_request_free(request);
    pool_manager_close(manager);
    pool_config_free(config);
    return 0;
}
