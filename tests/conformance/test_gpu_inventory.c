/*
 * What every GPU inventory promises, whatever it asks: one suite, run over each implementation. A machine is
 * described once, below, and written down for each in its own way; NVML is asked through the fake driver.
 */
#include <pool/gpu.h>

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "fake_driver.h"

#define GIB (INT64_C(1) << 30)

struct process {
    int64_t pid, bytes;
};

struct device {
    const char *uuid;
    bool is_mig; /* an instance of the last device that is not one */
    bool is_broken;
    int64_t total_bytes, used_bytes, reserved_bytes;
    struct process processes[3]; /* ends with a pid of 0 */
};

struct machine {
    struct device devices[6]; /* ends without a UUID */
};

static const struct machine usual = { {
    { .uuid = "GPU-a",
      .total_bytes = 24 * GIB,
      .used_bytes = 6 * GIB,
      .reserved_bytes = GIB,
      .processes = { { 101, 4 * GIB }, { 102, 2 * GIB } } },
    { .uuid = "GPU-b", .total_bytes = 80 * GIB, .used_bytes = 80 * GIB },
} };

static const struct machine empty = { { { .uuid = NULL } } };

static const struct machine with_one_broken = { {
    { .uuid = "GPU-a", .is_broken = true, .total_bytes = 24 * GIB },
    { .uuid = "GPU-b", .total_bytes = 80 * GIB },
} };

static const struct machine divided = { {
    { .uuid = "GPU-a", .total_bytes = 80 * GIB },
    { .uuid = "MIG-a", .is_mig = true, .total_bytes = 10 * GIB, .processes = { { 201, GIB } } },
    { .uuid = "MIG-b", .is_mig = true, .total_bytes = 20 * GIB, .used_bytes = 5 * GIB },
    { .uuid = "GPU-b", .total_bytes = 80 * GIB },
} };

/* An implementation, and how a machine is written down for it. */
struct implementation {
    const char *name;
    void (*write)(FILE *file, const struct machine *machine);
};

static struct fake_driver driver;
static const struct implementation *implementation;
static char url[4200];
static char path[128];

static void write_for_nvml(FILE *file, const struct machine *machine)
{
    int n_gpus = 0;
    int n_instances = 0;
    fprintf(file, "[driver]\n");
    for (const struct device *device = machine->devices; device->uuid; device++) {
        if (device->is_mig) {
            fprintf(file, "[mig %d.%d]\n", n_gpus - 1, n_instances++);
        } else {
            fprintf(file, "[gpu %d]\n%s", n_gpus++, device[1].uuid && device[1].is_mig ? "mig = on\n" : "");
            n_instances = 0;
        }
        fprintf(file, "uuid = %s\ntotal = %" PRId64 "\nused = %" PRId64 "\nreserved = %" PRId64 "\n",
                device->uuid, device->total_bytes, device->used_bytes, device->reserved_bytes);
        /* Not the name itself: what is lost can still say who it is. */
        if (device->is_broken)
            fprintf(file, "return.nvmlDeviceGetMemoryInfo_v2 = 15\nreturn.nvmlDeviceGetMemoryInfo = 15\n");
        for (const struct process *process = device->processes; process->pid != 0; process++)
            fprintf(file, "process = %" PRId64 " %" PRId64 "\n", process->pid, process->bytes);
    }
}

static void write_for_static(FILE *file, const struct machine *machine)
{
    for (const struct device *device = machine->devices; device->uuid; device++) {
        const char *table = device->is_mig ? "gpus.instances" : "gpus";
        fprintf(file,
                "[[%s]]\nuuid = \"%s\"\nvram_total_bytes = %" PRId64 "\nvram_used_bytes = %" PRId64 "\n",
                table, device->uuid, device->total_bytes, device->used_bytes);
        fprintf(file, "vram_reserved_bytes = %" PRId64 "\n", device->reserved_bytes);
        if (device->is_broken)
            fprintf(file, "unhealthy = \"lost\"\nare_processes_known = false\n");
        for (const struct process *process = device->processes; process->pid != 0; process++)
            fprintf(file, "[[%s.processes]]\npid = %" PRId64 "\nused_vram_bytes = %" PRId64 "\n", table,
                    process->pid, process->bytes);
    }
}

static const struct implementation implementations[] = { { "nvml", write_for_nvml },
                                                         { "static", write_for_static } };

static void set_machine(const struct machine *machine)
{
    char *text = NULL;
    size_t n = 0;
    FILE *file = open_memstream(&text, &n);
    assert_non_null(file);
    implementation->write(file, machine);
    assert_int_equal(fclose(file), 0);
    assert_true(fake_driver_write(path, text));
    free(text);
}

static int set_up(void **state)
{
    implementation = *state;
    if (!fake_driver_start(&driver))
        return -1;
    if (implementation == &implementations[0]) {
        snprintf(path, sizeof path, "%s", driver.config_path);
        snprintf(url, sizeof url, "%s", driver.url);
    } else {
        snprintf(path, sizeof path, "%s/gpus.toml", driver.folder);
        snprintf(url, sizeof url, "static:%s", path);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    fake_driver_end(&driver);
    return 0;
}

static struct pool_gpu_inventory *open_inventory(const struct machine *machine)
{
    struct pool_gpu_inventory *inventory = NULL;
    set_machine(machine);
    assert_int_equal(pool_gpu_inventory_open(url, &inventory, NULL), POOL_OK);
    return inventory;
}

static struct pool_gpu_list *list_devices(struct pool_gpu_inventory *inventory)
{
    struct pool_gpu_list *list = NULL;
    assert_int_equal(pool_gpu_inventory_list(inventory, &list, NULL), POOL_OK);
    return list;
}

static void names_itself(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory(&usual);
    assert_string_equal(pool_gpu_inventory_name(inventory), implementation->name);
    pool_gpu_inventory_close(inventory); /* without having been asked anything */
}

static void tells_what_is_there(void **state)
{
    (void)state;
    int64_t before_ns = clock_boottime_ns();
    struct pool_gpu_inventory *inventory = open_inventory(&usual);
    struct pool_gpu_list *list = list_devices(inventory);
    assert_in_range(list->taken_boottime_ns, before_ns, clock_boottime_ns());
    assert_string_equal(list->source, implementation->name);
    assert_string_equal(list->reason, "");
    assert_int_equal(list->n_gpus, 2);
    for (size_t i = 0; i < list->n_gpus; i++) {
        const struct pool_gpu_info *info = list->gpus[i];
        const struct device *device = &usual.devices[i];
        assert_int_equal(info->gpu_id, i);
        assert_string_equal(info->uuid, device->uuid);
        assert_string_not_equal(info->name, "");
        assert_true(info->is_vram_known);
        assert_int_equal(info->vram_total_bytes, device->total_bytes);
        assert_int_equal(info->vram_used_bytes, device->used_bytes);
        assert_true(info->vram_reserved_bytes.is_present);
        assert_int_equal(info->vram_reserved_bytes.value, device->reserved_bytes);
        assert_int_equal(info->vram_free_bytes,
                         device->total_bytes - device->used_bytes - device->reserved_bytes);
        assert_int_equal(info->health, POOL_GPU_HEALTHY);
        assert_string_equal(info->health_reason, "");
        assert_true(info->is_placeable);
        assert_false(info->is_mig_instance);
        assert_string_equal(info->parent_uuid, "");
    }
    pool_gpu_list_free(list);
    pool_gpu_inventory_close(inventory);
}

/* Whatever is told of pairs: of devices of the list, not of instances, and by both ends alike. */
static void tells_of_pairs_what_both_ends_say(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory(&divided);
    struct pool_gpu_list *list = list_devices(inventory);
    for (size_t i = 0; i < list->n_gpus; i++) {
        const struct pool_gpu_info *one = list->gpus[i];
        assert_true(one->are_nvlinks_known || one->n_nvlinks == 0);
        assert_true(!one->is_mig_instance || (one->n_nvlinks == 0 && one->n_peers == 0));
        for (size_t k = 0; k < one->n_peers; k++) {
            const struct pool_gpu_info *other = pool_gpu_list_find(list, one->peers[k].uuid);
            assert_true(other && other != one && !other->is_mig_instance);
            assert_int_equal(other->gpu_id, one->peers[k].gpu_id);
            assert_int_equal(other->n_peers, one->n_peers);
            for (size_t m = 0; m < other->n_peers; m++) {
                if (other->peers[m].gpu_id == one->gpu_id)
                    assert_int_equal(other->peers[m].common_ancestor, one->peers[k].common_ancestor);
            }
        }
    }
    pool_gpu_list_free(list);
    pool_gpu_inventory_close(inventory);
}

static void finds_by_index_and_uuid_and_by_nothing_else(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory(&usual);
    static const struct {
        const char *gpu_id;
        enum pool_code code;
        uint32_t index;
    } cases[] = {
        { "0", POOL_OK, 0 },
        { "1", POOL_OK, 1 },
        { "GPU-b", POOL_OK, 1 },
        { "2", POOL_GPU_NOT_FOUND, 0 },
        { "GPU-c", POOL_GPU_NOT_FOUND, 0 },
        { "GPU-", POOL_GPU_NOT_FOUND, 0 },
        { "", POOL_INVALID_REQUEST, 0 },
        { "-1", POOL_INVALID_REQUEST, 0 },
        { "all", POOL_INVALID_REQUEST, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_gpu_info *info = NULL;
        assert_int_equal(pool_gpu_inventory_get(inventory, cases[i].gpu_id, &info, NULL), cases[i].code);
        if (cases[i].code == POOL_OK)
            assert_int_equal(info->gpu_id, cases[i].index);
        else
            assert_null(info);
        pool_gpu_info_free(info);
    }
    pool_gpu_inventory_close(inventory);
}

static void tells_who_holds_the_memory(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory(&usual);
    size_t n = 0;
    struct pool_gpu_process *processes = NULL;
    assert_int_equal(pool_gpu_inventory_processes(inventory, "GPU-a", &n, &processes, NULL), POOL_OK);
    assert_int_equal(n, 2);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(processes[i].pid, usual.devices[0].processes[i].pid);
        assert_true(processes[i].used_vram_bytes.is_present);
        assert_int_equal(processes[i].used_vram_bytes.value, usual.devices[0].processes[i].bytes);
        assert_false(processes[i].gpu_instance_id.is_present);
        assert_false(processes[i].is_graphics);
    }
    free(processes);
    assert_int_equal(pool_gpu_inventory_processes(inventory, "1", &n, &processes, NULL), POOL_OK);
    assert_int_equal(n, 0);
    assert_null(processes);
    assert_int_equal(pool_gpu_inventory_processes(inventory, "7", &n, &processes, NULL), POOL_GPU_NOT_FOUND);
    pool_gpu_inventory_close(inventory);
}

static void shows_the_last_refresh_until_the_next(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory(&usual);
    pool_gpu_list_free(list_devices(inventory));
    struct machine later = usual;
    later.devices[0].used_bytes += GIB;
    later.devices[1].uuid = NULL;
    set_machine(&later);
    struct pool_gpu_list *list = list_devices(inventory);
    assert_int_equal(list->n_gpus, 2);
    assert_int_equal(list->gpus[0]->vram_used_bytes, usual.devices[0].used_bytes);
    int64_t first_ns = list->taken_boottime_ns;
    pool_gpu_list_free(list);
    assert_int_equal(pool_gpu_inventory_refresh(inventory, NULL), POOL_OK);
    list = list_devices(inventory);
    assert_int_equal(list->n_gpus, 1);
    assert_int_equal(list->gpus[0]->vram_used_bytes, later.devices[0].used_bytes);
    assert_true(list->taken_boottime_ns > first_ns);
    pool_gpu_inventory_close(inventory);
    assert_string_equal(list->gpus[0]->uuid, "GPU-a"); /* the caller's own */
    pool_gpu_list_free(list);
}

static void nothing_has_a_reason(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory(&empty);
    struct pool_gpu_list *list = list_devices(inventory);
    assert_int_equal(list->n_gpus, 0);
    assert_string_not_equal(list->reason, "");
    pool_gpu_list_free(list);
    struct pool_gpu_info *info = NULL;
    assert_int_equal(pool_gpu_inventory_get(inventory, "0", &info, NULL), POOL_GPU_NOT_FOUND);
    set_machine(&usual); /* and may become something */
    assert_int_equal(pool_gpu_inventory_refresh(inventory, NULL), POOL_OK);
    assert_int_equal(pool_gpu_inventory_get(inventory, "0", &info, NULL), POOL_OK);
    pool_gpu_info_free(info);
    pool_gpu_inventory_close(inventory);
}

static void a_broken_device_hides_no_other(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory(&with_one_broken);
    struct pool_gpu_list *list = list_devices(inventory);
    assert_int_equal(list->n_gpus, 2);
    assert_string_equal(list->gpus[0]->uuid, "GPU-a");
    assert_int_equal(list->gpus[0]->health, POOL_GPU_UNHEALTHY);
    assert_string_not_equal(list->gpus[0]->health_reason, "");
    assert_int_equal(list->gpus[1]->health, POOL_GPU_HEALTHY);
    assert_int_equal(list->gpus[1]->vram_free_bytes, 80 * GIB);
    pool_gpu_list_free(list);
    size_t n = 0;
    struct pool_gpu_process *processes = NULL;
    assert_int_equal(pool_gpu_inventory_processes(inventory, "0", &n, &processes, NULL),
                     POOL_GPU_UNAVAILABLE);
    pool_gpu_inventory_close(inventory);
}

static void instances_are_placeable_and_their_device_is_not(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory(&divided);
    struct pool_gpu_list *list = list_devices(inventory);
    assert_int_equal(list->n_gpus, 4);
    assert_false(list->gpus[0]->is_placeable);
    assert_true(list->gpus[0]->mig_enabled.is_present);
    assert_int_equal(list->gpus[0]->mig_enabled.value, 1);
    for (size_t i = 1; i <= 2; i++) {
        const struct pool_gpu_info *instance = list->gpus[i];
        assert_string_equal(instance->uuid, divided.devices[i].uuid);
        assert_string_equal(instance->parent_uuid, "GPU-a");
        assert_int_equal(instance->gpu_id, 0);
        assert_true(instance->is_mig_instance);
        assert_true(instance->is_placeable);
        assert_int_equal(instance->vram_total_bytes, divided.devices[i].total_bytes);
        assert_int_equal(instance->vram_free_bytes,
                         divided.devices[i].total_bytes - divided.devices[i].used_bytes);
    }
    assert_int_equal(list->gpus[3]->gpu_id, 1);
    assert_true(list->gpus[3]->is_placeable);
    pool_gpu_list_free(list);

    struct pool_gpu_info *info = NULL;
    assert_int_equal(pool_gpu_inventory_get(inventory, "0", &info, NULL), POOL_OK);
    assert_string_equal(info->uuid, "GPU-a");
    pool_gpu_info_free(info);
    assert_int_equal(pool_gpu_inventory_get(inventory, "MIG-b", &info, NULL), POOL_OK);
    assert_true(info->is_mig_instance);
    pool_gpu_info_free(info);
    size_t n = 0;
    struct pool_gpu_process *processes = NULL;
    assert_int_equal(pool_gpu_inventory_processes(inventory, "MIG-a", &n, &processes, NULL), POOL_OK);
    assert_int_equal(n, 1);
    assert_int_equal(processes[0].pid, 201);
    free(processes);
    pool_gpu_inventory_close(inventory);
}

#define TEST(name, of)                              \
    {                                               \
#name " " of, name, set_up, tear_down, NULL \
    }
#define SUITE(of)                                                                                           \
    {                                                                                                       \
        TEST(names_itself, of), TEST(tells_what_is_there, of), TEST(tells_of_pairs_what_both_ends_say, of), \
            TEST(finds_by_index_and_uuid_and_by_nothing_else, of), TEST(tells_who_holds_the_memory, of),    \
            TEST(shows_the_last_refresh_until_the_next, of), TEST(nothing_has_a_reason, of),                \
            TEST(a_broken_device_hides_no_other, of),                                                       \
            TEST(instances_are_placeable_and_their_device_is_not, of)                                       \
    }

int main(void)
{
    struct CMUnitTest of_nvml[] = SUITE("(nvml)");
    struct CMUnitTest of_static[] = SUITE("(static)");
    const size_t n = sizeof of_nvml / sizeof of_nvml[0];
    for (size_t i = 0; i < n; i++) {
        of_nvml[i].initial_state = (void *)(uintptr_t)&implementations[0];
        of_static[i].initial_state = (void *)(uintptr_t)&implementations[1];
    }
    int n_failed = cmocka_run_group_tests_name("nvml", of_nvml, NULL, NULL);
    return n_failed + cmocka_run_group_tests_name("static", of_static, NULL, NULL);
}
