/*
 * Process lists of NVML: the three lengths of a record, lists that grow or lie, hidden processes, and processes in
 * several lists. Over the fake driver where it can, over a driver of our own for what that one does not do.
 */
#include "core/gpu/nvml_processes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_driver.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define MIB      (INT64_C(1) << 20)

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

/* Device 0 as the fake driver shows it in this world. */
static struct pool_gpu_info *look(const char *world)
{
    struct pool_gpu_inventory *inventory = NULL;
    struct pool_gpu_info *info = NULL;
    assert_true(fake_driver_set(&driver, world));
    assert_int_equal(pool_gpu_inventory_open(driver.url, &inventory, NULL), POOL_OK);
    assert_int_equal(pool_gpu_inventory_get(inventory, "0", &info, NULL), POOL_OK);
    pool_gpu_inventory_close(inventory);
    return info;
}

static void assert_process(const struct pool_gpu_info *info, size_t i, int64_t pid, int64_t bytes)
{
    assert_true(i < info->n_processes);
    assert_int_equal(info->processes[i].pid, pid);
    assert_true(info->processes[i].used_vram_bytes.is_present);
    assert_int_equal(info->processes[i].used_vram_bytes.value, bytes);
    assert_false(info->processes[i].gpu_instance_id.is_present);
}

#define WITHOUT_DETAILS "return.nvmlDeviceGetRunningProcessDetailList = "

static void records_of_every_length_are_read(void **state)
{
    (void)state;
    static const int strides[] = { 16, 24, 32 };
    static const int counts[] = { 0, 1, 2, 3, 4, 7, 31, 32, 33, 100 };
    static const int details[] = { 0, 3, 13, 25, 999, 4 };
    char text[8192];
    for (size_t s = 0; s < COUNT(strides); s++) {
        for (size_t c = 0; c < COUNT(counts); c++) {
            for (size_t d = 0; d < COUNT(details); d++) {
                int n = snprintf(text, sizeof text,
                                 "[driver]\nprocess_stride = %d\n" WITHOUT_DETAILS "%d\n[gpu 0]\n",
                                 strides[s], details[d]);
                for (int i = 0; i < counts[c]; i++)
                    n += snprintf(text + n, sizeof text - (size_t)n, "process = %d %dMiB\n", 1000 + i, i);
                struct pool_gpu_info *info = look(text);
                assert_true(info->are_processes_known);
                assert_int_equal(info->n_processes, counts[c]);
                for (int i = 0; i < counts[c]; i++)
                    assert_process(info, (size_t)i, 1000 + i, i * MIB);
                pool_gpu_info_free(info);
            }
        }
    }
}

static void lengths_are_told_from_what_was_written(void **state)
{
    (void)state;
    enum { CAPACITY = 40 };
    static unsigned char buffer[CAPACITY * NVML_RECORD_BYTES_MAX];
    static const size_t lengths[] = { 16, 24, 32 };
    for (size_t l = 0; l < COUNT(lengths); l++) {
        for (size_t n = 1; n <= CAPACITY; n++) {
            memset(buffer, NVML_RECORD_POISON, sizeof buffer);
            for (size_t i = 0; i < n; i++) {
                struct nvml_process_detail_v1 record = { .pid = (uint32_t)(100 + i),
                                                         .used_gpu_memory = (i + 1) * 4096,
                                                         .gpu_instance_id = UINT32_MAX,
                                                         .compute_instance_id = UINT32_MAX };
                memcpy(buffer + i * lengths[l], &record, lengths[l]);
            }
            size_t found = nvml_record_bytes(buffer, CAPACITY, n);
            /* Of one record the first length will do: pid and memory are at the same place in all. */
            assert_int_equal(found, n == 1 && lengths[l] == 16 ? 24 : lengths[l]);
        }
    }
}

static void a_buffer_that_was_cleaned_is_judged_by_its_pids(void **state)
{
    (void)state;
    unsigned char buffer[8 * NVML_RECORD_BYTES_MAX] = { 0 };
    struct nvml_process_detail_v1 record = { .pid = (uint32_t)getpid(),
                                             .used_gpu_memory = (uint64_t)5 << 32,
                                             .gpu_instance_id = UINT32_MAX,
                                             .compute_instance_id = UINT32_MAX };
    memcpy(buffer, &record, 24);
    assert_int_equal(nvml_record_bytes(buffer, 8, 1), 24);
    record.pid = (uint32_t)getppid();
    memcpy(buffer + 24, &record, 24);
    assert_int_equal(nvml_record_bytes(buffer, 8, 2), 24);
    record.pid = 4194304; /* no process has it: pids are below */
    memcpy(buffer + 24, &record, 24);
    assert_int_equal(nvml_record_bytes(buffer, 8, 2), 0);
    memset(buffer, 0, sizeof buffer);
    assert_int_equal(nvml_record_bytes(buffer, 8, 3), 0);
    memset(buffer, 0xFF, sizeof buffer);
    assert_int_equal(nvml_record_bytes(buffer, 8, 2), 0);
    memset(buffer, NVML_RECORD_POISON, sizeof buffer); /* a driver that counts, and writes nothing */
    assert_int_equal(nvml_record_bytes(buffer, 8, 1), 0);
}

static void a_long_list_is_asked_for_again_and_an_endless_one_given_up(void **state)
{
    (void)state;
    enum { LINE_BYTES = 32, MANY = 3000, TOO_MANY = 9000 };
    char *text = calloc(TOO_MANY + 4, LINE_BYTES);
    assert_non_null(text);
    for (int details = 0; details <= 13; details += 13) {
        for (int wanted = MANY; wanted <= TOO_MANY; wanted += TOO_MANY - MANY) {
            int n =
                snprintf(text, (size_t)4 * LINE_BYTES, "[driver]\n" WITHOUT_DETAILS "%d\n[gpu 0]\n", details);
            for (int i = 0; i < wanted; i++)
                n += snprintf(text + n, LINE_BYTES, "process = %d 4KiB\n", 1 + i);
            struct pool_gpu_info *info = look(text);
            assert_int_equal(info->are_processes_known, wanted == MANY);
            assert_int_equal(info->n_processes, wanted == MANY ? MANY : 0);
            assert_int_equal(info->health, POOL_GPU_HEALTHY);
            pool_gpu_info_free(info);
        }
    }
    free(text);
}

static void what_is_hidden_is_absent(void **state)
{
    (void)state;
    struct pool_gpu_info *info =
        look("[driver]\nprocess_bytes = unknown\n[gpu 0]\nprocess = 0 1MiB\nprocess = 0 2MiB\n"
             "graphics_process = 0 1MiB\n");
    assert_int_equal(info->n_processes, 3); /* who they are is hidden, so none is taken for another */
    for (size_t i = 0; i < info->n_processes; i++) {
        assert_int_equal(info->processes[i].pid, 0);
        assert_false(info->processes[i].used_vram_bytes.is_present);
    }
    pool_gpu_info_free(info);
    info = look("[gpu 0]\ntotal = 8GiB\nprocess = 5 unknown\nprocess = 6 9GiB\nprocess = 7 8GiB\n");
    assert_false(info->processes[0].used_vram_bytes.is_present);
    assert_false(info->processes[1].used_vram_bytes.is_present); /* more than there is */
    assert_process(info, 2, 7, 8192 * MIB);
    pool_gpu_info_free(info);
}

static void a_process_in_several_lists_is_one(void **state)
{
    (void)state;
    static const char *const world = "[driver]\n" WITHOUT_DETAILS "%d\n[gpu 0]\n"
                                     "process = 10 100MiB\nprocess = 11 50MiB\n"
                                     "graphics_process = 11 50MiB\ngraphics_process = 12 5MiB\n"
                                     "mps_process = 13 7MiB\nmps_process = 10 200MiB\n";
    for (int details = 0; details <= 3; details += 3) {
        char text[512];
        snprintf(text, sizeof text, world, details);
        struct pool_gpu_info *info = look(text);
        assert_int_equal(info->n_processes, 4);
        assert_process(info, 0, 10, 200 * MIB);
        assert_process(info, 1, 11, 50 * MIB);
        assert_process(info, 2, 12, 5 * MIB);
        assert_process(info, 3, 13, 7 * MIB);
        assert_false(info->processes[0].is_graphics);
        assert_true(info->processes[1].is_graphics);
        assert_true(info->processes[2].is_graphics);
        assert_false(info->processes[3].is_graphics);
        pool_gpu_info_free(info);
    }
}

static void lists_that_fail(void **state)
{
    (void)state;
    for (int code = 1; code <= 30; code++) {
        char text[512];
        bool is_lost = code == 15 || code == 16;
        /* Of graphics and of MPS clients: nothing is missed. */
        snprintf(text, sizeof text,
                 "[driver]\n" WITHOUT_DETAILS "13\nreturn.nvmlDeviceGetGraphicsRunningProcesses_v3 = %d\n"
                 "return.nvmlDeviceGetMPSComputeRunningProcesses_v3 = %d\n[gpu 0]\nprocess = 9 1MiB\n",
                 code, code);
        struct pool_gpu_info *info = look(text);
        assert_int_equal(info->are_processes_known, !is_lost);
        assert_int_equal(info->health, is_lost ? POOL_GPU_UNHEALTHY : POOL_GPU_HEALTHY);
        if (!is_lost)
            assert_process(info, 0, 9, MIB);
        pool_gpu_info_free(info);
        /* Of the compute processes: not known, which is not none. */
        snprintf(text, sizeof text,
                 "[driver]\n" WITHOUT_DETAILS "13\nreturn.nvmlDeviceGetComputeRunningProcesses_v3 = %d\n"
                 "[gpu 0]\nprocess = 9 1MiB\ngraphics_process = 8 1MiB\n",
                 code);
        info = look(text);
        assert_false(info->are_processes_known);
        assert_int_equal(info->n_processes, 0);
        assert_int_equal(info->health, is_lost ? POOL_GPU_UNHEALTHY : POOL_GPU_HEALTHY);
        pool_gpu_info_free(info);
    }
}

static void details_are_given_up_only_when_they_are_not_there(void **state)
{
    (void)state;
    assert_true(fake_driver_set(
        &driver, "[driver]\n" WITHOUT_DETAILS "999\n"
                 "return.nvmlDeviceGetComputeRunningProcesses_v3 = 13\n[gpu 0]\nprocess = 9 1MiB\n"));
    struct pool_gpu_inventory *inventory = NULL;
    struct pool_gpu_info *info = NULL;
    assert_int_equal(pool_gpu_inventory_open(driver.url, &inventory, NULL), POOL_OK);
    assert_int_equal(pool_gpu_inventory_get(inventory, "0", &info, NULL), POOL_OK);
    assert_false(info->are_processes_known);
    pool_gpu_info_free(info);
    assert_true(fake_driver_set(&driver, "[gpu 0]\nprocess = 9 1MiB\n"));
    assert_int_equal(pool_gpu_inventory_refresh(inventory, NULL), POOL_OK);
    assert_int_equal(pool_gpu_inventory_get(inventory, "0", &info, NULL), POOL_OK);
    assert_process(info, 0, 9, MIB);
    pool_gpu_info_free(info);
    pool_gpu_inventory_close(inventory);
}

/* A driver of our own, for lies. */
static struct {
    int code;
    unsigned count; /* what it says, whatever it writes */
    unsigned n_written;
    uint32_t pid;
    int n_calls;
} liar;

static int list_as_a_liar(void *device, unsigned *count, void *records)
{
    (void)device;
    liar.n_calls++;
    for (unsigned i = 0; i < liar.n_written && i < *count; i++) {
        struct nvml_process_detail_v1 record = { .pid = liar.pid + i, .used_gpu_memory = 4096 };
        memcpy((char *)records + (size_t)i * 24, &record, 24);
    }
    *count = liar.count;
    return liar.code;
}

static int list_details_as_a_liar(void *device, struct nvml_process_detail_list_v1 *list)
{
    return list_as_a_liar(device, &list->n_processes, list->processes);
}

static void lies_are_not_believed(void **state)
{
    (void)state;
    static const struct {
        int code;
        unsigned count, n_written;
        uint32_t pid;
    } lies[] = {
        { NVML_SUCCESS, UINT32_MAX, 0, 0 }, /* more than there was room for */
        { NVML_SUCCESS, 33, 32, 100 },      /* one more than there was room for */
        { NVML_SUCCESS, 5, 0, 0 },          /* nothing written */
        { NVML_SUCCESS, 5, 4, 100 },        /* less written than said */
        { NVML_SUCCESS, 3, 5, 4194200 },    /* more written than said, and not for processes that are there */
        { NVML_SUCCESS, 2, 2, 0xFFFFFFF0U },  /* pids that Linux has not */
        { NVML_INSUFFICIENT_SIZE, 0, 0, 0 },  /* never enough, and no word of what would be */
        { NVML_INSUFFICIENT_SIZE, 40, 0, 0 }, /* never enough, though it is given */
        { NVML_INSUFFICIENT_SIZE, UINT32_MAX, 0, 0 },
    };
    for (size_t i = 0; i < COUNT(lies); i++) {
        liar.code = lies[i].code;
        liar.count = lies[i].count;
        liar.n_written = lies[i].n_written;
        liar.pid = lies[i].pid;
        for (int with_details = 0; with_details < 2; with_details++) {
            struct nvml_library nvml = { .list_compute_processes = list_as_a_liar };
            if (with_details)
                nvml.list_process_details = list_details_as_a_liar;
            struct nvml_process_support support = { .lacks_details = false };
            struct pool_gpu_info info = { .gpu_id = 0 };
            int rc = NVML_SUCCESS;
            liar.n_calls = 0;
            assert_int_equal(nvml_processes_read(&nvml, NULL, &support, &info, &rc, NULL), POOL_OK);
            /* The layout of the details is sure, so that more of them do no harm. */
            bool is_harmless = with_details && lies[i].n_written > lies[i].count;
            if (!is_harmless && (info.are_processes_known || info.n_processes > 0))
                fail_msg("lie %zu is believed", i);
            assert_true(is_harmless || rc != NVML_SUCCESS);
            assert_in_range(liar.n_calls, 1, 20);
            free(info.processes);
        }
    }
}

static void no_function_is_no_list(void **state)
{
    (void)state;
    struct nvml_library nvml = { .handle = NULL };
    struct nvml_process_support support = { .lacks_details = false };
    struct pool_gpu_info info = { .gpu_id = 0 };
    int rc = NVML_SUCCESS;
    assert_int_equal(nvml_processes_read(&nvml, NULL, &support, &info, &rc, NULL), POOL_OK);
    assert_false(info.are_processes_known);
    assert_int_equal(rc, NVML_FUNCTION_NOT_FOUND);
    assert_true(support.lacks_details);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start_driver, end_driver)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(records_of_every_length_are_read),
        cmocka_unit_test(lengths_are_told_from_what_was_written),
        cmocka_unit_test(a_buffer_that_was_cleaned_is_judged_by_its_pids),
        TEST(a_long_list_is_asked_for_again_and_an_endless_one_given_up),
        TEST(what_is_hidden_is_absent),
        TEST(a_process_in_several_lists_is_one),
        TEST(lists_that_fail),
        TEST(details_are_given_up_only_when_they_are_not_there),
        cmocka_unit_test(lies_are_not_believed),
        cmocka_unit_test(no_function_is_no_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
