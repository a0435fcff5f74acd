// The claim file of this process in the fake driver's directory (format: ../fake_nvml/README.md).
#include "worker.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Our start time in clock ticks: field 22 of /proc/self/stat, counted after the name, which may hold
// anything.
static unsigned long long own_start(void)
{
    char text[1024];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    char *at = strrchr(text, ')');
    for (int field = 2; field < 22 && at != NULL; field++)
        at = strchr(at + 1, ' ');
    return at != NULL ? strtoull(at + 1, NULL, 10) : 0;
}

// The device a claim names. "visible" is the first of CUDA_VISIBLE_DEVICES, as ordinal 0 is for CUDA, "visible1"
// the second; NULL: none.
static const char *device_of(const char *name, char *buffer, size_t size)
{
    if (strncmp(name, "visible", strlen("visible")) != 0)
        return name;
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (visible == NULL)
        return "0";
    for (unsigned long i = strtoul(name + strlen("visible"), NULL, 10); i > 0; i--) {
        visible += strcspn(visible, ",");
        visible += *visible == ',';
    }
    (void)snprintf(buffer, size, "%.*s", (int)strcspn(visible, ","), visible);
    return buffer[0] == '\0' || buffer[0] == '-' ? NULL : buffer;
}

void write_claim(const struct options *options, unsigned part, unsigned parts)
{
    char path[4096], fresh[4096], text[2048];
    if (options->n_claims == 0)
        return;
    int length = snprintf(text, sizeof text, "start %llu\n", own_start());
    for (unsigned i = 0; i < options->n_claims; i++) {
        char name[128], visible[128];
        const char *colon = strrchr(options->claims[i], ':');
        long long bytes;
        if (colon == NULL || !read_size(colon + 1, &bytes) || bytes < 0) {
            fprintf(stderr, "fake-worker: --vram %s: say GPU:BYTES\n", options->claims[i]);
            exit(2);
        }
        (void)snprintf(name, sizeof name, "%.*s", (int)(colon - options->claims[i]), options->claims[i]);
        const char *device = device_of(name, visible, sizeof visible);
        if (device != NULL)
            length += snprintf(text + length, sizeof text - (size_t)length, "%.100s %lld\n", device,
                               part == parts ? bytes : bytes / parts * part);
    }
    (void)snprintf(path, sizeof path, "%.4000s/%d", options->claims_dir, (int)getpid());
    (void)snprintf(fresh, sizeof fresh, "%.4000s/.%d.new", options->claims_dir, (int)getpid());
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, (size_t)length) != length || rename(fresh, path) < 0) {
        perror("fake-worker: --vram-claims");
        exit(1);
    }
    close(fd);
}
