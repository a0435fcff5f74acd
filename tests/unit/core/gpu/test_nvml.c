/*
 * The inventory of NVML over the fake driver, in all its moods: what every return code does and does not do, lost
 * and hidden devices, drivers that come and go, MIG.
 */
#include <pool/gpu.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_driver.h"

#define COUNT(a)      (sizeof(a) / sizeof((a)[0]))
#define MIB           (INT64_C(1) << 20)
#define GIB           (INT64_C(1) << 30)
#define READING(name) offsetof(struct pool_gpu_info, name)

#define UUID_0 "GPU-fa4e0000-0000-4000-8000-000000000000"
#define UUID_1 "GPU-fa4e0000-0000-4000-8000-000000000001"

/* Everything that NVML documents, what it has not given out, and what no driver should say. */
static const int codes[] = { 1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14,  15,   16,
                             17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 999, 4711, 30 };

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

static void set_world(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void set_world(const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    assert_in_range(n, 0, sizeof text - 1);
    assert_true(fake_driver_set(&driver, text));
}

static struct pool_gpu_inventory *open_inventory(void)
{
    struct pool_gpu_inventory *inventory = NULL;
    assert_int_equal(pool_gpu_inventory_open(driver.url, &inventory, NULL), POOL_OK);
    return inventory;
}

static struct pool_gpu_list *refresh(struct pool_gpu_inventory *inventory)
{
    struct pool_gpu_list *list = NULL;
    assert_int_equal(pool_gpu_inventory_refresh(inventory, NULL), POOL_OK);
    assert_int_equal(pool_gpu_inventory_list(inventory, &list, NULL), POOL_OK);
    return list;
}

/* What a process that has just started sees. */
static struct pool_gpu_list *look(void)
{
    struct pool_gpu_inventory *inventory = open_inventory();
    struct pool_gpu_list *list = refresh(inventory);
    pool_gpu_inventory_close(inventory);
    return list;
}

static void assert_reading(struct pool_reading reading, int64_t value)
{
    assert_true(reading.is_present);
    assert_int_equal(reading.value, value);
}

static bool is_lost(int code)
{
    return code == 15 || code == 16;
}

static void reads_every_fact(void **state)
{
    (void)state;
    set_world(
        "[driver]\nversion = 535.1\ncuda = 12020\n"
        "[gpu 0]\n"
        "[gpu 1]\nname = Big One\npci = 0000000a:3b:00.0\ntotal = 80GiB\nreserved = 600MiB\nused = 10GiB\n"
        "minor = 5\ncompute_capability = 9.0\ntemperature = 51\npower_mw = 90000\n"
        "enforced_power_limit_mw = 350000\nutil_gpu = 70\nutil_memory = 30\necc = on\n"
        "ecc_volatile_corrected = 3\necc_volatile_uncorrected = 1\npersistence = on\n");
    struct pool_gpu_list *list = look();
    assert_int_equal(list->n_gpus, 2);
    assert_string_equal(list->source, "nvml");
    assert_string_equal(list->reason, "");
    const struct pool_gpu_info *gpu = list->gpus[1];
    assert_int_equal(gpu->gpu_id, 1);
    assert_string_equal(gpu->uuid, UUID_1);
    assert_string_equal(gpu->name, "Big One");
    assert_string_equal(gpu->pci_bus_id, "0000000A:3B:00.0");
    assert_string_equal(gpu->driver_version, "535.1");
    assert_reading(gpu->cuda_version, 12020);
    assert_true(gpu->is_vram_known);
    assert_int_equal(gpu->vram_total_bytes, 80 * GIB);
    assert_int_equal(gpu->vram_used_bytes, 10 * GIB);
    assert_reading(gpu->vram_reserved_bytes, 600 * MIB);
    assert_int_equal(gpu->vram_free_bytes, 70 * GIB - 600 * MIB);
    assert_reading(gpu->minor_number, 5);
    assert_reading(gpu->compute_capability_major, 9);
    assert_reading(gpu->compute_capability_minor, 0);
    assert_reading(gpu->temperature_celsius, 51);
    assert_reading(gpu->power_usage_mw, 90000);
    assert_reading(gpu->power_limit_mw, 350000);
    assert_reading(gpu->utilization_percent, 70);
    assert_reading(gpu->memory_utilization_percent, 30);
    assert_reading(gpu->ecc_enabled, 1);
    assert_reading(gpu->ecc_corrected_errors, 3);
    assert_reading(gpu->ecc_uncorrected_errors, 1);
    assert_reading(gpu->persistence_enabled, 1);
    assert_false(gpu->mig_enabled.is_present);
    assert_false(gpu->is_mig_instance);
    assert_true(gpu->is_placeable);
    assert_int_equal(gpu->health, POOL_GPU_HEALTHY);
    assert_string_equal(gpu->health_reason, "");
    assert_true(gpu->are_processes_known);
    pool_gpu_list_free(list);
}

/* A function of NVML, and one reading that needs it. */
static const struct {
    const char *function;
    size_t reading;
} optional[] = {
    { "nvmlDeviceGetPowerUsage", READING(power_usage_mw) },
    { "nvmlDeviceGetUtilizationRates", READING(utilization_percent) },
    { "nvmlDeviceGetEccMode", READING(ecc_enabled) },
    { "nvmlDeviceGetTotalEccErrors", READING(ecc_corrected_errors) },
    { "nvmlDeviceGetPersistenceMode", READING(persistence_enabled) },
    { "nvmlDeviceGetMinorNumber", READING(minor_number) },
    { "nvmlDeviceGetCudaComputeCapability", READING(compute_capability_major) },
};

static struct pool_reading reading_of(const struct pool_gpu_info *info, size_t offset)
{
    struct pool_reading reading;
    memcpy(&reading, (const char *)info + offset, sizeof reading);
    return reading;
}

static void one_call_that_fails_makes_one_reading_absent(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(optional); f++) {
        for (size_t c = 0; c < COUNT(codes); c++) {
            set_world("[gpu 0]\nreturn.%s = %d\n[gpu 1]\n", optional[f].function, codes[c]);
            struct pool_gpu_list *list = look();
            assert_int_equal(list->n_gpus, 2);
            const struct pool_gpu_info *gpu = list->gpus[0];
            for (size_t k = 0; k < COUNT(optional); k++) {
                assert_true(reading_of(list->gpus[1], optional[k].reading).is_present);
                if (!is_lost(codes[c]))
                    assert_int_equal(reading_of(gpu, optional[k].reading).is_present, k != f);
            }
            assert_false(reading_of(gpu, optional[f].reading).is_present);
            assert_string_equal(gpu->uuid, UUID_0);
            assert_int_equal(gpu->health, is_lost(codes[c]) ? POOL_GPU_UNHEALTHY : POOL_GPU_HEALTHY);
            assert_int_equal(gpu->is_vram_known, !is_lost(codes[c]));
            assert_true(!is_lost(codes[c]) || gpu->health_reason[0] != '\0');
            pool_gpu_list_free(list);
        }
    }
}

static void second_ways_are_tried(void **state)
{
    (void)state;
    set_world("[gpu 0]\nreturn.nvmlDeviceGetTemperature = 3\nreturn.nvmlDeviceGetEnforcedPowerLimit = 3\n"
              "[gpu 1]\nreturn.nvmlDeviceGetTemperature = 3\nreturn.nvmlDeviceGetTemperatureV = 3\n"
              "return.nvmlDeviceGetEnforcedPowerLimit = 999\nreturn.nvmlDeviceGetPowerManagementLimit = 4\n");
    struct pool_gpu_list *list = look();
    assert_reading(list->gpus[0]->temperature_celsius, 40);
    assert_reading(list->gpus[0]->power_limit_mw, 300000);
    assert_false(list->gpus[1]->temperature_celsius.is_present);
    assert_false(list->gpus[1]->power_limit_mw.is_present);
    pool_gpu_list_free(list);

    set_world("[driver]\nreturn.nvmlSystemGetCudaDriverVersion_v2 = 12\n[gpu 0]\n");
    list = look();
    assert_true(list->gpus[0]->cuda_version.is_present);
    pool_gpu_list_free(list);
    set_world("[driver]\nreturn.nvmlSystemGetCudaDriverVersion_v2 = "
              "12\nreturn.nvmlSystemGetCudaDriverVersion = 13\n"
              "return.nvmlSystemGetDriverVersion = 999\n[gpu 0]\n");
    list = look();
    assert_false(list->gpus[0]->cuda_version.is_present);
    assert_string_equal(list->gpus[0]->driver_version, "");
    pool_gpu_list_free(list);
}

static void nonsense_is_no_reading(void **state)
{
    (void)state;
    set_world("[gpu 0]\ntemperature = 4294967295\npower_mw = 4294967295\nutil_gpu = 101\nutil_memory = 50\n"
              "persistence = 7\necc = 9\necc_volatile_corrected = 18446744073709551615\n");
    struct pool_gpu_list *list = look();
    const struct pool_gpu_info *gpu = list->gpus[0];
    assert_false(gpu->temperature_celsius.is_present);
    assert_false(gpu->power_usage_mw.is_present);
    assert_false(gpu->utilization_percent.is_present);
    assert_reading(gpu->memory_utilization_percent, 50);
    assert_false(gpu->persistence_enabled.is_present);
    assert_false(gpu->ecc_enabled.is_present);
    assert_false(gpu->ecc_corrected_errors.is_present);
    assert_reading(gpu->ecc_uncorrected_errors, 0);
    assert_int_equal(gpu->health, POOL_GPU_HEALTHY);
    pool_gpu_list_free(list);
}

static void unsupported_is_remembered_and_failure_is_not(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory();
    set_world("[gpu 0]\npower_mw = none\nreturn.nvmlDeviceGetUtilizationRates = 999\n");
    struct pool_gpu_list *list = refresh(inventory);
    assert_false(list->gpus[0]->power_usage_mw.is_present);
    assert_false(list->gpus[0]->utilization_percent.is_present);
    pool_gpu_list_free(list);
    set_world("[gpu 0]\n");
    list = refresh(inventory);
    assert_false(list->gpus[0]->power_usage_mw.is_present); /* not asked again */
    assert_true(list->gpus[0]->utilization_percent.is_present);
    pool_gpu_list_free(list);
    /* Another device under the same index is another matter. */
    set_world("[gpu 0]\nuuid = GPU-exchanged\n");
    list = refresh(inventory);
    assert_string_equal(list->gpus[0]->uuid, "GPU-exchanged");
    assert_true(list->gpus[0]->power_usage_mw.is_present);
    pool_gpu_list_free(list);
    pool_gpu_inventory_close(inventory);
}

static void every_code_of_a_lookup_touches_that_device_alone(void **state)
{
    (void)state;
    static const int hidden[] = { 2, 4, 6, 17, 28 };
    for (size_t c = 0; c < COUNT(codes); c++) {
        bool is_hidden = false;
        for (size_t h = 0; h < COUNT(hidden); h++)
            is_hidden = is_hidden || hidden[h] == codes[c];
        set_world("[gpu 0]\nreturn.nvmlDeviceGetHandleByIndex_v2 = %d\n[gpu 1]\n", codes[c]);
        struct pool_gpu_list *list = look();
        assert_int_equal(list->n_gpus, is_hidden ? 1 : 2);
        assert_true((list->reason[0] != '\0') == is_hidden);
        const struct pool_gpu_info *good = list->gpus[list->n_gpus - 1];
        assert_int_equal(good->gpu_id, 1);
        assert_string_equal(good->uuid, UUID_1);
        assert_int_equal(good->health, POOL_GPU_HEALTHY);
        if (!is_hidden) {
            assert_int_equal(list->gpus[0]->gpu_id, 0);
            assert_string_equal(list->gpus[0]->uuid, "");
            assert_int_equal(list->gpus[0]->health, POOL_GPU_UNHEALTHY);
            assert_false(list->gpus[0]->is_vram_known);
        }
        pool_gpu_list_free(list);
    }
}

static void no_driver_is_an_empty_list_with_a_reason_until_there_is_one(void **state)
{
    (void)state;
    static const char *const functions[] = { "nvmlInit_v2", "nvmlDeviceGetCount_v2" };
    for (size_t f = 0; f < COUNT(functions); f++) {
        for (size_t c = 0; c < COUNT(codes); c++) {
            struct pool_gpu_inventory *inventory = open_inventory();
            set_world("[driver]\nreturn.%s = %d\n[gpu 0]\n", functions[f], codes[c]);
            struct pool_gpu_list *list = refresh(inventory);
            assert_int_equal(list->n_gpus, 0);
            assert_string_not_equal(list->reason, "");
            pool_gpu_list_free(list);
            struct pool_error err = POOL_ERROR_INIT;
            struct pool_gpu_info *info = NULL;
            assert_int_equal(pool_gpu_inventory_get(inventory, "0", &info, &err), POOL_GPU_NOT_FOUND);
            set_world("[gpu 0]\n");
            list = refresh(inventory);
            assert_int_equal(list->n_gpus, 1);
            assert_string_equal(list->reason, "");
            pool_gpu_list_free(list);
            pool_gpu_inventory_close(inventory);
        }
    }
}

static void a_driver_may_come_and_go(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory();
    for (int round = 0; round < 3; round++) {
        unlink(driver.config_path);
        struct pool_gpu_list *list = refresh(inventory);
        assert_int_equal(list->n_gpus, 0);
        assert_string_not_equal(list->reason, "");
        pool_gpu_list_free(list);
        set_world("[gpu 0]\n[gpu 1]\n");
        list = refresh(inventory);
        assert_int_equal(list->n_gpus, 2);
        assert_int_equal(list->gpus[1]->health, POOL_GPU_HEALTHY);
        pool_gpu_list_free(list);
    }
    pool_gpu_inventory_close(inventory);

    set_world("[driver]\n");
    struct pool_gpu_list *list = look();
    assert_int_equal(list->n_gpus, 0);
    assert_string_not_equal(list->reason, "");
    pool_gpu_list_free(list);
}

static void a_lost_device_is_quarantined_under_its_name(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory();
    set_world("[gpu 0]\nname = First\n[gpu 1]\n");
    pool_gpu_list_free(refresh(inventory));
    set_world("[gpu 0]\nname = First\nlost = yes\n[gpu 1]\n");
    for (int i = 0; i < 2; i++) {
        struct pool_gpu_list *list = refresh(inventory);
        assert_int_equal(list->n_gpus, 2);
        assert_string_equal(list->gpus[0]->uuid, UUID_0);
        assert_string_equal(list->gpus[0]->name, "First");
        assert_int_equal(list->gpus[0]->health, POOL_GPU_UNHEALTHY);
        assert_string_not_equal(list->gpus[0]->health_reason, "");
        assert_false(list->gpus[0]->is_vram_known);
        assert_false(list->gpus[0]->are_processes_known);
        assert_int_equal(list->gpus[1]->health, POOL_GPU_HEALTHY);
        assert_true(list->gpus[1]->is_vram_known);
        pool_gpu_list_free(list);
    }
    set_world("[gpu 0]\nname = First\n[gpu 1]\n");
    struct pool_gpu_list *list = refresh(inventory);
    assert_int_equal(list->gpus[0]->health, POOL_GPU_HEALTHY);
    assert_true(list->gpus[0]->is_vram_known);
    pool_gpu_list_free(list);
    pool_gpu_inventory_close(inventory);
}

static void devices_may_come_go_and_move(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory();
    static const struct {
        const char *world;
        const char *uuids[3];
    } steps[] = {
        { "[gpu 0]\nuuid = GPU-a\n[gpu 1]\nuuid = GPU-b\n", { "GPU-a", "GPU-b" } },
        { "[gpu 0]\nuuid = GPU-a\n[gpu 1]\nuuid = GPU-b\n[gpu 2]\nuuid = GPU-c\n",
          { "GPU-a", "GPU-b", "GPU-c" } },
        { "[gpu 0]\nuuid = GPU-b\n[gpu 1]\nuuid = GPU-c\n", { "GPU-b", "GPU-c" } },
        { "[gpu 0]\nuuid = GPU-c\n[gpu 1]\nuuid = GPU-b\n",
          { NULL } }, /* one refresh may take them for what they were */
        { "[gpu 0]\nuuid = GPU-x\n[gpu 1]\nuuid = GPU-y\n", { "GPU-x", "GPU-y" } },
        { "[driver]\n", { NULL } },
        { "[gpu 0]\nuuid = GPU-y\n", { "GPU-y" } },
    };
    for (size_t i = 0; i < COUNT(steps); i++) {
        set_world("%s", steps[i].world);
        struct pool_gpu_list *list = refresh(inventory);
        for (size_t k = 0; k < 3 && steps[i].uuids[0]; k++) {
            assert_int_equal(k < list->n_gpus, steps[i].uuids[k] != NULL);
            if (!steps[i].uuids[k])
                continue;
            assert_string_equal(list->gpus[k]->uuid, steps[i].uuids[k]);
            assert_int_equal(list->gpus[k]->health, POOL_GPU_HEALTHY);
        }
        pool_gpu_list_free(list);
    }
    pool_gpu_inventory_close(inventory);
}

static void more_devices_than_we_can_show(void **state)
{
    (void)state;
    char *text = calloc(300, 16);
    assert_non_null(text);
    size_t n = 0;
    for (int i = 0; i < 300; i++)
        n += (size_t)snprintf(text + n, 16, "[gpu %d]\n", i);
    assert_true(fake_driver_set(&driver, text));
    free(text);
    struct pool_gpu_list *list = look();
    assert_int_equal(list->n_gpus, POOL_GPUS_MAX);
    assert_string_not_equal(list->reason, "");
    assert_int_equal(list->gpus[255]->gpu_id, 255);
    pool_gpu_list_free(list);
}

static void mig_instances_follow_their_device(void **state)
{
    (void)state;
    set_world("[gpu 0]\n"
              "[gpu 1]\nmig = on\nreturn.nvmlDeviceGetComputeRunningProcesses_v3 = 4\n"
              "return.nvmlDeviceGetRunningProcessDetailList = 4\n"
              "[mig 1.0]\nuuid = MIG-a\ntotal = 10GiB\nused = 1GiB\ngi = 7\nprocess = 11 1GiB\n"
              "[mig 1.3]\nuuid = MIG-d\ntotal = 20GiB\ngi = 9\n"
              "[gpu 2]\nmig = off\n");
    struct pool_gpu_list *list = look();
    assert_int_equal(list->n_gpus, 5);
    assert_string_equal(list->reason, "");
    const struct pool_gpu_info *parent = list->gpus[1];
    assert_string_equal(parent->uuid, UUID_1);
    assert_reading(parent->mig_enabled, 1);
    assert_false(parent->is_placeable);
    assert_int_equal(parent->health, POOL_GPU_HEALTHY);
    assert_true(parent->are_processes_known); /* from its instances: it does not tell itself */
    assert_int_equal(parent->n_processes, 1);
    assert_reading(parent->processes[0].gpu_instance_id, 7);
    const struct pool_gpu_info *instance = list->gpus[2];
    assert_string_equal(instance->uuid, "MIG-a");
    assert_true(instance->is_mig_instance);
    assert_true(instance->is_placeable);
    assert_string_equal(instance->parent_uuid, UUID_1);
    assert_string_equal(instance->pci_bus_id, parent->pci_bus_id);
    assert_int_equal(instance->gpu_id, 1);
    assert_int_equal(instance->vram_total_bytes, 10 * GIB);
    assert_int_equal(instance->vram_free_bytes, 9 * GIB);
    assert_int_equal(instance->n_processes, 1);
    assert_int_equal(instance->processes[0].pid, 11);
    assert_reading(instance->processes[0].gpu_instance_id, 7);
    assert_string_equal(list->gpus[3]->uuid, "MIG-d"); /* behind two holes */
    assert_true(list->gpus[4]->is_placeable);
    assert_reading(list->gpus[4]->mig_enabled, 0);
    assert_ptr_equal(pool_gpu_list_find(list, "1"), parent);
    assert_ptr_equal(pool_gpu_list_find(list, "MIG-a"), instance);
    pool_gpu_list_free(list);
}

static void mig_calls_that_fail_hide_no_device(void **state)
{
    (void)state;
    static const char *const functions[] = { "nvmlDeviceGetMigMode", "nvmlDeviceGetMaxMigDeviceCount",
                                             "nvmlDeviceGetMigDeviceHandleByIndex" };
    for (size_t f = 0; f < COUNT(functions); f++) {
        for (size_t c = 0; c < COUNT(codes); c++) {
            set_world("[gpu 0]\nmig = on\nreturn.%s = %d\n[mig 0.0]\n[gpu 1]\n", functions[f], codes[c]);
            struct pool_gpu_list *list = look();
            assert_int_equal(list->n_gpus, 2);
            assert_string_equal(list->gpus[0]->uuid, UUID_0);
            assert_string_equal(list->gpus[1]->uuid, UUID_1);
            assert_int_equal(list->gpus[1]->health, POOL_GPU_HEALTHY);
            assert_true(f == 0 || !list->gpus[0]->is_placeable);
            pool_gpu_list_free(list);
        }
    }
}

static void mig_mode_may_change(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory();
    for (int round = 0; round < 2; round++) {
        set_world("[gpu 0]\nmig = on\n[mig 0.0]\n");
        struct pool_gpu_list *list = refresh(inventory);
        assert_int_equal(list->n_gpus, 2);
        assert_false(list->gpus[0]->utilization_percent.is_present); /* not supported with MIG on */
        pool_gpu_list_free(list);
        set_world("[gpu 0]\nmig = off\n");
        list = refresh(inventory);
        assert_int_equal(list->n_gpus, 1);
        assert_true(list->gpus[0]->utilization_percent.is_present);
        assert_true(list->gpus[0]->is_placeable);
        pool_gpu_list_free(list);
    }
    pool_gpu_inventory_close(inventory);
}

static void two_inventories_do_not_disturb_each_other(void **state)
{
    (void)state;
    set_world("[gpu 0]\n");
    struct pool_gpu_inventory *one = open_inventory();
    struct pool_gpu_inventory *other = open_inventory();
    pool_gpu_list_free(refresh(one));
    pool_gpu_list_free(refresh(other));
    pool_gpu_inventory_close(other); /* shuts down once, as often as it started */
    struct pool_gpu_list *list = refresh(one);
    assert_int_equal(list->n_gpus, 1);
    assert_int_equal(list->gpus[0]->health, POOL_GPU_HEALTHY);
    pool_gpu_list_free(list);
    pool_gpu_inventory_close(one);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start_driver, end_driver)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_every_fact),
        TEST(one_call_that_fails_makes_one_reading_absent),
        TEST(second_ways_are_tried),
        TEST(nonsense_is_no_reading),
        TEST(unsupported_is_remembered_and_failure_is_not),
        TEST(every_code_of_a_lookup_touches_that_device_alone),
        TEST(no_driver_is_an_empty_list_with_a_reason_until_there_is_one),
        TEST(a_driver_may_come_and_go),
        TEST(a_lost_device_is_quarantined_under_its_name),
        TEST(devices_may_come_go_and_move),
        TEST(more_devices_than_we_can_show),
        TEST(mig_instances_follow_their_device),
        TEST(mig_calls_that_fail_hide_no_device),
        TEST(mig_mode_may_change),
        TEST(two_inventories_do_not_disturb_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
