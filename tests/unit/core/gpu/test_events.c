/*
 * Events of GPUs: names both ways, which are serious, and the listening over a real libnvidia-ml.so.1 of ours.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <pool/gpu_event.h>

#include "fake_driver.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define UUID     "GPU-fa4e0000-0000-4000-8000-000000000000"

static struct fake_driver driver;

static void names_go_both_ways(void **state)
{
    (void)state;
    for (int kind = POOL_GPU_EVENT_XID; kind <= POOL_GPU_EVENT_OTHER; kind++) {
        enum pool_gpu_event_kind found;
        assert_true(
            pool_gpu_event_kind_from_name(pool_gpu_event_kind_name((enum pool_gpu_event_kind)kind), &found));
        assert_int_equal(found, kind);
    }
    enum pool_gpu_event_kind untouched = POOL_GPU_EVENT_UNAVAILABLE;
    assert_false(pool_gpu_event_kind_from_name("", &untouched));
    assert_false(pool_gpu_event_kind_from_name("XID", &untouched));
    assert_int_equal(untouched, POOL_GPU_EVENT_UNAVAILABLE);
}

static void faults_of_programs_are_not_serious(void **state)
{
    (void)state;
    static const struct {
        enum pool_gpu_event_kind kind;
        int64_t data;
        bool is_serious;
    } cases[] = {
        { POOL_GPU_EVENT_XID, 13, false },
        { POOL_GPU_EVENT_XID, 31, false },
        { POOL_GPU_EVENT_XID, 43, false },
        { POOL_GPU_EVENT_XID, 45, false },
        { POOL_GPU_EVENT_XID, 68, false },
        { POOL_GPU_EVENT_XID, 94, false },
        { POOL_GPU_EVENT_XID, 109, false },
        { POOL_GPU_EVENT_XID, 48, true },
        { POOL_GPU_EVENT_XID, 79, true },
        { POOL_GPU_EVENT_XID, 95, true },
        { POOL_GPU_EVENT_XID, 119, true },
        { POOL_GPU_EVENT_XID, 999, true },
        { POOL_GPU_EVENT_XID, 100000, true },
        { POOL_GPU_EVENT_ECC_UNCORRECTED, 0, true },
        { POOL_GPU_EVENT_POISON_CONTAINED, 0, false },
        { POOL_GPU_EVENT_POISON_FATAL, 0, true },
        { POOL_GPU_EVENT_UNAVAILABLE, 0, true },
        { POOL_GPU_EVENT_RECOVERY_ACTION, 0, false },
        { POOL_GPU_EVENT_RECOVERY_ACTION, 2, true },
        { POOL_GPU_EVENT_OTHER, 1, false },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct pool_gpu_event event = { .kind = cases[i].kind, .data = cases[i].data };
        char text[120];
        assert_int_equal(pool_gpu_event_is_serious(&event), cases[i].is_serious);
        pool_gpu_event_describe(&event, text, sizeof text);
        assert_true(strlen(text) > 0 && strlen(text) < sizeof text - 1);
    }
}

static void describe_world(const char *driver_keys, const char *gpu_keys)
{
    char text[512];
    snprintf(text, sizeof text, "[driver]\n%s[gpu 0]\nuuid = " UUID "\n%s", driver_keys, gpu_keys);
    assert_true(fake_driver_set(&driver, text));
}

static void an_event_is_told_once(void **state)
{
    (void)state;
    struct pool_gpu_events *events = NULL;
    struct pool_gpu_event event;
    describe_world("event = 1 0 8 13\n", ""); /* before anybody listened */
    assert_int_equal(pool_gpu_events_open(driver.url, &events, NULL), POOL_OK);
    assert_int_equal(pool_gpu_events_wait(events, 0, &event, NULL), POOL_DEADLINE_EXCEEDED);
    /* a device that is lost does not say its UUID any more; it is known all the same */
    describe_world("event = 2 0 8 79\nevent = 3 0 2 0\nevent = 4 0 1 0\nreturn.nvmlDeviceGetUUID = 15\n", "");
    assert_int_equal(pool_gpu_events_wait(events, 10000, &event, NULL), POOL_OK);
    assert_string_equal(event.uuid, UUID);
    assert_int_equal(event.kind, POOL_GPU_EVENT_XID);
    assert_int_equal(event.data, 79);
    assert_false(event.gpu_instance_id.is_present);
    assert_int_equal(pool_gpu_events_wait(events, 10000, &event, NULL), POOL_OK);
    assert_int_equal(event.kind, POOL_GPU_EVENT_ECC_UNCORRECTED);
    /* a single bit that was corrected is nothing that we asked for */
    assert_int_equal(pool_gpu_events_wait(events, 0, &event, NULL), POOL_DEADLINE_EXCEEDED);
    pool_gpu_events_close(events);
}

static void says_why_it_can_not_listen(void **state)
{
    (void)state;
    static const struct {
        const char *keys;
        enum pool_code code;
    } cases[] = {
        { "return.nvmlInit_v2 = 9\n", POOL_GPU_UNAVAILABLE },
        { "return.nvmlDeviceGetCount_v2 = 999\n", POOL_GPU_UNAVAILABLE },
        { "return.nvmlEventSetCreate = 20\n", POOL_GPU_UNAVAILABLE },
        { "return.nvmlDeviceRegisterEvents = 3\n", POOL_UNIMPLEMENTED },
        { "return.nvmlDeviceRegisterEvents = 999\n", POOL_GPU_UNAVAILABLE },
        { "return.nvmlDeviceGetSupportedEventTypes = 3\n", POOL_UNIMPLEMENTED },
        { "return.nvmlDeviceGetHandleByIndex_v2 = 15\n", POOL_GPU_UNAVAILABLE },
    };
    struct pool_gpu_events *events = NULL;
    for (size_t i = 0; i < COUNT(cases); i++) {
        describe_world(cases[i].keys, "");
        assert_int_equal(pool_gpu_events_open(driver.url, &events, NULL), cases[i].code);
        assert_null(events);
    }
    assert_int_equal(pool_gpu_events_open("static:/x", &events, NULL), POOL_UNIMPLEMENTED);
    assert_int_equal(pool_gpu_events_open("nvml:/nonexistent.so", &events, NULL), POOL_GPU_UNAVAILABLE);
    describe_world("", "");
    assert_int_equal(pool_gpu_events_open(driver.url, &events, NULL), POOL_OK);
    struct pool_gpu_event event;
    describe_world("return.nvmlEventSetWait_v2 = 15\n", "");
    assert_int_equal(pool_gpu_events_wait(events, 0, &event, NULL), POOL_GPU_UNAVAILABLE);
    pool_gpu_events_close(events);
    pool_gpu_events_close(NULL);
}

static int open_driver(void **state)
{
    (void)state;
    return fake_driver_start(&driver) ? 0 : -1;
}

static int close_driver(void **state)
{
    (void)state;
    fake_driver_end(&driver);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_go_both_ways),
        cmocka_unit_test(faults_of_programs_are_not_serious),
        cmocka_unit_test(an_event_is_told_once),
        cmocka_unit_test(says_why_it_can_not_listen),
    };
    return cmocka_run_group_tests(tests, open_driver, close_driver);
}
