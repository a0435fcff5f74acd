/*
 * Reading one device from drivers that lie: memory that can not be, texts without end, names that are none, too many
 * instances. The driver is a table of functions of our own.
 */
#include "core/gpu/nvml_device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_driver.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define MIB      (UINT64_C(1) << 20)
#define GIB      (UINT64_C(1) << 30)

/* What the driver answers. */
static struct {
    char uuid[400], name[400], bus_id[64];
    size_t n_name; /* bytes written, with or without an end */
    size_t n_uuid;
    int code_v1, code_v2;
    struct nvml_memory_v1 v1;
    struct nvml_memory_v2 v2;
    unsigned n_instances;
    int n_instance_calls;
} truth;

static int get_uuid(void *device, char *text, unsigned length)
{
    (void)device;
    assert_int_equal(length, POOL_GPU_UUID_MAX);
    memcpy(text, truth.uuid, truth.n_uuid);
    return NVML_SUCCESS;
}

static int get_name(void *device, char *text, unsigned length)
{
    (void)device;
    assert_int_equal(length, POOL_GPU_NAME_MAX);
    memcpy(text, truth.name, truth.n_name);
    return NVML_SUCCESS;
}

static int get_pci_info(void *device, struct nvml_pci_info_v3 *info)
{
    (void)device;
    memcpy(info->bus_id, truth.bus_id, sizeof info->bus_id);
    return NVML_SUCCESS;
}

static int get_memory_v1(void *device, struct nvml_memory_v1 *memory)
{
    (void)device;
    *memory = truth.v1;
    return truth.code_v1;
}

static int get_memory_v2(void *device, struct nvml_memory_v2 *memory)
{
    (void)device;
    assert_int_equal(memory->version, 0x02000028);
    *memory = truth.v2;
    return truth.code_v2;
}

static int get_mig_mode(void *device, unsigned *current, unsigned *pending)
{
    (void)device;
    *current = truth.n_instances > 0;
    *pending = *current;
    return NVML_SUCCESS;
}

static int get_mig_count(void *device, unsigned *count)
{
    (void)device;
    *count = truth.n_instances;
    return NVML_SUCCESS;
}

static int get_mig_handle(void *device, unsigned index, void **instance)
{
    (void)device;
    (void)index;
    *instance = NULL;
    truth.n_instance_calls++;
    return NVML_SUCCESS;
}

static const struct nvml_library liar = {
    .get_uuid = get_uuid,
    .get_name = get_name,
    .get_pci_info = get_pci_info,
    .get_memory_v1 = get_memory_v1,
    .get_memory_v2 = get_memory_v2,
    .get_mig_mode = get_mig_mode,
    .get_mig_count = get_mig_count,
    .get_mig_handle = get_mig_handle,
};

static void set_text(char *text, size_t *n, const char *from)
{
    *n = strlen(from) + 1;
    memcpy(text, from, *n);
}

static int reset_truth(void **state)
{
    (void)state;
    memset(&truth, 0, sizeof truth);
    set_text(truth.uuid, &truth.n_uuid, "GPU-a");
    set_text(truth.name, &truth.n_name, "Example");
    truth.v1 = (struct nvml_memory_v1){ 24 * GIB, 20 * GIB, 4 * GIB };
    truth.v2 = (struct nvml_memory_v2){ 0, 24 * GIB, GIB, 20 * GIB, 3 * GIB };
    return 0;
}

/* A fresh device; processes are none of this test's business, so there are none. */
static struct pool_gpu_info read_device(void)
{
    struct nvml_device device = { .has_handle = true };
    struct pool_gpu_info info = { .gpu_id = 0 };
    assert_int_equal(nvml_device_read(&liar, &device, &info, NULL), POOL_OK);
    assert_null(info.processes);
    return info;
}

static void memory_of_both_versions_means_the_same(void **state)
{
    (void)state;
    struct pool_gpu_info info = read_device();
    assert_int_equal(info.health, POOL_GPU_HEALTHY);
    assert_true(info.is_vram_known);
    assert_int_equal(info.vram_total_bytes, 24 * GIB);
    assert_int_equal(info.vram_free_bytes, 20 * GIB);
    assert_int_equal(info.vram_used_bytes, 3 * GIB);
    assert_true(info.vram_reserved_bytes.is_present);
    assert_int_equal(info.vram_reserved_bytes.value, GIB);

    truth.v2.used = 4 * GIB; /* with the reserved bytes in it */
    info = read_device();
    assert_int_equal(info.vram_used_bytes, 3 * GIB);
    assert_int_equal(info.vram_reserved_bytes.value, GIB);

    static const int fallbacks[] = { NVML_NOT_SUPPORTED, NVML_FUNCTION_NOT_FOUND, NVML_UNKNOWN,
                                     NVML_ARGUMENT_VERSION_MISMATCH, NVML_INVALID_ARGUMENT };
    for (size_t i = 0; i < COUNT(fallbacks); i++) {
        truth.code_v2 = fallbacks[i];
        info = read_device();
        assert_int_equal(info.health, POOL_GPU_HEALTHY);
        assert_int_equal(info.vram_free_bytes, 20 * GIB);
        assert_int_equal(info.vram_used_bytes, 4 * GIB); /* the reserved bytes can not be told from it */
        assert_false(info.vram_reserved_bytes.is_present);
    }
}

static void memory_that_is_not_told(void **state)
{
    (void)state;
    static const int failures[] = { NVML_NOT_SUPPORTED, NVML_UNKNOWN, NVML_NO_PERMISSION };
    for (size_t i = 0; i < COUNT(failures); i++) {
        truth.code_v1 = failures[i];
        truth.code_v2 = failures[i];
        struct pool_gpu_info info = read_device();
        assert_false(info.is_vram_known);
        assert_int_equal(info.health, POOL_GPU_UNHEALTHY);
        assert_string_not_equal(info.health_reason, "");
        assert_string_equal(info.name, "Example"); /* the rest is told */
    }
    truth.n_instances = 1;
    truth.code_v1 = NVML_NO_PERMISSION;
    truth.code_v2 = NVML_NO_PERMISSION;
    struct pool_gpu_info info = read_device();
    assert_false(info.is_vram_known);
    assert_false(info.is_placeable);
    assert_int_equal(info.health, POOL_GPU_HEALTHY); /* in MIG mode that is as it should be */
}

static void memory_that_can_not_be(void **state)
{
    (void)state;
    static const struct nvml_memory_v2 lies[] = {
        { 0, 0, 0, 0, 0 },
        { 0, UINT64_MAX, 0, UINT64_MAX, 0 },
        { 0, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX },
        { 0, (uint64_t)INT64_MAX + 1, 0, 1, 1 },
        { 0, (uint64_t)INT64_MAX, 0, INT64_MAX, 0 },
        { 0, 24 * GIB, 0, 25 * GIB, 0 },
        { 0, 24 * GIB, 0, UINT64_MAX, 0 },
        { 0, 24 * GIB, 0, 0, 25 * GIB },
        { 0, 24 * GIB, 0, 0, UINT64_MAX },
        { 0, 24 * GIB, 25 * GIB, 0, 0 },
        { 0, 24 * GIB, 0, 24 * GIB, 24 * GIB },
        { 0, 24 * GIB, 0, 20 * GIB, 6 * GIB },
    };
    for (size_t i = 0; i < COUNT(lies); i++) {
        for (int version = 1; version <= 2; version++) {
            truth.v2 = lies[i];
            truth.v1 = (struct nvml_memory_v1){ lies[i].total, lies[i].free, lies[i].used };
            truth.code_v2 = version == 2 ? NVML_SUCCESS : NVML_FUNCTION_NOT_FOUND;
            if (version == 1 && lies[i].reserved > 0)
                continue; /* which only the second has */
            struct pool_gpu_info info = read_device();
            if (info.is_vram_known || info.health != POOL_GPU_UNHEALTHY)
                fail_msg("lie %zu is believed from version %d", i, version);
            assert_int_equal(info.vram_free_bytes, 0);
            assert_string_not_equal(info.health_reason, "");
        }
    }
}

static void memory_that_is_only_loose(void **state)
{
    (void)state;
    truth.v2 = (struct nvml_memory_v2){ 0, 24 * GIB, 2 * GIB, 10 * GIB, 3 * GIB };
    struct pool_gpu_info info = read_device();
    assert_true(info.is_vram_known);
    assert_int_equal(info.vram_used_bytes, 3 * GIB);
    truth.v2 = (struct nvml_memory_v2){ 0, 24 * GIB, 0, 20 * GIB, 4 * GIB + 100 * MIB };
    info = read_device();
    assert_true(info.is_vram_known);
}

static void texts_end_and_can_be_printed(void **state)
{
    (void)state;
    memset(truth.name, 'n', sizeof truth.name);
    truth.n_name = POOL_GPU_NAME_MAX; /* no end in it */
    struct pool_gpu_info info = read_device();
    assert_int_equal(strlen(info.name), POOL_GPU_NAME_MAX - 1);
    truth.n_name = 300; /* and further than was asked for */
    info = read_device();
    assert_int_equal(strlen(info.name), POOL_GPU_NAME_MAX - 1);
    set_text(truth.name, &truth.n_name, "A\x1b[31m\xff\n");
    info = read_device();
    assert_string_equal(info.name, "A?[31m??");
    memset(truth.bus_id, '0', sizeof truth.bus_id);
    info = read_device();
    assert_int_equal(strlen(info.pci_bus_id), sizeof info.pci_bus_id - 1);
    snprintf(truth.bus_id, sizeof truth.bus_id, "../../../../etc");
    info = read_device();
    assert_false(info.numa_node.is_present);
    assert_int_equal(info.health, POOL_GPU_HEALTHY);
}

static void a_device_without_a_usable_uuid_is_unhealthy(void **state)
{
    (void)state;
    static const char *const bad[] = { "", "0", "GPU-a,GPU-b", "GPU a", "GPU-\xff" };
    for (size_t i = 0; i < COUNT(bad); i++) {
        set_text(truth.uuid, &truth.n_uuid, bad[i]);
        struct pool_gpu_info info = read_device();
        assert_int_equal(info.health, POOL_GPU_UNHEALTHY);
        assert_string_equal(info.uuid, "");
        assert_string_equal(info.name, "Example");
    }
    memset(truth.uuid, 'a', sizeof truth.uuid);
    truth.n_uuid = POOL_GPU_UUID_MAX;
    struct pool_gpu_info info = read_device();
    assert_int_equal(info.health, POOL_GPU_UNHEALTHY);
    assert_string_equal(info.uuid, "");
}

static void an_instance_count_that_can_not_be_has_an_end(void **state)
{
    (void)state;
    truth.n_instances = UINT32_MAX;
    struct pool_gpu_list *list = calloc(1, sizeof *list);
    assert_non_null(list);
    struct pool_gpu_info *parent = pool_gpu_list_append(list);
    assert_non_null(parent);
    struct nvml_device device = { .has_handle = true };
    assert_int_equal(nvml_device_read(&liar, &device, parent, NULL), POOL_OK);
    assert_int_equal(nvml_device_read_instances(&liar, &device, parent, list, NULL), POOL_OK);
    assert_in_range(truth.n_instance_calls, 1, POOL_GPUS_MAX);
    assert_int_equal(list->n_gpus, truth.n_instance_calls + 1);
    pool_gpu_list_free(list);
}

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

static void the_same_over_the_library(void **state)
{
    (void)state;
    static const struct {
        const char *world;
        int64_t used_bytes; /* -1: unknown */
    } cases[] = {
        { "[gpu 0]\nreserved = 512MiB\nused = 1GiB\n", (int64_t)GIB },
        { "[driver]\nv2_used_includes_reserved = yes\n[gpu 0]\nreserved = 512MiB\nused = 1GiB\n",
          (int64_t)GIB },
        { "[driver]\nmemory_v2 = no\n[gpu 0]\nreserved = 512MiB\nused = 1GiB\n", (int64_t)(GIB + 512 * MIB) },
        { "[driver]\nmemory_v2 = 999\n[gpu 0]\nreserved = 512MiB\nused = 1GiB\n",
          (int64_t)(GIB + 512 * MIB) },
        { "[driver]\nmemory_v2 = no\n[gpu 0]\nreturn.nvmlDeviceGetMemoryInfo = 999\n", -1 },
        { "[gpu 0]\ntotal = 8GiB\nfree = 9GiB\n", -1 },
        { "[gpu 0]\ntotal = 8GiB\nfree = unknown\n", -1 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_true(fake_driver_set(&driver, cases[i].world));
        struct pool_gpu_inventory *inventory = NULL;
        struct pool_gpu_info *info = NULL;
        assert_int_equal(pool_gpu_inventory_open(driver.url, &inventory, NULL), POOL_OK);
        assert_int_equal(pool_gpu_inventory_get(inventory, "0", &info, NULL), POOL_OK);
        bool is_known = cases[i].used_bytes >= 0;
        assert_int_equal(info->is_vram_known, is_known);
        assert_int_equal(info->health, is_known ? POOL_GPU_HEALTHY : POOL_GPU_UNHEALTHY);
        if (is_known) {
            assert_int_equal(info->vram_used_bytes, cases[i].used_bytes);
            assert_int_equal(info->vram_free_bytes, 24 * GIB - GIB - 512 * MIB);
        }
        pool_gpu_info_free(info);
        pool_gpu_inventory_close(inventory);
    }
}

#define TEST(name) cmocka_unit_test_setup(name, reset_truth)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(memory_of_both_versions_means_the_same),
        TEST(memory_that_is_not_told),
        TEST(memory_that_can_not_be),
        TEST(memory_that_is_only_loose),
        TEST(texts_end_and_can_be_printed),
        TEST(a_device_without_a_usable_uuid_is_unhealthy),
        TEST(an_instance_count_that_can_not_be_has_an_end),
        cmocka_unit_test_setup_teardown(the_same_over_the_library, start_driver, end_driver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
