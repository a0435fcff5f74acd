/*
 * See gpu_processes.h. The note is [{"id": …, "start": CLOCK_BOOTTIME in ns of the worker's start, "pids": […]}, …].
 */
#include "core/lifecycle/gpu_processes.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"

static const char note_name[] = "gpu_processes";

/* An array, empty when there is none that can be read; NULL: no memory. */
static json_t *read_note(const struct pool_manager *manager)
{
    CLEANUP_FREE char *text = NULL;
    struct json_failure failure;
    if (manager->registry &&
        pool_worker_registry_get_note(manager->registry, note_name, &text, NULL) == POOL_OK && text) {
        json_t *list = json_parse(text, strlen(text), &failure);
        if (json_is_array(list))
            return list;
        json_decref(list);
    }
    return json_array();
}

static enum pool_code write_note(struct pool_manager *manager, const json_t *list, struct pool_error *err)
{
    CLEANUP_FREE char *text = NULL;
    if (json_array_size(list) > 0) {
        text = json_print(list);
        if (!text)
            return pool_error_no_memory(err);
    }
    return pool_worker_registry_set_note(manager->registry, note_name, text, err);
}

static bool is_of(const json_t *entry, const struct pool_worker_info *worker)
{
    const char *id = json_string_value(json_object_get(entry, "id"));
    return id && strcmp(id, worker->worker_id) == 0 &&
           json_integer_value(json_object_get(entry, "start")) == worker->created_boottime_ns;
}

static json_t *find_entry(const json_t *list, const struct pool_worker_info *worker, size_t *ret_index)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (is_of(json_array_get(list, i), worker)) {
            *ret_index = i;
            return json_array_get(list, i);
        }
    }
    return NULL;
}

static bool has_pid(const json_t *list, const struct pool_worker_info *worker, int64_t pid)
{
    size_t index = 0;
    const json_t *pids = json_object_get(find_entry(list, worker, &index), "pids");
    for (size_t i = 0; i < json_array_size(pids); i++) {
        if (json_integer_value(json_array_get(pids, i)) == pid)
            return true;
    }
    return false;
}

/* false: no memory. */
static bool add_pid(json_t *list, const struct pool_worker_info *worker, int64_t pid)
{
    size_t index = 0;
    json_t *entry = find_entry(list, worker, &index);
    if (!entry) {
        entry = json_pack("{s:s, s:I, s:[]}", "id", worker->worker_id, "start",
                          (json_int_t)worker->created_boottime_ns, "pids");
        if (json_array_append_new(list, entry) < 0)
            return false;
    }
    json_t *pids = json_object_get(entry, "pids");
    if (json_array_size(pids) >= GPU_PROCESSES_MAX)
        json_array_remove(pids, 0);
    return json_array_append_new(pids, json_integer((json_int_t)pid)) == 0;
}

/* A process beside the main one, whose pid is in the worker's record. */
static const struct pool_worker_info *owner_of(const struct pool_attributed_process *process,
                                               const struct pool_worker_list *live)
{
    for (size_t i = 0; process->worker_id[0] && i < live->n_workers; i++) {
        const struct pool_worker_info *worker = live->workers[i];
        if (strcmp(worker->worker_id, process->worker_id) == 0)
            return worker->process.pid != process->pid ? worker : NULL;
    }
    return NULL;
}

static bool is_anything_new(const json_t *list, const struct pool_attribution *attribution,
                            const struct pool_worker_list *live)
{
    for (size_t i = 0; i < attribution->n_processes; i++) {
        const struct pool_worker_info *worker = owner_of(&attribution->processes[i], live);
        if (worker && !has_pid(list, worker, attribution->processes[i].pid))
            return true;
    }
    return false;
}

/* Those of workers that are gone, whom nobody took. */
static void drop_gone(json_t *list, const struct pool_worker_list *live)
{
    for (size_t i = json_array_size(list); i-- > 0;) {
        bool is_there = false;
        for (size_t k = 0; k < live->n_workers && !is_there; k++)
            is_there = is_of(json_array_get(list, i), live->workers[k]);
        if (!is_there)
            json_array_remove(list, i);
    }
}

static enum pool_code note_locked(struct pool_manager *manager, const struct pool_attribution *attribution,
                                  struct pool_error *err)
{
    CLEANUP(free_worker_list) struct pool_worker_list *live = NULL;
    CLEANUP_JSON json_t *list = read_note(manager);
    enum pool_code code = manager_list_registry(manager, POOL_REGISTRY_LIVE, &live, err);
    if (code != POOL_OK)
        return code;
    if (!list)
        return pool_error_no_memory(err);
    drop_gone(list, live);
    for (size_t i = 0; i < attribution->n_processes; i++) {
        const struct pool_worker_info *worker = owner_of(&attribution->processes[i], live);
        if (worker && !has_pid(list, worker, attribution->processes[i].pid) &&
            !add_pid(list, worker, attribution->processes[i].pid))
            return pool_error_no_memory(err);
    }
    return write_note(manager, list, err);
}

enum pool_code pool_manager_note_processes(struct pool_manager *manager,
                                           const struct pool_attribution *attribution, struct pool_error *err)
{
    CLEANUP(free_worker_list) struct pool_worker_list *live = NULL;
    CLEANUP_JSON json_t *list = read_note(manager);
    enum pool_code code = manager_list_registry(manager, POOL_REGISTRY_LIVE, &live, err);
    if (code != POOL_OK)
        return code;
    if (!is_anything_new(list, attribution, live))
        return POOL_OK;
    code = manager_lock(manager, err);
    if (code != POOL_OK)
        return code;
    code = note_locked(manager, attribution, err);
    state_dir_unlock(&manager->state);
    return code;
}

void gpu_processes_note_tree(struct pool_manager *manager, const struct pool_worker_info *worker)
{
    CLEANUP(process_set_done) struct process_set set = { 0 };
    CLEANUP_JSON json_t *list = NULL;
    bool is_changed = false;
    if (!worker->gpu_uuid || worker->process.pid <= 0 || worker_processes_find(manager, worker, &set) != 0)
        return;
    list = read_note(manager);
    for (size_t i = 0; list && i < set.n; i++) {
        if (set.pids[i] != worker->process.pid && !has_pid(list, worker, set.pids[i]))
            is_changed = add_pid(list, worker, set.pids[i]) || is_changed;
    }
    if (is_changed)
        (void)!write_note(manager, list, NULL);
}

size_t gpu_processes_take(struct pool_manager *manager, const struct pool_worker_info *worker,
                          int64_t pids[GPU_PROCESSES_MAX])
{
    CLEANUP_JSON json_t *list = read_note(manager);
    size_t index = 0, n = 0;
    const json_t *noted = json_object_get(find_entry(list, worker, &index), "pids");
    if (!noted)
        return 0;
    for (size_t i = 0; i < json_array_size(noted) && n < GPU_PROCESSES_MAX; i++) {
        int64_t pid = json_integer_value(json_array_get(noted, i));
        if (pid > 0)
            pids[n++] = pid;
    }
    json_array_remove(list, index);
    (void)!write_note(manager, list, NULL);
    return n;
}
