/*
 * Files of unfinished downloads; see part.h.
 */
#include "cli/download/part.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/number.h"

#define FILE_MODE      0666 /* less the umask, as any file of the user's */
#define DIRECTORY_MODE 0777
#define LOCK_TRIES     100

enum pool_code part_report(struct pool_error *err, int failure, const char *what, const char *path)
{
    enum pool_code code;
    switch (failure) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG: code = POOL_INSUFFICIENT_DISK; break;
    case EACCES:
    case EPERM:
    case EROFS: code = POOL_PERMISSION_DENIED; break;
    case ENOMEM: return pool_error_no_memory(err);
    default: code = POOL_INTERNAL; break;
    }
    pool_error_set_errno(err, code, failure, "cannot %s %s", what, path);
    pool_error_add_text(err, "path", path);
    return code;
}

static char *join(const char *dir, const char *key, const char *suffix)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s%s", dir, key, suffix) < 0 ? NULL : path;
}

enum pool_code part_init(struct part *part, const char *final_path, const char *dir, const char *key,
                         struct pool_error *err)
{
    *part = (struct part)PART_INIT;
    part->final_path = strdup(final_path);
    part->dir = strdup(dir);
    part->data_path = join(dir, key, ".part");
    part->state_path = join(dir, key, ".state");
    part->lock_path = join(dir, key, ".lock");
    if (part->final_path && part->dir && part->data_path && part->state_path && part->lock_path)
        return POOL_OK;
    part_done(part);
    return pool_error_no_memory(err);
}

void part_done(struct part *part)
{
    close_fd(&part->data_fd);
    close_fd(&part->state_fd);
    close_fd(&part->lock_fd);
    free(part->final_path);
    free(part->dir);
    free(part->data_path);
    free(part->state_path);
    free(part->lock_path);
    part_state_done(&part->state);
    *part = (struct part)PART_INIT;
}

/* ---- the lock ---- */

/* Whether the name still leads to the file that was locked: who finishes takes the lock's file away. */
static bool is_still_there(int fd, const char *path)
{
    struct stat of_fd;
    struct stat of_path;
    return fstat(fd, &of_fd) == 0 && stat(path, &of_path) == 0 && of_fd.st_dev == of_path.st_dev &&
           of_fd.st_ino == of_path.st_ino;
}

enum pool_code part_try_lock(struct part *part, bool *ret_is_locked, struct pool_error *err)
{
    *ret_is_locked = false;
    for (int n_tries = 0;; n_tries++) {
        int failure = make_directories(part->dir, DIRECTORY_MODE);
        if (failure)
            return part_report(err, failure, "make the folder", part->dir);
        CLEANUP_CLOSE int fd = open(part->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
        if (fd < 0 && errno == ENOENT && n_tries < LOCK_TRIES)
            continue; /* another one has finished and taken the folder away */
        if (fd < 0)
            return part_report(err, errno, "open", part->lock_path);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            if (errno == EWOULDBLOCK)
                return POOL_OK;
            return part_report(err, errno, "lock", part->lock_path);
        }
        if (!is_still_there(fd, part->lock_path))
            continue;
        part->lock_fd = take_fd(&fd);
        *ret_is_locked = true;
        return POOL_OK;
    }
}

/* ---- beginning ---- */

static bool read_state(const struct part *part, const struct part_content *content,
                       struct part_state *ret_state)
{
    CLEANUP(strbuf_done) struct strbuf bytes = STRBUF_INIT(PART_STATE_MAX_BYTES);
    return file_read(part->state_path, &bytes) == 0 &&
           part_state_read(ret_state, content, strbuf_text(&bytes), bytes.n);
}

int64_t part_peek_done_bytes(const struct part *part, const struct part_content *content)
{
    CLEANUP(part_state_done) struct part_state state = { 0 };
    return read_state(part, content, &state) ? part_state_done_bytes(&state) : -1;
}

int64_t part_missing_bytes(const struct part *part, const struct part_content *content)
{
    struct stat st;
    int64_t has_bytes = stat(part->data_path, &st) == 0 ? (int64_t)st.st_blocks * 512 : 0;
    return excess_bytes(content->size_bytes, has_bytes);
}

static void read_boot_id(char boot_id[PART_BOOT_ID_MAX])
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(64);
    if (file_read("/proc/sys/kernel/random/boot_id", &text) != 0)
        strbuf_reset(&text);
    snprintf(boot_id, PART_BOOT_ID_MAX, "%s", strbuf_text(&text));
    boot_id[strcspn(boot_id, "\n")] = '\0';
}

static enum pool_code report_full(const struct part *part, int64_t required_bytes, int failure,
                                  struct pool_error *err)
{
    char required[HUMAN_BYTES_MAX];
    char available[HUMAN_BYTES_MAX];
    struct statvfs fs = { 0 };
    int64_t available_bytes = fstatvfs(part->data_fd, &fs) == 0 ? (int64_t)(fs.f_bavail * fs.f_frsize) : -1;
    format_bytes(required_bytes, required);
    format_bytes(available_bytes, available);
    pool_error_set_errno(err, POOL_INSUFFICIENT_DISK, failure, "%s needs %s, its file system has %s free",
                         part->final_path, required, available);
    pool_error_add_number(err, "required_bytes", required_bytes);
    pool_error_add_number(err, "available_bytes", available_bytes);
    pool_error_add_text(err, "path", part->dir);
    return POOL_INSUFFICIENT_DISK;
}

/* File systems that can not reserve are asked whether there is room now. */
static enum pool_code reserve(struct part *part, const struct part_content *content, struct pool_error *err)
{
    int64_t required_bytes = part_missing_bytes(part, content);
    struct statvfs fs;
    if (content->size_bytes == 0)
        return POOL_OK;
    if (fstatvfs(part->data_fd, &fs) == 0 && (int64_t)(fs.f_bavail * fs.f_frsize) < required_bytes)
        return report_full(part, required_bytes, ENOSPC, err);
    if (fallocate(part->data_fd, 0, 0, content->size_bytes) == 0)
        return POOL_OK;
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
        return report_full(part, required_bytes, errno, err);
    if (ftruncate(part->data_fd, content->size_bytes) == 0)
        return POOL_OK;
    return errno == EFBIG ? report_full(part, required_bytes, errno, err)
                          : part_report(err, errno, "reserve space for", part->data_path);
}

static int write_at(int fd, const void *bytes, size_t n, int64_t at)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t done = pwrite(fd, p, n, at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return errno;
        p += done;
        n -= (size_t)done;
        at += done;
    }
    return 0;
}

static int write_state(struct part *part)
{
    unsigned char head[PART_HEAD_BYTES];
    unsigned char record[PART_RECORD_BYTES];
    part_state_head(&part->state, head);
    int failure = write_at(part->state_fd, head, sizeof head, 0);
    for (size_t i = 0; !failure && i < part->state.n_pieces; i++) {
        int64_t at = part_state_record(&part->state, i, record);
        failure = write_at(part->state_fd, record, sizeof record, at);
    }
    return failure;
}

/* The state goes first and comes last, so that there is none that speaks of other bytes. */
static enum pool_code begin_anew(struct part *part, const struct part_content *content, const char *boot_id,
                                 struct pool_error *err)
{
    if (unlink(part->state_path) < 0 && errno != ENOENT)
        return part_report(err, errno, "remove", part->state_path);
    if (ftruncate(part->data_fd, 0) < 0)
        return part_report(err, errno, "truncate", part->data_path);
    enum pool_code code = reserve(part, content, err);
    if (code != POOL_OK) {
        part_discard(part); /* what it has taken so far helps nobody */
        return code;
    }
    part_state_done(&part->state);
    if (!part_state_init(&part->state, content, boot_id))
        return pool_error_no_memory(err);
    part->state_fd = open(part->state_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
    if (part->state_fd < 0)
        return part_report(err, errno, "open", part->state_path);
    int failure = write_state(part);
    return failure ? part_report(err, failure, "write", part->state_path) : POOL_OK;
}

static enum pool_code go_on(struct part *part, const struct part_content *content, const char *boot_id,
                            bool *ret_is_old, struct pool_error *err)
{
    enum pool_code code = reserve(part, content, err);
    if (code != POOL_OK)
        return code;
    *ret_is_old = strcmp(part->state.boot_id, boot_id) != 0;
    snprintf(part->state.boot_id, sizeof part->state.boot_id, "%s", boot_id);
    part->state_fd = open(part->state_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (part->state_fd < 0)
        return part_report(err, errno, "open", part->state_path);
    return POOL_OK;
}

enum pool_code part_prepare(struct part *part, const struct part_content *content, bool *ret_is_old,
                            struct pool_error *err)
{
    char boot_id[PART_BOOT_ID_MAX];
    struct stat st;
    read_boot_id(boot_id);
    *ret_is_old = false;
    part->data_fd = open(part->data_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
    if (part->data_fd < 0 || fstat(part->data_fd, &st) < 0)
        return part_report(err, errno, "open", part->data_path);
    /* Whole from the beginning, see reserve(): another size says that it is not what the state speaks of. */
    bool can_go_on = st.st_size == content->size_bytes && read_state(part, content, &part->state);
    return can_go_on ? go_on(part, content, boot_id, ret_is_old, err)
                     : begin_anew(part, content, boot_id, err);
}

/* ---- bytes ---- */

static enum pool_code write_record(struct part *part, size_t index, struct pool_error *err)
{
    unsigned char record[PART_RECORD_BYTES];
    int64_t at = part_state_record(&part->state, index, record);
    int failure = write_at(part->state_fd, record, sizeof record, at);
    return failure ? part_report(err, failure, "write", part->state_path) : POOL_OK;
}

enum pool_code part_write(struct part *part, size_t index, const void *bytes, size_t n,
                          struct pool_error *err)
{
    struct part_piece *piece = &part->state.pieces[index];
    int64_t at = part_piece_start(&part->state, index) + piece->done_bytes;
    int failure = write_at(part->data_fd, bytes, n, at);
    if (failure)
        return part_report(err, failure, "write", part->data_path);
    piece->done_bytes += (int64_t)n;
    return write_record(part, index, err);
}

enum pool_code part_set_sum(struct part *part, size_t index, const unsigned char sum[SHA256_BYTES],
                            struct pool_error *err)
{
    struct part_piece *piece = &part->state.pieces[index];
    memcpy(piece->sum, sum, SHA256_BYTES);
    piece->is_summed = true;
    return write_record(part, index, err);
}

enum pool_code part_forget_piece(struct part *part, size_t index, struct pool_error *err)
{
    part->state.pieces[index] = (struct part_piece){ 0 };
    return write_record(part, index, err);
}

/* ---- the end ---- */

static int sync_directory(const char *path)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? errno : 0;
}

/* The folder of a path and the three above it: of a commit, a repository, an organisation, and the models. */
static int sync_directories(const char *path)
{
    char dir[PATH_MAX];
    int failure = 0;
    snprintf(dir, sizeof dir, "%s", path);
    for (int i = 0; i < 4 && !failure; i++) {
        char *slash = strrchr(dir, '/');
        if (!slash || slash == dir)
            break;
        *slash = '\0';
        failure = sync_directory(dir);
    }
    return failure == EACCES ? 0 : failure; /* a folder above ours that we may not read */
}

static int make_final_directory(const char *final_path)
{
    char dir[PATH_MAX];
    size_t n = strlen(final_path);
    if (n >= sizeof dir)
        return ENAMETOOLONG;
    memcpy(dir, final_path, n + 1);
    *strrchr(dir, '/') = '\0';
    return make_directories(dir, DIRECTORY_MODE);
}

enum pool_code part_publish(struct part *part, struct pool_error *err)
{
    if (fsync(part->data_fd) < 0)
        return part_report(err, errno, "write", part->data_path);
    int failure = make_final_directory(part->final_path);
    if (failure)
        return part_report(err, failure, "make the folder of", part->final_path);
    if (rename(part->data_path, part->final_path) < 0)
        return part_report(err, errno, "give its name to", part->final_path);
    failure = sync_directories(part->final_path);
    if (failure)
        return part_report(err, failure, "write the folder of", part->final_path);
    part_discard(part);
    return POOL_OK;
}

void part_discard(struct part *part)
{
    unlink(part->state_path);
    unlink(part->data_path);
    unlink(part->lock_path);
    (void)rmdir(part->dir); /* stays when others are unfinished */
}
