/*
 * See gpu_locks.h.
 */
#include "core/lifecycle/gpu_locks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "core/lifecycle/attribution.h"
#include "core/lifecycle/manager.h"
#include "core/lifecycle/promise.h"
#include "core/worker_fields.h"

#define NEW_PREFIX  ".new-"
#define READ_TRIES  3 /* of a file that its manager writes meanwhile */
#define SHARED_MODE 01777

/* ---- the directory ---- */

static void say(char *reason, size_t n, const char *path, const char *why)
{
    snprintf(reason, n, "%.200s: %s", path, why);
}

/* Whether others can be seen in it. `reason`: why not, or what else is to be known of it; "" when all is well. */
static bool judge(int fd, const char *path, char *reason, size_t n)
{
    struct stat status;
    struct statx more;
    struct host_identity host;
    reason[0] = '\0';
    if (fstat(fd, &status) < 0 || faccessat(fd, ".", R_OK | W_OK | X_OK, AT_EACCESS) < 0) {
        say(reason, n, path, strerrordesc_np(errno));
        return false;
    }
    if (status.st_uid != 0 && status.st_uid != geteuid())
        snprintf(reason, n, "%.200s belongs to user %ju, who can take promises of others away", path,
                 (uintmax_t)status.st_uid);
    else if ((status.st_mode & S_IWOTH) && !(status.st_mode & S_ISVTX))
        say(reason, n, path, "has no sticky bit: users can take promises of others away");
    else if (!(status.st_mode & S_IWOTH))
        say(reason, n, path, "other users can not write into it: their pools are not seen");
    if (host_identity_read(&host) == 0 && !attribution_sees_drivers_pids(&host) &&
        statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &more) == 0 &&
        !(more.stx_attributes & STATX_ATTR_MOUNT_ROOT))
        say(reason, n, path,
            "is this container's own: mount the host's there, or pools outside are not seen");
    return true;
}

/* -1 and the reason where it can not be had. is_making: it is made where it is missing. */
static int open_directory(const struct pool_config *config, bool is_making, char *reason, size_t n)
{
    const char *path = config->gpu_lock_dir;
    struct stat status;
    bool is_made = is_making && mkdir(path, 0777) == 0;
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        say(reason, n, path, strerrordesc_np(errno));
        return -1;
    }
    if (is_made)
        (void)!fchmod(fd, SHARED_MODE);
    /* One that somebody else made first, who could remove what others put into it. */
    if (is_making && geteuid() == 0 && fstat(fd, &status) == 0 && status.st_uid != 0 && fchown(fd, 0, 0) == 0)
        (void)!fchmod(fd, SHARED_MODE);
    return judge(fd, path, reason, n) ? take_fd(&fd) : -1;
}

/* ---- one file ---- */

static void name_of(const struct pool_manager *manager, const struct pool_worker_info *worker,
                    char name[PROMISE_NAME_MAX])
{
    snprintf(name, PROMISE_NAME_MAX, "%.36s.%" PRId64, manager->state.state_id, worker->created_boottime_ns);
}

static int write_promise(int fd, const struct pool_manager *manager, const struct pool_worker_info *worker)
{
    struct promise promise;
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(PROMISE_MAX_BYTES);
    promise_of_worker(manager->state.state_id, worker, &promise);
    if (!promise.process.boot_id[0])
        memcpy(promise.process.boot_id, manager->host.boot_id, sizeof promise.process.boot_id);
    if (!promise_encode(&promise, &text))
        return ENOMEM;
    ssize_t n = pwrite(fd, strbuf_text(&text), text.n, 0);
    if (n < 0)
        return errno;
    if ((size_t)n != text.n)
        return ENOSPC;
    return ftruncate(fd, (off_t)text.n) < 0 ? errno : 0;
}

/* Made under another name and locked before it gets its own: nobody sees one that is not whole, or not locked. */
static int make_file(int dir_fd, const struct pool_manager *manager, const struct pool_worker_info *worker,
                     int *ret_fd)
{
    char name[PROMISE_NAME_MAX], new_name[PROMISE_NAME_MAX + sizeof NEW_PREFIX];
    name_of(manager, worker, name);
    snprintf(new_name, sizeof new_name, NEW_PREFIX "%s", name);
    unlinkat(dir_fd, new_name, 0);
    CLEANUP_CLOSE int out =
        openat(dir_fd, new_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (out < 0)
        return errno;
    CLEANUP_CLOSE int held = openat(dir_fd, new_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int failure = held < 0 || flock(held, LOCK_EX | LOCK_NB) < 0 || fchmod(out, 0644) < 0 ? errno : 0;
    if (!failure)
        failure = write_promise(out, manager, worker);
    if (!failure && renameat(dir_fd, new_name, dir_fd, name) < 0)
        failure = errno;
    if (failure) {
        unlinkat(dir_fd, new_name, 0);
        return failure;
    }
    *ret_fd = take_fd(&held);
    return 0;
}

enum pool_code promise_make(struct pool_manager *manager, const struct pool_worker_info *worker, int *ret_fd,
                            struct pool_error *err)
{
    *ret_fd = -1;
    if (manager->gpu_locks.fd < 0 || !worker->gpu_uuid)
        return POOL_OK;
    int failure = make_file(manager->gpu_locks.fd, manager, worker, ret_fd);
    if (!failure)
        return POOL_OK;
    enum pool_code code = failure == ENOSPC || failure == EDQUOT  ? POOL_INSUFFICIENT_DISK
                          : failure == EACCES || failure == EPERM ? POOL_PERMISSION_DENIED
                          : failure == ENOMEM                     ? POOL_INSUFFICIENT_MEMORY
                                                                  : POOL_INTERNAL;
    pool_error_set_errno(err, code, failure, "the promise of worker %s in %s", worker->worker_id,
                         manager->config->gpu_lock_dir);
    pool_error_set_field(err, "gpu.lock_dir");
    return code;
}

void promise_update(struct pool_manager *manager, const struct pool_worker_info *worker)
{
    char reason[POOL_GPU_LOCKS_REASON_MAX], name[PROMISE_NAME_MAX];
    struct stat status;
    if (!worker->gpu_uuid)
        return;
    CLEANUP_CLOSE int dir_fd = open_directory(manager->config, true, reason, sizeof reason);
    if (dir_fd < 0)
        return;
    name_of(manager, worker, name);
    CLEANUP_CLOSE int fd = openat(dir_fd, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid()) {
        (void)!write_promise(fd, manager, worker);
        return;
    }
    /* Somebody removed it, or the worker was started before there was this directory: its process alone proves it. */
    CLEANUP_CLOSE int held = -1;
    if (fd < 0 && errno == ENOENT && worker->process.pid > 0)
        (void)!make_file(dir_fd, manager, worker, &held);
}

void promise_remove(struct pool_manager *manager, const struct pool_worker_info *worker)
{
    char name[PROMISE_NAME_MAX];
    if (!worker->gpu_uuid)
        return;
    CLEANUP_CLOSE int dir_fd =
        open(manager->config->gpu_lock_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    name_of(manager, worker, name);
    if (dir_fd >= 0)
        unlinkat(dir_fd, name, 0);
}

/* ---- what others promised ---- */

struct look {
    const struct pool_manager *manager;
    int dir_fd;
    bool is_locked;
    struct pool_worker_list *promised;
    int64_t n_files, n_ignored;
};

static bool is_alive(const struct pool_manager *manager, int fd, const struct promise *promise)
{
    if (strcmp(promise->process.boot_id, manager->host.boot_id) != 0)
        return false;
    if (flock(fd, LOCK_SH | LOCK_NB) < 0)
        return errno == EWOULDBLOCK;
    flock(fd, LOCK_UN);
    CLEANUP_CLOSE int pidfd = -1;
    return promise->process.pid > 0 &&
           process_open(&manager->host, &promise->process, &pidfd) == PROCESS_RUNNING;
}

static bool read_promise(int fd, struct promise *ret_promise)
{
    char text[PROMISE_MAX_BYTES + 1];
    for (int i = 0; i < READ_TRIES; i++) {
        ssize_t n = pread(fd, text, sizeof text, 0);
        if (n > 0 && promise_parse(text, (size_t)n, ret_promise))
            return true;
    }
    return false;
}

/* As a worker of ours, so that what it holds is found in the same way. NULL: no memory. */
static struct pool_worker_info *worker_of(const char *name, const struct promise *promise)
{
    CLEANUP(free_worker) struct pool_worker_info *worker = pool_worker_info_new();
    CLEANUP(strbuf_done)
    struct strbuf shares = STRBUF_INIT(PROMISE_MAX_BYTES);
    if (!worker)
        return NULL;
    for (size_t i = 0; i < promise->n_devices; i++)
        strbuf_printf(&shares, "%s%s=%" PRId64, i ? "," : "", promise->devices[i].uuid,
                      promise->devices[i].bytes);
    worker->worker_id = strdup(name);
    worker->gpu_uuid = strdup(promise->devices[0].uuid);
    worker->shares = strbuf_take(&shares);
    worker->process = promise->process;
    worker->created_boottime_ns = promise->created_boottime_ns;
    worker->ready_boottime_ns = promise->ready_boottime_ns;
    /* Nobody starts for longer than that: it has taken what it takes, though nobody said so. */
    if (worker->ready_boottime_ns == 0 && promise->until_boottime_ns > 0 &&
        promise->until_boottime_ns < clock_boottime_ns())
        worker->ready_boottime_ns = promise->until_boottime_ns;
    return worker->worker_id && worker->gpu_uuid && worker->shares ? take_ptr(&worker) : NULL;
}

/* One that counts no more is removed by who may: its owner or root. */
static void sweep(const struct look *look, const char *name, const struct stat *status)
{
    if (look->is_locked && (geteuid() == 0 || status->st_uid == geteuid()))
        unlinkat(look->dir_fd, name, 0);
}

static enum pool_code look_at_file(struct look *look, const char *name, struct pool_error *err)
{
    struct promise promise;
    struct stat status;
    CLEANUP_CLOSE int fd = openat(look->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
        return pool_error_set_errno(err, POOL_OVERLOADED, errno, "%s", look->manager->config->gpu_lock_dir);
    if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || !read_promise(fd, &promise)) {
        look->n_ignored += fd >= 0 || errno != ENOENT;
        return POOL_OK;
    }
    if (!is_alive(look->manager, fd, &promise)) {
        sweep(look, name, &status);
        return POOL_OK;
    }
    struct pool_worker_info *worker = worker_of(name, &promise);
    if (worker && worker_list_append(look->promised, worker))
        return POOL_OK;
    pool_worker_info_free(worker);
    return pool_error_no_memory(err);
}

static bool is_ours(const struct pool_manager *manager, const char *name)
{
    return strncmp(name, manager->state.state_id, UUID_TEXT_MAX - 1) == 0;
}

static enum pool_code look_at_all(struct look *look, struct pool_error *err)
{
    CLEANUP_CLOSE int fd = openat(look->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(close_directory) DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory)
        return pool_error_set_errno(err, POOL_OVERLOADED, errno, "%s", look->manager->config->gpu_lock_dir);
    take_fd(&fd);
    look->promised = calloc(1, sizeof *look->promised);
    enum pool_code code = look->promised ? POOL_OK : pool_error_no_memory(err);
    struct dirent *entry;
    while (code == POOL_OK && (entry = readdir(directory))) {
        struct stat status;
        bool is_new = strncmp(entry->d_name, NEW_PREFIX, sizeof NEW_PREFIX - 1) == 0;
        if (++look->n_files > GPU_LOCKS_FILES_MAX)
            code = pool_error_set(err, POOL_OVERLOADED, "more than %d files are in %s", GPU_LOCKS_FILES_MAX,
                                  look->manager->config->gpu_lock_dir);
        /* Under the lock nobody makes one: it was left by one who was killed. */
        else if (is_new && fstatat(look->dir_fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0)
            sweep(look, entry->d_name, &status);
        else if (entry->d_name[0] != '.' && !is_ours(look->manager, entry->d_name) &&
                 strlen(entry->d_name) < PROMISE_NAME_MAX)
            code = look_at_file(look, entry->d_name, err);
    }
    return code;
}

struct pool_worker_list *promises_look(struct pool_manager *manager)
{
    char reason[POOL_GPU_LOCKS_REASON_MAX];
    CLEANUP_CLOSE int fd = open_directory(manager->config, false, reason, sizeof reason);
    struct look look = { .manager = manager, .dir_fd = fd };
    if (fd < 0 || look_at_all(&look, NULL) == POOL_OK)
        return look.promised;
    pool_worker_list_free(look.promised);
    return NULL;
}

/* Those of our own workers that somebody removed, or that were started before there was the directory. */
static void mend_own(struct pool_manager *manager, const struct pool_worker_list *live)
{
    char name[PROMISE_NAME_MAX];
    for (size_t i = 0; live && i < live->n_workers; i++) {
        const struct pool_worker_info *worker = live->workers[i];
        name_of(manager, worker, name);
        if (worker->gpu_uuid && worker->process.pid > 0 &&
            faccessat(manager->gpu_locks.fd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
            promise_update(manager, worker);
    }
}

/* ---- the lock ---- */

enum pool_code gpu_locks_take(struct pool_manager *manager, const struct pool_worker_list *live,
                              struct pool_error *err)
{
    char reason[POOL_GPU_LOCKS_REASON_MAX];
    int failure = 0;
    CLEANUP_CLOSE int fd = open_directory(manager->config, true, reason, sizeof reason);
    if (fd < 0)
        return POOL_OK;
    enum pool_code code = flock_within(fd, LOCK_EX, GPU_LOCKS_WAIT_MAX_MS, &failure);
    if (code == POOL_CONFLICT)
        return pool_error_set(err, code, "%s is locked by another manager for more than %d ms: try again",
                              manager->config->gpu_lock_dir, GPU_LOCKS_WAIT_MAX_MS);
    if (code != POOL_OK)
        return pool_error_set_errno(err, POOL_INTERNAL, failure, "%s", manager->config->gpu_lock_dir);
    struct look look = { .manager = manager, .dir_fd = fd, .is_locked = true };
    code = look_at_all(&look, err);
    if (code != POOL_OK) {
        pool_worker_list_free(look.promised);
        return code;
    }
    manager->gpu_locks = (struct gpu_locks){ take_fd(&fd), look.promised };
    mend_own(manager, live);
    return POOL_OK;
}

void gpu_locks_release(struct pool_manager *manager)
{
    pool_worker_list_free(manager->gpu_locks.promised);
    close_fd(&manager->gpu_locks.fd); /* nobody else has this open file: the lock goes with it */
    manager->gpu_locks = (struct gpu_locks)GPU_LOCKS_INIT;
}

/* ---- for people ---- */

void pool_gpu_locks_look(const struct pool_config *config, struct pool_gpu_locks *ret_locks)
{
    struct pool_gpu_locks locks = { 0 };
    snprintf(locks.directory, sizeof locks.directory, "%s", config->gpu_lock_dir);
    CLEANUP_CLOSE int fd = open_directory(config, false, locks.reason, sizeof locks.reason);
    locks.is_shared = fd >= 0;
    *ret_locks = locks;
}
