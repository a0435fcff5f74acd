/*
 * The manager: a configuration put to work on a state directory. It opens what is needed when it is needed, and
 * answers what only looks. Starting is in spawn.c and ready.c, stopping in stop.c, settling in settle.c.
 */
#include "core/lifecycle/manager.h"
#include "core/lifecycle/presence.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "core/lifecycle/cordon.h"
#include "core/lifecycle/release.h"
#include "core/lifecycle/worker_log.h"

void manager_add_notice(struct pool_manager *manager, const char *format, ...)
{
    size_t n = strlen(manager->notice);
    va_list args;
    if (n > 0)
        n += (size_t)snprintf(manager->notice + n, sizeof manager->notice - n, "; ");
    if (n >= sizeof manager->notice)
        return;
    va_start(args, format);
    vsnprintf(manager->notice + n, sizeof manager->notice - n, format, args);
    va_end(args);
}

bool pool_manager_is_superseded(const struct pool_manager *manager)
{
    return manager->state.is_superseded;
}

const char *pool_manager_notice(const struct pool_manager *manager)
{
    return manager->notice;
}

/* ---- the registry ---- */

/* Where the options of a registry's URL begin: behind the last '/', for a folder may have a '?' in its name. */
static size_t url_options_at(const char *url)
{
    const char *slash = strrchr(url, '/');
    const char *name = slash ? slash : url;
    return (size_t)(name - url) + strcspn(name, "?");
}

/* The file of a sqlite: URL, without its options; NULL for another kind. Owned by the caller. */
static char *registry_file(const char *url)
{
    static const char scheme[] = "sqlite:";
    if (strncmp(url, scheme, sizeof scheme - 1) != 0)
        return NULL;
    return strndup(url + sizeof scheme - 1, url_options_at(url) - (sizeof scheme - 1));
}

/* WAL needs shared memory that other hosts can not see; on a network file system it stays off. */
static char *registry_url(const struct pool_manager *manager)
{
    const char *url = manager->config->registry_url;
    char *text = NULL;
    if (!manager->state.is_network || strncmp(url, "sqlite:", 7) != 0 || url[url_options_at(url)] == '?')
        return strdup(url);
    return asprintf(&text, "%s?wal=0", url) < 0 ? NULL : text;
}

/* Nothing of the lost database may be taken for a part of the new one. */
static int set_aside(const char *file, char *ret_name, size_t n)
{
    static const char *const parts[] = { "", "-wal", "-shm" };
    char date[32];
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(date, sizeof date, "%Y%m%dT%H%M%SZ", &utc);
    snprintf(ret_name, n, "%s.corrupt-%s", file, date);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        CLEANUP_FREE char *from = NULL;
        CLEANUP_FREE char *to = NULL;
        if (asprintf(&from, "%s%s", file, parts[i]) < 0 || asprintf(&to, "%s%s", ret_name, parts[i]) < 0)
            return ENOMEM;
        if (rename(from, to) < 0 && !(i > 0 && errno == ENOENT))
            return errno;
    }
    return 0;
}

static bool is_corrupt(const struct pool_error *error)
{
    const struct pool_detail *detail = pool_error_detail(error, "is_corrupt");
    return detail && detail->number != 0;
}

/*
 * A registry is whole when the workers that run have been put into it: a new file is not, be it the first ever or one
 * that replaces a lost one. Whoever finds it without this note finishes the work, so that nobody takes a registry that
 * is being rebuilt, or whose rebuilding was killed, for an empty one. The note is when that was, wall time in ms.
 */
static const char whole_note[] = "whole";

static enum pool_code is_registry_whole(struct pool_manager *manager, bool *ret_is_whole,
                                        struct pool_error *err)
{
    CLEANUP_FREE char *text = NULL;
    enum pool_code code = pool_worker_registry_get_note(manager->registry, whole_note, &text, err);
    *ret_is_whole = code == POOL_OK && text;
    return code;
}

/* Under the lock. Does nothing to a registry that is whole. */
static enum pool_code make_registry_whole(struct pool_manager *manager, size_t *ret_n_workers,
                                          struct pool_error *err)
{
    bool is_whole;
    enum pool_code code = is_registry_whole(manager, &is_whole, err);
    if (code != POOL_OK || is_whole)
        return code;
    char began[24];
    snprintf(began, sizeof began, "%" PRId64, clock_wall_ms());
    code = rebuild_registry(manager, ret_n_workers, err);
    return code != POOL_OK ? code : pool_worker_registry_set_note(manager->registry, whole_note, began, err);
}

int64_t manager_registry_began(struct pool_manager *manager)
{
    CLEANUP_FREE char *text = NULL;
    int64_t began_ms = 0;
    if (pool_worker_registry_get_note(manager->registry, whole_note, &text, NULL) != POOL_OK || !text ||
        !parse_int64(text, 0, INT64_MAX, &began_ms))
        return 0;
    return began_ms;
}

/* Which file it is that is open; nothing for a registry in memory. */
static void remember_file(struct pool_manager *manager)
{
    CLEANUP_FREE char *file = registry_file(manager->config->registry_url);
    struct stat st = { 0 };
    if (!file || stat(file, &st) < 0)
        st = (struct stat){ 0 };
    manager->registry_device = st.st_dev;
    manager->registry_inode = st.st_ino;
}

static bool is_file_replaced(const struct pool_manager *manager)
{
    CLEANUP_FREE char *file = registry_file(manager->config->registry_url);
    struct stat st;
    return file && manager->registry_inode != 0 &&
           (stat(file, &st) < 0 || st.st_dev != manager->registry_device ||
            st.st_ino != manager->registry_inode);
}

/* Opens it and reads every record of it. */
static enum pool_code open_and_read(struct pool_manager *manager, const char *url, struct pool_error *err)
{
    static const enum pool_registry_scope scopes[] = { POOL_REGISTRY_LIVE, POOL_REGISTRY_HISTORY };
    enum pool_code code = pool_worker_registry_open(url, &manager->registry, err);
    for (size_t i = 0; code == POOL_OK && i < sizeof scopes / sizeof scopes[0]; i++) {
        CLEANUP(free_worker_list) struct pool_worker_list *list = NULL;
        code = pool_worker_registry_list(manager->registry, scopes[i], &list, err);
    }
    return code;
}

/* Under the lock: whoever else found it corrupt may have mended it meanwhile. */
static enum pool_code mend_registry(struct pool_manager *manager, struct pool_error *err)
{
    CLEANUP_FREE char *url = registry_url(manager);
    if (!url)
        return pool_error_no_memory(err);
    CLEANUP_FREE char *file = registry_file(url);
    char name[4200];
    size_t n_workers = 0;
    struct pool_error why = POOL_ERROR_INIT;
    pool_worker_registry_close(take_ptr(&manager->registry));
    enum pool_code code = open_and_read(manager, url, &why);
    if (code == POOL_OK) {
        remember_file(manager);
        return make_registry_whole(manager, &n_workers, err);
    }
    if (!is_corrupt(&why) || !file) {
        if (err)
            *err = why;
        return code;
    }
    pool_worker_registry_close(take_ptr(&manager->registry));
    int failure = set_aside(file, name, sizeof name);
    if (failure)
        return pool_error_set_errno(err, POOL_REGISTRY_UNAVAILABLE, failure, "setting the corrupt %s aside",
                                    file);
    code = pool_worker_registry_open(url, &manager->registry, err);
    remember_file(manager);
    if (code == POOL_OK)
        code = make_registry_whole(manager, &n_workers, err);
    if (code == POOL_OK)
        manager_add_notice(
            manager,
            "the registry could not be read (%.120s); it was set aside as %.160s and rebuilt from %zu "
            "running worker%s",
            why.message, name, n_workers, n_workers == 1 ? "" : "s");
    return code;
}

static enum pool_code open_registry(struct pool_manager *manager, struct pool_error *err)
{
    CLEANUP_FREE char *url = registry_url(manager);
    if (!url)
        return pool_error_no_memory(err);
    struct pool_error why = POOL_ERROR_INIT;
    bool is_whole = false;
    enum pool_code code = pool_worker_registry_open(url, &manager->registry, &why);
    remember_file(manager);
    if (code == POOL_OK)
        code = is_registry_whole(manager, &is_whole, &why);
    if (code == POOL_OK && is_whole)
        return POOL_OK;
    /* What may pass can be the middle of somebody else's mending, which is over when the lock can be had. */
    if (code != POOL_OK && !is_corrupt(&why) && !why.is_retriable) {
        if (err)
            *err = why;
        return code;
    }
    bool is_damaged = code != POOL_OK;
    size_t n_workers = 0;
    code = state_dir_lock(&manager->state, POOL_LOCK_WAIT_MAX_MS, err);
    if (code == POOL_OK)
        code = is_damaged ? mend_registry(manager, err) : make_registry_whole(manager, &n_workers, err);
    state_dir_unlock(&manager->state);
    if (code == POOL_OK && n_workers > 0)
        manager_add_notice(manager, "the registry was missing and was rebuilt from %zu running worker%s",
                           n_workers, n_workers == 1 ? "" : "s");
    return code;
}

enum pool_code manager_lock(struct pool_manager *manager, struct pool_error *err)
{
    enum pool_code code = state_dir_lock(&manager->state, POOL_LOCK_WAIT_MAX_MS, err);
    if (code != POOL_OK || !is_file_replaced(manager))
        return code;
    code = mend_registry(manager, err);
    if (code != POOL_OK)
        state_dir_unlock(&manager->state);
    return code;
}

enum pool_code manager_list_registry(struct pool_manager *manager, enum pool_registry_scope scope,
                                     struct pool_worker_list **ret_list, struct pool_error *err)
{
    struct pool_error why = POOL_ERROR_INIT;
    enum pool_code code = POOL_OK;
    if (manager->registry) { /* else it could not be mended the last time */
        code = pool_worker_registry_list(manager->registry, scope, ret_list, &why);
        if (code == POOL_OK)
            return POOL_OK;
        if (!is_corrupt(&why)) {
            if (err)
                *err = why;
            return code;
        }
    }
    bool was_locked = manager->state.is_locked;
    code = was_locked ? POOL_OK : state_dir_lock(&manager->state, POOL_LOCK_WAIT_MAX_MS, err);
    if (code == POOL_OK)
        code = mend_registry(manager, err);
    if (!was_locked)
        state_dir_unlock(&manager->state);
    return code != POOL_OK ? code : pool_worker_registry_list(manager->registry, scope, ret_list, err);
}

/* ---- open and close ---- */

static void close_manager(struct pool_manager **manager)
{
    pool_manager_close(*manager);
}

static enum pool_code open_header_cache(struct pool_manager *manager, struct pool_error *err)
{
    CLEANUP_FREE char *folder = pool_config_proof_dir(manager->config);
    return folder ? header_cache_open(folder, &manager->headers, err) : pool_error_no_memory(err);
}

enum pool_code pool_manager_open(const struct pool_config *config, const struct pool_manager_options *options,
                                 struct pool_manager **ret_manager, struct pool_error *err)
{
    CLEANUP(close_manager) struct pool_manager *manager = calloc(1, sizeof *manager);
    if (!manager)
        return pool_error_no_memory(err);
    manager->config = config;
    manager->environment = options->environment;
    manager->borrowed_inventory = options->gpu_inventory;
    manager->is_daemon = options->is_daemon;
    manager->is_unrestricted = options->is_unrestricted;
    manager->on_explanation = options->on_explanation;
    manager->explanation_context = options->explanation_context;
    manager->state = (struct state_dir)STATE_DIR_INIT;
    manager->gpu_locks = (struct gpu_locks)GPU_LOCKS_INIT;
    manager->cgroups = (struct cgroups)CGROUPS_INIT;
    (void)!getrlimit(RLIMIT_NOFILE, &manager->descriptors);
    int failure = host_identity_read(&manager->host);
    if (failure)
        return pool_error_set_errno(err, POOL_INTERNAL, failure, "identity of this host in /proc");
    enum pool_code code = state_dir_open(&manager->state, config->state_dir, config->is_state_dir_explicit,
                                         options->is_daemon, err);
    if (code == POOL_OK)
        code = open_registry(manager, err);
    if (code == POOL_OK)
        code = open_header_cache(manager, err);
    if (code != POOL_OK)
        return code;
    if (manager->is_daemon)
        cgroups_open(&manager->cgroups);
    *ret_manager = take_ptr(&manager);
    return POOL_OK;
}

void pool_manager_close(struct pool_manager *manager)
{
    if (!manager)
        return;
    manager_free_children(manager);
    cgroups_close(&manager->cgroups);
    pool_explanation_free(manager->draft);
    displaced_clear(manager);
    free(manager->callback_url);
    pool_worker_registry_close(manager->registry);
    catalogs_done(&manager->catalogs);
    header_cache_close(manager->headers);
    pool_gpu_inventory_close(manager->gpu_inventory);
    gpu_locks_release(manager);
    state_dir_close(&manager->state);
    free(manager);
}

const struct pool_config *pool_manager_config(const struct pool_manager *manager)
{
    return manager->config;
}

enum pool_code manager_inventory(struct pool_manager *manager, struct pool_gpu_inventory **ret_inventory,
                                 struct pool_error *err)
{
    if (manager->borrowed_inventory) {
        *ret_inventory = manager->borrowed_inventory;
        return POOL_OK;
    }
    if (!manager->gpu_inventory) {
        enum pool_code code =
            pool_gpu_inventory_open(manager->config->gpu_inventory, &manager->gpu_inventory, err);
        if (code != POOL_OK)
            return code;
    }
    *ret_inventory = manager->gpu_inventory;
    return POOL_OK;
}

enum pool_code pool_manager_catalog(struct pool_manager *manager,
                                    const struct pool_model_catalog **ret_catalog, struct pool_error *err)
{
    enum pool_code code = catalogs_read(&manager->catalogs, manager->config, err);
    if (code == POOL_OK)
        *ret_catalog = manager->catalogs.in_force;
    return code;
}

enum pool_code pool_manager_share_catalog(struct pool_manager *manager,
                                          struct pool_model_catalog **ret_catalog, struct pool_error *err)
{
    enum pool_code code = catalogs_read(&manager->catalogs, manager->config, err);
    if (code == POOL_OK)
        *ret_catalog = pool_model_catalog_share(manager->catalogs.in_force);
    return code;
}

const char *pool_manager_catalog_fault(const struct pool_manager *manager)
{
    return manager->catalogs.fault;
}

/* ---- looking ---- */

enum pool_code pool_manager_list_workers(struct pool_manager *manager, enum pool_registry_scope scope,
                                         struct pool_worker_list **ret_list, struct pool_error *err)
{
    CLEANUP(free_worker_list) struct pool_worker_list *list = NULL;
    enum pool_code code = manager_list_registry(manager, POOL_REGISTRY_LIVE, &list, err);
    if (code == POOL_OK)
        code = settle(manager, true, &list, err);
    if (code == POOL_OK && scope == POOL_REGISTRY_HISTORY) {
        pool_worker_list_free(take_ptr(&list));
        code = manager_list_registry(manager, scope, &list, err);
    }
    if (code != POOL_OK)
        return code;
    for (size_t i = 0; scope == POOL_REGISTRY_LIVE && i < list->n_workers; i++)
        worker_log_trim(list->workers[i]->log_path);
    *ret_list = take_ptr(&list);
    return POOL_OK;
}

enum pool_code pool_manager_get_worker(struct pool_manager *manager, const char *worker_id,
                                       struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(free_worker_list) struct pool_worker_list *list = NULL;
    if (!pool_worker_id_is_valid(worker_id)) {
        pool_error_set(err, POOL_INVALID_REQUEST, "not a worker id: it has 1 to 64 of A-Z a-z 0-9 . _ -");
        pool_error_set_field(err, "worker_id");
        return POOL_INVALID_REQUEST;
    }
    enum pool_code code = manager_list_registry(manager, POOL_REGISTRY_LIVE, &list, err);
    if (code == POOL_OK)
        code = settle(manager, true, &list, err);
    return code != POOL_OK ? code : pool_worker_registry_get(manager->registry, worker_id, ret_worker, err);
}

/* ---- status ---- */

static enum pool_code fill_ledgers(struct pool_manager *manager, struct pool_status_response *status,
                                   const struct devices *devices, struct pool_error *err)
{
    CLEANUP_FREE struct releases *releases = releases_read(manager);
    size_t n_gpus = devices->gpus->n_gpus;
    enum pool_code code = POOL_OK;
    if (!releases)
        return pool_error_no_memory(err);
    status->ledgers = calloc(n_gpus + 1, sizeof *status->ledgers);
    if (!status->ledgers)
        return pool_error_no_memory(err);
    for (size_t i = 0; code == POOL_OK && i <= n_gpus; i++) {
        const struct pool_gpu_info *gpu = i < n_gpus ? devices->gpus->gpus[i] : NULL;
        if (gpu && (!gpu->is_placeable || !gpu->is_vram_known || !gpu->uuid[0]))
            continue;
        int64_t headroom = gpu ? manager->config->gpu_vram_headroom_bytes : 0;
        code = devices_ledger(devices, gpu, status->workers, releases, devices->promised, headroom,
                              &status->ledgers[status->n_ledgers], err);
        status->n_ledgers++;
    }
    return code;
}

/* Of a worker on several devices the sum, if it is known of each; they follow each other. */
static void fill_usage(struct pool_worker_list *workers, const struct devices *devices)
{
    for (size_t i = 0, next; i < devices->n_usages; i = next) {
        size_t worker = devices->usages[i].worker;
        struct pool_reading observed = { .is_present = true };
        for (next = i; next < devices->n_usages && devices->usages[next].worker == worker; next++) {
            observed.is_present = observed.is_present && devices->usages[next].is_attributed;
            observed.value = add_bytes(observed.value, devices->usages[next].observed_bytes);
        }
        if (observed.is_present)
            workers->workers[worker]->observed_bytes = observed;
    }
}

static int64_t count_free_ports(const struct pool_config *config, const struct pool_worker_list *workers)
{
    int64_t n = config->port_last - config->port_first + 1;
    for (size_t i = 0; i < workers->n_workers; i++)
        n -=
            workers->workers[i]->port >= config->port_first && workers->workers[i]->port <= config->port_last;
    return n;
}

static void free_status(struct pool_status_response **status)
{
    pool_status_response_free(*status);
}

enum pool_code pool_manager_status(struct pool_manager *manager, struct pool_status_response **ret_status,
                                   struct pool_error *err)
{
    CLEANUP(free_status) struct pool_status_response *status = calloc(1, sizeof *status);
    CLEANUP(devices_done) struct devices devices = { 0 };
    struct pool_gpu_inventory *inventory;
    int64_t generation = 0;
    if (!status)
        return pool_error_no_memory(err);
    enum pool_code code = manager_inventory(manager, &inventory, err);
    if (code == POOL_OK)
        code = devices_ask(inventory, &devices, err);
    if (code == POOL_OK)
        code = cordons_apply(manager, devices.gpus, err);
    if (code == POOL_OK)
        code = manager->is_daemon
                   ? pool_manager_rows(manager, POOL_REGISTRY_LIVE, &status->workers, err)
                   : pool_manager_list_workers(manager, POOL_REGISTRY_LIVE, &status->workers, err);
    if (code == POOL_OK)
        code = devices_attribute(&devices, &manager->host, status->workers, err);
    if (code == POOL_OK && devices.gpus->n_gpus > 0)
        devices_attribute_promised(&devices, &manager->host, promises_look(manager));
    if (code == POOL_OK)
        presence_note_all(manager, devices.gpus, devices.asked_boottime_ns, status->workers);
    if (code == POOL_OK)
        code = fill_ledgers(manager, status, &devices, err);
    if (code == POOL_OK)
        code = pool_worker_registry_generation(manager->registry, &generation, err);
    if (code != POOL_OK)
        return code;
    fill_usage(status->workers, &devices);
    pool_gpu_locks_look(manager->config, &status->gpu_locks);
    status->pool_id = strdup(manager->config->pool_id);
    /* Local mode has no epoch of its own: the registry's identity stands for it. */
    if (asprintf(&status->generation, "%.8s-%" PRId64, manager->state.state_id, generation) < 0)
        status->generation = NULL;
    if (!status->pool_id || !status->generation)
        return pool_error_no_memory(err);
    status->gpus = take_ptr(&devices.gpus);
    status->timestamp_wall_ms = clock_wall_ms();
    status->n_workers_max = POOL_WORKERS_MAX;
    status->n_ports_free = count_free_ports(manager->config, status->workers);
    *ret_status = take_ptr(&status);
    return POOL_OK;
}
