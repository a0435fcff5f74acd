/*
 * A start: snapshot, lock, settle, plan, log, intent, spawn, fact, unlock. A crash between any two steps leaves
 * something that settle.c understands: an unused log, a row without a process, or a row without a pid whose
 * worker holds the lock of its log.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "base/random.h"
#include "core/lifecycle/cordon.h"
#include "core/lifecycle/explain.h"
#include "core/lifecycle/gate.h"
#include "core/lifecycle/manager.h"
#include "core/lifecycle/port.h"
#include "core/lifecycle/release.h"
#include "core/lifecycle/spawn_token.h"
#include "core/lifecycle/split.h"
#include "core/lifecycle/start_record.h"
#include "core/lifecycle/worker_log.h"

#define PORTS 65536
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

/* ---- ports ---- */

static bool is_in_range(const struct pool_config *config, int64_t port)
{
    return port >= config->port_first && port <= config->port_last;
}

static enum pool_code take_asked_port(const struct pool_config *config, int64_t port, struct pool_error *err)
{
    enum pool_code code = POOL_OK;
    if (!is_in_range(config, port)) {
        code = pool_error_set(err, POOL_INVALID_REQUEST,
                              "port %" PRId64 " is outside workers.port_range %" PRId64 "-%" PRId64, port,
                              config->port_first, config->port_last);
    } else {
        int failure = port_test(config->workers_bind_host, (uint16_t)port);
        if (failure)
            code = pool_error_set_errno(err, POOL_PORT_UNAVAILABLE, failure, "port %" PRId64, port);
    }
    if (code != POOL_OK) {
        pool_error_set_field(err, "port");
        pool_error_add_number(err, "port", port);
    }
    return code;
}

/* The lowest free port of the range that no live worker has; under the lock. `avoid`: one that was lost just now. */
static enum pool_code choose_port(const struct pool_config *config, const struct pool_worker_list *live,
                                  int64_t avoid, int64_t *ret_port, struct pool_error *err)
{
    CLEANUP_FREE bool *is_taken = calloc(PORTS, sizeof *is_taken);
    if (!is_taken)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < live->n_workers; i++) {
        if (live->workers[i]->port > 0 && live->workers[i]->port < PORTS)
            is_taken[live->workers[i]->port] = true;
    }
    int last_failure = 0;
    for (int64_t port = config->port_first; port <= config->port_last; port++) {
        if (is_taken[port] || port == avoid)
            continue;
        int failure = port_test(config->workers_bind_host, (uint16_t)port);
        if (!failure) {
            *ret_port = port;
            return POOL_OK;
        }
        last_failure = failure;
        if (failure != EADDRINUSE && failure != EACCES)
            break;
    }
    pool_error_set_errno(err, POOL_PORT_UNAVAILABLE, last_failure,
                         "no free port in workers.port_range %" PRId64 "-%" PRId64 " on %s",
                         config->port_first, config->port_last, config->workers_bind_host);
    pool_error_add_number(err, "port_first", config->port_first);
    pool_error_add_number(err, "port_last", config->port_last);
    return POOL_PORT_UNAVAILABLE;
}

/* ---- plan, under the lock ---- */

static void free_plan(struct pool_plan **plan)
{
    pool_plan_free(*plan);
}

struct ledgers {
    size_t n;
    struct pool_ledger *at;
};

static void ledgers_done(struct ledgers *ledgers)
{
    free(ledgers->at);
}

static enum pool_code compute_ledgers(struct pool_manager *manager, const struct devices *devices,
                                      const struct pool_worker_list *live, struct ledgers *ret_ledgers,
                                      struct pool_error *err)
{
    size_t n_gpus = devices->gpus ? devices->gpus->n_gpus : 0;
    CLEANUP(ledgers_done)
    struct ledgers ledgers = { .n = n_gpus + 1, .at = calloc(n_gpus + 1, sizeof *ledgers.at) };
    if (!ledgers.at)
        return pool_error_no_memory(err);
    CLEANUP_FREE struct releases *releases = n_gpus > 0 ? releases_read(manager) : NULL;
    for (size_t i = 0; i <= n_gpus; i++) {
        const struct pool_gpu_info *gpu = i < n_gpus ? devices->gpus->gpus[i] : NULL;
        int64_t headroom = gpu ? manager->config->gpu_vram_headroom_bytes : 0;
        enum pool_code code = devices_ledger(devices, gpu, live, releases, headroom, &ledgers.at[i], err);
        if (code != POOL_OK)
            return code;
    }
    *ret_ledgers = ledgers;
    ledgers.at = NULL;
    return POOL_OK;
}

static enum pool_code make_worker_id(const struct pool_worker_spawn_request *request,
                                     char id[POOL_WORKER_ID_MAX + 1], struct pool_error *err)
{
    char uuid[UUID_TEXT_MAX];
    if (request->worker_id) {
        snprintf(id, POOL_WORKER_ID_MAX + 1, "%s", request->worker_id);
        return POOL_OK;
    }
    if (!random_uuid(uuid))
        return pool_error_set(err, POOL_INTERNAL, "the kernel has no random numbers");
    snprintf(id, POOL_WORKER_ID_MAX + 1, "worker-%s", uuid);
    return POOL_OK;
}

/* Before a port is looked for: what does not fit needs none. */
static enum pool_code place_one(const struct placement_input *placement, struct plan_input *input,
                                struct pool_error *err)
{
    enum pool_code code = placement_choose(placement, &input->gpu, &input->ledger, err);
    if (code != POOL_OK)
        return code;
    input->need = start_need_at(placement->start, (size_t)(input->ledger - placement->ledgers));
    code = pool_ledger_admit(input->ledger, input->need->bytes, err);
    if (code != POOL_OK && input->gpu)
        pool_error_add_number(err, "gpu_id", input->gpu->gpu_id);
    return code;
}

static enum pool_code place_split(const struct placement_input *placement, struct split *split,
                                  struct plan_input *input, struct pool_error *err)
{
    enum pool_code code = split_plan(placement, split, err);
    if (code != POOL_OK)
        return code;
    input->split = split;
    input->gpu = split->parts[0].gpu;
    input->ledger = split->parts[0].ledger;
    input->need = &split->need;
    return POOL_OK;
}

/* `again`: the worker exists already and lost its port; only that is chosen anew. Else NULL. */
static enum pool_code plan_locked(struct pool_manager *manager, const struct start_request *start,
                                  const struct devices *devices, const struct pool_worker_list *live,
                                  const struct pool_worker_info *again, struct pool_plan **ret_plan,
                                  struct pool_error *err)
{
    const struct pool_worker_spawn_request *request = start->request;
    /* One that waited for its turn begins only now. */
    bool is_same_start_again = again && !gate_is_queued(again);
    CLEANUP(ledgers_done) struct ledgers ledgers = { 0 };
    CLEANUP_FREE char *log_dir = state_dir_path(&manager->state, "logs");
    char worker_id[POOL_WORKER_ID_MAX + 1];
    if (!log_dir)
        return pool_error_no_memory(err);
    if (live->n_workers >= POOL_WORKERS_MAX && !again)
        return pool_error_set(err, POOL_OVERLOADED, "this host has %d workers already", POOL_WORKERS_MAX);
    enum pool_code code = again ? POOL_OK : plan_check_unique(live, request, err);
    if (code == POOL_OK)
        code = make_worker_id(request, worker_id, err);
    if (code == POOL_OK) /* under the lock, so that none that was set before is missed */
        code = cordons_apply(manager, devices->gpus, err);
    if (code == POOL_OK)
        code = compute_ledgers(manager, devices, live, &ledgers, err);
    if (code != POOL_OK)
        return code;
    static const struct pool_gpu_list no_gpus = { 0 };
    struct placement_input placement = { .start = start,
                                         .gpus = devices->gpus ? devices->gpus : &no_gpus,
                                         .n_ledgers = ledgers.n,
                                         .ledgers = ledgers.at };
    struct plan_input input = { .config = manager->config,
                                .start = start,
                                .environment = manager->environment,
                                .callback_url = manager->callback_url,
                                .state_id = manager->state.state_id,
                                .log_dir = log_dir,
                                .worker_id = worker_id,
                                .port = request->port,
                                /* it is the same start, told from others of its id by when it began */
                                .wall_ms = is_same_start_again ? again->created_wall_ms : clock_wall_ms(),
                                .boottime_ns =
                                    is_same_start_again ? again->created_boottime_ns : clock_boottime_ns() };
    struct split split = { 0 };
    char why[256] = "";
    bool is_split = split_is_asked(request) && start->backend->device == POOL_DEVICE_GPU;
    code = is_split ? place_split(&placement, &split, &input, err) : place_one(&placement, &input, err);
    explain_start_places(manager, &placement, input.gpu);
    if (code != POOL_OK)
        return code;
    placement_explain(&placement, is_split ? NULL : input.gpu, why, sizeof why);
    input.placement = why;
    explain_start_text(manager, "placement", why);
    code = request->port
               ? take_asked_port(manager->config, request->port, err)
               : choose_port(manager->config, live, is_same_start_again ? again->port : 0, &input.port, err);
    CLEANUP(free_plan) struct pool_plan *plan = NULL;
    if (code == POOL_OK)
        code = plan_make(&input, &plan, err);
    if (code == POOL_OK && start->backend->ready_callback && manager->callback_url)
        code = spawn_token_give(plan, err);
    if (code == POOL_OK)
        *ret_plan = take_ptr(&plan);
    return code;
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
                                  struct pool_worker_info *worker, int *ret_pidfd, struct pool_error *err)
{
    pid_t pid;
    int failure = process_spawn(plan->argv, plan->environment, log_fd, &pid);
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
static void undo_spawn(struct pool_manager *manager, struct pool_worker_info *worker, int pidfd)
{
    kill(-(pid_t)worker->process.pid, SIGKILL);
    pidfd_wait(pidfd, -1, 2000);
    struct pool_process_end end = process_end_read(pidfd, worker->process.pid);
    (void)!settle_gone(manager, worker, POOL_STOP_START_FAILED, end, NULL);
}

/* Intent, spawn, fact. `child` keeps the process as ours. */
static enum pool_code launch(struct pool_manager *manager, const struct pool_plan *plan,
                             struct pool_worker_info *worker, struct child *child, struct pool_error *err)
{
    CLEANUP_CLOSE int log_fd = -1;
    CLEANUP_CLOSE int pidfd = -1;
    enum pool_code code = worker_log_create(worker->log_path, &log_fd, &worker->log_identity, err);
    if (code != POOL_OK)
        return code;
    code = worker->revision == 0 ? pool_worker_registry_register(manager->registry, worker, err)
                                 : pool_worker_registry_update(manager->registry, worker, err);
    if (code != POOL_OK) {
        if (worker->revision == 0)
            unlink(worker->log_path);
        return code;
    }
    start_record_write(worker);
    code = run_program(manager, plan, log_fd, worker, &pidfd, err);
    if (code != POOL_OK) {
        (void)!settle_gone(manager, worker, POOL_STOP_START_FAILED, (struct pool_process_end){ 0 }, NULL);
        return code;
    }
    code = pool_worker_registry_update(manager->registry, worker, err);
    if (code != POOL_OK) {
        undo_spawn(manager, worker, pidfd);
        return code;
    }
    close_fd(&child->pidfd);
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
    child->is_unrestricted = is_unrestricted;
    enum pool_code code = copy_request(request, &child->request, err);
    if (code != POOL_OK) {
        free_child(child);
        return code;
    }
    *ret_child = child;
    return POOL_OK;
}

/* What is asked before any lock: the disk, the registry as it is, the driver. */
static enum pool_code prepare(struct pool_manager *manager, const struct pool_worker_spawn_request *request,
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
    if (code == POOL_OK && start.backend->device == POOL_DEVICE_GPU)
        code = manager_inventory(manager, &inventory, err);
    if (code == POOL_OK)
        code = devices_ask(inventory, ret_devices, err);
    if (code == POOL_OK)
        code = manager_list_registry(manager, POOL_REGISTRY_LIVE, &live, err);
    if (code == POOL_OK)
        code = devices_attribute(ret_devices, &manager->host, live, err);
    if (code == POOL_OK) {
        usage_note(manager, ret_devices, live);
        code = start_find_measured(&start, manager->registry, ret_devices->gpus, err);
    }
    if (code != POOL_OK)
        return code;
    *ret_start = start;
    start = (struct start_request)START_REQUEST_INIT;
    return POOL_OK;
}

enum pool_code pool_manager_check(struct pool_manager *manager,
                                  const struct pool_worker_spawn_request *request,
                                  struct pool_plan **ret_plan, struct pool_error *err)
{
    CLEANUP(start_request_done) struct start_request start = START_REQUEST_INIT;
    CLEANUP(devices_done) struct devices devices = { 0 };
    CLEANUP(free_worker_list) struct pool_worker_list *live = NULL;
    enum pool_code code = prepare(manager, request, &start, &devices, err);
    if (code == POOL_OK)
        code = manager_lock(manager, err);
    if (code != POOL_OK)
        return code;
    code = settle_locked(manager, &live, err);
    if (code == POOL_OK)
        code = plan_locked(manager, &start, &devices, live, NULL, ret_plan, err);
    state_dir_unlock(&manager->state);
    return code;
}

static void free_response(struct pool_worker_spawn_response **response)
{
    pool_worker_spawn_response_free(*response);
}

/* ---- the turn of a start on its device ---- */

/*
 * CONFLICT when it has to wait, with its place in plan->worker. `self`: its row when it waits already. Only an engine that
 * profiles has to know of memory that is being released: for others free is free.
 */
static enum pool_code pass_gate(struct pool_manager *manager, const struct start_request *start,
                                const struct devices *devices, const struct pool_worker_list *live,
                                struct pool_plan *plan, const struct pool_worker_info *self,
                                struct pool_error *err)
{
    struct gate_blocker blocker;
    const char *device = NULL;
    for (size_t i = 0; devices->gpus && i < devices->gpus->n_gpus && !device; i++) {
        const char *uuid = devices->gpus->gpus[i]->uuid;
        bool is_there = false;
        (void)pool_worker_info_reserved_on(plan->worker, uuid, &is_there);
        int64_t releasing_bytes = strcmp(plan->ledger.device, uuid) == 0 ? plan->ledger.releasing_bytes : 0;
        if (is_there && gate_blocks_start(manager->config, live, uuid, start->backend->exclusive_start, self,
                                          releasing_bytes, &blocker))
            device = uuid;
    }
    if (!device)
        return POOL_OK;
    plan->worker->queue_position = 1 + gate_count_queued(live, device, self);
    free(plan->worker->queue_reason);
    plan->worker->queue_reason = strdup(blocker.reason);
    if (!plan->worker->queue_reason)
        return pool_error_no_memory(err);
    gate_refuse(&blocker, "start", device, err);
    pool_error_add_number(err, "queue_position", plan->worker->queue_position);
    return POOL_CONFLICT;
}

static bool may_queue(const struct pool_manager *manager, const struct pool_plan *plan)
{
    return manager->is_daemon && manager->config->queue_timeout_ms > 0 && plan && plan->worker->queue_reason;
}

bool pool_worker_is_queued(const struct pool_worker_info *worker)
{
    return gate_is_queued(worker);
}

/* The answer is made before the start: what can not be answered must not run. */
static enum pool_code spawn_locked(struct pool_manager *manager, const struct start_request *start,
                                   const struct devices *devices, struct child *child,
                                   struct pool_worker_spawn_response **ret_response, struct pool_error *err)
{
    CLEANUP(free_worker_list) struct pool_worker_list *live = NULL;
    CLEANUP(free_plan) struct pool_plan *plan = NULL;
    CLEANUP(free_response) struct pool_worker_spawn_response *response = NULL;
    enum pool_code code = settle_locked(manager, &live, err);
    if (code == POOL_OK)
        code = plan_locked(manager, start, devices, live, NULL, &plan, err);
    if (code == POOL_OK)
        code = make_response(plan->worker, &response, err);
    if (code != POOL_OK)
        return code;
    code = pass_gate(manager, start, devices, live, plan, NULL, err);
    bool is_queued = code == POOL_CONFLICT && may_queue(manager, plan);
    if (is_queued)
        code = pool_worker_registry_register(manager->registry, plan->worker, err);
    else if (code == POOL_OK)
        code = launch(manager, plan, plan->worker, child, err);
    if (code != POOL_OK)
        return code;
    if (is_queued)
        explain_start_text(manager, "queued_for", plan->worker->queue_reason);
    explain_start_end(manager, POOL_OK, plan->worker, NULL);
    response->pid = plan->worker->process.pid;
    *ret_response = take_ptr(&response);
    return POOL_OK;
}

static enum pool_code start_worker(struct pool_manager *manager,
                                   const struct pool_worker_spawn_request *request,
                                   struct pool_worker_spawn_response **ret_response, struct pool_error *err)
{
    CLEANUP(start_request_done) struct start_request start = START_REQUEST_INIT;
    CLEANUP(devices_done) struct devices devices = { 0 };
    struct pool_worker_spawn_response *response = NULL;
    struct child *child = NULL;
    enum pool_code code = prepare(manager, request, &start, &devices, err);
    if (code == POOL_OK)
        explain_start_needs(manager, &start);
    if (code == POOL_OK)
        code = new_child(request, manager->is_unrestricted, &child, err);
    if (code != POOL_OK)
        return code;
    code = manager_lock(manager, err);
    if (code == POOL_OK)
        code = spawn_locked(manager, &start, &devices, child, &response, err);
    state_dir_unlock(&manager->state);
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

/* Whether a start that is refused would fit when what stopped workers held is free. */
static bool may_release_help(const struct pool_manager *manager, enum pool_code code,
                             const struct pool_error *why)
{
    const struct pool_detail *required = pool_error_detail(why, "required_vram_bytes");
    const struct pool_detail *available = pool_error_detail(why, "available_vram_bytes");
    const struct pool_detail *releasing = pool_error_detail(why, "releasing_bytes");
    return code == POOL_INSUFFICIENT_VRAM && !manager->is_daemon && required && available && releasing &&
           releasing->number > 0 && required->number <= add_bytes(available->number, releasing->number);
}

enum pool_code pool_manager_spawn(struct pool_manager *manager,
                                  const struct pool_worker_spawn_request *request,
                                  struct pool_worker_spawn_response **ret_response, struct pool_error *err)
{
    struct pool_error why = POOL_ERROR_INIT;
    /* What is no request at all explains itself, and a daemon refuses it before it gets here. */
    enum pool_code code = pool_worker_spawn_request_validate(request, err);
    if (code != POOL_OK)
        return code;
    int64_t deadline_ns = clock_boottime_ns() + POOL_RELEASE_WAIT_MAX_MS * NS_PER_MS;
    for (;;) {
        explain_start_begin(manager, request);
        code = start_worker(manager, request, ret_response, &why);
        if (!may_release_help(manager, code, &why) || clock_boottime_ns() >= deadline_ns)
            break;
        clock_pause_ns(RELEASE_PAUSE_NS);
        why = (struct pool_error)POOL_ERROR_INIT;
    }
    if (code == POOL_OK)
        return POOL_OK;
    explain_start_end(manager, code, NULL, &why);
    if (err)
        *err = why;
    return code;
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
    enum pool_code code = prepare(manager, child->request, &start, &devices, err);
    if (code == POOL_OK)
        code = manager_lock(manager, err);
    if (code != POOL_OK)
        return code;
    code = manager_list_registry(manager, POOL_REGISTRY_LIVE, &live, err);
    /* Its own reserve is given back for the plan: it is the same start. */
    for (size_t i = 0; code == POOL_OK && i < live->n_workers; i++) {
        if (strcmp(live->workers[i]->worker_id, worker->worker_id) == 0)
            live->workers[i]->reserved_bytes = 0;
    }
    if (code == POOL_OK)
        code = plan_locked(manager, &start, &devices, live, worker, &plan, err);
    if (code == POOL_OK) {
        plan->worker->revision = worker->revision;
        code = launch(manager, plan, plan->worker, child, err);
    }
    state_dir_unlock(&manager->state);
    return code;
}

/* Its own reserve and port are given back for the plan: it is the same start. */
static struct pool_worker_info *set_self_aside(struct pool_worker_list *live, const char *worker_id)
{
    for (size_t i = 0; i < live->n_workers; i++) {
        if (strcmp(live->workers[i]->worker_id, worker_id) == 0) {
            live->workers[i]->reserved_bytes = 0;
            free(live->workers[i]->shares);
            live->workers[i]->shares = NULL;
            live->workers[i]->port = 0;
            return live->workers[i];
        }
    }
    return NULL;
}

/* Its place may have changed since. */
static enum pool_code record_place(struct pool_manager *manager, const struct pool_plan *plan,
                                   struct pool_worker_info **ret_worker)
{
    CLEANUP(free_worker) struct pool_worker_info *row = NULL;
    const char *reason = plan->worker->queue_reason;
    if (pool_worker_registry_get(manager->registry, plan->worker_id, &row, NULL) != POOL_OK)
        return POOL_OK;
    if (row->queue_position == plan->worker->queue_position && row->queue_reason &&
        strcmp(row->queue_reason, reason) == 0)
        return POOL_OK;
    char *copy = strdup(reason);
    if (!copy)
        return POOL_OK;
    free(row->queue_reason);
    row->queue_reason = copy;
    row->queue_position = plan->worker->queue_position;
    if (pool_worker_registry_update(manager->registry, row, NULL) == POOL_OK)
        *ret_worker = take_ptr(&row);
    return POOL_OK;
}

static enum pool_code start_queued_locked(struct pool_manager *manager, struct child *child,
                                          const struct start_request *start, const struct devices *devices,
                                          struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(free_worker_list) struct pool_worker_list *live = NULL;
    CLEANUP(free_worker) struct pool_worker_info *row = NULL;
    CLEANUP(free_plan) struct pool_plan *plan = NULL;
    enum pool_code code = manager_list_registry(manager, POOL_REGISTRY_LIVE, &live, err);
    if (code == POOL_OK)
        code = pool_worker_registry_get(manager->registry, child->worker_id, &row, err);
    struct pool_worker_info *self = code == POOL_OK ? set_self_aside(live, child->worker_id) : NULL;
    if (code == POOL_OK && (!self || !gate_is_queued(row))) {
        code = pool_error_set(err, POOL_CONFLICT, "worker %s does not wait for its turn", child->worker_id);
        if (err)
            err->is_retriable = false;
    }
    if (code == POOL_OK)
        code = plan_locked(manager, start, devices, live, row, &plan, err);
    if (code == POOL_OK)
        code = pass_gate(manager, start, devices, live, plan, self, err);
    if (code == POOL_CONFLICT && plan && plan->worker->queue_reason)
        (void)!record_place(manager, plan, ret_worker);
    if (code != POOL_OK)
        return code;
    /* Its start begins now: deadlines count from here. */
    plan->worker->revision = row->revision;
    code = launch(manager, plan, plan->worker, child, err);
    if (code == POOL_OK)
        explain_start_end(manager, POOL_OK, plan->worker, NULL);
    return code != POOL_OK ? code
                           : pool_worker_registry_get(manager->registry, child->worker_id, ret_worker, err);
}

/* The request names what was decided when it was queued: its id and its device. */
static enum pool_code name_place(struct pool_manager *manager, struct child *child, struct pool_error *err)
{
    CLEANUP(free_worker) struct pool_worker_info *row = NULL;
    enum pool_code code = pool_worker_registry_get(manager->registry, child->worker_id, &row, err);
    if (code != POOL_OK)
        return code;
    char *worker_id = strdup(child->worker_id);
    char *gpu_id = row->gpu_uuid ? strdup(row->gpu_uuid) : NULL;
    if (!worker_id || (row->gpu_uuid && !gpu_id)) {
        free(worker_id);
        free(gpu_id);
        return pool_error_no_memory(err);
    }
    free(child->request->worker_id);
    child->request->worker_id = worker_id;
    if (gpu_id && !split_is_asked(child->request)) {
        free(child->request->gpu_id);
        child->request->gpu_id = take_ptr(&gpu_id);
    }
    free(gpu_id);
    return POOL_OK;
}

enum pool_code pool_manager_start_queued(struct pool_manager *manager, const char *worker_id,
                                         struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(start_request_done) struct start_request start = START_REQUEST_INIT;
    CLEANUP(devices_done) struct devices devices = { 0 };
    struct child *child = manager_find_child(manager, worker_id);
    if (!child)
        return pool_error_set(err, POOL_WORKER_NOT_FOUND, "worker %s does not wait for its turn here",
                              worker_id);
    bool was_unrestricted = manager->is_unrestricted;
    manager->is_unrestricted = child->is_unrestricted;
    enum pool_code code = name_place(manager, child, err);
    if (code == POOL_OK)
        code = prepare(manager, child->request, &start, &devices, err);
    manager->is_unrestricted = was_unrestricted;
    if (code == POOL_OK)
        code = manager_lock(manager, err);
    if (code != POOL_OK)
        return code;
    explain_start_begin(manager, child->request);
    explain_start_needs(manager, &start);
    code = start_queued_locked(manager, child, &start, &devices, ret_worker, err);
    explain_start_drop(manager);
    state_dir_unlock(&manager->state);
    return code;
}
