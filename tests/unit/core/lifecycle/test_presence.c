/*
 * Whether a worker is on its GPUs: what a driver's list has to show, what it can not show, and what its row says then.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pool/lifecycle.h>

#include "core/lifecycle/presence.h"

#define MIB INT64_C(1048576)
#define GIB (1024 * MIB)
#define A   "GPU-a"
#define B   "GPU-b"

#define UNKNOWN POOL_PRESENCE_UNKNOWN
#define ON      POOL_PRESENCE_ON_GPU
#define OFF     POOL_PRESENCE_NOT_ON_GPU

/* What a snapshot says, of a worker "w". */
struct world {
    int64_t reserved, estimated; /* of the worker; estimated 0: not known */
    int64_t on_a, on_b;          /* listed of it there; -1: listed, and not with how much */
    bool is_hidden;              /* the driver does not list everybody on A */
    bool is_unhealthy;           /* A is lost, or the snapshot is old */
    bool is_away;                /* A is not in the list */
    bool is_memory_unknown;      /* of A */
    bool is_file;                /* no driver, but somebody's file */
    int64_t unlisted;            /* used of A by nobody who is listed */
    int64_t dropped;             /* free memory that went since its start; -1: not known */
    int64_t peak;                /* it is ready, and was seen to hold so much; 0: it starts */
    const char *shares;
};

struct snapshot {
    struct pool_gpu_info gpus[2];
    struct pool_gpu_info *at[2];
    struct pool_gpu_list list;
    struct pool_attributed_process processes[2];
    struct pool_device_use uses[2];
    struct pool_attribution attribution;
};

static struct pool_worker_info *make_worker(const struct world *world)
{
    struct pool_worker_info *worker = pool_worker_info_new();
    assert_non_null(worker);
    worker->worker_id = strdup("w");
    worker->gpu_uuid = strdup(A);
    worker->shares = world->shares ? strdup(world->shares) : NULL;
    worker->reserved_bytes = world->reserved;
    worker->estimated_bytes = world->estimated;
    worker->process.pid = 4711;
    if (world->dropped >= 0)
        worker->free_before_start_bytes = (struct pool_reading){ true, 20 * GIB };
    if (world->peak > 0) {
        worker->status = POOL_WORKER_READY;
        worker->ready_boottime_ns = 1;
        worker->peak_bytes = (struct pool_reading){ true, world->peak };
    }
    return worker;
}

static void list_process(struct snapshot *snapshot, const char *uuid, int64_t bytes)
{
    if (bytes == 0)
        return;
    struct pool_attributed_process *process = &snapshot->processes[snapshot->attribution.n_processes++];
    *process = (struct pool_attributed_process){ .pid = 4711, .worker_id = "w", .command = "engine" };
    snprintf(process->gpu_uuid, sizeof process->gpu_uuid, "%s", uuid);
    if (bytes > 0)
        process->used_vram_bytes = (struct pool_reading){ true, bytes };
}

static void make_snapshot(const struct world *world, struct snapshot *snapshot)
{
    *snapshot = (struct snapshot){ 0 };
    for (size_t i = 0; i < 2; i++) {
        const char *uuid = i == 0 ? A : B;
        snapshot->at[i] = &snapshot->gpus[i];
        snapshot->gpus[i] = (struct pool_gpu_info){ .is_placeable = true, .is_vram_known = true };
        snprintf(snapshot->gpus[i].uuid, sizeof snapshot->gpus[i].uuid, "%s", uuid);
        snapshot->gpus[i].vram_free_bytes = 20 * GIB - (world->dropped > 0 ? world->dropped : 0);
        snapshot->uses[i] = (struct pool_device_use){ .is_known = true, .are_holders_known = true };
        snprintf(snapshot->uses[i].gpu_uuid, sizeof snapshot->uses[i].gpu_uuid, "%s", uuid);
    }
    if (world->is_unhealthy)
        snapshot->gpus[0].health = POOL_GPU_UNHEALTHY;
    snapshot->uses[0].is_known = !world->is_memory_unknown;
    snapshot->uses[0].are_holders_known = !world->is_hidden;
    snapshot->uses[0].unknown_bytes = world->unlisted;
    snapshot->attribution.processes = snapshot->processes;
    snapshot->attribution.devices = snapshot->uses;
    snapshot->attribution.n_devices = 2;
    snapshot->list.gpus = snapshot->at + (world->is_away ? 1 : 0);
    snapshot->list.n_gpus = world->is_away ? 1 : 2;
    snprintf(snapshot->list.source, sizeof snapshot->list.source, "%s", world->is_file ? "static" : "nvml");
    list_process(snapshot, A, world->on_a);
    list_process(snapshot, B, world->on_b);
}

static struct pool_presence judge(const struct world *world)
{
    struct snapshot snapshot;
    struct pool_presence presence;
    struct pool_worker_info *worker = make_worker(world);
    make_snapshot(world, &snapshot);
    pool_presence_judge(worker, &snapshot.list, &snapshot.attribution, &presence);
    pool_worker_info_free(worker);
    return presence;
}

static void test_verdicts(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        struct world world;
        enum pool_presence_verdict verdict;
    } cases[] = {
        { "all of it", { .reserved = 8 * GIB, .on_a = 7 * GIB }, ON },
        { "nothing", { .reserved = 8 * GIB }, OFF },
        { "a context", { .reserved = 8 * GIB, .on_a = 600 * MIB }, OFF },
        { "more than a context", { .reserved = 8 * GIB, .on_a = GIB }, ON },
        { "too little of much", { .reserved = 80 * GIB, .on_a = 4 * GIB }, OFF },
        { "part of much", { .reserved = 80 * GIB, .on_a = 11 * GIB }, ON },
        /* more was asked for than is needed */
        { "its estimate", { .reserved = 80 * GIB, .estimated = 2 * GIB, .on_a = 2 * GIB }, ON },
        { "less than its estimate", { .reserved = 80 * GIB, .estimated = 8 * GIB, .on_a = 700 * MIB }, OFF },
        /* less was asked for than is estimated: some of it stays with the host */
        { "what was asked for", { .reserved = 2 * GIB, .estimated = 30 * GIB, .on_a = 2 * GIB }, ON },
        /* smaller than a context: one that holds nothing is told from one that holds something */
        { "a tiny model", { .reserved = 1100 * MIB, .estimated = 560 * MIB, .on_a = 500 * MIB }, ON },
        { "a tiny model that is not there", { .reserved = 1100 * MIB, .estimated = 560 * MIB }, OFF },
        { "a byte of one", { .reserved = 1, .on_a = 1 }, ON },
        { "no byte of one", { .reserved = 1 }, OFF },
        { "nothing is expected", { .reserved = 0 }, ON },
        /* on another */
        { "elsewhere", { .reserved = 8 * GIB, .on_b = 7 * GIB }, OFF },
        { "mostly elsewhere", { .reserved = 8 * GIB, .on_a = 300 * MIB, .on_b = 7 * GIB }, OFF },
        /* who can not be told to be absent is believed */
        { "hidden", { .reserved = 8 * GIB, .is_hidden = true }, UNKNOWN },
        { "hidden, but there", { .reserved = 8 * GIB, .on_a = 7 * GIB, .is_hidden = true }, ON },
        { "hidden, and little", { .reserved = 8 * GIB, .on_a = 600 * MIB, .is_hidden = true }, UNKNOWN },
        { "hidden, and elsewhere", { .reserved = 8 * GIB, .on_b = 7 * GIB, .is_hidden = true }, UNKNOWN },
        { "listed without bytes", { .reserved = 8 * GIB, .on_a = -1 }, UNKNOWN },
        { "a lost device", { .reserved = 8 * GIB, .is_unhealthy = true }, UNKNOWN },
        { "a lost device of old", { .reserved = 8 * GIB, .on_a = 7 * GIB, .is_unhealthy = true }, UNKNOWN },
        { "no such device", { .reserved = 8 * GIB, .is_away = true }, UNKNOWN },
        { "no memory of the device", { .reserved = 8 * GIB, .is_memory_unknown = true }, UNKNOWN },
        { "not in a file", { .reserved = 8 * GIB, .is_file = true }, UNKNOWN },
        { "in a file", { .reserved = 8 * GIB, .on_a = 7 * GIB, .is_file = true }, ON },
        /* memory of nobody */
        { "gone to nobody", { .reserved = 8 * GIB, .unlisted = 8 * GIB, .dropped = 8 * GIB }, UNKNOWN },
        { "gone before", { .reserved = 8 * GIB, .unlisted = 8 * GIB, .dropped = 0 }, OFF },
        { "gone at some time", { .reserved = 8 * GIB, .unlisted = 8 * GIB, .dropped = -1 }, UNKNOWN },
        { "gone to others", { .reserved = 8 * GIB, .dropped = 8 * GIB }, OFF },
        { "not enough gone", { .reserved = 8 * GIB, .unlisted = 700 * MIB, .dropped = 700 * MIB }, OFF },
        /* later: one that was there may sleep */
        { "asleep", { .reserved = 8 * GIB, .on_a = 300 * MIB, .peak = 7 * GIB }, ON },
        { "fallen off", { .reserved = 8 * GIB, .peak = 7 * GIB }, OFF },
        { "never there", { .reserved = 8 * GIB, .on_a = 300 * MIB, .peak = 300 * MIB }, OFF },
        /* several devices */
        { "both",
          { .reserved = 8 * GIB,
            .on_a = 4 * GIB,
            .on_b = 4 * GIB,
            .shares = A "=4294967296," B "=4294967296" },
          ON },
        { "all on the first",
          { .reserved = 8 * GIB, .on_a = 8 * GIB, .shares = A "=4294967296," B "=4294967296" },
          OFF },
        { "the first can not be told",
          { .reserved = 8 * GIB,
            .on_b = 4 * GIB,
            .is_hidden = true,
            .shares = A "=4294967296," B "=4294967296" },
          UNKNOWN },
        { "the first can not, the second is not",
          { .reserved = 8 * GIB, .is_hidden = true, .shares = A "=4294967296," B "=4294967296" },
          OFF },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_presence presence = judge(&cases[i].world);
        if (presence.verdict != cases[i].verdict)
            fail_msg("%s: %d", cases[i].what, presence.verdict);
    }
}

static void test_the_numbers(void **state)
{
    (void)state;
    char text[600], cut[10];
    struct pool_presence presence = judge(
        &(struct world){ .reserved = 16 * GIB, .estimated = 8 * GIB, .on_a = 600 * MIB, .on_b = 3 * GIB });
    assert_int_equal(presence.n_seats, 1);
    assert_string_equal(presence.seats[0].gpu_uuid, A);
    assert_int_equal(presence.seats[0].expected_bytes, 8 * GIB);
    assert_int_equal(presence.seats[0].least_bytes, GIB);
    assert_true(presence.seats[0].seen_bytes.is_present);
    assert_int_equal(presence.seats[0].seen_bytes.value, 600 * MIB);
    assert_string_equal(presence.elsewhere_uuid, B);
    assert_int_equal(presence.elsewhere_bytes, 3 * GIB);
    assert_ptr_equal(pool_presence_cause(&presence), &presence.seats[0]);
    pool_presence_format(&presence, text, sizeof text);
    static const char *const parts[] = { A, B, "600.0 MiB", "8.0 GiB", "1.0 GiB", "3.0 GiB" };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        assert_non_null(strstr(text, parts[i]));
    pool_presence_format(&presence, cut, sizeof cut);
    assert_int_equal(strlen(cut), sizeof cut - 1);

    /* the share of each in the proportion of the reserve */
    presence = judge(&(struct world){ .reserved = 12 * GIB,
                                      .estimated = 6 * GIB,
                                      .on_a = 4 * GIB,
                                      .shares = A "=8589934592," B "=4294967296" });
    assert_int_equal(presence.n_seats, 2);
    assert_int_equal(presence.seats[0].expected_bytes, 4 * GIB);
    assert_int_equal(presence.seats[1].expected_bytes, 2 * GIB);
    assert_int_equal(presence.seats[0].verdict, ON);
    assert_int_equal(presence.seats[1].verdict, OFF);
    assert_ptr_equal(pool_presence_cause(&presence), &presence.seats[1]);
    assert_string_equal(presence.elsewhere_uuid, "");

    presence = judge(&(struct world){ .reserved = 8 * GIB, .is_hidden = true });
    assert_false(presence.seats[0].seen_bytes.is_present);
}

static void test_a_worker_without_a_gpu(void **state)
{
    (void)state;
    struct snapshot snapshot;
    struct pool_presence presence;
    struct world world = { .reserved = GIB };
    struct pool_worker_info *worker = make_worker(&world);
    make_snapshot(&world, &snapshot);
    free(worker->gpu_uuid);
    worker->gpu_uuid = NULL;
    pool_presence_judge(worker, &snapshot.list, &snapshot.attribution, &presence);
    assert_int_equal(presence.verdict, UNKNOWN);
    assert_int_equal(presence.n_seats, 0);
    assert_null(pool_presence_cause(&presence));
    pool_worker_info_free(worker);
}

static void test_news(void **state)
{
    (void)state;
    static const char here[] = POOL_HEALTH_NOT_ON_GPU, other[] = "it does not answer";
    static const struct {
        enum pool_worker_status status;
        bool is_healthy;
        const char *reason;
        enum pool_presence_verdict verdict;
        bool with_fail, with_warn;
    } cases[] = {
        { POOL_WORKER_READY, true, NULL, OFF, true, true },
        { POOL_WORKER_BUSY, true, NULL, OFF, true, true },
        { POOL_WORKER_IDLE, true, NULL, OFF, true, true },
        { POOL_WORKER_SPAWNING, true, NULL, OFF, true, false },
        { POOL_WORKER_STOPPING, true, NULL, OFF, false, false },
        { POOL_WORKER_STOPPED, true, NULL, OFF, false, false },
        { POOL_WORKER_READY, false, here, OFF, false, true }, /* its backend's word has changed */
        { POOL_WORKER_READY, true, here, OFF, true, false },
        { POOL_WORKER_READY, false, other, OFF, false, false },
        { POOL_WORKER_READY, true, NULL, ON, false, false },
        { POOL_WORKER_READY, false, here, ON, true, true },
        { POOL_WORKER_READY, true, here, ON, true, true },
        { POOL_WORKER_READY, false, other, ON, false, false },
        { POOL_WORKER_SPAWNING, false, here, ON, true, true },
        { POOL_WORKER_READY, true, NULL, UNKNOWN, false, false },
        { POOL_WORKER_READY, false, here, UNKNOWN, false, false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_presence presence = { .verdict = cases[i].verdict };
        struct pool_worker_info *worker = make_worker(&(struct world){ .reserved = GIB });
        worker->status = cases[i].status;
        worker->is_healthy = cases[i].is_healthy;
        worker->health_reason = cases[i].reason ? strdup(cases[i].reason) : NULL;
        assert_int_equal(pool_worker_is_off_gpu(worker), cases[i].reason == here);
        if (pool_presence_is_news(&presence, POOL_NOT_ON_GPU_FAIL, worker) != cases[i].with_fail ||
            pool_presence_is_news(&presence, POOL_NOT_ON_GPU_WARN, worker) != cases[i].with_warn)
            fail_msg("case %zu", i);
        worker->status = POOL_WORKER_SPAWNING; /* one that waits for its turn is nowhere yet */
        worker->process.pid = 0;
        assert_false(pool_presence_is_news(&presence, POOL_NOT_ON_GPU_FAIL, worker));
        pool_worker_info_free(worker);
    }
}

static void test_who_may_hide_others(void **state)
{
    (void)state;
    static const struct {
        struct pool_attributed_process process;
        bool is_hiding;
    } cases[] = {
        { { .pid = 12, .command = "Xorg" }, false },
        { { .pid = 12, .worker_id = "w", .command = "engine" }, false },
        { { .pid = 12, .worker_id = "w" }, false }, /* ended just now */
        { { .pid = 12 }, true },                    /* the same of anybody */
        { { .pid = 0, .command = "" }, true },
        { { .pid = 12, .command = "nvidia-cuda-mps" }, true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(presence_hides_holders(&cases[i].process), cases[i].is_hiding);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_the_numbers),
        cmocka_unit_test(test_a_worker_without_a_gpu),
        cmocka_unit_test(test_news),
        cmocka_unit_test(test_who_may_hide_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
