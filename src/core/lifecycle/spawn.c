/*
 * A start: snapshot, lock, settle, plan, log, intent, spawn, fact, unlock. A crash between any two steps leaves
 * something that settle.c understands: an unused log, a row without a process, or a row without a pid whose
 * worker holds the lock of its log.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "core/lifecycle/explain.h"
#include "core/lifecycle/presence.h"
#include "core/lifecycle/redact.h"
#include "core/lifecycle/start.h"
#include "core/lifecycle/start_record.h"
#include "core/lifecycle/worker_log.h"

/* Between two looks at memory that is being released. */
#define RELEASE_PAUSE_NS (50 * NS_PER_MS)

/* ---- children ---- */

struct child *manager_find_child(struct pool_manager *manager, const char *worker_id)
{
    struct child *child = manager->children;
    while (child && strcmp(child->worker_id, worker_id) != 0)
        child = child->next;
    return child;
}

static void free_child(struct child *child)
{
    close_fd(&child->pidfd);
    close_fd(&child->promise_fd);
    pool_worker_spawn_request_free(child->request);
    free(child);
}

void manager_forget_child(struct pool_manager *manager, const char *worker_id)
{
    struct child **at = &manager->children;
    while (*at) {
        struct child *child = *at;
        if (strcmp(child->worker_id, worker_id) != 0) {
            at = &child->next;
            continue;
        }
        *at = child->next;
        free_child(child);
    }
}

void manager_free_children(struct pool_manager *manager)
{
    while (manager->children) {
        struct child *child = manager->children;
        manager->children = child->next;
        free_child(child);
    }
}

/* ---- spawn, under the lock ---- */

/* What the manager was given (by systemd, say) is not meant for workers: the kernel may kill them before us. */
static void reset_oom_score(pid_t pid)
{
    char path[48];
    snprintf(path, sizeof path, "/proc/%d/oom_score_adj", pid);
    CLEANUP_CLOSE int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
    char ours[16];
    ssize_t n = fd < 0 ? -1 : read(fd, ours, sizeof ours);
    if (n <= 0 || ours[0] != '-')
        return;
    CLEANUP_CLOSE int theirs = open(path, O_WRONLY | O_CLOEXEC);
    if (theirs >= 0)
        (void)!write(theirs, "0", 1);
}

static enum pool_code refuse_exec(const struct pool_plan *plan, int failure, struct pool_error *err)
{
    bool is_program = failure == ENOENT || failure == EACCES || failure == ENOEXEC || failure == EPERM;
    return pool_error_set_errno(err, is_program ? POOL_BACKEND_UNAVAILABLE : POOL_WORKER_START_FAILED,
                                failure, "%s", plan->program);
}

/* Runs the program and fills the worker's identity. The child is ours and not reaped, so its pid is safe to use. */
static enum pool_code run_program(struct pool_manager *manager, const struct pool_plan *plan, int log_fd,
                                  int promise_fd, struct pool_worker_info *worker, int *ret_pidfd,
                                  struct pool_error *err)
{
    pid_t pid;
    int failure = process_spawn_keeping(plan->argv, plan->environment, log_fd, promise_fd, &pid);
    if (failure)
        return refuse_exec(plan, failure, err);
    CLEANUP_CLOSE int pidfd = pidfd_open(pid, 0);
    failure = pidfd < 0 ? errno : process_identify(&manager->host, pid, pidfd, &worker->process);
    if (failure) {
        kill(-pid, SIGKILL);
        return pool_error_set_errno(err, POOL_INTERNAL, failure, "identity of process %d", pid);
    }
    cgroup_enter(&manager->cgroups, worker, pid);
    reset_oom_score(pid);
    if (manager->descriptors.rlim_max > 0)
        (void)!prlimit(pid, RLIMIT_NOFILE, &manager->descriptors, NULL);
    *ret_pidfd = take_fd(&pidfd);
    return POOL_OK;
}

/* The fact could not be recorded: a worker that nobody will know of must not live. */
static void undo_spawn(struct pool_manager *manager, struct pool_worker_info *worker, int pidfd,
                       const struct pool_error *why)
{
    kill(-(pid_t)worker->process.pid, SIGKILL);
    pidfd_wait(pidfd, -1, 2000);
    struct pool_process_end end = process_end_read(pidfd, worker->process.pid);
    struct pool_death_evidence evidence = { .struct_size = sizeof evidence,
                                            .start_error = why,
                                            .is_ended_by_us = true };
    manager->evidence = &evidence;
    (void)!settle_gone(manager, worker, POOL_STOP_START_FAILED, end, NULL);
    manager->evidence = NULL;
}

enum pool_code start_launch(struct pool_manager *manager, const struct pool_plan *plan,
                            struct pool_worker_info *worker, struct child *child, struct pool_error *err)
{
    CLEANUP_CLOSE int log_fd = -1;
    CLEANUP_CLOSE int pidfd = -1;
    CLEANUP_CLOSE int promise_fd = -1;
    enum pool_code code = promise_make(manager, worker, &promise_fd, err);
    if (code == POOL_OK)
        code = worker_log_create(worker->log_path, &log_fd, &worker->log_identity, err);
    if (code != POOL_OK) {
        promise_remove(manager, worker);
        return code;
    }
    code = worker->revision == 0 ? pool_worker_registry_register(manager->registry, worker, err)
                                 : pool_worker_registry_update(manager->registry, worker, err);
    if (code != POOL_OK) {
        if (worker->revision == 0)
            unlink(worker->log_path);
        promise_remove(manager, worker);
        return code;
    }
    start_record_write(worker, plan);
    code = run_program(manager, plan, log_fd, promise_fd, worker, &pidfd, err);
    if (code != POOL_OK) {
        struct pool_death_evidence evidence = { .struct_size = sizeof evidence, .start_error = err };
        manager->evidence = &evidence;
        (void)!settle_gone(manager, worker, POOL_STOP_START_FAILED, (struct pool_process_end){ 0 }, NULL);
        manager->evidence = NULL;
        return code;
    }
    code = pool_worker_registry_update(manager->registry, worker, err);
    if (code != POOL_OK) {
        undo_spawn(manager, worker, pidfd, err);
        return code;
    }
    promise_update(manager, worker);
    close_fd(&child->pidfd);
    close_fd(&child->promise_fd);
    child->promise_fd = -1;
    child->pidfd = take_fd(&pidfd);
    child->attempts++;
    return POOL_OK;
}

/* ---- the whole of it ---- */

/* All but the pid, which the start will tell. */
static enum pool_code make_response(const struct pool_worker_info *worker,
                                    struct pool_worker_spawn_response **ret_response, struct pool_error *err)
{
    struct pool_worker_spawn_response *response = pool_worker_spawn_response_new();
    if (!response)
        return pool_error_no_memory(err);
    response->worker_id = strdup(worker->worker_id);
    response->uri = strdup(worker->uri);
    response->log_path = strdup(worker->log_path);
    response->gpu_id = worker->gpu_uuid ? strdup(worker->gpu_uuid) : NULL;
    if (!response->worker_id || !response->uri || !response->log_path ||
        (worker->gpu_uuid && !response->gpu_id)) {
        pool_worker_spawn_response_free(response);
        return pool_error_no_memory(err);
    }
    response->status = worker->status;
    response->port = worker->port;
    response->reserved_vram_bytes = worker->gpu_uuid ? worker->reserved_bytes : 0;
    response->reserved_memory_bytes = worker->gpu_uuid ? 0 : worker->reserved_bytes;
    *ret_response = response;
    return POOL_OK;
}

static enum pool_code copy_request(const struct pool_worker_spawn_request *request,
                                   struct pool_worker_spawn_request **ret_copy, struct pool_error *err)
{
    CLEANUP_FREE char *json = NULL;
    enum pool_code code = pool_worker_spawn_request_encode(request, &json, err);
    return code != POOL_OK ? code : pool_worker_spawn_request_decode(json, strlen(json), ret_copy, err);
}

static enum pool_code new_child(const struct pool_worker_spawn_request *request, bool is_unrestricted,
                                struct child **ret_child, struct pool_error *err)
{
    struct child *child = calloc(1, sizeof *child);
    if (!child)
        return pool_error_no_memory(err);
    child->pidfd = -1;
    child->promise_fd = -1;
    child->is_unrestricted = is_unrestricted;
    enum pool_code code = copy_request(request, &child->request, err);
    if (code != POOL_OK) {
        free_child(child);
        return code;
    }
    *ret_child = child;
    return POOL_OK;
}

enum pool_code start_prepare(struct pool_manager *manager, const struct pool_worker_spawn_request *request,
                             struct start_request *ret_start, struct devices *ret_devices,
                             struct pool_error *err)
{
    struct start_context context = { .config = manager->config,
                                     .headers = manager->headers,
                                     .environment = manager->environment,
                                     .state_dir = manager->state.path,
                                     .takes_calls = manager->callback_url != NULL,
                                     .is_unrestricted = manager->is_unrestricted };
    CLEANUP(start_request_done) struct start_request start = START_REQUEST_INIT;
    CLEANUP(free_worker_list) struct pool_worker_list *live = NULL;
    struct pool_gpu_inventory *inventory = NULL;
    enum pool_code code = pool_manager_catalog(manager, &context.catalog, err);
    if (code == POOL_OK)
        code = start_request_prepare(&context, request, &start, err);
    if (code == POOL_MODEL_NOT_FOUND && manager->catalogs.fault[0])
        pool_error_prefix(err, "%s", manager->catalogs.fault);
    if (code == POOL_OK && start.backend->device == POOL_DEVICE_GPU)
        code = manager_inventory(manager, &inventory, err);
    if (code == POOL_OK)
        code = devices_ask(inventory, ret_devices, err);
    if (code == POOL_OK)
        code = manager_list_registry(manager, POOL_REGISTRY_LIVE, &live, err);
    if (code == POOL_OK)
        code = devices_attribute(ret_devices, &manager->host, live, err);
    if (code == POOL_OK && inventory)
        devices_attribute_promised(ret_devices, &manager->host, promises_look(manager));
    if (code == POOL_OK) {
        presence_note_all(manager, ret_devices->gpus, ret_devices->asked_boottime_ns, live);
        usage_note(manager, ret_devices, live);
        code = start_find_measured(&start, manager->registry, ret_devices->gpus, err);
    }
    if (code != POOL_OK)
        return code;
    *ret_start = start;
    start = (struct start_request)START_REQUEST_INIT;
    return POOL_OK;
}

static enum pool_code check_locked(struct pool_manager *manager, const struct start_request *start,
                                   const struct devices *devices, struct start_room *room,
                                   struct pool_plan **ret_plan, struct pool_error *err)
{
    CLEANUP(free_worker_list) struct pool_worker_list *live = NULL;
    enum pool_code code = manager_lock(manager, err);
    if (code != POOL_OK)
        return code;
    code = settle_locked(manager, &live, err);
    if (code == POOL_OK && devices->gpus)
        code = gpu_locks_take(manager, live, err);
    if (code == POOL_OK)
        code = start_plan(manager, start, devices, live, NULL, room, ret_plan, err);
    gpu_locks_release(manager);
    state_dir_unlock(&manager->state);
    return code;
}

/* A plan that is only shown says nothing that its backend keeps to itself. */
static enum pool_code hide_secrets(struct pool_plan *plan, struct pool_error *err)
{
    CLEANUP(string_list_done) struct string_list shown = { 0 };
    char **argv = redact_arguments(plan->argv, plan->environment, &shown) ? string_list_take(&shown) : NULL;
    if (!argv)
        return pool_error_no_memory(err);
    string_array_free(plan->argv);
    plan->argv = argv;
    return POOL_OK;
}

enum pool_code pool_manager_check(struct pool_manager *manager,
                                  const struct pool_worker_spawn_request *request,
                                  struct pool_plan **ret_plan, struct pool_error *err)
{
    CLEANUP(start_request_done) struct start_request start = START_REQUEST_INIT;
    CLEANUP(devices_done) struct devices devices = { 0 };
    CLEANUP(activity_looks_done) struct activity_looks looks = { 0 };
    CLEANUP(start_room_done) struct start_room room = start_room_of(request, "");
    CLEANUP(free_plan) struct pool_plan *plan = NULL;
    bool can_wait = start_can_wait(manager);
    enum pool_code code = start_prepare(manager, request, &start, &devices, err);
    if (code == POOL_OK)
        code = check_locked(manager, &start, &devices, can_wait ? &room : NULL, &plan, err);
    if (code == POOL_OK && room.is_look_needed) {
        pool_plan_free(take_ptr(&plan));
        code = start_ask_looks(manager, &room, &looks, err);
        if (code == POOL_OK)
            code = check_locked(manager, &start, &devices, &room, &plan, err);
    }
    if (code == POOL_OK)
        code = hide_secrets(plan, err);
    if (code == POOL_OK)
        *ret_plan = take_ptr(&plan);
    return code;
}

static void free_response(struct pool_worker_spawn_response **response)
{
    pool_worker_spawn_response_free(*response);
}

/* While it waits, this manager is the proof of its promise. */
static enum pool_code register_queued(struct pool_manager *manager, struct pool_worker_info *worker,
                                      struct child *child, struct pool_error *err)
{
    enum pool_code code = promise_make(manager, worker, &child->promise_fd, err);
    if (code == POOL_OK)
        code = pool_worker_registry_register(manager->registry, worker, err);
    if (code != POOL_OK)
        promise_remove(manager, worker);
    return code;
}

/* It has to wait, and its plan says for what: a daemon queues it, and begins the stops that it needs. */
static enum pool_code queue_locked(struct pool_manager *manager, const struct pool_plan *plan,
                                   const struct start_room *room, struct child *child, struct pool_error *err)
{
    enum pool_code code = register_queued(manager, plan->worker, child, err);
    if (code != POOL_OK)
        return code;
    explain_start_text(manager, "queued_for", plan->worker->queue_reason);
    if (room && plan->room.wait_reason[0] &&
        strcmp(plan->worker->queue_reason, plan->room.wait_reason) == 0) {
        start_displaced_ids(room, child->displaced, sizeof child->displaced);
        /* What could not be begun is seen at its turn: it does not fit then. */
        (void)!start_displace(manager, plan, room, NULL);
    }
    return POOL_OK;
}

/* The same for a command: the caller sees to the end of the stops that were begun, or waits, and comes again. */
static enum pool_code begin_room_locked(struct pool_manager *manager, const struct pool_plan *plan,
                                        struct start_room *room, struct pool_error *err)
{
    if (room->n_displaced == 0) {
        room->is_awaited = true;
        return POOL_CONFLICT;
    }
    enum pool_code code = start_displace(manager, plan, room, err);
    room->is_begun = manager->displaced.n_workers > 0;
    return code == POOL_OK ? POOL_CONFLICT : code;
}

/* The answer is made before the start: what can not be answered must not run. room: NULL when it can not wait. */
static enum pool_code spawn_locked(struct pool_manager *manager, const struct start_request *start,
                                   const struct devices *devices, struct start_room *room,
                                   struct child *child, struct pool_worker_spawn_response **ret_response,
                                   struct pool_error *err)
{
    CLEANUP(free_worker_list) struct pool_worker_list *live = NULL;
    CLEANUP(free_plan) struct pool_plan *plan = NULL;
    CLEANUP(free_response) struct pool_worker_spawn_response *response = NULL;
    enum pool_code code = settle_locked(manager, &live, err);
    if (code == POOL_OK && devices->gpus)
        code = gpu_locks_take(manager, live, err);
    if (code == POOL_OK)
        code = start_plan(manager, start, devices, live, NULL, room, &plan, err);
    if (code == POOL_OK)
        code = make_response(plan->worker, &response, err);
    if (code != POOL_OK)
        return code;
    code = start_pass_gate(manager, start, devices, live, plan, NULL, err);
    bool is_for_room = code == POOL_OK && room && plan->room.wait_reason[0];
    if (is_for_room && room->is_look_needed)
        return POOL_CONFLICT; /* they are asked first, without the lock */
    if (is_for_room) {
        start_explain_room(manager, plan, room);
        code = start_wait_for_room(plan, live, NULL, err);
    }
    bool is_queued = code == POOL_CONFLICT && start_may_queue(manager, plan);
    if (is_queued)
        code = queue_locked(manager, plan, is_for_room ? room : NULL, child, err);
    else if (is_for_room && code == POOL_CONFLICT)
        code = begin_room_locked(manager, plan, room, err);
    else if (code == POOL_OK)
        code = start_launch(manager, plan, plan->worker, child, err);
    if (code != POOL_OK)
        return code;
    explain_start_end(manager, POOL_OK, plan->worker, NULL);
    response->pid = plan->worker->process.pid;
    *ret_response = take_ptr(&response);
    return POOL_OK;
}

static enum pool_code spawn_once(struct pool_manager *manager, const struct start_request *start,
                                 const struct devices *devices, struct start_room *room, struct child *child,
                                 struct pool_worker_spawn_response **ret_response, struct pool_error *err)
{
    enum pool_code code = manager_lock(manager, err);
    if (code == POOL_OK)
        code = spawn_locked(manager, start, devices, room, child, ret_response, err);
    gpu_locks_release(manager);
    state_dir_unlock(&manager->state);
    return code;
}

static enum pool_code start_worker(struct pool_manager *manager,
                                   const struct pool_worker_spawn_request *request, struct start_room *room,
                                   struct pool_worker_spawn_response **ret_response, struct pool_error *err)
{
    CLEANUP(start_request_done) struct start_request start = START_REQUEST_INIT;
    CLEANUP(devices_done) struct devices devices = { 0 };
    CLEANUP(activity_looks_done) struct activity_looks looks = { 0 };
    struct pool_worker_spawn_response *response = NULL;
    struct child *child = NULL;
    enum pool_code code = start_prepare(manager, request, &start, &devices, err);
    if (code == POOL_OK)
        explain_start_needs(manager, &start);
    if (code == POOL_OK)
        code = new_child(request, manager->is_unrestricted, &child, err);
    if (code != POOL_OK)
        return code;
    code = spawn_once(manager, &start, &devices, room, child, &response, err);
    if (code == POOL_CONFLICT && room && room->is_look_needed) {
        code = start_ask_looks(manager, room, &looks, err);
        if (code == POOL_OK)
            code = spawn_once(manager, &start, &devices, room, child, &response, err);
        room->looks = NULL;
    }
    if (code != POOL_OK) {
        free_child(child);
        return code;
    }
    snprintf(child->worker_id, sizeof child->worker_id, "%s", response->worker_id);
    child->next = manager->children;
    manager->children = child;
    *ret_response = response;
    return POOL_OK;
}

/* How long a command waits for memory that comes free: that of stopped workers, and for who displaces, of such as stop. */
static int64_t wait_deadline_ns(const struct pool_manager *manager,
                                const struct pool_worker_spawn_request *request)
{
    int64_t wait_ms = POOL_RELEASE_WAIT_MAX_MS;
    if (displace_names_anybody(&request->may_displace) && manager->config->queue_timeout_ms > wait_ms)
        wait_ms = manager->config->queue_timeout_ms;
    return clock_boottime_ns() + wait_ms * NS_PER_MS;
}

/* Until it is started, refused, or queued by a daemon. displaced: whom it has displaced by then, DISPLACED_IDS_MAX. */
static enum pool_code start_with_patience(struct pool_manager *manager,
                                          const struct pool_worker_spawn_request *request, char *displaced,
                                          struct pool_worker_spawn_response **ret_response,
                                          struct pool_error *err)
{
    int64_t deadline_ns = wait_deadline_ns(manager, request);
    for (;;) {
        CLEANUP(start_room_done) struct start_room room = start_room_of(request, displaced);
        bool can_wait = start_can_wait(manager) && (manager->is_daemon || clock_boottime_ns() < deadline_ns);
        *err = (struct pool_error)POOL_ERROR_INIT;
        explain_start_begin(manager, request);
        explain_start_text(manager, "displaced", displaced);
        enum pool_code code = start_worker(manager, request, can_wait ? &room : NULL, ret_response, err);
        if (room.is_begun) {
            start_displaced_ids(&room, displaced, DISPLACED_IDS_MAX);
            stop_displaced(manager);
            deadline_ns = wait_deadline_ns(manager, request);
        } else if (code == POOL_CONFLICT && room.is_awaited) {
            clock_pause_ns(RELEASE_PAUSE_NS);
        } else {
            return code;
        }
    }
}

enum pool_code pool_manager_spawn(struct pool_manager *manager,
                                  const struct pool_worker_spawn_request *request,
                                  struct pool_worker_spawn_response **ret_response, struct pool_error *err)
{
    struct pool_error why = POOL_ERROR_INIT;
    char displaced[DISPLACED_IDS_MAX] = "";
    /* What is no request at all explains itself, and a daemon refuses it before it gets here. */
    enum pool_code code = pool_worker_spawn_request_validate(request, err);
    if (code != POOL_OK)
        return code;
    code = start_with_patience(manager, request, displaced, ret_response, &why);
    if (code == POOL_OK)
        return POOL_OK;
    start_tell_displaced(displaced, &why);
    if (pool_manager_is_superseded(manager)) /* nothing was decided: whoever asked asks the daemon */
        explain_start_drop(manager);
    else
        explain_start_end(manager, code, NULL, &why);
    if (err)
        *err = why;
    return code;
}

void pool_manager_refuse_start(struct pool_manager *manager, const struct pool_worker_spawn_request *request,
                               struct pool_error *err)
{
    explain_start_begin(manager, request);
    explain_start_end(manager, err->code, NULL, err);
}

enum pool_code spawn_again(struct pool_manager *manager, struct child *child, struct pool_worker_info *worker,
                           struct pool_error *err)
{
    CLEANUP(start_request_done) struct start_request start = START_REQUEST_INIT;
    CLEANUP(devices_done) struct devices devices = { 0 };
    CLEANUP(free_plan) struct pool_plan *plan = NULL;
    CLEANUP(free_worker_list) struct pool_worker_list *live = NULL;
    free(child->request->worker_id);
    child->request->worker_id = strdup(worker->worker_id);
    if (!child->request->worker_id)
        return pool_error_no_memory(err);
    enum pool_code code = start_prepare(manager, child->request, &start, &devices, err);
    if (code == POOL_OK)
        code = manager_lock(manager, err);
    if (code != POOL_OK)
        return code;
    code = manager_list_registry(manager, POOL_REGISTRY_LIVE, &live, err);
    /* Its own reserve is given back for the plan: it is the same start. */
    for (size_t i = 0; code == POOL_OK && i < live->n_workers; i++) {
        if (strcmp(live->workers[i]->worker_id, worker->worker_id) != 0)
            continue;
        live->workers[i]->reserved_bytes = 0;
        free(live->workers[i]->shares);
        live->workers[i]->shares = NULL;
    }
    if (code == POOL_OK && devices.gpus)
        code = gpu_locks_take(manager, live, err);
    if (code == POOL_OK)
        code = start_plan(manager, &start, &devices, live, worker, NULL, &plan, err);
    if (code == POOL_OK) {
        plan->worker->revision = worker->revision;
        code = start_launch(manager, plan, plan->worker, child, err);
    }
    gpu_locks_release(manager);
    state_dir_unlock(&manager->state);
    return code;
}
