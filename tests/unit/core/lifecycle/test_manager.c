/*
 * Managers: stopping in all its ways, refusals, several managers at once, lost registries, device memory and full
 * disks. How a start becomes ready is in test_ready.c, settling in test_settle.c.
 */
#include "manager_ground.h"

#include <errno.h>
#include <sys/stat.h>

#include <pool/registry.h>

#include "base/cleanup.h"
#include "fake_driver.h"
#include "sample_worker.h"

GROUND_FIXTURE

/* ---- stop ---- */

static void test_a_deaf_worker_is_killed_after_its_grace(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    CLEANUP_WORKER struct pool_worker_info *worker = NULL;
    ground_open(&ground);
    int64_t pid = ground_spawn(&ground, "w", "--ignore-sigterm");
    pool_worker_info_free(ground_wait_ready(&ground, "w"));
    int64_t started_ns = clock_boottime_ns();
    assert_int_equal(ground_stop_as(ground.manager, "w", 200, false, true, -1, &worker, &err), POOL_OK);
    assert_true(clock_boottime_ns() - started_ns >= 200 * NS_PER_MS);
    assert_int_equal(worker->stop_reason, POOL_STOP_REQUESTED);
    assert_int_equal(worker->exit_signal.value, SIGKILL);
    assert_false(ground_is_running(pid));
}

static void test_force_does_not_ask(void **state)
{
    (void)state;
    CLEANUP_WORKER struct pool_worker_info *worker = NULL;
    ground_open(&ground);
    ground_spawn(&ground, "w", "--term-takes-ms 60000");
    pool_worker_info_free(ground_wait_ready(&ground, "w"));
    assert_int_equal(ground_stop_as(ground.manager, "w", 60000, true, true, -1, &worker, NULL), POOL_OK);
    assert_int_equal(worker->exit_signal.value, SIGKILL);
}

static void test_a_slow_end_is_waited_for(void **state)
{
    (void)state;
    ground_open(&ground);
    ground_spawn(&ground, "w", "--term-takes-ms 200");
    pool_worker_info_free(ground_wait_ready(&ground, "w"));
    CLEANUP_WORKER struct pool_worker_info *worker = ground_stop(&ground, "w");
    assert_true(worker->exit_code.is_present && worker->exit_code.value == 0);
}

static void test_a_frozen_worker_can_be_stopped(void **state)
{
    (void)state;
    ground_open(&ground);
    int64_t pid = ground_spawn(&ground, "w", "");
    pool_worker_info_free(ground_wait_ready(&ground, "w"));
    CLEANUP_CLOSE int pidfd = pidfd_open((pid_t)pid, 0);
    assert_int_equal(pidfd_signal(pidfd, SIGSTOP), 0);
    CLEANUP_WORKER struct pool_worker_info *worker = ground_stop(&ground, "w");
    assert_true(worker->exit_code.is_present); /* it was woken up, and ended in order */
}

static void test_grandchildren_go_with_it(void **state)
{
    (void)state;
    static const char *const moods[] = {
        "--grandchildren 2",
        "--grandchildren 2 --grandchildren-leave-session",
        "--grandchildren 2 --grandchildren-leave-session --grandchildren-ignore-sigterm",
        "--grandchildren 2 --grandchildren-ignore-sigterm --ignore-sigterm",
    };
    ground_open(&ground);
    for (size_t i = 0; i < sizeof moods / sizeof moods[0]; i++) {
        ground_spawn(&ground, "w", moods[i]);
        pool_worker_info_free(ground_wait_ready(&ground, "w"));
        assert_int_equal(ground_count_processes(&ground), 3);
        assert_int_equal(ground_stop_as(ground.manager, "w", 300, false, true, -1, NULL, NULL), POOL_OK);
        assert_int_equal(ground_count_processes(&ground), 0);
        assert_int_equal(ground_status(&ground, "w"), POOL_WORKER_STOPPED);
    }
}

static void test_stopping_what_can_not_be_stopped(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    ground_open(&ground);
    assert_int_equal(ground_stop_as(ground.manager, "nobody", -1, false, true, -1, NULL, &err),
                     POOL_WORKER_NOT_FOUND);
    assert_int_equal(ground_stop_as(ground.manager, "../nobody", -1, false, true, -1, NULL, &err),
                     POOL_INVALID_REQUEST);
    ground_spawn(&ground, "w", "");
    pool_worker_info_free(ground_stop(&ground, "w")); /* also one that is not ready yet */
    assert_int_equal(ground_stop_as(ground.manager, "w", -1, false, true, -1, NULL, &err), POOL_CONFLICT);
    assert_false(err.is_retriable);
    ground_spawn(&ground, "w", ""); /* its id is free again */
    pool_worker_info_free(ground_stop(&ground, "w"));
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_HISTORY), 2);
}

static void test_a_stop_without_waiting(void **state)
{
    (void)state;
    CLEANUP_WORKER struct pool_worker_info *worker = NULL;
    ground_open(&ground);
    ground_spawn(&ground, "w", "--term-takes-ms 100");
    pool_worker_info_free(ground_wait_ready(&ground, "w"));
    assert_int_equal(ground_stop_as(ground.manager, "w", -1, false, false, -1, &worker, NULL), POOL_OK);
    assert_int_equal(worker->status, POOL_WORKER_STOPPING);
    assert_string_equal(worker->stop_phase, "term");
    GROUND_UNTIL(ground_status(&ground, "w") == POOL_WORKER_STOPPED);
    CLEANUP_WORKER struct pool_worker_info *gone = ground_get(&ground, "w");
    assert_int_equal(gone->stop_reason, POOL_STOP_REQUESTED); /* it was asked to: not lost */
    assert_null(gone->stop_phase);
}

static void test_a_stop_can_be_cancelled_and_taken_up_again(void **state)
{
    (void)state;
    int cancel[2];
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(pipe2(cancel, O_CLOEXEC), 0);
    assert_int_equal(write(cancel[1], "x", 1), 1);
    ground_open(&ground);
    int64_t pid = ground_spawn(&ground, "w", "--ignore-sigterm");
    pool_worker_info_free(ground_wait_ready(&ground, "w"));
    assert_int_equal(ground_stop_as(ground.manager, "w", 60000, false, true, cancel[0], NULL, &err),
                     POOL_CANCELLED);
    close(cancel[0]);
    close(cancel[1]);
    assert_true(ground_is_running(pid));
    assert_int_equal(ground_status(&ground, "w"), POOL_WORKER_STOPPING);
    assert_int_equal(ground_stop_as(ground.manager, "w", -1, true, true, -1, NULL, &err), POOL_OK);
    assert_false(ground_is_running(pid));
}

/* Killed by somebody else in the midst of its stop. */
static void test_killed_while_it_stops(void **state)
{
    (void)state;
    ground_open(&ground);
    int64_t pid = ground_spawn(&ground, "w", "--ignore-sigterm");
    pool_worker_info_free(ground_wait_ready(&ground, "w"));
    CLEANUP_CLOSE int pidfd = pidfd_open((pid_t)pid, 0);
    pid_t killer = ground_fork();
    if (killer == 0) {
        poll(NULL, 0, 150);
        _exit(pidfd_signal(pidfd, SIGKILL));
    }
    CLEANUP_WORKER struct pool_worker_info *worker = NULL;
    assert_int_equal(ground_stop_as(ground.manager, "w", 600000, false, true, -1, &worker, NULL), POOL_OK);
    assert_int_equal(worker->exit_signal.value, SIGKILL);
    assert_int_equal(worker->stop_reason, POOL_STOP_REQUESTED);
}

static void test_two_stop_the_same(void **state)
{
    (void)state;
    pid_t others[3];
    ground_open(&ground);
    ground_spawn(&ground, "w", "--term-takes-ms 150");
    pool_worker_info_free(ground_wait_ready(&ground, "w"));
    ground_close(&ground);
    for (int i = 0; i < 3; i++) {
        others[i] = ground_fork();
        if (others[i] == 0) {
            ground_open(&ground);
            enum pool_code code = ground_stop_as(ground.manager, "w", -1, false, true, -1, NULL, NULL);
            _exit(code == POOL_OK || code == POOL_CONFLICT ? 0 : 1);
        }
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(ground_wait_child(others[i]), 0);
    ground_open(&ground);
    assert_int_equal(ground_status(&ground, "w"), POOL_WORKER_STOPPED);
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_HISTORY), 1);
}

/* ---- check and refusals ---- */

static void test_a_check_starts_nothing(void **state)
{
    (void)state;
    struct pool_plan *plan = NULL;
    ground_open(&ground);
    struct pool_worker_spawn_request *request = ground_request(&ground, "fake_gpu", "w", "--say hello");
    request->gpu_id = strdup("auto");
    enum pool_code code = pool_manager_check(ground.manager, request, &plan, NULL);
    pool_worker_spawn_request_free(request);
    assert_int_equal(code, POOL_OK);
    assert_string_equal(plan->worker_id, "w");
    assert_string_equal(plan->gpu_uuid, GROUND_GPU_2); /* the tightest fit */
    assert_int_equal(plan->reserved_bytes, GROUND_MIB);
    assert_string_equal(plan->reserved_source, "request");
    assert_string_equal(plan->argv[0], plan->program);
    pool_plan_free(plan);
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_LIVE), 0);
    assert_int_equal(ground_count_processes(&ground), 0);
}

enum change {
    NOTHING,
    BACKEND,
    MODEL,
    PORT_OUTSIDE,
    GPU_ON_CPU,
    NO_SUCH_GPU,
    TOO_MUCH,
    ARGUMENT,
    VARIABLE,
    ID
};

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        enum change change;
        const char *backend;
        enum pool_code code;
        const char *field;
    } cases[] = {
        { BACKEND, "none", POOL_BACKEND_NOT_FOUND, NULL },
        { NOTHING, "metal", POOL_BACKEND_UNAVAILABLE, NULL },
        { MODEL, "fake", POOL_MODEL_NOT_FOUND, NULL },
        { PORT_OUTSIDE, "fake", POOL_INVALID_REQUEST, "port" },
        { GPU_ON_CPU, "fake", POOL_INVALID_REQUEST, "gpu_id" },
        { NO_SUCH_GPU, "fake_gpu", POOL_GPU_NOT_FOUND, "gpu_id" },
        { NOTHING, "fake_gpu", POOL_INVALID_REQUEST, "gpu_id" }, /* two, and none named */
        { TOO_MUCH, "fake", POOL_INSUFFICIENT_MEMORY, NULL },
        { ARGUMENT, "fake", POOL_INVALID_REQUEST, "extra_args[0]" },
        { VARIABLE, "fake", POOL_INVALID_REQUEST, "env.LD_PRELOAD" },
        { ID, "fake", POOL_INVALID_REQUEST, "worker_id" },
    };
    ground_prepare(&ground);
    assert_int_equal(ground_open_as(&ground, false, false, &ground.manager, NULL), POOL_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_error err = POOL_ERROR_INIT;
        enum change change = cases[i].change;
        struct pool_worker_spawn_request *request = ground_request(
            &ground, cases[i].backend, "w", change == ARGUMENT ? "--vram-claims /etc" : "--say x");
        if (change == MODEL) {
            free(request->model_ref);
            assert_true(asprintf(&request->model_ref, "file:%s/models/none.gguf", ground.tree.root) > 0);
        } else if (change == PORT_OUTSIDE) {
            request->port = ground.port_last + 1;
        } else if (change == GPU_ON_CPU) {
            request->gpu_id = strdup("0");
        } else if (change == NO_SUCH_GPU) {
            request->gpu_id = strdup("7");
        } else if (change == TOO_MUCH) {
            request->required_vram_bytes.value = INT64_C(1) << 49;
        } else if (change == VARIABLE) {
            request->env = calloc(1, sizeof *request->env);
            assert_non_null(request->env);
            request->n_env = 1;
            request->env[0] = (struct pool_env_var){ strdup("LD_PRELOAD"), strdup("/x.so") };
        } else if (change == ID) {
            free(request->worker_id);
            request->worker_id = strdup("a/b");
        }
        enum pool_code code = ground_try_spawn(ground.manager, request, &err);
        pool_worker_spawn_request_free(request);
        if (code != cases[i].code)
            fail_msg("case %zu: %s: %s", i, pool_code_name(code), err.message);
        if (cases[i].field)
            assert_string_equal(err.field, cases[i].field);
    }
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_LIVE), 0);
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_HISTORY), 0);
}

static void test_an_id_and_a_port_twice(void **state)
{
    (void)state;
    struct pool_error err = POOL_ERROR_INIT;
    ground_open(&ground);
    ground_spawn(&ground, "w", "");
    CLEANUP_WORKER struct pool_worker_info *worker = ground_wait_ready(&ground, "w");
    struct pool_worker_spawn_request *request = ground_request(&ground, "fake", "w", "");
    assert_int_equal(ground_try_spawn(ground.manager, request, &err), POOL_ALREADY_EXISTS);
    assert_string_equal(err.field, "worker_id");
    pool_worker_spawn_request_free(request);
    request = ground_request(&ground, "fake", "other", "");
    request->port = worker->port;
    assert_int_equal(ground_try_spawn(ground.manager, request, &err), POOL_ALREADY_EXISTS);
    assert_string_equal(err.field, "port");
    pool_worker_spawn_request_free(request);
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_LIVE), 1);
}

/* A program that can not be executed: refused, and nothing is left of it. */
static void test_a_program_that_does_not_run(void **state)
{
    (void)state;
    char more[2500], path[1200];
    struct pool_error err = POOL_ERROR_INIT;
    ground_prepare(&ground);
    scratch_tree_write_text(&ground.tree, "engine", "no program\n");
    SCRATCH_PATH(&ground.tree, "engine", path);
    snprintf(more, sizeof more, "[backends.text]\ncommand = [\"%s\", \"{port}\"]\nready.http = \"/health\"\n",
             path);
    ground_configure(&ground, "nvml:", more);
    ground_open(&ground);
    struct pool_worker_spawn_request *request = ground_request(&ground, "text", "w", "");
    enum pool_code not_executable = ground_try_spawn(ground.manager, request, &err);
    assert_int_equal(chmod(path, 0755), 0);
    enum pool_code no_format = ground_try_spawn(ground.manager, request, &err);
    assert_int_equal(unlink(path), 0);
    enum pool_code missing = ground_try_spawn(ground.manager, request, &err);
    pool_worker_spawn_request_free(request);
    assert_int_equal(not_executable, POOL_BACKEND_UNAVAILABLE);
    assert_int_equal(no_format, POOL_BACKEND_UNAVAILABLE);
    assert_int_equal(missing, POOL_BACKEND_UNAVAILABLE);
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_LIVE), 0);
}

/* ---- many ---- */

/* N processes that each try one start at the same moment; how many ran. Each exits with its pool_code. */
static int spawn_at_once(int n, const char *backend, const char *gpu_id, int64_t bytes,
                         enum pool_code refusal)
{
    int go[2], n_started = 0;
    pid_t pids[64];
    assert_true(n <= 64 && pipe2(go, O_CLOEXEC) == 0);
    for (int i = 0; i < n; i++) {
        pids[i] = ground_fork();
        if (pids[i] != 0)
            continue;
        char byte;
        struct pool_error err = POOL_ERROR_INIT;
        close(go[1]);
        ground_open(&ground);
        struct pool_worker_spawn_request *request = ground_request(&ground, backend, NULL, "");
        request->gpu_id = gpu_id ? strdup(gpu_id) : NULL;
        request->required_vram_bytes.value = bytes;
        (void)!read(go[0], &byte, 1);
        enum pool_code code = ground_try_spawn(ground.manager, request, &err);
        if (code != POOL_OK && code != refusal)
            print_error("%s: %s\n", pool_code_name(code), err.message);
        _exit((int)code);
    }
    close(go[0]);
    close(go[1]);
    for (int i = 0; i < n; i++) {
        int code = ground_wait_child(pids[i]);
        assert_true(code == POOL_OK || code == (int)refusal);
        n_started += code == POOL_OK;
    }
    return n_started;
}

static void test_twenty_at_once_share_nothing(void **state)
{
    (void)state;
    enum { N = 20 };
    ground_prepare(&ground);
    assert_int_equal(spawn_at_once(N, "fake", NULL, GROUND_MIB, POOL_OK), N);
    ground_open(&ground);
    struct pool_worker_list *list = NULL;
    assert_int_equal(pool_manager_list_workers(ground.manager, POOL_REGISTRY_LIVE, &list, NULL), POOL_OK);
    size_t n = list->n_workers;
    bool is_shared = false;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = i + 1; k < n; k++)
            is_shared = is_shared || list->workers[i]->port == list->workers[k]->port ||
                        strcmp(list->workers[i]->worker_id, list->workers[k]->worker_id) == 0;
    }
    pool_worker_list_free(list);
    assert_int_equal(n, N);
    assert_false(is_shared);
    assert_int_equal(ground_count_processes(&ground), N);
}

static void test_device_memory_is_given_once(void **state)
{
    (void)state;
    ground_prepare(&ground);
    /* 1 GiB: room for five of 200 MiB. */
    assert_int_equal(spawn_at_once(12, "fake_gpu", "0", 200 * GROUND_MIB, POOL_INSUFFICIENT_VRAM), 5);
    ground_open(&ground);
    struct pool_status_response *status = NULL;
    assert_int_equal(pool_manager_status(ground.manager, &status, NULL), POOL_OK);
    assert_int_equal(status->n_ledgers, 3);
    struct pool_ledger first = status->ledgers[0], second = status->ledgers[1], host = status->ledgers[2];
    int64_t n_ports_free = status->n_ports_free;
    pool_status_response_free(status);
    assert_string_equal(first.device, GROUND_GPU);
    assert_int_equal(first.allocated_bytes, 1000 * GROUND_MIB);
    assert_int_equal(first.available_bytes, 24 * GROUND_MIB);
    assert_int_equal(first.n_workers, 5);
    assert_int_equal(second.available_bytes, 512 * GROUND_MIB);
    assert_string_equal(host.device, "host");
    assert_int_equal(host.n_workers, 0);
    assert_int_equal(n_ports_free, 45);
}

/* What a worker really takes is seen through the driver, and counted once. */
static void test_taken_device_memory_is_seen(void **state)
{
    (void)state;
    static struct fake_driver driver;
    char world[1500], words[1300];
    struct pool_status_response *status = NULL;
    ground_prepare(&ground);
    assert_true(fake_driver_start(&driver));
    snprintf(world, sizeof world,
             "[driver]\nclaims = %s/claims\n[gpu 0]\nuuid = %s\ntotal = 1GiB\nreserved = 0\n",
             ground.tree.root, GROUND_GPU);
    scratch_tree_write_text(&ground.tree, "claims/.keep", "");
    bool is_set = fake_driver_set(&driver, world);
    ground_configure(&ground, driver.url, "");
    ground_open(&ground);
    snprintf(words, sizeof words, "--vram-claims %s/claims --vram visible:300MiB", ground.tree.root);
    struct pool_worker_spawn_request *request = ground_request(&ground, "fake_gpu", "w", words);
    request->required_vram_bytes.value = 400 * GROUND_MIB;
    enum pool_code code = ground_try_spawn(ground.manager, request, NULL);
    if (code == POOL_OK)
        pool_worker_info_free(ground_wait_ready(&ground, "w"));
    enum pool_code status_code = pool_manager_status(ground.manager, &status, NULL);
    free(request->worker_id);
    request->worker_id = strdup("too-much");
    request->required_vram_bytes.value = 700 * GROUND_MIB;
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_code refusal = ground_try_spawn(ground.manager, request, &err);
    pool_worker_spawn_request_free(request);
    ground_close(&ground);
    fake_driver_end(&driver);
    assert_true(is_set);
    assert_int_equal(code, POOL_OK);
    assert_int_equal(status_code, POOL_OK);
    struct pool_ledger ledger = status->ledgers[0];
    int64_t observed = status->workers->workers[0]->observed_bytes.value;
    pool_status_response_free(status);
    assert_int_equal(observed, 300 * GROUND_MIB);
    assert_int_equal(ledger.used_bytes, 300 * GROUND_MIB);
    assert_int_equal(ledger.foreign_bytes, 0);
    assert_int_equal(ledger.pending_bytes, 100 * GROUND_MIB);
    assert_int_equal(ledger.available_bytes, 624 * GROUND_MIB);
    assert_int_equal(refusal, POOL_INSUFFICIENT_VRAM);
    assert_int_equal(pool_error_detail(&err, "available_vram_bytes")->number, 624 * GROUND_MIB);
}

/* ---- managers ---- */

static void test_workers_outlive_managers(void **state)
{
    (void)state;
    ground_open(&ground);
    int64_t pid = ground_spawn(&ground, "w", "");
    ground_close(&ground);
    ground_open(&ground);
    CLEANUP_WORKER struct pool_worker_info *worker = ground_wait_ready(&ground, "w");
    assert_int_equal(worker->process.pid, pid);
    struct pool_manager *second = NULL;
    assert_int_equal(ground_open_as(&ground, false, true, &second, NULL), POOL_OK);
    enum pool_code code = ground_stop_as(second, "w", -1, false, true, -1, NULL, NULL);
    pool_manager_close(second);
    assert_int_equal(code, POOL_OK);
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_LIVE), 0);
}

static void test_a_daemon_and_commands(void **state)
{
    (void)state;
    struct pool_manager *daemon_manager = NULL, *other = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    ground_prepare(&ground);
    assert_int_equal(ground_open_as(&ground, true, true, &daemon_manager, &err), POOL_OK);
    enum pool_code command = ground_open_as(&ground, false, true, &other, &err);
    pool_manager_close(daemon_manager);
    assert_int_equal(command, POOL_CONFLICT);
    assert_null(other);
    assert_int_equal(ground_open_as(&ground, false, true, &other, &err), POOL_OK);
    pool_manager_close(other);
}

/* Two workers run, the registry is lost: the next manager finds them, and nobody else's. */
static void lose_registry(const char *garbage)
{
    char path[1200], wal[1300];
    ground_open(&ground);
    int64_t first = ground_spawn(&ground, "first", "");
    ground_spawn(&ground, "second", "--grandchildren 2 --grandchildren-leave-session");
    CLEANUP_WORKER struct pool_worker_info *before = ground_wait_ready(&ground, "first");
    pool_worker_info_free(ground_wait_ready(&ground, "second"));
    assert_string_equal(pool_manager_notice(ground.manager), "");
    ground_close(&ground);
    snprintf(path, sizeof path, "%s/pool.db", ground.state_dir);
    assert_int_equal(unlink(path), 0);
    snprintf(wal, sizeof wal, "%s-wal", path);
    unlink(wal);
    if (garbage)
        scratch_tree_write_text(&ground.tree, "state/pool.db", garbage);
    ground_open(&ground);
    assert_non_null(strstr(pool_manager_notice(ground.manager), "2 running workers"));
    assert_int_equal(ground_count(&ground, POOL_REGISTRY_LIVE), 2);
    CLEANUP_WORKER struct pool_worker_info *worker = ground_wait_ready(&ground, "first");
    assert_int_equal(worker->process.pid, first);
    assert_int_equal(worker->port, before->port);
    assert_string_equal(worker->uri, before->uri);
    assert_string_equal(worker->model_path, before->model_path);
    assert_int_equal(worker->reserved_bytes, before->reserved_bytes);
    assert_int_equal(worker->created_wall_ms, before->created_wall_ms);
    pool_worker_info_free(ground_stop(&ground, "first"));
    pool_worker_info_free(ground_stop(&ground, "second"));
    assert_int_equal(ground_count_processes(&ground), 0);
}

static void test_a_removed_registry_is_rebuilt(void **state)
{
    (void)state;
    lose_registry(NULL);
}

static void test_a_corrupt_registry_is_set_aside_and_rebuilt(void **state)
{
    (void)state;
    static char garbage[8192];
    memset(garbage, 'x', sizeof garbage - 1);
    memcpy(garbage, "SQLite format 3", 15);
    lose_registry(garbage);
    size_t n_aside = 0;
    DIR *directory = opendir(ground.state_dir);
    struct dirent *entry;
    while (directory && (entry = readdir(directory)))
        n_aside += strncmp(entry->d_name, "pool.db.corrupt-", 16) == 0;
    closedir(directory);
    assert_true(n_aside >= 1);
}

/* ---- full disks ---- */

static void fill_disk(void)
{
    char path[1200];
    static const char chunk[1024];
    snprintf(path, sizeof path, "%s/ballast", ground.state_dir);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    setvbuf(file, NULL, _IONBF, 0);
    while (fwrite(chunk, 1, sizeof chunk, file) == sizeof chunk) {
    }
    fclose(file);
}

/* A start is refused at whatever step the disk is full, and a stop works all the same. */
static void test_a_full_disk(void **state)
{
    (void)state;
    char path[1200];
    struct pool_error err = POOL_ERROR_INIT;
    ground_prepare(&ground);
    if (!ground_mount(&ground, "512k")) {
        print_message("[  SKIPPED ] a small file system can not be mounted here: %s\n", strerror(errno));
        skip();
    }
    ground_open(&ground);
    int64_t pid = ground_spawn(&ground, "w", "");
    pool_worker_info_free(ground_wait_ready(&ground, "w"));
    fill_disk();
    struct pool_worker_spawn_request *request = ground_request(&ground, "fake", "refused", "");
    enum pool_code refused = ground_try_spawn(ground.manager, request, &err);
    pool_worker_spawn_request_free(request);
    size_t n_processes = ground_count_processes(&ground);
    struct pool_error stop_err = POOL_ERROR_INIT;
    enum pool_code stopped = ground_stop_as(ground.manager, "w", -1, false, true, -1, NULL, &stop_err);
    bool is_running = ground_is_running(pid);
    snprintf(path, sizeof path, "%s/ballast", ground.state_dir);
    unlink(path);
    enum pool_worker_status status = ground_status(&ground, "w");
    size_t n_live = ground_count(&ground, POOL_REGISTRY_LIVE);
    ground_close(&ground);
    assert_int_equal(refused, POOL_INSUFFICIENT_DISK);
    assert_int_equal(n_processes, 1);
    assert_true(stopped == POOL_OK || stopped == POOL_INSUFFICIENT_DISK ||
                stopped == POOL_REGISTRY_UNAVAILABLE);
    assert_false(is_running);
    assert_int_equal(status, POOL_WORKER_STOPPED);
    assert_int_equal(n_live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GROUND_TEST(test_a_deaf_worker_is_killed_after_its_grace),
        GROUND_TEST(test_force_does_not_ask),
        GROUND_TEST(test_a_slow_end_is_waited_for),
        GROUND_TEST(test_a_frozen_worker_can_be_stopped),
        GROUND_TEST(test_grandchildren_go_with_it),
        GROUND_TEST(test_stopping_what_can_not_be_stopped),
        GROUND_TEST(test_a_stop_without_waiting),
        GROUND_TEST(test_a_stop_can_be_cancelled_and_taken_up_again),
        GROUND_TEST(test_killed_while_it_stops),
        GROUND_TEST(test_two_stop_the_same),
        GROUND_TEST(test_a_check_starts_nothing),
        GROUND_TEST(test_refusals),
        GROUND_TEST(test_an_id_and_a_port_twice),
        GROUND_TEST(test_a_program_that_does_not_run),
        GROUND_TEST(test_twenty_at_once_share_nothing),
        GROUND_TEST(test_device_memory_is_given_once),
        GROUND_TEST(test_taken_device_memory_is_seen),
        GROUND_TEST(test_workers_outlive_managers),
        GROUND_TEST(test_a_daemon_and_commands),
        GROUND_TEST(test_a_removed_registry_is_rebuilt),
        GROUND_TEST(test_a_corrupt_registry_is_set_aside_and_rebuilt),
        GROUND_TEST(test_a_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
