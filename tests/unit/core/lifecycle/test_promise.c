/*
 * The record of a promise: what is written is read again, and nothing else is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/lifecycle/promise.h"

#define STATE "11111111-2222-4333-8444-555555555555"
#define BOOT  "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"

static struct promise sample(void)
{
    struct promise promise = {
        .state_id = STATE,
        .process = { .pid = 4711, .start_time_ticks = 99, .boot_id = BOOT, .pid_namespace = 4026531836 },
        .created_boottime_ns = 1000,
        .ready_boottime_ns = 2000,
        .until_boottime_ns = INT64_MAX,
        .n_devices = 2
    };
    promise.devices[0] = (struct promise_device){ "GPU-a", INT64_MAX };
    promise.devices[1] = (struct promise_device){ "MIG-GPU-b/7/0", 0 };
    return promise;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct promise promise = sample(), again;
    struct strbuf text = STRBUF_INIT(PROMISE_MAX_BYTES);
    assert_true(promise_encode(&promise, &text));
    assert_true(promise_parse(strbuf_text(&text), text.n, &again));
    assert_string_equal(again.state_id, STATE);
    assert_string_equal(again.process.boot_id, BOOT);
    assert_int_equal(again.process.pid, 4711);
    assert_int_equal(again.process.start_time_ticks, 99);
    assert_true(again.process.pid_namespace == 4026531836);
    assert_int_equal(again.created_boottime_ns, 1000);
    assert_int_equal(again.ready_boottime_ns, 2000);
    assert_int_equal(again.until_boottime_ns, INT64_MAX);
    assert_int_equal(again.n_devices, 2);
    assert_string_equal(again.devices[1].uuid, "MIG-GPU-b/7/0");
    assert_int_equal(again.devices[0].bytes, INT64_MAX);
    strbuf_done(&text);
}

/* Every beginning of it, and every one with a bit turned: none is taken for the whole. */
static void test_no_part_and_no_other(void **state)
{
    (void)state;
    struct promise promise = sample(), again;
    struct strbuf text = STRBUF_INIT(PROMISE_MAX_BYTES);
    assert_true(promise_encode(&promise, &text));
    for (size_t n = 0; n < text.n; n++)
        assert_false(promise_parse(strbuf_text(&text), n, &again));
    char *copy = malloc(text.n + 1);
    assert_non_null(copy);
    for (size_t i = 0; i < text.n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            memcpy(copy, strbuf_text(&text), text.n);
            copy[i] = (char)(copy[i] ^ (1 << bit));
            assert_false(promise_parse(copy, text.n, &again));
        }
    }
    memcpy(copy, strbuf_text(&text), text.n);
    copy[text.n] = '\n';
    assert_false(promise_parse(copy, text.n + 1, &again));
    free(copy);
    strbuf_done(&text);
}

/* As many devices as a worker can have, with the longest names, fit into it. */
static void test_the_largest(void **state)
{
    (void)state;
    struct promise promise = sample(), again;
    struct strbuf text = STRBUF_INIT(PROMISE_MAX_BYTES);
    promise.n_devices = POOL_SPLIT_DEVICES_MAX;
    for (size_t i = 0; i < promise.n_devices; i++) {
        memset(promise.devices[i].uuid, 'a' + (int)i, sizeof promise.devices[i].uuid - 1);
        promise.devices[i].uuid[sizeof promise.devices[i].uuid - 1] = '\0';
        promise.devices[i].bytes = INT64_MAX;
    }
    assert_true(promise_encode(&promise, &text));
    assert_true(promise_parse(strbuf_text(&text), text.n, &again));
    assert_int_equal(again.n_devices, POOL_SPLIT_DEVICES_MAX);
    strbuf_done(&text);
}

/* A worker of one device, of several, and the end of the longest start. */
static void test_of_a_worker(void **state)
{
    (void)state;
    struct promise promise;
    struct pool_worker_info *worker = pool_worker_info_new();
    assert_non_null(worker);
    worker->gpu_uuid = strdup("GPU-a");
    worker->reserved_bytes = 5;
    worker->created_boottime_ns = 7;
    worker->start_timeout_ms = 1000;
    promise_of_worker(STATE, worker, &promise);
    assert_int_equal(promise.n_devices, 1);
    assert_string_equal(promise.devices[0].uuid, "GPU-a");
    assert_int_equal(promise.devices[0].bytes, 5);
    assert_int_equal(promise.until_boottime_ns, 7 + INT64_C(10000000000));
    worker->shares = strdup("GPU-a=2,GPU-b=3");
    worker->start_timeout_ms = INT64_MAX;
    promise_of_worker(STATE, worker, &promise);
    assert_int_equal(promise.n_devices, 2);
    assert_int_equal(promise.devices[1].bytes, 3);
    assert_int_equal(promise.until_boottime_ns, 0);
    pool_worker_info_free(worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_no_part_and_no_other),
        cmocka_unit_test(test_the_largest),
        cmocka_unit_test(test_of_a_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
