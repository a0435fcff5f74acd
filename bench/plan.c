/*
 * Validating and planning a start, with everything warm: the request's fields, the backend, the model's file found and
 * its header read, the program found (start_request_prepare), the ledgers of 8 GPUs and the host with 64 live workers,
 * the choice of the device, and the plan with argv, environment and record (plan_make). Not in it: asking the driver,
 * the state directory's lock, settling, and binding the port. Also in time of the CPU, which does not count other programs' turns.
 * Usage: plan CONFIG MODEL_REF N
 */
#include "core/lifecycle/plan.h"
#include <time.h>

#include "core/lifecycle/devices.h"
#include "ground.h"

#define N_WORKERS 64

struct scene {
    struct pool_config *config;
    struct pool_worker_spawn_request *request;
    struct header_cache *headers;
    struct devices devices;
    struct pool_worker_list live;
    struct pool_worker_info *workers[N_WORKERS];
    struct usage usages[N_WORKERS];
    struct pool_ledger ledgers[POOL_GPUS_MAX + 1];
};

static void set_scene(struct scene *scene)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_gpu_inventory *inventory = NULL;
    expect_ok(pool_gpu_inventory_open(scene->config->gpu_inventory, &inventory, &err), &err);
    expect_ok(pool_gpu_inventory_list(inventory, &scene->devices.gpus, &err), &err);
    pool_gpu_inventory_close(inventory);
    if (host_memory_read(&scene->devices.memory) != 0)
        die("the host's memory can not be read");
    for (size_t i = 0; i < N_WORKERS; i++) {
        struct pool_worker_info *worker = pool_worker_info_new();
        if (!worker || asprintf(&worker->worker_id, "worker-%zu", i) < 0)
            die("out of memory");
        worker->backend = ground_text(scene->request->backend);
        worker->gpu_uuid = ground_text(scene->devices.gpus->gpus[i % scene->devices.gpus->n_gpus]->uuid);
        worker->port = scene->config->port_first + (int64_t)i;
        worker->status = POOL_WORKER_READY;
        worker->reserved_bytes = INT64_C(1) << 30;
        scene->workers[i] = worker;
        scene->usages[i] = (struct usage){ .is_attributed = true, .observed_bytes = INT64_C(1) << 29 };
        snprintf(scene->usages[i].worker_id, sizeof scene->usages[i].worker_id, "%s", worker->worker_id);
    }
    scene->live = (struct pool_worker_list){ .n_workers = N_WORKERS, .workers = scene->workers };
    scene->devices.n_usages = N_WORKERS;
    scene->devices.usages = scene->usages;
    scene->devices.taken_wall_ms = clock_wall_ms();
}

static enum pool_code plan_once(struct scene *scene, struct pool_error *err)
{
    const struct pool_gpu_list *gpus = scene->devices.gpus;
    struct start_context context = { .config = scene->config,
                                     .headers = scene->headers,
                                     .environment = ground_environment,
                                     .state_dir = scene->config->state_dir,
                                     .is_unrestricted = true };
    struct start_request start = START_REQUEST_INIT;
    struct pool_plan *plan = NULL;
    enum pool_code code = start_request_prepare(&context, scene->request, &start, err);
    if (code == POOL_OK)
        code = plan_check_unique(&scene->live, scene->request, err);
    for (size_t i = 0; code == POOL_OK && i <= gpus->n_gpus; i++)
        code = devices_ledger(&scene->devices, i < gpus->n_gpus ? gpus->gpus[i] : NULL, &scene->live, NULL,
                              NULL, 0, &scene->ledgers[i], err);
    struct placement_input placement = {
        .start = &start, .gpus = gpus, .n_ledgers = gpus->n_gpus + 1, .ledgers = scene->ledgers
    };
    struct plan_input input = { .config = scene->config,
                                .start = &start,
                                .environment = ground_environment,
                                .state_id = "00000000-0000-4000-8000-000000000000",
                                .log_dir = "/var/lib/pool-core/logs",
                                .worker_id = "worker-00000000-0000-4000-8000-000000000001",
                                .port = scene->config->port_last,
                                .wall_ms = clock_wall_ms(),
                                .boottime_ns = clock_boottime_ns() };
    if (code == POOL_OK)
        code = placement_choose(&placement, &input.gpu, &input.ledger, err);
    if (code == POOL_OK)
        code = plan_make(&input, &plan, err);
    pool_plan_free(plan);
    start_request_done(&start);
    return code;
}

static int64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * NS_PER_SEC + now.tv_nsec;
}

int main(int argc, char **argv)
{
    static struct scene scene;
    struct samples samples = { 0 };
    struct samples cpu_samples = { 0 };
    struct pool_error err = POOL_ERROR_INIT;
    if (argc != 4)
        die("usage: plan CONFIG MODEL_REF N");
    scene.config = ground_load(argv[1]);
    scene.request = ground_request("fake_gpu", argv[2], "--ready-after-ms 10");
    scene.request->gpu_id = ground_text("auto");
    set_scene(&scene);
    expect_ok(header_cache_open(NULL, &scene.headers, &err), &err);
    int64_t n = count_argument(argv[3]);
    for (int64_t i = -n / 10; i < n; i++) {
        int64_t start_cpu_ns = cpu_ns();
        int64_t start_ns = clock_boottime_ns();
        enum pool_code code = plan_once(&scene, &err);
        int64_t end_ns = clock_boottime_ns();
        int64_t end_cpu_ns = cpu_ns();
        expect_ok(code, &err);
        if (i < 0)
            continue;
        add_sample(&samples, end_ns - start_ns);
        add_sample(&cpu_samples, end_cpu_ns - start_cpu_ns);
    }
    header_cache_close(scene.headers);
    report("plan", &samples);
    report("cpu", &cpu_samples);
    return 0;
}
