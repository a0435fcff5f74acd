/*
 * GPU inventories while memory runs out: every allocation of each fails once; nothing leaks, and a call that failed
 * for want of memory says so.
 */
#include "torture.h"

#include <pool/gpu.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_driver.h"

static struct fake_driver driver;

static int start_driver(void **state)
{
    (void)state;
    return fake_driver_start(&driver) ? 0 : -1;
}

static int end_driver(void **state)
{
    (void)state;
    fake_driver_end(&driver);
    return 0;
}

/* The whole of what a caller does with an inventory. */
static enum pool_code use_inventory(void *url)
{
    struct pool_gpu_inventory *inventory = NULL;
    struct pool_gpu_list *list = NULL;
    struct pool_gpu_info *info = NULL;
    struct pool_gpu_process *processes = NULL;
    size_t n = 0;
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_code code = pool_gpu_inventory_open(url, &inventory, &err);
    if (code == POOL_OK)
        code = pool_gpu_inventory_refresh(inventory, &err);
    if (code == POOL_OK)
        code = pool_gpu_inventory_refresh(inventory, &err);
    if (code == POOL_OK)
        code = pool_gpu_inventory_list(inventory, &list, &err);
    if (code == POOL_OK)
        code = pool_gpu_inventory_get(inventory, "1", &info, &err);
    if (code == POOL_OK)
        code = pool_gpu_inventory_processes(inventory, "0", &n, &processes, &err);
    assert_true(code == POOL_OK || code == POOL_INSUFFICIENT_MEMORY);
    assert_int_equal(err.code, code);
    if (code == POOL_OK) {
        assert_int_equal(list->n_gpus, 3);
        assert_int_equal(n, 3);
        assert_int_equal(list->gpus[0]->n_nvlinks, list->gpus[0]->n_peers); /* all or nothing of it */
    }
    free(processes);
    pool_gpu_info_free(info);
    pool_gpu_list_free(list);
    pool_gpu_inventory_close(inventory);
    return code;
}

static void nvml_without_memory(void **state)
{
    (void)state;
    assert_true(fake_driver_set(&driver,
                                "[gpu 0]\nprocess = 1 1MiB\nprocess = 2 1MiB\ngraphics_process = 3 1MiB\n"
                                "nvlink = 0 1 00000000:02:00.0\n"
                                "[gpu 1]\nmig = on\n[mig 1.0]\nprocess = 4 1MiB\n"));
    torture_scenario("nvml", use_inventory, driver.url);
}

static void static_without_memory(void **state)
{
    (void)state;
    char path[128];
    char url[160];
    snprintf(path, sizeof path, "%s/gpus.toml", driver.folder);
    snprintf(url, sizeof url, "static:%s", path);
    assert_true(fake_driver_write(path, "[[gpus]]\nuuid = \"GPU-a\"\nvram_total_bytes = \"1 GiB\"\n"
                                        "processes = [{ pid = 1 }, { pid = 2 }, { pid = 3 }]\n"
                                        "[[gpus]]\nuuid = \"GPU-b\"\nvram_total_bytes = 1\n"
                                        "[[gpus.instances]]\nuuid = \"MIG-a\"\nvram_total_bytes = 1\n"));
    torture_scenario("static", use_inventory, url);
    assert_int_equal(unlink(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nvml_without_memory, start_driver, end_driver),
        cmocka_unit_test_setup_teardown(static_without_memory, start_driver, end_driver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
