/*
 * Devices and the processes on them; see gpu_status.h.
 *
 * Source: proc_pid_stat(5) for the parent and the session, pid_namespaces(7) for the inode of the first namespace.
 */
#include "cli/gpu_status.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/number.h"
#include "cli/remote.h"

#define PATH_BYTES          64
#define STAT_MAX_BYTES      4096
#define COMMAND_MAX_BYTES   (1 << 20)
#define PASSWD_MAX_BYTES    16384
#define ANCESTORS_MAX       64
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

/* The parent and the session; false: it is gone, or closed to us. */
static bool read_stat(int64_t pid, int64_t *ret_parent, int64_t *ret_session)
{
    char path[PATH_BYTES];
    int64_t numbers[3];
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(STAT_MAX_BYTES);
    snprintf(path, sizeof path, "/proc/%" PRId64 "/stat", pid);
    if (file_read(path, &text) != 0)
        return false;
    const char *at = strrchr(strbuf_text(&text), ')'); /* its name may hold anything */
    if (!at || strlen(at) < 4)
        return false;
    at += 4; /* ") S " */
    for (size_t i = 0; i < 3; i++) {
        size_t n = strcspn(at, " ");
        if (!parse_int64_n(at, n, 0, INT64_MAX, &numbers[i]))
            return false;
        at += n + (at[n] == ' ');
    }
    *ret_parent = numbers[0];
    *ret_session = numbers[2];
    return true;
}

static const char *worker_of_pid(const struct pool_status_response *status, int64_t pid)
{
    for (size_t i = 0; pid > 0 && i < status->workers->n_workers; i++) {
        const struct pool_worker_info *worker = status->workers->workers[i];
        if (worker->process.pid == pid)
            return worker->worker_id;
    }
    return NULL;
}

static const char *worker_of_tree(const struct pool_status_response *status, int64_t pid)
{
    int64_t parent = 0;
    int64_t session = 0;
    for (int i = 0; i < ANCESTORS_MAX && pid > 1 && read_stat(pid, &parent, &session); i++) {
        const char *worker_id = worker_of_pid(status, session);
        if (!worker_id)
            worker_id = worker_of_pid(status, parent);
        if (worker_id)
            return worker_id;
        pid = parent;
    }
    return NULL;
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

void find_process_owner(const struct cli *cli, const struct pool_status_response *status,
                        const struct pool_gpu_process *process, struct gpu_process_owner *ret_owner)
{
    *ret_owner = (struct gpu_process_owner){ .worker_id = worker_of_pid(status, process->pid) };
    if (process->pid <= 0 || !are_pids_ours(cli))
        return;
    if (!ret_owner->worker_id)
        ret_owner->worker_id = worker_of_tree(status, process->pid);
    read_command(process->pid, ret_owner->command);
    read_user(process->pid, ret_owner->user);
}
