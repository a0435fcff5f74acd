/*
 * A driver for one test: a folder of its own with the configuration of the fake libnvidia-ml.so.1 in it, which the
 * test writes and the fake reads at its next call. See fake_nvml/README.md for the format.
 *
 *     static struct fake_driver driver;
 *     fake_driver_start(&driver);                  in the test's setup
 *     fake_driver_set(&driver, "[gpu 0]\n…");      replaces the world
 *     pool_gpu_inventory_open(driver.url, …);
 *     fake_driver_end(&driver);                    in its teardown
 */
#ifndef FAKE_DRIVER_H
#define FAKE_DRIVER_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fake_driver {
    char folder[64];
    char config_path[96];
    char library_path[4096];
    char url[4104]; /* for pool_gpu_inventory_open */
};

/* Writes a whole file under its name at once. */
static inline bool fake_driver_write(const char *path, const char *text)
{
    char fresh[512];
    int n = snprintf(fresh, sizeof fresh, "%s.new", path);
    if (n < 0 || (size_t)n >= sizeof fresh)
        return false;
    FILE *file = fopen(fresh, "we");
    if (!file)
        return false;
    bool is_written = fputs(text, file) >= 0;
    is_written = fclose(file) == 0 && is_written;
    return is_written && rename(fresh, path) == 0;
}

static inline bool fake_driver_set(const struct fake_driver *driver, const char *world)
{
    return fake_driver_write(driver->config_path, world);
}

static inline bool fake_driver_start(struct fake_driver *driver)
{
    const char *build = getenv("POOL_BUILD_DIR");
    if (!build) {
        fprintf(stderr, "POOL_BUILD_DIR is not set: run this by ctest, or name the build folder\n");
        return false;
    }
    snprintf(driver->folder, sizeof driver->folder, "/tmp/fake-driver.XXXXXX");
    if (!mkdtemp(driver->folder))
        return false;
    snprintf(driver->config_path, sizeof driver->config_path, "%s/nvml.conf", driver->folder);
    snprintf(driver->library_path, sizeof driver->library_path, "%s/support/libnvidia-ml.so.1", build);
    snprintf(driver->url, sizeof driver->url, "nvml:%s", driver->library_path);
    return setenv("FAKE_NVML_CONFIG", driver->config_path, 1) == 0 && fake_driver_set(driver, "[driver]\n");
}

static inline void fake_driver_end(const struct fake_driver *driver)
{
    char fresh[128];
    snprintf(fresh, sizeof fresh, "%s.new", driver->config_path);
    unlink(fresh);
    unlink(driver->config_path);
    rmdir(driver->folder);
    unsetenv("FAKE_NVML_CONFIG");
}

#endif
