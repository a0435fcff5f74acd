// Reads the directory of claims. A claim counts when the process of that number started at the time the file
// says, so that a reused pid claims nothing. When a process is found dead, PID.START.dead records the moment,
// because the next one to ask is often another process; after the release delay both files are removed.
#include "claims.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_FILE_BYTES 4096
#define CACHE_NS       1000000 // a snapshot of many GPUs asks many times in a row

struct entry {
    char device[TEXT_SIZE]; // UUID, or index of a GPU
    struct claim claim;
};

static struct entry *entries;
static unsigned n_entries, n_allocated;
static struct claim *answer;
static char scanned_dir[sizeof((struct world *)0)->claims_dir];
static long long scanned_ns;

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (long long)now.tv_sec * 1000000000 + now.tv_nsec;
}

// Reads a small file into text (MAX_FILE_BYTES + 1); false when there is none.
static bool read_small(int dir, const char *name, char *text)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, MAX_FILE_BYTES);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

// Start time of a process in clock ticks (field 22 of /proc/PID/stat); false when it is gone or a zombie,
// whose memory the driver has taken back.
static bool read_start(unsigned pid, nvml_u64 *ret_start)
{
    char path[64], text[MAX_FILE_BYTES + 1];
    (void)snprintf(path, sizeof path, "/proc/%u/stat", pid);
    if (!read_small(AT_FDCWD, path, text))
        return false;
    char *at = strrchr(text, ')');
    if (at == NULL || at[1] != ' ' || strchr("ZXx", at[2]) != NULL)
        return false;
    at += 2; // the state, field 3
    for (unsigned field = 3; field < 22 && at != NULL; field++) {
        at = strchr(at, ' ');
        at = at != NULL ? at + 1 : NULL;
    }
    if (at == NULL)
        return false;
    *ret_start = strtoull(at, NULL, 10);
    return true;
}

// Whether the memory of a process that is dead is still held. The first to see it dead writes down when.
static bool is_releasing(int dir, const char *name, nvml_u64 start, nvml_u64 delay_ms)
{
    char dead[128], fresh[160], text[MAX_FILE_BYTES + 1];
    (void)snprintf(dead, sizeof dead, "%.32s.%llu.dead", name, start);
    if (delay_ms > 0 && !read_small(dir, dead, text)) {
        (void)snprintf(fresh, sizeof fresh, ".%s.%d", dead, (int)getpid());
        int fd = openat(dir, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd >= 0) {
            (void)dprintf(fd, "%lld\n", now_ns());
            close(fd);
            (void)linkat(dir, fresh, dir, dead, 0); // EEXIST: another one was first, whose time counts
            (void)unlinkat(dir, fresh, 0);
        }
        return true;
    }
    if (delay_ms > 0 && now_ns() - strtoll(text, NULL, 10) < (long long)delay_ms * 1000000)
        return true;
    (void)unlinkat(dir, name, 0);
    (void)unlinkat(dir, dead, 0);
    return false;
}

static bool add_entry(const char *device, nvml_u64 bytes, unsigned pid, bool is_alive)
{
    if (n_entries == n_allocated) {
        unsigned n = n_allocated == 0 ? 64 : n_allocated * 2;
        void *grown = realloc(entries, n * sizeof *entries);
        if (grown == NULL)
            return false;
        entries = grown;
        void *room = realloc(answer, n * sizeof *answer);
        if (room == NULL)
            return false;
        answer = room;
        n_allocated = n;
    }
    struct entry *entry = &entries[n_entries++];
    (void)snprintf(entry->device, sizeof entry->device, "%s", device);
    entry->claim = (struct claim){ .pid = pid, .bytes = bytes, .is_alive = is_alive };
    return true;
}

// A claim file: "start TICKS", then lines "UUID-OR-INDEX BYTES".
static void read_claim(int dir, const char *name, unsigned pid, nvml_u64 delay_ms)
{
    char text[MAX_FILE_BYTES + 1], *rest = text, *line;
    if (!read_small(dir, name, text))
        return;
    if (strncmp(text, "start ", 6) != 0) {
        fprintf(stderr, "fake-nvml: claim %s does not begin with its start time\n", name);
        return;
    }
    nvml_u64 claimed_start = strtoull(text + 6, NULL, 10), start = 0;
    bool is_alive = read_start(pid, &start) && start == claimed_start;
    if (!is_alive && !is_releasing(dir, name, claimed_start, delay_ms))
        return;
    while ((line = strsep(&rest, "\n")) != NULL) {
        char *bytes = strchr(line, ' ');
        if (bytes == NULL || strncmp(line, "start ", 6) == 0)
            continue;
        *bytes++ = '\0';
        if (!add_entry(line, strtoull(bytes, NULL, 10), pid, is_alive))
            return;
    }
}

static void scan(const struct world *world)
{
    long long now = now_ns();
    if (strcmp(scanned_dir, world->claims_dir) == 0 && now - scanned_ns < CACHE_NS)
        return;
    n_entries = 0;
    DIR *dir = opendir(world->claims_dir);
    if (dir == NULL)
        return;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        char *end;
        unsigned long pid = strtoul(entry->d_name, &end, 10);
        if (end != entry->d_name && *end == '\0' && pid > 0 && pid <= 0x7FFFFFFF)
            read_claim(dirfd(dir), entry->d_name, (unsigned)pid, world->release_delay_ms.value);
    }
    closedir(dir);
    memcpy(scanned_dir, world->claims_dir, sizeof scanned_dir);
    scanned_ns = now;
}

static bool is_device(const char *name, const struct device *device)
{
    if (strcmp(name, device->uuid) == 0)
        return true;
    char index[16];
    (void)snprintf(index, sizeof index, "%u", device->index);
    return !device->is_mig && strcmp(name, index) == 0;
}

static bool is_on(const struct world *world, const char *name, const struct device *device)
{
    if (is_device(name, device))
        return true;
    for (unsigned i = 0; !device->is_mig && i < world->n_devices; i++) {
        const struct device *mig = &world->devices[i];
        if (mig->is_mig && mig->gpu == device->index && is_device(name, mig))
            return true;
    }
    return false;
}

unsigned claims_on(const struct world *world, const struct device *device, const struct claim **ret_claims)
{
    unsigned n = 0;
    if (world->claims_dir[0] != '\0') {
        scan(world);
        for (unsigned i = 0; i < n_entries; i++)
            if (is_on(world, entries[i].device, device))
                answer[n++] = entries[i].claim;
    }
    *ret_claims = answer;
    return n;
}
