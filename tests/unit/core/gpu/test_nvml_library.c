/*
 * Finding and loading the driver's library: none, one that is none, one without the functions that are needed, one
 * without all the others, and the search through the paths of the dynamic linker.
 */
#include "core/gpu/nvml_library.h"

#include <dlfcn.h>
#include <limits.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pool/gpu.h>
#include <cmocka.h>

#include "base/file.h"
#include "fake_driver.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct fake_driver driver;

static int start_driver(void **state)
{
    (void)state;
    return fake_driver_start(&driver) && fake_driver_set(&driver, "[gpu 0]\n[gpu 1]\n") ? 0 : -1;
}

static int end_driver(void **state)
{
    (void)state;
    fake_driver_end(&driver);
    return 0;
}

/* What the inventory of a library shows; its reason must say why when that is nothing. */
static struct pool_gpu_list *look_at(const char *path)
{
    char url[PATH_MAX + 8];
    snprintf(url, sizeof url, "nvml:%s", path);
    struct pool_gpu_inventory *inventory = NULL;
    struct pool_gpu_list *list = NULL;
    assert_int_equal(pool_gpu_inventory_open(url, &inventory, NULL), POOL_OK);
    assert_int_equal(pool_gpu_inventory_list(inventory, &list, NULL), POOL_OK);
    pool_gpu_inventory_close(inventory);
    assert_true((list->n_gpus == 0) == (list->reason[0] != '\0'));
    return list;
}

static int run_program(char *const argv[], char *const environment[])
{
    pid_t pid = -1;
    int status = -1;
    assert_int_equal(posix_spawnp(&pid, argv[0], NULL, NULL, argv, environment), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void what_is_no_library_of_a_driver_is_a_reason(void **state)
{
    (void)state;
    char text_file[128];
    snprintf(text_file, sizeof text_file, "%s/libnvidia-ml.so.1", driver.folder);
    assert_true(fake_driver_write(text_file, "not a library\n"));
    Dl_info libc = { .dli_fname = NULL };
    assert_int_not_equal(dladdr(dlsym(RTLD_DEFAULT, "getenv"), &libc), 0);
    const char *paths[] = { "/nonexistent/libnvidia-ml.so.1", driver.folder, text_file, libc.dli_fname,
                            "/dev/null" };
    for (size_t i = 0; i < COUNT(paths); i++) {
        struct pool_gpu_list *list = look_at(paths[i]);
        assert_int_equal(list->n_gpus, 0);
        pool_gpu_list_free(list);
    }
    assert_int_equal(unlink(text_file), 0);
}

static void a_library_may_appear_later(void **state)
{
    (void)state;
    char path[128];
    char url[160];
    snprintf(path, sizeof path, "%s/later.so", driver.folder);
    snprintf(url, sizeof url, "nvml:%s", path);
    struct pool_gpu_inventory *inventory = NULL;
    struct pool_gpu_list *list = NULL;
    assert_int_equal(pool_gpu_inventory_open(url, &inventory, NULL), POOL_OK);
    assert_int_equal(pool_gpu_inventory_list(inventory, &list, NULL), POOL_OK);
    assert_int_equal(list->n_gpus, 0);
    pool_gpu_list_free(list);
    assert_int_equal(symlink(driver.library_path, path), 0);
    assert_int_equal(pool_gpu_inventory_refresh(inventory, NULL), POOL_OK);
    assert_int_equal(pool_gpu_inventory_list(inventory, &list, NULL), POOL_OK);
    assert_int_equal(list->n_gpus, 2);
    pool_gpu_list_free(list);
    pool_gpu_inventory_close(inventory);
    assert_int_equal(unlink(path), 0);
}

/*
 * A copy of the fake driver without some of its functions (names with commas between): they are given other names in
 * the copy's table of strings, so that dlsym finds nothing. make-fake-nvml does the same for people.
 */
static void make_library(char path[128], const char *name, const char *without)
{
    struct strbuf image = STRBUF_INIT(16 << 20);
    assert_int_equal(file_read(driver.library_path, &image), 0);
    for (const char *at = without; *at;) {
        size_t n = strcspn(at, ",");
        char symbol[96];
        assert_in_range(snprintf(symbol, sizeof symbol, "%c%.*s", 0, (int)n, at), 2, sizeof symbol - 1);
        int n_found = 0;
        char *found = image.data;
        while ((found = memmem(found, (size_t)(image.data + image.n - found), symbol, n + 2)) != NULL) {
            *++found = '-';
            n_found++;
        }
        assert_int_not_equal(n_found, 0);
        at += n + (at[n] == ',');
    }
    snprintf(path, 128, "%s/%s.so", driver.folder, name);
    assert_int_equal(file_replace(path, image.data, image.n, 0700), 0);
    strbuf_done(&image);
}

static void what_is_needed_must_be_there(void **state)
{
    (void)state;
    static const struct {
        const char *without;
        const char *named; /* in the reason */
    } needed[] = {
        { "nvmlInit_v2", "nvmlInit_v2" },
        { "nvmlDeviceGetCount_v2", "nvmlDeviceGetCount_v2" },
        { "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex_v2" },
        { "nvmlDeviceGetMemoryInfo,nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo" },
    };
    for (size_t i = 0; i < COUNT(needed); i++) {
        char path[128];
        char name[16];
        snprintf(name, sizeof name, "needed-%zu", i);
        make_library(path, name, needed[i].without);
        struct nvml_library nvml;
        char reason[256] = "";
        assert_false(nvml_library_load(&nvml, path, reason, sizeof reason));
        assert_non_null(strstr(reason, needed[i].named));
        struct pool_gpu_list *list = look_at(path);
        assert_int_equal(list->n_gpus, 0);
        pool_gpu_list_free(list);
        assert_int_equal(unlink(path), 0);
    }
}

static void the_rest_may_be_missing(void **state)
{
    (void)state;
    char path[128];
    make_library(path, "bare",
                 "nvmlShutdown,nvmlErrorString,nvmlSystemGetDriverVersion,nvmlSystemGetCudaDriverVersion_v2,"
                 "nvmlSystemGetCudaDriverVersion,nvmlDeviceGetName,nvmlDeviceGetPciInfo_v3,"
                 "nvmlDeviceGetMemoryInfo_v2,nvmlDeviceGetCudaComputeCapability,nvmlDeviceGetMinorNumber,"
                 "nvmlDeviceGetPersistenceMode,nvmlDeviceGetPowerUsage,nvmlDeviceGetEnforcedPowerLimit,"
                 "nvmlDeviceGetPowerManagementLimit,nvmlDeviceGetTemperature,nvmlDeviceGetTemperatureV,"
                 "nvmlDeviceGetUtilizationRates,nvmlDeviceGetEccMode,nvmlDeviceGetTotalEccErrors,"
                 "nvmlDeviceGetMigMode,nvmlDeviceGetMaxMigDeviceCount,nvmlDeviceGetMigDeviceHandleByIndex,"
                 "nvmlDeviceGetRunningProcessDetailList,nvmlDeviceGetComputeRunningProcesses_v3,"
                 "nvmlDeviceGetComputeRunningProcesses_v2,nvmlDeviceGetComputeRunningProcesses");
    struct pool_gpu_list *list = look_at(path);
    assert_int_equal(list->n_gpus, 2);
    const struct pool_gpu_info *gpu = list->gpus[0];
    assert_int_equal(gpu->health, POOL_GPU_HEALTHY);
    assert_string_not_equal(gpu->uuid, "");
    assert_true(gpu->is_vram_known);
    assert_false(gpu->vram_reserved_bytes.is_present);
    assert_false(gpu->temperature_celsius.is_present);
    assert_false(gpu->cuda_version.is_present);
    assert_false(gpu->are_processes_known);
    assert_true(gpu->is_placeable);
    pool_gpu_list_free(list);
    assert_int_equal(unlink(path), 0);
}

static void older_process_lists_are_read_too(void **state)
{
    (void)state;
    static const char *const without[] = {
        "nvmlDeviceGetRunningProcessDetailList,nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetRunningProcessDetailList,nvmlDeviceGetComputeRunningProcesses_v3,"
        "nvmlDeviceGetComputeRunningProcesses_v2",
    };
    assert_true(fake_driver_set(&driver, "[gpu 0]\nprocess = 7 1KiB\nprocess = 8 2KiB\nprocess = 9 3KiB\n"));
    for (size_t i = 0; i < COUNT(without); i++) {
        char path[128];
        make_library(path, i ? "old" : "older", without[i]);
        struct pool_gpu_list *list = look_at(path);
        assert_int_equal(list->n_gpus, 1);
        assert_int_equal(list->gpus[0]->n_processes, 3);
        assert_int_equal(list->gpus[0]->processes[2].pid, 9);
        assert_int_equal(list->gpus[0]->processes[2].used_vram_bytes.value, 3072);
        pool_gpu_list_free(list);
        assert_int_equal(unlink(path), 0);
    }
}

/* The number of devices of "nvml:", as the exit status of a process of its own. */
static int count_devices(void)
{
    struct pool_gpu_inventory *inventory = NULL;
    struct pool_gpu_list *list = NULL;
    if (pool_gpu_inventory_open("nvml:", &inventory, NULL) != POOL_OK ||
        pool_gpu_inventory_list(inventory, &list, NULL) != POOL_OK)
        return 100;
    int n = list->n_gpus == 0 && list->reason[0] == '\0' ? 101 : (int)list->n_gpus;
    pool_gpu_list_free(list);
    pool_gpu_inventory_close(inventory);
    return n;
}

/* Runs this program as `count_devices` with the folder in the dynamic linker's path. */
static int count_devices_with(const char *folder)
{
    char *path = NULL;
    char *config = NULL;
    char *leaks = NULL;
    assert_true(asprintf(&path, "LD_LIBRARY_PATH=%s", folder) > 0);
    assert_true(asprintf(&config, "FAKE_NVML_CONFIG=%s", driver.config_path) > 0);
    assert_true(asprintf(&leaks, "ASAN_OPTIONS=%s", getenv("ASAN_OPTIONS") ? getenv("ASAN_OPTIONS") : "") >
                0);
    char program[] = "/proc/self/exe";
    char *argv[] = { program, strdup("count-devices"), NULL };
    assert_non_null(argv[1]);
    char *environment[] = { path, config, leaks, NULL };
    int n = run_program(argv, environment);
    free(argv[1]);
    free(path);
    free(config);
    free(leaks);
    return n;
}

/* Whether this host has a driver of its own, which a search would find before anything else of ours. */
static bool has_driver(void)
{
    void *handle = dlopen("libnvidia-ml.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (handle)
        dlclose(handle);
    return handle || access("/usr/lib/wsl/lib/libnvidia-ml.so.1", F_OK) == 0;
}

static void the_dynamic_linker_decides_without_a_path(void **state)
{
    (void)state;
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(driver.library_path, '/') - driver.library_path),
             driver.library_path);
    assert_int_equal(count_devices_with(folder), 2);

    /* Only the name of development packages. */
    char link[128];
    snprintf(link, sizeof link, "%s/libnvidia-ml.so", driver.folder);
    if (!has_driver()) {
        assert_int_equal(symlink(driver.library_path, link), 0);
        assert_int_equal(count_devices_with(driver.folder), 2);
        assert_int_equal(unlink(link), 0);
        assert_int_equal(count_devices_with(driver.folder), 0);
    }
}

static void codes_have_words(void **state)
{
    (void)state;
    for (int code = -1; code <= 1000; code++)
        assert_int_not_equal(strlen(nvml_code_text(code)), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start_driver, end_driver)

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "count-devices") == 0)
        return count_devices();
    const struct CMUnitTest tests[] = {
        TEST(what_is_no_library_of_a_driver_is_a_reason),
        TEST(a_library_may_appear_later),
        TEST(what_is_needed_must_be_there),
        TEST(the_rest_may_be_missing),
        TEST(older_process_lists_are_read_too),
        TEST(the_dynamic_linker_decides_without_a_path),
        cmocka_unit_test(codes_have_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
