/*
 * A snapshot of devices and of what workers hold of them; see devices.h.
 */
#include "core/lifecycle/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/number.h"
#include "base/random.h"
#include "core/lifecycle/attribution.h"
#include "core/lifecycle/release.h"
#include "core/worker_shares.h"

void devices_done(struct devices *devices)
{
    pool_gpu_list_free(devices->gpus);
    free(devices->usages);
    pool_worker_list_free(devices->promised);
    free(devices->promised_usages);
    *devices = (struct devices){ 0 };
}

static bool find_kib(const char *text, const char *name, int64_t *ret_bytes)
{
    size_t n_name = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, name, n_name) != 0)
            continue;
        const char *digits = line + n_name + strspn(line + n_name, " \t");
        int64_t kib;
        if (!parse_int64_n(digits, strspn(digits, "0123456789"), 0, INT64_MAX / 1024, &kib))
            return false;
        *ret_bytes = kib * 1024;
        return true;
    }
    return false;
}

bool host_memory_parse(const char *text, struct host_memory *ret_memory)
{
    return find_kib(text, "MemTotal:", &ret_memory->total_bytes) &&
           find_kib(text, "MemAvailable:", &ret_memory->available_bytes);
}

static bool read_number_file(const char *directory, const char *name, int64_t *ret_value)
{
    char path[4400];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(64);
    if (file_read(path, &text) != 0)
        return false;
    return parse_int64_n(strbuf_text(&text), strspn(strbuf_text(&text), "0123456789"), 0, INT64_MAX,
                         ret_value);
}

/* memory.max of our cgroup and of each above it (cgroup v2); "max" is no number and no limit. */
static void bound_by_cgroups(struct host_memory *memory)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(16384);
    if (file_read("/proc/self/cgroup", &text) != 0)
        return;
    const char *line = strstr(strbuf_text(&text), "0::/");
    if (!line)
        return;
    char directory[4200];
    int n =
        snprintf(directory, sizeof directory, "/sys/fs/cgroup%.*s", (int)strcspn(line + 3, "\n"), line + 3);
    if (n < 0 || (size_t)n >= sizeof directory)
        return;
    while (strlen(directory) > strlen("/sys/fs/cgroup")) {
        int64_t limit, current;
        if (read_number_file(directory, "memory.max", &limit) &&
            read_number_file(directory, "memory.current", &current)) {
            if (limit < memory->total_bytes)
                memory->total_bytes = limit;
            if (excess_bytes(limit, current) < memory->available_bytes)
                memory->available_bytes = excess_bytes(limit, current);
        }
        *strrchr(directory, '/') = '\0';
    }
}

int host_memory_read(struct host_memory *ret_memory)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(16384);
    int failure = file_read("/proc/meminfo", &text);
    if (failure)
        return failure;
    struct host_memory memory;
    if (!host_memory_parse(strbuf_text(&text), &memory))
        return EPROTO;
    bound_by_cgroups(&memory);
    *ret_memory = memory;
    return 0;
}

/*
 * What a process holds of the host's memory for good: anonymous and shared pages. Mapped model files are page
 * cache, which MemAvailable counts as available; so they stay promised, and are not counted twice.
 */
static bool read_held_memory(int64_t pid, int64_t *ret_bytes)
{
    char path[48];
    snprintf(path, sizeof path, "/proc/%lld/status", (long long)pid);
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(65536);
    int64_t anonymous, shared;
    if (file_read(path, &text) != 0 || !find_kib(strbuf_text(&text), "RssAnon:", &anonymous) ||
        !find_kib(strbuf_text(&text), "RssShmem:", &shared))
        return false;
    *ret_bytes = anonymous + shared;
    return true;
}

static struct usage *find_usage(struct devices *devices, size_t worker, const char *device)
{
    for (size_t i = 0; i < devices->n_usages; i++) {
        if (devices->usages[i].worker == worker && strcmp(devices->usages[i].device, device) == 0)
            return &devices->usages[i];
    }
    return NULL;
}

/* Whether a worker was the last to be started on its device, so that what is gone since is its own. */
static bool is_last_started(const struct pool_worker_list *live, size_t worker)
{
    const struct pool_worker_info *last = live->workers[worker];
    for (size_t i = 0; i < live->n_workers; i++) {
        const struct pool_worker_info *other = live->workers[i];
        bool is_there = false;
        if (i != worker && last->gpu_uuid)
            pool_worker_info_reserved_on(other, last->gpu_uuid, &is_there);
        if (is_there && other->created_boottime_ns >= last->created_boottime_ns)
            return false;
    }
    return true;
}

/* The drop in free memory across a worker's start, at most its reserve. */
static bool see_drop(const struct devices *devices, const struct pool_worker_list *live, size_t worker,
                     int64_t *ret_bytes)
{
    const struct pool_worker_info *info = live->workers[worker];
    const struct pool_gpu_info *gpu =
        devices->gpus && info->gpu_uuid ? pool_gpu_list_find(devices->gpus, info->gpu_uuid) : NULL;
    if (!gpu || !gpu->is_vram_known || info->shares || !info->free_before_start_bytes.is_present ||
        !is_last_started(live, worker))
        return false;
    int64_t drop = excess_bytes(info->free_before_start_bytes.value, gpu->vram_free_bytes);
    *ret_bytes = drop < info->reserved_bytes ? drop : info->reserved_bytes;
    return true;
}

/* What is known without the driver: nothing taken until a worker was ready, from then on the drop in free memory across its
 * start, and where others started since, its reserve. */
static void assume_usage(struct devices *devices, const struct pool_worker_list *live)
{
    for (size_t i = 0; i < devices->n_usages; i++) {
        struct usage *usage = &devices->usages[i];
        const struct pool_worker_info *worker = live->workers[usage->worker];
        bool is_ready =
            worker->ready_boottime_ns != 0 && worker->ready_boottime_ns < devices->asked_boottime_ns;
        if (usage->is_attributed || !is_ready)
            continue;
        if (!see_drop(devices, live, usage->worker, &usage->observed_bytes))
            usage->observed_bytes = pool_worker_info_reserved_on(worker, usage->device, NULL);
    }
}

static void attribute_gpu(struct devices *devices, const struct pool_gpu_info *gpu,
                          const struct host_identity *host, const struct pool_worker_list *live)
{
    /* In a pid namespace of our own the driver's pids are somebody else's numbers. */
    bool is_seen = attribution_sees_drivers_pids(host);
    bool is_complete = gpu->are_processes_known && is_seen;
    for (size_t i = 0; i < gpu->n_processes; i++) {
        const struct pool_gpu_process *process = &gpu->processes[i];
        if (process->pid <= 0) {
            is_complete = false;
            continue;
        }
        size_t index;
        bool is_ours = is_seen && attribution_find_owner(host, live, process->pid, &index);
        struct usage *usage = is_ours ? find_usage(devices, index, gpu->uuid) : NULL;
        if (!attribution_is_said(gpu, process)) {
            is_complete = is_complete && !is_ours;
            if (usage)
                usage->is_partial = true;
            continue;
        }
        if (usage) {
            usage->is_attributed = true;
            usage->observed_bytes = add_bytes(usage->observed_bytes, process->used_vram_bytes.value);
        }
    }
    for (size_t i = 0; is_complete && i < devices->n_usages; i++) {
        /* The driver knows everybody, and it is not among them. One without a pid could not be found. */
        if (strcmp(devices->usages[i].device, gpu->uuid) == 0 &&
            live->workers[devices->usages[i].worker]->process.pid > 0)
            devices->usages[i].is_attributed = true;
    }
}

static void attribute_host(struct devices *devices, const struct pool_worker_list *live)
{
    for (size_t i = 0; i < devices->n_usages; i++) {
        struct usage *usage = &devices->usages[i];
        const struct pool_worker_info *worker = live->workers[usage->worker];
        if (!worker->gpu_uuid && worker->process.pid > 0)
            usage->is_attributed = read_held_memory(worker->process.pid, &usage->observed_bytes);
    }
}

static enum pool_code list_usages(struct devices *devices, const struct pool_worker_list *live,
                                  struct pool_error *err)
{
    char device[POOL_GPU_UUID_MAX];
    int64_t ignored;
    size_t n = 0;
    for (size_t i = 0; i < live->n_workers; i++) {
        for (size_t k = 0; worker_share_at(live->workers[i], k, device, &ignored); k++)
            n++;
    }
    devices->usages = calloc(n + 1, sizeof *devices->usages);
    if (!devices->usages)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < live->n_workers; i++) {
        for (size_t k = 0; worker_share_at(live->workers[i], k, device, &ignored); k++) {
            struct usage *usage = &devices->usages[devices->n_usages++];
            usage->worker = i;
            snprintf(usage->worker_id, sizeof usage->worker_id, "%s", live->workers[i]->worker_id);
            snprintf(usage->device, sizeof usage->device, "%s", device);
        }
    }
    return POOL_OK;
}

enum pool_code devices_ask(struct pool_gpu_inventory *inventory, struct devices *ret_devices,
                           struct pool_error *err)
{
    struct devices devices = { .taken_wall_ms = clock_wall_ms(), .asked_boottime_ns = clock_boottime_ns() };
    if (inventory) {
        enum pool_code code = pool_gpu_inventory_refresh(inventory, err);
        if (code == POOL_OK)
            code = pool_gpu_inventory_list(inventory, &devices.gpus, err);
        if (code != POOL_OK)
            return code;
    }
    *ret_devices = devices;
    return POOL_OK;
}

enum pool_code devices_attribute(struct devices *devices, const struct host_identity *host,
                                 const struct pool_worker_list *live, struct pool_error *err)
{
    enum pool_code code = list_usages(devices, live, err);
    if (code != POOL_OK)
        return code;
    for (size_t i = 0; devices->gpus && i < devices->gpus->n_gpus; i++)
        attribute_gpu(devices, devices->gpus->gpus[i], host, live);
    attribute_host(devices, live);
    assume_usage(devices, live);
    /* After the workers' own: what they took meanwhile is then missing here, and never counted as free. */
    int failure = host_memory_read(&devices->memory);
    return failure ? pool_error_set_errno(err, POOL_INTERNAL, failure, "/proc/meminfo") : POOL_OK;
}

void devices_attribute_promised(struct devices *devices, const struct host_identity *host,
                                struct pool_worker_list *promised)
{
    struct devices theirs = { .gpus = devices->gpus, .asked_boottime_ns = devices->asked_boottime_ns };
    if (promised && list_usages(&theirs, promised, NULL) == POOL_OK) {
        for (size_t i = 0; theirs.gpus && i < theirs.gpus->n_gpus; i++)
            attribute_gpu(&theirs, theirs.gpus->gpus[i], host, promised);
        assume_usage(&theirs, promised);
    }
    free(devices->promised_usages);
    pool_worker_list_free(devices->promised);
    devices->promised = promised;
    devices->n_promised_usages = theirs.n_usages;
    devices->promised_usages = theirs.usages;
}

/* What a worker of another manager has taken of its promise, as this snapshot shows it; 0 when it was made after it. */
static int64_t taken_elsewhere(const struct devices *devices, const char *worker_id, const char *device)
{
    for (size_t i = 0; i < devices->n_promised_usages; i++) {
        if (strcmp(devices->promised_usages[i].worker_id, worker_id) == 0 &&
            strcmp(devices->promised_usages[i].device, device) == 0)
            return devices->promised_usages[i].observed_bytes;
    }
    return 0;
}

/* Their names begin with the id of their state. */
static void add_elsewhere(const struct devices *devices, const struct pool_worker_list *promised,
                          struct pool_ledger_input *input, char state_id[UUID_TEXT_MAX])
{
    int64_t most = 0;
    for (size_t i = 0; promised && i < promised->n_workers; i++) {
        const struct pool_worker_info *worker = promised->workers[i];
        bool is_here;
        int64_t bytes = pool_worker_info_reserved_on(worker, input->device, &is_here);
        if (!is_here)
            continue;
        bytes = excess_bytes(bytes, taken_elsewhere(devices, worker->worker_id, input->device));
        input->elsewhere_bytes = add_bytes(input->elsewhere_bytes, bytes);
        if (bytes > most) {
            most = bytes;
            snprintf(state_id, UUID_TEXT_MAX, "%.36s", worker->worker_id);
            input->elsewhere_state_id = state_id;
        }
    }
}

enum pool_code devices_ledger(const struct devices *devices, const struct pool_gpu_info *gpu,
                              const struct pool_worker_list *live, const struct releases *releases,
                              const struct pool_worker_list *promised, int64_t headroom_bytes,
                              struct pool_ledger *ret_ledger, struct pool_error *err)
{
    char state_id[UUID_TEXT_MAX];
    CLEANUP_FREE struct pool_worker_usage *usages = calloc(devices->n_usages + 1, sizeof *usages);
    if (!usages)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < devices->n_usages; i++)
        usages[i] =
            (struct pool_worker_usage){ .worker_id = devices->usages[i].worker_id,
                                        .observed_bytes = devices->usages[i].observed_bytes,
                                        .device =
                                            devices->usages[i].device[0] ? devices->usages[i].device : NULL };
    struct pool_ledger_input input = { .struct_size = sizeof input,
                                       .device = gpu ? gpu->uuid : "host",
                                       .headroom_bytes = headroom_bytes,
                                       .workers = live,
                                       .n_usages = devices->n_usages,
                                       .usages = usages };
    if (gpu) {
        int64_t held_back_bytes;
        input.releasing_bytes =
            releases_bytes(releases, gpu, devices->asked_boottime_ns, clock_boottime_ns(), &held_back_bytes);
        input.total_bytes = gpu->vram_total_bytes;
        input.used_bytes = add_bytes(gpu->vram_used_bytes, held_back_bytes);
        input.free_bytes = excess_bytes(gpu->vram_free_bytes, held_back_bytes);
    } else {
        input.total_bytes = devices->memory.total_bytes;
        input.used_bytes = excess_bytes(devices->memory.total_bytes, devices->memory.available_bytes);
        input.free_bytes = devices->memory.available_bytes;
    }
    if (gpu)
        add_elsewhere(devices, promised, &input, state_id);
    pool_ledger_compute(&input, ret_ledger);
    return POOL_OK;
}
