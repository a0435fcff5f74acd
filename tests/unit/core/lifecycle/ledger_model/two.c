/*
 * Two processes at once; see two.h. What they share, the devices and who was promised what, is in memory that both have mapped.
 */
#include "two.h"
#include "memory_inventory.h"
#include "model.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "base/number.h"

#define TOTAL         (1024 * GROUND_MIB)
#define FOREIGN_FIRST (200 * GROUND_MIB)
#define FOREIGN_PID   ((INT64_C(1) << 22) + 1) /* nobody's: above PID_MAX_LIMIT of the kernel */
#define PART_OF_STEPS 5
#define LIE_LOW       (100 * GROUND_MIB)

static const char *const uuids[] = { GROUND_GPU, GROUND_GPU_2 };

struct two_worker {
    bool is_there;
    char id[32];
    int64_t pid, reserved[2];
};

/* What happens, counted over both. */
// clang-format off
#define TWO_EVENTS(X) \
    X(STARTED) X(STARTED_SPLIT) X(STARTED_ON_ANY) X(REFUSED_FULL) X(REFUSED_LOST) \
    X(REFUSED_FOR_THE_OTHER) X(TOOK) X(GREW) X(SHRANK) X(STOPPED) X(CRASHED) X(FOREIGN_GAVE) X(LIED) \
    X(LIE_ENDED)
// clang-format on
enum two_event {
#define X(name) TWO_##name,
    TWO_EVENTS(X)
#undef X
        N_TWO_EVENTS
};

struct scene {
    pthread_mutex_t mutex;
    struct memory_world world;
    struct two_worker workers[2][MODEL_WORKERS_MAX];
    int64_t foreign[2];
    int64_t n_events[N_TWO_EVENTS];
};
static struct scene *scene;

struct one {
    int who;
    bool is_alone_in_state; /* the other has a state directory of its own */
    struct model chance;    /* of it only the chance, the ground and the manager */
};

static void lock_scene(bool is_locking)
{
    if (is_locking) {
        /* One that failed while it had the mutex must not keep the other waiting. */
        if (pthread_mutex_lock(&scene->mutex) == EOWNERDEAD)
            pthread_mutex_consistent(&scene->mutex);
    } else
        pthread_mutex_unlock(&scene->mutex);
}

static void count(enum two_event event)
{
    __atomic_add_fetch(&scene->n_events[event], 1, __ATOMIC_RELAXED);
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
        struct memory_gpu *gpu = &scene->world.gpus[i];
        gpu->uuid = uuids[i];
        gpu->total_bytes = gpu->free_bytes = TOTAL;
        gpu->are_processes_known = true;
        scene->foreign[i] = FOREIGN_FIRST;
        memory_list(gpu, FOREIGN_PID, FOREIGN_FIRST);
    }
    memory_world_lock = lock_scene;
}

static void free_scene(void)
{
    memory_world_lock = NULL;
    munmap(scene, sizeof *scene);
    scene = NULL;
}

static int64_t listed_bytes(const struct memory_gpu *gpu, int64_t pid)
{
    for (size_t i = 0; i < gpu->n_processes; i++) {
        if (gpu->processes[i].pid == pid)
            return gpu->processes[i].used_vram_bytes.value;
    }
    return 0;
}

/* Changes what a process is shown to hold of a device, by what is free at most. Under the mutex. */
static void hold_there(int device, int64_t pid, int64_t bytes)
{
    struct memory_gpu *gpu = &scene->world.gpus[device];
    memory_unlist(gpu, pid);
    bytes = bytes < gpu->free_bytes ? bytes : gpu->free_bytes;
    if (bytes > 0)
        memory_list(gpu, pid, bytes);
}

/* ---- the promise ---- */

/* Under the mutex: what is promised to those who live, whoever promised it, and what strangers hold. */
static void check_promises(void)
{
    for (int device = 0; device < 2; device++) {
        int64_t sum = MODEL_HEADROOM + scene->foreign[device];
        for (size_t i = 0; i < 2 * MODEL_WORKERS_MAX; i++) {
            const struct two_worker *worker = &scene->workers[i / MODEL_WORKERS_MAX][i % MODEL_WORKERS_MAX];
            sum += worker->is_there ? worker->reserved[device] : 0;
        }
        if (sum > TOTAL)
            fail_msg("%" PRId64 " bytes promised of %" PRId64 " on GPU %d", sum, TOTAL, device);
    }
}

static int64_t number_of(const struct pool_error *err, const char *name)
{
    const struct pool_detail *detail = pool_error_detail(err, name);
    if (!detail)
        fail_msg("no %s in: %s", name, err->message);
    return detail->number;
}

static void check_refused(struct one *one, enum pool_code code, const struct pool_error *err)
{
    const struct pool_detail *record = pool_error_detail(err, "explain_id");
    assert_non_null(record);
    check_explained(&one->chance, record->text, POOL_EXPLAIN_REFUSAL);
    if (code == POOL_GPU_UNAVAILABLE) {
        count(TWO_REFUSED_LOST);
        return;
    }
    if (code != POOL_INSUFFICIENT_VRAM)
        fail_msg("%s: %s", pool_code_name(code), err->message);
    const struct pool_detail *elsewhere = pool_error_detail(err, "elsewhere_bytes");
    int64_t taken = number_of(err, "pending_bytes") + number_of(err, "headroom_bytes");
    assert_true(!elsewhere || one->is_alone_in_state);
    taken += elsewhere ? elsewhere->number : 0;
    int64_t available = number_of(err, "available_vram_bytes"),
            needed = number_of(err, "required_vram_bytes");
    assert_true(available == excess_bytes(number_of(err, "free_bytes"), taken) && needed > available);
    count(TWO_REFUSED_FULL);
    if (elsewhere && needed <= available + elsewhere->number)
        count(TWO_REFUSED_FOR_THE_OTHER);
}

/* ---- steps ---- */

static struct two_worker *find_free(struct one *one)
{
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++) {
        if (!scene->workers[one->who][i].is_there)
            return &scene->workers[one->who][i];
    }
    return NULL;
}

static struct two_worker *pick(struct one *one)
{
    size_t at = (size_t)random_below(&one->chance, MODEL_WORKERS_MAX);
    for (size_t i = 0; i < MODEL_WORKERS_MAX; i++) {
        struct two_worker *worker = &scene->workers[one->who][(at + i) % MODEL_WORKERS_MAX];
        if (worker->is_there)
            return worker;
    }
    return NULL;
}

static struct pool_worker_spawn_request *make_request(struct one *one, const char *id, int device,
                                                      bool is_split)
{
    struct pool_worker_spawn_request *request = ground_request(one->chance.ground, "sleeper", id, "");
    int64_t mib = 1 + random_below(&one->chance, is_split ? 500 : 350);
    request->required_vram_bytes = (struct pool_reading){ true, mib * GROUND_MIB };
    if (!is_split) {
        request->gpu_id = strdup(device < 0 ? "auto" : uuids[device]);
        return request;
    }
    request->gpu_ids = calloc(3, sizeof(char *));
    assert_non_null(request->gpu_ids);
    request->gpu_ids[0] = strdup(uuids[0]);
    request->gpu_ids[1] = strdup(uuids[1]);
    request->n_gpu_ids = 2;
    request->split = strdup("1,1");
    return request;
}

static void start(struct one *one)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *row = NULL;
    struct two_worker *worker = find_free(one), started = { .is_there = true };
    bool is_split = random_below(&one->chance, 5) == 0;
    int device = (int)random_below(&one->chance, 3) - 1;
    if (!worker)
        return;
    snprintf(started.id, sizeof started.id, "p%d-w%" PRId64, one->who, one->chance.n_ids++);
    struct pool_worker_spawn_request *request = make_request(one, started.id, device, is_split);
    enum pool_code code = ground_try_spawn(one->chance.manager, request, &err);
    pool_worker_spawn_request_free(request);
    if (code != POOL_OK) {
        check_refused(one, code, &err);
        return;
    }
    assert_int_equal(pool_manager_row(one->chance.manager, started.id, &row, &err), POOL_OK);
    started.pid = row->process.pid;
    for (int i = 0; i < 2; i++)
        started.reserved[i] = pool_worker_info_reserved_on(row, uuids[i], NULL);
    pool_worker_info_free(row);
    lock_scene(true);
    *worker = started;
    check_promises();
    lock_scene(false);
    check_explained(&one->chance, started.id, POOL_EXPLAIN_START);
    count(is_split ? TWO_STARTED_SPLIT : device < 0 ? TWO_STARTED_ON_ANY : TWO_STARTED);
}

static void load(struct one *one, struct two_worker *worker)
{
    lock_scene(true);
    for (int i = 0; i < 2; i++) {
        int64_t before = listed_bytes(&scene->world.gpus[i], worker->pid);
        int64_t bytes = random_below(&one->chance, worker->reserved[i] + 1);
        if (worker->reserved[i] == 0)
            continue;
        hold_there(i, worker->pid, bytes);
        count(before == 0 ? TWO_TOOK : bytes > before ? TWO_GREW : TWO_SHRANK);
    }
    lock_scene(false);
}

static void end(struct one *one, struct two_worker *worker, bool is_stop)
{
    struct pool_error err = POOL_ERROR_INIT;
    siginfo_t info;
    lock_scene(true); /* before it ends: whoever is admitted afterwards is right */
    worker->is_there = false;
    lock_scene(false);
    if (is_stop &&
        ground_stop_as(one->chance.manager, worker->id, 0, false, false, -1, NULL, &err) != POOL_OK)
        fail_msg("%s", err.message);
    kill((pid_t)worker->pid, SIGKILL);
    /* The other manager may be the one to settle it, and could not reap it. */
    assert_int_equal(waitid(P_PID, (id_t)worker->pid, &info, WEXITED), 0);
    lock_scene(true);
    for (int i = 0; i < 2; i++)
        hold_there(i, worker->pid, 0);
    lock_scene(false);
    count(is_stop ? TWO_STOPPED : TWO_CRASHED);
}

static void foreign_give(struct one *one)
{
    int device = (int)random_below(&one->chance, 2);
    lock_scene(true);
    scene->foreign[device] -= random_below(&one->chance, scene->foreign[device] / 4 + 1);
    hold_there(device, FOREIGN_PID, scene->foreign[device]);
    lock_scene(false);
    count(TWO_FOREIGN_GAVE);
}

static void change_driver(struct one *one)
{
    int mood = (int)random_below(&one->chance, 8);
    lock_scene(true);
    for (int i = 0; i < 2; i++) {
        struct memory_gpu *gpu = &scene->world.gpus[i];
        gpu->are_processes_known = mood != 0;
        gpu->are_bytes_hidden = mood == 1;
        gpu->less_free_bytes = mood == 2 ? LIE_LOW : 0;
        gpu->is_lost = mood == 3 && i == one->who;
    }
    lock_scene(false);
    count(mood < 4 ? TWO_LIED : TWO_LIE_ENDED);
}

static struct pool_manager *open_manager(const struct ground *where, struct pool_gpu_inventory *inventory)
{
    struct pool_manager *manager = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_manager_options options = { .struct_size = sizeof options,
                                            .environment = ground_environment,
                                            .gpu_inventory = inventory,
                                            .is_unrestricted = true };
    if (pool_manager_open(where->config, &options, &manager, &err) != POOL_OK)
        fail_msg("%s", err.message);
    return manager;
}

static void be_one(struct one *one, int64_t n)
{
    struct pool_gpu_inventory *inventory = memory_inventory_open(&scene->world);
    one->chance.manager = open_manager(one->chance.ground, inventory);
    for (int64_t i = 0; i < n; i++) {
        int64_t what = random_below(&one->chance, 100);
        struct two_worker *worker = pick(one);
        if (what < 48)
            start(one);
        else if (what < 50)
            foreign_give(one);
        else if (what < 54)
            change_driver(one);
        else if (worker && what < 74)
            load(one, worker);
        else if (worker)
            end(one, worker, what < 87);
    }
    pool_manager_close(one->chance.manager);
    pool_gpu_inventory_close(inventory);
}

/* ---- the whole of it ---- */

static void run_both(const struct ground *grounds[2], uint64_t seed, int64_t n)
{
    pid_t pids[2];
    for (int who = 0; who < 2; who++) {
        pids[who] = ground_fork();
        if (pids[who] != 0)
            continue;
        static struct one one;
        one = (struct one){ .who = who, .is_alone_in_state = grounds[0] != grounds[1] };
        one.chance.ground = (struct ground *)grounds[who];
        one.chance.random = seed + (uint64_t)who;
        be_one(&one, n);
        _exit(0);
    }
    for (int who = 0; who < 2; who++) {
        siginfo_t info = { 0 };
        assert_int_equal(waitid(P_PID, (id_t)pids[who], &info, WEXITED), 0);
        assert_true(info.si_code == CLD_EXITED && info.si_status == 0);
    }
}

/* All ends; whoever looks next finds everything available, whatever the others left in their registries. */
static void check_all_comes_back(const struct ground *grounds[2])
{
    for (size_t i = 0; i < 2 * MODEL_WORKERS_MAX; i++) {
        struct one nobody = { .who = 0 };
        struct two_worker *worker = &scene->workers[i / MODEL_WORKERS_MAX][i % MODEL_WORKERS_MAX];
        if (worker->is_there)
            end(&nobody, worker, false);
    }
    for (int i = 0; i < 2; i++)
        scene->world.gpus[i] = (struct memory_gpu){
            .uuid = uuids[i], .total_bytes = TOTAL, .free_bytes = TOTAL, .are_processes_known = true
        };
    for (int who = 0; who < 2; who++) {
        struct pool_error err = POOL_ERROR_INIT;
        struct pool_status_response *status = NULL;
        struct pool_gpu_inventory *inventory = memory_inventory_open(&scene->world);
        struct pool_manager *manager = open_manager(grounds[who], inventory);
        assert_int_equal(pool_manager_status(manager, &status, &err), POOL_OK);
        assert_int_equal(status->workers->n_workers, 0);
        for (int i = 0; i < 2; i++)
            assert_true(status->ledgers[i].available_bytes == TOTAL - MODEL_HEADROOM);
        pool_status_response_free(status);
        pool_manager_close(manager);
        pool_gpu_inventory_close(inventory);
    }
}

static void report(int64_t n, bool are_states_two)
{
    static const char *const names[] = {
#define X(name) #name,
        TWO_EVENTS(X)
#undef X
    };
    static const bool is_frequent[N_TWO_EVENTS] = {
        [TWO_STARTED] = true, [TWO_STARTED_ON_ANY] = true, [TWO_REFUSED_FULL] = true,
        [TWO_TOOK] = true,    [TWO_STOPPED] = true,        [TWO_CRASHED] = true
    };
    bool is_complete = true;
    print_message("2 x %" PRId64 " steps\n", n);
    for (int i = 0; i < N_TWO_EVENTS; i++) {
        bool is_possible = i != TWO_REFUSED_FOR_THE_OTHER || are_states_two;
        bool is_due = is_possible && n >= (is_frequent[i] ? 100 : 600);
        print_message("  %s: %" PRId64 "%s\n", names[i], scene->n_events[i],
                      is_due && scene->n_events[i] == 0 ? "  NEVER" : "");
        is_complete = is_complete && (!is_due || scene->n_events[i] > 0);
    }
    if (!is_complete)
        fail_msg("something never happened");
}

void two_run(const struct ground *first, const struct ground *second)
{
    const struct ground *grounds[2] = { first, second };
    uint64_t seed = model_seed();
    int64_t n = model_steps() / PART_OF_STEPS;
    make_scene();
    run_both(grounds, seed, n);
    check_all_comes_back(grounds);
    report(n, first != second);
    free_scene();
}
