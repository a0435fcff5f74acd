/*
 * The front of inventories: opening by URL, finding, copies that stand alone, and what a failed refresh leaves. The
 * implementation underneath is one of our own, told by the test what to answer.
 */
#include <pool/gpu.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "core/gpu/inventories.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* What the implementation under test does. */
static struct {
    enum pool_code open_code, refresh_code;
    size_t n_gpus;
    int64_t free_bytes;
    bool are_processes_known;
    int n_refreshes, n_closes;
    char source[64];
} script;

struct scripted {
    bool is_open;
    char filler[100];
};

static enum pool_code open_scripted(void *self, const char *source, struct pool_error *err)
{
    struct scripted *scripted = self;
    assert_false(scripted->is_open); /* zeroed before */
    snprintf(script.source, sizeof script.source, "%s", source);
    if (script.open_code != POOL_OK)
        return pool_error_set(err, script.open_code, "as the test wants");
    scripted->is_open = true;
    return POOL_OK;
}

static enum pool_code refresh_scripted(void *self, struct pool_gpu_list *list, struct pool_error *err)
{
    struct scripted *scripted = self;
    assert_true(scripted->is_open);
    assert_int_equal(list->n_gpus, 0);
    script.n_refreshes++;
    for (size_t i = 0; i < script.n_gpus; i++) {
        struct pool_gpu_info *info = pool_gpu_list_append(list);
        if (!info)
            return pool_error_no_memory(err);
        info->gpu_id = (uint32_t)i;
        snprintf(info->uuid, sizeof info->uuid, "GPU-%zu", i);
        info->is_vram_known = true;
        info->vram_free_bytes = script.free_bytes;
        info->are_processes_known = script.are_processes_known;
        for (int k = 0; k < 3 && script.are_processes_known; k++) {
            struct pool_gpu_process process = { .pid = 100 + k,
                                                .used_vram_bytes = { true, INT64_C(1000) * k } };
            if (i == 0 && !gpu_info_add_process(info, &process))
                return pool_error_no_memory(err);
        }
    }
    if (script.refresh_code != POOL_OK)
        return pool_error_set(err, script.refresh_code, "as the test wants");
    return POOL_OK;
}

static void close_scripted(void *self)
{
    struct scripted *scripted = self;
    scripted->is_open = false;
    script.n_closes++;
}

static const struct pool_gpu_inventory_ops scripted_ops = {
    .name = "scripted",
    .private_bytes = sizeof(struct scripted),
    .open = open_scripted,
    .refresh = refresh_scripted,
    .close = close_scripted,
};

static int reset_script(void **state)
{
    (void)state;
    memset(&script, 0, sizeof script);
    script.n_gpus = 2;
    script.free_bytes = 1000;
    script.are_processes_known = true;
    return 0;
}

static struct pool_gpu_inventory *open_inventory(void)
{
    struct pool_gpu_inventory *inventory = NULL;
    assert_int_equal(pool_gpu_inventory_open_ops(&scripted_ops, "here", &inventory, NULL), POOL_OK);
    return inventory;
}

static void opens_by_url(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",        "nvml",   "nvml:lib.so",   "static:",    "static:x.toml",
        "NVML:",   "nvml /", "cuda:/usr/lib", "staticx:/a", "static:/does/not/exist",
        "static:/"
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct pool_error err = POOL_ERROR_INIT;
        struct pool_gpu_inventory *inventory = NULL;
        assert_int_equal(pool_gpu_inventory_open(bad[i], &inventory, &err), POOL_INVALID_CONFIG);
        assert_int_equal(err.code, POOL_INVALID_CONFIG);
        assert_null(inventory);
    }
    char *long_url = malloc(10001);
    assert_non_null(long_url);
    memset(long_url, 'x', 10000);
    long_url[10000] = '\0';
    for (int i = 0; i < 2; i++) {
        memcpy(long_url, i ? "nvml:/" : "static:/", strlen(i ? "nvml:/" : "static:/"));
        struct pool_gpu_inventory *inventory = NULL;
        assert_int_equal(pool_gpu_inventory_open(long_url, &inventory, NULL), POOL_INVALID_CONFIG);
        assert_null(inventory);
    }
    free(long_url);

    struct pool_gpu_inventory *inventory = NULL;
    assert_int_equal(pool_gpu_inventory_open("nvml:", &inventory, NULL), POOL_OK);
    assert_string_equal(pool_gpu_inventory_name(inventory), "nvml");
    pool_gpu_inventory_close(inventory);
}

static void open_hands_the_source_on_and_cleans_up(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory();
    assert_string_equal(script.source, "here");
    assert_string_equal(pool_gpu_inventory_name(inventory), "scripted");
    pool_gpu_inventory_close(inventory);
    assert_int_equal(script.n_closes, 1);
    assert_int_equal(script.n_refreshes, 0);
    pool_gpu_inventory_close(NULL);

    script.open_code = POOL_INVALID_CONFIG;
    inventory = NULL;
    assert_int_equal(pool_gpu_inventory_open_ops(&scripted_ops, "", &inventory, NULL), POOL_INVALID_CONFIG);
    assert_null(inventory);
    assert_int_equal(script.n_closes, 2); /* also of a self that open left half-made */
}

static void asks_once_until_told_to_again(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory();
    struct pool_gpu_list *list = NULL;
    int64_t before_ns = clock_boottime_ns();
    assert_int_equal(pool_gpu_inventory_list(inventory, &list, NULL), POOL_OK);
    assert_in_range(list->taken_boottime_ns, before_ns, clock_boottime_ns());
    assert_string_equal(list->source, "scripted");
    assert_string_equal(list->reason, "");
    assert_int_equal(list->n_gpus, 2);
    script.free_bytes = 500;
    struct pool_gpu_info *info = NULL;
    assert_int_equal(pool_gpu_inventory_get(inventory, "1", &info, NULL), POOL_OK);
    assert_int_equal(info->vram_free_bytes, 1000);
    pool_gpu_info_free(info);
    assert_int_equal(script.n_refreshes, 1);
    assert_int_equal(pool_gpu_inventory_refresh(inventory, NULL), POOL_OK);
    assert_int_equal(pool_gpu_inventory_get(inventory, "1", &info, NULL), POOL_OK);
    assert_int_equal(info->vram_free_bytes, 500);
    assert_int_equal(script.n_refreshes, 2);
    pool_gpu_inventory_close(inventory);

    /* Copies outlive the inventory. */
    assert_string_equal(info->uuid, "GPU-1");
    assert_int_equal(list->gpus[0]->n_processes, 3);
    assert_int_equal(list->gpus[0]->processes[2].used_vram_bytes.value, 2000);
    assert_int_equal(list->gpus[0]->vram_free_bytes, 1000);
    pool_gpu_info_free(info);
    pool_gpu_list_free(list);
    pool_gpu_info_free(NULL);
    pool_gpu_list_free(NULL);
}

static void a_failed_refresh_keeps_the_last_facts(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory();
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_gpu_list *list = NULL;
    script.refresh_code = POOL_INVALID_CONFIG;
    assert_int_equal(pool_gpu_inventory_list(inventory, &list, &err), POOL_INVALID_CONFIG);
    assert_null(list);
    size_t n = 7;
    struct pool_gpu_process *processes = NULL;
    assert_int_equal(pool_gpu_inventory_processes(inventory, "0", &n, &processes, &err), POOL_INVALID_CONFIG);
    assert_int_equal(n, 7);

    script.refresh_code = POOL_OK;
    assert_int_equal(pool_gpu_inventory_refresh(inventory, NULL), POOL_OK);
    script.refresh_code = POOL_INTERNAL;
    script.n_gpus = 1;
    assert_int_equal(pool_gpu_inventory_refresh(inventory, &err), POOL_INTERNAL);
    assert_int_equal(err.code, POOL_INTERNAL);
    assert_int_equal(pool_gpu_inventory_list(inventory, &list, NULL), POOL_OK);
    assert_int_equal(list->n_gpus, 2);
    pool_gpu_list_free(list);
    pool_gpu_inventory_close(inventory);
}

static void gets_by_index_and_uuid(void **state)
{
    (void)state;
    static const struct {
        const char *gpu_id;
        enum pool_code code;
    } cases[] = {
        { "0", POOL_OK },
        { "1", POOL_OK },
        { "GPU-0", POOL_OK },
        { "2", POOL_GPU_NOT_FOUND },
        { "4294967296", POOL_GPU_NOT_FOUND }, /* 0 in 32 bits */
        { "18446744073709551616", POOL_GPU_NOT_FOUND },
        { "999999999999999999999999999999", POOL_GPU_NOT_FOUND },
        { "GPU-2", POOL_GPU_NOT_FOUND },
        { "GPU-", POOL_GPU_NOT_FOUND },
        { "MIG-0", POOL_GPU_NOT_FOUND },
        { "", POOL_INVALID_REQUEST },
        { "-1", POOL_INVALID_REQUEST },
        { "+1", POOL_INVALID_REQUEST },
        { " 1", POOL_INVALID_REQUEST },
        { "01", POOL_INVALID_REQUEST },
        { "0x0", POOL_INVALID_REQUEST },
        { "1.0", POOL_INVALID_REQUEST },
        { "gpu-0", POOL_INVALID_REQUEST },
        { "auto", POOL_INVALID_REQUEST },
        { "GPU-0,GPU-1", POOL_INVALID_REQUEST },
        { "GPU-0\n", POOL_INVALID_REQUEST },
    };
    struct pool_gpu_inventory *inventory = open_inventory();
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct pool_gpu_info *info = NULL;
        struct pool_error err = POOL_ERROR_INIT;
        enum pool_code code = pool_gpu_inventory_get(inventory, cases[i].gpu_id, &info, &err);
        if (code != cases[i].code)
            fail_msg("get \"%s\": %s", cases[i].gpu_id, pool_code_name(code));
        assert_true((code == POOL_OK) == (info != NULL));
        assert_string_equal(err.field, code == POOL_OK ? "" : "gpu_id");
        pool_gpu_info_free(info);
    }
    pool_gpu_inventory_close(inventory);
}

static void tells_the_processes_of_one_device(void **state)
{
    (void)state;
    struct pool_gpu_inventory *inventory = open_inventory();
    size_t n = 0;
    struct pool_gpu_process *processes = NULL;
    assert_int_equal(pool_gpu_inventory_processes(inventory, "GPU-0", &n, &processes, NULL), POOL_OK);
    assert_int_equal(n, 3);
    assert_int_equal(processes[1].pid, 101);
    free(processes);
    assert_int_equal(pool_gpu_inventory_processes(inventory, "1", &n, &processes, NULL), POOL_OK);
    assert_int_equal(n, 0);
    assert_null(processes);
    assert_int_equal(pool_gpu_inventory_processes(inventory, "2", &n, &processes, NULL), POOL_GPU_NOT_FOUND);
    assert_int_equal(pool_gpu_inventory_processes(inventory, "x", &n, &processes, NULL),
                     POOL_INVALID_REQUEST);
    script.are_processes_known = false;
    assert_int_equal(pool_gpu_inventory_refresh(inventory, NULL), POOL_OK);
    assert_int_equal(pool_gpu_inventory_processes(inventory, "0", &n, &processes, NULL),
                     POOL_GPU_UNAVAILABLE);
    pool_gpu_inventory_close(inventory);
}

static struct pool_gpu_list *make_list(void)
{
    struct pool_gpu_list *list = calloc(1, sizeof *list);
    assert_non_null(list);
    return list;
}

static struct pool_gpu_info *add(struct pool_gpu_list *list, uint32_t gpu_id, const char *uuid, bool is_mig)
{
    struct pool_gpu_info *info = pool_gpu_list_append(list);
    assert_non_null(info);
    info->gpu_id = gpu_id;
    info->is_mig_instance = is_mig;
    snprintf(info->uuid, sizeof info->uuid, "%s", uuid);
    return info;
}

static void finds_in_a_list(void **state)
{
    (void)state;
    struct pool_gpu_list *list = make_list();
    struct pool_gpu_info *instance = add(list, 1, "MIG-a", true);
    struct pool_gpu_info *device = add(list, 1, "GPU-a", false);
    struct pool_gpu_info *nameless = add(list, 4294967295U, "", false);
    assert_ptr_equal(pool_gpu_list_find(list, "1"), device); /* not the instance with the same index */
    assert_ptr_equal(pool_gpu_list_find(list, "MIG-a"), instance);
    assert_ptr_equal(pool_gpu_list_find(list, "GPU-a"), device);
    assert_ptr_equal(pool_gpu_list_find(list, "4294967295"), nameless);
    assert_null(pool_gpu_list_find(list, ""));
    assert_null(pool_gpu_list_find(list, "0"));
    assert_null(pool_gpu_list_find(list, "18446744073709551617"));
    assert_null(pool_gpu_list_find(list, "GPU-A"));
    pool_gpu_list_free(list);
}

static void a_list_has_an_end(void **state)
{
    (void)state;
    struct pool_gpu_list *list = make_list();
    for (int i = 0; i < POOL_GPUS_MAX; i++)
        assert_non_null(pool_gpu_list_append(list));
    assert_null(pool_gpu_list_append(list));
    assert_int_equal(list->n_gpus, POOL_GPUS_MAX);
    pool_gpu_list_free(list);
}

static void reasons_are_joined_and_cut(void **state)
{
    (void)state;
    struct pool_gpu_list *list = make_list();
    gpu_list_add_reason(list, "one %d", 1);
    assert_string_equal(list->reason, "one 1");
    gpu_list_add_reason(list, "two");
    assert_string_equal(list->reason, "one 1; two");
    for (int i = 0; i < 300; i++)
        gpu_list_add_reason(list, "%*d", 1 + i % 7, i);
    size_t n = strlen(list->reason);
    assert_int_equal(n, sizeof list->reason - 1);
    assert_string_equal(list->reason + n - 3, "...");
    pool_gpu_list_free(list);
}

static void twins_are_both_refused(void **state)
{
    (void)state;
    struct pool_gpu_list *list = make_list();
    struct pool_gpu_info *one = add(list, 0, "GPU-a", false);
    struct pool_gpu_info *other = add(list, 1, "GPU-b", false);
    struct pool_gpu_info *twin = add(list, 2, "GPU-a", false);
    struct pool_gpu_info *nameless = add(list, 3, "", false);
    struct pool_gpu_info *nameless_too = add(list, 4, "", false);
    gpu_list_refuse_duplicates(list);
    assert_int_equal(one->health, POOL_GPU_UNHEALTHY);
    assert_int_equal(twin->health, POOL_GPU_UNHEALTHY);
    assert_int_not_equal(strlen(twin->health_reason), 0);
    assert_int_equal(other->health, POOL_GPU_HEALTHY);
    assert_string_equal(other->health_reason, "");
    assert_int_equal(nameless->health, POOL_GPU_HEALTHY); /* whoever reads a device without a UUID says so */
    assert_int_equal(nameless_too->health, POOL_GPU_HEALTHY);
    pool_gpu_list_free(list);
}

static void the_first_reason_of_ill_health_stays(void **state)
{
    (void)state;
    struct pool_gpu_info info = { .gpu_id = 0 };
    assert_string_equal(pool_gpu_health_name(info.health), "healthy");
    gpu_info_set_unhealthy(&info, "the %s", "cause");
    gpu_info_set_unhealthy(&info, "a consequence");
    assert_string_equal(pool_gpu_health_name(info.health), "unhealthy");
    assert_string_equal(info.health_reason, "the cause");
}

static void uuids_must_be_fit_for_an_environment_variable(void **state)
{
    (void)state;
    static const char *const good[] = { "GPU-8a6a4c2e-0000-4000-8000-000000000001", "MIG-GPU-8a6a/1/0",
                                        "x1" };
    static const char *const bad[] = { "", "7", "GPU-a,GPU-b", "GPU a", "GPU-\n", "GPU-\xc3\xa9", "GPU-$x" };
    for (size_t i = 0; i < COUNT(good); i++)
        assert_true(gpu_uuid_is_usable(good[i]));
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(gpu_uuid_is_usable(bad[i]));
    char text[POOL_GPU_UUID_MAX + 1];
    memset(text, 'a', sizeof text);
    text[POOL_GPU_UUID_MAX] = '\0';
    assert_false(gpu_uuid_is_usable(text));
    text[POOL_GPU_UUID_MAX - 1] = '\0';
    assert_true(gpu_uuid_is_usable(text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(opens_by_url, reset_script),
        cmocka_unit_test_setup(open_hands_the_source_on_and_cleans_up, reset_script),
        cmocka_unit_test_setup(asks_once_until_told_to_again, reset_script),
        cmocka_unit_test_setup(a_failed_refresh_keeps_the_last_facts, reset_script),
        cmocka_unit_test_setup(gets_by_index_and_uuid, reset_script),
        cmocka_unit_test_setup(tells_the_processes_of_one_device, reset_script),
        cmocka_unit_test(finds_in_a_list),
        cmocka_unit_test(a_list_has_an_end),
        cmocka_unit_test(reasons_are_joined_and_cut),
        cmocka_unit_test(twins_are_both_refused),
        cmocka_unit_test(the_first_reason_of_ill_health_stays),
        cmocka_unit_test(uuids_must_be_fit_for_an_environment_variable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
