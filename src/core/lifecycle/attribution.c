/*
 * Who holds the memory of devices: the processes that the driver lists, and whose they are. A process belongs to a worker
 * when it, its session or one of its parents is the worker's main process, by pid in this namespace or, for a worker that
 * was recorded in another one, by the pid that it has there.
 */
#include <errno.h>
#include <inttypes.h>
#include <pool/lifecycle.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/number.h"
#include "core/lifecycle/attribution.h"
#include "core/lifecycle/presence.h"

/* The inode of the first pid namespace, PROC_PID_INIT_INO of the kernel's include/linux/proc_ns.h. */
#define INITIAL_PID_NAMESPACE UINT64_C(0xEFFFFFFC)
#define ANCESTORS_MAX         64
#define STATUS_MAX_BYTES      65536

bool attribution_sees_drivers_pids(const struct host_identity *host)
{
    return host->pid_namespace == INITIAL_PID_NAMESPACE;
}

bool attribution_is_said(const struct pool_gpu_info *gpu, const struct pool_gpu_process *process)
{
    return process->used_vram_bytes.is_present && process->used_vram_bytes.value >= 0 &&
           (!gpu->is_vram_known || process->used_vram_bytes.value <= gpu->vram_total_bytes);
}

bool attribution_parse_nspid(const char *status, int64_t *ret_pid)
{
    const char *line = strstr(status, "\nNSpid:");
    if (!line)
        return false;
    line += strlen("\nNSpid:");
    const char *end = line + strcspn(line, "\n");
    const char *last = end;
    while (last > line && last[-1] >= '0' && last[-1] <= '9')
        last--;
    return last < end && parse_int64_n(last, (size_t)(end - last), 1, INT32_MAX, ret_pid);
}

/* The pid that a process has in its own namespace, and the namespace's inode. */
static bool read_own_pid(int64_t pid, int64_t *ret_own_pid, uint64_t *ret_namespace)
{
    char path[64];
    struct stat st;
    CLEANUP(strbuf_done) struct strbuf status = STRBUF_INIT(STATUS_MAX_BYTES);
    snprintf(path, sizeof path, "/proc/%" PRId64 "/ns/pid", pid);
    if (stat(path, &st) < 0)
        return false;
    snprintf(path, sizeof path, "/proc/%" PRId64 "/status", pid);
    if (file_read(path, &status) != 0 || !attribution_parse_nspid(strbuf_text(&status), ret_own_pid))
        return false;
    *ret_namespace = st.st_ino;
    return true;
}

static bool is_of_namespace(const struct pool_worker_info *worker, uint64_t pid_namespace)
{
    return worker->process.pid_namespace == 0 || worker->process.pid_namespace == pid_namespace;
}

static bool find_by_pid(const struct pool_worker_list *live, int64_t pid, uint64_t pid_namespace,
                        size_t *ret_index)
{
    for (size_t i = 0; pid > 0 && i < live->n_workers; i++) {
        if (live->workers[i]->process.pid == pid && is_of_namespace(live->workers[i], pid_namespace)) {
            *ret_index = i;
            return true;
        }
    }
    return false;
}

static bool is_any_elsewhere(const struct host_identity *host, const struct pool_worker_list *live)
{
    for (size_t i = 0; i < live->n_workers; i++) {
        if (live->workers[i]->process.pid > 0 && !is_of_namespace(live->workers[i], host->pid_namespace))
            return true;
    }
    return false;
}

bool attribution_find_owner(const struct host_identity *host, const struct pool_worker_list *live,
                            int64_t pid, size_t *ret_index)
{
    bool is_elsewhere = is_any_elsewhere(host, live);
    for (int i = 0; i < ANCESTORS_MAX && pid > 1; i++) {
        struct process_stat stat;
        int64_t own_pid;
        uint64_t own_namespace;
        if (find_by_pid(live, pid, host->pid_namespace, ret_index))
            return true;
        if (is_elsewhere && read_own_pid(pid, &own_pid, &own_namespace) &&
            own_namespace != host->pid_namespace && find_by_pid(live, own_pid, own_namespace, ret_index))
            return true;
        if (process_stat_read(pid, &stat) != 0)
            return false;
        if (find_by_pid(live, stat.session, host->pid_namespace, ret_index))
            return true;
        pid = stat.ppid;
    }
    return false;
}

/* ---- for people and metrics ---- */

void pool_attribution_free(struct pool_attribution *attribution)
{
    if (!attribution)
        return;
    free(attribution->processes);
    free(attribution->devices);
    free(attribution);
}

static void free_attribution(struct pool_attribution **attribution)
{
    pool_attribution_free(*attribution);
}

/* The name of a program as /proc has it, of printable ASCII; "" when the process is not there. */
static void read_command(int64_t pid, char *command, size_t n)
{
    char path[48];
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(256);
    snprintf(path, sizeof path, "/proc/%" PRId64 "/comm", pid);
    command[0] = '\0';
    if (file_read(path, &text) != 0)
        return;
    snprintf(command, n, "%.*s", (int)strcspn(strbuf_text(&text), "\n"), strbuf_text(&text));
    for (char *c = command; *c; c++) {
        if (*c < ' ' || *c > '~')
            *c = '?';
    }
}

static void attribute_process(const struct host_identity *host, const struct pool_worker_list *live,
                              const struct pool_gpu_info *gpu, const struct pool_gpu_process *process,
                              struct pool_attributed_process *ret_process)
{
    size_t index;
    *ret_process = (struct pool_attributed_process){ .gpu_id = gpu->gpu_id,
                                                     .pid = process->pid,
                                                     .used_vram_bytes = process->used_vram_bytes,
                                                     .is_graphics = process->is_graphics };
    snprintf(ret_process->gpu_uuid, sizeof ret_process->gpu_uuid, "%s", gpu->uuid);
    if (!attribution_is_said(gpu, process))
        ret_process->used_vram_bytes = (struct pool_reading){ false, 0 };
    if (process->pid <= 0 || !attribution_sees_drivers_pids(host))
        return;
    read_command(process->pid, ret_process->command, sizeof ret_process->command);
    if (attribution_find_owner(host, live, process->pid, &index))
        snprintf(ret_process->worker_id, sizeof ret_process->worker_id, "%s",
                 live->workers[index]->worker_id);
}

/* What a ready worker's processes hold on a device, as far as the driver tells. */
static int64_t held_by(const struct pool_attribution *attribution, const char *gpu_uuid,
                       const char *worker_id)
{
    int64_t sum = 0;
    for (size_t i = 0; i < attribution->n_processes; i++) {
        const struct pool_attributed_process *process = &attribution->processes[i];
        if (strcmp(process->worker_id, worker_id) == 0 && strcmp(process->gpu_uuid, gpu_uuid) == 0)
            sum = add_bytes(sum, process->used_vram_bytes.value);
    }
    return sum;
}

static void compare_with_promises(const struct pool_attribution *attribution,
                                  const struct pool_worker_list *live, struct pool_device_use *use)
{
    for (size_t i = 0; i < live->n_workers; i++) {
        const struct pool_worker_info *worker = live->workers[i];
        bool is_there;
        int64_t reserved = pool_worker_info_reserved_on(worker, use->gpu_uuid, &is_there);
        if (!is_there || worker->ready_boottime_ns == 0)
            continue;
        use->promised_bytes = add_bytes(use->promised_bytes, reserved);
        use->drift_bytes += held_by(attribution, use->gpu_uuid, worker->worker_id) - reserved;
    }
}

static void add_up(const struct pool_attribution *attribution, const struct host_identity *host,
                   const struct pool_worker_list *live, const struct pool_gpu_info *gpu,
                   struct pool_device_use *use)
{
    *use = (struct pool_device_use){ .gpu_id = gpu->gpu_id,
                                     .is_known = gpu->are_processes_known && gpu->is_vram_known,
                                     .used_bytes = gpu->is_vram_known ? gpu->vram_used_bytes : 0,
                                     .driver_bytes = gpu->vram_reserved_bytes.value,
                                     .are_holders_known =
                                         gpu->are_processes_known && attribution_sees_drivers_pids(host) };
    snprintf(use->gpu_uuid, sizeof use->gpu_uuid, "%s", gpu->uuid);
    for (size_t i = 0; i < attribution->n_processes; i++) {
        const struct pool_attributed_process *process = &attribution->processes[i];
        if (strcmp(process->gpu_uuid, gpu->uuid) != 0)
            continue;
        use->are_holders_known = use->are_holders_known && !presence_hides_holders(process);
        if (!process->used_vram_bytes.is_present)
            continue;
        int64_t *sum = process->worker_id[0] ? &use->worker_bytes : &use->foreign_bytes;
        *sum = add_bytes(*sum, process->used_vram_bytes.value);
    }
    use->unknown_bytes = excess_bytes(use->used_bytes, add_bytes(use->worker_bytes, use->foreign_bytes));
    if (use->is_known)
        compare_with_promises(attribution, live, use);
}

enum pool_code pool_attribution_make(const struct pool_gpu_list *gpus, const struct pool_worker_list *live,
                                     struct pool_attribution **ret_attribution, struct pool_error *err)
{
    struct host_identity host;
    size_t n = 0;
    int failure = host_identity_read(&host);
    if (failure)
        return pool_error_set_errno(err, POOL_INTERNAL, failure, "identity of this host in /proc");
    for (size_t i = 0; i < gpus->n_gpus; i++)
        n += gpus->gpus[i]->n_processes;
    CLEANUP(free_attribution) struct pool_attribution *attribution = calloc(1, sizeof *attribution);
    if (!attribution)
        return pool_error_no_memory(err);
    attribution->processes = calloc(n + 1, sizeof *attribution->processes);
    attribution->devices = calloc(gpus->n_gpus + 1, sizeof *attribution->devices);
    if (!attribution->processes || !attribution->devices)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < gpus->n_gpus; i++) {
        const struct pool_gpu_info *gpu = gpus->gpus[i];
        for (size_t k = 0; k < gpu->n_processes; k++)
            attribute_process(&host, live, gpu, &gpu->processes[k],
                              &attribution->processes[attribution->n_processes++]);
    }
    for (size_t i = 0; i < gpus->n_gpus; i++)
        add_up(attribution, &host, live, gpus->gpus[i], &attribution->devices[attribution->n_devices++]);
    *ret_attribution = take_ptr(&attribution);
    return POOL_OK;
}
