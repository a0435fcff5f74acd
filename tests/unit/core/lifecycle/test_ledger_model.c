/*
 * The ledger against a model of it. Random starts, loads, growth, readiness, stops, crashes, strangers, drivers that tell less
 * than they know or give memory back late, and managers that are opened anew, through the library as it is, with real
 * processes. The model is a few sums. At each start: what is available is what the model says, to the byte; what fits is
 * admitted, and nothing else; every refusal adds up, and every start, refusal and end is explained. When all have ended,
 * everything is available again.
 *
 * Then two processes at once, on one state directory and on two: what is promised never exceeds what there is.
 *
 * POOL_MODEL_STEPS (also of each of two processes a fifth) and POOL_MODEL_SEED choose how long and which; ./dev soak takes 100,000.
 */
#include "manager_ground.h"
#include "memory_inventory.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/mman.h>

#include "base/number.h"
#include "core/lifecycle/attribution.h"

GROUND_FIXTURE

#define N_STEPS_USUAL 600
#define N_LIVE_MAX    20
#define HEADROOM      (16 * GROUND_MIB)
#define TOTAL         (1024 * GROUND_MIB)

static const char *const uuids[] = { GROUND_GPU, GROUND_GPU_2 };

struct model_worker {
    bool is_there, is_ready;
    char id[32];
    int64_t pid;
    int64_t reserved[2], taken[2];
};

/* In memory that forked processes share. */
struct scene {
    pthread_mutex_t mutex;
    struct memory_world world;
    struct model_worker workers[2 * N_LIVE_MAX];
    int64_t foreign[2];
    uint64_t random;
};
static struct scene *scene;

/* ---- chance ---- */

static uint64_t *random_state;

static int64_t random_below(int64_t n) /* xorshift64* */
{
    uint64_t x = *random_state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *random_state = x;
    return (int64_t)((x * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % n;
}

static uint64_t seed_of_run(void)
{
    const char *text = getenv("POOL_MODEL_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : (uint64_t)clock_boottime_ns();
    seed = seed ? seed : 1;
    print_message("POOL_MODEL_SEED=%" PRIu64 "\n", seed);
    return seed;
}

static int64_t n_steps(void)
{
    const char *text = getenv("POOL_MODEL_STEPS");
    return text ? strtoll(text, NULL, 10) : N_STEPS_USUAL;
}

/* ---- the world ---- */

static void lock_scene(bool is_locking)
{
    if (is_locking) {
        /* One that failed while it had the mutex must not keep the other waiting. */
        if (pthread_mutex_lock(&scene->mutex) == EOWNERDEAD)
            pthread_mutex_consistent(&scene->mutex);
    } else
        pthread_mutex_unlock(&scene->mutex);
}

static void make_scene(void)
{
    pthread_mutexattr_t attributes;
    scene = mmap(NULL, sizeof *scene, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(scene != MAP_FAILED);
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&scene->mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    scene->world.n_gpus = 2;
    for (int i = 0; i < 2; i++) {
        scene->world.gpus[i].uuid = uuids[i];
        scene->world.gpus[i].total_bytes = scene->world.gpus[i].free_bytes = TOTAL;
        scene->world.gpus[i].are_processes_known = true;
    }
    memory_world_lock = lock_scene;
}

static void free_scene(void)
{
    memory_world_lock = NULL;
    munmap(scene, sizeof *scene);
    scene = NULL;
}

/* Changes what a process is shown to hold of a device, by what is free at most. */
static int64_t hold(int device, int64_t pid, int64_t bytes)
{
    struct memory_gpu *gpu = &scene->world.gpus[device];
    memory_unlist(gpu, pid);
    if (bytes > gpu->free_bytes)
        bytes = gpu->free_bytes;
    if (bytes > 0)
        memory_list(gpu, pid, bytes);
    return bytes;
}

static struct pool_manager *open_manager(const struct ground *where, struct pool_gpu_inventory *inventory,
                                         bool is_daemon)
{
    struct pool_manager *manager = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_manager_options options = { .struct_size = sizeof options,
                                            .environment = ground_environment,
                                            .gpu_inventory = inventory,
                                            .is_daemon = is_daemon,
                                            .is_unrestricted = true };
    if (pool_manager_open(where->config, &options, &manager, &err) != POOL_OK)
        fail_msg("%s", err.message);
    return manager;
}

static void configure(struct ground *where)
{
    ground_prepare(where);
    ground_configure(where, "static:/nonexistent",
                     "[backends.sleeper]\ndevice = \"gpu\"\nready.http = \"/health\"\n"
                     "command = [\"/bin/sleep\", \"3600\"]\n");
    where->config->gpu_vram_headroom_bytes = HEADROOM;
    where->config->queue_timeout_ms = 0; /* what does not fit now is refused now, not queued by a daemon */
}

/* ---- the model ---- */

static int64_t pending_of(const struct model_worker *worker, int device)
{
    return worker->is_there ? excess_bytes(worker->reserved[device], worker->taken[device]) : 0;
}

static int64_t available_of(int device)
{
    int64_t pending = 0;
    for (size_t i = 0; i < 2 * N_LIVE_MAX; i++)
        pending += pending_of(&scene->workers[i], device);
    return excess_bytes(scene->world.gpus[device].free_bytes, pending + HEADROOM);
}

/* Of a driver that does not tell what processes hold: what must be left for those who are not ready, at the least. */
static int64_t certain_of(int device)
{
    int64_t pending = 0;
    for (size_t i = 0; i < 2 * N_LIVE_MAX; i++)
        pending += scene->workers[i].is_ready ? 0 : pending_of(&scene->workers[i], device);
    return excess_bytes(scene->world.gpus[device].free_bytes, pending + HEADROOM);
}

static bool is_blind(void)
{
    bool is_any = false;
    for (size_t i = 0; i < scene->world.n_gpus; i++)
        is_any = is_any || !scene->world.gpus[i].are_processes_known || scene->world.gpus[i].are_bytes_hidden;
    return is_any;
}

static struct model_worker *find_free(size_t first)
{
    for (size_t i = first; i < first + N_LIVE_MAX; i++) {
        if (!scene->workers[i].is_there)
            return &scene->workers[i];
    }
    return NULL;
}

static struct model_worker *pick(size_t first)
{
    size_t at = (size_t)random_below(N_LIVE_MAX);
    for (size_t i = 0; i < N_LIVE_MAX; i++) {
        struct model_worker *worker = &scene->workers[first + (at + i) % N_LIVE_MAX];
        if (worker->is_there)
            return worker;
    }
    return NULL;
}

/* ---- one process ---- */

struct run {
    struct pool_manager *manager;
    struct pool_gpu_inventory *inventory;
    bool is_daemon;
    int64_t n_started, n_refused, n_ended, n_ids;
    int64_t dead[64]; /* whose memory the driver has not given back */
    size_t n_dead;
};

static int64_t number_of(const struct pool_error *err, const char *name)
{
    const struct pool_detail *detail = pool_error_detail(err, name);
    if (!detail)
        fail_msg("no %s in: %s", name, err->message);
    return detail->number;
}

static void check_explained(struct run *run, const char *id, enum pool_explain_kind kind)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_explanation_list *list = NULL;
    bool is_found = false;
    if (pool_manager_explain(run->manager, id, &list, &err) != POOL_OK)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < list->n_explanations; i++)
        is_found = is_found || list->explanations[i]->kind == kind;
    pool_explanation_list_free(list);
    assert_true(is_found);
}

static void check_refusal(struct run *run, const struct pool_error *err, const int64_t available[2])
{
    const char *device = pool_error_detail(err, "device")->text;
    int64_t free_bytes = number_of(err, "free_bytes");
    int64_t pending = number_of(err, "pending_bytes");
    int64_t shown = number_of(err, "available_vram_bytes");
    assert_true(shown == excess_bytes(free_bytes, pending + number_of(err, "headroom_bytes")));
    if (is_blind()) /* it may assume that less was taken than was */
        assert_true(shown <= certain_of(strcmp(device, uuids[1]) == 0));
    else
        assert_true(shown == available[strcmp(device, uuids[1]) == 0]);
    assert_true(number_of(err, "required_vram_bytes") > shown);
    assert_true(number_of(err, "used_bytes") + free_bytes == number_of(err, "total_bytes"));
    check_explained(run, pool_error_detail(err, "explain_id")->text, POOL_EXPLAIN_REFUSAL);
}

static struct pool_worker_spawn_request *make_request(const struct ground *where, const char *id, int device,
                                                      bool is_split, int64_t bytes)
{
    struct pool_worker_spawn_request *request = ground_request(where, "sleeper", id, "");
    request->required_vram_bytes = (struct pool_reading){ true, bytes };
    if (is_split) {
        request->gpu_ids = calloc(3, sizeof(char *));
        assert_non_null(request->gpu_ids);
        request->gpu_ids[0] = strdup(uuids[0]);
        request->gpu_ids[1] = strdup(uuids[1]);
        request->n_gpu_ids = 2;
        request->split = strdup("1,1");
    } else {
        request->gpu_id = strdup(device < 0 ? "auto" : uuids[device]);
    }
    return request;
}

static void take_record(struct run *run, struct model_worker *worker, const char *id)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *row = NULL;
    assert_int_equal(pool_manager_row(run->manager, id, &row, &err), POOL_OK);
    *worker = (struct model_worker){ .is_there = true, .pid = row->process.pid };
    snprintf(worker->id, sizeof worker->id, "%s", id);
    for (int i = 0; i < 2; i++)
        worker->reserved[i] = pool_worker_info_reserved_on(row, uuids[i], NULL);
    pool_worker_info_free(row);
}

static void start(struct run *run)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct model_worker *worker = find_free(0);
    if (!worker)
        return;
    char id[32];
    bool is_split = random_below(5) == 0;
    int device = (int)random_below(3) - 1;
    int64_t bytes = (1 + random_below(is_split ? 600 : 300)) * GROUND_MIB;
    int64_t available[2] = { available_of(0), available_of(1) };
    int64_t certain[2] = { certain_of(0), certain_of(1) };
    /* scale_parts of split.c rounds each part up to the next byte */
    int64_t half = bytes / 2 + 1;
    bool fits = is_split     ? half <= available[0] && half <= available[1]
                : device < 0 ? bytes <= available[0] || bytes <= available[1]
                             : bytes <= available[device];
    snprintf(id, sizeof id, "w%" PRId64, run->n_ids++);
    struct pool_worker_spawn_request *request = make_request(&ground, id, device, is_split, bytes);
    enum pool_code code = ground_try_spawn(run->manager, request, &err);
    pool_worker_spawn_request_free(request);
    if (is_blind() ? code != POOL_OK && code != POOL_INSUFFICIENT_VRAM
                   : code != (fits ? POOL_OK : POOL_INSUFFICIENT_VRAM))
        fail_msg("%s of %" PRId64 " bytes on %d, available %" PRId64 " and %" PRId64 ": %s: %s",
                 is_split ? "split" : "start", bytes, device, available[0], available[1],
                 pool_code_name(code), err.message);
    if (code != POOL_OK) {
        run->n_refused++;
        check_refusal(run, &err, available);
        return;
    }
    run->n_started++;
    check_explained(run, id, POOL_EXPLAIN_START);
    take_record(run, worker, id);
    int64_t sum = worker->reserved[0] + worker->reserved[1];
    assert_true(is_split ? sum == 2 * half : sum == bytes);
    for (int i = 0; i < 2; i++)
        assert_true(worker->reserved[i] <= (is_blind() ? certain[i] : available[i]));
}

/* It is gone for the manager at its next look; its memory is the driver's to give back. */
static void end(struct run *run, struct model_worker *worker)
{
    int64_t pid = worker->pid;
    bool is_holding = worker->taken[0] > 0 || worker->taken[1] > 0;
    worker->is_there = false;
    run->n_ended++;
    if (run->is_daemon && is_holding && run->n_dead < sizeof run->dead / sizeof run->dead[0] &&
        random_below(2) == 0) {
        run->dead[run->n_dead++] = pid;
        return;
    }
    for (int i = 0; i < 2; i++)
        hold(i, pid, 0);
}

static void give_back(struct run *run)
{
    if (run->n_dead == 0)
        return;
    size_t at = (size_t)random_below((int64_t)run->n_dead);
    for (int i = 0; i < 2; i++)
        hold(i, run->dead[at], 0);
    run->dead[at] = run->dead[--run->n_dead];
}

static void stop(struct run *run, struct model_worker *worker)
{
    struct pool_error err = POOL_ERROR_INIT;
    if (ground_stop_as(run->manager, worker->id, 0, false, false, -1, NULL, &err) != POOL_OK)
        fail_msg("%s", err.message);
    check_explained(run, worker->id, POOL_EXPLAIN_STOP);
}

static void settle_all(struct run *run)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_list *live = NULL;
    size_t n = 0;
    if (pool_manager_settle(run->manager, &live, &err) != POOL_OK)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < N_LIVE_MAX; i++)
        n += scene->workers[i].is_there;
    assert_int_equal(live->n_workers, n);
    pool_worker_list_free(live);
}

static void end_by(struct run *run, struct model_worker *worker, bool is_crash)
{
    char id[sizeof worker->id];
    snprintf(id, sizeof id, "%s", worker->id);
    if (!is_crash)
        stop(run, worker);
    kill((pid_t)worker->pid, SIGKILL);
    GROUND_UNTIL(!ground_is_running(worker->pid));
    end(run, worker);
    settle_all(run);
    check_explained(run, id, POOL_EXPLAIN_END);
}

static void load(struct model_worker *worker)
{
    for (int i = 0; i < 2; i++) {
        if (worker->reserved[i] == 0)
            continue;
        /* Now and then more than was promised to it. */
        int64_t most = worker->reserved[i] + (random_below(20) == 0 ? worker->reserved[i] / 2 : 0);
        worker->taken[i] = hold(
            i, worker->pid,
            worker->taken[i] + random_below(most - worker->taken[i] > 0 ? most - worker->taken[i] + 1 : 1));
    }
}

static void become_ready(struct run *run, struct model_worker *worker)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *row = NULL, *ready = NULL;
    if (worker->is_ready)
        return;
    assert_int_equal(pool_manager_row(run->manager, worker->id, &row, &err), POOL_OK);
    if (pool_manager_record_ready(run->manager, row, POOL_PORT_PROOF_UID, &ready, &err) != POOL_OK)
        fail_msg("%s", err.message);
    worker->is_ready = true;
    pool_worker_info_free(row);
    pool_worker_info_free(ready);
}

/* Strangers take what is free, also what was promised, and give it back. */
static void strangers(void)
{
    int device = (int)random_below(2);
    int64_t free_bytes = scene->world.gpus[device].free_bytes + scene->foreign[device];
    scene->foreign[device] = random_below(3) == 0 ? 0 : random_below(free_bytes / 2 + 1);
    /* a pid that nobody has: above PID_MAX_LIMIT of the kernel */
    scene->foreign[device] = hold(device, (INT64_C(1) << 22) + 1 + device, scene->foreign[device]);
}

/* A driver that does not list processes, or not what they hold, and one that does again. */
static void change_driver(int mood)
{
    for (size_t i = 0; i < scene->world.n_gpus; i++) {
        scene->world.gpus[i].are_processes_known = mood != 0;
        scene->world.gpus[i].are_bytes_hidden = mood == 1;
    }
}

/* As a command, which waits for memory of stopped workers before it gives up, or as a daemon, which does not. */
static void reopen(struct run *run)
{
    pool_manager_close(run->manager);
    run->is_daemon = random_below(2) == 0;
    while (!run->is_daemon && run->n_dead > 0)
        give_back(run);
    if (!run->is_daemon)
        change_driver(-1);
    run->manager = open_manager(&ground, run->inventory, run->is_daemon);
}

static void step(struct run *run)
{
    int64_t what = random_below(100);
    struct model_worker *worker = pick(0);
    if (what < 45)
        start(run);
    else if (what < 50)
        strangers();
    else if (what < 54)
        reopen(run);
    else if (what < 56)
        change_driver(run->is_daemon ? (int)random_below(5)
                                     : -1); /* a command waits for what it can not tell */
    else if (what < 62)
        give_back(run);
    else if (worker && what < 78)
        load(worker);
    else if (worker && what < 84)
        become_ready(run, worker);
    else if (worker)
        end_by(run, worker, what < 92);
}

/* Nobody is left and nothing is held: all but the headroom is available, to the byte. */
static void check_nothing_leaked(struct run *run)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_status_response *status = NULL;
    for (size_t i = 0; i < N_LIVE_MAX; i++) {
        if (scene->workers[i].is_there)
            end_by(run, &scene->workers[i], true);
    }
    change_driver(-1);
    while (run->n_dead > 0)
        give_back(run);
    if (pool_manager_status(run->manager, &status, &err) != POOL_OK)
        fail_msg("%s", err.message);
    for (int i = 0; i < 2; i++) {
        const struct pool_ledger *ledger = &status->ledgers[i];
        assert_true(ledger->available_bytes == excess_bytes(TOTAL, scene->foreign[i] + HEADROOM));
        assert_true(ledger->foreign_bytes + ledger->releasing_bytes == scene->foreign[i]);
        assert_true(ledger->pending_bytes == 0 && ledger->elsewhere_bytes == 0 && ledger->n_workers == 0);
    }
    pool_status_response_free(status);
}

static void test_one_process(void **state)
{
    (void)state;
    struct host_identity host;
    assert_int_equal(host_identity_read(&host), 0);
    if (!attribution_sees_drivers_pids(&host))
        skip(); /* whose a process is can not be told there */
    make_scene();
    scene->random = seed_of_run();
    random_state = &scene->random;
    configure(&ground);
    struct run run = { .inventory = memory_inventory_open(&scene->world) };
    reopen(&run);
    int64_t n = n_steps();
    for (int64_t i = 1; i <= n; i++) {
        step(&run);
        if (i % 500 == 0 || i == n)
            check_nothing_leaked(&run);
    }
    print_message("%" PRId64 " steps: %" PRId64 " started, %" PRId64 " refused, %" PRId64 " ended\n", n,
                  run.n_started, run.n_refused, run.n_ended);
    assert_true(run.n_started > 0 && run.n_refused > 0);
    pool_manager_close(run.manager);
    pool_gpu_inventory_close(run.inventory);
    free_scene();
}

/* ---- two processes ---- */

/* Under the mutex: what is promised to those who live, whoever promised it. */
static void check_promises(void)
{
    for (int device = 0; device < 2; device++) {
        int64_t sum = HEADROOM;
        for (size_t i = 0; i < 2 * N_LIVE_MAX; i++)
            sum += scene->workers[i].is_there ? scene->workers[i].reserved[device] : 0;
        if (sum > TOTAL)
            fail_msg("%" PRId64 " bytes promised of %" PRId64 " on GPU %d", sum, TOTAL, device);
    }
}

static void start_beside(struct run *run, const struct ground *where, int who)
{
    struct pool_error err = POOL_ERROR_INIT;
    char id[32];
    size_t first = (size_t)who * N_LIVE_MAX;
    struct model_worker *worker = find_free(first), started = { 0 };
    if (!worker)
        return;
    snprintf(id, sizeof id, "p%d-w%" PRId64, who, run->n_ids++);
    bool is_split = random_below(5) == 0;
    struct pool_worker_spawn_request *request = make_request(
        where, id, (int)random_below(3) - 1, is_split, (1 + random_below(is_split ? 600 : 400)) * GROUND_MIB);
    enum pool_code code = ground_try_spawn(run->manager, request, &err);
    pool_worker_spawn_request_free(request);
    if (code != POOL_OK && code != POOL_INSUFFICIENT_VRAM)
        fail_msg("%s: %s", pool_code_name(code), err.message);
    run->n_started += code == POOL_OK;
    run->n_refused += code != POOL_OK;
    if (code != POOL_OK) {
        int64_t taken = add_bytes(number_of(&err, "pending_bytes"), number_of(&err, "headroom_bytes"));
        const struct pool_detail *elsewhere = pool_error_detail(&err, "elsewhere_bytes");
        taken = add_bytes(taken, elsewhere ? elsewhere->number : 0);
        assert_true(number_of(&err, "available_vram_bytes") ==
                    excess_bytes(number_of(&err, "free_bytes"), taken));
        return;
    }
    take_record(run, &started, id);
    lock_scene(true);
    *worker = started;
    check_promises();
    lock_scene(false);
}

static void change_beside(struct model_worker *worker, bool is_ending)
{
    lock_scene(true);
    if (is_ending) /* before it ends: whoever is admitted afterwards is right */
        worker->is_there = false;
    else
        for (int i = 0; i < 2; i++)
            worker->taken[i] =
                worker->reserved[i] == 0 ? 0 : hold(i, worker->pid, random_below(worker->reserved[i] + 1));
    lock_scene(false);
    if (!is_ending)
        return;
    kill((pid_t)worker->pid, SIGKILL);
    GROUND_UNTIL(!ground_is_running(worker->pid));
    lock_scene(true);
    for (int i = 0; i < 2; i++)
        hold(i, worker->pid, 0);
    lock_scene(false);
}

static void be_one_of_two(const struct ground *where, int who, uint64_t seed, int64_t n)
{
    struct run run = { .inventory = memory_inventory_open(&scene->world) };
    random_state = &seed;
    run.manager = open_manager(where, run.inventory, false);
    for (int64_t i = 0; i < n; i++) {
        struct model_worker *worker = pick((size_t)who * N_LIVE_MAX);
        int64_t what = random_below(100);
        if (what < 50)
            start_beside(&run, where, who);
        else if (worker)
            change_beside(worker, what < 72);
    }
    assert_true(run.n_started > 0);
    pool_manager_close(run.manager);
    pool_gpu_inventory_close(run.inventory);
}

static void run_two(const struct ground *first, const struct ground *second)
{
    uint64_t seed = seed_of_run();
    int64_t n = n_steps() / 5;
    pid_t pids[2];
    siginfo_t info;
    for (int who = 0; who < 2; who++) {
        pids[who] = ground_fork();
        if (pids[who] == 0) {
            be_one_of_two(who == 0 ? first : second, who, seed + (uint64_t)who, n);
            _exit(0);
        }
    }
    for (int who = 0; who < 2; who++) {
        info = (siginfo_t){ 0 };
        assert_int_equal(waitid(P_PID, (id_t)pids[who], &info, WEXITED), 0);
        assert_true(info.si_code == CLD_EXITED && info.si_status == 0);
    }
    /* All ends; whoever looks next finds everything available, whatever the others left in their registries. */
    for (size_t i = 0; i < 2 * N_LIVE_MAX; i++) {
        if (scene->workers[i].is_there)
            change_beside(&scene->workers[i], true);
    }
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_status_response *status = NULL;
    struct pool_gpu_inventory *inventory = memory_inventory_open(&scene->world);
    struct pool_manager *manager = open_manager(first, inventory, false);
    assert_int_equal(pool_manager_status(manager, &status, &err), POOL_OK);
    for (int i = 0; i < 2; i++)
        assert_true(status->ledgers[i].available_bytes == TOTAL - HEADROOM);
    pool_status_response_free(status);
    pool_manager_close(manager);
    pool_gpu_inventory_close(inventory);
}

static void test_two_processes_on_one_directory(void **state)
{
    (void)state;
    make_scene();
    configure(&ground);
    run_two(&ground, &ground);
    free_scene();
}

static void test_two_processes_on_two_directories(void **state)
{
    (void)state;
    struct ground other;
    make_scene();
    configure(&ground);
    ground_make(&other);
    other.port_first = ground.port_first + 25;
    other.port_last = ground.port_last;
    ground.port_last = other.port_first - 1;
    configure(&ground);
    configure(&other);
    free(other.config->gpu_lock_dir);
    other.config->gpu_lock_dir = strdup(ground.config->gpu_lock_dir);
    assert_non_null(other.config->gpu_lock_dir);
    run_two(&ground, &other);
    ground_end(&other);
    free_scene();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GROUND_TEST(test_one_process),
        GROUND_TEST(test_two_processes_on_one_directory),
        GROUND_TEST(test_two_processes_on_two_directories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
