/*
 * The inventory from a file: every key, every refusal with its place, and files that change under it.
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

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define GIB      (INT64_C(1) << 30)

static char path[64];
static char url[96];

static int make_file(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/test_static.XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0)
        return -1;
    close(fd);
    snprintf(url, sizeof url, "static:%s", path);
    return 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void write_file(const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static struct pool_gpu_list *read_devices(const char *text)
{
    write_file(text);
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_gpu_inventory *inventory = NULL;
    struct pool_gpu_list *list = NULL;
    if (pool_gpu_inventory_open(url, &inventory, &err) != POOL_OK ||
        pool_gpu_inventory_list(inventory, &list, &err) != POOL_OK)
        fail_msg("%s", err.message);
    pool_gpu_inventory_close(inventory);
    return list;
}

static void assert_reading(struct pool_reading reading, int64_t value)
{
    assert_true(reading.is_present);
    assert_int_equal(reading.value, value);
}

static const char *const every_key = "driver_version = \"550.54.14\"\n"
                                     "cuda_version = 12040\n"
                                     "[[gpus]]\n"
                                     "uuid = \"GPU-a\"\n"
                                     "name = \"Example\"\n"
                                     "vram_total_bytes = \"24 GiB\"\n"
                                     "vram_used_bytes = 1073741824\n"
                                     "vram_reserved_bytes = \"1 GiB\"\n"
                                     "pci_bus_id = \"00000000:01:00.0\"\n"
                                     "compute_capability_major = 8\n"
                                     "compute_capability_minor = 9\n"
                                     "temperature_celsius = 41\n"
                                     "power_usage_mw = 30000\n"
                                     "power_limit_mw = 300000\n"
                                     "utilization_percent = 7\n"
                                     "memory_utilization_percent = 3\n"
                                     "ecc_enabled = true\n"
                                     "ecc_corrected_errors = 5\n"
                                     "ecc_uncorrected_errors = 0\n"
                                     "mig_enabled = false\n"
                                     "persistence_enabled = true\n"
                                     "minor_number = 2\n"
                                     "numa_node = 1\n"
                                     "[[gpus.processes]]\n"
                                     "pid = 42\n"
                                     "used_vram_bytes = \"1 GiB\"\n"
                                     "gpu_instance_id = 3\n"
                                     "is_graphics = true\n"
                                     "[[gpus.processes]]\n"
                                     "pid = 0\n"
                                     "[[gpus]]\n"
                                     "uuid = \"GPU-b\"\n"
                                     "vram_total_bytes = 1\n"
                                     "unhealthy = \"on fire\"\n"
                                     "are_processes_known = false\n";

static void reads_every_key(void **state)
{
    (void)state;
    struct pool_gpu_list *list = read_devices(every_key);
    assert_int_equal(list->n_gpus, 2);
    assert_string_equal(list->reason, "");
    const struct pool_gpu_info *gpu = list->gpus[0];
    assert_int_equal(gpu->gpu_id, 0);
    assert_string_equal(gpu->uuid, "GPU-a");
    assert_string_equal(gpu->name, "Example");
    assert_true(gpu->is_vram_known);
    assert_int_equal(gpu->vram_total_bytes, 24 * GIB);
    assert_int_equal(gpu->vram_used_bytes, GIB);
    assert_int_equal(gpu->vram_free_bytes, 22 * GIB);
    assert_reading(gpu->vram_reserved_bytes, GIB);
    assert_string_equal(gpu->pci_bus_id, "00000000:01:00.0");
    assert_string_equal(gpu->driver_version, "550.54.14");
    assert_reading(gpu->cuda_version, 12040);
    assert_reading(gpu->compute_capability_major, 8);
    assert_reading(gpu->compute_capability_minor, 9);
    assert_reading(gpu->temperature_celsius, 41);
    assert_reading(gpu->power_usage_mw, 30000);
    assert_reading(gpu->power_limit_mw, 300000);
    assert_reading(gpu->utilization_percent, 7);
    assert_reading(gpu->memory_utilization_percent, 3);
    assert_reading(gpu->ecc_enabled, 1);
    assert_reading(gpu->ecc_corrected_errors, 5);
    assert_reading(gpu->ecc_uncorrected_errors, 0);
    assert_reading(gpu->mig_enabled, 0);
    assert_reading(gpu->persistence_enabled, 1);
    assert_reading(gpu->minor_number, 2);
    assert_reading(gpu->numa_node, 1);
    pool_gpu_list_free(list);
}

static void reads_every_key_of_health_and_processes(void **state)
{
    (void)state;
    struct pool_gpu_list *list = read_devices(every_key);
    const struct pool_gpu_info *gpu = list->gpus[0];
    assert_true(gpu->is_placeable);
    assert_int_equal(gpu->health, POOL_GPU_HEALTHY);
    assert_true(gpu->are_processes_known);
    assert_int_equal(gpu->n_processes, 2);
    assert_int_equal(gpu->processes[0].pid, 42);
    assert_reading(gpu->processes[0].used_vram_bytes, GIB);
    assert_reading(gpu->processes[0].gpu_instance_id, 3);
    assert_true(gpu->processes[0].is_graphics);
    assert_int_equal(gpu->processes[1].pid, 0);
    assert_false(gpu->processes[1].used_vram_bytes.is_present);

    gpu = list->gpus[1];
    assert_int_equal(gpu->gpu_id, 1);
    assert_string_not_equal(gpu->name, "");
    assert_int_equal(gpu->vram_free_bytes, 1);
    assert_false(gpu->vram_reserved_bytes.is_present);
    assert_false(gpu->temperature_celsius.is_present);
    assert_reading(gpu->cuda_version, 12040);
    assert_int_equal(gpu->health, POOL_GPU_UNHEALTHY);
    assert_string_equal(gpu->health_reason, "on fire");
    assert_false(gpu->are_processes_known);
    pool_gpu_list_free(list);
}

static void reads_instances(void **state)
{
    (void)state;
    struct pool_gpu_list *list =
        read_devices("[[gpus]]\n"
                     "uuid = \"GPU-a\"\nvram_total_bytes = \"80 GiB\"\n"
                     "[[gpus.instances]]\n"
                     "uuid = \"MIG-a\"\nvram_total_bytes = \"10 GiB\"\n"
                     "[[gpus.instances]]\n"
                     "uuid = \"MIG-b\"\nvram_total_bytes = \"20 GiB\"\n"
                     "[[gpus]]\n"
                     "uuid = \"GPU-b\"\nvram_total_bytes = \"80 GiB\"\nmig_enabled = true\n"
                     "unhealthy = \"lost\"\n"
                     "[[gpus.instances]]\n"
                     "uuid = \"MIG-c\"\nvram_total_bytes = \"10 GiB\"\n");
    assert_int_equal(list->n_gpus, 5);
    assert_false(list->gpus[0]->is_placeable);
    assert_reading(list->gpus[0]->mig_enabled, 1);
    const struct pool_gpu_info *instance = list->gpus[2];
    assert_string_equal(instance->uuid, "MIG-b");
    assert_true(instance->is_mig_instance);
    assert_true(instance->is_placeable);
    assert_string_equal(instance->parent_uuid, "GPU-a");
    assert_int_equal(instance->gpu_id, 0);
    assert_int_equal(instance->vram_total_bytes, 20 * GIB);
    assert_int_equal(list->gpus[3]->gpu_id, 1);
    assert_int_equal(list->gpus[4]->health, POOL_GPU_UNHEALTHY); /* as its device */
    pool_gpu_list_free(list);
}

static void no_device_has_a_reason(void **state)
{
    (void)state;
    static const char *const texts[] = { "", "# nothing\n", "gpus = []\n", "driver_version = \"1\"\n" };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct pool_gpu_list *list = read_devices(texts[i]);
        assert_int_equal(list->n_gpus, 0);
        assert_string_not_equal(list->reason, "");
        pool_gpu_list_free(list);
    }
}

#define GPU "[[gpus]]\nuuid = \"GPU-a\"\nvram_total_bytes = 100\n"

/* Where each is wrong: file position and field. */
static const struct {
    const char *text;
    const char *field;
    int line, column;
} refusals[] = {
    { "gpu = 1\n", "gpu", 1, 1 },
    { "x = \n", "", 1, 0 },
    { "gpus = 1\n", "gpus", 1, 8 },
    { "gpus = [1]\n", "gpus[0]", 1, 9 },
    { "driver_version = 5\n", "driver_version", 1, 18 },
    { "cuda_version = -1\n", "cuda_version", 1, 16 },
    { "cuda_version = 12.4\n", "cuda_version", 1, 16 },
    { GPU "nmae = \"x\"\n", "gpus[0].nmae", 4, 1 },
    { GPU "name = 5\n", "gpus[0].name", 4, 8 },
    { GPU "name = \"a\\u0007b\"\n", "gpus[0].name", 4, 8 },
    { GPU "name = \"a\\u0000b\"\n", "gpus[0].name", 4, 8 },
    { GPU "unhealthy = \"\"\n", "gpus[0].unhealthy", 4, 13 },
    { GPU "vram_used_bytes = 101\n", "gpus[0].vram_total_bytes", 0, 0 },
    { GPU "vram_used_bytes = 60\nvram_reserved_bytes = 41\n", "gpus[0].vram_total_bytes", 0, 0 },
    { GPU "vram_used_bytes = -1\n", "gpus[0].vram_used_bytes", 4, 19 },
    { GPU "vram_used_bytes = \"lots\"\n", "gpus[0].vram_used_bytes", 4, 19 },
    { GPU "vram_used_bytes = 1.5\n", "gpus[0].vram_used_bytes", 4, 19 },
    { GPU "utilization_percent = 101\n", "gpus[0].utilization_percent", 4, 23 },
    { GPU "ecc_enabled = 1\n", "gpus[0].ecc_enabled", 4, 15 },
    { GPU "processes = 1\n", "gpus[0].processes", 4, 13 },
    { GPU "are_processes_known = false\nprocesses = [{pid = 1}]\n", "gpus[0].processes", 5, 13 },
    { GPU "[[gpus.processes]]\npid = -1\n", "gpus[0].processes[0].pid", 5, 7 },
    { GPU "[[gpus.processes]]\nused_vram_bytes = 1\n", "gpus[0].processes[0].pid", 0, 0 },
    { GPU "[[gpus.processes]]\npid = 1\nname = \"x\"\n", "gpus[0].processes[0].name", 6, 1 },
    { GPU "mig_enabled = false\ninstances = []\n", "gpus[0].instances", 5, 13 },
    { GPU "[[gpus.instances]]\nuuid = \"GPU-b\"\nvram_total_bytes = 1\n", "gpus[0].instances[0].uuid", 5, 8 },
    { GPU "[[gpus.instances]]\nuuid = \"MIG-b\"\nvram_total_bytes = 1\nnuma_node = 0\n",
      "gpus[0].instances[0].numa_node", 7, 1 },
    { GPU GPU, "gpus[1].uuid", 5, 8 },
    { "[[gpus]]\nvram_total_bytes = 1\n", "gpus[0].uuid", 0, 0 },
    { "[[gpus]]\nuuid = \"GPU-a\"\n", "gpus[0].vram_total_bytes", 0, 0 },
    { "[[gpus]]\nuuid = \"GPU-a\"\nvram_total_bytes = 0\n", "gpus[0].vram_total_bytes", 3, 20 },
    { "[[gpus]]\nuuid = \"0\"\nvram_total_bytes = 1\n", "gpus[0].uuid", 2, 8 },
    { "[[gpus]]\nuuid = \"GPU-a,GPU-b\"\nvram_total_bytes = 1\n", "gpus[0].uuid", 2, 8 },
    { "[[gpus]]\nuuid = \"\"\nvram_total_bytes = 1\n", "gpus[0].uuid", 2, 8 },
    { "[[gpus]]\nuuid = \"MIG-a\"\nvram_total_bytes = 1\n", "gpus[0].uuid", 2, 8 },
};

static void refuses_with_file_line_and_column(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(refusals); i++) {
        write_file(refusals[i].text);
        struct pool_error err = POOL_ERROR_INIT;
        struct pool_gpu_inventory *inventory = NULL;
        enum pool_code code = pool_gpu_inventory_open(url, &inventory, &err);
        if (code != POOL_INVALID_CONFIG || inventory)
            fail_msg("accepted: %s", refusals[i].text);
        char place[128];
        snprintf(place, sizeof place, "%s:%d:", path, refusals[i].line);
        if (refusals[i].column > 0)
            snprintf(place, sizeof place, "%s:%d:%d: ", path, refusals[i].line, refusals[i].column);
        if (strcmp(err.field, refusals[i].field) != 0 ||
            strncmp(err.message, place, refusals[i].line > 0 ? strlen(place) : strlen(path)) != 0)
            fail_msg("case %zu: expected %s %s, is %s %s", i, place, refusals[i].field, err.message,
                     err.field);
    }
}

/* Appends one device to a text with room for 64 bytes more. */
static size_t write_device(char *text, int i)
{
    int n = snprintf(text, 64, "[[gpus]]\nuuid = \"GPU-%d\"\nvram_total_bytes = 1\n", i);
    assert_in_range(n, 1, 63);
    return (size_t)n;
}

static void refuses_more_devices_than_there_may_be(void **state)
{
    (void)state;
    char *text = calloc(POOL_GPUS_MAX + 1, 64);
    assert_non_null(text);
    size_t n = 0;
    for (int i = 0; i < POOL_GPUS_MAX; i++)
        n += write_device(text + n, i);
    struct pool_gpu_list *list = read_devices(text);
    assert_int_equal(list->n_gpus, POOL_GPUS_MAX);
    assert_int_equal(list->gpus[POOL_GPUS_MAX - 1]->gpu_id, POOL_GPUS_MAX - 1);
    pool_gpu_list_free(list);
    write_device(text + n, POOL_GPUS_MAX);
    write_file(text);
    struct pool_gpu_inventory *inventory = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(pool_gpu_inventory_open(url, &inventory, &err), POOL_INVALID_CONFIG);
    assert_string_equal(err.field, "gpus[256]");
    free(text);
}

static void refuses_a_file_without_end(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(pool_gpu_inventory_open("static:/dev/zero", &inventory, &err), POOL_INVALID_CONFIG);
    assert_null(inventory);
}

static void reads_the_file_again(void **state)
{
    (void)state;
    write_file(GPU);
    struct pool_gpu_inventory *inventory = NULL;
    assert_int_equal(pool_gpu_inventory_open(url, &inventory, NULL), POOL_OK);
    struct pool_gpu_info *info = NULL;
    assert_int_equal(pool_gpu_inventory_get(inventory, "GPU-a", &info, NULL), POOL_OK);
    assert_int_equal(info->vram_free_bytes, 100);
    pool_gpu_info_free(info);

    write_file(GPU "vram_used_bytes = 30\n");
    assert_int_equal(pool_gpu_inventory_refresh(inventory, NULL), POOL_OK);
    assert_int_equal(pool_gpu_inventory_get(inventory, "0", &info, NULL), POOL_OK);
    assert_int_equal(info->vram_free_bytes, 70);
    pool_gpu_info_free(info);

    /* Half a file, as one is while it is written: the facts of the last good one stay. */
    write_file("[[gpus]]\nuuid = \"GPU-a\"\n[[gpus]]\nuuid");
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(pool_gpu_inventory_refresh(inventory, &err), POOL_INVALID_CONFIG);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(pool_gpu_inventory_refresh(inventory, &err), POOL_INVALID_CONFIG);
    assert_int_not_equal(err.sys_errno, 0);
    assert_int_equal(pool_gpu_inventory_get(inventory, "0", &info, NULL), POOL_OK);
    assert_int_equal(info->vram_free_bytes, 70);
    pool_gpu_info_free(info);
    pool_gpu_inventory_close(inventory);
    write_file("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_every_key, make_file, remove_file),
        cmocka_unit_test_setup_teardown(reads_every_key_of_health_and_processes, make_file, remove_file),
        cmocka_unit_test_setup_teardown(reads_instances, make_file, remove_file),
        cmocka_unit_test_setup_teardown(no_device_has_a_reason, make_file, remove_file),
        cmocka_unit_test_setup_teardown(refuses_with_file_line_and_column, make_file, remove_file),
        cmocka_unit_test_setup_teardown(refuses_more_devices_than_there_may_be, make_file, remove_file),
        cmocka_unit_test(refuses_a_file_without_end),
        cmocka_unit_test_setup_teardown(reads_the_file_again, make_file, remove_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
