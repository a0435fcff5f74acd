/*
 * Checks of the pool itself: its configuration, its state directory, the daemon, the locks of GPUs.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <pool/pool.h>

#include "base/cleanup.h"
#include "cli/doctor.h"
#include "cli/remote.h"

/* ---- configuration and catalogs ---- */

static void take_problem(bool is_warning, const char *message, void *context)
{
    struct doctor *doctor = context;
    if (is_warning)
        doctor_warn(doctor, "config", "'rbees-pool config check' shows all of it", "%s", message);
    else
        doctor_fail(doctor, "config", POOL_INVALID_CONFIG, "'rbees-pool config check' shows all of it", "%s",
                    message);
}

static void check_catalogs(struct doctor *doctor, const struct pool_config *config)
{
    struct pool_catalog_problem *problems = NULL;
    struct pool_model_catalog *catalog = NULL;
    struct pool_error error = POOL_ERROR_INIT;
    size_t n_problems = 0;
    enum pool_code code = pool_model_catalog_open((const char *const *)config->catalogs, config->n_catalogs,
                                                  &catalog, &problems, &n_problems, &error);
    if (code != POOL_OK)
        doctor_fail(doctor, "catalogs", code, "'rbees-pool config check' shows all of it", "%s",
                    error.message);
    else if (config->n_catalogs == 0)
        doctor_note(doctor, "catalogs", "'rbees-pool dev setup' writes one to begin with",
                    "there is none; models are named by file: and hf:");
    else
        doctor_good(doctor, "catalogs", "%zu, %zu warnings", config->n_catalogs, n_problems);
    pool_catalog_problems_free(problems, n_problems);
    pool_model_catalog_close(catalog);
}

void doctor_check_config(struct doctor *doctor)
{
    struct cli *cli = doctor->cli;
    struct pool_config_override overrides[CLI_OVERRIDES_MAX];
    struct pool_config_sources sources = cli_config_sources(cli, overrides);
    struct pool_error error = POOL_ERROR_INIT;
    size_t n_before = doctor->n_findings;
    if (pool_config_check(&sources, take_problem, doctor, &cli->config, &error) != POOL_OK) {
        if (doctor->n_findings == n_before)
            take_problem(false, error.message, doctor);
        return;
    }
    doctor->config = cli->config;
    doctor_good(doctor, "config", "%s",
                cli->config->file ? cli->config->file : "no file; the defaults are used");
    check_catalogs(doctor, cli->config);
}

/* ---- the state directory ---- */

static void check_owner(struct doctor *doctor, const char *path, const struct stat *status)
{
    if (status->st_uid != geteuid())
        doctor_fail(doctor, "state", POOL_PERMISSION_DENIED,
                    "run as its owner, or name another directory with --state-dir",
                    "%s belongs to uid %ju, this is uid %ju", path, (uintmax_t)status->st_uid,
                    (uintmax_t)geteuid());
    else if ((status->st_mode & 077) != 0)
        doctor_warn(doctor, "state", "chmod 700 it: the logs and the registry are nobody else's",
                    "%s can be entered by others", path);
}

void doctor_check_state(struct doctor *doctor)
{
    struct stat status;
    struct pool_manager *manager;
    struct remote_http *daemon = NULL;
    struct pool_error error = POOL_ERROR_INIT;
    if (!doctor->config)
        return;
    const char *path = doctor->config->state_dir;
    if (stat(path, &status) < 0) {
        if (errno == ENOENT)
            doctor_good(doctor, "state", "%s is made by the first start", path);
        else
            doctor_fail(doctor, "state", POOL_PERMISSION_DENIED, "see that you may enter it", "%s: %s", path,
                        strerrordesc_np(errno));
        return;
    }
    check_owner(doctor, path, &status);
    if (status.st_uid != geteuid() || doctor->cli->globals.url)
        return;
    bool is_silent = false;
    if (cli_find_daemon(doctor->cli, &daemon, &error) == POOL_OK && daemon)
        return; /* it has the registry open; the check of the daemon asks it */
    if (cli_is_daemon_silent(doctor->cli, &is_silent, &error) == POOL_OK && is_silent)
        return; /* nor can it be opened then: that check says so too */
    enum pool_code code = cli_get_manager(doctor->cli, &manager, &error);
    if (code != POOL_OK)
        doctor_fail(doctor, "state", code, "the message says what is in the way", "%s", error.message);
    else if (*pool_manager_notice(manager))
        doctor_warn(doctor, "state", "'rbees-pool worker list' shows what was found", "%s",
                    pool_manager_notice(manager));
    else
        doctor_good(doctor, "state", "%s, its registry can be read", path);
    if (code == POOL_OK)
        pool_manager_close(take_ptr(&doctor->cli->manager));
}

/* ---- the daemon ---- */

static void release_status(struct pool_status_response **status)
{
    pool_status_response_free(*status);
}

void doctor_check_daemon(struct doctor *doctor)
{
    struct cli *cli = doctor->cli;
    struct remote_http *daemon = NULL;
    struct pool_error error = POOL_ERROR_INIT;
    CLEANUP(release_status) struct pool_status_response *status = NULL;
    if (!doctor->config && !cli->globals.url)
        return;
    bool is_silent = false;
    enum pool_code code = cli_find_daemon(cli, &daemon, &error);
    if (code == POOL_OK && !daemon)
        code = cli_is_daemon_silent(cli, &is_silent, &error);
    if (is_silent && doctor->config) {
        doctor_fail(doctor, "daemon", POOL_CONFLICT, "see its log; restart it when it hangs: workers live on",
                    "a daemon manages %s and does not answer at %s", doctor->config->state_dir,
                    doctor->config->daemon_socket);
        return;
    }
    if (code == POOL_OK && !daemon) {
        doctor_note(doctor, "daemon", "pool-managerd starts it",
                    "none runs for this state directory; commands do the work themselves");
        return;
    }
    if (code == POOL_OK)
        code = remote_status(cli, &status, &error);
    if (code != POOL_OK)
        doctor_fail(doctor, "daemon", code, "see its log; restart it when it hangs: workers live on", "%s",
                    error.message);
    else
        doctor_good(doctor, "daemon", "answers at %s: pool %s, %zu workers",
                    remote_http_address(daemon)->name, status->pool_id ? status->pool_id : "?",
                    status->workers ? status->workers->n_workers : 0);
}

/* ---- locks of GPUs ---- */

static bool can_make(const char *path)
{
    CLEANUP_FREE char *parent = strdup(path);
    char *slash = parent ? strrchr(parent, '/') : NULL;
    if (!slash || slash == parent)
        return false;
    *slash = '\0';
    return access(parent, W_OK | X_OK) == 0;
}

/* Two pools on one machine keep off each other's bytes by promises in a directory that both can write into. */
void doctor_check_gpu_locks(struct doctor *doctor)
{
    struct pool_gpu_locks locks;
    if (!doctor->config)
        return;
    const char *path = doctor->config->gpu_lock_dir;
    snprintf(doctor->gpu_locks_fix, sizeof doctor->gpu_locks_fix, "as root: install -d -m 1777 %.400s", path);
    pool_gpu_locks_look(doctor->config, &locks);
    if (!locks.is_shared && access(path, F_OK) < 0 && errno == ENOENT && can_make(path))
        doctor_good(doctor, "gpu locks", "%s is made when needed", path);
    else if (!locks.is_shared)
        doctor_warn(doctor, "gpu locks", doctor->gpu_locks_fix,
                    "%s: pools of other users on this machine are not seen", locks.reason);
    else if (locks.reason[0])
        doctor_warn(doctor, "gpu locks", doctor->gpu_locks_fix, "%s", locks.reason);
    else
        doctor_good(doctor, "gpu locks", "%s can be used", path);
}
