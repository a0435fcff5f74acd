/*
 * Proofs of hashed files; see proof.h. A proof is a text that follows from the file's state but for the sum, so reading
 * one is comparing bytes. It is trusted as far as its folder is: both must belong to us and be writable by nobody else.
 */
#include "core/catalog/proof.h"

#include <pool/catalog.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"

#define PROOF_TEXT_MAX 512

/*
 * Two changes within one tick of the file system's clock leave the same ctime. The kernel's tick is at most 10 ms
 * (CONFIG_HZ=100); file systems that keep whole seconds (ext4 with small inodes, some servers) show times without a
 * fraction, and get two of them. A file whose ctime is older than that when the hashing begins gets another ctime by
 * any change after that moment.
 */
#define CLOCK_TICK_NS        (50 * NS_PER_MS)
#define CLOCK_TICK_COARSE_NS (2 * NS_PER_SEC)
#define REMEMBERED_AGE_S     2 /* more than the coarsest clock of a file system */

static int64_t to_ns(const struct timespec *at)
{
    return (int64_t)at->tv_sec * NS_PER_SEC + at->tv_nsec;
}

/* FNV-1a: finds damage, not forgery; who can write here can write what they like. */
static uint64_t checksum(const char *text, size_t n)
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return sum;
}

/* The whole text of a proof; 0 when it does not fit. */
static size_t format_proof(const struct stat *st, const char *sha256, char text[PROOF_TEXT_MAX])
{
    int n = snprintf(text, PROOF_TEXT_MAX,
                     "pool-core proof 1\ndevice %ju\ninode %ju\nsize_bytes %jd\nmtime_ns %" PRId64
                     "\nctime_ns %" PRId64 "\nsha256 %s\n",
                     (uintmax_t)st->st_dev, (uintmax_t)st->st_ino, (intmax_t)st->st_size, to_ns(&st->st_mtim),
                     to_ns(&st->st_ctim), sha256);
    if (n <= 0 || n >= PROOF_TEXT_MAX)
        return 0;
    int m =
        snprintf(text + n, (size_t)(PROOF_TEXT_MAX - n), "check %016" PRIx64 "\n", checksum(text, (size_t)n));
    return m > 0 && m < PROOF_TEXT_MAX - n ? (size_t)(n + m) : 0;
}

static bool format_path(const char *proof_dir, const struct stat *st, char path[PATH_MAX])
{
    int n = snprintf(path, PATH_MAX, "%s/%jx-%jx", proof_dir, (uintmax_t)st->st_dev, (uintmax_t)st->st_ino);
    return n > 0 && n < PATH_MAX;
}

static bool is_ours(const struct stat *st)
{
    return st->st_uid == geteuid() && (st->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

bool proof_folder_is_ours(const char *proof_dir)
{
    struct stat st;
    return stat(proof_dir, &st) == 0 && S_ISDIR(st.st_mode) && is_ours(&st);
}

bool proof_file_is_ours(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && is_ours(&st);
}

bool proof_is_settled(const struct stat *st, const struct timespec *at)
{
    bool is_coarse = st->st_ctim.tv_nsec == 0;
    return to_ns(&st->st_ctim) <= to_ns(at) - (is_coarse ? CLOCK_TICK_COARSE_NS : CLOCK_TICK_NS);
}

bool proof_read(const char *proof_dir, const struct stat *st, char sha256[SHA256_TEXT_MAX])
{
    char path[PATH_MAX];
    if (!format_path(proof_dir, st, path) || !proof_folder_is_ours(proof_dir))
        return false;
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || !proof_file_is_ours(fd))
        return false;
    char text[PROOF_TEXT_MAX + 1];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    if (n <= 0)
        return false;
    text[n] = '\0';

    const char *found = strstr(text, "\nsha256 ");
    if (!found)
        return false;
    char sum[SHA256_TEXT_MAX];
    snprintf(sum, sizeof sum, "%s", found + strlen("\nsha256 "));
    if (strspn(sum, "0123456789abcdef") != SHA256_TEXT_MAX - 1)
        return false;
    char expected[PROOF_TEXT_MAX];
    size_t n_expected = format_proof(st, sum, expected);
    if (n_expected != (size_t)n || memcmp(text, expected, n_expected) != 0)
        return false;
    memcpy(sha256, sum, SHA256_TEXT_MAX);
    return true;
}

static void write_proof(const char *proof_dir, const struct stat *st, const char *sha256)
{
    char path[PATH_MAX];
    char text[PROOF_TEXT_MAX];
    size_t n = format_proof(st, sha256, text);
    if (n == 0 || !format_path(proof_dir, st, path))
        return;
    if (make_directories(proof_dir, 0700) != 0 || !proof_folder_is_ours(proof_dir))
        return;
    file_replace(path, text, n, 0600);
}

void proof_write(const char *proof_dir, const struct stat *st, const struct timespec *hashing_began,
                 const char sha256[SHA256_TEXT_MAX])
{
    if (proof_is_settled(st, hashing_began))
        write_proof(proof_dir, st, sha256);
}

/* A change after this moment gets the present as its modification time, whatever tick of the clock it is in. */
void pool_model_remember(const char *path, const char *proof_dir, const char *sha256)
{
    struct stat st;
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return;
    struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { 0 } };
    clock_gettime(CLOCK_REALTIME_COARSE, &times[1]);
    times[1].tv_sec -= REMEMBERED_AGE_S;
    if (futimens(fd, times) == 0 && fstat(fd, &st) == 0)
        write_proof(proof_dir, &st, sha256);
}
