/*
 * Checks of the machine: disks, ports, limits, cgroups, the clock.
 *
 * Source: statvfs(3), statfs(2), getrlimit(2), adjtimex(2), ip(7) (ip_local_port_range), cgroups(7).
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/vfs.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/number.h"
#include "cli/doctor.h"

#define STATE_FREE_MIN_BYTES  (INT64_C(1) << 30)
#define MODELS_FREE_MIN_BYTES (INT64_C(10) << 30)
#define NOFILE_WANTED         8192
#define SMALL_FILE_MAX        65536
#define SANE_WALL_MS          INT64_C(1735689600000) /* 2025-01-01 */

/* ---- disks ---- */

/* Of the nearest directory above that is there. false: none can be looked at. */
static bool find_free_bytes(const char *path, bool *ret_is_there, int64_t *ret_bytes)
{
    CLEANUP_FREE char *at = strdup(path);
    struct statvfs disk;
    *ret_is_there = true;
    while (at && statvfs(at, &disk) < 0) {
        char *slash = strrchr(at, '/');
        if (errno != ENOENT || !slash || slash == at)
            return false;
        *ret_is_there = false;
        *slash = '\0';
    }
    if (!at)
        return false;
    *ret_bytes = (int64_t)disk.f_bavail * (int64_t)disk.f_frsize;
    return true;
}

static void check_folder(struct doctor *doctor, const char *what, const char *path, int64_t least_bytes)
{
    char human[HUMAN_BYTES_MAX];
    int64_t free_bytes = 0;
    bool is_there = false;
    if (!find_free_bytes(path, &is_there, &free_bytes)) {
        doctor_warn(doctor, "disk", "see that its owner may look at it", "%s %s can not be looked at: %s",
                    what, path, strerrordesc_np(errno));
        return;
    }
    format_bytes(free_bytes, human);
    if (free_bytes < least_bytes)
        doctor_warn(doctor, "disk", "free some space, or name a folder on another disk in the configuration",
                    "%s %s: %s free", what, path, human);
    else
        doctor_good(doctor, "disk", "%s %s: %s free%s", what, path, human,
                    is_there ? "" : ", made when needed");
}

void doctor_check_disk(struct doctor *doctor)
{
    const struct pool_config *config = doctor->config;
    if (!config)
        return;
    check_folder(doctor, "state", config->state_dir, STATE_FREE_MIN_BYTES);
    for (size_t i = 0; i < config->n_models_dirs; i++)
        check_folder(doctor, "models", config->models_dirs[i], MODELS_FREE_MIN_BYTES);
}

/* ---- ports ---- */

/* The first two numbers of a small file. */
static bool read_two_numbers(const char *path, int64_t *ret_first, int64_t *ret_second)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(SMALL_FILE_MAX);
    if (file_read(path, &text) != 0)
        return false;
    const char *at = strbuf_text(&text);
    size_t n = strcspn(at, " \t\n");
    const char *second = at + n + strspn(at + n, " \t");
    return parse_int64_n(at, n, 0, 65535, ret_first) &&
           parse_int64_n(second, strcspn(second, " \t\n"), 0, 65535, ret_second);
}

/* Whether "1-5,7" has all ports of a range. */
static bool are_reserved(const char *list, int64_t first, int64_t last)
{
    int64_t wanted = first;
    while (*list && *list != '\n') {
        size_t n = strcspn(list, ",\n");
        size_t n_low = strcspn(list, "-,\n");
        int64_t low = 0;
        int64_t high = 0;
        if (!parse_int64_n(list, n_low, 0, 65535, &low))
            return false;
        high = low;
        if (n_low < n && !parse_int64_n(list + n_low + 1, n - n_low - 1, 0, 65535, &high))
            return false;
        if (low <= wanted && wanted <= high)
            wanted = high + 1;
        list += n + (list[n] == ',');
    }
    return wanted > last;
}

void doctor_check_ports(struct doctor *doctor)
{
    const struct pool_config *config = doctor->config;
    int64_t first = 0;
    int64_t last = 0;
    if (!config)
        return;
    if (!read_two_numbers("/proc/sys/net/ipv4/ip_local_port_range", &first, &last)) {
        doctor_note(doctor, "ports", NULL, "the ephemeral ports of the system can not be read");
        return;
    }
    int64_t from = config->port_first > first ? config->port_first : first;
    int64_t to = config->port_last < last ? config->port_last : last;
    CLEANUP(strbuf_done) struct strbuf reserved = STRBUF_INIT(SMALL_FILE_MAX);
    if (from > to)
        doctor_good(doctor, "ports",
                    "%" PRId64 "-%" PRId64 " lie outside of the ephemeral ports %" PRId64 "-%" PRId64,
                    config->port_first, config->port_last, first, last);
    else if (file_read("/proc/sys/net/ipv4/ip_local_reserved_ports", &reserved) == 0 &&
             are_reserved(strbuf_text(&reserved), from, to))
        doctor_good(doctor, "ports", "%" PRId64 "-%" PRId64 " are reserved among the ephemeral ports", from,
                    to);
    else
        doctor_warn(doctor, "ports",
                    "set workers.port_range below them, or reserve the ports: sysctl "
                    "net.ipv4.ip_local_reserved_ports=FIRST-LAST",
                    "%" PRId64 "-%" PRId64 " overlap the ephemeral ports %" PRId64 "-%" PRId64
                    ": an outgoing connection may hold a worker's port",
                    config->port_first, config->port_last, first, last);
}

/* ---- limits ---- */

void doctor_check_limits(struct doctor *doctor)
{
    struct rlimit files = { 0 };
    struct rlimit locked = { 0 };
    char human[HUMAN_BYTES_MAX];
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max < NOFILE_WANTED)
        doctor_warn(doctor, "limits", "raise it: ulimit -Hn 65536, or LimitNOFILE= of the unit",
                    "no more than %ju open files: a daemon with many workers and clients needs %d",
                    (uintmax_t)files.rlim_max, NOFILE_WANTED);
    else
        doctor_good(doctor, "limits", "%ju open files, up to %ju", (uintmax_t)files.rlim_cur,
                    (uintmax_t)files.rlim_max);
    if (getrlimit(RLIMIT_MEMLOCK, &locked) < 0)
        return;
    int64_t wanted = doctor->config ? doctor->config->staging_max_bytes : 0;
    if (locked.rlim_max == RLIM_INFINITY) {
        doctor_good(doctor, "limits", "memory may be locked without a limit");
        return;
    }
    format_bytes((int64_t)locked.rlim_max, human);
    if (wanted > 0 && (int64_t)locked.rlim_max < wanted)
        doctor_warn(doctor, "limits",
                    "raise it to staging.max_bytes: ulimit -Hl, or LimitMEMLOCK= of the unit",
                    "no more than %s may be locked in memory, staging.max_bytes is more", human);
    else
        doctor_good(doctor, "limits", "%s may be locked in memory", human);
}

/* ---- cgroups ---- */

/* Of the cgroup that we are in; absent: no limit, or it can not be read. */
static struct pool_reading memory_limit(void)
{
    CLEANUP(strbuf_done) struct strbuf groups = STRBUF_INIT(SMALL_FILE_MAX);
    CLEANUP(strbuf_done) struct strbuf limit = STRBUF_INIT(SMALL_FILE_MAX);
    CLEANUP_FREE char *path = NULL;
    struct pool_reading reading = { 0 };
    if (file_read("/proc/self/cgroup", &groups) != 0)
        return reading;
    const char *own = strstr(strbuf_text(&groups), "0::/");
    if (!own)
        return reading;
    own += 3;
    if (asprintf(&path, "/sys/fs/cgroup%.*s/memory.max", (int)strcspn(own, "\n"), own) < 0) {
        path = NULL;
        return reading;
    }
    if (file_read(path, &limit) == 0)
        reading.is_present = parse_int64_n(strbuf_text(&limit), strcspn(strbuf_text(&limit), "\n"), 0,
                                           INT64_MAX, &reading.value);
    return reading;
}

void doctor_check_cgroups(struct doctor *doctor)
{
    struct statfs mounted;
    char human[HUMAN_BYTES_MAX];
    if (statfs("/sys/fs/cgroup", &mounted) < 0 || mounted.f_type != CGROUP2_SUPER_MAGIC) {
        doctor_note(doctor, "cgroups", "boot with systemd.unified_cgroup_hierarchy=1",
                    "cgroup v2 is not mounted: workers get no cgroup of their own");
        return;
    }
    struct pool_reading limit = memory_limit();
    if (limit.is_present) {
        format_bytes(limit.value, human);
        doctor_good(doctor, "cgroups", "cgroup v2; this cgroup may hold %s of memory", human);
    } else {
        doctor_good(doctor, "cgroups", "cgroup v2; no memory limit here");
    }
}

/* ---- the clock ---- */

void doctor_check_clock(struct doctor *doctor)
{
    struct timex kernel = { 0 };
    int state = adjtimex(&kernel);
    if (clock_wall_ms() < SANE_WALL_MS)
        doctor_fail(doctor, "clock", POOL_INTERNAL, "set it: timedatectl set-ntp true",
                    "the clock is far in the past");
    else if (state < 0)
        doctor_note(doctor, "clock", NULL, "whether the clock is synchronised can not be read");
    else if (state == TIME_ERROR || (kernel.status & STA_UNSYNC) != 0)
        doctor_warn(doctor, "clock",
                    "synchronise it: timedatectl set-ntp true, or the host's when this is a container",
                    "the clock is not synchronised: times in logs and events may be wrong");
    else
        doctor_good(doctor, "clock", "synchronised");
}
