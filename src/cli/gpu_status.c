/*
 * Devices and the processes on them; see gpu_status.h.
 *
 * Source: pid_namespaces(7) for the inode of the first namespace.
 */
#include "cli/gpu_status.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "cli/gpu_source.h"
#include "cli/remote.h"

#define PATH_BYTES          64
#define COMMAND_MAX_BYTES   (1 << 20)
#define PASSWD_MAX_BYTES    16384
#define FIRST_PID_NAMESPACE UINT64_C(0xeffffffc) /* PROC_PID_INIT_INO of the kernel */

enum pool_code get_status(struct cli *cli, struct pool_status_response **ret_status, struct pool_error *err)
{
    struct remote_http *daemon;
    struct pool_manager *manager;
    enum pool_code code = cli_get_pool(cli, &daemon, &manager, err);
    if (code != POOL_OK)
        return code;
    return daemon ? remote_status(cli, ret_status, err) : pool_manager_status(manager, ret_status, err);
}

static void close_inventory(struct pool_gpu_inventory **inventory)
{
    pool_gpu_inventory_close(*inventory);
}

enum pool_code get_gpus(struct cli *cli, struct pool_gpu_list **ret_list,
                        const struct pool_config **ret_config, struct pool_error *err)
{
    CLEANUP(close_inventory) struct pool_gpu_inventory *inventory = NULL;
    struct remote_http *daemon;
    *ret_config = NULL;
    enum pool_code code = cli_find_daemon(cli, &daemon, err);
    if (code == POOL_OK && daemon)
        return remote_list_gpus(cli, ret_list, err);
    if (code == POOL_OK)
        code = cli_get_config(cli, ret_config, err);
    if (code == POOL_OK)
        code = gpu_source_open(*ret_config, &inventory, err);
    return code == POOL_OK ? pool_gpu_inventory_list(inventory, ret_list, err) : code;
}

enum pool_code find_gpu(const struct pool_status_response *status, const char *gpu_id,
                        const struct pool_gpu_info **ret_gpu, struct pool_error *err)
{
    size_t n_gpus = status->gpus ? status->gpus->n_gpus : 0;
    const struct pool_gpu_info *gpu = status->gpus ? pool_gpu_list_find(status->gpus, gpu_id) : NULL;
    if (gpu) {
        *ret_gpu = gpu;
        return POOL_OK;
    }
    if (n_gpus == 0)
        pool_error_set(err, POOL_GPU_NOT_FOUND, "there is no GPU %.64s: there is none at all%s%s", gpu_id,
                       status->gpus && status->gpus->reason[0] ? ", " : "",
                       status->gpus ? status->gpus->reason : "");
    else
        pool_error_set(err, POOL_GPU_NOT_FOUND,
                       "there is no GPU %.64s; 'gpu list -v' shows the %zu there are", gpu_id, n_gpus);
    pool_error_add_text(err, "gpu_id", gpu_id);
    return POOL_GPU_NOT_FOUND;
}

/* ---- processes ---- */

/* Whether pids of the driver mean the processes that we see. */
static bool are_pids_ours(const struct cli *cli)
{
    struct stat status;
    return (!cli->daemon || cli_shares_state(cli)) && stat("/proc/self/ns/pid", &status) == 0 &&
           (uint64_t)status.st_ino == FIRST_PID_NAMESPACE;
}

/* On another machine nothing but the pids that its workers were recorded with can be compared, in the driver's namespace. */
static const char *worker_of_pid(const struct pool_status_response *status, int64_t pid)
{
    for (size_t i = 0; i < status->workers->n_workers; i++) {
        const struct pool_process_identity *process = &status->workers->workers[i]->process;
        if (process->pid == pid &&
            (process->pid_namespace == 0 || process->pid_namespace == FIRST_PID_NAMESPACE))
            return status->workers->workers[i]->worker_id;
    }
    return NULL;
}

static const char *worker_of_attribution(const struct pool_attribution *attribution, const char *gpu_uuid,
                                         int64_t pid)
{
    for (size_t i = 0; i < attribution->n_processes; i++) {
        const struct pool_attributed_process *process = &attribution->processes[i];
        if (process->pid == pid && strcmp(process->gpu_uuid, gpu_uuid) == 0)
            return process->worker_id[0] ? process->worker_id : NULL;
    }
    return NULL;
}

enum pool_code attribute_processes(const struct cli *cli, const struct pool_status_response *status,
                                   struct pool_attribution **ret_attribution, struct pool_error *err)
{
    *ret_attribution = NULL;
    return are_pids_ours(cli) ? pool_attribution_make(status->gpus, status->workers, ret_attribution, err)
                              : POOL_OK;
}

static void read_command(int64_t pid, char command[PROCESS_COMMAND_MAX])
{
    char path[PATH_BYTES];
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(COMMAND_MAX_BYTES);
    snprintf(path, sizeof path, "/proc/%" PRId64 "/cmdline", pid);
    if (file_read(path, &text) != 0 || text.n == 0) {
        strbuf_reset(&text);
        snprintf(path, sizeof path, "/proc/%" PRId64 "/comm", pid);
        if (file_read(path, &text) != 0)
            return;
    }
    for (size_t i = 0; i + 1 < text.n; i++) {
        if (text.data[i] == '\0' || text.data[i] == '\n')
            text.data[i] = ' ';
    }
    size_t n = strlen(strbuf_text(&text));
    while (n > 0 && (text.data[n - 1] == ' ' || text.data[n - 1] == '\n'))
        text.data[--n] = '\0';
    snprintf(command, PROCESS_COMMAND_MAX, "%s", strbuf_text(&text));
}

static void read_user(int64_t pid, char user[PROCESS_USER_MAX])
{
    char path[PATH_BYTES];
    char buffer[PASSWD_MAX_BYTES];
    struct stat status;
    struct passwd entry;
    struct passwd *found = NULL;
    snprintf(path, sizeof path, "/proc/%" PRId64, pid);
    if (stat(path, &status) < 0)
        return;
    if (getpwuid_r(status.st_uid, &entry, buffer, sizeof buffer, &found) == 0 && found)
        snprintf(user, PROCESS_USER_MAX, "%s", found->pw_name);
    else
        snprintf(user, PROCESS_USER_MAX, "%ju", (uintmax_t)status.st_uid);
}

void find_process_owner(const struct pool_status_response *status, const struct pool_attribution *attribution,
                        const struct pool_gpu_info *gpu, const struct pool_gpu_process *process,
                        struct gpu_process_owner *ret_owner)
{
    *ret_owner = (struct gpu_process_owner){ 0 };
    if (process->pid <= 0)
        return;
    if (!attribution) {
        ret_owner->worker_id = worker_of_pid(status, process->pid);
        return;
    }
    ret_owner->worker_id = worker_of_attribution(attribution, gpu->uuid, process->pid);
    read_command(process->pid, ret_owner->command);
    read_user(process->pid, ret_owner->user);
}
