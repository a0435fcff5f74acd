/*
 * A lost registry, rebuilt from the workers that run: each carries the state directory's random id and a compact
 * copy of its own record in its environment, so that ours are found and nobody else's. One that has overwritten its
 * environment is found by its log: who holds the lock of a log is its worker, and the copy beside the log says which.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/number.h"
#include "core/lifecycle/manager.h"
#include "core/lifecycle/start_record.h"
#include "core/lifecycle/worker_log.h"

/* ---- the copy of a record: X(JSON name, field) ---- */

#define SPEC_TEXTS(X)               \
    X("id", worker_id)              \
    X("backend", backend)           \
    X("model", model_ref)           \
    X("path", model_path)           \
    X("gpu", gpu_uuid)              \
    X("host", host)                 \
    X("uri", uri)                   \
    X("log", log_path)              \
    X("program", program)           \
    X("ready", ready_path)          \
    X("capabilities", capabilities) \
    X("protocol", protocol)         \
    X("learned_key", learned_key)   \
    X("shares", shares)

#define SPEC_NUMBERS(X)                        \
    X("gpu_index", gpu_id)                     \
    X("port", port)                            \
    X("reserved", reserved_bytes)              \
    X("created", created_wall_ms)              \
    X("created_boottime", created_boottime_ns) \
    X("stop_signal", stop_signal)              \
    X("ctx", ctx_size)                         \
    X("parallel", parallel)                    \
    X("start_timeout", start_timeout_ms)       \
    X("idle_timeout", idle_timeout_ms)         \
    X("grace", stop_grace_ms)                  \
    X("estimated", estimated_bytes)

/* Sets and gives the value away; false when memory is out. */
static bool put(json_t *object, const char *name, json_t *value)
{
    return value && json_object_set_new(object, name, value) == 0;
}

char *worker_spec_encode(const struct pool_worker_info *worker)
{
    CLEANUP_JSON json_t *spec = json_object();
    CLEANUP_JSON json_t *labels = json_object();
    bool is_done = spec && labels;
#define PUT_TEXT(name, field) \
    is_done = is_done && (!worker->field || put(spec, name, json_string(worker->field)));
#define PUT_NUMBER(name, field) is_done = is_done && put(spec, name, json_integer(worker->field));
    SPEC_TEXTS(PUT_TEXT)
    SPEC_NUMBERS(PUT_NUMBER)
#undef PUT_TEXT
#undef PUT_NUMBER
    is_done = is_done && put(spec, "activity", json_string(pool_activity_name(worker->activity)));
    for (size_t i = 0; is_done && i < worker->n_labels; i++)
        is_done = put(labels, worker->labels[i].name, json_string(worker->labels[i].value));
    is_done = is_done && json_object_set(spec, "labels", labels) == 0;
    return is_done ? json_print(spec) : NULL;
}

static bool get_text(const json_t *spec, const char *name, char **field)
{
    const char *text = json_string_value(json_object_get(spec, name));
    *field = text ? strdup(text) : NULL;
    return *field || !text;
}

static enum pool_code get_labels(const json_t *spec, struct pool_worker_info *worker, struct pool_error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(spec, "labels"), name, value) {
        const char *text = json_string_value(value);
        enum pool_code code = pool_worker_info_set_label(worker, name, text ? text : "", err);
        if (code != POOL_OK)
            return code;
    }
    return POOL_OK;
}

enum pool_code worker_spec_decode(const char *text, struct pool_worker_info **ret_worker,
                                  struct pool_error *err)
{
    struct json_failure failure;
    CLEANUP_JSON json_t *spec = json_parse(text, strlen(text), &failure);
    if (!spec && failure.is_no_memory)
        return pool_error_no_memory(err);
    if (!json_is_object(spec))
        return pool_error_set(err, POOL_INVALID_REQUEST, "POOL_WORKER_SPEC: not an object");
    CLEANUP(free_worker) struct pool_worker_info *worker = pool_worker_info_new();
    bool is_done = worker;
#define GET_TEXT(name, field) is_done = is_done && get_text(spec, name, &worker->field);
#define GET_NUMBER(name, field) \
    if (is_done)                \
        worker->field = json_integer_value(json_object_get(spec, name));
    SPEC_TEXTS(GET_TEXT)
    SPEC_NUMBERS(GET_NUMBER)
#undef GET_TEXT
#undef GET_NUMBER
    if (!is_done)
        return pool_error_no_memory(err);
    const char *activity = json_string_value(json_object_get(spec, "activity"));
    if (!worker->worker_id || !pool_worker_id_is_valid(worker->worker_id) || !worker->backend ||
        !worker->model_ref || !worker->host || !worker->uri || !worker->log_path || worker->port < 1 ||
        worker->port > 65535 || worker->reserved_bytes < 0 || worker->stop_signal < 1 ||
        worker->stop_signal > 64 || !activity || !pool_activity_from_name(activity, &worker->activity))
        return pool_error_set(err, POOL_INVALID_REQUEST,
                              "POOL_WORKER_SPEC: a field is missing or out of range");
    enum pool_code code = get_labels(spec, worker, err);
    if (code == POOL_OK)
        *ret_worker = take_ptr(&worker);
    return code;
}

/* ---- the search ---- */

static enum pool_code add(struct pool_manager *manager, struct pool_worker_info *worker, size_t *n_workers,
                          struct pool_error *err)
{
    worker->log_identity = worker_log_identity(worker->log_path);
    enum pool_code code = pool_worker_registry_register(manager->registry, worker, err);
    *n_workers += code == POOL_OK;
    return code == POOL_ALREADY_EXISTS ? POOL_OK : code;
}

/* The worker whose main process this is, NULL when it is none of ours. */
static enum pool_code adopt(struct pool_manager *manager, pid_t pid, size_t *n_workers,
                            struct pool_error *err)
{
    CLEANUP(free_worker) struct pool_worker_info *worker = NULL;
    struct process_stat stat;
    if (process_stat_read(pid, &stat) != 0 || stat.session != pid || stat.state == 'Z')
        return POOL_OK;
    CLEANUP_FREE char *state_id = process_environment_value(pid, "POOL_STATE_ID");
    if (!state_id || strcmp(state_id, manager->state.state_id) != 0)
        return POOL_OK;
    CLEANUP_FREE char *spec = process_environment_value(pid, "POOL_WORKER_SPEC");
    CLEANUP_CLOSE int pidfd = pidfd_open(pid, 0);
    if (!spec || pidfd < 0)
        return POOL_OK;
    enum pool_code code = worker_spec_decode(spec, &worker, err);
    if (code != POOL_OK) {
        if (code == POOL_INVALID_REQUEST)
            manager_add_notice(manager, "process %d carries our id and a record that can not be read", pid);
        return code == POOL_INVALID_REQUEST ? POOL_OK : code;
    }
    if (process_identify(&manager->host, pid, pidfd, &worker->process) != 0)
        return POOL_OK;
    return add(manager, worker, n_workers, err);
}

/* Of those who hold the log: the one that leads a session, and the oldest of such. 0: there is none that can be seen. */
static pid_t find_leader(const struct process_set *holders)
{
    struct process_stat oldest = { 0 };
    for (size_t i = 0; i < holders->n; i++) {
        struct process_stat stat;
        if (process_stat_read(holders->pids[i], &stat) == 0 && stat.session == holders->pids[i] &&
            (oldest.pid == 0 || stat.start_time_ticks < oldest.start_time_ticks))
            oldest = stat;
    }
    return (pid_t)oldest.pid;
}

/* A log that is held by somebody who is not in the registry yet. */
static enum pool_code adopt_by_log(struct pool_manager *manager, const char *log_path, size_t *n_workers,
                                   struct pool_error *err)
{
    CLEANUP(free_worker) struct pool_worker_info *worker = NULL;
    CLEANUP(free_worker) struct pool_worker_info *known = NULL;
    CLEANUP(process_set_done) struct process_set holders = { 0 };
    struct process_tree_query query = { 0 };
    if (worker_log_look(log_path, &query.log_device, &query.log_inode) != WORKER_LOG_HELD)
        return POOL_OK;
    enum pool_code code = start_record_read(log_path, &worker, err);
    if (code != POOL_OK)
        return code;
    if (worker && pool_worker_registry_get(manager->registry, worker->worker_id, &known, NULL) == POOL_OK &&
        known->status != POOL_WORKER_STOPPED)
        return POOL_OK;
    process_tree_find(&query, &holders);
    pid_t pid = find_leader(&holders);
    CLEANUP_CLOSE int pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
    bool is_known;
    if (!worker || pidfd < 0 || !process_has_lock(pid, query.log_device, query.log_inode, &is_known) ||
        process_identify(&manager->host, pid, pidfd, &worker->process) != 0) {
        manager_add_notice(manager, "somebody holds %.200s, and can not be told", log_path);
        return POOL_OK;
    }
    return add(manager, worker, n_workers, err);
}

static enum pool_code adopt_by_logs(struct pool_manager *manager, size_t *n_workers, struct pool_error *err)
{
    CLEANUP_FREE char *path = state_dir_path(&manager->state, "logs");
    CLEANUP(close_directory) DIR *directory = path ? opendir(path) : NULL;
    struct dirent *entry;
    enum pool_code code = path ? POOL_OK : pool_error_no_memory(err);
    while (directory && code == POOL_OK && (entry = readdir(directory))) {
        size_t n = strlen(entry->d_name);
        CLEANUP_FREE char *log_path = NULL;
        if (n < 5 || strcmp(entry->d_name + n - 4, ".log") != 0)
            continue;
        if (asprintf(&log_path, "%s/%s", path, entry->d_name) < 0)
            return pool_error_no_memory(err);
        code = adopt_by_log(manager, log_path, n_workers, err);
    }
    return code;
}

enum pool_code rebuild_registry(struct pool_manager *manager, size_t *ret_n_workers, struct pool_error *err)
{
    CLEANUP(close_directory) DIR *directory = opendir("/proc");
    size_t n_workers = 0;
    struct dirent *entry;
    enum pool_code code = POOL_OK;
    while (directory && code == POOL_OK && (entry = readdir(directory))) {
        int64_t pid;
        if (parse_int64(entry->d_name, 1, INT32_MAX, &pid))
            code = adopt(manager, (pid_t)pid, &n_workers, err);
    }
    if (code == POOL_OK)
        code = adopt_by_logs(manager, &n_workers, err);
    if (code == POOL_OK)
        *ret_n_workers = n_workers;
    return code;
}
