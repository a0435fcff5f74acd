/*
 * A ground for tests of managers: a state directory, a small model, GPUs from a file, a configuration with the fake
 * worker as its engine, and the certainty that no process is left behind. The test program makes itself the reaper of
 * its orphans, so that whatever a worker leaves becomes its child, which ground_end kills and reaps by its pidfd.
 */
#ifndef MANAGER_GROUND_H
#define MANAGER_GROUND_H

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <pool/lifecycle.h>

#include "base/clock.h"
#include "core/lifecycle/process.h"
#include "gguf_writer.h"
#include "scratch_tree.h"

#define GROUND_MIB    (INT64_C(1) << 20)
#define GROUND_GPU    "GPU-00000000-0000-4000-8000-000000000001"
#define GROUND_GPU_2  "GPU-00000000-0000-4000-8000-000000000002"
#define GROUND_WAIT_S 15

struct ground {
    struct scratch_tree tree;
    bool is_mounted; /* the state directory is a file system of its own */
    char state_dir[1100];
    char model_ref[1300]; /* "file:…" */
    int64_t port_first, port_last;
    struct pool_config *config;
    struct pool_manager *manager;
};

static const char *const ground_environment[] = { "PATH=/usr/bin:/bin", "HOME=/nonexistent", NULL };

/* ---- processes ---- */

/* Kills and reaps every child and orphan of this program. */
static inline void ground_kill_children(void)
{
    bool is_found = true;
    while (is_found) {
        is_found = false;
        DIR *directory = opendir("/proc");
        if (!directory)
            return;
        struct dirent *entry;
        while ((entry = readdir(directory))) {
            struct process_stat stat;
            char *end;
            long pid = strtol(entry->d_name, &end, 10);
            if (pid <= 1 || *end != '\0' || process_stat_read(pid, &stat) != 0 || stat.ppid != getpid())
                continue;
            int pidfd = pidfd_open((pid_t)pid, 0);
            siginfo_t info;
            if (pidfd >= 0) {
                pidfd_signal(pidfd, SIGKILL);
                waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED);
                close(pidfd);
            }
            is_found = true;
        }
        closedir(directory);
    }
}

/* Whether a process runs: a zombie does not. */
static inline bool ground_is_running(int64_t pid)
{
    struct process_stat stat;
    return pid > 0 && process_stat_read(pid, &stat) == 0 && stat.state != 'Z' && stat.state != 'X';
}

/* How many processes carry the state id of this ground, in whatever session. */
static inline size_t ground_count_processes(const struct ground *ground)
{
    char path[1200], id[64] = "";
    snprintf(path, sizeof path, "%s/state-id", ground->state_dir);
    FILE *file = fopen(path, "re");
    if (!file || !fgets(id, sizeof id, file))
        id[0] = '\0';
    if (file)
        fclose(file);
    id[strcspn(id, "\n")] = '\0';
    size_t n = 0;
    DIR *directory = id[0] ? opendir("/proc") : NULL;
    struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        char *end;
        long pid = strtol(entry->d_name, &end, 10);
        if (pid <= 1 || *end != '\0' || !ground_is_running(pid))
            continue;
        char *value = process_environment_value((pid_t)pid, "POOL_STATE_ID");
        n += value && strcmp(value, id) == 0;
        free(value);
    }
    if (directory)
        closedir(directory);
    return n;
}

/* Reads bytes from a descriptor, at most for the deadline; how many came. */
static inline size_t ground_read(int fd, void *data, size_t n)
{
    size_t have = 0;
    while (have < n) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        if (poll(&p, 1, GROUND_WAIT_S * 1000) <= 0)
            break;
        ssize_t got = read(fd, (char *)data + have, n - have);
        if (got <= 0)
            break;
        have += (size_t)got;
    }
    return have;
}

/* fork, with a child in which a failed assertion ends the child, and not its copy of the test alone. */
static inline pid_t ground_fork(void)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        setenv("CMOCKA_TEST_ABORT", "1", 1);
    return pid;
}

/* The exit code of a child within the deadline, -1 when it ends otherwise. */
static inline int ground_wait_child(pid_t pid)
{
    int pidfd = pidfd_open(pid, 0);
    siginfo_t info = { 0 };
    if (pidfd < 0)
        return -1;
    if (pidfd_wait(pidfd, -1, GROUND_WAIT_S * 1000) != PIDFD_ENDED)
        pidfd_signal(pidfd, SIGKILL);
    waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED);
    close(pidfd);
    return info.si_code == CLD_EXITED ? info.si_status : -1;
}

/* A condition of other processes that have no event for it: asked again and again until the deadline. */
#define GROUND_UNTIL(condition)                                                     \
    do {                                                                            \
        int64_t until_ns_ = clock_boottime_ns() + GROUND_WAIT_S * NS_PER_SEC;       \
        bool is_met_ = false;                                                       \
        while (!is_met_ && clock_boottime_ns() < until_ns_) {                       \
            is_met_ = (condition);                                                  \
            if (!is_met_)                                                           \
                poll(NULL, 0, 2);                                                   \
        }                                                                           \
        if (!is_met_)                                                               \
            fail_msg("within %d s never came true: %s", GROUND_WAIT_S, #condition); \
    } while (0)

/* ---- files ---- */

static inline void ground_write_model(struct ground *ground)
{
    char path[1200];
    struct gguf_writer w;
    scratch_tree_make_parents(&ground->tree, "models/tiny.gguf");
    SCRATCH_PATH(&ground->tree, "models/tiny.gguf", path);
    /* Room for all of it at once: without memory the test shall fail, where the writer would abort. */
    w = (struct gguf_writer){ .capacity = 1 << 16, .alignment = 32, .version = 3, .data = malloc(1 << 16) };
    assert_non_null(w.data);
    gguf_writer_bytes(&w, (const unsigned char[GGUF_WRITER_START]){ 0 }, GGUF_WRITER_START);
    gguf_writer_small_llama(&w, 2);
    gguf_writer_finish(&w);
    gguf_writer_save(&w, path);
    gguf_writer_done(&w);
    snprintf(ground->model_ref, sizeof ground->model_ref, "file:%s", path);
}

/*
 * Writes the configuration and loads it. more: TOML behind the rest, with tables of its own. Whatever a test forgets
 * ends by itself: --crash-after-ms and --helper-life-ms.
 */
static inline void ground_configure(struct ground *ground, const char *inventory, const char *more)
{
    const char *build = getenv("POOL_BUILD_DIR");
    char path[1200];
    static char text[16384];
    assert_non_null(build);
    int n =
        snprintf(text, sizeof text,
                 "[pool]\nid = \"ground\"\nstate_dir = \"%s\"\nmodels_dirs = [\"%s/models\"]\ncatalogs = []\n"
                 "[workers]\nport_range = \"%d-%d\"\nstart_timeout_ms = 10000\nstop_grace_ms = 8000\n"
                 "[gpu]\ninventory = \"%s\"\nvram_headroom_bytes = 0\nlock_dir = \"%s/gpu-locks\"\n"
                 "[backends.fake]\ndevice = \"cpu\"\nready.http = \"/health\"\nprotocol = \"openai\"\n"
                 "command = [\"%s/support/fake-worker\", \"-m\", \"{model_path}\", \"--host\", \"{host}\", "
                 "\"--port\", \"{port}\", \"--crash-after-ms\", \"60000\", \"--helper-life-ms\", \"20000\"]\n"
                 "allow_args = [\"--say\", \"--ready-after-ms\"]\nallow_env = [\"ALLOWED\"]\n"
                 "capabilities = [\"completion\", \"chat\"]\n"
                 "[backends.fake_gpu]\nextends = \"fake\"\ndevice = \"gpu\"\n%s",
                 ground->state_dir, ground->tree.root, (int)ground->port_first, (int)ground->port_last,
                 inventory, ground->tree.root, build, more);
    assert_true(n > 0 && (size_t)n < sizeof text);
    scratch_tree_write_text(&ground->tree, "pool.toml", text);
    SCRATCH_PATH(&ground->tree, "pool.toml", path);
    struct pool_config_sources sources = { .struct_size = sizeof sources,
                                           .file = path,
                                           .environment = ground_environment };
    struct pool_error err = POOL_ERROR_INIT;
    pool_config_free(ground->config);
    ground->config = NULL;
    if (pool_config_load(&sources, &ground->config, &err) != POOL_OK)
        fail_msg("%s", err.message);
}

/* Nothing in here can fail for want of memory: cmocka has no teardown after a setup that failed. */
static inline void ground_make(struct ground *ground)
{
    memset(ground, 0, sizeof *ground);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    scratch_tree_make(&ground->tree);
    SCRATCH_PATH(&ground->tree, "state", ground->state_dir);
    /* Below the ephemeral ports, and apart from those of other test programs that run now. */
    ground->port_first = 12000 + getpid() % 400 * 50;
    ground->port_last = ground->port_first + 49;
}

/* Model, configuration, and two GPUs in a file: 1 GiB and 512 MiB, empty. Made when a manager is opened, at the latest. */
static inline void ground_prepare(struct ground *ground)
{
    char inventory[1200];
    ground_write_model(ground);
    scratch_tree_write_text(&ground->tree, "gpus.toml",
                            "[[gpus]]\nuuid = \"" GROUND_GPU "\"\nvram_total_bytes = \"1 GiB\"\n"
                            "[[gpus]]\nuuid = \"" GROUND_GPU_2 "\"\nvram_total_bytes = \"512 MiB\"\n");
    snprintf(inventory, sizeof inventory, "static:%s/gpus.toml", ground->tree.root);
    ground_configure(ground, inventory, "");
}

/* Puts the state directory on a small file system of its own; false where that is not allowed. */
static inline bool ground_mount(struct ground *ground, const char *size)
{
    char options[64];
    snprintf(options, sizeof options, "size=%s,mode=0700", size);
    if (mkdir(ground->state_dir, 0700) < 0 || mount("none", ground->state_dir, "tmpfs", 0, options) < 0)
        return false;
    ground->is_mounted = true;
    return true;
}

static inline enum pool_code ground_open_as(const struct ground *ground, bool is_daemon, bool is_unrestricted,
                                            struct pool_manager **ret_manager, struct pool_error *err)
{
    struct pool_manager_options options = { .struct_size = sizeof options,
                                            .environment = ground_environment,
                                            .is_daemon = is_daemon,
                                            .is_unrestricted = is_unrestricted };
    return pool_manager_open(ground->config, &options, ret_manager, err);
}

static inline void ground_open(struct ground *ground)
{
    struct pool_error err = POOL_ERROR_INIT;
    if (!ground->config)
        ground_prepare(ground);
    if (ground_open_as(ground, false, true, &ground->manager, &err) != POOL_OK)
        fail_msg("%s", err.message);
}

static inline void ground_close(struct ground *ground)
{
    pool_manager_close(ground->manager);
    ground->manager = NULL;
}

static inline void ground_end(struct ground *ground)
{
    ground_close(ground);
    ground_kill_children();
    pool_config_free(ground->config);
    ground->config = NULL;
    if (ground->is_mounted)
        umount2(ground->state_dir, MNT_DETACH);
    ground->is_mounted = false;
    scratch_tree_remove(&ground->tree);
}

/* ---- workers ---- */

/*
 * A request for 1 MiB of the given backend. words: more arguments of the fake worker, split at blanks. The caller
 * frees it.
 */
static inline struct pool_worker_spawn_request *ground_request(const struct ground *ground,
                                                               const char *backend, const char *worker_id,
                                                               const char *words)
{
    struct pool_worker_spawn_request *request = pool_worker_spawn_request_new();
    assert_non_null(request);
    request->backend = strdup(backend);
    request->model_ref = strdup(ground->model_ref);
    request->worker_id = worker_id ? strdup(worker_id) : NULL;
    request->required_vram_bytes = (struct pool_reading){ true, GROUND_MIB };
    request->extra_args = calloc(33, sizeof(char *));
    assert_true(request->backend && request->model_ref && request->extra_args);
    while (*words && request->n_extra_args < 32) {
        size_t n = strcspn(words, " ");
        request->extra_args[request->n_extra_args] = strndup(words, n);
        assert_non_null(request->extra_args[request->n_extra_args]);
        request->n_extra_args++;
        words += n + (words[n] == ' ');
    }
    return request;
}

/* Starts and says how that went; *ret_worker (may be NULL) is its record afterwards. */
static inline enum pool_code ground_try_spawn(struct pool_manager *manager,
                                              const struct pool_worker_spawn_request *request,
                                              struct pool_error *err)
{
    struct pool_worker_spawn_response *response = NULL;
    enum pool_code code = pool_manager_spawn(manager, request, &response, err);
    if (code == POOL_OK && (!response || response->pid <= 0))
        code = POOL_INTERNAL;
    pool_worker_spawn_response_free(response);
    return code;
}

/* Starts a worker of the backend "fake"; the test fails when that does. Its pid. */
static inline int64_t ground_spawn(struct ground *ground, const char *worker_id, const char *words)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_spawn_response *response = NULL;
    struct pool_worker_spawn_request *request = ground_request(ground, "fake", worker_id, words);
    enum pool_code code = pool_manager_spawn(ground->manager, request, &response, &err);
    pool_worker_spawn_request_free(request);
    if (code != POOL_OK)
        fail_msg("%s: %s", pool_code_name(code), err.message);
    int64_t pid = response->pid;
    pool_worker_spawn_response_free(response);
    return pid;
}

/* Waits until it is ready; its record, which the caller frees. */
static inline struct pool_worker_info *ground_wait_ready(struct ground *ground, const char *worker_id)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *worker = NULL;
    enum pool_code code = pool_manager_wait_ready(ground->manager, worker_id, NULL, &worker, &err);
    if (code != POOL_OK)
        fail_msg("%s: %s", pool_code_name(code), err.message);
    return worker;
}

/* The worker as it is now, settled. The caller frees it. */
static inline struct pool_worker_info *ground_get(struct ground *ground, const char *worker_id)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *worker = NULL;
    enum pool_code code = pool_manager_get_worker(ground->manager, worker_id, &worker, &err);
    if (code != POOL_OK)
        fail_msg("%s: %s", pool_code_name(code), err.message);
    return worker;
}

/* Its status as the registry has it after settling. */
static inline enum pool_worker_status ground_status(struct ground *ground, const char *worker_id)
{
    struct pool_worker_info *worker = ground_get(ground, worker_id);
    enum pool_worker_status status = worker->status;
    pool_worker_info_free(worker);
    return status;
}

static inline size_t ground_count(struct ground *ground, enum pool_registry_scope scope)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_list *list = NULL;
    if (pool_manager_list_workers(ground->manager, scope, &list, &err) != POOL_OK)
        fail_msg("%s", err.message);
    size_t n = list->n_workers;
    pool_worker_list_free(list);
    return n;
}

/* grace_ms < 0: the worker's own. *ret_worker may be NULL. */
static inline enum pool_code ground_stop_as(struct pool_manager *manager, const char *worker_id,
                                            int64_t grace_ms, bool is_forced, bool is_waiting, int cancel_fd,
                                            struct pool_worker_info **ret_worker, struct pool_error *err)
{
    struct pool_worker_info *worker = NULL;
    struct pool_worker_stop_request *request = pool_worker_stop_request_new();
    assert_non_null(request);
    request->worker_id = strdup(worker_id);
    assert_non_null(request->worker_id);
    request->grace_ms = (struct pool_reading){ grace_ms >= 0, grace_ms >= 0 ? grace_ms : 0 };
    request->force = is_forced;
    request->wait = is_waiting;
    enum pool_code code = pool_manager_stop(manager, request, cancel_fd, &worker, err);
    pool_worker_stop_request_free(request);
    if (ret_worker)
        *ret_worker = worker;
    else
        pool_worker_info_free(worker);
    return code;
}

/* Stops by the usual way; its last record, which the caller frees. */
static inline struct pool_worker_info *ground_stop(struct ground *ground, const char *worker_id)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_info *worker = NULL;
    enum pool_code code = ground_stop_as(ground->manager, worker_id, -1, false, true, -1, &worker, &err);
    if (code != POOL_OK)
        fail_msg("%s: %s", pool_code_name(code), err.message);
    return worker;
}

/* A line "NAME NUMBER" of a file that a fake worker writes with --timestamps; -1: not there. */
static inline int64_t ground_timestamp(const struct ground *ground, const char *file_name, const char *name)
{
    char path[1200], line[128];
    int64_t value = -1;
    SCRATCH_PATH(&ground->tree, file_name, path);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        size_t n = strlen(name);
        if (strncmp(line, name, n) == 0 && line[n] == ' ')
            value = strtoll(line + n + 1, NULL, 10);
    }
    if (file)
        fclose(file);
    return value;
}

/* For one test each: `GROUND_TEST(test_x)` among the tests, with `static struct ground ground;`. */
#define GROUND_TEST(test) cmocka_unit_test_setup_teardown(test, make_ground, end_ground)
#define GROUND_FIXTURE                   \
    static struct ground ground;         \
    static int make_ground(void **state) \
    {                                    \
        (void)state;                     \
        ground_make(&ground);            \
        return 0;                        \
    }                                    \
    static int end_ground(void **state)  \
    {                                    \
        (void)state;                     \
        ground_end(&ground);             \
        return 0;                        \
    }

#endif
